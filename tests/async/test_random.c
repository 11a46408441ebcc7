/* Anything in any order, also from inside callbacks, against a model of what may happen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loop.h"

enum { PATHS = 3, CONTEXTS = 2, ACTORS = 12 };

/* A handle, and what the model knows of it. */
struct actor {
	struct world *world;
	struct filelock *lock; /* NULL: closed */
	struct filelock *dying; /* closed with a request pending: lives until told */
	unsigned path, context;
	enum filelock_mode mode;
	unsigned depth;
	bool pending, cancelled, was_freed;
};

struct world {
	struct event_base *base;
	struct evfilelock *contexts[CONTEXTS];
	struct actor actors[ACTORS];
	uint64_t seed;
	unsigned nested; /* callbacks on the stack */
	bool freeing[CONTEXTS];
	bool broken;     /* event_base_loopbreak was called in this run of the loop */
	unsigned asked, told, granted;
};

static unsigned dice(struct world *world, unsigned sides)
{
	world->seed = world->seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(world->seed >> 33) % sides;
}

static void wrong(const struct world *world, const char *what)
{
	ck_abort_msg("%s, after %u requests and %u answers", what, world->asked, world->told);
}

static void do_anything(struct world *world);

/* The locks that handles of the world hold on one path must not exclude each other. */
static void check_path(const struct world *world, unsigned path)
{
	unsigned shared = 0, exclusive = 0;

	for (unsigned i = 0; i < ACTORS; i++) {
		const struct actor *actor = &world->actors[i];

		if (actor->depth == 0 || actor->path != path)
			continue;
		if (actor->mode == FILELOCK_SHARED)
			shared++;
		else
			exclusive++;
	}
	if (exclusive > 1 || (exclusive == 1 && shared > 0))
		wrong(world, "two that exclude each other hold a lock");
}

static void check_answer(struct actor *actor, int result)
{
	struct world *world = actor->world;

	if (!actor->pending)
		wrong(world, "an answer to no request");
	if (world->broken && !world->freeing[actor->context])
		wrong(world, "a callback after loopbreak");
	if (result != 0 && result != -ETIMEDOUT && result != -ECANCELED)
		wrong(world, "an unexpected result");
	if (actor->cancelled && result == 0)
		wrong(world, "a cancelled request is granted");
	if (result == -ECANCELED && !actor->cancelled && !world->freeing[actor->context])
		wrong(world, "nobody cancelled it");
}

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct actor *actor = arg;
	struct world *world = actor->world;

	if (lock != (actor->dying ? actor->dying : actor->lock))
		wrong(world, "told of another handle");
	check_answer(actor, result);
	world->told++;
	actor->pending = false;
	if (actor->dying) {
		(void)filelock_path(lock);
		actor->dying = NULL;
	} else if (result == 0) {
		world->granted++;
		actor->depth++;
		check_path(world, actor->path);
	}
	if (actor->lock && filelock_depth(actor->lock) != actor->depth)
		wrong(world, "the depth is another");
	world->nested++;
	for (unsigned i = dice(world, 4); i > 0 && world->nested < 3; i--)
		do_anything(world);
	world->nested--;
}

static void open_actor(struct actor *actor)
{
	char name[] = "0";

	actor->path = dice(actor->world, PATHS);
	name[0] = (char)('0' + actor->path);
	actor->lock = open_patient(name);
}

static void ask(struct actor *actor)
{
	struct world *world = actor->world;
	unsigned kind = dice(world, 4);
	struct timeval timeout = { 0, kind == 0 ? 0 : (int)dice(world, 4000) };
	enum filelock_mode mode = dice(world, 2) ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE;
	bool refused = actor->pending || (actor->depth > 0 && mode != actor->mode);
	int r;

	actor->context = actor->pending ? actor->context : dice(world, CONTEXTS);
	if (!world->contexts[actor->context])
		return;
	r = evfilelock_acquire(world->contexts[actor->context], actor->lock, mode,
	                       kind < 2 ? &timeout : NULL, on_answer, actor);
	if (refused != (r < 0))
		wrong(world, "a request is wrongly taken or refused");
	if (r < 0)
		return;
	world->asked++;
	actor->mode = mode;
	actor->pending = true;
	actor->cancelled = false;
}

