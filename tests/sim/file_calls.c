/*
 * file_calls.c - the system calls on files and descriptors.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <string.h>

#include "calls.h"

/* The path of /proc that tells the same to everybody, at all times. */
static bool is_constant(const char *path)
{
	return strncmp(path, "/proc/sys/", 10) == 0 || strcmp(path, "/proc/stat") == 0;
}

int call_open(const char *path, int flags, mode_t mode)
{
	if (call_refused("open", !is_constant(path)))
		return -1;
	return (int)call_done(file_open(path, flags, mode), "open(%s, 0%o)", path, (unsigned)flags);
}

int call_close(int fd)
{
	const struct description *d = descriptor_get(fd);
	bool noticed = d && d->type == ON_FILE && (d->reads || d->writes) &&
	               !kernel.nodes[d->node].directory;

	if (call_refused("close", noticed)) {
		int error = errno; /* close(2): it is closed all the same */

		(void)descriptor_close(fd);
		errno = error;
		return -1;
	}
	return (int)call_done(descriptor_close(fd), "close(%d)", fd);
}

static ssize_t read_description(struct description *d, void *buffer, size_t size)
{
	ssize_t n;

	switch (d->type) {
	case ON_INOTIFY:
		return notify_read(&d->inotify, buffer, size);
	case ON_COUNTER:
		if (size < sizeof(uint64_t) || d->counter == 0)
			return d->counter ? -EINVAL : -EAGAIN;
		memcpy(buffer, &d->counter, sizeof(uint64_t));
		d->counter = 0;
		return sizeof(uint64_t);
	case ON_TIMER:
		return -EAGAIN;
	default:
		n = file_read(d, buffer, size, d->offset);
		d->offset += n > 0 ? (size_t)n : 0;
		return n;
	}
}

ssize_t call_read(int fd, void *buffer, size_t size)
{
	struct description *d = descriptor_get(fd);
	ssize_t n;

	if (call_refused("read", d && d->type != ON_TEXT && d->type != ON_COUNTER))
		return -1;
	d = descriptor_get(fd);
	n = d ? read_description(d, buffer, size) : -EBADF;
	if (n > 0)
		sim_learn(buffer, (size_t)n);
	return call_done(n, "read(%d)", fd);
}

ssize_t call_write(int fd, const void *buffer, size_t size)
{
	struct description *d = descriptor_get(fd);
	ssize_t n = -EBADF;

	if (call_refused("write", true))
		return -1;
	if (d && d->type == ON_COUNTER && size == sizeof(uint64_t)) {
		d->counter++;
		n = sizeof(uint64_t);
	} else if (d && d->type == ON_FILE) {
		n = file_write(d, buffer, size, d->offset);
		d->offset += n > 0 ? (size_t)n : 0;
	}
	return call_done(n, "write(%d)", fd);
}

ssize_t call_pread(int fd, void *buffer, size_t size, off_t at)
{
	struct description *d;
	ssize_t n;

	if (call_refused("pread", true))
		return -1;
	d = descriptor_get(fd);
	n = d ? file_read(d, buffer, size, (size_t)at) : -EBADF;
	if (n > 0)
		sim_learn(buffer, (size_t)n);
	return call_done(n, "pread(%d, %zu)", fd, size);
}

static struct description *get_file(int fd)
{
	struct description *d = descriptor_get(fd);

	return d && d->type == ON_FILE ? d : NULL;
}

ssize_t call_pwrite(int fd, const void *buffer, size_t size, off_t at)
{
	struct description *d;

	if (call_refused("pwrite", true))
		return -1;
	d = get_file(fd);
	return call_done(d ? file_write(d, buffer, size, (size_t)at) : -EBADF, "pwrite(%d, %zu)", fd,
	            size);
}

int call_ftruncate(int fd, off_t size)
{
	struct description *d;

	if (call_refused("ftruncate", true))
		return -1;
	d = get_file(fd);
	return (int)call_done(d ? file_truncate(d, size) : -EBADF, "ftruncate(%d)", fd);
}

