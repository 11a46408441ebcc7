/*
 * pool.c - threads that run jobs.
 *
 *	        submit                run             collect
 *	IDLE ─────────> SUBMITTED ─────────> DONE ─────────────> COLLECTED ─> looked at: IDLE, or
 *	                                       recall                         submitted once more
 *
 * The mutex guards the two lists. A job belongs to the worker while it is SUBMITTED, else to the
 * loop. The pool lives until the loop and all threads have left it.
 */
#include "pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct pool {
	pthread_mutex_t mutex;
	pthread_cond_t work;
	struct list todo, done;
	void (*notify)(void *arg);
	void *arg;
	void (*on_end)(void *arg);
	void *end_arg;
	unsigned references; /* threads, and the loop */
	bool left;           /* by the loop */
};

static void move(struct pool_job *job, enum job_state to)
{
	static const unsigned char allowed[] __attribute__((unused)) = {
		[JOB_IDLE] = 1 << JOB_SUBMITTED,
		[JOB_SUBMITTED] = 1 << JOB_DONE,
		[JOB_DONE] = 1 << JOB_COLLECTED | 1 << JOB_SUBMITTED,
		[JOB_COLLECTED] = 1 << JOB_IDLE | 1 << JOB_SUBMITTED,
	};
	int from = atomic_exchange_explicit(&job->state, to, memory_order_acq_rel);

	assert(allowed[from] >> to & 1);
	(void)from;
	(void)allowed;
}

static struct pool_job *take(struct list *list)
{
	struct list *link = list_take_first(list);

	return link ? list_entry(link, struct pool_job, link) : NULL;
}

/* The pool is locked, and not when it returns. */
static void unref(struct pool *pool)
{
	bool last = --pool->references == 0;

	(void)pthread_mutex_unlock(&pool->mutex);
	if (!last)
		return;
	if (pool->on_end)
		pool->on_end(pool->end_arg);
	(void)pthread_cond_destroy(&pool->work);
	(void)pthread_mutex_destroy(&pool->mutex);
	free(pool);
}

/* The pool is locked. False: the job is gone. */
static bool run(struct pool *pool, struct pool_job *job)
{
	bool alone = pool->left;
	bool lives;

	(void)pthread_mutex_unlock(&pool->mutex);
	lives = job->run(job, alone);
	(void)pthread_mutex_lock(&pool->mutex);
	if (!lives || !job->abandoned)
		return lives;
	(void)pthread_mutex_unlock(&pool->mutex);
	job->drop(job);
	(void)pthread_mutex_lock(&pool->mutex);
	return true;
}

static void *run_worker(void *arg)
{
	struct pool *pool = arg;
	struct pool_job *job;

	(void)pthread_mutex_lock(&pool->mutex);
	for (;;) {
		while (!(job = take(&pool->todo)) && !pool->left)
			(void)pthread_cond_wait(&pool->work, &pool->mutex);
		if (!job)
			break;
		if (!run(pool, job))
			continue;
		if (pool->left) { /* meanwhile: nobody looks at it any more */
			list_add_last(&pool->todo, &job->link);
			continue;
		}
		move(job, JOB_DONE);
		list_add_last(&pool->done, &job->link);
		pool->notify(pool->arg);
	}
	unref(pool);
	return NULL;
}

void pool_submit(struct pool *pool, struct pool_job *job)
{
	(void)pthread_mutex_lock(&pool->mutex);
	move(job, JOB_SUBMITTED);
	job->abandoned = false;
	list_add_last(&pool->todo, &job->link);
	(void)pthread_cond_signal(&pool->work);
	(void)pthread_mutex_unlock(&pool->mutex);
}

void pool_collect(struct pool *pool, struct list *to)
{
	(void)pthread_mutex_lock(&pool->mutex);
	list_for_each(link, &pool->done)
		move(list_entry(link, struct pool_job, link), JOB_COLLECTED);
	list_splice_last(to, &pool->done);
	(void)pthread_mutex_unlock(&pool->mutex);
}

void pool_rest(struct pool_job *job)
{
	move(job, JOB_IDLE);
}

bool pool_recall(struct pool *pool, struct pool_job *job)
{
	bool done;

	(void)pthread_mutex_lock(&pool->mutex);
	done = pool_state(job) == JOB_DONE;
	job->abandoned = !done;
	if (done) {
		list_remove(&job->link);
		move(job, JOB_COLLECTED);
	}
	(void)pthread_mutex_unlock(&pool->mutex);
	return done;
}

/* Of threads that are to have none of the program's signals. */
static unsigned start_threads(struct pool *pool, unsigned n)
{
	sigset_t all, before;
	pthread_t thread;
	unsigned started = 0;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	(void)pthread_mutex_lock(&pool->mutex);
	for (; started < n; started++) {
		if (pthread_create(&thread, NULL, run_worker, pool) != 0)
			break;
		pool->references++;
		(void)pthread_detach(thread);
	}
	(void)pthread_mutex_unlock(&pool->mutex);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return started;
}

int pool_new(unsigned threads, void (*notify)(void *arg), void *arg, struct pool **ret_pool)
{
	struct pool *pool = calloc(1, sizeof(*pool));

	if (!pool)
		return -ENOMEM;
	(void)pthread_mutex_init(&pool->mutex, NULL); /* neither fails, on Linux */
	(void)pthread_cond_init(&pool->work, NULL);
	list_init(&pool->todo);
	list_init(&pool->done);
	pool->notify = notify;
	pool->arg = arg;
	pool->references = 1;
	if (start_threads(pool, threads) < threads) {
		pool_leave(pool, NULL, NULL);
		return -EAGAIN;
	}
	*ret_pool = pool;
	return 0;
}

void pool_leave(struct pool *pool, void (*on_end)(void *arg), void *arg)
{
	struct pool_job *job;

	(void)pthread_mutex_lock(&pool->mutex);
	pool->left = true;
	pool->on_end = on_end;
	pool->end_arg = arg;
	while ((job = take(&pool->done))) {
		move(job, JOB_SUBMITTED);
		list_add_last(&pool->todo, &job->link);
	}
	(void)pthread_cond_broadcast(&pool->work);
	unref(pool);
}

void pool_forget(struct pool *pool)
{
	free(pool);
}
