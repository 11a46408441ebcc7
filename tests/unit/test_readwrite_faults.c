/* Read/write locks when calls fail: the library's own, SQLite's, and allocations of both. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "driver_private.h"
#include "support.h"
#include "base/sys.h"

#ifdef FILELOCK_SQLITE

#include <sqlite3.h>

static char path[512];
static struct peer other; /* sees whether anything was left locked */

static void set_up(void)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("a/lock.db"));
	peer_start(&other);
	ck_assert_int_eq(peer_open(&other, path, NULL), 0);
}

static void check_all_is_free(void)
{
	ck_assert_int_eq(peer_acquire(&other, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(peer_release(&other), 0);
}

static void no_preparation(void)
{
}

/* One cycle of a new handle; the result of the acquisition. */
static int prepared_cycle(enum filelock_mode mode, void (*prepare)(void))
{
	struct filelock *lock = test_open(path, NULL);
	int r;

	prepare();
	r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);
	if (r == 0)
		ck_assert_int_eq(filelock_release(lock), 0);
	else
		ck_assert_str_ne(filelock_last_error(lock), "");
	filelock_close(lock);
	return r;
}

static int cycle(enum filelock_mode mode)
{
	return prepared_cycle(mode, no_preparation);
}

/* --- the library's own calls --- */

static const struct fault_case {
	enum fault_call call;
	int error;
	bool fatal; /* else it may do without */
} faults[] = {
	{ FAULT_lstat, EIO, true },       { FAULT_lstat, EACCES, true },
	{ FAULT_lstat, ESTALE, true },    { FAULT_mknod, ENOSPC, true },
	{ FAULT_mknod, EROFS, true },     { FAULT_mknod, EDQUOT, true },
	{ FAULT_mkdir, ENOSPC, false },   { FAULT_realpath, ENOMEM, true },
	{ FAULT_calloc, ENOMEM, true },   { FAULT_utimensat, EPERM, false },
	{ FAULT_utimensat, EIO, false },  { FAULT_realpath, EACCES, true },
};

static const struct fault_case *fault_now;
static unsigned fault_nth;

static void prepare_fault(void)
{
	fault_set(fault_now->call, fault_nth, FAULT_ONCE, fault_now->error);
}

/* Each call of a cycle in turn: the error, and nothing is left behind. */
/* shows: errors */
START_TEST(test_failing_call_is_its_error_and_leaves_nothing)
{
	unsigned hit = 1;

	fault_now = &faults[_i];
	set_up();
	fault_watch();
	for (fault_nth = 1; hit; fault_nth++) {
		unsigned before = test_descriptors();
		int r;

		(void)unlink(path);
		(void)rmdir(test_path("a"));
		r = prepared_cycle(fault_nth % 2 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED,
		                   prepare_fault);
		hit = fault_hits(fault_now->call);
		fault_clear();
		if (r != 0 || (hit && fault_now->fatal))
			ck_assert_int_eq(r, -fault_now->error);
		ck_assert_uint_eq(test_descriptors(), before);
		ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), 0);
		check_all_is_free();
		ck_assert_uint_lt(fault_nth, 50);
	}
	peer_stop(&other);
}
END_TEST

/* --- SQLite's own --- */

#define RESERVED_BYTE 0x40000001 /* and the range behind it is SHARED */
#define SHARED_SIZE 510

static struct {
	unsigned nth; /* 0: none */
	bool for_good;
	int operation; /* of fcntl(2) */
	short type; /* of lock; -1: any */
	int error;
	unsigned count, hits;
} strike;

static int (*real_fcntl)(int fd, int operation, ...);
static void (*before_reserved)(void); /* called once */
static int (*real_open)(const char *name, int flags, int mode);

static bool strikes(void)
{
	strike.count++;
	if (strike.nth == 0 || strike.count < strike.nth ||
	    (strike.count > strike.nth && !strike.for_good))
		return false;
	strike.hits++;
	errno = strike.error;
	return true;
}

