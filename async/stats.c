/*
 * stats.c - counters, the trace hook, slow waits.
 */
#include "stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define MILLISECOND INT64_C(1000000)
#define HOLDER_EVERY (100 * MILLISECOND) /* asking who holds a lock is dear */

void stats_tell(const struct stats *stats, const struct request *request,
                enum evfilelock_trace_what what, int result, int64_t time)
{
	struct evfilelock_trace_event event = {
		.size = sizeof(event),
		.what = what,
		.result = result,
		.path = filelock_path(request->lock),
		.request = request->id,
		.time = time ? time : filelock_now(),
		.queue_length = request->queue ? request->queue->length : 0,
		.mode = (enum filelock_mode)request->mode,
		.nested = what == EVFILELOCK_TRACE_GRANTED && request->state != REQUEST_GRANTED,
	};

	stats->trace(&event, stats->trace_arg);
}

/* The number of binary digits of a wait in whole microseconds. */
static unsigned bucket_of(int64_t wait)
{
	uint64_t us = wait > 0 ? (uint64_t)wait / 1000 : 0;
	unsigned digits = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return digits < EVFILELOCK_WAIT_BUCKETS ? digits : EVFILELOCK_WAIT_BUCKETS - 1;
}

void stats_answered(struct stats *stats, const struct request *request, int result, int64_t now)
{
	enum evfilelock_trace_what what = EVFILELOCK_TRACE_FAILED;

	switch (result) {
	case 0:
		count_up(&stats->counts.granted);
		PROBE_GRANT(filelock_path(request->lock), request->id, (now - request->since) / 1000);
		count_up(&stats->counts.waits[bucket_of(now - request->since)]);
		what = EVFILELOCK_TRACE_GRANTED;
		break;
	case -ETIMEDOUT:
		count_up(&stats->counts.timed_out);
		what = EVFILELOCK_TRACE_TIMED_OUT;
		break;
	case -ECANCELED:
		count_up(&stats->counts.cancelled);
		what = EVFILELOCK_TRACE_CANCELLED;
		break;
	default:
		count_up(&stats->counts.failed);
	}
	if (stats->trace)
		stats_tell(stats, request, what, result, 0);
}

/* Answers before requests: a request that is not seen has no answer that is. */
void stats_measure(const struct stats *stats, const struct queues *queues, unsigned ended,
                   struct evfilelock_stats *ret_stats)
{
	const struct counts *counts = &stats->counts;
	uint64_t held = count_get(&counts->held);

	*ret_stats = (struct evfilelock_stats){
		.held = held > ended ? held - ended : 0,
		.queues = count_get(&queues->busy),
		.longest_queue = count_get(&queues->longest),
		.longest_queue_ever = count_get(&counts->longest_queue_ever),
		.granted = count_get(&counts->granted),
		.timed_out = count_get(&counts->timed_out),
		.cancelled = count_get(&counts->cancelled),
		.failed = count_get(&counts->failed),
		.handed_over = count_get(&counts->handed_over),
		.attempts = count_get(&counts->attempts),
		.wakes_by_event = count_get(&counts->wakes_by_event),
		.wakes_by_poll = count_get(&counts->wakes_by_poll),
		.missed_wakeups = count_get(&counts->missed_wakeups),
		.slow = count_get(&counts->slow),
	};
	for (size_t i = 0; i < EVFILELOCK_WAIT_BUCKETS; i++)
		ret_stats->waits[i] = count_get(&counts->waits[i]);
	ret_stats->requested = count_get(&counts->requested);
	ret_stats->waiting = ret_stats->requested - ret_stats->granted - ret_stats->timed_out -
	                     ret_stats->cancelled - ret_stats->failed;
}

/* Of the requests of a queue the first is told for all. The next one, which has waited as long, is
   worth a line of its own only if it waits on. */
int64_t stats_slow_due(const struct stats *stats, const struct queue *queue)
{
	const struct request *first = queue_first(queue);
	int64_t since;

	if (stats->slow_wait == 0 || first->slow)
		return FILELOCK_NEVER;
	since = queue->slow_at > first->since ? queue->slow_at : first->since;
	return since + stats->slow_wait;
}

static void describe_holder(const struct queue *queue, char *text, size_t size)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int r = filelock_holder(queue_first(queue)->lock, &owner);

	if (r < 0)
		(void)snprintf(text, size, "%s", filelock_strerror(r));
	else
		(void)snprintf(text, size, "held by pid %ld on %s", (long)owner.pid,
		               owner.host[0] ? owner.host : "an unknown host");
}

bool stats_say_slow(struct stats *stats, struct queue *queue, int64_t now, bool ask)
{
	struct request *first = queue_first(queue);
	char holder[320] = "holder not looked for: too many slow waits";

	if (stats_slow_due(stats, queue) > now)
		return false;
	first->slow = true;
	queue->slow_at = now;
	count_up(&stats->counts.slow);
	if (!filelock_logs(FILELOCK_LOG_WARNING))
		return true;
	if (!ask) {
		(void)snprintf(holder, sizeof(holder), "holder not looked for: it may take long");
	} else if (now >= stats->next_holder) {
		describe_holder(queue, holder, sizeof(holder));
		stats->next_holder = filelock_now() + HOLDER_EVERY;
	}
	filelock_log(FILELOCK_LOG_WARNING,
	             "slow wait: %" PRId64 " ms for %.200s, %" PRIu32 " more behind; %s",
	             (now - first->since) / MILLISECOND, filelock_path(first->lock),
	             queue->length - 1, holder);
	return true;
}
