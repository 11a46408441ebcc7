#include "base/sys.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/magic.h"

#define KERNELS_OWN 512 /* from ERESTARTSYS on: include/linux/errno.h of the kernel */

static int timerfd_create_(int clock, int flags)
{
	return timerfd_create(clock, flags);
}

static int timerfd_settime_(int fd, int flags, const struct itimerspec *at,
                            struct itimerspec *ret_old)
{
	return timerfd_settime(fd, flags, at, ret_old);
}

static int open_mode(const char *path, int flags, mode_t mode)
{
	return open(path, flags, mode);
}

static int openat_mode(int folder, const char *name, int flags, mode_t mode)
{
	return openat(folder, name, flags, mode);
}

/* glibc has it since 2.30 */
static ssize_t getdents_(int folder, void *buffer, size_t size)
{
	return syscall(SYS_getdents64, folder, buffer, size);
}

static int fcntl_dupfd(int fd, int lowest)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, lowest);
}

static int fcntl_getfl(int fd)
{
	return fcntl(fd, F_GETFL);
}

static int fcntl_ofd_getlk(int fd, struct flock *range)
{
	return fcntl(fd, F_OFD_GETLK, range);
}

static int fcntl_ofd_setlk(int fd, struct flock *range)
{
	return fcntl(fd, F_OFD_SETLK, range);
}

static int fcntl_setlk(int fd, struct flock *range)
{
	return fcntl(fd, F_SETLK, range);
}

static int fcntl_setsig(int fd, int signal)
{
	return fcntl(fd, F_SETSIG, signal);
}

static int fcntl_setlease(int fd, int type)
{
	return fcntl(fd, F_SETLEASE, type);
}

static int eventfd_flags(unsigned initial, int flags)
{
	return eventfd(initial, flags);
}

/* glibc has it since 2.36 */
static int pidfd_open_(pid_t pid, unsigned flags)
{
	return (int)syscall(SYS_pidfd_open, pid, flags);
}

/* Where dlsym(3) is in a library of its own that is not there, so is dlopen(3). */
extern __typeof__(dlsym) dlsym __attribute__((weak));

/* By its name alone: linkers warn of a program that is linked statically and could call it. */
static void *dlopen_(const char *name, int flags)
{
	void *(*function)(const char *name, int flags) = NULL;

	if (dlsym)
		*(void **)&function = dlsym(RTLD_DEFAULT, "dlopen");
	return function ? function(name, flags) : NULL;
}

