/*
 * inotify.c - wake-ups by inotify(7) and pidfd_open(2).
 *
 * A watcher owns one inotify instance, made at its first subscription. It keeps the instance: a
 * user has 128 of them, and closing one takes milliseconds. The kernel has one watch for each inode
 * and watcher, which counts the subscriptions on it here: inotify_add_watch(2) of the same inode
 * gives the same number again, also through a hard link, and IN_MASK_ADD widens the mask.
 * Subscriptions are found by watch and name, so that an event in a directory where thousands
 * wait costs no more than one where one waits.
 *
 * The last subscription to go leaves its watch idle. Tidying the watcher removes the watch, after
 * the callbacks of the users, unless a new subscription uses it before that.
 *
 * Events of a removed watch may still be in the buffer. The kernel gives out numbers in a cycle, so
 * they meet no watch and are dropped.
 *
 * A process is watched like a file, under the number -pid: one pidfd serves all that wait for its
 * end, which counts as the loss of the watch, like the end of an inode. The first of them puts an
 * epoll(7) instance in the place of the inotify descriptor, which it contains. Most watchers never
 * need one, and their wake-ups do not pay for it.
 *
 * A notice of another thread comes over an eventfd in the same epoll instance, with the watcher's first
 * one. Few are open at a time, so all of them are looked at.
 *
 * Threads. The loop that dispatches and the threads that step acquisitions share the mutex. It is
 * held across no system call that could wait for a disk, so not across inotify_add_watch(2), which
 * looks a path up. That call may give the number of a watch that is being removed; it is then made
 * once more.
 *
 * A subscriber may unsubscribe itself or another one, or subscribe, while events are reported. All
 * that an event concerns are therefore first gathered in one list, and leave it as they go.
 */
#include "inotify.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "handle.h"
#include "fork.h"
#include "base/sys.h"

#define RINGS_SOON 20000 /* ns */

struct watch {
	struct hash_node node; /* by wd */
	int wd; /* the kernel's; of a process: -pid */
	struct filelock_guarded_fd process; /* its pidfd; -1: it has ended, or there is none */
	unsigned count;
	struct list subscriptions; /* all on it */
	struct list idle; /* in the watcher's list of those to remove, if the count is still 0 */
};

struct filelock_watcher {
	pthread_mutex_t mutex;
	bool locked; /* by enter */
	struct filelock_guarded_fd fd;    /* of inotify */
	struct filelock_guarded_fd epoll; /* -1: no process was watched yet, nor a notice open */
	struct filelock_guarded_fd bell;  /* in it, for notices; -1: none was open yet */
	struct helpers_bell ringer;       /* of it */
	atomic_uint ringing;              /* threads that are to ring it yet */
	struct list notices;
	struct hash watches;
	struct list idle;
	struct hash subscriptions;
	size_t waiters; /* that watch a file */
	size_t waiting; /* with a watch or without */
	unsigned removed; /* watches, so far */
	unsigned generation;
	bool broken; /* a descriptor cannot be read */
	bool warned; /* that waits only poll */
};

static size_t subscription_hash(int wd, const char *name)
{
	return hash_bytes(name ? name : "", name ? strlen(name) : 0, (size_t)wd);
}

static struct watch *find_watch(const struct filelock_watcher *watcher, int wd)
{
	struct hash_node *node = hash_first(&watcher->watches, (size_t)wd);

	return node ? hash_entry(node, struct watch, node) : NULL;
}

/* Asked at each entry, so by a look at the number alone. */
static bool is_inherited(const struct filelock_watcher *watcher)
{
	return watcher->generation !=
	       atomic_load_explicit(&fork_generation, memory_order_relaxed);
}

/* False in a forked child of who made the watcher: it has no other thread, and the mutex may be taken
   for ever. */
static bool enter(struct filelock_watcher *watcher)
{
	bool inherited = is_inherited(watcher);

	if (!inherited)
		(void)pthread_mutex_lock(&watcher->mutex);
	watcher->locked = !inherited;
	return !inherited;
}

