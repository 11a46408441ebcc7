/*
 * native_wait.c - how a native lock waits, and how its release wakes those that wait.
 *
 * In a crowd a helper waits in flock(2), in the kernel's own queue, and has the descriptor meanwhile. A
 * caller's descriptor is not given away: the helper has a description of its own of that file, and
 * what it wins is unlocked and tried for again at once on the caller's. Nobody else is awake yet
 * then. Meanwhile only the replacement of the file is watched for. This is not done on file systems
 * that are not this kernel's: on FUSE a blocked flock keeps even an exiting process until the
 * server answers, and NFS asks its server from time to time, as we do.
 *
 * Warm. With the option keep_open the descriptor stays open after the release, and no close raises
 * an event. Whoever watches is therefore registered (sys_register_waiter), on the description that it
 * tries with, so that the kernel forgets a dead one. It registers, and tries then; the releaser
 * unlocks, and asks then whether anybody is registered. So one of them sees the other. The releaser
 * raises the event by opening and closing the file once more; if that fails, it closes the
 * descriptor after all. A caller's descriptor may have record locks of its own, so a waiter on one
 * opens the file once more to register. Nobody registers where record locks may be another machine's or
 * another program's: there nothing is kept.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>

#include "fork.h"
#include "base/sys.h"
#include "kinds/native.h"

#define REPLACED (IN_ATTRIB | IN_MOVE_SELF)
#define WATCHED (IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | REPLACED)

void native_cancel_wait(struct native *n, bool is_dead)
{
	if (!n->wait)
		return;
	fork_hold_off();
	helpers_cancel(n->wait, is_dead);
	n->wait = NULL;
	fork_allow();
	(void)inotify_close_notice(&n->notice);
}

static void close_post(struct native *n)
{
	int fd = n->post;

	fork_hold_off();
	n->post = -1;
	(void)sys_close(fd);
	fork_allow();
}

static void unregister_waiter(struct native *n)
{
	if (n->post >= 0)
		close_post(n);
	else if (n->registered)
		/* a releaser that finds it all the same raises an event in vain */
		(void)sys_unregister_waiter(n->fd);
	n->registered = false;
}

void native_unwatch(struct filelock *lock)
{
	struct native *n = native_state(lock);

	native_cancel_wait(n, false);
	inotify_unsubscribe(&n->subscription);
	unregister_waiter(n);
}

void native_abandon(struct filelock *lock)
{
	struct native *n = native_state(lock);

	native_cancel_wait(n, false);
	inotify_unsubscribe(&n->subscription);
	if (native_is_borrowed(lock))
		unregister_waiter(n);
	native_drop(lock);
}

/* The helper has won. What it won on a description of its own goes to the caller's. */
static int take_turn(struct filelock *lock, enum filelock_mode mode, int fd)
{
	int r;

	if (!native_is_borrowed(lock)) {
		native_state(lock)->fd = fd;
		return ATTEMPT_HELD;
	}
	(void)sys_flock(fd, LOCK_UN);
	r = native_lock(lock, mode);
	(void)sys_close(fd);
	return r;
}

int native_take_wait(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int result = ATTEMPT_ABSENT;
	int fd, r;

	fork_hold_off();
	r = helpers_take(n->wait, &fd);
	if (r != -EINPROGRESS)
		n->wait = NULL;
	if (r == 0)
		result = take_turn(lock, mode, fd);
	fork_allow();
	if (r == -EINPROGRESS)
		return ATTEMPT_PENDING;
	n->refuses |= r < 0 && r != -EAGAIN;
	/* a poll may be faster than the bell */
	if (inotify_close_notice(&n->notice))
		lock->acquisition.told = true;
	inotify_unsubscribe(&n->subscription); /* what comes next is watched for more than that */
	return result;
}

/* Another description of the file. */
static int open_again(const struct native *n)
{
	char link[SYS_FD_LINK];

	sys_fd_link(link, n->fd);
	return sys_open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
}

static int open_post(struct native *n)
{
	int fd;

	fork_hold_off();
	fd = open_again(n);
	n->post = fd >= 0 ? fd : -1;
	fork_allow();
	return fd;
}

/* Whether it is new. Without it a warm release raises no event, and the poll finds that: where
   somebody has a record lock on the whole file. */
