/* Markers that reach their lifetime while handles of one context hold them and wait for them. */
#include "loop.h"
#include "softly.h"

static struct loop loop;
static struct asked holder, waiter;

static struct filelock *open_with_a_lifetime(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.lifetime_ms = 3600000;
	return test_open(test_path("lock"), &options);
}

/* One handle holds the lock; the other is to wait for it. */
static void set_up(unsigned workers)
{
	loop = loop_with_workers(workers);
	holder.lock = open_with_a_lifetime();
	waiter.lock = open_with_a_lifetime();
	loop_ask(&loop, &holder, FILELOCK_EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(&loop, &holder), 0);
}

static void tear_down(void)
{
	filelock_close(holder.lock);
	filelock_close(waiter.lock);
	loop_free(&loop);
}

static void let_it_expire(void)
{
	static const struct timespec long_ago[2] = { { .tv_sec = 1000000000 },
		                                     { .tv_sec = 1000000000 } };

	ck_assert_int_eq(utimensat(AT_FDCWD, test_path("lock"), long_ago, 0), 0);
}

/* With threads and without. */
START_TEST(test_hold_of_the_same_context_expires_for_who_waits)
{
	set_up((unsigned)_i);
	loop_ask(&loop, &waiter, FILELOCK_EXCLUSIVE, 10000);
	loop_turn(&loop);
	ck_assert_uint_eq(waiter.calls, 0);
	let_it_expire();
	ck_assert_int_eq(loop_answer(&loop, &waiter), 0);
	ck_assert_int_eq(filelock_verify(waiter.lock), 0);
	ck_assert_int_eq(filelock_verify(holder.lock), FILELOCK_ELOST);
	tear_down();
}
END_TEST

START_TEST(test_expired_hold_of_the_same_context_is_taken_at_once)
{
	set_up((unsigned)_i);
	let_it_expire();
	loop_ask(&loop, &waiter, FILELOCK_EXCLUSIVE, 0);
	ck_assert_int_eq(loop_answer(&loop, &waiter), 0);
	tear_down();
}
END_TEST

START_TEST(test_release_of_an_expired_hold_leaves_its_successors_marker)
{
	struct asked third = { .lock = NULL };

	set_up((unsigned)_i);
	let_it_expire();
	loop_ask(&loop, &waiter, FILELOCK_EXCLUSIVE, 0);
	ck_assert_int_eq(loop_answer(&loop, &waiter), 0);
	ck_assert_int_eq(filelock_release(holder.lock), 0);
	ck_assert_int_eq(filelock_verify(waiter.lock), 0);
	third.lock = open_with_a_lifetime();
	loop_ask(&loop, &third, FILELOCK_EXCLUSIVE, -1);
	loop_turn(&loop);
	ck_assert_uint_eq(third.calls, 0);
	ck_assert_int_eq(filelock_release(waiter.lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &third), 0);
	filelock_close(third.lock);
	tear_down();
}
END_TEST

int main(void)
{
	TCase *each = tcase_create("each");
	Suite *suite = suite_create("async soft lifetime");

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	tcase_add_loop_test(each, test_hold_of_the_same_context_expires_for_who_waits, 0, 2);
	tcase_add_loop_test(each, test_expired_hold_of_the_same_context_is_taken_at_once, 0, 2);
	tcase_add_loop_test(each, test_release_of_an_expired_hold_leaves_its_successors_marker, 0,
	                    2);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