static int64_t read_clock(clockid_t clock)
{
	struct timespec t;

	/* clock_gettime(2) of these clocks cannot fail on Linux */
	(void)clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t monotonic_now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

static int64_t realtime_date(void)
{
	return read_clock(CLOCK_REALTIME);
}

static int64_t boot_now(void)
{
	return read_clock(CLOCK_BOOTTIME);
}

struct sys_table sys = {
	.open = open_mode,
	.close = close,
	.read = read,
	.write = write,
	.pread = pread,
	.pwrite = pwrite,
	.ftruncate = ftruncate,
	.fsync = fsync,
	.futimens = futimens,
	.flock = flock,
	.fstat = fstat,
	.lstat = lstat,
	.statfs = statfs,
	.name_to_handle_at = name_to_handle_at,
	.openat = openat_mode,
	.fstatat = fstatat,
	.mkdirat = mkdirat,
	.unlinkat = unlinkat,
	.renameat = renameat,
	.getdents = getdents_,
	.unlink = unlink,
	.linkat = linkat,
	.mkdir = mkdir,
	.mknod = mknod,
	.utimensat = utimensat,
	.readlink = readlink,
	.realpath = realpath,
	.getcwd = getcwd,
	.kill = kill,
	.pidfd_open = pidfd_open_,
	.gethostname = gethostname,
	.fcntl_dupfd = fcntl_dupfd,
	.fcntl_getfl = fcntl_getfl,
	.fcntl_ofd_getlk = fcntl_ofd_getlk,
	.fcntl_ofd_setlk = fcntl_ofd_setlk,
	.fcntl_setlk = fcntl_setlk,
	.fchmod = fchmod,
	.chmod = chmod,
	.fcntl_setsig = fcntl_setsig,
	.fcntl_setlease = fcntl_setlease,
	.getrandom = getrandom,
	.dup3 = dup3,
	.inotify_init1 = inotify_init1,
	.inotify_add_watch = inotify_add_watch,
	.inotify_rm_watch = inotify_rm_watch,
	.epoll_create1 = epoll_create1,
	.epoll_ctl = epoll_ctl,
	.epoll_wait = epoll_wait,
	.eventfd = eventfd_flags,
	.timerfd_create = timerfd_create_,
	.timerfd_settime = timerfd_settime_,
	.ppoll = ppoll,
	.nanosleep = nanosleep,
	.pthread_create = pthread_create,
	.dlopen = dlopen_,
	.now = monotonic_now,
	.date = realtime_date,
	.boot = boot_now,
	.calloc = calloc,
};

#define REPEAT_EINTR(result, call)                  \
	do {                                        \
		(result) = (call);                  \
	} while ((result) == -1 && errno == EINTR)

/*
 * Where a program runs without standard input, output or error, the system gives those numbers
 * to whatever is opened next: prints would go into a lock file, and a dup2(2) onto the number
 * would drop the lock. Duplicating closes nothing for good, so it raises no event.
 */
static int above_standard(int fd)
{
	int moved;

	if (fd < 0)
		return -errno;
	if (fd > STDERR_FILENO)
		return fd;
	moved = sys.fcntl_dupfd(fd, STDERR_FILENO + 1);
	if (moved < 0)
		moved = -errno;
	(void)sys_close(fd);
	return moved;
}

int sys_open(const char *path, int flags, mode_t mode)
{
	int fd;

	REPEAT_EINTR(fd, sys.open(path, flags, mode));
	return above_standard(fd);
}

int sys_inotify_init(int flags)
{
	return above_standard(sys.inotify_init1(flags));
}

int sys_epoll_create(int flags)
{
	return above_standard(sys.epoll_create1(flags));
}

int sys_eventfd(unsigned initial, int flags)
{
	return above_standard(sys.eventfd(initial, flags));
}

int sys_timerfd_create(int clock, int flags)
{
	return above_standard(sys.timerfd_create(clock, flags));
}

int sys_pidfd_open(pid_t pid, unsigned flags)
{
	return above_standard(sys.pidfd_open(pid, flags));
}

#define MANY_PLACES 100 /* more, and whatever says that one is closed is wrong */

static struct {
	pthread_mutex_t mutex;
	unsigned users;
	bool ours[STDERR_FILENO + 1];
} standard = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static bool is_standard_closed(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (sys.fcntl_getfl(fd) < 0 && errno == EBADF)
			return true;
	return false;
}

/* A descriptor by O_PATH can be neither read nor written: as good as none to who prints. */
static int occupy_lowest(void)
{
	int fd;

	REPEAT_EINTR(fd, sys.open("/", O_PATH | O_DIRECTORY | O_CLOEXEC, 0));
	if (fd < 0)
		return -errno;
	if (fd <= STDERR_FILENO)
		standard.ours[fd] = true;
	else
		(void)sys_close(fd); /* another thread came first */
	return 0;
}

/* The program may have put a file of its own there meanwhile. */
static void vacate(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		int flags = standard.ours[fd] ? sys.fcntl_getfl(fd) : 0;

		if (flags > 0 && (flags & O_PATH))
			(void)sys_close(fd);
		standard.ours[fd] = false;
	}
}

int sys_occupy_standard(void)
{
	int r = 0;

	(void)pthread_mutex_lock(&standard.mutex);
	for (int i = 0; r == 0 && is_standard_closed(); i++)
		r = i < MANY_PLACES ? occupy_lowest() : -EBADF;
	if (r == 0)
		standard.users++;
	else if (standard.users == 0)
		vacate();
	(void)pthread_mutex_unlock(&standard.mutex);
	return r;
}

void sys_vacate_standard(void)
{
	(void)pthread_mutex_lock(&standard.mutex);
	if (--standard.users == 0)
		vacate();
	(void)pthread_mutex_unlock(&standard.mutex);
}

int sys_close(int fd)
{
	return sys.close(fd) < 0 ? -errno : 0;
}

int sys_flock(int fd, int operation)
{
	int r;

	REPEAT_EINTR(r, sys.flock(fd, operation));
	return r < 0 ? -errno : 0;
}

bool sys_is_unsupported(int error)
{
	/* the kernel's own numbers, of which a program should see none: ENOTSUPP, 524, of file
	   systems of clusters */
	return error == -ENOSYS || error == -EOPNOTSUPP || error <= -KERNELS_OWN;
}

int sys_fstat(int fd, struct stat *ret)
{
	int r;

	REPEAT_EINTR(r, sys.fstat(fd, ret));
	return r < 0 ? -errno : 0;
}

int sys_lstat(const char *path, struct stat *ret)
{
	int r;

	REPEAT_EINTR(r, sys.lstat(path, ret));
	return r < 0 ? -errno : 0;
}

int sys_unlink(const char *path)
{
	int r;

	REPEAT_EINTR(r, sys.unlink(path));
	return r < 0 && errno != ENOENT ? -errno : 0;
}

