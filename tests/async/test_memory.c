/* The Nth allocation fails, ours or libevent's, once and for good. */
#include <stdio.h>
#include <string.h>

#include "memory.h"
#include "scene.h"

/* Whether the Nth allocation was reached. */
static bool try_allocation(unsigned nth, bool for_good)
{
	unsigned before = test_descriptors();
	struct scene scene;
	bool struck;

	scene_begin(&scene, heal);
	failing.count = 0;
	failing.for_good = for_good;
	failing.nth = nth;
	scene_run(&scene);
	struck = failing.count >= nth;
	heal();
	scene_judge(&scene, ENOMEM);
	scene_end(&scene);
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_uint_eq(test_watches(), 0);
	return struck;
}

static void sweep(bool for_good)
{
	unsigned nth = 1;

	while (try_allocation(nth, for_good))
		ck_assert_uint_lt(nth++, 1000);
	ck_assert_uint_gt(nth, 5);
}

START_TEST(test_each_allocation_of_libevent_may_fail)
{
	event_set_mem_functions(event_malloc, event_realloc, free);
	sweep(_i != 0);
}
END_TEST

#ifndef SANITIZED
/* shows: no-memory */
START_TEST(test_each_allocation_of_ours_or_libevents_may_fail)
{
	sweep(_i != 0);
}
END_TEST

/* Asks with one allocation after another failing, until the request is made: how many it took. */
static unsigned ask_in_want(struct loop *loop, struct asked *asked, bool for_good)
{
	unsigned nth = 0;
	int r;

	do {
		ck_assert_uint_lt(nth, 100);
		failing.count = 0;
		failing.for_good = for_good;
		failing.nth = ++nth;
		r = loop_try_ask(loop, asked, EXCLUSIVE, -1);
		heal();
		ck_assert(r == 0 || r == -ENOMEM);
	} while (r < 0);
	ck_assert_uint_eq(asked->calls, 0);
	return nth;
}

/* Tables grow as requests come: each of them has its turn at what fails then. */
START_TEST(test_refused_request_leaves_nothing_that_hinders_it_or_others)
{
	enum { REQUESTS = 40 };
	struct asked asked[REQUESTS] = { 0 };
	struct loop loop = loop_new();
	unsigned nth;
	char name[8];

	for (unsigned i = 0; i < REQUESTS; i++) {
		(void)snprintf(name, sizeof(name), "p%u", i);
		asked[i].lock = open_patient(name);
		nth = ask_in_want(&loop, &asked[i], _i != 0);
		ck_assert_uint_gt(nth, 1);
		/* the first one may do without a timer, and a table of 16 without growing */
		if (i > 0 && i < 16)
			ck_assert_uint_lt(failing.count, nth);
	}
	loop_until(&loop, &loop_answers, REQUESTS);
	loop_drain(&loop);
	for (unsigned i = 0; i < REQUESTS; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

/* What it was to nest in has ended, and with it the room that there was for it. */
START_TEST(test_nested_request_whose_hold_has_ended_is_told_of_want_of_memory)
{
	unsigned nth = 0, told = 0;
	bool struck;

	do {
		struct loop loop = loop_new();
		struct asked asked = { .lock = hold("a", EXCLUSIVE) };

		loop_ask(&loop, &asked, EXCLUSIVE, -1);
		ck_assert_int_eq(filelock_release(asked.lock), 0);
		ck_assert_uint_lt(nth, 100);
		failing.count = 0;
		failing.for_good = false;
		failing.nth = ++nth;
		loop_until(&loop, &asked.calls, 1);
		struck = failing.count >= nth;
		heal();
		told += asked.result == -ENOMEM;
		ck_assert(asked.result == 0 || asked.result == -ENOMEM);
		ck_assert_int_eq(filelock_is_held(asked.lock), asked.result == 0);
		ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), 0);
		filelock_close(asked.lock);
		loop_drain(&loop);
		ck_assert_uint_eq(asked.calls, 1);
		loop_free(&loop);
		ck_assert(is_free("a"));
	} while (struck);
	ck_assert_uint_gt(told, 0);
}
END_TEST

START_TEST(test_refused_nested_request_leaves_the_hold_as_it_was)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop;

	event_set_mem_functions(event_malloc, event_realloc, free);
	loop = loop_new();
	/* ours for the request and its alarm, libevent's for the timers */
	ck_assert_uint_gt(ask_in_want(&loop, &asked, true), 3);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 2);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST
#endif

enum { NEXT_MS = 300 }; /* of a request, which are over at the relief, however busy the machine is */

