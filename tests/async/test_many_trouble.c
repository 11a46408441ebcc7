/* Sets that go wrong: what cannot be given back, what is the parent's, and what ends out of turn. */
#include <stdio.h>

#include "set.h"

static struct {
	unsigned count;
	char last[512];
} logged;

static void note_error(enum filelock_log_level level, const char *message, void *arg)
{
	(void)arg;
	ck_assert_int_eq(level, FILELOCK_LOG_ERROR);
	logged.count++;
	(void)snprintf(logged.last, sizeof(logged.last), "%s", message);
}

START_TEST(test_lock_that_cannot_be_given_back_is_logged_and_stays_with_its_handle)
{
	struct filelock *holder = hold("b", FILELOCK_EXCLUSIVE);
	struct loop loop = loop_new();
	struct asked_set set = set_open("ab");

	filelock_set_log(note_error, NULL, FILELOCK_LOG_ERROR);
	set_ask(&loop, &set, -1);
	set_reach(&loop, &set, 1);
	set_cancel(&set);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(set_answer(&loop, &set), -ECANCELED);
	fault_clear();
	ck_assert_uint_eq(logged.count, 1);
	ck_assert_ptr_nonnull(strstr(logged.last, filelock_path(set.locks[0])));
	ck_assert_ptr_nonnull(strstr(logged.last, "stays held"));
	ck_assert(filelock_is_held(set.locks[0]));
	ck_assert_int_eq(filelock_release(set.locks[0]), 0);
	ck_assert(is_free("a"));
	set_close(&set);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lock_that_was_released_meanwhile_is_given_back_in_silence)
{
	struct filelock *holder = hold("b", FILELOCK_EXCLUSIVE);
	struct loop loop = loop_new();
	struct asked_set set = set_open("ab");

	filelock_set_log(note_error, NULL, FILELOCK_LOG_ERROR);
	set_ask(&loop, &set, -1);
	set_reach(&loop, &set, 1);
	ck_assert_int_eq(filelock_release(set.locks[0]), 0);
	set_cancel(&set);
	ck_assert_int_eq(set_answer(&loop, &set), -ECANCELED);
	ck_assert_uint_eq(logged.count, 0);
	set_close(&set);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

/* The lock that would be taken first is its own. */
static int ask_in_child(void *arg)
{
	struct asked_set *set = arg;
	struct loop fresh = loop_new();
	int r;

	filelock_close(set->locks[0]);
	set->locks[0] = open_patient("a");
	r = set_try_ask(&fresh, set, -1);
	loop_drain(&fresh);
	loop_free(&fresh);
	set_close(set);
	return r == FILELOCK_EFORKED && set->calls == 0 ? 0 : 1;
}

START_TEST(test_set_with_a_handle_that_the_parent_holds_is_refused)
{
	struct asked_set set = set_open("ab");

	ck_assert_int_eq(filelock_acquire(set.locks[1], FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(ask_in_child, &set), 0);
	ck_assert_int_eq(filelock_release(set.locks[1]), 0);
	ck_assert(is_free("a") && is_free("b"));
	set_close(&set);
}
END_TEST

/* Begun in the order of their numbers, over in that of `ends`. */
START_TEST(test_sets_may_end_in_any_order)
{
	static const unsigned orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 0, 2 },
		                              { 1, 2, 0 }, { 2, 0, 1 }, { 0, 2, 1 } };
	const unsigned *ends = orders[_i];
	struct loop loop = loop_new();
	struct asked_set sets[3] = { set_open("ax"), set_open("by"), set_open("cz") };
	struct filelock *holders[3] = { hold("a", FILELOCK_EXCLUSIVE),
		                        hold("b", FILELOCK_EXCLUSIVE),
		                        hold("c", FILELOCK_EXCLUSIVE) };

	for (unsigned i = 0; i < 3; i++)
		set_ask(&loop, &sets[i], -1);
	for (unsigned i = 0; i < 3; i++) {
		filelock_close(holders[ends[i]]);
		ck_assert_int_eq(set_answer(&loop, &sets[ends[i]]), 0);
		ck_assert_uint_eq(sets[0].calls + sets[1].calls + sets[2].calls, i + 1);
		set_release(&sets[ends[i]]);
		set_close(&sets[ends[i]]);
	}
	loop_free(&loop);
}
END_TEST

START_TEST(test_cancelling_no_set_is_fine)
{
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "async many trouble",
	        test_lock_that_cannot_be_given_back_is_logged_and_stays_with_its_handle,
	        test_lock_that_was_released_meanwhile_is_given_back_in_silence,
	        test_set_with_a_handle_that_the_parent_holds_is_refused, test_cancelling_no_set_is_fine);
	TCase *orders = tcase_create("orders");

	tcase_add_loop_test(orders, test_sets_may_end_in_any_order, 0, 6);
	suite_add_tcase(suite, orders);
	return support_main(suite);
}
