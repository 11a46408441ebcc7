#include "timers.h"

#include <stdlib.h>

#define SOON 5000000 /* ns */

int alarms_reserve(struct alarms *alarms)
{
	uint32_t size = alarms->size ? alarms->size * 2 : 16;
	struct alarm **heap;

	if (alarms->reserved + 1 >= alarms->size) {
		heap = realloc(alarms->heap, size * sizeof(*heap));
		if (!heap)
			return -1;
		alarms->heap = heap;
		alarms->size = size;
	}
	alarms->reserved++;
	return 0;
}

void alarms_unreserve(struct alarms *alarms)
{
	alarms->reserved--;
}

void alarms_free(struct alarms *alarms)
{
	free(alarms->heap);
	*alarms = (struct alarms){ 0 };
}

static void place(struct alarms *alarms, struct alarm *alarm, uint32_t slot)
{
	alarms->heap[slot] = alarm;
	alarm->slot = slot;
}

/* Moves the alarm up or down from `slot`, which is free, to where it belongs. */
static void settle(struct alarms *alarms, struct alarm *alarm, uint32_t slot)
{
	while (slot > 1 && alarms->heap[slot / 2]->at > alarm->at) {
		place(alarms, alarms->heap[slot / 2], slot);
		slot /= 2;
	}
	for (;;) {
		uint32_t child = slot * 2;

		if (child > alarms->count)
			break;
		if (child < alarms->count &&
		    alarms->heap[child + 1]->at < alarms->heap[child]->at)
			child++;
		if (alarms->heap[child]->at >= alarm->at)
			break;
		place(alarms, alarms->heap[child], slot);
		slot = child;
	}
	place(alarms, alarm, slot);
}

void alarms_set(struct alarms *alarms, struct alarm *alarm, int64_t at, int64_t now)
{
	alarm->at = at;
	alarm->precise = at - now <= SOON;
	settle(alarms, alarm, alarm->slot ? alarm->slot : ++alarms->count);
}

void alarms_unset(struct alarms *alarms, struct alarm *alarm)
{
	uint32_t slot = alarm->slot;
	struct alarm *last;

	if (slot == 0)
		return;
	alarm->slot = 0;
	last = alarms->heap[alarms->count--];
	if (last != alarm)
		settle(alarms, last, slot);
}
