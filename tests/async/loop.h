/*
 * loop.h - a base and a context on it; requests that remember their answers; bounded runs of the
 * loop. A loop that never answers is ended by Check's time limit.
 */
#ifndef FILELOCK_TESTS_LOOP_H
#define FILELOCK_TESTS_LOOP_H

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include <filelock/event.h>

#include "support.h"

#define PATIENT_MS 60000 /* a safety poll that missed_wakeups nobody within a test */

struct loop {
	struct event_base *base;
	struct evfilelock *ev;
};

/* A request and its answer. Zeroed, it is ready for use. */
struct asked {
	struct filelock *lock;
	struct evfilelock *ev; /* of the last request */
	bool pending;
	void (*then)(struct asked *asked); /* what the callback does; may be NULL */
	void *arg;                         /* for `then` */
	unsigned calls;
	unsigned place; /* among all answers of this thread, from 1 */
	int result;     /* of the last call */
};

static _Thread_local unsigned loop_answers; /* so far, in this thread */

static inline void loop_note(struct filelock *lock, int result, void *arg)
{
	struct asked *asked = arg;

	if (lock != asked->lock)
		ck_abort_msg("told of another handle");
	asked->calls++;
	asked->place = ++loop_answers;
	asked->result = result;
	asked->pending = false;
	if (asked->then)
		asked->then(asked);
}

/* All defaults, but for the workers that the environment may ask for. */
static inline struct evfilelock_options loop_options(void)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	const char *workers = getenv("FILELOCK_TEST_WORKERS");

	options.workers = workers ? (unsigned)atoi(workers) : 0;
	return options;
}

static inline struct loop loop_with(struct event_base *base,
                                    const struct evfilelock_options *options)
{
	struct loop loop = { base, NULL };

	ck_assert_ptr_nonnull(base);
	loop.ev = evfilelock_new(base, options);
	ck_assert_ptr_nonnull(loop.ev);
	return loop;
}

static inline struct loop loop_on(struct event_base *base)
{
	struct evfilelock_options options = loop_options();

	return loop_with(base, &options);
}

static inline struct loop loop_new(void)
{
	return loop_on(event_base_new());
}

static inline struct loop loop_with_workers(unsigned n)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;

	options.workers = n;
	return loop_with(event_base_new(), &options);
}

static inline struct loop loop_with_handover(unsigned max, unsigned us)
{
	struct evfilelock_options options = loop_options();

	options.handover_max = max;
	options.handover_us = us;
	return loop_with(event_base_new(), &options);
}

static inline struct loop loop_with_slow_wait(unsigned ms)
{
	struct evfilelock_options options = loop_options();

	options.slow_wait_ms = ms;
	return loop_with(event_base_new(), &options);
}

static inline struct loop loop_with_fds(unsigned max)
{
	struct evfilelock_options options = loop_options();

	options.max_fds = max;
	return loop_with(event_base_new(), &options);
}

static inline void loop_free(struct loop *loop)
{
	evfilelock_free(loop->ev);
	event_base_free(loop->base);
}

/* Asks for asked->lock: 0, or the error. */
static inline int loop_ask_for(struct loop *loop, struct asked *asked, enum filelock_mode mode,
                               const struct timeval *timeout)
{
	int r = evfilelock_acquire(loop->ev, asked->lock, mode, timeout, loop_note, asked);

	if (r < 0)
		return r;
	asked->ev = loop->ev;
	asked->pending = true;
	return 0;
}

/* The same. timeout_ms below zero: for ever. */
static inline int loop_try_ask(struct loop *loop, struct asked *asked, enum filelock_mode mode,
                               int timeout_ms)
{
	struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };

	return loop_ask_for(loop, asked, mode, timeout_ms < 0 ? NULL : &timeout);
}

/* Nothing happens unless it is pending. */
static inline void ask_cancel(struct asked *asked)
{
	if (asked->pending)
		(void)evfilelock_cancel(asked->ev, asked->lock);
}

static inline void loop_ask(struct loop *loop, struct asked *asked, enum filelock_mode mode,
                            int timeout_ms)
{
	int r = loop_try_ask(loop, asked, mode, timeout_ms);

	ck_assert_msg(r == 0, "refused: %s", filelock_strerror(r));
}

