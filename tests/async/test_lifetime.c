/* Freeing contexts in every order; what the base is left with; that nothing leaks (rule 9). */
#include <signal.h>
#include <sys/stat.h>

#include "loop.h"

static void free_context(struct asked *asked)
{
	struct loop *loop = asked->arg;

	evfilelock_free(loop->ev);
	loop->ev = NULL;
}

/* Requests of every sort: to be granted, waiting, overdue, cancelled, nested, refused. */
enum { FREE, WAITING, QUEUED, TIMED, CANCELLED, NESTED, WRONG, SORTS };

struct sorts {
	struct loop loop;
	struct filelock *holder;
	struct asked asked[SORTS];
};

static void sorts_begin(struct sorts *sorts)
{
	static const char *const names[SORTS] = { "f", "w", "w", "w", "w", "n", "d" };
	struct asked *asked = sorts->asked;

	*sorts = (struct sorts){ .loop = loop_new(), .holder = hold("w", FILELOCK_EXCLUSIVE) };
	ck_assert(mkdir(test_path("d"), 0700) == 0 || errno == EEXIST);
	for (unsigned i = 0; i < SORTS; i++)
		asked[i].lock = open_patient(names[i]);
	ck_assert_int_eq(filelock_acquire(asked[NESTED].lock, FILELOCK_EXCLUSIVE, 0), 0);
	for (unsigned i = 0; i < SORTS; i++)
		loop_ask(&sorts->loop, &asked[i], FILELOCK_EXCLUSIVE, i == TIMED ? 1 : -1);
	ask_cancel(&asked[CANCELLED]);
}

static void sorts_end(struct sorts *sorts)
{
	for (unsigned i = 0; i < SORTS; i++) {
		struct asked *asked = &sorts->asked[i];
		unsigned depth = i == NESTED;

		ck_assert_uint_eq(asked->calls, 1);
		depth += asked->result == 0;
		ck_assert_uint_eq(filelock_depth(asked->lock), depth);
		filelock_close(asked->lock);
	}
	filelock_close(sorts->holder);
	loop_drain(&sorts->loop);
	ck_assert_int_eq(event_base_get_num_events(sorts->loop.base, EVENT_BASE_COUNT_ADDED), 0);
	event_base_free(sorts->loop.base);
}

START_TEST(test_context_with_requests_of_every_sort_may_be_freed_at_once)
{
	struct sorts sorts;

	sorts_begin(&sorts);
	evfilelock_free(sorts.loop.ev);
	for (unsigned i = 0; i < SORTS; i++)
		ck_assert_int_eq(sorts.asked[i].result, -ECANCELED);
	sorts_end(&sorts);
}
END_TEST

START_TEST(test_context_with_requests_of_every_sort_may_be_freed_after_a_while)
{
	struct sorts sorts;

	sorts_begin(&sorts);
	loop_until(&sorts.loop, &sorts.asked[TIMED].calls, 1);
	evfilelock_free(sorts.loop.ev);
	sorts_end(&sorts);
}
END_TEST

/* shows: rule-5 */
START_TEST(test_context_may_be_freed_inside_the_callback_of_every_sort)
{
	for (unsigned i = 0; i < SORTS; i++) {
		struct sorts sorts;

		sorts_begin(&sorts);
		sorts.asked[i].then = free_context;
		sorts.asked[i].arg = &sorts.loop;
		if (i == WAITING || i == QUEUED) {
			loop_until(&sorts.loop, &sorts.asked[TIMED].calls, 1);
			ck_assert_int_eq(filelock_release(sorts.holder), 0);
		}
		if (i == QUEUED) {
			loop_until(&sorts.loop, &sorts.asked[WAITING].calls, 1);
			filelock_release(sorts.asked[WAITING].lock);
			sorts.asked[WAITING].result = 1; /* no longer held */
		}
		loop_drain(&sorts.loop);
		ck_assert_ptr_null(sorts.loop.ev);
		sorts_end(&sorts);
	}
}
END_TEST

