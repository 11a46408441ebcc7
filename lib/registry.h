/*
 * registry.h - the handles of this process, its singletons, its held locks.
 */
#ifndef FILELOCK_REGISTRY_H
#define FILELOCK_REGISTRY_H

#include "handle.h"

/* All handles. Adding may give -ENOMEM. */
int registry_add(struct filelock *lock);
void registry_remove(struct filelock *lock);
/* Makes it a handle of another kind, in one step for all threads. The handle keeps nothing. */
int registry_change_kind(struct filelock *lock, const struct kind *kind);

/*
 * Singletons. Finding and publishing one, and closing the last open of one, are each one step
 * for all threads.
 */
struct filelock *registry_open_singleton(struct filelock *candidate);
/* Takes back one open; true if it was the last, and nobody can find the handle any more. */
bool registry_close(struct filelock *lock);

/* Held locks, so that a thread does not wait for itself for ever. */
void registry_add_held(struct filelock *lock, struct identity identity);
void registry_remove_held(struct filelock *lock);
/* The hold goes to another handle, as if this thread had taken it. */
void registry_hand_over_held(struct filelock *from, struct filelock *to);
/* Whether this thread took the lock that the handle holds. */
bool registry_holds_here(const struct filelock *lock);
/* Whether this thread holds a lock on that file through another handle. */
bool registry_holds_elsewhere(const struct filelock *lock, struct identity identity);

/* Around a fork: in the child every handle forgets its descriptors. */
void registry_before_fork(void);
void registry_after_fork(bool in_child);

#endif
