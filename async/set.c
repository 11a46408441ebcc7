/*
 * set.c - sets of locks, all or none.
 *
 * A set is taken one lock after the other, in the order of filelock_compare, each by an ordinary
 * request: whoever waits holds only locks that come before the one it waits for, so that sets
 * cannot wait for each other in a circle. While a set is pending exactly one of its requests is,
 * and that one's callback (on_answer) either asks for the next lock or ends the set: all guarantees
 * of a set are those of its requests. One that failed is told when nothing of it is held any more:
 * at once, or when the workers have released what was taken.
 *
 * In a forked child no callback comes: what is left of the sets goes with the context.
 */
#include <errno.h>
#include <stdlib.h>

#include "workers.h"

struct evfilelock_many {
	struct evfilelock *ev;
	struct evfilelock_many *previous, *next; /* in ev->sets */
	struct evfilelock_request *request;      /* for the lock in its turn; NULL: ended */
	evfilelock_many_cb cb;
	void *arg;
	int64_t deadline;
	enum filelock_mode mode;
	size_t n;
	size_t taken;            /* of the order, from its start */
	size_t releasing;        /* of those, by workers */
	int result;              /* once it has ended */
	struct filelock *failed;
	struct filelock **order; /* behind the set */
	struct filelock *set[];  /* as given; each with a reference */
};

static int compare(const void *a, const void *b)
{
	return filelock_compare(*(struct filelock *const *)a, *(struct filelock *const *)b);
}

static int check_set(struct filelock *const *set, size_t n)
{
	if (!set || n == 0)
		return EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!set[i])
			return EINVAL;
		if (filelock_is_inherited(set[i]))
			return ECHILD;
		if (filelock_is_held(set[i]))
			return EDEADLK;
	}
	return 0;
}

/* Its own memory only. */
static void many_free(struct evfilelock_many *many)
{
	for (size_t i = 0; i < many->n; i++)
		filelock_unref(many->set[i]);
	free(many);
}

/* The copy of a set, sorted. Sets errno. */
static struct evfilelock_many *many_new(struct filelock *const *set, size_t n)
{
	struct evfilelock_many *many;

	/* in pieces as large as a lock's two places, so that calloc(3) checks the product */
	many = calloc(n + sizeof(*many) / (2 * sizeof(*set)) + 1, 2 * sizeof(*set));
	if (!many) {
		errno = ENOMEM;
		return NULL;
	}
	many->n = n;
	many->order = many->set + n;
	for (size_t i = 0; i < n; i++) {
		filelock_ref(set[i]);
		many->set[i] = many->order[i] = set[i];
	}
	qsort(many->order, n, sizeof(*set), compare);
	for (size_t i = 1; i < n; i++)
		if (filelock_compare(many->order[i - 1], many->order[i]) == 0) {
			many_free(many);
			errno = EDEADLK;
			return NULL;
		}
	return many;
}

static void link_to_context(struct evfilelock_many *many, struct evfilelock *ev)
{
	many->ev = ev;
	many->next = ev->sets;
	if (many->next)
		many->next->previous = many;
	ev->sets = many;
}

static void unlink_from_context(struct evfilelock_many *many)
{
	if (many->previous)
		many->previous->next = many->next;
	else
		many->ev->sets = many->next;
	if (many->next)
		many->next->previous = many->previous;
}

void many_free_all(struct evfilelock *ev)
{
	while (ev->sets) {
		struct evfilelock_many *many = ev->sets;

		unlink_from_context(many);
		many_free(many);
	}
}

static void complete(struct evfilelock_many *many)
{
	unlink_from_context(many);
	many->cb(many->set, many->n, many->result, many->failed, many->arg);
	many_free(many);
}

static void note_release(struct filelock *lock, int result)
{
	/* closed, or released, meanwhile; or a worker goes on with it */
	if (result == 0 || result == -EPERM || result == -ECANCELED)
		return;
	filelock_log(FILELOCK_LOG_ERROR, "%s stays held: %s", filelock_path(lock),
	             filelock_strerror(result));
}

static void on_released(struct filelock *lock, int result, void *arg)
{
	struct evfilelock_many *many = arg;

	note_release(lock, result);
	if (--many->releasing == 0)
		complete(many);
}

static void give_back(struct evfilelock_many *many, struct filelock *lock)
{
	if (workers_are_for(many->ev, lock) &&
	    request_release(many->ev, lock, on_released, many) == 0)
		many->releasing++;
	else
		note_release(lock, filelock_release(lock));
}

static void end(struct evfilelock_many *many, int result, struct filelock *failed)
{
	many->request = NULL;
	many->result = result;
	many->failed = failed;
	while (result < 0 && many->taken > 0)
		give_back(many, many->order[--many->taken]);
	if (many->releasing == 0)
		complete(many);
}

/* One that was taken and is held no more: closing it released it. NULL: none. */
static struct filelock *find_lost(const struct evfilelock_many *many)
{
	for (size_t i = 0; i < many->n; i++)
		if (!filelock_is_held(many->order[i]))
			return many->order[i];
	return NULL;
}

static int ask_next(struct evfilelock_many *many);

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct evfilelock_many *many = arg;

	if (result < 0) {
		end(many, result, lock);
		return;
	}
	if (++many->taken < many->n) {
		result = ask_next(many);
		if (result < 0)
			end(many, result, many->order[many->taken]);
		return;
	}
	lock = find_lost(many);
	end(many, lock ? -ECANCELED : 0, lock);
}

/* Asks for the lock in its turn, within what is left of the time. */
static int ask_next(struct evfilelock_many *many)
{
	struct timeval left = { 0 };
	int64_t us;

	if (many->deadline != FILELOCK_NEVER) {
		us = (many->deadline - filelock_now() + 999) / 1000;
		if (us > 0)
			left = (struct timeval){ us / 1000000, us % 1000000 };
	}
	many->request = evfilelock_acquire(many->ev, many->order[many->taken], many->mode,
	                                   many->deadline == FILELOCK_NEVER ? NULL : &left,
	                                   on_answer, many);
	return many->request ? 0 : -errno;
}

FILELOCK_API struct evfilelock_many *
evfilelock_acquire_many(struct evfilelock *ev, struct filelock *const *set, size_t n,
                        enum filelock_mode mode, const struct timeval *timeout,
                        evfilelock_many_cb cb, void *arg)
{
	struct evfilelock_many *many;
	int r = ev && cb && timeout_is_valid(timeout) ? check_set(set, n) : EINVAL;

	if (r != 0) {
		errno = r;
		return NULL;
	}
	many = many_new(set, n);
	if (!many)
		return NULL;
	many->deadline = filelock_deadline(filelock_now(), timeout_ns(timeout));
	many->mode = mode;
	many->cb = cb;
	many->arg = arg;
	link_to_context(many, ev);
	r = ask_next(many);
	if (r == 0)
		return many;
	unlink_from_context(many);
	many_free(many);
	errno = -r;
	return NULL;
}

FILELOCK_API void evfilelock_cancel_many(struct evfilelock_many *many)
{
	if (many)
		evfilelock_cancel(many->request);
}
