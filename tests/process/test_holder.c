/* The holder of a lock: found, or an honest "unknown". */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kinds/holder.h"
#include "support.h"
#include "base/sys.h"

static struct filelock *lock;

/* Elsewhere /proc/locks leaves out the holders that live outside: see holder.c. */
static bool in_first_pid_namespace(void)
{
	char link[64] = "";

	return readlink("/proc/self/ns/pid", link, sizeof(link) - 1) > 0 &&
	       strcmp(link, "pid:[4026531836]") == 0;
}

/* The answer when nobody is listed: holders on other machines never are. */
static int nobody(void)
{
	struct statfs fs;
	bool complete = in_first_pid_namespace() && statfs(test_folder(), &fs) == 0 &&
	                sys_is_local(&fs);

	return complete ? FILELOCK_ENOHOLDER : FILELOCK_EUNKNOWNHOLDER;
}

static void expect_holder(pid_t pid, enum filelock_mode mode)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, pid);
	ck_assert_int_eq(owner.mode, mode);
}

START_TEST(test_exclusive_holder_is_named)
{
	struct peer holder;

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), NULL);
	expect_holder(holder.pid, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

START_TEST(test_holder_has_its_host_and_start_time)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	char host[256] = "";
	struct peer holder;
	time_t before = time(NULL), after;

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	after = time(NULL);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(gethostname(host, sizeof(host) - 1), 0);
	ck_assert_str_eq(owner.host, host);
	/* the boot time is rounded, and may move as the clock is set */
	ck_assert_int_ge(owner.start_time, before - 3);
	ck_assert_int_le(owner.start_time, after + 3);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

START_TEST(test_one_of_several_shared_holders_is_named)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct peer a, b;

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&a, test_path("lock"), FILELOCK_SHARED);
	peer_start_holding(&b, test_path("lock"), FILELOCK_SHARED);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert(owner.pid == a.pid || owner.pid == b.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_SHARED);
	filelock_close(lock);
	peer_stop(&a);
	peer_stop(&b);
}
END_TEST

START_TEST(test_own_hold_names_this_process)
{
	if (!test_locks_are_listed())
		return;
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	expect_holder(getpid(), FILELOCK_SHARED);
	filelock_close(lock);
}
END_TEST

START_TEST(test_waiter_is_not_taken_for_the_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct peer holder, blocked;
	int fd;

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	peer_start(&blocked);
	ck_assert_int_eq(peer_open(&blocked, test_path("lock"), NULL), 0);
	peer_order_acquire(&blocked, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&blocked);
	fd = open(test_path("lock"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(holder_of_flock(fd, &owner), 0);
	ck_assert_int_eq(owner.pid, holder.pid);
	close(fd);
	peer_kill(&blocked, SIGKILL);
	peer_stop(&holder);
}
END_TEST

static int block(void *arg)
{
	int fd = open(arg, O_RDONLY | O_CLOEXEC);

	return flock(fd, LOCK_EX);
}

/* Whether /proc/locks lists a waiter ("->") for an inode whose holder is pid. */
static bool shows_a_waiter(pid_t pid)
{
	char line[256], needle[32];
	FILE *file = fopen("/proc/locks", "re");
	bool found = false;

	(void)snprintf(needle, sizeof(needle), " %d ", (int)pid);
	while (fgets(line, sizeof(line), file))
		found |= strstr(line, "->") && strstr(line, needle);
	fclose(file);
	return found;
}

/* A process blocked in flock(2) is listed too, as a waiter. */
START_TEST(test_process_blocked_in_flock_is_not_taken_for_the_holder)
{
	struct peer holder;
	char path[4096];
	pid_t blocked;

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	blocked = test_fork(block, path);
	await(shows_a_waiter(blocked));
	lock = test_open(path, NULL);
	expect_holder(holder.pid, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	kill(blocked, SIGKILL);
	test_reap(blocked);
	peer_stop(&holder);
}
END_TEST

START_TEST(test_record_lock_is_no_holder)
{
	struct flock record = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(fcntl(fd, F_SETLK, &record), 0);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), nobody());
	filelock_close(lock);
	close(fd);
}
END_TEST

START_TEST(test_free_lock_has_no_holder_and_the_output_is_untouched)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	owner.pid = 77;
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER); /* no file at all */
	test_write_file(test_path("lock"), "");
	ck_assert_int_eq(filelock_holder(lock, &owner), nobody());
	ck_assert_int_eq(owner.pid, 77);
	filelock_close(lock);
}
END_TEST

START_TEST(test_looking_creates_nothing_and_disturbs_nobody)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	lock = test_open(test_path("lock"), NULL);
	(void)filelock_holder(lock, &owner);
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
	test_write_file(test_path("lock"), "");
	fault_watch();
	(void)filelock_holder(lock, &owner);
	ck_assert_uint_eq(fault_calls(FAULT_flock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_wrong_outputs_are_einval)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, NULL), -EINVAL);
	owner.size = 0;
	ck_assert_int_eq(filelock_holder(lock, &owner), -EINVAL);
	filelock_close(lock);
}
END_TEST

