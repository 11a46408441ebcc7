/*
 * lease_judge.c - judging what stands at the path of a lease, and taking over what is over.
 *
 *   a lease      held, until its owner is proved dead, or nobody has refreshed it for its
 *                duration, by the clock of whoever waits
 *   exclusive, a record of protocol 1
 *                held, until its owner is proved dead
 *   all else     held
 *
 * The kernel proves life and death as for soft locks (soft_judge.c): a holder of ours keeps a
 * flock(2) on its marker, and everybody's keeps it open for writing.
 *
 * Taking over makes a new inode, since that is how Python's holders find their loss. The old marker
 * is renamed to Python's name for it, looked at once more, put back if it is another one or was
 * refreshed just then, and else removed before ours takes its place. Where the file system is
 * this kernel's own, those who take over take turns first, by a lock on the old marker's open file
 * description, and so does a holder that removes its own. So none of them moves anything but what
 * it has judged.
 */
#include "kinds/lease.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"
#include "fork.h"
#include "kinds/folder.h"

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* Whether nobody has refreshed the lease for its duration. */
static bool has_expired(struct filelock *lock, const struct stat *st)
{
	struct lease *l = lease_state(lock);
	int64_t now = sys.now();

	if (!identity_equal(l->sighting.identity, l->soft.identity) ||
	    !is_same_time(&l->sighting.modified, &st->st_mtim))
		l->sighting = (struct lease_sighting){ l->soft.identity, st->st_mtim, now };
	l->expires = schedule_later(l->sighting.since, lease_duration_ms(lock) * INT64_C(1000000));
	return now >= l->expires;
}

static bool is_busy(int error)
{
	return error == -EWOULDBLOCK || error == -EACCES;
}

int lease_judge_take_turn(struct filelock *lock, int fd)
{
	int r = soft_judge_is_local(lock) ? sys_lock_record(fd) : -ENOTSUP;

	if (r == 0)
		return 0;
	return is_busy(r) ? 1 : -1;
}

/* The turn on the judged marker: 0 also where there are none. */
static int wait_for_turn(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	struct stat st;
	int r = soft_judge_open(&s->turn, lock->path, O_RDWR);

	if (r == -ENOENT || r == -ELOOP || r == -EWOULDBLOCK)
		return ATTEMPT_RACED;
	if (r == -EACCES || r == -EPERM || r == -EROFS) /* nobody else's to move either */
		return 0;
	if (r < 0)
		return r;
	r = sys_fstat(s->turn, &st);
	if (r < 0)
		return r;
	if (st.st_dev != s->identity.dev || st.st_ino != s->identity.ino)
		return ATTEMPT_RACED;
	return lease_judge_take_turn(lock, s->turn) > 0 ? ATTEMPT_BUSY : 0;
}

static bool is_judged(const struct stat *now, const struct stat *judged)
{
	return now->st_dev == judged->st_dev && now->st_ino == judged->st_ino &&
	       is_same_time(&now->st_mtim, &judged->st_mtim);
}

/* Moved away, it turned out to be somebody's. What came to the path meanwhile stays there. */
static int put_back(const struct filelock *lock, const char *aside)
{
	int r = sys_link(aside, lock->path, 0);

	if (r < 0 && r != -EEXIST) {
		log_write(FILELOCK_LOG_ERROR, "cannot move %s back to %s: %s", aside, lock->path,
		          filelock_strerror(r));
		return r;
	}
	r = sys_unlink(aside);
	return r < 0 ? r : ATTEMPT_RACED;
}

static int replace(struct filelock *lock, const char *aside, const struct stat *judged)
{
	struct stat st;
	int r = sys_rename_at(AT_FDCWD, lock->path, aside);

	if (r < 0)
		return r;
	r = sys_lstat(aside, &st);
	if (r < 0 && r != -ENOENT) /* perhaps somebody's */
		(void)put_back(lock, aside);
	if (r < 0)
		return r;
	if (!is_judged(&st, judged))
		return put_back(lock, aside);
	r = sys_unlink(aside);
	if (r < 0)
		log_write(FILELOCK_LOG_ERROR, "cannot remove %s: %s", aside, filelock_strerror(r));
	return soft_publish_marker(lock);
}

