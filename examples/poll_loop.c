/*
 * poll_loop.c - waits for several locks at once, ten seconds at most, in a loop on poll(2).
 *
 *	cc poll_loop.c -o poll_loop $(pkg-config --cflags --libs filelock)
 *	./poll_loop a.lock b.lock
 *
 * The loop is a program's own: driver.h is all that it takes from the library. Each lock is printed
 * when it is ours, and all are released when the program ends.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <filelock/driver.h>

#define MILLISECOND 1000000 /* ns */
#define TIMEOUT (INT64_C(10000) * MILLISECOND)

struct waiter {
	struct filelock *lock;
	int64_t until; /* when to step next */
	bool pending;
};

/* Called while the watcher is dispatched: it takes note, and the loop does the rest. */
static void on_woken(struct filelock *lock, void *arg)
{
	struct waiter *waiter = arg;

	(void)lock;
	waiter->until = 0;
}

/* Returns 0, or the error of a lock that cannot be acquired. */
static int step(struct waiter *waiter, int64_t now)
{
	int r;

	if (!waiter->pending || waiter->until > now)
		return 0;
	r = filelock_step(waiter->lock, now, &waiter->until);
	waiter->pending = r > 0;
	if (r < 0)
		fprintf(stderr, "%s\n", filelock_last_error(waiter->lock));
	if (r == FILELOCK_STEP_HELD) {
		printf("%s is ours\n", filelock_path(waiter->lock));
		(void)fflush(stdout);
	}
	return r < 0 ? r : 0;
}

/* Milliseconds for poll(2), rounded up: a step that comes early would make no attempt. */
static int timeout_of(int64_t until, int64_t now)
{
	int64_t ms = (until - now + MILLISECOND - 1) / MILLISECOND;

	if (until <= now)
		return 0;
	return ms < INT_MAX ? (int)ms : INT_MAX;
}

static int run(struct waiter *waiters, int n, struct filelock_watcher *watcher)
{
	struct pollfd fd = { .events = POLLIN };
	int64_t now, until;
	int left;
	int r = 0;

	for (;;) {
		now = filelock_now();
		until = FILELOCK_NEVER;
		left = 0;
		for (int i = 0; i < n && r == 0; i++) {
			r = step(&waiters[i], now);
			left += waiters[i].pending;
			if (waiters[i].pending && waiters[i].until < until)
				until = waiters[i].until;
		}
		filelock_watcher_tidy(watcher);
		if (r < 0 || left == 0)
			return r;
		fd.fd = filelock_watcher_fd(watcher); /* the program's own descriptors stand beside it */
		if (poll(&fd, 1, timeout_of(until, now)) > 0)
			filelock_watcher_dispatch(watcher);
	}
}

static int begin(struct waiter *waiter, const char *path, const struct filelock_driver *driver)
{
	int r = filelock_open(path, FILELOCK_NATIVE, NULL, &waiter->lock);

	if (r == 0)
		r = filelock_begin(waiter->lock, FILELOCK_EXCLUSIVE,
		                   filelock_deadline(filelock_now(), TIMEOUT), driver, waiter);
	if (r < 0)
		fprintf(stderr, "%s\n", filelock_last_error(waiter->lock));
	waiter->pending = r == 0;
	return r;
}

int main(int argc, char **argv)
{
	struct filelock_driver driver = { .woken = on_woken };
	struct waiter *waiters = calloc((size_t)argc, sizeof(*waiters));
	int r = waiters ? filelock_watcher_new(&driver.watcher) : -ENOMEM;

	for (int i = 1; i < argc && r == 0; i++)
		r = begin(&waiters[i], argv[i], &driver);
	if (r == 0)
		r = run(waiters + 1, argc - 1, driver.watcher);
	for (int i = 1; i < argc && waiters; i++) {
		if (waiters[i].pending)
			(void)filelock_give_up(waiters[i].lock, -ECANCELED);
		filelock_close(waiters[i].lock);
	}
	filelock_watcher_free(driver.watcher);
	free(waiters);
	return r < 0;
}
