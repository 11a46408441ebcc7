/* Rules 5 and 6 of event.h: what a callback may do. */
#include "loop.h"

static void release_own(struct asked *asked)
{
	ck_assert_int_eq(filelock_release(asked->lock), 0);
}

/* shows: rule-5 */
START_TEST(test_releasing_inside_a_callback_serves_the_next)
{
	struct loop loop = loop_new();
	struct asked asked[3] = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(asked[i].place, i + 1);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

static void close_own(struct asked *asked)
{
	filelock_close(asked->lock);
}

/* shows: rule-5 */
START_TEST(test_closing_the_handle_inside_its_callback_serves_the_next)
{
	struct loop loop = loop_new();
	struct asked asked[3] = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = close_own };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
	}
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

START_TEST(test_closing_the_handle_inside_a_failed_callback_is_fine)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked overdue = { .lock = open_patient("a"), .then = close_own };
	struct asked cancelled = { .lock = open_patient("a"), .then = close_own };

	loop_ask(&loop, &overdue, FILELOCK_EXCLUSIVE, 5);
	loop_ask(&loop, &cancelled, FILELOCK_EXCLUSIVE, -1);
	ask_cancel(&cancelled);
	loop_drain(&loop);
	ck_assert_int_eq(overdue.result, -ETIMEDOUT);
	ck_assert_int_eq(cancelled.result, -ECANCELED);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

/* Asks again, through the same handle, arg times in all. */
struct chain {
	struct asked asked;
	struct loop *loop;
	struct turns turns;
	unsigned left;
	unsigned asked_at; /* the turn */
	bool nest;
};

static void ask_again(struct asked *asked)
{
	struct chain *chain = asked->arg;

	ck_assert_int_eq(asked->result, 0);
	ck_assert_uint_gt(chain->turns.count, chain->asked_at);
	if (!chain->nest)
		ck_assert_int_eq(filelock_release(asked->lock), 0);
	if (--chain->left == 0)
		return;
	chain->asked_at = chain->turns.count;
	loop_ask(chain->loop, asked, FILELOCK_EXCLUSIVE, -1);
	ck_assert_uint_eq(asked->calls + chain->left, 50);
}

static void run_chain(struct chain *chain, struct loop *loop)
{
	chain->loop = loop;
	chain->left = 50;
	chain->asked.then = ask_again;
	chain->asked.arg = chain;
	chain->asked.lock = open_patient("a");
	turns_begin(&chain->turns, loop->base);
	loop_ask(loop, &chain->asked, FILELOCK_EXCLUSIVE, -1);
	loop_until(loop, &chain->asked.calls, 50);
	turns_end(&chain->turns);
	loop_drain(loop);
}

