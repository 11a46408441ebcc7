/*
 * registry.h - what this process has: its handles, its held locks, its idle descriptors; and
 * what becomes of them at a fork.
 */
#ifndef FILELOCK_REGISTRY_H
#define FILELOCK_REGISTRY_H

#include "handle.h"

/* Another number in each forked child: what carries another one is the parent's. */
unsigned registry_generation(void);
/* How often this process has forked: a descriptor made before a fork may be open elsewhere. */
unsigned registry_forks(void);

/* All handles. Adding can fail for want of memory. */
int registry_add(struct filelock *lock);
void registry_remove(struct filelock *lock);
/* Makes it a handle of another kind: for all threads in one step. It keeps nothing. */
int registry_change_kind(struct filelock *lock, const struct kind *kind);

/*
 * Singletons. Finding and publishing one, and closing the last open of one, are each one step
 * for all threads.
 */
struct filelock *registry_open_singleton(struct filelock *candidate);
/* Takes back one open; true if it was the last, and the handle is no longer to be found. */
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

/*
 * Around opening a descriptor that a handle's kind is to close in a forked child (`forget`)
 * until it stands in the handle's state, around closing one, and around calls of SQLite: no fork
 * comes in between, but after two seconds. Not nested, not in `forget` itself; nothing may be
 * called there that could fork.
 */
void registry_hold_forks(void);
void registry_let_forks(void);

/* A descriptor that is not a lock's. A forked child closes it, or puts an idle one in the
   place of one that may be registered with an event loop. */
struct registry_fd {
	struct registry_fd *previous, *next;
	int fd; /* -1: none, and not in the list */
	bool keep_number;
};
/* 0, or why there is no handler for forks. */
int registry_prepare(void);
void registry_add_fd(struct registry_fd *entry, int fd, bool keep_number);
/* Closes it; idempotent. */
void registry_close_fd(struct registry_fd *entry);

#endif
