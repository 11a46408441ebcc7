/* The lock file unlinked, renamed or replaced: before, while others wait, and while held. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

/* A third party changes the file at the path. */
static void unlink_it(void *arg)
{
	(void)arg;
	ck_assert_int_eq(unlink(test_path("lock")), 0);
}

static void rename_it(void *arg)
{
	(void)arg;
	ck_assert_int_eq(rename(test_path("lock"), test_path("away")), 0);
}

static void replace_it(void *arg)
{
	(void)arg;
	test_write_file(test_path("new"), "");
	ck_assert_int_eq(rename(test_path("new"), test_path("lock")), 0);
}

static void rename_and_make_it(void *arg)
{
	rename_it(arg);
	test_write_file(test_path("lock"), "");
}

static void rename_the_parent(void *arg)
{
	(void)arg;
	ck_assert_int_eq(rename(test_path("folder"), test_path("elsewhere")), 0);
}

static const struct {
	const char *name;
	void (*act)(void *arg);
} acts[] = {
	{ "unlinked", unlink_it },
	{ "renamed", rename_it },
	{ "replaced", replace_it },
	{ "renamed, then made anew", rename_and_make_it },
};
enum { ACTS = sizeof(acts) / sizeof(acts[0]) };

static bool names_our_file(const struct filelock *lock, const char *path)
{
	struct stat a, b;

	return fstat(filelock_fd(lock), &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* shows: changed-before-grant */
START_TEST(test_file_changed_between_open_and_flock_is_not_what_we_hold)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	test_write_file(test_path("lock"), ""); /* one that exists needs no probe of flock(2) */
	fault_before(FAULT_flock, 1, acts[_i].act, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 1000), 0);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 1);
	ck_assert_msg(names_our_file(lock, test_path("lock")), "%s", acts[_i].name);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

/* NO_WAIT is one attempt, but not one at a file that nobody can find. */
START_TEST(test_no_wait_survives_a_changed_file)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	test_write_file(test_path("lock"), ""); /* one that exists needs no probe of flock(2) */
	fault_before(FAULT_flock, 1, acts[_i].act, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	ck_assert(names_our_file(lock, test_path("lock")));
	filelock_close(lock);
}
END_TEST

/* The old file is held for ever, the path's new one is free: the waiter gets that, by event. */
/* shows: changed-before-grant */
START_TEST(test_file_changed_while_waiting_is_waited_for_no_more)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder = test_open(test_path("lock"), NULL);
	struct peer peer;

	options.poll_interval_ms = 3600000;
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), &options), 0);
	peer_order_acquire(&peer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&peer);
	acts[_i].act(NULL);
	ck_assert_int_eq(peer_answer(&peer), 0);
	ck_assert_int_eq(filelock_verify(holder), FILELOCK_ELOST);
	filelock_close(holder);
	peer_stop(&peer);
}
END_TEST

/* shows: changed-under-holder folder-writer */
START_TEST(test_holder_learns_that_its_file_was_changed)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	acts[_i].act(NULL);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "no longer names"));
	ck_assert(filelock_is_held(lock)); /* of what it was */
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

/* shows: changed-under-holder */
START_TEST(test_late_release_leaves_the_successor_alone)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *old, *successor = test_open(test_path("lock"), NULL);
	struct filelock *third = test_open(test_path("lock"), NULL);

	options.unlink_on_release = true;
	old = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(old, FILELOCK_EXCLUSIVE, 0), 0);
	acts[_i].act(NULL);
	ck_assert_int_eq(filelock_acquire(successor, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(old), 0);
	ck_assert_int_eq(filelock_verify(successor), 0);
	ck_assert_int_eq(filelock_acquire(third, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(old);
	filelock_close(successor);
	filelock_close(third);
}
END_TEST

START_TEST(test_verify_finds_a_renamed_parent)
{
	struct filelock *lock = test_open(test_path("folder/lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	rename_the_parent(NULL);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
}
END_TEST

/* It raises no event, so the poll finds it, and the path's own parent is made anew. */
/* shows: changed-before-grant */
START_TEST(test_waiter_under_a_renamed_parent_gets_the_paths_lock)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder = test_open(test_path("folder/lock"), NULL);
	struct peer peer;

	options.poll_interval_ms = 5;
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("folder/lock"), &options), 0);
	peer_order_acquire(&peer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&peer);
	rename_the_parent(NULL);
	ck_assert_int_eq(peer_answer(&peer), 0);
	ck_assert_int_eq(access(test_path("folder/lock"), F_OK), 0);
	filelock_close(holder);
	peer_stop(&peer);
}
END_TEST

/* shows: symbolic-link */
START_TEST(test_symlink_put_in_place_while_waiting_is_eloop)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder = test_open(test_path("lock"), NULL);
	struct peer peer;

	options.poll_interval_ms = 3600000;
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), &options), 0);
	peer_order_acquire(&peer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&peer);
	ck_assert_int_eq(symlink("target", test_path("link")), 0);
	ck_assert_int_eq(rename(test_path("link"), test_path("lock")), 0);
	ck_assert_int_eq(peer_answer(&peer), -ELOOP);
	ck_assert_int_eq(access(test_path("target"), F_OK), -1);
	filelock_close(holder);
	peer_stop(&peer);
}
END_TEST

