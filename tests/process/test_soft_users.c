/* Markers of another user: what may not be read, written or removed. */
#include <grp.h>
#include <signal.h>

#include "softly.h"
#include "base/sys.h"

enum { NOBODY = 65534, SOMEBODY = 65533 };

static char path[4096];

/* In a folder like /tmp: everybody may make files there, and remove only his own. */
static bool set_up(void)
{
	if (!test_may_change_user())
		return false;
	ck_assert_int_eq(mkdir(test_path("tmp"), 0777), 0);
	ck_assert_int_eq(chmod(test_path("tmp"), 01777), 0);
	(void)snprintf(path, sizeof(path), "%s", test_path("tmp/lock"));
	return true;
}

/* The record of a process, in a file of SOMEBODY's. */
static void put_somebodys(pid_t pid, mode_t mode)
{
	put_record(path, pid, NULL);
	ck_assert_int_eq(chown(path, SOMEBODY, SOMEBODY), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static int become(void *arg)
{
	uid_t user = *(const uid_t *)arg;

	return setgroups(0, NULL) < 0 || setgid(user) < 0 || setuid(user) < 0;
}

static void start_user(struct peer *peer, uid_t user)
{
	struct filelock_options options = rarely();
	uid_t *arg = test_shared(sizeof(*arg));

	*arg = user;
	peer_start(peer);
	ck_assert_int_eq(peer_call(peer, become, arg), 0);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
}

static void start_waiting(struct peer *peer, uid_t user)
{
	start_user(peer, user);
	peer_order_acquire(peer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(peer);
}

/* Nobody but SOMEBODY may remove it, ever. */
/* shows: marker-of-another-user */
START_TEST(test_marker_that_was_taken_over_and_cannot_be_removed_is_released)
{
	struct peer holder, waiter;

	if (!set_up())
		return;
	put_somebodys(dead_pid(), 0666);
	start_user(&holder, NOBODY);
	ck_assert_int_eq(peer_acquire(&holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	start_waiting(&waiter, NOBODY - 2);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(peer_acquire(&holder, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(peer_release(&waiter), 0);
	ck_assert_int_eq(peer_acquire(&holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(try_once(path), 0); /* root may remove it */
	ck_assert(!exists(path));
	peer_stop(&waiter);
	peer_stop(&holder);
}
END_TEST

static int exit_normally(void *arg)
{
	(void)arg;
	exit(0);
}

START_TEST(test_exit_with_a_marker_that_cannot_be_removed_leaves_a_dead_one)
{
	struct peer holder;

	if (!set_up())
		return;
	put_somebodys(dead_pid(), 0666);
	start_user(&holder, NOBODY);
	ck_assert_int_eq(peer_acquire(&holder, FILELOCK_EXCLUSIVE, 0), 0);
	peer_order(&holder, exit_normally, NULL);
	ck_assert_int_eq(test_reap(holder.pid), 0);
	ck_assert(exists(path));
	ck_assert_int_eq(try_once(path), 0);
}
END_TEST

/* Nobody knows whether SOMEBODY's process lives: the marker stands until it is removed. */
START_TEST(test_unreadable_marker_is_held_and_its_removal_wakes)
{
	struct peer waiter;

	if (!set_up())
		return;
	put_somebodys(dead_pid(), 0600);
	start_waiting(&waiter, NOBODY);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
}
END_TEST

START_TEST(test_dead_marker_that_may_not_be_written_is_held_and_its_removal_wakes)
{
	struct peer waiter;

	if (!set_up())
		return;
	put_somebodys(dead_pid(), 0644);
	start_waiting(&waiter, NOBODY);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
}
END_TEST

static int keep_open(void *arg)
{
	(void)arg;
	return open(path, O_WRONLY | O_CLOEXEC) < 0;
}

/* As Python holds it: open, without a flock. The lease question is the owner's alone. */
START_TEST(test_live_holder_of_another_user_is_held_and_its_death_wakes)
{
	struct peer holder, waiter;

	if (!set_up())
		return;
	peer_start(&holder);
	put_somebodys(holder.pid, 0666);
	ck_assert_int_eq(peer_call(&holder, keep_open, NULL), 0);
	start_waiting(&waiter, NOBODY);
	ck_assert(!peer_answers_within(&waiter, 5));
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
}
END_TEST

static unsigned warnings;

static void count_warning(enum filelock_log_level level, const char *message, void *arg)
{
	(void)message;
	(void)arg;
	warnings += level <= FILELOCK_LOG_WARNING;
}

/* With umask 0777 nobody may open it, its maker neither. */
static int hold_what_nobody_may_open(void *arg)
{
	uid_t user = NOBODY;
	struct filelock *lock;

	(void)arg;
	if (become(&user))
		return 1;
	(void)umask(0777);
	filelock_set_log(count_warning, NULL, FILELOCK_LOG_WARNING);
	if (filelock_open(path, FILELOCK_SOFT, NULL, &lock) < 0 ||
	    filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		return 2;
	if (warnings > 0 || filelock_verify(lock) < 0)
		return 3;
	if (try_once(path) != -ETIMEDOUT)
		return 4;
	if (filelock_release(lock) < 0 || exists(path))
		return 5;
	filelock_close(lock);
	return 0;
}

START_TEST(test_marker_that_nobody_may_open_is_held_and_released_without_a_warning)
{
	if (!set_up())
		return;
	ck_assert_int_eq(test_in_child(hold_what_nobody_may_open, NULL), 0);
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	return support_main(SUITE(
	        "soft users", test_marker_that_nobody_may_open_is_held_and_released_without_a_warning,
	        test_marker_that_was_taken_over_and_cannot_be_removed_is_released,
	        test_exit_with_a_marker_that_cannot_be_removed_leaves_a_dead_one,
	        test_unreadable_marker_is_held_and_its_removal_wakes,
	        test_dead_marker_that_may_not_be_written_is_held_and_its_removal_wakes,
	        test_live_holder_of_another_user_is_held_and_its_death_wakes));
}
