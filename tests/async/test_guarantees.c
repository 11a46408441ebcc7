/* Rules 1 to 4 of event.h: whether, how often, when and where a callback is called. */
#include <pthread.h>
#include <stddef.h>
#include <sys/stat.h>

#include "loop.h"

static int refused(struct loop *loop, struct asked *asked, enum filelock_mode mode)
{
	return loop_try_ask(loop, asked, mode, -1);
}

/* shows: rule-1 */
START_TEST(test_refused_arguments_are_never_called_back)
{
	struct loop loop = loop_new();
	struct loop none = { loop.base, NULL };
	struct asked asked = { .lock = open_patient("a") };
	struct asked nothing = { .lock = NULL };

	ck_assert_int_eq(refused(&none, &asked, FILELOCK_EXCLUSIVE), -EINVAL);
	ck_assert_int_eq(refused(&loop, &nothing, FILELOCK_EXCLUSIVE), -EINVAL);
	ck_assert_int_eq(refused(&loop, &asked, (enum filelock_mode)7), -EINVAL);
	ck_assert_int_eq(evfilelock_acquire(loop.ev, asked.lock, FILELOCK_SHARED, NULL, NULL,
	                                      &asked), -EINVAL);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls + nothing.calls, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_context_without_base_is_refused)
{
	errno = 0;
	ck_assert_ptr_null(evfilelock_new(NULL, NULL));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

static int error_of(struct event_base *base, const struct evfilelock_options *options)
{
	struct evfilelock *ev;

	errno = 0;
	ev = evfilelock_new(base, options);
	evfilelock_free(ev);
	return ev ? 0 : errno;
}

/* A program that was compiled with another header, older or newer. */
START_TEST(test_options_of_another_size_count_as_far_as_they_are_known)
{
	struct {
		struct evfilelock_options known;
		unsigned unknown[2];
	} newer = { EVFILELOCK_OPTIONS_INIT, { 0 } };
	struct event_base *base = event_base_new();

	newer.known.size = sizeof(newer);
	ck_assert_int_eq(error_of(base, &newer.known), 0);
	newer.unknown[1] = 1;
	ck_assert_int_eq(error_of(base, &newer.known), EINVAL);
	newer.known.workers = 257;
	newer.known.size = offsetof(struct evfilelock_options, workers); /* older: not looked at */
	ck_assert_int_eq(error_of(base, &newer.known), 0);
	newer.known.size = 0;
	ck_assert_int_eq(error_of(base, &newer.known), EINVAL);
	newer.known.size = sizeof(newer.known);
	ck_assert_int_eq(error_of(base, &newer.known), EINVAL);
	event_base_free(base);
}
END_TEST

/* shows: rule-1 */
START_TEST(test_second_request_of_a_handle_is_refused)
{
	struct loop loop = loop_new();
	struct loop other = loop_on(loop.base);
	struct asked first = { .lock = open_patient("a") };
	struct asked second = { .lock = first.lock };

	loop_ask(&loop, &first, FILELOCK_EXCLUSIVE, -1);
	ck_assert_int_eq(refused(&loop, &second, FILELOCK_EXCLUSIVE), -EALREADY);
	ck_assert_int_eq(refused(&other, &second, FILELOCK_EXCLUSIVE), -EALREADY);
	ck_assert_int_eq(loop_answer(&loop, &first), 0);
	loop_drain(&loop);
	ck_assert_uint_eq(second.calls, 0);
	ck_assert_uint_eq(filelock_depth(first.lock), 1);
	filelock_close(first.lock);
	evfilelock_free(other.ev);
	loop_free(&loop);
}
END_TEST

START_TEST(test_cancelled_handle_is_busy_until_it_was_told)
{
	struct loop loop = loop_new();
	struct asked first = { .lock = open_patient("a") };
	struct asked second = { .lock = first.lock };

	loop_ask(&loop, &first, FILELOCK_EXCLUSIVE, -1);
	ask_cancel(&first);
	ck_assert_int_eq(refused(&loop, &second, FILELOCK_EXCLUSIVE), -EALREADY);
	ck_assert_int_eq(loop_answer(&loop, &first), -ECANCELED);
	loop_ask(&loop, &second, FILELOCK_EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(&loop, &second), 0);
	ck_assert_uint_eq(first.calls, 1);
	filelock_close(first.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-1 */
START_TEST(test_other_mode_of_a_held_lock_is_refused)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct asked asked = { 0 };

	asked.lock = hold("a", FILELOCK_SHARED);
	ck_assert_int_eq(refused(&loop, &asked, FILELOCK_EXCLUSIVE), -EDEADLK);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-2 */
START_TEST(test_granted_request_is_told_once)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(filelock_is_held(asked.lock));
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-2 */
START_TEST(test_overdue_request_is_told_once)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, FILELOCK_SHARED, 10);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ETIMEDOUT);
	ck_assert(!filelock_is_held(asked.lock));
	filelock_close(holder);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-2 */
START_TEST(test_cancelled_request_is_told_once)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_turn(&loop);
	ask_cancel(&asked);
	ask_cancel(&asked);
	ck_assert_uint_eq(asked.calls, 0);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	filelock_close(holder);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-2 */
START_TEST(test_error_of_the_system_is_told_once)
{
	struct asked asked = { 0 };
	struct loop loop;

	if (test_is_beside_its_path())
		return;
	loop = loop_new();
	asked.lock = open_patient("a");
	ck_assert_int_eq(symlink("nowhere", test_path("a")), 0);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ELOOP);
	ck_assert_int_eq(unlink(test_path("a")), 0);
	ck_assert_int_eq(loop_acquire(&loop, asked.lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_symbolic_link_is_an_error_not_a_wait)
{
	struct filelock *lock;
	struct loop loop;

	if (test_is_beside_its_path())
		return;
	loop = loop_new();
	lock = open_patient("link");
	ck_assert_int_eq(symlink("target", test_path("link")), 0);
	ck_assert_int_eq(loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1), -ELOOP);
	ck_assert_int_ne(access(test_path("target"), F_OK), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-3 */
START_TEST(test_acquire_and_cancel_never_call_back)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, 0);
	ck_assert_uint_eq(asked.calls, 0);
	ask_cancel(&asked);
	ck_assert_uint_eq(asked.calls, 0);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static void note_thread(struct asked *asked)
{
	*(pthread_t *)asked->arg = pthread_self();
}

static void *run_loop(void *arg)
{
	struct loop *loop = arg;
	static pthread_t thread;

	thread = pthread_self();
	return event_base_dispatch(loop->base) == 1 ? &thread : NULL;
}

/* shows: rule-3 */
START_TEST(test_callback_comes_on_the_thread_that_runs_the_loop)
{
	struct loop loop = loop_new();
	pthread_t thread, told = pthread_self();
	struct asked asked = { .lock = open_patient("a"), .then = note_thread, .arg = &told };
	void *looped;

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	ck_assert_int_eq(pthread_create(&thread, NULL, run_loop, &loop), 0);
	ck_assert_int_eq(pthread_join(thread, &looped), 0);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert(pthread_equal(told, *(pthread_t *)looped));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-3 */
START_TEST(test_free_tells_all_that_is_pending_before_it_returns)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked[5] = { 0 };

	for (unsigned i = 0; i < 5; i++) {
		asked[i].lock = open_patient(i < 3 ? "a" : "b");
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, i == 1 ? 60000 : -1);
	}
	ask_cancel(&asked[2]);
	evfilelock_free(loop.ev);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, -ECANCELED);
		ck_assert(!filelock_is_held(asked[i].lock));
		filelock_close(asked[i].lock);
	}
	filelock_close(holder);
	ck_assert(is_free("a") && is_free("b"));
	loop_drain(&loop);
	event_base_free(loop.base);
}
END_TEST

