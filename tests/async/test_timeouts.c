/* Deadlines: kept on our own clock, and never reported without a real attempt. */
#include <limits.h>
#include <time.h>

#include "loop.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static void sleep_until(int64_t end)
{
	while (test_now() < end)
		test_nap();
}

/* shows: no-wait */
START_TEST(test_zero_timeout_makes_one_attempt)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct filelock *lock = open_patient("a");

	fault_watch();
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_uint_eq(fault_calls(FAULT_flock), 1);
	ck_assert_uint_eq(fault_calls(FAULT_inotify_add_watch), 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, 0), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_zero_timeout_behind_a_waiting_request_is_answered_at_once)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked waits = { .lock = open_patient("a") };
	struct asked hasty = { .lock = open_patient("a") };

	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	loop_ask(&loop, &hasty, EXCLUSIVE, 0);
	ck_assert_int_eq(loop_answer(&loop, &hasty), -ETIMEDOUT);
	ck_assert_uint_eq(waits.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &waits), 0);
	filelock_close(waits.lock);
	filelock_close(hasty.lock);
	loop_free(&loop);
}
END_TEST

/* shows: deadline-kept */
START_TEST(test_no_timeout_comes_before_its_deadline)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct filelock *lock = open_patient("a");
	static const int timeouts[] = { 1, 2, 3, 7, 20, 55, 130 };

	for (unsigned i = 0; i < sizeof(timeouts) / sizeof(timeouts[0]); i++) {
		int64_t begin = test_now();

		ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, timeouts[i]),
		                 -ETIMEDOUT);
		ck_assert_int_ge(test_now() - begin, timeouts[i] * MILLISECONDS);
	}
	filelock_close(holder);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_each_request_of_a_queue_keeps_its_own_deadline)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	static const int timeouts[] = { -1, 1500, 500, 1000, 2000 };
	static const unsigned places[] = { 0, 3, 1, 2, 4 };
	struct asked asked[5] = { 0 };

	clock_fake(test_now()); /* all are asked for at one time, however busy the machine is */
	for (unsigned i = 0; i < 5; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], EXCLUSIVE, timeouts[i]);
	}
	for (unsigned told = 0; told < 4; told++) {
		clock_advance(499 * MILLISECONDS);
		loop_for(&loop, 2);
		ck_assert_uint_eq(loop_answers, told);
		clock_advance(1 * MILLISECONDS);
		loop_until(&loop, &loop_answers, told + 1);
	}
	for (unsigned i = 1; i < 5; i++) {
		ck_assert_int_eq(asked[i].result, -ETIMEDOUT);
		ck_assert_uint_eq(asked[i].place, places[i]);
		filelock_close(asked[i].lock);
	}
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), 0);
	filelock_close(asked[0].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_huge_timeouts_wait)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	static const struct timeval huge[] = {
		{ LONG_MAX, 999999 }, { LONG_MAX, 0 },         { INT_MAX, 0 },
		/* some other long times where time_t has 32 bit */
		{ (time_t)(INT64_MAX / 1000000000), 999999 },
		{ (time_t)(INT64_MAX / 1000000000 - 1), 0 },
		{ (time_t)(INT64_MAX / 1000000), 0 },
	};

	for (unsigned i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
		struct asked asked = { .lock = open_patient("a") };

		ck_assert_int_eq(loop_ask_for(&loop, &asked, EXCLUSIVE, &huge[i]), 0);
		loop_for(&loop, 10);
		ck_assert_uint_eq(asked.calls, 0);
		ask_cancel(&asked);
		ck_assert_int_eq(loop_answer(&loop, &asked), -ECANCELED);
		filelock_close(asked.lock);
	}
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_timeouts_out_of_range_are_refused)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };
	static const struct timeval wrong[] = { { -1, 0 }, { 0, -1 }, { 0, 1000000 },
		                                { LONG_MIN, 0 } };

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_int_eq(loop_ask_for(&loop, &asked, EXCLUSIVE, &wrong[i]), -EINVAL);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* Of requests that a blocked loop passes, in ms. */
enum { DEADLINE = 1000 };

/* A callback blocks the loop, while something else goes on. */
struct block {
	struct loop *loop;
	struct filelock *holder; /* released meanwhile, unless NULL */
	struct asked *late;      /* asked for at the end, with this timeout; NULL: the clock stands else */
	int timeout_ms;
	int64_t asked_at;
};