/* A program of an older header has a shorter owner: nothing behind its end is written. */
START_TEST(test_shorter_owner_of_an_older_header_is_filled_to_its_end)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	if (!test_locks_are_listed())
		return;
	owner.size = offsetof(struct filelock_owner, start_time);
	owner.start_time = 77;
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, getpid());
	ck_assert_int_eq(owner.start_time, 77);
	ck_assert_uint_eq(owner.size, offsetof(struct filelock_owner, start_time));
	filelock_close(lock);
}
END_TEST

START_TEST(test_symlink_in_its_place_is_eloop)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	ck_assert_int_eq(symlink("target", test_path("lock")), 0);
	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), -ELOOP);
	filelock_close(lock);
}
END_TEST

/* Where many locks are listed, ours is found behind several reads' worth of others. */
START_TEST(test_holder_is_found_among_many_locks)
{
	enum { MANY = 300 };
	static struct filelock *many[MANY];
	struct peer holder;
	char name[16];

	if (!test_locks_are_listed())
		return;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "%d", i);
		many[i] = test_open(test_path(name), NULL);
		ck_assert_int_eq(filelock_acquire(many[i], FILELOCK_EXCLUSIVE, 0), 0);
	}
	lock = test_open(test_path("lock"), NULL);
	expect_holder(holder.pid, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	for (int i = 0; i < MANY; i++)
		filelock_close(many[i]);
	peer_stop(&holder);
}
END_TEST

/* On a file system of its own kind, mounted by `mount`, in a mount namespace of its own. */
static int find_holder_on(const char *type, const char *data)
{
	const char *folder = test_path("mounted");
	struct peer holder;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("test", folder, type, 0, data) < 0)
		return 77;
	peer_start_holding(&holder, test_path("mounted/lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("mounted/lock"), NULL);
	expect_holder(holder.pid, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	peer_stop(&holder);
	return umount2(folder, MNT_DETACH) < 0;
}

static int find_holder_on_overlay(void *arg)
{
	char data[4096 * 4];

	(void)arg;
	(void)snprintf(data, sizeof(data), "lowerdir=%s,upperdir=%s,workdir=%s", test_path("lower"),
	               test_path("upper"), test_path("work"));
	return find_holder_on("overlay", data);
}

static int find_holder_on_tmpfs(void *arg)
{
	(void)arg;
	return find_holder_on("tmpfs", "size=64k");
}

/* There stat(2) reports another device, and perhaps another inode, than /proc/locks does. */
START_TEST(test_holder_is_found_on_overlay_and_tmpfs)
{
	static int (*const finders[])(void *) = { find_holder_on_tmpfs, find_holder_on_overlay };
	static const char *const folders[] = { "mounted", "lower", "upper", "work" };
	int status;

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(mkdir(test_path(folders[i]), 0777), 0);
	test_write_file(test_path("lower/lock"), ""); /* copied up by the first open */
	status = test_in_child(finders[_i], NULL);
	if (status == 77)
		test_skip("may not mount one here");
	else
		ck_assert_int_eq(status, 0);
}
END_TEST

/* Else the device that /proc/locks prints is found by the mount only. */
static bool has_plain_device(void)
{
	struct statfs fs;

	ck_assert_int_eq(statfs(test_folder(), &fs), 0);
	if ((unsigned long)fs.f_type != BTRFS_SUPER_MAGIC &&
	    (unsigned long)fs.f_type != OVERLAYFS_SUPER_MAGIC)
		return true;
	test_skip("stat(2) tells another device than /proc/locks on this file system");
	return false;
}

static int find_holder_in_chroot(void *arg)
{
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("proc", test_path("root/proc"), "proc", 0, NULL) < 0 ||
	    chroot(test_path("root")) < 0)
		return 77;
	lock = test_open("/lock", NULL);
	expect_holder(*(pid_t *)arg, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	return 0;
}

/* A root that is no mount point: mountinfo leaves out the mount that the file is on. */
START_TEST(test_holder_is_found_in_a_chroot)
{
	struct peer holder;
	int status;

	if (!test_locks_are_listed() || !has_plain_device())
		return;
	ck_assert_int_eq(mkdir(test_path("root"), 0777), 0);
	ck_assert_int_eq(mkdir(test_path("root/proc"), 0777), 0);
	peer_start_holding(&holder, test_path("root/lock"), FILELOCK_EXCLUSIVE);
	status = test_in_child(find_holder_in_chroot, &holder.pid);
	if (status == 77)
		test_skip("may not mount and chroot here");
	else
		ck_assert_int_eq(status, 0);
	peer_stop(&holder);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "holder", test_exclusive_holder_is_named, test_holder_has_its_host_and_start_time,
	        test_one_of_several_shared_holders_is_named, test_own_hold_names_this_process,
	        test_waiter_is_not_taken_for_the_holder,
	        test_process_blocked_in_flock_is_not_taken_for_the_holder,
	        test_record_lock_is_no_holder,
	        test_free_lock_has_no_holder_and_the_output_is_untouched,
	        test_looking_creates_nothing_and_disturbs_nobody, test_wrong_outputs_are_einval,
	        test_shorter_owner_of_an_older_header_is_filled_to_its_end,
	        test_symlink_in_its_place_is_eloop, test_holder_is_found_among_many_locks,
	        test_holder_is_found_in_a_chroot);
	TCase *mounted = tcase_create("mounted");

	tcase_add_loop_test(mounted, test_holder_is_found_on_overlay_and_tmpfs, 0, 2);
	suite_add_tcase(suite, mounted);
	return support_main(suite);
}
