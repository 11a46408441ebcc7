/*
 * workers.c - attempts and releases on other threads.
 *
 * A worker never touches a handle of the user's. For a request that is to be attempted the loop
 * makes a job with a handle of its own of the same lock, the proxy; a worker steps that. When it
 * holds, the loop moves the hold to the user's handle (filelock_hand_over), which takes no system call.
 * So a request can end, by its deadline, cancel or the end of the context, while a worker sits in a
 * call that never returns; the job is then an orphan, and what it may yet win is released.
 *
 *	        submit                done
 *	RESTS ─────────> OUT (worker) ─────> BACK ─> looked at by the loop: RESTS, or over
 *
 * Each queue has at most one job out, orphans included, so that a path whose calls do not return
 * costs one worker, however often it is asked for. What is over, its proxy to be closed, goes to a
 * worker once more: closing makes system calls. What an orphan has the worker lets go of by itself:
 * a loop that waits for nothing else does not hear that it comes back.
 *
 * Between the threads: the pool's two lists under its mutex. A job belongs to the worker while it
 * is in `todo` or being done, else to the loop; but for `request`, `queue`, `place` and `again`,
 * which are always the loop's. The pool lives until the context and all threads have left it, and
 * has the watcher meanwhile.
 */
#include "workers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "stats.h"

#define MOST_STEPS 16 /* of one job, while attempts are due at once */
#define GRACE 1000000000 /* ns, for the last attempt of a request whose deadline has passed */

enum what { STEP, RELEASE, CLOSE };
enum place { RESTS, OUT, BACK };

struct job {
	struct job *next;
	struct filelock *proxy;
	int64_t refused_at; /* when the last attempt that found it held was begun */
	int64_t until;
	int result;
	enum what what;
	bool finished; /* it is in `done`; with the pool's mutex */
	bool orphaned; /* while it is out; with the pool's mutex */
	enum place place;
	bool again; /* stirred since it was given away */
	struct request *request; /* NULL: an orphan */
	struct queue *queue; /* NULL: of a release */
};

struct job_list {
	struct job *first, *last;
};

struct pool {
	pthread_mutex_t mutex;
	pthread_cond_t work;
	struct job_list todo, done;
	struct filelock_watcher *watcher;
	struct filelock_driver driver;
	unsigned references; /* threads, and the context */
	bool owns_watcher;
	bool left; /* by the context */
};

static void put(struct job_list *list, struct job *job)
{
	job->next = NULL;
	if (list->last)
		list->last->next = job;
	else
		list->first = job;
	list->last = job;
}

static struct job *take(struct job_list *list)
{
	struct job *job = list->first;

	if (job)
		list->first = job->next;
	if (!list->first)
		list->last = NULL;
	return job;
}

static void take_out(struct job_list *list, struct job *job)
{
	struct job_list rest = { 0 };
	struct job *other;

	while ((other = take(list)))
		if (other != job)
			put(&rest, other);
	*list = rest;
}

/* --- a worker --- */

static void step(struct job *job)
{
	job->refused_at = INT64_MIN;
	for (unsigned i = 0; i < MOST_STEPS; i++) {
		int64_t now = filelock_now();

		job->result = filelock_step(job->proxy, now, &job->until);
		if (job->result == FILELOCK_STEP_WAIT)
			job->refused_at = now;
		if (job->result <= 0 || job->until > now)
			return;
	}
}

/* Nobody wants what it has won: not even the loop, which may not run for a long time. */
static void drop_hold(struct job *job)
{
	(void)filelock_give_up(job->proxy, -ECANCELED);
	if (filelock_is_held(job->proxy))
		(void)filelock_release_all(job->proxy); /* else closing tries again, and logs */
}

static void job_free(struct job *job)
{
	(void)filelock_give_up(job->proxy, -ECANCELED);
	filelock_close(job->proxy);
	free(job);
}

/* The pool is locked; true: the job is for the loop to look at. */
static bool work(struct pool *pool, struct job *job)
{
	bool close = pool->left || job->what == CLOSE;

	(void)pthread_mutex_unlock(&pool->mutex);
	if (close)
		job_free(job);
	else if (job->what == RELEASE)
		job->result = filelock_release_all(job->proxy);
	else
		step(job);
	(void)pthread_mutex_lock(&pool->mutex);
	return !close;
}

/* The pool is locked, and not when it returns. */
static void pool_unref(struct pool *pool)
{
	bool last = --pool->references == 0;

	(void)pthread_mutex_unlock(&pool->mutex);
	if (!last)
		return;
	if (pool->owns_watcher)
		filelock_watcher_free(pool->watcher);
	(void)pthread_cond_destroy(&pool->work);
	(void)pthread_mutex_destroy(&pool->mutex);
	free(pool);
}

