/* Rule 8 of event.h: closing a handle whose request is pending. */
#include <string.h>

#include "loop.h"

static void look_at_handle(struct asked *asked)
{
	ck_assert_int_eq(strcmp(strrchr(filelock_path(asked->lock), '/'), "/a"), 0);
	ck_assert(!filelock_is_held(asked->lock));
}

/* shows: rule-8 */
START_TEST(test_closing_a_waiting_handle_cancels_and_it_lives_until_told)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a"), .then = look_at_handle };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 10);
	filelock_close(asked.lock);
	ck_assert_uint_eq(asked.calls, 0);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

/* shows: rule-8 */
START_TEST(test_closing_before_the_first_attempt_cancels)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a"), .then = look_at_handle };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, 0);
	filelock_close(asked.lock);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

START_TEST(test_closing_a_cancelled_handle_tells_once)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a"), .then = look_at_handle };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	ask_cancel(&asked);
	filelock_close(asked.lock);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	loop_free(&loop);
}
END_TEST

START_TEST(test_cancelling_the_request_of_a_closed_handle_tells_once)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a"), .then = look_at_handle };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	filelock_close(asked.lock);
	ask_cancel(&asked);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_closing_a_handle_whose_nested_request_is_pending_releases_and_cancels)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", FILELOCK_EXCLUSIVE),
		               .then = look_at_handle };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	filelock_close(asked.lock);
	ck_assert(is_free("a"));
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

/* Closes one of five that wait for one lock; the others are served. */
static void close_at(unsigned at)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked[5] = { 0 };

	for (unsigned i = 0; i < 5; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], FILELOCK_SHARED, i % 2 ? 60000 : -1);
	}
	loop_for(&loop, 5);
	filelock_close(asked[at].lock);
	filelock_close(holder);
	loop_drain(&loop);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, i == at ? -ECANCELED : 0);
		if (i != at)
			filelock_close(asked[i].lock);
	}
	ck_assert(is_free("a"));
	loop_free(&loop);
}

START_TEST(test_closing_a_handle_anywhere_in_a_queue_leaves_the_others)
{
	if (test_is_without_shared())
		return;
	close_at(0);
	close_at(2);
	close_at(4);
}
END_TEST

static void close_others(struct asked *asked)
{
	struct asked *all = asked->arg;
	static struct asked *closer;

	if (closer)
		return;
	closer = asked;
	for (unsigned i = 0; i < 6; i++)
		if (&all[i] != asked && all[i].calls == 0)
			filelock_close(all[i].lock);
}

/* Whichever request comes first closes the handles of all others: waiting ones, nested ones,
   cancelled ones, and such as could be had in the same turn. */
/* shows: rule-5 */
START_TEST(test_closing_other_handles_inside_a_callback_completes_each_once)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("w", FILELOCK_EXCLUSIVE);
	static const char *const names[] = { "a", "b", "a", "w", "w", "c" };
	struct asked asked[6] = { 0 };

	for (unsigned i = 0; i < 6; i++) {
		asked[i] = (struct asked){ .lock = open_patient(names[i]), .arg = asked };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	asked[0].then = close_others;
	loop_drain(&loop);
	ck_assert_int_eq(asked[0].result, 0);
	for (unsigned i = 0; i < 6; i++)
		ck_assert_uint_eq(asked[i].calls, 1);
	for (unsigned i = 2; i < 5; i++)
		ck_assert_int_eq(asked[i].result, -ECANCELED);
	for (unsigned i = 1; i < 6; i += 4)
		if (asked[i].place < asked[0].place)
			filelock_close(asked[i].lock);
		else
			ck_assert_int_eq(asked[i].result, -ECANCELED);
	ck_assert(is_free("b") && is_free("c"));
	filelock_close(asked[0].lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

static void close_asked(struct asked *asked)
{
	filelock_close(asked->lock);
}

START_TEST(test_closing_handles_inside_the_callbacks_of_free_is_fine)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked[6] = { 0 };

	for (unsigned i = 0; i < 6; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = close_asked };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	loop_for(&loop, 5);
	evfilelock_free(loop.ev);
	for (unsigned i = 0; i < 6; i++)
		ck_assert_uint_eq(asked[i].calls, 1);
	event_base_free(loop.base);
	filelock_close(holder);
}
END_TEST

START_TEST(test_closing_other_handles_inside_the_callbacks_of_free_completes_each_once)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked[6] = { 0 };
	unsigned closed_by = 0;

	for (unsigned i = 0; i < 6; i++) {
		asked[i] = (struct asked){ .lock = open_patient(i % 2 ? "a" : "b"),
			                   .arg = asked };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	for (unsigned i = 0; i < 6; i++)
		asked[i].then = close_others;
	evfilelock_free(loop.ev);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, -ECANCELED);
		if (asked[i].place == 1)
			closed_by = i;
	}
	filelock_close(asked[closed_by].lock);
	event_base_free(loop.base);
	filelock_close(holder);
}
END_TEST

START_TEST(test_closed_holder_serves_those_that_wait_in_the_same_loop)
{
	struct loop loop = loop_new();
	struct asked first = { .lock = open_patient("a") };
	struct asked second = { .lock = open_patient("a") };

	ck_assert_int_eq(loop_acquire(&loop, first.lock, FILELOCK_EXCLUSIVE, -1), 0);
	loop_ask(&loop, &second, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_uint_eq(second.calls, 0);
	filelock_close(first.lock);
	loop_drain(&loop);
	ck_assert_int_eq(second.result, 0);
	ck_assert_uint_eq(second.calls, 1);
	filelock_close(second.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_singleton_with_a_request_pending_is_cancelled_by_its_last_close)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked = { .then = look_at_handle };

	options.singleton = true;
	asked.lock = test_open(test_path("a"), &options);
	ck_assert_ptr_eq(test_open(test_path("a"), &options), asked.lock);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	filelock_close(asked.lock);
	loop_for(&loop, 5);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(asked.lock);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

/* Between the last close and the callback the handle is nobody's any more. */
START_TEST(test_singleton_opened_anew_before_the_callback_is_another_handle)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct asked asked = { 0 };
	struct filelock *anew;

	options.singleton = true;
	asked.lock = test_open(test_path("a"), &options);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	filelock_close(asked.lock);
	anew = test_open(test_path("a"), &options);
	ck_assert_ptr_ne(anew, asked.lock);
	ck_assert_int_eq(filelock_acquire(anew, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	loop_drain(&loop);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(filelock_is_held(anew));
	ck_assert(!is_free("a"));
	filelock_close(anew);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async closing", test_closing_a_waiting_handle_cancels_and_it_lives_until_told,
	        test_closing_before_the_first_attempt_cancels,
	        test_closing_a_cancelled_handle_tells_once,
	        test_cancelling_the_request_of_a_closed_handle_tells_once,
	        test_closing_a_handle_whose_nested_request_is_pending_releases_and_cancels,
	        test_closing_a_handle_anywhere_in_a_queue_leaves_the_others,
	        test_closing_other_handles_inside_a_callback_completes_each_once,
	        test_closing_handles_inside_the_callbacks_of_free_is_fine,
	        test_closing_other_handles_inside_the_callbacks_of_free_completes_each_once,
	        test_closed_holder_serves_those_that_wait_in_the_same_loop,
	        test_singleton_with_a_request_pending_is_cancelled_by_its_last_close,
	        test_singleton_opened_anew_before_the_callback_is_another_handle));
}
