/* schedule.h: when to attempt next, by tables. */
#include <filelock/driver.h>

#include "schedule.h"
#include "support.h"

#define T0 (1000 * SECONDS)
#define MICROSECONDS INT64_C(1000)

static const struct {
	int64_t now, delay, at;
} laters[] = {
	{ 0, 0, 0 },
	{ T0, 5, T0 + 5 },
	{ T0, FILELOCK_NEVER, FILELOCK_NEVER },
	{ T0, FILELOCK_NEVER - T0, FILELOCK_NEVER },
	{ T0, FILELOCK_NEVER - T0 - 1, FILELOCK_NEVER - 1 },
};

START_TEST(test_later_ends_at_never)
{
	ck_assert_int_eq(schedule_later(laters[_i].now, laters[_i].delay), laters[_i].at);
}
END_TEST

/* milliseconds */
static const struct {
	unsigned configured;
	size_t waiting;
	bool local;
	int64_t interval;
	bool exact, loaded;
} polls[] = {
	{ 0, 0, true, 50, true, false },       { 0, 50, true, 50, true, false },
	{ 0, 51, true, 51, false, true },      { 0, 51, false, 50, true, true },
	{ 0, 1000, true, 1000, false, true },  { 0, 1000, false, 100, false, true },
	{ 0, 60001, true, 60000, false, true }, { 7, 0, true, 7, true, false },
	{ 7, 100000, false, 7, true, true },   { 3600000, 1, true, 3600000, true, false },
};

START_TEST(test_poll_interval_grows_with_those_who_wait_unless_it_is_configured)
{
	struct schedule_poll poll = schedule_poll(polls[_i].configured, polls[_i].waiting,
	                                          polls[_i].local, 5);

	ck_assert_int_eq(poll.interval, polls[_i].interval * MILLISECONDS);
	ck_assert_int_eq(poll.is_exact, polls[_i].exact);
	ck_assert_uint_eq(poll.salt, 5);
	ck_assert_int_eq(schedule_is_loaded(polls[_i].waiting), polls[_i].loaded);
}
END_TEST

START_TEST(test_poll_comes_up_to_an_eighth_early_and_not_in_step)
{
	struct schedule_poll poll = schedule_poll(80, 0, true, 0);
	struct schedule schedule = { .deadline = FILELOCK_NEVER };
	int64_t first = 0;
	bool differs = false;

	for (uint64_t salt = 1; salt < 100; salt++) {
		poll.salt = salt * 64;
		ck_assert(schedule_after_busy(&schedule, T0, poll, 0));
		ck_assert_int_ge(schedule.next, T0 + 70 * MILLISECONDS);
		ck_assert_int_le(schedule.next, T0 + 80 * MILLISECONDS);
		differs |= first != 0 && schedule.next != first;
		first = schedule.next;
	}
	ck_assert(differs);
}
END_TEST

START_TEST(test_stretched_polls_come_in_groups)
{
	struct schedule_poll poll = schedule_poll(0, 1000, true, 0);
	struct schedule schedule = { .deadline = FILELOCK_NEVER };

	for (uint64_t salt = 1; salt < 100; salt++) {
		poll.salt = salt * 64;
		ck_assert(schedule_after_busy(&schedule, T0, poll, 0));
		ck_assert_int_eq(schedule.next & 0xffffff, 0xffffff);
	}
}
END_TEST

/* After a sign of a release: what each of some attempts that find it held is followed by, in ms. */
static const struct {
	unsigned char quick;
	int64_t most;
	int64_t waits[12];
	unsigned series; /* so many of them are no polls */
} series[] = {
	{ 3, 0, { 0, 0, 0, 1, 2, 4, 8, 16, 32, 50, 50, 50 }, 9 },
	{ 1, 0, { 0, 1, 2, 4, 8, 16, 32, 50, 50, 50, 50, 50 }, 7 },
	{ 0, 0, { 1, 2, 4, 8, 16, 32, 50, 50, 50, 50, 50, 50 }, 6 },
	{ 3, 5, { 0, 0, 0, 1, 2, 4, 5, 5, 5, 5, 5, 5 }, 6 },
	{ 3, 90, { 0, 0, 0, 1, 2, 4, 8, 16, 32, 50, 50, 50 }, 9 },
};

