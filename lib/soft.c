/*
 * soft.c - a marker file, of the same bytes as Python's SoftFileLock.
 *
 * The lock is the existence of the file. Our markers appear complete (publish.c), with a flock(2)
 * on them that is kept, like the descriptor open for writing, for the whole hold. So:
 *
 *   an attempt ──> nothing stands at the path ──> publish ──> held
 *              └─> a marker: judge it ─ alive ──────────────> busy
 *                                     └ dead ─> take it over ─> held
 *
 * Judging asks, in this order: the flock, whether the marker is open for writing, the record
 * (life.c). The judge opens it read-only, since closing what was open for writing raises the
 * event that others wait for, and keeps it open while it waits: its number cannot become
 * another file's. It asks for a shared flock and gives it back when it has judged: judges do not
 * refuse each other, and no judge holds what a taker needs for longer than a few calls. A taker
 * that is refused all the same says "raced", not "busy".
 *
 * Taking over: a flock on that very inode, now open for writing; the bytes that were judged are
 * still there; the path names it; one pwrite(2) of our record, padded with newlines to the old
 * length; the path still names it. Nothing is renamed or removed, so whoever judges late finds a
 * flock that it cannot get. Where flock(2) does not work, nobody takes over.
 *
 * Release: unlink, then unlock, then close; only the file that is ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "handle.h"
#include "leftover.h"
#include "life.h"
#include "path.h"
#include "publish.h"
#include "registry.h"
#include "sys.h"
#include "watch.h"

#define SAFE_FLAGS (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
#define MILLISECOND INT64_C(1000000)
#define MALFORMED_AGE (2000 * MILLISECOND)

/* What the steps of an attempt say, besides 0 (go on; in the end: held) and errors. */
enum {
	ALIVE = 1,    /* or not to be proved dead: busy */
	RACED,        /* the file changed under us */
	NOTHING_THERE,
	SOMETHING_THERE
};

/* A marker that is no record, and since when it has been the same. */
struct sighting {
	struct identity identity;
	off_t size;
	struct timespec modified, changed;
	int64_t since;
};

struct soft {
	int fd;     /* of the hold; -1: none */
	int marker; /* somebody's marker, open for reading; -1: none */
	bool warned;
	bool by_record; /* it was the record that told that its owner lives */
	pid_t hinted;   /* the process of a record that on_holder was tried for; 0: none */
	struct identity identity; /* of the hold, or of the marker met last */
	struct draft draft;
	struct sighting sighting;
	struct leftover leftover;
	struct subscription in_directory, on_marker, on_holder;
};

/* The content of a marker: one byte more than a record has tells that it is longer. */
struct content {
	ssize_t size;
	char bytes[MARKER_SIZE + 1];
};

static struct soft *soft_state(const struct filelock *lock)
{
	return kind_state(lock);
}

static struct identity identity_of(const struct stat *st)
{
	return (struct identity){ st->st_dev, st->st_ino };
}

static int soft_open(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	s->fd = s->marker = s->draft.fd = -1;
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd < 0)
		return;
	registry_hold_forks();
	(void)sys_close(*fd);
	*fd = -1;
	registry_let_forks();
}

static void unwatch_marker(struct soft *s)
{
	watch_unsubscribe(&s->on_marker);
	watch_unsubscribe(&s->on_holder);
	s->hinted = 0;
}

static void drop_marker(struct soft *s)
{
	unwatch_marker(s);
	close_fd(&s->marker);
}

static void soft_unwatch(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	watch_unsubscribe(&s->in_directory);
	unwatch_marker(s);
}

static void soft_abandon(struct filelock *lock)
{
	struct soft *s = soft_state(lock);

	soft_unwatch(lock);
	close_fd(&s->marker);
	draft_drop(&s->draft);
	close_fd(&s->fd);
}

static int hold(struct filelock *lock, struct identity identity)
{
	struct soft *s = soft_state(lock);

	s->identity = identity;
	if (!lock->options.keep_on_exit)
		leftover_add(&s->leftover, lock->path, identity);
	/* its subscription stays until the user has been told */
	close_fd(&s->marker);
	draft_drop(&s->draft);
	return 0;
}

