/*
 * registry.c - the handles of this process, its singletons, its held locks.
 *
 * One mutex guards everything here. It is held for a few instructions, and never across a system
 * call that can block nor a callback of the user; the fork itself is the exception (process.c).
 */
#include "registry.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/sys.h"

static struct {
	pthread_mutex_t mutex;
	struct list handles;
	struct hash held;
	struct hash singletons;
} registry = { .mutex = PTHREAD_MUTEX_INITIALIZER, .handles = LIST_INIT(registry.handles) };

/* Of this thread: pthread_t would be another thread's once this one has ended. */
static unsigned long thread_number(void)
{
	static atomic_ulong last;
	static _Thread_local unsigned long number;

	if (number == 0)
		number = atomic_fetch_add(&last, 1) + 1;
	return number;
}

static void enter(void)
{
	(void)pthread_mutex_lock(&registry.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&registry.mutex);
}

/* A handle that held or waited is dead in the child. Any other has lost nothing, and works there. */
static void forget(struct filelock *lock)
{
	if (lock->depth > 0 || lock->listener || acquisition_is_pending(&lock->acquisition))
		lock->inherited = true;
	lock->kind->forget(lock);
}

void registry_before_fork(void)
{
	enter();
}

void registry_after_fork(bool in_child)
{
	if (in_child)
		list_for_each(link, &registry.handles)
			forget(list_entry(link, struct filelock, handles));
	leave();
}

int registry_add(struct filelock *lock)
{
	enter();
	if (hash_reserve(&registry.held, sys.calloc, free) < 0 ||
	    hash_reserve(&registry.singletons, sys.calloc, free) < 0) {
		leave();
		return -ENOMEM;
	}
	list_add_first(&registry.handles, &lock->handles);
	leave();
	return 0;
}

void registry_remove(struct filelock *lock)
{
	enter();
	list_remove(&lock->handles);
	leave();
}

int registry_change_kind(struct filelock *lock, const struct kind *kind)
{
	void *state = sys.calloc(1, kind->state_size);
	int r;

	if (!state)
		return -ENOMEM;
	lock->kind->abandon(lock);
	enter();
	lock->state = state; /* it was the handle's own room: a handle changes its kind once */
	lock->kind = kind;
	r = kind->open(lock);
	leave();
	return r;
}

static struct filelock *find_singleton(const struct filelock *like, size_t hash)
{
	struct hash_node *node = hash_first(&registry.singletons, hash);

	for (; node; node = hash_next(node)) {
		struct filelock *lock = hash_entry(node, struct filelock, singleton);

		if (filelock_compare(lock, like) == 0 && !lock->inherited)
			return lock;
	}
	return NULL;
}

struct filelock *registry_open_singleton(struct filelock *candidate)
{
	size_t hash = filelock_hash(candidate);
	struct filelock *lock;

	enter();
	lock = find_singleton(candidate, hash);
	if (!lock) {
		lock = candidate;
		(void)hash_reserve(&registry.singletons, sys.calloc, free);
		hash_insert(&registry.singletons, &lock->singleton, hash);
	}
	lock->opens++;
	leave();
	return lock;
}

bool registry_close(struct filelock *lock)
{
	bool last;

	if (!lock->options.singleton)
		return true;
	enter();
	last = --lock->opens == 0;
	if (last)
		hash_remove(&registry.singletons, &lock->singleton);
	leave();
	return last;
}

/* Numbers of files differ in their lowest bits. */
static size_t identity_hash(struct identity identity)
{
	return (size_t)identity.ino ^ (size_t)identity.dev;
}

void registry_add_held(struct filelock *lock, struct identity identity)
{
	lock->held.kind = lock->kind;
	lock->held.identity = identity;
	lock->held.thread = thread_number();
	enter();
	(void)hash_reserve(&registry.held, sys.calloc, free);
	hash_insert(&registry.held, &lock->held.node, identity_hash(identity));
	lock->held.listed = true;
	leave();
}

static void unlist_held(struct filelock *lock)
{
	/* else a fork caught another thread between locking and listing */
	if (lock->held.listed)
		hash_remove(&registry.held, &lock->held.node);
	lock->held.listed = false;
}

void registry_remove_held(struct filelock *lock)
{
	enter();
	unlist_held(lock);
	leave();
}

void registry_hand_over_held(struct filelock *from, struct filelock *to)
{
	to->held.kind = to->kind;
	to->held.identity = from->held.identity;
	to->held.thread = thread_number();
	enter();
	unlist_held(from);
	hash_insert(&registry.held, &to->held.node, identity_hash(to->held.identity));
	to->held.listed = true;
	leave();
}

bool registry_holds_here(const struct filelock *lock)
{
	return lock->held.thread == thread_number();
}

bool registry_holds_elsewhere(const struct filelock *lock, struct identity identity)
{
	unsigned long self = thread_number();
	struct hash_node *node;
	bool found = false;

	enter();
	node = hash_first(&registry.held, identity_hash(identity));
	for (; node && !found; node = hash_next(node)) {
		const struct filelock *other = hash_entry(node, struct filelock, held.node);
		const struct held *held = &other->held;

		/* the one that asks holds nothing */
		found = !other->inherited && held->kind == lock->kind &&
		        held->thread == self && identity_equal(held->identity, identity);
	}
	leave();
	return found;
}
