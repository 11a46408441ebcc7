/* Requests for one lock in one context: first come first served, shared ones together. */
#include <stdio.h>

#include "driver_private.h"
#include "loop.h"

#define SHARED FILELOCK_SHARED
#define EXCLUSIVE FILELOCK_EXCLUSIVE

static void release_own(struct asked *asked)
{
	ck_assert_int_eq(filelock_release(asked->lock), 0);
}

/* shows: served-in-order */
START_TEST(test_exclusive_requests_are_served_in_their_order)
{
	enum { COUNT = 300 };
	static struct asked asked[COUNT];
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);

	for (unsigned i = 0; i < COUNT; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(&loop, &asked[i], EXCLUSIVE, i % 3 ? -1 : 100000);
	}
	loop_for(&loop, 5);
	filelock_close(holder);
	loop_drain(&loop);
	for (unsigned i = 0; i < COUNT; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(asked[i].place, i + 1);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

/* Lets each of a row of requests in by releasing those before it; `modes` says "xssxs". */
static void serve_in_batches(const char *modes, const char *batches)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked[16] = { 0 };
	unsigned told = 0;
	unsigned batch;

	loop_answers = 0;
	for (unsigned i = 0; modes[i]; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], modes[i] == 's' ? SHARED : EXCLUSIVE, -1);
	}
	loop_for(&loop, 5);
	ck_assert_uint_eq(loop_answers, 0);
	filelock_close(holder);
	for (; *batches; batches++) {
		batch = (unsigned)(*batches - '0');
		loop_until(&loop, &loop_answers, told + batch);
		loop_for(&loop, 10);
		ck_assert_uint_eq(loop_answers, told + batch);
		for (unsigned i = told; i < told + batch; i++) {
			ck_assert_uint_eq(asked[i].calls, 1);
			ck_assert_int_eq(asked[i].result, 0);
		}
		for (unsigned i = told; i < told + batch; i++)
			filelock_close(asked[i].lock);
		told += batch;
	}
	ck_assert_int_eq(modes[told], '\0');
	loop_free(&loop);
}

START_TEST(test_shared_requests_at_the_head_are_granted_together)
{
	if (test_is_without_shared())
		return;
	serve_in_batches("ssss", "4");
	serve_in_batches("ssssx", "41");
	serve_in_batches("xsss", "13");
}
END_TEST

/* shows: served-in-order */
START_TEST(test_no_shared_request_overtakes_an_exclusive_one)
{
	if (test_is_without_shared())
		return;
	serve_in_batches("sxs", "111");
	serve_in_batches("ssxssxxs", "212111");
}
END_TEST

START_TEST(test_shared_request_does_not_join_holders_past_a_waiting_exclusive_one)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct filelock *reader;
	struct asked exclusive = { .lock = open_patient("a"), .then = release_own };
	struct asked shared = { .lock = open_patient("a") };

	reader = hold("a", SHARED);
	loop_ask(&loop, &exclusive, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	loop_ask(&loop, &shared, SHARED, -1);
	loop_for(&loop, 20);
	ck_assert_uint_eq(loop_answers, 0);
	filelock_close(reader);
	loop_drain(&loop);
	ck_assert_uint_eq(exclusive.place, 1);
	ck_assert_uint_eq(shared.place, 2);
	filelock_close(exclusive.lock);
	filelock_close(shared.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_shared_requests_join_shared_holders_at_once)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct filelock *reader;
	struct asked asked[3] = { 0 };

	reader = hold("a", SHARED);
	for (unsigned i = 0; i < 3; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], SHARED, 0);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		filelock_close(asked[i].lock);
	}
	ck_assert(!is_free("a"));
	filelock_close(reader);
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

START_TEST(test_locks_of_different_paths_do_not_wait_for_each_other)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked blocked = { .lock = open_patient("a") };
	struct asked other = { .lock = open_patient("b") };

	loop_ask(&loop, &blocked, EXCLUSIVE, -1);
	loop_ask(&loop, &other, EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(&loop, &other), 0);
	ck_assert_uint_eq(blocked.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &blocked), 0);
	filelock_close(blocked.lock);
	filelock_close(other.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nested_request_passes_those_that_wait_for_its_handle)
{
	struct loop loop = loop_new();
	struct asked holder = { .lock = hold("a", EXCLUSIVE) };
	struct asked waits = { .lock = open_patient("a") };

	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	loop_ask(&loop, &holder, EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(&loop, &holder), 0);
	ck_assert_uint_eq(filelock_depth(holder.lock), 2);
	ck_assert_uint_eq(waits.calls, 0);
	ck_assert_int_eq(filelock_release(holder.lock), 0);
	loop_for(&loop, 5);
	ck_assert_uint_eq(waits.calls, 0);
	ck_assert_int_eq(filelock_release(holder.lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &waits), 0);
	filelock_close(holder.lock);
	filelock_close(waits.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_request_is_never_a_deadlock_with_its_own_thread)
{
	struct loop loop = loop_new();
	struct filelock *holder = open_patient("a");
	struct asked waits = { .lock = open_patient("a") };

	ck_assert_int_eq(loop_acquire(&loop, holder, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_acquire(waits.lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                 -EDEADLK);
	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	loop_for(&loop, 20);
	ck_assert_uint_eq(waits.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &waits), 0);
	filelock_close(waits.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_synchronous_acquire_of_a_pending_handle_is_refused)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), -EALREADY);
	loop_for(&loop, 5);
	ck_assert_int_eq(filelock_acquire(asked.lock, SHARED, -1), -EALREADY);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_synchronous_acquire_of_a_handle_with_a_nested_request_is_refused)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), -EALREADY);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 2);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_synchronous_acquire_of_a_cancelled_handle_is_refused_until_told)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	ask_cancel(&asked);
	ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), -EALREADY);
	ck_assert_int_eq(loop_answer(&loop, &asked), -ECANCELED);
	ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static void acquire_others(struct asked *asked)
{
	struct asked *all = asked->arg;

	for (unsigned i = 0; i < 4; i++)
		if (all[i].calls == 0)
			ck_assert_int_eq(filelock_acquire(all[i].lock, EXCLUSIVE, 0),
			                 -EALREADY);
}

