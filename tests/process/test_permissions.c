/* Another user, folders that may not be written, file systems that are read-only. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"
#include "base/sys.h"

enum { NOBODY = 65534, SOMEBODY = 65533 };

/* An acquisition to be made in a child, and its result. */
struct try {
	const char *path;
	enum filelock_mode mode;
	int timeout_ms;
	int result;
};

static void acquire(struct try *try)
{
	struct filelock *lock = test_open(try->path, NULL);

	try->result = filelock_acquire(lock, try->mode, try->timeout_ms);
	filelock_close(lock);
}

static int acquire_as_nobody(void *arg)
{
	if (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)
		return 1;
	acquire(arg);
	return 0;
}

static int as_nobody(const char *path, enum filelock_mode mode, int timeout_ms)
{
	struct try *try = test_shared(sizeof(*try));

	*try = (struct try){ path, mode, timeout_ms, 0 };
	ck_assert_int_eq(test_in_child(acquire_as_nobody, try), 0);
	return try->result;
}

static const char *make_file(const char *name, uid_t owner, mode_t mode)
{
	const char *path = test_path(name);

	test_write_file(path, "");
	ck_assert_int_eq(chown(path, owner, owner), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
	return path;
}

/* At once, though the timeout is for ever: waiting would mend nothing. */
/* shows: full-or-forbidden */
START_TEST(test_folder_that_may_not_be_written_is_eacces)
{
	if (!test_may_change_user())
		return;
	ck_assert_int_eq(as_nobody(test_path("lock"), FILELOCK_EXCLUSIVE, -1), -EACCES);
	ck_assert_int_eq(as_nobody(test_path("lock"), FILELOCK_SHARED, -1), -EACCES);
	ck_assert_int_eq(as_nobody(test_path("sub/lock"), FILELOCK_EXCLUSIVE, -1), -EACCES);
}
END_TEST

START_TEST(test_parents_that_exist_need_not_be_writable)
{
	if (!test_may_change_user())
		return;
	ck_assert_int_eq(mkdir(test_path("theirs"), 0777), 0);
	ck_assert_int_eq(chmod(test_path("theirs"), 0777), 0);
	ck_assert_int_eq(as_nobody(test_path("theirs/new/lock"), FILELOCK_EXCLUSIVE, -1), 0);
}
END_TEST

START_TEST(test_read_only_file_is_locked_shared)
{
	const char *path;

	if (!test_may_change_user())
		return;
	path = make_file("lock", 0, 0444);
	ck_assert_int_eq(as_nobody(path, FILELOCK_SHARED, 0), 0);
}
END_TEST

START_TEST(test_shared_lock_of_a_read_only_file_is_kept_out_by_an_exclusive_one)
{
	struct filelock *lock;
	const char *path;

	if (!test_may_change_user())
		return;
	path = make_file("lock", 0, 0444);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(as_nobody(path, FILELOCK_SHARED, 0), -ETIMEDOUT);
	filelock_close(lock);
}
END_TEST

/* flock(2) needs no right to write. */
START_TEST(test_read_only_file_is_locked_exclusively)
{
	struct filelock *lock;
	const char *path;

	if (!test_may_change_user())
		return;
	path = make_file("lock", 0, 0444);
	ck_assert_int_eq(as_nobody(path, FILELOCK_EXCLUSIVE, -1), 0);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(as_nobody(path, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(lock);
	ck_assert_int_eq(as_nobody(path, FILELOCK_EXCLUSIVE, 0), 0);
}
END_TEST

/* The program that runs: open(2) for writing says ETXTBSY. */
START_TEST(test_running_program_is_locked_exclusively)
{
	char path[512];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	struct filelock *lock;

	if (test_is_in_valgrind()) { /* which reads the program, and runs itself */
		test_skip("the kernel does not run the program that is tested");
		return;
	}
	ck_assert_int_gt(n, 0);
	path[n] = '\0';
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(fcntl(filelock_fd(lock), F_GETFL) & O_ACCMODE, O_RDONLY);
	filelock_close(lock);
}
END_TEST

static int open_writing_refused(const char *path, int flags, mode_t mode)
{
	if ((flags & O_ACCMODE) == O_RDONLY)
		return open(path, flags, mode);
	errno = EROFS;
	return -1;
}

/* NFS makes it a record lock, which a descriptor must be able to write for: EBADF. */
START_TEST(test_file_system_that_refuses_a_read_only_file_says_so)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	test_write_file(test_path("lock"), "");
	fault_set(FAULT_flock, 1, FAULT_ONCE, EBADF);
	sys.open = open_writing_refused;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EROFS);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "may only be read"));
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "NFS"));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_file_that_may_not_be_read_is_eacces)
{
	if (!test_may_change_user())
		return;
	ck_assert_int_eq(as_nobody(make_file("lock", 0, 0600), FILELOCK_SHARED, -1), -EACCES);
	ck_assert_int_eq(as_nobody(make_file("lock", 0, 0600), FILELOCK_EXCLUSIVE, -1), -EACCES);
}
END_TEST

