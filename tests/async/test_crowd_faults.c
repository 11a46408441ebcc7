/*
 * Each call fails that a wait in the kernel's own queue makes, its owner's calls and its helper's, once
 * for each way to fail and each place: the wait goes on, or ends with that very error, and then nothing is
 * held, open or waiting. What a loop and what a thread does is tried in turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crowd.h"
#include "helpers.h"
#include "loop.h"

#define MOST_POINTS 200 /* of one call and one error */
#define POLL_MS 3       /* a wake-up that is lost must cost little */

/* The calls, and how they fail. Nothing but a wait that cannot go on may say so. Without the unwinder
   orphans stay, for good: process/test_helpers.c. */
static const struct way {
	enum fault_call call;
	int error;
	bool may_end; /* the acquisition, with that error */
} ways[] = {
	{ FAULT_pthread_create, EAGAIN, false },
	{ FAULT_pthread_create, EPERM, false },
	{ FAULT_flock, EINTR, false },
	{ FAULT_flock, EWOULDBLOCK, false },
	{ FAULT_flock, ENOLCK, true },
	{ FAULT_flock, EIO, true },
	{ FAULT_open, EINTR, false },
	{ FAULT_open, EMFILE, true },
	{ FAULT_open, EACCES, true },
	{ FAULT_close, EIO, false },
	{ FAULT_close, EINTR, false },
	{ FAULT_lstat, EINTR, false },
	{ FAULT_lstat, EIO, true },
	{ FAULT_fstat, EIO, true },
	{ FAULT_statfs, EIO, false },
	{ FAULT_calloc, ENOMEM, true },
	{ FAULT_eventfd, EMFILE, false },
	{ FAULT_epoll_create1, EMFILE, false },
	{ FAULT_epoll_ctl, ENOMEM, false },
	{ FAULT_inotify_init1, EMFILE, false },
	{ FAULT_inotify_add_watch, ENOSPC, false },
	{ FAULT_inotify_rm_watch, EINVAL, false },
	{ FAULT_fcntl_ofd_setlk, ENOLCK, false },
	{ FAULT_timerfd_create, EMFILE, false },
	{ FAULT_timerfd_settime, EINVAL, false },
	{ FAULT_ppoll, ENOMEM, false },
	{ FAULT_write, EAGAIN, false }, /* a notice */
	{ FAULT_read, EAGAIN, false },
};

/* What befalls the wait, once it is in the queue, or something has failed. */
enum turn { IS_GRANTED, IS_LATE, IS_CANCELLED, IS_REPLACED };

enum { WOKEN_BEFORE = 4 };
static const struct scenario {
	const char *name;
	enum turn turn;
	enum filelock_mode mode;
	bool in_loop, keeps_open, borrowed;
	bool watches; /* before it is in the queue */
	int expected;
} scenarios[] = {
	{ "granted", IS_GRANTED, .expected = 0 },
	{ "granted, shared", IS_GRANTED, .mode = FILELOCK_SHARED, .expected = 0 },
	{ "granted, and kept open", IS_GRANTED, .keeps_open = true, .expected = 0 },
	{ "granted on a caller's descriptor", IS_GRANTED, .borrowed = true, .expected = 0 },
	[WOKEN_BEFORE] = { "granted, and woken before", IS_GRANTED, .watches = true, .expected = 0 },
	{ "too late", IS_LATE, .expected = -ETIMEDOUT },
	{ "interrupted", IS_CANCELLED, .expected = -ECANCELED },
	{ "replaced", IS_REPLACED, .expected = 0 },
	{ "granted in a loop", IS_GRANTED, .in_loop = true, .expected = 0 },
	{ "granted in a loop, and woken before", IS_GRANTED, .in_loop = true, .watches = true,
	  .expected = 0 },
	{ "too late in a loop", IS_LATE, .in_loop = true, .expected = -ETIMEDOUT },
	{ "cancelled in a loop", IS_CANCELLED, .in_loop = true, .expected = -ECANCELED },
	{ "replaced in a loop", IS_REPLACED, .in_loop = true, .expected = 0 },
};

