/* Faults at the door to the system: each call fails in each way, once and for good. */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>

#include "scene.h"
#include "base/sys.h"

static const struct point {
	enum fault_call call;
	int errors[6];
} points[] = {
	{ FAULT_open, { EMFILE, ENFILE, ENOMEM, ENOSPC, EIO, EINTR } },
	{ FAULT_close, { EIO, EINTR, EDQUOT } },
	{ FAULT_read, { EIO, EINTR, EAGAIN, EINVAL } },
	{ FAULT_flock, { ENOLCK, EINTR, EIO, ENOSYS } },
	{ FAULT_fstat, { EIO, ENOMEM, EINTR } },
	{ FAULT_lstat, { EIO, ENOMEM, EINTR, EACCES } },
	{ FAULT_statfs, { EIO, ENOSYS } },
	{ FAULT_inotify_init1, { EMFILE, ENFILE, ENOMEM, ENOSYS } },
	{ FAULT_inotify_add_watch, { ENOSPC, ENOMEM, ENOENT, EACCES } },
	{ FAULT_inotify_rm_watch, { EINVAL, EBADF } },
	{ FAULT_calloc, { ENOMEM } },
};
#define POINTS (sizeof(points) / sizeof(points[0]))

/* EINTR for good is no fault that a system can have. */
static bool is_possible(enum fault_span span, int error)
{
	return error && (span == FAULT_ONCE || error != EINTR);
}

static bool try_point(enum fault_call call, unsigned nth, enum fault_span span, int error)
{
	unsigned before = test_descriptors();
	struct scene scene;
	bool struck;

	scene_begin(&scene, fault_clear);
	fault_clear();
	fault_set(call, nth, span, error);
	scene_run(&scene);
	struck = fault_calls(call) >= nth || fault_calls(call) == 0;
	scene_judge(&scene, error);
	scene_end(&scene);
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_uint_eq(test_watches(), 0);
	return struck;
}

/* shows: errors */
START_TEST(test_each_call_may_fail_at_any_time_once_and_for_good)
{
	const struct point *point = &points[_i / 2];
	enum fault_span span = _i % 2 ? FAULT_FOR_GOOD : FAULT_ONCE;

	/* a helper has its descriptor for a while after its wait was given up */
	filelock_set_max_helpers(0);
	for (unsigned e = 0; e < 6; e++) {
		unsigned nth = 1;

		if (!is_possible(span, point->errors[e]))
			continue;
		while (nth < 60 && try_point(point->call, nth, span, point->errors[e]))
			nth++;
	}
}
END_TEST

START_TEST(test_system_without_inotify_polls)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = scene_open("a") };

	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, ENOSYS);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_uint_ge(fault_hits(FAULT_inotify_init1), 1);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_waiter_without_a_watch_gets_one_when_watches_are_to_be_had_again)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { 0 };

	options.poll_interval_ms = 10;
	asked.lock = test_open(test_path("a"), &options);
	fault_set(FAULT_inotify_add_watch, 1, FAULT_FOR_GOOD, ENOSPC);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_uint_eq(test_watches(), 0);
	fault_clear();
	while (test_watches() == 0)
		loop_for(&loop, 5);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static bool overflow_next;

/* Loses what came, and says so: inotify(7), IN_Q_OVERFLOW. */
static ssize_t read_overflowing(int fd, void *buffer, size_t size)
{
	struct inotify_event event = { .wd = -1, .mask = IN_Q_OVERFLOW };
	ssize_t n = read(fd, buffer, size);

	if (!overflow_next || n <= 0)
		return n;
	overflow_next = false;
	memcpy(buffer, &event, sizeof(event));
	return sizeof(event);
}

