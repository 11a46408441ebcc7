/*
 * Python's MarkerSoftFileLock on the same path as our soft locks and leases, both ways round: of each
 * release whose source folder FILELOCK_TEST_PYTHONPATHS names (separated by colons), and has it.
 */
#include <signal.h>

#define PYTHON_CLASS "MarkerSoftFileLock"
#include "python.h"
#include "softly.h"

static const char *const kinds[] = { "soft", "lease" };
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static bool set_up_kind(struct program *python, int i)
{
	(void)setenv("FILELOCK_TEST_KIND", kinds[i % KINDS], 1);
	return set_up(python, i / KINDS);
}

START_TEST(test_marker_of_either_keeps_the_other_out)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	if (!set_up_kind(&python, _i))
		return;
	check_exclusion(&python, LONGER_THAN_UNREADABLE);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, python.pid);
	ck_assert_str_eq(owner.contract, "exclusive");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* It is never aged: only that its owner is dead ends it. */
START_TEST(test_stopped_python_holds)
{
	struct program python;

	if (!set_up_kind(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(kill(python.pid, SIGSTOP), 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	ck_assert_int_eq(kill(python.pid, SIGCONT), 0);
	ask(&python, "release", "released");
	ck_assert_int_eq(try_once(path), 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_marker_of_the_killed_is_taken_over_on_both_sides)
{
	struct program python, next;
	struct peer peer;

	if (!set_up_kind(&python, _i))
		return;
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, NULL), 0);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), 0);
	peer_kill(&peer, SIGKILL);
	ask(&python, "acquire 50", "held");
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	ck_assert_int_eq(try_once(path), 0);
	/* and ours of that moment is in nobody's way */
	ck_assert(set_up_kind(&next, _i));
	ask(&next, "acquire 50", "held");
	ck_assert_int_eq(program_end(&next), 0);
}
END_TEST

/* shows: shared-with-python */
START_TEST(test_storm_of_both_never_overlaps)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	storm(_i);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("marker python");
	TCase *tcase = tcase_create("marker python");
	int peers = python_peers();

	suite_add_tcase(suite, tcase);
	tcase_add_loop_test(tcase, test_marker_of_either_keeps_the_other_out, 0, KINDS * peers);
	tcase_add_loop_test(tcase, test_stopped_python_holds, 0, KINDS * peers);
	tcase_add_loop_test(tcase, test_marker_of_the_killed_is_taken_over_on_both_sides, 0,
	                    KINDS * peers);
	tcase_add_loop_test(tcase, test_storm_of_both_never_overlaps, 0, peers);
	return support_main(suite);
}
