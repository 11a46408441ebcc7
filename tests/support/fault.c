#include <errno.h>
#include <stdatomic.h>

#include "support.h"
#include "base/sys.h"

/* Threads of the library call meanwhile. */
struct fault {
	_Atomic unsigned calls, hits;
	_Atomic unsigned nth; /* 0: none */
	_Atomic enum fault_span span;
	_Atomic int error;
	void (*_Atomic action)(void *arg);
	void *_Atomic arg;
};

static struct fault faults[FAULT_COUNT];
static struct sys_table real;
static fault_witness *_Atomic witness;
static _Atomic bool paused;

/* The object of a call. */
struct target {
	const char *path; /* NULL: none */
	int fd;           /* -1: none */
};
#define PATH(path) ((struct target){ (path), -1 })
#define FD(fd) ((struct target){ NULL, (fd) })
#define NOTHING ((struct target){ NULL, -1 })

/* Counts a call; true: it is to fail, and errno is set. */
static bool strikes(enum fault_call call, struct target target)
{
	struct fault *fault = &faults[call];
	void (*action)(void *arg);
	fault_witness *look;
	unsigned count, nth;

	if (paused)
		return false;
	count = atomic_fetch_add(&fault->calls, 1) + 1;
	nth = fault->nth;
	if (nth == 0 || count < nth || (count > nth && fault->span == FAULT_ONCE))
		return false;
	atomic_fetch_add(&fault->hits, 1);
	action = fault->action;
	if (action) {
		action(fault->arg);
		return false;
	}
	look = witness;
	if (look)
		look(call, target.fd, target.path);
	errno = fault->error;
	return true;
}

