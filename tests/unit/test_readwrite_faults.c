/* Read/write locks when calls fail: the library's own, SQLite's, and allocations of both. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

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

static struct {
	unsigned nth; /* 0: none */
	bool for_good;
	short type; /* of lock; -1: any */
	int error;
	unsigned count, hits;
} strike;

static int (*real_fcntl)(int fd, int operation, ...);
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
	if (operation == F_SETLK && (strike.type < 0 || lock->l_type == strike.type) && strikes())
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

static sqlite3_mem_methods real_memory;

static void *failing_malloc(int size)
{
	return strikes() ? NULL : real_memory.xMalloc(size);
}

static void *failing_realloc(void *memory, int size)
{
	return strikes() ? NULL : real_memory.xRealloc(memory, size);
}

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
	                     test_failing_open_of_sqlite_is_its_error);
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
