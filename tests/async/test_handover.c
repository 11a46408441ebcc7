/* A hold that goes on to the next request of its queue, and the end of one on any thread. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define MANY 100

static void release_own(struct asked *asked)
{
	ck_assert_int_eq(filelock_release(asked->lock), 0);
}

/* Passes a hold on however long it has lasted. */
static struct loop patient_loop(void)
{
	struct loop loop = loop_with_handover(1000, 60000000);

	return loop;
}

/* A queue of requests on "a"; the first of `count` is granted when it returns, and kept. */
static void start_queue(struct loop *loop, struct asked *asked, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_until(loop, &loop_answers, 1);
	ck_assert_uint_eq(asked[0].calls, 1);
}

static void close_queue(struct asked *asked, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		filelock_close(asked[i].lock);
	}
	ck_assert(is_free("a"));
}

/* How often the lock is taken from the system while MANY requests in a row have it. */
static unsigned holds_taken(unsigned most, unsigned most_us)
{
	struct asked asked[MANY] = { 0 };
	struct filelock *holder = hold("a", EXCLUSIVE);
	unsigned before, taken;
	struct loop loop;

	fault_watch(); /* before there are workers */
	loop = loop_with_handover(most, most_us);
	for (unsigned i = 0; i < MANY; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_for(&loop, 5);
	before = fault_calls(FAULT_flock); /* a worker may have it before the loop goes on */
	filelock_close(holder);
	loop_drain(&loop);
	/* each time, it is then looked whether the path still names the file */
	taken = (fault_calls(FAULT_flock) - before) / 2;
	for (unsigned i = 0; i < MANY; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(asked[i].place, i + 1);
	}
	close_queue(asked, MANY);
	loop_free(&loop);
	return taken;
}

START_TEST(test_hold_is_passed_on_as_it_is)
{
	if (test_is_not_native())
		return;
	ck_assert_uint_le(holds_taken(MANY, 50000000), 5); /* with what the first one tries */
}
END_TEST

/* shows: hand-over */
START_TEST(test_hold_serves_at_most_the_number_that_was_set)
{
	unsigned taken;

	if (test_is_not_native())
		return;
	taken = holds_taken(10, 50000000);
	ck_assert_uint_ge(taken, 10);
	ck_assert_uint_le(taken, 15);
}
END_TEST

START_TEST(test_most_one_takes_the_lock_for_each_request)
{
	if (test_is_not_native())
		return;
	ck_assert_uint_ge(holds_taken(1, 50000000), MANY);
}
END_TEST

/* shows: hand-over */
START_TEST(test_hold_that_has_lasted_is_not_passed_on)
{
	if (test_is_not_native())
		return;
	ck_assert_uint_ge(holds_taken(MANY, 1), MANY);
}
END_TEST

/* It would work beside the readers that are left. */
/* shows: hand-over */
START_TEST(test_shared_hold_is_not_passed_on_to_an_exclusive_request)
{
	if (test_is_without_shared())
		return;
	struct loop loop = patient_loop();
	struct asked readers[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct asked writer = { .lock = open_patient("a") };

	loop_ask(&loop, &readers[0], FILELOCK_SHARED, -1);
	loop_ask(&loop, &readers[1], FILELOCK_SHARED, -1);
	loop_ask(&loop, &writer, EXCLUSIVE, -1);
	loop_until(&loop, &loop_answers, 2);
	ck_assert_int_eq(filelock_release(readers[0].lock), 0);
	ck_assert(!filelock_is_held(writer.lock));
	loop_for(&loop, 20);
	ck_assert_uint_eq(writer.calls, 0);
	ck_assert_int_eq(filelock_release(readers[1].lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &writer), 0);
	filelock_close(readers[0].lock);
	filelock_close(readers[1].lock);
	filelock_close(writer.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_waiting_behind_its_own_context_makes_no_attempt)
{
	struct asked asked[MANY] = { 0 };
	unsigned descriptors;
	struct loop loop;

	fault_watch(); /* before there are workers */
	loop = loop_new();
	start_queue(&loop, asked, MANY);
	loop_for(&loop, 5);
	fault_clear();
	descriptors = test_descriptors();
	loop_for(&loop, 150); /* three polls */
	ck_assert_uint_eq(fault_calls(FAULT_open), 0);
	ck_assert_uint_eq(fault_calls(FAULT_flock), 0);
	ck_assert_uint_eq(test_descriptors(), descriptors);
	for (unsigned i = 0; i < MANY; i++) {
		loop_until(&loop, &asked[i].calls, 1);
		ck_assert_uint_eq(asked[i].place, i + 1);
		release_own(&asked[i]);
	}
	close_queue(asked, MANY);
	loop_free(&loop);
}
END_TEST

START_TEST(test_deadline_ends_a_wait_behind_its_own_context)
{
	struct asked asked[3] = { 0 };
	struct loop loop = loop_new();

	start_queue(&loop, asked, 1);
	for (unsigned i = 1; i < 3; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], EXCLUSIVE, i == 1 ? 60000 : 20);
	}
	loop_until(&loop, &asked[2].calls, 1);
	ck_assert_int_eq(asked[2].result, -ETIMEDOUT);
	ck_assert_uint_eq(asked[1].calls, 0);
	ck_assert_int_eq(filelock_release(asked[0].lock), 0);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, 0);
	close_queue(asked, 3);
	loop_free(&loop);
}
END_TEST

