/*
 * helpers.h - threads that wait in flock(2), so that the caller need not: the kernel's own queue is
 * fair, wakes one at a time, and hears of every kind of release.
 *
 * A wait is on an open file description of its own. Its owner submits it, is notified, and takes
 * the descriptor with the lock on it; or cancels it, at any time, without waiting. A grant that is
 * not taken within 5 ms is given back, since its owner may be busy for long.
 *
 * A wait that is cancelled while it is blocked becomes an orphan. The next wait for the same file
 * and mode adopts it, place in the queue and all; after 100 ms it is aborted. It never keeps a lock:
 * granted, it is unlocked at once.
 */
#ifndef FILELOCK_HELPERS_H
#define FILELOCK_HELPERS_H

#include "handle.h"

#define HELPERS_DEFAULT_MAX 4

/* Milliseconds. Tests change them, before the first wait. */
struct helpers_times {
	unsigned patience; /* with an owner that does not take its grant */
	unsigned orphan;   /* until one that nobody adopts is aborted */
	unsigned idle;     /* until a helper ends */
};
extern struct helpers_times helpers_times;

struct blocked;

/* What wakes the owner. It has to live until it was rung, whatever becomes of the wait. */
struct helpers_bell {
	void (*ring)(struct helpers_bell *bell);
};

/* From another thread, at most once for each wait, and never after helpers_take or helpers_cancel
   have returned. It must neither block nor call any of these functions. The bell that it returns is
   rung at once, perhaps after the owner has taken the grant; NULL: none. */
typedef struct helpers_bell *helpers_notify(void *arg);

/*
 * Waits until the lock is granted on fd, which is the wait's if this succeeds: nobody else may
 * have that open file description. -EAGAIN: no helper is free, none can be made, or max is 0.
 */
int helpers_submit(int fd, struct identity identity, enum filelock_mode mode,
                   helpers_notify *notify, void *arg, struct blocked **ret_wait);
/* Takes an orphan over: true if there was one. */
bool helpers_adopt(struct identity identity, enum filelock_mode mode, helpers_notify *notify,
                   void *arg, struct blocked **ret_wait);
/*
 * 0: ret_fd has the lock, and is the caller's. -EINPROGRESS: not yet. Else the wait has no
 * descriptor any more: -EAGAIN, it was given back, or its helper is not ready yet;
 * FILELOCK_EFORKED; or what flock(2) said. The wait is gone, unless it goes on.
 */
int helpers_take(struct blocked *wait, int *ret_fd);
/* The wait is gone for the caller. is_dead: no path names the file any more. */
void helpers_cancel(struct blocked *wait, bool is_dead);
/* No path names that file any more: its orphans are aborted. */
void helpers_forget(struct identity identity);
/* The descriptor of a wait, which stays the wait's; -1: it has none. */
int helpers_fd(struct blocked *wait);

/* Whether there may be any. */
bool helpers_are_allowed(void);
/* Those that there are, busy or idle. The most: filelock_set_max_helpers. */
unsigned helpers_thread_count(void);

/* Around a fork. A child has no helpers, and none of their descriptors. */
void helpers_before_fork(void);
void helpers_after_fork(bool in_child);

#endif