int call_fsync(int fd)
{
	if (call_refused("fsync", true))
		return -1;
	return (int)call_done(get_file(fd) ? 0 : -EBADF, "fsync(%d)", fd);
}

int call_futimens(int fd, const struct timespec times[2])
{
	const struct description *d;

	(void)times;
	if (call_refused("futimens", true))
		return -1;
	d = get_file(fd);
	return (int)call_done(d ? file_touch(d->node, d->path) : -EBADF, "futimens(%d)", fd);
}

int call_utimensat(int directory, const char *path, const struct timespec times[2],
                          int flags)
{
	int node;

	(void)directory;
	(void)times;
	(void)flags;
	if (call_refused("utimensat", true))
		return -1;
	node = file_resolve(path);
	return (int)call_done(node < 0 ? node : file_touch(node, path), "utimensat(%s)", path);
}

int call_flock(int fd, int operation)
{
	struct description *d;

	if (call_refused("flock", true))
		return -1;
	d = descriptor_get(fd);
	return (int)call_done(d ? lock_flock(d, operation) : -EBADF, "flock(%d, %d)", fd, operation);
}

static int tell_stat(int node, struct stat *ret)
{
	if (node < 0)
		return node;
	file_stat(node, ret);
	sim_learn(ret, sizeof(*ret));
	return 0;
}

int call_fstat(int fd, struct stat *ret)
{
	const struct description *d = get_file(fd);
	bool noticed = d && !kernel.nodes[d->node].directory; /* of those nothing changes */

	if (call_refused("fstat", noticed))
		return -1;
	d = get_file(fd);
	return (int)call_done(tell_stat(d ? d->node : -EBADF, ret), "fstat(%d)", fd);
}

static bool has_open(int node)
{
	const struct process *process = kernel_process();

	for (int i = 0; i < SIM_DESCRIPTORS; i++) {
		int at = process->descriptions[i];

		if (at >= 0 && kernel.descriptions[at].node == node)
			return true;
	}
	return false;
}

int call_lstat(const char *path, struct stat *ret)
{
	int node;

	if (call_refused("lstat", true))
		return -1;
	node = strcmp(path, "/proc/thread-self/fd") == 0 ? 0 : file_resolve(path);
	if (node >= 0)
		kernel_process()->looked = has_open(node);
	return (int)call_done(tell_stat(node, ret), "lstat(%s)%s", path,
	                 node >= 0 && !kernel.nodes[node].directory ? " of a file" : "");
}

int sim_stat(const char *path, struct stat *ret)
{
	int node;

	if (call_refused("stat", true))
		return -1;
	node = file_resolve(path);
	return (int)call_done(tell_stat(node, ret), "stat(%s)", path);
}

int sim_access(const char *path, int mode)
{
	int node;

	(void)mode;
	if (call_refused("access", true))
		return -1;
	node = file_resolve(path);
	return (int)call_done(node < 0 ? node : 0, "access(%s)", path);
}

int call_statfs(const char *path, struct statfs *ret)
{
	int node;

	if (call_refused("statfs", false))
		return -1;
	node = file_resolve(path);
	*ret = (struct statfs){ .f_type = EXT4_SUPER_MAGIC };
	return (int)call_done(node < 0 ? node : 0, "statfs(%s)", path);
}

int call_unlink(const char *path)
{
	if (call_refused("unlink", true))
		return -1;
	return (int)call_done(file_unlink(path), "unlink(%s)", path);
}

int sim_rename(const char *from, const char *to)
{
	if (call_refused("rename", true))
		return -1;
	return (int)call_done(file_rename(from, to), "rename(%s, %s)", from, to);
}

int call_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	char from_path[SIM_PATH], to_path[SIM_PATH];
	int r;

	if (call_refused("linkat", true))
		return -1;
	r = file_join(from_fd, from, from_path);
	if (r == 0)
		r = file_join(to_fd, to, to_path);
	if (r == 0)
		r = file_link(from_path, to_path, flags);
	return (int)call_done(r, "linkat(%s, %s)", from, to);
}

