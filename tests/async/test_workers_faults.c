/* Workers when memory, threads or descriptors run out, and calls of theirs fail. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "gate.h"
#include "memory.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREADS_WATCHED 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define THREADS_WATCHED 1
#endif

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define SHARED FILELOCK_SHARED

/* No context with so many can be had; errno says why. */
static void check_refused(struct event_base *base, unsigned workers, int error)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct evfilelock *ev;

	options.workers = workers;
	errno = 0;
	ev = evfilelock_new(base, &options);
	if (ev || errno != error)
		ck_abort_msg("not refused, or for another reason: %d", errno);
}

/* The next context has workers, and they work. */
static void check_workers_can_be_had(struct event_base *base)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct filelock *lock = open_patient("a");
	struct loop loop;

	options.workers = 2;
	loop = loop_with(base, &options);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	filelock_close(lock);
	loop_free(&loop);
}

START_TEST(test_workers_without_a_descriptor_for_their_bell_are_refused)
{
	struct event_base *base = event_base_new();

	fault_set(FAULT_eventfd, 1, FAULT_ONCE, EMFILE);
	check_refused(base, 2, EMFILE);
	check_workers_can_be_had(base);
}
END_TEST

#ifndef SANITIZED
START_TEST(test_workers_without_memory_are_refused)
{
	struct event_base *base = event_base_new();

	for (unsigned nth = 1; nth <= 5; nth++) { /* context, watcher, mailbox, timer, pool */
		failing.count = 0;
		failing.nth = nth;
		check_refused(base, 2, ENOMEM);
		heal();
	}
	check_workers_can_be_had(base);
}
END_TEST
#endif

#ifndef THREADS_WATCHED /* by what wants memory for each thread itself */
static unsigned count_threads(void)
{
	char text[4096];
	unsigned count = 0;

	test_read_file("/proc/self/status", text, sizeof(text));
	ck_assert_int_eq(sscanf(strstr(text, "\nThreads:"), " Threads: %u", &count), 1);
	return count;
}

