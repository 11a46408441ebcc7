/*
 * set.c - sets of locks, all or none.
 *
 * A set takes one lock after the other, in the order of filelock_compare, each by an ordinary
 * request. A waiting set holds only locks that come before the one it waits for, so sets cannot wait
 * for each other in a circle. Exactly one request of a pending set is pending. Its callback
 * (on_answer) asks for the next lock or ends the set, so the guarantees of a set are those of its
 * requests. A set that failed is reported when nothing of it is held any more: at once, or when
 * the workers have released its locks.
 *
 * In a forked child no callback comes. What is left of the sets goes with the context.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "event.h"

struct set {
	struct evfilelock *ev;
	struct list link; /* in ev->sets */
	evfilelock_all_cb cb;
	void *arg;
	int64_t deadline;
	enum filelock_mode mode;
	size_t n;
	size_t taken;     /* of the order, from its start */
	size_t releasing; /* of those, by workers */
	bool ended;       /* no request of it is pending */
	int result;       /* once it has ended */
	struct filelock *failed;
	struct filelock **order;  /* behind the locks */
	struct filelock *locks[]; /* as given; each with a reference */
};

static int compare(const void *a, const void *b)
{
	return filelock_compare(*(struct filelock *const *)a, *(struct filelock *const *)b);
}

#define WHAT "cannot acquire the set of"

/* Every handle of a set that is refused says why, and all but the culprit whose fault it is. */
static int refuse_others(struct filelock *const *locks, size_t n, int code, const struct filelock *culprit)
{
	static const char words[] = "refused was the set's ";
	char text[PATH_MAX + sizeof(words)];

	(void)snprintf(text, sizeof(text), "%s%s", words, filelock_path(culprit));
	for (size_t i = 0; i < n; i++)
		if (locks[i] && locks[i] != culprit)
			(void)event_refuse(locks[i], code, WHAT, text);
	return code;
}

static int refuse_all(struct filelock *const *locks, size_t n, int code, const char *detail)
{
	if (!locks || n == 0)
		return event_refuse(NULL, code, WHAT, detail);
	for (size_t i = 0; i < n; i++)
		(void)event_refuse(locks[i], code, WHAT, detail);
	return code;
}

/* Why a lock of the set is refused, noted; or 0. */
static int check_lock(struct filelock *lock)
{
	if (filelock_is_inherited(lock))
		return event_refuse(lock, FILELOCK_EFORKED, WHAT, NULL);
	return filelock_depth(lock) > 0
	               ? event_refuse(lock, -EDEADLK, WHAT, "this handle holds its lock already")
	               : 0;
}

static int check_locks(struct filelock *const *locks, size_t n)
{
	int r;

	if (!locks || n == 0)
		return refuse_all(locks, n, -EINVAL, "it is empty");
	for (size_t i = 0; i < n; i++)
		if (!locks[i])
			return refuse_all(locks, n, -EINVAL, "a handle in it is NULL");
	for (size_t i = 0; i < n; i++) {
		r = check_lock(locks[i]);
		if (r < 0)
			return refuse_others(locks, n, r, locks[i]);
	}
	return 0;
}

static int check_call(const struct evfilelock *ev, struct filelock *const *locks, size_t n,
                      const struct timeval *timeout, bool has_cb)
{
	if (!ev || !has_cb)
		return refuse_all(locks, n, -EINVAL, ev ? "cb is NULL" : "ev is NULL");
	if (!event_timeout_is_valid(timeout))
		return refuse_all(locks, n, -EINVAL, EVENT_WRONG_TIMEOUT);
	return check_locks(locks, n);
}

/* Its own memory only. */
static void set_free(struct set *set)
{
	for (size_t i = 0; i < set->n; i++)
		filelock_unref(set->locks[i]);
	free(set);
}

/* A copy, sorted. */
static int set_new(struct filelock *const *locks, size_t n, struct set **ret_set)
{
	struct set *set;

	/* in pieces as large as a lock's two places, so that calloc(3) checks the product */
	set = calloc(n + sizeof(*set) / (2 * sizeof(*locks)) + 1, 2 * sizeof(*locks));
	if (!set) {
		(void)refuse_all(locks, n, -ENOMEM, NULL);
		return -ENOMEM;
	}
	set->n = n;
	set->order = set->locks + n;
	for (size_t i = 0; i < n; i++) {
		filelock_ref(locks[i]);
		set->locks[i] = set->order[i] = locks[i];
	}
	qsort(set->order, n, sizeof(*locks), compare);
	for (size_t i = 1; i < n; i++)
		if (filelock_compare(set->order[i - 1], set->order[i]) == 0) {
			(void)event_refuse(set->order[i], -EDEADLK, WHAT,
			                   "another handle of it is on the same lock");
			(void)refuse_others(locks, n, -EDEADLK, set->order[i]);
			set_free(set);
			return -EDEADLK;
		}
	*ret_set = set;
	return 0;
}

