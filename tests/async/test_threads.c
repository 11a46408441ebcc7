/* A lock granted by a callback belongs to whoever is given it, on any thread. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define THREAD_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define THREAD_SANITIZER 1
#endif

/* A thread that does one thing to each handle that it is sent, and then says so. */
struct helper {
	pthread_t thread;
	int handles[2], replies[2];
	void (*treat)(struct filelock *lock);
};

static void *help(void *arg)
{
	struct helper *helper = arg;
	struct filelock *lock;

	while (read(helper->handles[0], &lock, sizeof(lock)) == sizeof(lock)) {
		helper->treat(lock);
		if (write(helper->replies[1], "", 1) != 1)
			ck_abort_msg("write");
	}
	return NULL;
}

static void helper_start(struct helper *helper, void (*treat)(struct filelock *lock))
{
	helper->treat = treat;
	ck_assert_int_eq(pipe(helper->handles), 0);
	ck_assert_int_eq(pipe(helper->replies), 0);
	ck_assert_int_eq(pthread_create(&helper->thread, NULL, help, helper), 0);
}

static void helper_send(struct helper *helper, struct filelock *lock)
{
	if (write(helper->handles[1], &lock, sizeof(lock)) != sizeof(lock))
		ck_abort_msg("write");
}

static void helper_wait(struct helper *helper)
{
	char byte;

	if (read(helper->replies[0], &byte, 1) != 1)
		ck_abort_msg("read");
}

static void helper_stop(struct helper *helper)
{
	close(helper->handles[1]);
	ck_assert_int_eq(pthread_join(helper->thread, NULL), 0);
	close(helper->handles[0]);
	close(helper->replies[0]);
	close(helper->replies[1]);
}

static void release(struct filelock *lock)
{
	if (filelock_release(lock) < 0)
		ck_abort_msg("%s", filelock_last_error(lock));
}

static void release_and_close(struct filelock *lock)
{
	release(lock);
	filelock_close(lock);
}

static void use_and_close(struct filelock *lock)
{
	release(lock);
	for (unsigned i = 0; i < 3; i++) {
		int r = filelock_acquire(lock, FILELOCK_SHARED, 0);

		if (r == 0)
			release(lock);
		else if (r != -ETIMEDOUT)
			ck_abort_msg("%s", filelock_last_error(lock));
	}
	filelock_close(lock);
}

static void hand_over(struct asked *asked)
{
	helper_send(asked->arg, asked->lock);
}

static void hand_over_and_wait(struct asked *asked)
{
	helper_send(asked->arg, asked->lock);
	helper_wait(asked->arg);
}

/* Every granted handle goes to the helper, while the loop serves the next. */
static void run_queue(void (*treat)(struct filelock *lock), bool wait, bool closes)
{
	enum { COUNT = 200 };
	static struct asked asked[COUNT];
	struct loop loop = loop_new();
	struct helper helper;

	loop_answers = 0;
	helper_start(&helper, treat);
	for (unsigned i = 0; i < COUNT; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .arg = &helper,
			                   .then = wait ? hand_over_and_wait : hand_over };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_until(&loop, &loop_answers, COUNT);
	for (unsigned i = 0; i < COUNT; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_uint_eq(asked[i].place, i + 1);
		if (!wait)
			helper_wait(&helper);
		if (!closes)
			filelock_close(asked[i].lock);
	}
	helper_stop(&helper);
	ck_assert(is_free("a"));
	loop_free(&loop);
}

/* shows: release-on-any-thread */
START_TEST(test_release_from_another_thread_serves_the_next)
{
	run_queue(release, false, false);
}
END_TEST

START_TEST(test_release_from_another_thread_before_the_callback_returns)
{
	run_queue(release, true, false);
}
END_TEST

START_TEST(test_handle_may_be_closed_on_another_thread_once_its_callback_began)
{
	run_queue(release_and_close, false, true);
	run_queue(release_and_close, true, true);
}
END_TEST

