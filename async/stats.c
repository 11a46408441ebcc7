#include "stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MILLISECOND INT64_C(1000000)
#define LARGEST_STATS 4096                  /* of any version: more is a size never set */
#define HOLDER_EVERY (100 * MILLISECOND)    /* asking who holds a lock is dear */

void stats_tell(const struct request *request, enum evfilelock_trace_what what,
                int result, int64_t time)
{
	struct evfilelock *ev = request->ev;
	struct evfilelock_trace_event event = {
		.size = sizeof(event),
		.what = what,
		.result = result,
		.path = filelock_path(request->lock),
		.request = request->id,
		.time = time ? time : filelock_now(),
		.queue_length = request->queue ? request->queue->length : 0,
		.mode = (enum filelock_mode)request->mode,
		.nested = what == EVFILELOCK_TRACE_GRANTED && !request->granted,
	};

	if (!filelock_watcher_is_inherited(ev->watcher))
		ev->trace(&event, ev->trace_arg);
}

/* The number of binary digits of a wait in whole microseconds. */
static unsigned bucket_of(int64_t wait)
{
	uint64_t us = wait > 0 ? (uint64_t)wait / 1000 : 0;
	unsigned digits = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return digits < EVFILELOCK_WAIT_BUCKETS ? digits : EVFILELOCK_WAIT_BUCKETS - 1;
}

void stats_answered(const struct request *request, int result)
{
	struct evfilelock *ev = request->ev;
	enum evfilelock_trace_what what = EVFILELOCK_TRACE_FAILED;

	switch (result) {
	case 0:
		ev->stats.granted++;
		ev->stats.waits[bucket_of(ev->now - request->since)]++;
		what = EVFILELOCK_TRACE_GRANTED;
		break;
	case -ETIMEDOUT:
		ev->stats.timed_out++;
		what = EVFILELOCK_TRACE_TIMED_OUT;
		break;
	case -ECANCELED:
		ev->stats.cancelled++;
		what = EVFILELOCK_TRACE_CANCELLED;
		break;
	default:
		ev->stats.failed++;
	}
	if (ev->trace)
		stats_tell(request, what, result, 0);
}

/* What is not counted as it happens. */
static void measure(const struct evfilelock *ev, struct evfilelock_stats *stats)
{
	stats->size = sizeof(*stats);
	stats->waiting = stats_waiting(ev);
	for (size_t i = 0; i < ev->queues.size; i++)
		for (const struct hash_node *node = ev->queues.buckets[i]; node;
		     node = node->next) {
			const struct queue *queue = hash_entry(node, struct queue, node);

			stats->queues += queue->length > 0;
			if (queue->length > stats->longest_queue)
				stats->longest_queue = queue->length;
		}
}

FILELOCK_API int evfilelock_get_stats(struct evfilelock *ev, struct evfilelock_stats *ret_stats)
{
	struct evfilelock_stats stats;
	size_t size = ret_stats ? ret_stats->size : 0;
	size_t known = size < sizeof(stats) ? size : sizeof(stats);

	if (!ev || size < sizeof(size_t) || size > LARGEST_STATS)
		return -EINVAL;
	if (filelock_watcher_is_inherited(ev->watcher))
		return FILELOCK_EFORKED;
	hub_enter(ev->hub);
	hub_settle(ev); /* what other threads have released */
	stats = ev->stats;
	measure(ev, &stats);
	stats.size = size;
	memcpy(ret_stats, &stats, known);
	memset((char *)ret_stats + known, 0, size - known); /* of a newer header */
	return 0;
}

FILELOCK_API int evfilelock_set_trace(struct evfilelock *ev, evfilelock_trace_cb cb, void *arg)
{
	if (!ev)
		return -EINVAL;
	if (filelock_watcher_is_inherited(ev->watcher))
		return FILELOCK_EFORKED;
	ev->trace = cb;
	ev->trace_arg = arg;
	return 0;
}

/* Of the requests of a queue the first is told for all. The next one, which has waited as long, is
   worth a line of its own only if it waits on. */
int64_t slow_due(const struct queue *queue)
{
	const struct evfilelock *ev = queue->ev;
	const struct request *first = queue->requests.first;
	int64_t since;

	if (ev->slow_wait == 0 || first->slow)
		return FILELOCK_NEVER;
	since = queue->slow_at > first->since ? queue->slow_at : first->since;
	return since + ev->slow_wait;
}

static void describe_holder(const struct queue *queue, char *text, size_t size)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int r = filelock_holder(queue->requests.first->lock, &owner);

	if (r < 0)
		(void)snprintf(text, size, "%s", filelock_strerror(r));
	else
		(void)snprintf(text, size, "held by pid %ld on %s", (long)owner.pid,
		               owner.host[0] ? owner.host : "an unknown host");
}

bool slow_say(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	struct request *first = queue->requests.first;
	char holder[320] = "holder not looked for: too many slow waits";

	if (slow_due(queue) > ev->now)
		return false;
	first->slow = true;
	queue->slow_at = ev->now;
	ev->stats.slow++;
	if (!filelock_logs(FILELOCK_LOG_WARNING))
		return true;
	if (ev->pool) {
		(void)snprintf(holder, sizeof(holder), "holder not looked for: it may take long");
	} else if (ev->now >= ev->next_holder) {
		describe_holder(queue, holder, sizeof(holder));
		ev->next_holder = filelock_now() + HOLDER_EVERY;
	}
	filelock_log(FILELOCK_LOG_WARNING,
	             "slow wait: %" PRId64 " ms for %.200s, %" PRIu32 " more behind; %s",
	             (ev->now - first->since) / MILLISECOND, filelock_path(first->lock),
	             queue->length - 1, holder);
	return true;
}
