/* Holds that are not passed on, since whoever comes next asked for something else. */
#include <fcntl.h>

#include "driver_private.h"
#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define OPTIONS(...)                                                                           \
	{ .size = sizeof(struct filelock_options), .poll_interval_ms = PATIENT_MS, __VA_ARGS__ }

/* The options of the handles of two requests for one lock, one behind the other. */
static const struct {
	enum filelock_kind kind;
	bool passed;
	struct filelock_options of[2];
} pairs[] = {
	/* alike, or in all that matters to a hold */
	{ FILELOCK_NATIVE, true, { OPTIONS(), OPTIONS() } },
	{ FILELOCK_SOFT, true, { OPTIONS(), OPTIONS() } },
	{ FILELOCK_SOFT, true, { OPTIONS(.on_wait_ms = 1), OPTIONS(.on_wait_ms = 2) } },
	/* the age of a marker is that of its first hold */
	{ FILELOCK_SOFT, false, { OPTIONS(), OPTIONS(.lifetime_ms = 60000) } },
	{ FILELOCK_SOFT, false, { OPTIONS(.lifetime_ms = 60000), OPTIONS() } },
	{ FILELOCK_SOFT, false,
	  { OPTIONS(.lifetime_ms = 60000), OPTIONS(.lifetime_ms = 30000) } },
	{ FILELOCK_SOFT, false,
	  { OPTIONS(.lifetime_ms = 60000), OPTIONS(.lifetime_ms = 60000) } },
	/* the file, or its release, would be another one */
	{ FILELOCK_SOFT, false, { OPTIONS(.file_mode = 0600), OPTIONS(.file_mode = 0644) } },
	{ FILELOCK_NATIVE, false, { OPTIONS(), OPTIONS(.file_mode = 0600) } },
	{ FILELOCK_NATIVE, false, { OPTIONS(), OPTIONS(.unlink_on_release = true) } },
	{ FILELOCK_NATIVE, false, { OPTIONS(.unlink_on_release = true), OPTIONS() } },
	{ FILELOCK_SOFT, false, { OPTIONS(), OPTIONS(.two_line_marker = true) } },
	{ FILELOCK_NATIVE, false, { OPTIONS(), OPTIONS(.no_fallback = true) } },
	{ FILELOCK_SOFT, false, { OPTIONS(), OPTIONS(.keep_on_exit = true) } },
};
#define PAIRS (sizeof(pairs) / sizeof(pairs[0]))

static struct filelock *open_as(enum filelock_kind kind, const struct filelock_options *options)
{
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open(test_path("a"), kind, options, &lock), 0);
	return lock;
}

/* Whether nobody holds the lock. */
static bool is_to_be_had(enum filelock_kind kind)
{
	struct filelock *lock = open_as(kind, NULL);
	int r = filelock_acquire(lock, EXCLUSIVE, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r == 0;
}

static void release_first(struct loop *loop, struct asked *asked)
{
	loop_until(loop, &asked[0].calls, 1);
	ck_assert_int_eq(asked[0].result, 0);
	loop_turn(loop);
	ck_assert_uint_eq(asked[1].calls, 0);
	ck_assert_int_eq(filelock_release(asked[0].lock), 0);
}

/* shows: hand-over */
START_TEST(test_hold_is_passed_on_only_between_handles_that_are_alike)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	enum filelock_kind kind = pairs[_i].kind;
	bool passed = pairs[_i].passed;
	struct loop loop = loop_with_handover(100, 60000000);
	struct asked asked[2] = { 0 };

	for (unsigned i = 0; i < 2; i++) {
		asked[i].lock = open_as(kind, &pairs[_i].of[i]);
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	release_first(&loop, asked);
	ck_assert_int_eq(filelock_is_held(asked[1].lock), passed);
	ck_assert_int_eq(is_to_be_had(kind), !passed);
	ck_assert_int_eq(loop_answer(&loop, &asked[1]), 0);
	ck_assert(!filelock_is_held(asked[0].lock));
	ck_assert(!is_to_be_had(kind));
	ck_assert_int_eq(filelock_verify(asked[1].lock), 0);
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), 0);
	ck_assert_uint_eq(stats.handed_over, passed);
	ck_assert_int_eq(filelock_release(asked[1].lock), 0);
	ck_assert(is_to_be_had(kind));
	filelock_close(asked[0].lock);
	filelock_close(asked[1].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_hold_of_a_cancelled_request_that_the_next_cannot_take_goes_back)
{
	static const struct filelock_options of[] = { OPTIONS(), OPTIONS(),
		                                      OPTIONS(.file_mode = 0600) };
	struct loop loop = loop_with_handover(100, 60000000);
	struct asked asked[3] = { 0 };

	for (unsigned i = 0; i < 3; i++) {
		asked[i].lock = open_as(FILELOCK_NATIVE, &of[i]);
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	release_first(&loop, asked);
	ck_assert(filelock_is_held(asked[1].lock));
	ask_cancel(&asked[1]);
	ck_assert(!filelock_is_held(asked[1].lock) && !filelock_is_held(asked[2].lock));
	ck_assert(is_to_be_had(FILELOCK_NATIVE));
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, -ECANCELED);
	loop_until(&loop, &asked[2].calls, 1);
	ck_assert_int_eq(asked[2].result, 0);
	ck_assert(!is_to_be_had(FILELOCK_NATIVE));
	for (unsigned i = 0; i < 3; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

static struct filelock *open_path(const char *name)
{
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open(test_path(name), FILELOCK_NATIVE, NULL, &lock), 0);
	return lock;
}

/* On the file "a". */
static struct filelock *open_descriptor(int *ret_fd)
{
	struct filelock *lock = NULL;

	*ret_fd = open(test_path("a"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(filelock_open_fd(*ret_fd, NULL, &lock), 0);
	return lock;
}

static void check_not_passed(struct filelock *from, struct filelock *to)
{
	ck_assert_int_eq(filelock_acquire(from, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_begin(to, EXCLUSIVE, FILELOCK_NEVER, NULL, NULL), 0);
	ck_assert(!filelock_hand_over(from, to));
	ck_assert(filelock_is_held(from) && !filelock_is_held(to));
	ck_assert(!is_to_be_had(FILELOCK_NATIVE));
	ck_assert_int_eq(filelock_give_up(to, -ECANCELED), -ECANCELED);
	ck_assert_int_eq(filelock_release(from), 0);
	ck_assert(is_to_be_had(FILELOCK_NATIVE));
}

START_TEST(test_hold_is_passed_to_no_handle_of_another_lock)
{
	struct filelock *on[4];
	int fds[2];

	on[0] = open_descriptor(&fds[0]);
	on[1] = open_descriptor(&fds[1]);
	on[2] = open_path("a");
	on[3] = open_path("b");
	check_not_passed(on[0], on[1]);
	check_not_passed(on[0], on[2]);
	check_not_passed(on[2], on[1]);
	check_not_passed(on[2], on[3]);
	for (unsigned i = 0; i < 4; i++)
		filelock_close(on[i]);
	ck_assert_int_eq(close(fds[0]), 0);
	ck_assert_int_eq(close(fds[1]), 0);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("handover refused",
	                     test_hold_of_a_cancelled_request_that_the_next_cannot_take_goes_back,
	                     test_hold_is_passed_to_no_handle_of_another_lock);
	TCase *each = tcase_create("pairs");

	tcase_add_loop_test(each, test_hold_is_passed_on_only_between_handles_that_are_alike, 0,
	                    (int)PAIRS);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
