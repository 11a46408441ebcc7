/*
 * Soft read/write locks: what a reader's and a writer's cycle costs against Python's
 * SoftReadWriteLock (4.0 and later), and a hand-over between two processes against that of a soft
 * lock, in memory (/dev/shm) and on disk. A cycle syncs two files, and so does a hand-over, one after the
 * other: in memory that costs nothing, on disk it is most of what is measured.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "bench.h"
#include "waiter.h"

#define BOUND (1.0 / 5)
#define BOUND_HANDOVER 3

static double cycle_of(const char *path, enum filelock_mode mode)
{
	unsigned batches = bench_rounds(20, 3), rounds = bench_rounds(50, 5);
	struct series us = { 0 };
	struct filelock *lock;
	double median;

	(void)must_lock(filelock_open(path, FILELOCK_SOFT_READWRITE, NULL, &lock), "filelock_open");
	for (unsigned batch = 0; batch < batches; batch++) {
		int64_t begun = bench_now();

		for (unsigned n = 0; n < rounds; n++) {
			(void)must_lock(filelock_acquire(lock, mode, FILELOCK_WAIT_FOREVER),
			                "filelock_acquire");
			(void)must_lock(filelock_release(lock), "filelock_release");
		}
		series_add(&us, (double)(bench_now() - begun) / 1e3 / rounds);
	}
	filelock_close(lock);
	median = series_median(&us);
	series_free(&us);
	return median;
}

static FILE *start_python(const char *path)
{
	const char *interpreter = getenv("FILELOCK_BENCH_PYTHON");
	const char *module = getenv("FILELOCK_BENCH_PYTHONPATH");
	const char *script = bench_argument("--python-cycles");
	char command[3 * PATH_MAX];

	if (!script)
		bench_fail("--python-cycles PATH is missing: the Python script beside me");
	(void)snprintf(command, sizeof(command), "%s%s%s '%s' '%s' '%s.python' %u SoftReadWriteLock",
	               module && *module ? "PYTHONPATH='" : "", module && *module ? module : "",
	               module && *module ? "'" : "",
	               interpreter && *interpreter ? interpreter : "python3", script, path,
	               bench_rounds(20, 2));
	return must_have(popen(command, "re"), "popen");
}

static void compare(const char *where, const char *path)
{
	double ours[] = { cycle_of(path, FILELOCK_SHARED), cycle_of(path, FILELOCK_EXCLUSIVE) };
	static const char *const names[] = { "shared", "exclusive" };
	char line[256], name[64], row[128];
	FILE *python = start_python(path);
	double us;

	while (fgets(line, sizeof(line), python)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "skip ", 5) == 0)
			bench_skip("soft read/write cycles / Python's SoftReadWriteLock", "%s",
			           line + 5);
		for (size_t i = 0; i < 2; i++) {
			(void)snprintf(row, sizeof(row), "soft read/write, %s, %s: cycle / Python's",
			               names[i], where);
			if (sscanf(line, "%63s %lf", name, &us) == 2 && strcmp(name, names[i]) == 0)
				bench_row(row, ours[i], us, "us", BOUND);
		}
	}
	(void)pclose(python);
}

/* --- hand-over --- */

static void hand_over(struct filelock *lock, struct waiter *waiter, struct series *us)
{
	int64_t released;

	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
	waiter_go(waiter);
	bench_sleep(bench_random(20000, 200000));
	waiter_see_asleep(waiter->pid);
	released = bench_now();
	(void)must_lock(filelock_release(lock), "filelock_release");
	series_add(us, (double)(waiter_finish(waiter) - released) / 1e3);
	bench_sleep(WAITER_PAUSE_NS);
}

/* Most logs are older than a tick of the coarsest clock of a file system, after which a look at the epoch
   is one call. */
static void let_settle(struct filelock *lock)
{
	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
	(void)must_lock(filelock_release(lock), "filelock_release");
	bench_sleep(bench_rounds(3500, 1) * INT64_C(1000000));
}

static void measure_handover(const char *where, const char *folder)
{
	static const enum filelock_kind kinds[] = { FILELOCK_SOFT, FILELOCK_SOFT_READWRITE };
	struct waiter waiters[2];
	struct filelock *locks[2];
	struct series us[2] = { { 0 } };
	char paths[2][PATH_MAX], row[128];

	for (size_t i = 0; i < 2; i++) {
		struct waiter_setup setup = { .kind = kinds[i], .poll_interval_ms = 25000 };

		(void)snprintf(paths[i], sizeof(paths[i]), "%s/%s.lock", folder, i ? "softrw" : "soft");
		setup.path = paths[i];
		waiter_start(&waiters[i], waiter_by_request, &setup);
		(void)must_lock(filelock_open(paths[i], kinds[i], NULL, &locks[i]), "filelock_open");
	}
	let_settle(locks[1]);
	for (unsigned round = bench_rounds(200, 5); round > 0; round--)
		for (size_t i = 0; i < 2; i++)
			hand_over(locks[i], &waiters[i], &us[i]);
	(void)snprintf(row, sizeof(row), "soft read/write, %s: release to callback elsewhere / soft's",
	               where);
	bench_row(row, series_median(&us[1]), series_median(&us[0]), "us", BOUND_HANDOVER);
	for (size_t i = 0; i < 2; i++) {
		series_free(&us[i]);
		waiter_stop(&waiters[i]);
		filelock_close(locks[i]);
	}
}

static void measure(const char *where, const char *folder)
{
	char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/cycles.lock", folder);
	compare(where, path);
	measure_handover(where, folder);
}

static void measure_in_memory(void)
{
	char folder[] = "/dev/shm/filelock-bench.XXXXXX", command[128];

	if (!mkdtemp(folder)) {
		bench_skip("soft read/write in memory", "no /dev/shm");
		return;
	}
	measure("in memory", folder);
	(void)snprintf(command, sizeof(command), "rm -r '%s'", folder);
	if (system(command) != 0)
		bench_note("%s could not be removed", folder);
}

int main(int argc, char **argv)
{
	char *folder;

	bench_begin(argc, argv);
	folder = bench_path("");
	measure_in_memory();
	measure("on disk", folder);
	bench_note("a hand-over of soft read/write syncs two files in order: who leaves, and who comes");
	free(folder);
	return 0;
}
