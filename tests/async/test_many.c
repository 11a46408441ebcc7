/* Sets of locks, all or none: the order, the answers, and what is given back. */
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include "set.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static bool all_free(const char *names)
{
	for (; *names; names++) {
		char name[2] = { *names, '\0' };

		if (!is_free(name))
			return false;
	}
	return true;
}

/* shows: sets */
START_TEST(test_set_is_held_whole_when_it_is_told)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("cabd");

	set_ask(&loop, &asked, -1);
	ck_assert_int_eq(set_answer(&loop, &asked), 0);
	ck_assert_ptr_null(asked.failed);
	ck_assert_uint_eq(set_held(&asked), 4);
	ck_assert(!is_free("a") && !is_free("b") && !is_free("c") && !is_free("d"));
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	set_release(&asked);
	ck_assert(all_free("abcd"));
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

START_TEST(test_set_is_copied)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("ab");
	struct filelock *set[2] = { asked.locks[0], asked.locks[1] };

	ck_assert_int_eq(evfilelock_acquire_all(loop.ev, set, 2, EXCLUSIVE, NULL, set_note, &asked), 0);
	set[0] = set[1] = NULL;
	ck_assert_int_eq(set_answer(&loop, &asked), 0);
	ck_assert_uint_eq(set_held(&asked), 2);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

START_TEST(test_shared_sets_are_held_together)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct asked_set sets[2] = { set_open("ab"), set_open("ba") };

	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(evfilelock_acquire_all(loop.ev, sets[i].locks, 2,
		                                              FILELOCK_SHARED, NULL, set_note,
		                                              &sets[i]), 0);
	loop_drain(&loop);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_uint_eq(set_held(&sets[i]), 2);
	set_close(&sets[0]);
	set_close(&sets[1]);
	loop_free(&loop);
}
END_TEST

static int refused(struct evfilelock *ev, struct asked_set *asked, size_t n,
                   enum filelock_mode mode, const struct timeval *timeout)
{
	return evfilelock_acquire_all(ev, asked->locks, n, mode, timeout, set_note,
	                                           asked);
}

START_TEST(test_refused_arguments_are_never_called_back)
{
	struct timeval wrong = { 0, 1000000 };
	struct loop loop = loop_new();
	struct asked_set asked = set_open("ab");

	ck_assert_int_eq(refused(NULL, &asked, 2, EXCLUSIVE, NULL), -EINVAL);
	ck_assert_int_eq(refused(loop.ev, &asked, 0, EXCLUSIVE, NULL), -EINVAL);
	ck_assert_int_eq(refused(loop.ev, &asked, 2, (enum filelock_mode)7, NULL), -EINVAL);
	ck_assert_int_eq(refused(loop.ev, &asked, 2, EXCLUSIVE, &wrong), -EINVAL);
	ck_assert_int_eq(refused(loop.ev, &asked, 3, EXCLUSIVE, NULL), -EINVAL); /* a NULL */
	ck_assert_int_eq(evfilelock_acquire_all(loop.ev, asked.locks, 2, EXCLUSIVE, NULL, NULL,
	                                           NULL), -EINVAL);
	ck_assert_int_eq(evfilelock_acquire_all(loop.ev, NULL, 2, EXCLUSIVE, NULL, set_note, &asked), -EINVAL);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 0);
	set_ask(&loop, &asked, -1);
	ck_assert_int_eq(set_answer(&loop, &asked), 0);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

START_TEST(test_set_that_would_wait_for_itself_is_refused)
{
	struct loop loop = loop_new();
	struct asked_set two_handles = set_open("aba");
	struct asked_set one_twice = set_open("ab");

	ck_assert_int_eq(refused(loop.ev, &two_handles, 3, EXCLUSIVE, NULL), -EDEADLK);
	ck_assert_int_eq(refused(loop.ev, &two_handles, 3, FILELOCK_SHARED, NULL), -EDEADLK);
	filelock_close(one_twice.locks[1]);
	one_twice.locks[1] = one_twice.locks[0];
	ck_assert_int_eq(refused(loop.ev, &one_twice, 2, EXCLUSIVE, NULL), -EDEADLK);
	loop_drain(&loop);
	ck_assert_uint_eq(two_handles.calls + one_twice.calls, 0);
	filelock_close(one_twice.locks[0]);
	set_close(&two_handles);
	loop_free(&loop);
}
END_TEST

