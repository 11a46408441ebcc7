/* Every back end of libevent, its timers, priorities, EVLOOP_NONBLOCK; bases in threads. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static const struct backend {
	const char *method; /* NULL: libevent's own choice */
	int flags;
} backends[] = {
	{ "epoll", 0 },
	{ "poll", 0 },
	{ "select", 0 },
	{ NULL, 0 },
	{ NULL, EVENT_BASE_FLAG_PRECISE_TIMER },
	{ NULL, EVENT_BASE_FLAG_NO_CACHE_TIME },
	{ NULL, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST },
};
#define BACKENDS (sizeof(backends) / sizeof(backends[0]))

static struct event_base *base_by(const struct backend *backend)
{
	struct event_config *config = event_config_new();
	const char **methods = event_get_supported_methods();
	struct event_base *base;

	for (; *methods; methods++)
		if (backend->method && strcmp(*methods, backend->method) != 0)
			event_config_avoid_method(config, *methods);
	event_config_set_flag(config, backend->flags | EVENT_BASE_FLAG_IGNORE_ENV);
	base = event_base_new_with_config(config);
	event_config_free(config);
	ck_assert_ptr_nonnull(base);
	if (backend->method)
		ck_assert_str_eq(event_base_get_method(base), backend->method);
	return base;
}

static void release_own(struct asked *asked)
{
	if (asked->result == 0)
		ck_assert_int_eq(filelock_release(asked->lock), 0);
}

static void check_told_in_order(struct asked asked[], unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(asked[i].place, i + 1);
		filelock_close(asked[i].lock);
	}
}

START_TEST(test_each_back_end_serves_a_queue)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_on(base_by(&backends[_i]));
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked[8] = { 0 };

	for (unsigned i = 0; i < 8; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(&loop, &asked[i], i % 4 ? FILELOCK_SHARED : EXCLUSIVE, -1);
	}
	loop_for(&loop, 5);
	ck_assert_uint_eq(loop_answers, 0);
	filelock_close(holder);
	loop_drain(&loop);
	check_told_in_order(asked, 8);
	loop_free(&loop);
}
END_TEST

