/*
 * holder.c - the holder of a flock(2) or a record lock, and what is known about a process.
 *
 * The answer is "unknown", never a guess, where /proc/locks cannot tell:
 *   - It leaves out the locks of processes without a pid in the PID namespace of that /proc. So
 *     only the first namespace, where every process has a pid, can say "nobody".
 *   - It leaves out locks that other machines took, or that a FUSE server keeps. So "nobody" is
 *     said only of file systems that belong to this kernel alone.
 *   - It names the process that locked. A child of that process may keep the description open after
 *     its death: the lock is held then, and nobody has the pid.
 * The library does not ask by trying to lock: it would hold the lock for that moment, and an attempt
 * of another process would fail.
 */
#include "kinds/holder.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/magic.h"
#include "base/proc.h"
#include "base/sys.h"
#include "kinds/folder.h"

/* The first PID namespace's inode number: PROC_PID_INIT_INO in the kernel's proc_ns.h. */
#define FIRST_PID_NAMESPACE "pid:[4026531836]"

/* Enough for fdinfo's lines, and for /proc/PID/stat with a command name of 64 bytes. */
enum { SMALL_FILE = 2048 };

/* The file asked about, as /proc/locks names it. */
struct target {
	uint64_t inode;
	struct proc_device device;
	bool device_known; /* else device is stat(2)'s, perhaps another one */
	bool complete;     /* every lock on it would be listed */
	const struct holder_records *records; /* NULL: flock(2) is asked about */
	bool of_files; /* record locks of open file descriptions as well */
};

/* /proc may be missing, hidden, or refuse us; other errors are the caller's to know. */
static int unknown_unless_exhausted(int error)
{
	switch (error) {
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
		return error;
	default:
		return FILELOCK_EUNKNOWNHOLDER;
	}
}

/* 1, or 0: not there, as in a chroot whose root is no mount point. */
static int find_mount(uint64_t mount, struct proc_device *ret)
{
	struct proc_lines lines;
	struct proc_device device;
	const char *line;
	uint64_t id;
	int found = 0;
	int r = proc_lines_open(&lines, "/proc/thread-self/mountinfo");

	if (r < 0)
		return r;
	while (!found && (r = proc_lines_next(&lines, &line)) > 0) {
		found = proc_parse_mount(line, &id, &device) && id == mount;
		if (found)
			*ret = device;
	}
	proc_lines_close(&lines);
	return r < 0 ? r : found;
}

/* Whether stat(2) reports the device of the superblock: btrfs and overlay do not. */
static bool has_plain_device(const struct statfs *file_system)
{
	unsigned long type = (unsigned long)file_system->f_type; /* signed, and of any width */

	return type != BTRFS_SUPER_MAGIC && type != OVERLAYFS_SUPER_MAGIC;
}

static bool in_first_namespace(void)
{
	char link[64];
	ssize_t n = sys.readlink("/proc/thread-self/ns/pid", link, sizeof(link));

	return n == (ssize_t)strlen(FIRST_PID_NAMESPACE) &&
	       memcmp(link, FIRST_PID_NAMESPACE, (size_t)n) == 0;
}

bool holder_knows_pids(void)
{
	char link[32];
	ssize_t n = sys.readlink("/proc/self", link, sizeof(link) - 1);

	if (n < 0)
		return false;
	link[n] = '\0';
	return strtol(link, NULL, 10) == (long)getpid();
}

static int find_device(int fd, const char *fdinfo, struct target *target)
{
	struct statfs file_system = { 0 };
	char link[SYS_FD_LINK];
	uint64_t mount;
	int found = 0;

	sys_fd_link(link, fd);
	if (sys.statfs(link, &file_system) < 0)
		return -errno;
	if (proc_parse_fdinfo(fdinfo, "mnt_id", &mount))
		found = find_mount(mount, &target->device);
	if (found < 0)
		return found;
	target->device_known = found || has_plain_device(&file_system);
	target->complete =
	        target->device_known && sys_is_local(&file_system) && in_first_namespace();
	return 0;
}

