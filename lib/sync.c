/*
 * sync.c - the synchronous driver: filelock_acquire, which sleeps in ppoll(2).
 *
 * A thread that must wait borrows a sleeper from the pool. Without one (no descriptors, no memory)
 * the wait polls.
 *
 * filelock_interrupt sets the handle's flag, then reads its wake-up descriptor. The waiter sets the
 * descriptor, then reads the flag. One of them sees the other.
 *
 * The sleep is the one place where pthread_cancel(3) may end the thread; then the acquisition is given
 * up, and the handle can be used again.
 */
#include <errno.h>
#include <pthread.h>

#include "base/cancel.h"
#include "base/sys.h"
#include "driver_private.h"
#include "heartbeat.h"
#include "sleepers.h"

#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define DEFAULT_REPORT (1000 * MILLISECOND)
#define LONGEST_DEAF_SLEEP (50 * MILLISECOND)

static const struct heartbeat_calls calls = { filelock_clone, filelock_close };

/* A wait under way. */
struct wait {
	struct filelock *lock;
	struct sleeper *sleeper; /* NULL: only poll */
	struct filelock_driver driver;
	int64_t began;
	int64_t report_at; /* when on_wait is due */
	int cancel; /* the thread's own state, for the sleep: pthread_setcancelstate(3) */
};

/* Tells on_wait, if it is time; returns when it will be again. */
static int64_t report(struct wait *wait, int64_t now)
{
	const struct filelock_options *options = filelock_options(wait->lock);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock_waiting waiting = {
		.size = sizeof(waiting),
		.path = filelock_path(wait->lock),
		.waited_ms = (now - wait->began) / MILLISECOND,
	};

	if (!options->on_wait)
		return FILELOCK_NEVER;
	if (now < wait->report_at)
		return wait->report_at;
	wait->report_at = now + (options->on_wait_ms ? options->on_wait_ms * MILLISECOND
	                                             : DEFAULT_REPORT);
	if (filelock_look_for_holder(wait->lock, &owner) == 0)
		waiting.holder = &owner;
	options->on_wait(&waiting, options->arg);
	return wait->report_at;
}

static struct timespec to_timespec(int64_t time)
{
	return (struct timespec){ time / SECOND, time % SECOND };
}

/* Sleeps until `until`, an event or an interrupt, and takes in what came. */
static void sleep_until(const struct wait *wait, int64_t until)
{
	struct filelock_watcher *watcher = wait->sleeper ? wait->sleeper->watcher : NULL;
	struct pollfd fds[2] = { { -1, POLLIN, 0 }, { -1, POLLIN, 0 } };
	int64_t now = filelock_now();
	struct timespec timeout;
	uint64_t count;
	int r;

	/* nothing would wake it for filelock_interrupt */
	if ((!watcher || wait->sleeper->wake.fd < 0) && until > now + LONGEST_DEAF_SLEEP)
		until = now + LONGEST_DEAF_SLEEP;
	if (until <= now)
		return;
	timeout = to_timespec(until - now);
	if (watcher) {
		if (filelock_watcher_load(watcher) > 0)
			fds[0].fd = filelock_watcher_fd(watcher);
		fds[1].fd = wait->sleeper->wake.fd;
	}
	/* after EINTR, the step will say how long to sleep on */
	cancel_restore(wait->cancel);
	r = sys.ppoll(fds, 2, &timeout, NULL);
	(void)cancel_off();
	if (r < 0 && errno != EINTR) { /* ENOMEM: no reason to spin */
		timeout = to_timespec(until - now < MILLISECOND ? until - now : MILLISECOND);
		(void)sys.nanosleep(&timeout, NULL);
	}
	if (r <= 0)
		return;
	if (fds[1].revents && sys.read(fds[1].fd, &count, sizeof(count)) < 0) {
		/* somebody else's wake-up was taken already: nothing to take */
	}
	if (fds[0].revents)
		filelock_watcher_dispatch(watcher);
}