static struct set *set_at(struct list *link)
{
	return link ? list_entry(link, struct set, link) : NULL;
}

/* Frees what is left of the sets in a forked child. */
static void free_all(struct evfilelock *ev)
{
	struct set *set;

	while ((set = set_at(list_take_first(&ev->sets))))
		set_free(set);
}

static void link_to_context(struct set *set, struct evfilelock *ev)
{
	set->ev = ev;
	ev->free_sets = free_all;
	list_add_first(&ev->sets, &set->link);
}

static void complete(struct set *set)
{
	list_remove(&set->link);
	set->cb(set->locks, set->n, set->result, set->failed, set->arg);
	set_free(set);
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
	struct set *set = arg;

	note_release(lock, result);
	if (--set->releasing == 0)
		complete(set);
}

static void give_back(struct set *set, struct filelock *lock)
{
	if (event_releases_by_worker(set->ev, lock) &&
	    event_release(set->ev, lock, on_released, set) == 0)
		set->releasing++;
	else
		note_release(lock, filelock_release(lock));
}

static void end(struct set *set, int result, struct filelock *failed)
{
	set->ended = true;
	set->result = result;
	set->failed = failed;
	while (result < 0 && set->taken > 0)
		give_back(set, set->order[--set->taken]);
	if (set->releasing == 0)
		complete(set);
}

/* One that was taken and is held no more: closing it released it. NULL: none. */
static struct filelock *find_lost(const struct set *set)
{
	for (size_t i = 0; i < set->n; i++)
		if (filelock_depth(set->order[i]) == 0)
			return set->order[i];
	return NULL;
}

static int ask_next(struct set *set);

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct set *set = arg;

	if (result < 0) {
		end(set, result, lock);
		return;
	}
	if (++set->taken < set->n) {
		result = ask_next(set);
		if (result < 0)
			end(set, result, set->order[set->taken]);
		return;
	}
	lock = find_lost(set);
	end(set, lock ? -ECANCELED : 0, lock);
}

/* Asks for the lock in its turn, within what is left of the time. */
static int ask_next(struct set *set)
{
	struct timeval left = { 0 };
	int64_t us;

	if (set->deadline != FILELOCK_NEVER) {
		us = (set->deadline - filelock_now() + 999) / 1000;
		if (us > 0)
			left = (struct timeval){ us / 1000000, us % 1000000 };
	}
	return evfilelock_acquire(set->ev, set->order[set->taken], set->mode,
	                          set->deadline == FILELOCK_NEVER ? NULL : &left, on_answer, set);
}

FILELOCK_API int evfilelock_acquire_all(struct evfilelock *ev, struct filelock *const *locks,
                                        size_t n, enum filelock_mode mode,
                                        const struct timeval *timeout, evfilelock_all_cb cb,
                                        void *arg)
{
	struct set *set;
	int r = check_call(ev, locks, n, timeout, cb);

	if (r < 0)
		return r;
	r = set_new(locks, n, &set);
	if (r < 0)
		return r;
	set->deadline = filelock_deadline(filelock_now(), event_timeout_ns(timeout));
	set->mode = mode;
	set->cb = cb;
	set->arg = arg;
	link_to_context(set, ev);
	r = ask_next(set);
	if (r < 0) {
		list_remove(&set->link);
		(void)refuse_others(locks, n, r, set->order[0]);
		set_free(set);
	}
	return r;
}

static bool contains(const struct set *set, const struct filelock *lock)
{
	for (size_t i = 0; i < set->n; i++)
		if (set->locks[i] == lock)
			return true;
	return false;
}

/* Cancels the pending sets that the handle belongs to. */
static int cancel_sets(struct evfilelock *ev, const struct filelock *lock)
{
	int r = -ENOENT;

	list_for_each(link, &ev->sets) {
		struct set *set = set_at(link);

		if (!set->ended && contains(set, lock) &&
		    event_cancel(ev, set->order[set->taken]) == 0)
			r = 0;
	}
	return r;
}

FILELOCK_API int evfilelock_cancel(struct evfilelock *ev, struct filelock *lock)
{
	static const char *const what = "cannot cancel a request for";
	int r;

	if (!ev || !lock)
		return event_refuse(lock, -EINVAL, what, ev ? "lock is NULL" : "ev is NULL");
	r = filelock_is_inherited(lock) ? FILELOCK_EFORKED : event_enter(ev);
	if (r < 0)
		return event_refuse(lock, r, what, NULL);
	r = event_cancel(ev, lock);
	if (r == -ENOENT)
		r = cancel_sets(ev, lock);
	return r < 0 ? event_refuse(lock, r, what, "none is pending here, or it was cancelled before") : 0;
}
