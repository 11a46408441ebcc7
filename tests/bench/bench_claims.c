/*
 * Leases and strict locks: what a cycle costs against Python's, a hand-over between two processes
 * against that of a soft lock, and what it takes to keep many leases in one loop.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <event2/event.h>
#include <filelock/event.h>
#include <filelock/filelock.h>

#include "bench.h"
#include "waiter.h"

static const struct contender {
	enum filelock_kind kind;
	const char *name, *python;
} contenders[] = {
	{ FILELOCK_SOFT, "soft", "SoftFileLock" },
	{ FILELOCK_LEASE, "lease", "SoftFileLease" },
	{ FILELOCK_STRICT, "strict", "StrictSoftFileLock" },
};
#define COUNT (sizeof(contenders) / sizeof(contenders[0]))

static char *paths[COUNT];
static struct filelock *locks[COUNT];
static struct waiter waiters[COUNT];

static void hold(size_t i)
{
	(void)must_lock(filelock_acquire(locks[i], FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
}

static void release(size_t i)
{
	(void)must_lock(filelock_release(locks[i]), "filelock_release");
}

static double measure_cycles(size_t i)
{
	unsigned batches = bench_rounds(100, 5), rounds = bench_rounds(100, 10);
	struct series us = { 0 };
	double median;

	for (unsigned batch = 0; batch < batches; batch++) {
		int64_t begun = bench_now();

		for (unsigned n = 0; n < rounds; n++) {
			hold(i);
			release(i);
		}
		series_add(&us, (double)(bench_now() - begun) / 1e3 / rounds);
	}
	median = series_median(&us);
	series_free(&us);
	return median;
}

static void measure_python(size_t i, double ours)
{
	const char *interpreter = getenv("FILELOCK_BENCH_PYTHON");
	const char *module = getenv("FILELOCK_BENCH_PYTHONPATH");
	const char *script = bench_argument("--soft-cycles");
	char command[3 * PATH_MAX], row[128], line[256] = "skip no answer";
	FILE *python;

	if (!script)
		bench_fail("--soft-cycles PATH is missing: the Python script beside me");
	(void)snprintf(row, sizeof(row), "%s: acquire + release, free lock / Python's %s",
	               contenders[i].name, contenders[i].python);
	(void)snprintf(command, sizeof(command), "%s%s%s '%s' '%s' '%s.python' %u %s",
	               module && *module ? "PYTHONPATH='" : "", module && *module ? module : "",
	               module && *module ? "'" : "",
	               interpreter && *interpreter ? interpreter : "python3", script, paths[i],
	               bench_rounds(200, 5), contenders[i].python);
	python = must_have(popen(command, "re"), "popen");
	if (!fgets(line, sizeof(line), python))
		strcpy(line, "skip no answer");
	(void)pclose(python);
	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, "skip ", 5) == 0)
		bench_skip(row, "%s", line + 5);
	else
		bench_row(row, ours, strtod(line, NULL), "us", 1.0 / 3);
}

static void hand_over(size_t i, struct series *us)
{
	int64_t released;

	hold(i);
	waiter_go(&waiters[i]);
	bench_sleep(bench_random(20000, 200000));
	waiter_see_asleep(waiters[i].pid);
	released = bench_now();
	release(i);
	series_add(us, (double)(waiter_finish(&waiters[i]) - released) / 1e3);
	bench_sleep(WAITER_PAUSE_NS);
}

static void measure_handover(void)
{
	struct series us[COUNT] = { { 0 } };
	char row[128];

	for (unsigned round = bench_rounds(500, 20); round > 0; round--)
		for (size_t i = 0; i < COUNT; i++)
			hand_over(i, &us[i]);
	for (size_t i = 1; i < COUNT; i++) {
		(void)snprintf(row, sizeof(row),
		               "%s: release to callback in another process / soft, median",
		               contenders[i].name);
		bench_row(row, series_median(&us[i]), series_median(&us[0]), "us", 3);
	}
	for (size_t i = 0; i < COUNT; i++)
		series_free(&us[i]);
}

static void count_down(struct filelock *lease, int result, void *arg)
{
	(void)lease;
	(void)must_lock(result, "evfilelock_acquire");
	--*(unsigned *)arg;
}

static struct filelock *ask_for_lease(struct evfilelock *ev, unsigned i, unsigned *pending)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lease;
	char name[32], *at;

	options.duration_ms = 3600000;
	options.heartbeat_ms = 10000;
	(void)snprintf(name, sizeof(name), "lease-%u", i);
	at = bench_path(name);
	(void)must_lock(filelock_open(at, FILELOCK_LEASE, &options, &lease), "filelock_open");
	free(at);
	(void)must_lock(evfilelock_acquire(ev, lease, FILELOCK_EXCLUSIVE, NULL, count_down, pending),
	                "evfilelock_acquire");
	return lease;
}

static double cpu_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void turn_for(struct event_base *base, unsigned seconds)
{
	struct timeval time = { seconds, 0 };

	(void)must(event_base_loopexit(base, &time), "event_base_loopexit");
	(void)must(event_base_dispatch(base), "event_base_dispatch");
}

/* After a round in which each gets its keeper, the share of a core. */
static void measure_many(void)
{
	unsigned n = bench_rounds(10000, 100), seconds = bench_rounds(20, 1), pending = n;
	struct filelock **leases = must_have(calloc(n, sizeof(struct filelock *)), "calloc");
	struct event_base *base = must_have(event_base_new(), "event_base_new");
	struct evfilelock *ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");
	struct rlimit limit;
	double begun;

	(void)must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
	limit.rlim_cur = limit.rlim_max;
	(void)must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
	if (limit.rlim_cur < n + 100)
		bench_fail("descriptors for %u leases are needed", n);
	for (unsigned i = 0; i < n; i++)
		leases[i] = ask_for_lease(ev, i, &pending);
	while (pending > 0)
		(void)must(event_base_loop(base, EVLOOP_ONCE), "event_base_loop");
	turn_for(base, bench_rounds(11, 1));
	begun = cpu_now();
	turn_for(base, seconds);
	bench_row_limit("lease: 10,000 held in one loop, a heartbeat of 10 s, of a core",
	                (cpu_now() - begun) / seconds * 100, "%", 2);
	for (unsigned i = 0; i < n; i++)
		filelock_close(leases[i]);
	evfilelock_free(ev);
	event_base_free(base);
	free(leases);
}

static void set_up(size_t i)
{
	struct waiter_setup setup = { .kind = contenders[i].kind, .poll_interval_ms = 60000 };
	char name[32];

	(void)snprintf(name, sizeof(name), "%s.lock", contenders[i].name);
	paths[i] = bench_path(name);
	setup.path = paths[i];
	waiter_start(&waiters[i], waiter_by_request, &setup);
	(void)must_lock(filelock_open(paths[i], contenders[i].kind, NULL, &locks[i]),
	                "filelock_open");
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	for (size_t i = 0; i < COUNT; i++)
		set_up(i);
	for (size_t i = 1; i < COUNT; i++)
		measure_python(i, measure_cycles(i));
	measure_handover();
	measure_many();
	for (size_t i = 0; i < COUNT; i++) {
		waiter_stop(&waiters[i]);
		filelock_close(locks[i]);
		free(paths[i]);
	}
	return 0;
}
