/* Holds that are kept alive from the loop: the times of a held file are renewed, for those who remove
   files by age. */
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/stat.h>

#include "loop.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define DAY (86400 * SECONDS)

static void make_old(const char *path)
{
	const struct timespec times[2] = { { 1000000000, 0 }, { 1000000000, 0 } };

	ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
}

static bool is_old(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_mtim.tv_sec == 1000000000;
}

/* The time goes on, and the loop looks at it. */
static void advance(struct loop *loop, int64_t by)
{
	struct filelock *other = open_patient("other");

	clock_advance(by);
	ck_assert_int_eq(loop_acquire(loop, other, EXCLUSIVE, -1), 0);
	filelock_close(other);
	loop_turn(loop);
}

/* A worker does it in its own time. */
static void await_renewal(struct loop *loop, const char *path)
{
	int64_t end = test_now() + TEST_PATIENCE;

	while (is_old(path)) {
		ck_assert_msg(test_now() < end, "its times are never renewed");
		loop_turn(loop);
		test_nap();
	}
}

/* As long as native and read/write locks need nothing more. */
static int64_t interval(void)
{
	return test_kind() == FILELOCK_SOFT ? 60 * SECONDS : DAY;
}

static struct filelock *acquire_at_a_standing_clock(struct loop *loop)
{
	struct filelock *lock = open_patient("a");

	clock_fake(test_now());
	ck_assert_int_eq(loop_acquire(loop, lock, EXCLUSIVE, -1), 0);
	make_old(filelock_path(lock));
	return lock;
}

static void expect_renewals(struct loop *loop, const char *path)
{
	advance(loop, 59 * SECONDS);
	ck_assert(is_old(path));
	advance(loop, 2 * SECONDS);
	await_renewal(loop, path);
	make_old(path);
	advance(loop, interval() - 10 * SECONDS);
	ck_assert(is_old(path));
	advance(loop, 20 * SECONDS);
	await_renewal(loop, path);
}

/* shows: fresh-times */
START_TEST(test_times_of_a_held_file_are_renewed)
{
	struct loop loop = loop_new();
	struct filelock *lock = acquire_at_a_standing_clock(&loop);

	expect_renewals(&loop, filelock_path(lock));
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* shows: fresh-times */
START_TEST(test_times_are_renewed_of_a_synchronous_hold_that_is_watched)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_patient("a") };

	clock_fake(test_now());
	ck_assert_int_eq(filelock_acquire(held.lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), 0);
	make_old(filelock_path(held.lock));
	advance(&loop, 61 * SECONDS);
	await_renewal(&loop, filelock_path(held.lock));
	ck_assert_uint_eq(held.calls, 0);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

/* The hold is watched, then it is not. */
START_TEST(test_times_are_renewed_when_the_watch_is_taken_back)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = acquire_at_a_standing_clock(&loop) };

	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), 0);
	advance(&loop, 61 * SECONDS);
	await_renewal(&loop, filelock_path(held.lock));
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, NULL, NULL), 0);
	make_old(filelock_path(held.lock));
	advance(&loop, 61 * SECONDS);
	await_renewal(&loop, filelock_path(held.lock));
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

static void *release_there(void *lock)
{
	ck_assert_int_eq(filelock_release(lock), 0);
	return NULL;
}

