/*
 * Leases, strict and soft read/write locks with a holder in another PID namespace, as in two
 * containers with one folder and one host name: its pid says nothing here.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "softly.h"

enum { KINDS = 3, CANNOT = 200 };

static const enum filelock_kind kinds[KINDS] = { FILELOCK_LEASE, FILELOCK_STRICT,
	                                         FILELOCK_SOFT_READWRITE };

static struct scene {
	enum filelock_kind kind;
	_Atomic bool held, done;
	_Atomic int failed;
} *scene; /* shared */

static struct filelock *open_it(void)
{
	struct filelock_options options = rarely();
	struct filelock *lock;

	if (scene->kind != FILELOCK_STRICT)
		options.duration_ms = 3600000;
	ck_assert_int_eq(filelock_open(test_path("lock"), scene->kind, &options, &lock), 0);
	return lock;
}

/* The first process there, whose number is another one's here. It ends with the lock. */
static int hold_inside(void *arg)
{
	struct filelock *lock;

	(void)arg;
	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return CANNOT;
	lock = open_it();
	scene->failed = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0);
	scene->held = true;
	while (!scene->done)
		test_nap();
	_exit(scene->failed != 0);
}

static int enter(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return CANNOT;
	return test_in_child(hold_inside, arg);
}

/* The process that waits for it; or 0, and the test is skipped. */
static pid_t start_holder(enum filelock_kind kind)
{
	int64_t end = test_now() + TEST_PATIENCE;
	pid_t pid;
	int status;

	scene = test_shared(sizeof(*scene));
	scene->kind = kind;
	(void)test_folder();
	pid = test_fork(enter, NULL);
	while (!scene->held) {
		ck_assert(test_now() < end);
		if (waitpid(pid, &status, WNOHANG) == pid) {
			ck_assert_int_eq(WEXITSTATUS(status), CANNOT);
			test_skip("this user may make no PID namespace here");
			return 0;
		}
		test_nap();
	}
	ck_assert_int_eq(scene->failed, 0);
	return pid;
}

struct told {
	unsigned claims, dead;
};

static void count(const struct filelock_claim *claim, void *arg)
{
	struct told *told = arg;

	told->claims++;
	told->dead += claim->dead;
}

START_TEST(test_holder_in_another_namespace_holds)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct told told = { 0 };
	struct filelock *lock;
	pid_t pid = start_holder(kinds[_i]);

	if (!pid)
		return;
	lock = open_it();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_ptr_nonnull(strstr(owner.host, "?pidns-"));
	ck_assert_str_ne(owner.host, own_host());
	ck_assert(!owner.ours);
	if (kinds[_i] != FILELOCK_LEASE) {
		ck_assert_int_eq(filelock_claims(lock, count, &told), 0);
		ck_assert_uint_gt(told.claims, 0);
		ck_assert_uint_eq(told.dead, 0);
	}
	scene->done = true;
	ck_assert_int_eq(test_reap(pid), 0);
	filelock_close(lock);
}
END_TEST

/* By the kernel's locks, which know no namespaces; a strict lock goes by nothing but a person. */
START_TEST(test_end_of_a_holder_in_another_namespace_is_seen_at_once)
{
	struct filelock *lock;
	pid_t pid = start_holder(kinds[_i]);

	if (!pid)
		return;
	lock = open_it();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	scene->done = true;
	ck_assert_int_eq(test_reap(pid), 0);
	if (kinds[_i] == FILELOCK_STRICT)
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	else
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

/* The record of a process that has ended, as it is here and as it is in another namespace: of a
   file system where the kernel's locks show nothing. */
static void put_lease(pid_t pid, const char *namespace)
{
	char bytes[600];
	int size = snprintf(bytes, sizeof(bytes),
	                    "filelock/2\npid=%ld\nhost=%s%s\nmode=lease\n"
	                    "token=00112233445566778899aabbccddeeff\nduration=3600.0\n",
	                    (long)pid, own_host(), namespace);

	put_bytes(test_path("lock"), bytes, (size_t)size);
}

START_TEST(test_pid_of_another_namespace_is_not_looked_up)
{
	pid_t dead = dead_pid();
	struct filelock *lock;

	if (strchr(own_host(), '?')) {
		test_skip("this host's name has a PID namespace already");
		return;
	}
	scene = test_shared(sizeof(*scene));
	scene->kind = FILELOCK_LEASE;
	lock = open_it();
	put_lease(dead, "?pidns-1");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	put_lease(dead, "");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("pid namespace", test_pid_of_another_namespace_is_not_looked_up);
	TCase *kind = tcase_create("kind");

	tcase_add_loop_test(kind, test_holder_in_another_namespace_holds, 0, KINDS);
	tcase_add_loop_test(kind, test_end_of_a_holder_in_another_namespace_is_seen_at_once, 0,
	                    KINDS);
	suite_add_tcase(suite, kind);
	return support_main(suite);
}
