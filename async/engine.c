/*
 * engine.c - what a context does when the loop calls it.
 *
 * The timer starts a pass, so that a turn of the loop sees at most one. A pass takes requests that
 * wait for nobody (cancelled, or nested), queues that are ready (new, stirred, due), and alarms
 * that have passed; by turns another of the three first, since any may have more than the passes
 * get done, and a deadline is kept also then. It stops after 256 completions or 1 ms, when a
 * callback broke the loop, and when the context was freed; a zero timer starts the next one.
 * (event_active(3) from a callback would starve the other events of the loop.) One completion
 * of the 256 may come before the pass: an event of the watcher is mostly for one waiter, which
 * shall not wait for the timer's turn.
 *
 * Every request ends in request_complete, exactly once, and only from here or from
 * evfilelock_free. What a callback begins carries the number of a pass that must not complete
 * it: of the one that runs or, before it, of the one that may follow in the same turn.
 *
 * A request that is not the first of its queue has made no attempt of its own. Its deadline
 * makes the first one's handle attempt at once; if that finds the lock held, it is held for all
 * behind it as well.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include "stats.h"
#include "workers.h"

#define MOST_COMPLETIONS 256
#define LONGEST_PASS 1000000 /* ns */
#define AT_ONCE INT64_MIN

void request_complete(struct request *request, int result)
{
	struct evfilelock *ev = request->ev;

	alarms_unset(&ev->alarms, &request->deadline);
	if (ev->left > 0)
		ev->left--;
	if (!request->releasing)
		stats_answered(request, result);
	request->calling = true;
	/* from here on the handle is the user's, who may give it to another thread */
	request->cb(request->lock, result, request->arg);
	request->calling = false;
	alarms_unreserve(&ev->alarms);
	if (!request->granted)
		request_free(request);
}

void request_free(struct request *request)
{
	if (request->hub)
		hub_unref(request->hub);
	filelock_unref(request->lock);
	free(request);
}

void request_drop(struct request *request)
{
	alarms_unset(&request->ev->alarms, &request->deadline);
	alarms_unreserve(&request->ev->alarms);
	request_free(request);
}

void request_cancel(struct request *request)
{
	struct queue *queue = request->queue;

	request->result = -ECANCELED;
	if (!queue)
		return;
	/* a hold that was passed to it goes on to the next, or back to the system */
	if (filelock_is_held(request->lock) &&
	    !(request->next && queue_pass(queue, request, request->next)))
		(void)filelock_release_all(request->lock);
	/* the handle's acquisition stays pending until it is told: nobody else may begin one */
	queue_leave(request);
	alarms_unset(&request->ev->alarms, &request->deadline);
	requests_append(&request->ev->prompt, request);
}

/* Also takes the time, for the step to come. */
static bool may_go_on(struct evfilelock *ev)
{
	if (filelock_watcher_is_inherited(ev->watcher)) /* a callback forked */
		return false;
	hub_settle(ev); /* first: those who ended them may have had no bell to ring */
	if (ev->freeing || ev->left == 0 || event_base_got_break(ev->base))
		return false;
	ev->now = filelock_now();
	return ev->now < ev->pass_ends;
}

/* Whether there was one to take. */
static bool take_prompt(struct evfilelock *ev)
{
	struct request *request = ev->prompt.first;
	int64_t until;
	int r;

	if (!request || request->born == ev->pass)
		return false;
	requests_remove(&ev->prompt, request);
	if (request->releasing)
		r = request->result;
	else if (request->result < 0)
		r = filelock_give_up(request->lock, request->result);
	else if (filelock_is_held(request->lock))
		r = filelock_step(request->lock, ev->now, &until);
	else if ((r = request_enlist(request, ev->now)) == 0)
		return true; /* what it was to nest in has ended: it waits as others do */
	else
		r = filelock_give_up(request->lock, r);
	request_complete(request, r);
	return true;
}

/* Serves the first request; false if the queue has to wait. */
static bool serve_first(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	struct request *request = queue->requests.first;
	int64_t until;
	int r;

	if (request->born == ev->pass) {
		queue->rested = ev->pass;
		queue_make_ready(queue);
		return false;
	}
	if (queue_waits_for_itself(queue)) {
		if (request->expires <= ev->now)
			queue_note_refusal(queue, request, ev->now);
		workers_refused(queue, ev->now);
		if (request->expires > ev->now && queue_sleep(queue))
			return false;
	}
	if (queue_has_refused(request)) {
		r = filelock_give_up(request->lock, -ETIMEDOUT);
	} else if (workers_are_for(ev, request->lock) && !filelock_is_held(request->lock)) {
		return workers_serve(queue);
	} else {
		keepers_admit(queue);
		r = filelock_step(request->lock, ev->now, &until);
		if (r == FILELOCK_STEP_WAIT || r == -ETIMEDOUT)
			queue_note_refusal(queue, request, ev->now);
		if (r == FILELOCK_STEP_WAIT)
			keepers_add(queue);
		stats_attempted(request, r);
	}
	if (r > 0) {
		alarms_set(&ev->alarms, &queue->poll,
		           until < slow_due(queue) ? until : slow_due(queue), ev->now);
		return until <= ev->now;
	}
	if (r == 0)
		queue_grant(queue, request);
	else
		queue_leave(request);
	request_complete(request, r);
	return true;
}

