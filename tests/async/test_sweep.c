/* Everything that can fail while a loop gets a lock does, at each point, once and for good. */
#include <signal.h>

#include "allocator.h"
#include "loop.h"
#include "softly.h"
#include "sweep.h"
#include "base/sys.h"

#define NATIVE KIND(FILELOCK_NATIVE)
#define SOFT KIND(FILELOCK_SOFT)
#define TWICE 1000 /* no result: called back twice, or never */

static struct event_base *base;
static struct event *leaving; /* of whoever holds the lock */
static pid_t process; /* whose marker nobody has open; 0: none */
static bool cancels;
static int timeout_ms;

struct answer {
	unsigned calls;
	int result;
};

static void note(struct filelock *lock, int result, void *arg)
{
	struct answer *answer = arg;

	(void)lock;
	answer->calls++;
	answer->result = result;
}

static void note_set(struct filelock *const *set, size_t n, int result, struct filelock *failed,
                     void *arg)
{
	(void)n;
	(void)failed;
	note(set[0], result, arg);
}

static void end_process(void)
{
	if (!process)
		return;
	ck_assert_int_eq(kill(process, SIGKILL), 0);
	ck_assert_int_eq(test_reap(process), 128 + SIGKILL);
	process = 0;
}

static void leave(evutil_socket_t fd, short what, void *arg)
{
	struct stage *stage = arg;

	(void)fd;
	(void)what;
	fault_pause(true);
	memory_pause(true);
	end_process();
	if (stage->other)
		filelock_close(stage->other);
	stage->other = NULL;
	memory_pause(false);
	fault_pause(false);
}

static void turn_until_told(const struct answer *answer)
{
	int64_t end = test_now() + 20 * SECONDS;

	while (answer->calls == 0 && test_now() < end)
		(void)event_base_loop(base, EVLOOP_ONCE);
	(void)event_base_loop(base, EVLOOP_NONBLOCK);
}

static int ask(struct stage *stage)
{
	struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	struct answer answer = { 0 };
	struct evfilelock *ev = evfilelock_new(base, NULL);
	int r;

	if (!ev)
		return -errno;
	r = evfilelock_acquire(ev, stage->lock, stage->mode, timeout_ms ? &timeout : NULL, note,
	                       &answer);
	if (r == 0 && cancels) {
		/* some turns: NONBLOCK alone goes on where a poll is due at each */
		for (int turns = 0; turns < 10; turns++)
			(void)event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		if (answer.calls == 0)
			(void)evfilelock_cancel(ev, stage->lock);
	}
	if (r == 0)
		turn_until_told(&answer);
	evfilelock_free(ev);
	if (answer.calls != (r == 0))
		return TWICE;
	return r == 0 ? answer.result : r;
}

/* All or none: what was taken stays held only where it could not be released. */
static int ask_for_set(struct stage *stage)
{
	struct timeval timeout = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
	struct filelock *set[] = { stage->scene, stage->lock };
	struct answer answer = { 0 };
	struct evfilelock *ev = evfilelock_new(base, NULL);
	int r;

	if (!ev)
		return -errno;
	r = evfilelock_acquire_all(ev, set, 2, stage->mode, &timeout, note_set, &answer);
	if (r == 0)
		turn_until_told(&answer);
	evfilelock_free(ev);
	if (answer.calls != (r == 0))
		return TWICE;
	if (r == 0 && answer.result == 0 && !(filelock_is_held(set[0]) && filelock_is_held(set[1])))
		return TWICE;
	return r == 0 ? answer.result : r;
}

static int release(struct stage *stage)
{
	struct answer answer = { 0 };
	struct evfilelock *ev = evfilelock_new(base, NULL);
	int r;

	if (!ev)
		return -errno;
	r = evfilelock_release(ev, stage->lock, note, &answer);
	if (r == 0)
		turn_until_told(&answer);
	evfilelock_free(ev);
	if (answer.calls != (r == 0))
		return TWICE;
	return r == 0 ? answer.result : r;
}

/* --- what is so before --- */

/* The loss of every event must cost little. */
static void poll_often(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 1;
	filelock_close(stage->lock);
	stage->lock = sweep_open(&options);
	cancels = false;
	timeout_ms = 0;
}

