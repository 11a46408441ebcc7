/*
 * Python's filelock on the same path, both ways round: Debian's, and each release whose source
 * folder FILELOCK_TEST_PYTHONPATHS names (separated by colons).
 */
#include <errno.h>
#include <signal.h>

#define PYTHON_CLASS "FileLock"
#include "python.h"

static int try(enum filelock_mode mode)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

START_TEST(test_lock_held_by_python_keeps_us_out)
{
	struct program python;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(FILELOCK_SHARED), -ETIMEDOUT);
	ask(&python, "release", "released");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_python_is_named_as_the_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, python.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_our_locks_keep_python_out)
{
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	lock = test_open(path, NULL);
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		ck_assert_int_eq(filelock_acquire(lock, (enum filelock_mode)mode, 0), 0);
		ask(&python, "acquire 0.05", "timeout");
		ck_assert_int_eq(filelock_verify(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	ask(&python, "acquire 10", "held");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static void start_waiting(struct peer *peer)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000; /* only an event can wake it */
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(peer);
}

/* Some releases remove the file first, some do not. */
START_TEST(test_release_by_python_wakes_us)
{
	struct program python;
	struct peer peer;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	start_waiting(&peer);
	ask(&python, "release", "released");
	ck_assert_int_eq(peer_answer(&peer), 0);
	ask(&python, "acquire 0.05", "timeout");
	peer_stop(&peer);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_killed_python_wakes_us)
{
	struct program python;
	struct peer peer;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	start_waiting(&peer);
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_our_release_lets_a_waiting_python_in)
{
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	program_say(&python, "acquire 60");
	for (int i = 0; i < 20; i++)
		test_nap(); /* most likely it waits by then; if not, nothing is lost */
	ck_assert_int_eq(filelock_release(lock), 0);
	program_expect(&python, "held");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	filelock_close(lock);
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
	return PYTHON_MAIN("python", "native",
	                   test_lock_held_by_python_keeps_us_out,
	                   test_python_is_named_as_the_holder,
	                   test_our_locks_keep_python_out,
	                   test_release_by_python_wakes_us,
	                   test_killed_python_wakes_us,
	                   test_our_release_lets_a_waiting_python_in,
	                   test_storm_of_both_never_overlaps);
}
