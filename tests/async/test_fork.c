/* Fork: a child's copy of a context is dead, does nothing to the parent, and can be replaced. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

/* A context with requests of every sort, waiting for a lock that a peer holds. */
struct family {
	struct peer peer;
	struct loop loop;
	struct asked waiting, queued, timed, cancelled, prompt;
	unsigned answered; /* before the fork: on a slow machine the deadline may have come by then */
};

static unsigned family_calls(const struct family *family)
{
	return family->waiting.calls + family->queued.calls + family->timed.calls +
	       family->cancelled.calls + family->prompt.calls;
}

static unsigned calls_since(const struct family *family)
{
	return family_calls(family) - family->answered;
}

static void family_begin(struct family *family)
{
	*family = (struct family){ 0 };
	peer_start_holding(&family->peer, test_path("a"), EXCLUSIVE);
	family->loop = loop_new();
	family->waiting.lock = open_patient("a");
	family->queued.lock = open_patient("a");
	family->timed.lock = open_patient("a");
	family->cancelled.lock = open_patient("a");
	family->prompt.lock = open_patient("p");
	loop_ask(&family->loop, &family->waiting, EXCLUSIVE, -1);
	loop_ask(&family->loop, &family->queued, EXCLUSIVE, -1);
	loop_ask(&family->loop, &family->timed, EXCLUSIVE, 150);
	loop_for(&family->loop, 5);
	loop_ask(&family->loop, &family->cancelled, EXCLUSIVE, -1);
	ask_cancel(&family->cancelled);
	loop_ask(&family->loop, &family->prompt, EXCLUSIVE, -1);
	family->answered = family_calls(family);
}

static void close_all(struct family *family)
{
	filelock_close(family->waiting.lock);
	filelock_close(family->queued.lock);
	filelock_close(family->timed.lock);
	filelock_close(family->cancelled.lock);
	filelock_close(family->prompt.lock);
}

/* In the parent, after whatever the child did: everybody is served as if it had not been. */
static void family_end(struct family *family)
{
	ck_assert_int_eq(loop_answer(&family->loop, &family->prompt), 0);
	loop_until(&family->loop, &family->timed.calls, 1);
	ck_assert_int_eq(family->timed.result, -ETIMEDOUT);
	loop_until(&family->loop, &family->cancelled.calls, 1);
	ck_assert_int_eq(family->cancelled.result, -ECANCELED);
	ck_assert_int_eq(peer_release(&family->peer), 0);
	ck_assert_int_eq(loop_answer(&family->loop, &family->waiting), 0);
	ck_assert_int_eq(filelock_release(family->waiting.lock), 0);
	ck_assert_int_eq(loop_answer(&family->loop, &family->queued), 0);
	ck_assert_int_eq(filelock_release(family->queued.lock), 0);
	ck_assert(is_free("a"));
	ck_assert_uint_eq(family_calls(family), 5);
	close_all(family);
	peer_stop(&family->peer);
	loop_free(&family->loop);
}

static void run_loop_for(struct event_base *base, int ms)
{
	int64_t end = test_now() + ms * MILLISECONDS;

	while (test_now() < end) {
		(void)event_base_loop(base, EVLOOP_NONBLOCK);
		test_nap();
	}
}

static int loop_on_in_child(void *arg)
{
	struct family *family = arg;

	run_loop_for(family->loop.base, 250);
	return (int)calls_since(family);
}

/* shows: fork-is-harmless */
START_TEST(test_no_callback_comes_in_a_child_that_runs_the_loop)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(loop_on_in_child, &family), 0);
	family_end(&family);
}
END_TEST

/* The parent has something to read, or will have at once. */
struct readable {
	struct loop loop;
	struct filelock *holder;
	struct asked waits;
};

static void there_is_an_event(struct readable *r)
{
	r->holder = hold("a", EXCLUSIVE);
	r->waits.lock = open_patient("a");
	loop_ask(&r->loop, &r->waits, EXCLUSIVE, -1);
	loop_for(&r->loop, 5);
	ck_assert_int_eq(filelock_release(r->holder), 0);
}

static void a_timer_is_due(struct readable *r)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 1;
	r->holder = hold("a", EXCLUSIVE);
	r->waits.lock = test_open(test_path("a"), &options);
	loop_ask(&r->loop, &r->waits, EXCLUSIVE, -1);
	loop_for(&r->loop, 5);
}