START_TEST(test_handle_may_be_used_on_another_thread_once_its_callback_began)
{
	if (test_is_without_shared())
		return;
	run_queue(use_and_close, false, true);
	run_queue(use_and_close, true, true);
}
END_TEST

static void *hold_and_release(void *arg)
{
	struct filelock *lock = arg;

	for (unsigned i = 0; i < 100; i++) {
		if (filelock_acquire(lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER) < 0)
			ck_abort_msg("%s", filelock_last_error(lock));
		release(lock);
	}
	return NULL;
}

START_TEST(test_loop_and_blocking_threads_take_turns)
{
	struct loop loop = loop_new();
	struct filelock *locks[2] = { open_patient("a"), open_patient("a") };
	struct filelock *own = open_patient("a");
	pthread_t threads[2];

	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, hold_and_release, locks[i]),
		                 0);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert_int_eq(loop_acquire(&loop, own, EXCLUSIVE, -1), 0);
		ck_assert_int_eq(filelock_release(own), 0);
	}
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		filelock_close(locks[i]);
	}
	filelock_close(own);
	loop_free(&loop);
}
END_TEST

/* Contexts come and go on several threads at once, waiting for the same locks. */
static void *come_and_go(void *arg)
{
	for (unsigned i = 0; i < 30; i++) {
		struct loop loop = { event_base_new(), NULL };
		struct asked asked = { .lock = arg };

		loop.ev = evfilelock_new(loop.base, NULL);
		if (loop_try_ask(&loop, &asked, EXCLUSIVE, 3) < 0)
			ck_abort_msg("refused");
		if (i % 3)
			(void)event_base_loop(loop.base, i % 2 ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
		evfilelock_free(loop.ev);
		event_base_free(loop.base);
		if (asked.calls != 1)
			ck_abort_msg("called %u times", asked.calls);
		if (asked.result == 0)
			release(asked.lock);
	}
	return NULL;
}

START_TEST(test_contexts_come_and_go_on_several_threads)
{
	struct filelock *locks[4];
	pthread_t threads[4];

	for (unsigned i = 0; i < 4; i++)
		locks[i] = test_open(test_path("a"), NULL);
	for (unsigned i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, locks[i]), 0);
	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
		filelock_close(locks[i]);
	}
	ck_assert(is_free("a"));
}
END_TEST

/* One lock is granted, and waited for, by two requests of a loop that other threads may run. */
struct pair {
	struct loop loop;
	struct asked asked[2];
};

static struct pair pair_new(void)
{
	struct pair pair = { .loop = loop_with_handover(100, 60000000) };

	for (unsigned i = 0; i < 2; i++)
		pair.asked[i].lock = open_patient("a");
	return pair;
}

static void *reach_the_second(void *arg)
{
	struct pair *pair = arg;

	for (unsigned i = 0; i < 2; i++)
		loop_ask(&pair->loop, &pair->asked[i], EXCLUSIVE, -1);
	loop_until(&pair->loop, &pair->asked[0].calls, 1);
	loop_for(&pair->loop, 5);
	return NULL;
}

static void *take_over_the_loop(void *arg)
{
	const struct pair *pair = arg;

	ck_assert_int_eq(evfilelock_set_trace(pair->loop.ev, NULL, NULL), 0);
	return NULL;
}

static void *release_the_first(void *arg)
{
	struct pair *pair = arg;

	release(pair->asked[0].lock);
	return NULL;
}

static void do_elsewhere(void *(*run)(void *arg), struct pair *pair)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, run, pair), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* The release was left to the loop, which wakes the next. */
static void check_pair(struct pair *pair)
{
	ck_assert_uint_eq(pair->asked[1].calls, 0);
	ck_assert(!filelock_is_held(pair->asked[1].lock));
	ck_assert_int_eq(loop_answer(&pair->loop, &pair->asked[1]), 0);
	for (unsigned i = 0; i < 2; i++)
		filelock_close(pair->asked[i].lock);
	loop_free(&pair->loop);
}

