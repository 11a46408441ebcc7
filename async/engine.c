/*
 * engine.c - one turn of a context: all callbacks of libevent enter here.
 *
 * The timer starts a turn, so that a turn of the loop contains at most one. A turn serves requests
 * that wait for nobody (cancelled, nested, released), queues that are ready (new, woken, due), and
 * timers that have passed. Each turn begins with another of the three: any of them may have more
 * work than one turn does, and deadlines must be kept all the same. A turn stops after 256 answers
 * or 1 ms, when a callback broke the loop, and when the context was freed. A zero timer then starts
 * the next one. (event_active(3) from a callback would starve the other events of the loop.) One
 * of the 256 answers may come before the turn: an event of the watcher mostly concerns one waiter,
 * which does not wait for the timer.
 *
 * A request that a callback begins carries the number of a turn that must not answer it: the turn
 * that runs or, before it, the one that may follow in the same turn of the loop.
 *
 * A request that is not the first of its queue has made no attempt of its own. At its deadline the
 * first one's handle attempts at once. If that finds the lock held, it is held for all behind it.
 */
#include "engine.h"

#include <errno.h>
#include <stdlib.h>

#include "keep.h"
#include "request.h"
#include "warm.h"
#include "watch.h"
#include "workers.h"

#define MAX_ANSWERS 256
#define LONGEST_TURN 1000000 /* ns */

/* Also takes the time, for the step to come, unless there was none since it was taken. */
static bool may_go_on(struct evfilelock *ev)
{
	if (ev->inherited) /* a callback forked */
		return false;
	mailbox_take(ev->mailbox); /* first: those who ended them may not have been heard */
	if (ev->freeing || ev->left == 0 || event_base_got_break(ev->loop.base))
		return false;
	if (ev->worked)
		ev->now = filelock_now();
	ev->worked = false;
	return ev->now < ev->turn_ends;
}

/* Whether there was one to take. */
static bool take_prompt(struct evfilelock *ev)
{
	struct request *request = request_at(list_first(&ev->prompt));
	int64_t until;
	int r;

	if (!request || request->born == ev->turn)
		return false;
	ev->worked = true;
	list_remove(&request->link);
	if (request->state == REQUEST_KNOWN)
		r = request->result;
	else if (request->state == REQUEST_CANCELLED)
		r = filelock_give_up(request->lock, request->result);
	else if (filelock_depth(request->lock) > 0)
		r = filelock_step(request->lock, ev->now, &until);
	else if ((r = request_enlist(request, ev->now)) == 0)
		return true; /* what it was to nest in has ended: it waits as others do */
	else
		r = filelock_give_up(request->lock, r);
	request_answer(request, r);
	return true;
}

/* An attempt of the first request's own handle; and how it waits, or SERVED. */
static enum queue_state step_first(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	struct request *request = queue_first(queue);
	int64_t slow, until;
	int r;

	if (!filelock_pends(request->lock))
		fd_budget_admit(&ev->fds, queue, ev->now);
	warm_lend(queue, request->lock);
	r = filelock_step(request->lock, ev->now, &until);
	if (r == FILELOCK_STEP_WAIT || r == -ETIMEDOUT)
		queue_note_refusal(queue, request, ev->now);
	if (r == FILELOCK_STEP_WAIT && filelock_pends(request->lock))
		workers_refused(queue, ev->now);
	else if (r == FILELOCK_STEP_WAIT)
		fd_budget_add(&ev->fds, queue);
	stats_attempted(&ev->stats, request, r);
	if (r > 0) {
		slow = stats_slow_due(&ev->stats, queue);
		timers_set(&ev->timers, &queue->poll, until < slow ? until : slow, ev->now);
		return until <= ev->now ? QUEUE_SERVED : QUEUE_TIMED;
	}
	if (r == 0)
		request_grant(request);
	else
		request_leave(request);
	request_answer(request, r);
	return QUEUE_SERVED;
}

/* Serves the first request; and how it waits, or SERVED if the queue is to go on. */
static enum queue_state serve_first(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;
	struct request *request = queue_first(queue);

	if (request->born == ev->turn) {
		queue->rested = ev->turn;
		return QUEUE_READY;
	}
	ev->worked = true;
	if (queue_waits_for_itself(queue)) {
		if (request->expires <= ev->now)
			queue_note_refusal(queue, request, ev->now);
		workers_refused(queue, ev->now);
		if (request->expires > ev->now && request_may_block(queue))
			return QUEUE_BLOCKED;
	}
	if (queue_has_refused(request)) {
		request_end(request, -ETIMEDOUT);
		return QUEUE_SERVED;
	}
	if (workers_are_for(ev, request->lock) && filelock_depth(request->lock) == 0)
		return workers_serve(queue);
	return step_first(queue);
}

/* Whether there was one to serve. */
static bool take_queue(struct evfilelock *ev)
{
	struct queue *queue = queues_take_ready(&ev->queues, ev->turn);
	enum queue_state state;

	if (!queue)
		return false;
	/* its turn has come: at least one, whatever the time */
	do {
		state = serve_first(queue);
	} while (state == QUEUE_SERVED && queue_first(queue) && may_go_on(ev));
	queue_end_service(queue, state == QUEUE_SERVED ? QUEUE_READY : state);
	return true;
}

static void take_poll(struct queue *queue)
{
	struct evfilelock *ev = queue->ev;

	timers_unset(&ev->timers, &queue->poll);
	if (!stats_say_slow(&ev->stats, queue, ev->now, !ev->workers))
		stats_woken(&ev->stats, queue, false);
	queue_make_ready(queue);
}

