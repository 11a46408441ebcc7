/*
 * soft_judge.c - judging what stands at the path of a soft lock, and taking a dead marker over.
 *
 * Judging asks in this order: the flock, whether the marker is open for writing, the record
 * (liveness.c). The judge opens the marker read-only, since closing a descriptor that was open for
 * writing raises the event that others wait for. It keeps the marker open while it waits, so that
 * no other file gets its inode's number. It takes a shared flock and gives it back after judging:
 * judges do not refuse each other, and none keeps a taker out for longer than a few calls. A taker
 * that is refused all the same says "raced", not "busy". Its own close would wake it for as long as
 * a judge is stopped, so it no longer watches the marker then, but comes again by the clock.
 *
 * Taking over: flock that very inode, now open for writing; check that the judged bytes are still
 * there and that the path names the inode; write our record by one pwrite(2), padded with newlines
 * to the old length; check the path again. Nothing is renamed or removed, so a late judge finds a
 * flock that it cannot get. Where that flock may not be everybody's, takers also take
 * turns. Where flock(2) is missing on a local file system, nobody takes over.
 */
#include "kinds/soft.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "kinds/liveness.h"
#include "kinds/soft_proof.h"
#include "base/path.h"
#include "fork.h"
#include "base/sys.h"

#define MILLISECOND INT64_C(1000000)
#define SECOND (1000 * MILLISECOND)
#define TORN_AGE (2000 * MILLISECOND)
#define MANY_REFUSALS 10 /* more, and it is no race any more: a judge is stopped */
#define REFUSED (ATTEMPT_UNSUPPORTED + 1) /* besides: the flock of a dead marker, or the turn */

static struct identity identity_of(const struct stat *st)
{
	return (struct identity){ st->st_dev, st->st_ino };
}

void soft_judge_close(int *fd)
{
	if (*fd < 0)
		return;
	fork_hold_off();
	(void)sys_close(*fd);
	*fd = -1;
	fork_allow();
}

void soft_judge_unwatch(struct soft *s)
{
	inotify_unsubscribe(&s->on_marker);
	inotify_unsubscribe(&s->on_holder);
	s->hinted = 0;
}

void soft_judge_drop(struct soft *s)
{
	soft_judge_unwatch(s);
	soft_judge_close(&s->marker);
}

int soft_judge_check_type(const struct stat *st)
{
	if (S_ISLNK(st->st_mode))
		return -ELOOP;
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	return S_ISREG(st->st_mode) ? 0 : FILELOCK_ENOTREGULAR;
}

int soft_judge_look(const struct filelock *lock, struct stat *ret)
{
	int r = sys_lstat(lock->path, ret);

	if (r == -ENOENT)
		return ATTEMPT_ABSENT;
	return r < 0 ? r : soft_judge_check_type(ret);
}

int soft_judge_open(int *ret_fd, const char *path, int flags)
{
	int fd;

	fork_hold_off();
	fd = sys_open(path, flags | SAFE_FLAGS, 0);
	if (fd >= 0)
		*ret_fd = fd;
	fork_allow();
	return fd;
}

/* Opens what soft_judge_look() has seen, for reading. */
static int open_marker(struct soft *s, const char *path)
{
	struct stat st;
	int fd = soft_judge_open(&s->marker, path, O_RDONLY);
	int r;

	if (fd == -ENOENT || fd == -ELOOP || fd == -ENXIO)
		return ATTEMPT_RACED;
	/* not ours to judge */
	if (fd == -EACCES || fd == -EPERM || fd == -EWOULDBLOCK)
		return ATTEMPT_BUSY;
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r == 0 && !identity_equal(identity_of(&st), s->identity))
		r = ATTEMPT_RACED;
	if (r != 0)
		soft_judge_close(&s->marker);
	return r;
}

int soft_judge_read(int fd, struct content *ret)
{
	ret->size = sys_read_start(fd, ret->bytes, sizeof(ret->bytes));
	return ret->size < 0 ? (int)ret->size : 0;
}

/* Whether this very file has been seen for 2 s, by the clock that nobody sets, and never open for writing. */
static bool is_old_news(struct soft *s, const struct stat *st)
{
	struct sighting now = { identity_of(st), st->st_size, st->st_mtim, st->st_ctim,
		                sys.now() };
	const struct sighting *then = &s->sighting;

	if (identity_equal(now.identity, then->identity) && now.size == then->size &&
	    now.modified.tv_sec == then->modified.tv_sec &&
	    now.modified.tv_nsec == then->modified.tv_nsec &&
	    now.changed.tv_sec == then->changed.tv_sec &&
	    now.changed.tv_nsec == then->changed.tv_nsec)
		return now.since - then->since >= TORN_AGE;
	s->sighting = now;
	return false;
}

static bool is_dead(struct soft *s, const struct stat *st, const struct content *content,
                    enum proof proof)
{
	struct marker marker;

