/*
 * fd_budget.c - which of those that wait keep a descriptor and a watch.
 *
 * Whoever waits with a descriptor is woken by events; without one it only polls. A process has
 * few of them, and the application needs some: a context lets so many queues keep one as was set,
 * or three quarters of RLIMIT_NOFILE. All others make each attempt with a descriptor of that
 * moment. Their polls come in turn (the heap of timers), the more seldom the more there are
 * (lib/schedule.c), and who comes at a time when another has finished stays.
 *
 * When there is nevertheless none to be had, the one that has kept its own for the longest time
 * gives it back, and for a second nobody begins to keep one.
 */
#include "fd_budget.h"

#include <sys/resource.h>

#define OUT_FOR 1000000000 /* ns */

static unsigned default_max(void)
{
	struct rlimit limit = { .rlim_cur = UINT32_MAX };

	(void)getrlimit(RLIMIT_NOFILE, &limit);
	return (unsigned)(limit.rlim_cur / 4 * 3); /* at most fs.nr_open, an int: proc_sys_fs(5) */
}

void fd_budget_init(struct fd_budget *budget, unsigned max)
{
	list_init(&budget->queues);
	budget->max = max ? max : default_max();
}

static bool keeps(const struct queue *queue)
{
	return list_is_linked(&queue->budget_link);
}

void fd_budget_admit(const struct fd_budget *budget, struct queue *queue, int64_t now)
{
	bool may = keeps(queue) || (budget->count < budget->max && now >= budget->out_until);

	filelock_set_poll_only(queue_first(queue)->lock, !may);
}

void fd_budget_add(struct fd_budget *budget, struct queue *queue)
{
	if (keeps(queue) || filelock_is_poll_only(queue_first(queue)->lock))
		return;
	list_add_last(&budget->queues, &queue->budget_link);
	budget->count++;
}

void fd_budget_remove(struct fd_budget *budget, struct queue *queue)
{
	if (!keeps(queue))
		return;
	list_remove(&queue->budget_link);
	budget->count--;
}

bool fd_budget_make_room(struct fd_budget *budget, int64_t now)
{
	struct list *link = list_first(&budget->queues);
	struct queue *oldest = link ? list_entry(link, struct queue, budget_link) : NULL;

	if (!oldest)
		return false;
	budget->out_until = now + OUT_FOR;
	fd_budget_remove(budget, oldest);
	filelock_set_poll_only(queue_first(oldest)->lock, true);
	/* it has neither watch nor deadline of its own for what it missed: soon */
	queue_make_ready(oldest);
	return true;
}