START_TEST(test_context_may_be_freed_inside_a_callback_of_another_context)
{
	struct loop loop = loop_new();
	struct loop other = loop_on(loop.base);
	struct filelock *holder = hold("w", FILELOCK_EXCLUSIVE);
	struct asked waits = { .lock = open_patient("w") };
	struct asked prompt = { .lock = open_patient("p") };
	struct asked frees = { .lock = open_patient("a"), .then = free_context, .arg = &other };

	loop_ask(&other, &waits, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	loop_ask(&loop, &frees, FILELOCK_EXCLUSIVE, -1);
	loop_ask(&other, &prompt, FILELOCK_EXCLUSIVE, -1);
	filelock_close(holder);
	loop_drain(&loop);
	ck_assert_uint_eq(waits.calls + prompt.calls + frees.calls, 3);
	filelock_close(waits.lock);
	filelock_close(prompt.lock);
	filelock_close(frees.lock);
	loop_free(&loop);
}
END_TEST

static void free_on_event(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;

	(void)fd;
	(void)what;
	evfilelock_free(loop->ev);
	loop->ev = NULL;
}

/* The base has found the context's descriptor and its timer due, and frees it before they
   are served. */
START_TEST(test_context_may_be_freed_in_the_turn_in_which_its_events_are_due)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked waits = { .lock = open_patient("a") };
	struct asked prompt = { .lock = open_patient("b") };
	struct event *event = event_new(loop.base, -1, 0, free_on_event, &loop);

	loop_ask(&loop, &waits, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	loop_ask(&loop, &prompt, FILELOCK_EXCLUSIVE, -1);
	filelock_close(holder);
	event_active(event, EV_READ, 1);
	loop_drain(&loop);
	ck_assert_int_eq(waits.result, -ECANCELED);
	ck_assert_int_eq(prompt.result, -ECANCELED);
	ck_assert_uint_eq(waits.calls + prompt.calls, 2);
	event_free(event);
	filelock_close(waits.lock);
	filelock_close(prompt.lock);
	ck_assert(is_free("a") && is_free("b"));
	loop_free(&loop);
}
END_TEST

static void run_loop_inside(struct asked *asked)
{
	const struct loop *loop = asked->arg;
	unsigned before = loop_answers;

	ck_assert_int_eq(asked->result, -ECANCELED);
	for (unsigned i = 0; i < 3; i++)
		ck_assert_int_ge(event_base_loop(loop->base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_eq(loop_answers, before);
}

/* A timer is due, and an event is there to be read; without workers and with them. */
START_TEST(test_loop_run_inside_a_callback_of_the_free_serves_nothing_of_the_context)
{
	struct loop loop = loop_with_workers((unsigned)_i);
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked[3] = { { .lock = open_patient("a") }, { .lock = open_patient("a") },
		                  { .lock = open_patient("b") } };

	for (unsigned i = 0; i < 3; i++) {
		asked[i].then = run_loop_inside;
		asked[i].arg = &loop;
	}
	loop_ask(&loop, &asked[0], FILELOCK_EXCLUSIVE, -1);
	loop_ask(&loop, &asked[1], FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	loop_ask(&loop, &asked[2], FILELOCK_EXCLUSIVE, -1);
	filelock_close(holder);
	evfilelock_free(loop.ev);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		filelock_close(asked[i].lock);
	}
	await(is_free("a") && is_free("b"));
	loop_drain(&loop);
	event_base_free(loop.base);
}
END_TEST

START_TEST(test_granted_locks_outlive_their_context)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");

	ck_assert_int_eq(loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1), 0);
	loop_free(&loop);
	ck_assert(filelock_is_held(lock));
	ck_assert(!is_free("a"));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert(is_free("a"));
	filelock_close(lock);
}
END_TEST

/* shows: rule-9 */
START_TEST(test_dispatch_returns_while_granted_locks_are_held)
{
	struct loop loop = loop_new();
	struct asked first = { .lock = open_patient("a") };
	struct asked second = { .lock = open_patient("b") };
	struct filelock *holder = hold("b", FILELOCK_EXCLUSIVE);

	loop_drain(&loop); /* a new context waits for nothing */
	loop_ask(&loop, &first, FILELOCK_EXCLUSIVE, -1);
	loop_ask(&loop, &second, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	filelock_close(holder);
	loop_drain(&loop);
	ck_assert(filelock_is_held(first.lock) && filelock_is_held(second.lock));
	ck_assert_int_eq(event_base_get_num_events(loop.base, EVENT_BASE_COUNT_ADDED), 0);
	ck_assert_int_eq(event_base_get_num_events(loop.base, EVENT_BASE_COUNT_VIRTUAL), 0);
	filelock_close(first.lock);
	filelock_close(second.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_dispatch_goes_on_while_a_request_waits)
{
	struct peer peer;
	struct loop loop;
	struct asked asked = { 0 };

	peer_start_holding(&peer, test_path("a"), FILELOCK_EXCLUSIVE);
	loop = loop_new();
	asked.lock = open_patient("a");
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_turn(&loop);
	peer_kill(&peer, SIGKILL);
	loop_drain(&loop);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: rule-9 */
START_TEST(test_base_outlives_its_contexts)
{
	struct event_base *base = event_base_new();

	for (unsigned i = 0; i < 20; i++) {
		struct loop loop = loop_on(base);
		struct asked asked = { .lock = open_patient("a") };

		loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
		if (i % 2)
			loop_drain(&loop);
		evfilelock_free(loop.ev);
		ck_assert_uint_eq(asked.calls, 1);
		filelock_close(asked.lock);
		ck_assert_int_eq(event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), 0);
	}
	event_base_free(base);
}
END_TEST

static void run_every_sort(void)
{
	struct sorts sorts;

	sorts_begin(&sorts);
	loop_until(&sorts.loop, &sorts.asked[TIMED].calls, 1);
	filelock_close(sorts.asked[WAITING].lock);
	evfilelock_free(sorts.loop.ev);
	for (unsigned i = 0; i < SORTS; i++)
		if (i != WAITING)
			filelock_close(sorts.asked[i].lock);
	filelock_close(sorts.holder);
	event_base_free(sorts.loop.base);
}

START_TEST(test_neither_descriptors_nor_watches_are_left_behind)
{
	unsigned before = test_descriptors();

	run_every_sort();
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_uint_eq(test_watches(), 0);
}
END_TEST

START_TEST(test_context_keeps_two_descriptors_at_most_and_no_watch)
{
	struct loop loop = loop_new();
	unsigned before = test_descriptors();

	for (unsigned i = 0; i < 10; i++) {
		struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
		struct asked asked = { .lock = open_patient("a") };

		loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
		while (test_watches() == 0)
			ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
		ck_assert_uint_eq(test_watches(), 1);
		filelock_close(holder);
		loop_drain(&loop);
		filelock_close(asked.lock);
		ck_assert_uint_eq(test_watches(), 0);
		ck_assert_uint_le(test_descriptors(), before + 2);
	}
	loop_free(&loop);
}
END_TEST

START_TEST(test_queued_requests_cost_no_descriptors)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct asked asked[50] = { 0 };
	unsigned before = test_descriptors();

	for (unsigned i = 0; i < 50; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	loop_for(&loop, 5);
	ck_assert_uint_le(test_descriptors(), before + 3);
	ck_assert_uint_eq(test_watches(), 1);
	evfilelock_free(loop.ev);
	ck_assert_uint_eq(test_descriptors(), before);
	for (unsigned i = 0; i < 50; i++)
		filelock_close(asked[i].lock);
	filelock_close(holder);
	event_base_free(loop.base);
}
END_TEST

int main(void)
{
	TCase *both = tcase_create("with workers and without");
	Suite *suite = SUITE(
	        "async lifetime",
	        test_context_with_requests_of_every_sort_may_be_freed_at_once,
	        test_context_with_requests_of_every_sort_may_be_freed_after_a_while,
	        test_context_may_be_freed_inside_the_callback_of_every_sort,
	        test_context_may_be_freed_inside_a_callback_of_another_context,
	        test_context_may_be_freed_in_the_turn_in_which_its_events_are_due,
	        test_granted_locks_outlive_their_context,
	        test_dispatch_returns_while_granted_locks_are_held,
	        test_dispatch_goes_on_while_a_request_waits, test_base_outlives_its_contexts,
	        test_neither_descriptors_nor_watches_are_left_behind,
	        test_context_keeps_two_descriptors_at_most_and_no_watch,
	        test_queued_requests_cost_no_descriptors);

	tcase_add_loop_test(
	        both, test_loop_run_inside_a_callback_of_the_free_serves_nothing_of_the_context, 0,
	        2);
	suite_add_tcase(suite, both);
	return support_main(suite);
}
