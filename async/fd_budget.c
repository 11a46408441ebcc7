/*
 * fd_budget.c - which waiting queues keep a descriptor and a watch.
 *
 * Events wake a request that keeps a descriptor; one without only polls. A process has few
 * descriptors, and the application needs some. A context therefore lets as many queues keep one as
 * the option says, or three quarters of RLIMIT_NOFILE. All others open a descriptor for each
 * attempt. Their polls come in turn (the heap of timers), and the more there are the longer are the
 * intervals (lib/schedule.c). A queue that attempts when another has finished keeps its descriptor.
 *
 * The process may run out of descriptors all the same. The queue that has kept one for the longest
 * time then gives it back, and for a second nobody begins to keep one.
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