	soft_record_parse(content->bytes, (size_t)content->size, &marker);
	switch (marker.type) {
	case MARKER_RECORD:
	case MARKER_EXCLUSIVE:
		return liveness_is_over(&marker, proof);
	case MARKER_TORN:
		/* a hard link may be somebody's precious file, which we would overwrite; and
		   other programs write no more than their pid */
		return proof > PROOF_NONE && st->st_nlink == 1 && liveness_is_gone(marker.pid) &&
		       is_old_news(s, st);
	default: /* empty: made, and not written yet; or another's lock */
		return false;
	}
}

bool soft_judge_is_local(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	struct statfs fs;

	if (s->local.answer < 0 || s->local.device != s->identity.dev) {
		if (sys.statfs(lock->path, &fs) < 0)
			return false;
		s->local.device = s->identity.dev;
		s->local.answer = sys_is_local(&fs);
	}
	return s->local.answer > 0;
}

int soft_judge_check_names(const struct filelock *lock)
{
	const struct soft *s = soft_state(lock);

	return path_check(lock->path, s->identity.dev, s->identity.ino);
}

/* 0, ATTEMPT_RACED or an error. */
static int check_still_named(const struct filelock *lock)
{
	int names = soft_judge_check_names(lock);

	return names == PATH_NAMES_ANOTHER ? ATTEMPT_RACED : names;
}

/* Seconds and nanoseconds each by themselves: anybody may have set them, to anything. */
static bool has_expired(const struct filelock *lock, const struct stat *st)
{
	int64_t limit;

	if (!lock->options.lifetime_ms)
		return false;
	limit = sys.date() - lock->options.lifetime_ms * MILLISECOND;
	if (st->st_mtim.tv_sec != limit / SECOND)
		return st->st_mtim.tv_sec < limit / SECOND;
	return st->st_mtim.tv_nsec <= limit % SECOND;
}

/* Removes a marker that has reached its lifetime, whoever holds it. */
static int expire(struct filelock *lock, const struct stat *st)
{
	struct soft *s = soft_state(lock);
	struct content content;
	struct marker marker;
	struct stat now;
	int r;

	if (!has_expired(lock, st))
		return ATTEMPT_BUSY;
	r = soft_judge_read(s->marker, &content);
	if (r < 0)
		return r;
	soft_record_parse(content.bytes, (size_t)content.size, &marker);
	if (marker.type == MARKER_STRICT || marker.type == MARKER_NEWER)
		return ATTEMPT_BUSY;
	/* taken over meanwhile, it is the same file, of another time */
	r = soft_judge_look(lock, &now);
	if (r == 0 && identity_equal(identity_of(&now), s->identity) && has_expired(lock, &now))
		r = sys_unlink(lock->path);
	return r < 0 ? r : ATTEMPT_RACED;
}

/* The bytes that were judged are still there. */
static bool is_unchanged(int fd, const struct content *judged)
{
	struct content now;

	return soft_judge_read(fd, &now) == 0 && now.size == judged->size &&
	       memcmp(now.bytes, judged->bytes, (size_t)now.size) == 0;
}

/* Half a record is worse than the old one, and so is ours where we do not hold. Nor may anything of
   ours stay behind the old one: that would be nobody's record, and held for ever. */
static void put_back(int fd, const struct content *judged)
{
	if (sys_write_start(fd, judged->bytes, (size_t)judged->size) < 0 ||
	    sys_truncate(fd, judged->size) < 0)
		(void)soft_proof_disown(fd);
}

/* Writes our record over what was judged. */
static int overwrite(const struct filelock *lock, int fd, const struct content *judged)
{
	char record[MARKER_SIZE];
	int length = liveness_write_record(record, lock->options.two_line_marker);

	if (length < 0)
		return length;
	for (; length < judged->size && length < MARKER_SIZE; length++)
		record[length] = '\n';
	return sys_write_start(fd, record, (size_t)length);
}

/*
 * Where the flock may not tell, as through two mounts of one folder, takers take turns. Without
 * proof only markers of one PID namespace are judged dead, so the flock on that namespace's own
 * file is theirs alone, and the kernel gives it back when they die.
 */
static int take_turn(struct soft *s)
{
	int r;

	fork_hold_off();
	s->turn = sys_open("/proc/thread-self/ns/pid", O_RDONLY | O_CLOEXEC, 0);
	fork_allow();
	if (s->turn < 0) {
		s->turn = -1;
		return ATTEMPT_BUSY;
	}
	r = sys_flock(s->turn, LOCK_EX | LOCK_NB);
	if (r < 0)
		soft_judge_close(&s->turn);
	if (r == -EWOULDBLOCK)
		return REFUSED;
	return r < 0 ? ATTEMPT_BUSY : 0;
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
		return ATTEMPT_RACED;
	r = soft_publish_flock(lock->path, s->fd, &flocked);
	if (r < 0)
		return r == -EWOULDBLOCK ? REFUSED : r;
	if (!flocked && s->turn < 0)
		return ATTEMPT_BUSY;
	if (!is_unchanged(s->fd, judged))
		return ATTEMPT_RACED;
	r = check_still_named(lock);
	if (r != 0)
		return r;
	r = overwrite(lock, s->fd, judged);
	if (r == 0 && s->turn >= 0)
		r = sys_sync(s->fd); /* for the next one to read, through another mount */
	if (r == 0)
		r = check_still_named(lock);
	if (r != 0)
		put_back(s->fd, judged);
	return r;
}