int sys_link(const char *from, const char *to, int flags)
{
	int r;

	REPEAT_EINTR(r, sys.linkat(AT_FDCWD, from, AT_FDCWD, to, flags));
	return r < 0 ? -errno : 0;
}

int sys_mkdir(const char *path, mode_t mode)
{
	int r;

	REPEAT_EINTR(r, sys.mkdir(path, mode));
	return r < 0 && errno != EEXIST ? -errno : 0;
}

int sys_open_at(int folder, const char *name, int flags, mode_t mode)
{
	int fd;

	REPEAT_EINTR(fd, sys.openat(folder, name, flags, mode));
	return above_standard(fd);
}

int sys_stat_at(int folder, const char *name, struct stat *ret)
{
	int r;

	REPEAT_EINTR(r, sys.fstatat(folder, name, ret, AT_SYMLINK_NOFOLLOW));
	return r < 0 ? -errno : 0;
}

int sys_unlink_at(int folder, const char *name)
{
	int r;

	REPEAT_EINTR(r, sys.unlinkat(folder, name, 0));
	return r < 0 && errno != ENOENT ? -errno : 0;
}

int sys_mkdir_at(int folder, const char *name, mode_t mode)
{
	int r;

	REPEAT_EINTR(r, sys.mkdirat(folder, name, mode));
	return r < 0 && errno != EEXIST ? -errno : 0;
}

int sys_link_at(int folder, const char *from, const char *to)
{
	int r;

	REPEAT_EINTR(r, sys.linkat(folder, from, folder, to, 0));
	return r < 0 ? -errno : 0;
}

int sys_rename_at(int folder, const char *from, const char *to)
{
	int r;

	REPEAT_EINTR(r, sys.renameat(folder, from, folder, to));
	return r < 0 ? -errno : 0;
}

int sys_make_file(const char *path, mode_t mode)
{
	int r;

	REPEAT_EINTR(r, sys.mknod(path, S_IFREG | mode, 0));
	return r < 0 ? -errno : 0;
}

int sys_lock_record(int fd)
{
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int r;

	REPEAT_EINTR(r, sys.fcntl_ofd_setlk(fd, &range));
	return r < 0 ? -errno : 0;
}

bool sys_has_record(int fd, pid_t *ret_pid)
{
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
		               .l_len = SYS_WAITERS_BYTE };

	if (sys.fcntl_ofd_getlk(fd, &range) < 0 || range.l_type == F_UNLCK)
		return false;
	*ret_pid = range.l_pid;
	return true;
}

static struct flock waiters_byte(short type, unsigned place)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET,
		               .l_start = SYS_WAITERS_BYTE + place, .l_len = 1 };
}

int sys_register_waiter(int fd)
{
	return sys_register_waiter_at(fd, 0);
}

int sys_has_waiter(int fd)
{
	return sys_has_waiter_at(fd, 0);
}

int sys_register_waiter_at(int fd, unsigned place)
{
	struct flock range = waiters_byte(F_RDLCK, place);
	int r;

	REPEAT_EINTR(r, sys.fcntl_ofd_setlk(fd, &range));
	return r < 0 ? -errno : 0;
}

int sys_unregister_waiter(int fd)
{
	struct flock range = waiters_byte(F_UNLCK, 0);
	int r;

	REPEAT_EINTR(r, sys.fcntl_ofd_setlk(fd, &range));
	return r < 0 ? -errno : 0;
}

int sys_has_waiter_at(int fd, unsigned place)
{
	struct flock range = waiters_byte(F_WRLCK, place);
	int r;

	REPEAT_EINTR(r, sys.fcntl_ofd_getlk(fd, &range));
	return r < 0 ? -errno : range.l_type != F_UNLCK;
}

int sys_truncate(int fd, off_t size)
{
	int r;

	REPEAT_EINTR(r, sys.ftruncate(fd, size));
	return r < 0 ? -errno : 0;
}

int sys_sync(int fd)
{
	int r;

	REPEAT_EINTR(r, sys.fsync(fd));
	return r < 0 && errno != EINVAL && errno != EROFS && errno != ENOSYS ? -errno : 0;
}

ssize_t sys_read_start(int fd, char *buffer, size_t size)
{
	return sys_read_known(fd, buffer, size, (off_t)size);
}

ssize_t sys_read_known(int fd, char *buffer, size_t size, off_t known)
{
	size_t length = 0;
	ssize_t n = 1;

	/* at least one, since it may have grown */
	while (n > 0 && length < size && (length == 0 || (off_t)length < known)) {
		REPEAT_EINTR(n, sys.pread(fd, buffer + length, size - length, (off_t)length));
		if (n < 0)
			return -errno;
		length += (size_t)n;
	}
	return (ssize_t)length;
}