/* By a release here, by one on another thread, by closing the handle. */
/* shows: fresh-times */
START_TEST(test_times_are_left_alone_after_the_hold)
{
	struct loop loop = loop_new();
	struct filelock *lock = acquire_at_a_standing_clock(&loop);
	pthread_t thread;

	if (_i == 1) {
		ck_assert_int_eq(pthread_create(&thread, NULL, release_there, lock), 0);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	} else if (_i == 0) {
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
	test_write_file(test_path("a"), "");
	make_old(test_path("a"));
	advance(&loop, 61 * SECONDS);
	advance(&loop, DAY);
	loop_drain(&loop);
	ck_assert(is_old(test_path("a")));
	loop_free(&loop);
}
END_TEST

/* shows: fresh-times */
START_TEST(test_times_of_another_file_at_the_path_are_left_alone)
{
	struct loop loop = loop_new();
	struct filelock *lock = acquire_at_a_standing_clock(&loop);

	ck_assert_int_eq(rename(test_path("a"), test_path("moved")), 0);
	test_write_file(test_path("a"), "");
	make_old(test_path("a"));
	advance(&loop, 61 * SECONDS);
	loop_drain(&loop);
	ck_assert(is_old(test_path("a")) && is_old(test_path("moved")));
	(void)filelock_release(lock);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_next_holder_of_a_queue_has_its_times_renewed)
{
	struct loop loop = loop_new();
	struct filelock *lock = acquire_at_a_standing_clock(&loop);
	struct asked next = { .lock = open_patient("a") };

	loop_ask(&loop, &next, EXCLUSIVE, -1);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &next), 0);
	make_old(filelock_path(lock));
	expect_renewals(&loop, filelock_path(lock));
	filelock_close(next.lock);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lifetime_of_a_marker_is_not_prolonged)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct filelock *lock;

	options.lifetime_ms = 3600000;
	ck_assert_int_eq(filelock_open(test_path("a"), FILELOCK_SOFT, &options, &lock), 0);
	clock_fake(test_now());
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	make_old(test_path("a"));
	advance(&loop, 61 * SECONDS);
	loop_drain(&loop);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert(is_old(test_path("a")));
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* Python's FileLock does so where both kinds meet on a path. */
/* shows: fresh-times */
START_TEST(test_marker_that_was_emptied_gets_its_record_again)
{
	struct loop loop = loop_new();
	struct filelock *lock;
	char before[1024], after[1024] = "";
	int64_t end = test_now() + TEST_PATIENCE;

	ck_assert_int_eq(filelock_open(test_path("a"), FILELOCK_SOFT, NULL, &lock), 0);
	clock_fake(test_now());
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	test_read_file(test_path("a"), before, sizeof(before));
	ck_assert_int_eq(truncate(test_path("a"), 0), 0);
	advance(&loop, 61 * SECONDS);
	while (!*after) {
		ck_assert_msg(test_now() < end, "its record is never written again");
		loop_turn(&loop);
		test_nap();
		test_read_file(test_path("a"), after, sizeof(after));
	}
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

static int find_timer(const struct event_base *base, const struct event *event, void *arg)
{
	struct timeval now, due;

	if (event_pending(event, EV_TIMEOUT, &due) &&
	    event_base_gettimeofday_cached((struct event_base *)base, &now) == 0 &&
	    due.tv_sec <= now.tv_sec + 61)
		*(bool *)arg = true;
	return 0;
}

/* A timer of the base comes for it, and yet a loop that has nothing else ends. */
/* shows: fresh-times */
START_TEST(test_loop_need_not_go_on_for_a_hold)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");
	bool found = false;

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	loop_drain(&loop);
	ck_assert_int_eq(event_base_foreach_event(loop.base, find_timer, &found), 0);
	ck_assert(found);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* --- a worker that does not come back --- */

static struct sys_table real;
static sem_t entered, go;

static int slow_utimensat(int folder, const char *path, const struct timespec times[2], int flags)
{
	(void)sem_post(&entered);
	while (sem_wait(&go) < 0)
		;
	return real.utimensat(folder, path, times, flags);
}

/* The hold, the context, or both are over before the worker is. */
START_TEST(test_holds_end_while_a_worker_renews_their_times)
{
	struct loop loop = loop_with_workers(1);
	struct asked asked = { .lock = open_patient("other") };
	struct filelock *lock;

	if (test_kind() == FILELOCK_READWRITE)
		return; /* its release renews them as well */
	ck_assert_int_eq(sem_init(&entered, 0, 0), 0);
	ck_assert_int_eq(sem_init(&go, 0, 0), 0);
	lock = open_patient("a");
	clock_fake(test_now());
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	make_old(filelock_path(lock));
	real = sys;
	sys.utimensat = slow_utimensat;
	clock_advance(61 * SECONDS);
	while (sem_trywait(&entered) < 0) {
		loop_ask(&loop, &asked, EXCLUSIVE, -1);
		loop_turn(&loop);
		ask_cancel(&asked); /* the only worker is out */
		loop_turn(&loop);
	}
	filelock_close(asked.lock);
	if (_i < 2) {
		ck_assert_int_eq(filelock_release(lock), 0);
		filelock_close(lock);
	}
	if (_i > 0)
		loop_free(&loop);
	(void)sem_post(&go);
	if (_i == 0) {
		loop_drain(&loop);
		loop_free(&loop);
	}
	if (_i == 2)
		filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("keep", test_times_of_a_held_file_are_renewed,
	                     test_times_are_renewed_of_a_synchronous_hold_that_is_watched,
	                     test_times_are_renewed_when_the_watch_is_taken_back,
	                     test_times_of_another_file_at_the_path_are_left_alone,
	                     test_next_holder_of_a_queue_has_its_times_renewed,
	                     test_lifetime_of_a_marker_is_not_prolonged,
	                     test_marker_that_was_emptied_gets_its_record_again,
	                     test_loop_need_not_go_on_for_a_hold);
	TCase *tcase = tcase_create("ends");

	tcase_add_loop_test(tcase, test_times_are_left_alone_after_the_hold, 0, 3);
	tcase_add_loop_test(tcase, test_holds_end_while_a_worker_renews_their_times, 0, 3);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
