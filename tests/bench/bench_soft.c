/*
 * Soft locks: what a cycle costs against the bare calls of its publication, and against Python's; a
 * hand-over between two processes, against the bare unlink, event and link; and from
 * SIGKILL of the holder to the waiter's callback, the safety poll being a minute.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "bench.h"
#include "waiter.h"

#define RECORD "1234567\nhost\n6277101735386680763835789423207666416102355444464034512895\n"

static char *path, *folder;
static struct filelock *lock;
static int cpus[2];

/* The private file, written and locked. */
static int make_draft(void)
{
	int fd = must(open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666), folder);

	(void)must((int)write(fd, RECORD, sizeof(RECORD) - 1), "write");
	(void)must(flock(fd, LOCK_EX | LOCK_NB), "flock");
	return fd;
}

/* False: somebody else's stands there. */
static bool link_draft(int fd)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	if (linkat(AT_FDCWD, name, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
		return true;
	if (errno != EEXIST)
		bench_fail("linkat: %s", strerror(errno));
	return false;
}

static void bare_release(int fd)
{
	struct stat st;

	(void)must(lstat(path, &st), "lstat");
	(void)must(unlink(path), "unlink");
	(void)must(flock(fd, LOCK_UN), "flock");
	(void)must(close(fd), "close");
}

static void bare_cycles(unsigned n)
{
	struct stat st;

	while (n--) {
		int fd;

		if (lstat(path, &st) == 0)
			bench_fail("%s is there", path);
		fd = make_draft();
		(void)must(fstat(fd, &st), "fstat");
		if (!link_draft(fd))
			bench_fail("%s is there", path);
		bare_release(fd);
	}
}

static void hold(void)
{
	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
}

static void release(void)
{
	(void)must_lock(filelock_release(lock), "filelock_release");
}

static void our_cycles(unsigned n)
{
	while (n--) {
		hold();
		release();
	}
}

static double measure_cycles(void)
{
	static void (*const cycles[])(unsigned n) = { bare_cycles, our_cycles };
	struct series us[2] = { { 0 } };
	unsigned batches = bench_rounds(200, 10), rounds = bench_rounds(100, 20);
	double ours;

	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < 2; i++) {
			unsigned which = (batch + i) % 2;
			int64_t begun = bench_now();

			cycles[which](rounds);
			series_add(&us[which], (double)(bench_now() - begun) / 1e3 / rounds);
		}
	ours = series_median(&us[1]);
	bench_row("soft: acquire + release, free lock / bare calls", ours, series_median(&us[0]),
	          "us", 1.2);
	series_free(&us[0]);
	series_free(&us[1]);
	return ours;
}

#define PYTHON_ROW "soft: acquire + release, free lock / Python's SoftFileLock"

static void measure_python(double ours)
{
	const char *interpreter = getenv("FILELOCK_BENCH_PYTHON");
	const char *module = getenv("FILELOCK_BENCH_PYTHONPATH");
	const char *script = bench_argument("--soft-cycles");
	char command[3 * PATH_MAX], line[256] = "skip no answer";
	FILE *python;

	if (!script)
		bench_fail("--soft-cycles PATH is missing: the Python script beside me");
	(void)snprintf(command, sizeof(command), "%s%s%s '%s' '%s' '%s.python' %u",
	               module && *module ? "PYTHONPATH='" : "", module && *module ? module : "",
	               module && *module ? "'" : "",
	               interpreter && *interpreter ? interpreter : "python3", script, path,
	               bench_rounds(300, 5));
	python = must_have(popen(command, "re"), "popen");
	if (!fgets(line, sizeof(line), python))
		strcpy(line, "skip no answer");
	(void)pclose(python);
	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, "skip ", 5) == 0)
		bench_skip(PYTHON_ROW, "%s", line + 5);
	else
		bench_row(PYTHON_ROW, ours, strtod(line, NULL), "us", 0.5);
}

/* The bare waiter: its file is ready, one event is worth one link. */
static void wait_barely(struct waiter_side *side)
{
	char events[4096], byte;
	int watch = must(inotify_init1(IN_CLOEXEC), "inotify_init1");

	(void)must(inotify_add_watch(watch, folder, IN_DELETE), "inotify_add_watch");
	while (read(side->go, &byte, 1) == 1 && byte == 'g') {
		int fd = make_draft();

		atomic_fetch_add(&side->shared->begun, 1);
		while (!link_draft(fd))
			(void)must((int)read(watch, events, sizeof(events)), "read");
		atomic_store(&side->shared->acquired, bench_now());
		bare_release(fd);
		/* its own event */
		(void)must((int)read(watch, events, sizeof(events)), "read");
		(void)must((int)write(side->done, "", 1), "write");
	}
	close(watch);
}

