/* A program without standard input, output or error: no descriptor of ours gets their numbers. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "support.h"
#include "base/sys.h"

enum { COMBINATIONS = 8 }; /* bit i: descriptor i is closed */

/* Whether what was closed is closed yet. */
static bool stay_closed(int closed)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (closed & 1 << fd && (fcntl(fd, F_GETFD) != -1 || errno != EBADF))
			return false;
	return true;
}

static void close_standard(int closed)
{
	(void)test_folder();
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (closed & 1 << fd)
			ck_assert_int_eq(close(fd), 0);
	ck_assert(stay_closed(closed));
}

START_TEST(test_holder_has_no_standard_descriptor)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	close_standard(_i);
	for (int round = 0; round < 2; round++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		ck_assert(stay_closed(_i));
		ck_assert_int_eq(filelock_verify(lock), 0);
		(void)filelock_holder(lock, &owner);
		ck_assert(stay_closed(_i));
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert(stay_closed(_i));
	}
	filelock_close(lock);
	ck_assert(stay_closed(_i));
}
END_TEST

struct wait {
	struct peer peer;
	int closed;
	bool stayed_closed;
	unsigned calls;
};

static int release_the_peers(void *arg)
{
	(void)arg;
	return filelock_release(peer_lock());
}

static void look(const struct filelock_waiting *waiting, void *arg)
{
	struct wait *wait = arg;

	(void)waiting;
	wait->stayed_closed = wait->stayed_closed && stay_closed(wait->closed);
	/* the second time it has slept, so all that a wait opens is open */
	if (++wait->calls == 2)
		peer_order(&wait->peer, release_the_peers, NULL);
}

START_TEST(test_waiter_has_no_standard_descriptor)
{
	struct wait wait = { .closed = _i, .stayed_closed = true };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.on_wait = look;
	options.on_wait_ms = 1;
	options.arg = &wait;
	peer_start_holding(&wait.peer, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), &options);
	close_standard(_i);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER), 0);
	ck_assert(wait.stayed_closed);
	ck_assert_int_eq(peer_answer(&wait.peer), 0);
	ck_assert(stay_closed(_i));
	filelock_close(lock);
	ck_assert(stay_closed(_i));
	peer_stop(&wait.peer);
}
END_TEST

/* An SQLite that is given such a number closes it again, and with it all that the process has
   locked on the file: fcntl(2). */
START_TEST(test_second_handle_leaves_the_first_ones_lock)
{
	struct filelock *first, *second;
	struct peer peer;

	if (test_is_without_shared())
		return;
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), NULL), 0);
	first = test_open(test_path("lock"), NULL);
	second = test_open(test_path("lock"), NULL);
	close_standard(_i);
	ck_assert_int_eq(filelock_acquire(first, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_acquire(second, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(second), 0);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(second);
	filelock_close(first);
	ck_assert(stay_closed(_i));
	peer_stop(&peer);
}
END_TEST

static int acquire_in_a_child(void *arg)
{
	int closed = *(int *)arg;
	struct filelock *lock;
	int r = test_try_open(test_path("lock"), NULL, &lock);

	if (r == 0)
		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0);
	return r == 0 && stay_closed(closed) ? 0 : 1;
}

START_TEST(test_forked_child_has_no_standard_descriptor)
{
	struct filelock *lock = test_open(test_path("other"), NULL);
	int closed = _i;

	close_standard(_i);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(acquire_in_a_child, &closed), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_no_room_above_is_an_error_that_leaks_nothing)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	enum fault_call call = test_kind() == FILELOCK_READWRITE ? FAULT_open : FAULT_fcntl_dupfd;

	close_standard(1 << STDIN_FILENO);
	fault_set(call, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -EMFILE);
	ck_assert_uint_gt(fault_hits(call), 0);
	ck_assert(stay_closed(1 << STDIN_FILENO));
	fault_clear();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("low_fds");
	TCase *tcase = tcase_create("low_fds");

	tcase_add_loop_test(tcase, test_holder_has_no_standard_descriptor, 0, COMBINATIONS);
	tcase_add_loop_test(tcase, test_waiter_has_no_standard_descriptor, 0, COMBINATIONS);
	tcase_add_loop_test(tcase, test_second_handle_leaves_the_first_ones_lock, 0, COMBINATIONS);
	tcase_add_loop_test(tcase, test_forked_child_has_no_standard_descriptor, 0, COMBINATIONS);
	tcase_add_test(tcase, test_no_room_above_is_an_error_that_leaks_nothing);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
