/* The holder of a lock, and facts about a process, by a /proc that the test writes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "kinds/holder.h"
#include "support.h"
#include "base/sys.h"

/* The test's own "/proc/x" is a file "-proc-x" in its folder. */
static const char *own_proc(const char *path)
{
	char name[128];

	(void)snprintf(name, sizeof(name), "%s", path);
	for (char *slash = strchr(name, '/'); slash; slash = strchr(slash, '/'))
		*slash = '-';
	return test_path(name);
}

static int open_own_proc(const char *path, int flags, mode_t mode)
{
	const char *own = own_proc(path);

	return open(access(own, F_OK) == 0 ? own : path, flags, mode);
}

/* Elsewhere "nobody" cannot be said. */
static ssize_t be_in_first_namespace(const char *path, char *buffer, size_t size)
{
	static const char first[] = "pid:[4026531836]";

	if (strcmp(path, "/proc/thread-self/ns/pid") != 0)
		return readlink(path, buffer, size);
	memcpy(buffer, first, sizeof(first) - 1);
	return sizeof(first) - 1;
}

static unsigned long file_system;

static int say_file_system(const char *path, struct statfs *ret)
{
	(void)path;
	memset(ret, 0, sizeof(*ret));
	ret->f_type = file_system;
	return 0;
}

static int lock_fd;
static struct stat lock_st;

static void set_up(void)
{
	(void)test_folder();
	sys.open = open_own_proc;
	sys.readlink = be_in_first_namespace;
	sys.statfs = say_file_system;
	file_system = TMPFS_MAGIC;
	test_write_file(test_path("lock"), "");
	lock_fd = open(test_path("lock"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(fstat(lock_fd, &lock_st), 0);
}

/* The lock file is on the mount 77, unless mount is false. */
static void say_mount(bool mount)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", lock_fd);
	test_write_file(own_proc(path), mount ? "pos:\t0\nmnt_id:\t77\n" : "pos:\t0\n");
}

/* This process holds the lock, of a file on that device. */
static void say_lock(struct proc_device device)
{
	char line[128];

	(void)snprintf(line, sizeof(line), "1: FLOCK  ADVISORY  WRITE %ld %02x:%02x:%ju 0 EOF\n",
	               (long)getpid(), device.major, device.minor, (uintmax_t)lock_st.st_ino);
	test_write_file(own_proc("/proc/locks"), line);
}

#define MOUNTED "77 1 8:2 / / rw - ext4 /dev/sda2 rw\n"
#define ANOTHER "78 1 9:2 / / rw - ext4 /dev/sdb2 rw\n"

static const struct {
	bool mount; /* named in fdinfo */
	const char *mounts;
	unsigned long file_system;
	/* what is said of a lock on stat(2)'s device, on the mount's, and on those that share one
	   number with it */
	int plain, mounted, neighbours;
} devices[] = {
	{ true, ANOTHER MOUNTED, TMPFS_MAGIC, FILELOCK_ENOHOLDER, 0, FILELOCK_ENOHOLDER },
	{ true, ANOTHER MOUNTED, BTRFS_SUPER_MAGIC, FILELOCK_ENOHOLDER, 0, FILELOCK_ENOHOLDER },
	{ true, ANOTHER, TMPFS_MAGIC, 0, FILELOCK_ENOHOLDER, FILELOCK_ENOHOLDER },
	{ false, MOUNTED, TMPFS_MAGIC, 0, FILELOCK_ENOHOLDER, FILELOCK_ENOHOLDER },
	{ true, ANOTHER, BTRFS_SUPER_MAGIC, FILELOCK_EUNKNOWNHOLDER, FILELOCK_EUNKNOWNHOLDER,
	  FILELOCK_EUNKNOWNHOLDER },
	{ false, MOUNTED, OVERLAYFS_SUPER_MAGIC, FILELOCK_EUNKNOWNHOLDER, FILELOCK_EUNKNOWNHOLDER,
	  FILELOCK_EUNKNOWNHOLDER },
};
enum { DEVICES = sizeof(devices) / sizeof(devices[0]) };

static void expect_of(struct proc_device device, int expected)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	say_lock(device);
	ck_assert_int_eq(holder_of_flock(lock_fd, &owner), expected);
	ck_assert_int_eq(owner.pid, expected == 0 ? getpid() : 0);
}

