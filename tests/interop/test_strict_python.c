/*
 * Python's StrictSoftFileLock on the same path, both ways round: of each release whose source folder
 * FILELOCK_TEST_PYTHONPATHS names (separated by colons), and has it.
 */
#include <signal.h>

#define PYTHON_CLASS "StrictSoftFileLock"
#include "python.h"
#include "softly.h"

START_TEST(test_claims_of_python_keep_us_out)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	check_exclusion(&python, "0.05");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, python.pid);
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_release_by_python_wakes_us)
{
	struct filelock_options options = rarely();
	struct program python;
	struct peer peer;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, &options), 0);
	peer_order_acquire(&peer, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&peer);
	ask(&python, "release", "released");
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

struct names {
	unsigned count;
	char name[4][64];
};

static void keep_name(const struct filelock_claim *claim, void *arg)
{
	struct names *names = arg;

	ck_assert_uint_lt(names->count, 4);
	ck_assert_int_eq(claim->dead, is_own_host(claim->owner.host));
	strcpy(names->name[names->count++], claim->name);
}

/* Its claims are broken here by their names, and it goes on. They are known to be dead if they name our
   host and PID namespace. */
START_TEST(test_claims_of_the_killed_are_broken_by_name)
{
	struct names names = { 0 };
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_claims(lock, keep_name, &names), 0);
	ck_assert_uint_eq(names.count, 2);
	for (unsigned i = 0; i < names.count; i++)
		ck_assert_int_eq(filelock_break_claim(lock, names.name[i]), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	if (!start_python(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static int hold_and_die(void *arg)
{
	(void)arg;
	(void)filelock_acquire(test_open(path, NULL), FILELOCK_EXCLUSIVE, 0);
	return raise(SIGKILL);
}

START_TEST(test_python_does_not_break_ours_that_was_killed)
{
	struct program python;

	if (!set_up(&python, _i))
		return;
	ck_assert_int_eq(test_in_child(hold_and_die, NULL), 128 + SIGKILL);
	ask(&python, "acquire 0.05", "timeout");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* shows: shared-with-python */
START_TEST(test_storm_of_both_never_overlaps)
{
	storm(_i);
}
END_TEST

int main(void)
{
	return PYTHON_MAIN("strict python", "strict",
	                   test_claims_of_python_keep_us_out,
	                   test_release_by_python_wakes_us,
	                   test_claims_of_the_killed_are_broken_by_name,
	                   test_python_does_not_break_ours_that_was_killed,
	                   test_storm_of_both_never_overlaps);
}