START_TEST(test_sign_of_a_release_is_worth_a_series)
{
	struct schedule_poll poll = schedule_poll(0, 0, true, 7);
	struct schedule schedule = { .deadline = FILELOCK_NEVER };

	schedule_expect_release(&schedule, series[_i].quick);
	for (unsigned i = 0; i < 12; i++) {
		int64_t wait = series[_i].waits[i] * MILLISECONDS;
		bool polls = schedule_after_busy(&schedule, T0, poll,
		                                 series[_i].most * MILLISECONDS);

		ck_assert_int_eq(polls, i >= series[_i].series);
		ck_assert_int_le(schedule.next, T0 + wait);
		ck_assert_int_ge(schedule.next, T0 + wait - (polls ? wait / 8 : 0));
	}
}
END_TEST

START_TEST(test_next_attempt_is_not_after_the_deadline)
{
	struct schedule schedule = { .deadline = T0, .next = T0 + 1 };

	ck_assert_int_eq(schedule_until(&schedule), T0);
	schedule.next = T0 - 1;
	ck_assert_int_eq(schedule_until(&schedule), T0 - 1);
}
END_TEST

static const struct {
	unsigned lost;
	int64_t delay;
} yields[] = {
	{ 0, 200 * MICROSECONDS }, { 1, 100 * MICROSECONDS }, { 3, 25 * MICROSECONDS },
	{ 30, 0 },                 { 4000000000u, 0 },
};

START_TEST(test_who_has_lost_more_yields_for_less)
{
	struct schedule schedule = { .lost = yields[_i].lost };

	schedule_yield(&schedule, T0);
	ck_assert_int_eq(schedule.next, T0 + yields[_i].delay);
}
END_TEST

static const struct {
	int64_t released, yielded; /* before T0; 0: never */
	bool contended, yields;
} turns[] = {
	{ 0, 0, true, false }, /* it has never held the lock */
	{ 1 * MILLISECONDS, 1 * SECONDS, true, false },
	{ 1 * MILLISECONDS - 1, 1, true, true },
	{ 1, 1, true, true },
	{ 1, 25 * MILLISECONDS - 1, false, false },
	{ 1, 25 * MILLISECONDS, false, true },
	{ 1 * MILLISECONDS, 25 * MILLISECONDS, false, false },
	{ 1, T0, false, false }, /* never asked before */
};

START_TEST(test_handle_that_asks_again_at_once_yields_if_it_may_keep_others_out)
{
	struct fairness fairness = { .contended = turns[_i].contended };

	if (turns[_i].released)
		fairness.released_at = T0 - turns[_i].released;
	fairness.yielded_at = T0 - turns[_i].yielded;
	ck_assert_int_eq(fairness_should_yield(&fairness, T0), turns[_i].yields);
	/* asked again: it has yielded just now, or had no need to */
	ck_assert_int_eq(fairness_should_yield(&fairness, T0),
	                 turns[_i].yields && turns[_i].contended);
}
END_TEST

#define EACH(test, table) \
	tcase_add_loop_test(each, test, 0, sizeof(table) / sizeof((table)[0]))

int main(void)
{
	TCase *each = tcase_create("each");
	Suite *suite = SUITE("schedule", test_poll_comes_up_to_an_eighth_early_and_not_in_step,
	                     test_stretched_polls_come_in_groups,
	                     test_next_attempt_is_not_after_the_deadline);

	EACH(test_later_ends_at_never, laters);
	EACH(test_poll_interval_grows_with_those_who_wait_unless_it_is_configured, polls);
	EACH(test_sign_of_a_release_is_worth_a_series, series);
	EACH(test_who_has_lost_more_yields_for_less, yields);
	EACH(test_handle_that_asks_again_at_once_yields_if_it_may_keep_others_out, turns);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
