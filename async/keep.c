/*
 * keep.c - grants that are kept alive: their files' times are renewed, or whatever the kind does.
 *
 * Their timers are quiet: a loop that waits for nothing else ends all the same. A worker makes the
 * calls, where there are any. Who watches a hold (watch.c) keeps it alive, too, so its grant rests
 * meanwhile.
 */
#include "keep.h"

#include <stdlib.h>

#include "pool.h"
#include "job.h"

#define RETRY INT64_C(1000000000) /* ns */

struct keeper {
	struct pool_job job;
	struct evfilelock *ev;
	struct request *grant; /* NULL: its hold is over, and a worker has the job */
	struct filelock *proxy;
	int64_t next; /* what the last call said */
};

static void keeper_free(struct keeper *keeper)
{
	filelock_close(keeper->proxy);
	free(keeper);
}

static void keep(struct keeper *keeper)
{
	keeper->next = filelock_keep(keeper->proxy, filelock_now());
}

static bool run(struct pool_job *job, bool alone)
{
	struct keeper *keeper = list_entry(job, struct keeper, job);

	if (alone) {
		keeper_free(keeper);
		return false;
	}
	keep(keeper);
	return true;
}

/* The loss of a hold that nobody watches is nobody's news: it is kept no more. */
static void take_result(struct request *grant)
{
	struct evfilelock *ev = grant->ev;
	int64_t next = grant->keeper->next;

	if (next >= 0 && next != FILELOCK_NEVER)
		timers_set(&ev->timers, &grant->deadline, next, ev->now);
}

static void collect(struct pool_job *job)
{
	struct keeper *keeper = list_entry(job, struct keeper, job);

	keeper->ev->awaited--;
	pool_rest(job);
	if (keeper->grant)
		take_result(keeper->grant);
	else
		keeper_free(keeper);
}

static bool is_out(const struct keeper *keeper)
{
	enum job_state state = pool_state(&keeper->job);

	return state == JOB_SUBMITTED || state == JOB_DONE;
}

static struct keeper *make(struct request *grant)
{
	struct keeper *keeper = calloc(1, sizeof(*keeper));

	if (!keeper)
		return NULL;
	if (filelock_keeper_new(grant->lock, &grant->kept, &keeper->proxy) < 0) {
		free(keeper);
		return NULL;
	}
	keeper->ev = grant->ev;
	keeper->grant = grant;
	keeper->job.run = run;
	keeper->job.collected = collect;
	return keeper;
}

void keep_begin(struct request *grant)
{
	struct evfilelock *ev = grant->ev;

	timers_unset(&ev->timers, &grant->deadline);
	grant->keep_after = filelock_keep_after(grant->lock, &grant->kept);
	if (grant->keep_after == FILELOCK_NEVER)
		return;
	grant->deadline.owner = TIMER_OF_GRANT;
	grant->deadline.quiet = true;
	timers_set(&ev->timers, &grant->deadline, ev->now + grant->keep_after, ev->now);
}

void keep_take_timer(struct request *grant)
{
	struct evfilelock *ev = grant->ev;

	timers_unset(&ev->timers, &grant->deadline);
	if (filelock_lost_arg(grant->lock)) {
		timers_set(&ev->timers, &grant->deadline, ev->now + grant->keep_after, ev->now);
		return;
	}
	if (!grant->keeper)
		grant->keeper = make(grant);
	if (grant->keeper && !ev->workers) {
		keep(grant->keeper);
		take_result(grant);
	} else if (grant->keeper && context_hear(ev)) {
		ev->awaited++;
		pool_submit(ev->workers->pool, &grant->keeper->job);
	} else {
		timers_set(&ev->timers, &grant->deadline, ev->now + RETRY, ev->now);
	}
}

void keep_end(struct request *grant)
{
	struct keeper *keeper = grant->keeper;

	timers_unset(&grant->ev->timers, &grant->deadline);
	grant->keeper = NULL;
	if (!keeper)
		return;
	keeper->grant = NULL;
	/* in a forked child no thread will bring it back */
	if (grant->ev->inherited || !is_out(keeper))
		keeper_free(keeper);
}