static int find_target(int fd, struct target *target)
{
	char path[64], fdinfo[SMALL_FILE];
	struct stat st;
	ssize_t n;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return r;
	target->inode = st.st_ino;
	target->device = (struct proc_device){ major(st.st_dev), minor(st.st_dev) };
	(void)snprintf(path, sizeof(path), "/proc/thread-self/fdinfo/%d", fd);
	n = sys_read_file(path, fdinfo, sizeof(fdinfo));
	if (n < 0)
		return unknown_unless_exhausted((int)n);
	/* Linux 5.14 and later: the number that /proc/locks prints, where stat's is another */
	(void)proc_parse_fdinfo(fdinfo, "ino", &target->inode);
	r = find_device(fd, fdinfo, target);
	return r < 0 ? unknown_unless_exhausted(r) : 0;
}

/* Whether a line of /proc/locks is about the target, as far as that can be known. */
static bool is_about(const struct target *target, const struct proc_lock *lock)
{
	return target->device_known && lock->inode == target->inode &&
	       lock->device.major == target->device.major &&
	       lock->device.minor == target->device.minor;
}

/* Whether a line is about a lock of the type that is asked about. */
static bool parse(const struct target *target, const char *line, struct proc_lock *ret)
{
	const struct holder_records *records = target->records;
	struct proc_record record;
	bool parsed;

	if (!records)
		return proc_parse_lock(line, ret);
	parsed = target->of_files ? proc_parse_any_record(line, &record)
	                          : proc_parse_record(line, &record);
	if (!parsed || record.last < records->first || record.first > records->last ||
	    (records->except && record.lock.pid == records->except))
		return false;
	*ret = record.lock;
	return true;
}

/* One pass over /proc/locks; *ret_reads: how many reads it took. */
static int scan(const struct target *target, struct proc_lock *ret, size_t *ret_reads)
{
	struct proc_lines lines;
	struct proc_lock lock;
	const char *line;
	int result = FILELOCK_ENOHOLDER;
	int r = proc_lines_open(&lines, "/proc/locks");

	if (r < 0)
		return unknown_unless_exhausted(r);
	while (result != 0 && (r = proc_lines_next(&lines, &line)) > 0) {
		if (!parse(target, line, &lock) || !is_about(target, &lock))
			continue;
		result = FILELOCK_EUNKNOWNHOLDER; /* but another one may be known */
		if (lock.pid > 0) {
			*ret = lock;
			result = 0;
		}
	}
	*ret_reads = lines.reads;
	proc_lines_close(&lines);
	return r < 0 ? unknown_unless_exhausted(r) : result;
}

static int find_lock(const struct target *target, struct proc_lock *ret)
{
	size_t reads = 0;
	int r = scan(target, ret, &reads);

	/* read(2) goes on by counting lines: a lock released meanwhile makes it skip one */
	if (r == FILELOCK_ENOHOLDER && reads > 1)
		r = scan(target, ret, &reads);
	if (r == FILELOCK_ENOHOLDER && !target->complete)
		r = FILELOCK_EUNKNOWNHOLDER;
	return r;
}

bool holder_read_process(pid_t pid, struct proc_process *ret)
{
	char path[64], text[SMALL_FILE];

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	return sys_read_file(path, text, sizeof(text)) > 0 && proc_parse_process(text, ret);
}

/* A zombie has closed its files; one with other threads is only a main thread that ended. */
static bool is_alive(pid_t pid)
{
	struct proc_process process;

	if (sys.kill(pid, 0) < 0 && errno == ESRCH)
		return false;
	return !holder_read_process(pid, &process) || process.state != 'Z' || process.threads > 1;
}

static int find_owner(int fd, const struct holder_records *records,
                      struct filelock_owner *ret_owner)
{
	struct target target = { .records = records };
	struct proc_lock lock = { 0 };
	int r = find_target(fd, &target);

	if (r < 0)
		return r;
	r = find_lock(&target, &lock);
	if (r < 0)
		return r;
	if (!holder_knows_pids() || !is_alive(lock.pid))
		return FILELOCK_EUNKNOWNHOLDER;
	ret_owner->pid = lock.pid;
	ret_owner->mode = lock.mode;
	ret_owner->ours = lock.pid == getpid();
	holder_describe_process(ret_owner, lock.pid);
	return 0;
}

