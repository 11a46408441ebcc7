/*
 * sync.h - the synchronous driver.
 */
#ifndef FILELOCK_SYNC_H
#define FILELOCK_SYNC_H

#include <stdbool.h>

/* Around a fork: the pool of sleepers. */
void wait_before_fork(void);
void wait_after_fork(bool in_child);

#endif
