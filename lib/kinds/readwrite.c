/*
 * readwrite.c - many readers or one writer, by the locks of an SQLite database.
 *
 *   UNLOCKED ── SHARED                                   a reader
 *   UNLOCKED ── SHARED ── RESERVED (── PENDING) ── EXCLUSIVE   a writer
 *
 * A refused reader keeps nothing. A writer that is refused RESERVED keeps nothing either: another
 * writer comes first, and a SHARED lock would keep that one out. A writer that is refused
 * EXCLUSIVE keeps RESERVED and, by SQLite, PENDING: no new reader gets in, in any process, and the
 * writer gets in when the last reader has left. BEGIN EXCLUSIVE gives up all of it each time it
 * fails, and so can wait for ever.
 *
 * SQLite grants SHARED within one process, while another connection has it, without looking for a
 * PENDING of another process. Readers of one busy server would keep the writers of all others out.
 * Whoever comes while others are in therefore first asks whether a writer waits.
 *
 * Wake-ups. A release closes no descriptor, so it raises no event. Waiters watch the inode for
 * IN_ATTRIB, and whoever makes way for others sets the file's times. (They also watch for
 * IN_CLOSE_…: Python closes its connection, and so does the death of a process.)
 *   - Every exit from RESERVED or above wakes: readers and writers may wait for it.
 *   - A reader's release wakes if a writer has RESERVED. It asks after it has unlocked: it would
 *     miss a writer that came between asking and unlocking.
 *   - Where nobody is registered as waiting, nobody is woken: readwrite_waiters.c.
 *   - A refused attempt never wakes, whatever it had taken on its way: two waiters would wake each
 *     other for ever. A writer at RESERVED that was kept out by such a short SHARED comes again
 *     within milliseconds by itself (retry_delay).
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#include "kinds/readwrite_bytes.h"
#include "kinds/readwrite_database.h"
#include "kinds/readwrite_server.h"
#include "kinds/readwrite_waiters.h"
#include "kinds/holder.h"
#include "kinds/refresh.h"
#include "base/sys.h"
#include "inotify.h"

#ifdef FILELOCK_SQLITE

#define WATCHED (IN_ATTRIB | IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | IN_MOVE_SELF)
#define EXTENSION ".db"
#define MILLISECOND INT64_C(1000000)

struct readwrite {
	struct database *database; /* may go when at rest */
	bool lent;                 /* to an acquisition or a hold: not at rest */
	unsigned refusals;         /* of EXCLUSIVE, in a row */
	bool vanished;             /* the file was gone when it was to be watched */
	bool doubted;              /* a new connection could only read: perhaps a race */
	struct identity identity;  /* of the database met last */
	struct subscription subscription;
	struct filelock_guarded_fd post; /* the folder, to register; -1: none */
	bool registered;                 /* there, among those that wait */
	bool many_names;                 /* of the database met last */
};

static struct readwrite *state_of(const struct filelock *lock)
{
	return kind_state(lock);
}

static int readwrite_open(struct filelock *lock)
{
	const char *name = strrchr(lock->path, '/') + 1;
	size_t length = strlen(name);
	const char *wrong = NULL;

	state_of(lock)->post.fd = -1;
	if (lock->options.lifetime_ms)
		return FILELOCK_ENOLIFETIME;
	if (lock->options.unlink_on_release)
		wrong = "unlink_on_release: a database is never removed";
	else if (lock->options.two_line_marker || lock->options.keep_on_exit)
		wrong = "two_line_marker and keep_on_exit are options of markers";
	else if (!lock->options.any_extension &&
	         (length <= strlen(EXTENSION) ||
	          strcmp(name + length - strlen(EXTENSION), EXTENSION) != 0))
		wrong = "the name of a read/write lock's database must end in .db; for "
		        "another name set the option any_extension";
	if (!wrong)
		return 0;
	return failure_set_detail(&lock->failure, -EINVAL, "cannot open", sys_strdup(wrong));
}

static void readwrite_unwatch(struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);

	inotify_unsubscribe(&rw->subscription);
	filelock_unguard_fd(&rw->post);
	rw->registered = false;
}

/* Wakes the waiters by the file's times. Only a hint: we cannot set those of a file that we may
   only read. */
static void wake_others(const struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);

	if (rw->lent && !rw->many_names &&
	    !readwrite_database_has_waiters(rw->database, lock->path))
		return;
	(void)sys.utimensat(AT_FDCWD, lock->path, NULL, AT_SYMLINK_NOFOLLOW);
}

static void close_database(struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);

	readwrite_unwatch(lock);
	readwrite_database_close(&rw->database);
	rw->lent = false;
}

/* Gives every level back, of which there is one; by closing the connection if there is no other
   way. */
static void unlock(struct filelock *lock)
{
	int r = readwrite_database_unlock(state_of(lock)->database);

	if (r == 0)
		return;
	log_write(FILELOCK_LOG_WARNING, "closing %s, which cannot be unlocked: %s", lock->path,
	          filelock_strerror(r));
	close_database(lock);
}

