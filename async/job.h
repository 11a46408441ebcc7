/*
 * job.h - attempts and releases of a request, as jobs of a pool.
 */
#ifndef EVFILELOCK_JOB_H
#define EVFILELOCK_JOB_H

#include "context.h"
#include "pool.h"

/* The threads of a context, and what their jobs need of it; it lives until the last has ended. */
struct workers {
	struct pool *pool;
	struct filelock_driver driver; /* of the proxies */
	bool owns_watcher;
};

enum job_work { JOB_STEP, JOB_RELEASE, JOB_ASK, JOB_CLOSE };

struct job {
	struct pool_job base;
	struct workers *workers;
	struct filelock *proxy;
	int64_t refused_at; /* when the last attempt that found it held was begun */
	int64_t until;
	int result;
	struct filelock_owner owner; /* ASK: what it found */
	enum job_work work;
	bool woken;         /* since it was submitted */
	struct request *request; /* NULL: an orphan */
	struct queue *queue;     /* NULL: of a release */
};

static inline struct job *job_at(struct list *link)
{
	return link ? list_entry(link, struct job, base.link) : NULL;
}

/* A worker has it, or has had it, and it was not collected. */
static inline bool job_is_out(const struct job *job)
{
	enum job_state state = pool_state(&job->base);

	return state == JOB_SUBMITTED || state == JOB_DONE;
}

/* Called for whatever the proxies wait for: struct filelock_driver. */
void job_on_woken(struct filelock *proxy, void *arg);
/* With a proxy whose acquisition has begun, for these threads. 0, or an error. */
int job_new(struct request *request, struct workers *workers,
            void (*collected)(struct pool_job *job), struct job **ret_job);
void job_submit(struct job *job, enum job_work work);
/* The request needs its job no more, if it has one. */
void job_abandon(struct request *request);

#endif