/* It may have what was that one's: its stack, its addresses. */
/* shows: release-on-any-thread */
START_TEST(test_thread_is_not_taken_for_one_that_ran_the_loop_and_is_gone)
{
	struct pair pair = pair_new();

	do_elsewhere(reach_the_second, &pair);
	do_elsewhere(release_the_first, &pair);
	check_pair(&pair);
}
END_TEST

/* shows: release-on-any-thread */
START_TEST(test_thread_that_ran_the_loop_before_releases_as_any_other)
{
	struct pair pair = pair_new();

	(void)reach_the_second(&pair);
	do_elsewhere(take_over_the_loop, &pair);
	release(pair.asked[0].lock);
	check_pair(&pair);
}
END_TEST

static struct evfilelock_stats stats_of(const struct loop *loop)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	ck_assert_int_eq(evfilelock_get_stats(loop->ev, &stats), 0);
	return stats;
}

static void *look_at_stats(void *arg)
{
	const struct pair *pair = arg;

	ck_assert_uint_eq(stats_of(&pair->loop).held, 1);
	ck_assert_uint_eq(stats_of(&pair->loop).waiting, 1);
	return NULL;
}

/* shows: stats-on-any-thread */
START_TEST(test_thread_that_reads_stats_does_not_take_over_the_loop)
{
	struct pair pair = pair_new();

	(void)reach_the_second(&pair);
	do_elsewhere(look_at_stats, &pair);
	release(pair.asked[0].lock);
	ck_assert(filelock_is_held(pair.asked[1].lock)); /* handed over, on the loop's thread */
	ck_assert_int_eq(loop_answer(&pair.loop, &pair.asked[1]), 0);
	for (unsigned i = 0; i < 2; i++)
		filelock_close(pair.asked[i].lock);
	loop_free(&pair.loop);
}
END_TEST

static void *look_for_nothing_held(void *arg)
{
	const struct pair *pair = arg;

	ck_assert_uint_eq(stats_of(&pair->loop).held, 0);
	return NULL;
}

START_TEST(test_release_that_the_loop_has_not_heard_of_is_counted)
{
	struct pair pair = pair_new();

	ck_assert_int_eq(loop_acquire(&pair.loop, pair.asked[0].lock, EXCLUSIVE, -1), 0);
	do_elsewhere(release_the_first, &pair);
	do_elsewhere(look_for_nothing_held, &pair);
	loop_for(&pair.loop, 1); /* and now it has */
	ck_assert_uint_eq(stats_of(&pair.loop).held, 0);
	for (unsigned i = 0; i < 2; i++)
		filelock_close(pair.asked[i].lock);
	loop_free(&pair.loop);
}
END_TEST

#define OBSERVED 4

struct observed {
	struct loop loop;
	atomic_uint looks;
	atomic_bool stop;
};

static void *observe(void *arg)
{
	struct observed *observed = arg;
	struct evfilelock_stats last = stats_of(&observed->loop), stats;

	while (!atomic_load(&observed->stop)) {
		stats = stats_of(&observed->loop);
		ck_assert_uint_ge(stats.requested, last.requested);
		ck_assert_uint_ge(stats.granted, last.granted);
		ck_assert_uint_ge(stats.attempts, last.attempts);
		ck_assert_uint_le(stats.granted + stats.cancelled, stats.requested);
		ck_assert_uint_le(stats.longest_queue_ever, OBSERVED);
		ck_assert_uint_le(stats.longest_queue, OBSERVED);
		ck_assert_uint_le(stats.queues, 2);
		ck_assert_uint_le(stats.held, 2);
		last = stats;
		atomic_fetch_add(&observed->looks, 1);
	}
	return NULL;
}

static void release_now(struct asked *asked)
{
	release(asked->lock);
}

