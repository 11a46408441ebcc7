/* File systems and SQLites that do less than a read/write lock needs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "fuse.h"
#include "kinds/readwrite_bytes.h"
#include "support.h"

#ifdef FILELOCK_SQLITE

#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>

static struct filelock *open_rw(const char *path)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open(path, FILELOCK_READWRITE, NULL, &lock), 0);
	return lock;
}

/* The server's process gets every lock that any process asks for. */
START_TEST(test_record_locks_that_exclude_nobody_are_refused)
{
	struct fuse *fuse = fuse_start(FUSE_RECORDS_FORWARDED);
	struct filelock *lock;

	if (!fuse)
		return;
	lock = open_rw(fuse_path(fuse, "lock.db"));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), FILELOCK_ENOEXCLUSION);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), FILELOCK_ENOEXCLUSION);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "exclude nobody"));
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_record_locks_are_tried_once_a_file_system)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_LOCAL);
	struct filelock *lock, *other;

	if (!fuse)
		return;
	fault_watch();
	lock = open_rw(fuse_path(fuse, "lock.db"));
	other = open_rw(fuse_path(fuse, "other.db"));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(fault_calls(FAULT_fcntl_ofd_setlk), 2);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(fault_calls(FAULT_fcntl_ofd_setlk), 2);
	filelock_close(other);
	filelock_close(lock);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_own_disks_are_not_tried)
{
	struct filelock *lock = open_rw(test_path("lock.db"));
	struct statfs fs;

	ck_assert_int_eq(statfs(test_folder(), &fs), 0);
	if (!sys_is_local(&fs)) {
		test_skip("the test's folder is on a file system that is tried");
		return;
	}
	fault_watch();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(fault_calls(FAULT_fcntl_ofd_setlk), 0);
	filelock_close(lock);
}
END_TEST

/* CIFS, and FUSE servers without it. */
START_TEST(test_without_mknod_the_database_is_made_by_open)
{
	static const int errors[] = { EPERM, ENOSYS, EOPNOTSUPP, EINVAL };
	struct filelock *lock;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fault_set(FAULT_mknod, 1, FAULT_FOR_GOOD, errors[i]);
		lock = open_rw(test_path("lock.db"));
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		ck_assert_uint_gt(fault_hits(FAULT_mknod), 0);
		filelock_close(lock);
		ck_assert_int_eq(unlink(test_path("lock.db")), 0);
	}
}
END_TEST

START_TEST(test_journal_beside_an_empty_database_is_no_obstacle)
{
	struct filelock *lock = open_rw(test_path("lock.db"));
	char content[32];

	test_write_file(test_path("lock.db"), "");
	test_write_file(test_path("lock.db-journal"), "left behind");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	filelock_close(lock);
	test_read_file(test_path("lock.db-journal"), content, sizeof(content));
	ck_assert_str_eq(content, "left behind");
}
END_TEST

static mode_t mode_of(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_mode & 07777;
}