/* shows: rule-6 */
START_TEST(test_request_begun_inside_a_callback_waits_for_the_next_turn)
{
	struct loop loop = loop_new();
	struct chain chain = { 0 };

	run_chain(&chain, &loop);
	ck_assert(is_free("a"));
	filelock_close(chain.asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nested_request_begun_inside_a_callback_waits_for_the_next_turn)
{
	struct loop loop = loop_new();
	struct chain chain = { .nest = true };

	run_chain(&chain, &loop);
	ck_assert_uint_eq(filelock_depth(chain.asked.lock), 50);
	ck_assert_int_eq(filelock_release_all(chain.asked.lock), 0);
	ck_assert(is_free("a"));
	filelock_close(chain.asked.lock);
	loop_free(&loop);
}
END_TEST

/* A turn in which both the inotify descriptor and the timer of the context are due. */
struct double_turn {
	struct loop *loop;
	unsigned turn;
	struct filelock *holder;
	struct asked watching, prompt, late;
	unsigned begun, told; /* the turns */
};

static void note_turn(struct asked *asked)
{
	struct double_turn *both = asked->arg;

	both->told = both->turn;
}

static void ask_late(struct asked *asked)
{
	struct double_turn *both = asked->arg;

	if (both->late.lock)
		return;
	both->late = (struct asked){ .lock = open_patient("c"), .then = note_turn,
		                     .arg = both };
	both->begun = both->turn;
	loop_ask(both->loop, &both->late, FILELOCK_EXCLUSIVE, -1);
}

static void release_and_ask(evutil_socket_t fd, short what, void *arg)
{
	struct double_turn *both = arg;

	(void)fd;
	(void)what;
	ck_assert_int_eq(filelock_release(both->holder), 0);
	loop_ask(both->loop, &both->prompt, FILELOCK_EXCLUSIVE, -1);
}

/* shows: rule-6 */
START_TEST(test_request_begun_inside_a_callback_waits_when_woken_and_due_in_one_turn)
{
	struct loop loop;
	struct double_turn both = { .loop = &loop };

	clock_fake(test_now()); /* no pass ends because it took too long */
	loop = loop_new();
	both.holder = hold("a", FILELOCK_EXCLUSIVE);
	both.watching = (struct asked){ .lock = open_patient("a"), .then = ask_late,
		                        .arg = &both };
	both.prompt = (struct asked){ .lock = open_patient("b"), .then = ask_late,
		                      .arg = &both };
	loop_ask(&loop, &both.watching, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 10);
	ck_assert_int_eq(event_base_once(loop.base, -1, EV_TIMEOUT, release_and_ask, &both,
	                                 &(struct timeval){ 0, 1000 }), 0);
	for (; both.watching.calls + both.prompt.calls + both.late.calls < 3; both.turn++)
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	ck_assert_uint_gt(both.told, both.begun);
	ck_assert_uint_eq(both.watching.calls + both.prompt.calls + both.late.calls, 3);
	filelock_close(both.watching.lock);
	filelock_close(both.prompt.lock);
	filelock_close(both.late.lock);
	filelock_close(both.holder);
	loop_free(&loop);
}
END_TEST

static void ask_other(struct asked *asked)
{
	struct asked *other = asked->arg;

	loop_ask(other->arg, other, FILELOCK_EXCLUSIVE, -1);
	ck_assert_uint_eq(other->calls, 0);
}

START_TEST(test_asking_for_the_held_lock_by_another_handle_inside_a_callback_waits)
{
	struct loop loop = loop_new();
	struct asked other = { .lock = open_patient("a"), .arg = &loop };
	struct asked asked = { .lock = open_patient("a"), .then = ask_other, .arg = &other };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_until(&loop, &asked.calls, 1);
	loop_for(&loop, 20);
	ck_assert_uint_eq(other.calls, 0);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	loop_drain(&loop);
	ck_assert_uint_eq(other.calls, 1);
	ck_assert_int_eq(other.result, 0);
	filelock_close(asked.lock);
	filelock_close(other.lock);
	loop_free(&loop);
}
END_TEST

static void acquire_and_release(struct asked *asked)
{
	struct filelock *lock = asked->lock;

	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, FILELOCK_WAIT_FOREVER), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
}

/* shows: rule-4 */
START_TEST(test_handle_is_free_for_synchronous_use_inside_its_callback)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a"), .then = acquire_and_release };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	ck_assert(!is_free("a"));
	filelock_close(asked.lock);
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

static void break_loop(struct asked *asked)
{
	ck_assert_int_eq(event_base_loopbreak(asked->arg), 0);
}