/* Shared by the processes of the storm below. */
static struct witness *witness;
static unsigned rounds;

static int hold_and_unlink(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock;
	int r = 0;

	options.unlink_on_release = true;
	options.poll_interval_ms = 3600000; /* a lost wake-up would never end */
	lock = test_open(test_path("lock"), &options);
	for (unsigned i = 0; i < rounds && r == 0; i++) {
		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
		if (r < 0)
			break;
		witness_enter(witness, who);
		if (filelock_verify(lock) < 0)
			r = FILELOCK_ELOST;
		witness_leave(witness, who);
		if (filelock_release(lock) < 0)
			r = -EIO;
	}
	filelock_close(lock);
	return r < 0;
}

/* shows: unlink-on-release changed-before-grant */
START_TEST(test_holders_that_remove_their_file_exclude_each_other)
{
	enum { PROCESSES = 4 };
	pid_t pids[PROCESSES];

	witness = test_shared(sizeof(*witness));
	rounds = test_rounds(1000);
	(void)test_folder();
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(hold_and_unlink, (void *)(i + 1));
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(witness->overlaps, 0);
	ck_assert_uint_eq(witness->entries, PROCESSES * rounds);
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
}
END_TEST

/* --- times --- */

static const struct timespec long_ago = { 1000000000, 0 };

static bool has_times(time_t of)
{
	struct stat st;

	ck_assert_int_eq(stat(test_path("lock.db"), &st), 0);
	return st.st_mtim.tv_sec == of;
}

/* Of each kind: what is old becomes new, what is not is left. */
/* shows: fresh-times */
START_TEST(test_verify_renews_old_times)
{
	const enum filelock_kind kinds[] = { FILELOCK_NATIVE, FILELOCK_SOFT, FILELOCK_READWRITE };
	struct timespec young[2];
	struct filelock *lock;

	if (filelock_open(test_path("lock.db"), kinds[_i], NULL, &lock) == -ENOSYS) {
		test_skip("built without SQLite");
		return;
	}
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	(void)clock_gettime(CLOCK_REALTIME, &young[0]);
	young[0].tv_sec -= 10;
	young[1] = young[0];
	ck_assert_int_eq(utimensat(AT_FDCWD, test_path("lock.db"), young, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert(has_times(young[0].tv_sec));
	young[0] = young[1] = long_ago;
	ck_assert_int_eq(utimensat(AT_FDCWD, test_path("lock.db"), young, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert(!has_times(long_ago.tv_sec));
	filelock_close(lock);
}
END_TEST

/* Another file at the path is not ours. */
START_TEST(test_verify_leaves_times_of_another_file)
{
	const struct timespec times[2] = { long_ago, long_ago };
	struct filelock *lock = test_open(test_path("lock.db"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(rename(test_path("lock.db"), test_path("away")), 0);
	test_write_file(test_path("lock.db"), "");
	ck_assert_int_eq(utimensat(AT_FDCWD, test_path("lock.db"), times, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert(has_times(long_ago.tv_sec));
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("replaced", test_verify_finds_a_renamed_parent,
	                     test_waiter_under_a_renamed_parent_gets_the_paths_lock,
	                     test_symlink_put_in_place_while_waiting_is_eloop,
	                     test_holders_that_remove_their_file_exclude_each_other,
	                     test_verify_leaves_times_of_another_file);
	TCase *each = tcase_create("each change");

	tcase_add_loop_test(each, test_file_changed_between_open_and_flock_is_not_what_we_hold, 0,
	                    ACTS);
	tcase_add_loop_test(each, test_no_wait_survives_a_changed_file, 0, ACTS);
	tcase_add_loop_test(each, test_file_changed_while_waiting_is_waited_for_no_more, 0, ACTS);
	tcase_add_loop_test(each, test_holder_learns_that_its_file_was_changed, 0, ACTS);
	tcase_add_loop_test(each, test_late_release_leaves_the_successor_alone, 0, ACTS);
	tcase_add_loop_test(each, test_verify_renews_old_times, 0, 3);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