/* Turns the loop until *count has come to `wanted`. */
static inline void loop_until(struct loop *loop, const unsigned *count, unsigned wanted)
{
	while (*count < wanted)
		if (event_base_loop(loop->base, EVLOOP_ONCE) != 0)
			ck_abort_msg("the loop has nothing left to wait for");
}

/* Waits for the answer of one request. */
static inline int loop_answer(struct loop *loop, struct asked *asked)
{
	loop_until(loop, &asked->calls, asked->calls + 1);
	return asked->result;
}

/* Asks and waits for the answer. */
static inline int loop_acquire(struct loop *loop, struct filelock *lock,
                               enum filelock_mode mode, int timeout_ms)
{
	struct asked asked = { .lock = lock };

	loop_ask(loop, &asked, mode, timeout_ms);
	return loop_answer(loop, &asked);
}

/* Turns the loop as long as something is to be done at once. */
static inline void loop_turn(struct loop *loop)
{
	ck_assert_int_ge(event_base_loop(loop->base, EVLOOP_NONBLOCK), 0);
}

/* The library's clock stands from now on, ahead of the kernel's timers, which then never come: only
   an event, or a new request, makes a context look at the time. */
static inline void clock_stop(void)
{
	clock_fake(test_now() + 100000 * SECONDS);
}

/* Turns the loop for so long: to see that something does not happen. On a busy machine the time may be over
   after the first turn, so that some are made in any case. (EVLOOP_NONBLOCK alone does not return as long as
   there is always something due.) */
static inline void loop_for(struct loop *loop, int ms)
{
	struct timeval time = { ms / 1000, ms % 1000 * 1000 };

	ck_assert_int_eq(event_base_loopexit(loop->base, &time), 0);
	ck_assert_int_eq(event_base_dispatch(loop->base), 0);
	for (unsigned i = 0; i < 20; i++)
		ck_assert_int_ge(event_base_loop(loop->base, EVLOOP_ONCE | EVLOOP_NONBLOCK), 0);
}

/* Runs the loop until it returns because nothing waits. */
static inline void loop_drain(struct loop *loop)
{
	ck_assert_int_eq(event_base_dispatch(loop->base), 1);
}

/* A handle that no safety poll wakes within the test. */
static inline struct filelock *open_patient(const char *name)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = PATIENT_MS;
	return test_open(test_path(name), &options);
}

/* Acquires what is free, or is so in a moment: a wait that was given up may still stand in the kernel's queue,
   and have the lock until it is given back. */
static inline void acquire_free(struct filelock *lock, enum filelock_mode mode)
{
	int r;

	await((r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT)) != -ETIMEDOUT);
	ck_assert_int_eq(r, 0);
}

/* A handle that holds the lock: another owner within this process. */
static inline struct filelock *hold(const char *name, enum filelock_mode mode)
{
	struct filelock *lock = open_patient(name);

	acquire_free(lock, mode);
	return lock;
}

/* Whether nobody holds the lock in any mode. */
static inline bool is_free(const char *name)
{
	struct filelock *lock = test_open(test_path(name), NULL);
	int r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r == 0;
}

/* Raises the limit of descriptors, or skips the test. */
static inline bool loop_may_open(unsigned count)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	if (limit.rlim_cur >= count + 100 && setrlimit(RLIMIT_NOFILE, &limit) == 0)
		return true;
	test_skip("too few descriptors are allowed here");
	return false;
}

/*
 * Counts the turns of a loop: a descriptor that always has something to read is served once a
 * turn, as any other event of the caller's would be.
 */
struct turns {
	struct event *event;
	int fds[2];
	unsigned count;
};

static inline void turns_count(evutil_socket_t fd, short what, void *arg)
{
	struct turns *turns = arg;

	(void)fd;
	(void)what;
	turns->count++;
}

static inline void turns_begin(struct turns *turns, struct event_base *base)
{
	*turns = (struct turns){ 0 };
	ck_assert_int_eq(pipe(turns->fds), 0);
	ck_assert_int_eq(write(turns->fds[1], "", 1), 1);
	turns->event = event_new(base, turns->fds[0], EV_READ | EV_PERSIST, turns_count, turns);
	ck_assert_ptr_nonnull(turns->event);
	ck_assert_int_eq(event_add(turns->event, NULL), 0);
}

static inline void turns_end(struct turns *turns)
{
	event_free(turns->event);
	ck_assert_int_eq(close(turns->fds[0]), 0);
	ck_assert_int_eq(close(turns->fds[1]), 0);
}

#endif
