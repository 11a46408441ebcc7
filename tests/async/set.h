/*
 * set.h - sets of locks that remember their answers; with loop.h.
 */
#ifndef FILELOCK_TESTS_SET_H
#define FILELOCK_TESTS_SET_H

#include <string.h>

#include "loop.h"

enum { SET_MOST = 8 };

/* A set and its answer. */
struct asked_set {
	struct filelock *locks[SET_MOST];
	size_t n;
	struct evfilelock *ev; /* of the last request */
	bool pending;
	void (*then)(struct asked_set *asked); /* what the callback does; may be NULL */
	void *arg;                             /* for `then` */
	unsigned calls;
	int result; /* of the last call */
	struct filelock *failed;
};

static inline void set_note(struct filelock *const *set, size_t n, int result,
                            struct filelock *failed, void *arg)
{
	struct asked_set *asked = arg;

	if (n != asked->n || memcmp(set, asked->locks, n * sizeof(*set)) != 0)
		ck_abort_msg("told of another set");
	asked->calls++;
	asked->result = result;
	asked->failed = failed;
	asked->pending = false;
	if (asked->then)
		asked->then(asked);
}

/* A lock for each letter of names. */
static inline struct asked_set set_open(const char *names)
{
	struct asked_set asked = { .n = strlen(names) };

	ck_assert_uint_le(asked.n, SET_MOST);
	for (size_t i = 0; i < asked.n; i++) {
		char name[2] = { names[i], '\0' };

		asked.locks[i] = open_patient(name);
	}
	return asked;
}

/* Closes the handles; NULL is allowed. */
static inline void set_close(struct asked_set *asked)
{
	for (size_t i = 0; i < asked->n; i++)
		filelock_close(asked->locks[i]);
}

/* 0, or the error. */
static inline int set_try_ask(struct loop *loop, struct asked_set *asked, int timeout_ms)
{
	struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	int r = evfilelock_acquire_all(loop->ev, asked->locks, asked->n, FILELOCK_EXCLUSIVE,
	                               timeout_ms < 0 ? NULL : &timeout, set_note, asked);

	if (r < 0)
		return r;
	asked->ev = loop->ev;
	asked->pending = true;
	return 0;
}

/* By its last handle. Nothing happens unless it is pending. */
static inline void set_cancel(struct asked_set *asked)
{
	if (asked->pending)
		(void)evfilelock_cancel(asked->ev, asked->locks[asked->n - 1]);
}

static inline void set_ask(struct loop *loop, struct asked_set *asked, int timeout_ms)
{
	int r = set_try_ask(loop, asked, timeout_ms);

	ck_assert_msg(r == 0, "refused: %s", filelock_strerror(r));
}

static inline int set_answer(struct loop *loop, struct asked_set *asked)
{
	loop_until(loop, &asked->calls, asked->calls + 1);
	return asked->result;
}

/* How many of its locks its handles hold. */
static inline size_t set_held(const struct asked_set *asked)
{
	size_t held = 0;

	for (size_t i = 0; i < asked->n; i++)
		held += filelock_is_held(asked->locks[i]);
	return held;
}

static inline void set_release(struct asked_set *asked)
{
	for (size_t i = 0; i < asked->n; i++)
		ck_assert_int_eq(filelock_release(asked->locks[i]), 0);
}

/* Turns the loop until `taken` locks are held and the next is waited for. */
static inline void set_reach(struct loop *loop, const struct asked_set *asked, size_t taken)
{
	while (set_held(asked) < taken)
		ck_assert_int_eq(event_base_loop(loop->base, EVLOOP_ONCE), 0);
	loop_for(loop, 2);
	ck_assert_uint_eq(set_held(asked), taken);
	ck_assert_uint_eq(asked->calls, 0);
}

#endif
