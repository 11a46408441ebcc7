/*
 * queue.c - requests for one lock in one context, and the queues that have something to do.
 */
#include <stdlib.h>

#include "context.h"

void list_append(struct request_list *list, struct evfilelock_request *request)
{
	request->previous = list->last;
	request->next = NULL;
	if (list->last)
		list->last->next = request;
	else
		list->first = request;
	list->last = request;
}

void list_remove(struct request_list *list, struct evfilelock_request *request)
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

static struct queue *queue_find(const struct evfilelock *ev, const struct filelock *lock,
                                size_t hash)
{
	struct hash_node *node = hash_first(&ev->queues, hash);

	for (; node; node = hash_next(node)) {
		struct queue *queue = hash_entry(node, struct queue, node);

		/* one that is being served may be empty, and is then on its way out */
		if (queue->requests.first &&
		    filelock_compare(queue->requests.first->lock, lock) == 0)
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
	queue->rested = ev->pass - 1;
	hash_insert(&ev->queues, &queue->node, hash);
	return queue;
}

struct queue *queue_of(struct evfilelock *ev, struct evfilelock_request *request)
{
	size_t hash = filelock_hash(request->lock);
	struct queue *queue = queue_find(ev, request->lock, hash);

	return queue ? queue : queue_new(ev, hash);
}

void queue_append(struct queue *queue, struct evfilelock_request *request)
{
	bool first = !queue->requests.first;

	request->queue = queue;
	list_append(&queue->requests, request);
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

void queue_make_ready(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

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
	return queue;
}

void queue_leave(struct evfilelock_request *request)
{
	struct queue *queue = request->queue;

	if (queue->requests.first == request) {
		/* the next one steps from the start */
		alarms_unset(&queue->ev->alarms, &queue->poll);
		if (!queue->serving)
			queue_make_ready(queue);
	}
	list_remove(&queue->requests, request);
	request->queue = NULL;
	queue_free_if_empty(queue);
}

void queue_free_if_empty(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	if (queue->requests.first || queue->serving)
		return;
	unready(queue);
	alarms_unset(&ev->alarms, &queue->poll);
	alarms_unreserve(&ev->alarms);
	hash_remove(&ev->queues, &queue->node);
	free(queue);
}
