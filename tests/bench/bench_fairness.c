/*
 * How evenly a lock goes round: four and eight processes, each in a loop of acquire, hold for 1 ms,
 * release, with flock(2), with synchronous handles and with requests in libevent loops. What
 * counts is the longest wait of all over the mean one.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"

#define HOLD_NS 1000000
#define PROCESSES_MAX 8

/* Of one process. */
struct waits {
	int64_t sum, longest; /* ns */
	int64_t count;
};

static struct shared {
	atomic_bool stop;
	_Atomic unsigned ready;
	struct waits waits[PROCESSES_MAX];
} *shared;

static char *path;

/* Called with the lock; false: time is up. */
static bool hold(struct waits *waits, int64_t asked)
{
	int64_t wait = bench_now() - asked;

	waits->sum += wait;
	waits->count++;
	if (wait > waits->longest)
		waits->longest = wait;
	bench_sleep(HOLD_NS);
	return !atomic_load(&shared->stop);
}

static void loop_by_flock(struct waits *waits)
{
	int fd = bench_open_lock_file(path);
	bool goes_on = true;

	while (goes_on) {
		int64_t asked = bench_now();

		(void)must(flock(fd, LOCK_EX), "flock");
		goes_on = hold(waits, asked);
		(void)must(flock(fd, LOCK_UN), "flock");
	}
	close(fd);
}

static struct filelock *open_lock(void)
{
	struct filelock *lock;

	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	return lock;
}

static void loop_by_acquire(struct waits *waits)
{
	struct filelock *lock = open_lock();
	bool goes_on = true;

	while (goes_on) {
		int64_t asked = bench_now();

		(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE,
		                                 FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		goes_on = hold(waits, asked);
		(void)must_lock(filelock_release(lock), "filelock_release");
	}
	filelock_close(lock);
}

struct requester {
	struct evfilelock *ev;
	struct filelock *lock;
	struct waits *waits;
	int64_t asked;
};

static void request(struct requester *requester);

/* Holds the lock asleep: the loop has nothing else to do, and libevent's timers are later
   than the 1 ms that the others hold it for. */
static void granted(struct filelock *lock, int result, void *arg)
{
	struct requester *requester = arg;
	bool goes_on;

	(void)must_lock(result, "evfilelock_acquire");
	goes_on = hold(requester->waits, requester->asked);
	(void)must_lock(filelock_release(lock), "filelock_release");
	if (goes_on)
		request(requester);
}

static void request(struct requester *requester)
{
	requester->asked = bench_now();
	(void)must_lock(evfilelock_acquire(requester->ev, requester->lock, FILELOCK_EXCLUSIVE,
	                                   NULL, granted, requester), "evfilelock_acquire");
}

static void loop_by_request(struct waits *waits)
{
	struct event_base *base = must_have(event_base_new(), "event_base_new");
	struct requester requester = {
		.ev = must_have(evfilelock_new(base, NULL), "evfilelock_new"),
		.lock = open_lock(),
		.waits = waits,
	};

	request(&requester);
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	filelock_close(requester.lock);
	evfilelock_free(requester.ev);
	event_base_free(base);
}

/* Per number of processes. */
struct figures {
	struct series unevenness; /* longest wait / mean */
	struct series rate;       /* holds a second */
	struct series longest;    /* ms */
};

static struct contender {
	const char *name;
	void (*loop)(struct waits *waits);
	struct figures figures[2];
} contenders[] = {
	{ .name = "flock(2)", .loop = loop_by_flock },
	{ .name = "synchronous", .loop = loop_by_acquire },
	{ .name = "in loops", .loop = loop_by_request },
};
enum { FLOCK, ACQUIRE, REQUEST, CONTENDERS };
static const unsigned process_counts[] = { 4, 8 };

static pid_t start_process(const struct contender *contender, struct waits *waits, int start)
{
	pid_t pid = bench_fork();
	char byte;

	if (pid == 0) {
		atomic_fetch_add(&shared->ready, 1);
		if (read(start, &byte, 1) == 1)
			contender->loop(waits);
		exit(0);
	}
	return pid;
}

static void count(struct figures *figures, unsigned processes, double seconds)
{
	struct waits all = { 0 };

	for (unsigned i = 0; i < processes; i++) {
		const struct waits *waits = &shared->waits[i];

		all.sum += waits->sum;
		all.count += waits->count;
		if (waits->longest > all.longest)
			all.longest = waits->longest;
	}
	series_add(&figures->unevenness,
	           (double)all.longest / ((double)all.sum / (double)all.count));
	series_add(&figures->rate, (double)all.count / seconds);
	series_add(&figures->longest, (double)all.longest / 1e6);
}

static void run_batch(const struct contender *contender, struct figures *figures,
                      unsigned processes)
{
	int64_t duration = (int64_t)bench_rounds(2000, 200) * 1000000;
	pid_t pids[PROCESSES_MAX];
	int64_t begun;
	int start[2];

	*shared = (struct shared){ 0 };
	(void)must(pipe(start), "pipe");
	for (unsigned i = 0; i < processes; i++)
		pids[i] = start_process(contender, &shared->waits[i], start[0]);
	while (atomic_load(&shared->ready) != processes)
		bench_sleep(100000);
	begun = bench_now();
	(void)must((int)write(start[1], "12345678", processes), "write");
	bench_sleep(duration);
	atomic_store(&shared->stop, true);
	for (unsigned i = 0; i < processes; i++)
		bench_reap(pids[i], 0);
	/* a wait that outlasts the time is counted whole: it ends when the others stop */
	count(figures, processes, (double)(bench_now() - begun) / 1e9);
	close(start[0]);
	close(start[1]);
}

static void report(unsigned which)
{
	unsigned processes = process_counts[which];

	for (unsigned i = ACQUIRE; i < CONTENDERS; i++) {
		char what[80];

		(void)snprintf(what, sizeof(what),
		               "longest wait / mean, %u processes, %s / flock(2)", processes,
		               contenders[i].name);
		bench_row(what, series_median(&contenders[i].figures[which].unevenness),
		          series_median(&contenders[FLOCK].figures[which].unevenness), "x", 1);
	}
	for (unsigned i = 0; i < CONTENDERS; i++) {
		struct figures *figures = &contenders[i].figures[which];

		bench_note("%u processes, 1 ms holds, %s: %.0f holds a second, longest wait "
		           "%.1f ms (medians of %zu batches; worst %.1f ms)",
		           processes, contenders[i].name, series_median(&figures->rate),
		           series_median(&figures->longest), figures->longest.count,
		           series_max(&figures->longest));
	}
}

int main(int argc, char **argv)
{
	unsigned batches;

	bench_begin(argc, argv);
	batches = bench_rounds(7, 1);
	path = bench_path("fairness.lock");
	shared = bench_shared(sizeof(*shared));
	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned which = 0; which < 2; which++)
			for (unsigned i = 0; i < CONTENDERS; i++)
				run_batch(&contenders[i], &contenders[i].figures[which],
				          process_counts[which]);
	for (unsigned which = 0; which < 2; which++)
		report(which);
	for (unsigned i = 0; i < CONTENDERS; i++)
		for (unsigned which = 0; which < 2; which++) {
			series_free(&contenders[i].figures[which].unevenness);
			series_free(&contenders[i].figures[which].rate);
			series_free(&contenders[i].figures[which].longest);
		}
	free(path);
	return 0;
}
