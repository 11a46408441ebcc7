/*
 * fd_budget.h - which waiting queues keep a descriptor and a watch.
 */
#ifndef EVFILELOCK_FD_BUDGET_H
#define EVFILELOCK_FD_BUDGET_H

#include "queue.h"

struct fd_budget {
	struct list queues; /* in the order in which they began to keep one */
	unsigned count;
	unsigned max;
	int64_t out_until; /* until then nobody begins to keep one */
};

/* max 0: as RLIMIT_NOFILE has it. */
void fd_budget_init(struct fd_budget *budget, unsigned max);
/* Before the first request of the queue is stepped: whether it may keep one. */
void fd_budget_admit(const struct fd_budget *budget, struct queue *queue, int64_t now);
/* It waits, and has what it was allowed. */
void fd_budget_add(struct fd_budget *budget, struct queue *queue);
/* Idempotent. */
void fd_budget_remove(struct fd_budget *budget, struct queue *queue);
/* One of them gives back what it has. False: there is none. */
bool fd_budget_make_room(struct fd_budget *budget, int64_t now);

#endif
