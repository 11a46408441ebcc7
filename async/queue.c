/*
 * queue.c - requests for one lock in one context, the holds that came of them, and the queues that
 * have something to do.
 *
 * While the queue's own grants keep its first request out, that one makes no attempt: it sleeps
 * until the last of them ends, here or on another thread (mailbox.c), and has neither descriptor nor
 * watch. Not with the option lifetime_ms: it waits for the lock as anybody's.
 */
#include <stdlib.h>

#include "stats.h"
#include "workers.h"

void requests_append(struct request_list *list, struct request *request)
{
	request->previous = list->last;
	request->next = NULL;
	if (list->last)
		list->last->next = request;
	else
		list->first = request;
	list->last = request;
}

void requests_remove(struct request_list *list, struct request *request)
{
	if (request->previous)
		request->previous->next = request->next;
	else
		list->first = request->next;
	if (request->next)
		request->next->previous = request->previous;
	else
		list->last = request->previous;
	request->previous = request->next = NULL;
}

/* A handle of its lock. NULL: it is being served, empty, and on its way out. */
static const struct filelock *lock_of(const struct queue *queue)
{
	if (queue->requests.first)
		return queue->requests.first->lock;
	return queue->grants.first ? queue->grants.first->lock : queue->orphan;
}

static struct queue *queue_find(const struct evfilelock *ev, const struct filelock *lock,
                                size_t hash)
{
	struct hash_node *node = hash_first(&ev->queues, hash);

	for (; node; node = hash_next(node)) {
		struct queue *queue = hash_entry(node, struct queue, node);
		const struct filelock *any = lock_of(queue);

		if (any && filelock_compare(any, lock) == 0)
			return queue;
	}
	return NULL;
}

static struct queue *queue_new(struct evfilelock *ev, size_t hash)
{
	struct queue *queue;

	if (hash_reserve(&ev->queues, calloc, free) < 0)
		return NULL;
	queue = calloc(1, sizeof(*queue));
	if (!queue)
		return NULL;
	if (alarms_reserve(&ev->alarms) < 0) {
		free(queue);
		return NULL;
	}
	queue->ev = ev;
	queue->refused_at = INT64_MIN;
	queue->slow_at = INT64_MIN;
	queue->rested = ev->pass - 1;
	hash_insert(&ev->queues, &queue->node, hash);
	return queue;
}

struct queue *queue_of(struct evfilelock *ev, struct request *request)
{
	size_t hash = filelock_hash(request->lock);
	struct queue *queue = queue_find(ev, request->lock, hash);

	return queue ? queue : queue_new(ev, hash);
}

void queue_append(struct queue *queue, struct request *request)
{
	bool first = !queue->requests.first;

	request->queue = queue;
	requests_append(&queue->requests, request);
	stats_queued(queue->ev, ++queue->length);
	if (first)
		queue_make_ready(queue);
}

static void unready(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	if (!queue->ready)
		return;
	queue->ready = false;
	if (queue->previous_ready)
		queue->previous_ready->next_ready = queue->next_ready;
	else
		ev->first_ready = queue->next_ready;
	if (queue->next_ready)
		queue->next_ready->previous_ready = queue->previous_ready;
	else
		ev->last_ready = queue->previous_ready;
}

static void wake(struct queue *queue)
{
	queue->ev->sleeping -= queue->asleep;
	queue->asleep = false;
}

void queue_make_ready(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	wake(queue);
	if (queue->ready)
		return;
	queue->ready = true;
	queue->next_ready = NULL;
	queue->previous_ready = ev->last_ready;
	if (ev->last_ready)
		ev->last_ready->next_ready = queue;
	else
		ev->first_ready = queue;
	ev->last_ready = queue;
}

struct queue *queue_take_ready(struct evfilelock *ev)
{
	struct queue *queue = ev->first_ready;

	/* what has come to rest in this pass stands behind all that has not */
	if (!queue || queue->rested == ev->pass)
		return NULL;
	unready(queue);
	wake(queue); /* it may have been made ready first, and then fallen asleep */
	return queue;
}

