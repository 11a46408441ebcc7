/*
 * native.c - flock(2) on the lock file.
 *
 * One descriptor serves an acquisition from its first attempt, and then the hold. It stays open
 * between attempts: closing it raises an event at every other waiter, so two waiters that closed
 * and opened again would wake each other for ever.
 *
 * A release unlocks before it closes: on a plain close the event can reach a waiter before the lock
 * is dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>

#include "fork.h"
#include "base/path.h"
#include "base/sys.h"
#include "kinds/holder.h"
#include "kinds/native.h"
#include "kinds/refresh.h"

#define SECOND INT64_C(1000000000)
#define CLOCK_TICK 20000000 /* ns, with room to spare: 10 ms at the slowest */

static int native_open(struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct stat st;
	int r;

	if (lock->options.lifetime_ms)
		return FILELOCK_ENOLIFETIME;
	n->fd = lock->borrowed;
	n->post = -1;
	if (!native_is_borrowed(lock))
		return 0;
	r = sys_fstat(n->fd, &st);
	if (r < 0)
		return r;
	/* eventfd(2), timerfd_create(2), epoll_create(2), …: one inode serves them all */
	if ((st.st_mode & S_IFMT) == 0)
		return failure_set_detail(&lock->failure, -EINVAL, "cannot open",
		                          sys_strdup("its anonymous inode is shared by the "
		                                     "whole machine"));
	n->regular = S_ISREG(st.st_mode);
	n->refuses = !n->regular && !S_ISDIR(st.st_mode);
	n->identity = (struct identity){ st.st_dev, st.st_ino };
	return 0;
}

/*
 * Java, OCaml, LevelDB and others lock by fcntl(2), which flock(2) does not exclude. Nobody can mend
 * that here, but whoever reads the log learns of it: once a handle, since it costs a call. (Not of
 * a file system that makes flock(2) a record lock: it would be our own.)
 */
static void warn_of_records(struct filelock *lock)
{
	struct native *n = native_state(lock);
	pid_t pid;

	if (n->asked || !log_wants(FILELOCK_LOG_WARNING))
		return;
	n->asked = true;
	if (!sys_has_record(n->fd, &pid) || !native_is_on_local(lock))
		return;
	if (pid > 0)
		log_write(FILELOCK_LOG_WARNING,
		          "%s: pid %ld has a record lock (fcntl(2)) on it, which does not exclude "
		          "this lock", lock->path, (long)pid);
	else
		log_write(FILELOCK_LOG_WARNING,
		          "%s: another program has a record lock (fcntl(2)) on it, which does not "
		          "exclude this lock", lock->path);
}

static int prepare(struct filelock *lock)
{
	int r = native_probe(lock);

	return r == 0 ? native_open_file(lock) : r;
}

static int native_try(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int r = n->wait ? native_take_wait(lock, mode) : ATTEMPT_ABSENT;
	int names = PATH_NAMES_OURS;
	bool fresh;
	int opened;

	/* a child may have the description, and would keep a lock on it */
	if (n->warm && n->forks != fork_count())
		native_drop(lock);
	n->warm = false;
	fresh = r == ATTEMPT_ABSENT && n->fd < 0;
	opened = fresh ? prepare(lock) : 0;
	if (opened != 0)
		return opened;
	if (r == ATTEMPT_ABSENT)
		r = native_lock(lock, mode);
	/* a waiter's file may have been replaced, and its successor be free */
	if (r == ATTEMPT_HELD || r == ATTEMPT_PENDING || (r == ATTEMPT_BUSY && !fresh))
		names = native_check_path(lock);
	if (r >= 0 && r != ATTEMPT_RACED && r != ATTEMPT_UNSUPPORTED &&
	    names == PATH_NAMES_OURS) {
		n->races = r == ATTEMPT_HELD || !fresh ? 0 : n->races;
		if (r == ATTEMPT_HELD)
			warn_of_records(lock);
		return r;
	}
	native_cancel_wait(n, names == PATH_NAMES_ANOTHER);
	native_abandon(lock);
	if (names == PATH_NAMES_ANOTHER)
		return n->suspect ? native_call_it_a_race(lock, n->suspect, "cannot keep a lock on", NULL)
		                  : ATTEMPT_RACED;
	return names < 0 ? handle_fail(lock, names, "cannot check the lock file") : r;
}

