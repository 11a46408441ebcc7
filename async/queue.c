/*
 * queue.c - requests for one lock in one context, and the queues that are ready to be served.
 *
 *                         take_ready            end_service
 *	EMPTY ──add──> READY ───────────> SERVED ─────────────> TIMED, BLOCKED, READY
 *	                 ^                                          │
 *	                 └──────────────── make_ready ──────────────┘
 *
 * A queue is EMPTY when its last request goes. A queue that becomes ready while it is served notes
 * that, and is READY afterwards.
 */
#include "queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static void move(struct queue *queue, enum queue_state to)
{
	static const unsigned char allowed[] __attribute__((unused)) = {
		[QUEUE_EMPTY] = 1 << QUEUE_READY,
		[QUEUE_READY] = 1 << QUEUE_SERVED | 1 << QUEUE_EMPTY,
		[QUEUE_SERVED] = 1 << QUEUE_READY | 1 << QUEUE_TIMED | 1 << QUEUE_BLOCKED |
		                 1 << QUEUE_EMPTY,
		[QUEUE_TIMED] = 1 << QUEUE_READY | 1 << QUEUE_EMPTY,
		[QUEUE_BLOCKED] = 1 << QUEUE_READY | 1 << QUEUE_EMPTY,
	};
	struct queues *queues = queue->queues;

	assert(allowed[queue->state] >> to & 1);
	if (queue->state == QUEUE_READY)
		list_remove(&queue->ready_link);
	if (queue->state == QUEUE_BLOCKED)
		queues->blocked--;
	if (to == QUEUE_READY)
		list_add_last(&queues->ready, &queue->ready_link);
	if (to == QUEUE_BLOCKED)
		queues->blocked++;
	queue->state = to;
	queue->again = false;
}

void queues_init(struct queues *queues, struct timers *timers)
{
	queues->timers = timers;
	list_init(&queues->ready);
}

void queues_free(struct queues *queues)
{
	free(queues->table.buckets);
	free(queues->of_length);
}

/* Room to count a queue that has one request more. */
static int reserve_length(struct queues *queues, uint32_t length)
{
	uint32_t size = queues->lengths ? queues->lengths * 2 : 16;
	uint32_t *of_length;

	if (length + 1 < queues->lengths)
		return 0;
	of_length = realloc(queues->of_length, size * sizeof(*of_length));
	if (!of_length)
		return -1;
	memset(of_length + queues->lengths, 0, (size - queues->lengths) * sizeof(*of_length));
	queues->of_length = of_length;
	queues->lengths = size;
	return 0;
}

/* The longest queue is found without a look at each, since a length changes by one. */
static void grow(struct queue *queue)
{
	struct queues *queues = queue->queues;

	if (queue->length == 0)
		count_up(&queues->busy);
	else
		queues->of_length[queue->length]--;
	queues->of_length[++queue->length]++;
	if (queue->length > count_get(&queues->longest))
		count_up(&queues->longest);
}

static void shrink(struct queue *queue)
{
	struct queues *queues = queue->queues;
	uint32_t longest = (uint32_t)count_get(&queues->longest);

	queues->of_length[queue->length--]--;
	if (queue->length == 0)
		count_down(&queues->busy);
	else
		queues->of_length[queue->length]++;
	if (queues->of_length[longest] == 0)
		count_down(&queues->longest);
}

/* A handle of its lock. NULL: it is being served, empty, and on its way out. */
static const struct filelock *lock_of(const struct queue *queue)
{
	const struct request *any = queue_first(queue);

	if (!any)
		any = request_at(list_first(&queue->grants));
	if (any)
		return any->lock;
	return queue->orphan ? queue->orphan : queue->warm;
}

static struct queue *queue_find(const struct queues *queues, const struct filelock *lock,
                                size_t hash)
{
	struct hash_node *node = hash_first(&queues->table, hash);

	for (; node; node = hash_next(node)) {
		struct queue *queue = hash_entry(node, struct queue, node);
		const struct filelock *any = lock_of(queue);

		if (any && filelock_compare(any, lock) == 0)
			return queue;
	}
	return NULL;
}

