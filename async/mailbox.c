/*
 * mailbox.c - the end of a hold, on whichever thread it comes.
 *
 * A granted request becomes a grant: the handle's listener (driver.h) until the hold ends. On the
 * loop's thread a release is asked first whether the next request of the queue gets the hold as
 * it is: cohort hand-over. The one system call is a look whether the path still names the file, as
 * after each lock that is taken. It is bounded in number and in time, so that other processes get
 * their turn.
 *
 * Other threads release what they were given, too. They touch neither queue nor request list, only
 * the hub: they leave the ended grant there and ring.
 *
 * A grant ends once: whoever ends it gives it to the loop's thread, or frees it if the context is
 * gone.
 */
#include <errno.h>
#include <stdlib.h>

#include "context.h"
#include "workers.h"

static uintptr_t this_thread(void)
{
	static atomic_uintptr_t last;
	static _Thread_local uintptr_t number; /* an address would be another thread's, later */

	if (number == 0)
		number = atomic_fetch_add(&last, 1) + 1;
	return number;
}

static bool is_loop_thread(const struct hub *hub)
{
	return atomic_load_explicit(&hub->thread, memory_order_relaxed) == this_thread();
}

void hub_enter(struct hub *hub)
{
	atomic_store_explicit(&hub->thread, this_thread(), memory_order_relaxed);
}

int hub_new(struct evfilelock *ev)
{
	struct hub *hub = calloc(1, sizeof(*hub));

	if (!hub)
		return -ENOMEM;
	(void)pthread_mutex_init(&hub->mutex, NULL); /* never fails, on Linux */
	hub->ev = ev;
	atomic_init(&hub->references, 1);
	ev->hub = hub;
	return 0;
}

void hub_unref(struct hub *hub)
{
	if (atomic_fetch_sub_explicit(&hub->references, 1, memory_order_acq_rel) > 1)
		return;
	(void)pthread_mutex_destroy(&hub->mutex);
	free(hub);
}

static struct request *take_ended(struct hub *hub)
{
	struct request *ended = hub->ended;

	hub->ended = NULL;
	atomic_store_explicit(&hub->pending, false, memory_order_relaxed);
	return ended;
}

void hub_settle(struct evfilelock *ev)
{
	struct request *grant, *next;

	if (!atomic_load_explicit(&ev->hub->pending, memory_order_relaxed))
		return;
	(void)pthread_mutex_lock(&ev->hub->mutex);
	grant = take_ended(ev->hub);
	(void)pthread_mutex_unlock(&ev->hub->mutex);
	for (; grant; grant = next) {
		next = grant->next_ended;
		queue_settle(grant, NULL);
	}
}

void hub_leave(struct evfilelock *ev)
{
	struct request *grant, *next;
	struct hub *hub = ev->hub;
	/* in a forked child a thread that is not there may have the mutex */
	bool alone = filelock_watcher_is_inherited(ev->watcher);

	if (!alone)
		(void)pthread_mutex_lock(&hub->mutex);
	hub->ev = NULL;
	grant = take_ended(hub);
	if (!alone)
		(void)pthread_mutex_unlock(&hub->mutex);
	for (; grant; grant = next) {
		next = grant->next_ended;
		request_free(grant);
	}
	hub_unref(hub);
}

/* On another thread: leaves the grant to the loop's. */
static void hand_in(struct request *grant)
{
	struct hub *hub = grant->hub;
	bool gone;

	grant->since = filelock_now();
	(void)pthread_mutex_lock(&hub->mutex);
	gone = !hub->ev;
	if (!gone) {
		grant->next_ended = hub->ended;
		hub->ended = grant;
		atomic_store_explicit(&hub->pending, true, memory_order_relaxed);
		if (hub->has_bell)
			filelock_watcher_ring(hub->ev->watcher);
	}
	(void)pthread_mutex_unlock(&hub->mutex);
	if (gone)
		request_free(grant);
}

static bool on_wanted(struct filelock *lock, void *arg)
{
	const struct request *grant = arg;

	(void)lock;
	return is_loop_thread(grant->hub) && grant->queue && !grant->ev->freeing &&
	       grant->queue->requests.first && queue_may_pass(grant->queue);
}

static bool on_take(struct filelock *lock, void *arg)
{
	struct request *grant = arg;

	(void)lock;
	return queue_pass(grant->queue, grant, grant->queue->requests.first);
}

static void on_ended(struct filelock *lock, void *arg)
{
	struct request *grant = arg;

	if (filelock_is_inherited(lock) || is_loop_thread(grant->hub))
		queue_settle(grant, lock);
	else
		hand_in(grant);
}

void hub_follow(struct request *grant)
{
	static const struct filelock_listener listener = { on_wanted, on_take, on_ended };

	grant->hub = grant->ev->hub;
	atomic_fetch_add_explicit(&grant->hub->references, 1, memory_order_relaxed);
	filelock_set_listener(grant->lock, &listener, grant);
}

static void on_bell(evutil_socket_t fd, short events, void *arg)
{
	struct evfilelock *ev = arg;

	(void)fd;
	(void)events;
	if (filelock_watcher_is_inherited(ev->watcher)) {
		(void)event_del(ev->bell); /* the parent's: see on_readable */
		return;
	}
	hub_enter(ev->hub);
	filelock_watcher_hush(ev->watcher);
	hub_settle(ev);
	if (ev->pool)
		workers_collect(ev);
	pass_arm_surely(ev);
}

bool hub_hear(struct evfilelock *ev)
{
	int fd;

	if (ev->hearing)
		return true;
	fd = filelock_watcher_bell(ev->watcher);
	if (fd < 0)
		return false;
	if (!ev->bell)
		ev->bell = context_event(ev, fd, on_bell);
	if (!ev->bell || event_add(ev->bell, NULL) < 0)
		return false;
	ev->hearing = true;
	(void)pthread_mutex_lock(&ev->hub->mutex);
	ev->hub->has_bell = true;
	(void)pthread_mutex_unlock(&ev->hub->mutex);
	return true;
}