/* One is cancelled, the others hold one after the other. */
static void run_a_round(struct loop *loop, struct filelock *const *locks)
{
	struct asked asked[OBSERVED] = { 0 };

	for (unsigned i = 0; i < OBSERVED; i++) {
		asked[i] = (struct asked){ .lock = locks[i], .then = i ? release_now : NULL };
		loop_ask(loop, &asked[i], EXCLUSIVE, -1);
	}
	ask_cancel(&asked[0]);
	loop_drain(loop);
}

/* shows: stats-on-any-thread */
START_TEST(test_stats_are_read_while_the_loop_runs_on_another_thread)
{
	struct observed observed = { .loop = loop_new() };
	struct filelock *locks[OBSERVED];
	struct evfilelock_stats stats;
	unsigned rounds = 0;
	pthread_t thread;

	for (unsigned i = 0; i < OBSERVED; i++)
		locks[i] = open_patient(i % 2 ? "a" : "b");
	ck_assert_int_eq(pthread_create(&thread, NULL, observe, &observed), 0);
	while (rounds < 20 || atomic_load(&observed.looks) < 20) {
		run_a_round(&observed.loop, locks);
		rounds++;
	}
	atomic_store(&observed.stop, true);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	stats = stats_of(&observed.loop);
	ck_assert_uint_eq(stats.requested, (uint64_t)rounds * OBSERVED);
	ck_assert_uint_eq(stats.cancelled, rounds);
	ck_assert_uint_eq(stats.granted, (uint64_t)rounds * (OBSERVED - 1));
	ck_assert_uint_eq(stats.waiting + stats.held + stats.queues + stats.longest_queue, 0);
	for (unsigned i = 0; i < OBSERVED; i++)
		filelock_close(locks[i]);
	loop_free(&observed.loop);
}
END_TEST

#ifndef THREAD_SANITIZER
static void *fork_on_and_on(void *arg)
{
	_Atomic bool *stop = arg;

	while (!*stop) {
		int status;
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
			ck_abort_msg("fork");
	}
	return NULL;
}

/* The handlers of fork(2) run on one thread while another is in the middle of anything. */
START_TEST(test_forks_on_another_thread_disturb_no_loop)
{
	struct loop loop = loop_new();
	struct filelock *holder = open_patient("a");
	struct filelock *lock = open_patient("a");
	_Atomic bool stop = false;
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, fork_on_and_on, (void *)&stop), 0);
	for (unsigned i = test_rounds(200); i > 0; i--) {
		struct asked asked = { .lock = lock };

		ck_assert_int_eq(filelock_acquire(holder, EXCLUSIVE, FILELOCK_NO_WAIT), 0);
		loop_ask(&loop, &asked, EXCLUSIVE, -1);
		loop_turn(&loop);
		ck_assert_int_eq(filelock_release(holder), 0);
		ck_assert_int_eq(loop_answer(&loop, &asked), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	stop = true;
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	filelock_close(holder);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = suite_create("async threads");
	TCase *tcase = tcase_create("threads");

	tcase_add_test(tcase, test_release_from_another_thread_serves_the_next);
	tcase_add_test(tcase, test_release_from_another_thread_before_the_callback_returns);
	tcase_add_test(tcase, test_handle_may_be_closed_on_another_thread_once_its_callback_began);
	tcase_add_test(tcase, test_handle_may_be_used_on_another_thread_once_its_callback_began);
	tcase_add_test(tcase, test_loop_and_blocking_threads_take_turns);
	tcase_add_test(tcase, test_contexts_come_and_go_on_several_threads);
	tcase_add_test(tcase, test_thread_is_not_taken_for_one_that_ran_the_loop_and_is_gone);
	tcase_add_test(tcase, test_thread_that_ran_the_loop_before_releases_as_any_other);
	tcase_add_test(tcase, test_thread_that_reads_stats_does_not_take_over_the_loop);
	tcase_add_test(tcase, test_release_that_the_loop_has_not_heard_of_is_counted);
	tcase_add_test(tcase, test_stats_are_read_while_the_loop_runs_on_another_thread);
#ifndef THREAD_SANITIZER
	tcase_add_test(tcase, test_forks_on_another_thread_disturb_no_loop);
#endif
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