static int bare_fd;

static void bare_hold(void)
{
	bare_fd = make_draft();
	if (!link_draft(bare_fd))
		bench_fail("%s is there", path);
}

static void bare_let_go(void)
{
	bare_release(bare_fd);
}

static const struct way {
	waiter_body body;
	void (*hold)(void), (*release)(void);
} ways[] = { { wait_barely, bare_hold, bare_let_go }, { waiter_by_request, hold, release } };

static void hand_over(const struct way *way, struct waiter *waiter, struct series *us)
{
	int64_t released;

	way->hold();
	waiter_go(waiter);
	bench_sleep(bench_random(20000, 200000));
	waiter_see_asleep(waiter->pid);
	released = bench_now();
	way->release();
	series_add(us, (double)(waiter_finish(waiter) - released) / 1e3);
	bench_sleep(WAITER_PAUSE_NS);
}

static void measure_handover(struct waiter waiters[2])
{
	struct series us[2] = { { 0 } };
	unsigned batches = bench_rounds(50, 2);

	bench_place(cpus[0]);
	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < 2; i++)
			for (unsigned round = 0; round < 40; round++) {
				unsigned which = (batch + i) % 2;

				hand_over(&ways[which], &waiters[which], &us[which]);
			}
	bench_place(-1);
	bench_row("soft: release to callback in another process / bare calls, median",
	          series_median(&us[1]), series_median(&us[0]), "us", 1.5);
	bench_row("soft: release to callback in another process / bare calls, 99th",
	          series_percentile(&us[1], 99), series_percentile(&us[0], 99), "us", 0);
	series_free(&us[0]);
	series_free(&us[1]);
}

/* Returns when the child holds. */
static pid_t start_holder(void)
{
	struct filelock *own;
	int held[2];
	char byte;
	pid_t pid;

	(void)must(pipe(held), "pipe");
	pid = bench_fork();
	if (pid == 0) {
		(void)must_lock(filelock_open(path, FILELOCK_SOFT, NULL, &own), "filelock_open");
		(void)must_lock(filelock_acquire(own, FILELOCK_EXCLUSIVE, -1), "filelock_acquire");
		(void)must((int)write(held[1], "", 1), "write");
		for (;;)
			(void)pause();
	}
	close(held[1]);
	if (read(held[0], &byte, 1) != 1)
		bench_fail("a holder has died");
	close(held[0]);
	return pid;
}

static void measure_killed(struct waiter *waiter)
{
	struct series ms = { 0 };

	for (unsigned round = bench_rounds(300, 10); round > 0; round--) {
		pid_t holder = start_holder();
		int64_t killed;

		waiter_go(waiter);
		bench_sleep(bench_random(20000, 200000));
		waiter_see_asleep(waiter->pid);
		killed = bench_now();
		(void)must(kill(holder, SIGKILL), "kill");
		series_add(&ms, (double)(waiter_finish(waiter) - killed) / 1e6);
		bench_reap(holder, SIGKILL);
		bench_sleep(WAITER_PAUSE_NS);
	}
	bench_row_limit("soft: holder killed to callback, median, safety poll 60 s",
	                series_median(&ms), "ms", 2);
	bench_row_limit("soft: holder killed to callback, longest, safety poll 60 s",
	                series_max(&ms), "ms", 1000);
	series_free(&ms);
}

int main(int argc, char **argv)
{
	struct waiter_setup setup = { .kind = FILELOCK_SOFT, .poll_interval_ms = 60000,
		                      .placed = true };
	struct waiter waiters[2];

	bench_begin(argc, argv);
	if (bench_cpus(cpus, 2) < 2)
		cpus[1] = cpus[0];
	path = bench_path("soft.lock");
	folder = bench_path("");
	setup.path = path;
	setup.cpu = cpus[1];
	for (unsigned i = 0; i < 2; i++)
		waiter_start(&waiters[i], ways[i].body, &setup);
	(void)must_lock(filelock_open(path, FILELOCK_SOFT, NULL, &lock), "filelock_open");
	our_cycles(20);
	measure_python(measure_cycles());
	measure_handover(waiters);
	measure_killed(&waiters[1]);
	for (unsigned i = 0; i < 2; i++)
		waiter_stop(&waiters[i]);
	filelock_close(lock);
	free(folder);
	free(path);
	return 0;
}
