/*
 * context.c - when the loop calls next: at once, at the first timer, at an event of the watcher, at
 * a notice of another thread, or never.
 */
#include "context.h"

#include "warm.h"

/* Nothing waits, nothing is held: a fork takes nothing from it. */
static bool is_idle(const struct evfilelock *ev)
{
	return ev->queues.table.count == warm_count_idle(ev) && list_is_empty(&ev->prompt) &&
	       list_is_empty(&ev->errands) && list_is_empty(&ev->sets) &&
	       list_is_empty(&ev->watches) && !ev->running && !ev->freeing;
}

bool context_check(struct evfilelock *ev)
{
	if (!ev->inherited && filelock_generation() != ev->generation) {
		ev->inherited = true;
		ev->renewable = is_idle(ev);
	}
	return ev->inherited;
}

void context_notify(void *arg)
{
	struct evfilelock *ev = arg;

	loop_notify(&ev->loop);
}

bool context_hear(struct evfilelock *ev)
{
	if (!loop_hear(&ev->loop))
		return false;
	if (!ev->notified)
		mailbox_set_notify(ev->mailbox, context_notify, ev);
	ev->notified = true;
	return true;
}

static int64_t next_turn(const struct evfilelock *ev, bool *ret_precise)
{
	const struct timer *timer = timers_first(&ev->timers);

	*ret_precise = false;
	if (!list_is_empty(&ev->prompt) || !list_is_empty(&ev->queues.ready))
		return LOOP_AT_ONCE;
	if (ev->timers.loud == 0)
		return FILELOCK_NEVER;
	*ret_precise = timer->precise;
	return timer->at;
}

/* Another request that is to be served at once will mostly wait by the same events: it costs less to
   go on listening until then. */
static bool wants_to_listen(const struct evfilelock *ev)
{
	if (ev->queues.waiting == 0 && list_is_empty(&ev->watches))
		return false;
	/* a worker may have to close yet what nobody waits for any more */
	return filelock_watcher_load(ev->watcher) > 0 ||
	       (ev->loop.listening && !list_is_empty(&ev->queues.ready));
}

bool context_arm(struct evfilelock *ev)
{
	bool precise;
	int64_t at;

	if (ev->inherited)
		return false;
	loop_listen(&ev->loop, ev->watcher, wants_to_listen(ev));
	if (ev->loop.hearing && ev->queues.blocked == 0 && ev->awaited == 0 &&
	    list_is_empty(&ev->watches))
		loop_stop_hearing(&ev->loop);
	warm_let_loop_end(ev); /* which counts the events that are left */
	at = next_turn(ev, &precise);
	if (at == FILELOCK_NEVER && timers_first(&ev->timers))
		loop_set_quiet(&ev->loop, timers_first(&ev->timers)->at);
	return loop_set_timer(&ev->loop, at, precise);
}

void context_arm_surely(struct evfilelock *ev)
{
	if (ev->running || ev->dispatching || ev->freeing || ev->inherited)
		return;
	if (!context_arm(ev))
		loop_force(&ev->loop); /* without memory for a timer nor for a descriptor */
}