static void block_loop(evutil_socket_t fd, short what, void *arg)
{
	struct block *block = arg;

	(void)fd;
	(void)what;
	if (block->holder)
		ck_assert_int_eq(filelock_release(block->holder), 0);
	if (!block->late) {
		clock_advance((DEADLINE + 200) * MILLISECONDS);
		return;
	}
	sleep_until(test_now() + 200 * MILLISECONDS);
	block->asked_at = test_now();
	loop_ask(block->loop, block->late, EXCLUSIVE, block->timeout_ms);
}

static void block_soon(struct block *block)
{
	ck_assert_int_eq(event_base_once(block->loop->base, -1, EV_TIMEOUT, block_loop, block,
	                                 &(struct timeval){ 0, 1000 }), 0);
}

/* shows: deadline-kept */
START_TEST(test_lock_freed_while_the_loop_was_blocked_past_the_deadline_is_granted)
{
	struct loop loop = loop_new();
	struct block block = { .loop = &loop, .holder = hold("a", EXCLUSIVE) };
	struct asked asked = { .lock = open_patient("a") };

	clock_fake(test_now()); /* the deadline comes while the loop is blocked, and not before */
	loop_ask(&loop, &asked, EXCLUSIVE, DEADLINE);
	loop_turn(&loop);
	block_soon(&block);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	filelock_close(block.holder);
	loop_free(&loop);
}
END_TEST

/* The same where nothing but the attempt can tell: no event, no poll. */
START_TEST(test_attempt_is_made_at_the_deadline_also_without_any_event)
{
	struct loop loop = loop_new();
	struct block block = { .loop = &loop, .holder = hold("a", EXCLUSIVE) };
	struct asked asked = { .lock = open_patient("a") };

	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	clock_fake(test_now());
	loop_ask(&loop, &asked, EXCLUSIVE, DEADLINE);
	loop_turn(&loop);
	block_soon(&block);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	filelock_close(block.holder);
	loop_free(&loop);
}
END_TEST

