/*
 * From the release in one process to the waiter's having the lock in another: a request in a
 * libevent loop, and a synchronous wait, against a waiter blocked in flock(2). The first
 * process lets go only when it has seen the other asleep in its wait; once more with a release that
 * leaves the lock file open (keep_open).
 *
 * The bounds are for two processes that run on a CPU each. Left to itself the scheduler may put
 * both on one: the waiter then runs when the releaser next sleeps, and the figures hold no
 * waking of a CPU, only the calls that either makes. They are shown too.
 */
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "bench.h"
#include "waiter.h"

static int fd;
static char *path;
static struct filelock *lock, *warm_lock;

static void hold_by_flock(void)
{
	fd = bench_open_lock_file(path);
	(void)must(flock(fd, LOCK_EX), "flock");
}

static void release_by_flock(void)
{
	(void)must(flock(fd, LOCK_UN), "flock");
	(void)must(close(fd), "close");
}

static void hold_by_handle(void)
{
	(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
}

static void release_by_handle(void)
{
	(void)must_lock(filelock_release(lock), "filelock_release");
}

static void hold_warm(void)
{
	(void)must_lock(filelock_acquire(warm_lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
}

static void release_warm(void)
{
	(void)must_lock(filelock_release(warm_lock), "filelock_release");
}

static const struct way {
	waiter_body body;
	void (*hold)(void);
	void (*release)(void);
} by_flock = { waiter_by_flock, hold_by_flock, release_by_flock },
  by_request = { waiter_by_request, hold_by_handle, release_by_handle },
  by_acquire = { waiter_by_acquire, hold_by_handle, release_by_handle },
  by_warm_request = { waiter_by_request, hold_warm, release_warm };

static struct contender {
	const struct way *way;
	bool placed;
	struct waiter_setup setup;
	struct waiter waiter;
	struct series us;
} contenders[] = {
	{ .way = &by_flock, .placed = true },
	{ .way = &by_request, .placed = true },
	{ .way = &by_acquire, .placed = true },
	{ .way = &by_warm_request, .placed = true },
	{ .way = &by_flock },
	{ .way = &by_request },
};
enum { FLOCK, REQUEST, ACQUIRE, WARM, FLOCK_ANYWHERE, REQUEST_ANYWHERE, CONTENDERS };

static int cpus[2];
static unsigned first_contender; /* without a second CPU only those placed anywhere */

static void start_waiters(void)
{
	for (struct contender *c = contenders + first_contender; c < contenders + CONTENDERS;
	     c++) {
		c->setup = (struct waiter_setup){ .path = path,
			                          .placed = c->placed,
			                          .cpu = cpus[1] };
		waiter_start(&c->waiter, c->way->body, &c->setup);
	}
}

static void hand_over(struct contender *contender)
{
	int64_t released;

	contender->way->hold();
	waiter_go(&contender->waiter);
	bench_sleep(bench_random(20000, 200000));
	waiter_see_asleep(contender->waiter.pid);
	released = bench_now();
	contender->way->release();
	series_add(&contender->us,
	           (double)(waiter_finish(&contender->waiter) - released) / 1e3);
	bench_sleep(WAITER_PAUSE_NS);
}

static void run_batch(struct contender *contender)
{
	bench_place(contender->placed ? cpus[0] : -1);
	for (unsigned round = 0; round < 10; round++)
		hand_over(contender);
}

static void measure(void)
{
	unsigned batches = bench_rounds(400, 8);
	unsigned n = CONTENDERS - first_contender;

	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < n; i++)
			run_batch(&contenders[first_contender + (batch + i) % n]);
}

#define WHAT "release to callback in another process / flock(2)"

static void report_placed(void)
{
	struct series *peer = &contenders[FLOCK].us;
	struct series *request = &contenders[REQUEST].us;
	struct series *acquire = &contenders[ACQUIRE].us;
	struct series *warm = &contenders[WARM].us;

	if (first_contender != FLOCK) {
		bench_skip(WHAT, "needs two CPUs");
		return;
	}
	bench_row(WHAT ", median",
	          series_median(request), series_median(peer), "us", 1.5);
	bench_row(WHAT ", 99th",
	          series_percentile(request, 99), series_percentile(peer, 99), "us", 3);
	bench_row("warm release to callback in another process / flock(2), median",
	          series_median(warm), series_median(peer), "us", 1.5);
	bench_row("release to synchronous waiter / flock(2), median",
	          series_median(acquire), series_median(peer), "us", 0);
	bench_row("release to synchronous waiter / flock(2), 99th",
	          series_percentile(acquire, 99), series_percentile(peer, 99), "us", 0);
	bench_note("hand-overs: %zu of each; longest: flock(2) %.0f us, callback %.0f us, "
	           "synchronous %.0f us",
	           peer->count, series_max(peer), series_max(request), series_max(acquire));
}

static void report_anywhere(void)
{
	struct series *peer = &contenders[FLOCK_ANYWHERE].us;
	struct series *request = &contenders[REQUEST_ANYWHERE].us;

	bench_row("release to callback / flock(2), placed by the scheduler, median",
	          series_median(request), series_median(peer), "us", 0);
	bench_row("release to callback / flock(2), placed by the scheduler, 99th",
	          series_percentile(request, 99), series_percentile(peer, 99), "us", 0);
}

int main(int argc, char **argv)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.keep_open = true;
	bench_begin(argc, argv);
	if (bench_cpus(cpus, 2) < 2)
		first_contender = FLOCK_ANYWHERE;
	path = bench_path("handover.lock");
	/* before our own handle: one that a fork has copied takes a longer release */
	start_waiters();
	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, &options, &warm_lock), "filelock_open");

	measure();
	report_placed();
	report_anywhere();

	for (unsigned i = first_contender; i < CONTENDERS; i++) {
		waiter_stop(&contenders[i].waiter);
		series_free(&contenders[i].us);
	}
	filelock_close(lock);
	filelock_close(warm_lock);
	free(path);
	return 0;
}