START_TEST(test_lock_counts_if_it_is_on_the_device_of_the_file_as_far_as_that_is_known)
{
	set_up();
	say_mount(devices[_i].mount);
	test_write_file(own_proc("/proc/thread-self/mountinfo"), devices[_i].mounts);
	file_system = devices[_i].file_system;
	expect_of((struct proc_device){ major(lock_st.st_dev), minor(lock_st.st_dev) },
	          devices[_i].plain);
	expect_of((struct proc_device){ 8, 2 }, devices[_i].mounted);
	expect_of((struct proc_device){ 8, 3 }, devices[_i].neighbours);
	expect_of((struct proc_device){ 9, 2 }, devices[_i].neighbours);
	close(lock_fd);
}
END_TEST

START_TEST(test_no_lock_on_a_device_that_is_not_known_is_an_unknown_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	set_up();
	say_mount(false);
	test_write_file(own_proc("/proc/locks"), "");
	ck_assert_int_eq(holder_of_flock(lock_fd, &owner), FILELOCK_ENOHOLDER);
	file_system = BTRFS_SUPER_MAGIC;
	ck_assert_int_eq(holder_of_flock(lock_fd, &owner), FILELOCK_EUNKNOWNHOLDER);
	close(lock_fd);
}
END_TEST

/* As proc_pid_stat(5) has it, but for the state and the number of threads. */
static void say_process(char state, unsigned threads)
{
	char path[64], text[256];

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)getpid());
	(void)snprintf(text, sizeof(text),
	               "%ld (name) %c 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 %u 0 100 0 0\n",
	               (long)getpid(), state, threads);
	test_write_file(own_proc(path), text);
}

START_TEST(test_zombie_holds_as_long_as_it_has_other_threads)
{
	struct proc_device device;

	set_up();
	device = (struct proc_device){ major(lock_st.st_dev), minor(lock_st.st_dev) };
	say_mount(false);
	say_process('Z', 2);
	expect_of(device, 0);
	say_process('Z', 1);
	expect_of(device, FILELOCK_EUNKNOWNHOLDER);
	say_process('S', 1);
	expect_of(device, 0);
	close(lock_fd);
}
END_TEST

START_TEST(test_process_that_is_told_of_in_other_words_is_not_known)
{
	struct proc_process process;
	char path[64];

	set_up();
	test_write_file(own_proc("/proc/stat"), "cpu 1 2 3\nbtime 1000000000\n");
	say_process('S', 1);
	ck_assert(holder_read_process(getpid(), &process));
	ck_assert_int_ge(holder_start_time(getpid()), 1000000000);
	test_write_file(own_proc("/proc/stat"), "cpu 1 2 3\n");
	ck_assert_int_eq(holder_start_time(getpid()), 0);
	test_write_file(own_proc("/proc/stat"), "btime 1000000000\n");
	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)getpid());
	test_write_file(own_proc(path), "who knows\n");
	ck_assert(!holder_read_process(getpid(), &process));
	ck_assert_int_eq(holder_start_time(getpid()), 0);
	close(lock_fd);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("owner",
	                     test_no_lock_on_a_device_that_is_not_known_is_an_unknown_holder,
	                     test_zombie_holds_as_long_as_it_has_other_threads,
	                     test_process_that_is_told_of_in_other_words_is_not_known);
	TCase *each = tcase_create("each");

	tcase_add_loop_test(
	        each, test_lock_counts_if_it_is_on_the_device_of_the_file_as_far_as_that_is_known,
	        0, DEVICES);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
