/*
 * watch.c - wake-ups by inotify(7).
 *
 * A watcher owns one inotify instance, made at its first subscription: a user has 128 of them, and
 * closing one takes milliseconds, so it is kept. A watch is the kernel's, one for each inode
 * and watcher, counted by the subscriptions on it: inotify_add_watch(2) of the same inode gives the
 * same number again, also through a hard link, and with IN_MASK_ADD widens the mask rather than
 * replacing it. Subscriptions are found by watch and name, so that a directory in which
 * thousands wait costs an event no more than one in which one waits.
 *
 * The last subscription to go leaves its watch idle: it is removed when the watcher is tidied,
 * after the user was told, or used again if somebody subscribes before that.
 *
 * Events of a removed watch may still be in the buffer; the kernel gives out numbers in a
 * cycle, so they meet no watch and are dropped.
 *
 * While events are being told, a subscriber may unsubscribe itself or anybody, or subscribe: so
 * all that an event concerns are gathered in one list first, and leave it as they go.
 */
#include "watch.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "handle.h"
#include "registry.h"
#include "sys.h"

struct watch {
	struct hash_node node; /* by wd */
	int wd;
	unsigned count;
	struct subscription *first; /* of all on it */
	struct watch *next_idle;
	bool idle; /* in the watcher's list of those to remove, if the count is still 0 */
};

