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

/* Takes the result of a worker. QUEUE_READY: the job is submitted once more. */
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

/* An attempt, or a release, of a request that ended meanwhile. */
static void bury(struct job *job)
{
	struct queue *queue = job->queue;

	job_submit(job, JOB_CLOSE);
	if (!queue)
		return;
	queue->orphan = NULL;
	queue_make_ready(queue);
	queue_free_if_unused(queue);
}

static void collect_attempt(struct pool_job *base)
{
	struct job *job = list_entry(base, struct job, base);

	if (job->request)
		queue_make_ready(job->request->queue);
	else
		bury(job);
}

enum queue_state workers_serve(struct queue *queue)
{
	struct request *request = queue_first(queue);
	struct job *job = request->job;
	enum queue_state state;
	int r = queue->orphan || job ? 0
	                             : job_new(request, queue->ev->workers, collect_attempt, &job);

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
	job_submit(job, JOB_STEP);
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

/* A hold that could not be released goes back to the user, if the handle is still open. */
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

static void collect_release(struct pool_job *base)
{
	struct job *job = list_entry(base, struct job, base);
	struct request *request = job->request;

	if (!request) {
		bury(job);
		return;
	}
	if (job->result == 0 || !give_back(request, job))
		filelock_end_hold(request->lock);
	request->job = NULL;
	request_know(request, job->result);
	job_submit(job, JOB_CLOSE);
}

void workers_collect(struct workers *workers)
{
	struct list done;
	struct list *link;

	if (!workers)
		return;
	list_init(&done);
	pool_collect(workers->pool, &done);
	while ((link = list_take_first(&done))) {
		struct pool_job *job = list_entry(link, struct pool_job, link);

		job->collected(job);
	}
}

int workers_release(struct request *request)
{
	struct evfilelock *ev = request->ev;
	struct job *job;
	int64_t until;
	int r = context_hear(ev) ? job_new(request, ev->workers, collect_release, &job) : -ENOMEM;

	if (r < 0)
		return r;
	/* not to the next of its queue: that would ask the file system first. A clone takes it */
	(void)filelock_hand_over(request->lock, job->proxy);
	(void)filelock_step(job->proxy, 0, &until);
	request_delegate(request);
	job_submit(job, JOB_RELEASE);
	return 0;
}

void workers_abandon(struct request *request)
{
	bool releases = request->job->work == JOB_RELEASE;

	job_abandon(request);
	if (releases)
		filelock_end_hold(request->lock);
}

static void end_workers(void *arg)
{
	struct workers *workers = arg;

	if (workers->owns_watcher)
		filelock_watcher_free(workers->driver.watcher);
	free(workers);
}

int workers_start(struct evfilelock *ev, unsigned n, struct workers **ret_workers)
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
		*ret_workers = workers;
	return r;
}

int workers_for_questions(struct evfilelock *ev, struct workers **ret_workers)
{
	int r = 0;

	if (!ev->workers && !ev->helper)
		r = workers_start(ev, 1, &ev->helper);
	*ret_workers = ev->workers ? ev->workers : ev->helper;
	return r;
}

static void leave(struct workers **workers, bool with_watcher, bool inherited)
{
	struct workers *left = *workers;

	*workers = NULL;
	if (!left)
		return;
	if (inherited) { /* its threads are the parent's, and so is what they have in hand */
		pool_forget(left->pool);
		free(left);
		return;
	}
	left->owns_watcher = with_watcher;
	pool_leave(left->pool, end_workers, left);
}

void workers_leave(struct evfilelock *ev)
{
	/* a question's proxy is never watched */
	bool with_watcher = ev->workers && !ev->inherited;

	leave(&ev->helper, false, ev->inherited);
	leave(&ev->workers, with_watcher, ev->inherited);
	if (!with_watcher)
		filelock_watcher_free(ev->watcher);
	ev->watcher = NULL;
}
