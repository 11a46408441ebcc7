/*
 * The cost of acquire and release of a free lock against the bare calls of a lock whose file stays
 * open: flock, lstat, flock, and F_OFD_GETLK, which asks whether anybody waits. Synchronous with the
 * option keep_open, and by requests in a libevent loop, which keeps the file open by itself; all
 * take turns on one lock file, batch by batch.
 *
 * $FILELOCK_BENCH_EARLIER, the folder of an earlier build, adds its bench_warm as a peer. That
 * program is started as `bench_warm --member CONTENDER PATH`, reads a number of cycles at a time, and
 * writes how many microseconds one took.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"

/* The byte at which those that wait are registered. */
#define WAITERS_BYTE (INT64_C(1) << 61)
/* As in bench_cycle.c. */
#define CYCLES 100
#define MOST_OF_BARE 1.2
#define MOST_OF_EARLIER 0.48
#define MOST_OF_EARLIER_LOOP 0.55

static char *path;
static int kept;
static struct filelock *lock, *kept_lock;
static struct event_base *base;
static struct evfilelock *ev;
static unsigned requests_left;

static void bare_cycles(unsigned n)
{
	struct stat named;

	while (n--) {
		struct flock waiters = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
			                 .l_start = WAITERS_BYTE, .l_len = 1 };

		(void)must(flock(kept, LOCK_EX | LOCK_NB), "flock");
		(void)must(lstat(path, &named), "lstat");
		(void)must(flock(kept, LOCK_UN), "flock");
		(void)must(fcntl(kept, F_OFD_GETLK, &waiters), "fcntl");
		if (waiters.l_type != F_UNLCK)
			bench_fail("somebody waits");
	}
}

static void synchronous_cycles(unsigned n)
{
	while (n--) {
		(void)must_lock(filelock_acquire(kept_lock, FILELOCK_EXCLUSIVE,
		                                 FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		(void)must_lock(filelock_release(kept_lock), "filelock_release");
	}
}

static void request(void);

static void granted(struct filelock *granted_lock, int result, void *arg)
{
	(void)arg;
	(void)must_lock(result, "evfilelock_acquire");
	(void)must_lock(filelock_release(granted_lock), "filelock_release");
	if (--requests_left)
		request();
}

static void request(void)
{
	(void)must_lock(evfilelock_acquire(ev, lock, FILELOCK_EXCLUSIVE, NULL, granted, NULL), "evfilelock_acquire");
}

static void loop_cycles(unsigned n)
{
	requests_left = n;
	request();
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	if (requests_left)
		bench_fail("the loop ended with %u requests to go", requests_left);
}

static struct contender {
	const char *name;
	void (*cycles)(unsigned n);
	bool earlier;
	int say, hear; /* pipes to it */
	int pid;
	struct series us;
} contenders[] = {
	{ .name = "bare", .cycles = bare_cycles },
	{ .name = "synchronous", .cycles = synchronous_cycles },
	{ .name = "loop", .cycles = loop_cycles },
	{ .name = "synchronous", .earlier = true },
	{ .name = "loop", .earlier = true },
};
enum { BARE, SYNCHRONOUS, LOOP, EARLIER_SYNCHRONOUS, EARLIER_LOOP, CONTENDERS };
static unsigned contender_count = EARLIER_SYNCHRONOUS;

static double time_cycles(const struct contender *contender, unsigned n)
{
	int64_t begun = bench_now();

	contender->cycles(n);
	return (double)(bench_now() - begun) / 1e3 / n;
}

static void open_all(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.keep_open = true;
	kept = bench_open_lock_file(path);
	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, &options, &kept_lock),
	                "filelock_open");
	base = must_have(event_base_new(), "event_base_new");
	ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");
}

static void close_all(void)
{
	evfilelock_free(ev);
	event_base_free(base);
	filelock_close(lock);
	filelock_close(kept_lock);
	(void)must(close(kept), "close");
}

/* --- an earlier build --- */

