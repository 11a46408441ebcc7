/*
 * From SIGKILL of the holder to the waiter's having the lock: a request in a libevent loop
 * against a waiter blocked in flock(2). Every round has a holder of its own. Our waiter polls
 * once a minute, so a round that needed the poll would show.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "bench.h"
#include "waiter.h"

#define POLL_INTERVAL_MS 60000
#define LIMIT_MS 1000

static char *path;

static void hold_by_flock(void)
{
	(void)must(flock(bench_open_lock_file(path), LOCK_EX), "flock");
}

static void hold_by_handle(void)
{
	struct filelock *lock;

	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
}

static struct contender {
	waiter_body body;
	void (*hold)(void);
	struct waiter waiter;
	struct series us;
} contenders[] = {
	{ .body = waiter_by_flock, .hold = hold_by_flock },
	{ .body = waiter_by_request, .hold = hold_by_handle },
};
enum { FLOCK, REQUEST, CONTENDERS };

/* Returns when the child holds. */
static pid_t start_holder(const struct contender *contender)
{
	int held[2];
	char byte;
	pid_t pid;

	(void)must(pipe(held), "pipe");
	pid = bench_fork();
	if (pid == 0) {
		contender->hold();
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

static void take_over(struct contender *contender)
{
	pid_t holder = start_holder(contender);
	int64_t killed;

	waiter_go(&contender->waiter);
	bench_sleep(bench_random(20000, 200000));
	waiter_see_asleep(contender->waiter.pid);
	killed = bench_now();
	(void)must(kill(holder, SIGKILL), "kill");
	series_add(&contender->us, (double)(waiter_finish(&contender->waiter) - killed) / 1e3);
	bench_reap(holder, SIGKILL);
	bench_sleep(WAITER_PAUSE_NS);
}

static void measure(void)
{
	unsigned batches = bench_rounds(200, 8);

	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < CONTENDERS; i++)
			for (unsigned round = 0; round < 10; round++)
				take_over(&contenders[(batch + i) % CONTENDERS]);
}

static void report(void)
{
	struct series *peer = &contenders[FLOCK].us;
	struct series *request = &contenders[REQUEST].us;

	bench_row("holder killed to callback / flock(2), median", series_median(request),
	          series_median(peer), "us", 0);
	bench_row("holder killed to callback / flock(2), 99th", series_percentile(request, 99),
	          series_percentile(peer, 99), "us", 0);
	bench_row_limit("holder killed to callback, longest, safety poll 60 s",
	                series_max(request) / 1e3, "ms", LIMIT_MS);
	bench_note("holders killed: %zu for each; longest with flock(2) %.1f ms", peer->count,
	           series_max(peer) / 1e3);
}

int main(int argc, char **argv)
{
	struct waiter_setup setup = { .poll_interval_ms = POLL_INTERVAL_MS };

	bench_begin(argc, argv);
	path = bench_path("killed.lock");
	setup.path = path;
	for (unsigned i = 0; i < CONTENDERS; i++)
		waiter_start(&contenders[i].waiter, contenders[i].body, &setup);
	measure();
	report();
	for (unsigned i = 0; i < CONTENDERS; i++) {
		waiter_stop(&contenders[i].waiter);
		series_free(&contenders[i].us);
	}
	free(path);
	return 0;
}