#define WRAP(type, name, failure, target, parameters, arguments) \
	static type wrapped_##name parameters                    \
	{                                                        \
		if (strikes(FAULT_##name, target))               \
			return failure;                          \
		return real.name arguments;                      \
	}

WRAP(int, open, -1, PATH(path),
     (const char *path, int flags, mode_t mode), (path, flags, mode))
WRAP(ssize_t, read, -1, FD(fd), (int fd, void *buffer, size_t size), (fd, buffer, size))
WRAP(ssize_t, write, -1, FD(fd),
     (int fd, const void *buffer, size_t size), (fd, buffer, size))
WRAP(int, flock, -1, FD(fd), (int fd, int operation), (fd, operation))
WRAP(int, fstat, -1, FD(fd), (int fd, struct stat *ret), (fd, ret))
WRAP(int, lstat, -1, PATH(path), (const char *path, struct stat *ret), (path, ret))
WRAP(int, statfs, -1, PATH(path), (const char *path, struct statfs *ret), (path, ret))
WRAP(int, name_to_handle_at, -1, PATH(path),
     (int folder, const char *path, struct file_handle *ret, int *ret_mount, int flags),
     (folder, path, ret, ret_mount, flags))
WRAP(ssize_t, pread, -1, FD(fd),
     (int fd, void *buffer, size_t size, off_t at), (fd, buffer, size, at))
WRAP(int, ftruncate, -1, FD(fd), (int fd, off_t size), (fd, size))
WRAP(int, fsync, -1, FD(fd), (int fd), (fd))
WRAP(int, futimens, -1, FD(fd), (int fd, const struct timespec times[2]), (fd, times))
WRAP(int, linkat, -1, PATH(to),
     (int from_fd, const char *from, int to_fd, const char *to, int flags),
     (from_fd, from, to_fd, to, flags))
WRAP(int, openat, -1, PATH(name),
     (int folder, const char *name, int flags, mode_t mode), (folder, name, flags, mode))
WRAP(int, fstatat, -1, PATH(name),
     (int folder, const char *name, struct stat *ret, int flags), (folder, name, ret, flags))
WRAP(int, mkdirat, -1, PATH(name),
     (int folder, const char *name, mode_t mode), (folder, name, mode))
WRAP(int, unlinkat, -1, PATH(name), (int folder, const char *name, int flags),
     (folder, name, flags))
WRAP(int, renameat, -1, PATH(to),
     (int from_folder, const char *from, int to_folder, const char *to),
     (from_folder, from, to_folder, to))
WRAP(ssize_t, getdents, -1, FD(folder),
     (int folder, void *buffer, size_t size), (folder, buffer, size))
WRAP(int, fcntl_dupfd, -1, FD(fd), (int fd, int lowest), (fd, lowest))
WRAP(int, fcntl_getfl, -1, FD(fd), (int fd), (fd))
WRAP(int, fcntl_ofd_setlk, -1, FD(fd), (int fd, struct flock *range), (fd, range))
WRAP(int, fcntl_ofd_getlk, -1, FD(fd), (int fd, struct flock *range), (fd, range))
WRAP(int, fcntl_setlk, -1, FD(fd), (int fd, struct flock *range), (fd, range))
WRAP(int, fchmod, -1, FD(fd), (int fd, mode_t mode), (fd, mode))
WRAP(int, chmod, -1, PATH(path), (const char *path, mode_t mode), (path, mode))
WRAP(int, fcntl_setsig, -1, FD(fd), (int fd, int signal), (fd, signal))
WRAP(int, fcntl_setlease, -1, FD(fd), (int fd, int type), (fd, type))
WRAP(ssize_t, getrandom, -1, NOTHING,
     (void *buffer, size_t size, unsigned flags), (buffer, size, flags))
WRAP(int, unlink, -1, PATH(path), (const char *path), (path))
WRAP(int, mkdir, -1, PATH(path), (const char *path, mode_t mode), (path, mode))
WRAP(int, mknod, -1, PATH(path),
     (const char *path, mode_t mode, dev_t device), (path, mode, device))
WRAP(int, utimensat, -1, PATH(path),
     (int directory, const char *path, const struct timespec times[2], int flags),
     (directory, path, times, flags))
WRAP(ssize_t, readlink, -1, PATH(path),
     (const char *path, char *buffer, size_t size), (path, buffer, size))
WRAP(char *, realpath, NULL, PATH(path),
     (const char *path, char *resolved), (path, resolved))
WRAP(char *, getcwd, NULL, NOTHING, (char *buffer, size_t size), (buffer, size))
WRAP(int, kill, -1, NOTHING, (pid_t pid, int signal), (pid, signal))
WRAP(int, pidfd_open, -1, NOTHING, (pid_t pid, unsigned flags), (pid, flags))
WRAP(int, gethostname, -1, NOTHING, (char *name, size_t size), (name, size))
WRAP(int, dup3, -1, FD(to), (int from, int to, int flags), (from, to, flags))
WRAP(int, inotify_init1, -1, NOTHING, (int flags), (flags))
WRAP(int, inotify_add_watch, -1, PATH(path),
     (int fd, const char *path, uint32_t mask), (fd, path, mask))
WRAP(int, epoll_create1, -1, NOTHING, (int flags), (flags))
WRAP(int, epoll_ctl, -1, FD(fd), (int epoll, int operation, int fd, struct epoll_event *event),
     (epoll, operation, fd, event))
WRAP(int, epoll_wait, -1, FD(epoll),
     (int epoll, struct epoll_event *ret_events, int size, int timeout_ms),
     (epoll, ret_events, size, timeout_ms))
WRAP(int, eventfd, -1, NOTHING, (unsigned initial, int flags), (initial, flags))
WRAP(int, timerfd_create, -1, NOTHING, (int clock, int flags), (clock, flags))
WRAP(int, timerfd_settime, -1, FD(fd),
     (int fd, int flags, const struct itimerspec *at, struct itimerspec *ret_old),
     (fd, flags, at, ret_old))
WRAP(int, ppoll, -1, NOTHING,
     (struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask),
     (fds, n, timeout, mask))
WRAP(int, nanosleep, -1, NOTHING,
     (const struct timespec *time, struct timespec *ret_rest), (time, ret_rest))
WRAP(int, pthread_create, errno, NOTHING,
     (pthread_t *ret, const pthread_attr_t *attributes, void *(*run)(void *arg), void *arg),
     (ret, attributes, run, arg))
WRAP(void *, dlopen, NULL, PATH(name), (const char *name, int flags), (name, flags))
WRAP(void *, calloc, NULL, NOTHING, (size_t n, size_t size), (n, size))

/* Half of it, or nothing, is no error either: write(2). */
static ssize_t wrapped_pwrite(int fd, const void *buffer, size_t size, off_t at)
{
	if (!strikes(FAULT_pwrite, FD(fd)))
		return real.pwrite(fd, buffer, size, at);
	if (errno == FAULT_SHORT)
		return real.pwrite(fd, buffer, (size + 1) / 2, at);
	return errno == FAULT_ZERO ? 0 : -1;
}

/* A close(2) that fails has closed the descriptor all the same. */
static int wrapped_close(int fd)
{
	bool struck = strikes(FAULT_close, FD(fd));
	int error = errno;
	int r = real.close(fd);

	if (!struck)
		return r;
	errno = error;
	return -1;
}

/* Only a watch that is gone cannot be removed. */
static int wrapped_inotify_rm_watch(int fd, int wd)
{
	bool struck = strikes(FAULT_inotify_rm_watch, FD(fd));
	int error = errno;
	int r = real.inotify_rm_watch(fd, wd);

	if (!struck)
		return r;
	errno = error;
	return -1;
}

static int64_t shift;

static int64_t shifted_date(void)
{
	return real.date() + shift;
}

void date_shift(int64_t by)
{
	fault_watch();
	shift = by;
}

void fault_watch(void)
{
	if (sys.open == wrapped_open)
		return;
	real = sys;
#define INSTALL(name) sys.name = wrapped_##name;
	FAULT_CALLS(INSTALL)
	sys.date = shifted_date;
#undef INSTALL
}

static void empty(struct fault *fault)
{
	fault->nth = 0; /* first */
	fault->action = (void (*)(void *))NULL; /* clang converts no NULL that is a void * */
	fault->calls = fault->hits = 0;
}

void fault_set(enum fault_call call, unsigned nth, enum fault_span span, int error)
{
	struct fault *fault = &faults[call];

	fault_watch();
	empty(fault);
	fault->span = span;
	fault->error = error;
	fault->nth = nth;
}

void fault_before(enum fault_call call, unsigned nth, void (*action)(void *arg), void *arg)
{
	struct fault *fault = &faults[call];

	fault_watch();
	empty(fault);
	fault->span = FAULT_ONCE;
	fault->arg = arg;
	fault->action = action;
	fault->nth = nth;
}

unsigned fault_calls(enum fault_call call)
{
	return faults[call].calls;
}

unsigned fault_hits(enum fault_call call)
{
	return faults[call].hits;
}

void fault_set_witness(fault_witness *function)
{
	witness = function;
}

void fault_pause(bool pause)
{
	paused = pause;
}

void fault_clear(void)
{
	paused = false;
	for (int call = 0; call < FAULT_COUNT; call++)
		empty(&faults[call]);
}

const char *fault_name(enum fault_call call)
{
	static const char *const names[] = {
#define NAME(name) #name,
		FAULT_CALLS(NAME)
#undef NAME
	};

	return names[call];
}

static _Atomic int64_t fake_time; /* workers look at it as well */

static int64_t fake_now(void)
{
	return fake_time;
}

void clock_fake(int64_t now)
{
	fake_time = now;
	sys.now = sys.boot = fake_now;
}

void clock_advance(int64_t by)
{
	fake_time += by;
}

static _Atomic int64_t slept;
static int64_t (*boot_awake)(void);

static int64_t boot_after_sleep(void)
{
	return boot_awake() + slept;
}

void clock_sleep(int64_t by)
{
	slept += by;
	if (boot_awake)
		return;
	boot_awake = sys.boot;
	sys.boot = boot_after_sleep;
}
