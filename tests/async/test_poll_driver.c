/* A second driver, of driver.h and poll(2) alone: that header is all that a loop needs. */
#include <errno.h>
#include <poll.h>

#include <filelock/driver.h>

#include "support.h"

#define COUNT 20
#define EACH(w) (struct waiter *w = waiters; w < waiters + COUNT; w++)

static struct waiter {
	struct filelock *lock, *holder;
	int64_t until; /* when to step next */
	int64_t deadline, ended_at;
	int result;
	bool over, closed, woken;
} waiters[COUNT];

static void note_wake(struct filelock *lock, void *arg)
{
	struct waiter *waiter = arg;

	waiter->woken = lock == waiter->lock;
	waiter->until = 0;
}

static void note_close(struct filelock *lock, void *arg)
{
	struct waiter *waiter = arg;

	waiter->closed = lock == waiter->lock;
	waiter->until = 0;
}

static struct filelock_driver driver = { .woken = note_wake, .closing = note_close };

static void step(struct waiter *waiter)
{
	int r = waiter->closed ? filelock_give_up(waiter->lock, -ECANCELED)
	                       : filelock_step(waiter->lock, filelock_now(), &waiter->until);

	if (r > 0)
		return;
	waiter->over = true;
	waiter->result = r;
	waiter->ended_at = filelock_now();
	filelock_unref(waiter->lock);
}

/* The loop: steps what is due and sleeps until more is, or until `longest` from now. */
static bool turn(int64_t longest)
{
	struct pollfd fd = { .events = POLLIN };
	int64_t until = filelock_now() + longest;
	bool waits = false;

	for EACH(w) {
		if (!w->over && w->until <= filelock_now())
			step(w);
		waits = waits || !w->over;
		if (!w->over && w->until < until)
			until = w->until;
	}
	fd.fd = filelock_watcher_fd(driver.watcher);
	until -= filelock_now();
	if (waits && poll(&fd, 1, until > 0 ? (int)(until / MILLISECONDS) + 1 : 0) > 0)
		filelock_watcher_dispatch(driver.watcher);
	return waits;
}

/* All wait, each for a lock of its own: for ever, or one step longer than the one before. */
static void begin(int64_t timeout_step)
{
	struct filelock_options options = { .size = sizeof(options), .poll_interval_ms = 3600000 };

	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	for EACH(w) {
		const char name[] = { (char)('a' + (w - waiters)), '\0' };
		int64_t timeout = timeout_step < 0 ? -1 : timeout_step * (w - waiters);

		w->holder = test_open(test_path(name), &options);
		w->lock = test_open(test_path(name), &options);
		w->deadline = filelock_deadline(filelock_now(), timeout);
		ck_assert_int_eq(filelock_acquire(w->holder, FILELOCK_EXCLUSIVE, 0), 0);
		ck_assert_int_eq(filelock_begin(w->lock, FILELOCK_EXCLUSIVE, w->deadline,
		                                &driver, w), 0);
		filelock_ref(w->lock);
	}
}

static void end(void)
{
	for EACH(w) {
		if (!w->closed)
			filelock_close(w->lock);
		filelock_close(w->holder);
	}
	filelock_watcher_tidy(driver.watcher);
	ck_assert_uint_eq(test_watches(), 0);
	filelock_watcher_free(driver.watcher);
}

START_TEST(test_bare_poll_loop_is_woken_by_inotify)
{
	begin(-1);
	for EACH(w) {
		for EACH(other) /* until each has looked, watched and looked again */
			while (!other->over && other->until < filelock_now() + SECONDS)
				turn(0);
		w->woken = false;
		w->until = INT64_MAX; /* from here on only a wake-up lets it look */
		filelock_release(w->holder);
		while (!w->over)
			turn(10 * MILLISECONDS);
		ck_assert_int_eq(w->result, 0);
		ck_assert(w->woken);
	}
	end();
}
END_TEST

START_TEST(test_bare_poll_loop_keeps_deadlines)
{
	begin(3 * MILLISECONDS);
	while (turn(TEST_PATIENCE)) {
	}
	for EACH(w)
		ck_assert(w->result == -ETIMEDOUT && w->ended_at >= w->deadline);
	end();
}
END_TEST

START_TEST(test_bare_poll_loop_is_told_of_a_close)
{
	begin(-1);
	ck_assert(turn(0));
	for EACH(w)
		filelock_close(w->lock);
	ck_assert(!turn(0));
	for EACH(w)
		ck_assert_int_eq(w->result, -ECANCELED);
	end();
}
END_TEST

int main(void)
{
	return support_main(SUITE("poll driver", test_bare_poll_loop_is_woken_by_inotify,
	                          test_bare_poll_loop_keeps_deadlines,
	                          test_bare_poll_loop_is_told_of_a_close));
}
