/*
 * worker_event.c - a worker that asks for all locks at once, in a loop. Each of its handles is a
 * chain: ask, perhaps think better of it, hold, release, ask again. Two handles on one lock wait in
 * one queue.
 *
 *	RESTING ─ asks ─> ASKING ─ callback ─> HOLDING ─ its timer ─> RESTING
 *	   └ its timer        └ its timer: cancelled, or closed
 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <unistd.h>

#include <filelock/event.h>

#include "storm.h"

enum chain_state { RESTING, ASKING, HOLDING, ENDED };

struct loop;

struct chain {
	struct loop *loop;
	struct handle handle;
	enum chain_state state;
	struct evfilelock_request *request;
	struct event *timer;
};

struct loop {
	struct worker *worker;
	struct event_base *base;
	struct evfilelock *context;
	bool freeing;
	unsigned running; /* chains that have not ended */
	unsigned count;
	struct chain chains[MOST_PLACES * TWINS];
};

static void begin(struct chain *chain);

static struct dice *dice_of(struct chain *chain)
{
	return &chain->loop->worker->dice;
}

static void set_timer(struct chain *chain, unsigned microseconds)
{
	(void)event_add(chain->timer,
	                &(struct timeval){ .tv_usec = (suseconds_t)microseconds });
}

static void make_context(struct loop *loop)
{
	loop->context = evfilelock_new(loop->base);
	if (!loop->context)
		trouble_note(TROUBLE_RESULT, "evfilelock_new: %s", strerror(errno));
	else if (!loop->worker->hands_over)
		(void)evfilelock_set_handover(loop->context, 1, 0);
}

/* All that is pending ends with -ECANCELED meanwhile. */
static void renew_context(struct loop *loop)
{
	loop->freeing = true;
	evfilelock_free(loop->context);
	loop->freeing = false;
	make_context(loop);
}

/* Chains that always ask would leave nothing uncontended. */
static void rest(struct chain *chain)
{
	chain->state = RESTING;
	if (arena->scenario.baton || dice_one_in(dice_of(chain), 4))
		begin(chain);
	else
		set_timer(chain, dice_below(dice_of(chain), 10000));
}

static void finish(struct chain *chain)
{
	worker_leave(chain->loop->worker, &chain->handle);
	rest(chain);
}

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct chain *chain = arg;
	struct worker *worker = chain->loop->worker;

	(void)lock;
	chain->request = NULL;
	(void)event_del(chain->timer);
	chain->state = RESTING;
	if (!worker_answered(worker, &chain->handle, result)) {
		if (!chain->handle.lock)
			worker_open(worker, &chain->handle);
		begin(chain);
		return;
	}
	chain->state = HOLDING;
	if (dice_one_in(dice_of(chain), 50)) {
		set_timer(chain, dice_below(dice_of(chain), 2000));
		return;
	}
	worker_hold(worker, &chain->handle);
	rest(chain);
}

/* Gives up waiting, one way or another. */
static void withdraw(struct chain *chain)
{
	struct filelock *lock = chain->handle.lock;

	if (!dice_one_in(dice_of(chain), 4)) {
		evfilelock_cancel(chain->request);
		return;
	}
	chain->handle.lock = NULL; /* the callback opens another one */
	filelock_close(lock);
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct chain *chain = arg;

	(void)fd;
	(void)events;
	if (chain->state == HOLDING)
		finish(chain);
	else if (chain->state == ASKING)
		withdraw(chain);
	else
		begin(chain);
}

static void end(struct chain *chain)
{
	chain->state = ENDED;
	if (--chain->loop->running == 0)
		(void)event_base_loopbreak(chain->loop->base);
}

static const struct timeval *choose_timeout(struct chain *chain, struct timeval *room)
{
	unsigned chance = dice_below(dice_of(chain), 10);

	*room = (struct timeval){ 0, 0 };
	if (chance == 0 && !arena->scenario.baton)
		return room;
	room->tv_usec = 1 + (suseconds_t)dice_below(dice_of(chain), 5000);
	return chance < 2 ? room : NULL;
}

static void ask(struct chain *chain)
{
	struct timeval room;

	worker_choose_mode(chain->loop->worker, &chain->handle);
	worker_ask(&chain->handle);
	chain->state = ASKING;
	chain->request = evfilelock_acquire(chain->loop->context, chain->handle.lock,
	                                    chain->handle.mode, choose_timeout(chain, &room),
	                                    on_answer, chain);
	if (!chain->request) {
		trouble_note(TROUBLE_RESULT, "evfilelock_acquire: %s", strerror(errno));
		baton_unask(&chain->handle);
		end(chain);
		return;
	}
	if (dice_one_in(dice_of(chain), 100))
		evfilelock_cancel(chain->request);
	else if (dice_one_in(dice_of(chain), 20))
		set_timer(chain, dice_below(dice_of(chain), 3000));
}

static void maybe_reopen(struct chain *chain)
{
	if (!dice_one_in(dice_of(chain), 500))
		return;
	filelock_close(chain->handle.lock);
	worker_open(chain->loop->worker, &chain->handle);
}

static void begin(struct chain *chain)
{
	if (worker_is_over(chain->loop->worker)) {
		end(chain);
		return;
	}
	if (chain->loop->freeing || !baton_may_ask(chain->handle.place)) {
		set_timer(chain, 100);
		return;
	}
	maybe_reopen(chain);
	ask(chain);
	if (dice_one_in(dice_of(chain), 2000))
		renew_context(chain->loop);
}

static void make_chain(struct loop *loop, unsigned number)
{
	struct chain *chain = &loop->chains[number];
	struct slot *slot = loop->worker->slot;

	*chain = (struct chain){ .loop = loop };
	chain->handle.place = &arena->places[number / TWINS];
	chain->handle.seat = slot->number * TWINS + number % TWINS;
	chain->handle.who = who_of(slot->life, number);
	worker_open(loop->worker, &chain->handle);
	chain->timer = event_new(loop->base, -1, 0, on_timer, chain);
}

void worker_event_run(struct worker *worker)
{
	struct loop loop = { .worker = worker, .base = event_base_new() };

	worker->hands_over = dice_one_in(&worker->dice, 2);
	loop.count = loop.running = arena->place_count * TWINS;
	make_context(&loop);
	for (unsigned i = 0; i < loop.count; i++)
		make_chain(&loop, i);
	for (unsigned i = 0; i < loop.count; i++)
		set_timer(&loop.chains[i], 0);
	(void)event_base_loop(loop.base, 0);
	evfilelock_free(loop.context);
	for (unsigned i = 0; i < loop.count; i++) {
		event_free(loop.chains[i].timer);
		filelock_close(loop.chains[i].handle.lock);
	}
	event_base_free(loop.base);
}
