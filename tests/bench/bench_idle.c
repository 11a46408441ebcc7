/*
 * The system calls of a process that waits for a held lock in a libevent loop, its watch
 * armed, and that nothing happens to: strace(1) follows it for 10 seconds, or for
 * --seconds N. A pass of the loop that tries the lock is a safety poll, due once a second
 * here; every other call is one too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"

#define WHAT "system calls of an idle waiter beside the safety poll"
#define SETTLE_NS 1500000000
#define POLL_INTERVAL_MS 1000
#define KINDS_MAX 32

static void granted(struct filelock *lock, int result, void *arg)
{
	(void)arg;
	(void)must_lock(result, "evfilelock_acquire");
	(void)must_lock(filelock_release(lock), "filelock_release");
}

/* The process that strace follows; it ends when it has had the lock. */
static int wait_for(const char *path)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct event_base *base = must_have(event_base_new(), "event_base_new");
	struct evfilelock *ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");
	struct filelock *lock;

	options.poll_interval_ms = POLL_INTERVAL_MS;
	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, &options, &lock),
	                "filelock_open");
	(void)must_lock(evfilelock_acquire(ev, lock, FILELOCK_EXCLUSIVE, NULL, granted, NULL), "evfilelock_acquire");
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	filelock_close(lock);
	evfilelock_free(ev);
	event_base_free(base);
	return 0;
}

/* A time as strace -ttt prints it. */
static double wall_clock(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct window {
	double from, to;
};

static pid_t start_strace(const char *path, const char *log)
{
	char self[4096];
	ssize_t n = must((int)readlink("/proc/self/exe", self, sizeof(self) - 1), "readlink");
	pid_t pid;

	self[n] = '\0';
	pid = bench_fork();
	if (pid == 0) {
		(void)execlp("strace", "strace", "-f", "-qq", "-ttt", "-o", log, self,
		             "--wait-for", path, (char *)NULL);
		bench_fail("cannot run strace");
	}
	return pid;
}

/* Holds the lock that the traced process waits for, and then lets it have it. */
static struct window trace(const char *path, const char *log, unsigned seconds)
{
	struct window window;
	struct filelock *lock;
	pid_t pid;

	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT),
	                "filelock_acquire");
	pid = start_strace(path, log);
	bench_sleep(SETTLE_NS);
	window.from = wall_clock();
	bench_sleep((int64_t)seconds * 1000000000);
	window.to = wall_clock();
	filelock_close(lock);
	bench_reap(pid, 0);
	return window;
}

struct kind {
	char name[32];
	unsigned count;
};

struct tally {
	struct kind kinds[KINDS_MAX];
	unsigned polls;     /* passes that try the lock */
	unsigned others;    /* calls of passes that do not */
	unsigned in_pass;   /* calls since the last sleep */
	bool poll_in_pass;
};

static void count_kind(struct tally *tally, const char *name)
{
	for (struct kind *kind = tally->kinds; kind < tally->kinds + KINDS_MAX; kind++) {
		if (!kind->count)
			(void)snprintf(kind->name, sizeof(kind->name), "%s", name);
		if (strcmp(kind->name, name) == 0) {
			kind->count++;
			return;
		}
	}
}

static bool is_sleep(const char *name)
{
	return strstr(name, "poll") || strstr(name, "epoll_") || strstr(name, "select");
}

/* A pass begins as the loop wakes and ends with the call that it sleeps in. */
static void count_call(struct tally *tally, const char *name)
{
	count_kind(tally, name);
	tally->in_pass++;
	if (strcmp(name, "flock") == 0)
		tally->poll_in_pass = true;
	if (!is_sleep(name) || strcmp(name, "epoll_ctl") == 0)
		return;
	if (tally->poll_in_pass)
		tally->polls++;
	else
		tally->others += tally->in_pass;
	tally->in_pass = 0;
	tally->poll_in_pass = false;
}

static struct tally read_log(const char *log, struct window window)
{
	FILE *file = must_have(fopen(log, "r"), log);
	struct tally tally = { 0 };
	char line[1024], name[32];
	double when;

	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "%*d %lf %31[a-z0-9_](", &when, name) == 2 &&
		    when >= window.from && when < window.to)
			count_call(&tally, name);
	(void)fclose(file);
	/* the last pass sleeps beyond the window: no more than what a poll may do */
	tally.others += tally.poll_in_pass ? 0 : tally.in_pass;
	return tally;
}

static void report(const struct tally *tally, unsigned seconds)
{
	unsigned due = seconds * 1000 / POLL_INTERVAL_MS + 1;
	char kinds[1024] = "";
	size_t length = 0;

	for (const struct kind *kind = tally->kinds;
	     kind < tally->kinds + KINDS_MAX && kind->count && length < sizeof(kinds) - 64;
	     kind++)
		length += (size_t)snprintf(kinds + length, sizeof(kinds) - length, "%s%s %u",
		                           length ? ", " : "", kind->name, kind->count);
	bench_note("an idle waiter in %u s, safety poll every %.0f s: %u polls, which made: %s",
	           seconds, POLL_INTERVAL_MS / 1e3, tally->polls, kinds);
	if (tally->polls > due)
		bench_note("%u polls were due", due);
	bench_row_limit(WHAT, tally->others + (tally->polls > due ? tally->polls - due : 0),
	                "calls", 0);
}

int main(int argc, char **argv)
{
	const char *argument;
	unsigned seconds;
	struct tally tally;
	char *path, *log;

	if (argc == 3 && strcmp(argv[1], "--wait-for") == 0)
		return wait_for(argv[2]);
	bench_begin(argc, argv);
	if (system("strace -o /dev/null true >/dev/null 2>&1") != 0) {
		bench_skip(WHAT, "strace is missing, or may not trace");
		return 0;
	}
	argument = bench_argument("--seconds");
	seconds = argument ? (unsigned)strtoul(argument, NULL, 10) : bench_rounds(10, 2);
	path = bench_path("idle.lock");
	log = bench_path("strace.log");
	tally = read_log(log, trace(path, log, seconds));
	report(&tally, seconds);
	free(path);
	free(log);
	return 0;
}
