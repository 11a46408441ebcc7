/*
 * heartbeat.h - one thread that keeps alive the holds of all handles that ask for it
 * (heartbeat_thread), for holders without a loop.
 */
#ifndef FILELOCK_HEARTBEAT_H
#define FILELOCK_HEARTBEAT_H

#include "driver_private.h"

/* Of the files above: filelock_clone, filelock_close. */
struct heartbeat_calls {
	int (*clone)(const struct filelock *lock, struct filelock **ret_clone);
	void (*close)(struct filelock *clone);
};

/* What the handle's next hold will need: made before it, so that the hold cannot fail for that. 0,
   also for a handle that does not ask for it, or holds already; or a negative error. */
int heartbeat_prepare(struct filelock *lock, const struct heartbeat_calls *calls);
/* Its hold begins: from here on the thread has it, unless the hold needs nothing. */
void heartbeat_begin(struct filelock *lock);
/* The hold is over, or is another's. Idempotent, and does not wait for a call under way. */
void heartbeat_end(struct filelock *lock);
/* The handle goes. */
void heartbeat_free(struct filelock *lock);

/* How many there are: one or none. */
unsigned heartbeat_threads(void);

/* Around a fork. A child has no thread, and none of the parent's holds. */
void heartbeat_before_fork(void);
void heartbeat_after_fork(bool in_child);

#endif
