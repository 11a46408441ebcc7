/* Leases between processes: a holder that is stopped, killed, forks or ends. */
#include <signal.h>

#include "softly.h"

#define SHORT_MS 1000 /* a duration that a test may wait for */

static const char *path(void)
{
	return test_path("lock");
}

static int open_here(struct peer *peer, unsigned duration_ms)
{
	struct filelock_options options = rarely();

	options.duration_ms = duration_ms;
	return peer_open(peer, path(), &options);
}

static void start(struct peer *peer, unsigned duration_ms)
{
	peer_start(peer);
	ck_assert_int_eq(open_here(peer, duration_ms), 0);
}

static void start_holding(struct peer *peer, unsigned duration_ms)
{
	start(peer, duration_ms);
	ck_assert_int_eq(peer_acquire(peer, FILELOCK_EXCLUSIVE, 0), 0);
}

static int verify_here(void *arg)
{
	(void)arg;
	return filelock_verify(peer_lock());
}

static int lost_here(void *arg)
{
	(void)arg;
	return (int)filelock_loss(peer_lock());
}

/* And learns it before it touches anything: the next one keeps its lease. */
/* shows: lease-ends */
START_TEST(test_stopped_holder_loses_its_lease_and_learns_it)
{
	struct peer stopped, next;

	start_holding(&stopped, SHORT_MS);
	ck_assert_int_eq(kill(stopped.pid, SIGSTOP), 0);
	start(&next, SHORT_MS);
	ck_assert_int_eq(peer_acquire(&next, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(kill(stopped.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_call(&stopped, verify_here, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(peer_call(&stopped, lost_here, NULL), FILELOCK_LOSS_LATE);
	ck_assert_int_eq(peer_release(&stopped), FILELOCK_ELOST);
	ck_assert(exists(path()));
	peer_stop(&stopped);
	peer_stop(&next);
}
END_TEST

/* Whether it is alive the kernel says, long before its duration is over. */
START_TEST(test_killed_holder_is_seen_at_once)
{
	struct peer holder, waiter;

	start_holding(&holder, 3600000);
	start(&waiter, 3600000);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&waiter);
	ck_assert_int_eq(kill(holder.pid, SIGKILL), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(test_reap(holder.pid), 128 + SIGKILL);
	peer_stop(&waiter);
}
END_TEST

/* As by a mount, or a chroot(2): it cannot be removed, and nobody may wait for its end. */
START_TEST(test_lease_that_is_hidden_at_its_release_is_nobodys)
{
	struct peer holder;

	ck_assert_int_eq(mkdir(test_path("folder"), 0777), 0);
	peer_start(&holder);
	ck_assert_int_eq(peer_open(&holder, test_path("folder/lock"), NULL), 0);
	ck_assert_int_eq(peer_acquire(&holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(rename(test_path("folder"), test_path("away")), 0);
	ck_assert_int_eq(peer_release(&holder), FILELOCK_ELOST);
	ck_assert_int_eq(rename(test_path("away"), test_path("folder")), 0);
	ck_assert(exists(test_path("folder/lock")));
	ck_assert_int_eq(try_once(test_path("folder/lock")), 0);
	peer_stop(&holder);
}
END_TEST

START_TEST(test_release_wakes_a_waiter)
{
	struct peer holder, waiter;

	start_holding(&holder, 3600000);
	start(&waiter, 3600000);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&waiter);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&holder);
	peer_stop(&waiter);
}
END_TEST

/* Neither of the machine, nor of the file: only that it changes means something. */
START_TEST(test_dates_mean_nothing)
{
	const struct timespec times[] = { { 1, 0 }, { 4000000000, 0 } };
	struct peer holder;
	struct filelock_options options = rarely();
	struct filelock *lock;

	start_holding(&holder, 3600000);
	options.duration_ms = 3600000;
	lock = test_open(path(), &options);
	for (int i = 0; i < 2; i++) {
		const struct timespec both[2] = { times[i], times[i] };

		date_shift(i ? 10 * 365 * 86400 * SECONDS : -10 * 365 * 86400 * SECONDS);
		ck_assert_int_eq(utimensat(AT_FDCWD, path(), both, 0), 0);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	}
	ck_assert_int_eq(peer_call(&holder, verify_here, NULL), 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

static int touch_parents(void *arg)
{
	struct filelock *lock = arg;

	if (filelock_renew(lock) != FILELOCK_EFORKED || filelock_loss(lock) != FILELOCK_LOSS_NONE)
		return 1;
	filelock_close(lock);
	lock = test_open(path(), NULL);
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) != -ETIMEDOUT)
		return 2;
	filelock_close(lock);
	return 0;
}

START_TEST(test_forked_child_has_no_lease)
{
	struct filelock *lock = test_open(path(), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(touch_parents, lock), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

static int exit_with_it(void *arg)
{
	struct filelock *lock = test_open(path(), NULL);

	(void)arg;
	exit(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0);
}

START_TEST(test_exit_removes_the_marker)
{
	ck_assert_int_eq(test_in_child(exit_with_it, NULL), 0);
	ck_assert(!exists(path()));
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "lease", 1);
	return support_main(SUITE("lease", test_stopped_holder_loses_its_lease_and_learns_it,
	                          test_killed_holder_is_seen_at_once, test_release_wakes_a_waiter,
	                          test_dates_mean_nothing, test_forked_child_has_no_lease,
	                          test_exit_removes_the_marker,
	                          test_lease_that_is_hidden_at_its_release_is_nobodys));
}