static int take_over_at_once(struct filelock *lock, const struct content *judged)
{
	struct soft *s = soft_state(lock);
	int fd, r;

	fd = soft_judge_open(&s->fd, lock->path, O_RDWR);
	/* EWOULDBLOCK: somebody judges it just now, with a lease (open(2)) */
	if (fd == -ENOENT || fd == -ELOOP || fd == -EWOULDBLOCK)
		return ATTEMPT_RACED;
	if (fd == -EACCES || fd == -EPERM || fd == -EROFS)
		return ATTEMPT_BUSY;
	if (fd < 0)
		return fd;
	r = seize(lock, judged);
	s->taken = r == 0;
	if (r == 0)
		return 0;
	if (r == REFUSED)
		inotify_unsubscribe(&s->on_marker);
	soft_judge_close(&s->fd);
	return r;
}

static int take_over(struct filelock *lock, const struct content *judged)
{
	struct soft *s = soft_state(lock);
	int r;

	if (soft_judge_is_local(lock))
		return take_over_at_once(lock, judged);
	r = take_turn(s);
	if (r == 0)
		r = take_over_at_once(lock, judged);
	soft_judge_close(&s->turn);
	return r;
}

enum proof soft_judge_weigh(struct filelock *lock, const struct stat *st, bool flocked, int written)
{
	struct soft *s = soft_state(lock);

	if (written == 1)
		s->sighting = (struct sighting){ 0 };
	if (!flocked || !soft_judge_is_local(lock))
		return PROOF_NONE;
	if (written != 0)
		return PROOF_UNLOCKED;
	return is_old_news(s, st) ? PROOF_LEFT : PROOF_CLOSED;
}

/* 0: dead, and *ret is what was judged. */
static int judge(struct filelock *lock, const struct stat *st, bool flocked, struct content *ret)
{
	struct soft *s = soft_state(lock);
	int r, written = liveness_is_written(s->marker, lock->path);
	enum proof proof = soft_judge_weigh(lock, st, flocked, written);

	if (written == 1)
		return ATTEMPT_BUSY;
	r = soft_judge_read(s->marker, ret);
	if (r < 0)
		return r;
	if (is_dead(s, st, ret, proof))
		return 0;
	s->by_record = true;
	return ATTEMPT_BUSY;
}

/* 0: its holder was dead, and we hold the lock. */
static int judge_and_take(struct filelock *lock, const struct stat *st)
{
	struct soft *s = soft_state(lock);
	struct content judged;
	int r = sys_flock(s->marker, LOCK_SH | LOCK_NB);
	bool flocked = r == 0;
	unsigned refusals = s->refusals + 1;

	s->by_record = false;
	s->refusals = 0;
	if (r == -EWOULDBLOCK || r == -EACCES)
		return ATTEMPT_BUSY;
	if (r < 0 && !sys_is_unsupported(r) && r != -ENOLCK)
		return r;
	r = judge(lock, st, flocked, &judged);
	if (flocked)
		(void)sys_flock(s->marker, LOCK_UN);
	if (r != 0)
		return r;
	/* without it not even opened: its close would wake all waiters, and so ourselves */
	r = flocked || !soft_judge_is_local(lock) ? take_over(lock, &judged) : ATTEMPT_BUSY;
	if (r == REFUSED) {
		s->refusals = refusals;
		return refusals > MANY_REFUSALS ? ATTEMPT_BUSY : ATTEMPT_RACED;
	}
	if (r == ATTEMPT_BUSY && !s->warned) {
		s->warned = true;
		log_write(FILELOCK_LOG_WARNING,
		          "the holder of %s is dead, but its marker cannot be taken over",
		          lock->path);
	}
	return r;
}

int soft_judge_find(struct filelock *lock, struct stat *ret_st)
{
	struct soft *s = soft_state(lock);
	int r = soft_judge_look(lock, ret_st);

	if (r == -EISDIR) { /* others lock by making a folder: held, until it goes */
		soft_judge_drop(s);
		return ATTEMPT_BUSY;
	}
	if (r != 0)
		return r;
	if (s->marker >= 0 && !identity_equal(s->identity, identity_of(ret_st)))
		soft_judge_drop(s);
	s->identity = identity_of(ret_st);
	return s->marker < 0 ? open_marker(s, lock->path) : 0;
}

static int judge_what_is_there(struct filelock *lock)
{
	struct stat st;
	int r = soft_judge_find(lock, &st);

	if (r != 0)
		return r;
	r = judge_and_take(lock, &st);
	return r == ATTEMPT_BUSY ? expire(lock, &st) : r;
}

int soft_judge_try(struct filelock *lock)
{
	int r = judge_what_is_there(lock);

	/* of a descriptor: a network's way to say that the file was removed */
	if (r != -ENOENT && r != -ESTALE)
		return r;
	soft_judge_drop(soft_state(lock));
	return ATTEMPT_RACED;
}