static void be_member(int argc, char **argv)
{
	const struct contender *self = &contenders[SYNCHRONOUS];
	unsigned n;
	double us;

	if (argc != 4 || strcmp(argv[1], "--member") != 0)
		return;
	if (strcmp(argv[2], contenders[LOOP].name) == 0)
		self = &contenders[LOOP];
	path = argv[3];
	open_all();
	while (read(STDIN_FILENO, &n, sizeof(n)) == sizeof(n)) {
		us = time_cycles(self, n);
		(void)must((int)write(STDOUT_FILENO, &us, sizeof(us)), "write");
	}
	close_all();
	exit(0);
}

static void start_earlier(struct contender *contender, const char *program)
{
	int in[2], out[2];

	(void)must(pipe2(in, O_CLOEXEC), "pipe2");
	(void)must(pipe2(out, O_CLOEXEC), "pipe2");
	contender->pid = bench_fork();
	if (contender->pid == 0) {
		(void)must(dup2(in[0], STDIN_FILENO), "dup2");
		(void)must(dup2(out[1], STDOUT_FILENO), "dup2");
		(void)execl(program, program, "--member", contender->name, path, (char *)NULL);
		bench_fail("cannot run %s", program);
	}
	contender->say = in[1];
	contender->hear = out[0];
	close(in[0]);
	close(out[1]);
}

static void start_all_earlier(const char *folder)
{
	char *program;

	if (asprintf(&program, "%s/tests/bench/bench_warm", folder) < 0)
		bench_fail("out of memory");
	for (unsigned i = EARLIER_SYNCHRONOUS; i < CONTENDERS; i++)
		start_earlier(&contenders[i], program);
	contender_count = CONTENDERS;
	free(program);
}

static void stop_earlier(struct contender *contender)
{
	close(contender->say);
	close(contender->hear);
	bench_reap(contender->pid, 0);
}

static double ask_earlier(const struct contender *contender, unsigned n)
{
	double us;

	(void)must((int)write(contender->say, &n, sizeof(n)), "write");
	if (read(contender->hear, &us, sizeof(us)) != sizeof(us))
		bench_fail("the earlier build has died");
	return us;
}

/* --- */

static void measure(unsigned batches)
{
	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < contender_count; i++) {
			struct contender *contender = &contenders[(batch + i) % contender_count];

			series_add(&contender->us, contender->earlier
			                                   ? ask_earlier(contender, CYCLES)
			                                   : time_cycles(contender, CYCLES));
		}
}

static void report(void)
{
	double bare = series_median(&contenders[BARE].us);

	for (unsigned i = SYNCHRONOUS; i <= LOOP; i++) {
		const struct contender *earlier = &contenders[i + EARLIER_SYNCHRONOUS - SYNCHRONOUS];
		double us = series_median(&contenders[i].us);
		char what[80];

		(void)snprintf(what, sizeof(what), "a cycle, %s / bare warm calls",
		               contenders[i].name);
		bench_row(what, us, bare, "us", i == SYNCHRONOUS ? MOST_OF_BARE : 0);
		(void)snprintf(what, sizeof(what), "a cycle, %s / earlier build",
		               contenders[i].name);
		if (contender_count == CONTENDERS)
			bench_row(what, us, series_median((struct series *)&earlier->us), "us",
			          i == SYNCHRONOUS ? MOST_OF_EARLIER : MOST_OF_EARLIER_LOOP);
	}
}

int main(int argc, char **argv)
{
	const char *folder = getenv("FILELOCK_BENCH_EARLIER");

	be_member(argc, argv);
	bench_begin(argc, argv);
	path = bench_path("warm.lock");
	open_all();
	if (folder)
		start_all_earlier(folder);
	measure(bench_rounds(6000, 50));
	report();
	for (unsigned i = EARLIER_SYNCHRONOUS; i < contender_count; i++)
		stop_earlier(&contenders[i]);
	for (unsigned i = 0; i < CONTENDERS; i++)
		series_free(&contenders[i].us);
	close_all();
	free(path);
	return 0;
}