int holder_of_flock(int fd, struct filelock_owner *ret_owner)
{
	return find_owner(fd, NULL, ret_owner);
}

int holder_of_records(int fd, const struct holder_records *records,
                      struct filelock_owner *ret_owner)
{
	return find_owner(fd, records, ret_owner);
}

int holder_of_any_record(int fd, struct filelock_owner *ret_owner)
{
	/* but for the waiters of native locks */
	static const struct holder_records all = { 0, SYS_WAITERS_BYTE - 1, 0 };
	struct target target = { .records = &all, .of_files = true };
	struct proc_lock lock = { 0 };
	size_t reads = 0;
	int r = find_target(fd, &target);

	if (r == 0)
		r = scan(&target, &lock, &reads);
	/* a line without a process is somebody's all the same */
	if (r < 0 && !(r == FILELOCK_EUNKNOWNHOLDER && reads > 0))
		return r;
	ret_owner->mode = lock.mode;
	if (r == 0 && holder_knows_pids()) {
		ret_owner->pid = lock.pid;
		ret_owner->ours = lock.pid == getpid();
	}
	holder_describe_process(ret_owner, ret_owner->pid);
	return 0;
}

static bool read_boot_time(int64_t *ret)
{
	struct proc_lines lines;
	const char *line;
	bool found = false;

	if (proc_lines_open(&lines, "/proc/stat") < 0)
		return false;
	while (!found && proc_lines_next(&lines, &line) > 0)
		found = proc_parse_boot_time(line, ret);
	proc_lines_close(&lines);
	return found;
}

int64_t holder_start_time(pid_t pid)
{
	uint64_t ticks = (uint64_t)sysconf(_SC_CLK_TCK); /* the kernel tells it at exec */
	struct proc_process process;
	int64_t boot;

	if (!holder_read_process(pid, &process) || !read_boot_time(&boot))
		return 0;
	return boot + (int64_t)(process.start / ticks % INT_MAX);
}

void holder_describe_process(struct filelock_owner *owner, pid_t pid)
{
	owner->start_time = holder_start_time(pid);
	if (sys.gethostname(owner->host, sizeof(owner->host)) < 0)
		owner->host[0] = '\0';
	owner->host[sizeof(owner->host) - 1] = '\0'; /* gethostname(2) may leave it out */
}

struct inside {
	pid_t pid;
	bool (*is_it)(const struct proc_process *process, void *arg);
	void *arg;
};

static int ask_process(const char *name, void *arg)
{
	const struct inside *inside = arg;
	struct proc_process process;
	char path[64], status[4096];
	unsigned depth;
	pid_t pid;
	long number = strtol(name, NULL, 10);

	(void)snprintf(path, sizeof(path), "/proc/%ld/status", number);
	return number > 0 && sys_read_file(path, status, sizeof(status)) > 0 &&
	       proc_parse_innermost_pid(status, &pid, &depth) && depth > 1 &&
	       pid == inside->pid && holder_read_process((pid_t)number, &process) &&
	       inside->is_it(&process, inside->arg);
}

bool holder_any_inside(pid_t pid, bool (*is_it)(const struct proc_process *process, void *arg),
                       void *arg)
{
	struct inside inside = { pid, is_it, arg };
	int fd = sys_open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return false;
	r = folder_list(fd, ask_process, &inside);
	(void)sys_close(fd);
	return r > 0;
}

int holder_at_path(const char *path, int (*question)(int fd, struct filelock_owner *ret_owner),
                   struct filelock_owner *ret_owner)
{
	int fd = sys_open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
	struct stat st;
	int r;

	if (fd == -ENOENT)
		return FILELOCK_ENOHOLDER;
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r == 0 && S_ISLNK(st.st_mode))
		r = -ELOOP;
	if (r == 0)
		r = question(fd, ret_owner);
	(void)sys_close(fd);
	return r;
}
