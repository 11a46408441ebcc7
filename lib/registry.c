/*
 * registry.c - what this process has, and fork.
 *
 * One mutex guards everything here. It is held for a few instructions, never across a system
 * call that can block nor a callback of the user's, but for the fork itself: prepare takes it,
 * parent and child release it, so that the child finds the lists whole.
 *
 * In the child, before fork(2) returns there:
 *   - the descriptors of locks are closed, never unlocked: LOCK_UN would drop the parent's lock,
 *     which lives in the open file description that both share (flock(2));
 *   - a descriptor that the caller's event loop may have registered gets an idle one in its
 *     place: were it closed, event_reinit(3) would fail; were it kept, the child would eat the
 *     parent's events; and with another file behind the number, an epoll_ctl(2) of the child
 *     can no longer reach the parent's registration in the epoll instance that they share;
 *   - the generation changes, and with it everything made before is dead.
 */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "kinds/readwrite_database.h"
#include "kinds/soft_exit.h"
#include "base/sys.h"
#include "sync.h"

static struct {
	pthread_mutex_t mutex;
	struct filelock *handles;
	struct registry_fd *fds;
	struct hash held;
	struct hash singletons;
	atomic_uint generation;
	atomic_uint forks;
} registry = { .mutex = PTHREAD_MUTEX_INITIALIZER };

/* Of this thread: pthread_t would be another thread's once this one has ended. */
static unsigned long thread_number(void)
{
	static atomic_ulong last;
	static _Thread_local unsigned long number;

	if (number == 0)
		number = atomic_fetch_add(&last, 1) + 1;
	return number;
}

static int install_result;

static void enter(void)
{
	(void)pthread_mutex_lock(&registry.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&registry.mutex);
}

/* Calls under way that keep forks waiting. A fork keeps the gate, so that none begins until it is
   over. */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint calls;

/*
 * A call that takes this long is stuck in the kernel, perhaps on a mount that is dead, and the
 * fork goes on. A descriptor is entered in the table when open(2) ends, so the child gets
 * none of it, unless it ends at this very moment. So long, since a thread that merely has to
 * wait for its turn on a busy machine may be anywhere, also behind the call: its descriptor would
 * stay open in the child, with the lock.
 */
#define STUCK INT64_C(2000000000) /* ns */
#define LOOK_EVERY 50000          /* ns */

static void wait_for_calls(int64_t until)
{
	static const struct timespec pause = { .tv_nsec = LOOK_EVERY };

	while (atomic_load(&calls) > 0 && sys.now() < until)
		(void)sys.nanosleep(&pause, NULL);
}

void registry_hold_forks(void)
{
	(void)pthread_mutex_lock(&gate);
	atomic_fetch_add(&calls, 1);
	(void)pthread_mutex_unlock(&gate);
}

void registry_let_forks(void)
{
	atomic_fetch_sub(&calls, 1);
}

static void before_fork(void)
{
	(void)pthread_mutex_lock(&gate);
	wait_for_calls(sys.now() + STUCK);
	readwrite_database_before_fork();
	enter();
	wait_before_fork();
	soft_exit_before_fork();
	log_before_fork();
}

static void after_fork_parent(void)
{
	atomic_fetch_add(&registry.forks, 1);
	log_after_fork();
	soft_exit_after_fork(false);
	wait_after_fork_parent();
	leave();
	readwrite_database_after_fork(false);
	(void)pthread_mutex_unlock(&gate);
}

static void unlist(struct registry_fd *entry)
{
	if (entry->previous)
		entry->previous->next = entry->next;
	else
		registry.fds = entry->next;
	if (entry->next)
		entry->next->previous = entry->previous;
	entry->fd = -1;
}

static void replace_descriptors(void)
{
	struct registry_fd *next;
	int idle = -1;

	for (struct registry_fd *entry = registry.fds; entry; entry = next) {
		next = entry->next;
		if (entry->keep_number && idle < 0)
			idle = sys.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
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

static void after_fork_child(void)
{
	int saved = errno;

	atomic_fetch_add(&registry.generation, 1);
	for (struct filelock *lock = registry.handles; lock; lock = lock->next)
		lock->kind->forget(lock);
	replace_descriptors();
	log_after_fork();
	soft_exit_after_fork(true);
	wait_after_fork_child();
	leave();
	readwrite_database_after_fork(true);
	atomic_store(&calls, 0); /* their threads are not here */
	(void)pthread_mutex_unlock(&gate);
	errno = saved;
}

/* As early as can be: prepare handlers run in the reverse order, and the program's, which may
   take a mutex that it also holds when it calls us, must run before ours. */
__attribute__((constructor)) static void install(void)
{
	install_result = pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

int registry_prepare(void)
{
	return -install_result;
}

unsigned registry_generation(void)
{
	return atomic_load_explicit(&registry.generation, memory_order_relaxed);
}

unsigned registry_forks(void)
{
	return atomic_load_explicit(&registry.forks, memory_order_relaxed);
}

int registry_add(struct filelock *lock)
{
	int r = registry_prepare();

	if (r < 0)
		return r;
	lock->generation = registry_generation();
	enter();
	if (hash_reserve(&registry.held, sys.calloc, free) < 0 ||
	    hash_reserve(&registry.singletons, sys.calloc, free) < 0) {
		leave();
		return -ENOMEM;
	}
	lock->next = registry.handles;
	if (lock->next)
		lock->next->previous = lock;
	registry.handles = lock;
	leave();
	return 0;
}

void registry_remove(struct filelock *lock)
{
	enter();
	if (lock->previous)
		lock->previous->next = lock->next;
	else
		registry.handles = lock->next;
	if (lock->next)
		lock->next->previous = lock->previous;
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

		if (filelock_compare(lock, like) == 0 && !filelock_is_inherited(lock))
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

static size_t identity_hash(struct identity identity)
{
	return hash_bytes(&identity.ino, sizeof(identity.ino), (size_t)identity.dev);
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
		found = !filelock_is_inherited(other) && held->kind == lock->kind &&
		        held->thread == self && identity_equal(held->identity, identity);
	}
	leave();
	return found;
}

void registry_add_fd(struct registry_fd *entry, int fd, bool keep_number)
{
	entry->fd = fd;
	entry->keep_number = keep_number;
	enter();
	entry->previous = NULL;
	entry->next = registry.fds;
	if (entry->next)
		entry->next->previous = entry;
	registry.fds = entry;
	leave();
}

void registry_close_fd(struct registry_fd *entry)
{
	int fd;

	enter();
	fd = entry->fd;
	if (fd >= 0)
		unlist(entry);
	leave();
	if (fd >= 0)
		(void)sys_close(fd);
}