static int protected_regular(void)
{
	char text[16];

	if (access("/proc/sys/fs/protected_regular", R_OK) < 0)
		return 0;
	test_read_file("/proc/sys/fs/protected_regular", text, sizeof(text));
	return atoi(text);
}

/* fs.protected_regular refuses O_CREAT of a third user's file there, but not to open it. */
/* shows: sticky-folder */
START_TEST(test_another_users_file_in_a_sticky_folder_is_locked)
{
	const char *path;

	if (!test_may_change_user())
		return;
	if (protected_regular() == 0)
		test_skip("fs.protected_regular is 0: tried without it");
	ck_assert_int_eq(mkdir(test_path("sticky"), 0777), 0);
	ck_assert_int_eq(chmod(test_path("sticky"), 01777), 0);
	path = make_file("sticky/lock", SOMEBODY, 0666);
	ck_assert_int_eq(as_nobody(path, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(as_nobody(path, FILELOCK_SHARED, 0), 0);
}
END_TEST

/* The same where the kernel does not protect: the table refuses O_CREAT, once. */
START_TEST(test_refused_creation_opens_what_exists)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	test_write_file(test_path("lock"), "");
	fault_set(FAULT_open, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(fcntl(filelock_fd(lock), F_GETFL) & O_ACCMODE, O_RDWR);
	filelock_release(lock);
	fault_set(FAULT_open, 1, FAULT_ONCE, EPERM);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	filelock_close(lock);
}
END_TEST

static int (*real_open)(const char *path, int flags, mode_t mode);

static int open_creation_refused(const char *path, int flags, mode_t mode)
{
	if (!(flags & O_CREAT) && (flags & O_TMPFILE) != O_TMPFILE)
		return real_open(path, flags, mode);
	errno = EACCES;
	return -1;
}

START_TEST(test_refused_creation_of_a_missing_file_is_eacces)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	real_open = sys.open;
	sys.open = open_creation_refused;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EACCES);
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
	sys.open = real_open;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0); /* usable again */
	filelock_close(lock);
}
END_TEST

static void remove_it(enum fault_call call, int fd, const char *path)
{
	(void)call;
	(void)fd;
	(void)unlink(path);
}

/* A sticky folder refuses to create over another user's file, which then goes. */
START_TEST(test_file_that_goes_between_two_looks_is_made)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0); /* flock(2) works */
	filelock_release(lock);
	fault_set(FAULT_open, 1, FAULT_ONCE, EACCES);
	fault_set_witness(remove_it);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
	ck_assert_int_eq(access(test_path("lock"), F_OK), 0);
	filelock_close(lock);
}
END_TEST

/* A profile that names the lock file alone: no file beside it can be made. */
static int open_lock_only(const char *path, int flags, mode_t mode)
{
	if ((flags & O_TMPFILE) != O_TMPFILE)
		return real_open(path, flags, mode);
	errno = EACCES;
	return -1;
}

START_TEST(test_only_the_lock_file_may_be_made)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	real_open = sys.open;
	sys.open = open_lock_only;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_kind(lock), FILELOCK_NATIVE);
	filelock_close(lock);
}
END_TEST

