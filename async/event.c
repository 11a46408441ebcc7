/*
 * event.c - contexts and requests: the public face.
 *
 * A context freed from inside a callback is destroyed when its turn unwinds.
 */
#include "event.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "event_private.h"
#include "question.h"
#include "request.h"
#include "watch.h"
#include "workers.h"

/* Enough that a cycle of system calls counts little beside what it serves; not so long that another
   process would notice: both measured by tests/bench/bench_passes.c. */
#define HANDOVER_MAX 256
#define HANDOVER_TIME 2000000 /* ns */
#define MAX_WORKERS 256
#define LARGEST_STRUCT 4096 /* of any version: more is a size that was never set */

#ifdef __LP64__ /* a member in padding could not be told from rubbish by `size` */
_Static_assert(sizeof(struct evfilelock_options) == 32, "padding in the options");
#endif

/* The caller's options, from a header older or newer than ours: what it does not know has its
   default, what we do not know must be zero. */
static int read_options(const struct evfilelock_options *from, struct evfilelock_options *ret)
{
	size_t size = from ? from->size : 0;
	size_t known = size < sizeof(*ret) ? size : sizeof(*ret);

	*ret = (struct evfilelock_options)EVFILELOCK_OPTIONS_INIT;
	if (!from)
		return 0;
	if (size < sizeof(size_t) || size > LARGEST_STRUCT)
		return -EINVAL;
	for (size_t i = known; i < size; i++)
		if (((const unsigned char *)from)[i] != 0)
			return -EINVAL;
	memcpy(ret, from, known);
	return 0;
}

/* NULL, or the name of the option that is out of its range. */
static const char *wrong_option(const struct evfilelock_options *options,
                                const struct event_base *base)
{
	if (options->workers > MAX_WORKERS)
		return "workers: at most 256";
	if (options->priority < -1 ||
	    options->priority >= event_base_get_npriorities((struct event_base *)base))
		return "priority: the base has fewer (event_base_priority_init)";
	return NULL;
}

/* What is wrong with the arguments of evfilelock_new, as a sentence says it; NULL: nothing. */
static const char *wrong_argument(struct event_base *base, const struct evfilelock_options *options,
                                  struct evfilelock_options *ret_checked)
{
	if (!base)
		return "base is NULL: make it by event_base_new, and look whether that failed";
	if (read_options(options, ret_checked) < 0)
		return "size: begin the options with EVFILELOCK_OPTIONS_INIT";
	return wrong_option(ret_checked, base);
}

static void set_options(struct evfilelock *ev, const struct evfilelock_options *options)
{
	fd_budget_init(&ev->fds, options->max_fds);
	ev->handover_max = options->handover_max ? options->handover_max : HANDOVER_MAX;
	ev->handover_time = options->handover_us ? options->handover_us * INT64_C(1000)
	                                         : HANDOVER_TIME;
	ev->worker_count = options->workers;
	ev->stats.slow_wait = options->slow_wait_ms * INT64_C(1000000);
}

/* The part that cannot fail. */
static void init_context(struct evfilelock *ev, const struct evfilelock_options *options)
{
	ev->generation = filelock_generation();
	set_options(ev, options);
	queues_init(&ev->queues, &ev->timers);
	list_init(&ev->prompt);
	list_init(&ev->errands);
	list_init(&ev->watches);
	list_init(&ev->sets);
	list_init(&ev->warm);
}

static void init_drivers(struct evfilelock *ev)
{
	request_init_driver(ev);
	watch_init_driver(ev);
}

static int context_new(struct event_base *base, const struct evfilelock_options *options,
                       struct evfilelock **ret_ev)
{
	struct evfilelock *ev = calloc(1, sizeof(*ev));
	int r;

