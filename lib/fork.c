/*
 * fork.c - the gate that keeps forks waiting, the generation, and descriptors that a child drops.
 *
 * In the child, before fork(2) returns there, the generation changes, and the guarded descriptors
 * are closed. An idle descriptor takes the place of one that the caller's event loop may have
 * registered. If it were closed, event_reinit(3) would fail; if it were kept, the child would read
 * the parent's events. With another file behind the number, an epoll_ctl(2) of the child can no
 * longer reach the parent's registration in the epoll instance that they share.
 */
#include "fork.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include "base/sys.h"

/*
 * A call that takes this long is stuck in the kernel, perhaps on a mount that is dead, and the
 * fork goes on. A descriptor is entered in the table when open(2) ends, so the child gets
 * none of it, unless it ends at this very moment. So long, since a thread that merely has to
 * wait for its turn on a busy machine may be anywhere, also behind the call: its descriptor would
 * stay open in the child, with the lock.
 */
#define STUCK INT64_C(2000000000) /* ns */
#define LOOK_EVERY 50000          /* ns */

/*
 * Calls that begin wait for a fork, also those of a loop whose own lock file is not on that mount. So
 * when no call has ended for QUIET, a fork that waits on lets others go on in between. It looks
 * whether all have ended as soon as none has for BRIEF.
 */
#define QUIET INT64_C(100000000) /* ns */
#define BRIEF INT64_C(10000000)  /* ns */
#define PAUSE 5000000            /* ns */

atomic_uint fork_generation;
static atomic_uint forks;
static int handlers_error;

/* Calls under way that keep forks waiting. A fork keeps the gate, so that none begins until it is
   over. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint calls;

/* Held for a few instructions, and by a fork: nothing is called under it. */
static struct {
	pthread_mutex_t mutex;
	struct list list;
} fds = { .mutex = PTHREAD_MUTEX_INITIALIZER, .list = LIST_INIT(fds.list) };

FILELOCK_API unsigned filelock_generation(void)
{
	return atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

unsigned fork_count(void)
{
	return atomic_load_explicit(&forks, memory_order_relaxed);
}

int fork_check(void)
{
	return handlers_error;
}

void fork_note_handlers(int error)
{
	handlers_error = error;
}

static void nap(long ns)
{
	struct timespec time = { .tv_nsec = ns };

	(void)sys.nanosleep(&time, NULL);
}

/* The gate is closed, so calls only end: until all have, or none has for so long. */
static bool wait_for_calls(int64_t quiet)
{
	int64_t since = sys.now();
	unsigned before = 0;
	unsigned under_way;

	while ((under_way = atomic_load(&calls)) > 0) {
		if (under_way != before)
			since = sys.now();
		else if (sys.now() - since >= quiet)
			return false;
		before = under_way;
		nap(LOOK_EVERY);
	}
	return true;
}

void fork_hold_off(void)
{
	(void)pthread_mutex_lock(&gate);
	atomic_fetch_add(&calls, 1);
	(void)pthread_mutex_unlock(&gate);
}

void fork_allow(void)
{
	atomic_fetch_sub(&calls, 1);
}

void fork_close_gate(void)
{
	int64_t until = sys.now() + STUCK - QUIET;
	bool over;

	(void)pthread_mutex_lock(&gate);
	over = wait_for_calls(QUIET);
	while (!over && sys.now() < until) {
		(void)pthread_mutex_unlock(&gate);
		nap(PAUSE);
		(void)pthread_mutex_lock(&gate);
		over = wait_for_calls(BRIEF);
	}
	if (!over)
		(void)wait_for_calls(QUIET);
}

void fork_open_gate(bool in_child)
{
	if (in_child)
		atomic_store(&calls, 0); /* their threads are not here */
	(void)pthread_mutex_unlock(&gate);
}

FILELOCK_API void filelock_guard_fd(struct filelock_guarded_fd *entry, int fd, bool keep_number)
{
	entry->fd = fd;
	entry->keep_number = keep_number;
	(void)pthread_mutex_lock(&fds.mutex);
	list_add_first(&fds.list, &entry->link);
	(void)pthread_mutex_unlock(&fds.mutex);
}

FILELOCK_API int filelock_guard_timerfd(struct filelock_guarded_fd *entry)
{
	int fd = sys_timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);

	if (fd < 0)
		return fd;
	filelock_guard_fd(entry, fd, true);
	return 0;
}

FILELOCK_API int filelock_set_timerfd(const struct filelock_guarded_fd *entry, int64_t delay)
{
	/* zero would disarm it: timerfd_settime(2) */
	int64_t time = delay > 0 ? delay : 1;
	struct itimerspec when = { .it_value = { time / 1000000000, time % 1000000000 } };

	return sys.timerfd_settime(entry->fd, 0, &when, NULL) < 0 ? -errno : 0;
}

FILELOCK_API int filelock_guard_eventfd(struct filelock_guarded_fd *entry)
{
	int fd = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (fd < 0)
		return fd;
	filelock_guard_fd(entry, fd, true);
	return 0;
}

FILELOCK_API const struct sys_table *filelock_sys(void)
{
	return &sys;
}

static void unlist(struct filelock_guarded_fd *entry)
{
	list_remove(&entry->link);
	entry->fd = -1;
}

FILELOCK_API void filelock_unguard_fd(struct filelock_guarded_fd *entry)
{
	int fd;

	(void)pthread_mutex_lock(&fds.mutex);
	fd = entry->fd;
	if (fd >= 0)
		unlist(entry);
	(void)pthread_mutex_unlock(&fds.mutex);
	if (fd >= 0)
		(void)sys_close(fd);
}

FILELOCK_API void filelock_unguard_kept_fd(struct filelock_guarded_fd *entry)
{
	(void)pthread_mutex_lock(&fds.mutex);
	if (entry->fd >= 0)
		unlist(entry);
	(void)pthread_mutex_unlock(&fds.mutex);
}

static void replace_descriptors(void)
{
	int idle = -1;

	list_for_each_safe(link, after, &fds.list) {
		struct filelock_guarded_fd *entry =
		        list_entry(link, struct filelock_guarded_fd, link);

		if (entry->keep_number && idle < 0)
			idle = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		/* without one to put there, closing is the lesser evil */
		if (!entry->keep_number || idle < 0 ||
		    sys.dup3(idle, entry->fd, O_CLOEXEC) < 0) {
			(void)sys_close(entry->fd);
			unlist(entry);
		}
	}
	if (idle >= 0)
		(void)sys_close(idle);
}

void fork_lock_fds(void)
{
	(void)pthread_mutex_lock(&fds.mutex);
	/* before the fork itself: a lock that is released during it may be open in the child */
	atomic_fetch_add(&forks, 1);
}

void fork_begin_child(void)
{
	atomic_fetch_add(&fork_generation, 1);
}

void fork_unlock_fds(bool in_child)
{
	if (in_child)
		replace_descriptors();
	(void)pthread_mutex_unlock(&fds.mutex);
}