START_TEST(test_exact_mode_goes_past_the_umask)
{
	static const enum filelock_kind kinds[] = { FILELOCK_NATIVE, FILELOCK_READWRITE,
		                                    FILELOCK_SOFT };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	const char *path = test_path("lock.db");
	struct filelock *lock;

	(void)umask(022);
	options.file_mode = 0666;
	options.exact_mode = true;
	ck_assert_int_eq(filelock_open(path, kinds[_i], &options, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(mode_of(path), 0666);
	filelock_close(lock);
	if (kinds[_i] == FILELOCK_SOFT)
		return;
	/* a file that is there keeps what it has */
	ck_assert_int_eq(chmod(path, 0600), 0);
	ck_assert_int_eq(filelock_open(path, kinds[_i], &options, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(mode_of(path), 0600);
	filelock_close(lock);
}
END_TEST

START_TEST(test_mode_that_cannot_be_set_is_no_obstacle)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.file_mode = 0666;
	options.exact_mode = true;
	fault_set(FAULT_fchmod, 1, FAULT_FOR_GOOD, EPERM);
	fault_set(FAULT_chmod, 1, FAULT_FOR_GOOD, EPERM);
	fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, EPERM);
	ck_assert_int_eq(filelock_open(test_path("lock.db"), FILELOCK_READWRITE, &options, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, &options, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	ck_assert_uint_eq(fault_hits(FAULT_chmod), 1);
	ck_assert_uint_eq(fault_hits(FAULT_fchmod), 2); /* before its name, and in its place */
}
END_TEST

static mode_t first_mode; /* when the file was first seen at its name */

static int note_mode(int from_folder, const char *from, int to_folder, const char *to, int flags)
{
	int r = linkat(from_folder, from, to_folder, to, flags);

	first_mode = r == 0 ? mode_of(to) : 0;
	return r;
}

/* Whoever is killed then leaves a file that all can use. */
START_TEST(test_exact_mode_is_set_before_the_file_has_its_name)
{
	static const enum filelock_kind kinds[] = { FILELOCK_NATIVE, FILELOCK_SOFT };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	(void)umask(0777);
	options.file_mode = 0660;
	options.exact_mode = true;
	ck_assert_int_eq(filelock_open(test_path("lock"), kinds[_i], &options, &lock), 0);
	sys.linkat = note_mode;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(first_mode, 0660);
	filelock_close(lock);
}
END_TEST

enum { THREADS = 4 };

static _Atomic unsigned inside_sqlite, most_inside;
static int (*real_fcntl)(int fd, int command, ...);

/* SQLite's record locks: with one database, and mutexes, never two at once. */
static int watched_fcntl(int fd, int command, struct flock *range)
{
	unsigned inside = ++inside_sqlite;
	int r, error;

	if (inside > most_inside)
		most_inside = inside;
	sched_yield();
	r = real_fcntl(fd, command, range);
	error = errno;
	sched_yield();
	inside_sqlite--;
	errno = error;
	return r;
}

static struct witness *witness;

static void *take_turns(void *arg)
{
	struct filelock *lock;

	if (filelock_open(test_path("lock.db"), FILELOCK_READWRITE, NULL, &lock) != 0)
		return arg;
	for (unsigned i = 0; i < test_rounds(200); i++) {
		enum filelock_mode mode = i % 3 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED;

		if (filelock_acquire(lock, mode, -1) != 0)
			return arg;
		if (mode == FILELOCK_EXCLUSIVE) {
			witness_enter(witness, 1);
			sched_yield();
			witness_leave(witness, 1);
		} else {
			witness_enter_shared(witness);
			sched_yield();
			witness_leave_shared(witness);
		}
		if (filelock_release(lock) != 0)
			return arg;
	}
	filelock_close(lock);
	return NULL;
}

/* As a program may set it up, or a distribution build it: then nobody but us serialises. */
START_TEST(test_threads_exclude_each_other_where_sqlite_has_no_mutexes)
{
	pthread_t threads[THREADS];
	sqlite3_vfs *vfs;
	void *failed;

	if (test_is_in_valgrind())
		return;
	ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_SINGLETHREAD), SQLITE_OK);
	witness = test_shared(sizeof(*witness));
	(void)test_path("lock.db");
	vfs = sqlite3_vfs_find("unix");
	real_fcntl = (int (*)(int, int, ...))vfs->xGetSystemCall(vfs, "fcntl");
	ck_assert_int_eq(vfs->xSetSystemCall(vfs, "fcntl", (sqlite3_syscall_ptr)watched_fcntl),
	                 SQLITE_OK);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, &inside_sqlite), 0);
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
		ck_assert_ptr_null(failed);
	}
	ck_assert_uint_eq(witness->overlaps, 0);
	ck_assert_uint_gt(witness->entries, 0);
	ck_assert_uint_eq(most_inside, 1);
}
END_TEST

static int statfs_of_nfs(const char *path, struct statfs *ret)
{
	(void)path;
	*ret = (struct statfs){ .f_type = NFS_SUPER_MAGIC };
	return 0;
}

/* As a server forgets it that has not heard of its client for long: a close drops what the process has. */
static struct filelock *open_forgotten(enum filelock_mode mode)
{
	struct filelock *lock = open_rw(test_path("lock.db"));
	int fd;