/* Only to save the next acquisition its calls: never where waiters might not learn of a release. */
static bool may_stay_open(const struct filelock *lock)
{
	return (lock->options.keep_open || lock->keeps) && !lock->closed && !native_is_borrowed(lock) &&
	       native_state(lock)->forks == fork_count() && native_is_on_local(lock);
}

/* Other shared holders of a removed file would not keep out who locks its successor: only the
   last one removes it. A conversion that fails may drop our lock (flock(2)), which is to go. */
static bool may_remove(const struct filelock *lock)
{
	if (!lock->options.unlink_on_release)
		return false;
	if (lock->mode == FILELOCK_SHARED &&
	    sys_flock(native_state(lock)->fd, LOCK_EX | LOCK_NB) < 0)
		return false;
	return native_check_path(lock) == PATH_NAMES_OURS;
}

/* Undoes what may_remove did, for a hold that goes on. */
static int keep_holding(struct filelock *lock, int error)
{
	if (lock->mode == FILELOCK_SHARED)
		(void)sys_flock(native_state(lock)->fd, LOCK_SH | LOCK_NB);
	return handle_fail(lock, error, "cannot remove the lock file");
}

static int native_release(struct filelock *lock)
{
	struct native *n = native_state(lock);
	bool removed = may_remove(lock);
	int r = removed ? sys_unlink(lock->path) : 0;

	if (r < 0)
		return keep_holding(lock, r);
	r = sys_flock(n->fd, LOCK_UN);
	/* once the file is gone there is no holding on: closing unlocks, too */
	if (r < 0 && !removed && !native_is_gone(r))
		return handle_fail(lock, r, "cannot unlock");
	if (r == 0 && !removed && may_stay_open(lock) && native_stay_open(lock))
		return 0;
	/* only a hint: an error does not matter */
	if (native_is_borrowed(lock) || n->forks != fork_count())
		(void)native_notify(lock);
	native_drop(lock);
	return 0;
}

/*
 * Unlinking, replacing and renaming a file changes its status (inode(7)), so as long as its time of
 * change is the same, the path names it as when that was last seen. (But for a folder that
 * is renamed: the next hold that is taken from the system finds that.) A change soon after another
 * may get the same time, from a clock that ticks every few milliseconds; and not every file system
 * keeps such times as that one has it: those of this machine's own disks do.
 */
static bool native_is_intact(struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct statfs fs;
	struct stat st;

	if (sys_fstat(n->fd, &st) < 0 || st.st_nlink == 0)
		return false;
	if (n->seen && native_is_same_time(&st.st_ctim, &n->changed))
		return true;
	n->changed = st.st_ctim;
	n->seen = sys.statfs(lock->path, &fs) == 0 && sys_is_local(&fs) &&
	          sys.date() - (st.st_ctim.tv_sec * SECOND + st.st_ctim.tv_nsec) > CLOCK_TICK;
	return native_check_path(lock) == PATH_NAMES_OURS;
}

static void native_learn(struct filelock *lock, const struct filelock *other)
{
	native_state(lock)->probed |= native_state(other)->probed;
}

/* No fork needs to wait: a child in which both have it closes it twice, and opens nothing between. */
static void native_hand_over(struct filelock *from, struct filelock *to)
{
	struct native *f = native_state(from);
	struct native *t = native_state(to);

	t->fd = f->fd;
	atomic_thread_fence(memory_order_release);
	if (!native_is_borrowed(from))
		f->fd = -1;
	t->regular = f->regular;
	t->probed = f->probed;
	t->forks = f->forks;
	t->refused = f->refused;
	t->ctime = f->ctime;
	t->identity = f->identity;
	t->seen = f->seen;
	t->changed = f->changed;
	t->placed = f->placed;
	t->local = f->local;
}

static int64_t native_held(struct filelock *keeper, int64_t now)
{
	return refresh_held(keeper, now, REFRESH_FILE);
}

