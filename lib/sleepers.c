/*
 * sleepers.c - the pool of sleepers.
 *
 * A sleeper is an inotify watcher with an eventfd. The pool only grows: a user has few inotify
 * instances, and closing one takes milliseconds. A sleeper's eventfd is never closed, so
 * filelock_interrupt may write to one that its handle has just given back: the next sleeper wakes,
 * looks, and sleeps on.
 */
#include "sleepers.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#include "base/sys.h"

/* Held for a few instructions, and by a fork: nothing is called under it. */
static struct {
	pthread_mutex_t mutex;
	struct list all;
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER, .all = LIST_INIT(pool.all) };

static void enter(void)
{
	(void)pthread_mutex_lock(&pool.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&pool.mutex);
}

static struct sleeper *sleeper_of(struct list *link)
{
	return list_entry(link, struct sleeper, link);
}

void sleepers_before_fork(void)
{
	enter();
}

/* The threads that used the others are not here; who gets one next frees it. */
static void take_back_all(void)
{
	list_for_each(link, &pool.all)
		if (!pthread_equal(sleeper_of(link)->user, pthread_self()))
			sleeper_of(link)->busy = false;
}

void sleepers_after_fork(bool in_child)
{
	if (in_child)
		take_back_all();
	leave();
}

static void destroy(struct sleeper *sleeper)
{
	filelock_unguard_fd(&sleeper->wake);
	filelock_watcher_free(sleeper->watcher);
	free(sleeper);
}

static struct sleeper *make(void)
{
	struct sleeper *sleeper = sys.calloc(1, sizeof(*sleeper));

	if (!sleeper)
		return NULL;
	sleeper->wake.fd = -1;
	if (filelock_watcher_new(&sleeper->watcher) < 0) {
		free(sleeper);
		return NULL;
	}
	return sleeper;
}

static void open_wake(struct sleeper *sleeper)
{
	int fd;

	if (sleeper->wake.fd >= 0)
		return;
	fd = sys_eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd >= 0)
		filelock_guard_fd(&sleeper->wake, fd, false);
}

/* Takes the parent's sleepers that nobody uses out of the pool. */
static void take_inherited(struct list *taken)
{
	list_for_each_safe(link, after, &pool.all) {
		struct sleeper *sleeper = sleeper_of(link);

		if (sleeper->busy || !filelock_watcher_is_inherited(sleeper->watcher))
			continue;
		list_remove(link);
		list_add_last(taken, link);
	}
}

static void occupy(struct sleeper *sleeper)
{
	sleeper->busy = true;
	sleeper->user = pthread_self();
}

static struct sleeper *find_idle(void)
{
	list_for_each(link, &pool.all)
		if (!sleeper_of(link)->busy)
			return sleeper_of(link);
	return NULL;
}

/* An idle sleeper, now busy, or NULL; and those to be freed. */
static struct sleeper *take_idle(struct list *inherited)
{
	struct sleeper *sleeper;

	enter();
	take_inherited(inherited);
	sleeper = find_idle();
	if (sleeper)
		occupy(sleeper);
	leave();
	return sleeper;
}

static struct sleeper *add_to_pool(struct sleeper *sleeper)
{
	if (!sleeper)
		return NULL;
	enter();
	occupy(sleeper);
	list_add_first(&pool.all, &sleeper->link);
	leave();
	return sleeper;
}

struct sleeper *sleepers_get(void)
{
	struct list inherited = LIST_INIT(inherited);
	struct sleeper *sleeper = take_idle(&inherited);
	struct list *link;

	while ((link = list_take_first(&inherited)))
		destroy(sleeper_of(link));
	if (!sleeper)
		sleeper = add_to_pool(make());
	if (sleeper)
		open_wake(sleeper);
	return sleeper;
}

void sleepers_put(struct sleeper *sleeper)
{
	enter();
	sleeper->busy = false;
	leave();
}