START_TEST(test_one_attempt_behind_its_own_context_times_out)
{
	struct asked asked[2] = { 0 };
	struct loop loop = loop_new();

	start_queue(&loop, asked, 1);
	asked[1].lock = open_patient("a");
	loop_ask(&loop, &asked[1], EXCLUSIVE, 0);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, -ETIMEDOUT);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

/* A request between getting the hold and its callback. */
START_TEST(test_request_that_is_cancelled_with_the_hold_passes_it_on)
{
	struct asked asked[3] = { 0 };
	struct loop loop = patient_loop();

	start_queue(&loop, asked, 3);
	loop_for(&loop, 5);
	release_own(&asked[0]);
	ck_assert(filelock_is_held(asked[1].lock));
	ask_cancel(&asked[1]);
	loop_until(&loop, &loop_answers, 3);
	ck_assert_int_eq(asked[1].result, -ECANCELED);
	ck_assert(!filelock_is_held(asked[1].lock));
	ck_assert_int_eq(asked[2].result, 0);
	close_queue(asked, 3);
	loop_free(&loop);
}
END_TEST

/* shows: hand-over */
START_TEST(test_last_request_that_is_cancelled_with_the_hold_frees_the_lock)
{
	struct asked asked[2] = { 0 };
	struct loop loop = patient_loop();

	start_queue(&loop, asked, 2);
	loop_for(&loop, 5);
	release_own(&asked[0]);
	ask_cancel(&asked[1]);
	ck_assert(is_free("a"));
	loop_until(&loop, &loop_answers, 2);
	ck_assert_int_eq(asked[1].result, -ECANCELED);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

START_TEST(test_handle_that_is_closed_with_the_hold_frees_the_lock)
{
	struct asked asked[3] = { 0 };
	struct loop loop = patient_loop();

	start_queue(&loop, asked, 3);
	loop_for(&loop, 5);
	release_own(&asked[0]);
	filelock_close(asked[1].lock);
	loop_until(&loop, &loop_answers, 3);
	asked[1].lock = NULL;
	ck_assert_int_eq(asked[1].result, -ECANCELED);
	ck_assert_int_eq(asked[2].result, 0);
	close_queue(asked, 3);
	loop_free(&loop);
}
END_TEST

START_TEST(test_context_that_is_freed_with_a_passed_hold_frees_the_lock)
{
	struct asked asked[3] = { 0 };
	struct loop loop = patient_loop();

	start_queue(&loop, asked, 3);
	loop_for(&loop, 5);
	release_own(&asked[0]);
	loop_free(&loop);
	for (unsigned i = 1; i < 3; i++)
		ck_assert_int_eq(asked[i].result, -ECANCELED);
	ck_assert(is_free("a"));
	close_queue(asked, 3);
}
END_TEST

START_TEST(test_grant_outlives_its_context)
{
	struct asked asked[2] = { 0 };
	struct loop loop = loop_new();

	start_queue(&loop, asked, 2);
	loop_free(&loop);
	ck_assert(filelock_is_held(asked[0].lock));
	ck_assert(!is_free("a"));
	release_own(&asked[0]);
	close_queue(asked, 2);
}
END_TEST

START_TEST(test_nested_hold_is_passed_on_with_its_last_level)
{
	struct asked asked[2] = { 0 };
	struct loop loop = patient_loop();

	start_queue(&loop, asked, 2);
	loop_for(&loop, 5);
	ck_assert_int_eq(filelock_acquire(asked[0].lock, EXCLUSIVE, 0), 0);
	release_own(&asked[0]);
	loop_for(&loop, 5);
	ck_assert_uint_eq(asked[1].calls, 0);
	release_own(&asked[0]);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, 0);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

static void rename_away(void)
{
	ck_assert_int_eq(rename(test_path("a"), test_path("away")), 0);
	test_write_file(test_path("a"), "");
}

static void replace(void)
{
	test_write_file(test_path("new"), "");
	ck_assert_int_eq(rename(test_path("new"), test_path("a")), 0);
}

static void remove_it(void)
{
	ck_assert_int_eq(unlink(test_path("a")), 0);
}

/* In its first hold, and in one that was passed on after the file had not changed for a while. */
/* shows: hand-over */
START_TEST(test_hold_on_a_file_that_was_replaced_is_not_passed_on)
{
	static void (*const ways[])(void) = { rename_away, replace, remove_it };
	struct asked asked[4] = { 0 };
	unsigned held = _i % 2 ? 2 : 0;
	struct filelock *other;
	struct loop loop;

	if (test_is_not_native())
		return;
	loop = patient_loop();
	start_queue(&loop, asked, 4);
	loop_for(&loop, _i % 2 ? 50 : 5);
	for (unsigned i = 0; i < held; i++) {
		release_own(&asked[i]);
		loop_until(&loop, &asked[i + 1].calls, 1);
	}
	ways[_i / 2]();
	other = hold("a", EXCLUSIVE);
	release_own(&asked[held]);
	loop_for(&loop, 20);
	ck_assert_uint_eq(asked[held + 1].calls, 0);
	filelock_close(other);
	loop_until(&loop, &asked[held + 1].calls, 1);
	ck_assert_int_eq(asked[held + 1].result, 0);
	loop_free(&loop);
	for (unsigned i = 0; i < 4; i++)
		filelock_close(asked[i].lock);
}
END_TEST

static void *release_there(void *arg)
{
	struct asked *asked = arg;

	ck_assert_int_eq(filelock_release(asked->lock), 0);
	filelock_close(asked->lock);
	return NULL;
}

START_TEST(test_release_on_another_thread_wakes_the_next)
{
	struct asked asked[MANY] = { 0 };
	struct loop loop = loop_new();
	pthread_t thread;

	start_queue(&loop, asked, MANY);
	for (unsigned i = 0; i < MANY; i++) {
		loop_until(&loop, &asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_int_eq(pthread_create(&thread, NULL, release_there, &asked[i]), 0);
		if (i % 2) /* now and then while the loop goes on */
			ck_assert_int_eq(pthread_join(thread, NULL), 0);
		else
			ck_assert_int_eq(pthread_detach(thread), 0);
	}
	await(is_free("a"));
	loop_free(&loop);
}
END_TEST

START_TEST(test_release_on_another_thread_after_the_context_leaves_nothing)
{
	struct asked asked[1] = { 0 };
	struct loop loop = loop_new();
	pthread_t thread;

	start_queue(&loop, asked, 1);
	loop_free(&loop);
	ck_assert_int_eq(pthread_create(&thread, NULL, release_there, &asked[0]), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(is_free("a"));
}
END_TEST

START_TEST(test_without_a_bell_the_next_waits_at_the_file)
{
	struct asked asked[2] = { 0 };
	struct loop loop = loop_new();
	pthread_t thread;

	fault_set(FAULT_eventfd, 1, FAULT_FOR_GOOD, EMFILE);
	start_queue(&loop, asked, 2);
	loop_for(&loop, 5);
	ck_assert_int_eq(pthread_create(&thread, NULL, release_there, &asked[0]), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	asked[0].lock = NULL;
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, 0);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

START_TEST(test_hold_is_passed_without_a_bell_to_the_next_that_waits_at_the_file)
{
	struct asked asked[2] = { 0 };
	struct loop loop = patient_loop();

	fault_set(FAULT_eventfd, 1, FAULT_FOR_GOOD, EMFILE);
	start_queue(&loop, asked, 2);
	loop_for(&loop, 5);
	release_own(&asked[0]);
	ck_assert(filelock_is_held(asked[1].lock));
	loop_turn(&loop);
	ck_assert_uint_eq(asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, 0);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

START_TEST(test_hold_that_cannot_be_released_stays_with_its_handle)
{
	struct asked asked[2] = { 0 };
	struct loop loop;

	if (test_is_not_native())
		return;
	fault_watch(); /* before there are workers */
	loop = loop_with_handover(1, 0);
	start_queue(&loop, asked, 2);
	loop_for(&loop, 5);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(asked[0].lock), -EIO);
	loop_for(&loop, 5);
	ck_assert_uint_eq(asked[1].calls, 0);
	release_own(&asked[0]);
	loop_until(&loop, &asked[1].calls, 1);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

static int use_and_close(void *arg)
{
	struct asked *asked = arg;

	if (filelock_release(asked[0].lock) != FILELOCK_EFORKED)
		return 1;
	filelock_close(asked[0].lock);
	filelock_close(asked[1].lock);
	return 0;
}

START_TEST(test_child_leaves_the_grants_of_its_parent_alone)
{
	struct asked asked[2] = { 0 };
	struct loop loop = loop_new();

	start_queue(&loop, asked, 2);
	loop_for(&loop, 5);
	ck_assert_int_eq(test_in_child(use_and_close, asked), 0);
	ck_assert(!is_free("a"));
	release_own(&asked[0]);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, 0);
	close_queue(asked, 2);
	loop_free(&loop);
}
END_TEST

static int have_it_once(void *arg)
{
	struct filelock *lock = peer_lock();
	int r;

	(void)arg;
	peer_notify();
	r = filelock_acquire(lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	return r < 0 ? r : filelock_release(lock);
}

/* shows: hand-over */
START_TEST(test_other_process_gets_in_between)
{
	enum { QUEUED = 4 };
	struct asked asked[QUEUED] = { 0 };
	struct loop loop = loop_with_handover(2, 1000);
	int64_t end = test_now() + TEST_PATIENCE;
	struct peer peer;

	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("a"), NULL), 0);
	start_queue(&loop, asked, QUEUED);
	peer_order(&peer, have_it_once, NULL);
	peer_await_notice(&peer);
	/* somebody always waits in this queue */
	for (unsigned i = 0; !peer_answers_within(&peer, 0); i++) {
		struct asked *next = &asked[i % QUEUED];

		ck_assert_int_lt(test_now(), end);
		loop_until(&loop, &next->calls, i / QUEUED + 1);
		ck_assert_int_eq(next->result, 0);
		test_nap();
		release_own(next);
		loop_ask(&loop, next, EXCLUSIVE, -1);
	}
	ck_assert_int_eq(peer_answer(&peer), 0);
	loop_free(&loop);
	for (unsigned i = 0; i < QUEUED; i++)
		filelock_close(asked[i].lock);
	peer_stop(&peer);
}
END_TEST

int main(void)
{
	TCase *replaced = tcase_create("replaced");
	Suite *suite = SUITE(
	        "handover", test_hold_is_passed_on_as_it_is,
	        test_hold_serves_at_most_the_number_that_was_set,
	        test_most_one_takes_the_lock_for_each_request,
	        test_hold_that_has_lasted_is_not_passed_on,
	        test_shared_hold_is_not_passed_on_to_an_exclusive_request,
	        test_waiting_behind_its_own_context_makes_no_attempt,
	        test_deadline_ends_a_wait_behind_its_own_context,
	        test_one_attempt_behind_its_own_context_times_out,
	        test_request_that_is_cancelled_with_the_hold_passes_it_on,
	        test_last_request_that_is_cancelled_with_the_hold_frees_the_lock,
	        test_handle_that_is_closed_with_the_hold_frees_the_lock,
	        test_context_that_is_freed_with_a_passed_hold_frees_the_lock,
	        test_grant_outlives_its_context,
	        test_nested_hold_is_passed_on_with_its_last_level,
	        test_release_on_another_thread_wakes_the_next,
	        test_release_on_another_thread_after_the_context_leaves_nothing,
	        test_without_a_bell_the_next_waits_at_the_file,
	        test_hold_is_passed_without_a_bell_to_the_next_that_waits_at_the_file,
	        test_hold_that_cannot_be_released_stays_with_its_handle,
	        test_child_leaves_the_grants_of_its_parent_alone,
	        test_other_process_gets_in_between);

	tcase_add_loop_test(replaced, test_hold_on_a_file_that_was_replaced_is_not_passed_on, 0, 6);
	suite_add_tcase(suite, replaced);
	return support_main(suite);
}
