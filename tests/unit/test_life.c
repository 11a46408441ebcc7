/* Whether an owner lives, where the system does not tell: then it does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/magic.h"
#include "kinds/liveness.h"
#include "softly.h"
#include "support.h"
#include "base/sys.h"

static unsigned long file_system;

static int say_file_system(const char *path, struct statfs *ret)
{
	(void)path;
	memset(ret, 0, sizeof(*ret));
	ret->f_type = file_system;
	return 0;
}

/* A marker that is open for writing, and another descriptor of it. */
static int open_written(int *ret_writer)
{
	const char *path = test_path("marker");
	int fd;

	test_write_file(path, "1\nhost\n");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	*ret_writer = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ge(*ret_writer, 0);
	return fd;
}

START_TEST(test_a_lease_tells_only_on_file_systems_of_this_kernel)
{
	static const unsigned long far[] = { NFS_SUPER_MAGIC,  SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC,
		                             SMB2_SUPER_MAGIC, AFS_FS_MAGIC,    CEPH_SUPER_MAGIC,
		                             V9FS_MAGIC };
	const char *path = test_path("marker");
	int writer;
	int fd = open_written(&writer);

	ck_assert_int_eq(liveness_is_written(fd, path), 1);
	sys.statfs = say_file_system;
	for (size_t i = 0; i < sizeof(far) / sizeof(far[0]); i++) {
		file_system = far[i];
		ck_assert_int_eq(liveness_is_written(fd, path), -ENOTSUP);
	}
	sys.statfs = statfs;
	fault_set(FAULT_statfs, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(liveness_is_written(fd, path), 1);
	close(writer);
	ck_assert_int_eq(liveness_is_written(fd, path), 0);
	close(fd);
}
END_TEST

START_TEST(test_a_lease_that_cannot_be_asked_for_tells_nothing)
{
	int writer;
	int fd = open_written(&writer);

	fault_set(FAULT_fcntl_setsig, 1, FAULT_ONCE, EINVAL);
	ck_assert_int_eq(liveness_is_written(fd, test_path("marker")), -ENOTSUP);
	fault_set(FAULT_fcntl_setlease, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(liveness_is_written(fd, test_path("marker")), -ENOTSUP);
	close(writer);
	close(fd);
}
END_TEST

/* A record of this host and pid, with a token that no process has. */
static struct marker record_of(pid_t pid)
{
	struct marker record = { .type = MARKER_RECORD, .pid = pid, .token = "1" };

	strcpy(record.host, own_host());
	return record;
}

static pid_t stopped_child(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

START_TEST(test_another_token_proves_death_only_if_proc_can_be_read)
{
	static const struct {
		enum fault_call call;
		unsigned nth;
	} silences[] = {
		{ FAULT_readlink, 1 }, /* /proc/self */
		{ FAULT_open, 1 },     /* stat */
		{ FAULT_open, 2 },     /* boot_id */
		{ FAULT_read, 1 },
		{ FAULT_gethostname, 1 },
	};
	pid_t pid = stopped_child();
	struct marker record = record_of(pid);

	ck_assert(liveness_is_over(&record, PROOF_UNLOCKED));
	for (size_t i = 0; i < sizeof(silences) / sizeof(silences[0]); i++) {
		fault_set(silences[i].call, silences[i].nth, FAULT_FOR_GOOD, EACCES);
		ck_assert_msg(!liveness_is_over(&record, PROOF_UNLOCKED), "silence %zu", i);
		ck_assert_uint_gt(fault_hits(silences[i].call), 0);
		fault_clear();
	}
	/* another user's, which has the pid by now */
	fault_set(FAULT_kill, 1, FAULT_ONCE, EPERM);
	ck_assert(liveness_is_over(&record, PROOF_UNLOCKED));
	record.token[0] = '\0';
	ck_assert(!liveness_is_over(&record, PROOF_UNLOCKED));
	strcpy(record.host, "elsewhere");
	strcpy(record.token, "1");
	ck_assert(!liveness_is_over(&record, PROOF_UNLOCKED));
	kill(pid, SIGKILL);
	(void)test_reap(pid);
}
END_TEST

/* The test writes the files of /proc itself. */
static char faked[64]; /* the path */

static int open_faked(const char *path, int flags, mode_t mode)
{
	return open(strcmp(path, faked) == 0 ? test_path("fake") : path, flags, mode);
}

static void fake(const char *path, const char *content)
{
	(void)snprintf(faked, sizeof(faked), "%s", path);
	test_write_file(test_path("fake"), content);
	sys.open = open_faked;
}

/* Its zombie is gone in a moment: proc_pid_stat(5). */
START_TEST(test_a_process_that_is_just_going_is_dead)
{
	static const struct {
		char state;
		unsigned threads;
		bool dead;
	} cases[] = {
		{ 'S', 1, false }, { 'Z', 1, true },  { 'X', 1, true },
		{ 'Z', 2, false }, { 'X', 2, false }, { 'X', 0, true },
	};
	struct marker record = record_of(getpid());

	record.token[0] = '\0';
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char path[64], stat[128];

		(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)getpid());
		(void)snprintf(stat, sizeof(stat),
		               "%ld (x) %c 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 %u 0 7 0\n",
		               (long)getpid(), cases[i].state, cases[i].threads);
		fake(path, stat);
		ck_assert_int_eq(liveness_is_over(&record, PROOF_UNLOCKED), cases[i].dead);
	}
}
END_TEST

START_TEST(test_without_a_boot_id_that_makes_sense_there_is_no_token)
{
	struct marker record = record_of(getpid());
	struct marker written;
	char bytes[MARKER_SIZE];
	int size;

	fake("/proc/sys/kernel/random/boot_id", "once upon a time\n");
	ck_assert(!liveness_is_over(&record, PROOF_UNLOCKED));
	size = liveness_write_record(bytes, false);
	ck_assert_int_gt(size, 0);
	soft_record_parse(bytes, (size_t)size, &written);
	ck_assert_int_eq(written.type, MARKER_RECORD);
	ck_assert_str_eq(written.token, "");
	sys.open = open_faked;
	faked[0] = '\0';
	ck_assert(liveness_is_over(&record, PROOF_UNLOCKED));
}
END_TEST

START_TEST(test_a_record_is_ours_by_pid_host_and_token)
{
	struct marker record = record_of(getpid());

	ck_assert(!liveness_is_ours(&record));
	record.token[0] = '\0';
	ck_assert(liveness_is_ours(&record));
	record.pid++;
	ck_assert(!liveness_is_ours(&record));
	record.pid--;
	strcpy(record.host, "elsewhere");
	ck_assert(!liveness_is_ours(&record));
}
END_TEST

START_TEST(test_without_proc_any_token_of_our_pid_is_ours)
{
	struct marker record = record_of(getpid());

	fault_set(FAULT_open, 1, FAULT_FOR_GOOD, ENOENT);
	ck_assert(liveness_is_ours(&record));
}
END_TEST

START_TEST(test_a_record_is_described_as_far_as_it_is_known)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct marker record = record_of(getpid());

	liveness_describe(&record, &owner);
	ck_assert_int_eq(owner.pid, getpid());
	ck_assert_str_eq(owner.start_token, "1");
	ck_assert_int_eq(owner.start_time, 0); /* it is another process's */
	strcpy(record.token, own_token());
	liveness_describe(&record, &owner);
	ck_assert_int_gt(owner.start_time, 0);
	ck_assert(owner.ours);
	owner = (struct filelock_owner)FILELOCK_OWNER_INIT;
	memset(record.token, '9', 200);
	record.token[200] = '\0';
	liveness_describe(&record, &owner);
	ck_assert_str_eq(owner.start_token, ""); /* no token is so long */
}
END_TEST

