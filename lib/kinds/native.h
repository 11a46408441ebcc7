/*
 * native.h - the state of a native lock, which native.c, the kind, native_file.c and native_wait.c
 * share.
 */
#ifndef FILELOCK_NATIVE_H
#define FILELOCK_NATIVE_H

#include "handle.h"
#include "helpers.h"
#include "inotify.h"

struct native {
	int fd; /* of the hold or of the waiter; -1: none */
	bool regular;
	bool probed; /* flock(2) is known to work here */
	bool alone;  /* it has to be found out on the lock file itself */
	bool made;   /* the lock file was, for that */
	int suspect; /* an error, if the path named another file and ours was not removed */
	unsigned char races; /* in a row that were not known to be any */
	bool asked;  /* whether others have record locks on the file */
	int refused; /* why the lock file was opened for reading only; 0: it was not */
	bool warm;       /* fd is kept for the next acquisition */
	bool registered; /* among those that wait: `post`, if there is one, else fd */
	int post;        /* for that, where fd is the caller's; -1: none */
	bool placed;     /* whether the file system is this machine's own is known ... */
	bool local;      /* ... and it is */
	bool fuse;       /* `device` is one of FUSE ... */
	dev_t device;    /* ... as was asked; 0: it was not */
	unsigned forks; /* fork_count() when it was opened */
	bool seen; /* the path named the file, whose status has been `changed` since then ... */
	struct timespec changed; /* ... unless it has another time of change now */
	struct timespec ctime; /* when it was last looked at */
	struct timespec modified; /* by the last look at the path */
	struct identity identity;
	struct subscription subscription;
	struct blocked *wait; /* in the kernel's queue, with the descriptor; NULL: none */
	struct notice notice; /* of it */
	bool refuses;         /* the file cannot be waited for so */
};

static inline bool native_is_borrowed(const struct filelock *lock)
{
	return lock->borrowed >= 0;
}

static inline struct native *native_state(const struct filelock *lock)
{
	return kind_state(lock);
}

static inline bool native_is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/* native_file.c */

/* What is asked before a lock file is made: 0, ATTEMPT_UNSUPPORTED where flock(2) does not work,
   ATTEMPT_RACED, or an error. */
int native_probe(struct filelock *lock);
/* 0: the state has the descriptor. ATTEMPT_BUSY, ATTEMPT_RACED, or an error. */
int native_open_file(struct filelock *lock);
/* An enum attempt, or an error. */
int native_lock(struct filelock *lock, enum filelock_mode mode);
/* An enum path_names, or an error. */
int native_check_path(const struct filelock *lock);
/* Whether record locks of the file are this kernel's own affair. */
bool native_is_on_local(const struct filelock *lock);
bool native_is_on_nfs(const struct filelock *lock);
/* Whether a call on our own descriptor, or on the path, says that the file was removed. */
bool native_is_gone(int error);
/* Says that the file changed under us, but not for ever: what is no race goes on. */
int native_call_it_a_race(struct filelock *lock, int error, const char *what, const char *why);
/* Closes the descriptor, if it is ours, with whatever lock is on it. */
void native_drop(struct filelock *lock);

/* native_wait.c */

int native_watch(struct filelock *lock, struct filelock_watcher *watcher);
void native_unwatch(struct filelock *lock);
int native_block(struct filelock *lock, enum filelock_mode mode, struct filelock_watcher *watcher);
/* What has become of the wait in the kernel's queue; ATTEMPT_ABSENT: nothing, and an attempt is to be
   made as ever. */
int native_take_wait(struct filelock *lock, enum filelock_mode mode);
/* is_dead: no path names its file any more. */
void native_cancel_wait(struct native *n, bool is_dead);
/* Ends whatever waits, and drops the descriptor. */
void native_abandon(struct filelock *lock);
/* Raises the event that waiters watch for where no close of ours will: on a descriptor that stays
   open, here or in a forked child. */
int native_notify(const struct filelock *lock);
/* Unlocked: keeps the descriptor, and wakes those that wait. False: its close is to wake them. */
bool native_stay_open(struct filelock *lock);

#endif
