/*
 * event.c - contexts and requests: the public face.
 *
 * States of a request: queued (in a queue) or prompt (in ev->prompt: cancelled, or nested), then
 * finished: its callback has begun.
 *
 * A context freed from inside a callback is destroyed when its pass unwinds.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <event2/event.h>

#include "stats.h"
#include "workers.h"

/* Enough that a cycle of system calls counts little beside what it serves; not so long that another
   process would notice: both measured by tests/bench/bench_passes.c. */
#define MOST_PASSES 256
#define LONGEST_PASSING 2000000 /* ns */
#define MOST_WORKERS 256
#define LARGEST_OPTIONS 4096 /* of any version: more is a size that was never set */

#ifdef __LP64__ /* a member in padding could not be told from rubbish by `size` */
_Static_assert(sizeof(struct evfilelock_options) == 32, "padding in the options");
#endif

static bool is_inherited(const struct evfilelock *ev)
{
	return filelock_watcher_is_inherited(ev->watcher);
}

static void on_woken(struct filelock *lock, void *arg)
{
	struct request *request = arg;

	(void)lock;
	if (!request->queue)
		return;
	if (!request->queue->ready)
		stats_woken(request->queue, true);
	queue_make_ready(request->queue);
}

static void on_closing(struct filelock *lock, void *arg)
{
	(void)lock;
	struct request *request = arg;

	request_cancel(request);
	pass_arm_surely(request->ev);
}

static bool on_out_of_fds(struct filelock *lock, void *arg)
{
	struct request *request = arg;

	if (!keepers_make_room(request->ev))
		return false;
	filelock_set_poll_only(lock, true);
	return true;
}

/* The caller's options, from a header older or newer than ours: what it does not know has its
   default, what we do not know must be zero. */
static int read_options(const struct evfilelock_options *from, struct evfilelock_options *ret)
{
	size_t size = from ? from->size : 0;
	size_t known = size < sizeof(*ret) ? size : sizeof(*ret);

	*ret = (struct evfilelock_options)EVFILELOCK_OPTIONS_INIT;
	if (!from)
		return 0;
	if (size < sizeof(size_t) || size > LARGEST_OPTIONS)
		return -EINVAL;
	for (size_t i = known; i < size; i++)
		if (((const unsigned char *)from)[i] != 0)
			return -EINVAL;
	memcpy(ret, from, known);
	return 0;
}

static bool has_wrong_option(const struct evfilelock_options *options,
                             const struct event_base *base)
{
	return options->workers > MOST_WORKERS || options->priority < -1 ||
	       options->priority >= event_base_get_npriorities((struct event_base *)base);
}

static void set_options(struct evfilelock *ev, const struct evfilelock_options *options)
{
	ev->priority = options->priority;
	ev->most_keepers = options->max_fds ? options->max_fds : keepers_default();
	ev->most_passes = options->handover_max ? options->handover_max : MOST_PASSES;
	ev->longest_passing = options->handover_us ? options->handover_us * INT64_C(1000)
	                                           : LONGEST_PASSING;
	ev->slow_wait = options->slow_wait_ms * INT64_C(1000000);
}

static int context_new(struct event_base *base, const struct evfilelock_options *from,
                       struct evfilelock **ret_ev)
{
	struct evfilelock_options options;
	struct evfilelock *ev;
	int r = base ? read_options(from, &options) : -EINVAL;

	if (r < 0)
		return r;
	if (has_wrong_option(&options, base))
		return -EINVAL;
	ev = calloc(1, sizeof(*ev));
	if (!ev)
		return -ENOMEM;
	ev->base = base;
	ev->armed = FILELOCK_NEVER;
	set_options(ev, &options);
	r = filelock_watcher_new(&ev->watcher);
	if (r == 0)
		r = hub_new(ev);
	ev->driver = (struct filelock_driver){ ev->watcher, on_woken, on_closing, on_out_of_fds };
	if (r == 0) {
		ev->timer = evtimer_new(base, pass_on_timer, ev);
		r = ev->timer ? 0 : -ENOMEM;
	}
	if (r == 0 && ev->priority >= 0)
		(void)event_priority_set(ev->timer, ev->priority);
	if (r == 0 && options.workers > 0)
		r = workers_start(ev, options.workers);
	if (r < 0)
		context_destroy(ev);
	else
		*ret_ev = ev;
	return r;
}

