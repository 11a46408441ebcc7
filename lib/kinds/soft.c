/*
 * soft.c - a marker file with the bytes of Python's SoftFileLock.
 *
 * The lock is the existence of the file. Our markers appear complete (soft_publish.c). Their holder
 * keeps a flock(2) on them for the whole hold, and the descriptor open for writing. So:
 *
 *   an attempt ──> nothing stands at the path ──> publish ──> held
 *              └─> a marker: judge it ─ alive ──────────────> busy
 *                                     └ dead ─> take it over ─> held
 *
 * soft_judge.c judges and takes over.
 *
 * Release: unlink, then unlock, then close, and only our own file. A marker that was taken over may
 * belong to another user, in a directory where nobody else may remove it (sticky, as /tmp). It is
 * then disowned (soft_publish.h), and the next attempt takes it over again.
 */
#include "kinds/soft.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>

#include "kinds/liveness.h"
#include "kinds/refresh.h"
#include "kinds/soft_proof.h"
#include "base/path.h"
#include "fork.h"
#include "base/sys.h"

#define MILLISECOND INT64_C(1000000)
#define MANY_ABSENCES 100 /* in a row: nothing can be made there */

static int soft_open(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	s->fd = s->marker = s->turn = s->draft.fd = -1;
	s->local.answer = -1;
	return 0;
}

void soft_unwatch(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	inotify_unsubscribe(&s->in_directory);
	soft_judge_unwatch(s);
}

void soft_abandon(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	soft_unwatch(lock);
	soft_judge_close(&s->marker);
	soft_publish_drop(&s->draft);
	/* a handle that goes while it holds, since it could not be unlocked */
	soft_exit_remove(&s->leftover);
	if (s->fd >= 0)
		(void)soft_proof_disown(s->fd);
	soft_judge_close(&s->fd);
}

static void keep_hold(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	if (!lock->options.keep_on_exit)
		soft_exit_add(&s->leftover, lock->path, s->identity);
	/* its subscription stays until the user has been told */
	soft_judge_close(&s->marker);
	soft_publish_drop(&s->draft);
}

/* 0: held; ATTEMPT_BUSY: something stands there; ATTEMPT_RACED or an error. */
int soft_publish_marker(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	int r = soft_publish(lock, &s->draft);

	/* FUSE and NFS may show a folder that is gone; and /proc has folders where nothing is made */
	if (r == -ENOENT && s->absences < MANY_ABSENCES && path_check_parent(lock->path) == 0) {
		s->absences++;
		return ATTEMPT_RACED;
	}
	s->absences = 0;
	if (r == -EEXIST)
		return ATTEMPT_BUSY;
	if (r < 0)
		return r;
	fork_hold_off(); /* a fork beside us finds it in one place */
	s->fd = s->draft.fd;
	s->draft.fd = -1;
	fork_allow();
	s->identity = s->draft.identity;
	s->taken = false;
	return 0;
}

/* The marker that stands there after all was not judged yet. */
static int publish_unjudged(struct filelock *lock)
{
	int r = soft_publish_marker(lock);

	return r == ATTEMPT_BUSY ? ATTEMPT_RACED : r;
}

int soft_attempt(struct filelock *lock, enum filelock_mode mode,
                 int (*judge)(struct filelock *lock))
{
	struct soft *s = soft_state(lock);
	bool tried = s->draft.fd >= 0;
	int r = ATTEMPT_BUSY;

	if (mode == FILELOCK_SHARED)
		return handle_fail(lock, -ENOTSUP, "cannot share the marker");
	if (tried)
		r = soft_publish_marker(lock);
	if (r == ATTEMPT_BUSY)
		r = judge(lock);
	if (r == ATTEMPT_ABSENT && !tried)
		r = publish_unjudged(lock);
	if (r < 0)
		return handle_fail(lock, r, "cannot acquire");
	if (r == 0)
		keep_hold(lock);
	if (r != ATTEMPT_BUSY)
		return r == 0 ? ATTEMPT_HELD : ATTEMPT_RACED;
	/* be ready: then a release is followed by one link(2). Without, it takes longer, no more */
	if (lock->acquisition.contended)
		(void)soft_publish_prepare(lock, &s->draft);
	return ATTEMPT_BUSY;
}

static int soft_try(struct filelock *lock, enum filelock_mode mode)
{
	return soft_attempt(lock, mode, soft_judge_try);
}

/* Whoever was refused a dead marker's flock hears of nothing: see soft_judge.c. */
static int64_t soft_retry_delay(const struct filelock *lock)
{
	unsigned refusals = soft_state(lock)->refusals;

	return (refusals < 5 ? refusals : 5) * MILLISECOND;
}

