/* Many requests, on one path and on many; and what a loop does that only waits. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>

#include "loop.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

enum { MOST = 100000, MOST_PATHS = 10000 }; /* a path costs descriptors, and a file */
static struct asked asked[MOST];

static void release_own(struct asked *granted)
{
	if (granted->result == 0 && filelock_release(granted->lock) < 0)
		ck_abort_msg("%s", filelock_last_error(granted->lock));
}

static void ask(struct loop *loop, unsigned i, const char *name)
{
	asked[i] = (struct asked){ .lock = open_patient(name), .then = release_own };
	loop_ask(loop, &asked[i], EXCLUSIVE, i % 2 ? -1 : 3600000);
}

static void check_and_close(unsigned count, int result)
{
	for (unsigned i = 0; i < count; i++) {
		if (asked[i].calls != 1 || asked[i].result != result)
			ck_abort_msg("request %u: %u calls, %d", i, asked[i].calls,
			             asked[i].result);
		filelock_close(asked[i].lock);
	}
}

/* shows: load */
START_TEST(test_thousands_of_requests_on_one_path_are_served_in_order)
{
	unsigned count = test_rounds(MOST) < MOST ? test_rounds(MOST) : MOST;
	unsigned before = test_descriptors();
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);

	for (unsigned i = 0; i < count; i++)
		ask(&loop, i, "a");
	loop_for(&loop, 5);
	ck_assert_uint_eq(loop_answers, 0);
	ck_assert_int_le(event_base_get_num_events(loop.base, EVENT_BASE_COUNT_ADDED), 3);
	filelock_close(holder);
	loop_drain(&loop);
	for (unsigned i = 0; i < count; i++)
		if (asked[i].place != i + 1)
			ck_abort_msg("request %u came %u.", i, asked[i].place);
	check_and_close(count, 0);
	loop_free(&loop);
	ck_assert_uint_eq(test_descriptors(), before);
}
END_TEST

/* shows: load */
START_TEST(test_thousands_of_requests_on_one_path_are_cancelled_in_any_order)
{
	unsigned count = test_rounds(MOST) < MOST ? test_rounds(MOST) : MOST;
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);

	srand48(1);
	for (unsigned i = 0; i < count; i++)
		ask(&loop, i, "a");
	loop_for(&loop, 5);
	for (unsigned i = 0; i < count; i++) {
		unsigned any = (unsigned)lrand48() % count;

		ask_cancel(&asked[any]);
		ask_cancel(&asked[i]);
	}
	loop_drain(&loop);
	check_and_close(count, -ECANCELED);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

static int *held; /* the peer's */

static int hold_all(void *arg)
{
	unsigned count = *(unsigned *)arg;

	held = calloc(count, sizeof(*held));
	for (unsigned i = 0; i < count; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "%u", i);
		held[i] = open(test_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (held[i] < 0 || flock(held[i], LOCK_EX | LOCK_NB) < 0)
			return -errno;
	}
	return 0;
}

static int drop_all(void *arg)
{
	unsigned count = *(unsigned *)arg;

	for (unsigned i = 0; i < count; i++)
		if (flock(held[i], LOCK_UN) < 0 || close(held[i]) < 0)
			return -errno;
	free(held);
	return 0;
}

/* shows: load */
START_TEST(test_thousands_of_paths_held_elsewhere_are_granted_as_they_come_free)
{
	unsigned count = test_rounds(MOST_PATHS);
	unsigned *shared = test_shared(sizeof(*shared));
	struct peer peer;
	struct loop loop;
	unsigned before;

	if (count > MOST_PATHS)
		count = MOST_PATHS;
	if (!loop_may_open(count))
		return;
	*shared = count;
	(void)test_folder(); /* the peer's too */
	peer_start(&peer);
	ck_assert_int_eq(peer_call(&peer, hold_all, shared), 0);
	before = test_descriptors();
	loop = loop_new();
	for (unsigned i = 0; i < count; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "%u", i);
		ask(&loop, i, name);
	}
	loop_for(&loop, 20);
	ck_assert_uint_eq(loop_answers, 0);
	peer_order(&peer, drop_all, shared);
	loop_drain(&loop);
	ck_assert_int_eq(peer_answer(&peer), 0);
	check_and_close(count, 0);
	ck_assert_uint_eq(test_watches(), 0);
	loop_free(&loop);
	ck_assert_uint_eq(test_descriptors(), before);
	peer_stop(&peer);
}
END_TEST

static unsigned all_calls(void)
{
	unsigned sum = 0;

	for (unsigned call = 0; call < FAULT_COUNT; call++)
		sum += fault_calls((enum fault_call)call);
	return sum;
}

/* Turns the loop for a while in which other events come. */
static void be_busy(struct loop *loop, int ms)
{
	for (int i = 0; i < ms / 5; i++)
		loop_for(loop, 5);
}

static struct sys_table real;

/* However busy the machine is, the library's time passes in be_busy_by_hand alone. */
static void stop_time(void)
{
	real = sys;
	clock_fake(test_now());
}

static void let_time_go(void)
{
	sys.now = real.now;
	sys.boot = real.boot;
}