int call_renameat(int from_folder, const char *from, int to_folder, const char *to)
{
	char from_path[SIM_PATH], to_path[SIM_PATH];
	int r;

	if (call_refused("renameat", true))
		return -1;
	r = file_join(from_folder, from, from_path);
	if (r == 0)
		r = file_join(to_folder, to, to_path);
	if (r == 0)
		r = file_rename(from_path, to_path);
	return (int)call_done(r, "renameat(%s, %s)", from, to);
}

int call_mkdir(const char *path, mode_t mode)
{
	if (call_refused("mkdir", true))
		return -1;
	return (int)call_done(file_make(path, mode, true), "mkdir(%s)", path);
}

int call_mknod(const char *path, mode_t mode, dev_t device)
{
	(void)device;
	if (call_refused("mknod", true))
		return -1;
	return (int)call_done(file_make(path, mode & 07777, false), "mknod(%s)", path);
}

/* The simulated program has its standard files, and descriptors above them. */
int call_getfl(int fd)
{
	(void)fd;
	return O_RDWR;
}

int call_ofd_setlk(int fd, struct flock *range)
{
	struct description *d;

	if (call_refused("fcntl_ofd_setlk", true))
		return -1;
	d = get_file(fd);
	return (int)call_done(d ? lock_records(d, F_OFD_SETLK, range) : -EBADF,
	                      "fcntl(%d, F_OFD_SETLK, type %d)", fd, range->l_type);
}

int call_ofd_getlk(int fd, struct flock *range)
{
	struct description *d;
	int r;

	if (call_refused("fcntl_ofd_getlk", true))
		return -1;
	d = get_file(fd);
	r = d ? lock_records(d, F_OFD_GETLK, range) : -EBADF;
	if (r == 0)
		sim_learn(&range->l_type, sizeof(range->l_type));
	return (int)call_done(r, "fcntl(%d, F_OFD_GETLK), found %d", fd, range->l_type);
}

int call_setsig(int fd, int signal)
{
	if (call_refused("fcntl_setsig", false))
		return -1;
	return (int)call_done(get_file(fd) ? 0 : -EBADF, "fcntl(%d, F_SETSIG, %d)", fd, signal);
}

int call_setlease(int fd, int type)
{
	struct description *d;

	if (call_refused("fcntl_setlease", true))
		return -1;
	d = get_file(fd);
	return (int)call_done(d ? lock_lease(d, type) : -EBADF, "fcntl(%d, F_SETLEASE, %d)", fd, type);
}

int sim_fcntl(int fd, int command, ...)
{
	struct description *d = get_file(fd);
	struct flock *lock;
	va_list arguments;
	int r;

	if (command != F_SETLK && command != F_GETLK)
		return 0; /* flags of the descriptor */
	va_start(arguments, command);
	lock = va_arg(arguments, struct flock *);
	va_end(arguments);
	if (call_refused("fcntl", true))
		return -1;
	r = d ? lock_records(d, command, lock) : -EBADF;
	if (r == 0 && command == F_GETLK)
		sim_learn(&lock->l_type, sizeof(lock->l_type));
	return (int)call_done(r, "fcntl(%d, %s, type %d, +%lld, %lld)", fd,
	                 command == F_SETLK ? "F_SETLK" : "F_GETLK", lock->l_type,
	                 (long long)lock->l_start - 0x40000000, (long long)lock->l_len);
}

int call_dup3(int from, int to, int flags)
{
	struct process *process = kernel_process();
	const struct description *d = descriptor_get(from);
	int slot = to - SIM_FIRST_FD;

	(void)flags;
	if (call_refused("dup3", true))
		return -1;
	if (!d || slot < 0 || slot >= SIM_DESCRIPTORS || from == to)
		return (int)call_done(-EBADF, "dup3(%d, %d)", from, to);
	(void)descriptor_close(to);
	process->descriptions[slot] = process->descriptions[from - SIM_FIRST_FD];
	kernel.descriptions[process->descriptions[slot]].references++;
	return (int)call_done(to, "dup3(%d, %d)", from, to);
}
