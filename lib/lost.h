/*
 * lost.h - the end of a hold, for whoever watches whether it is lost.
 */
#ifndef FILELOCK_LOST_H
#define FILELOCK_LOST_H

#include "handle.h"

/* The handle's hold is over, or is another's. Idempotent. */
void lost_end(struct filelock *lock);
/* For process.c. */
void lost_before_fork(void);
void lost_after_fork(void);

#endif