/* In our turn: the path must name what was judged, unchanged, before it is touched. */
static int replace_judged(struct filelock *lock, const struct stat *judged)
{
	char token[FOLDER_TOKEN];
	struct stat now;
	char *aside;
	int r = sys_lstat(lock->path, &now);

	if (r == 0 && !is_judged(&now, judged))
		return ATTEMPT_RACED;
	if (r == 0)
		r = folder_random(token);
	if (r < 0)
		return r;
	aside = sys_format("%s.break.%ld.%s", lock->path, (long)getpid(), token);
	if (!aside)
		return -ENOMEM;
	r = replace(lock, aside, judged);
	free(aside);
	return r;
}

static int take_over(struct filelock *lock, const struct stat *judged)
{
	struct soft *s = soft_state(lock);
	int r = wait_for_turn(lock);

	if (r == 0)
		r = replace_judged(lock, judged);
	soft_judge_close(&s->turn);
	/* whoever takes it over, or judges it just now, may die or give up: nobody hears of that */
	if (r == ATTEMPT_BUSY || r == ATTEMPT_RACED)
		lease_state(lock)->expires = sys.now();
	if (r != -EACCES && r != -EPERM && r != -EROFS)
		return r;
	if (!s->warned)
		log_write(FILELOCK_LOG_WARNING,
		          "the lease at %s is over, but its marker cannot be replaced", lock->path);
	s->warned = true;
	return ATTEMPT_BUSY;
}

/* The kernel's answers about a marker, and its content. */
struct findings {
	bool flocked; /* we got its flock, for a moment */
	bool alive;   /* whoever made it has it open */
	enum proof proof;
	struct marker marker;
};

static int ask(struct filelock *lock, const struct stat *st, struct findings *ret)
{
	struct soft *s = soft_state(lock);
	struct content content;
	int written;
	int r = sys_flock(s->marker, LOCK_SH | LOCK_NB);

	ret->flocked = r == 0;
	ret->alive = is_busy(r);
	if (r < 0 && !ret->alive && !sys_is_unsupported(r) && r != -ENOLCK)
		return r;
	written = liveness_is_written(s->marker, lock->path);
	ret->alive = ret->alive || written == 1;
	r = soft_judge_read(s->marker, &content);
	if (ret->flocked)
		(void)sys_flock(s->marker, LOCK_UN);
	if (r < 0)
		return r;
	ret->proof = soft_judge_weigh(lock, st, ret->flocked, written);
	soft_record_parse(content.bytes, (size_t)content.size, &ret->marker);
	return 0;
}

static bool is_dead(const struct findings *findings)
{
	const struct marker *marker = &findings->marker;

	if (findings->alive || !soft_record_has_owner(marker))
		return false;
	/* what this process has lost, and let go of */
	if (findings->proof >= PROOF_CLOSED && liveness_is_ours(marker))
		return true;
	return liveness_is_over(marker, findings->proof);
}

static int judge(struct filelock *lock, const struct stat *st)
{
	struct lease *l = lease_state(lock);
	struct findings findings;
	bool is_lease;
	int r = ask(lock, st, &findings);

	l->expires = 0;
	if (r < 0)
		return r;
	is_lease = findings.marker.type == MARKER_LEASE;
	if (is_lease && findings.marker.duration != lease_duration_ms(lock) / 1000.0)
		return FILELOCK_ESETTINGS;
	l->soft.by_record = !findings.alive;
	/* in this order: the time is noted, whether it is needed or not */
	if ((is_lease && has_expired(lock, st)) || is_dead(&findings))
		return take_over(lock, st);
	return ATTEMPT_BUSY;
}

int lease_judge_try(struct filelock *lock)
{
	struct stat st;
	int r = soft_judge_find(lock, &st);

	if (r == 0)
		r = judge(lock, &st);
	/* of a descriptor: a network's way to say that the file was removed */
	if (r != -ENOENT && r != -ESTALE)
		return r;
	soft_judge_drop(soft_state(lock));
	return ATTEMPT_RACED;
}
