/*
 * sync.c - the synchronous driver: filelock_acquire, which sleeps in ppoll(2).
 *
 * A thread that must wait borrows a sleeper, an inotify watcher with an eventfd. The pool of
 * sleepers only grows: a user has few inotify instances, and closing one takes milliseconds. A
 * sleeper's eventfd is never closed, so filelock_interrupt may write to one that its handle has
 * just given back: the next sleeper wakes, looks, and sleeps on.
 *
 * filelock_interrupt sets the handle's flag, then reads its wake_fd. The waiter sets wake_fd, then
 * reads the flag. One of them sees the other.
 *
 * Without a sleeper (no descriptors, no memory) the wait polls.
 */
#include "sync.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "handle.h"
#include "fork.h"
#include "base/sys.h"

#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define DEFAULT_REPORT (1000 * MILLISECOND)
#define LONGEST_DEAF_SLEEP (50 * MILLISECOND)

struct sleeper {
	struct sleeper *next;
	struct filelock_watcher *watcher;
	struct filelock_guarded_fd wake;
	pthread_t user; /* while busy */
	bool busy;
};

static struct {
	pthread_mutex_t mutex;
	struct sleeper *all;
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER };

void wait_before_fork(void)
{
	(void)pthread_mutex_lock(&pool.mutex);
}

/* The threads that used the others are not here; who gets one next frees it. */
static void take_back_sleepers(void)
{
	for (struct sleeper *sleeper = pool.all; sleeper; sleeper = sleeper->next)
		if (sleeper->busy && !pthread_equal(sleeper->user, pthread_self()))
			sleeper->busy = false;
}

void wait_after_fork(bool in_child)
{
	if (in_child)
		take_back_sleepers();
	(void)pthread_mutex_unlock(&pool.mutex);
}

static void sleeper_free(struct sleeper *sleeper)
{
	filelock_unguard_fd(&sleeper->wake);
	filelock_watcher_free(sleeper->watcher);
	free(sleeper);
}

/* The registry has its own mutex, which a fork takes before the pool's: so nothing here, nor in
   sleeper_free, is called under the pool's. */
static struct sleeper *sleeper_new(void)
{
	struct sleeper *sleeper = sys.calloc(1, sizeof(*sleeper));

	if (!sleeper)
		return NULL;
	sleeper->wake.fd = -1;
	if (filelock_watcher_new(&sleeper->watcher) < 0) {
		free(sleeper);
		return NULL;
	}
	return sleeper;
}

static void open_wake(struct sleeper *sleeper)
{
	int fd;

	if (sleeper->wake.fd >= 0)
		return;
	fd = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd >= 0)
		filelock_guard_fd(&sleeper->wake, fd, false);
}

static bool is_inherited(const struct sleeper *sleeper)
{
	return filelock_watcher_is_inherited(sleeper->watcher);
}

/* Takes the parent's sleepers that nobody uses out of the pool. */
static struct sleeper *take_foreign(void)
{
	struct sleeper *taken = NULL;

	for (struct sleeper **link = &pool.all; *link;) {
		struct sleeper *sleeper = *link;

		if (sleeper->busy || !is_inherited(sleeper)) {
			link = &sleeper->next;
			continue;
		}
		*link = sleeper->next;
		sleeper->next = taken;
		taken = sleeper;
	}
	return taken;
}

static void occupy(struct sleeper *sleeper)
{
	sleeper->busy = true;
	sleeper->user = pthread_self();
}

/* An idle sleeper, now busy, or NULL; and those to be freed. */
static struct sleeper *take_idle(struct sleeper **ret_foreign)
{
	struct sleeper *sleeper;

	(void)pthread_mutex_lock(&pool.mutex);
	*ret_foreign = take_foreign();
	for (sleeper = pool.all; sleeper && sleeper->busy;)
		sleeper = sleeper->next;
	if (sleeper)
		occupy(sleeper);
	(void)pthread_mutex_unlock(&pool.mutex);
	return sleeper;
}