static void somebody_leaves(struct stage *stage)
{
	static const struct timeval soon = { 0, 1000 };

	poll_often(stage);
	timeout_ms = 15000; /* longer than a busy machine keeps it from running */
	stage->other = sweep_hold(FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(event_assign(leaving, base, -1, 0, leave, stage), 0);
	ck_assert_int_eq(event_add(leaving, &soon), 0);
}

static void somebody_stays(struct stage *stage)
{
	poll_often(stage);
	stage->other = sweep_hold(FILELOCK_EXCLUSIVE);
	timeout_ms = 3;
}

static void it_is_cancelled(struct stage *stage)
{
	poll_often(stage);
	stage->other = sweep_hold(FILELOCK_EXCLUSIVE);
	cancels = true;
}

static void marker_is_dead(struct stage *stage)
{
	static pid_t dead;

	poll_often(stage);
	if (!dead)
		dead = dead_pid();
	put_record(sweep_path(), dead, NULL);
	timeout_ms = sweep_timeout_ms(); /* one that cannot be taken over is held */
}

static int stay(void *arg)
{
	(void)arg;
	return pause();
}

static void process_leaves(struct stage *stage)
{
	static const struct timeval soon = { 0, 1000 };

	poll_often(stage);
	timeout_ms = 15000;
	process = test_fork(stay, NULL);
	put_record(sweep_path(), process, NULL);
	ck_assert_int_eq(event_assign(leaving, base, -1, 0, leave, stage), 0);
	ck_assert_int_eq(event_add(leaving, &soon), 0);
}

static void there_are_two(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	poll_often(stage);
	timeout_ms = sweep_timeout_ms();
	options.poll_interval_ms = 1;
	options.no_fallback = true;
	stage->scene = test_open(sweep_second_path(), &options);
}

static void it_holds(struct stage *stage)
{
	poll_often(stage);
	ck_assert_int_eq(filelock_acquire(stage->lock, stage->mode, FILELOCK_NO_WAIT), 0);
}

static void nothing_is_added(struct stage *stage)
{
	end_process();
	(void)stage;
	(void)event_del(leaving);
	ck_assert_int_eq(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED |
	                                                         EVENT_BASE_COUNT_ACTIVE |
	                                                         EVENT_BASE_COUNT_VIRTUAL),
	                 0);
}

static void second_is_free(struct stage *stage)
{
	struct filelock *other;

	nothing_is_added(stage);
	filelock_close(stage->scene);
	other = test_open(sweep_second_path(), NULL);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	filelock_close(other);
}

static void it_is_patient(struct stage *stage)
{
	poll_often(stage);
	timeout_ms = sweep_timeout_ms();
}

static const struct scenario scenarios[] = {
	{ "ask for a free lock", ACQUIRING, 0, EVERY_KIND, .shared = true, .set = it_is_patient,
	  .play = ask, .strike = nothing_is_added },
	{ "ask for a lock in a folder that is missing", MAKING, 0, EVERY_KIND, .deep = true,
	  .set = it_is_patient, .play = ask, .strike = nothing_is_added },
	{ "ask for a set", ACQUIRING, 0, EVERY_KIND, .shared = true, .set = there_are_two,
	  .play = ask_for_set, .strike = second_is_free },
	{ "wait for a process, then take its marker over", TAKING, 0, SOFT,
	  .only = (const enum fault_call[]){ FAULT_pidfd_open, FAULT_epoll_create1, FAULT_epoll_ctl,
	                                     FAULT_epoll_wait, FAULT_COUNT },
	  .set = process_leaves, .play = ask, .strike = nothing_is_added },
	{ "release", RELEASING, 0, EVERY_KIND, .shared = true, .set = it_holds, .play = release,
	  .strike = nothing_is_added },
	{ "take a dead marker over", TAKING, 0, SOFT, .set = marker_is_dead, .play = ask,
	  .strike = nothing_is_added },
	{ "wait, then be granted", WAITING, 0, EVERY_KIND, .shared = true, .set = somebody_leaves,
	  .play = ask, .strike = nothing_is_added },
	{ "wait in vain", WAITING, -ETIMEDOUT, EVERY_KIND, .shared = true, .set = somebody_stays,
	  .play = ask, .strike = nothing_is_added },
	{ "be cancelled", WAITING, -ECANCELED, EVERY_KIND, .shared = true, .set = it_is_cancelled,
	  .play = ask, .strike = nothing_is_added },
};
#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

/* shows: errors no-memory eintr whole-marker */
START_TEST(test_each_fault_has_the_result_of_its_rule_and_leaves_nothing)
{
	const struct scenario *scenario = &scenarios[_i / 2];
	enum filelock_mode mode = _i % 2 ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE;

	if (!(scenario->kinds & KIND(test_kind())) ||
	    (_i % 2 && (!scenario->shared || test_kind_is_exclusive())))
		return;
#ifdef ALLOCATOR_IS_SANITIZERS
	event_set_mem_functions(memory_malloc, memory_realloc, free);
#endif
	base = event_base_new();
	leaving = event_new(base, -1, 0, leave, NULL);
	ck_assert_ptr_nonnull(leaving);
	sweep(scenario, mode);
	event_free(leaving);
	event_base_free(base);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("async sweep");
	TCase *tcase = tcase_create("async sweep");
	int status;

	tcase_set_timeout(tcase, 600);
	tcase_add_loop_test(tcase, test_each_fault_has_the_result_of_its_rule_and_leaves_nothing, 0,
	                    2 * (int)SCENARIOS);
	suite_add_tcase(suite, tcase);
	(void)sweep_begin(LOOP);
	status = support_main(suite);
	return sweep_end("asynchronous faults", status);
}