static int watch_directory(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct soft *s = soft_state(lock);
	char parent[PATH_MAX];
	int r;

	if (inotify_is_subscribed(&s->in_directory))
		return 0;
	path_parent(lock->path, parent);
	r = inotify_subscribe(watcher, &s->in_directory, lock, parent, IN_DELETE | IN_MOVED_FROM,
	                      strrchr(lock->path, '/') + 1);
	return r < 0 ? r : 1;
}

/* Its holder's death closes it; so does a release, which the directory has told before. */
static int watch_marker(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct soft *s = soft_state(lock);
	char link[SYS_FD_LINK];
	int r;

	if (inotify_is_subscribed(&s->on_marker) || s->marker < 0 || s->refusals > 0)
		return 0;
	sys_fd_link(link, s->marker);
	r = inotify_subscribe(watcher, &s->on_marker, lock, link, IN_CLOSE_WRITE, NULL);
	if (r == -ENOENT) /* no /proc */
		r = inotify_subscribe(watcher, &s->on_marker, lock, lock->path,
		                      IN_CLOSE_WRITE | IN_DONT_FOLLOW, NULL);
	return r < 0 ? r : 1;
}

/* The process that the record names, which is no more than a hint: once for a record, since it
   may be gone or another one while the marker is held all the same. */
static int watch_holder(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct soft *s = soft_state(lock);
	struct content content;
	struct marker marker;
	int r;

	if (inotify_is_subscribed(&s->on_holder) || s->marker < 0 ||
	    soft_judge_read(s->marker, &content) < 0)
		return 0;
	soft_record_parse(content.bytes, (size_t)content.size, &marker);
	if (!soft_record_has_owner(&marker) || marker.pid == s->hinted || !liveness_is_here(&marker))
		return 0;
	r = inotify_subscribe_process(watcher, &s->on_holder, lock, marker.pid);
	if (r < 0 && r != -ESRCH)
		return r;
	s->hinted = marker.pid;
	/* asked now that it is watched: the pid may have become another's before */
	if (liveness_is_over(&marker, PROOF_UNLOCKED))
		inotify_unsubscribe(&s->on_holder);
	return 1;
}

int soft_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	int directory = watch_directory(lock, watcher);
	int marker = watch_marker(lock, watcher);
	int holder = 0;

	/* nobody who would close the marker, or nobody who would hear it */
	if (marker < 0 || soft_state(lock)->by_record)
		holder = watch_holder(lock, watcher);
	if (directory > 0 || marker > 0 || holder > 0)
		return 1;
	if (directory < 0)
		return directory;
	return marker < 0 ? marker : holder;
}

static int soft_verify(const struct filelock *lock)
{
	int fd = soft_state(lock)->fd;
	struct stat st;
	bool is_known = sys_fstat(fd, &st) == 0;
	int names = soft_judge_check_names(lock); /* last: the answer is as new as can be */

	/* Python's FileLock empties what it opens: should we be killed, nobody would know us */
	if (names == PATH_NAMES_OURS && is_known && st.st_size == 0)
		(void)soft_publish_record(lock, fd);
	else if (names == PATH_NAMES_OURS && is_known && refresh_after(lock) != FILELOCK_NEVER &&
	         refresh_is_due(&st.st_mtim, REFRESH_MARKER))
		refresh_times(lock);
	return names == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : names;
}