static void leave(struct filelock_watcher *watcher)
{
	if (watcher->locked)
		(void)pthread_mutex_unlock(&watcher->mutex);
}

/* Of no notice in particular: each says by itself whether it was given. */
static void ring(struct helpers_bell *bell)
{
	static const uint64_t one = 1;
	struct filelock_watcher *watcher = list_entry(bell, struct filelock_watcher, ringer);

	/* EAGAIN: it was rung 2^64 - 2 times, and has to be heard yet */
	while (sys.write(watcher->bell.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	atomic_fetch_sub_explicit(&watcher->ringing, 1, memory_order_release);
}

FILELOCK_API int filelock_watcher_new(struct filelock_watcher **ret_watcher)
{
	struct filelock_watcher *watcher;
	int r = fork_check();

	if (r < 0)
		return r;
	watcher = sys.calloc(1, sizeof(*watcher));
	if (!watcher)
		return -ENOMEM;
	(void)pthread_mutex_init(&watcher->mutex, NULL); /* never fails, on Linux */
	watcher->fd.fd = -1;
	watcher->epoll.fd = -1;
	watcher->bell.fd = -1;
	watcher->ringer.ring = ring;
	list_init(&watcher->notices);
	list_init(&watcher->idle);
	watcher->generation = filelock_generation();
	*ret_watcher = watcher;
	return 0;
}

/* They are a few instructions from it. */
static void wait_for_ringers(const struct filelock_watcher *watcher)
{
	static const struct timespec pause = { .tv_nsec = RINGS_SOON };

	while (atomic_load_explicit(&watcher->ringing, memory_order_acquire) > 0)
		(void)sys.nanosleep(&pause, NULL);
}

FILELOCK_API void filelock_watcher_free(struct filelock_watcher *watcher)
{
	if (!watcher)
		return;
	if (!is_inherited(watcher)) {
		wait_for_ringers(watcher);
		(void)pthread_mutex_destroy(&watcher->mutex);
	}
	filelock_unguard_fd(&watcher->epoll);
	filelock_unguard_fd(&watcher->bell);
	filelock_unguard_fd(&watcher->fd);
	for (size_t i = 0; i < watcher->watches.size; i++) {
		struct hash_node *node = watcher->watches.buckets[i];

		while (node) {
			struct watch *watch = hash_entry(node, struct watch, node);

			node = node->next;
			filelock_unguard_fd(&watch->process);
			free(watch);
		}
	}
	free(watcher->watches.buckets);
	free(watcher->subscriptions.buckets);
	free(watcher);
}

FILELOCK_API int filelock_watcher_fd(struct filelock_watcher *watcher)
{
	int fd;

	(void)enter(watcher);
	fd = watcher->epoll.fd >= 0 ? watcher->epoll.fd : watcher->fd.fd;
	leave(watcher);
	return fd;
}

bool inotify_has_events(struct filelock_watcher *watcher)
{
	struct pollfd fd = { .fd = filelock_watcher_fd(watcher), .events = POLLIN };
	struct timespec at_once = { 0, 0 };

	return fd.fd >= 0 && sys.ppoll(&fd, 1, &at_once, NULL) > 0;
}

FILELOCK_API bool filelock_watcher_is_inherited(const struct filelock_watcher *watcher)
{
	return is_inherited(watcher);
}

FILELOCK_API size_t filelock_watcher_load(struct filelock_watcher *watcher)
{
	size_t load;

	(void)enter(watcher);
	/* one that may not watch its file waits by a name alone */
	load = watcher->waiters ? watcher->waiters
	                        : watcher->subscriptions.count > 0 ||
	                                  !list_is_empty(&watcher->notices);
	leave(watcher);
	return load;
}

size_t inotify_count(struct filelock_watcher *watcher, int change)
{
	size_t waiting;

	(void)enter(watcher);
	watcher->waiting += (size_t)change;
	waiting = watcher->waiting;
	leave(watcher);
	return waiting;
}

/* of: a watch; NULL: inotify's descriptor; the watcher: the bell. */
static int listen_to(int epoll, int fd, void *of)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = of };

	return sys.epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_inotify(struct filelock_watcher *watcher)
{
	int fd, r = 0;

	if (watcher->fd.fd >= 0)
		return 0;
	fd = sys_inotify_init(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0)
		return fd;
	if (watcher->epoll.fd >= 0)
		r = listen_to(watcher->epoll.fd, fd, NULL);
	if (r < 0)
		(void)sys_close(fd);
	else
		filelock_guard_fd(&watcher->fd, fd, true);
	return r;
}

static int open_epoll(struct filelock_watcher *watcher)
{
	int fd, r = 0;

	if (watcher->epoll.fd >= 0)
		return 0;
	fd = sys_epoll_create(EPOLL_CLOEXEC);
	if (fd < 0)
		return fd;
	if (watcher->fd.fd >= 0)
		r = listen_to(fd, watcher->fd.fd, NULL);
	if (r < 0)
		(void)sys_close(fd);
	else
		filelock_guard_fd(&watcher->epoll, fd, true);
	return r;
}

static int open_bell(struct filelock_watcher *watcher)
{
	int fd, r;

	if (watcher->bell.fd >= 0)
		return 0;
	fd = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd < 0)
		return fd;
	r = listen_to(watcher->epoll.fd, fd, watcher);
	if (r < 0)
		(void)sys_close(fd);
	else
		filelock_guard_fd(&watcher->bell, fd, false);
	return r;
}

