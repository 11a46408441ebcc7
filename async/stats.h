/*
 * stats.h - counters, the trace hook and slow waits of a context.
 *
 * Each thing that happens is reported once, by one of the calls below, which counts it and calls
 * the hook, if there is one. Nothing is decided by a counter.
 */
#ifndef EVFILELOCK_STATS_H
#define EVFILELOCK_STATS_H

#include "count.h"
#include "probes.h"
#include "queue.h"

/* As in struct evfilelock_stats. */
struct counts {
	struct count held, longest_queue_ever, requested, granted, timed_out, cancelled, failed;
	struct count handed_over, attempts, wakes_by_event, wakes_by_poll, missed_wakeups, slow;
	struct count waits[EVFILELOCK_WAIT_BUCKETS];
};

struct stats {
	struct counts counts;
	evfilelock_trace_cb trace; /* NULL: none */
	void *trace_arg;
	int64_t slow_wait;   /* ns; 0: never */
	int64_t next_holder; /* when a holder may be looked for again */
};

/* Tells the hook. `time`: when it happened; 0: now. */
void stats_tell(const struct stats *stats, const struct request *request,
                enum evfilelock_trace_what what, int result, int64_t time);

static inline void stats_requested(struct stats *stats, struct request *request)
{
	request->id = count_up(&stats->counts.requested);
	PROBE_REQUEST(filelock_path(request->lock), request->id, request->mode);
	if (stats->trace)
		stats_tell(stats, request, EVFILELOCK_TRACE_REQUESTED, 0, request->since);
}

/* In a queue of now so many requests. */
static inline void stats_queued(struct stats *stats, const struct queue *queue)
{
	if (queue->length > count_get(&stats->counts.longest_queue_ever))
		count_set(&stats->counts.longest_queue_ever, queue->length);
}

/* The queue's first request is looked at since there was an event, or its time came. */
static inline void stats_woken(struct stats *stats, const struct queue *queue, bool by_event)
{
	if (by_event)
		count_up(&stats->counts.wakes_by_event);
	else
		count_up(&stats->counts.wakes_by_poll);
	if (stats->trace)
		stats_tell(stats, queue_first(queue),
		           by_event ? EVFILELOCK_TRACE_WOKEN : EVFILELOCK_TRACE_POLLED, 0, 0);
}

/* result: of filelock_step. */
static inline void stats_attempted(struct stats *stats, const struct request *request, int result)
{
	if (result == FILELOCK_STEP_EARLY || result == FILELOCK_STEP_PENDING)
		return;
	if (request->queue->handed_over) {
		count_up(&stats->counts.handed_over);
		return;
	}
	count_up(&stats->counts.attempts);
	if (result == FILELOCK_STEP_HELD && filelock_missed_wakeup(request->lock))
		count_up(&stats->counts.missed_wakeups);
	if (stats->trace)
		stats_tell(stats, request, EVFILELOCK_TRACE_ATTEMPTED, result, 0);
}

/* Before its callback. */
void stats_answered(struct stats *stats, const struct request *request, int result, int64_t now);

static inline void stats_held(struct stats *stats)
{
	count_up(&stats->counts.held);
}

/* Called for a grant whose context lives. time: of the release on another thread; 0: now. */
static inline void stats_released(struct stats *stats, const struct request *grant, int64_t time)
{
	count_down(&stats->counts.held);
	PROBE_RELEASE(filelock_path(grant->lock), grant->id);
	if (stats->trace)
		stats_tell(stats, grant, EVFILELOCK_TRACE_RELEASED, 0, time);
}

/* All of them, as of now, on any thread. ended: holds among `held` that have ended since. */
void stats_measure(const struct stats *stats, const struct queues *queues, unsigned ended,
                   struct evfilelock_stats *ret_stats);

/* When to look whether the first request waits too long; FILELOCK_NEVER: it needs no look. */
int64_t stats_slow_due(const struct stats *stats, const struct queue *queue);
/* If so, says it, and returns true. ask: its holder may be looked for here. */
bool stats_say_slow(struct stats *stats, struct queue *queue, int64_t now, bool ask);

#endif
