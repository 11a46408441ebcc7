/* Single calls fail, and what is special then; tests/faults/test_sweep.c has all the others. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include <filelock/driver.h>

#include "support.h"
#include "base/sys.h"

static struct filelock *lock;

static int try(enum filelock_mode mode)
{
	return filelock_acquire(lock, mode, FILELOCK_NO_WAIT);
}

static bool is_free(void)
{
	struct filelock *other = test_open(test_path("lock"), NULL);
	int r = filelock_acquire(other, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);

	filelock_close(other);
	return r == 0;
}

/* shows: eintr */
START_TEST(test_interrupted_close_is_not_repeated)
{
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_set(FAULT_close, 1, FAULT_ONCE, EINTR);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(fault_calls(FAULT_close), 1);
	filelock_close(lock);
	ck_assert_uint_eq(fault_calls(FAULT_close), 1);
}
END_TEST

/* Unlocked, so released, and the descriptor is gone whatever close(2) says. */
/* shows: failed-unlock */
START_TEST(test_failing_close_after_unlock_is_released_and_not_closed_twice)
{
	int fd;

	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fd = filelock_fd(lock);
	fault_set(FAULT_close, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert(!filelock_is_held(lock));
	ck_assert_uint_eq(fault_calls(FAULT_close), 1);
	/* another file may have the number by now: nobody may close that */
	ck_assert_int_eq(open("/dev/null", O_RDONLY | O_CLOEXEC), fd);
	ck_assert_int_eq(filelock_release(lock), -EPERM);
	filelock_close(lock);
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
	ck_assert(is_free());
}
END_TEST

/* shows: failed-unlock */
START_TEST(test_failing_unlock_leaves_the_lock_held_and_the_call_retryable)
{
	static const int errors[] = { EIO, ENOLCK, ENOMEM };

	for (size_t i = 0; i < 3; i++) {
		lock = test_open(test_path("lock"), NULL);
		ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
		fault_set(FAULT_flock, 1, FAULT_ONCE, errors[i]);
		ck_assert_int_eq(filelock_release(lock), -errors[i]);
		ck_assert_uint_eq(filelock_depth(lock), 1);
		ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "unlock"));
		ck_assert(!is_free());
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert(is_free());
		filelock_close(lock);
	}
}
END_TEST

START_TEST(test_failing_unlock_of_release_all_keeps_every_level)
{
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release_all(lock), -EIO);
	ck_assert_uint_eq(filelock_depth(lock), 2);
	ck_assert_int_eq(filelock_release_all(lock), 0);
	ck_assert(is_free());
	filelock_close(lock);
}
END_TEST

/* Closing ends the hold at any rate: the description goes, and the lock with it. */
START_TEST(test_close_with_a_failing_unlock_still_frees_the_lock)
{
	unsigned descriptors = test_descriptors();

	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	filelock_close(lock);
	ck_assert(is_free());
	ck_assert_uint_eq(test_descriptors(), descriptors);
}
END_TEST

START_TEST(test_failing_removal_leaves_the_lock_held_and_the_call_retryable)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EBUSY);
	ck_assert_int_eq(filelock_release(lock), -EBUSY);
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
	filelock_close(lock);
}
END_TEST

/* Removed, but not unlocked: there is no holding on to a file that is gone. */
START_TEST(test_failed_unlock_after_the_removal_releases)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *successor;

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert(!filelock_is_held(lock));
	successor = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_acquire(successor, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), -EPERM);
	ck_assert_int_eq(filelock_verify(successor), 0);
	filelock_close(successor);
	filelock_close(lock);
}
END_TEST

static void remove_it(void *arg)
{
	(void)arg;
	ck_assert_int_eq(unlink(test_path("lock")), 0);
}

START_TEST(test_file_that_somebody_else_removes_first_is_released)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_before(FAULT_unlink, 1, remove_it, NULL);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(fault_hits(FAULT_unlink), 1);
	ck_assert(!filelock_is_held(lock));
	filelock_close(lock);
}
END_TEST

/* --- on a descriptor of the caller's --- */

static int borrow(void)
{
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(filelock_open_fd(fd, NULL, &lock), 0);
	return fd;
}

/* There is no path at which a marker could stand. */
START_TEST(test_callers_descriptor_without_flock_has_its_error)
{
	static const int errors[] = { ENOSYS, EOPNOTSUPP };
	int fd = borrow();

	for (size_t i = 0; i < 2; i++) {
		fault_set(FAULT_flock, 1, FAULT_ONCE, errors[i]);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -errors[i]);
		ck_assert_int_eq(filelock_kind(lock), FILELOCK_NATIVE);
	}
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
	close(fd);
}
END_TEST