static void release(struct actor *actor)
{
	if (actor->pending || actor->depth == 0)
		return;
	if (filelock_release(actor->lock) < 0)
		wrong(actor->world, "a release fails");
	actor->depth--;
}

static void close_actor(struct actor *actor)
{
	if (actor->pending) {
		actor->dying = actor->lock;
		actor->cancelled = true;
	}
	filelock_close(actor->lock);
	actor->lock = NULL;
	actor->depth = 0;
}

static void cancel(struct actor *actor)
{
	(void)evfilelock_cancel(actor->world->contexts[actor->context],
	                        actor->dying ? actor->dying : actor->lock);
	actor->cancelled = true;
}

static void free_context(struct world *world, unsigned i)
{
	struct evfilelock *ev = world->contexts[i];

	world->contexts[i] = NULL;
	world->freeing[i] = true;
	evfilelock_free(ev);
	world->freeing[i] = false;
	for (unsigned a = 0; a < ACTORS; a++)
		if (world->actors[a].pending && world->actors[a].context == i)
			wrong(world, "a request outlives its context");
}

static void do_anything(struct world *world)
{
	struct actor *actor = &world->actors[dice(world, ACTORS)];
	unsigned what = dice(world, 100);
	unsigned i = dice(world, CONTEXTS);

	if (what == 0) {
		if (world->contexts[i])
			free_context(world, i);
	} else if (what == 1 && world->nested > 0) {
		world->broken = event_base_loopbreak(world->base) == 0;
	} else if (!actor->lock) {
		if (!actor->dying)
			open_actor(actor);
	} else if (what < 50) {
		ask(actor);
	} else if (what < 80) {
		release(actor);
	} else if (what < 90 && actor->pending) {
		cancel(actor);
	} else if (what < 95) {
		close_actor(actor);
	}
}

static void run_loop(struct world *world)
{
	int flags = dice(world, 3) ? EVLOOP_NONBLOCK : EVLOOP_ONCE | EVLOOP_NONBLOCK;

	world->broken = false;
	if (event_base_loop(world->base, flags) < 0)
		wrong(world, "the loop fails");
	for (unsigned i = 0; i < CONTEXTS; i++) {
		if (!world->contexts[i])
			world->contexts[i] = evfilelock_new(world->base, NULL);
		ck_assert_ptr_nonnull(world->contexts[i]);
	}
}

static void end_world(struct world *world)
{
	for (unsigned i = 0; i < ACTORS; i++)
		if (world->actors[i].lock && dice(world, 2))
			close_actor(&world->actors[i]);
	world->nested = 3; /* callbacks do nothing more */
	for (unsigned i = 0; i < CONTEXTS; i++)
		free_context(world, i);
	for (unsigned i = 0; i < ACTORS; i++)
		if (world->actors[i].lock)
			close_actor(&world->actors[i]);
	if (world->asked != world->told)
		wrong(world, "requests and answers differ in number");
	ck_assert_int_eq(event_base_get_num_events(world->base, EVENT_BASE_COUNT_ADDED), 0);
	event_base_free(world->base);
}

/* shows: rule-2 rule-5 */
START_TEST(test_anything_in_any_order_keeps_the_guarantees)
{
	unsigned before = test_descriptors();
	unsigned rounds = test_rounds(5);
	char name[] = "0";

	for (unsigned round = 0; round < rounds; round++) {
		struct world world = { .seed = (uint64_t)_i * 1000 + round,
			               .base = event_base_new() };

		for (unsigned i = 0; i < ACTORS; i++)
			world.actors[i].world = &world;
		for (unsigned steps = 0; steps < 300; steps++) {
			for (unsigned i = dice(&world, 8); i > 0; i--)
				do_anything(&world);
			run_loop(&world);
		}
		ck_assert_uint_gt(world.granted, 10);
		end_world(&world);
		await(test_descriptors() == before);
	}
	for (; name[0] < '0' + PATHS; name[0]++)
		ck_assert(is_free(name));
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("async random");
	TCase *tcase = tcase_create("random");

	tcase_add_loop_test(tcase, test_anything_in_any_order_keeps_the_guarantees, 0, 5);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