static int failing_fcntl(int fd, int operation, ...)
{
	struct flock *lock;
	va_list arguments;

	va_start(arguments, operation);
	lock = va_arg(arguments, struct flock *);
	va_end(arguments);
	if (before_reserved && operation == F_SETLK && lock->l_start == RESERVED_BYTE) {
		before_reserved();
		before_reserved = NULL;
	}
	if (operation == strike.operation && (strike.type < 0 || lock->l_type == strike.type) && strikes())
		return -1;
	return real_fcntl(fd, operation, lock);
}

static int failing_open(const char *name, int flags, int mode)
{
	return strikes() ? -1 : real_open(name, flags, mode);
}

static void replace(const char *name, sqlite3_syscall_ptr by, sqlite3_syscall_ptr *ret_real)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

	*ret_real = vfs->xGetSystemCall(vfs, name);
	ck_assert_int_eq(vfs->xSetSystemCall(vfs, name, by), SQLITE_OK);
}

static void set_strike(unsigned nth, bool for_good, short type, int error)
{
	strike.nth = nth;
	strike.for_good = for_good;
	strike.operation = F_SETLK;
	strike.type = type;
	strike.error = error;
	strike.count = strike.hits = 0;
}

static const struct {
	int error;  /* of fcntl(2) */
	int result; /* of the acquisition */
} lock_errors[] = {
	{ EIO, -EIO }, { ENOLCK, -ENOLCK }, { EAGAIN, -ETIMEDOUT }, { EACCES, -ETIMEDOUT },
	{ EINTR, 0 },  { EBADF, -EBADF },   { EOPNOTSUPP, -EOPNOTSUPP },
};

/* shows: errors eintr */
START_TEST(test_failing_record_lock_is_its_error_and_leaves_nothing)
{
	set_up();
	replace("fcntl", (sqlite3_syscall_ptr)failing_fcntl, (sqlite3_syscall_ptr *)&real_fcntl);
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		unsigned hits = 1;

		for (unsigned nth = 1; hits; nth++) {
			int r;

			set_strike(nth, false, mode == FILELOCK_SHARED ? F_RDLCK : F_WRLCK,
			           lock_errors[_i].error);
			r = cycle((enum filelock_mode)mode);
			hits = strike.hits;
			set_strike(0, false, 0, 0);
			ck_assert_int_eq(r, hits ? lock_errors[_i].result : 0);
			check_all_is_free();
		}
	}
	peer_stop(&other);
}
END_TEST

START_TEST(test_error_of_sqlite_comes_with_its_words)
{
	struct filelock *lock;

	set_up();
	replace("fcntl", (sqlite3_syscall_ptr)failing_fcntl, (sqlite3_syscall_ptr *)&real_fcntl);
	lock = test_open(path, NULL);
	set_strike(1, true, -1, EIO);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, FILELOCK_WAIT_FOREVER), -EIO);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "disk I/O error"));
	set_strike(0, false, 0, 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	filelock_close(lock);
	peer_stop(&other);
}
END_TEST

/* The connection is closed instead, which drops the lock. */
/* shows: failed-unlock */
START_TEST(test_failing_unlock_is_a_release_all_the_same)
{
	struct filelock *lock;

	set_up();
	replace("fcntl", (sqlite3_syscall_ptr)failing_fcntl, (sqlite3_syscall_ptr *)&real_fcntl);
	lock = test_open(path, NULL);
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		ck_assert_int_eq(filelock_acquire(lock, (enum filelock_mode)mode, 0), 0);
		set_strike(1, false, F_UNLCK, EIO);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_uint_eq(strike.hits, 1);
		set_strike(0, false, 0, 0);
		ck_assert(!filelock_is_held(lock));
		check_all_is_free();
	}
	filelock_close(lock);
	peer_stop(&other);
}
END_TEST

/* shows: errors */
START_TEST(test_failing_open_of_sqlite_is_its_error)
{
	static const int errors[] = { EMFILE, ENFILE, EIO, ENOMEM };
	unsigned before;

	set_up();
	replace("open", (sqlite3_syscall_ptr)failing_open, (sqlite3_syscall_ptr *)&real_open);
	before = test_descriptors();
	for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
		set_strike(1, true, -1, errors[i]);
		ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), -errors[i]);
		set_strike(0, false, 0, 0);
		ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), 0);
	}
	ck_assert_uint_eq(test_descriptors(), before);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