START_TEST(test_callers_descriptor_is_polled_where_it_cannot_be_watched)
{
	struct filelock_driver driver = { 0 };
	struct filelock *holder = test_open(test_path("lock"), NULL);
	int fd = borrow();
	int64_t until;

	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	fault_set(FAULT_inotify_add_watch, 1, FAULT_ONCE, ENOENT); /* no /proc */
	ck_assert_int_eq(filelock_begin(lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, NULL), 0);
	ck_assert_int_eq(filelock_step(lock, SECONDS, &until), FILELOCK_STEP_WAIT);
	ck_assert_int_gt(until, SECONDS);
	ck_assert_uint_eq(fault_calls(FAULT_inotify_add_watch), 1);
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(filelock_step(lock, until, &until), FILELOCK_STEP_HELD);
	filelock_close(lock);
	filelock_close(holder);
	filelock_watcher_free(driver.watcher);
	close(fd);
}
END_TEST

START_TEST(test_release_of_a_callers_descriptor_that_cannot_wake_is_a_release)
{
	int fd = borrow();

	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	fault_set(FAULT_open, 1, FAULT_ONCE, EMFILE);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
	ck_assert(is_free());
	filelock_close(lock);
	close(fd);
}
END_TEST

/* --- contention, and paths --- */

/* As some file systems say "busy". */
START_TEST(test_eacces_from_flock_is_contention)
{
	lock = test_open(test_path("lock"), NULL);
	test_write_file(test_path("lock"), ""); /* one that exists needs no probe of flock(2) */
	fault_set(FAULT_flock, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_uint_ge(fault_calls(FAULT_flock), 2);
	filelock_close(lock);
}
END_TEST

static unsigned denials; /* of files to be made */
static int (*real_open)(const char *path, int flags, mode_t mode);

static int denying_open(const char *path, int flags, mode_t mode)
{
	if (!(flags & O_CREAT) || denials == 0)
		return real_open(path, flags, mode);
	denials--;
	errno = ENOENT;
	return -1;
}

/* The parent is there, and yet O_CREAT says ENOENT, as FUSE and NFS may in a race. */
START_TEST(test_enoent_under_an_existing_parent_is_tried_again)
{
	lock = test_open(test_path("lock"), NULL);
	real_open = sys.open;
	sys.open = denying_open;
	for (unsigned count = 1; count <= 2; count++) {
		denials = count;
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
		ck_assert_uint_eq(denials, 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_parent_that_is_there_and_leads_nowhere_is_enoent)
{
	lock = test_open(test_path("folder/lock"), NULL);
	ck_assert_int_eq(symlink("nowhere", test_path("folder")), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ENOENT);
	filelock_close(lock);
}
END_TEST

static void remove_parent(void *arg)
{
	(void)arg;
	(void)unlink(test_path("folder/lock"));
	ck_assert_int_eq(rmdir(test_path("folder")), 0);
}

START_TEST(test_parent_removed_just_before_the_open_is_made_again)
{
	lock = test_open(test_path("folder/lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	fault_before(FAULT_open, 1, remove_parent, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_parent_that_was_removed_and_cannot_be_made_again_is_its_error)
{
	lock = test_open(test_path("folder/lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	remove_parent(NULL);
	fault_set(FAULT_mkdir, 1, FAULT_FOR_GOOD, EACCES);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EACCES);
	filelock_close(lock);
}
END_TEST

START_TEST(test_failing_mkdir_is_its_error)
{
	static const int errors[] = { EACCES, ENOSPC, EROFS, EMLINK, EDQUOT };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		lock = test_open(test_path("missing/lock"), NULL);
		fault_set(FAULT_mkdir, 1, FAULT_FOR_GOOD, errors[i]);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -errors[i]);
		filelock_close(lock);
	}
}
END_TEST

START_TEST(test_last_error_without_memory_is_a_sentence_still)
{
	lock = test_open(test_folder(), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -EISDIR);
	fault_set(FAULT_calloc, 1, FAULT_FOR_GOOD, ENOMEM);
	ck_assert_str_eq(filelock_last_error(lock), filelock_strerror(-EISDIR));
	fault_clear();
	filelock_close(lock);
}
END_TEST

enum { HOLDS = 40 };

static struct filelock *open_numbered(int i)
{
	char name[16];

	(void)snprintf(name, sizeof(name), "lock%d", i);
	return test_open(test_path(name), NULL);
}

START_TEST(test_holds_are_known_though_there_is_no_memory_for_a_larger_table)
{
	struct filelock *holders[HOLDS], *others[HOLDS];

	for (int i = 0; i < HOLDS; i++) {
		holders[i] = open_numbered(i);
		others[i] = open_numbered(i);
	}
	fault_set(FAULT_calloc, 1, FAULT_FOR_GOOD, ENOMEM);
	for (int i = 0; i < HOLDS; i++)
		ck_assert_int_eq(filelock_acquire(holders[i], FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_gt(fault_hits(FAULT_calloc), 0);
	fault_set(FAULT_calloc, 3, FAULT_FOR_GOOD, ENOMEM); /* a path, a handle, and the table */
	filelock_close(open_numbered(HOLDS));
	ck_assert_uint_gt(fault_hits(FAULT_calloc), 0);
	for (int i = 0; i < HOLDS; i++)
		ck_assert_int_eq(filelock_acquire(others[i], FILELOCK_EXCLUSIVE, -1), -EDEADLK);
	for (int i = 0; i < HOLDS; i++) {
		ck_assert_int_eq(filelock_release(holders[i]), 0);
		ck_assert_int_eq(filelock_acquire(others[i], FILELOCK_EXCLUSIVE, -1), 0);
	}
	for (int i = 0; i < HOLDS; i++) {
		filelock_close(holders[i]);
		filelock_close(others[i]);
	}
}
END_TEST

/* NFS and others say it of a file that was removed by somebody else. */
START_TEST(test_stale_descriptor_is_contention)
{
	static const int errors[] = { ESTALE, ENOENT };

	lock = test_open(test_path("lock"), NULL);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fault_set(FAULT_flock, 2, FAULT_ONCE, errors[i]); /* 1: the probe's */
		fault_set(FAULT_fstat, 1, FAULT_ONCE, errors[i]);
		ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
		ck_assert_uint_eq(fault_hits(FAULT_fstat), 1);
		fault_set(FAULT_flock, 1, FAULT_ONCE, errors[i]);
		ck_assert_int_eq(filelock_release(lock), 0);
		fault_set(FAULT_lstat, 1, FAULT_ONCE, ESTALE);
		ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_descriptors_that_stay_stale_are_an_error)
{
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ESTALE);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ESTALE);
	fault_clear();
	fault_set(FAULT_lstat, 1, FAULT_FOR_GOOD, ESTALE);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ESTALE);
	fault_clear();
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
}
END_TEST

/* The kernel's own numbers, which libc has no text for: ENOTSUPP, 524, on file systems of clusters. */
START_TEST(test_number_of_the_kernels_own_means_that_flock_is_missing)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.no_fallback = true;
	lock = test_open(test_path("lock"), &options);
	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, 524);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -524);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "524"));
	filelock_close(lock);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_kind(lock), FILELOCK_SOFT);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "faults", test_stale_descriptor_is_contention,
	        test_descriptors_that_stay_stale_are_an_error,
	        test_number_of_the_kernels_own_means_that_flock_is_missing,
	        test_interrupted_close_is_not_repeated,
	        test_failing_close_after_unlock_is_released_and_not_closed_twice,
	        test_failing_unlock_leaves_the_lock_held_and_the_call_retryable,
	        test_failing_unlock_of_release_all_keeps_every_level,
	        test_close_with_a_failing_unlock_still_frees_the_lock,
	        test_failing_removal_leaves_the_lock_held_and_the_call_retryable,
	        test_failed_unlock_after_the_removal_releases,
	        test_file_that_somebody_else_removes_first_is_released,
	        test_callers_descriptor_without_flock_has_its_error,
	        test_callers_descriptor_is_polled_where_it_cannot_be_watched,
	        test_release_of_a_callers_descriptor_that_cannot_wake_is_a_release,
	        test_eacces_from_flock_is_contention,
	        test_enoent_under_an_existing_parent_is_tried_again,
	        test_parent_that_is_there_and_leads_nowhere_is_enoent,
	        test_parent_removed_just_before_the_open_is_made_again,
	        test_parent_that_was_removed_and_cannot_be_made_again_is_its_error,
	        test_failing_mkdir_is_its_error,
	        test_last_error_without_memory_is_a_sentence_still,
	        test_holds_are_known_though_there_is_no_memory_for_a_larger_table));
}