/* shows: rule-5 */
START_TEST(test_no_callback_comes_after_loopbreak_until_the_loop_runs_again)
{
	struct loop loop = loop_new();
	struct loop other = loop_on(loop.base);
	struct asked asked[6] = { 0 };
	char name[] = "0";

	for (unsigned i = 0; i < 6; i++, name[0]++) {
		asked[i] = (struct asked){ .lock = open_patient(name), .then = break_loop,
			                   .arg = loop.base };
		loop_ask(i % 3 ? &loop : &other, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	ask_cancel(&asked[4]);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_int_eq(event_base_dispatch(loop.base), 0);
		ck_assert(event_base_got_break(loop.base));
		ck_assert_uint_eq(loop_answers, i + 1);
	}
	loop_drain(&loop);
	for (unsigned i = 0; i < 6; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		filelock_close(asked[i].lock);
	}
	evfilelock_free(other.ev);
	loop_free(&loop);
}
END_TEST

START_TEST(test_context_may_be_freed_after_loopbreak)
{
	struct loop loop = loop_new();
	struct asked asked[4] = { 0 };
	char name[] = "0";

	for (unsigned i = 0; i < 4; i++, name[0]++) {
		asked[i] = (struct asked){ .lock = open_patient(name), .then = break_loop,
			                   .arg = loop.base };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	ck_assert_int_eq(event_base_dispatch(loop.base), 0);
	ck_assert_uint_eq(loop_answers, 1);
	evfilelock_free(loop.ev);
	ck_assert_uint_eq(loop_answers, 4);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(asked[i].result, asked[i].place == 1 ? 0 : -ECANCELED);
		ck_assert_int_eq(filelock_is_held(asked[i].lock), asked[i].place == 1);
		filelock_close(asked[i].lock);
	}
	event_base_free(loop.base);
}
END_TEST

static void exit_loop(struct asked *asked)
{
	ck_assert_int_eq(event_base_loopexit(asked->arg, NULL), 0);
}

START_TEST(test_loopexit_inside_a_callback_loses_no_request)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct asked asked[3] = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = exit_loop,
			                   .arg = loop.base };
		loop_ask(&loop, &asked[i], FILELOCK_SHARED, -1);
	}
	ck_assert_int_eq(event_base_dispatch(loop.base), 0);
	ck_assert_uint_ge(loop_answers, 1);
	while (event_base_dispatch(loop.base) == 0) {
	}
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

/* The queue is looked at once more for the one that waits too long, and falls asleep once more. */
START_TEST(test_queue_that_slept_twice_leaves_the_loop_idle_at_the_end)
{
	struct loop loop = loop_with_slow_wait(2);
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };

	loop_ask(&loop, &asked[0], FILELOCK_EXCLUSIVE, -1);
	loop_ask(&loop, &asked[1], FILELOCK_EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), 0);
	loop_for(&loop, 5);
	ck_assert_uint_eq(asked[1].calls, 0);
	ck_assert_int_eq(filelock_release(asked[0].lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked[1]), 0);
	loop_drain(&loop);
	filelock_close(asked[0].lock);
	filelock_close(asked[1].lock);
	loop_free(&loop);
}
END_TEST

static void release_another(struct asked *asked)
{
	ck_assert_int_eq(asked->result, -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(asked->arg), 0);
}

START_TEST(test_hold_may_be_released_inside_the_callback_of_the_last_that_waited_for_it)
{
	struct loop loop = loop_with_slow_wait(2);
	struct asked asked[2] = { { .lock = open_patient("a") },
		                  { .lock = open_patient("a"), .then = release_another } };

	asked[1].arg = asked[0].lock;
	ck_assert_int_eq(loop_acquire(&loop, asked[0].lock, FILELOCK_EXCLUSIVE, -1), 0);
	loop_ask(&loop, &asked[1], FILELOCK_EXCLUSIVE, 200);
	ck_assert_int_eq(loop_answer(&loop, &asked[1]), -ETIMEDOUT);
	ck_assert(is_free("a"));
	loop_drain(&loop);
	filelock_close(asked[0].lock);
	filelock_close(asked[1].lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async callbacks", test_releasing_inside_a_callback_serves_the_next,
	        test_closing_the_handle_inside_its_callback_serves_the_next,
	        test_closing_the_handle_inside_a_failed_callback_is_fine,
	        test_request_begun_inside_a_callback_waits_for_the_next_turn,
	        test_nested_request_begun_inside_a_callback_waits_for_the_next_turn,
	        test_request_begun_inside_a_callback_waits_when_woken_and_due_in_one_turn,
	        test_asking_for_the_held_lock_by_another_handle_inside_a_callback_waits,
	        test_handle_is_free_for_synchronous_use_inside_its_callback,
	        test_no_callback_comes_after_loopbreak_until_the_loop_runs_again,
	        test_context_may_be_freed_after_loopbreak,
	        test_loopexit_inside_a_callback_loses_no_request,
	        test_queue_that_slept_twice_leaves_the_loop_idle_at_the_end,
	        test_hold_may_be_released_inside_the_callback_of_the_last_that_waited_for_it));
}