static void ask_and_free_again(struct asked *asked)
{
	struct loop *loop = asked->arg;
	struct asked another = { .lock = asked->lock };

	ck_assert_int_eq(refused(loop, &another, FILELOCK_EXCLUSIVE), -ECANCELED);
	evfilelock_free(loop->ev);
}

/* shows: rule-3 */
START_TEST(test_while_freed_a_context_refuses_requests_and_a_second_free_does_nothing)
{
	struct loop loop = loop_new();
	struct asked asked[2] = {
		{ .lock = open_patient("a"), .then = ask_and_free_again, .arg = &loop },
		{ .lock = open_patient("b"), .then = ask_and_free_again, .arg = &loop },
	};

	for (unsigned i = 0; i < 2; i++)
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	evfilelock_free(loop.ev);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, -ECANCELED);
		filelock_close(asked[i].lock);
	}
	event_base_free(loop.base);
}
END_TEST

static void cancel_own(struct asked *asked)
{
	struct loop *loop = asked->arg;

	ck_assert_int_eq(evfilelock_cancel(loop->ev, asked->lock), -ENOENT);
}

/* shows: rule-4 */
START_TEST(test_cancelling_a_request_inside_its_callback_does_nothing)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a"), .then = cancel_own };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	asked.arg = &loop;
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_cancelling_and_freeing_nothing_is_fine)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");

	ck_assert_int_eq(evfilelock_cancel(NULL, lock), -EINVAL);
	ck_assert_int_eq(evfilelock_cancel(loop.ev, NULL), -EINVAL);
	ck_assert_int_eq(evfilelock_cancel(loop.ev, lock), -ENOENT);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(evfilelock_cancel(loop.ev, lock), -ENOENT);
	filelock_close(lock);
	loop_free(&loop);
	evfilelock_free(NULL);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async guarantees", test_refused_arguments_are_never_called_back,
	        test_context_without_base_is_refused,
	        test_options_of_another_size_count_as_far_as_they_are_known,
	        test_second_request_of_a_handle_is_refused,
	        test_cancelled_handle_is_busy_until_it_was_told,
	        test_other_mode_of_a_held_lock_is_refused, test_granted_request_is_told_once,
	        test_overdue_request_is_told_once, test_cancelled_request_is_told_once,
	        test_error_of_the_system_is_told_once,
	        test_symbolic_link_is_an_error_not_a_wait,
	        test_acquire_and_cancel_never_call_back,
	        test_callback_comes_on_the_thread_that_runs_the_loop,
	        test_free_tells_all_that_is_pending_before_it_returns,
	        test_while_freed_a_context_refuses_requests_and_a_second_free_does_nothing,
	        test_cancelling_a_request_inside_its_callback_does_nothing,
	        test_cancelling_and_freeing_nothing_is_fine));
}
