/*
 * calls.c - the table of system calls: each asks the hook, does its work, tells what it returned.
 *
 * What a call returns or fills in goes into the history of its process: two executions in which
 * a process has been told the same have brought it to the same point.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calls.h"

#define SECOND INT64_C(1000000000)
#define EPOCH (INT64_C(1600000000) * SECOND) /* the date at time zero */

/* Whether the call is to fail, with errno set. */
bool call_refused(const char *call, bool noticed)
{
	int error = sim_hooks.before ? sim_hooks.before(call, noticed) : 0;

	if (error)
		errno = error;
	return error != 0;
}

void sim_learn(const void *bytes, size_t size)
{
	uint64_t hash = kernel_process()->history;

	for (size_t i = 0; i < size; i++)
		hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
	kernel_process()->history = hash ^ hash >> 29;
}

ssize_t call_done(ssize_t r, const char *format, ...)
{
	char line[160], call[128];
	va_list arguments;

	sim_learn(&r, sizeof(r));
	if (sim_hooks.trace) {
		va_start(arguments, format);
		(void)vsnprintf(call, sizeof(call), format, arguments);
		va_end(arguments);
		(void)snprintf(line, sizeof(line), "%s = %zd%s%s", call, r, r < 0 ? " " : "",
		               r < 0 ? strerror((int)-r) : "");
		sim_hooks.trace(kernel.current, line);
	}
	if (r >= 0)
		return r;
	errno = (int)-r;
	return -1;
}

static ssize_t call_readlink(const char *path, char *buffer, size_t size)
{
	if (call_refused("readlink", false))
		return -1;
	return call_done(proc_link(path, buffer, size), "readlink(%s)", path);
}

static char *call_realpath(const char *path, char *resolved)
{
	if (call_refused("realpath", false))
		return NULL;
	if (call_done(entry_find(path) ? 0 : -ENOENT, "realpath(%s)", path) < 0)
		return NULL;
	return strcpy(resolved, path);
}

static char *call_getcwd(char *buffer, size_t size)
{
	if (call_refused("getcwd", false))
		return NULL;
	if (size <= strlen(SIM_FOLDER)) {
		errno = ERANGE;
		return NULL;
	}
	return strcpy(buffer, SIM_FOLDER);
}

static int call_kill(pid_t pid, int signal)
{
	int r = -EPERM; /* nobody sends signals here */

	if (call_refused("kill", true))
		return -1;
	if (signal == 0)
		r = proc_find(pid) < 0 ? -ESRCH : 0;
	return (int)call_done(r, "kill(%d, %d)", (int)pid, signal);
}

static int call_gethostname(char *name, size_t size)
{
	if (call_refused("gethostname", false))
		return -1;
	(void)snprintf(name, size, "%s", SIM_HOST);
	return 0;
}

static ssize_t call_getrandom(void *buffer, size_t size, unsigned flags)
{
	static const unsigned char step = 37;
	unsigned char *bytes = buffer;

	(void)flags;
	if (call_refused("getrandom", false))
		return -1;
	/* another name for each process and each call, the same in each execution */
	for (size_t i = 0; i < size; i++)
		bytes[i] = (unsigned char)(kernel_process()->history >> (i % 8 * 8)) +
		           (unsigned char)(kernel.current * step);
	return call_done((ssize_t)size, "getrandom(%zu)", size);
}

/* No process has a second thread. */
static int call_pthread_create(pthread_t *ret, const pthread_attr_t *attributes,
                               void *(*run)(void *arg), void *arg)
{
	(void)ret;
	(void)attributes;
	(void)run;
	(void)arg;
	return EAGAIN;
}

static void *call_dlopen(const char *name, int flags)
{
	(void)name;
	(void)flags;
	return &kernel; /* something: what is looked for is there */
}

static int64_t call_now(void)
{
	sim_learn(&kernel.now, sizeof(kernel.now));
	return kernel.now;
}

static int64_t call_date(void)
{
	return call_now() + EPOCH;
}

const struct sys_table sim_calls = {
	.open = call_open,
	.close = call_close,
	.read = call_read,
	.write = call_write,
	.pread = call_pread,
	.pwrite = call_pwrite,
	.ftruncate = call_ftruncate,
	.fsync = call_fsync,
	.futimens = call_futimens,
	.flock = call_flock,
	.fstat = call_fstat,
	.lstat = call_lstat,
	.statfs = call_statfs,
	.unlink = call_unlink,
	.openat = call_openat,
	.fstatat = call_fstatat,
	.mkdirat = call_mkdirat,
	.unlinkat = call_unlinkat,
	.getdents = call_getdents,
	.linkat = call_linkat,
	.renameat = call_renameat,
	.mkdir = call_mkdir,
	.mknod = call_mknod,
	.utimensat = call_utimensat,
	.readlink = call_readlink,
	.realpath = call_realpath,
	.getcwd = call_getcwd,
	.kill = call_kill,
	.gethostname = call_gethostname,
	.fcntl_getfl = call_getfl,
	.fcntl_ofd_setlk = call_ofd_setlk,
	.fcntl_ofd_getlk = call_ofd_getlk,
	.fcntl_setsig = call_setsig,
	.fcntl_setlease = call_setlease,
	.getrandom = call_getrandom,
	.dup3 = call_dup3,
	.inotify_init1 = call_inotify_init1,
	.inotify_add_watch = call_inotify_add_watch,
	.inotify_rm_watch = call_inotify_rm_watch,
	.pidfd_open = call_pidfd_open,
	.epoll_create1 = call_epoll_create1,
	.epoll_ctl = call_epoll_ctl,
	.epoll_wait = call_epoll_wait,
	.eventfd = call_eventfd,
	.timerfd_create = call_timerfd_create,
	.timerfd_settime = call_timerfd_settime,
	.ppoll = call_ppoll,
	.nanosleep = call_nanosleep,
	.pthread_create = call_pthread_create,
	.dlopen = call_dlopen,
	.now = call_now,
	.date = call_date,
	.boot = call_now, /* nothing sleeps as a whole */
	.calloc = calloc,
};
