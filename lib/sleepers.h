/*
 * sleepers.h - descriptors by which a thread sleeps until a lock may have come free.
 */
#ifndef FILELOCK_SLEEPERS_H
#define FILELOCK_SLEEPERS_H

#include <pthread.h>

#include "driver_private.h"

struct sleeper {
	struct list link; /* in the pool */
	struct filelock_watcher *watcher;
	struct filelock_guarded_fd wake; /* -1: none */
	pthread_t user;                  /* while busy */
	bool busy;
};

/* Lends one to this thread; NULL: the system gives none. */
struct sleeper *sleepers_get(void);
void sleepers_put(struct sleeper *sleeper);

void sleepers_before_fork(void);
void sleepers_after_fork(bool in_child);

#endif
