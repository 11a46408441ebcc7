/*
 * job.c - attempts and releases of a request, as jobs of a pool.
 *
 * A worker never touches a handle of the user. The loop makes a job for a request that is to be
 * attempted, with a handle of its own on the same lock, the proxy, and a worker steps the proxy.
 * When the proxy holds, the loop moves the hold to the user's handle (filelock_hand_over), which
 * takes no system call. A request can therefore end, by its deadline, a cancel or the end of the
 * context, while a worker is in a call that never returns. The job is an orphan then, and a lock
 * that it still wins is released.
 *
 * A finished job goes to a worker once more to close its proxy, since closing makes system calls. The
 * worker itself gives up whatever an orphan has: a loop that waits for nothing else would not learn
 * of its return.
 *
 * A job belongs to the worker while it is submitted, except `request`, `queue` and `woken`, which
 * always belong to the loop.
 */
#include "job.h"

#include <errno.h>
#include <stdlib.h>

#define MAX_STEPS 16 /* of one job, while attempts are due at once */

static struct job *job_of(struct pool_job *base)
{
	return list_entry(base, struct job, base);
}

/* --- a worker --- */

static void step(struct job *job)
{
	job->refused_at = INT64_MIN;
	for (unsigned i = 0; i < MAX_STEPS; i++) {
		int64_t now = filelock_now();

		job->result = filelock_step(job->proxy, now, &job->until);
		if (job->result == FILELOCK_STEP_WAIT)
			job->refused_at = now;
		if (job->result <= 0 || job->until > now)
			return;
	}
}

/* Nobody wants what it has won: not even the loop, which may not run for a long time. */
static void drop_hold(struct pool_job *base)
{
	struct job *job = job_of(base);

	(void)filelock_give_up(job->proxy, -ECANCELED);
	if (filelock_depth(job->proxy) > 0)
		(void)filelock_release_all(job->proxy); /* else closing tries again, and logs */
}

static void job_free(struct job *job)
{
	(void)filelock_give_up(job->proxy, -ECANCELED);
	filelock_close(job->proxy);
	free(job);
}

static bool run(struct pool_job *base, bool alone)
{
	struct job *job = job_of(base);

	if (alone || job->work == JOB_CLOSE) {
		job_free(job);
		return false;
	}
	if (job->work == JOB_RELEASE)
		job->result = filelock_release_all(job->proxy);
	else if (job->work == JOB_ASK)
		job->result = filelock_holder(job->proxy, &job->owner);
	else
		step(job);
	return true;
}

/* --- the loop --- */

void job_on_woken(struct filelock *proxy, void *arg)
{
	struct job *job = arg;

	(void)proxy;
	job->woken = true;
	if (pool_state(&job->base) != JOB_IDLE)
		return;
	if (job->queue->state != QUEUE_READY && !job->queue->again)
		stats_woken(&job->queue->ev->stats, job->queue, true);
	queue_make_ready(job->queue);
}

int job_new(struct request *request, struct workers *workers,
            void (*collected)(struct pool_job *job), struct job **ret_job)
{
	struct job *job = calloc(1, sizeof(*job));
	int r = job ? filelock_clone(request->lock, &job->proxy) : -ENOMEM;

	if (r < 0) {
		free(job);
		return r;
	}
	/* refused to no handle that is new */
	(void)filelock_begin(job->proxy, (enum filelock_mode)request->mode, FILELOCK_NEVER,
	                     &workers->driver, job);
	filelock_follow(job->proxy, request->lock);
	job->base.run = run;
	job->base.drop = drop_hold;
	job->base.collected = collected;
	job->workers = workers;
	job->owner = (struct filelock_owner)FILELOCK_OWNER_INIT;
	job->request = request;
	job->queue = request->queue;
	request->job = job;
	*ret_job = job;
	return 0;
}

void job_submit(struct job *job, enum job_work work)
{
	job->work = work;
	job->woken = false;
	pool_submit(job->workers->pool, &job->base);
}

void job_abandon(struct request *request)
{
	struct evfilelock *ev = request->ev;
	struct job *job = request->job;

	request->job = NULL;
	/* in a forked child a thread that is not there may have the mutex */
	if (!job || ev->inherited)
		return;
	job->request = NULL;
	if (!job_is_out(job) || pool_recall(job->workers->pool, &job->base))
		job_submit(job, JOB_CLOSE);
	else if (job->queue)
		job->queue->orphan = job->proxy;
}