/* shows: poll-stays */
START_TEST(test_overflow_of_the_inotify_queue_makes_every_waiter_try)
{
	struct loop loop = loop_new();
	struct filelock *holders[3];
	struct asked asked[3] = { 0 };
	char name[] = "0";

	for (unsigned i = 0; i < 3; i++, name[0]++) {
		holders[i] = hold(name, EXCLUSIVE);
		asked[i].lock = open_patient(name);
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_for(&loop, 5);
	sys.read = read_overflowing;
	overflow_next = true;
	for (unsigned i = 0; i < 3; i++)
		filelock_close(holders[i]);
	loop_drain(&loop);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(asked[i].result, 0);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

/* The kernel drops a watch by itself when its inode goes or its file system is unmounted. */
static ssize_t read_ignored(int fd, void *buffer, size_t size)
{
	ssize_t n = read(fd, buffer, size);
	struct inotify_event event;

	if (!overflow_next || n < (ssize_t)sizeof(event))
		return n;
	overflow_next = false;
	memcpy(&event, buffer, sizeof(event));
	if (inotify_rm_watch(fd, event.wd) < 0)
		ck_abort_msg("inotify_rm_watch");
	event.mask = IN_IGNORED;
	event.len = 0;
	memcpy(buffer, &event, sizeof(event));
	return sizeof(event);
}

/* shows: poll-stays folder-lost */
START_TEST(test_watch_that_the_kernel_dropped_is_made_anew)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct filelock *other;
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	sys.read = read_ignored;
	overflow_next = true;
	other = open_patient("a"); /* its attempt raises an event */
	ck_assert_int_eq(filelock_acquire(other, EXCLUSIVE, 0), -ETIMEDOUT);
	loop_for(&loop, 20);
	ck_assert(!overflow_next);
	ck_assert_uint_eq(asked.calls, 0);
	ck_assert_uint_eq(test_watches(), 1);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(other);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* An unreadable descriptor stays ready for ever. It must keep no loop busy, and lose no lock. */
/* shows: poll-stays */
START_TEST(test_unreadable_inotify_descriptor_leaves_the_polls)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct filelock *other = open_patient("a");
	struct asked asked = { .lock = test_open(test_path("a"), NULL) }; /* more than a turn between polls */

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	fault_set(FAULT_read, 1, FAULT_FOR_GOOD, EIO);
	ck_assert_int_eq(filelock_acquire(other, EXCLUSIVE, 0), -ETIMEDOUT); /* an event */
	loop_for(&loop, 50);
	loop_turn(&loop);
	ck_assert_uint_ge(fault_hits(FAULT_read), 1);
	ck_assert_uint_le(fault_hits(FAULT_read), 100);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	fault_clear();
	filelock_close(other);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* shows: errors */
START_TEST(test_descriptors_used_up_is_an_error_at_once_and_passes)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");

	fault_set(FAULT_open, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), -EMFILE);
	fault_clear();
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

static void release_own(struct asked *asked)
{
	if (asked->result == 0)
		ck_assert_int_eq(filelock_release(asked->lock), 0);
}

START_TEST(test_error_at_the_head_is_not_that_of_the_next)
{
	struct loop loop = loop_new();
	struct asked asked[3] = { 0 };

	test_write_file(test_path("a"), ""); /* one that exists needs no probe of flock(2) */
	for (unsigned i = 0; i < 3; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	fault_set(FAULT_flock, 1, FAULT_ONCE, ENOLCK);
	loop_drain(&loop);
	ck_assert_int_eq(asked[0].result, -ENOLCK);
	ck_assert_int_eq(asked[1].result, 0);
	ck_assert_int_eq(asked[2].result, 0);
	for (unsigned i = 0; i < 3; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "async faults", test_system_without_inotify_polls,
	        test_waiter_without_a_watch_gets_one_when_watches_are_to_be_had_again,
	        test_overflow_of_the_inotify_queue_makes_every_waiter_try,
	        test_watch_that_the_kernel_dropped_is_made_anew,
	        test_unreadable_inotify_descriptor_leaves_the_polls,
	        test_descriptors_used_up_is_an_error_at_once_and_passes,
	        test_error_at_the_head_is_not_that_of_the_next);
	TCase *sweep = tcase_create("sweep");

	tcase_add_loop_test(sweep, test_each_call_may_fail_at_any_time_once_and_for_good, 0,
	                    2 * POINTS);
	suite_add_tcase(suite, sweep);
	return support_main(suite);
}
