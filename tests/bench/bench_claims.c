/*
 * Leases and strict locks: what a cycle costs against Python's, and a hand-over between two processes
 * against that of a soft lock.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	for (size_t i = 0; i < COUNT; i++) {
		waiter_stop(&waiters[i]);
		filelock_close(locks[i]);
		free(paths[i]);
	}
	return 0;
}