	if (!ev)
		return -ENOMEM;
	init_context(ev, options);
	r = engine_open(ev, base, options->priority);
	if (r == 0)
		r = filelock_watcher_new(&ev->watcher);
	if (r == 0) {
		init_drivers(ev);
		ev->mailbox = mailbox_new();
		r = ev->mailbox ? 0 : -ENOMEM;
	}
	if (r == 0 && ev->worker_count > 0)
		r = workers_start(ev, ev->worker_count, &ev->workers);
	if (r < 0)
		engine_destroy(ev);
	else
		*ret_ev = ev;
	return r;
}

FILELOCK_API struct evfilelock *evfilelock_new(struct event_base *base,
                                               const struct evfilelock_options *options)
{
	struct evfilelock_options checked;
	struct evfilelock *ev = NULL;
	const char *wrong = wrong_argument(base, options, &checked);
	int r = wrong ? -EINVAL : context_new(base, &checked, &ev);

	if (r < 0)
		errno = -filelock_refuse_call(r, "cannot make", "a context", wrong);
	return ev;
}

bool event_timeout_is_valid(const struct timeval *timeout)
{
	return !timeout || (timeout->tv_sec >= 0 && timeout->tv_usec >= 0 &&
	                    timeout->tv_usec <= 999999);
}

int64_t event_timeout_ns(const struct timeval *timeout)
{
	int64_t seconds = timeout ? timeout->tv_sec : INT64_MAX;

	if (seconds >= INT64_MAX / 1000000000)
		return -1;
	return seconds * 1000000000 + (int64_t)timeout->tv_usec * 1000;
}

/* In a forked child of a context that waited for nothing and held nothing, as after daemon(3): what
   the parent shares is replaced. */
static int renew(struct evfilelock *ev)
{
	struct filelock_watcher *watcher;
	struct mailbox *mailbox = mailbox_new();
	int r = mailbox ? filelock_watcher_new(&watcher) : -ENOMEM;

	if (r < 0) {
		if (mailbox)
			mailbox_unref(mailbox);
		return r;
	}
	workers_leave(ev);
	mailbox_close(ev->mailbox, true);
	loop_unset_timer(&ev->loop);
	loop_renew(&ev->loop);
	ev->watcher = watcher;
	ev->mailbox = mailbox;
	init_drivers(ev);
	ev->awaited = 0;
	ev->notified = false;
	ev->generation = filelock_generation();
	if (ev->worker_count > 0)
		r = workers_start(ev, ev->worker_count, &ev->workers);
	ev->inherited = r < 0; /* then the next call tries once more */
	return r;
}

int event_enter(struct evfilelock *ev)
{
	int r = 0;

	if (context_check(ev))
		r = ev->renewable ? renew(ev) : FILELOCK_EFORKED;
	if (r == 0)
		mailbox_enter(ev->mailbox);
	return r;
}

int event_refuse(struct filelock *lock, int code, const char *what, const char *detail)
{
	if (!lock)
		return filelock_refuse_call(code, what, "a lock", detail);
	return detail ? filelock_fail(lock, code, what, detail) : filelock_refuse(lock, code, what);
}

/* The same for a call with a handle: what is refused to all of them, noted; also to an inherited handle,
   and while the context is freed. */
static int enter(struct evfilelock *ev, struct filelock *lock, bool has_cb, const char *what)
{
	int r;

	if (!ev || !lock || !has_cb)
		return event_refuse(lock, -EINVAL, what,
		                    !ev ? "ev is NULL" : !lock ? "lock is NULL" : "cb is NULL");
	r = filelock_is_inherited(lock) ? FILELOCK_EFORKED : event_enter(ev);
	if (r < 0)
		return event_refuse(lock, r, what, NULL);
	return ev->freeing ? event_refuse(lock, -ECANCELED, what, "the context is being freed") : 0;
}

/* Makes the request pending. */
static int begin(struct request *request, int64_t now)
{
	struct evfilelock *ev = request->ev;
	int r = request_enlist(request, now);

	if (r < 0 || ev->running || context_arm(ev))
		return r;
	request_unlist(request);
	context_arm_surely(ev); /* for the others */
	return -ENOMEM;
}