/* What soft_verify does, by the path: the descriptor is the holder's. */
static void restore_record(const struct filelock *keeper)
{
	struct stat st;
	int fd;

	if (sys_lstat(keeper->path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > 0)
		return;
	fd = sys_open(keeper->path, O_RDWR | SAFE_FLAGS, 0);
	if (fd < 0)
		return;
	if (sys_fstat(fd, &st) == 0 && st.st_size == 0 &&
	    identity_equal(keeper->held.identity, (struct identity){ st.st_dev, st.st_ino }))
		(void)soft_publish_record(keeper, fd);
	(void)sys_close(fd);
}

static int64_t soft_held(struct filelock *keeper, int64_t now)
{
	restore_record(keeper);
	return refresh_held(keeper, now, REFRESH_MARKER);
}

/* Removes the marker, if it is ours still. */
static int remove_marker(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	bool listed = s->leftover.path != NULL;
	int r;

	soft_exit_begin_removal(&s->leftover);
	r = soft_judge_check_names(lock);
	if (r == PATH_NAMES_OURS)
		r = sys_unlink(lock->path);
	else if (r == PATH_NAMES_ANOTHER) /* or so it seems from here */
		soft_proof_withdraw(lock->path, s->fd);
	if (s->taken && (r == -EPERM || r == -EACCES))
		r = soft_proof_disown(s->fd);
	soft_exit_end_removal();
	if (r < 0 && listed)
		soft_exit_add(&s->leftover, lock->path, s->identity);
	return r < 0 ? r : 0;
}

static int soft_release(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	int r = remove_marker(lock);

	if (r < 0)
		return handle_fail(lock, r, "cannot remove the marker");
	/* fails only where there is none */
	(void)sys_flock(s->fd, LOCK_UN);
	fork_hold_off();
	r = sys_close(s->fd);
	s->fd = -1;
	fork_allow();
	if (r < 0)
		log_write(FILELOCK_LOG_ERROR, "cannot close %s: %s", lock->path,
		          filelock_strerror(r));
	return 0;
}

static void soft_hand_over(struct filelock *from, struct filelock *to)
{
	struct soft *f = soft_state(from);
	struct soft *t = soft_state(to);

	t->identity = f->identity;
	t->taken = f->taken;
	fork_hold_off();
	t->fd = f->fd;
	f->fd = -1;
	fork_allow();
	soft_exit_move(&f->leftover, &t->leftover, to->path);
}

/* Reads the record at the path. */
static int read_marker(const struct filelock *lock, struct marker *ret)
{
	struct content content;
	struct stat st;
	int fd, r = soft_judge_look(lock, &st);

	if (r != 0)
		return r == -EISDIR ? FILELOCK_EUNKNOWNHOLDER : r < 0 ? r : FILELOCK_ENOHOLDER;
	fd = sys_open(lock->path, O_RDONLY | SAFE_FLAGS, 0);
	if (fd == -ENOENT)
		return FILELOCK_ENOHOLDER;
	if (fd < 0)
		return fd == -EACCES || fd == -EWOULDBLOCK ? FILELOCK_EUNKNOWNHOLDER : fd;
	r = sys_fstat(fd, &st);
	if (r == 0)
		r = soft_judge_check_type(&st);
	if (r == 0)
		r = soft_judge_read(fd, &content);
	(void)sys_close(fd);
	if (r == 0)
		soft_record_parse(content.bytes, (size_t)content.size, ret);
	return r;
}

int soft_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	struct marker marker;
	int r = read_marker(lock, &marker);

	if (r < 0)
		return r;
	if (!marker.host[0] || marker.pid == 0)
		return FILELOCK_EUNKNOWNHOLDER;
	liveness_describe(&marker, ret_owner);
	return 0;
}

int soft_fd(const struct filelock *lock)
{
	return soft_state(lock)->fd;
}

/* Learns what another handle knows about the file system. */
void soft_learn(struct filelock *lock, const struct filelock *other)
{
	struct draft *draft = &soft_state(lock)->draft;
	const struct draft *known = &soft_state(other)->draft;

	if (draft->fd >= 0) /* made in a way of its own */
		return;
	draft->way = known->way;
	draft->shown = known->shown;
	draft->shown_on = known->shown_on;
}

struct identity soft_identity(const struct filelock *lock)
{
	return soft_state(lock)->identity;
}

int soft_break(struct filelock *lock)
{
	struct stat st;
	int r = soft_judge_look(lock, &st);

	if (r == ATTEMPT_ABSENT)
		r = FILELOCK_ENOHOLDER;
	if (r == 0)
		r = sys_unlink(lock->path);
	return r < 0 ? handle_fail(lock, r, "cannot break") : 0;
}

void soft_forget(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	int *fds[] = { &s->fd, &s->marker, &s->turn, &s->draft.fd };

	inotify_forget(&s->in_directory);
	inotify_forget(&s->on_marker);
	inotify_forget(&s->on_holder);
	s->leftover = (struct leftover){ 0 };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			(void)sys_close(*fds[i]);
		*fds[i] = -1;
	}
}

const struct kind kind_soft = {
	.id = FILELOCK_SOFT,
	.name = "soft",
	.state_size = sizeof(struct soft),
	.exclusive_only = true,
	.open = soft_open,
	.try = soft_try,
	.retry_delay = soft_retry_delay,
	.watch = soft_watch,
	.unwatch = soft_unwatch,
	.abandon = soft_abandon,
	.release = soft_release,
	.hand_over = soft_hand_over,
	.held = soft_held,
	.held_after = refresh_after,
	.verify = soft_verify,
	.holder = soft_holder,
	.fd = soft_fd,
	.learn = soft_learn,
	.identity = soft_identity,
	.break_lock = soft_break,
	.forget = soft_forget,
};
