/*
 * The cost of acquire and release of a free lock: synchronous, and by requests in a libevent
 * loop, each begun in the callback of the one before, against the bare system calls that a
 * cycle must make. All three take turns on one lock file, batch by batch.
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
#include "base/sys.h"

static char *path;
static struct filelock *lock;
static struct event_base *base;
static struct evfilelock *ev;
static unsigned requests_left;

static void bare_cycles(unsigned n)
{
	struct stat locked, named;

	while (n--) {
		int fd = bench_open_lock_file(path);

		(void)must(fstat(fd, &locked), "fstat");
		(void)must(flock(fd, LOCK_EX | LOCK_NB), "flock");
		(void)must(lstat(path, &named), "lstat");
		if (locked.st_ino != named.st_ino || locked.st_dev != named.st_dev)
			bench_fail("%s was replaced", path);
		(void)must(flock(fd, LOCK_UN), "flock");
		(void)must(close(fd), "close");
	}
}

static void synchronous_cycles(unsigned n)
{
	while (n--) {
		(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE,
		                                 FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		(void)must_lock(filelock_release(lock), "filelock_release");
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
	struct series us;
} contenders[] = {
	{ .name = "bare calls", .cycles = bare_cycles },
	{ .name = "synchronous", .cycles = synchronous_cycles },
	{ .name = "in the loop", .cycles = loop_cycles },
};
enum { BARE, SYNCHRONOUS, LOOP, CONTENDERS };

static void measure_batch(struct contender *contender, unsigned cycles)
{
	int64_t begun = bench_now();

	contender->cycles(cycles);
	series_add(&contender->us, (double)(bench_now() - begun) / 1e3 / cycles);
}

/* Shorter than a time slice: a median one is not disturbed by what else the machine does, and
   what slows the machine down for longer strikes all contenders alike. */
#define CYCLES 100

static void measure(void)
{
	unsigned batches = bench_rounds(6000, 100);

	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < CONTENDERS; i++)
			measure_batch(&contenders[(batch + i) % CONTENDERS], CYCLES);
}

/* The calls of a cycle, counted at the library's door to the system, so that the bare calls
   are seen to be those that it makes. */
static struct {
	unsigned open, flock, fstat, lstat, close;
} calls;
static struct sys_table real;

static int count_open(const char *name, int flags, mode_t mode)
{
	calls.open++;
	return real.open(name, flags, mode);
}

static int count_flock(int fd, int operation)
{
	calls.flock++;
	return real.flock(fd, operation);
}

static int count_fstat(int fd, struct stat *ret)
{
	calls.fstat++;
	return real.fstat(fd, ret);
}

static int count_lstat(const char *name, struct stat *ret)
{
	calls.lstat++;
	return real.lstat(name, ret);
}

static int count_close(int fd)
{
	calls.close++;
	return real.close(fd);
}

static void note_calls(struct contender *contender)
{
	memset(&calls, 0, sizeof(calls));
	real = sys;
	sys.open = count_open;
	sys.flock = count_flock;
	sys.fstat = count_fstat;
	sys.lstat = count_lstat;
	sys.close = count_close;
	contender->cycles(1);
	sys = real;
	bench_note("file calls of a cycle, %s: open %u, flock %u, fstat %u, stat %u, close %u",
	           contender->name, calls.open, calls.flock, calls.fstat, calls.lstat,
	           calls.close);
}

static void report(void)
{
	double bare = series_median(&contenders[BARE].us);

	bench_row("acquire + release, free lock, synchronous / bare calls",
	          series_median(&contenders[SYNCHRONOUS].us), bare, "us", 1.15);
	bench_row("acquire + release, free lock, in the loop / bare calls",
	          series_median(&contenders[LOOP].us), bare, "us", 1.4);
	for (unsigned i = 0; i < CONTENDERS; i++)
		bench_note("a cycle, %s: 10th percentile %.2f us, 90th %.2f us",
		           contenders[i].name, series_percentile(&contenders[i].us, 10),
		           series_percentile(&contenders[i].us, 90));
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	path = bench_path("cycle.lock");
	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	base = must_have(event_base_new(), "event_base_new");
	ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");

	for (unsigned i = 0; i < CONTENDERS; i++)
		contenders[i].cycles(100);
	note_calls(&contenders[SYNCHRONOUS]);
	note_calls(&contenders[LOOP]);
	measure();
	report();

	evfilelock_free(ev);
	event_base_free(base);
	filelock_close(lock);
	for (unsigned i = 0; i < CONTENDERS; i++)
		series_free(&contenders[i].us);
	free(path);
	return 0;
}