/* 0: held; SOMETHING_THERE, RACED or an error. */
static int publish_marker(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	int r = publish(lock, &s->draft);

	if (r == -ENOENT && path_check_parent(lock->path) == 0)
		return RACED; /* as FUSE and NFS show */
	if (r == -EEXIST)
		return SOMETHING_THERE;
	if (r < 0)
		return r;
	/* in both places for a moment: a fork beside us must find it */
	s->fd = s->draft.fd;
	s->draft.fd = -1;
	return hold(lock, s->draft.identity);
}

/* Only regular files are opened: to open a device may do something. */
static int check_type(const struct stat *st)
{
	if (S_ISLNK(st->st_mode))
		return -ELOOP;
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	return S_ISREG(st->st_mode) ? 0 : FILELOCK_ENOTREGULAR;
}

/* The marker at the path: 0 and *ret, NOTHING_THERE, or an error. */
static int look(const struct filelock *lock, struct stat *ret)
{
	int r = sys_lstat(lock->path, ret);

	if (r == -ENOENT)
		return NOTHING_THERE;
	return r < 0 ? r : check_type(ret);
}

static int is_unwritable(const struct stat *st)
{
	/* as Python has it: whoever made it so wants no lock there */
	return !(st->st_mode & S_IWUSR);
}

/* Into a member of the state, also for a fork beside us. */
static int open_into(int *ret_fd, const char *path, int flags)
{
	int fd;

	registry_hold_forks();
	fd = sys_open(path, flags | SAFE_FLAGS, 0);
	if (fd >= 0)
		*ret_fd = fd;
	registry_let_forks();
	return fd;
}

/* Opens what look() has seen, for reading. */
static int open_marker(struct soft *s, const char *path, const struct stat *seen)
{
	struct stat st;
	int fd = open_into(&s->marker, path, O_RDONLY);
	int r;

	if (fd == -ENOENT || fd == -ELOOP || fd == -ENXIO)
		return RACED;
	if (fd == -EACCES || fd == -EPERM) /* not ours to judge */
		return is_unwritable(seen) ? fd : ALIVE;
	if (fd < 0)
		return fd == -EWOULDBLOCK ? ALIVE : fd;
	r = sys_fstat(fd, &st);
	if (r == 0 && !identity_equal(identity_of(&st), s->identity))
		r = RACED;
	if (r != 0)
		close_fd(&s->marker);
	return r;
}

static int read_content(int fd, struct content *ret)
{
	ret->size = sys_read_start(fd, ret->bytes, sizeof(ret->bytes));
	return ret->size < 0 ? (int)ret->size : 0;
}

/* Whether this very file has been seen for 2 s, by the clock that nobody sets. */
static bool is_old_news(struct soft *s, const struct stat *st)
{
	struct sighting now = { identity_of(st), st->st_size, st->st_mtim, st->st_ctim,
		                filelock_now() };
	const struct sighting *then = &s->sighting;

	if (identity_equal(now.identity, then->identity) && now.size == then->size &&
	    now.modified.tv_sec == then->modified.tv_sec &&
	    now.modified.tv_nsec == then->modified.tv_nsec &&
	    now.changed.tv_sec == then->changed.tv_sec &&
	    now.changed.tv_nsec == then->changed.tv_nsec)
		return now.since - then->since >= MALFORMED_AGE;
	s->sighting = now;
	return false;
}

static bool is_dead(struct soft *s, const struct stat *st, const struct content *content)
{
	struct marker marker;

	marker_parse(content->bytes, (size_t)content->size, &marker);
	switch (marker.type) {
	case MARKER_RECORD:
		return life_is_over(&marker);
	case MARKER_MALFORMED:
		/* a hard link may be somebody's precious file, which we would overwrite */
		return st->st_nlink == 1 && is_old_news(s, st);
	case MARKER_EMPTY:
		return naive.empty_ages && is_old_news(s, st);
	default:
		return false;
	}
}

/* An enum path_names of the file that we hold or judge, or an error. */
static int check_names(const struct filelock *lock)
{
	const struct soft *s = soft_state(lock);

	return path_check(lock->path, s->identity.dev, s->identity.ino);
}

