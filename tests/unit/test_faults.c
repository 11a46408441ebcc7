/* Single calls fail, and what is special then; tests/faults/test_sweep.c has all the others. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "support.h"

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

/* The parent is there, and yet O_CREAT says ENOENT, as FUSE and NFS may in a race. */
START_TEST(test_enoent_under_an_existing_parent_is_tried_again)
{
	lock = test_open(test_path("lock"), NULL);
	fault_set(FAULT_open, 1, FAULT_ONCE, ENOENT);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
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

int main(void)
{
	return support_main(SUITE(
	        "faults", test_interrupted_close_is_not_repeated,
	        test_failing_close_after_unlock_is_released_and_not_closed_twice,
	        test_failing_unlock_leaves_the_lock_held_and_the_call_retryable,
	        test_failing_unlock_of_release_all_keeps_every_level,
	        test_close_with_a_failing_unlock_still_frees_the_lock,
	        test_failing_removal_leaves_the_lock_held_and_the_call_retryable,
	        test_failed_unlock_after_the_removal_releases,
	        test_eacces_from_flock_is_contention,
	        test_enoent_under_an_existing_parent_is_tried_again,
	        test_parent_removed_just_before_the_open_is_made_again,
	        test_failing_mkdir_is_its_error,
	        test_last_error_without_memory_is_a_sentence_still));
}
