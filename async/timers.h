/*
 * timers.h - a binary heap of points in time: one timer of the base serves a whole context.
 *
 * Room is reserved when an alarm's owner is made, so that setting one cannot fail.
 */
#ifndef EVFILELOCK_TIMERS_H
#define EVFILELOCK_TIMERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct alarm {
	int64_t at;
	uint32_t slot; /* in the heap, from 1; 0: not set */
	bool is_deadline; /* of a request; else a queue's next step */
	bool precise;     /* was set for soon, when a millisecond matters */
};

struct alarms {
	struct alarm **heap; /* [0] is not used */
	uint32_t count;
	uint32_t reserved; /* owners there are */
	uint32_t size;
};

/* Makes room for one owner more. 0, or -1 out of memory. */
int alarms_reserve(struct alarms *alarms);
void alarms_unreserve(struct alarms *alarms);
void alarms_free(struct alarms *alarms);

void alarms_set(struct alarms *alarms, struct alarm *alarm, int64_t at, int64_t now);
/* Idempotent. */
void alarms_unset(struct alarms *alarms, struct alarm *alarm);

/* The earliest; NULL: none. */
static inline struct alarm *alarms_first(const struct alarms *alarms)
{
	return alarms->count ? alarms->heap[1] : NULL;
}

#endif