static void *release_there(void *arg)
{
	ck_assert_int_eq(filelock_release(arg), 0);
	return NULL;
}

static void the_bell_has_rung(struct readable *r)
{
	pthread_t thread;

	r->holder = open_patient("a");
	ck_assert_int_eq(loop_acquire(&r->loop, r->holder, EXCLUSIVE, -1), 0);
	r->waits.lock = open_patient("a");
	loop_ask(&r->loop, &r->waits, EXCLUSIVE, -1);
	loop_for(&r->loop, 5);
	ck_assert_int_eq(pthread_create(&thread, NULL, release_there, r->holder), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static int turn_in_child(void *arg)
{
	struct readable *r = arg;

	alarm(TEST_PATIENCE / SECONDS); /* rather than spin for ever */
	run_loop_for(r->loop.base, 20);
	return (int)r->waits.calls;
}

/* They share an epoll(7) instance, and what is readable there is so for both. */
START_TEST(test_child_does_not_spin_on_what_is_for_its_parent_to_read)
{
	static void (*const ways[])(struct readable *) = { there_is_an_event, a_timer_is_due,
		                                           the_bell_has_rung };
	struct readable r = { .loop = loop_new() };

	ways[_i](&r);
	ck_assert_uint_eq(r.waits.calls, 0);
	ck_assert_int_eq(test_in_child(turn_in_child, &r), 0);
	filelock_close(r.holder);
	ck_assert_int_eq(loop_answer(&r.loop, &r.waits), 0);
	filelock_close(r.waits.lock);
	loop_free(&r.loop);
}
END_TEST

static int reinit_in_child(void *arg)
{
	struct family *family = arg;

	if (event_reinit(family->loop.base) < 0)
		return 100;
	run_loop_for(family->loop.base, 250);
	return (int)calls_since(family);
}

START_TEST(test_no_callback_comes_in_a_child_after_event_reinit)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(reinit_in_child, &family), 0);
	family_end(&family);
}
END_TEST

static int ask_in_child(void *arg)
{
	struct family *family = arg;
	struct loop fresh;
	struct asked own = { .lock = open_patient("own") };
	struct asked inherited = { .lock = family->waiting.lock };

	ck_assert_int_eq(loop_try_ask(&family->loop, &own, EXCLUSIVE, -1), FILELOCK_EFORKED);
	ck_assert_int_eq(loop_try_ask(&family->loop, &inherited, EXCLUSIVE, -1), FILELOCK_EFORKED);
	ck_assert_int_eq(evfilelock_cancel(family->loop.ev, own.lock), FILELOCK_EFORKED);
	fresh = loop_new();
	ck_assert_int_eq(loop_try_ask(&fresh, &inherited, EXCLUSIVE, -1), FILELOCK_EFORKED);
	ck_assert_int_eq(loop_acquire(&fresh, own.lock, EXCLUSIVE, -1), 0);
	filelock_close(own.lock);
	loop_free(&fresh);
	return (int)(calls_since(family) + own.calls + inherited.calls);
}

START_TEST(test_inherited_context_and_handles_refuse_requests)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(ask_in_child, &family), 0);
	family_end(&family);
}
END_TEST

/* In each order that the header allows: the context before the base. */
static int free_in_child(void *arg)
{
	struct family *family = arg;

	ask_cancel(&family->waiting);
	close_all(family);
	evfilelock_free(family->loop.ev);
	event_base_free(family->loop.base);
	return (int)calls_since(family);
}

static int free_in_child_handles_last(void *arg)
{
	struct family *family = arg;

	evfilelock_free(family->loop.ev);
	event_base_free(family->loop.base);
	close_all(family);
	return (int)calls_since(family);
}

static int free_in_child_after_reinit(void *arg)
{
	struct family *family = arg;

	if (event_reinit(family->loop.base) < 0)
		return 100;
	return free_in_child_handles_last(arg);
}

START_TEST(test_child_may_free_everything_and_the_parent_is_still_woken)
{
	static int (*const ways[])(void *) = { free_in_child, free_in_child_handles_last,
		                               free_in_child_after_reinit };
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(ways[_i], &family), 0);
	family_end(&family);
}
END_TEST