static void add_to_pool(struct sleeper *sleeper)
{
	(void)pthread_mutex_lock(&pool.mutex);
	occupy(sleeper);
	sleeper->next = pool.all;
	pool.all = sleeper;
	(void)pthread_mutex_unlock(&pool.mutex);
}

static struct sleeper *sleeper_get(void)
{
	struct sleeper *foreign;
	struct sleeper *sleeper = take_idle(&foreign);

	while (foreign) {
		struct sleeper *next = foreign->next;

		sleeper_free(foreign);
		foreign = next;
	}
	if (!sleeper) {
		sleeper = sleeper_new();
		if (!sleeper)
			return NULL;
		add_to_pool(sleeper);
	}
	open_wake(sleeper);
	return sleeper;
}

static void sleeper_put(struct sleeper *sleeper)
{
	(void)pthread_mutex_lock(&pool.mutex);
	sleeper->busy = false;
	(void)pthread_mutex_unlock(&pool.mutex);
}

FILELOCK_API void filelock_interrupt(struct filelock *lock)
{
	static const uint64_t one = 1;
	int saved = errno;
	int fd;

	if (filelock_is_inherited(lock))
		return;
	atomic_store(&lock->interrupted, true);
	fd = atomic_load(&lock->wake_fd);
	/* fails only if the counter is full, and then the sleeper is awake */
	if (fd >= 0 && sys.write(fd, &one, sizeof(one)) < 0) {
	}
	errno = saved;
}

/* A wait under way. */
struct wait {
	struct filelock *lock;
	struct sleeper *sleeper; /* NULL: only poll */
	int64_t began;
	int64_t report_at; /* when on_wait is due */
};

/* Tells on_wait, if it is time; returns when it will be again. */
static int64_t report(struct wait *wait, int64_t now)
{
	const struct filelock_options *options = &wait->lock->options;
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock_waiting waiting = {
		.size = sizeof(waiting),
		.path = wait->lock->path,
		.waited_ms = (now - wait->began) / MILLISECOND,
	};

	if (!options->on_wait)
		return FILELOCK_NEVER;
	if (now < wait->report_at)
		return wait->report_at;
	wait->report_at = now + (options->on_wait_ms ? options->on_wait_ms * MILLISECOND
	                                             : DEFAULT_REPORT);
	if (filelock_holder(wait->lock, &owner) == 0)
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
	r = sys.ppoll(fds, 2, &timeout, NULL);
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
	const struct filelock_options *options = &lock->options;

	if (atomic_exchange(&lock->interrupted, false))
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
		/* not while it is only polite: the lock may well be free */
		if (lock->acquisition.contended && until > now) {
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

static int acquire_slowly(struct filelock *lock, int64_t began, int64_t until)
{
	struct wait wait = { .lock = lock, .began = began, .report_at = began };
	struct filelock_driver driver = { 0 };
	int r;

	wait.sleeper = sleeper_get();
	if (wait.sleeper) {
		driver.watcher = wait.sleeper->watcher;
		atomic_store(&lock->wake_fd, wait.sleeper->wake.fd);
	}
	lock->acquisition.driver = &driver;
	r = wait_for(&wait, until);
	atomic_store(&lock->wake_fd, -1);
	if (wait.sleeper) {
		filelock_watcher_tidy(wait.sleeper->watcher);
		sleeper_put(wait.sleeper);
	}
	return r;
}

FILELOCK_API int filelock_acquire(struct filelock *lock, enum filelock_mode mode, int timeout_ms)
{
	int64_t now = filelock_now();
	int64_t until = now;
	int r;

	if (timeout_ms < FILELOCK_WAIT_FOREVER)
		return handle_fail(lock, -EINVAL, "cannot acquire");
	r = filelock_begin(lock, mode, filelock_deadline(now, timeout_ms * MILLISECOND), NULL,
	                   NULL);
	if (r < 0)
		return r;
	lock->acquisition.blocking = true;
	r = filelock_step(lock, now, &until);
	return r > 0 ? acquire_slowly(lock, now, until) : r;
}
