/*
 * warm.c - descriptors of locks that come again at once.
 *
 * A handle that is acquired again within 10 ms of its release comes again: the release then leaves
 * its descriptor open, on the loop's thread, and the queue of the lock keeps it until the next request.
 * It is kept in a handle of the queue's own, since the user's may be closed, or used on another
 * thread, at any time. After a second in which nobody asked for the lock it is closed; at once when the
 * process runs out of descriptors, and when nothing but its timer would keep the loop running.
 *
 * With workers nothing is kept: their attempts are made by other handles.
 */
#include "warm.h"

#define IDLE INT64_C(1000000000) /* ns */

static int64_t time_of(const struct evfilelock *ev)
{
	return ev->running ? ev->now : filelock_now();
}

bool warm_is_worth_it(const struct queue *queue, const struct filelock *lock)
{
	const struct evfilelock *ev = queue->ev;

	return !ev->workers && !ev->freeing && filelock_comes_again(lock) &&
	       ev->fds.count + ev->warm_count < ev->fds.max &&
	       time_of(ev) >= ev->fds.out_until;
}

/* A handle to keep the descriptor in. */
static bool make(struct queue *queue, const struct filelock *lock)
{
	struct evfilelock *ev = queue->ev;

	if (timers_reserve(&ev->timers) < 0)
		return false;
	if (filelock_clone(lock, &queue->warm) < 0) {
		timers_unreserve(&ev->timers);
		return false;
	}
	queue->warm_timer.owner = TIMER_OF_WARM;
	list_add_last(&ev->warm, &queue->warm_link);
	ev->warm_count++;
	return true;
}

static void drop(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	timers_unset(&ev->timers, &queue->warm_timer);
	timers_unreserve(&ev->timers);
	list_remove(&queue->warm_link);
	ev->warm_count--;
	filelock_close(queue->warm);
	queue->warm = NULL;
	queue_free_if_unused(queue);
}

bool warm_put(struct queue *queue, struct filelock *lock)
{
	struct evfilelock *ev = queue->ev;
	bool is_new = !queue->warm;

	if (filelock_options(lock)->keep_open || !filelock_is_warm(lock))
		return false;
	if ((is_new && !make(queue, lock)) || !filelock_lend(lock, queue->warm)) {
		(void)filelock_drop(lock);
		return false;
	}
	queue->warm_at = time_of(ev);
	if (is_new)
		timers_set(&ev->timers, &queue->warm_timer, queue->warm_at + IDLE,
		           queue->warm_at);
	return is_new;
}

void warm_lend(struct queue *queue, struct filelock *lock)
{
	if (queue->warm)
		(void)filelock_lend(queue->warm, lock);
}

/* The timer is not moved at each use, but when it has passed. */
void warm_take_timer(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	if (queue->warm_at + IDLE <= ev->now)
		drop(queue);
	else
		timers_set(&ev->timers, &queue->warm_timer, queue->warm_at + IDLE, ev->now);
}

bool warm_drop_all(struct evfilelock *ev)
{
	bool any = !list_is_empty(&ev->warm);
	struct list *link;

	while ((link = list_first(&ev->warm)))
		drop(list_entry(link, struct queue, warm_link));
	return any;
}

size_t warm_count_idle(const struct evfilelock *ev)
{
	size_t count = 0;

	list_for_each(link, &ev->warm)
		count += queue_is_idle(list_entry(link, struct queue, warm_link));
	return count;
}

void warm_let_loop_end(struct evfilelock *ev)
{
	if (ev->warm_count > 0 && ev->timers.count == ev->warm_count && ev->awaited == 0 &&
	    list_is_empty(&ev->queues.ready) && list_is_empty(&ev->prompt) &&
	    list_is_empty(&ev->watches) && loop_is_last(&ev->loop) &&
	    warm_count_idle(ev) == ev->queues.table.count)
		(void)warm_drop_all(ev);
}