START_TEST(test_a_record_is_written_without_what_cannot_be_read)
{
	char bytes[MARKER_SIZE];
	struct marker marker;
	int size;

	fault_set(FAULT_open, 2, FAULT_ONCE, ENOENT); /* boot_id */
	size = liveness_write_record(bytes, false);
	ck_assert_int_gt(size, 0);
	soft_record_parse(bytes, (size_t)size, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_str_eq(marker.token, "");
	fault_set(FAULT_gethostname, 1, FAULT_ONCE, ENAMETOOLONG);
	ck_assert_int_eq(liveness_write_record(bytes, false), -ENAMETOOLONG);
}
END_TEST

static char host_name[256];

static int say_host_name(char *name, size_t size)
{
	size_t length = strlen(host_name);

	memcpy(name, host_name, length < size ? length + 1 : size);
	return 0;
}

static const char *pid_namespace; /* NULL: the system does not tell */

static ssize_t say_pid_namespace(const char *path, char *buffer, size_t size)
{
	size_t length = pid_namespace ? strlen(pid_namespace) : 0;

	if (strcmp(path, "/proc/thread-self/ns/pid") != 0)
		return readlink(path, buffer, size);
	if (!pid_namespace) {
		errno = ENOENT;
		return -1;
	}
	memcpy(buffer, pid_namespace, length < size ? length : size);
	return (ssize_t)length;
}

/* The host of our records. Without a token nothing is remembered of this process. */
static const char *written_host(const char *name, const char *namespace_link)
{
	static struct marker marker;
	char bytes[MARKER_SIZE];
	int size;

	(void)snprintf(host_name, sizeof(host_name), "%s", name);
	pid_namespace = namespace_link;
	sys.gethostname = say_host_name;
	sys.readlink = say_pid_namespace;
	fake("/proc/sys/kernel/random/boot_id", "unknown\n");
	size = liveness_write_record(bytes, true);
	ck_assert_int_gt(size, 0);
	soft_record_parse(bytes, (size_t)size, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	return marker.host;
}

#define FIRST_NAMESPACE "pid:[4026531836]"
#define ANOTHER_NAMESPACE "pid:[4026532325]"

/* As Python's filelock 4.1 writes them: the namespace is that of its fixtures. */
START_TEST(test_host_is_escaped_and_says_its_pid_namespace)
{
	ck_assert_str_eq(written_host("vm", FIRST_NAMESPACE), "vm");
	ck_assert_str_eq(written_host("vm", NULL), "vm");
	ck_assert_str_eq(written_host("vm", ANOTHER_NAMESPACE), "vm?pidns-f00001e5");
	ck_assert_str_eq(written_host("a b\n?\x7f\xff", FIRST_NAMESPACE), "a?20b?0a?3f?7f?ff");
	ck_assert_str_eq(written_host("", FIRST_NAMESPACE), "?");
	ck_assert_str_eq(written_host("", ANOTHER_NAMESPACE), "?pidns-f00001e5");
}
END_TEST

/* A name of newlines, escaped. */
static void put_escaped(char *ret, size_t length)
{
	for (size_t i = 0; i < length; i++)
		ret[i] = "?0a"[i % 3];
	ret[length] = '\0';
}

/* The digest is that of the part cut off, by Python's hashlib. */
START_TEST(test_long_host_ends_in_a_digest)
{
	char name[256], expected[256];

	memset(name, 'h', sizeof(name));
	name[253] = '\0';
	ck_assert_str_eq(written_host(name, FIRST_NAMESPACE), name);
	name[253] = 'h';
	name[254] = '\0';
	memset(expected, 'h', 244);
	strcpy(expected + 244, "-3a0a04e6");
	ck_assert_str_eq(written_host(name, FIRST_NAMESPACE), expected);
	memset(name, '\n', 100);
	name[100] = '\0';
	put_escaped(expected, 244);
	strcpy(expected + 244, "-d8ad1c9c");
	ck_assert_str_eq(written_host(name, ANOTHER_NAMESPACE), expected);
}
END_TEST

/* Every name that a release has given to this host. In a PID namespace one without it may be of any
   other one: then only today's is believed without proof by the kernel. */
START_TEST(test_hosts_of_earlier_releases_are_this_host)
{
	static const char *const ours[] = { "a?20b", "a b", "a?20b?pidns-f00001e5" };
	static const char *const others[] = { "a?20b?pidns-f00001e6", "a?20", "a", "", "?" };
	struct marker record = record_of(INT32_MAX);

	(void)written_host("a b", ANOTHER_NAMESPACE);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		strcpy(record.host, ours[i]);
		ck_assert(liveness_is_here(&record));
		ck_assert(liveness_is_over(&record, PROOF_LEFT));
		ck_assert(liveness_is_over(&record, PROOF_CLOSED) == (i == 2));
		ck_assert(liveness_is_over(&record, PROOF_UNLOCKED) == (i == 2));
		ck_assert(liveness_is_over(&record, PROOF_NONE) == (i == 2));
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		strcpy(record.host, others[i]);
		ck_assert(!liveness_is_here(&record));
		ck_assert(!liveness_is_over(&record, PROOF_LEFT));
	}
}
END_TEST

START_TEST(test_host_without_a_namespace_is_this_one_outside_of_them)
{
	struct marker record = record_of(INT32_MAX);

	(void)written_host("a b", FIRST_NAMESPACE);
	strcpy(record.host, "a b");
	ck_assert(liveness_is_over(&record, PROOF_UNLOCKED));
	ck_assert(!liveness_is_over(&record, PROOF_NONE));
	strcpy(record.host, "a?20b");
	ck_assert(liveness_is_over(&record, PROOF_NONE));
}
END_TEST

START_TEST(test_long_hosts_of_earlier_releases_are_cut_in_one_way_or_another)
{
	struct marker record = record_of(INT32_MAX);
	char name[101];

	memset(name, '\n', 100);
	name[100] = '\0';
	(void)written_host(name, FIRST_NAMESPACE);
	put_escaped(record.host, HOST_SIZE);
	ck_assert(liveness_is_here(&record));
	put_escaped(record.host, HOST_SIZE - 1);
	ck_assert(!liveness_is_here(&record));
	(void)written_host(name, ANOTHER_NAMESPACE);
	put_escaped(record.host, 244);
	strcpy(record.host + 244, "-36387c4e");
	ck_assert(liveness_is_here(&record));
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "life",
	        test_a_lease_tells_only_on_file_systems_of_this_kernel,
	        test_a_lease_that_cannot_be_asked_for_tells_nothing,
	        test_another_token_proves_death_only_if_proc_can_be_read,
	        test_a_process_that_is_just_going_is_dead,
	        test_without_a_boot_id_that_makes_sense_there_is_no_token,
	        test_a_record_is_ours_by_pid_host_and_token,
	        test_without_proc_any_token_of_our_pid_is_ours,
	        test_a_record_is_described_as_far_as_it_is_known,
	        test_a_record_is_written_without_what_cannot_be_read,
	        test_host_is_escaped_and_says_its_pid_namespace,
	        test_host_without_a_namespace_is_this_one_outside_of_them,
	        test_long_host_ends_in_a_digest,
	        test_hosts_of_earlier_releases_are_this_host,
	        test_long_hosts_of_earlier_releases_are_cut_in_one_way_or_another));
}
