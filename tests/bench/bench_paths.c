/*
 * Many locks, each held by another process: what a loop that waits for all of them costs a minute,
 * and what memory a request takes. Past the descriptors that it may keep, requests poll.
 */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"
#include "plot.h"

#define HOLDERS_MAX 64
#define SPARE 100 /* descriptors of a process that are not of lock files */

static char *folder;
static unsigned long descriptors; /* a process may have */
static struct event_base *base;
static struct evfilelock *ev;

static void path_of(char *path, size_t size, unsigned i)
{
	(void)snprintf(path, size, "%s.%u", folder, i);
}

/* Holders of so many locks each as they have descriptors for. */
static struct holders {
	int pids[HOLDERS_MAX];
	unsigned count;
	int ready[2];
} holders;

static void hold_some(unsigned from, unsigned to)
{
	char path[4096];

	for (unsigned i = from; i < to; i++) {
		path_of(path, sizeof(path), i);
		(void)must(flock(bench_open_lock_file(path), LOCK_EX | LOCK_NB), "flock");
	}
	(void)must((int)write(holders.ready[1], "x", 1), "write");
	for (;;)
		(void)pause();
}

static void start_holders(unsigned n)
{
	unsigned each = (unsigned)descriptors - SPARE;
	char byte;

	(void)must(pipe(holders.ready), "pipe");
	for (unsigned from = 0; from < n; from += each) {
		int pid = bench_fork();

		if (holders.count == HOLDERS_MAX)
			bench_fail("too few descriptors for the holders of %u locks", n);
		if (pid == 0)
			hold_some(from, from + each < n ? from + each : n);
		holders.pids[holders.count++] = pid;
	}
	for (unsigned i = 0; i < holders.count; i++)
		(void)must((int)read(holders.ready[0], &byte, 1), "read");
}

static void stop_holders(void)
{
	while (holders.count > 0) {
		int pid = holders.pids[--holders.count];

		(void)kill(pid, SIGKILL);
		bench_reap(pid, SIGKILL);
	}
	(void)close(holders.ready[0]);
	(void)close(holders.ready[1]);
}

static void granted(struct filelock *lock, int result, void *arg)
{
	(void)lock;
	(void)result;
	(void)arg;
}

static struct filelock **open_locks(unsigned n)
{
	struct filelock **locks = must_have(calloc(n, sizeof(*locks)), "calloc");
	char path[4096];

	for (unsigned i = 0; i < n; i++) {
		path_of(path, sizeof(path), i);
		(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &locks[i]),
		                "filelock_open");
	}
	base = must_have(event_base_new(), "event_base_new");
	ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");
	return locks;
}

static void close_locks(struct filelock **locks, unsigned n)
{
	evfilelock_free(ev);
	event_base_free(base);
	for (unsigned i = 0; i < n; i++)
		filelock_close(locks[i]);
	free(locks);
}

static void ask_for_all(struct filelock **locks, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		(void)must_lock(evfilelock_acquire(ev, locks[i], FILELOCK_EXCLUSIVE, NULL, granted,
		                                   NULL), "evfilelock_acquire");
}

static void run_for(double seconds)
{
	struct timeval time = { (time_t)seconds,
		                (suseconds_t)((seconds - (double)(time_t)seconds) * 1e6) };

	(void)must(event_base_loopexit(base, &time), "event_base_loopexit");
	(void)must(event_base_dispatch(base), "event_base_dispatch");
}

/* Until each was attempted, and those that keep a descriptor watch. */
static void settle(unsigned n)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	do {
		run_for(0.1);
		(void)must_lock(evfilelock_get_stats(ev, &stats), "evfilelock_get_stats");
	} while (stats.attempts < n);
	run_for(0.5);
}

static double cpu_seconds(void)
{
	struct rusage usage;

	(void)must(getrusage(RUSAGE_SELF, &usage), "getrusage");
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Per cent of a core. */
static double measure_load(unsigned n, double seconds)
{
	struct filelock **locks;
	double begun, used;

	start_holders(n);
	locks = open_locks(n);
	ask_for_all(locks, n);
	settle(n);
	begun = cpu_seconds();
	run_for(seconds);
	used = cpu_seconds() - begun;
	close_locks(locks, n);
	stop_holders();
	return used / seconds * 100;
}

static void measure_memory(unsigned n)
{
	struct filelock **locks;
	size_t before, with_handles;

	start_holders(n);
	before = mallinfo2().uordblks;
	locks = open_locks(n);
	with_handles = mallinfo2().uordblks;
	ask_for_all(locks, n);
	settle(n);
	bench_row_limit("memory of a request, 100,000 paths held elsewhere",
	                (double)(mallinfo2().uordblks - with_handles) / n, "bytes", 1024);
	bench_note("and with its handle: %.0f bytes",
	           (double)(mallinfo2().uordblks - before) / n);
	close_locks(locks, n);
	stop_holders();
}

static void draw(const double *x, const double *y, size_t count)
{
	const char *to = bench_argument("--plots");
	struct plot_series series = { .style = PLOT_MARKED, .x = x, .y = y, .count = count };
	struct plot plot = { .title = "CPU of a loop that waits for locks held elsewhere",
		             .x = { .label = "requests, each on a path of its own", .log = true },
		             .y = { .label = "per cent of a core" },
		             .series = &series,
		             .count = 1 };
	char file[4096];

	if (!to)
		return;
	(void)snprintf(file, sizeof(file), "%s/paths_cpu.svg", to);
	(void)must_lock(plot_save(&plot, file), "plot_save");
	bench_note("plot: paths_cpu.svg");
}

static void raise_limit(void)
{
	struct rlimit limit;

	(void)must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	(void)must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	descriptors = limit.rlim_cur;
}

int main(int argc, char **argv)
{
	static const double sizes[] = { 100, 1000, 10000 };
	double load[3];

	bench_begin(argc, argv);
	folder = bench_path("lock");
	raise_limit();
	for (size_t i = 0; i < 3; i++) {
		double seconds = bench_quick ? 1 : i == 2 ? 60 : 10;

		load[i] = measure_load((unsigned)sizes[i] / bench_rounds(1, 10), seconds);
		bench_note("%5.0f paths: %.2f %% of a core", sizes[i], load[i]);
	}
	bench_row_limit("CPU of a loop, 10,000 paths held elsewhere, a minute", load[2], "%", 1);
	draw(sizes, load, 3);
	measure_memory(bench_rounds(100000, 2000));
	free(folder);
	return 0;
}
