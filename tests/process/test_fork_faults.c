/* Forks where the child cannot have what it needs, and children that no handler saw. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <filelock/driver.h>

#include "softly.h"
#include "support.h"
#include "sys.h"

/* A watcher with a descriptor, which an event loop may have registered. */
static struct filelock_watcher *watcher_with_timer(int *ret_fd)
{
	struct filelock_watcher *watcher;

	ck_assert_int_eq(filelock_watcher_new(&watcher), 0);
	*ret_fd = filelock_watcher_set_timer(watcher, filelock_now() + 3600 * SECONDS);
	ck_assert_int_ge(*ret_fd, 0);
	return watcher;
}

static int is_open(void *arg)
{
	return fcntl(*(int *)arg, F_GETFD) >= 0;
}

START_TEST(test_child_keeps_the_number_of_a_descriptor_that_a_loop_may_know)
{
	int fd;
	struct filelock_watcher *watcher = watcher_with_timer(&fd);

	ck_assert_int_eq(test_in_child(is_open, &fd), 1);
	filelock_watcher_free(watcher);
}
END_TEST

START_TEST(test_child_without_an_idle_descriptor_closes_its_copy)
{
	int fd;
	struct filelock_watcher *watcher = watcher_with_timer(&fd);

	fault_set(FAULT_eventfd, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(test_in_child(is_open, &fd), 0);
	fault_clear();
	fault_set(FAULT_dup3, 1, FAULT_FOR_GOOD, EBUSY);
	ck_assert_int_eq(test_in_child(is_open, &fd), 0);
	fault_clear();
	ck_assert(is_open(&fd));
	filelock_watcher_free(watcher);
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

/* Once, as on a mount that is dead. */
static int open_stuck(const char *path, int flags, mode_t mode)
{
	char byte;

	if (!stuck.over && strcmp(path, filelock_path(stuck.lock)) == 0) {
		stuck.over = true;
		/* no check in here: what Check keeps for a thread would be lost in the child */
		if (write(stuck.begun[1], "", 1) != 1 || read(stuck.go_on[0], &byte, 1) != 1)
			abort();
	}
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

START_TEST(test_fork_goes_on_beside_an_open_that_is_stuck)
{
	const char *other = test_path("other");
	pthread_t thread;
	char byte;

	ck_assert_int_eq(pipe2(stuck.begun, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(stuck.go_on, O_CLOEXEC), 0);
	stuck.lock = test_open(test_path("lock"), NULL);
	sys.open = open_stuck;
	ck_assert_int_eq(pthread_create(&thread, NULL, acquire_stuck, NULL), 0);
	ck_assert_int_eq(read(stuck.begun[0], &byte, 1), 1);
	ck_assert_int_eq(test_in_child(lock_in_child, (void *)other), 0);
	ck_assert_int_eq(write(stuck.go_on[1], "", 1), 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(stuck.result, 0);
	/* and keeps opens out again, and lets them in */
	ck_assert_int_eq(test_in_child(lock_in_child, (void *)test_path("lock")), ETIMEDOUT);
	ck_assert_int_eq(lock_in_child((void *)other), 0);
	filelock_close(stuck.lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE("fork faults",
	                          test_child_keeps_the_number_of_a_descriptor_that_a_loop_may_know,
	                          test_child_without_an_idle_descriptor_closes_its_copy,
	                          test_child_of_a_bare_clone_that_exits_removes_no_marker,
	                          test_fork_goes_on_beside_an_open_that_is_stuck));
}
