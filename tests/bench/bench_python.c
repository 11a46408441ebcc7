/*
 * From the release in one process to the waiter's having the lock in another: a request in a
 * libevent loop against Python's AsyncFileLock in an asyncio loop. The holder is ours both times,
 * and the times that it holds for are spread evenly over Python's poll interval, so that the
 * releases fall everywhere between two polls.
 *
 * FILELOCK_BENCH_PYTHON names the interpreter (python3), FILELOCK_BENCH_PYTHONPATH a folder to
 * find the package in first.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "bench.h"
#include "waiter.h"

#define WHAT "release to acquired in another process / Python's AsyncFileLock"
#define HOLD_MIN_NS 2000000
#define HOLD_RANGE_NS 50000000
#define BATCH 10

static char *path;
static struct filelock *lock;

/* The interpreter with async_waiter.py in it. */
static struct python {
	pid_t pid;
	FILE *to, *from;
	char line[256];
} python;

static const char *environment(const char *name, const char *otherwise)
{
	const char *value = getenv(name);

	return value && *value ? value : otherwise;
}

static void prepend_python_path(const char *folder)
{
	const char *old = environment("PYTHONPATH", NULL);
	char *value;

	if (!folder)
		return;
	if (asprintf(&value, "%s%s%s", folder, old ? ":" : "", old ? old : "") < 0)
		bench_fail("out of memory");
	(void)must(setenv("PYTHONPATH", value, 1), "setenv");
	free(value);
}

static _Noreturn void become_python(int in, int out)
{
	const char *interpreter = environment("FILELOCK_BENCH_PYTHON", "python3");
	const char *script = bench_argument("--python-waiter");

	prepend_python_path(environment("FILELOCK_BENCH_PYTHONPATH", NULL));
	(void)must(dup2(in, STDIN_FILENO), "dup2");
	(void)must(dup2(out, STDOUT_FILENO), "dup2");
	(void)execlp(interpreter, interpreter, script, path, (char *)NULL);
	printf("skip cannot run %s\n", interpreter);
	(void)fflush(stdout);
	_exit(0);
}

static const char *python_says(void)
{
	if (!fgets(python.line, sizeof(python.line), python.from))
		bench_fail("the Python waiter has died");
	python.line[strcspn(python.line, "\n")] = '\0';
	return python.line;
}

/* Returns the text after the word, which python must print. */
static const char *python_must_say(const char *word)
{
	const char *line = python_says();

	if (strncmp(line, word, strlen(word)) != 0)
		bench_fail("the Python waiter said \"%s\", not \"%s\"", line, word);
	return line + strlen(word);
}

/* False: there is none, and the row is skipped. */
static bool start_python(void)
{
	int in[2], out[2];
	const char *line;

	(void)must(pipe2(in, O_CLOEXEC), "pipe2");
	(void)must(pipe2(out, O_CLOEXEC), "pipe2");
	python.pid = bench_fork();
	if (python.pid == 0)
		become_python(in[0], out[1]);
	close(in[0]);
	close(out[1]);
	python.to = must_have(fdopen(in[1], "w"), "fdopen");
	python.from = must_have(fdopen(out[0], "r"), "fdopen");
	line = python_says();
	if (strncmp(line, "skip ", 5) == 0) {
		bench_skip(WHAT, "%s", line + 5);
		return false;
	}
	if (strncmp(line, "ready ", 6) != 0)
		bench_fail("the Python waiter said \"%s\"", line);
	bench_note("Python's filelock is %s", line + 6);
	return true;
}

static void stop_python(void)
{
	(void)fclose(python.to);
	bench_reap(python.pid, 0);
	(void)fclose(python.from);
}

static void begin_wait_of_python(void)
{
	(void)fputs("go\n", python.to);
	(void)fflush(python.to);
	(void)python_must_say("begun");
}

/* Every share of the range once, in an order without a slope. */
static int64_t hold_time(unsigned round, unsigned rounds)
{
	unsigned share = round * 89 % rounds;

	return HOLD_MIN_NS + HOLD_RANGE_NS / rounds * share +
	       bench_random(0, HOLD_RANGE_NS / rounds);
}

static int64_t release_after(int64_t ns)
{
	int64_t released;

	bench_sleep(ns);
	released = bench_now();
	(void)must_lock(filelock_release(lock), "filelock_release");
	return released;
}

static void hold(void)
{
	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
}

static void hand_over_to_python(struct series *us, int64_t hold_ns)
{
	int64_t released, acquired;

	hold();
	begin_wait_of_python();
	released = release_after(hold_ns);
	acquired = strtoll(python_must_say("acquired "), NULL, 10);
	series_add(us, (double)(acquired - released) / 1e3);
	bench_sleep(WAITER_PAUSE_NS);
}

static void hand_over(struct waiter *waiter, struct series *us, int64_t hold_ns)
{
	int64_t released;

	hold();
	waiter_go(waiter);
	released = release_after(hold_ns);
	series_add(us, (double)(waiter_finish(waiter) - released) / 1e3);
	bench_sleep(WAITER_PAUSE_NS);
}

static void measure(struct waiter *waiter)
{
	struct series ours = { 0 }, peer = { 0 };
	unsigned rounds = bench_rounds(240, 10);

	for (unsigned first = 0; first < rounds; first += BATCH) {
		for (unsigned round = first; round < first + BATCH; round++)
			hand_over(waiter, &ours, hold_time(round, rounds));
		for (unsigned round = first; round < first + BATCH; round++)
			hand_over_to_python(&peer, hold_time(round, rounds));
	}
	bench_row(WHAT, series_median(&ours), series_median(&peer), "us", 1.0 / 500);
	bench_note("hand-overs: %zu of each; 99th percentile: ours %.0f us, Python's %.0f us",
	           peer.count, series_percentile(&ours, 99), series_percentile(&peer, 99));
	series_free(&ours);
	series_free(&peer);
}

int main(int argc, char **argv)
{
	struct waiter_setup setup = { 0 };
	struct waiter waiter;

	bench_begin(argc, argv);
	if (!bench_argument("--python-waiter"))
		bench_fail("--python-waiter PATH is missing: the Python script beside me");
	path = bench_path("python.lock");
	if (start_python()) {
		setup.path = path;
		waiter_start(&waiter, waiter_by_request, &setup);
		(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock),
		                "filelock_open");
		measure(&waiter);
		waiter_stop(&waiter);
		filelock_close(lock);
	}
	stop_python();
	free(path);
	return 0;
}
