/* File systems whose inode numbers do not tell files apart, or change; and one that takes no file. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/sys.h"
#include "fuse.h"
#include "support.h"

static struct fuse *fuse;

static bool set_up(enum fuse_numbers numbers)
{
	fuse = fuse_start(FUSE_FLOCK_LOCAL);
	if (fuse)
		fuse->numbers = numbers;
	return fuse != NULL;
}

static struct timespec changed_at(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_ctim;
}

/* Puts a new file in the old one's place, whose time of change is later by the clock's tick. */
static void replace(const char *path)
{
	struct timespec old = changed_at(path);

	ck_assert_int_eq(unlink(path), 0);
	test_write_file(path, "");
	await(chmod(path, 0644) == 0 && (changed_at(path).tv_sec != old.tv_sec ||
	                                 changed_at(path).tv_nsec != old.tv_nsec));
}

START_TEST(test_holder_sees_a_successor_of_the_same_number)
{
	struct filelock *lock;
	const char *path;

	if (!set_up(FUSE_NUMBERS_SAME))
		return;
	path = fuse_path(fuse, "lock");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(chmod(path, 0600), 0); /* the same file, changed */
	ck_assert_int_eq(filelock_verify(lock), 0);
	replace(path);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

/* As rclone does: the time of a file that it removes is later than its successor's. */
START_TEST(test_holder_sees_a_successor_that_changed_earlier_than_the_removed_file)
{
	struct timespec successor;
	struct filelock *lock;
	const char *path;
	struct stat st;

	if (!set_up(FUSE_NUMBERS_SAME))
		return;
	path = fuse_path(fuse, "lock");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	replace(path);
	successor = changed_at(path);
	await(fchmod(filelock_fd(lock), 0644) == 0 && fstat(filelock_fd(lock), &st) == 0 &&
	      (st.st_ctim.tv_sec != successor.tv_sec || st.st_ctim.tv_nsec > successor.tv_nsec));
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

static struct filelock *rival;

static void replace_and_hold(void *arg)
{
	replace(arg);
	ck_assert_int_eq(filelock_acquire(rival, FILELOCK_EXCLUSIVE, 0), 0);
}

START_TEST(test_removed_file_whose_number_went_on_is_not_what_we_hold)
{
	struct filelock *lock;
	const char *path;

	if (!set_up(FUSE_NUMBERS_SAME))
		return;
	path = fuse_path(fuse, "lock");
	lock = test_open(path, NULL);
	rival = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	fault_before(FAULT_flock, 1, replace_and_hold, (void *)path);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 1);
	filelock_close(rival);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

static void put_another_in_its_place(void *arg)
{
	ck_assert_int_eq(unlink(arg), 0);
	test_write_file(arg, "");
}

/* As rclone's mount does, where an upload brings the removed file back: all that stat(2) says is the same. */
START_TEST(test_removed_file_that_looks_as_its_successor_is_not_what_we_hold)
{
	enum filelock_mode mode = _i == 0 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED;
	struct filelock *lock;
	const char *path;

	if (!set_up(FUSE_NUMBERS_AND_TIMES_SAME))
		return;
	path = fuse_path(fuse, "lock");
	lock = test_open(path, NULL);
	rival = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, mode, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	fault_before(FAULT_flock, 1, put_another_in_its_place, (void *)path);
	ck_assert_int_eq(filelock_acquire(lock, mode, 0), 0);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 1);
	ck_assert_int_eq(filelock_acquire(rival, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	put_another_in_its_place((void *)path);
	ck_assert_int_eq(filelock_acquire(rival, mode, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_REPLACED);
	filelock_close(rival);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

/* Who removes the lock file at the release removes no successor. */
START_TEST(test_successor_that_looks_as_our_file_is_not_removed)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	const char *path;

	if (!set_up(FUSE_NUMBERS_AND_TIMES_SAME))
		return;
	path = fuse_path(fuse, "lock");
	options.unlink_on_release = true;
	lock = test_open(path, &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	put_another_in_its_place((void *)path);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(access(path, F_OK), 0);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

/* As a sandbox, which refuses the call. */
START_TEST(test_without_handles_the_numbers_decide)
{
	struct filelock *lock;
	const char *path;

	if (!set_up(FUSE_NUMBERS_AND_TIMES_SAME))
		return;
	path = fuse_path(fuse, "lock");
	lock = test_open(path, NULL);
	fault_set(FAULT_name_to_handle_at, 1, FAULT_FOR_GOOD, EPERM);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_uint_eq(fault_hits(FAULT_name_to_handle_at), 2);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

/* shows: no-endless-races */
START_TEST(test_numbers_that_change_are_an_error_that_names_them)
{
	struct filelock *lock;

	if (!set_up(FUSE_NUMBERS_CHANGING))
		return;
	lock = test_open(fuse_path(fuse, "lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), FILELOCK_EUNSTABLE);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "inode number"));
	fuse->numbers = FUSE_NUMBERS_REAL;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_folder_that_takes_no_file_is_enoent)
{
	struct filelock *lock;

	if (!set_up(FUSE_NUMBERS_REAL))
		return;
	fuse->refused[FUSE_CREATE] = ENOENT;
	lock = test_open(fuse_path(fuse, "lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ENOENT);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "takes no such file"));
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_folder_of_the_kernel_takes_no_file)
{
	struct filelock *lock = test_open("/proc/filelock.lock", NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ENOENT);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ENOENT);
	filelock_close(lock);
}
END_TEST

static char logged[4096];
static unsigned warnings;

static void note_warning(enum filelock_log_level level, const char *message, void *arg)
{
	(void)arg;
	if (level != FILELOCK_LOG_WARNING)
		return;
	warnings++;
	(void)snprintf(logged, sizeof(logged), "%s", message);
}

static int lock_records(void *arg)
{
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	return fcntl(fd, *(int *)arg, &range) < 0 ? errno : 0;
}

/* A process, or an open file description, which names none. */
START_TEST(test_record_lock_of_another_program_is_named)
{
	int *command = test_shared(sizeof(*command));
	char text[512] = "", pid[32];
	struct filelock *lock;
	struct peer peer;

	*command = _i ? F_OFD_SETLK : F_SETLK;
	(void)test_folder(); /* the peer's, too */
	peer_start(&peer);
	ck_assert_int_eq(peer_call(&peer, lock_records, command), 0);
	(void)snprintf(pid, sizeof(pid), "pid %ld ", (long)peer.pid);
	filelock_set_log(note_warning, NULL, FILELOCK_LOG_WARNING);
	lock = test_open(test_path("lock"), NULL);
	if (test_locks_are_listed()) {
		ck_assert_int_eq(filelock_describe_holder(lock, text, sizeof(text)), 0);
		ck_assert_ptr_nonnull(strstr(text, "record lock"));
		ck_assert(_i || strstr(text, pid));
	}
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(warnings, 1);
	ck_assert_ptr_nonnull(strstr(logged, "record lock"));
	ck_assert(_i || strstr(logged, pid));
	if (test_locks_are_listed()) {
		ck_assert_int_eq(filelock_describe_holder(lock, text, sizeof(text)), 0);
		ck_assert_ptr_nonnull(strstr(text, "this process; "));
		ck_assert_ptr_nonnull(strstr(text, "record lock"));
	}
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(warnings, 1); /* once a handle */
	filelock_close(lock);
	filelock_set_log(NULL, NULL, FILELOCK_LOG_ERROR);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_without_record_locks_nothing_is_said_of_them)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	char text[512] = "";

	filelock_set_log(note_warning, NULL, FILELOCK_LOG_WARNING);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(warnings, 0);
	if (test_locks_are_listed()) {
		ck_assert_int_eq(filelock_describe_holder(lock, text, sizeof(text)), 0);
		ck_assert_ptr_null(strstr(text, "record lock"));
	}
	filelock_close(lock);
	filelock_set_log(NULL, NULL, FILELOCK_LOG_ERROR);
}
END_TEST

static ino_t shift; /* of all numbers: an overlay file system has copied the file up */

static int fstat_shifted(int fd, struct stat *ret)
{
	int r = fstat(fd, ret);

	ret->st_ino += shift;
	return r;
}

static int lstat_shifted(const char *path, struct stat *ret)
{
	int r = lstat(path, ret);

	ret->st_ino += shift;
	return r;
}

START_TEST(test_file_that_gets_another_number_is_the_same)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	sys.fstat = fstat_shifted;
	sys.lstat = lstat_shifted;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	shift = 1000;
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	test_write_file(test_path("lock"), "");
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
}
END_TEST

static int statfs_of_nfs(const char *path, struct statfs *ret)
{
	(void)path;
	*ret = (struct statfs){ .f_type = NFS_SUPER_MAGIC };
	return 0;
}

/* As a server forgets it that has not heard of its client for long. */
static void forget(struct filelock *lock)
{
	ck_assert_int_eq(flock(filelock_fd(lock), LOCK_UN), 0);
}

/* shows: server-asked */
START_TEST(test_lock_that_nfs_gave_to_another_is_lost)
{
	enum filelock_mode mode = (enum filelock_mode)_i;
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock *next = test_open(test_path("lock"), NULL);

	sys.statfs = statfs_of_nfs;
	ck_assert_int_eq(filelock_acquire(lock, mode, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	forget(lock);
	ck_assert_int_eq(filelock_acquire(next, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_verify(next), 0);
	filelock_close(next);
	filelock_close(lock);
}
END_TEST

/* shows: server-asked */
START_TEST(test_lock_that_nfs_forgot_and_gave_to_nobody_is_taken_again)
{
	enum filelock_mode mode = (enum filelock_mode)_i;
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock *next = test_open(test_path("lock"), NULL);

	sys.statfs = statfs_of_nfs;
	ck_assert_int_eq(filelock_acquire(lock, mode, 0), 0);
	forget(lock);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_acquire(next, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(next);
	filelock_close(lock);
}
END_TEST

START_TEST(test_nobody_is_asked_for_the_lock_again_on_a_local_file_system)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct statfs fs;

	ck_assert_int_eq(statfs(test_folder(), &fs), 0);
	if (!sys_is_local(&fs)) {
		test_skip("no local file system");
		return;
	}
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EWOULDBLOCK);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 0);
	fault_clear();
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("native_files");
	TCase *tcase = tcase_create("native_files");

	tcase_add_test(tcase, test_holder_sees_a_successor_of_the_same_number);
	tcase_add_test(tcase, test_holder_sees_a_successor_that_changed_earlier_than_the_removed_file);
	tcase_add_test(tcase, test_removed_file_whose_number_went_on_is_not_what_we_hold);
	tcase_add_loop_test(tcase, test_removed_file_that_looks_as_its_successor_is_not_what_we_hold, 0, 2);
	tcase_add_test(tcase, test_successor_that_looks_as_our_file_is_not_removed);
	tcase_add_test(tcase, test_without_handles_the_numbers_decide);
	tcase_add_test(tcase, test_numbers_that_change_are_an_error_that_names_them);
	tcase_add_test(tcase, test_folder_that_takes_no_file_is_enoent);
	tcase_add_test(tcase, test_folder_of_the_kernel_takes_no_file);
	tcase_add_loop_test(tcase, test_record_lock_of_another_program_is_named, 0, 2);
	tcase_add_test(tcase, test_without_record_locks_nothing_is_said_of_them);
	tcase_add_test(tcase, test_file_that_gets_another_number_is_the_same);
	tcase_add_loop_test(tcase, test_lock_that_nfs_gave_to_another_is_lost, 0, 2);
	tcase_add_loop_test(tcase, test_lock_that_nfs_forgot_and_gave_to_nobody_is_taken_again, 0, 2);
	tcase_add_test(tcase, test_nobody_is_asked_for_the_lock_again_on_a_local_file_system);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