/* shows: deadline-kept */
START_TEST(test_blocked_loop_makes_an_attempt_before_it_reports_a_timeout)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct block block = { .loop = &loop };
	struct asked asked = { .lock = open_patient("a") };
	unsigned attempts;

	clock_fake(test_now());
	loop_ask(&loop, &asked, EXCLUSIVE, DEADLINE);
	loop_for(&loop, 5);
	block_soon(&block);
	fault_watch();
	attempts = fault_calls(FAULT_flock);
	ck_assert_int_eq(loop_answer(&loop, &asked), -ETIMEDOUT);
	ck_assert_uint_ge(fault_calls(FAULT_flock), attempts + 1);
	ck_assert_uint_le(fault_calls(FAULT_flock), attempts + 4);
	filelock_close(asked.lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_queued_request_gets_the_lock_that_came_free_while_the_loop_was_blocked)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct block block = { .loop = &loop, .holder = hold("a", EXCLUSIVE) };
	struct asked head = { .lock = open_patient("a") };
	struct asked next = { .lock = open_patient("a") };

	clock_fake(test_now());
	loop_ask(&loop, &head, FILELOCK_SHARED, DEADLINE);
	loop_ask(&loop, &next, FILELOCK_SHARED, DEADLINE);
	loop_turn(&loop);
	block_soon(&block);
	loop_until(&loop, &loop_answers, 2);
	ck_assert_int_eq(head.result, 0);
	ck_assert_int_eq(next.result, 0);
	filelock_close(head.lock);
	filelock_close(next.lock);
	filelock_close(block.holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_timeout_counts_from_the_request_not_from_the_loops_cached_time)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	struct block block = { .loop = &loop, .late = &asked, .timeout_ms = 200 };

	block_soon(&block);
	ck_assert_int_eq(loop_answer(&loop, &asked), -ETIMEDOUT);
	ck_assert_int_ge(test_now() - block.asked_at, 200 * MILLISECONDS);
	filelock_close(asked.lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

static int64_t slow_from;

/* Our clock at half speed: every timer of the base comes early. */
static int64_t slow_now(void)
{
	return slow_from + (test_now() - slow_from) / 2;
}

/* shows: deadline-kept */
START_TEST(test_timer_that_comes_early_is_armed_again)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct filelock *lock = open_patient("a");

	slow_from = test_now();
	sys.now = slow_now;
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, 100), -ETIMEDOUT);
	ck_assert_int_ge(test_now() - slow_from, 200 * MILLISECONDS);
	filelock_close(holder);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lock_released_just_before_the_deadline_is_granted)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };

	for (unsigned i = test_rounds(20); i > 0; i--) {
		struct filelock *holder = hold("a", EXCLUSIVE);
		unsigned calls = asked.calls;
		int64_t deadline = test_now() + 10 * MILLISECONDS;

		loop_ask(&loop, &asked, EXCLUSIVE, 10);
		while (test_now() < deadline - MILLISECONDS)
			loop_turn(&loop);
		ck_assert_uint_le(asked.calls, calls + 1);
		if (asked.calls == calls) {
			filelock_close(holder);
			ck_assert_int_eq(loop_answer(&loop, &asked), 0);
			ck_assert_int_eq(filelock_release(asked.lock), 0);
		} else {
			filelock_close(holder); /* the machine was too slow to try it */
		}
	}
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* Both are overdue when they are looked at: the writer's refusal, by a reader, is none of a reader. */
START_TEST(test_reader_behind_a_writer_that_timed_out_makes_its_own_attempt)
{
	struct filelock *holder;
	struct asked writer = { .lock = open_patient("a") };
	struct asked reader = { .lock = open_patient("a") };
	struct loop loop;

	if (test_is_without_shared())
		return;
	holder = hold("a", FILELOCK_SHARED);
	loop = loop_new();
	clock_stop();
	loop_ask(&loop, &writer, EXCLUSIVE, 5);
	loop_ask(&loop, &reader, FILELOCK_SHARED, 5);
	clock_advance(10 * MILLISECONDS);
	loop_until(&loop, &reader.calls, 1);
	ck_assert_uint_eq(writer.calls, 1);
	ck_assert_int_eq(writer.result, -ETIMEDOUT);
	ck_assert_int_eq(reader.result, 0);
	filelock_close(holder);
	filelock_close(writer.lock);
	filelock_close(reader.lock);
	loop_free(&loop);
}
END_TEST

static int64_t (*kernels_now)(void);

static int64_t fortnight_ahead(void)
{
	return kernels_now() + INT64_C(14) * 24 * 3600 * 1000 * MILLISECONDS;
}

/* shows: deadline-kept
   As below libfaketime: what the process reads is not what the kernel's timers go by. */
START_TEST(test_deadline_comes_though_the_clock_that_is_read_is_not_the_kernels)
{
	struct loop loop;
	struct filelock *holder, *lock;

	kernels_now = sys.now;
	sys.now = fortnight_ahead;
	loop = loop_new();
	holder = hold("a", EXCLUSIVE);
	lock = open_patient("a");
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, 3), -ETIMEDOUT); /* a short one */
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, 30), -ETIMEDOUT);
	filelock_close(holder);
	filelock_close(lock);
	loop_free(&loop);
	sys.now = kernels_now;
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async timeouts", test_zero_timeout_makes_one_attempt,
	        test_zero_timeout_behind_a_waiting_request_is_answered_at_once,
	        test_no_timeout_comes_before_its_deadline,
	        test_each_request_of_a_queue_keeps_its_own_deadline, test_huge_timeouts_wait,
	        test_timeouts_out_of_range_are_refused,
	        test_lock_freed_while_the_loop_was_blocked_past_the_deadline_is_granted,
	        test_attempt_is_made_at_the_deadline_also_without_any_event,
	        test_blocked_loop_makes_an_attempt_before_it_reports_a_timeout,
	        test_queued_request_gets_the_lock_that_came_free_while_the_loop_was_blocked,
	        test_timeout_counts_from_the_request_not_from_the_loops_cached_time,
	        test_timer_that_comes_early_is_armed_again,
	        test_lock_released_just_before_the_deadline_is_granted,
	        test_reader_behind_a_writer_that_timed_out_makes_its_own_attempt,
	        test_deadline_comes_though_the_clock_that_is_read_is_not_the_kernels));
}