/* Whether that gives the turn something to do. */
static bool take_deadline(struct evfilelock *ev, struct request *request)
{
	struct queue *queue = request->queue;
	const struct request *first = queue_first(queue);
	bool worked;

	if (first->born == ev->turn)
		return false;
	if (queue_has_refused(request) || request->last_call || queue_waits_for_itself(queue)) {
		request_end(request, -ETIMEDOUT);
		return true;
	}
	worked = workers_are_for(ev, request->lock) || filelock_pends(request->lock);
	if (worked)
		workers_hasten(request);
	if (!workers_are_for(ev, request->lock))
		filelock_hasten(first->lock);
	/* one that is ready, and yet not taken, stands behind what rests until the next turn */
	if (queue->state == QUEUE_READY)
		return worked; /* the timer has moved on */
	queue_make_ready(queue);
	return true;
}

/* Whether there was one to take. */
static bool take_timer(struct evfilelock *ev)
{
	struct timer *timer = timers_first(&ev->timers);

	if (!timer || timer->at > ev->now)
		return false;
	ev->worked = true;
	if (timer->owner == TIMER_OF_REQUEST)
		return take_deadline(ev, hash_entry(timer, struct request, deadline));
	if (timer->owner == TIMER_OF_GRANT)
		keep_take_timer(hash_entry(timer, struct request, deadline));
	else if (timer->owner == TIMER_OF_WATCH)
		watch_take_timer(hash_entry(timer, struct watched_hold, timer));
	else if (timer->owner == TIMER_OF_WARM)
		warm_take_timer(hash_entry(timer, struct queue, warm_timer));
	else
		take_poll(hash_entry(timer, struct queue, poll));
	return true;
}

static void run(struct evfilelock *ev, unsigned answers)
{
	static bool (*const take[3])(struct evfilelock *) = { take_prompt, take_queue, take_timer };
	unsigned first = ev->turn % 3;

	mailbox_enter(ev->mailbox);
	ev->running = true;
	ev->left = answers;
	ev->now = filelock_now();
	ev->worked = false;
	ev->turn_ends = ev->now + LONGEST_TURN;
	while (may_go_on(ev) && (take[first](ev) || take[(first + 1) % 3](ev) ||
	                         take[(first + 2) % 3](ev)))
		continue;
	if (!ev->inherited)
		filelock_watcher_tidy(ev->watcher); /* after the users were told */
	ev->running = false;
	ev->next_born = ev->turn; /* of the turn that is over: the next one may answer it */
	if (ev->freeing)
		engine_destroy(ev);
	else
		context_arm_surely(ev);
}

static void on_time(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	(void)fd;
	(void)events;
	if (context_check(ev)) {
		loop_unset_timer(&ev->loop); /* see on_readable */
		return;
	}
	/* setting it after the callbacks then needs no memory */
	loop_park_timer(&ev->loop);
	ev->next_born = ++ev->turn;
	run(ev, MAX_ANSWERS - 1);
}

/* Only quiet timers were set. */
static void on_quiet(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	ev->loop.quiet_at = FILELOCK_NEVER;
	/* the base does not count this event: what somebody waits for is not to be done in it, or
	   event_base_loop(EVLOOP_ONCE) goes on as if nothing had been done */
	if (ev->loop.at != FILELOCK_NEVER)
		event_active(ev->loop.timer, EV_TIMEOUT, 1);
	else
		on_time(fd, events, ev);
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	(void)fd;
	(void)events;
	if (context_check(ev)) {
		/* it is the parent that has something to read: its epoll(7) instance is ours as
		   well, and would keep our loop spinning */
		(void)event_del(ev->loop.readable);
		return;
	}
	ev->dispatching = true;
	filelock_watcher_dispatch(ev->watcher);
	ev->dispatching = false;
	/* the one that was woken, at once; the timer may follow in this turn of the loop, so what
	   a callback begins here is left out of its turn */
	ev->next_born = ev->turn + 1;
	run(ev, 1);
}

static void on_wakeup(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	(void)fd;
	(void)events;
	if (context_check(ev)) {
		(void)event_del(ev->loop.wakeup); /* the parent's: see on_readable */
		return;
	}
	mailbox_enter(ev->mailbox);
	loop_clear_wakeup(&ev->loop);
	mailbox_take(ev->mailbox);
	workers_collect(ev->workers);
	workers_collect(ev->helper);
	context_arm_surely(ev);
}

int engine_open(struct evfilelock *ev, struct event_base *base, int priority)
{
	ev->loop.on_time = on_time;
	ev->loop.on_quiet = on_quiet;
	ev->loop.on_readable = on_readable;
	ev->loop.on_wakeup = on_wakeup;
	ev->loop.arg = ev;
	return loop_open(&ev->loop, base, priority);
}

void engine_destroy(struct evfilelock *ev)
{
	struct hash_node *node;

	(void)warm_drop_all(ev);
	for (size_t i = 0; i < ev->queues.table.size; i++)
		while ((node = ev->queues.table.buckets[i]))
			request_orphan_grants(hash_entry(node, struct queue, node));
	watch_end_all(ev);
	if (ev->mailbox)
		mailbox_close(ev->mailbox, ev->inherited);
	if (ev->free_sets)
		ev->free_sets(ev);
	workers_leave(ev);
	loop_close(&ev->loop);
	timers_free(&ev->timers);
	queues_free(&ev->queues);
	free(ev);
}