static int open_process(struct filelock_watcher *watcher, struct watch *watch)
{
	int fd, r;

	if (watch->process.fd >= 0)
		return 0;
	fd = sys_pidfd_open(-watch->wd, 0);
	if (fd < 0)
		return fd;
	r = listen_to(watcher->epoll.fd, fd, watch);
	if (r < 0)
		(void)sys_close(fd);
	else
		filelock_guard_fd(&watch->process, fd, false);
	return r;
}

static void close_process(struct filelock_watcher *watcher, struct watch *watch)
{
	/* a child that is being made may have it open yet, and would keep it in there */
	(void)sys.epoll_ctl(watcher->epoll.fd, EPOLL_CTL_DEL, watch->process.fd, NULL);
	filelock_unguard_fd(&watch->process);
}

static void put_watch(struct filelock_watcher *watcher, struct watch *watch)
{
	if (--watch->count > 0 || list_is_linked(&watch->idle))
		return;
	list_add_first(&watcher->idle, &watch->idle);
}

static void stop_watching(struct filelock_watcher *watcher, struct watch *watch)
{
	if (watch->process.fd >= 0)
		close_process(watcher, watch);
	/* fails only if the kernel has removed it already */
	else if (watch->wd >= 0)
		(void)sys.inotify_rm_watch(watcher->fd.fd, watch->wd);
}

FILELOCK_API void filelock_watcher_tidy(struct filelock_watcher *watcher)
{
	/* in a forked child the descriptor is an idle one, which has no watches */
	bool foreign = !enter(watcher);
	struct list *link;

	while ((link = list_take_first(&watcher->idle))) {
		struct watch *watch = list_entry(link, struct watch, idle);

		if (watch->count > 0)
			continue;
		hash_remove(&watcher->watches, &watch->node);
		watcher->removed++;
		if (!foreign)
			stop_watching(watcher, watch);
		free(watch);
	}
	leave(watcher);
}

/* In no table yet, but with room in it. */
static struct watch *new_watch(struct filelock_watcher *watcher)
{
	struct watch *watch = sys.calloc(1, sizeof(*watch));

	if (!watch || hash_reserve(&watcher->watches, sys.calloc, free) < 0) {
		free(watch);
		return NULL;
	}
	watch->process.fd = -1;
	list_init(&watch->subscriptions);
	return watch;
}

static int get_watch(struct filelock_watcher *watcher, const char *path, uint32_t mask,
                     struct watch **ret_watch)
{
	struct watch *spare = new_watch(watcher);
	struct watch *watch;
	int fd = watcher->fd.fd;
	unsigned removed;
	int wd;

