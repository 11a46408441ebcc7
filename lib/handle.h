/*
 * handle.h - the inside of a handle, for the floors that work on it: filelock.c, acquire.c,
 * sync.c, registry.c and the kinds.
 */
#ifndef FILELOCK_HANDLE_H
#define FILELOCK_HANDLE_H

#include <stdatomic.h>
#include <stddef.h>

#include "base/error.h"
#include "base/hash.h"
#include "driver_private.h"
#include "kind.h"

/* A file, as the kernel tells files apart; all zero: none. */
struct identity {
	dev_t dev;
	ino_t ino;
};

static inline bool identity_equal(struct identity a, struct identity b)
{
	return a.dev == b.dev && a.ino == b.ino;
}

/* An acquisition under way: acquire.c. */
struct acquisition {
	const struct filelock_driver *driver; /* NULL once it is over */
	void *arg;                            /* the driver's */
	int64_t deadline; /* FILELOCK_NEVER: none */
	int64_t next;     /* no attempt before this, unless stirred */
	int64_t back_off; /* the last wait of a series; 0: no series is on */
	unsigned char quick; /* attempts left to make at once, after a stir */
	unsigned char races; /* in a row, without a sleep between */
	unsigned char lost;  /* wakes that found it held */
	unsigned char mode;  /* enum filelock_mode */
	bool pending;   /* between filelock_begin and held, failed or given up */
	bool handed_over; /* the hold has been handed over to it, and the next step says so */
	bool started;   /* the first step was made */
	bool blocking;  /* the thread sleeps meanwhile, so it can wait for itself */
	bool contended; /* an attempt found it held */
	atomic_bool stirred; /* something happened since the last step */
	bool hastened;  /* the next step attempts, whatever `next` says */
	bool told;      /* stirred since the last poll */
	bool slept;     /* the last attempt found it held, and was to be followed by a sleep */
	bool woken;     /* the attempt to come is the first after a stir */
	bool polite;    /* lets others go first */
	bool counted;   /* by its watcher, among those that wait */
	bool frugal;    /* keeps nothing between attempts */
	signed char is_local; /* its file system; below zero: not asked yet */
};

/* A lock that is held, in the registry's table of held locks. */
struct held {
	struct hash_node node;
	const struct kind *kind;
	struct identity identity;
	unsigned long thread; /* that acquired it: registry.c's number */
	bool listed;
};

/* What politeness goes by: acquire.c, "Fairness". */
struct fairness {
	int64_t released_at; /* when the lock was last released; 0: never */
	int64_t yielded_at;  /* when others were last let go first */
	bool contended;      /* the hold, or the last one, had to be waited for */
};

struct filelock {
	const struct kind *kind;
	const struct kind *asked; /* the kind that it was opened as */
	char *path;   /* absolute; for a descriptor's handle "fd N" */
	int borrowed; /* the caller's descriptor, or -1 */
	unsigned generation; /* the registry's, when opened: another one is a parent's */
	unsigned opens;      /* singleton: filelock_open calls not yet closed */
	atomic_uint references; /* opens as one, and drivers' */
	bool closed;         /* by its last open; a driver still has a reference */
	bool rescued;        /* the hold was found by a poll that no event had told of */
	unsigned depth;      /* 0: not held */
	enum filelock_mode mode;
	struct filelock_options options;
	struct acquisition acquisition;
	struct fairness fairness;
	const struct filelock_listener *listener; /* NULL: none */
	void *listener_arg;
	struct held held;
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

/* Notes a failure of this handle and returns its code. */
static inline int handle_fail(struct filelock *lock, int code, const char *what)
{
	return failure_set(&lock->failure, code, what);
}

/* What the acquisition waits for stirred: acquire.c. */
void acquire_wake(struct filelock *lock);

#endif
