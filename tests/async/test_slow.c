/* Waits that a context tells of since they last too long. */
#include <stdio.h>
#include <string.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static uint64_t slow_waits(const struct loop *loop)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	ck_assert_int_eq(evfilelock_get_stats(loop->ev, &stats), 0);
	return stats.slow;
}

/* The logged warnings. */
static struct {
	unsigned count;
	char last[512];
} logged;

static void note_warning(enum filelock_log_level level, const char *message, void *arg)
{
	(void)arg;
	ck_assert_int_eq(level, FILELOCK_LOG_WARNING);
	logged.count++;
	(void)snprintf(logged.last, sizeof(logged.last), "%s", message);
}

static void begin_slow(struct loop *loop, unsigned ms)
{
	logged.count = 0;
	filelock_set_log(note_warning, NULL, FILELOCK_LOG_WARNING);
	*loop = loop_with_slow_wait(ms);
	clock_stop();
}

/* Lets so much of the library's time go by, and makes the context look at it. */
static void after(struct loop *loop, int64_t time)
{
	struct asked asked = { .lock = open_patient("other") };

	clock_advance(time);
	loop_ask(loop, &asked, EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(loop, &asked), 0);
	filelock_close(asked.lock);
	loop_for(loop, 2);
}

START_TEST(test_slow_wait_is_told_once)
{
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop;

	begin_slow(&loop, 1500);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	after(&loop, 1499 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 0);
	after(&loop, 1 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 1);
	after(&loop, 10 * SECONDS);
	ck_assert_uint_eq(logged.count, 1);
	ck_assert_uint_eq(slow_waits(&loop), 1);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_slow_wait_is_told_with_path_time_and_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *asker = open_patient("a");
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct peer peer;
	struct loop loop;
	char expected[64];

	peer_start_holding(&peer, test_path("a"), EXCLUSIVE);
	begin_slow(&loop, 1000);
	loop_ask(&loop, &asked[0], EXCLUSIVE, -1);
	loop_ask(&loop, &asked[1], EXCLUSIVE, -1);
	after(&loop, 1234 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 1);
	ck_assert_ptr_nonnull(strstr(logged.last, filelock_path(asker)));
	ck_assert_ptr_nonnull(strstr(logged.last, "1234 ms"));
	ck_assert_ptr_nonnull(strstr(logged.last, "1 more"));
	if (filelock_holder(asker, &owner) == 0) {
		(void)snprintf(expected, sizeof(expected), "held by pid %ld ", (long)peer.pid);
		ck_assert_ptr_nonnull(strstr(logged.last, expected));
	}
	peer_stop(&peer);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), 0);
	filelock_close(asker);
	filelock_close(asked[0].lock);
	ck_assert_int_eq(loop_answer(&loop, &asked[1]), 0);
	filelock_close(asked[1].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_slow_wait_for_a_hold_of_the_same_context_is_told)
{
	struct filelock *holder = open_patient("a");
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop;

	begin_slow(&loop, 1000);
	ck_assert_int_eq(loop_acquire(&loop, holder, EXCLUSIVE, -1), 0);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 2);
	after(&loop, 1 * SECONDS);
	ck_assert_uint_eq(logged.count, 1);
	after(&loop, 1 * SECONDS);
	ck_assert_uint_eq(logged.count, 1);
	filelock_close(holder);
	after(&loop, 1 * SECONDS); /* it lets others go first for a moment */
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* The second one has waited as long as the first when it becomes the first. */
START_TEST(test_slow_waits_of_one_queue_are_not_told_faster_than_that)
{
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked[3] = { 0 };
	struct loop loop;

	begin_slow(&loop, 1000);
	for (unsigned i = 0; i < 3; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	after(&loop, 1 * SECONDS);
	ck_assert_uint_eq(logged.count, 1);
	ask_cancel(&asked[0]);
	after(&loop, 999 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 1);
	after(&loop, 1 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 2);
	filelock_close(holder);
	ask_cancel(&asked[2]);
	loop_until(&loop, &asked[1].calls, 1);
	loop_drain(&loop);
	for (unsigned i = 0; i < 3; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_slow_wait_that_nobody_logs_is_counted)
{
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop;

	begin_slow(&loop, 1000);
	filelock_set_log(NULL, NULL, FILELOCK_LOG_WARNING);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	after(&loop, 1 * SECONDS);
	ck_assert_uint_eq(slow_waits(&loop), 1);
	ck_assert_uint_eq(logged.count, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_wait_that_is_short_is_not_told)
{
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop;

	begin_slow(&loop, 1000);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	after(&loop, 999 * MILLISECONDS);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	after(&loop, 10 * SECONDS);
	ck_assert_uint_eq(logged.count, 0);
	ck_assert_uint_eq(slow_waits(&loop), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* The end of the sentence where the locks of /proc, or a name, cannot be read. */
static void tell_of_peer(enum fault_call call, const char *expected)
{
	struct asked asked = { .lock = open_patient("a") };
	struct peer peer;
	struct loop loop;

	peer_start_holding(&peer, test_path("a"), EXCLUSIVE);
	begin_slow(&loop, 1000);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 2);
	fault_set(call, 1, FAULT_FOR_GOOD, EIO);
	after(&loop, 1 * SECONDS);
	ck_assert_uint_gt(fault_hits(call), 0);
	fault_clear();
	ck_assert_uint_eq(logged.count, 1);
	ck_assert_ptr_nonnull(strstr(logged.last, filelock_path(asked.lock)));
	ck_assert_msg(strstr(logged.last, expected) != NULL, "%s", logged.last);
	peer_stop(&peer);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}

START_TEST(test_slow_wait_is_told_though_its_holder_cannot_be_found)
{
	tell_of_peer(FAULT_statfs, filelock_strerror(FILELOCK_EUNKNOWNHOLDER));
}
END_TEST

START_TEST(test_slow_wait_is_told_though_the_host_has_no_name)
{
	if (!test_locks_are_listed())
		return;
	tell_of_peer(FAULT_gethostname, "on an unknown host");
}
END_TEST

START_TEST(test_holders_are_not_looked_for_more_often_than_ten_times_a_second)
{
	struct filelock *holders[3] = { hold("a", EXCLUSIVE), hold("b", EXCLUSIVE),
		                        hold("c", EXCLUSIVE) };
	struct asked asked[3] = { { .lock = open_patient("a") }, { .lock = open_patient("b") },
		                  { .lock = open_patient("c") } };
	struct loop loop;

	begin_slow(&loop, 1000);
	loop_ask(&loop, &asked[0], EXCLUSIVE, -1);
	loop_ask(&loop, &asked[1], EXCLUSIVE, -1);
	clock_advance(100 * MILLISECONDS);
	loop_ask(&loop, &asked[2], EXCLUSIVE, -1);
	loop_for(&loop, 2);
	after(&loop, 900 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 2);
	ck_assert_ptr_nonnull(strstr(logged.last, "not looked for: too many slow waits"));
	after(&loop, 100 * MILLISECONDS);
	ck_assert_uint_eq(logged.count, 3);
	ck_assert_ptr_null(strstr(logged.last, "not looked for"));
	loop_free(&loop);
	for (unsigned i = 0; i < 3; i++) {
		filelock_close(holders[i]);
		filelock_close(asked[i].lock);
	}
}
END_TEST

/* Looking may take as long as any other call on the file. */
START_TEST(test_holder_is_not_looked_for_beside_workers)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop;

	begin_slow(&loop, 1000);
	evfilelock_free(loop.ev);
	event_base_free(loop.base);
	options.slow_wait_ms = 1000;
	options.workers = 1;
	loop = loop_with(event_base_new(), &options);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 2);
	after(&loop, 1 * SECONDS);
	loop_until(&loop, &logged.count, 1);
	ck_assert_ptr_nonnull(strstr(logged.last, "not looked for: it may take long"));
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lock_that_nobody_waits_for_is_no_slow_wait)
{
	struct loop loop;
	struct filelock *lock = open_patient("a");

	begin_slow(&loop, 1000);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	clock_advance(10 * SECONDS);
	after(&loop, 10 * SECONDS);
	loop_drain(&loop);
	ck_assert_uint_eq(logged.count, 0);
	ck_assert_uint_eq(slow_waits(&loop), 0);
	ck_assert(filelock_is_held(lock));
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async slow", test_slow_wait_is_told_once,
	        test_slow_wait_is_told_with_path_time_and_holder,
	        test_slow_wait_is_told_though_its_holder_cannot_be_found,
	        test_slow_wait_is_told_though_the_host_has_no_name,
	        test_slow_wait_for_a_hold_of_the_same_context_is_told,
	        test_slow_waits_of_one_queue_are_not_told_faster_than_that,
	        test_holders_are_not_looked_for_more_often_than_ten_times_a_second,
	        test_holder_is_not_looked_for_beside_workers,
	        test_lock_that_nobody_waits_for_is_no_slow_wait,
	        test_slow_wait_that_nobody_logs_is_counted, test_wait_that_is_short_is_not_told));
}