static bool native_is_warm(const struct filelock *lock)
{
	return native_state(lock)->warm;
}

static bool native_lend(struct filelock *from, struct filelock *to)
{
	const struct native *t = native_state(to);

	if (!native_is_warm(from) || native_is_borrowed(to) || t->fd >= 0 || t->wait)
		return false;
	native_hand_over(from, to);
	native_state(from)->warm = false;
	native_state(to)->warm = true;
	return true;
}

/* A server of NFS that has not heard of this machine for longer than its lease has forgotten the lock,
   and nothing at the path tells. Asked for the lock again it says whether another one has it. */
static bool is_forgotten(const struct filelock *lock)
{
	int mode = lock->mode == FILELOCK_SHARED ? LOCK_SH : LOCK_EX;

	return native_is_on_nfs(lock) && sys_flock(native_state(lock)->fd, mode | LOCK_NB) == -EWOULDBLOCK;
}

static int native_verify(const struct filelock *lock)
{
	int names = native_check_path(lock);

	if (names == PATH_NAMES_OURS && is_forgotten(lock))
		return FILELOCK_ELOST;
	if (names == PATH_NAMES_OURS && !native_is_borrowed(lock) &&
	    refresh_is_due(&native_state(lock)->modified, REFRESH_FILE))
		refresh_times(lock);
	if (names != PATH_NAMES_ANOTHER)
		return names;
	return native_state(lock)->suspect == -ESTALE ? -ESTALE : FILELOCK_ELOST;
}

/* What stands at the path may be another file although its number says the same. */
static enum filelock_loss native_loss(const struct filelock *lock)
{
	struct stat st;

	return lock->depth > 0 && !native_is_borrowed(lock) &&
	                       native_check_path(lock) == PATH_NAMES_ANOTHER &&
	                       sys_lstat(lock->path, &st) == 0
	               ? FILELOCK_LOSS_REPLACED
	               : FILELOCK_LOSS_NONE;
}

typedef int native_question(int fd, struct filelock_owner *ret_owner);

static int native_ask(const struct filelock *lock, native_question *question,
                      struct filelock_owner *ret_owner)
{
	const struct native *n = native_state(lock);

	/* the path may name another file than the one that was kept */
	return n->fd >= 0 && !n->warm ? question(n->fd, ret_owner)
	                              : holder_at_path(lock->path, question, ret_owner);
}

static int native_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	return native_ask(lock, holder_of_flock, ret_owner);
}

static int native_bystander(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	return native_ask(lock, holder_of_any_record, ret_owner);
}

static int native_fd(const struct filelock *lock)
{
	return native_state(lock)->fd;
}

static struct identity native_identity(const struct filelock *lock)
{
	return native_state(lock)->identity;
}

static void native_forget(struct filelock *lock)
{
	struct native *n = native_state(lock);

	inotify_forget(&n->subscription);
	inotify_forget_notice(&n->notice);
	/* and the wait has lost its descriptor, or is about to: helpers.c */
	if (n->post >= 0)
		(void)sys_close(n->post);
	n->post = -1;
	n->warm = n->registered = false;
	if (native_is_borrowed(lock) || n->fd < 0)
		return;
	(void)sys_close(n->fd);
	n->fd = -1;
}

const struct kind kind_native = {
	.id = FILELOCK_NATIVE,
	.name = "native",
	.state_size = sizeof(struct native),
	.fallback = &kind_soft,
	.open = native_open,
	.try = native_try,
	.block = native_block,
	.watch = native_watch,
	.unwatch = native_unwatch,
	.abandon = native_abandon,
	.drop = native_drop,
	.is_warm = native_is_warm,
	.lend = native_lend,
	.release = native_release,
	.hand_over = native_hand_over,
	.is_intact = native_is_intact,
	.learn = native_learn,
	.held = native_held,
	.held_after = refresh_after,
	.verify = native_verify,
	.loss = native_loss,
	.holder = native_holder,
	.bystander = native_bystander,
	.fd = native_fd,
	.identity = native_identity,
	.forget = native_forget,
};
