/* Leases in a loop: it refreshes them, and tells of those that are lost. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "loop.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

/* Refreshed often, and long before it ends, however busy the machine is. */
static struct filelock *open_lease(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.poll_interval_ms = PATIENT_MS;
	options.duration_ms = 3600000;
	options.heartbeat_ms = 10;
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_LEASE, &options, &lock), 0);
	return lock;
}

static struct timespec time_of_file(void)
{
	struct stat st;

	ck_assert_int_eq(stat(test_path("lock"), &st), 0);
	return st.st_mtim;
}

/* Turns the loop until the file was refreshed so often. */
static void await_refreshes(struct loop *loop, unsigned count)
{
	struct timespec then = time_of_file();
	int64_t end = test_now() + TEST_PATIENCE;

	while (count > 0) {
		struct timespec now = time_of_file();

		if (now.tv_sec != then.tv_sec || now.tv_nsec != then.tv_nsec)
			count--;
		then = now;
		ck_assert_int_lt(test_now(), end);
		loop_for(loop, 5);
	}
}

/* The clock stands: one heartbeat passes, so that no worker refreshes it after that. */
static void refresh_once(struct loop *loop)
{
	struct timespec then = time_of_file(), now = then;
	int64_t end = test_now() + TEST_PATIENCE;

	loop_for(loop, 20); /* longer than a step of a file's time */
	clock_advance(10 * MILLISECONDS);
	while (now.tv_sec == then.tv_sec && now.tv_nsec == then.tv_nsec) {
		ck_assert_int_lt(test_now(), end);
		loop_for(loop, 5);
		now = time_of_file();
	}
}

/* shows: lease-refreshed */
START_TEST(test_lease_held_in_a_loop_is_refreshed)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_lease();

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	await_refreshes(&loop, 3);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_watched_lease_is_refreshed_too)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_lease() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), 0);
	await_refreshes(&loop, 3);
	ck_assert_uint_eq(held.calls, 0);
	ck_assert_int_eq(filelock_release(held.lock), 0);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lease_that_was_handed_over_is_refreshed)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_lease();
	struct asked next = { .lock = open_lease() };

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	loop_ask(&loop, &next, EXCLUSIVE, -1);
	await_refreshes(&loop, 1);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	while (next.calls == 0)
		loop_for(&loop, 5);
	ck_assert_int_eq(next.result, 0);
	await_refreshes(&loop, 3);
	ck_assert_int_eq(filelock_release(next.lock), 0);
	filelock_close(next.lock);
	loop_free(&loop);
}
END_TEST

/* As after a suspend, or a stop, that was longer than it lasts: before the file is touched. */
/* shows: lease-lost */
START_TEST(test_late_lease_is_told_as_lost_once)
{
	struct asked held = { .lock = open_lease() };
	struct timespec then;
	struct loop loop;

	clock_fake(test_now());
	clock_sleep(0);
	loop = loop_new();
	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), 0);
	refresh_once(&loop);
	then = time_of_file();
	clock_sleep(3600 * SECONDS);
	clock_advance(10 * MILLISECONDS);
	while (held.calls == 0)
		loop_for(&loop, 5);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(held.lock), FILELOCK_LOSS_LATE);
	loop_for(&loop, 50);
	ck_assert_uint_eq(held.calls, 1);
	ck_assert_int_eq(time_of_file().tv_sec, then.tv_sec);
	ck_assert_int_eq(time_of_file().tv_nsec, then.tv_nsec);
	ck_assert_int_eq(filelock_release(held.lock), FILELOCK_ELOST);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lease_that_another_one_took_is_told_with_its_reason)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_lease() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), 0);
	await_refreshes(&loop, 1);
	test_write_file(test_path("theirs"), "");
	ck_assert_int_eq(rename(test_path("theirs"), test_path("lock")), 0);
	while (held.calls == 0)
		loop_for(&loop, 5);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(held.lock), FILELOCK_LOSS_REPLACED);
	ck_assert_int_eq(filelock_release(held.lock), FILELOCK_ELOST);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

static unsigned count_threads(void)
{
	DIR *opened = opendir("/proc/self/task");
	unsigned count = 0;

	ck_assert_ptr_nonnull(opened);
	while (readdir(opened))
		count++;
	closedir(opened);
	return count;
}

/* The loop itself refreshes them; a context with workers has those, however many it holds. */
/* shows: lease-refreshed */
START_TEST(test_number_of_leases_of_a_loop_makes_no_threads)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	unsigned before = count_threads(); /* its workers, and what a sanitizer adds to them */
	struct filelock *first = open_lease(), *more[20];
	char name[16];

	options.duration_ms = 3600000;
	options.heartbeat_ms = 10;
	ck_assert_int_eq(loop_acquire(&loop, first, EXCLUSIVE, -1), 0);
	for (unsigned i = 0; i < 20; i++) {
		(void)snprintf(name, sizeof(name), "more-%u", i);
		ck_assert_int_eq(filelock_open(test_path(name), FILELOCK_LEASE, &options, &more[i]), 0);
		ck_assert_int_eq(loop_acquire(&loop, more[i], EXCLUSIVE, -1), 0);
	}
	await_refreshes(&loop, 3);
	ck_assert_uint_le(count_threads(), before);
	for (unsigned i = 0; i < 20; i++)
		filelock_close(more[i]);
	filelock_close(first);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE("async lease", test_lease_held_in_a_loop_is_refreshed,
	                          test_watched_lease_is_refreshed_too,
	                          test_lease_that_was_handed_over_is_refreshed,
	                          test_late_lease_is_told_as_lost_once,
	                          test_lease_that_another_one_took_is_told_with_its_reason,
	                          test_number_of_leases_of_a_loop_makes_no_threads));
}