/* 0, RACED or an error. */
static int check_path(const struct filelock *lock)
{
	int names = check_names(lock);

	return names == PATH_NAMES_ANOTHER ? RACED : names;
}

/* Removes a marker that has reached its lifetime, whoever holds it. */
static int expire(struct filelock *lock, const struct stat *st)
{
	struct soft *s = soft_state(lock);
	int64_t modified = st->st_mtim.tv_sec * 1000 * MILLISECOND + st->st_mtim.tv_nsec;
	struct content content;
	struct marker marker;
	int r;

	if (!lock->options.lifetime_ms ||
	    sys.date() - modified < lock->options.lifetime_ms * MILLISECOND)
		return ALIVE;
	r = read_content(s->marker, &content);
	if (r < 0)
		return r;
	marker_parse(content.bytes, (size_t)content.size, &marker);
	if (marker.type == MARKER_STRICT || marker.type == MARKER_NEWER)
		return ALIVE;
	r = check_path(lock);
	if (r == 0)
		r = sys_unlink(lock->path);
	return r < 0 ? r : RACED;
}

/* The bytes that were judged are still there. */
static bool is_unchanged(int fd, const struct content *judged)
{
	struct content now;

	return read_content(fd, &now) == 0 && now.size == judged->size &&
	       memcmp(now.bytes, judged->bytes, (size_t)now.size) == 0;
}

/* Writes our record over what was judged. */
static int overwrite(const struct filelock *lock, int fd, const struct content *judged)
{
	char record[MARKER_SIZE];
	int length = life_write_record(record, lock->options.two_line_marker);
	int r;

	if (length < 0)
		return length;
	for (; length < judged->size && length < MARKER_SIZE; length++)
		record[length] = '\n';
	r = sys_write_start(fd, record, (size_t)length);
	if (r == 0 && judged->size > MARKER_SIZE)
		r = sys.ftruncate(fd, length) < 0 ? -errno : 0;
	/* half a record is worse than the old one */
	if (r < 0 && sys_write_start(fd, judged->bytes, (size_t)judged->size) == 0 &&
	    judged->size <= MARKER_SIZE)
		(void)!sys.ftruncate(fd, judged->size);
	return r;
}

/* The dead marker's inode, open for writing, with our flock on it. */
static int seize(struct filelock *lock, const struct content *judged)
{
	struct soft *s = soft_state(lock);
	struct stat st;
	bool flocked;
	int r = sys_fstat(s->fd, &st);

	if (r < 0)
		return r;
	if (!identity_equal(identity_of(&st), s->identity))
		return RACED;
	r = publish_flock(lock->path, s->fd, &flocked);
	if (r < 0)
		return r == -EWOULDBLOCK ? RACED : r;
	if (!flocked)
		return ALIVE;
	if (!is_unchanged(s->fd, judged))
		return RACED;
	r = check_path(lock);
	if (r == 0)
		r = overwrite(lock, s->fd, judged);
	if (r == 0)
		r = check_path(lock);
	return r;
}

/* As it is done elsewhere: see struct naive. */
static int break_by_rename(const struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	char away[PATH_MAX + 8];

	(void)snprintf(away, sizeof(away), "%s.break", lock->path);
	(void)rename(lock->path, away);
	if (path_check(away, s->identity.dev, s->identity.ino) == 0)
		(void)sys_unlink(away);
	return RACED;
}

static int take_over(struct filelock *lock, const struct content *judged)
{
	struct soft *s = soft_state(lock);
	int fd, r;

	if (naive.break_by_rename)
		return break_by_rename(lock);
	fd = open_into(&s->fd, lock->path, O_RDWR);
	/* EWOULDBLOCK: somebody judges it just now, with a lease (open(2)) */
	if (fd == -ENOENT || fd == -ELOOP || fd == -EWOULDBLOCK)
		return RACED;
	if (fd == -EACCES || fd == -EPERM || fd == -EROFS)
		return ALIVE;
	if (fd < 0)
		return fd;
	r = seize(lock, judged);
	if (r == 0)
		return hold(lock, s->identity);
	close_fd(&s->fd);
	return r;
}