struct filelock_watcher {
	struct registry_fd fd;
	struct registry_fd timer;
	struct hash watches;
	struct watch *idle;
	struct hash subscriptions;
	size_t waiters;
	unsigned generation;
	bool broken; /* its descriptor cannot be read */
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

FILELOCK_API int filelock_watcher_new(struct filelock_watcher **ret_watcher)
{
	struct filelock_watcher *watcher;
	int r = registry_prepare();

	if (r < 0)
		return r;
	watcher = sys.calloc(1, sizeof(*watcher));
	if (!watcher)
		return -ENOMEM;
	watcher->fd.fd = -1;
	watcher->timer.fd = -1;
	watcher->generation = registry_generation();
	*ret_watcher = watcher;
	return 0;
}

FILELOCK_API void filelock_watcher_free(struct filelock_watcher *watcher)
{
	if (!watcher)
		return;
	registry_close_fd(&watcher->fd);
	registry_close_fd(&watcher->timer);
	for (size_t i = 0; i < watcher->watches.size; i++) {
		struct hash_node *node = watcher->watches.buckets[i];

		while (node) {
			struct watch *watch = hash_entry(node, struct watch, node);

			node = node->next;
			free(watch);
		}
	}
	free(watcher->watches.buckets);
	free(watcher->subscriptions.buckets);
	free(watcher);
}

FILELOCK_API int filelock_watcher_fd(const struct filelock_watcher *watcher)
{
	return watcher->fd.fd;
}

FILELOCK_API bool filelock_watcher_is_foreign(const struct filelock_watcher *watcher)
{
	return watcher->generation != registry_generation();
}

FILELOCK_API size_t filelock_watcher_load(const struct filelock_watcher *watcher)
{
	/* one that may not watch its file waits by a name alone */
	return watcher->waiters ? watcher->waiters : watcher->subscriptions.count > 0;
}

FILELOCK_API int filelock_watcher_set_timer(struct filelock_watcher *watcher, int64_t at)
{
	/* zero would disarm it: timerfd_settime(2) */
	int64_t time = at > 0 ? at : 1;
	struct itimerspec when = { .it_value = { time / 1000000000, time % 1000000000 } };
	int fd;

	if (watcher->timer.fd < 0) {
		fd = sys.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
		if (fd < 0)
			return -errno;
		registry_add_fd(&watcher->timer, fd, true);
	}
	if (sys.timerfd_settime(watcher->timer.fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
		return -errno;
	return watcher->timer.fd;
}

static int open_instance(struct filelock_watcher *watcher)
{
	int fd;

	if (watcher->fd.fd >= 0)
		return 0;
	fd = sys.inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (fd < 0)
		return -errno;
	registry_add_fd(&watcher->fd, fd, true);
	return 0;
}

static void put_watch(struct filelock_watcher *watcher, struct watch *watch)
{
	if (--watch->count > 0 || watch->idle)
		return;
	watch->idle = true;
	watch->next_idle = watcher->idle;
	watcher->idle = watch;
}

FILELOCK_API void filelock_watcher_tidy(struct filelock_watcher *watcher)
{
	/* in a forked child the descriptor is an idle one, which has no watches */
	bool foreign = filelock_watcher_is_foreign(watcher);

	while (watcher->idle) {
		struct watch *watch = watcher->idle;

		watcher->idle = watch->next_idle;
		watch->idle = false;
		if (watch->count > 0)
			continue;
		hash_remove(&watcher->watches, &watch->node);
		/* fails only if the kernel has removed it already */
		if (!foreign)
			(void)sys.inotify_rm_watch(watcher->fd.fd, watch->wd);
		free(watch);
	}
}

static int get_watch(struct filelock_watcher *watcher, const char *path, uint32_t mask,
                     struct watch **ret_watch)
{
	struct watch *spare = sys.calloc(1, sizeof(*spare));
	struct watch *watch;
	int wd;

	if (!spare)
		return -ENOMEM;
	if (hash_reserve(&watcher->watches, sys.calloc, free) < 0) {
		free(spare);
		return -ENOMEM;
	}
	wd = sys.inotify_add_watch(watcher->fd.fd, path, mask | IN_MASK_ADD);
	if (wd < 0) {
		free(spare);
		return -errno;
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

int watch_subscribe(struct filelock_watcher *watcher, struct subscription *subscription,
                    struct filelock *lock, const char *path, uint32_t mask, const char *name)
{
	struct watch *watch = NULL;
	int r;

	if (filelock_watcher_is_foreign(watcher))
		return FILELOCK_EFORKED;
	if (watcher->broken)
		return -EIO;
	r = open_instance(watcher);
	if (r < 0)
		return r;
	if (hash_reserve(&watcher->subscriptions, sys.calloc, free) < 0)
		return -ENOMEM;
	r = get_watch(watcher, path, mask, &watch);
	if (r < 0)
		return r;
	*subscription = (struct subscription){ .watcher = watcher, .watch = watch,
		                               .mask = mask, .name = name, .lock = lock };
	hash_insert(&watcher->subscriptions, &subscription->node,
	            subscription_hash(watch->wd, name));
	subscription->next = watch->first;
	if (watch->first)
		watch->first->previous = subscription;
	watch->first = subscription;
	/* whoever waits watches its file itself, and perhaps a name as well */
	watcher->waiters += name == NULL;
	return 0;
}

void watch_unsubscribe(struct subscription *subscription)
{
	struct filelock_watcher *watcher = subscription->watcher;

	if (!watcher)
		return;
	subscription->watcher = NULL;
	hash_remove(&watcher->subscriptions, &subscription->node);
	if (subscription->previous)
		subscription->previous->next = subscription->next;
	else
		subscription->watch->first = subscription->next;
	if (subscription->next)
		subscription->next->previous = subscription->previous;
	watcher->waiters -= subscription->name == NULL;
	put_watch(watcher, subscription->watch);
}

/* An event of a watch that lives on: tells those who asked for it, by name and mask. */
static void tell_event(struct filelock_watcher *watcher, const struct inotify_event *event)
{
	const char *name = event->len ? event->name : NULL;
	struct hash_node *node =
	        hash_first(&watcher->subscriptions, subscription_hash(event->wd, name));

	/* `stirred` callbacks only take note (driver.h), so the chain stands still */
	for (; node; node = hash_next(node)) {
		struct subscription *s = hash_entry(node, struct subscription, node);

		if (s->watch->wd != event->wd || !(s->mask & event->mask) ||
		    strcmp(s->name ? s->name : "", name ? name : "") != 0)
			continue;
		acquire_stir(s->lock);
	}
}

/* Tells all subscribers of one watch. */
static void tell_all(const struct watch *watch)
{
	for (const struct subscription *s = watch->first; s; s = s->next)
		acquire_stir(s->lock);
}

/* And those of every watch. */
static void tell_everybody(struct filelock_watcher *watcher)
{
	for (size_t i = 0; i < watcher->subscriptions.size; i++) {
		struct hash_node *node = watcher->subscriptions.buckets[i];

		for (; node; node = node->next)
			acquire_stir(hash_entry(node, struct subscription, node)->lock);
	}
}

/* The kernel has removed a watch: its subscribers try, and subscribe, anew. */
static void lose_watch(struct watch *watch)
{
	tell_all(watch);
	while (watch->first)
		watch_unsubscribe(watch->first);
}

/* Else a descriptor that stays readable would keep its loop spinning. */
static void give_up_watching(struct filelock_watcher *watcher, int error)
{
	log_write(FILELOCK_LOG_ERROR, "cannot read inotify events, only polling: %s",
	          filelock_strerror(error));
	watcher->broken = true;
	for (size_t i = 0; i < watcher->watches.size; i++) {
		struct hash_node *node = watcher->watches.buckets[i];

		for (; node; node = node->next)
			lose_watch(hash_entry(node, struct watch, node));
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
		lose_watch(watch);
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

FILELOCK_API void filelock_watcher_dispatch(struct filelock_watcher *watcher)
{
	enum { LARGEST_EVENT = sizeof(struct inotify_event) + NAME_MAX + 1 };
	_Alignas(struct inotify_event) char buffer[16 * LARGEST_EVENT];
	ssize_t length;

	if (watcher->fd.fd < 0 || filelock_watcher_is_foreign(watcher))
		return;
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