static void serve(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	bool waits = false;

	queue->serving = true;
	/* its turn has come: at least one, whatever the time */
	do {
		waits = !serve_first(queue);
	} while (!waits && queue->requests.first && may_go_on(ev));
	queue->serving = false;
	if (!waits && queue->requests.first)
		queue_make_ready(queue);
	queue_free_if_empty(queue);
}

static void take_poll(struct queue *queue)
{
	alarms_unset(&queue->ev->alarms, &queue->poll);
	if (!slow_say(queue))
		stats_woken(queue, false);
	queue_make_ready(queue);
}

/* Whether there was one to take. */
static bool take_alarm(struct evfilelock *ev)
{
	struct alarm *alarm = alarms_first(&ev->alarms);
	struct request *request;
	bool worked;

	if (!alarm || alarm->at > ev->now)
		return false;
	if (!alarm->is_deadline) {
		take_poll(hash_entry(alarm, struct queue, poll));
		return true;
	}
	request = hash_entry(alarm, struct request, deadline);
	if (request->queue->requests.first->born == ev->pass)
		return false;
	if (queue_has_refused(request) || request->last_call ||
	    queue_waits_for_itself(request->queue)) {
		queue_leave(request);
		request_complete(request, filelock_give_up(request->lock, -ETIMEDOUT));
		return true;
	}
	worked = workers_are_for(ev, request->lock);
	if (worked)
		workers_hasten(request);
	else
		filelock_hasten(request->queue->requests.first->lock);
	/* one that is ready, and yet not taken, stands behind what rests until the next pass */
	if (request->queue->ready)
		return worked; /* the alarm has moved on */
	queue_make_ready(request->queue);
	return true;
}

void pass_disarm(struct evfilelock *ev)
{
	if (ev->armed == FILELOCK_NEVER)
		return;
	ev->armed = FILELOCK_NEVER;
	if (ev->precisely)
		(void)event_del(ev->precise);
	else
		(void)event_del(ev->timer);
	ev->precisely = false;
}

/* Whether there was one to serve. */
static bool take_queue(struct evfilelock *ev)
{
	struct queue *queue = queue_take_ready(ev);

	if (!queue)
		return false;
	serve(queue);
	return true;
}

static void run(struct evfilelock *ev, unsigned completions)
{
	static bool (*const take[3])(struct evfilelock *) = { take_prompt, take_queue, take_alarm };
	unsigned first = ev->pass % 3;

	hub_enter(ev->hub);
	ev->running = true;
	ev->left = completions;
	ev->pass_ends = filelock_now() + LONGEST_PASS;
	while (may_go_on(ev) && (take[first](ev) || take[(first + 1) % 3](ev) ||
	                         take[(first + 2) % 3](ev)))
		continue;
	filelock_watcher_tidy(ev->watcher); /* after the users were told */
	ev->running = false;
	ev->next_born = ev->pass; /* of the pass that is over: the next one may complete it */
	if (ev->freeing)
		context_destroy(ev);
	else
		pass_arm_surely(ev);
}

/* Keeps the timer in libevent's heap, so that setting it after the callbacks needs no memory;
   unless another event of this turn has taken its place there. */
static void keep_timer(struct evfilelock *ev)
{
	static const struct timeval later = { 3600, 0 };

	(void)event_add(ev->timer, &later);
	ev->armed = FILELOCK_NEVER - 1;
}

void pass_on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	(void)fd;
	(void)events;
	pass_disarm(ev); /* also in a forked child: see on_readable */
	if (filelock_watcher_is_inherited(ev->watcher))
		return;
	keep_timer(ev);
	ev->next_born = ++ev->pass;
	run(ev, MOST_COMPLETIONS - 1);
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	(void)fd;
	(void)events;
	if (filelock_watcher_is_inherited(ev->watcher)) {
		/* it is the parent that has something to read: its epoll(7) instance is ours as
		   well, and would keep our loop spinning */
		(void)event_del(ev->readable);
		return;
	}
	filelock_watcher_dispatch(ev->watcher);
	/* the one that was woken, at once; the timer may follow in this turn of the loop, so what
	   a callback begins here is left out of its pass */
	ev->next_born = ev->pass + 1;
	run(ev, 1);
}

