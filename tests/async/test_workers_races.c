/* Requests that end, holds that are passed on and events that come while a worker is at it. */
#include <fcntl.h>
#include <string.h>

#include "gate.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define SHARED FILELOCK_SHARED

START_TEST(test_orphan_that_wins_frees_the_lock_though_nobody_waits)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop = gated_loop(1);

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	run_to_the_gate(&loop);
	ask_cancel(&asked);
	loop_drain(&loop);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(!is_free("a"));
	open_gate();
	await(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_hold_that_was_won_and_not_heard_of_goes_with_its_request)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop = gated_loop(1);

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	run_to_the_gate(&loop);
	open_gate();
	await_rings(1);
	ck_assert_uint_eq(asked.calls, 0);
	ask_cancel(&asked);
	loop_drain(&loop);
	ck_assert_int_eq(asked.result, -ECANCELED);
	await(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_of_two_that_have_won_unheard_one_is_cancelled_and_the_other_granted)
{
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("b") } };
	struct loop loop = gated_loop(0);

	for (unsigned i = 0; i < 2; i++) {
		gate_at = 1;
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
		run_to_the_gate(&loop);
	}
	for (unsigned i = 0; i < 2; i++)
		open_gate();
	await_rings(2);
	ask_cancel(&asked[0]);
	loop_until(&loop, &asked[0].calls, 1);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[0].result, -ECANCELED);
	ck_assert_int_eq(asked[1].result, 0);
	await(is_free("a"));
	for (unsigned i = 0; i < 2; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

static uint64_t wakes_by_event(const struct loop *loop)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	ck_assert_int_eq(evfilelock_get_stats(loop->ev, &stats), 0);
	return stats.wakes_by_event;
}

