/*
 * stats.h - what an operator sees of a context: counters, the trace hook, slow waits.
 *
 * Each thing that happens is said once, by one of the calls below, which counts it and tells the
 * hook, if there is one.
 */
#ifndef EVFILELOCK_STATS_H
#define EVFILELOCK_STATS_H

#include "context.h"

/* Tells the hook. `time`: when it happened; 0: now. */
void stats_tell(const struct request *request, enum evfilelock_trace_what what,
                int result, int64_t time);

static inline void stats_requested(struct request *request)
{
	struct evfilelock *ev = request->ev;

	request->id = ++ev->stats.requested;
	if (ev->trace)
		stats_tell(request, EVFILELOCK_TRACE_REQUESTED, 0, request->since);
}

/* Requests that have no answer yet. */
static inline uint64_t stats_waiting(const struct evfilelock *ev)
{
	const struct evfilelock_stats *stats = &ev->stats;

	return stats->requested - stats->granted - stats->timed_out - stats->cancelled -
	       stats->failed;
}

/* In a queue of now so many requests. */
static inline void stats_queued(struct evfilelock *ev, uint32_t length)
{
	if (length > ev->stats.longest_queue_ever)
		ev->stats.longest_queue_ever = length;
}

/* The queue's first request is looked at since there was an event, or its time came. */
static inline void stats_woken(struct queue *queue, bool by_event)
{
	struct evfilelock *ev = queue->ev;

	if (by_event)
		ev->stats.wakes_by_event++;
	else
		ev->stats.wakes_by_poll++;
	if (ev->trace)
		stats_tell(queue->requests.first,
		           by_event ? EVFILELOCK_TRACE_WOKEN : EVFILELOCK_TRACE_POLLED, 0, 0);
}

/* result: of filelock_step. */
static inline void stats_attempted(const struct request *request, int result)
{
	struct evfilelock *ev = request->ev;

	if (result == FILELOCK_STEP_EARLY)
		return;
	if (request->queue->passed) {
		ev->stats.handed_over++;
		return;
	}
	ev->stats.attempts++;
	if (result == FILELOCK_STEP_HELD && filelock_missed_wakeup(request->lock))
		ev->stats.missed_wakeups++;
	if (ev->trace)
		stats_tell(request, EVFILELOCK_TRACE_ATTEMPTED, result, 0);
}

/* Before its callback. */
void stats_answered(const struct request *request, int result);

static inline void stats_held(struct evfilelock *ev)
{
	ev->stats.held++;
}

/* Of a grant whose context lives. time: when, on another thread; 0: now. */
static inline void stats_released(const struct request *grant, int64_t time)
{
	struct evfilelock *ev = grant->ev;

	ev->stats.held--;
	if (ev->trace)
		stats_tell(grant, EVFILELOCK_TRACE_RELEASED, 0, time);
}

/* When to look whether the first request waits too long; FILELOCK_NEVER: it needs no look. */
int64_t slow_due(const struct queue *queue);
/* If so, says it, and returns true. */
bool slow_say(struct queue *queue);

#endif