static void be_busy_by_hand(struct loop *loop, int ms)
{
	for (int i = 0; i < ms / 5; i++) {
		clock_advance(5 * MILLISECONDS);
		loop_for(loop, 5);
	}
}

/* Turns the loop until so many attempts were made, and counts from then on. */
static void skip_attempts(struct loop *loop, unsigned count)
{
	while (fault_calls(FAULT_flock) < count)
		be_busy(loop, 5);
	fault_clear();
}

START_TEST(test_idle_waiters_only_attempt_ever_more_rarely)
{
	struct loop loop = loop_new();
	struct filelock *holders[2] = { hold("a", EXCLUSIVE), hold("b", EXCLUSIVE) };

	stop_time();
	for (unsigned i = 0; i < 200; i++)
		ask(&loop, i, i % 2 ? "a" : "b");
	be_busy_by_hand(&loop, 100);
	fault_watch();
	be_busy_by_hand(&loop, 200);
	/* the series after a new watch: the attempts after 127 and 255 ms, for each queue */
	ck_assert_uint_le(fault_calls(FAULT_flock), 2 * 2 + 2);
	/* timers of the kernel come early for a clock that stands */
	ck_assert_uint_eq(all_calls(), fault_calls(FAULT_flock) + fault_calls(FAULT_lstat) +
	                                       fault_calls(FAULT_timerfd_create) +
	                                       fault_calls(FAULT_timerfd_settime));
	let_time_go();
	filelock_close(holders[0]);
	filelock_close(holders[1]);
	loop_drain(&loop);
	check_and_close(200, 0);
	loop_free(&loop);
}
END_TEST

/* shows: idle-waits */
START_TEST(test_idle_waiter_makes_only_the_attempts_of_its_safety_poll)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked waits = { 0 };
	int64_t begin;
	unsigned polls;

	options.poll_interval_ms = 20;
	waits.lock = test_open(test_path("a"), &options);
	fault_watch();
	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	skip_attempts(&loop, 8); /* two, after 1, 2, 4, 8 and 16 ms, and by a poll */
	begin = test_now();
	be_busy(&loop, 300);
	/* one may come an eighth of its 20 ms early */
	polls = (unsigned)((test_now() - begin) / (17 * MILLISECONDS)) + 1;
	ck_assert_uint_ge(fault_calls(FAULT_flock), 1);
	ck_assert_uint_le(fault_calls(FAULT_flock), polls);
	ck_assert_uint_le(fault_calls(FAULT_lstat), polls);
	/* a timer of the base that came early is followed by a precise one */
	ck_assert_uint_le(fault_calls(FAULT_timerfd_settime), polls);
	ck_assert_uint_eq(all_calls(), fault_calls(FAULT_flock) + fault_calls(FAULT_lstat) +
	                                       fault_calls(FAULT_timerfd_settime));
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &waits), 0);
	filelock_close(waits.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_default_poll_is_armed_once_a_queue)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	int64_t begin;

	for (unsigned i = 0; i < 100; i++) {
		asked[i] = (struct asked){ .lock = test_open(test_path("a"), NULL) };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	fault_watch();
	skip_attempts(&loop, 9); /* two, after 1, 2, 4, 8, 16 and 32 ms, and by a poll */
	begin = test_now();
	be_busy(&loop, 300);
	/* a poll may come an eighth of its 50 ms early */
	ck_assert_uint_le(fault_calls(FAULT_flock),
	                  (test_now() - begin) / (43 * MILLISECONDS) + 1);
	evfilelock_free(loop.ev);
	check_and_close(100, -ECANCELED);
	filelock_close(holder);
	event_base_free(loop.base);
}
END_TEST

/* shows: load */
START_TEST(test_wake_is_worth_one_attempt_however_many_wait)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);

	stop_time();
	for (unsigned i = 0; i < 500; i++)
		ask(&loop, i, "a");
	asked[0].then = NULL;
	be_busy_by_hand(&loop, 20);
	fault_watch();
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), 0);
	be_busy_by_hand(&loop, 20);
	ck_assert_uint_eq(loop_answers, 1);
	/* the holder's unlock, the grant, and the next one's attempts: before and after its
	   watch, and the series that follows a new watch */
	ck_assert_uint_le(fault_calls(FAULT_flock), 2 + 2 + 6);
	let_time_go();
	ck_assert_int_eq(filelock_release(asked[0].lock), 0);
	loop_drain(&loop);
	check_and_close(500, 0);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("async load");
	TCase *tcase = tcase_create("load");

	tcase_add_test(tcase, test_thousands_of_requests_on_one_path_are_served_in_order);
	tcase_add_test(tcase, test_thousands_of_requests_on_one_path_are_cancelled_in_any_order);
	tcase_add_test(tcase,
	               test_thousands_of_paths_held_elsewhere_are_granted_as_they_come_free);
	tcase_add_test(tcase, test_idle_waiters_only_attempt_ever_more_rarely);
	tcase_add_test(tcase, test_idle_waiter_makes_only_the_attempts_of_its_safety_poll);
	tcase_add_test(tcase, test_default_poll_is_armed_once_a_queue);
	tcase_add_test(tcase, test_wake_is_worth_one_attempt_however_many_wait);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
