/* The tests' own verifiers must be able to fail. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "support.h"
#include "base/sys.h"

START_TEST(test_witness_sees_two_inside)
{
	struct witness witness = { 0 };

	witness_enter(&witness, 1);
	ck_assert_uint_eq(witness.overlaps, 0);
	witness_enter(&witness, 2);
	ck_assert_uint_eq(witness.overlaps, 1);
	witness_leave(&witness, 1); /* 2 stands there */
	ck_assert_uint_eq(witness.overlaps, 2);
}
END_TEST

START_TEST(test_witness_sees_a_reader_beside_a_writer)
{
	struct witness witness = { 0 };

	witness_enter_shared(&witness);
	witness_enter_shared(&witness);
	ck_assert_uint_eq(witness.overlaps, 0);
	ck_assert_uint_eq(witness.most_readers, 2);
	witness_enter(&witness, 1);
	ck_assert_uint_eq(witness.overlaps, 1);
	witness_leave_shared(&witness);
	ck_assert_uint_eq(witness.overlaps, 2);
	witness_leave_shared(&witness);
	witness_enter_shared(&witness);
	ck_assert_uint_eq(witness.overlaps, 4);
}
END_TEST

START_TEST(test_witness_excuses_marked_victims_only)
{
	struct witness witness = { .inside = 3 };

	witness.victims[3] = true;
	witness_enter(&witness, 1);
	ck_assert_uint_eq(witness.overlaps, 0);
	witness_leave(&witness, 1);
	witness.inside = 4;
	witness_enter(&witness, 1);
	ck_assert_uint_eq(witness.overlaps, 1);
}
END_TEST

static size_t overlaps(size_t count, const struct interval *intervals)
{
	struct interval_log *log = interval_log_new(count);

	for (size_t i = 0; i < count; i++)
		interval_log_add(log, intervals[i]);
	return interval_log_overlaps(log);
}

#define X FILELOCK_EXCLUSIVE
#define S FILELOCK_SHARED

START_TEST(test_interval_log_finds_overlaps_in_any_order)
{
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 2, 1, X }, { 3, 4, 2, X } }), 0);
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 3, 4, 2, X }, { 1, 2, 1, X } }), 0);
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 3, 1, X }, { 2, 4, 2, X } }), 1);
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 2, 3, 2, X }, { 1, 4, 1, X } }), 1);
	/* behind one that ended long before another long one does */
	ck_assert_uint_eq(overlaps(3, (struct interval[]){ { 1, 10, 1, X },
	                                                   { 2, 3, 2, S },
	                                                   { 5, 6, 3, S } }),
	                  2);
}
END_TEST

START_TEST(test_interval_log_excuses_no_tie)
{
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 2, 1, X }, { 2, 3, 2, X } }), 1);
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 1, 1, X }, { 1, 1, 2, X } }), 1);
}
END_TEST

START_TEST(test_interval_log_lets_shared_ones_overlap)
{
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 3, 1, S }, { 2, 4, 2, S } }), 0);
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 3, 1, S }, { 2, 4, 2, X } }), 1);
	ck_assert_uint_eq(overlaps(2, (struct interval[]){ { 1, 3, 1, X }, { 2, 4, 2, S } }), 1);
}
END_TEST

/* An entry of the table that the faults do not know would never be made to fail. */
START_TEST(test_every_entry_of_the_table_can_fail)
{
	const struct sys_table before = sys;
	const size_t entries = sizeof(sys) / sizeof(void (*)(void));
	const char *a = (const char *)&before, *b = (const char *)&sys;

	fault_watch();
	clock_fake(0);
	for (size_t i = 0; i < entries; i++)
		ck_assert_msg(memcmp(a + i * sizeof(void (*)(void)), b + i * sizeof(void (*)(void)),
		                     sizeof(void (*)(void))) != 0,
		              "entry %zu of struct sys_table is not wrapped", i);
}
END_TEST