static struct queue *queue_new(struct queues *queues, size_t hash)
{
	struct queue *queue;

	if (hash_reserve(&queues->table, calloc, free) < 0)
		return NULL;
	queue = calloc(1, sizeof(*queue));
	if (!queue)
		return NULL;
	if (timers_reserve(queues->timers) < 0) {
		free(queue);
		return NULL;
	}
	queue->queues = queues;
	queue->refused_at = INT64_MIN;
	queue->slow_at = INT64_MIN;
	list_init(&queue->requests);
	list_init(&queue->grants);
	hash_insert(&queues->table, &queue->node, hash);
	return queue;
}

struct queue *queue_get(struct queues *queues, const struct filelock *lock,
                        struct evfilelock *ev, uint32_t turn)
{
	size_t hash = filelock_hash(lock);
	struct queue *queue = queue_find(queues, lock, hash);

	if (reserve_length(queues, queue ? queue->length : 0) < 0)
		return NULL;
	if (queue)
		return queue;
	queue = queue_new(queues, hash);
	if (!queue)
		return NULL;
	queue->ev = ev;
	queue->rested = turn - 1;
	return queue;
}

void queue_add(struct queue *queue, struct request *request)
{
	request->queue = queue;
	list_add_last(&queue->requests, &request->link);
	grow(queue);
	queue->queues->waiting++;
	if (queue->state == QUEUE_EMPTY)
		move(queue, QUEUE_READY);
}

void queue_remove(struct queue *queue, struct request *request)
{
	list_remove(&request->link);
	shrink(queue);
	queue->queues->waiting--;
}

void queue_free_if_unused(struct queue *queue)
{
	struct queues *queues = queue->queues;

	if (queue_first(queue) || queue->state == QUEUE_SERVED)
		return;
	if (queue->state != QUEUE_EMPTY)
		move(queue, QUEUE_EMPTY);
	timers_unset(queues->timers, &queue->poll);
	if (!list_is_empty(&queue->grants) || queue->orphan || queue->warm)
		return;
	timers_unreserve(queues->timers);
	hash_remove(&queues->table, &queue->node);
	free(queue);
}

void queue_make_ready(struct queue *queue)
{
	if (queue->state == QUEUE_SERVED)
		queue->again = true;
	else if (queue->state != QUEUE_READY && queue_first(queue))
		move(queue, QUEUE_READY);
}

struct queue *queues_take_ready(struct queues *queues, uint32_t turn)
{
	struct list *link = list_first(&queues->ready);
	struct queue *queue = link ? list_entry(link, struct queue, ready_link) : NULL;

	/* what has come to rest in this turn stands behind all that has not */
	if (!queue || queue->rested == turn)
		return NULL;
	move(queue, QUEUE_SERVED);
	return queue;
}

void queue_end_service(struct queue *queue, enum queue_state state)
{
	if (!queue_first(queue))
		move(queue, QUEUE_EMPTY);
	else
		move(queue, queue->again ? QUEUE_READY : state);
	queue_free_if_unused(queue);
}

bool queue_is_idle(const struct queue *queue)
{
	return list_is_empty(&queue->requests) && list_is_empty(&queue->grants) && !queue->orphan;
}

bool queue_waits_for_itself(const struct queue *queue)
{
	const struct request *first = queue_first(queue);
	const struct request *grant = request_at(list_first(&queue->grants));

	/* one whose handle holds it was handed the hold; and age alone may end a grant */
	return grant && filelock_depth(first->lock) == 0 && !filelock_has_lifetime(first->lock) &&
	       (first->mode == FILELOCK_EXCLUSIVE || grant->mode == FILELOCK_EXCLUSIVE);
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
	return request != queue_first(queue) || request->mode == FILELOCK_EXCLUSIVE ||
	       queue->refused_mode == FILELOCK_SHARED;
}