struct event *context_event(struct evfilelock *ev, int fd, event_callback_fn callback)
{
	struct event *event = event_new(ev->base, fd, EV_READ | EV_PERSIST, callback, ev);

	if (event && ev->priority >= 0)
		(void)event_priority_set(event, ev->priority);
	return event;
}

/* Listens to the watcher while somebody waits through it. Without memory for the event, the
   polls are left. */
static void listen_if_watched(struct evfilelock *ev)
{
	/* a worker may have to close yet what nobody waits for any more */
	bool wanted = stats_waiting(ev) > 0 && filelock_watcher_load(ev->watcher) > 0;
	int fd = filelock_watcher_fd(ev->watcher);

	if (ev->readable && event_get_fd(ev->readable) != fd) {
		event_free(ev->readable);
		ev->readable = NULL;
		ev->listening = false;
	}
	if (wanted == ev->listening)
		return;
	if (!wanted) {
		(void)event_del(ev->readable);
		ev->listening = false;
		return;
	}
	if (!ev->readable)
		ev->readable = context_event(ev, fd, on_readable);
	ev->listening = ev->readable && event_add(ev->readable, NULL) == 0;
}

static void hear_if_asleep(struct evfilelock *ev)
{
	if (!ev->hearing || ev->sleeping > 0)
		return;
	(void)event_del(ev->bell);
	ev->hearing = false;
}

static int64_t next_pass(const struct evfilelock *ev, bool *ret_precise)
{
	const struct alarm *alarm = alarms_first(&ev->alarms);

	*ret_precise = false;
	if (ev->prompt.first || ev->first_ready)
		return AT_ONCE;
	if (!alarm)
		return FILELOCK_NEVER;
	*ret_precise = alarm->precise;
	return alarm->at;
}

/* libevent's timers are late by milliseconds on most bases; short delays are worth two system
   calls more. */
static bool arm_precisely(struct evfilelock *ev, int64_t at)
{
	int fd = filelock_watcher_set_timer(ev->watcher, at);

	if (fd < 0)
		return false;
	if (!ev->precise)
		ev->precise = context_event(ev, fd, pass_on_timer);
	if (!ev->precise || event_add(ev->precise, NULL) < 0)
		return false;
	ev->precisely = true;
	return true;
}

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Most bases go by a clock that ticks every few milliseconds, and is behind: what falls between two
   ticks has libevent wake in vain until the next one. So this ends with one, and not before. */
static int64_t up_to_a_tick(int64_t delay)
{
	struct timespec tick, ticked, now;

	/* of these clocks none of the calls can fail on Linux */
	(void)clock_getres(CLOCK_MONOTONIC_COARSE, &tick);
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ticked);
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	delay += nanoseconds(now) - nanoseconds(ticked) + nanoseconds(tick) - 1;
	return delay - delay % nanoseconds(tick);
}

static bool arm_coarsely(struct evfilelock *ev, int64_t delay)
{
	int64_t us = delay > 0 ? (up_to_a_tick(delay) + 999) / 1000 : 0;
	struct timeval after = { us / 1000000, us % 1000000 };

	return event_add(ev->timer, &after) == 0;
}

bool pass_arm(struct evfilelock *ev)
{
	bool precise;
	int64_t at = next_pass(ev, &precise);
	int64_t delay = 0;
	int64_t now;

	if (filelock_watcher_is_inherited(ev->watcher))
		return false;
	listen_if_watched(ev);
	hear_if_asleep(ev);
	if (at == ev->armed)
		return true;
	pass_disarm(ev);
	if (at == FILELOCK_NEVER)
		return true;
	now = filelock_now();
	if (at > now)
		delay = at - now;
	if ((delay > 0 && precise && arm_precisely(ev, at)) ||
	    arm_coarsely(ev, delay) || arm_precisely(ev, now + delay))
		ev->armed = at;
	return ev->armed == at;
}

void pass_arm_surely(struct evfilelock *ev)
{
	if (ev->running || ev->freeing)
		return;
	if (pass_arm(ev) || filelock_watcher_is_inherited(ev->watcher))
		return;
	/* without memory for a timer nor for a descriptor: at once, but after what else is due */
	event_active(ev->timer, EV_TIMEOUT, 1);
	(void)event_base_loopcontinue(ev->base);
}
