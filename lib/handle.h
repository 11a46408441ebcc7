/*
 * handle.h - the members of a handle, for the files that work on them: filelock.c, hold.c,
 * acquire.c, registry.c and the kinds.
 */
#ifndef FILELOCK_HANDLE_H
#define FILELOCK_HANDLE_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>

#include "base/error.h"
#include "base/hash.h"
#include "driver_private.h"
#include "kind.h"
#include "schedule.h"

static inline bool identity_equal(struct identity a, struct identity b)
{
	return a.dev == b.dev && a.ino == b.ino;
}

/* States of an acquisition; only acquisition_move changes them. */
enum acquisition_state {
	ACQUISITION_NONE,       /* none is under way */
	ACQUISITION_BEGUN,      /* no step was made yet */
	ACQUISITION_YIELDING,   /* it lets others go first, and attempts then */
	ACQUISITION_CONTENDING, /* it attempts, when that is due or something wakes it */
	ACQUISITION_BLOCKED,    /* its attempt is pending: the kind goes on, and wakes it */
	ACQUISITION_HANDED_OVER /* the hold was moved to it, and the next step says so */
};

struct acquisition {
	const struct filelock_driver *driver; /* NULL: it only polls */
	void *arg;                            /* the driver's */
	struct schedule schedule;
	int64_t attempted; /* when it last was */
	int64_t raced_at;  /* the first race of those in a row */
	int64_t block_after; /* the kind could not wait in the system's queue: not asked before this */
	unsigned char state;          /* enum acquisition_state */
	unsigned char mode;           /* enum filelock_mode */
	unsigned char races;          /* without a sleep between */
	unsigned char races_in_a_row; /* with nothing else between */
	unsigned char lost_wakes;     /* events after which the lock was still held */
	unsigned char dead_waits;     /* in the system's queue, for a file that was replaced */
	signed char is_local; /* its file system; below zero: not asked yet */
	bool blocking;        /* the thread sleeps meanwhile, so it can wait for itself */
	bool contended;       /* an attempt found it held */
	atomic_bool woken;  /* something happened since the last step */
	bool hastened;        /* the next step attempts, whatever the schedule says */
	bool last;            /* the last attempt was made at the deadline, or after it */
	bool told;            /* woken since the last poll */
	bool asks;            /* the system's queue before it attempts once more */
	bool queued;          /* it was in that queue */
	bool wake_untried;    /* it was woken, and no attempt has followed yet */
	bool slept;           /* the last attempt found it held, and a sleep was to follow */
	bool yields;          /* it lets others go first, before each attempt */
	bool counted;         /* by its watcher, among those that wait */
	bool poll_only;       /* it keeps nothing between attempts */
};

/* A lock that is held, in the registry's table of held locks. */
struct held {
	struct hash_node node;
	const struct kind *kind;
	struct identity identity;
	unsigned long thread; /* that acquired it: registry.c's number */
	bool listed;
};

struct filelock_lost;
struct heartbeat;

struct filelock {
	const struct kind *kind;
	const struct kind *asked; /* the kind that it was opened as */
	char *path;   /* absolute; for a descriptor's handle "fd N" */
	size_t hash;  /* of the path and the kind that was asked for */
	int borrowed; /* the caller's descriptor, or -1 */
	bool inherited; /* a forked child's copy of a handle that held or waited: it is dead */
	unsigned opens;      /* singleton: filelock_open calls not yet closed */
	atomic_uint references; /* opens as one, and drivers' */
	bool closed;         /* by its last open; a driver still has a reference */
	bool comes_again;    /* the hold was asked for soon after the last one */
	bool keeps;          /* its listener wants the descriptor to stay open after the release */
	bool missed_wakeup;  /* the hold was found by a poll that no event had told of */
	unsigned depth;      /* 0: not held */
	enum filelock_mode mode;
	struct filelock_options options;
	struct acquisition acquisition;
	struct fairness fairness;
	const struct filelock_listener *listener; /* NULL: none */
	_Atomic(struct filelock_lost *) lost; /* whoever watches the hold; NULL: nobody */
	void *listener_arg;
	struct heartbeat *heartbeat; /* by the library's thread; NULL: it was never asked for */
	struct held held;
	int64_t kept_at; /* by kinds that are kept alive: when the hold was last, or its number */
	struct failure failure;
	struct list handles;        /* registry */
	struct hash_node singleton; /* registry */
	atomic_bool interrupted; /* and not yet told */
	atomic_int wake_fd;      /* writing 8 bytes wakes the synchronous wait; -1: none */
	void *state; /* of the kind: what follows, unless it became one that needs more */
	max_align_t room[];
};

static inline void *kind_state(const struct filelock *lock)
{
	return lock->state;
}

/* What of the lock's files the identity of a hold is of. The handle's own. */
static inline const char *handle_place(const struct filelock *lock)
{
	return lock->kind->place ? lock->kind->place(lock) : lock->path;
}

/* Notes a failure of this handle and returns its code: of a system call, or with a code of ours. */
static inline int handle_fail(struct filelock *lock, int code, const char *what)
{
	return failure_set(&lock->failure, code, what);
}

/* The same where we use the system's code for a refusal of our own. */
static inline int handle_refuse(struct filelock *lock, int code, const char *what)
{
	return failure_set_own(&lock->failure, code, what);
}

static inline bool acquisition_is_pending(const struct acquisition *a)
{
	return a->state != ACQUISITION_NONE;
}

static inline bool acquisition_may_move(unsigned from, enum acquisition_state to)
{
	switch (to) {
	case ACQUISITION_NONE:
		return from != ACQUISITION_NONE;
	case ACQUISITION_BEGUN:
		return from == ACQUISITION_NONE;
	case ACQUISITION_YIELDING:
		return from == ACQUISITION_BEGUN || from == ACQUISITION_CONTENDING;
	case ACQUISITION_BLOCKED:
		return from == ACQUISITION_CONTENDING;
	case ACQUISITION_CONTENDING: /* or its hold was handed on, to another */
		return from != ACQUISITION_NONE && from != ACQUISITION_CONTENDING;
	case ACQUISITION_HANDED_OVER:
		return from != ACQUISITION_NONE && from != ACQUISITION_HANDED_OVER;
	}
	return false;
}

static inline void acquisition_move(struct acquisition *a, enum acquisition_state to)
{
	assert(acquisition_may_move(a->state, to));
	a->state = (unsigned char)to;
}

/* An event has woken the acquisition: it attempts soon. */
void handle_wake(struct filelock *lock);

/* filelock_clone of a handle that may be used meanwhile: its kind may change then. */
int filelock_clone_as(const struct filelock *lock, const struct kind *kind,
                      struct filelock **ret_lock);

/* Makes the missing folders of the path, unless the options say not to: then -ENOENT. */
int handle_make_parents(const struct filelock *lock);

#endif