START_TEST(test_fault_strikes_the_nth_call_once_or_for_good)
{
	struct stat st;

	fault_set(FAULT_lstat, 2, FAULT_ONCE, EIO);
	ck_assert_int_eq(sys_lstat("/", &st), 0);
	ck_assert_int_eq(sys_lstat("/", &st), -EIO);
	ck_assert_int_eq(sys_lstat("/", &st), 0);
	ck_assert_uint_eq(fault_hits(FAULT_lstat), 1);
	fault_set(FAULT_lstat, 2, FAULT_FOR_GOOD, ENOMEM);
	ck_assert_int_eq(sys_lstat("/", &st), 0);
	ck_assert_int_eq(sys_lstat("/", &st), -ENOMEM);
	ck_assert_int_eq(sys_lstat("/", &st), -ENOMEM);
	ck_assert_uint_eq(fault_calls(FAULT_lstat), 3);
	fault_clear();
	ck_assert_int_eq(sys_lstat("/", &st), 0);
}
END_TEST

static int answer_after_notice(void *arg)
{
	peer_notify();
	return *(int *)arg;
}

START_TEST(test_peer_answers_and_gives_notice)
{
	struct peer peer;
	int number = 42;

	peer_start(&peer);
	peer_order(&peer, answer_after_notice, &number);
	peer_await_notice(&peer);
	ck_assert_int_eq(peer_answer(&peer), 42);
	ck_assert(!peer_answers_within(&peer, 1));
	peer_order(&peer, answer_after_notice, &number);
	ck_assert(peer_answers_within(&peer, 50000));
	ck_assert(peer_answers_within(&peer, 0));
	ck_assert_int_eq(peer_answer(&peer), 42);
	peer_stop(&peer);
}
END_TEST

static int exit_with(void *arg)
{
	return *(int *)arg;
}

static int abort_here(void *arg)
{
	(void)arg;
	(void)signal(SIGTERM, SIG_DFL);
	(void)raise(SIGTERM);
	return 0;
}

START_TEST(test_childs_end_is_told)
{
	int status = 7;

	ck_assert_int_eq(test_in_child(exit_with, &status), 7);
	ck_assert_int_eq(test_in_child(abort_here, NULL), 128 + SIGTERM);
	ck_assert_int_eq(program_run((const char *const[]){ "sh", "-c", "exit 3", NULL }), 3);
}
END_TEST

START_TEST(test_descriptors_are_counted)
{
	unsigned before = test_descriptors();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	ck_assert_uint_eq(test_descriptors(), before + 1);
	close(fd);
	ck_assert_uint_eq(test_descriptors(), before);
}
END_TEST

START_TEST(test_rounds_are_scaled_and_never_none)
{
	ck_assert_int_eq(unsetenv("FILELOCK_TEST_SCALE"), 0);
	ck_assert_uint_eq(test_rounds(1000), 1000);
	ck_assert_int_eq(setenv("FILELOCK_TEST_SCALE", "10", 1), 0);
	ck_assert_uint_eq(test_rounds(1000), 100);
	ck_assert_uint_eq(test_rounds(5), 1);
	ck_assert_int_eq(setenv("FILELOCK_TEST_SCALE", "250", 1), 0);
	ck_assert_uint_eq(test_rounds(1000), 2500);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "support", test_witness_sees_two_inside, test_witness_sees_a_reader_beside_a_writer,
	        test_witness_excuses_marked_victims_only,
	        test_interval_log_finds_overlaps_in_any_order, test_interval_log_excuses_no_tie,
	        test_interval_log_lets_shared_ones_overlap, test_every_entry_of_the_table_can_fail,
	        test_fault_strikes_the_nth_call_once_or_for_good,
	        test_peer_answers_and_gives_notice, test_childs_end_is_told,
	        test_descriptors_are_counted, test_rounds_are_scaled_and_never_none));
}
