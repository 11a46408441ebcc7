/*
 * event_calls.c - the system calls on inotify, epoll, counters, timers and processes; sleeping.
 */
#include <errno.h>
#include <string.h>

#include "calls.h"

#define SECOND INT64_C(1000000000)

/* A descriptor of a new description of no file. */
static int make(enum description_type type, uint64_t counter)
{
	int description = description_new(type);
	int fd;

	if (description < 0)
		return description;
	kernel.descriptions[description].counter = counter;
	fd = descriptor_new(description);
	if (fd < 0)
		memset(&kernel.descriptions[description], 0, sizeof(struct description));
	return fd;
}

int call_inotify_init1(int flags)
{
	if (call_refused("inotify_init1", false))
		return -1;
	return (int)call_done(make(ON_INOTIFY, 0), "inotify_init1(%d)", flags);
}

static struct instance *get_instance(int fd)
{
	struct description *d = descriptor_get(fd);

	return d && d->type == ON_INOTIFY ? &d->inotify : NULL;
}

int call_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	struct instance *instance = get_instance(fd);
	int node;

	if (call_refused("inotify_add_watch", true))
		return -1;
	node = instance ? file_resolve(path) : -EBADF;
	return (int)call_done(node < 0 ? node : notify_add(instance, node, mask),
	                 "inotify_add_watch(%d, %s, %#x)", fd, path, mask);
}

int call_inotify_rm_watch(int fd, int wd)
{
	struct instance *instance = get_instance(fd);

	if (call_refused("inotify_rm_watch", true))
		return -1;
	return (int)call_done(instance ? notify_remove(instance, wd) : -EBADF,
	                 "inotify_rm_watch(%d, %d)", fd, wd);
}

int call_eventfd(unsigned initial, int flags)
{
	if (call_refused("eventfd", false))
		return -1;
	return (int)call_done(make(ON_COUNTER, initial), "eventfd(%u, %d)", initial, flags);
}

int call_pidfd_open(pid_t pid, unsigned flags)
{
	int process, fd;

	(void)flags;
	if (call_refused("pidfd_open", true))
		return -1;
	process = proc_find(pid);
	fd = process < 0 ? -ESRCH : make(ON_PROCESS, 0);
	if (fd >= 0)
		descriptor_get(fd)->process = (unsigned)process;
	return (int)call_done(fd, "pidfd_open(%d)", (int)pid);
}

int call_epoll_create1(int flags)
{
	if (call_refused("epoll_create1", false))
		return -1;
	return (int)call_done(make(ON_EPOLL, 0), "epoll_create1(%d)", flags);
}

static struct description *get_epoll(int fd)
{
	struct description *d = descriptor_get(fd);

	return d && d->type == ON_EPOLL ? d : NULL;
}

int call_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
	struct description *d = get_epoll(epoll);
	int r = -EINVAL;

	if (call_refused("epoll_ctl", false))
		return -1;
	if (d && operation == EPOLL_CTL_ADD)
		r = poll_add(d, fd, event);
	else if (d && operation == EPOLL_CTL_DEL)
		r = poll_remove(d, fd);
	return (int)call_done(r, "epoll_ctl(%d, %d, %d)", epoll, operation, fd);
}

/* It never sleeps: the library asks so what ppoll(2) has told of. */
int call_epoll_wait(int epoll, struct epoll_event *ret_events, int size, int timeout_ms)
{
	struct description *d = get_epoll(epoll);

	if (call_refused("epoll_wait", true))
		return -1;
	return (int)call_done(d ? poll_collect(d, ret_events, size) : -EBADF,
	                      "epoll_wait(%d, %d ms)", epoll, timeout_ms);
}

int call_timerfd_create(int clock, int flags)
{
	if (call_refused("timerfd_create", false))
		return -1;
	return (int)call_done(make(ON_TIMER, 0), "timerfd_create(%d, %d)", clock, flags);
}

int call_timerfd_settime(int fd, int flags, const struct itimerspec *at,
                                struct itimerspec *ret_old)
{
	struct description *d = descriptor_get(fd);

	(void)flags;
	(void)ret_old;
	if (call_refused("timerfd_settime", false))
		return -1;
	if (!d || d->type != ON_TIMER)
		return (int)call_done(-EBADF, "timerfd_settime(%d)", fd);
	d->timer = at->it_value.tv_sec * SECOND + at->it_value.tv_nsec;
	return (int)call_done(0, "timerfd_settime(%d)", fd);
}

static int64_t after(const struct timespec *time)
{
	return time ? kernel.now + time->tv_sec * SECOND + time->tv_nsec : INT64_MAX;
}

int call_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                      const sigset_t *mask)
{
	int r;

	(void)mask;
	if (call_refused("ppoll", true))
		return -1;
	r = poll_wait(fds, n, after(timeout));
	for (nfds_t i = 0; i < n; i++)
		sim_learn(&fds[i].revents, sizeof(fds[i].revents));
	return (int)call_done(r, "ppoll(%s%lld us)", timeout ? "" : "for ever, ",
	                 timeout ? (long long)(timeout->tv_sec * 1000000 +
	                                       timeout->tv_nsec / 1000)
	                         : -1);
}

int call_nanosleep(const struct timespec *time, struct timespec *ret_rest)
{
	(void)ret_rest;
	if (call_refused("nanosleep", true))
		return -1;
	(void)poll_wait(NULL, 0, after(time));
	return (int)call_done(0, "nanosleep()");
}
