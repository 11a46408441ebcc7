/*
 * timers.c - a binary heap of points in time.
 */
#include "timers.h"

#include <stdlib.h>

#define SOON 5000000 /* ns */

int timers_reserve(struct timers *timers)
{
	uint32_t size = timers->size ? timers->size * 2 : 16;
	struct timer **heap;

	if (timers->reserved + 1 >= timers->size) {
		heap = realloc(timers->heap, size * sizeof(*heap));
		if (!heap)
			return -1;
		timers->heap = heap;
		timers->size = size;
	}
	timers->reserved++;
	return 0;
}

void timers_unreserve(struct timers *timers)
{
	timers->reserved--;
}

void timers_free(struct timers *timers)
{
	free(timers->heap);
	*timers = (struct timers){ 0 };
}

static void place(struct timers *timers, struct timer *timer, uint32_t slot)
{
	timers->heap[slot] = timer;
	timer->slot = slot;
}

/* Moves the timer up or down from `slot`, which is free, to where it belongs. */
static void settle(struct timers *timers, struct timer *timer, uint32_t slot)
{
	while (slot > 1 && timers->heap[slot / 2]->at > timer->at) {
		place(timers, timers->heap[slot / 2], slot);
		slot /= 2;
	}
	for (;;) {
		uint32_t child = slot * 2;

		if (child > timers->count)
			break;
		if (child < timers->count &&
		    timers->heap[child + 1]->at < timers->heap[child]->at)
			child++;
		if (timers->heap[child]->at >= timer->at)
			break;
		place(timers, timers->heap[child], slot);
		slot = child;
	}
	place(timers, timer, slot);
}

void timers_set(struct timers *timers, struct timer *timer, int64_t at, int64_t now)
{
	timers->loud += timer->slot == 0 && !timer->quiet;
	timer->at = at;
	timer->precise = at - now <= SOON;
	settle(timers, timer, timer->slot ? timer->slot : ++timers->count);
}

void timers_unset(struct timers *timers, struct timer *timer)
{
	uint32_t slot = timer->slot;
	struct timer *last;

	if (slot == 0)
		return;
	timer->slot = 0;
	timers->loud -= !timer->quiet;
	last = timers->heap[timers->count--];
	if (last != timer)
		settle(timers, last, slot);
}