/* Whether the user wants the wait to end. */
static bool is_unwanted(struct filelock *lock)
{
	const struct filelock_options *options = filelock_options(lock);

	if (filelock_take_interrupt(lock))
		return true;
	return options->should_cancel && options->should_cancel(options->arg);
}

static int wait_for(struct wait *wait, int64_t until)
{
	struct filelock *lock = wait->lock;
	int64_t now = wait->began;
	int64_t due;
	int r;

	do {
		/* not while it only lets others go first: the lock may well be free */
		if (filelock_is_contended(lock) && until > now) {
			if (is_unwanted(lock))
				return filelock_give_up(lock, -ECANCELED);
			due = report(wait, now);
			if (due < until)
				until = due;
		}
		if (until > now)
			sleep_until(wait, until);
		now = filelock_now();
		r = filelock_step(lock, now, &until);
	} while (r > 0);
	return r;
}

/* The end of a wait; also that of a thread that was cancelled in its sleep. */
static void end_wait(void *arg)
{
	struct wait *wait = arg;

	(void)filelock_give_up(wait->lock, -ECANCELED); /* unless it is over */
	filelock_set_wake_fd(wait->lock, -1);
	if (!wait->sleeper)
		return;
	filelock_watcher_tidy(wait->sleeper->watcher);
	sleepers_put(wait->sleeper);
}

static void begin_wait(struct wait *wait)
{
	wait->sleeper = sleepers_get();
	if (wait->sleeper) {
		wait->driver.watcher = wait->sleeper->watcher;
		filelock_set_wake_fd(wait->lock, wait->sleeper->wake.fd);
	}
	filelock_set_driver(wait->lock, &wait->driver);
}

static int acquire_slowly(struct filelock *lock, int64_t began, int64_t until, int cancel)
{
	struct wait wait = { .lock = lock, .began = began, .report_at = began,
		             .cancel = cancel };
	volatile int r; /* pthread_cleanup_push(3) may be a setjmp(3) */

	begin_wait(&wait);
	pthread_cleanup_push(end_wait, &wait);
	r = wait_for(&wait, until);
	pthread_cleanup_pop(1);
	return r;
}

static int acquire(struct filelock *lock, enum filelock_mode mode, int timeout_ms, int cancel)
{
	int64_t now = filelock_now();
	int64_t deadline = filelock_deadline(now, timeout_ms * MILLISECOND);
	int64_t until = now;
	int r = filelock_begin_blocking(lock, mode, deadline);

	if (r < 0)
		return r;
	r = heartbeat_prepare(lock, &calls);
	if (r < 0) {
		(void)filelock_give_up(lock, r);
		return filelock_refuse(lock, r, "cannot keep alive");
	}
	r = filelock_step(lock, now, &until);
	return r > 0 ? acquire_slowly(lock, now, until, cancel) : r;
}

FILELOCK_API int filelock_acquire(struct filelock *lock, enum filelock_mode mode, int timeout_ms)
{
	int cancel, r;

	if (timeout_ms < FILELOCK_WAIT_FOREVER)
		return filelock_fail(lock, -EINVAL, "cannot acquire", "timeout_ms is below -1");
	cancel = cancel_off();
	r = acquire(lock, mode, timeout_ms, cancel);
	cancel_restore(cancel);
	return r;
}

FILELOCK_API int filelock_take(const char *path, int timeout_ms, struct filelock **ret_lock)
{
	struct filelock *lock;
	int r;

	if (!ret_lock)
		return filelock_refuse_call(-EINVAL, "cannot take", path, "ret_lock is NULL");
	r = filelock_open(path, FILELOCK_NATIVE, NULL, &lock);
	if (r < 0)
		return r;
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, timeout_ms);
	if (r < 0) {
		filelock_note_open_failure(lock);
		filelock_close(lock);
		return r;
	}
	*ret_lock = lock;
	return 0;
}