START_TEST(test_set_with_a_handle_that_holds_is_refused)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("ab");

	ck_assert_int_eq(filelock_acquire(asked.locks[1], EXCLUSIVE, 0), 0);
	ck_assert_int_eq(refused(loop.ev, &asked, 2, EXCLUSIVE, NULL), -EDEADLK);
	ck_assert_uint_eq(filelock_depth(asked.locks[1]), 1);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

/* Only the first is asked for at once. */
START_TEST(test_pending_handle_fails_the_set_at_its_turn)
{
	struct loop loop = loop_new();
	struct filelock *holders[2] = { hold("a", EXCLUSIVE), hold("b", EXCLUSIVE) };
	struct asked_set asked = set_open("ab");
	struct asked alone = { .lock = asked.locks[0] };

	loop_ask(&loop, &alone, EXCLUSIVE, -1);
	ck_assert_int_eq(refused(loop.ev, &asked, 2, EXCLUSIVE, NULL), -EALREADY);
	filelock_close(holders[0]);
	ck_assert_int_eq(loop_answer(&loop, &alone), 0);
	ck_assert_int_eq(filelock_release(alone.lock), 0);

	alone.lock = asked.locks[1];
	loop_ask(&loop, &alone, EXCLUSIVE, -1);
	set_ask(&loop, &asked, -1);
	ck_assert_int_eq(set_answer(&loop, &asked), -EALREADY);
	ck_assert_ptr_eq(asked.failed, asked.locks[1]);
	ck_assert(is_free("a"));
	filelock_close(holders[1]);
	ck_assert_int_eq(loop_answer(&loop, &alone), 0);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nothing_is_told_from_inside_the_call)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("a");

	set_ask(&loop, &asked, 0);
	ck_assert_uint_eq(asked.calls, 0);
	set_cancel(&asked);
	ck_assert_uint_eq(asked.calls, 0);
	ck_assert_int_eq(set_answer(&loop, &asked), -ECANCELED);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

/* Asks again and again; many sets at once, in opposite orders. */
struct ring {
	struct loop loop;
	unsigned left;
};

static void let_go_and_ask_again(struct asked_set *asked)
{
	struct ring *ring = asked->arg;

	ck_assert_int_eq(asked->result, 0);
	set_release(asked);
	if (--ring->left > 0)
		set_ask(&ring->loop, asked, -1);
}

static void ring_begin(struct ring *ring, struct asked_set *asked)
{
	asked->then = let_go_and_ask_again;
	asked->arg = ring;
	set_ask(&ring->loop, asked, -1);
}

START_TEST(test_contexts_with_sets_in_opposite_orders_never_deadlock)
{
	static const char *const orders[] = { "abcd", "dcba", "bd", "ca", "cb" };
	struct ring rings[5] = { { .loop = loop_new() } };
	struct asked_set asked[5];

	for (unsigned i = 0; i < 5; i++) {
		if (i > 0)
			rings[i].loop = loop_on(rings[0].loop.base);
		rings[i].left = test_rounds(30);
		asked[i] = set_open(orders[i]);
		ring_begin(&rings[i], &asked[i]);
	}
	loop_drain(&rings[0].loop);
	for (unsigned i = 0; i < 5; i++) {
		ck_assert_uint_eq(rings[i].left, 0);
		set_close(&asked[i]);
		if (i > 0)
			evfilelock_free(rings[i].loop.ev);
	}
	loop_free(&rings[0].loop);
}
END_TEST

static int run_ring(void *arg)
{
	struct ring ring = { .loop = loop_new(), .left = test_rounds(60) };
	struct asked_set asked = set_open(arg);

	ring_begin(&ring, &asked);
	loop_drain(&ring.loop);
	set_close(&asked);
	loop_free(&ring.loop);
	return (int)ring.left;
}

/* shows: sets */
START_TEST(test_processes_with_sets_in_opposite_orders_never_deadlock)
{
	pid_t children[3];

	(void)test_folder();
	children[0] = test_fork(run_ring, "abcd");
	children[1] = test_fork(run_ring, "dcba");
	children[2] = test_fork(run_ring, "cad");
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_eq(test_reap(children[i]), 0);
}
END_TEST