/* The same, and wakes those for whom that makes way. */
static void make_way(struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);
	bool was_writer;

	if (!rw->lent || rw->database->level == DATABASE_UNLOCKED)
		return;
	was_writer = rw->database->level >= DATABASE_RESERVED;
	unlock(lock);
	if (was_writer || !rw->lent || readwrite_database_is_reserved(rw->database))
		wake_others(lock);
}

static void rest(struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);

	if (!rw->lent)
		return;
	rw->lent = false;
	rw->refusals = 0;
	readwrite_database_rest(&rw->database);
}

static void readwrite_abandon(struct filelock *lock)
{
	readwrite_unwatch(lock);
	make_way(lock);
	rest(lock);
}

static int read_only_error(const struct filelock *lock)
{
	struct statfs fs;

	return sys.statfs(lock->path, &fs) == 0 && (fs.f_flags & ST_RDONLY) ? -EROFS : -EACCES;
}

/* A connection to lock by; *ret_fresh: opened now. */
static int borrow(struct filelock *lock, enum filelock_mode mode, bool *ret_fresh)
{
	struct readwrite *rw = state_of(lock);
	int r;

	*ret_fresh = false;
	if (!rw->lent) {
		r = readwrite_database_get(lock, &rw->database, ret_fresh);
		if (r != 0)
			return r;
		rw->lent = true;
		rw->refusals = 0;
		rw->identity = rw->database->identity;
	}
	if (mode == FILELOCK_SHARED || !rw->database->read_only) {
		rw->doubted = false;
		return 0;
	}
	close_database(lock);
	/* it may have become writable since; and where SQLite finds no file to open for writing,
	   it then opens for reading one that has come meanwhile */
	if (!rw->doubted) {
		rw->doubted = *ret_fresh;
		return ATTEMPT_RACED;
	}
	rw->doubted = false;
	return handle_fail(lock, read_only_error(lock), "cannot write-lock the read-only database");
}

/* 0 if the path names our database, ATTEMPT_RACED if not, or an error. */
static int check_path(const struct filelock *lock, struct stat *ret)
{
	struct readwrite *rw = state_of(lock);
	int r = sys_lstat(lock->path, ret);

	if (r == -ENOENT || r == -ENOTDIR)
		return ATTEMPT_RACED;
	if (r < 0)
		return r;
	rw->many_names = ret->st_nlink > 1;
	return identity_equal(rw->identity, (struct identity){ ret->st_dev, ret->st_ino })
	               ? 0
	               : ATTEMPT_RACED;
}

/* Checks whether the result of an attempt, held or refused, is of the path's file. */
static int confirm(struct filelock *lock, int r)
{
	struct stat st;
	int checked = check_path(lock, &st);

	if (checked == ATTEMPT_RACED)
		/* its close wakes those who wait for the file that we had */
		close_database(lock);
	if (checked != 0)
		return checked < 0 ? handle_fail(lock, checked, "cannot check the database")
		                   : checked;
	if (r != ATTEMPT_HELD)
		return r;
	return readwrite_database_examine(lock, state_of(lock)->database, st.st_size);
}

static int lock_shared(struct filelock *lock)
{
	struct database *db = state_of(lock)->database;

	if (readwrite_database_has_company(db) && readwrite_database_is_reserved(db))
		return ATTEMPT_BUSY;
	return readwrite_database_lock(lock, db, DATABASE_SHARED);
}

static int lock_exclusive(struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);
	struct database *db = rw->database;
	int r = 0;

	if (db->level == DATABASE_UNLOCKED) {
		r = readwrite_database_lock(lock, db, DATABASE_SHARED);
		/* before waiting for the readers of what we shall refuse */
		if (r == 0 && !db->was_empty)
			r = confirm(lock, r);
	}
	if (r == 0 && db->level == DATABASE_SHARED) {
		r = readwrite_database_lock(lock, db, DATABASE_RESERVED);
		if (r == ATTEMPT_BUSY)
			unlock(lock);
	}
	if (r != 0)
		return r;
	r = readwrite_database_lock(lock, db, DATABASE_EXCLUSIVE);
	if (r == ATTEMPT_BUSY)
		rw->refusals++;
	return r;
}

static int readwrite_try(struct filelock *lock, enum filelock_mode mode)
{
	bool fresh;
	int r = borrow(lock, mode, &fresh);

	if (r != 0)
		return r;
	r = mode == FILELOCK_SHARED ? lock_shared(lock) : lock_exclusive(lock);
	/* a waiter's file may have been replaced, and its successor be free */
	if (r == ATTEMPT_HELD || (r == ATTEMPT_BUSY && !fresh))
		r = confirm(lock, r);
	if (r < 0) {
		make_way(lock);
		close_database(lock);
	}
	return r;
}

/* Whoever has RESERVED is let in by peers too that raise no event when they leave. */
static int64_t readwrite_retry_delay(const struct filelock *lock)
{
	const struct readwrite *rw = state_of(lock);

	if (!rw->lent || rw->database->level < DATABASE_RESERVED)
		return 0;
	/* the second attempt came at once */
	return rw->refusals <= 2 ? MILLISECOND
	                         : rw->refusals == 3 ? 2 * MILLISECOND : 5 * MILLISECOND;
}