/* One wait, in a thread of its own. */
struct play {
	const struct scenario *scenario;
	struct filelock *lock;
	struct loop loop;
	struct asked asked;
	struct event *tick; /* of the loop, to be cancelled in its thread */
	int timeout_ms, own, result;
	_Atomic bool cancels, over;
};

/* Another one each time: it is remembered for how a wait was the last time. */
static char path[300];

static int open_file(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static bool is_unlocked(void)
{
	int fd = open_file(path);
	int r = flock(fd, LOCK_EX | LOCK_NB);

	(void)close(fd);
	return r == 0;
}

static void open_lock(struct play *play)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = POLL_MS;
	options.keep_open = play->scenario->keeps_open;
	play->own = -1;
	if (!play->scenario->borrowed) {
		play->lock = test_open(path, &options);
		return;
	}
	play->own = open_file(path);
	ck_assert_int_eq(filelock_open_fd(play->own, &options, &play->lock), 0);
}

/* As if the last release of the lock had raised no event. */
static void expect_silence(int holder)
{
	struct stat st;

	ck_assert_int_eq(fstat(holder, &st), 0);
	crowd_note_silence((struct identity){ st.st_dev, st.st_ino }, test_now());
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct play *play = arg;

	(void)fd;
	(void)what;
	if (play->cancels)
		ask_cancel(&play->asked);
}

static int acquire_in_loop(struct play *play)
{
	static const struct timeval often = { 0, 1000 };
	int r;

	play->asked.lock = play->lock;
	r = loop_try_ask(&play->loop, &play->asked, play->scenario->mode, play->timeout_ms);
	if (r < 0)
		return r;
	ck_assert_int_eq(event_add(play->tick, &often), 0);
	r = loop_answer(&play->loop, &play->asked);
	ck_assert_int_eq(event_del(play->tick), 0);
	return r;
}

static void *wait_for_lock(void *arg)
{
	struct play *play = arg;
	const struct scenario *scenario = play->scenario;

	play->result = scenario->in_loop ? acquire_in_loop(play)
	                                 : filelock_acquire(play->lock, scenario->mode,
	                                                    play->timeout_ms);
	play->over = true;
	return NULL;
}

/* Three of them in vain, and the wait goes over to the queue. */
static void wake(const struct scenario *scenario)
{
	if (scenario->watches)
		(void)close(open_file(path));
}

/* The holder's file has no path from then on. */
static void replace(void)
{
	(void)close(open_file(test_path("another")));
	ck_assert_int_eq(rename(test_path("another"), path), 0);
}

static void take_turn(struct play *play, int holder)
{
	switch (play->scenario->turn) {
	case IS_GRANTED:
		ck_assert_int_eq(flock(holder, LOCK_UN), 0); /* raises no event */
		wake(play->scenario);
		break;
	case IS_CANCELLED:
		play->cancels = true;
		if (!play->scenario->in_loop)
			filelock_interrupt(play->lock);
		break;
	case IS_REPLACED:
		replace();
		break;
	case IS_LATE:
		break;
	}
}

static void begin_loop(struct play *play)
{
	if (!play->scenario->in_loop)
		return;
	play->loop = loop_new();
	play->tick = event_new(play->loop.base, -1, EV_PERSIST, on_tick, play);
	ck_assert_ptr_nonnull(play->tick);
}

static void end_loop(struct play *play)
{
	if (!play->scenario->in_loop)
		return;
	event_free(play->tick);
	loop_free(&play->loop);
}

static void check_result(const struct play *play, const struct way *way, unsigned hits)
{
	int r = play->result;

	if (r == play->scenario->expected || (hits && way->may_end && r == -way->error))
		return;
	ck_abort_msg("%s: %s with errno %d, %u times: %d", play->scenario->name,
	             fault_name(way->call), way->error, hits, r);
}