/* shows: sets */
START_TEST(test_failure_gives_everything_back)
{
	struct asked_set asked;
	struct loop loop;

	if (test_is_beside_its_path())
		return;
	loop = loop_new();
	asked = set_open("cdab");
	ck_assert_int_eq(symlink("nowhere", test_path("c")), 0);
	set_ask(&loop, &asked, -1);
	ck_assert_int_eq(set_answer(&loop, &asked), -ELOOP);
	ck_assert_ptr_eq(asked.failed, asked.locks[0]);
	ck_assert_uint_eq(set_held(&asked), 0);
	ck_assert(all_free("abd"));
	ck_assert_int_eq(unlink(test_path("c")), 0);
	set_ask(&loop, &asked, -1);
	ck_assert_int_eq(set_answer(&loop, &asked), 0);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

/* The last letters of the files that were unlocked. */
static struct {
	struct sys_table real;
	char names[16];
	size_t count;
} unlocked;

static int note_unlock(int fd, int operation)
{
	char link[64], target[512];
	ssize_t length;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, target, sizeof(target));
	if (operation == LOCK_UN && length > 0 && unlocked.count < sizeof(unlocked.names) - 1)
		unlocked.names[unlocked.count++] = target[length - 1];
	return unlocked.real.flock(fd, operation);
}

START_TEST(test_what_was_taken_is_given_back_in_reverse)
{
	if (test_is_not_native())
		return;
	if (getenv("FILELOCK_TEST_WORKERS")) {
		test_skip("workers do so at the same time");
		return;
	}
	struct loop loop = loop_new();
	struct filelock *holder = hold("d", EXCLUSIVE);
	struct asked_set asked = set_open("bdca");

	unlocked.real = sys;
	sys.flock = note_unlock;
	set_ask(&loop, &asked, 0);
	ck_assert_int_eq(set_answer(&loop, &asked), -ETIMEDOUT);
	sys.flock = unlocked.real.flock;
	ck_assert_str_eq(unlocked.names, "cba");
	filelock_close(holder);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

START_TEST(test_zero_timeout_is_one_attempt_at_each_lock)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("abc");
	struct filelock *holder;

	set_ask(&loop, &asked, 0);
	ck_assert_int_eq(set_answer(&loop, &asked), 0);
	set_release(&asked);
	holder = hold("b", EXCLUSIVE);
	set_ask(&loop, &asked, 0);
	ck_assert_int_eq(set_answer(&loop, &asked), -ETIMEDOUT);
	ck_assert_ptr_eq(asked.failed, asked.locks[1]);
	ck_assert(all_free("ac"));
	filelock_close(holder);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

/* Makes the context run a pass, which sees the fake time. */
static void pass(struct loop *loop)
{
	struct asked asked = { .lock = open_patient("other") };

	loop_ask(loop, &asked, EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(loop, &asked), 0);
	filelock_close(asked.lock);
}

START_TEST(test_deadline_is_one_for_all_locks_of_a_set)
{
	struct loop loop = loop_new();
	struct filelock *holders[2] = { hold("a", EXCLUSIVE), hold("b", EXCLUSIVE) };
	struct asked_set asked = set_open("ab");

	clock_stop();
	set_ask(&loop, &asked, 1000000);
	clock_advance(600 * SECONDS);
	pass(&loop);
	filelock_close(holders[0]);
	set_reach(&loop, &asked, 1);
	clock_advance(300 * SECONDS);
	pass(&loop);
	ck_assert_uint_eq(asked.calls, 0);
	clock_advance(101 * SECONDS);
	pass(&loop);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, -ETIMEDOUT);
	ck_assert_ptr_eq(asked.failed, asked.locks[1]);
	ck_assert(is_free("a"));
	filelock_close(holders[1]);
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

/* A set that has come so far that it waits for the lock number _i, in each of its stages. */
struct stage {
	struct loop loop;
	struct asked_set asked;
	struct filelock *holder;
	unsigned waits_for;
};

static void stage_begin(struct stage *stage, unsigned waits_for)
{
	char name[2] = { (char)('a' + waits_for), '\0' };

	*stage = (struct stage){ .loop = loop_new(), .waits_for = waits_for };
	stage->asked = set_open("abc");
	stage->holder = hold(name, EXCLUSIVE);
	set_ask(&stage->loop, &stage->asked, -1);
	set_reach(&stage->loop, &stage->asked, waits_for);
}

/* After an answer; the context may be gone. */
static void stage_end(struct stage *stage, int result)
{
	ck_assert_uint_eq(stage->asked.calls, 1);
	ck_assert_int_eq(stage->asked.result, result);
	ck_assert_uint_eq(set_held(&stage->asked), 0);
	filelock_close(stage->holder);
	loop_drain(&stage->loop);
	ck_assert_uint_eq(stage->asked.calls, 1);
	await(all_free("abc")); /* a worker may be at it yet */
	set_close(&stage->asked);
	loop_free(&stage->loop);
}

/* shows: sets */
START_TEST(test_cancel_at_each_stage_gives_everything_back)
{
	struct stage stage;

	stage_begin(&stage, (unsigned)_i);
	set_cancel(&stage.asked);
	set_cancel(&stage.asked);
	ck_assert_uint_eq(stage.asked.calls, 0);
	ck_assert_int_eq(set_answer(&stage.loop, &stage.asked), -ECANCELED);
	ck_assert_ptr_eq(stage.asked.failed, stage.asked.locks[_i]);
	stage_end(&stage, -ECANCELED);
}
END_TEST

START_TEST(test_lock_won_while_the_set_is_cancelled_is_given_back)
{
	struct stage stage;

	stage_begin(&stage, (unsigned)_i);
	ck_assert_int_eq(filelock_release(stage.holder), 0);
	set_cancel(&stage.asked);
	ck_assert_int_eq(set_answer(&stage.loop, &stage.asked), -ECANCELED);
	stage_end(&stage, -ECANCELED);
}
END_TEST

START_TEST(test_cancel_before_the_loop_ran_takes_nothing)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("ab");

	set_ask(&loop, &asked, -1);
	set_cancel(&asked);
	ck_assert_int_eq(set_answer(&loop, &asked), -ECANCELED);
	ck_assert_ptr_eq(asked.failed, asked.locks[0]);
	ck_assert(all_free("ab"));
	set_close(&asked);
	loop_free(&loop);
}
END_TEST

