/* Cancelling: anywhere in a queue, at any time, and what was won meanwhile (rules 4 and 7). */
#include "loop.h"

#define WAITING 5

/* Requests queued for one lock that `holder` holds. */
struct row {
	struct loop loop;
	struct filelock *holder;
	struct asked asked[WAITING];
};

static void row_begin(struct row *row, enum filelock_mode mode)
{
	*row = (struct row){ .loop = loop_new(), .holder = hold("a", FILELOCK_EXCLUSIVE) };
	for (unsigned i = 0; i < WAITING; i++) {
		row->asked[i].lock = open_patient("a");
		loop_ask(&row->loop, &row->asked[i], mode, -1);
	}
	loop_for(&row->loop, 10);
	ck_assert_uint_eq(loop_answers, 0);
}

static void row_end(struct row *row)
{
	for (unsigned i = 0; i < WAITING; i++) {
		ck_assert_uint_eq(row->asked[i].calls, 1);
		filelock_close(row->asked[i].lock);
	}
	filelock_close(row->holder);
	loop_free(&row->loop);
	ck_assert(is_free("a"));
}

static void release_own(struct asked *asked)
{
	if (asked->result == 0)
		ck_assert_int_eq(filelock_release(asked->lock), 0);
}

/* Cancels the one at `at`; the others are then served in their order. */
static void cancel_at(unsigned at)
{
	struct row row;
	unsigned place = 1;

	row_begin(&row, FILELOCK_EXCLUSIVE);
	for (unsigned i = 0; i < WAITING; i++)
		row.asked[i].then = release_own;
	ask_cancel(&row.asked[at]);
	loop_until(&row.loop, &row.asked[at].calls, 1);
	loop_for(&row.loop, 10);
	ck_assert_int_eq(row.asked[at].result, -ECANCELED);
	ck_assert_uint_eq(loop_answers, 1);
	ck_assert_int_eq(filelock_release(row.holder), 0);
	loop_drain(&row.loop);
	for (unsigned i = 0; i < WAITING; i++) {
		ck_assert_int_eq(row.asked[i].result, i == at ? -ECANCELED : 0);
		if (i != at)
			ck_assert_uint_eq(row.asked[i].place, ++place);
	}
	row_end(&row);
}

START_TEST(test_cancel_at_the_head_lets_the_next_one_wait)
{
	cancel_at(0);
}
END_TEST

START_TEST(test_cancel_in_the_middle_leaves_the_order_of_the_others)
{
	cancel_at(WAITING / 2);
}
END_TEST

START_TEST(test_cancel_at_the_tail_leaves_the_others)
{
	cancel_at(WAITING - 1);
}
END_TEST

START_TEST(test_all_may_be_cancelled_from_either_end)
{
	if (test_is_without_shared())
		return;
	for (unsigned back = 0; back < 2; back++) {
		struct row row;

		loop_answers = 0;
		row_begin(&row, FILELOCK_SHARED);
		for (unsigned i = 0; i < WAITING; i++)
			ask_cancel(&row.asked[back ? WAITING - 1 - i : i]);
		loop_drain(&row.loop);
		for (unsigned i = 0; i < WAITING; i++)
			ck_assert_int_eq(row.asked[i].result, -ECANCELED);
		row_end(&row);
	}
}
END_TEST

START_TEST(test_cancelled_exclusive_head_no_longer_blocks_shared_ones_behind_it)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct filelock *holder;
	struct asked exclusive = { .lock = open_patient("a") };
	struct asked shared = { .lock = open_patient("a") };

	holder = hold("a", FILELOCK_SHARED);
	loop_ask(&loop, &exclusive, FILELOCK_EXCLUSIVE, -1);
	loop_ask(&loop, &shared, FILELOCK_SHARED, -1);
	loop_for(&loop, 10);
	ck_assert_uint_eq(loop_answers, 0);
	ask_cancel(&exclusive);
	loop_drain(&loop);
	ck_assert_int_eq(exclusive.result, -ECANCELED);
	ck_assert_int_eq(shared.result, 0);
	ck_assert_uint_eq(loop_answers, 2);
	filelock_close(holder);
	filelock_close(exclusive.lock);
	filelock_close(shared.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_overdue_exclusive_head_no_longer_blocks_shared_ones_behind_it)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct filelock *holder;
	struct asked exclusive = { .lock = open_patient("a") };
	struct asked shared = { .lock = open_patient("a") };

	holder = hold("a", FILELOCK_SHARED);
	loop_ask(&loop, &exclusive, FILELOCK_EXCLUSIVE, 20);
	loop_ask(&loop, &shared, FILELOCK_SHARED, -1);
	loop_drain(&loop);
	ck_assert_int_eq(exclusive.result, -ETIMEDOUT);
	ck_assert_int_eq(shared.result, 0);
	filelock_close(holder);
	filelock_close(exclusive.lock);
	filelock_close(shared.lock);
	loop_free(&loop);
}
END_TEST