static bool register_waiter(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int fd = n->fd;
	int r;

	if (n->registered || !native_is_on_local(lock))
		return false;
	/* once a wait: its close raises an event, too */
	if (native_is_borrowed(lock))
		fd = n->post >= 0 ? n->post : open_post(n);
	r = fd < 0 ? fd : sys_register_waiter(fd);
	n->registered = r == 0;
	if (r < 0)
		log_write(FILELOCK_LOG_DEBUG, "cannot register among the waiters of %s: %s",
		          lock->path, filelock_strerror(r));
	return n->registered;
}

/* If that is not the file that is waited for, the look that follows tells. */
static int watch_replaced(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	int r;

	if (native_is_borrowed(lock) || inotify_is_subscribed(&n->subscription))
		return 0;
	r = inotify_subscribe(watcher, &n->subscription, lock, lock->path,
	                      REPLACED | IN_DONT_FOLLOW, NULL);
	return r < 0 ? r : 1;
}

static int subscribe(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	char link[SYS_FD_LINK];
	int r;

	/* by descriptor: the inode that we shall try, whatever the path names by now */
	sys_fd_link(link, n->fd);
	r = inotify_subscribe(watcher, &n->subscription, lock, link, WATCHED, NULL);
	if (r == -ENOENT && !native_is_borrowed(lock)) /* no /proc */
		r = inotify_subscribe(watcher, &n->subscription, lock, lock->path,
		                      WATCHED | IN_DONT_FOLLOW, NULL);
	return r;
}

int native_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	int r;

	if (n->wait)
		return watch_replaced(lock, watcher);
	if (inotify_is_subscribed(&n->subscription))
		return register_waiter(lock);
	if (n->fd < 0 || !n->regular)
		return -ENOTSUP;
	r = subscribe(lock, watcher);
	if (r < 0)
		return r;
	(void)register_waiter(lock);
	return 1;
}

/* Gives a descriptor to a helper. Under the gate of forks. */
static int submit_wait(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int fd = native_is_borrowed(lock) ? open_again(n) : n->fd;
	int r;

	r = fd < 0 ? fd : helpers_submit(fd, n->identity, mode, inotify_give_notice, &n->notice,
	                                 &n->wait);
	if (native_is_borrowed(lock) && r < 0 && fd >= 0)
		(void)sys_close(fd);
	if (!native_is_borrowed(lock) && r == 0)
		n->fd = -1;
	return r;
}

/* In the place of a wait that was cancelled, if there is one. */
static int begin_wait(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	bool adopted;
	int r = 0;

	unregister_waiter(n); /* who is blocked needs no event */
	fork_hold_off();
	adopted = helpers_adopt(n->identity, mode, inotify_give_notice, &n->notice, &n->wait);
	if (!adopted)
		r = submit_wait(lock, mode);
	fork_allow();
	if (adopted) {
		native_drop(lock);
		n->forks = fork_count() - 1; /* it is not known when that one was opened */
	}
	return r;
}

int native_block(struct filelock *lock, enum filelock_mode mode,
                        struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	int r;

	if (n->fd < 0 || n->wait || n->refuses || !helpers_are_allowed() || !native_is_on_local(lock))
		return -ENOTSUP;
	r = inotify_open_notice(watcher, &n->notice, lock);
	if (r < 0)
		return r;
	r = begin_wait(lock, mode);
	if (r < 0) {
		(void)inotify_close_notice(&n->notice);
		return r;
	}
	if (inotify_is_subscribed(&n->subscription)) {
		/* the kernel's watch has to go, or each release would wake us */
		inotify_unsubscribe(&n->subscription);
		filelock_watcher_tidy(watcher);
	}
	return 0;
}

/* Another description of the file, if the path names it: costs half of the other way, which goes
   through /proc. */
static int open_named(const struct filelock *lock)
{
	const struct native *n = native_state(lock);
	struct stat st;
	int fd = sys_open(lock->path, O_RDONLY | SAFE_FLAGS, 0);

	if (fd < 0)
		return fd;
	if (sys_fstat(fd, &st) == 0 &&
	    identity_equal(n->identity, (struct identity){ st.st_dev, st.st_ino }))
		return fd;
	(void)sys_close(fd);
	return -ENOENT;
}

int native_notify(const struct filelock *lock)
{
	const struct native *n = native_state(lock);
	int fd;

	if (!n->regular)
		return 0;
	fd = native_is_borrowed(lock) ? -ENOENT : open_named(lock);
	if (fd < 0)
		fd = open_again(n);
	if (fd < 0)
		return fd;
	(void)sys_close(fd);
	return 0;
}

bool native_stay_open(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int waiters = sys_has_waiter(n->fd);

	n->warm = waiters == 0 || (waiters > 0 && native_notify(lock) == 0);
	return n->warm;
}