static rlim_t address_space(void)
{
	unsigned long pages = 0;
	char text[128];

	test_read_file("/proc/self/statm", text, sizeof(text));
	ck_assert_int_eq(sscanf(text, "%lu", &pages), 1);
	return (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

/* There is room for the stack of one thread more. */
START_TEST(test_fewer_threads_than_asked_for_are_none)
{
	const size_t stack = (size_t)1 << 30;
	size_t given;
	struct event_base *base = event_base_new();
	unsigned before = count_threads();
	pthread_attr_t attributes, usual;
	struct rlimit limit;
	rlim_t soft;

	ck_assert_int_eq(getrlimit(RLIMIT_AS, &limit), 0);
	soft = limit.rlim_cur;
	ck_assert_int_eq(pthread_getattr_default_np(&usual), 0);
	ck_assert_int_eq(pthread_getattr_default_np(&attributes), 0);
	ck_assert_int_eq(pthread_attr_setstacksize(&attributes, stack), 0);
	ck_assert_int_eq(pthread_setattr_default_np(&attributes), 0);
	ck_assert_int_eq(pthread_getattr_default_np(&attributes), 0);
	ck_assert_int_eq(pthread_attr_getstacksize(&attributes, &given), 0);
	if (given < stack) { /* musl */
		test_skip("no stack is that large by default here");
		return;
	}
	limit.rlim_cur = address_space() + stack + stack / 2;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	check_refused(base, 3, EAGAIN);
	limit.rlim_cur = soft;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	ck_assert_int_eq(pthread_setattr_default_np(&usual), 0);
	await(count_threads() == before);
	check_workers_can_be_had(base);
}
END_TEST
#endif

static void note_mask(void *arg)
{
	ck_assert_int_eq(pthread_sigmask(SIG_BLOCK, NULL, arg), 0);
}

START_TEST(test_workers_have_all_signals_blocked_and_the_loop_none_more)
{
	struct filelock *lock = open_patient("a");
	sigset_t before, after, workers;
	struct loop loop;

	note_mask(&before);
	loop = loop_with_workers(2);
	note_mask(&after);
	fault_before(FAULT_open, 1, note_mask, &workers);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	for (int number = 1; number <= SIGRTMAX; number++) {
		ck_assert_int_eq(sigismember(&after, number), sigismember(&before, number));
		if (number == SIGKILL || number == SIGSTOP || (number > 31 && number < SIGRTMIN))
			continue; /* nobody can; or the C library's own */
		ck_assert_int_eq(sigismember(&workers, number), 1);
	}
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* One allocation of the library's fails, in the loop or on a worker. */
START_TEST(test_attempt_without_memory_is_answered_so)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop;

	(void)is_free("a");
	loop = loop_with_workers(2);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	fault_set(FAULT_calloc, (unsigned)_i, FAULT_ONCE, ENOMEM);
	loop_drain(&loop);
	ck_assert_uint_eq(fault_hits(FAULT_calloc), 1);
	ck_assert_int_eq(asked.result, -ENOMEM);
	ck_assert_int_eq(loop_acquire(&loop, asked.lock, EXCLUSIVE, -1), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* The same of the loop's own, and of libevent's. */
static bool try_pass_without_memory(unsigned nth)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop = loop_with_workers(2);
	bool struck;

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	failing.count = 0;
	failing.nth = nth;
	while (asked.calls == 0)
		if (event_base_loop(loop.base, EVLOOP_ONCE) != 0)
			break;
	struck = failing.count >= nth;
	heal();
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert(asked.result == 0 || (struck && asked.result == -ENOMEM));
	if (asked.result != 0) /* what a worker may have won is nobody's */
		ck_assert_int_eq(loop_acquire(&loop, asked.lock, EXCLUSIVE, -1), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
	return struck;
}

START_TEST(test_pass_without_memory_answers_each_request_once)
{
	unsigned nth = 1;

	event_set_mem_functions(event_malloc, event_realloc, free);
	while (try_pass_without_memory(nth))
		nth++;
	ck_assert_uint_gt(nth, 1);
}
END_TEST

static bool try_release_without_memory(unsigned nth)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop = loop_with_workers(2);
	bool struck;
	int r;

	failing.count = 0;
	failing.nth = nth;
	r = evfilelock_release(loop.ev, asked.lock, loop_note, &asked);
	struck = failing.count >= nth;
	heal();
	if (r < 0) {
		ck_assert(struck);
		ck_assert_int_eq(r, -ENOMEM);
		ck_assert(filelock_is_held(asked.lock));
		ck_assert(!is_free("a"));
		r = evfilelock_release(loop.ev, asked.lock, loop_note, &asked);
	}
	ck_assert_int_eq(r, 0);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
	return struck;
}

START_TEST(test_release_without_memory_is_refused_and_the_lock_kept)
{
	unsigned nth = 1;

	event_set_mem_functions(event_malloc, event_realloc, free);
	while (try_release_without_memory(nth))
		nth++;
	ck_assert_uint_gt(nth, 1);
}
END_TEST

START_TEST(test_release_without_memory_for_a_handle_is_refused_and_the_lock_kept)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop = loop_with_workers(2);

	fault_set(FAULT_calloc, 1, FAULT_ONCE, ENOMEM);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), -ENOMEM);
	ck_assert(filelock_is_held(asked.lock));
	ck_assert(!is_free("a"));
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	loop_drain(&loop);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* A worker has won a marker, in place of a lock; the handle cannot become one of that kind. */
START_TEST(test_hold_that_cannot_be_moved_to_its_handle_is_given_back)
{
	struct asked asked = { .lock = open_patient("b") };
	struct loop loop;

	fault_watch();
	loop = gated_loop(1);
	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	run_to_the_gate(&loop);
	open_gate();
	await_rings(1);
	fault_set(FAULT_calloc, 1, FAULT_ONCE, ENOMEM);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_uint_eq(fault_hits(FAULT_calloc), 1);
	ck_assert_int_eq(asked.result, -ENOMEM);
	ck_assert(!filelock_is_held(asked.lock));
	await(access(test_path("b"), F_OK) < 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static unsigned releases_traced;

static void count_releases(const struct evfilelock_trace_event *event, void *arg)
{
	(void)arg;
	releases_traced += event->what == EVFILELOCK_TRACE_RELEASED;
}

static void release_by_worker(struct loop *loop, struct asked *asked, int result)
{
	asked->calls = 0;
	ck_assert_int_eq(evfilelock_release(loop->ev, asked->lock, loop_note, asked), 0);
	loop_until(loop, &asked->calls, 1);
	ck_assert_int_eq(asked->result, result);
}

START_TEST(test_hold_whose_release_fails_has_not_ended)
{
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	struct loop loop;

	fault_watch();
	loop = loop_with_workers(2);
	ck_assert_int_eq(evfilelock_set_trace(loop.ev, count_releases, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	loop_until(&loop, &asked[0].calls, 1);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	release_by_worker(&loop, &asked[0], -EIO);
	loop_for(&loop, 5);
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), 0);
	ck_assert_uint_eq(stats.held, 1);
	ck_assert_uint_eq(stats.attempts, 1); /* the next one waits for the context's own hold */
	ck_assert_uint_eq(releases_traced, 0);
	release_by_worker(&loop, &asked[0], 0);
	loop_until(&loop, &asked[1].calls, 1);
	ck_assert_int_eq(asked[1].result, 0);
	ck_assert_uint_eq(releases_traced, 1);
	filelock_close(asked[0].lock);
	release_by_worker(&loop, &asked[1], 0);
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), 0);
	ck_assert_uint_eq(stats.held, 0);
	ck_assert_uint_eq(releases_traced, 2);
	filelock_close(asked[1].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_release_that_fails_after_its_handle_was_closed_is_made_again)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop = loop_with_workers(2);

	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	filelock_close(asked.lock);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, -EIO);
	await(is_free("a"));
	loop_free(&loop);
}
END_TEST