/* Fills libevent's heap of timers, in a callback or in an event of its own, and takes the memory
   away. */
struct famine {
	struct loop loop;
	struct event *fillers[16];
	struct event *relief, *blight;
	unsigned filled;
	bool relieved;
};

static void nothing(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

static void relieve(evutil_socket_t fd, short what, void *arg)
{
	struct famine *famine = arg;

	(void)fd;
	(void)what;
	famine->relieved = true;
	heal();
	clock_advance(NEXT_MS * MILLISECONDS);
}

static void note_relief(struct asked *asked)
{
	struct famine *famine = asked->arg;

	heal();
	ck_assert(famine->relieved);
}

static void starve(struct famine *famine)
{
	static const struct timeval later = { 3600, 0 };

	for (unsigned i = 0; i < famine->filled; i++)
		if (event_add(famine->fillers[i], &later) < 0)
			ck_abort_msg("event_add");
	failing.count = 0;
	failing.for_good = true;
	failing.nth = 1;
}

static void starve_in_callback(struct asked *asked)
{
	starve(asked->arg);
}

static void starve_in_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	starve(arg);
}

static void famine_begin(struct famine *famine, unsigned filled)
{
	static const struct timeval soon = { 0, 20000 };

	event_set_mem_functions(event_malloc, event_realloc, free);
	clock_fake(test_now());
	*famine = (struct famine){ .loop = loop_new(), .filled = filled };
	for (unsigned i = 0; i < 16; i++)
		famine->fillers[i] = event_new(famine->loop.base, -1, 0, nothing, NULL);
	famine->blight = event_new(famine->loop.base, -1, 0, starve_in_event, famine);
	famine->relief = event_new(famine->loop.base, -1, 0, relieve, famine);
	ck_assert_int_eq(event_add(famine->relief, &soon), 0);
}

/* Memory comes back with one of the caller's own events, which must therefore be served. */
static void play_famine(struct famine *famine, struct asked *first)
{
	struct asked next = { .then = note_relief, .arg = famine };

	test_write_file(test_path("a"), ""); /* one that exists needs no probe of flock(2) */
	first->lock = open_patient("a");
	next.lock = open_patient("a");
	loop_ask(&famine->loop, first, EXCLUSIVE, -1);
	loop_ask(&famine->loop, &next, EXCLUSIVE, NEXT_MS);
	loop_until(&famine->loop, &next.calls, 1);
	ck_assert_int_eq(first->result, 0);
	ck_assert_int_eq(next.result, -ETIMEDOUT);
	for (unsigned i = 0; i < 16; i++)
		event_free(famine->fillers[i]);
	event_free(famine->relief);
	event_free(famine->blight);
	filelock_close(first->lock);
	filelock_close(next.lock);
	loop_free(&famine->loop);
}

/* shows: no-memory */
START_TEST(test_loop_goes_on_while_there_is_no_memory_for_a_timer)
{
	struct famine famine;
	struct asked first = { .then = starve_in_callback, .arg = &famine };

	famine_begin(&famine, (unsigned)_i);
	play_famine(&famine, &first);
}
END_TEST

/* By an event of the turn in which the context's timer has left the heap: its place is taken. */
START_TEST(test_loop_goes_on_though_its_timer_has_lost_its_place)
{
	static const struct timeval at_once = { 0, 0 };
	struct famine famine;
	struct asked first = { 0 };

	famine_begin(&famine, (unsigned)_i);
	ck_assert_int_eq(event_add(famine.blight, &at_once), 0);
	play_famine(&famine, &first);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("async memory");
	TCase *sweeps = tcase_create("sweeps");
	TCase *famine = tcase_create("famine");

	tcase_add_loop_test(sweeps, test_each_allocation_of_libevent_may_fail, 0, 2);
#ifndef SANITIZED
	tcase_add_loop_test(sweeps, test_each_allocation_of_ours_or_libevents_may_fail, 0, 2);
	tcase_add_loop_test(sweeps, test_refused_request_leaves_nothing_that_hinders_it_or_others,
	                    0, 2);
	tcase_add_test(sweeps, test_refused_nested_request_leaves_the_hold_as_it_was);
	tcase_add_test(sweeps, test_nested_request_whose_hold_has_ended_is_told_of_want_of_memory);
#endif
	suite_add_tcase(suite, sweeps);
	tcase_add_loop_test(famine, test_loop_goes_on_while_there_is_no_memory_for_a_timer, 0,
	                    12);
	tcase_add_loop_test(famine, test_loop_goes_on_though_its_timer_has_lost_its_place, 0, 12);
	suite_add_tcase(suite, famine);
	return support_main(suite);
}
