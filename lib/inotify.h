/*
 * inotify.h - inotify: one instance a watcher, one counted watch an inode, any number of
 * subscriptions on it; and the same for the end of processes.
 */
#ifndef FILELOCK_INOTIFY_H
#define FILELOCK_INOTIFY_H

#include <stdatomic.h>
#include <sys/inotify.h>

#include "base/hash.h"
#include "driver_private.h"

struct watch;

/*
 * One interest of one acquisition; it lives in a kind's state, zeroed when unused. Exactly
 * the events of its mask stir it and, if name is not NULL, only those of that name in the
 * watched directory. What ends the watch itself (the inode deleted, its file system
 * unmounted) stirs it too, and leaves it unsubscribed.
 */
struct subscription {
	struct hash_node node;
	_Atomic(struct filelock_watcher *) watcher; /* NULL: not subscribed */
	struct watch *watch;
	struct subscription *previous, *next; /* of the same watch */
	uint32_t mask;    /* 0: of a process */
	const char *name; /* borrowed */
	struct filelock *lock;
};

/* 0 or a negative error: no watch to be had (-ENOSPC), no instance (-EMFILE), no inotify. */
int inotify_subscribe(struct filelock_watcher *watcher, struct subscription *subscription,
                      struct filelock *lock, const char *path, uint32_t mask, const char *name);
/* Stirs when the process has ended, which leaves it unsubscribed. -ESRCH: there is none. A pid can
   have been given anew before the call, so look at the process again after it. */
int inotify_subscribe_process(struct filelock_watcher *watcher, struct subscription *subscription,
                              struct filelock *lock, pid_t pid);
/* Idempotent. */
void inotify_unsubscribe(struct subscription *subscription);
/* How many acquisitions wait by it, with a watch or without; and one more, or (-1) less. */
size_t inotify_count(struct filelock_watcher *watcher, int change);
/* In a forked child: the watcher is the parent's, and may be gone before the handle. */
static inline void inotify_forget(struct subscription *subscription)
{
	atomic_store_explicit(&subscription->watcher, NULL, memory_order_release);
}
static inline bool inotify_is_subscribed(const struct subscription *subscription)
{
	return atomic_load_explicit(&subscription->watcher, memory_order_acquire) != NULL;
}

#endif