FILELOCK_API struct evfilelock *evfilelock_new(struct event_base *base,
                                               const struct evfilelock_options *options)
{
	struct evfilelock *ev = NULL;
	int r = context_new(base, options, &ev);

	if (r < 0)
		errno = -r;
	return ev;
}

static struct request *request_new(struct evfilelock *ev, struct filelock *lock,
                                              enum filelock_mode mode, evfilelock_cb cb,
                                              void *arg)
{
	struct request *request = calloc(1, sizeof(*request));

	if (!request)
		return NULL;
	if (alarms_reserve(&ev->alarms) < 0) {
		free(request);
		return NULL;
	}
	request->ev = ev;
	request->lock = lock;
	request->mode = (unsigned char)mode;
	request->cb = cb;
	request->arg = arg;
	request->born = ev->next_born;
	return request;
}

int request_enlist(struct request *request, int64_t now)
{
	struct evfilelock *ev = request->ev;
	struct queue *queue;

	if (filelock_is_held(request->lock)) {
		requests_append(&ev->prompt, request);
		return 0;
	}
	queue = queue_of(ev, request);
	if (!queue)
		return -ENOMEM;
	queue_append(queue, request);
	if (request->deadline.at != FILELOCK_NEVER)
		alarms_set(&ev->alarms, &request->deadline, request->deadline.at, now);
	return 0;
}

static void request_unlist(struct request *request)
{
	struct evfilelock *ev = request->ev;

	if (request->queue)
		queue_leave(request);
	else
		requests_remove(&ev->prompt, request);
	alarms_unset(&ev->alarms, &request->deadline);
}

bool timeout_is_valid(const struct timeval *timeout)
{
	return !timeout || (timeout->tv_sec >= 0 && timeout->tv_usec >= 0 &&
	                    timeout->tv_usec <= 999999);
}

static int check_request(const struct evfilelock *ev, const struct filelock *lock,
                         const struct timeval *timeout, evfilelock_cb cb)
{
	if (!ev || !lock || !cb)
		return -EINVAL;
	if (!timeout_is_valid(timeout))
		return -EINVAL;
	if (is_inherited(ev) || filelock_is_inherited(lock))
		return FILELOCK_EFORKED;
	return ev->freeing ? -ECANCELED : 0;
}

int64_t timeout_ns(const struct timeval *timeout)
{
	if (!timeout || timeout->tv_sec >= INT64_MAX / 1000000000)
		return -1;
	return (int64_t)timeout->tv_sec * 1000000000 + (int64_t)timeout->tv_usec * 1000;
}

FILELOCK_API int evfilelock_acquire(struct evfilelock *ev, struct filelock *lock,
                                    enum filelock_mode mode, const struct timeval *timeout,
                                    evfilelock_cb cb, void *arg)
{
	struct request *request = NULL;
	int64_t now = filelock_now();
	int64_t deadline;
	int r = check_request(ev, lock, timeout, cb);

	if (r < 0)
		return r;
	hub_enter(ev->hub);
	deadline = filelock_deadline(now, timeout_ns(timeout));
	request = request_new(ev, lock, mode, cb, arg);
	r = request ? filelock_begin(lock, mode, deadline, &ev->driver, request) : -ENOMEM;
	if (r < 0)
		goto failed;
	request->since = now;
	request->deadline = (struct alarm){ .at = deadline, .is_deadline = true };
	request->expires = deadline;
	r = request_enlist(request, now);
	if (r < 0) {
		(void)filelock_give_up(lock, r);
		goto failed;
	}
	if (!ev->running && !pass_arm(ev)) {
		request_unlist(request);
		pass_arm_surely(ev); /* for the others */
		(void)filelock_give_up(lock, -ENOMEM);
		r = -ENOMEM;
		goto failed;
	}
	filelock_ref(lock);
	stats_requested(request);
	return 0;

failed:
	if (request)
		alarms_unreserve(&ev->alarms);
	free(request);
	return r;
}