static int refuse_timeout(struct filelock *lock)
{
	return filelock_fail(lock, -EINVAL, "cannot acquire",
	                     EVENT_WRONG_TIMEOUT);
}

FILELOCK_API struct event_base *evfilelock_base(const struct evfilelock *ev)
{
	return ev->loop.base;
}

FILELOCK_API bool evfilelock_is_inherited(struct evfilelock *ev)
{
	return event_enter(ev) < 0;
}

FILELOCK_API int evfilelock_acquire(struct evfilelock *ev, struct filelock *lock,
                                    enum filelock_mode mode, const struct timeval *timeout,
                                    evfilelock_cb cb, void *arg)
{
	struct request *request;
	int64_t now = filelock_now();
	int r = enter(ev, lock, cb, "cannot acquire");

	if (r < 0)
		return r;
	if (!event_timeout_is_valid(timeout))
		return refuse_timeout(lock);
	request = request_new(ev, lock, mode, cb, arg);
	if (!request)
		return event_refuse(lock, -ENOMEM, "cannot acquire", NULL);
	request->since = now;
	request->expires = filelock_deadline(now, event_timeout_ns(timeout));
	request->deadline.owner = TIMER_OF_REQUEST;
	r = filelock_begin(lock, mode, request->expires, &ev->driver, request);
	if (r == 0) {
		r = begin(request, now);
		if (r < 0)
			(void)filelock_give_up(lock, r);
	}
	if (r < 0) {
		request_discard(request);
		return r;
	}
	filelock_ref(lock);
	stats_requested(&ev->stats, request);
	return 0;
}

bool event_releases_by_worker(const struct evfilelock *ev, const struct filelock *lock)
{
	return workers_are_for(ev, lock) && filelock_depth(lock) == 1;
}

int event_release(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb, void *arg)
{
	struct request *request;
	int r = 0;

	if (filelock_depth(lock) == 0)
		return -EPERM;
	request = request_new(ev, lock, filelock_mode(lock), cb, arg);
	if (!request)
		return -ENOMEM;
	request->is_errand = true;
	if (event_releases_by_worker(ev, lock))
		r = workers_release(request);
	else /* at once, but for the answer */
		request_know(request, filelock_release(lock));
	if (r < 0) {
		request_discard(request);
		return r;
	}
	filelock_ref(lock);
	context_arm_surely(ev);
	return 0;
}

FILELOCK_API int evfilelock_release(struct evfilelock *ev, struct filelock *lock,
                                    evfilelock_cb cb, void *arg)
{
	int r = enter(ev, lock, cb, "cannot release");

	if (r < 0)
		return r;
	r = event_release(ev, lock, cb, arg);
	return r < 0 ? event_refuse(lock, r, "cannot release", NULL) : 0;
}

FILELOCK_API int evfilelock_holder(struct evfilelock *ev, struct filelock *lock,
                                   evfilelock_holder_cb cb, void *arg)
{
	int r = enter(ev, lock, cb, "cannot tell the holder of");

	if (r < 0)
		return r;
	r = question_ask(ev, lock, cb, arg);
	return r < 0 ? event_refuse(lock, r, "cannot ask for the holder of", NULL) : 0;
}

FILELOCK_API int evfilelock_on_lost(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb,
                                    void *arg)
{
	int r = enter(ev, lock, true, "cannot watch over");

	if (r < 0)
		return r;
	r = filelock_depth(lock) == 0 ? -EPERM : watch_begin(ev, lock, cb, arg);
	if (r == -EALREADY)
		return filelock_fail(lock, r, "cannot watch over", "the hold has a callback already");
	return r < 0 ? event_refuse(lock, r, "cannot watch over", NULL) : 0;
}

