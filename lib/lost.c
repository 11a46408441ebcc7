/*
 * lost.c - whether a hold holds yet: its path is to name the file that is held.
 *
 * A loop asks when an event says so, and from time to time where events do not tell all. What is
 * asked goes by the numbers of the file alone, so that it may be asked on any thread: the handle is
 * its user's. A handle of its own of the same lock, the proxy, is what events wake.
 */
#include "lost.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/sys.h"
#include "inotify.h"

/* A hold may end on one thread while the loop's gives up watching it. Held for a few instructions. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

struct filelock_lost {
	struct filelock *lock; /* NULL: the hold has ended */
	struct filelock *proxy;
	struct identity identity;
	struct subscription file, name;
	void (*ended)(void *arg);
	void (*changed)(void *arg);
	void *arg;
};

FILELOCK_API int filelock_lost_new(struct filelock *lock, struct filelock *proxy,
                                   void (*ended)(void *arg), void (*changed)(void *arg),
                                   void *arg, struct filelock_lost **ret_lost)
{
	struct filelock_lost *lost;

	if (lock->borrowed >= 0)
		return -ENOTSUP;
	if (atomic_load(&lock->lost))
		return -EALREADY;
	lost = sys.calloc(1, sizeof(*lost));
	if (!lost)
		return -ENOMEM;
	lost->lock = lock;
	lost->proxy = proxy;
	lost->identity = lock->held.identity;
	lost->ended = ended;
	lost->changed = changed;
	lost->arg = arg;
	atomic_store(&lock->lost, lost);
	*ret_lost = lost;
	return 0;
}

static bool detach(struct filelock_lost *lost)
{
	struct filelock *lock = lost->lock;

	lost->lock = NULL;
	if (lock)
		atomic_store(&lock->lost, NULL);
	return lock != NULL;
}

void lost_end(struct filelock *lock)
{
	struct filelock_lost *lost;

	/* in a forked child it is the parent's: forgotten with the context */
	if (!atomic_load_explicit(&lock->lost, memory_order_relaxed) || lock->inherited)
		return;
	(void)pthread_mutex_lock(&mutex);
	lost = atomic_load(&lock->lost);
	if (lost)
		(void)detach(lost);
	(void)pthread_mutex_unlock(&mutex);
	if (lost)
		lost->ended(lost->arg);
}

FILELOCK_API bool filelock_lost_detach(struct filelock_lost *lost)
{
	bool attached;

	(void)pthread_mutex_lock(&mutex);
	attached = detach(lost);
	(void)pthread_mutex_unlock(&mutex);
	return attached;
}

FILELOCK_API void *filelock_lost_arg(const struct filelock *lock)
{
	const struct filelock_lost *lost = atomic_load(&lock->lost);

	return lost ? lost->arg : NULL;
}

void lost_before_fork(void)
{
	(void)pthread_mutex_lock(&mutex);
}

void lost_after_fork(void)
{
	(void)pthread_mutex_unlock(&mutex);
}

/* An error is made up for by the looks that come without an event. */
FILELOCK_API void filelock_lost_watch(struct filelock_lost *lost, struct filelock_watcher *watcher)
{
	const char *path = lost->proxy ? handle_place(lost->proxy) : NULL;
	char folder[PATH_MAX];

	if (!path)
		return;
	if (!inotify_is_subscribed(&lost->name)) {
		path_parent(path, folder);
		(void)inotify_subscribe(watcher, &lost->name, lost->proxy, folder,
		                        IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_CREATE |
		                                IN_MOVE_SELF, /* all below it moves, too */
		                        strrchr(path, '/') + 1);
	}
	if (!inotify_is_subscribed(&lost->file))
		(void)inotify_subscribe(watcher, &lost->file, lost->proxy, path,
		                        IN_ATTRIB | IN_MOVE_SELF | IN_DELETE_SELF, NULL);
}

FILELOCK_API int filelock_lost_check(const struct filelock_lost *lost)
{
	int names;

	if (!lost->proxy) /* the loop's, as the hold is */
		return lost->lock ? lost->lock->kind->verify(lost->lock) : 0;
	names = path_check(handle_place(lost->proxy), lost->identity.dev, lost->identity.ino);

	return names == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : names < 0 ? names : 0;
}

FILELOCK_API void filelock_hold_changed(struct filelock *lock)
{
	const struct filelock_lost *lost = atomic_load(&lock->lost);

	if (lost)
		lost->changed(lost->arg);
}

FILELOCK_API void filelock_lost_free(struct filelock_lost *lost)
{
	inotify_unsubscribe(&lost->file);
	inotify_unsubscribe(&lost->name);
	free(lost);
}

/* In a forked child the watcher is the parent's, and may be gone. */
FILELOCK_API void filelock_lost_forget(struct filelock_lost *lost)
{
	(void)detach(lost);
	free(lost);
}