/* Beyond the process's limit write(2) sends SIGXFSZ, which kills. */
static bool is_above_limit(size_t size)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < size;
}

int sys_write_start(int fd, const char *bytes, size_t size)
{
	size_t done = 0;
	ssize_t n;

	if (is_above_limit(size))
		return -EFBIG;
	while (done < size) {
		REPEAT_EINTR(n, sys.pwrite(fd, bytes + done, size - done, (off_t)done));
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		done += (size_t)n;
	}
	return 0;
}

ssize_t sys_read_file(const char *path, char *buffer, size_t size)
{
	int fd = sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	size_t length = 0;
	ssize_t n = 0;

	if (fd < 0)
		return fd;
	while (length < size - 1) {
		REPEAT_EINTR(n, sys.read(fd, buffer + length, size - 1 - length));
		if (n <= 0)
			break;
		length += (size_t)n;
	}
	if (n < 0)
		n = -errno;
	(void)sys_close(fd);
	buffer[length] = '\0';
	return n < 0 ? n : (ssize_t)length;
}

int sys_random(void *bytes, size_t size)
{
	char text[SYS_RANDOM + 1];
	int r;

	errno = EIO; /* of a short read */
	if (sys.getrandom(bytes, size, 0) == (ssize_t)size)
		return 0;
	r = -errno;
	/* an old kernel, or a sandbox */
	if ((r == -ENOSYS || r == -EPERM) &&
	    sys_read_file("/dev/urandom", text, size + 1) == (ssize_t)size) {
		memcpy(bytes, text, size);
		r = 0;
	}
	return r;
}

void sys_fd_link(char link[SYS_FD_LINK], int fd)
{
	(void)snprintf(link, SYS_FD_LINK, "/proc/thread-self/fd/%d", fd);
}

bool sys_is_local(const struct statfs *fs)
{
	switch ((unsigned long)fs->f_type) {
	case EXT4_SUPER_MAGIC:
	case XFS_SUPER_MAGIC:
	case BTRFS_SUPER_MAGIC:
	case F2FS_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
	case OVERLAYFS_SUPER_MAGIC:
	case MSDOS_SUPER_MAGIC:
	case EXFAT_MAGIC:
	case NTFS3_MAGIC:
	case BCACHEFS_MAGIC:
	case ZFS_MAGIC:
		return true;
	default:
		return false;
	}
}

bool sys_is_nfs(const struct statfs *fs)
{
	return (unsigned long)fs->f_type == NFS_SUPER_MAGIC;
}

bool sys_is_fuse(const struct statfs *fs)
{
	return (unsigned long)fs->f_type == FUSE_SUPER_MAGIC;
}

union handle {
	struct file_handle head;
	unsigned char room[sizeof(struct file_handle) + 128]; /* name_to_handle_at(2) needs no more */
};

static int get_handle(int folder, const char *path, int flags, union handle *ret)
{
	int mount;

	memset(ret, 0, sizeof(*ret));
	ret->head.handle_bytes = sizeof(*ret) - sizeof(ret->head);
	return sys.name_to_handle_at(folder, path, &ret->head, &mount, flags) < 0 ? -errno : 0;
}

int sys_is_file_at(int fd, const char *path)
{
	union handle ours, named;
	int r = get_handle(fd, "", AT_EMPTY_PATH, &ours);

	if (r == 0)
		r = get_handle(AT_FDCWD, path, 0, &named);
	return r < 0 ? r : memcmp(&ours, &named, sizeof(ours)) == 0;
}

char *sys_strdup(const char *text)
{
	size_t size = strlen(text) + 1;
	char *copy = sys.calloc(1, size);

	return copy ? memcpy(copy, text, size) : NULL;
}

void sys_hex(const void *bytes, size_t size, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *byte = bytes;

	for (size_t i = 0; i < size; i++) {
		ret[2 * i] = digits[byte[i] >> 4];
		ret[2 * i + 1] = digits[byte[i] & 15];
	}
	ret[2 * size] = '\0';
}

char *sys_format(const char *format, ...)
{
	va_list arguments;
	char *text;
	int n;

	va_start(arguments, format);
	n = vsnprintf(NULL, 0, format, arguments);
	va_end(arguments);
	if (n < 0)
		return NULL;
	text = sys.calloc(1, (size_t)n + 1);
	if (!text)
		return NULL;
	va_start(arguments, format);
	(void)vsnprintf(text, (size_t)n + 1, format, arguments);
	va_end(arguments);
	return text;
}