/* As if a writer waited: a reader too many would keep it out, one too few costs time. */
START_TEST(test_reader_that_cannot_ask_for_a_writer_waits_for_it)
{
	struct filelock *reader, *lock;

	set_up();
	replace("fcntl", (sqlite3_syscall_ptr)failing_fcntl, (sqlite3_syscall_ptr *)&real_fcntl);
	reader = test_open(path, NULL);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(reader, FILELOCK_SHARED, 0), 0);
	set_strike(1, true, -1, EIO);
	strike.operation = F_GETLK;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), -ETIMEDOUT);
	ck_assert_uint_ge(strike.hits, 1);
	set_strike(0, false, 0, 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	filelock_close(lock);
	filelock_close(reader);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

/* In a peer: what a stranger has of the file. */
static int set_record(short type, off_t start, off_t length)
{
	static int fd = -1;
	struct flock record = { .l_type = type, .l_start = start, .l_len = length };

	if (fd < 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	return fcntl(fd, F_SETLK, &record);
}

static int reserve(void *arg)
{
	(void)arg;
	return set_record(F_WRLCK, RESERVED_BYTE, 1);
}

static int have_all_for_a_moment(void *arg)
{
	(void)arg;
	return set_record(F_WRLCK, RESERVED_BYTE + 1, SHARED_SIZE) |
	       set_record(F_UNLCK, RESERVED_BYTE + 1, SHARED_SIZE);
}

static int unreserve(void *arg)
{
	(void)arg;
	return set_record(F_UNLCK, RESERVED_BYTE, 1);
}

static int step(struct filelock *lock)
{
	int64_t until;

	filelock_hasten(lock);
	return filelock_step(lock, filelock_now(), &until);
}

/* Its SHARED must go, or the writer that has RESERVED would wait for it. */
START_TEST(test_writer_refused_reserved_that_cannot_unlock_closes_and_waits_on)
{
	struct filelock *lock;

	set_up();
	replace("fcntl", (sqlite3_syscall_ptr)failing_fcntl, (sqlite3_syscall_ptr *)&real_fcntl);
	ck_assert_int_eq(cycle(FILELOCK_SHARED), 0);
	ck_assert_int_eq(peer_call(&other, reserve, NULL), 0);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_begin(lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, NULL, NULL), 0);
	ck_assert_int_eq(step(lock), FILELOCK_STEP_WAIT);
	set_strike(2, false, F_UNLCK, EIO); /* the first: of PENDING, on the way to SHARED */
	ck_assert_int_eq(step(lock), FILELOCK_STEP_WAIT);
	ck_assert_uint_eq(strike.hits, 1);
	set_strike(0, false, 0, 0);
	ck_assert_int_eq(peer_call(&other, have_all_for_a_moment, NULL), 0);
	ck_assert_int_eq(step(lock), FILELOCK_STEP_WAIT);
	ck_assert_int_eq(peer_call(&other, unreserve, NULL), 0);
	ck_assert_int_eq(step(lock), FILELOCK_STEP_HELD);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
	peer_stop(&other);
}
END_TEST

static unsigned denials; /* opens yet to be refused: for want of a descriptor, or for writing */
static bool is_scarce;

static int denying_open(const char *name, int flags, int mode)
{
	if (denials == 0 || (!is_scarce && (flags & O_ACCMODE) != O_RDWR))
		return real_open(name, flags, mode);
	denials--;
	errno = is_scarce ? EMFILE : EACCES;
	return -1;
}

/* It rests with the other handle, until somebody needs its descriptor. */
START_TEST(test_connection_that_came_back_for_a_passed_hold_may_be_closed)
{
	struct filelock *from, *to, *third;
	int64_t until;

	set_up();
	replace("open", (sqlite3_syscall_ptr)denying_open, (sqlite3_syscall_ptr *)&real_open);
	from = test_open(path, NULL);
	to = test_open(path, NULL);
	third = test_open(test_path("third.db"), NULL);
	ck_assert_int_eq(filelock_acquire(to, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(to), 0);
	ck_assert_int_eq(filelock_acquire(from, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_begin(to, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, NULL, NULL), 0);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_int_eq(filelock_step(to, filelock_now(), &until), FILELOCK_STEP_HELD);
	is_scarce = true;
	denials = 2; /* SQLite tries to open it for reading, too */
	ck_assert_int_eq(filelock_acquire(third, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(denials, 0);
	ck_assert_int_eq(filelock_acquire(from, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_verify(to), 0);
	ck_assert_int_eq(filelock_release(to), 0);
	ck_assert_int_eq(filelock_acquire(from, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(from);
	filelock_close(to);
	filelock_close(third);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

/* --- what is in the file --- */

static char journal[600];

static void put_database(void)
{
	FILE *file = fopen(path, "we");

	ck_assert_uint_eq(fwrite("SQLite format 3\0\020\0\1\1", 1, 20, file), 20);
	ck_assert_int_eq(fclose(file), 0);
}

static void kill_the_writer(void)
{
	peer_kill(&other, SIGKILL);
}

/* While it lived its journal was no obstacle. */
START_TEST(test_journal_of_a_writer_that_died_just_before_our_turn_is_refused)
{
	set_up();
	replace("fcntl", (sqlite3_syscall_ptr)failing_fcntl, (sqlite3_syscall_ptr *)&real_fcntl);
	ck_assert_int_eq(cycle(FILELOCK_SHARED), 0);
	put_database();
	(void)snprintf(journal, sizeof(journal), "%s-journal", path);
	test_write_file(journal, "of a transaction");
	ck_assert_int_eq(peer_call(&other, reserve, NULL), 0);
	before_reserved = kill_the_writer;
	ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), FILELOCK_EJOURNAL);
	ck_assert(!before_reserved);
	ck_assert_int_eq(unlink(journal), 0);
	ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), 0);
}
END_TEST

/* Opening a database reads its whole header, of 100 bytes. */
static bool is_our_read(size_t size)
{
	if (size > 20)
		return false;
	strike.hits++;
	errno = EIO;
	return true;
}

static ssize_t failing_read(int fd, void *buffer, size_t size)
{
	return is_our_read(size) ? -1 : read(fd, buffer, size);
}

static ssize_t failing_pread(int fd, void *buffer, size_t size, off_t at)
{
	return is_our_read(size) ? -1 : pread(fd, buffer, size, at);
}

/* By which of the calls SQLite reads depends on how it was built. */
static void replace_reads(void)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

	(void)vfs->xSetSystemCall(vfs, "read", (sqlite3_syscall_ptr)failing_read);
	(void)vfs->xSetSystemCall(vfs, "pread", (sqlite3_syscall_ptr)failing_pread);
	(void)vfs->xSetSystemCall(vfs, "pread64", (sqlite3_syscall_ptr)failing_pread);
}

START_TEST(test_database_that_cannot_be_read_is_an_error_and_leaves_nothing)
{
	struct filelock *lock;
	unsigned before;

	set_up();
	ck_assert_int_eq(cycle(FILELOCK_SHARED), 0);
	put_database();
	before = test_descriptors();
	replace_reads();
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		lock = test_open(path, NULL);
		ck_assert_int_eq(filelock_acquire(lock, (enum filelock_mode)mode, -1), -EIO);
		ck_assert_msg(strstr(filelock_last_error(lock), "cannot read") != NULL, "%s",
		              filelock_last_error(lock));
		filelock_close(lock);
	}
	ck_assert_uint_ge(strike.hits, 2);
	ck_assert_uint_eq(test_descriptors(), before);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

/* --- a database that we may only read --- */

static struct filelock *open_denied(unsigned count)
{
	set_up();
	ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), 0);
	replace("open", (sqlite3_syscall_ptr)denying_open, (sqlite3_syscall_ptr *)&real_open);
	denials = count;
	return test_open(path, NULL);
}

static int (*real_statfs)(const char *name, struct statfs *ret);

static int say_read_only(const char *name, struct statfs *ret)
{
	int r = real_statfs(name, ret);

	ret->f_flags |= ST_RDONLY;
	return r;
}

START_TEST(test_writing_to_what_may_only_be_read_says_why)
{
	struct filelock *lock = open_denied(UINT_MAX);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EACCES);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "read-only"));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	fault_set(FAULT_statfs, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EACCES);
	real_statfs = sys.statfs;
	sys.statfs = say_read_only;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EROFS);
	filelock_close(lock);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