static int start_anew_in_child(void *arg)
{
	struct family *family = arg;
	struct filelock *holder;
	struct asked waits = { 0 };
	struct loop anew;

	if (event_reinit(family->loop.base) < 0)
		return 100;
	evfilelock_free(family->loop.ev);
	anew = loop_on(family->loop.base);
	holder = hold("own", EXCLUSIVE);
	waits.lock = open_patient("own");
	loop_ask(&anew, &waits, EXCLUSIVE, -1);
	loop_for(&anew, 5);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&anew, &waits), 0);
	filelock_close(waits.lock);
	loop_drain(&anew);
	loop_free(&anew);
	return (int)calls_since(family);
}

START_TEST(test_new_context_on_the_reinited_base_works_in_the_child)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(start_anew_in_child, &family), 0);
	family_end(&family);
}
END_TEST

/* As after daemon(3): the child goes on with what its parent made, and had no use of yet. */
static int go_on_in_child(void *arg)
{
	struct readable *r = arg;
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	struct filelock *holder;

	alarm(TEST_PATIENCE / SECONDS);
	if (event_reinit(r->loop.base) < 0)
		return 100;
	holder = hold("a", EXCLUSIVE);
	loop_ask(&r->loop, &r->waits, EXCLUSIVE, -1);
	loop_for(&r->loop, 5);
	ck_assert_uint_eq(r->waits.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&r->loop, &r->waits), 0);
	ck_assert_int_eq(evfilelock_get_stats(r->loop.ev, &stats), 0);
	ck_assert_uint_eq(stats.held, 1);
	ck_assert_int_eq(filelock_release(r->waits.lock), 0);
	loop_drain(&r->loop);
	filelock_close(r->waits.lock);
	loop_free(&r->loop);
	return 0;
}