START_TEST(test_handle_is_pending_until_its_own_callback_begins)
{
	struct loop loop = loop_new();
	struct asked asked[4] = { 0 };
	char name[] = "0";

	for (unsigned i = 0; i < 4; i++, name[0]++) {
		asked[i] = (struct asked){ .lock = open_patient(name), .then = acquire_others,
			                   .arg = asked };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(filelock_depth(asked[i].lock), 1);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

START_TEST(test_two_contexts_on_one_base_share_a_lock)
{
	struct loop loop = loop_new();
	struct loop other = loop_on(loop.base);
	struct asked asked[10] = { 0 };

	for (unsigned i = 0; i < 10; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(i % 2 ? &other : &loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 10; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		if (i >= 2)
			ck_assert_uint_gt(asked[i].place, asked[i - 2].place);
		filelock_close(asked[i].lock);
	}
	evfilelock_free(other.ev);
	loop_free(&loop);
}
END_TEST

START_TEST(test_handles_on_descriptors_wait_in_the_loop_too)
{
	if (test_is_not_native())
		return;
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	FILE *file = fopen(test_path("a"), "r+");
	struct asked asked = { 0 };

	ck_assert_int_eq(filelock_open_fd(fileno(file), NULL, &asked.lock), 0);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert(!is_free("a"));
	filelock_close(asked.lock);
	ck_assert(is_free("a"));
	ck_assert_int_eq(fclose(file), 0);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lock_file_removed_on_release_serves_the_whole_queue)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct asked asked[5] = { 0 };

	options.unlink_on_release = true;
	options.poll_interval_ms = PATIENT_MS;
	for (unsigned i = 0; i < 5; i++) {
		asked[i] = (struct asked){ .lock = test_open(test_path("a"), &options),
			                   .then = release_own };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(asked[i].place, i + 1);
		filelock_close(asked[i].lock);
	}
	ck_assert_int_ne(access(test_path("a"), F_OK), 0);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nested_request_whose_hold_has_ended_waits_as_others_do)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct asked waits = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	loop_for(&loop, 2);
	loop_ask(&loop, &asked, EXCLUSIVE, 60000);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &waits), 0);
	loop_for(&loop, 5);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(filelock_release(waits.lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	filelock_close(asked.lock);
	filelock_close(waits.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nested_request_whose_hold_has_ended_keeps_its_deadline)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct filelock *other = open_patient("a");

	loop_ask(&loop, &asked, EXCLUSIVE, 20);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert_int_eq(filelock_acquire(other, EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked), -ETIMEDOUT);
	ck_assert(!filelock_is_held(asked.lock));
	loop_drain(&loop);
	filelock_close(other);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* Of files that are never looked at: the loop does not run. */
START_TEST(test_locks_whose_hashes_are_equal_have_queues_of_their_own)
{
	static const char *const paths[] = { "/VVqpE9VAMpB", "/Yx4j2nmefEA" };
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	struct loop loop = loop_new();
	struct asked asked[4] = { 0 };

	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(filelock_open(paths[i % 2], FILELOCK_NATIVE, NULL,
		                               &asked[i].lock), 0);
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	ck_assert_uint_eq(filelock_hash(asked[0].lock), filelock_hash(asked[1].lock));
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), 0);
	ck_assert_uint_eq(stats.queues, 2);
	ck_assert_uint_eq(stats.longest_queue, 2);
	evfilelock_free(loop.ev);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(asked[i].result, -ECANCELED);
		filelock_close(asked[i].lock);
	}
	event_base_free(loop.base);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async queue", test_exclusive_requests_are_served_in_their_order,
	        test_shared_requests_at_the_head_are_granted_together,
	        test_no_shared_request_overtakes_an_exclusive_one,
	        test_shared_request_does_not_join_holders_past_a_waiting_exclusive_one,
	        test_shared_requests_join_shared_holders_at_once,
	        test_locks_of_different_paths_do_not_wait_for_each_other,
	        test_nested_request_passes_those_that_wait_for_its_handle,
	        test_request_is_never_a_deadlock_with_its_own_thread,
	        test_synchronous_acquire_of_a_pending_handle_is_refused,
	        test_synchronous_acquire_of_a_handle_with_a_nested_request_is_refused,
	        test_synchronous_acquire_of_a_cancelled_handle_is_refused_until_told,
	        test_handle_is_pending_until_its_own_callback_begins,
	        test_two_contexts_on_one_base_share_a_lock,
	        test_handles_on_descriptors_wait_in_the_loop_too,
	        test_lock_file_removed_on_release_serves_the_whole_queue,
	        test_nested_request_whose_hold_has_ended_waits_as_others_do,
	        test_nested_request_whose_hold_has_ended_keeps_its_deadline,
	        test_locks_whose_hashes_are_equal_have_queues_of_their_own));
}
