/* A loop keeps the file of a lock that comes again open, as long as that is of use. */
#include <pthread.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static struct event *of_the_program;

static void nothing(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
}

/* Without workers, whose attempts are made by other handles; and with an event of the program's, which
   keeps the loop running. */
static struct loop loop_that_goes_on(void)
{
	static const struct timeval late = { 3600, 0 };
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct loop loop = loop_with(event_base_new(), &options);

	of_the_program = event_new(loop.base, -1, 0, nothing, NULL);
	ck_assert_ptr_nonnull(of_the_program);
	ck_assert_int_eq(event_add(of_the_program, &late), 0);
	return loop;
}

static void cycle(struct loop *loop, struct filelock *lock)
{
	ck_assert_int_eq(loop_acquire(loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
}

/* The library's clock stands meanwhile: on a busy machine the second hold would not be soon. */
static void cycle_until_warm(struct loop *loop, struct filelock *lock)
{
	clock_fake(test_now());
	cycle(loop, lock);
	cycle(loop, lock);
}

static void end(struct loop *loop, struct filelock *lock)
{
	event_free(of_the_program);
	filelock_close(lock);
	loop_free(loop);
}

START_TEST(test_lock_that_comes_again_keeps_its_file_open)
{
	struct loop loop = loop_that_goes_on();
	struct filelock *lock = open_patient("lock");
	unsigned before;

	clock_fake(test_now());
	cycle(&loop, lock);
	before = test_descriptors();
	cycle(&loop, lock);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	fault_watch();
	for (unsigned i = 0; i < 10; i++)
		cycle(&loop, lock);
	ck_assert_uint_eq(fault_calls(FAULT_open), 0);
	ck_assert_uint_eq(fault_calls(FAULT_close), 0);
	ck_assert_uint_eq(fault_calls(FAULT_flock), 20);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	filelock_close(lock);
	lock = open_patient("lock"); /* another handle of the lock has use of it */
	cycle(&loop, lock);
	ck_assert_uint_eq(fault_calls(FAULT_open), 0);
	end(&loop, lock);
}
END_TEST

START_TEST(test_lock_that_comes_later_is_closed)
{
	struct loop loop = loop_that_goes_on();
	struct filelock *lock = open_patient("lock");
	unsigned before;

	clock_fake(test_now());
	cycle(&loop, lock);
	before = test_descriptors();
	for (unsigned i = 0; i < 5; i++) {
		clock_advance(20 * MILLISECONDS);
		cycle(&loop, lock);
		ck_assert_uint_eq(test_descriptors(), before);
	}
	end(&loop, lock);
}
END_TEST

START_TEST(test_file_is_closed_after_a_second_of_idleness)
{
	struct loop loop = loop_that_goes_on();
	struct filelock *lock = open_patient("lock");
	unsigned before;

	clock_fake(test_now());
	cycle(&loop, lock);
	before = test_descriptors();
	cycle(&loop, lock);
	clock_advance(500 * MILLISECONDS);
	cycle(&loop, lock); /* late, so that it is closed, and yet by the open file */
	ck_assert_uint_eq(test_descriptors(), before);
	cycle(&loop, lock);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	clock_advance(990 * MILLISECONDS);
	for (unsigned i = 0; i < 20; i++)
		loop_turn(&loop);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	clock_advance(11 * MILLISECONDS);
	while (test_descriptors() > before) /* the loop's own timer has its second, too */
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	end(&loop, lock);
}
END_TEST

static void again(struct asked *asked)
{
	struct loop *loop = asked->arg;

	ck_assert_int_eq(asked->result, 0);
	ck_assert_int_eq(filelock_release(asked->lock), 0);
	if (asked->calls < 10)
		loop_ask(loop, asked, EXCLUSIVE, -1);
}

/* Only the timer for what is kept would be left. */
START_TEST(test_loop_ends_with_the_last_request)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct loop loop = loop_with(event_base_new(), &options);
	struct asked asked = { .lock = open_patient("lock"), .then = again, .arg = &loop };
	unsigned before = test_descriptors();

	clock_fake(test_now());
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 10);
	ck_assert_uint_eq(test_descriptors(), before);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static void give_back(struct asked *asked)
{
	ck_assert_int_eq(asked->result, 0);
	ck_assert_int_eq(filelock_release(asked->lock), 0);
}

/* The context listens until that turn. */
START_TEST(test_loop_ends_with_a_request_that_had_to_wait)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct loop loop = loop_with(event_base_new(), &options);
	struct asked asked = { .lock = open_patient("lock"), .then = give_back };
	struct filelock *holder;

	cycle_until_warm(&loop, asked.lock);
	holder = hold("lock", EXCLUSIVE);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	for (unsigned i = 0; i < 5; i++)
		loop_turn(&loop);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	loop_until(&loop, &asked.calls, 1);
	for (unsigned i = 0; i < 5; i++)
		loop_turn(&loop);
	ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_NONBLOCK), 1); /* nothing is left */
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_kept_file_is_closed_when_descriptors_run_out)
{
	struct loop loop = loop_that_goes_on();
	struct filelock *lock = open_patient("lock"), *other = open_patient("other");
	unsigned before;

	cycle_until_warm(&loop, lock);
	cycle(&loop, other);
	before = test_descriptors();
	clock_advance(20 * MILLISECONDS);
	fault_set(FAULT_open, 1, FAULT_ONCE, EMFILE);
	cycle(&loop, other);
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
	ck_assert_uint_eq(test_descriptors(), before - 1);
	filelock_close(other);
	end(&loop, lock);
}
END_TEST