	if (!spare)
		return -ENOMEM;
	do {
		removed = watcher->removed;
		leave(watcher);
		wd = sys.inotify_add_watch(fd, path, mask | IN_MASK_ADD);
		if (wd < 0)
			wd = -errno;
		(void)enter(watcher);
	} while (wd >= 0 && removed != watcher->removed && !find_watch(watcher, wd));
	if (wd < 0) {
		free(spare);
		return wd;
	}
	watch = find_watch(watcher, wd);
	if (watch) {
		free(spare);
	} else {
		watch = spare;
		watch->wd = wd;
		hash_insert(&watcher->watches, &watch->node, (size_t)wd);
	}
	watch->count++;
	*ret_watch = watch;
	return 0;
}

static int get_process(struct filelock_watcher *watcher, pid_t pid, struct watch **ret_watch)
{
	struct watch *watch = find_watch(watcher, -pid);
	struct watch *spare = NULL;
	int r;

	if (!watch) {
		watch = spare = new_watch(watcher);
		if (!spare)
			return -ENOMEM;
		watch->wd = -pid;
	}
	r = open_process(watcher, watch);
	if (r < 0) {
		free(spare);
		return r;
	}
	if (spare)
		hash_insert(&watcher->watches, &watch->node, (size_t)watch->wd);
	watch->count++;
	*ret_watch = watch;
	return 0;
}

/* Whoever waits watches its file itself, and perhaps a name or a process as well. */
static bool is_counted(const struct subscription *subscription)
{
	return subscription->mask && !subscription->name;
}

/* Enters it in the tables, which have room for it. */
static void enlist(struct filelock_watcher *watcher, struct subscription *s)
{
	atomic_store_explicit(&s->watcher, watcher, memory_order_relaxed);
	hash_insert(&watcher->subscriptions, &s->node, subscription_hash(s->watch->wd, s->name));
	list_add_first(&s->watch->subscriptions, &s->link);
	watcher->waiters += is_counted(s);
}

static int check_watcher(struct filelock_watcher *watcher)
{
	if (!watcher->locked)
		return FILELOCK_EFORKED;
	if (watcher->broken)
		return -EIO;
	return hash_reserve(&watcher->subscriptions, sys.calloc, free) < 0 ? -ENOMEM : 0;
}

/* Whether to say now, once a watcher, that its waits poll. What else fails is a race, or said. */
static bool is_first_to_poll(struct filelock_watcher *watcher, int error)
{
	if (error >= 0 || error == -ENOENT || error == -EIO || error == FILELOCK_EFORKED ||
	    watcher->warned)
		return false;
	watcher->warned = true;
	return true;
}

static void warn_of_polling(const struct filelock *lock, int error)
{
	log_write(FILELOCK_LOG_WARNING,
	          "no watch on %s, so waits poll: %s (a user has so many: "
	          "/proc/sys/fs/inotify/max_user_instances and max_user_watches)",
	          lock->path, filelock_strerror(error));
}

int inotify_subscribe(struct filelock_watcher *watcher, struct subscription *subscription,
                      struct filelock *lock, const char *path, uint32_t mask, const char *name)
{
	struct watch *watch = NULL;
	bool warn;
	int r;

	(void)enter(watcher);
	r = check_watcher(watcher);
	if (r == 0)
		r = open_inotify(watcher);
	if (r == 0)
		r = get_watch(watcher, path, mask, &watch);
	if (r == 0) {
		*subscription = (struct subscription){ .watch = watch, .mask = mask,
			                               .name = name, .lock = lock };
		enlist(watcher, subscription);
	}
	warn = is_first_to_poll(watcher, r);
	leave(watcher);
	if (warn)
		warn_of_polling(lock, r);
	return r;
}

int inotify_subscribe_process(struct filelock_watcher *watcher, struct subscription *subscription,
                              struct filelock *lock, pid_t pid)
{
	struct watch *watch = NULL;
	int r;