/* Nobody but the handle holds it, if it does. */
static void check_hold(const struct play *play)
{
	ck_assert_int_eq(filelock_is_held(play->lock), play->result == 0);
	if (play->result < 0)
		return;
	ck_assert(!is_unlocked());
	ck_assert_int_eq(filelock_verify(play->lock), 0);
	ck_assert_int_eq(filelock_release(play->lock), 0);
}

static void check_usable(struct play *play)
{
	int r;

	await(is_unlocked()); /* an orphan that was just granted unlocks */
	r = filelock_acquire(play->lock, FILELOCK_EXCLUSIVE, 50000);
	if (r == -ECANCELED && play->scenario->turn == IS_CANCELLED) /* an interrupt is never lost */
		r = filelock_acquire(play->lock, FILELOCK_EXCLUSIVE, 50000);
	ck_assert_int_eq(r, 0);
	ck_assert(!is_unlocked());
	ck_assert_int_eq(filelock_release(play->lock), 0);
}

/* How often it failed. */
static unsigned play_one(const struct scenario *scenario, const struct way *way, unsigned nth)
{
	struct play play = { .scenario = scenario,
		             .timeout_ms = scenario->turn == IS_LATE ? 10 : -1 };
	static unsigned plays;
	pthread_t thread;
	unsigned hits;
	int holder;

	(void)snprintf(path, sizeof(path), "%s/%u", test_folder(), ++plays);
	holder = open_file(path);
	ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
	open_lock(&play);
	if (!scenario->watches)
		expect_silence(holder);
	begin_loop(&play);
	fault_set(way->call, nth, FAULT_ONCE, way->error);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_lock, &play), 0);
	await((wake(scenario), play.over || fault_hits(way->call) > 0 ||
	                               test_blocked_on(path) > 0));
	take_turn(&play, holder);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	await(helpers_thread_count() == 0); /* what helpers do at the end may fail, too */
	hits = fault_hits(way->call);
	fault_clear();
	check_result(&play, way, hits);
	check_hold(&play);
	(void)close(holder);
	check_usable(&play);
	filelock_close(play.lock);
	end_loop(&play);
	if (play.own >= 0)
		(void)close(play.own);
	return hits;
}

/* At how many places it failed. */
static unsigned sweep(const struct scenario *scenario, const struct way *way, unsigned idle)
{
	unsigned nth = 1;

	for (; play_one(scenario, way, nth) > 0; nth++) {
		ck_assert_uint_lt(nth, MOST_POINTS);
		await(test_descriptors() <= idle);
	}
	return nth - 1;
}

/* shows: crowd errors */
START_TEST(test_each_fault_of_a_blocked_wait_ends_it_or_is_passed_over_and_leaves_nothing)
{
	const struct scenario *scenario = &scenarios[_i];
	enum { WAYS = sizeof(ways) / sizeof(*ways) };
	unsigned step = 100 / test_rounds(100), points = 0, idle;

	if (!test_locks_are_listed())
		return;
	helpers_times = (struct helpers_times){ .patience = 5, .orphan = 5, .idle = 1 };
	test_has_helpers = true;
	/* what is made once and kept is there then: by a synchronous wait that watches and then blocks, which
	   the last acquisition of any play may do; and by this one with a helper and without one */
	(void)play_one(&scenarios[WOKEN_BEFORE], &ways[0], MOST_POINTS);
	(void)play_one(scenario, &ways[0], MOST_POINTS);
	ck_assert_uint_eq(play_one(scenario, &ways[0], 1), 1);
	idle = test_descriptors();
	for (unsigned i = (unsigned)_i % step; i < WAYS; i += step)
		points += sweep(scenario, &ways[i], idle);
	if (step == 1) /* else what is tried may be what this scenario does not do */
		ck_assert_uint_ge(points, 20);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("crowd faults");
	TCase *tcase = tcase_create("crowd faults");

	tcase_add_loop_test(tcase,
	                    test_each_fault_of_a_blocked_wait_ends_it_or_is_passed_over_and_leaves_nothing,
	                    0, sizeof(scenarios) / sizeof(*scenarios));
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