START_TEST(test_each_back_end_is_woken_by_another_process)
{
	struct peer peer;
	struct loop loop;
	struct asked asked = { 0 };

	peer_start_holding(&peer, test_path("a"), EXCLUSIVE);
	loop = loop_on(base_by(&backends[_i]));
	asked.lock = open_patient("a");
	for (unsigned i = 0; i < 20; i++) {
		loop_ask(&loop, &asked, EXCLUSIVE, -1);
		loop_turn(&loop);
		ck_assert_int_eq(peer_release(&peer), 0);
		ck_assert_int_eq(loop_answer(&loop, &asked), 0);
		ck_assert_int_eq(filelock_release(asked.lock), 0);
		ck_assert_int_eq(peer_acquire(&peer, EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	}
	peer_stop(&peer);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_each_back_end_keeps_deadlines_and_cancels)
{
	struct loop loop = loop_on(base_by(&backends[_i]));
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked overdue = { .lock = open_patient("a") };
	struct asked cancelled = { .lock = open_patient("a") };
	struct asked freed = { .lock = open_patient("a") };
	int64_t begin = test_now();

	loop_ask(&loop, &overdue, EXCLUSIVE, 30);
	loop_ask(&loop, &cancelled, EXCLUSIVE, -1);
	loop_ask(&loop, &freed, EXCLUSIVE, -1);
	loop_for(&loop, 2);
	ask_cancel(&cancelled);
	loop_until(&loop, &loop_answers, 2);
	ck_assert_int_eq(cancelled.result, -ECANCELED);
	ck_assert_int_eq(overdue.result, -ETIMEDOUT);
	ck_assert_int_ge(test_now() - begin, 30 * MILLISECONDS);
	evfilelock_free(loop.ev);
	ck_assert_int_eq(freed.result, -ECANCELED);
	ck_assert_uint_eq(loop_answers, 3);
	filelock_close(overdue.lock);
	filelock_close(cancelled.lock);
	filelock_close(freed.lock);
	filelock_close(holder);
	event_base_free(loop.base);
}
END_TEST

START_TEST(test_each_back_end_works_with_nonblocking_turns)
{
	struct loop loop = loop_on(base_by(&backends[_i]));
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked overdue = { .lock = open_patient("a") };
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &overdue, EXCLUSIVE, 10);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	while (overdue.calls == 0)
		loop_turn(&loop);
	ck_assert_int_eq(overdue.result, -ETIMEDOUT);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	while (asked.calls == 0)
		loop_turn(&loop);
	ck_assert_int_eq(asked.result, 0);
	loop_turn(&loop);
	ck_assert_uint_eq(loop_answers, 2);
	filelock_close(overdue.lock);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static struct evfilelock *new_with_priority(struct event_base *base, int priority)
{
	struct evfilelock_options options = loop_options();

	options.priority = priority;
	errno = 0;
	return evfilelock_new(base, &options);
}

START_TEST(test_priority_outside_the_bases_range_is_refused)
{
	struct event_base *base = event_base_new();
	struct loop loop = { .base = base };

	ck_assert_ptr_null(new_with_priority(base, 1));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_ptr_null(new_with_priority(base, -2));
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(event_base_priority_init(base, 3), 0);
	ck_assert_ptr_null(new_with_priority(base, 3));
	loop.ev = new_with_priority(base, 2);
	ck_assert_ptr_nonnull(loop.ev);
	ck_assert_int_eq(loop_acquire(&loop, open_patient("a"), EXCLUSIVE, -1), 0);
	loop_free(&loop);
}
END_TEST

struct urgent {
	struct event *event;
	unsigned left;
	unsigned *answers;
};

/* An urgent event that comes again and again. */
static void be_urgent(evutil_socket_t fd, short what, void *arg)
{
	struct urgent *urgent = arg;

	(void)fd;
	(void)what;
	ck_assert_uint_eq(*urgent->answers, 0);
	if (--urgent->left > 0)
		event_active(urgent->event, EV_READ, 1);
}

START_TEST(test_context_of_low_priority_waits_for_urgent_events)
{
	struct event_base *base = event_base_new();
	struct urgent urgent = { .left = 1000, .answers = &loop_answers };
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked waits = { .lock = open_patient("a") };
	struct asked prompt = { .lock = open_patient("b") };
	struct loop loop;

	ck_assert_int_eq(event_base_priority_init(base, 2), 0);
	loop = (struct loop){ base, new_with_priority(base, 1) };
	ck_assert_ptr_nonnull(loop.ev);
	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	urgent.event = event_new(base, -1, 0, be_urgent, &urgent);
	ck_assert_int_eq(event_priority_set(urgent.event, 0), 0);
	loop_ask(&loop, &prompt, EXCLUSIVE, -1);
	filelock_close(holder);
	event_active(urgent.event, EV_READ, 1);
	loop_drain(&loop);
	ck_assert_uint_eq(urgent.left, 0);
	ck_assert_int_eq(waits.result, 0);
	ck_assert_int_eq(prompt.result, 0);
	ck_assert_uint_eq(loop_answers, 2);
	event_free(urgent.event);
	filelock_close(waits.lock);
	filelock_close(prompt.lock);
	loop_free(&loop);
}
END_TEST

/* A thread with a base of its own, that takes one lock again and again. */
struct worker {
	pthread_t thread;
	unsigned who;
	unsigned left;
	struct witness *witness;
	struct loop loop;
	struct asked asked;
};

static void work(struct asked *asked)
{
	struct worker *worker = asked->arg;

	if (asked->result < 0)
		ck_abort_msg("%s", filelock_strerror(asked->result));
	witness_enter(worker->witness, worker->who);
	witness_leave(worker->witness, worker->who);
	if (filelock_release(asked->lock) < 0)
		ck_abort_msg("release");
	if (--worker->left > 0)
		(void)loop_try_ask(&worker->loop, asked, EXCLUSIVE, -1);
}

static void *run_worker(void *arg)
{
	struct worker *worker = arg;

	worker->loop.base = event_base_new();
	worker->loop.ev = evfilelock_new(worker->loop.base, NULL);
	worker->asked.then = work;
	worker->asked.arg = worker;
	(void)loop_try_ask(&worker->loop, &worker->asked, EXCLUSIVE, -1);
	(void)event_base_dispatch(worker->loop.base);
	evfilelock_free(worker->loop.ev);
	event_base_free(worker->loop.base);
	return NULL;
}

START_TEST(test_bases_in_threads_exclude_each_other)
{
	enum { THREADS = 4 };
	struct worker workers[THREADS] = { 0 };
	struct witness *witness = test_shared(sizeof(*witness));
	unsigned rounds = test_rounds(300);

	for (unsigned i = 0; i < THREADS; i++) {
		workers[i].who = i + 1;
		workers[i].left = rounds;
		workers[i].witness = witness;
		workers[i].asked.lock = test_open(test_path("a"), NULL);
	}
	for (unsigned i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, run_worker,
		                                &workers[i]), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
		ck_assert_uint_eq(workers[i].asked.calls, rounds);
		filelock_close(workers[i].asked.lock);
	}
	ck_assert_uint_eq(witness->overlaps, 0);
	ck_assert_uint_eq(witness->entries, THREADS * rounds);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("async back ends", test_priority_outside_the_bases_range_is_refused,
	                     test_context_of_low_priority_waits_for_urgent_events,
	                     test_bases_in_threads_exclude_each_other);
	TCase *each = tcase_create("each back end");

	tcase_add_loop_test(each, test_each_back_end_serves_a_queue, 0, BACKENDS);
	tcase_add_loop_test(each, test_each_back_end_is_woken_by_another_process, 0, BACKENDS);
	tcase_add_loop_test(each, test_each_back_end_keeps_deadlines_and_cancels, 0, BACKENDS);
	tcase_add_loop_test(each, test_each_back_end_works_with_nonblocking_turns, 0, BACKENDS);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
