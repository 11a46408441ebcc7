/*
 * inotify.h - wake-ups: one inotify instance for each watcher, one counted watch for each inode,
 * any number of subscriptions on it; and the same for the end of processes.
 */
#ifndef FILELOCK_INOTIFY_H
#define FILELOCK_INOTIFY_H

#include <stdatomic.h>
#include <sys/inotify.h>

#include "base/hash.h"
#include "base/list.h"
#include "driver_private.h"
#include "helpers.h"

struct watch;

/*
 * One interest of one acquisition. It lives in a kind's state, zeroed when unused. The events of
 * its mask wake it and, if name is not NULL, only those of that name in the watched directory. The
 * end of the watch (the inode deleted, its file system unmounted) wakes it too, and leaves it
 * unsubscribed.
 */
struct subscription {
	struct hash_node node;
	_Atomic(struct filelock_watcher *) watcher; /* NULL: not subscribed */
	struct watch *watch;
	struct list link; /* of the same watch */
	uint32_t mask;    /* 0: of a process */
	const char *name; /* borrowed */
	struct filelock *lock;
};

/* Returns 0 or an error: no more watches (-ENOSPC), no more instances (-EMFILE), no inotify. */
int inotify_subscribe(struct filelock_watcher *watcher, struct subscription *subscription,
                      struct filelock *lock, const char *path, uint32_t mask, const char *name);
/* Wakes when the process has ended, which leaves it unsubscribed. -ESRCH: there is no process.
   The pid may have been given away before the call, so look at the process again after it. */
int inotify_subscribe_process(struct filelock_watcher *watcher, struct subscription *subscription,
                              struct filelock *lock, pid_t pid);
/* Idempotent. */
void inotify_unsubscribe(struct subscription *subscription);

/* By which another thread wakes an acquisition, through the loop that dispatches. It lives in a
   kind's state, zeroed when unused. */
struct notice {
	struct list link;
	struct filelock_watcher *watcher; /* NULL: unused */
	struct filelock *lock;
	atomic_bool given; /* and not yet heard */
};
/* 0, or an error. */
int inotify_open_notice(struct filelock_watcher *watcher, struct notice *notice,
                        struct filelock *lock);
/* From any thread, of one that is open: arg is the notice. Does not block. The bell has to be rung, and
   the watcher stays until then. */
struct helpers_bell *inotify_give_notice(void *arg);
/* Whether it was given, and not yet heard. Idempotent. */
bool inotify_close_notice(struct notice *notice);

/* Whether something has happened that was not dispatched yet. */
bool inotify_has_events(struct filelock_watcher *watcher);

/* Changes the number of acquisitions that wait with this watcher by 1, 0 or -1, and returns it. */
size_t inotify_count(struct filelock_watcher *watcher, int change);
/* In a forked child: the watcher is the parent's, and may be gone before the handle. */
static inline void inotify_forget(struct subscription *subscription)
{
	atomic_store_explicit(&subscription->watcher, NULL, memory_order_release);
}
static inline void inotify_forget_notice(struct notice *notice)
{
	notice->watcher = NULL;
}
static inline bool inotify_is_subscribed(const struct subscription *subscription)
{
	return atomic_load_explicit(&subscription->watcher, memory_order_acquire) != NULL;
}

#endif