	sys.statfs = statfs_of_nfs;
	ck_assert_int_eq(filelock_acquire(lock, mode, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	fd = open(test_path("lock.db"), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	close(fd);
	return lock;
}

/* Of another owner: an open file description. */
static int lock_for_another(int fd, short type)
{
	struct flock range = { .l_type = type, .l_whence = SEEK_SET, .l_start = SHARED_FIRST,
		               .l_len = SHARED_LAST - SHARED_FIRST + 1 };

	return fcntl(fd, F_OFD_SETLK, &range);
}

/* shows: server-asked */
START_TEST(test_lock_that_nfs_gave_to_another_is_lost)
{
	struct filelock *lock = open_forgotten((enum filelock_mode)_i);
	int fd = open(test_path("lock.db"), O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(lock_for_another(fd, F_WRLCK), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), 0);
	close(fd);
	filelock_close(lock);
}
END_TEST

/* shows: server-asked */
START_TEST(test_lock_that_nfs_forgot_and_gave_to_nobody_is_taken_again)
{
	struct filelock *lock = open_forgotten((enum filelock_mode)_i);
	int fd = open(test_path("lock.db"), O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(lock_for_another(fd, F_WRLCK), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(lock_for_another(fd, F_RDLCK), _i == FILELOCK_SHARED ? 0 : -1);
	ck_assert_int_eq(lock_for_another(fd, F_UNLCK), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(lock_for_another(fd, F_WRLCK), 0);
	close(fd);
	filelock_close(lock);
}
END_TEST

/* Where nobody answers, the names decide. */
START_TEST(test_server_that_cannot_be_asked_says_nothing)
{
	static const struct {
		enum fault_call call;
		int error;
	} cases[] = { { FAULT_open, EMFILE }, { FAULT_openat, EMFILE }, { FAULT_getdents, EIO },
		      { FAULT_fcntl_setlk, ENOLCK } };
	struct filelock *lock = open_rw(test_path("lock.db"));

	sys.statfs = statfs_of_nfs;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(cases[_i].call, 1, FAULT_FOR_GOOD, cases[_i].error);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_uint_ge(fault_hits(cases[_i].call), 1);
	fault_clear();
	filelock_close(lock);
}
END_TEST

/* shows: server-asked */
START_TEST(test_nobody_is_asked_for_the_lock_again_on_a_local_file_system)
{
	struct filelock *lock = open_rw(test_path("lock.db"));
	struct statfs fs;

	ck_assert_int_eq(statfs(test_folder(), &fs), 0);
	if (sys_is_nfs(&fs)) {
		test_skip("NFS");
		return;
	}
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_watch();
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_uint_eq(fault_calls(FAULT_fcntl_setlk), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("readwrite_files");
	TCase *tcase = tcase_create("readwrite_files");

	tcase_add_test(tcase, test_record_locks_that_exclude_nobody_are_refused);
	tcase_add_test(tcase, test_record_locks_are_tried_once_a_file_system);
	tcase_add_test(tcase, test_own_disks_are_not_tried);
	tcase_add_test(tcase, test_without_mknod_the_database_is_made_by_open);
	tcase_add_test(tcase, test_journal_beside_an_empty_database_is_no_obstacle);
	tcase_add_loop_test(tcase, test_exact_mode_goes_past_the_umask, 0, 3);
	tcase_add_loop_test(tcase, test_exact_mode_is_set_before_the_file_has_its_name, 0, 2);
	tcase_add_test(tcase, test_mode_that_cannot_be_set_is_no_obstacle);
	tcase_add_test(tcase, test_threads_exclude_each_other_where_sqlite_has_no_mutexes);
	tcase_add_loop_test(tcase, test_lock_that_nfs_gave_to_another_is_lost, 0, 2);
	tcase_add_loop_test(tcase, test_lock_that_nfs_forgot_and_gave_to_nobody_is_taken_again, 0, 2);
	tcase_add_loop_test(tcase, test_server_that_cannot_be_asked_says_nothing, 0, 4);
	tcase_add_test(tcase, test_nobody_is_asked_for_the_lock_again_on_a_local_file_system);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}

#else

int main(void)
{
	return 77;
}

#endif