void queue_leave(struct request *request)
{
	struct queue *queue = request->queue;

	workers_forget(request);
	if (queue->requests.first == request) {
		queue->passed = request->next && filelock_is_held(request->next->lock);
		keepers_remove(queue);
		/* the next one steps from the start */
		alarms_unset(&queue->ev->alarms, &queue->poll);
		if (!queue->serving)
			queue_make_ready(queue);
	}
	requests_remove(&queue->requests, request);
	queue->length--;
	request->queue = NULL;
	queue_free_if_empty(queue);
}

void queue_free_if_empty(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	if (queue->requests.first || queue->serving)
		return;
	unready(queue);
	wake(queue);
	alarms_unset(&ev->alarms, &queue->poll);
	if (queue->grants.first || queue->orphan)
		return;
	alarms_unreserve(&ev->alarms);
	hash_remove(&ev->queues, &queue->node);
	free(queue);
}

void queue_grant(struct queue *queue, struct request *request)
{
	if (!queue->passed) {
		queue->taken_at = queue->ev->now;
		queue->passes = 0;
	}
	queue->passed = false;
	workers_forget(request); /* it may have been passed a hold meanwhile */
	keepers_remove(queue);
	requests_remove(&queue->requests, request);
	queue->length--;
	stats_held(queue->ev);
	alarms_unset(&queue->ev->alarms, &queue->poll);
	requests_append(&queue->grants, request);
	request->granted = true;
	hub_follow(request);
}

bool queue_may_pass(const struct queue *queue)
{
	const struct evfilelock *ev = queue->ev;

	return queue->passes + 1 < ev->most_passes &&
	       filelock_now() - queue->taken_at < ev->longest_passing;
}

bool queue_pass(struct queue *queue, struct request *from,
                struct request *to)
{
	if (!filelock_hand_over(from->lock, to->lock))
		return false;
	queue->passed = true;
	queue->passes++;
	return true;
}

void queue_settle(struct request *grant, const struct filelock *lock)
{
	struct queue *queue = grant->queue;
	struct evfilelock *ev = grant->ev;
	const struct request *first;

	grant->granted = false;
	if (queue) {
		stats_released(grant, lock ? 0 : grant->since);
		requests_remove(&queue->grants, grant);
		grant->queue = NULL;
		first = queue->requests.first;
		if (first && lock)
			filelock_follow(first->lock, lock);
		/* also one that is awake, and waits for others, does not hear of being passed it */
		if ((queue->asleep || (queue->passed && !queue->serving)) &&
		    !queue_waits_for_itself(queue)) {
			queue_make_ready(queue);
			pass_arm_surely(ev);
		}
		queue_free_if_empty(queue);
	}
	if (!grant->calling)
		request_free(grant);
}

bool queue_waits_for_itself(const struct queue *queue)
{
	const struct request *first = queue->requests.first;
	const struct request *grant = queue->grants.first;

	/* one whose handle holds it has been passed the hold; and age alone may end a grant */
	return grant && !filelock_is_held(first->lock) && !filelock_has_lifetime(first->lock) &&
	       (first->mode == FILELOCK_EXCLUSIVE || grant->mode == FILELOCK_EXCLUSIVE);
}

bool queue_sleep(struct queue *queue)
{
	if (!hub_hear(queue->ev))
		return false;
	alarms_unset(&queue->ev->alarms, &queue->poll);
	if (slow_due(queue) != FILELOCK_NEVER)
		alarms_set(&queue->ev->alarms, &queue->poll, slow_due(queue), queue->ev->now);
	queue->asleep = true;
	queue->ev->sleeping++;
	return true;
}

void queue_destroy(struct queue *queue)
{
	struct request *grant;

	while ((grant = queue->grants.first)) {
		requests_remove(&queue->grants, grant);
		grant->queue = NULL;
	}
	queue->serving = false;
	queue->orphan = NULL;
	queue_free_if_empty(queue);
}

void queue_note_refusal(struct queue *queue, const struct request *request, int64_t at)
{
	if (at < queue->refused_at)
		return;
	queue->refused_at = at;
	queue->refused_mode = request->mode;
}

bool queue_has_refused(const struct request *request)
{
	const struct queue *queue = request->queue;

	if (request->expires > queue->refused_at)
		return false;
	/* a refused writer proves nothing to a reader that is the first by now */
	return request != queue->requests.first || request->mode == FILELOCK_EXCLUSIVE ||
	       queue->refused_mode == FILELOCK_SHARED;
}