static void free_twice_and_ask(struct asked_set *asked)
{
	struct stage *stage = asked->arg;
	struct asked_set other = set_open("xy");

	ck_assert_uint_eq(set_held(asked), 0);
	ck_assert_int_eq(refused(stage->loop.ev, &other, 2, EXCLUSIVE, NULL), -ECANCELED);
	evfilelock_free(stage->loop.ev);
	set_close(&other);
}

START_TEST(test_freeing_the_context_completes_a_set_at_each_stage)
{
	struct stage stage;

	stage_begin(&stage, (unsigned)_i);
	stage.asked.then = free_twice_and_ask;
	stage.asked.arg = &stage;
	evfilelock_free(stage.loop.ev);
	stage.loop.ev = NULL;
	ck_assert_uint_eq(stage.asked.calls, 1);
	ck_assert_ptr_eq(stage.asked.failed, stage.asked.locks[_i]);
	stage_end(&stage, -ECANCELED);
}
END_TEST

START_TEST(test_closing_the_handle_that_is_waited_for_cancels_the_set)
{
	struct stage stage;
	struct filelock *closed;

	stage_begin(&stage, (unsigned)_i);
	closed = stage.asked.locks[_i];
	filelock_close(closed);
	ck_assert_uint_eq(stage.asked.calls, 0);
	ck_assert_int_eq(set_answer(&stage.loop, &stage.asked), -ECANCELED);
	ck_assert_ptr_eq(stage.asked.failed, closed);
	stage.asked.locks[_i] = open_patient("other");
	stage_end(&stage, -ECANCELED);
}
END_TEST

/* _i: whether that one was taken already, or its turn is to come. */
START_TEST(test_closing_another_handle_cancels_the_set)
{
	struct stage stage;
	unsigned other = _i == 0 ? 0 : 2;
	struct filelock *closed;

	stage_begin(&stage, 1);
	closed = stage.asked.locks[other];
	filelock_close(closed);
	ck_assert(is_free(other == 0 ? "a" : "c"));
	ck_assert_int_eq(filelock_release(stage.holder), 0);
	ck_assert_int_eq(set_answer(&stage.loop, &stage.asked), -ECANCELED);
	ck_assert_ptr_eq(stage.asked.failed, closed);
	stage.asked.locks[other] = open_patient("other");
	stage_end(&stage, -ECANCELED);
}
END_TEST

static void cancel_itself(struct asked_set *asked)
{
	struct loop *loop = asked->arg;

	ck_assert_int_eq(evfilelock_cancel(loop->ev, asked->locks[0]), -ENOENT);
	ck_assert_uint_eq(asked->calls, 1);
	set_close(asked);
}