START_TEST(test_events_that_are_heard_together_are_one_wake)
{
	struct asked asked = { .lock = open_patient("a") };
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct loop loop;
	uint64_t wakes;
	int fd;

	clock_stop();
	loop = gated_loop(0);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	await_attempts(&loop, 1);
	wakes = wakes_by_event(&loop);
	ck_assert(!is_free("a")); /* closed after writing, and after reading: inotify(7) */
	fd = open(test_path("a"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(close(fd), 0);
	while (wakes_by_event(&loop) == wakes)
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(wakes_by_event(&loop), wakes + 1);
	filelock_close(holder);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* The loop listens, since another request waits. */
START_TEST(test_event_for_a_request_that_was_cancelled_under_an_attempt_wakes_nobody)
{
	struct asked gone = { .lock = open_patient("a") }, other = { .lock = open_patient("b") };
	struct filelock *holders[2] = { hold("a", EXCLUSIVE), hold("b", EXCLUSIVE) };
	struct loop loop;
	uint64_t wakes;

	clock_stop();
	loop = gated_loop(0);
	loop_ask(&loop, &gone, EXCLUSIVE, -1);
	loop_ask(&loop, &other, EXCLUSIVE, -1);
	await_attempts(&loop, 2);
	gate_at = 4; /* the last one that an event is worth at once */
	ck_assert(!is_free("a")); /* and its close is an event */
	run_to_the_gate(&loop);
	ask_cancel(&gone);
	loop_until(&loop, &gone.calls, 1);
	wakes = wakes_by_event(&loop);
	filelock_close(holders[0]);
	loop_turn(&loop);
	ck_assert_uint_eq(wakes_by_event(&loop), wakes);
	open_gate();
	gone.calls = 0;
	ck_assert_int_eq(loop_acquire(&loop, gone.lock, EXCLUSIVE, -1), 0);
	loop_free(&loop);
	ck_assert_int_eq(other.result, -ECANCELED);
	filelock_close(gone.lock);
	filelock_close(other.lock);
	filelock_close(holders[1]);
}
END_TEST

/* The loop hears it, since another request is with the workers. */
START_TEST(test_attempt_that_comes_back_when_nobody_asks_for_its_path_is_forgotten)
{
	struct asked gone = { .lock = open_patient("a") }, other = { .lock = open_patient("b") };
	struct loop loop = gated_loop(1);

	loop_ask(&loop, &gone, EXCLUSIVE, -1);
	run_to_the_gate(&loop);
	gate_at = 1;
	loop_ask(&loop, &other, EXCLUSIVE, -1);
	run_to_the_gate(&loop);
	ask_cancel(&gone);
	loop_until(&loop, &gone.calls, 1);
	for (unsigned i = 0; i < 2; i++)
		open_gate();
	await_rings(2);
	loop_until(&loop, &other.calls, 1);
	ck_assert_int_eq(other.result, 0);
	ck_assert(is_free("a"));
	ck_assert_int_eq(loop_acquire(&loop, gone.lock, EXCLUSIVE, -1), 0);
	filelock_close(gone.lock);
	filelock_close(other.lock);
	loop_free(&loop);
}
END_TEST

/* A file that is not to be seen at its path, though it can be opened, is attempted again at once. */
static atomic_uint attempts, attempts_before_b;

static int unseen_lstat(const char *path, struct stat *ret)
{
	if (path[strlen(path) - 1] != 'a')
		return real.lstat(path, ret);
	errno = ENOENT;
	return -1;
}

static int counted_flock(int fd, int operation)
{
	attempts++;
	return gated_flock(fd, operation);
}

static int noted_open(const char *path, int flags, mode_t mode)
{
	if (path[strlen(path) - 1] == 'b')
		attempts_before_b = attempts;
	return real.open(path, flags, mode);
}

START_TEST(test_lock_that_is_attempted_on_and_on_leaves_its_worker_to_others)
{
	struct asked racing = { .lock = open_patient("a") }, other = { .lock = open_patient("b") };
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct loop loop;

	clock_stop();
	loop = gated_loop_of(1, 1);
	loop_ask(&loop, &racing, EXCLUSIVE, -1);
	run_to_the_gate(&loop);
	sys.flock = counted_flock;
	sys.open = noted_open;
	sys.lstat = unseen_lstat;
	loop_ask(&loop, &other, EXCLUSIVE, -1);
	loop_for(&loop, 10);
	open_gate();
	loop_until(&loop, &other.calls, 1);
	ck_assert_int_eq(other.result, 0);
	ck_assert_uint_le(attempts_before_b, 16);
	ck_assert_uint_gt(attempts, 16);
	filelock_close(other.lock);
	filelock_close(racing.lock);
	loop_free(&loop);
	filelock_close(holder);
}
END_TEST

START_TEST(test_event_between_the_bell_and_the_pass_is_not_lost)
{
	struct asked asked = { .lock = open_patient("a") };
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct loop loop;

	clock_stop();
	loop = gated_loop(0);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	await_attempts(&loop, 1);
	await_rings(1); /* for that one */
	gate_at = 4; /* the last one that an event is worth at once */
	ck_assert(!is_free("a")); /* and its close is an event */
	run_to_the_gate(&loop);
	open_gate();
	await_rings(1);
	filelock_close(holder);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_release_is_answered_though_the_next_request_is_cancelled)
{
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct loop loop = gated_loop(0);

	loop_ask(&loop, &asked[0], EXCLUSIVE, -1);
	loop_ask(&loop, &asked[1], EXCLUSIVE, -1);
	loop_until(&loop, &asked[0].calls, 1);
	loop_for(&loop, 1);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked[0].lock, loop_note, &asked[0]), 0);
	ask_cancel(&asked[1]);
	loop_drain(&loop);
	ck_assert_uint_eq(asked[0].calls, 2);
	ck_assert_int_eq(asked[0].result, 0);
	ck_assert_uint_eq(asked[1].calls, 1);
	ck_assert(is_free("a"));
	for (unsigned i = 0; i < 2; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_shared_hold_is_passed_to_a_request_whose_attempt_is_under_way)
{
	struct asked readers[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct asked writer = { .lock = open_patient("a") };
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct loop loop;

	options.workers = 2;
	options.handover_max = 1000;
	options.handover_us = 60000000;
	loop = gated(loop_with(event_base_new(), &options), 2);
	for (unsigned i = 0; i < 2; i++)
		loop_ask(&loop, &readers[i], SHARED, -1);
	run_to_the_gate(&loop);
	ck_assert_uint_eq(readers[0].calls, 1);
	ck_assert_uint_eq(readers[1].calls, 0);
	ck_assert_int_eq(filelock_release(readers[0].lock), 0);
	loop_until(&loop, &readers[1].calls, 1);
	ck_assert_int_eq(readers[1].result, 0);
	ck_assert_int_eq(filelock_release(readers[1].lock), 0);
	loop_ask(&loop, &writer, EXCLUSIVE, -1);
	loop_for(&loop, 1);
	open_gate();
	loop_until(&loop, &writer.calls, 1);
	ck_assert_int_eq(writer.result, 0);
	filelock_close(writer.lock);
	ck_assert(is_free("a"));
	for (unsigned i = 0; i < 2; i++)
		filelock_close(readers[i].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_deadline_behind_another_request_is_told_with_its_attempt)
{
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct loop loop;

	clock_stop();
	loop = gated_loop(0);
	loop_ask(&loop, &asked[0], EXCLUSIVE, -1);
	loop_ask(&loop, &asked[1], EXCLUSIVE, 1000);
	await_attempts(&loop, 1);
	clock_advance(SECONDS);
	nudge(&loop);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, -ETIMEDOUT);
	ck_assert_uint_eq(asked[0].calls, 0);
	loop_free(&loop);
	for (unsigned i = 0; i < 2; i++)
		filelock_close(asked[i].lock);
	filelock_close(holder);
}
END_TEST

START_TEST(test_deadline_behind_a_request_that_is_granted_meanwhile_is_kept)
{
	struct asked asked[3] = { 0 };
	struct loop loop;

	clock_stop();
	loop = gated_loop(1);
	for (unsigned i = 0; i < 3; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], EXCLUSIVE, i == 2 ? 1000 : -1);
	}
	run_to_the_gate(&loop);
	clock_advance(SECONDS);
	nudge(&loop);
	open_gate();
	loop_until(&loop, &asked[2].calls, 1);
	ck_assert_int_eq(asked[2].result, -ETIMEDOUT);
	ck_assert_uint_eq(asked[0].calls, 1);
	ck_assert_int_eq(asked[0].result, 0);
	ck_assert_uint_eq(asked[1].calls, 0);
	loop_free(&loop);
	for (unsigned i = 0; i < 3; i++)
		filelock_close(asked[i].lock);
}
END_TEST

/* The second attempt is the last that is made at once; the next would be due after 1 ms. */
START_TEST(test_attempt_is_made_at_a_deadline_that_came_during_another)
{
	static const struct timeval soon = { 0, 100 };
	struct asked asked = { .lock = open_patient("a") };
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct loop loop;

	clock_stop();
	loop = gated_loop(2);
	ck_assert_int_eq(loop_ask_for(&loop, &asked, EXCLUSIVE, &soon), 0);
	run_to_the_gate(&loop);
	clock_advance(SECONDS / 5000);
	nudge(&loop);
	ck_assert_uint_eq(asked.calls, 0);
	open_gate();
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, -ETIMEDOUT);
	filelock_close(asked.lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_callers_descriptor_is_the_loops)
{
	int fd = open(test_path("a"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct asked asked = { 0 };
	struct loop loop = gated_loop(1); /* which a worker would not pass */

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(filelock_open_fd(fd, NULL, &asked.lock), 0);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	loop_until(&loop, &asked.calls, 2);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	ck_assert_int_eq(close(fd), 0);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "workers_races", test_orphan_that_wins_frees_the_lock_though_nobody_waits,
	        test_hold_that_was_won_and_not_heard_of_goes_with_its_request,
	        test_of_two_that_have_won_unheard_one_is_cancelled_and_the_other_granted,
	        test_events_that_are_heard_together_are_one_wake,
	        test_event_for_a_request_that_was_cancelled_under_an_attempt_wakes_nobody,
	        test_attempt_that_comes_back_when_nobody_asks_for_its_path_is_forgotten,
	        test_lock_that_is_attempted_on_and_on_leaves_its_worker_to_others,
	        test_event_between_the_bell_and_the_pass_is_not_lost,
	        test_release_is_answered_though_the_next_request_is_cancelled,
	        test_shared_hold_is_passed_to_a_request_whose_attempt_is_under_way,
	        test_deadline_behind_another_request_is_told_with_its_attempt,
	        test_deadline_behind_a_request_that_is_granted_meanwhile_is_kept,
	        test_attempt_is_made_at_a_deadline_that_came_during_another,
	        test_callers_descriptor_is_the_loops));
}