static void *run_worker(void *arg)
{
	struct pool *pool = arg;
	struct job *job;

	(void)pthread_mutex_lock(&pool->mutex);
	for (;;) {
		while (!(job = take(&pool->todo)) && !pool->left)
			(void)pthread_cond_wait(&pool->work, &pool->mutex);
		if (!job)
			break;
		if (!work(pool, job))
			continue;
		if (job->orphaned) {
			(void)pthread_mutex_unlock(&pool->mutex);
			drop_hold(job);
			(void)pthread_mutex_lock(&pool->mutex);
		}
		if (pool->left) { /* meanwhile: nobody looks at it any more */
			put(&pool->todo, job);
			continue;
		}
		job->finished = true;
		put(&pool->done, job);
		filelock_watcher_ring(pool->watcher);
	}
	pool_unref(pool);
	return NULL;
}

/* --- the loop --- */

static void submit(struct pool *pool, struct job *job, enum what what)
{
	job->what = what;
	job->place = OUT;
	job->again = false;
	(void)pthread_mutex_lock(&pool->mutex);
	job->finished = job->orphaned = false;
	put(&pool->todo, job);
	(void)pthread_cond_signal(&pool->work);
	(void)pthread_mutex_unlock(&pool->mutex);
}

static void on_woken(struct filelock *proxy, void *arg)
{
	struct job *job = arg;

	(void)proxy;
	job->again = true;
	if (job->place != RESTS)
		return;
	if (!job->queue->ready)
		stats_woken(job->queue, true);
	queue_make_ready(job->queue);
}

static int job_new(struct request *request, struct job **ret_job)
{
	struct evfilelock *ev = request->ev;
	struct job *job = calloc(1, sizeof(*job));
	int r = job ? filelock_clone(request->lock, &job->proxy) : -ENOMEM;

	if (r < 0) {
		free(job);
		return r;
	}
	/* refused to no handle that is new */
	(void)filelock_begin(job->proxy, (enum filelock_mode)request->mode, FILELOCK_NEVER,
	                     &ev->pool->driver, job);
	filelock_follow(job->proxy, request->lock);
	job->request = request;
	job->queue = request->queue;
	request->job = job;
	*ret_job = job;
	return 0;
}

/* Takes back a job that is out: true if it was done already, else it is an orphan. */
static bool recall(struct pool *pool, struct job *job)
{
	bool finished;

	(void)pthread_mutex_lock(&pool->mutex);
	finished = job->finished;
	job->orphaned = !finished;
	if (finished)
		take_out(&pool->done, job);
	(void)pthread_mutex_unlock(&pool->mutex);
	return finished;
}

void workers_forget(struct request *request)
{
	struct evfilelock *ev = request->ev;
	struct job *job = request->job;

	request->job = NULL;
	/* in a forked child a thread that is not there may have the mutex */
	if (!job || filelock_watcher_is_inherited(ev->watcher))
		return;
	job->request = NULL;
	if (job->place != OUT || recall(ev->pool, job))
		submit(ev->pool, job, CLOSE);
	else if (job->queue)
		job->queue->orphan = job->proxy;
}

static bool finish(struct request *request, int result)
{
	queue_leave(request);
	request_complete(request, filelock_give_up(request->lock, result));
	return true;
}

/* Until the job that is out comes back. */
static bool wait_for_it(struct queue *queue)
{
	if (queue_sleep(queue))
		return false;
	return finish(queue->requests.first, -ENOMEM);
}

/* The proxy holds: so does the request's handle from now on, and the queue goes on with it. */
static bool take_hold(struct request *request, struct job *job)
{
	struct queue *queue = request->queue;
	int64_t until;

	if (!filelock_hand_over(job->proxy, request->lock))
		return finish(request, -ENOMEM);
	stats_attempted(request, FILELOCK_STEP_HELD);
	(void)filelock_step(request->lock, queue->ev->now, &until);
	queue_grant(queue, request);
	request_complete(request, 0);
	return true;
}

void workers_refused(struct queue *queue, int64_t at)
{
	struct evfilelock *ev = queue->ev;
	struct request *request = queue->last_call ? queue->requests.first : NULL;

	queue->last_call = false;
	for (; request; request = request->next) {
		if (!request->last_call)
			continue;
		request->last_call = request->expires > at;
		if (request->last_call)
			queue->last_call = true;
		else /* and is looked at once more: a writer's refusal is not a reader's */
			alarms_set(&ev->alarms, &request->deadline, ev->now, ev->now);
	}
}

/* Whether the job has nothing to do until its time comes. */
static bool rest(struct queue *queue, const struct job *job)
{
	int64_t slow = slow_due(queue);

	if (job->again || queue->last_call || job->until <= queue->ev->now)
		return false;
	alarms_set(&queue->ev->alarms, &queue->poll, job->until < slow ? job->until : slow,
	           queue->ev->now);
	return true;
}

