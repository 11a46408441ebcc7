/*
 * timers.h - a binary heap of points in time: one timer of the base serves a whole context.
 *
 * Setting a timer cannot fail: room for it is reserved when its owner is made.
 */
#ifndef EVFILELOCK_TIMERS_H
#define EVFILELOCK_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum timer_owner {
	TIMER_OF_QUEUE,   /* its next step */
	TIMER_OF_REQUEST, /* its deadline */
	TIMER_OF_GRANT,   /* the same request's, when it holds: to keep the hold alive */
	TIMER_OF_WATCH,   /* the next look at a hold */
	TIMER_OF_WARM,    /* when a queue closes what it keeps open */
};

struct timer {
	int64_t at;
	uint32_t slot; /* in the heap, from 1; 0: not set */
	unsigned char owner; /* enum timer_owner */
	bool precise;     /* was set for soon, when a millisecond matters */
	bool quiet;       /* the loop need not go on for it */
};

struct timers {
	struct timer **heap; /* [0] is not used */
	uint32_t count;
	uint32_t loud;     /* of them, that are not quiet */
	uint32_t reserved; /* owners there are */
	uint32_t size;
};

/* Makes room for one owner more. 0, or -1 out of memory. */
int timers_reserve(struct timers *timers);
void timers_unreserve(struct timers *timers);
void timers_free(struct timers *timers);

void timers_set(struct timers *timers, struct timer *timer, int64_t at, int64_t now);
/* Idempotent. */
void timers_unset(struct timers *timers, struct timer *timer);

/* The earliest; NULL: none. */
static inline struct timer *timers_first(const struct timers *timers)
{
	return timers->count ? timers->heap[1] : NULL;
}

#endif