/* 0: dead, and *ret is what was judged. */
static int judge(struct filelock *lock, const struct stat *st, struct content *ret)
{
	struct soft *s = soft_state(lock);
	int r;

	if (life_is_written(s->marker, lock->path) == 1)
		return ALIVE;
	if (is_unwritable(st))
		return -EACCES;
	r = read_content(s->marker, ret);
	if (r < 0)
		return r;
	if (is_dead(s, st, ret))
		return 0;
	s->by_record = true;
	return ALIVE;
}

static bool is_flock_missing(int error)
{
	return error == -ENOSYS || error == -EOPNOTSUPP || error == -ENOLCK;
}

/* 0: its holder was dead, and we hold the lock. */
static int judge_and_take(struct filelock *lock, const struct stat *st)
{
	struct soft *s = soft_state(lock);
	struct content judged;
	int r = naive.record_only ? -ENOSYS : sys_flock(s->marker, LOCK_SH | LOCK_NB);
	bool flocked = r == 0;

	s->by_record = false;
	if (r == -EWOULDBLOCK || r == -EACCES)
		return ALIVE;
	if (r < 0 && !is_flock_missing(r))
		return r;
	r = judge(lock, st, &judged);
	if (flocked)
		(void)sys_flock(s->marker, LOCK_UN);
	if (r != 0)
		return r;
	/* without it not even opened: its close would wake all waiters, and so ourselves */
	r = flocked || naive.record_only ? take_over(lock, &judged) : ALIVE;
	if (r == ALIVE && !s->warned) {
		s->warned = true;
		log_write(FILELOCK_LOG_WARNING,
		          "the holder of %s is dead, but its marker cannot be taken over",
		          lock->path);
	}
	return r;
}

/* Deals with what stands at the path. */
static int meet(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	struct stat st;
	int r = look(lock, &st);

	if (r != 0)
		return r;
	if (s->marker >= 0 && !identity_equal(s->identity, identity_of(&st)))
		drop_marker(s);
	s->identity = identity_of(&st);
	if (s->marker < 0) {
		r = open_marker(s, lock->path, &st);
		if (r != 0)
			return r;
	}
	r = judge_and_take(lock, &st);
	return r == ALIVE ? expire(lock, &st) : r;
}

static int soft_try(struct filelock *lock, enum filelock_mode mode)
{
	struct soft *s = soft_state(lock);
	bool tried = s->draft.fd >= 0;
	int r = SOMETHING_THERE;

	if (mode == FILELOCK_SHARED)
		return handle_fail(lock, -ENOTSUP, "cannot share the marker");
	if (tried)
		r = publish_marker(lock);
	if (r == SOMETHING_THERE)
		r = meet(lock);
	if (r == NOTHING_THERE && !tried)
		r = publish_marker(lock);
	if (r < 0)
		return handle_fail(lock, r, "cannot acquire");
	if (r != ALIVE)
		return r == 0 ? TRY_HELD : TRY_RACED;
	/* be ready: then a release is followed by one link(2). Without, it takes longer, no more */
	if (lock->acquisition.contended)
		(void)publish_prepare(lock, &s->draft);
	return TRY_BUSY;
}

static int watch_directory(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct soft *s = soft_state(lock);
	char parent[PATH_MAX];
	int r;

	if (watch_is_subscribed(&s->in_directory))
		return 0;
	r = path_parent(lock->path, parent, sizeof(parent));
	if (r < 0)
		return r;
	r = watch_subscribe(watcher, &s->in_directory, lock, parent, IN_DELETE | IN_MOVED_FROM,
	                    strrchr(lock->path, '/') + 1);
	return r < 0 ? r : 1;
}