START_TEST(test_context_that_waits_for_nothing_goes_on_in_a_child)
{
	struct readable r;

#ifdef __SANITIZE_THREAD__
	if (_i) {
		test_skip("ThreadSanitizer ends a forked child that starts threads");
		return;
	}
#endif
	r = (struct readable){ .loop = _i ? loop_with_workers(2) : loop_new(),
		               .waits.lock = open_patient("a") };
	ck_assert_int_eq(loop_acquire(&r.loop, r.waits.lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_release(r.waits.lock), 0);
	loop_drain(&r.loop);
	ck_assert_int_eq(test_in_child(go_on_in_child, &r), 0);
	ck_assert_int_eq(loop_acquire(&r.loop, r.waits.lock, EXCLUSIVE, -1), 0);
	filelock_close(r.waits.lock);
	loop_free(&r.loop);
}
END_TEST

/* The child neither keeps the lock that its parent waits for nor takes the parent's events. */
static int live_on(void *arg)
{
	char byte;

	return read(*(int *)arg, &byte, 1) == 0 ? 0 : 1;
}

START_TEST(test_child_that_lives_on_keeps_no_lock_and_takes_no_event)
{
	struct family family;
	struct filelock *other;
	int fds[2];
	pid_t child;

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	family_begin(&family);
	ck_assert_int_eq(loop_answer(&family.loop, &family.prompt), 0);
	family.prompt.calls = 0;
	child = fork();
	if (child == 0) {
		close(fds[1]);
		_exit(live_on(&fds[0]));
	}
	other = open_patient("p");
	ck_assert_int_eq(filelock_acquire(other, EXCLUSIVE, FILELOCK_NO_WAIT), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(family.prompt.lock), 0);
	ck_assert_int_eq(filelock_acquire(other, EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	filelock_close(other);
	loop_ask(&family.loop, &family.prompt, EXCLUSIVE, -1);
	family_end(&family);
	close(fds[1]);
	ck_assert_int_eq(test_reap(child), 0);
}
END_TEST

START_TEST(test_lock_held_across_a_fork_wakes_the_queue_when_released)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	int fds[2];
	pid_t child;

	ck_assert_int_eq(pipe2(fds, O_CLOEXEC), 0);
	child = fork();
	if (child == 0) {
		close(fds[1]);
		_exit(live_on(&fds[0]));
	}
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	close(fds[1]);
	ck_assert_int_eq(test_reap(child), 0);
	filelock_close(holder);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* Forks inside its callback; the child goes on in the loop it finds itself in. */
struct forker {
	struct loop loop;
	pid_t child;
	bool frees; /* in the child */
	struct asked asked[4];
};

static void fork_inside(struct asked *asked)
{
	struct forker *forker = asked->arg;

	forker->child = fork();
	if (forker->child > 0)
		return;
	loop_answers = 0;
	if (forker->frees) {
		evfilelock_free(forker->loop.ev);
		forker->loop.ev = NULL;
	}
}

static void exit_child(struct forker *forker)
{
	run_loop_for(forker->loop.base, 20);
	evfilelock_free(forker->loop.ev);
	event_base_free(forker->loop.base);
	for (unsigned i = 0; i < 4; i++)
		filelock_close(forker->asked[i].lock);
	_exit((int)loop_answers);
}

static void fork_in_callback(bool nested, bool frees)
{
	struct forker forker = { .loop = loop_new(), .child = -1, .frees = frees };

	for (unsigned i = 0; i < 4; i++) {
		char name[2] = { (char)('a' + i), '\0' };

		forker.asked[i].lock = nested ? hold(name, EXCLUSIVE) : open_patient(name);
		forker.asked[i].arg = &forker;
		loop_ask(&forker.loop, &forker.asked[i], EXCLUSIVE, -1);
	}
	forker.asked[0].then = fork_inside;
	clock_fake(test_now()); /* no pass ends because it took too long */
	while (forker.child < 0)
		ck_assert_int_eq(event_base_loop(forker.loop.base, EVLOOP_ONCE), 0);
	if (forker.child == 0)
		exit_child(&forker);
	ck_assert_int_eq(test_reap(forker.child), 0);
	loop_drain(&forker.loop);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_uint_eq(forker.asked[i].calls, 1);
		ck_assert_int_eq(forker.asked[i].result, 0);
		filelock_close(forker.asked[i].lock);
	}
	loop_free(&forker.loop);
}

/* shows: fork-is-harmless */
START_TEST(test_fork_inside_a_callback_calls_no_other_back_in_the_child)
{
	fork_in_callback(false, false);
	fork_in_callback(true, false);
}
END_TEST

START_TEST(test_context_may_be_freed_in_a_child_forked_inside_a_callback)
{
	fork_in_callback(false, true);
	fork_in_callback(true, true);
}
END_TEST

static int grandchild(void *arg)
{
	return test_in_child(free_in_child, arg);
}

START_TEST(test_grandchild_does_as_little_as_a_child)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(grandchild, &family), 0);
	family_end(&family);
}
END_TEST

/* shows: exec-closes */
START_TEST(test_no_descriptor_survives_exec)
{
	struct family family;

	family_begin(&family);
	for (int fd = 0; fd < 1024; fd++) {
		char link[64], target[512];
		ssize_t length;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		if (strstr(target, "inotify") || strstr(target, "timerfd") ||
		    strncmp(target, test_folder(), strlen(test_folder())) == 0)
			ck_assert_msg(fcntl(fd, F_GETFD) & FD_CLOEXEC, "%s", target);
	}
	family_end(&family);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("async fork", test_no_callback_comes_in_a_child_that_runs_the_loop,
	                     test_no_callback_comes_in_a_child_after_event_reinit,
	                     test_inherited_context_and_handles_refuse_requests,
	                     test_new_context_on_the_reinited_base_works_in_the_child,
	                     test_child_that_lives_on_keeps_no_lock_and_takes_no_event,
	                     test_lock_held_across_a_fork_wakes_the_queue_when_released,
	                     test_fork_inside_a_callback_calls_no_other_back_in_the_child,
	                     test_context_may_be_freed_in_a_child_forked_inside_a_callback,
	                     test_grandchild_does_as_little_as_a_child,
	                     test_no_descriptor_survives_exec);
	TCase *ways = tcase_create("ways");

	tcase_add_loop_test(ways, test_child_may_free_everything_and_the_parent_is_still_woken,
	                    0, 3);
	tcase_add_loop_test(ways, test_context_that_waits_for_nothing_goes_on_in_a_child, 0, 2);
	tcase_add_loop_test(ways, test_child_does_not_spin_on_what_is_for_its_parent_to_read, 0, 3);
	suite_add_tcase(suite, ways);
	return support_main(suite);
}
