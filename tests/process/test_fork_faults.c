/* Forks where the child cannot have what it needs, and children that no handler saw. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver_private.h"
#include "softly.h"
#include "support.h"
#include "base/sys.h"

#ifdef FILELOCK_SQLITE
#include <sqlite3.h>
#endif

/* One that an event loop may have registered. */
static struct filelock_guarded_fd timer;

static int guard_timer(void)
{
	ck_assert_int_eq(filelock_guard_timerfd(&timer), 0);
	return timer.fd;
}

static int is_open(void *arg)
{
	return fcntl(*(int *)arg, F_GETFD) >= 0;
}

START_TEST(test_child_keeps_the_number_of_a_descriptor_that_a_loop_may_know)
{
	int fd = guard_timer();

	ck_assert_int_eq(test_in_child(is_open, &fd), 1);
	filelock_unguard_fd(&timer);
}
END_TEST

START_TEST(test_child_without_an_idle_descriptor_closes_its_copy)
{
	int fd = guard_timer();

	fault_set(FAULT_eventfd, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(test_in_child(is_open, &fd), 0);
	fault_clear();
	fault_set(FAULT_dup3, 1, FAULT_FOR_GOOD, EBUSY);
	ck_assert_int_eq(test_in_child(is_open, &fd), 0);
	fault_clear();
	ck_assert(is_open(&fd));
	filelock_unguard_fd(&timer);
}
END_TEST

START_TEST(test_child_of_a_bare_clone_that_exits_removes_no_marker)
{
	struct filelock *lock;
	pid_t pid;

	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_SOFT, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		exit(0);
	ck_assert_int_eq(test_reap(pid), 0);
	ck_assert(exists(test_path("lock")));
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

static struct {
	int begun[2], go_on[2]; /* pipes */
	struct filelock *lock;
	bool over;
	int result;
} stuck;

/* Tries to open its lock file just before the process is cloned. */
static struct {
	struct filelock *lock;
	_Atomic pid_t thread;
	_Atomic bool may_go, begun;
	bool in_time;
} late;

/* No check in here nor in what calls it: what Check keeps for a thread would be lost in the child. */
static void get_stuck(void)
{
	char byte;

	stuck.over = true;
	if (write(stuck.begun[1], "", 1) != 1 || read(stuck.go_on[0], &byte, 1) != 1)
		abort();
}

/* Once, as on a mount that is dead. */
static int open_stuck(const char *path, int flags, mode_t mode)
{
	if (late.lock && strcmp(path, filelock_path(late.lock)) == 0)
		late.begun = true;
	else if (!stuck.over && strcmp(path, filelock_path(stuck.lock)) == 0)
		get_stuck();
	return open(path, flags, mode);
}

static void *acquire_stuck(void *arg)
{
	stuck.result = filelock_acquire(stuck.lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	return arg;
}

static int lock_in_child(void *arg)
{
	struct filelock *lock = test_open(arg, NULL);
	int r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return -r;
}

/* Returns once a thread is inside open(2). */
static pthread_t begin_stuck(const char *path, enum filelock_kind kind)
{
	pthread_t thread;
	char byte;

	ck_assert_int_eq(pipe2(stuck.begun, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(stuck.go_on, O_CLOEXEC), 0);
	ck_assert_int_eq(filelock_open(path, kind, NULL, &stuck.lock), 0);
	sys.open = open_stuck;
	ck_assert_int_eq(pthread_create(&thread, NULL, acquire_stuck, NULL), 0);
	ck_assert_int_eq(read(stuck.begun[0], &byte, 1), 1);
	return thread;
}

static void end_stuck(pthread_t thread)
{
	ck_assert_int_eq(write(stuck.go_on[1], "", 1), 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(stuck.result, 0);
}

/* shows: fork-gate */
START_TEST(test_fork_goes_on_beside_an_open_that_is_stuck)
{
	const char *other = test_path("other");
	pthread_t thread = begin_stuck(test_path("lock"), FILELOCK_NATIVE);

	ck_assert_int_eq(test_in_child(lock_in_child, (void *)other), 0);
	end_stuck(thread);
	/* and keeps opens out again, and lets them in */
	ck_assert_int_eq(test_in_child(lock_in_child, (void *)test_path("lock")), ETIMEDOUT);
	ck_assert_int_eq(lock_in_child((void *)other), 0);
	filelock_close(stuck.lock);
}
END_TEST

static void *acquire_late(void *arg)
{
	late.thread = (pid_t)syscall(SYS_gettid);
	await(late.may_go);
	ck_assert_int_eq(filelock_acquire(late.lock, FILELOCK_EXCLUSIVE, 0), 0);
	return arg;
}

static void let_late_open(void)
{
	if (!late.lock)
		return;
	late.may_go = true;
	await(late.begun || test_waits_for_a_mutex(late.thread));
	late.in_time = late.begun;
}

/* Handlers of what comes before a fork run in the reverse order: this one after the library's. */
__attribute__((constructor(101))) static void install_first(void)
{
	(void)pthread_atfork(let_late_open, NULL, NULL);
}

static int nap_by_the_clock(const struct timespec *time, struct timespec *ret_rest)
{
	(void)ret_rest;
	clock_advance(time->tv_nsec);
	return 0;
}

/* Its descriptor would be in the child, and the lock with it. */
/* shows: dead-parent-frees */
START_TEST(test_no_open_begins_in_a_fork_that_has_waited_in_vain_for_another)
{
	pthread_t thread, other;

	if (!test_knows_waits())
		return;
	clock_fake(SECONDS);
	sys.nanosleep = nap_by_the_clock;
	thread = begin_stuck(test_path("lock"), FILELOCK_NATIVE);
	late.lock = test_open(test_path("late"), NULL);
	ck_assert_int_eq(pthread_create(&other, NULL, acquire_late, NULL), 0);
	await(late.thread > 0);
	(void)test_in_child(is_open, &stuck.begun[0]);
	ck_assert_int_eq(pthread_join(other, NULL), 0);
	ck_assert(late.begun && !late.in_time);
	end_stuck(thread);
	filelock_close(stuck.lock);
	filelock_close(late.lock);
}
END_TEST

/* Acquired by another thread while a fork waits for an open that is stuck. */
static struct {
	struct filelock *lock;
	pthread_t thread;
	_Atomic bool done;
} beside;

static void *acquire_beside(void *arg)
{
	ck_assert_int_eq(filelock_acquire(beside.lock, FILELOCK_EXCLUSIVE, 0), 0);
	beside.done = true;
	return arg;
}

/* Between two looks nothing has to change; when it naps for longer it has opened the gate. */
static int nap_until_it_is_done(const struct timespec *time, struct timespec *ret_rest)
{
	static long shortest;

	if (!shortest) {
		shortest = time->tv_nsec;
		if (pthread_create(&beside.thread, NULL, acquire_beside, NULL) != 0)
			abort();
	}
	if (time->tv_nsec > shortest)
		await(beside.done);
	return nap_by_the_clock(time, ret_rest);
}

static int is_done(void *arg)
{
	(void)arg;
	return beside.done;
}

/* shows: fork-gate */
START_TEST(test_fork_that_waits_for_an_open_that_is_stuck_lets_others_go_on)
{
	pthread_t thread;

	clock_fake(SECONDS);
	thread = begin_stuck(test_path("lock"), FILELOCK_NATIVE);
	sys.nanosleep = nap_until_it_is_done;
	beside.lock = test_open(test_path("beside"), NULL);
	ck_assert_int_eq(test_in_child(is_done, NULL), 1);
	ck_assert_int_eq(pthread_join(beside.thread, NULL), 0);
	end_stuck(thread);
	filelock_close(stuck.lock);
	filelock_close(beside.lock);
}
END_TEST

#ifdef FILELOCK_SQLITE

static int open_stuck_in_sqlite(const char *path, int flags, int mode)
{
	return open_stuck(path, flags, (mode_t)mode);
}

/* 0, or 1 where the database is refused. */
static int use_database(void *arg)
{
	struct filelock *lock;
	int r = filelock_open(arg, FILELOCK_READWRITE, NULL, &lock);

	if (r < 0)
		return 2;
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	filelock_close(lock);
	return r == 0 ? 0 : r == FILELOCK_EFORKED_DATABASE ? 1 : 3;
}

/* And its child, and native locks there. */
static int use_database_in_grandchild(void *arg)
{
	pid_t pid = test_fork(use_database, arg);

	if (lock_in_child((void *)test_path("native")) != 0)
		return 4;
	return use_database(arg) == 1 && test_reap(pid) == 1 ? 1 : 5;
}

/* shows: workers child-opens-anew */
START_TEST(test_fork_goes_on_beside_sqlite_that_is_stuck_and_the_child_has_no_database)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
	char *other = (char *)test_path("other.db");
	pthread_t thread;

	if (test_is_in_valgrind())
		return;
	ck_assert_int_eq(vfs->xSetSystemCall(vfs, "open",
	                                     (sqlite3_syscall_ptr)open_stuck_in_sqlite),
	                 SQLITE_OK);
	thread = begin_stuck(test_path("lock.db"), FILELOCK_READWRITE);
	clock_fake(SECONDS);
	sys.nanosleep = nap_by_the_clock;
	ck_assert_int_eq(test_in_child(use_database_in_grandchild, other), 1);
	end_stuck(thread);
	ck_assert_int_eq(test_in_child(use_database, other), 0);
	ck_assert_int_eq(filelock_release(stuck.lock), 0);
	ck_assert_int_eq(use_database((char *)test_path("lock.db")), 0);
	filelock_close(stuck.lock);
}
END_TEST

#endif

int main(void)
{
	Suite *suite = SUITE(
	        "fork faults", test_child_keeps_the_number_of_a_descriptor_that_a_loop_may_know,
	        test_child_without_an_idle_descriptor_closes_its_copy,
	        test_child_of_a_bare_clone_that_exits_removes_no_marker,
	        test_fork_goes_on_beside_an_open_that_is_stuck,
	        test_no_open_begins_in_a_fork_that_has_waited_in_vain_for_another,
	        test_fork_that_waits_for_an_open_that_is_stuck_lets_others_go_on);
#ifdef FILELOCK_SQLITE
	TCase *sqlite = tcase_create("SQLite");

	tcase_add_test(sqlite,
	               test_fork_goes_on_beside_sqlite_that_is_stuck_and_the_child_has_no_database);
	suite_add_tcase(suite, sqlite);
#endif
	return support_main(suite);
}
