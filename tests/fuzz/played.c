#include "played.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "base/sys.h"

#define SECOND INT64_C(1000000000)
enum { MOST_TIMERS = 64, MOST_INSTANCES = 16 };

/* An eventfd that plays a timerfd. */
static struct timer {
	int fd;     /* -1: none */
	int64_t at; /* 0: not set */
} timers[MOST_TIMERS];

/* Inotify instances. */
static struct instance {
	int fd; /* -1: none */
	bool used;
	int first, last; /* watch descriptors of this use */
} instances[MOST_INSTANCES];

static struct sys_table real;
static bool playing;
static int64_t now;

void (*played_on_sleep)(void);

/* In the place of the C library's, for libevent too. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
	if (!playing || (clock != CLOCK_MONOTONIC && clock != CLOCK_MONOTONIC_COARSE))
		return (int)syscall(SYS_clock_gettime, clock, ret);
	*ret = (struct timespec){ now / SECOND, now % SECOND };
	return 0;
}

static void fire(struct timer *timer)
{
	const uint64_t one = 1;

	if (timer->fd < 0 || timer->at == 0 || timer->at > now)
		return;
	timer->at = 0;
	CHECK(write(timer->fd, &one, sizeof(one)) == sizeof(one));
}

static struct timer *find(int fd)
{
	for (int i = 0; i < MOST_TIMERS; i++)
		if (timers[i].fd == fd)
			return &timers[i];
	return NULL;
}

static int play_timerfd_create(int clock, int flags)
{
	struct timer *timer = find(-1);
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	(void)clock;
	(void)flags;
	CHECK(timer);
	if (fd >= 0)
		*timer = (struct timer){ fd, 0 };
	return fd;
}

static int play_timerfd_settime(int fd, int flags, const struct itimerspec *at,
                                struct itimerspec *ret_old)
{
	struct timer *timer = find(fd);
	uint64_t count;

	(void)flags;
	(void)ret_old;
	CHECK(timer);
	(void)!read(fd, &count, sizeof(count));
	timer->at = at->it_value.tv_sec * SECOND + at->it_value.tv_nsec;
	fire(timer);
	return 0;
}

static struct instance *find_instance(int fd, bool used)
{
	for (int i = 0; i < MOST_INSTANCES; i++)
		if (instances[i].fd == fd || (fd < 0 && instances[i].used == used))
			return &instances[i];
	return NULL;
}

static int play_inotify_init1(int flags)
{
	struct instance *instance = find_instance(-1, false);

	CHECK(instance);
	if (instance->fd < 0)
		instance->fd = real.inotify_init1(flags);
	if (instance->fd < 0)
		return -1;
	instance->used = true;
	instance->first = instance->last = 0;
	return instance->fd;
}

static int play_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	struct instance *instance = find_instance(fd, true);
	int wd = real.inotify_add_watch(fd, path, mask);

	CHECK(instance);
	if (wd < 0)
		return wd;
	if (instance->first == 0)
		instance->first = wd;
	instance->last = wd > instance->last ? wd : instance->last;
	return wd;
}

static void empty(struct instance *instance)
{
	char events[4096];

	for (int wd = instance->first; wd > 0 && wd <= instance->last; wd++)
		(void)inotify_rm_watch(instance->fd, wd);
	while (read(instance->fd, events, sizeof(events)) > 0) {
	}
	instance->used = false;
}

static int play_close(int fd)
{
	struct timer *timer = find(fd);
	struct instance *instance = find_instance(fd, true);

	if (instance) {
		empty(instance);
		return 0;
	}
	if (timer)
		timer->fd = -1;
	return real.close(fd);
}

unsigned played_idle_descriptors(void)
{
	unsigned count = 0;

	for (int i = 0; i < MOST_INSTANCES; i++)
		count += instances[i].fd >= 0 && !instances[i].used;
	return count;
}

static int play_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                      const sigset_t *mask)
{
	int r = poll(fds, n, 0);

	(void)mask;
	if (r != 0) {
		played_advance(SECOND / 10000); /* who is woken for ever gets to its deadline */
		return r;
	}
	if (played_on_sleep)
		played_on_sleep();
	r = poll(fds, n, 0);
	if (r == 0)
		played_advance(timeout->tv_sec * SECOND + timeout->tv_nsec);
	return r;
}

static int play_nanosleep(const struct timespec *time, struct timespec *ret_rest)
{
	(void)ret_rest;
	played_advance(time->tv_sec * SECOND + time->tv_nsec);
	return 0;
}

void played_install(void)
{
	for (int i = 0; i < MOST_TIMERS; i++)
		timers[i].fd = -1;
	for (int i = 0; i < MOST_INSTANCES; i++)
		instances[i].fd = -1;
	real = sys;
	sys.timerfd_create = play_timerfd_create;
	sys.timerfd_settime = play_timerfd_settime;
	sys.inotify_init1 = play_inotify_init1;
	sys.inotify_add_watch = play_inotify_add_watch;
	sys.close = play_close;
	sys.ppoll = play_ppoll;
	sys.nanosleep = play_nanosleep;
}

void played_begin(void)
{
	now = 1000 * SECOND;
	playing = true;
}

void played_end(void)
{
	playing = false;
}

int64_t played_now(void)
{
	return now;
}

void played_advance(int64_t by)
{
	now += by;
	for (int i = 0; i < MOST_TIMERS; i++)
		fire(&timers[i]);
}
