/*
 * How far a hold is handed over, which handover_max and handover_us bound: what a grant costs against
 * the number of requests that one hold serves, and how long another process waits against
 * the time for which it is passed on, where each of eight requests holds it for 1 ms and asks again.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"

#define WAITING 10000
#define HOLDERS 8
#define FOR_EVER_US 1000000000u

static char *path;
static struct event_base *base;
static struct evfilelock *ev;
static unsigned grants, grants_wanted;

static struct filelock *open_lock(void)
{
	struct filelock *lock;

	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	return lock;
}

static void make_context(unsigned most, unsigned most_us)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;

	options.handover_max = most;
	options.handover_us = most_us;
	base = must_have(event_base_new(), "event_base_new");
	ev = must_have(evfilelock_new(base, &options), "evfilelock_new");
}

static void free_context(void)
{
	evfilelock_free(ev);
	event_base_free(base);
}

static void ask(struct filelock *lock, evfilelock_cb callback, void *arg)
{
	(void)must_lock(evfilelock_acquire(ev, lock, FILELOCK_EXCLUSIVE, NULL, callback, arg), "evfilelock_acquire");
}

static void give_back(struct filelock *lock, int result, void *arg)
{
	(void)arg;
	(void)must_lock(result, "evfilelock_acquire");
	(void)must_lock(filelock_release(lock), "filelock_release");
	if (++grants == grants_wanted)
		(void)event_base_loopbreak(base);
}

/* Microseconds a grant, of n requests where one hold serves `most`. */
static double drain(unsigned n, unsigned most)
{
	struct filelock **locks = must_have(calloc(n, sizeof(*locks)), "calloc");
	int64_t begun;
	double us;

	make_context(most, FOR_EVER_US);
	for (unsigned i = 0; i < n; i++)
		ask(locks[i] = open_lock(), give_back, NULL);
	grants = 0;
	grants_wanted = n;
	begun = bench_now();
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	us = (double)(bench_now() - begun) / 1e3 / n;
	free_context();
	while (n > 0)
		filelock_close(locks[--n]);
	free(locks);
	return us;
}

static void measure_cost(void)
{
	static const unsigned most[] = { 1, 16, 64, 256, 1024, WAITING };
	double cost[sizeof(most) / sizeof(*most)];

	for (size_t i = 0; i < sizeof(most) / sizeof(*most); i++) {
		for (unsigned round = 0; round < bench_rounds(5, 1); round++) {
			double us = drain(bench_rounds(WAITING, 500), most[i]);

			cost[i] = round == 0 || us < cost[i] ? us : cost[i];
		}
		bench_note("one hold serves %5u: a grant %.2f us", most[i], cost[i]);
	}
	bench_row("one path: a grant, a hold serves 256 (the default) / all", cost[3], cost[5], "us",
	          1.25);
}

/* The other process: what it waits for the lock, time and again. */
struct shared {
	_Atomic unsigned rounds;
	double waits[10000]; /* ms */
};

static void wait_often(struct shared *shared, unsigned rounds)
{
	struct filelock *lock = open_lock();

	for (unsigned i = 0; i < rounds; i++) {
		int64_t asked;

		bench_sleep(bench_random(5000000, 15000000));
		asked = bench_now();
		(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		shared->waits[i] = (double)(bench_now() - asked) / 1e6;
		(void)must_lock(filelock_release(lock), "filelock_release");
		atomic_store(&shared->rounds, i + 1);
	}
	filelock_close(lock);
}

/* A request that holds the lock for a millisecond and asks again. */
struct holder {
	struct event *timer;
	struct filelock *lock;
	struct shared *shared;
};

static void on_granted(struct filelock *lock, int result, void *arg)
{
	static const struct timeval hold = { 0, 1000 };
	struct holder *holder = arg;

	(void)lock;
	if (result == -ECANCELED) /* the others, at the end */
		return;
	(void)must_lock(result, "evfilelock_acquire");
	(void)must(event_add(holder->timer, &hold), "event_add");
}

static void on_time(evutil_socket_t fd, short events, void *arg)
{
	struct holder *holder = arg;

	(void)fd;
	(void)events;
	(void)must_lock(filelock_release(holder->lock), "filelock_release");
	if (atomic_load(&holder->shared->rounds) == grants_wanted)
		(void)event_base_loopbreak(base);
	else
		ask(holder->lock, on_granted, holder);
}

/* The waits of the other process beside eight requests that never leave the lock free. */
static struct series wait_beside(unsigned most, unsigned most_us)
{
	unsigned rounds = bench_rounds(500, 10);
	struct shared *shared = bench_shared(sizeof(*shared));
	struct holder holders[HOLDERS];
	struct series waits = { 0 };
	int pid = bench_fork();

	if (pid == 0) {
		wait_often(shared, rounds);
		exit(0);
	}
	grants_wanted = rounds;
	make_context(most, most_us);
	for (unsigned i = 0; i < HOLDERS; i++) {
		holders[i].shared = shared;
		holders[i].lock = open_lock();
		holders[i].timer = must_have(event_new(base, -1, 0, on_time, &holders[i]),
		                             "event_new");
		ask(holders[i].lock, on_granted, &holders[i]);
	}
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	for (unsigned i = 0; i < HOLDERS; i++) {
		event_free(holders[i].timer);
		filelock_close(holders[i].lock);
	}
	free_context();
	bench_reap(pid, 0);
	for (unsigned i = 0; i < rounds; i++)
		series_add(&waits, shared->waits[i]);
	return waits;
}

static void measure_waits(void)
{
	static const struct {
		unsigned most, most_us;
		const char *what;
	} cases[] = {
		{ 1, 0, "not handed over" },
		{ 256, 2000, "for 2 ms at most (the default)" },
		{ 256, 10000, "for 10 ms at most" },
		{ 256, 100000, "for 100 ms at most" },
	};
	double medians[2], longest[2];

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct series waits = wait_beside(cases[i].most, cases[i].most_us);

		if (i < 2) {
			medians[i] = series_median(&waits);
			longest[i] = series_percentile(&waits, 99);
		}
		bench_note("another process's wait beside holds of 1 ms that are handed over, %s: median "
		           "%.2f ms, 99 %% %.2f ms, longest %.2f ms",
		           cases[i].what, series_median(&waits), series_percentile(&waits, 99),
		           series_max(&waits));
		series_free(&waits);
	}
	bench_row("another process's wait beside eight requests, median: handed over / not",
	          medians[1], medians[0], "ms", 0);
	bench_row("another process's wait beside eight requests, 99th: handed over / not",
	          longest[1], longest[0], "ms", 0);
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	path = bench_path("passes.lock");
	measure_cost();
	measure_waits();
	free(path);
	return 0;
}
