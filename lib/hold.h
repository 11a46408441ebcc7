/*
 * hold.h - a hold, from its grant to its end.
 */
#ifndef FILELOCK_HOLD_H
#define FILELOCK_HOLD_H

#include "handle.h"

/* Gives back every level, or hands the hold over to whom the listener has for it. */
int hold_release(struct filelock *lock);

#endif
