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
START_TEST(test_each_allocation_of_ours_or_libevents_may_fail)
{
	sweep(_i != 0);
}
END_TEST
#endif

/* Fills libevent's heap of timers in a callback, and takes the memory away. */
struct famine {
	struct loop loop;
	struct event *fillers[16];
	struct event *relief;
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
}

static void note_relief(struct asked *asked)
{
	struct famine *famine = asked->arg;

	heal();
	ck_assert(famine->relieved);
}

static void starve(struct asked *asked)
{
	struct famine *famine = asked->arg;
	static const struct timeval later = { 3600, 0 };

	for (unsigned i = 0; i < famine->filled; i++)
		if (event_add(famine->fillers[i], &later) < 0)
			ck_abort_msg("event_add");
	failing.count = 0;
	failing.for_good = true;
	failing.nth = 1;
}

/* Memory comes back with one of the caller's own events, which must therefore be served. */
START_TEST(test_loop_goes_on_while_there_is_no_memory_for_a_timer)
{
	struct famine famine = { 0 };
	struct asked first = { .then = starve, .arg = &famine };
	struct asked next = { .then = note_relief, .arg = &famine };

	event_set_mem_functions(event_malloc, event_realloc, free);
	famine.loop = loop_new();
	famine.filled = (unsigned)_i;
	for (unsigned i = 0; i < 16; i++)
		famine.fillers[i] = event_new(famine.loop.base, -1, 0, nothing, NULL);
	famine.relief = event_new(famine.loop.base, -1, 0, relieve, &famine);
	first.lock = open_patient("a");
	next.lock = open_patient("a");
	event_add(famine.relief, &(struct timeval){ 0, 20000 });
	loop_ask(&famine.loop, &first, EXCLUSIVE, -1);
	loop_ask(&famine.loop, &next, EXCLUSIVE, 300);
	loop_until(&famine.loop, &next.calls, 1);
	ck_assert_int_eq(first.result, 0);
	ck_assert_int_eq(next.result, -ETIMEDOUT);
	for (unsigned i = 0; i < 16; i++)
		event_free(famine.fillers[i]);
	event_free(famine.relief);
	filelock_close(first.lock);
	filelock_close(next.lock);
	loop_free(&famine.loop);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("async memory");
	TCase *sweeps = tcase_create("sweeps");
	TCase *famine = tcase_create("famine");

	tcase_set_timeout(sweeps, 60);
	tcase_add_loop_test(sweeps, test_each_allocation_of_libevent_may_fail, 0, 2);
#ifndef SANITIZED
	tcase_add_loop_test(sweeps, test_each_allocation_of_ours_or_libevents_may_fail, 0, 2);
#endif
	suite_add_tcase(suite, sweeps);
	tcase_set_timeout(famine, 60);
	tcase_add_loop_test(famine, test_loop_goes_on_while_there_is_no_memory_for_a_timer, 0,
	                    12);
	suite_add_tcase(suite, famine);
	return support_main(suite);
}