START_TEST(test_context_that_is_freed_closes_what_it_keeps)
{
	struct loop loop = loop_that_goes_on();
	struct filelock *lock = open_patient("lock");
	unsigned before;

	cycle_until_warm(&loop, lock);
	before = test_descriptors();
	evfilelock_free(loop.ev);
	ck_assert_uint_le(test_descriptors(), before - 1);
	ck_assert(is_free("lock"));
	event_free(of_the_program);
	filelock_close(lock);
	event_base_free(loop.base);
}
END_TEST

static void *release(void *lock)
{
	return filelock_release(lock) == 0 ? NULL : lock;
}

START_TEST(test_release_on_another_thread_closes)
{
	struct loop loop = loop_that_goes_on();
	struct filelock *lock = open_patient("lock");
	pthread_t thread;
	unsigned before;
	void *result;

	cycle_until_warm(&loop, lock);
	before = test_descriptors();
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, release, lock), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_null(result);
	ck_assert_uint_eq(test_descriptors(), before - 1);
	end(&loop, lock);
}
END_TEST

/* shows: warm-wakes */
START_TEST(test_warm_release_of_a_loop_wakes_other_processes)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = open_patient("lock");
	struct loop loop;
	struct peer peer;

	options.poll_interval_ms = PATIENT_MS;
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), &options), 0);
	loop = loop_that_goes_on();
	clock_fake(test_now());
	for (unsigned i = 0; i < test_rounds(200); i++) {
		ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
		peer_order_acquire(&peer, EXCLUSIVE, -1);
		if (i % 2)
			peer_await_notice(&peer);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(peer_answer(&peer), 0);
		ck_assert_int_eq(peer_release(&peer), 0);
	}
	end(&loop, lock);
	peer_stop(&peer);
}
END_TEST

struct child {
	struct loop *loop;
	struct filelock *lock;
};

static int work_on(void *arg)
{
	const struct child *child = arg;

	if (event_reinit(child->loop->base) < 0)
		return 1;
	cycle(child->loop, child->lock);
	return 0;
}

START_TEST(test_context_that_keeps_a_file_works_on_in_a_child)
{
	struct loop loop = loop_that_goes_on();
	struct child child = { &loop, open_patient("lock") };

	cycle_until_warm(&loop, child.lock);
	ck_assert_int_eq(test_in_child(work_on, &child), 0);
	cycle(&loop, child.lock);
	end(&loop, child.lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "warm", test_lock_that_comes_again_keeps_its_file_open,
	        test_lock_that_comes_later_is_closed,
	        test_file_is_closed_after_a_second_of_idleness,
	        test_loop_ends_with_the_last_request,
	        test_loop_ends_with_a_request_that_had_to_wait,
	        test_kept_file_is_closed_when_descriptors_run_out,
	        test_context_that_is_freed_closes_what_it_keeps,
	        test_release_on_another_thread_closes,
	        test_warm_release_of_a_loop_wakes_other_processes,
	        test_context_that_keeps_a_file_works_on_in_a_child));
}