START_TEST(test_set_is_finished_before_its_callback_begins)
{
	struct loop loop = loop_new();
	struct asked_set asked = set_open("ab");

	set_ask(&loop, &asked, -1);
	asked.arg = &loop;
	asked.then = cancel_itself;
	ck_assert_int_eq(set_answer(&loop, &asked), 0);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert(all_free("ab"));
	loop_free(&loop);
}
END_TEST

static void free_context(struct asked_set *asked)
{
	struct loop *loop = asked->arg;

	evfilelock_free(loop->ev);
	loop->ev = NULL;
}

START_TEST(test_context_may_be_freed_inside_the_callback)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("b", EXCLUSIVE);
	struct asked_set asked[2] = { set_open("ac"), set_open("bc") };

	asked[0].then = free_context;
	asked[0].arg = &loop;
	set_ask(&loop, &asked[0], -1);
	set_ask(&loop, &asked[1], -1);
	ck_assert_int_eq(set_answer(&loop, &asked[0]), 0);
	ck_assert_ptr_null(loop.ev);
	ck_assert_uint_eq(asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, -ECANCELED);
	ck_assert_uint_eq(set_held(&asked[0]), 2);
	filelock_close(holder);
	set_close(&asked[0]);
	set_close(&asked[1]);
	loop_free(&loop);
}
END_TEST

static void break_loop(struct asked_set *asked)
{
	ck_assert_int_eq(event_base_loopbreak(asked->arg), 0);
}

START_TEST(test_no_other_callback_follows_a_loopbreak)
{
	struct loop loop = loop_new();
	struct asked_set asked[2] = { set_open("ab"), set_open("cd") };

	for (unsigned i = 0; i < 2; i++) {
		asked[i].then = break_loop;
		asked[i].arg = loop.base;
		set_ask(&loop, &asked[i], -1);
	}
	for (unsigned calls = 1; calls <= 2; calls++) {
		ck_assert_int_eq(event_base_dispatch(loop.base), 0);
		ck_assert_uint_eq(asked[0].calls + asked[1].calls, calls);
	}
	loop_drain(&loop);
	set_close(&asked[0]);
	set_close(&asked[1]);
	loop_free(&loop);
}
END_TEST

struct chain {
	struct loop loop;
	struct turns turns;
	unsigned asked_at, left;
};

static void ask_in_a_later_turn(struct asked_set *asked)
{
	struct chain *chain = asked->arg;

	ck_assert_uint_gt(chain->turns.count, chain->asked_at);
	set_release(asked);
	chain->asked_at = chain->turns.count;
	if (--chain->left > 0)
		set_ask(&chain->loop, asked, -1);
}

START_TEST(test_set_begun_inside_a_callback_waits_for_the_next_turn)
{
	struct chain chain = { .loop = loop_new(), .left = 20 };
	struct asked_set asked = set_open("a");

	asked.then = ask_in_a_later_turn;
	asked.arg = &chain;
	turns_begin(&chain.turns, chain.loop.base);
	set_ask(&chain.loop, &asked, -1);
	loop_until(&chain.loop, &asked.calls, 20);
	turns_end(&chain.turns);
	loop_drain(&chain.loop);
	set_close(&asked);
	loop_free(&chain.loop);
}
END_TEST

START_TEST(test_waiting_set_keeps_what_it_has_from_others)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("b", EXCLUSIVE);
	struct asked_set first = set_open("ab");
	struct asked_set second = set_open("ba");

	set_ask(&loop, &first, -1);
	set_reach(&loop, &first, 1);
	set_ask(&loop, &second, -1);
	loop_for(&loop, 5);
	ck_assert(!is_free("a"));
	ck_assert_uint_eq(set_held(&second), 0);
	filelock_close(holder);
	ck_assert_int_eq(set_answer(&loop, &first), 0);
	ck_assert_uint_eq(second.calls, 0);
	set_release(&first);
	ck_assert_int_eq(set_answer(&loop, &second), 0);
	set_close(&first);
	set_close(&second);
	loop_free(&loop);
}
END_TEST

/* Where AddressSanitizer can say so: a child that ends by _exit is not looked at otherwise. */
static bool leaks(void)
{
#ifdef __SANITIZE_ADDRESS__
	return __lsan_do_recoverable_leak_check() != 0;
#else
	return false;
#endif
}

