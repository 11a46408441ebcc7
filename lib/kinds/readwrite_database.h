/*
 * readwrite_database.h - an SQLite database, used for its locks only: opened, examined and locked
 * by the methods of SQLite's VFS, without any SQL.
 */
#ifndef FILELOCK_READWRITE_DATABASE_H
#define FILELOCK_READWRITE_DATABASE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/list.h"
#include "handle.h"

struct sqlite3;
struct sqlite3_file;
struct database_file;

/* SQLite's lock levels, www.sqlite.org/lockingv3.html; each is taken after the one before it. */
enum database_level {
	DATABASE_UNLOCKED,
	DATABASE_SHARED,
	DATABASE_RESERVED, /* the next writer, and from its first refusal on PENDING as well */
	DATABASE_EXCLUSIVE
};

/* One connection is one owner of locks. It rests, or is lent to an acquisition and its hold. */
struct database {
	struct sqlite3 *connection;
	struct sqlite3_file *handle;
	struct database_file *file; /* what all connections of this process to it share */
	struct identity identity;
	struct filelock_guarded_fd folder; /* to ask who waits; -1: not opened */
	unsigned char releases; /* up to 2: whether the folder is worth opening */
	enum database_level level;
	bool read_only;
	bool was_empty; /* when it was examined */
	struct database **owner;         /* at rest: where its handle looks for it */
	struct list link; /* at rest; or in a forked child, inherited */
};

/*
 * Makes *slot a connection to the file at lock's path: the one that rests there, or a new one with
 * *ret_fresh true. Makes a missing file. Returns 0, ATTEMPT_RACED, or an error, noted in lock's
 * failure.
 */
int readwrite_database_get(struct filelock *lock, struct database **slot, bool *ret_fresh);
/* Lays the lent and unlocked connection to rest: it may be closed, and *slot be emptied, at any
   time until the next readwrite_database_get or readwrite_database_close. */
void readwrite_database_rest(struct database **slot);
/* A lent connection goes to another handle, and what rests there, if anything, comes back. */
void readwrite_database_exchange(struct database **lent, struct database **resting);
/* Closes it, with whatever lock it has. NULL is fine. */
void readwrite_database_close(struct database **slot);

/* Takes the level without blocking: 0, ATTEMPT_BUSY or an error, noted. A refused EXCLUSIVE keeps
   PENDING, where it got that, so that no new reader gets in. */
int readwrite_database_lock(struct filelock *lock, struct database *db, enum database_level level);
/* Gives every level back. After an error the state is unknown: close the connection. */
int readwrite_database_unlock(struct database *db);
/* Whether somebody, here or in another process, is at RESERVED or above. */
bool readwrite_database_is_reserved(struct database *db);
/* Whether other connections of this process have a level of the file, or take one. db is
   unlocked. */
bool readwrite_database_has_company(const struct database *db);

/* Whether somebody may be waiting for the database at this path. */
bool readwrite_database_has_waiters(struct database *db, const char *path);

/* Whether the database may serve as a lock. db is locked; size is from lstat(2). */
int readwrite_database_examine(struct filelock *lock, struct database *db, off_t size);

/* Called when no thread enters SQLite any more. In a child no database can be used if a thread was
   inside SQLite at the fork. */
void readwrite_database_before_fork(void);
void readwrite_database_after_fork(bool in_child);
/* In a forked child: sets the connection aside, never to be used nor closed. */
void readwrite_database_forget(struct database **slot);

#endif