	(void)enter(watcher);
	r = check_watcher(watcher);
	if (r == 0)
		r = open_epoll(watcher);
	if (r == 0)
		r = get_process(watcher, pid, &watch);
	if (r == 0) {
		*subscription = (struct subscription){ .watch = watch, .lock = lock };
		enlist(watcher, subscription);
	}
	leave(watcher);
	return r;
}

static void delist(struct filelock_watcher *watcher, struct subscription *subscription)
{
	struct watch *watch = subscription->watch;

	hash_remove(&watcher->subscriptions, &subscription->node);
	list_remove(&subscription->link);
	watcher->waiters -= is_counted(subscription);
	/* the last touch: whoever sees it may free the handle, without the mutex */
	inotify_forget(subscription);
	put_watch(watcher, watch);
}

void inotify_unsubscribe(struct subscription *subscription)
{
	struct filelock_watcher *watcher =
	        atomic_load_explicit(&subscription->watcher, memory_order_acquire);

	if (!watcher)
		return;
	(void)enter(watcher);
	if (inotify_is_subscribed(subscription)) /* still: the loop may lose the watch */
		delist(watcher, subscription);
	leave(watcher);
}

int inotify_open_notice(struct filelock_watcher *watcher, struct notice *notice,
                        struct filelock *lock)
{
	int r;

	(void)enter(watcher);
	r = check_watcher(watcher);
	if (r == 0)
		r = open_epoll(watcher);
	if (r == 0)
		r = open_bell(watcher);
	if (r == 0) {
		notice->watcher = watcher;
		notice->lock = lock;
		atomic_store_explicit(&notice->given, false, memory_order_relaxed);
		list_add_last(&watcher->notices, &notice->link);
	}
	leave(watcher);
	return r;
}

struct helpers_bell *inotify_give_notice(void *arg)
{
	struct notice *notice = arg;
	struct filelock_watcher *watcher = notice->watcher;

	atomic_store_explicit(&notice->given, true, memory_order_relaxed);
	atomic_fetch_add_explicit(&watcher->ringing, 1, memory_order_relaxed);
	return &watcher->ringer;
}

bool inotify_close_notice(struct notice *notice)
{
	struct filelock_watcher *watcher = notice->watcher;

	if (!watcher)
		return false;
	(void)enter(watcher);
	list_remove(&notice->link);
	leave(watcher);
	notice->watcher = NULL;
	return atomic_load_explicit(&notice->given, memory_order_relaxed);
}

/* An event of a watch that lives on: tells those who asked for it, by name and mask. */
static void tell_event(struct filelock_watcher *watcher, const struct inotify_event *event)
{
	const char *name = event->len ? event->name : NULL;
	struct hash_node *node =
	        hash_first(&watcher->subscriptions, subscription_hash(event->wd, name));

	/* `woken` callbacks only take note (driver.h), so the chain stands still */
	for (; node; node = hash_next(node)) {
		struct subscription *s = hash_entry(node, struct subscription, node);

		if (s->watch->wd != event->wd || !(s->mask & event->mask) ||
		    strcmp(s->name ? s->name : "", name ? name : "") != 0)
			continue;
		handle_wake(s->lock);
	}
}

/* Tells all subscribers of one watch. */
static void tell_all(const struct watch *watch)
{
	list_for_each(link, &watch->subscriptions)
		handle_wake(list_entry(link, struct subscription, link)->lock);
}

/* And those of every watch. */
static void tell_everybody(struct filelock_watcher *watcher)
{
	for (size_t i = 0; i < watcher->subscriptions.size; i++) {
		struct hash_node *node = watcher->subscriptions.buckets[i];

		for (; node; node = node->next)
			handle_wake(hash_entry(node, struct subscription, node)->lock);
	}
}

/* The kernel has removed a watch: its subscribers try, and subscribe, anew. */
static void lose_watch(struct filelock_watcher *watcher, struct watch *watch)
{
	tell_all(watch);
	while (!list_is_empty(&watch->subscriptions))
		delist(watcher, list_entry(list_first(&watch->subscriptions), struct subscription,
		                           link));
}