static int free_in_child(void *arg)
{
	struct stage *stage = arg;

	if (event_reinit(stage->loop.base) < 0)
		return 100;
	set_cancel(&stage->asked);
	(void)event_base_loop(stage->loop.base, EVLOOP_NONBLOCK);
	if (stage->waits_for == 0)
		set_close(&stage->asked);
	evfilelock_free(stage->loop.ev);
	if (stage->waits_for > 0)
		set_close(&stage->asked);
	event_base_free(stage->loop.base);
	/* what only these know is lost */
	stage->asked.ev = NULL;
	memset(stage->asked.locks, 0, sizeof(stage->asked.locks));
	return leaks() ? 100 : (int)stage->asked.calls;
}

START_TEST(test_forked_child_is_told_nothing_and_takes_nothing_back)
{
	struct stage stage;

	stage_begin(&stage, (unsigned)_i);
	ck_assert_int_eq(test_in_child(free_in_child, &stage), 0);
	ck_assert_uint_eq(set_held(&stage.asked), (size_t)_i);
	ck_assert_int_eq(filelock_release(stage.holder), 0);
	ck_assert_int_eq(set_answer(&stage.loop, &stage.asked), 0);
	ck_assert_uint_eq(set_held(&stage.asked), 3);
	set_release(&stage.asked);
	stage_end(&stage, 0);
}
END_TEST

static void fork_inside(struct asked_set *asked)
{
	*(pid_t *)asked->arg = fork();
}

START_TEST(test_fork_inside_the_callback_leaves_the_child_nothing)
{
	/* workers leave a child what they have in hand */
	if (getenv("FILELOCK_TEST_WORKERS") && test_is_in_valgrind())
		return;
	struct loop loop = loop_new();
	struct asked_set asked[2] = { set_open("ab"), set_open("ab") };
	pid_t child = -1;

	asked[0].then = fork_inside;
	asked[0].arg = &child;
	set_ask(&loop, &asked[0], -1);
	set_ask(&loop, &asked[1], -1);
	while (asked[0].calls == 0 && event_base_loop(loop.base, EVLOOP_ONCE) == 0)
		;
	if (child == 0) {
		evfilelock_free(loop.ev);
		event_base_free(loop.base);
		_exit(set_held(&asked[0]) > 0 || asked[1].calls > 0);
	}
	ck_assert_int_eq(test_reap(child), 0);
	ck_assert_uint_eq(set_held(&asked[0]), 2);
	set_release(&asked[0]);
	ck_assert_int_eq(set_answer(&loop, &asked[1]), 0);
	set_close(&asked[0]);
	set_close(&asked[1]);
	loop_free(&loop);
}
END_TEST

static void each_stage(Suite *suite, const TTest *test, int stages)
{
	TCase *tcase = tcase_create(test->name);

	tcase_add_loop_test(tcase, test, 0, stages);
	suite_add_tcase(suite, tcase);
}

int main(void)
{
	Suite *suite =
	        SUITE("async many", test_set_is_held_whole_when_it_is_told, test_set_is_copied,
	              test_shared_sets_are_held_together,
	              test_refused_arguments_are_never_called_back,
	              test_set_that_would_wait_for_itself_is_refused,
	              test_set_with_a_handle_that_holds_is_refused,
	              test_pending_handle_fails_the_set_at_its_turn,
	              test_nothing_is_told_from_inside_the_call,
	              test_contexts_with_sets_in_opposite_orders_never_deadlock,
	              test_processes_with_sets_in_opposite_orders_never_deadlock,
	              test_failure_gives_everything_back,
	              test_what_was_taken_is_given_back_in_reverse,
	              test_zero_timeout_is_one_attempt_at_each_lock,
	              test_deadline_is_one_for_all_locks_of_a_set,
	              test_cancel_before_the_loop_ran_takes_nothing,
	              test_set_is_finished_before_its_callback_begins,
	              test_context_may_be_freed_inside_the_callback,
	              test_no_other_callback_follows_a_loopbreak,
	              test_set_begun_inside_a_callback_waits_for_the_next_turn,
	              test_waiting_set_keeps_what_it_has_from_others,
	              test_fork_inside_the_callback_leaves_the_child_nothing);

	each_stage(suite, test_cancel_at_each_stage_gives_everything_back, 3);
	each_stage(suite, test_lock_won_while_the_set_is_cancelled_is_given_back, 3);
	each_stage(suite, test_freeing_the_context_completes_a_set_at_each_stage, 3);
	each_stage(suite, test_closing_the_handle_that_is_waited_for_cancels_the_set, 3);
	each_stage(suite, test_closing_another_handle_cancels_the_set, 2);
	each_stage(suite, test_forked_child_is_told_nothing_and_takes_nothing_back, 3);
	return support_main(suite);
}
