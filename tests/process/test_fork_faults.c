/* Forks where the child cannot have what it needs, and children that no handler saw. */
#include <errno.h>
#include <fcntl.h>
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

int main(void)
{
	return support_main(SUITE("fork faults",
	                          test_child_keeps_the_number_of_a_descriptor_that_a_loop_may_know,
	                          test_child_without_an_idle_descriptor_closes_its_copy,
	                          test_child_of_a_bare_clone_that_exits_removes_no_marker));
}
