/*
 * A loop beside a slow file system: one that delays each call by 200 ms, with workers. What counts
 * is how long the loop was held up at most, while locks on it are acquired and released.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"
#include "fuse.h"

#define WHAT "longest stall of the loop, each call of the file system takes 200 ms"
#define DELAY_MS 200
#define LOCKS 8
#define WORKERS 4
#define TICK_US 1000

static struct event_base *base;
static struct evfilelock *ev;
static unsigned rounds_left;
static int64_t ticked, longest;

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
	int64_t now = bench_now();

	(void)fd;
	(void)events;
	(void)arg;
	if (ticked && now - ticked > longest)
		longest = now - ticked;
	ticked = now;
}

static void ask(struct filelock *lock);

static void released(struct filelock *lock, int result, void *arg)
{
	(void)arg;
	if (result == -ECANCELED) /* the end */
		return;
	(void)must_lock(result, "evfilelock_release");
	if (rounds_left > 0)
		ask(lock);
	else
		(void)event_base_loopbreak(base);
}

static void granted(struct filelock *lock, int result, void *arg)
{
	if (result == -ECANCELED)
		return;
	(void)must_lock(result, "evfilelock_acquire");
	rounds_left -= rounds_left > 0;
	(void)must_lock(evfilelock_release(ev, lock, released, arg), "evfilelock_release");
}

static void ask(struct filelock *lock)
{
	(void)must_lock(evfilelock_acquire(ev, lock, FILELOCK_EXCLUSIVE, NULL, granted, NULL), "evfilelock_acquire");
}

/* The delays of a loop that has nothing else to do, in the same time. */
static double measure_idle(int64_t ns)
{
	static const struct timeval tick = { 0, TICK_US };
	struct timeval time = { ns / 1000000000, ns % 1000000000 / 1000 };
	struct event *timer;

	base = must_have(event_base_new(), "event_base_new");
	timer = must_have(event_new(base, -1, EV_PERSIST, on_tick, NULL), "event_new");
	(void)must(event_add(timer, &tick), "event_add");
	(void)must(event_base_loopexit(base, &time), "event_base_loopexit");
	ticked = longest = 0;
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	event_free(timer);
	event_base_free(base);
	return (double)longest / 1e6 - TICK_US / 1e3;
}

/* Milliseconds beyond the interval of the timer. */
static double measure(const char *mount)
{
	static const struct timeval tick = { 0, TICK_US };
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct filelock *locks[LOCKS];
	struct event *timer;
	char path[4096];

	base = must_have(event_base_new(), "event_base_new");
	options.workers = WORKERS;
	ev = must_have(evfilelock_new(base, &options), "evfilelock_new");
	timer = must_have(event_new(base, -1, EV_PERSIST, on_tick, NULL), "event_new");
	(void)must(event_add(timer, &tick), "event_add");
	rounds_left = bench_rounds(30, 2);
	for (unsigned i = 0; i < LOCKS; i++) { /* two handles a lock */
		(void)snprintf(path, sizeof(path), "%s/lock.%u", mount, i / 2);
		(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &locks[i]),
		                "filelock_open");
		ask(locks[i]);
	}
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	event_free(timer);
	evfilelock_free(ev);
	event_base_free(base);
	for (unsigned i = 0; i < LOCKS; i++)
		filelock_close(locks[i]);
	return (double)longest / 1e6 - TICK_US / 1e3;
}

int main(int argc, char **argv)
{
	const char *reason = NULL;
	char *backing, *mount_point;
	struct fuse *fuse;
	int64_t begun;
	double stall;

	bench_begin(argc, argv);
	backing = bench_path("behind");
	mount_point = bench_path("mount");
	(void)must(mkdir(backing, 0700), "mkdir");
	(void)must(mkdir(mount_point, 0700), "mkdir");
	fuse = fuse_mount(backing, mount_point, FUSE_FLOCK_FORWARDED, &reason);
	if (!fuse) {
		bench_skip(WHAT, "%s", reason);
		return 0;
	}
	fuse->delay_ms = DELAY_MS;
	begun = bench_now();
	stall = measure(mount_point);
	begun = bench_now() - begun;
	fuse->delay_ms = 0;
	fuse_stop(fuse);
	bench_row_limit(WHAT, stall, "ms", 5);
	bench_note("an idle loop on this machine stalls for %.2f ms at most, in as long",
	           measure_idle(begun));
	free(backing);
	free(mount_point);
	return 0;
}
