/*
 * pool.h - threads that run jobs.
 */
#ifndef EVFILELOCK_POOL_H
#define EVFILELOCK_POOL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"

struct pool;

/* Moved by pool.c alone. */
enum job_state {
	JOB_IDLE,      /* the loop's, with nothing to do */
	JOB_SUBMITTED, /* a worker's: waits for one, or is run */
	JOB_DONE,      /* was run, and waits for the loop */
	JOB_COLLECTED, /* the loop's, which is to look at it */
};

/* The head of whatever a worker runs. All zero: IDLE. */
struct pool_job {
	struct list link;
	/* On a worker. alone: the loop has left the pool, and nobody collects it. False: it has
	   freed itself. */
	bool (*run)(struct pool_job *job, bool alone);
	/* On the same worker, after run: it was abandoned meanwhile. */
	void (*drop)(struct pool_job *job);
	/* On the loop's thread, when it has come back. */
	void (*collected)(struct pool_job *job);
	atomic_int state; /* enum job_state */
	bool abandoned;   /* while it is submitted; with the pool's mutex */
};

/* notify: on a worker, when there is something to collect. 0, or -ENOMEM, -EAGAIN (no more
   threads). */
int pool_new(unsigned threads, void (*notify)(void *arg), void *arg, struct pool **ret_pool);
/* An idle or collected one. */
void pool_submit(struct pool *pool, struct pool_job *job);
/* Moves those that were run to `to`. */
void pool_collect(struct pool *pool, struct list *to);
/* It was collected and looked at. */
void pool_rest(struct pool_job *job);
/* Takes back one that is submitted or done. False: a worker has it, and drops it. */
bool pool_recall(struct pool *pool, struct pool_job *job);
/* The loop goes: the workers run once more what is there, and end. on_end: on the last of them. */
void pool_leave(struct pool *pool, void (*on_end)(void *arg), void *arg);
/* In a forked child, which has none of its threads. */
void pool_forget(struct pool *pool);

static inline enum job_state pool_state(const struct pool_job *job)
{
	return (enum job_state)atomic_load_explicit(&job->state, memory_order_acquire);
}

#endif