/* Its holder's death closes it; so does a release, which the directory has told before. */
static int watch_marker(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct soft *s = soft_state(lock);
	char link[32];
	int r;

	if (watch_is_subscribed(&s->on_marker) || s->marker < 0)
		return 0;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", s->marker);
	r = watch_subscribe(watcher, &s->on_marker, lock, link, IN_CLOSE_WRITE, NULL);
	if (r == -ENOENT) /* no /proc */
		r = watch_subscribe(watcher, &s->on_marker, lock, lock->path,
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

	if (watch_is_subscribed(&s->on_holder) || s->marker < 0 ||
	    read_content(s->marker, &content) < 0)
		return 0;
	marker_parse(content.bytes, (size_t)content.size, &marker);
	if (marker.type != MARKER_RECORD || marker.pid == s->hinted || !life_is_here(&marker))
		return 0;
	r = watch_subscribe_process(watcher, &s->on_holder, lock, marker.pid);
	if (r < 0 && r != -ESRCH)
		return r;
	s->hinted = marker.pid;
	/* asked now that it is watched: the pid may have become another's before */
	if (life_is_over(&marker))
		watch_unsubscribe(&s->on_holder);
	return 1;
}

static int soft_watch(struct filelock *lock, struct filelock_watcher *watcher)
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
	int names = check_names(lock);

	return names == PATH_NAMES_ANOTHER ? -ESTALE : names;
}

/* Removes the marker, if it is ours still. */
static int remove_marker(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	bool listed = s->leftover.path != NULL;
	int r;

	leftover_begin_removal(&s->leftover);
	r = check_names(lock);
	if (r == PATH_NAMES_OURS)
		r = sys_unlink(lock->path);
	leftover_end_removal();
	if (r < 0 && listed)
		leftover_add(&s->leftover, lock->path, s->identity);
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
	registry_hold_forks();
	r = sys_close(s->fd);
	s->fd = -1;
	registry_let_forks();
	if (r < 0)
		log_write(FILELOCK_LOG_ERROR, "cannot close %s: %s", lock->path,
		          filelock_strerror(r));
	return 0;
}

static void soft_pass(struct filelock *from, struct filelock *to)
{
	struct soft *f = soft_state(from);
	struct soft *t = soft_state(to);

	t->identity = f->identity;
	registry_hold_forks();
	t->fd = f->fd;
	f->fd = -1;
	registry_let_forks();
	leftover_move(&f->leftover, &t->leftover, to->path);
}

/* Reads the record at the path. */
static int read_marker(const struct filelock *lock, struct marker *ret)
{
	struct content content;
	struct stat st;
	int fd, r = look(lock, &st);

	if (r != 0)
		return r < 0 ? r : FILELOCK_ENOHOLDER;
	fd = sys_open(lock->path, O_RDONLY | SAFE_FLAGS, 0);
	if (fd == -ENOENT)
		return FILELOCK_ENOHOLDER;
	if (fd < 0)
		return fd == -EACCES || fd == -EWOULDBLOCK ? FILELOCK_EUNKNOWNHOLDER : fd;
	r = sys_fstat(fd, &st);
	if (r == 0)
		r = check_type(&st);
	if (r == 0)
		r = read_content(fd, &content);
	(void)sys_close(fd);
	if (r == 0)
		marker_parse(content.bytes, (size_t)content.size, ret);
	return r;
}

static int soft_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	struct marker marker;
	int r = read_marker(lock, &marker);

	if (r < 0)
		return r;
	if (marker.type != MARKER_RECORD)
		return FILELOCK_EUNKNOWNHOLDER;
	life_describe(&marker, ret_owner);
	return 0;
}

static int soft_fd(const struct filelock *lock)
{
	return soft_state(lock)->fd;
}

static struct identity soft_identity(const struct filelock *lock)
{
	return soft_state(lock)->identity;
}

static int soft_break(struct filelock *lock)
{
	struct stat st;
	int r = look(lock, &st);

	if (r == NOTHING_THERE)
		r = FILELOCK_ENOHOLDER;
	if (r == 0)
		r = sys_unlink(lock->path);
	return r < 0 ? handle_fail(lock, r, "cannot break") : 0;
}

static void soft_forget(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	int *fds[] = { &s->fd, &s->marker, &s->draft.fd };

	watch_forget(&s->in_directory);
	watch_forget(&s->on_marker);
	watch_forget(&s->on_holder);
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
	.open = soft_open,
	.try = soft_try,
	.watch = soft_watch,
	.unwatch = soft_unwatch,
	.abandon = soft_abandon,
	.release = soft_release,
	.pass = soft_pass,
	.verify = soft_verify,
	.holder = soft_holder,
	.fd = soft_fd,
	.identity = soft_identity,
	.break_lock = soft_break,
	.forget = soft_forget,
};
