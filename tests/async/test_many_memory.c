/* A set while the Nth allocation fails, ours or libevent's, once and for good. */
#include "memory.h"
#include "set.h"

static struct filelock *holder;

static void let_go(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	while (filelock_release(holder) < 0)
		heal();
}

/* Handles that poll so often that losing every event costs the test little. */
static struct asked_set open_restless(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct asked_set asked = { .n = 3 };

	options.poll_interval_ms = 2;
	asked.locks[0] = test_open(test_path("c"), &options);
	asked.locks[1] = test_open(test_path("a"), &options);
	asked.locks[2] = test_open(test_path("b"), &options);
	return asked;
}

/* Asks for a set of which one lock comes free while it is waited for. Memory that is gone for good
   comes back with that. Whether the Nth allocation was reached. */
static bool try_allocation(unsigned nth, bool for_good)
{
	static const struct timeval soon = { 0, 2000 }, later = { 3600, 0 };
	unsigned before = test_descriptors();
	struct loop loop = loop_new();
	struct asked_set asked = open_restless();
	struct event *release = event_new(loop.base, -1, 0, let_go, NULL);
	bool struck;
	int r, added;

	holder = hold("b", FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(event_add(release, &later), 0); /* to be set anew without memory */
	failing.count = 0;
	failing.for_good = for_good;
	failing.nth = nth;
	r = set_try_ask(&loop, &asked, -1);
	for (int turns = 0; r == 0 && turns < 20; turns++)
		/* some for each lock, and more: it waits for the one that is held. NONBLOCK alone goes on
		   where a poll is due at each turn */
		(void)event_base_loop(loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	added = event_add(release, &soon);
	if (r == 0)
		loop_until(&loop, &asked.calls, 1);
	else if (r != -ENOMEM)
		ck_abort_msg("refused: %d", r);
	struck = failing.count >= nth;
	heal();
	ck_assert_int_eq(added, 0);
	if (asked.calls == 0 || asked.result != 0)
		ck_assert_uint_eq(set_held(&asked), 0);
	if (asked.calls > 0 && asked.result != -ENOMEM) {
		ck_assert_int_eq(asked.result, 0);
		set_release(&asked);
	}
	set_close(&asked);
	event_free(release);
	filelock_close(holder);
	loop_drain(&loop);
	ck_assert_uint_le(asked.calls, 1);
	loop_free(&loop);
	ck_assert(is_free("a") && is_free("b") && is_free("c"));
	ck_assert_uint_eq(test_descriptors(), before);
	return struck;
}

static void sweep(bool for_good)
{
	unsigned nth = 1;

	while (try_allocation(nth, for_good))
		ck_assert_uint_lt(nth++, 1000);
	ck_assert_uint_gt(nth, 2);
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

int main(void)
{
	Suite *suite = suite_create("async many memory");
	TCase *sweeps = tcase_create("sweeps");

	tcase_add_loop_test(sweeps, test_each_allocation_of_libevent_may_fail, 0, 2);
#ifndef SANITIZED
	tcase_add_loop_test(sweeps, test_each_allocation_of_ours_or_libevents_may_fail, 0, 2);
#endif
	suite_add_tcase(suite, sweeps);
	return support_main(suite);
}
