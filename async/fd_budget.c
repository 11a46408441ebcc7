/*
 * fd_budget.c - which of those that wait keep a descriptor and a watch.
 *
 * Whoever waits with a descriptor is woken by events; without one it only polls. A process has
 * few of them, and the application needs some: a context lets so many queues keep one as was set,
 * or three quarters of RLIMIT_NOFILE. All others make each attempt with a descriptor of that
 * moment. Their polls come in turn (the heap of alarms), the more seldom the more there are
 * (acquire.c), and who comes at a time when another has finished stays.
 *
 * When there is nevertheless none to be had, the one that has kept its own for the longest time
 * gives it back, and for a second nobody begins to keep one.
 */
#include <stdint.h>
#include <sys/resource.h>

#include "context.h"

#define SCARCE_FOR 1000000000 /* ns */

unsigned keepers_default(void)
{
	struct rlimit limit = { .rlim_cur = UINT32_MAX };

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	return (unsigned)(limit.rlim_cur / 4 * 3); /* at most fs.nr_open, an int: proc_sys_fs(5) */
}

void keepers_admit(struct queue *queue)
{
	const struct evfilelock *ev = queue->ev;
	bool may = queue->keeps ||
	           (ev->keepers < ev->most_keepers && ev->now >= ev->scarce_until);

	filelock_set_poll_only(queue->requests.first->lock, !may);
}

void keepers_add(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	if (queue->keeps || filelock_is_poll_only(queue->requests.first->lock))
		return;
	queue->keeps = true;
	queue->next_keeper = NULL;
	queue->previous_keeper = ev->last_keeper;
	if (ev->last_keeper)
		ev->last_keeper->next_keeper = queue;
	else
		ev->first_keeper = queue;
	ev->last_keeper = queue;
	ev->keepers++;
}

void keepers_remove(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	if (!queue->keeps)
		return;
	queue->keeps = false;
	if (queue->previous_keeper)
		queue->previous_keeper->next_keeper = queue->next_keeper;
	else
		ev->first_keeper = queue->next_keeper;
	if (queue->next_keeper)
		queue->next_keeper->previous_keeper = queue->previous_keeper;
	else
		ev->last_keeper = queue->previous_keeper;
	ev->keepers--;
}

bool keepers_make_room(struct evfilelock *ev)
{
	struct queue *oldest = ev->first_keeper;

	if (!oldest)
		return false;
	ev->scarce_until = ev->now + SCARCE_FOR;
	keepers_remove(oldest);
	filelock_set_poll_only(oldest->requests.first->lock, true);
	/* it has neither watch nor deadline of its own for what it missed: soon */
	queue_make_ready(oldest);
	return true;
}
