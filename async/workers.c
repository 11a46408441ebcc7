/*
 * workers.c - attempts of a queue's first request on the pool, and releases there.
 *
 * Each queue has at most one submitted job, orphans included. A path whose calls do not return
 * therefore costs one worker, however many requests it has.
 */
#include "workers.h"

#include <errno.h>
#include <stdlib.h>

#include "job.h"

#define GRACE 1000000000 /* ns, for the last attempt of a request whose deadline has passed */

static enum queue_state finish(struct request *request, int result)
{
	request_end(request, result);
	return QUEUE_SERVED;
}

/* Until the job that is out comes back. */
static enum queue_state wait_for_it(struct queue *queue)
{
	if (request_may_block(queue))
		return QUEUE_BLOCKED;
	return finish(queue_first(queue), -ENOMEM);
}

/* The proxy holds: so does the request's handle from now on, and the queue goes on with it. */
static enum queue_state take_hold(struct request *request, struct job *job)
{
	struct evfilelock *ev = request->ev;
	int64_t until;

	if (!filelock_hand_over(job->proxy, request->lock))
		return finish(request, -ENOMEM);
	stats_attempted(&ev->stats, request, FILELOCK_STEP_HELD);
	(void)filelock_step(request->lock, ev->now, &until);
	request_grant(request);
	request_answer(request, 0);
	return QUEUE_SERVED;
}

void workers_refused(struct queue *queue, int64_t at)
{
	struct evfilelock *ev = queue->ev;
	struct request *request = queue->last_call ? queue_first(queue) : NULL;

	queue->last_call = false;
	for (; request; request = queue_next(queue, request)) {
		if (!request->last_call)
			continue;
		request->last_call = request->expires > at;
		if (request->last_call)
			queue->last_call = true;
		else /* and is looked at once more: a writer's refusal is not a reader's */
			timers_set(&ev->timers, &request->deadline, ev->now, ev->now);
	}
}

/* Whether the job has nothing to do until its time comes. */
static bool rest(struct queue *queue, const struct job *job)
{
	struct evfilelock *ev = queue->ev;
	int64_t slow = stats_slow_due(&ev->stats, queue);

	if (job->woken || queue->last_call || job->until <= ev->now)
		return false;
	timers_set(&ev->timers, &queue->poll, job->until < slow ? job->until : slow, ev->now);
	return true;
}

/* What a worker has found; SUBMITTED is what follows if it says READY. */
static enum queue_state take_result(struct request *request, struct job *job)
{
	struct queue *queue = request->queue;

	pool_rest(&job->base);
	if (job->result == FILELOCK_STEP_HELD)
		return take_hold(request, job);
	stats_attempted(&request->ev->stats, request, job->result);
	if (job->result < 0)
		return finish(request, job->result);
	queue_note_refusal(queue, request, job->refused_at);
	workers_refused(queue, queue->refused_at);
	if (queue_has_refused(request))
		return QUEUE_SERVED;
	return rest(queue, job) ? QUEUE_TIMED : QUEUE_READY;
}

enum queue_state workers_serve(struct queue *queue)
{
	struct request *request = queue_first(queue);
	struct job *job = request->job;
	enum queue_state state;
	int r = queue->orphan || job ? 0 : job_new(request, &job);

	if (r < 0)
		return finish(request, r);
	if (queue->orphan || job_is_out(job))
		return wait_for_it(queue);
	if (pool_state(&job->base) == JOB_COLLECTED) {
		state = take_result(request, job);
		if (state != QUEUE_READY)
			return state;
	}
	if (queue->last_call)
		filelock_hasten(job->proxy);
	job_submit(queue->ev, job, JOB_STEP);
	return wait_for_it(queue);
}

void workers_hasten(struct request *request)
{
	struct evfilelock *ev = request->ev;

	/* whatever becomes of the last attempt, the deadline is kept */
	request->last_call = true;
	timers_set(&ev->timers, &request->deadline, ev->now + GRACE, ev->now);
	request->queue->last_call = true;
}

/* An attempt, or a release, of a request that ended meanwhile. */
static void bury(struct evfilelock *ev, struct job *job)
{
	struct queue *queue = job->queue;

	job_submit(ev, job, JOB_CLOSE);
	if (!queue)
		return;
	queue->orphan = NULL;
	queue_make_ready(queue);
	queue_free_if_unused(queue);
}

/* What could not be released is the user's again, if the handle is still for it. */
static bool give_back(struct request *request, struct job *job)
{
	int64_t until;
	int r = filelock_begin(request->lock, (enum filelock_mode)request->mode, FILELOCK_NEVER,
	                       NULL, NULL);

	if (r == 0 && filelock_hand_over(job->proxy, request->lock))
		return filelock_step(request->lock, 0, &until) == 0;
	if (r == 0)
		(void)filelock_give_up(request->lock, job->result);
	return false;
}

static void take_release(struct evfilelock *ev, struct job *job)
{
	struct request *request = job->request;

	if (job->result == 0 || !give_back(request, job))
		filelock_end_hold(request->lock);
	request->job = NULL;
	request_release_ended(request, job->result);
	job_submit(ev, job, JOB_CLOSE);
}

void workers_collect(struct evfilelock *ev)
{
	struct list done;
	struct job *job;

	list_init(&done);
	pool_collect(ev->workers->pool, &done);
	while ((job = job_at(list_take_first(&done)))) {
		if (!job->request)
			bury(ev, job);
		else if (job->work == JOB_RELEASE)
			take_release(ev, job);
		else
			queue_make_ready(job->request->queue);
	}
}

int workers_release(struct request *request)
{
	struct evfilelock *ev = request->ev;
	struct job *job;
	int64_t until;
	int r = context_hear(ev) ? job_new(request, &job) : -ENOMEM;

	if (r < 0)
		return r;
	/* not to the next of its queue: that would ask the file system first. A clone takes it */
	(void)filelock_hand_over(request->lock, job->proxy);
	(void)filelock_step(job->proxy, 0, &until);
	request_release_begun(request);
	job_submit(ev, job, JOB_RELEASE);
	return 0;
}

void workers_abandon_release(struct request *request)
{
	job_abandon(request);
	filelock_end_hold(request->lock);
}

static void end_workers(void *arg)
{
	struct workers *workers = arg;

	if (workers->owns_watcher)
		filelock_watcher_free(workers->driver.watcher);
	free(workers);
}

int workers_start(struct evfilelock *ev, unsigned n)
{
	struct workers *workers;
	int r = loop_make_wakeup(&ev->loop);

	if (r < 0)
		return r;
	workers = calloc(1, sizeof(*workers));
	if (!workers)
		return -ENOMEM;
	workers->driver = (struct filelock_driver){ .watcher = ev->watcher, .woken = job_on_woken };
	r = pool_new(n, context_notify, ev, &workers->pool);
	if (r < 0)
		free(workers);
	else
		ev->workers = workers;
	return r;
}

void workers_leave(struct evfilelock *ev)
{
	struct workers *workers = ev->workers;

	ev->workers = NULL;
	workers->owns_watcher = true;
	pool_leave(workers->pool, end_workers, workers);
}