/* And flock(2) does not work: an empty lock file would stand there as somebody's marker. */
START_TEST(test_only_the_lock_file_may_be_made_and_flock_is_missing)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.no_fallback = true;
	lock = test_open(test_path("lock"), &options);
	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	real_open = sys.open;
	sys.open = open_lock_only;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ENOSYS);
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
	filelock_close(lock);
}
END_TEST

/* On a file system of its own, read-only, in a mount namespace of its own. */
static int acquire_read_only(void *arg)
{
	struct try *try = arg;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("test", test_folder(), "tmpfs", 0, "size=64k") < 0)
		return 77;
	test_write_file(test_path("lock"), "");
	if (mount("none", test_folder(), "none", MS_REMOUNT | MS_RDONLY, "size=64k") < 0)
		return 77;
	acquire(try);
	return 0;
}

static bool on_read_only(const char *path, enum filelock_mode mode, int *ret_result)
{
	struct try *try = test_shared(sizeof(*try));
	int status;

	*try = (struct try){ path, mode, -1, 0 };
	status = test_in_child(acquire_read_only, try);
	if (status == 77) {
		test_skip("no mount namespace of one's own here");
		return false;
	}
	ck_assert_int_eq(status, 0);
	*ret_result = try->result;
	return true;
}

START_TEST(test_read_only_file_system_serves_both_modes)
{
	int result;

	if (!test_may_change_user() || !on_read_only(test_path("lock"), FILELOCK_SHARED, &result))
		return;
	ck_assert_int_eq(result, 0);
	ck_assert(on_read_only(test_path("lock"), FILELOCK_EXCLUSIVE, &result));
	ck_assert_int_eq(result, 0);
}
END_TEST

/* shows: full-or-forbidden */
START_TEST(test_missing_file_on_a_read_only_file_system_is_erofs)
{
	int result;

	if (!test_may_change_user() ||
	    !on_read_only(test_path("missing"), FILELOCK_EXCLUSIVE, &result))
		return;
	ck_assert_int_eq(result, -EROFS);
	ck_assert(on_read_only(test_path("missing"), FILELOCK_SHARED, &result));
	ck_assert_int_eq(result, -EROFS);
	ck_assert(on_read_only(test_path("missing/lock"), FILELOCK_SHARED, &result));
	ck_assert_int_eq(result, -EROFS);
}
END_TEST

static int acquire_on_full_disk(void *arg)
{
	struct try *try = arg;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("test", test_folder(), "tmpfs", 0, "size=4k,nr_inodes=1") < 0)
		return 77;
	acquire(try);
	return 0;
}

/* shows: full-or-forbidden */
START_TEST(test_full_file_system_is_enospc)
{
	struct try *try = test_shared(sizeof(*try));
	int status;

	if (!test_may_change_user())
		return;
	*try = (struct try){ test_path("lock"), FILELOCK_EXCLUSIVE, -1, 0 };
	status = test_in_child(acquire_on_full_disk, try);
	if (status == 77) {
		test_skip("no mount namespace of one's own here");
		return;
	}
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(try->result, -ENOSPC);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "permissions", test_folder_that_may_not_be_written_is_eacces,
	        test_parents_that_exist_need_not_be_writable, test_read_only_file_is_locked_shared,
	        test_shared_lock_of_a_read_only_file_is_kept_out_by_an_exclusive_one,
	        test_read_only_file_is_locked_exclusively,
	        test_running_program_is_locked_exclusively,
	        test_file_system_that_refuses_a_read_only_file_says_so,
	        test_file_that_goes_between_two_looks_is_made,
	        test_only_the_lock_file_may_be_made,
	        test_only_the_lock_file_may_be_made_and_flock_is_missing,
	        test_file_that_may_not_be_read_is_eacces,
	        test_another_users_file_in_a_sticky_folder_is_locked,
	        test_refused_creation_opens_what_exists,
	        test_refused_creation_of_a_missing_file_is_eacces,
	        test_read_only_file_system_serves_both_modes,
	        test_missing_file_on_a_read_only_file_system_is_erofs, test_full_file_system_is_enospc));
}
