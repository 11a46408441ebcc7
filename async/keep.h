/*
 * keep.h - grants that are kept alive.
 */
#ifndef EVFILELOCK_KEEP_H
#define EVFILELOCK_KEEP_H

#include "context.h"

/* The request was granted now: its deadline's timer serves its hold from now on, if that needs it. */
void keep_begin(struct request *grant);
/* In a turn: that timer's time has come. */
void keep_take_timer(struct request *grant);
/* The hold is over, or the context goes. */
void keep_end(struct request *grant);

#endif