/* At once, but for the answer. */
static int release_here(struct request *request)
{
	request->result = filelock_release(request->lock);
	requests_append(&request->ev->prompt, request);
	return 0;
}

int request_release(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb, void *arg)
{
	struct request *request;
	int r;

	if (!filelock_is_held(lock))
		return -EPERM;
	request = request_new(ev, lock, filelock_mode(lock), cb, arg);
	if (!request)
		return -ENOMEM;
	request->releasing = true;
	r = workers_are_for(ev, lock) && filelock_depth(lock) == 1 ? workers_release(request)
	                                                           : release_here(request);
	if (r < 0) {
		alarms_unreserve(&ev->alarms);
		free(request);
		return r;
	}
	filelock_ref(lock);
	pass_arm_surely(ev);
	return 0;
}

FILELOCK_API int evfilelock_release(struct evfilelock *ev, struct filelock *lock,
                                    evfilelock_cb cb, void *arg)
{
	if (!ev || !lock || !cb)
		return -EINVAL;
	if (is_inherited(ev) || filelock_is_inherited(lock))
		return FILELOCK_EFORKED;
	if (ev->freeing)
		return -ECANCELED;
	hub_enter(ev->hub);
	return request_release(ev, lock, cb, arg);
}

int event_cancel(struct evfilelock *ev, struct filelock *lock)
{
	struct request *request = filelock_driver_arg(lock, &ev->driver);

	if (!request || request->result < 0)
		return -ENOENT;
	request_cancel(request);
	pass_arm_surely(ev);
	return 0;
}

/* Any request, taken out of its list; NULL when there is none. No queue is added meanwhile, so
   *bucket need only go forward. */
static struct request *take_any(struct evfilelock *ev, size_t *bucket)
{
	struct request *request = ev->prompt.first;

	if (request) {
		requests_remove(&ev->prompt, request);
		return request;
	}
	request = ev->releases.first;
	if (request) { /* the worker goes on with it */
		requests_remove(&ev->releases, request);
		request->result = -ECANCELED;
		workers_forget(request);
		filelock_end_hold(request->lock);
		return request;
	}
	for (; *bucket < ev->queues.size; (*bucket)++) {
		struct hash_node *node = ev->queues.buckets[*bucket];

		/* one that is being served may be empty */
		for (; node; node = node->next) {
			request = hash_entry(node, struct queue, node)->requests.first;
			if (request) {
				queue_leave(request);
				return request;
			}
		}
	}
	return NULL;
}

/* A callback of evfilelock_free may run the loop: nothing is served there any more, and what nobody
   reads would keep it spinning. */
static void stop_listening(struct evfilelock *ev)
{
	struct event *events[] = { ev->timer, ev->precise, ev->readable };

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (events[i])
			(void)event_del(events[i]);
}

FILELOCK_API void evfilelock_free(struct evfilelock *ev)
{
	struct request *request;
	size_t bucket = 0;

	if (!ev || ev->freeing)
		return;
	ev->freeing = true;
	stop_listening(ev);
	while ((request = take_any(ev, &bucket))) {
		/* asked each time: a callback may fork */
		if (!is_inherited(ev)) {
			request_complete(request,
			                 request->releasing
			                         ? request->result
			                         : filelock_give_up(request->lock, -ECANCELED));
			continue;
		}
		(void)filelock_give_up(request->lock, FILELOCK_EFORKED);
		request_drop(request);
	}
	if (!ev->running)
		context_destroy(ev);
}

void context_destroy(struct evfilelock *ev)
{
	struct hash_node *node;

	for (size_t i = 0; i < ev->queues.size; i++)
		while ((node = ev->queues.buckets[i]))
			queue_destroy(hash_entry(node, struct queue, node));
	if (ev->hub)
		hub_leave(ev);
	if (ev->timer)
		event_free(ev->timer);
	if (ev->precise)
		event_free(ev->precise);
	if (ev->readable)
		event_free(ev->readable);
	if (ev->bell)
		event_free(ev->bell);
	sets_free(ev);
	if (ev->pool && !is_inherited(ev))
		workers_leave(ev, true);
	else
		filelock_watcher_free(ev->watcher);
	alarms_free(&ev->alarms);
	free(ev->queues.buckets);
	free(ev);
}