/* A callback does this to another request of the row. */
static void cancel_other(struct asked *asked)
{
	struct asked *other = asked->arg;

	if (other->calls == 0)
		ask_cancel(other);
}

static void cancel_from_callback(unsigned own, unsigned other, enum filelock_mode mode)
{
	struct row row;

	loop_answers = 0;
	row_begin(&row, mode);
	for (unsigned i = 0; i < WAITING; i++)
		row.asked[i].then = release_own;
	row.asked[own].then = cancel_other;
	row.asked[own].arg = &row.asked[other];
	ck_assert_int_eq(filelock_release(row.holder), 0);
	loop_until(&row.loop, &row.asked[own].calls, 1);
	ck_assert_int_eq(filelock_release(row.asked[own].lock), 0);
	loop_drain(&row.loop);
	ck_assert_int_eq(row.asked[own].result, 0);
	ck_assert_int_eq(row.asked[other].result, -ECANCELED);
	ck_assert(!filelock_is_held(row.asked[other].lock));
	row_end(&row);
}

/* shows: rule-5 */
START_TEST(test_cancel_inside_a_siblings_callback_completes_once)
{
	cancel_from_callback(0, 1, FILELOCK_EXCLUSIVE);
	cancel_from_callback(0, 2, FILELOCK_EXCLUSIVE);
	cancel_from_callback(0, WAITING - 1, FILELOCK_EXCLUSIVE);
}
END_TEST

START_TEST(test_cancel_inside_the_callback_of_a_shared_batch_takes_the_lock_back)
{
	if (test_is_without_shared())
		return;
	cancel_from_callback(0, 1, FILELOCK_SHARED);
	cancel_from_callback(0, WAITING - 1, FILELOCK_SHARED);
	cancel_from_callback(1, 3, FILELOCK_SHARED);
}
END_TEST

static void cancel_others(struct asked *asked)
{
	struct asked *all = asked->arg;

	for (unsigned i = 0; i < WAITING; i++)
		ask_cancel(&all[i]);
}

/* shows: rule-7 */
START_TEST(test_lock_won_in_the_same_turn_as_its_cancel_is_released)
{
	struct loop loop = loop_new();
	struct asked asked[WAITING] = { 0 };
	char name[] = "0";

	for (unsigned i = 0; i < WAITING; i++, name[0]++) {
		asked[i] = (struct asked){ .lock = open_patient(name), .then = cancel_others,
			                   .arg = asked };
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	name[0] = '0';
	for (unsigned i = 0; i < WAITING; i++, name[0]++) {
		bool first = asked[i].place == 1;

		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, first ? 0 : -ECANCELED);
		ck_assert_int_eq(filelock_is_held(asked[i].lock), first);
		ck_assert_int_eq(is_free(name), !first);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

START_TEST(test_cancelled_nested_request_leaves_the_lock_held_once)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", FILELOCK_EXCLUSIVE) };

	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	ask_cancel(&asked);
	loop_drain(&loop);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	ck_assert(!is_free("a"));
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* A release by another process and a cancel race: whoever wins, nothing is left locked. */
/* shows: rule-7 */
START_TEST(test_release_elsewhere_and_cancel_race_without_a_leak)
{
	struct loop loop;
	struct peer peer;
	struct asked asked = { 0 };

	peer_start_holding(&peer, test_path("a"), FILELOCK_EXCLUSIVE);
	loop = loop_new();
	asked.lock = open_patient("a");
	for (unsigned i = test_rounds(200); i > 0; i--) {
		loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
		loop_turn(&loop);
		ck_assert_int_eq(peer_release(&peer), 0);
		if (i % 2)
			ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
		ask_cancel(&asked);
		loop_drain(&loop);
		ck_assert_int_eq(filelock_is_held(asked.lock), asked.result == 0);
		if (asked.result == 0)
			ck_assert_int_eq(filelock_release(asked.lock), 0);
		else
			ck_assert_int_eq(asked.result, -ECANCELED);
		/* a wait that was given up may be about to unlock it */
		ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER), 0);
	}
	ck_assert_uint_eq(asked.calls, test_rounds(200));
	peer_stop(&peer);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async cancel", test_cancel_at_the_head_lets_the_next_one_wait,
	        test_cancel_in_the_middle_leaves_the_order_of_the_others,
	        test_cancel_at_the_tail_leaves_the_others,
	        test_all_may_be_cancelled_from_either_end,
	        test_cancelled_exclusive_head_no_longer_blocks_shared_ones_behind_it,
	        test_overdue_exclusive_head_no_longer_blocks_shared_ones_behind_it,
	        test_cancel_inside_a_siblings_callback_completes_once,
	        test_cancel_inside_the_callback_of_a_shared_batch_takes_the_lock_back,
	        test_lock_won_in_the_same_turn_as_its_cancel_is_released,
	        test_cancelled_nested_request_leaves_the_lock_held_once,
	        test_release_elsewhere_and_cancel_race_without_a_leak));
}