/* Whether it is new. */
static bool register_waiter(struct readwrite *rw)
{
	if (rw->registered || rw->post.fd < 0)
		return false;
	rw->registered = readwrite_waiters_register(rw->post.fd, rw->identity) == 0;
	return rw->registered;
}

static int readwrite_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct readwrite *rw = state_of(lock);
	int r;

	if (inotify_is_subscribed(&rw->subscription))
		return register_waiter(rw);
	/* by path, since SQLite does not lend its descriptor: an attempt that finds the file held
	   looks whether the path still names it */
	r = inotify_subscribe(watcher, &rw->subscription, lock, lock->path,
	                      WATCHED | IN_DONT_FOLLOW, NULL);
	/* it was removed since the attempt, and the next one finds another; but only once in a row,
	   or attempts would follow each other without a sleep */
	if (r == -ENOENT && !rw->vanished) {
		rw->vanished = true;
		return 1;
	}
	rw->vanished = false;
	if (r < 0)
		return r;
	if (rw->post.fd < 0)
		(void)readwrite_waiters_open(lock->path, &rw->post);
	(void)register_waiter(rw);
	return 1;
}

static int readwrite_release(struct filelock *lock)
{
	make_way(lock);
	rest(lock);
	return 0;
}

static void readwrite_hand_over(struct filelock *from, struct filelock *to)
{
	struct readwrite *f = state_of(from);
	struct readwrite *t = state_of(to);

	readwrite_database_exchange(&f->database, &t->database);
	f->lent = false;
	t->lent = true;
	t->refusals = 0;
	t->identity = f->identity;
}

static int64_t readwrite_held(struct filelock *keeper, int64_t now)
{
	return refresh_held(keeper, now, REFRESH_FILE);
}

static bool is_on_nfs(const struct filelock *lock)
{
	struct statfs fs;

	return sys.statfs(lock->path, &fs) == 0 && sys_is_nfs(&fs);
}

static int readwrite_verify(const struct filelock *lock)
{
	struct stat st;
	int r = check_path(lock, &st);

	if (r == 0 && is_on_nfs(lock) && readwrite_server_forgot(state_of(lock)->identity, lock->mode))
		return FILELOCK_ELOST;
	if (r == 0 && refresh_is_due(&st.st_mtim, REFRESH_FILE))
		refresh_times(lock);
	return r == ATTEMPT_RACED ? FILELOCK_ELOST : r;
}

/* A holder has a lock on bytes of the SHARED range; a writer that waits has so too, and
   RESERVED, which an exclusive holder's lock spans as well. */
static int find_holder(int fd, struct filelock_owner *ret_owner)
{
	struct holder_records shared = { SHARED_FIRST, SHARED_LAST, 0 };
	const struct holder_records reserved = { RESERVED_BYTE, RESERVED_BYTE, 0 };
	struct filelock_owner writer = FILELOCK_OWNER_INIT;
	struct filelock_owner reader = FILELOCK_OWNER_INIT;
	int r = holder_of_records(fd, &shared, ret_owner);

	if (r < 0 || ret_owner->mode == FILELOCK_EXCLUSIVE)
		return r;
	if (holder_of_records(fd, &reserved, &writer) < 0 || writer.pid != ret_owner->pid)
		return 0;
	shared.except = writer.pid;
	if (holder_of_records(fd, &shared, &reader) == 0)
		*ret_owner = reader;
	return 0;
}

static int readwrite_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	return holder_at_path(lock->path, find_holder, ret_owner);
}

static int readwrite_fd(const struct filelock *lock)
{
	(void)lock;
	return -ENOTSUP;
}

static struct identity readwrite_identity(const struct filelock *lock)
{
	return state_of(lock)->identity;
}

static void readwrite_forget(struct filelock *lock)
{
	struct readwrite *rw = state_of(lock);

	inotify_forget(&rw->subscription);
	rw->registered = false;
	rw->lent = false;
	readwrite_database_forget(&rw->database);
}

const struct kind kind_readwrite = {
	.id = FILELOCK_READWRITE,
	.name = "readwrite",
	.state_size = sizeof(struct readwrite),
	.nests_in_thread = true,
	.open = readwrite_open,
	.close = close_database,
	.try = readwrite_try,
	.retry_delay = readwrite_retry_delay,
	.watch = readwrite_watch,
	.unwatch = readwrite_unwatch,
	.abandon = readwrite_abandon,
	.drop = close_database,
	.release = readwrite_release,
	.hand_over = readwrite_hand_over,
	.held = readwrite_held,
	.held_after = refresh_after,
	.verify = readwrite_verify,
	.holder = readwrite_holder,
	.fd = readwrite_fd,
	.identity = readwrite_identity,
	.forget = readwrite_forget,
};

#else /* without SQLite the kind is known, and refused */

static int refuse(struct filelock *lock)
{
	return failure_set_detail(&lock->failure, -ENOSYS, "cannot open",
	                          sys_strdup("this library was built without SQLite"));
}

const struct kind kind_readwrite = {
	.id = FILELOCK_READWRITE,
	.name = "readwrite",
	.open = refuse,
};

#endif
