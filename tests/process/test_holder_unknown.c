/* Where it cannot be known who holds the lock: said so, never "nobody". */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinds/holder.h"
#include "support.h"

static struct filelock *lock;

static int lock_and_leave(void *arg)
{
	return flock(*(int *)arg, LOCK_EX);
}

/* The locker is gone, its description lives on in another process: the pid is nobody's. */
START_TEST(test_lock_that_outlives_its_locker_has_an_unknown_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(test_in_child(lock_and_leave, &fd), 0);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	filelock_close(lock);
	close(fd);
}
END_TEST

/* The same while the locker is a zombie, which kill(2) still finds. */
START_TEST(test_zombie_is_no_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	pid_t pid = test_fork(lock_and_leave, &fd);
	siginfo_t info;

	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	filelock_close(lock);
	close(fd);
	test_reap(pid);
}
END_TEST

static const struct {
	enum fault_call call;
	int error, expected;
} unreadable[] = {
	{ FAULT_open, ENOENT, FILELOCK_EUNKNOWNHOLDER }, /* no /proc */
	{ FAULT_open, EACCES, FILELOCK_EUNKNOWNHOLDER },
	{ FAULT_open, EMFILE, -EMFILE },
	{ FAULT_statfs, ENOENT, FILELOCK_EUNKNOWNHOLDER },
	{ FAULT_readlink, ENOENT, FILELOCK_EUNKNOWNHOLDER },
	{ FAULT_fstat, EIO, -EIO },
	{ FAULT_read, EIO, FILELOCK_EUNKNOWNHOLDER },
};
enum { UNREADABLE = sizeof(unreadable) / sizeof(unreadable[0]) };

START_TEST(test_unreadable_proc_is_an_unknown_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	unsigned descriptors = test_descriptors();
	struct peer holder;
	int fd;

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	fd = open(test_path("lock"), O_RDONLY | O_CLOEXEC);
	fault_set(unreadable[_i].call, 1, FAULT_FOR_GOOD, unreadable[_i].error);
	ck_assert_int_eq(holder_of_flock(fd, &owner), unreadable[_i].expected);
	fault_clear();
	ck_assert_int_eq(holder_of_flock(fd, &owner), 0);
	close(fd);
	peer_stop(&holder);
	ck_assert_uint_eq(test_descriptors(), descriptors);
}
END_TEST

/* Each single failure on the way: a holder, an error or "unknown", never "nobody". */
START_TEST(test_no_single_failure_makes_a_held_lock_free)
{
	struct peer holder;
	int fd;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	fd = open(test_path("lock"), O_RDONLY | O_CLOEXEC);
	for (int call = 0; call < FAULT_COUNT; call++) {
		unsigned nth = 0, hits;

		do {
			struct filelock_owner owner = FILELOCK_OWNER_INIT;
			int r;

			fault_set((enum fault_call)call, ++nth, FAULT_ONCE, EACCES);
			r = holder_of_flock(fd, &owner);
			hits = fault_hits((enum fault_call)call);
			ck_assert_msg(r != FILELOCK_ENOHOLDER, "%s %u",
			              fault_name((enum fault_call)call), nth);
			if (r == 0)
				ck_assert_int_eq(owner.pid, holder.pid);
		} while (hits > 0);
	}
	close(fd);
	peer_stop(&holder);
}
END_TEST

static int find_nobody_in_namespace(void *arg)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	char sentence[64];

	(void)arg;
	if (mount("proc", "/proc", "proc", 0, NULL) < 0)
		return 77;
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_describe_holder(lock, sentence, sizeof(sentence)),
	                 FILELOCK_EUNKNOWNHOLDER);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock),
	                             filelock_strerror(FILELOCK_EUNKNOWNHOLDER)));
	return 0;
}

static int enter_namespace(void *arg)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWPID) < 0 ||
	    mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
		return 77;
	return test_in_child(find_nobody_in_namespace, arg);
}

START_TEST(test_holder_in_another_pid_namespace_is_unknown)
{
	struct peer holder;
	int status;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	status = test_in_child(enter_namespace, NULL);
	if (status == 77)
		test_skip("no PID namespace of one's own here");
	else
		ck_assert_int_eq(status, 0);
	peer_stop(&holder);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("unknown holder",
	                     test_lock_that_outlives_its_locker_has_an_unknown_holder,
	                     test_zombie_is_no_holder,
	                     test_no_single_failure_makes_a_held_lock_free,
	                     test_holder_in_another_pid_namespace_is_unknown);
	TCase *each = tcase_create("each");

	tcase_add_loop_test(each, test_unreadable_proc_is_an_unknown_holder, 0, UNREADABLE);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