bool workers_serve(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	struct request *request = queue->requests.first;
	struct job *job = request->job;
	int r = queue->orphan || job ? 0 : job_new(request, &job);

	if (r < 0)
		return finish(request, r);
	if (queue->orphan || job->place == OUT)
		return wait_for_it(queue);
	if (job->place == BACK) {
		job->place = RESTS;
		if (job->result == FILELOCK_STEP_HELD)
			return take_hold(request, job);
		stats_attempted(request, job->result);
		if (job->result < 0)
			return finish(request, job->result);
		queue_note_refusal(queue, request, job->refused_at);
		workers_refused(queue, queue->refused_at);
		if (queue_has_refused(request))
			return true;
		if (rest(queue, job))
			return false;
	}
	if (queue->last_call)
		filelock_hasten(job->proxy);
	submit(ev->pool, job, STEP);
	return wait_for_it(queue);
}

void workers_hasten(struct request *request)
{
	/* whatever becomes of the last attempt, the deadline is kept */
	request->last_call = true;
	alarms_set(&request->ev->alarms, &request->deadline, request->ev->now + GRACE,
	           request->ev->now);
	request->queue->last_call = true;
}

/* An attempt, or a release, of a request that ended meanwhile. */
static void bury(struct evfilelock *ev, struct job *job)
{
	struct queue *queue = job->queue;

	submit(ev->pool, job, CLOSE);
	if (!queue)
		return;
	queue->orphan = NULL;
	queue_make_ready(queue);
	queue_free_if_empty(queue);
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
	request->result = job->result;
	ev->sleeping--;
	requests_remove(&ev->releases, request);
	requests_append(&ev->prompt, request);
	submit(ev->pool, job, CLOSE);
}

void workers_collect(struct evfilelock *ev)
{
	struct job_list done;
	struct job *job;

	(void)pthread_mutex_lock(&ev->pool->mutex);
	done = ev->pool->done;
	ev->pool->done = (struct job_list){ 0 };
	(void)pthread_mutex_unlock(&ev->pool->mutex);
	while ((job = take(&done))) {
		job->place = BACK;
		if (!job->request)
			bury(ev, job);
		else if (job->what == RELEASE)
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
	int r = hub_hear(ev) ? job_new(request, &job) : -ENOMEM;

	if (r < 0)
		return r;
	ev->sleeping++;
	/* not to the next of its queue: that would ask the file system first. A clone takes it */
	(void)filelock_hand_over(request->lock, job->proxy);
	(void)filelock_step(job->proxy, 0, &until);
	submit(ev->pool, job, RELEASE);
	requests_append(&ev->releases, request);
	return 0;
}

/* Of threads that are to have none of the program's signals. */
static unsigned start_threads(struct pool *pool, unsigned n)
{
	sigset_t all, before;
	pthread_t thread;
	unsigned started = 0;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	for (; started < n; started++) {
		(void)pthread_mutex_lock(&pool->mutex);
		pool->references++;
		(void)pthread_mutex_unlock(&pool->mutex);
		if (pthread_create(&thread, NULL, run_worker, pool) == 0) {
			(void)pthread_detach(thread);
			continue;
		}
		(void)pthread_mutex_lock(&pool->mutex);
		pool->references--;
		(void)pthread_mutex_unlock(&pool->mutex);
		break;
	}
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

static struct pool *pool_new(struct filelock_watcher *watcher)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return NULL;
	(void)pthread_mutex_init(&pool->mutex, NULL); /* neither fails, on Linux */
	(void)pthread_cond_init(&pool->work, NULL);
	pool->watcher = watcher;
	pool->driver = (struct filelock_driver){ .watcher = watcher, .woken = on_woken };
	pool->references = 1;
	return pool;
}

void workers_leave(struct evfilelock *ev, bool with_watcher)
{
	struct pool *pool = ev->pool;
	struct job *job;

	ev->pool = NULL;
	(void)pthread_mutex_lock(&pool->mutex);
	pool->left = true;
	pool->owns_watcher = with_watcher;
	while ((job = take(&pool->done)))
		put(&pool->todo, job);
	(void)pthread_cond_broadcast(&pool->work);
	pool_unref(pool);
}

int workers_start(struct evfilelock *ev, unsigned n)
{
	int r = filelock_watcher_bell(ev->watcher);

	if (r < 0)
		return r;
	ev->pool = pool_new(ev->watcher);
	if (!ev->pool)
		return -ENOMEM;
	if (start_threads(ev->pool, n) == n)
		return 0;
	workers_leave(ev, false);
	return -EAGAIN;
}