/* Else a descriptor that stays readable would keep its loop spinning. */
static void give_up_watching(struct filelock_watcher *watcher, int error)
{
	log_write(FILELOCK_LOG_ERROR, "cannot read events, only polling: %s",
	          filelock_strerror(error));
	watcher->broken = true;
	for (size_t i = 0; i < watcher->watches.size; i++) {
		struct hash_node *node = watcher->watches.buckets[i];

		for (; node; node = node->next)
			lose_watch(watcher, hash_entry(node, struct watch, node));
	}
}

static void take_event(struct filelock_watcher *watcher, const struct inotify_event *event)
{
	struct watch *watch;

	if (event->mask & IN_Q_OVERFLOW) {
		log_write(FILELOCK_LOG_WARNING,
		          "the inotify queue overflowed: every waiter tries again");
		tell_everybody(watcher);
		return;
	}
	watch = find_watch(watcher, event->wd);
	if (!watch)
		return;
	if (event->mask & IN_IGNORED)
		lose_watch(watcher, watch);
	else if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
		tell_all(watch);
	else
		tell_event(watcher, event);
}

/* Whether the kernel could have written it: names are padded with zeros, so that the event behind
   is aligned (inotify(7)). */
static bool is_event(const struct inotify_event *event, size_t left)
{
	return event->len <= left - sizeof(*event) &&
	       event->len % _Alignof(struct inotify_event) == 0 &&
	       (event->len == 0 || event->name[event->len - 1] == '\0');
}

/* Whether the bell had rung. */
static bool take_notices(struct filelock_watcher *watcher)
{
	uint64_t count;
	ssize_t r;

	do {
		r = sys.read(watcher->bell.fd, &count, sizeof(count));
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return false;
	list_for_each(link, &watcher->notices) {
		struct notice *notice = list_entry(link, struct notice, link);

		if (atomic_exchange_explicit(&notice->given, false, memory_order_relaxed))
			handle_wake(notice->lock);
	}
	return true;
}

static void take_death(struct filelock_watcher *watcher, struct watch *watch)
{
	close_process(watcher, watch);
	lose_watch(watcher, watch);
}

/* The ends of processes, and notices. Whether inotify has something as well. */
static bool take_others(struct filelock_watcher *watcher)
{
	struct epoll_event events[16];
	bool is_readable = false;
	int n;

	do {
		n = sys.epoll_wait(watcher->epoll.fd, events, 16, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		give_up_watching(watcher, -errno);
	for (int i = 0; i < n; i++) {
		void *of = events[i].data.ptr;

		if (of == watcher)
			(void)take_notices(watcher);
		else if (of)
			take_death(watcher, of);
		else
			is_readable = true;
	}
	return is_readable;
}

static void take_events(struct filelock_watcher *watcher)
{
	enum { LARGEST_EVENT = sizeof(struct inotify_event) + NAME_MAX + 1 };
	_Alignas(struct inotify_event) char buffer[16 * LARGEST_EVENT];
	ssize_t length;

	/* one read: what is left makes the descriptor readable again, and the loop goes on */
	do {
		length = sys.read(watcher->fd.fd, buffer, sizeof(buffer));
	} while (length < 0 && errno == EINTR);
	if (length < 0 && errno != EAGAIN)
		give_up_watching(watcher, -errno);
	for (ssize_t at = 0; at + (ssize_t)sizeof(struct inotify_event) <= length;) {
		const struct inotify_event *event = (const void *)(buffer + at);

		if (!is_event(event, (size_t)(length - at)))
			break;
		take_event(watcher, event);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
}

FILELOCK_API void filelock_watcher_dispatch(struct filelock_watcher *watcher)
{
	if (!enter(watcher))
		return;
	if (!list_is_empty(&watcher->notices) && take_notices(watcher))
		; /* the likely one, by one call; what else there is stays readable */
	else if (watcher->epoll.fd >= 0 ? take_others(watcher) : watcher->fd.fd >= 0)
		take_events(watcher);
	leave(watcher);
}