START_TEST(test_file_that_could_not_be_written_for_a_moment_is_locked_exclusively)
{
	struct filelock *lock = open_denied(1);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(denials, 0);
	filelock_close(lock);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

START_TEST(test_file_that_may_be_written_since_it_was_read_is_locked_exclusively)
{
	struct filelock *lock = open_denied(UINT_MAX);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	denials = 0;
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	check_all_is_free();
	peer_stop(&other);
}
END_TEST

static sqlite3_mem_methods real_memory;

static void *failing_malloc(int size)
{
	return strikes() ? NULL : real_memory.xMalloc(size);
}

static void *failing_realloc(void *memory, int size)
{
	return strikes() ? NULL : real_memory.xRealloc(memory, size);
}

/* shows: no-memory */
START_TEST(test_each_allocation_of_sqlite_may_fail)
{
	sqlite3_mem_methods methods;
	unsigned before, failed = 0;

	ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_memory), SQLITE_OK);
	methods = real_memory;
	methods.xMalloc = failing_malloc;
	methods.xRealloc = failing_realloc;
	ck_assert_int_eq(sqlite3_config(SQLITE_CONFIG_MALLOC, &methods), SQLITE_OK);
	set_up();
	before = test_descriptors();
	for (unsigned nth = 1, hits = 1; hits; nth++) {
		int r;

		set_strike(nth, _i != 0, -1, ENOMEM);
		r = cycle(nth % 2 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED);
		hits = strike.hits;
		set_strike(0, false, 0, 0);
		ck_assert(r == 0 || (hits && r == -ENOMEM));
		failed += r != 0;
		ck_assert_uint_eq(test_descriptors(), before);
		ck_assert_int_eq(cycle(FILELOCK_EXCLUSIVE), 0);
		check_all_is_free();
	}
	ck_assert_uint_gt(failed, 5);
	peer_stop(&other);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("readwrite faults", test_error_of_sqlite_comes_with_its_words,
	                     test_failing_unlock_is_a_release_all_the_same,
	                     test_failing_open_of_sqlite_is_its_error,
	                     test_reader_that_cannot_ask_for_a_writer_waits_for_it,
	                     test_writer_refused_reserved_that_cannot_unlock_closes_and_waits_on,
	                     test_connection_that_came_back_for_a_passed_hold_may_be_closed,
	                     test_journal_of_a_writer_that_died_just_before_our_turn_is_refused,
	                     test_database_that_cannot_be_read_is_an_error_and_leaves_nothing,
	                     test_writing_to_what_may_only_be_read_says_why,
	                     test_file_that_could_not_be_written_for_a_moment_is_locked_exclusively,
	                     test_file_that_may_be_written_since_it_was_read_is_locked_exclusively);
	TCase *each = tcase_create("each call");

	(void)setenv("FILELOCK_TEST_KIND", "readwrite", 1);
	tcase_add_loop_test(each, test_failing_call_is_its_error_and_leaves_nothing, 0,
	                    sizeof(faults) / sizeof(*faults));
	tcase_add_loop_test(each, test_failing_record_lock_is_its_error_and_leaves_nothing, 0,
	                    sizeof(lock_errors) / sizeof(*lock_errors));
	tcase_add_loop_test(each, test_each_allocation_of_sqlite_may_fail, 0, 2);
	suite_add_tcase(suite, each);
	return support_main(suite);
}

#else

int main(void)
{
	return 77;
}

#endif
