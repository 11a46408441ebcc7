/*
 * worker_event.c - a worker that asks for all locks at once, in a loop. Each of its handles is a
 * chain: ask, perhaps think better of it, hold, release, ask again. Two handles on one lock wait in
 * one queue. Some loops have workers. Now and then a chain asks for a set, with another that rests;
 * but not where wake-ups are looked for: what a set has taken while it waits for the rest is
 * held by nobody that the baton knows.
 *
 *	RESTING ─ asks ─> ASKING ─ callback ─> HOLDING ─ its timer ─> RELEASING ─ callback ─> RESTING
 *	   └ its timer        └ its timer: cancelled, or closed
 */
#include <errno.h>
#include <event2/event.h>
#include <string.h>
#include <unistd.h>

#include <filelock/event.h>

#include "storm.h"

enum chain_state { RESTING, ASKING, HOLDING, RELEASING, ENDED };

struct loop;

struct chain {
	struct loop *loop;
	struct handle handle;
	enum chain_state state;
	struct chain *partner; /* in a set that is pending; else NULL */
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
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;

	options.handover_max = loop->worker->hands_over ? 0 : 1;
	options.workers = loop->worker->delegates ? 2 : 0;
	loop->context = evfilelock_new(loop->base, &options);
	if (!loop->context)
		trouble_note(TROUBLE_RESULT, "evfilelock_new: %s", strerror(errno));
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

static void on_released(struct filelock *lock, int result, void *arg)
{
	struct chain *chain = arg;

	if (result == -ECANCELED) { /* it goes on, without the context */
		filelock_close(lock);
		worker_open(chain->loop->worker, &chain->handle);
	} else {
		worker_released(&chain->handle, result);
	}
	rest(chain);
}

static void finish(struct chain *chain)
{
	struct worker *worker = chain->loop->worker;
	int r;

	worker_leave(worker, &chain->handle);
	if (dice_one_in(dice_of(chain), 2)) {
		worker_released(&chain->handle, filelock_release(chain->handle.lock));
		rest(chain);
		return;
	}
	chain->state = RELEASING;
	r = evfilelock_release(chain->loop->context, chain->handle.lock, on_released, chain);
	worker_released(&chain->handle, r);
	worker->slot->tallies[TALLY_ANSWERED]++;
}

static void hold(struct chain *chain)
{
	if (dice_one_in(dice_of(chain), 50)) {
		set_timer(chain, dice_below(dice_of(chain), 2000));
		return;
	}
	worker_hold(chain->loop->worker, &chain->handle);
	finish(chain);
}

static bool is_granted(struct chain *chain, int result)
{
	struct worker *worker = chain->loop->worker;
	bool granted = worker_answered(worker, &chain->handle, result);

	(void)event_del(chain->timer);
	chain->state = granted ? HOLDING : RESTING;
	if (granted && worker->delegates)
		worker->slot->tallies[TALLY_BY_WORKERS]++;
	if (!chain->handle.lock)
		worker_open(worker, &chain->handle);
	return granted;
}

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct chain *chain = arg;

	(void)lock;
	if (is_granted(chain, result))
		hold(chain);
	else
		begin(chain);
}

static void on_set(struct filelock *const *locks, size_t n, int result, struct filelock *failed,
                   void *arg)
{
	struct chain *chain = arg, *partner = chain->partner;
	bool granted = is_granted(chain, result);

	(void)locks;
	(void)n;
	(void)failed;
	(void)is_granted(partner, result); /* both are inside before either leaves */
	chain->partner = NULL;
	if (!granted) {
		set_timer(partner, 0);
		set_timer(chain, 0);
		return;
	}
	chain->loop->worker->slot->tallies[TALLY_SETS]++;
	hold(partner);
	hold(chain);
}

/* Gives up waiting, one way or another. */
static void withdraw(struct chain *chain)
{
	struct chain *closed = chain;
	struct filelock *lock;

	if (!dice_one_in(dice_of(chain), 4)) {
		(void)evfilelock_cancel(chain->loop->context, chain->handle.lock);
		return;
	}
	if (chain->partner && dice_one_in(dice_of(chain), 2))
		closed = chain->partner;
	lock = closed->handle.lock;
	closed->handle.lock = NULL; /* the callback opens another one */
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

static void refused(struct chain *chain, const char *call, int error)
{
	trouble_note(TROUBLE_RESULT, "%s: %s", call, filelock_strerror(error));
	baton_unask(&chain->handle);
	end(chain);
}

static void ask(struct chain *chain)
{
	struct timeval room;
	int r;

	worker_choose_mode(chain->loop->worker, &chain->handle);
	worker_ask(&chain->handle);
	chain->state = ASKING;
	r = evfilelock_acquire(chain->loop->context, chain->handle.lock, chain->handle.mode,
	                       choose_timeout(chain, &room), on_answer, chain);
	if (r < 0) {
		refused(chain, "evfilelock_acquire", r);
		return;
	}
	if (dice_one_in(dice_of(chain), 100))
		(void)evfilelock_cancel(chain->loop->context, chain->handle.lock);
	else if (dice_one_in(dice_of(chain), 20))
		set_timer(chain, dice_below(dice_of(chain), 3000));
}

/* One that rests, on another lock; NULL: chance found none, or wants none. */
static struct chain *find_partner(struct chain *chain)
{
	struct chain *other;

	if (arena->scenario.baton || !dice_one_in(dice_of(chain), 20))
		return NULL;
	other = &chain->loop->chains[dice_below(dice_of(chain), chain->loop->count)];
	if (other->state != RESTING || other->handle.place == chain->handle.place)
		return NULL;
	return other;
}

static void join_set(struct chain *chain)
{
	(void)event_del(chain->timer);
	chain->handle.mode = FILELOCK_EXCLUSIVE;
	worker_ask(&chain->handle);
	chain->state = ASKING;
}

static void ask_set(struct chain *chain, struct chain *partner)
{
	struct filelock *set[] = { chain->handle.lock, partner->handle.lock };
	struct timeval room;
	int r;

	join_set(chain);
	join_set(partner);
	chain->partner = partner;
	r = evfilelock_acquire_all(chain->loop->context, set, 2, FILELOCK_EXCLUSIVE,
	                           choose_timeout(chain, &room), on_set, chain);
	if (r < 0) {
		chain->partner = NULL;
		refused(chain, "evfilelock_acquire_all", r);
		end(partner);
		return;
	}
	if (dice_one_in(dice_of(chain), 10))
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
	struct chain *partner;

	if (worker_is_over()) {
		end(chain);
		return;
	}
	if (chain->loop->freeing || !baton_may_ask(chain->handle.place)) {
		set_timer(chain, 100);
		return;
	}
	maybe_reopen(chain);
	partner = find_partner(chain);
	if (partner)
		ask_set(chain, partner);
	else
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