START_TEST(test_release_that_fails_after_its_context_was_freed_is_made_again)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop;

	fault_watch();
	loop = gated_loop(1);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	run_to_the_gate(&loop);
	loop_free(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(!is_free("a"));
	open_gate();
	await(is_free("a"));
	filelock_close(asked.lock);
}
END_TEST

/* A handle that is used while it is released, which event.h forbids: it loses nothing by that. */
static struct loop loop_in_failing_release(struct asked *asked)
{
	struct loop loop;

	fault_watch();
	loop = gated_loop(1);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked->lock, loop_note, asked), 0);
	run_to_the_gate(&loop);
	return loop;
}

START_TEST(test_release_that_fails_adds_no_level_to_a_handle_that_holds_again)
{
	struct asked asked = { .lock = hold("a", SHARED) };
	struct loop loop = loop_in_failing_release(&asked);

	ck_assert_int_eq(filelock_acquire(asked.lock, SHARED, FILELOCK_NO_WAIT), 0);
	open_gate();
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, -EIO);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	await(is_free("a"));
	ck_assert_int_eq(loop_acquire(&loop, asked.lock, SHARED, -1), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_release_that_fails_leaves_the_handle_to_a_request_made_meanwhile)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct asked again = { .lock = asked.lock };
	struct loop loop = loop_in_failing_release(&asked);

	loop_ask(&loop, &again, EXCLUSIVE, -1);
	open_gate();
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, -EIO);
	loop_until(&loop, &again.calls, 1);
	ck_assert_int_eq(again.result, 0);
	ck_assert(!is_free("a"));
	filelock_close(asked.lock);
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "workers_faults", test_workers_without_a_descriptor_for_their_bell_are_refused,
	        test_workers_have_all_signals_blocked_and_the_loop_none_more,
	        test_pass_without_memory_answers_each_request_once,
	        test_release_without_memory_is_refused_and_the_lock_kept,
	        test_release_without_memory_for_a_handle_is_refused_and_the_lock_kept,
	        test_hold_that_cannot_be_moved_to_its_handle_is_given_back,
	        test_hold_whose_release_fails_has_not_ended,
	        test_release_that_fails_after_its_handle_was_closed_is_made_again,
	        test_release_that_fails_after_its_context_was_freed_is_made_again,
	        test_release_that_fails_adds_no_level_to_a_handle_that_holds_again,
	        test_release_that_fails_leaves_the_handle_to_a_request_made_meanwhile);
	TCase *memory = tcase_create("memory");

	/* a handle of its own, and that one's path */
	tcase_add_loop_test(memory, test_attempt_without_memory_is_answered_so, 1, 3);
#ifndef SANITIZED
	tcase_add_test(memory, test_workers_without_memory_are_refused);
#endif
#ifndef THREADS_WATCHED
	tcase_add_test(memory, test_fewer_threads_than_asked_for_are_none);
#endif
	suite_add_tcase(suite, memory);
	return support_main(suite);
}