int event_cancel(struct evfilelock *ev, struct filelock *lock)
{
	struct request *request = filelock_driver_arg(lock, &ev->driver);

	if (!request || !request_cancel(request))
		return -ENOENT;
	context_arm_surely(ev);
	return 0;
}

FILELOCK_API int evfilelock_get_stats(struct evfilelock *ev, struct evfilelock_stats *ret_stats)
{
	struct evfilelock_stats stats;
	size_t size = ret_stats ? ret_stats->size : 0;
	size_t known = size < sizeof(stats) ? size : sizeof(stats);
	int r;

	if (!ev)
		return filelock_refuse_call(-EINVAL, "cannot count for", "a context", "ev is NULL");
	if (size < sizeof(size_t) || size > LARGEST_STRUCT)
		return filelock_refuse_call(-EINVAL, "cannot count for", "a context",
		                            "size: begin with EVFILELOCK_STATS_INIT");
	/* another thread must not be taken for the one that runs the loop */
	r = filelock_generation() == ev->generation ? 0 : event_enter(ev);
	if (r < 0)
		return filelock_refuse_call(r, "cannot count for", "a context", NULL);
	stats_measure(&ev->stats, &ev->queues, mailbox_ended(ev->mailbox), &stats);
	stats.size = size;
	memcpy(ret_stats, &stats, known);
	memset((char *)ret_stats + known, 0, size - known); /* of a newer header */
	return 0;
}

FILELOCK_API int evfilelock_set_trace(struct evfilelock *ev, evfilelock_trace_cb cb, void *arg)
{
	int r = ev ? event_enter(ev) : -EINVAL;

	if (r < 0)
		return filelock_refuse_call(r, "cannot trace", "a context", ev ? NULL : "ev is NULL");
	ev->stats.trace = cb;
	ev->stats.trace_arg = arg;
	return 0;
}

/* A pending one of a queue, taken out; NULL: there is none. No queue is added meanwhile, so *bucket
   need only go forward. */
static struct request *take_queued(struct evfilelock *ev, size_t *bucket)
{
	struct request *request;

	for (; *bucket < ev->queues.table.size; (*bucket)++) {
		struct hash_node *node = ev->queues.table.buckets[*bucket];

		/* one that is being served may be empty */
		for (; node; node = node->next) {
			request = queue_first(hash_entry(node, struct queue, node));
			if (!request)
				continue;
			request_leave(request);
			request->result = -ECANCELED;
			return request;
		}
	}
	return NULL;
}

/* Any request, taken out of its list. */
static struct request *take_any(struct evfilelock *ev, size_t *bucket)
{
	struct request *request = request_at(list_take_first(&ev->prompt));

	if (request) {
		if (request->state == REQUEST_NESTING)
			request->result = -ECANCELED;
		return request;
	}
	request = request_at(list_take_first(&ev->errands));
	if (!request)
		return take_queued(ev, bucket);
	workers_abandon(request);
	request->result = -ECANCELED;
	return request;
}

FILELOCK_API void evfilelock_free(struct evfilelock *ev)
{
	struct request *request;
	size_t bucket = 0;

	if (!ev || ev->freeing)
		return;
	(void)context_check(ev);
	assert((ev->running || ev->inherited || loop_has_base(&ev->loop)) &&
	       "evfilelock_free must come before event_base_free");
	ev->freeing = true;
	/* a callback may run the loop: nothing is served there any more, and what nobody reads
	   would keep it spinning */
	loop_stop(&ev->loop);
	while ((request = take_any(ev, &bucket))) {
		if (!request->is_errand)
			(void)filelock_give_up(request->lock,
			                       ev->inherited ? FILELOCK_EFORKED : -ECANCELED);
		if (ev->inherited) /* perhaps since a callback forked */
			request_drop(request);
		else
			request_answer(request, request->result);
	}
	if (!ev->running)
		engine_destroy(ev);
}
