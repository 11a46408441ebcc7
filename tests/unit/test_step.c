/* The acquisition as a state machine, stepped by hand at times of the test's choosing. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "driver_private.h"
#include "handle.h"
#include "softly.h"
#include "base/sys.h"
#include "inotify.h"

#define T0 (1000 * SECONDS)
#define INTERVAL (50 * MILLISECONDS) /* the default */

static struct filelock *holder, *waiter;

/* Somebody else holds the lock, exclusively, and attempts are counted. */
static void set_up(const struct filelock_options *options)
{
	holder = test_open(test_path("lock"), NULL);
	waiter = test_open(test_path("lock"), options);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	fault_watch();
	fault_clear();
}

static void tear_down(void)
{
	filelock_close(waiter);
	filelock_close(holder);
}

static unsigned attempts(void)
{
	return fault_calls(FAULT_flock);
}

static void begin(int64_t deadline)
{
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, deadline, NULL, NULL), 0);
}

/* One step, in which exactly one attempt finds the lock held: when the next one is due. */
static int64_t step_busy(int64_t now)
{
	unsigned before = attempts();
	int64_t until = -1;

	ck_assert_int_eq(filelock_step(waiter, now, &until), FILELOCK_STEP_WAIT);
	ck_assert_uint_eq(attempts(), before + 1);
	return until;
}

static int step(int64_t now)
{
	int64_t until = -1;

	return filelock_step(waiter, now, &until);
}

/* A poll may come up to an eighth of its interval early. */
static void check_poll(int64_t at, int64_t now, int64_t interval)
{
	ck_assert_int_ge(at, now + interval - interval / 8);
	ck_assert_int_le(at, now + interval);
}

START_TEST(test_free_lock_is_held_by_the_first_step)
{
	set_up(NULL);
	filelock_release(holder);
	fault_clear();
	begin(T0 + SECONDS);
	ck_assert_uint_eq(attempts(), 0);
	ck_assert_int_eq(step(T0), FILELOCK_STEP_HELD);
	ck_assert_uint_eq(attempts(), 1);
	ck_assert(filelock_is_held(waiter));
	tear_down();
}
END_TEST

/* shows: no-wait */
START_TEST(test_no_wait_is_exactly_one_attempt)
{
	set_up(NULL);
	begin(T0);
	ck_assert_int_eq(step(T0), -ETIMEDOUT);
	ck_assert_uint_eq(attempts(), 1);
	ck_assert(!filelock_is_held(waiter));
	tear_down();
}
END_TEST

/* Else a release between the attempt and the watch would be missed; and one whose event came
   before the watch, but whose lock goes after that attempt, for a whole interval. */
START_TEST(test_new_watch_is_worth_an_attempt_at_once_then_after_1_2_4_ms)
{
	struct filelock_driver driver = { 0 };
	int64_t now = T0, delay;

	set_up(NULL);
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, NULL),
	                 0);
	ck_assert_int_eq(step_busy(now), now);
	ck_assert_uint_eq(test_watches(), 1);
	for (delay = MILLISECONDS; delay < INTERVAL; delay *= 2) {
		ck_assert_int_eq(step_busy(now), now + delay);
		now += delay;
	}
	check_poll(step_busy(now), now, INTERVAL);
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	tear_down();
	filelock_watcher_free(driver.watcher);
}
END_TEST

START_TEST(test_early_step_makes_no_attempt)
{
	int64_t until = -1;
	int64_t next;

	set_up(NULL);
	begin(T0 + SECONDS);
	next = step_busy(T0);
	for (int64_t now = T0; now < next; now += INTERVAL / 10) {
		ck_assert_int_eq(filelock_step(waiter, now, &until), FILELOCK_STEP_EARLY);
		ck_assert_int_eq(until, next);
	}
	ck_assert_uint_eq(attempts(), 1);
	tear_down();
}
END_TEST

START_TEST(test_polls_come_every_interval_option)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int64_t now = T0;

	options.poll_interval_ms = 7;
	set_up(&options);
	begin(FILELOCK_NEVER);
	for (int i = 0; i < 5; i++) {
		int64_t next = step_busy(now);

		check_poll(next, now, 7 * MILLISECONDS);
		now = next;
	}
	tear_down();
}
END_TEST

/* shows: deadline-kept */
START_TEST(test_last_sleep_is_clamped_to_the_deadline)
{
	set_up(NULL);
	begin(T0 + 70 * MILLISECONDS);
	check_poll(step_busy(T0), T0, INTERVAL);
	ck_assert_int_eq(step_busy(T0 + 50 * MILLISECONDS), T0 + 70 * MILLISECONDS);
	ck_assert_int_eq(step(T0 + 70 * MILLISECONDS), -ETIMEDOUT);
	ck_assert_uint_eq(attempts(), 3);
	tear_down();
}
END_TEST

START_TEST(test_timeout_shorter_than_the_interval_is_kept)
{
	set_up(NULL);
	begin(T0 + 3);
	ck_assert_int_eq(step_busy(T0), T0 + 3);
	ck_assert_int_eq(step(T0 + 2), FILELOCK_STEP_EARLY);
	ck_assert_int_eq(step(T0 + 3), -ETIMEDOUT);
	tear_down();
}
END_TEST

/* shows: deadline-kept */
START_TEST(test_attempt_at_the_deadline_can_still_win)
{
	set_up(NULL);
	begin(T0 + 20 * MILLISECONDS);
	(void)step_busy(T0);
	filelock_release(holder);
	ck_assert_int_eq(step(T0 + 20 * MILLISECONDS), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

/* As by a loop that was blocked for an hour: one real attempt before the timeout. */
START_TEST(test_very_late_step_makes_one_attempt)
{
	set_up(NULL);
	begin(T0 + SECONDS);
	(void)step_busy(T0);
	ck_assert_int_eq(step(T0 + 3600 * SECONDS), -ETIMEDOUT);
	ck_assert_uint_eq(attempts(), 2);
	begin(T0 + 3601 * SECONDS);
	(void)step_busy(T0 + 3600 * SECONDS);
	filelock_release(holder);
	ck_assert_int_eq(step(T0 + 7200 * SECONDS), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

/* A timeout that is over before the first step is an attempt all the same. */
START_TEST(test_first_step_after_the_deadline_makes_one_attempt)
{
	set_up(NULL);
	filelock_release(holder);
	begin(T0);
	ck_assert_int_eq(step(T0 + SECONDS), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

START_TEST(test_endless_wait_polls_on)
{
	int64_t now = T0;

	set_up(NULL);
	begin(FILELOCK_NEVER);
	for (int i = 0; i < 100; i++)
		now = step_busy(now);
	check_poll(now, T0, 100 * INTERVAL);
	tear_down();
}
END_TEST

START_TEST(test_deadline_does_not_overflow)
{
	ck_assert_int_eq(filelock_deadline(T0, 0), T0);
	ck_assert_int_eq(filelock_deadline(T0, 5), T0 + 5);
	ck_assert_int_eq(filelock_deadline(T0, -1), FILELOCK_NEVER);
	ck_assert_int_eq(filelock_deadline(T0, INT64_MIN), FILELOCK_NEVER);
	ck_assert_int_eq(filelock_deadline(T0, INT64_MAX), FILELOCK_NEVER);
	ck_assert_int_eq(filelock_deadline(INT64_MAX - 5, 6), FILELOCK_NEVER);
}
END_TEST

START_TEST(test_wake_is_worth_attempts_at_once_then_after_1_2_4_ms)
{
	int64_t now = T0 + 10 * MILLISECONDS, delay;

	set_up(NULL);
	begin(FILELOCK_NEVER);
	(void)step_busy(T0);
	handle_wake(waiter);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(step_busy(now), now);
	for (delay = MILLISECONDS; delay < INTERVAL; delay *= 2) {
		ck_assert_int_eq(step_busy(now), now + delay);
		now += delay;
	}
	check_poll(step_busy(now), now, INTERVAL);
	tear_down();
}
END_TEST

START_TEST(test_wake_up_begins_the_series_anew)
{
	int64_t now = T0;

	set_up(NULL);
	begin(FILELOCK_NEVER);
	(void)step_busy(now);
	handle_wake(waiter);
	for (int i = 0; i < 5; i++)
		now = step_busy(now);
	ck_assert_int_gt(now, T0);
	handle_wake(waiter);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(step_busy(now), now);
	ck_assert_int_eq(step_busy(now), now + MILLISECONDS);
	tear_down();
}
END_TEST

/* It lets others go first by half as long for each wake that it has lost, and at last not at all. */
START_TEST(test_who_has_lost_very_often_tries_at_once)
{
	int64_t now = T0;

	set_up(NULL);
	waiter->fairness = (struct fairness){ .released_at = T0, .contended = true };
	begin(FILELOCK_NEVER);
	for (int lost = 0; lost < 70; lost++) {
		int64_t until = now;

		handle_wake(waiter);
		if (filelock_step(waiter, now, &until) == FILELOCK_STEP_EARLY)
			(void)step_busy(until);
		now += SECONDS;
	}
	handle_wake(waiter);
	(void)step_busy(now);
	tear_down();
}
END_TEST

START_TEST(test_back_off_stops_at_a_short_interval)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int64_t now = T0;

	options.poll_interval_ms = 2;
	set_up(&options);
	begin(FILELOCK_NEVER);
	(void)step_busy(now);
	handle_wake(waiter);
	for (int i = 0; i < 3; i++)
		now = step_busy(now);
	ck_assert_int_eq(step_busy(now), now + 1 * MILLISECONDS);
	check_poll(step_busy(now + 1 * MILLISECONDS), now + 1 * MILLISECONDS,
	           2 * MILLISECONDS);
	tear_down();
}
END_TEST

START_TEST(test_hasten_is_one_attempt_at_once)
{
	set_up(NULL);
	begin(FILELOCK_NEVER);
	(void)step_busy(T0);
	filelock_hasten(waiter);
	(void)step_busy(T0 + 1);
	ck_assert_int_eq(step(T0 + 2), FILELOCK_STEP_EARLY);
	tear_down();
}
END_TEST

/* A lock file that is never the one just locked: no attempt succeeds, and none spins. */
START_TEST(test_endless_races_become_a_wait)
{
	int64_t until = T0;
	int steps = 0;

	set_up(NULL);
	filelock_release(holder);
	fault_set(FAULT_lstat, 1, FAULT_FOR_GOOD, ENOENT);
	begin(T0 + SECONDS);
	while (until <= T0 && steps < 100) {
		int r = filelock_step(waiter, T0, &until);

		ck_assert_int_gt(r, 0);
		steps++;
	}
	ck_assert_int_lt(steps, 100);
	ck_assert_int_gt(steps, 5);
	check_poll(until, T0, INTERVAL);
	fault_clear();
	ck_assert_int_eq(step(until), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

/* The path never names the file that is open, as a broken file system has it. */
START_TEST(test_waiting_for_a_file_that_is_never_the_paths_sleeps)
{
	struct filelock_driver driver = { 0 };
	int64_t until = T0;
	int steps = 0;

	set_up(NULL);
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	fault_set(FAULT_lstat, 1, FAULT_FOR_GOOD, ENOENT);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, T0 + SECONDS, &driver, NULL), 0);
	while (until <= T0 && steps++ < 100)
		ck_assert_int_gt(filelock_step(waiter, T0, &until), 0);
	ck_assert_int_lt(steps, 100);
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	filelock_watcher_free(driver.watcher);
	tear_down();
}
END_TEST

/* Soft: somebody judges the dead marker, and stops. The watch comes after the last attempt, and what
   happened between the two must not wait for a poll. */
START_TEST(test_new_watch_after_many_races_is_worth_an_attempt_soon)
{
	struct filelock_driver driver = { 0 };
	int64_t until = T0;
	int judge;

	put_record(test_path("lock"), dead_pid(), NULL);
	judge = open(test_path("lock"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(flock(judge, LOCK_SH), 0);
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_SOFT, NULL, &waiter), 0);
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, T0 + SECONDS, &driver, NULL), 0);
	for (int steps = 0; until <= T0 && steps < 100; steps++)
		ck_assert_int_gt(filelock_step(waiter, T0, &until), 0);
	ck_assert_int_eq(until, T0 + MILLISECONDS);
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	filelock_watcher_free(driver.watcher);
	filelock_close(waiter);
	close(judge);
}
END_TEST

START_TEST(test_handle_that_has_only_tried_lets_nobody_go_first)
{
	set_up(NULL);
	filelock_release(holder);
	begin(T0);
	ck_assert_int_eq(step(T0), FILELOCK_STEP_HELD);
	ck_assert_int_eq(filelock_release(waiter), 0);
	waiter->fairness.released_at = T0 + 1;
	begin(T0 + SECONDS);
	ck_assert_int_eq(step(T0 + 2), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

static int lstat_of_another(const char *path, struct stat *ret)
{
	static unsigned calls;
	int r = lstat(path, ret);

	ret->st_ino += ++calls;
	return r;
}

/* On a file system that makes up inode numbers, and in a folder that takes no file. */
static const struct {
	bool missing;
	int64_t wait;
	int result;
} endless[] = {
	{ false, 0, FILELOCK_EUNSTABLE },
	{ false, 3600 * SECONDS, FILELOCK_EUNSTABLE },
	{ true, 0, -ENOENT },
	{ true, 3600 * SECONDS, -ENOENT },
};

/* shows: no-endless-races */
START_TEST(test_races_without_end_are_an_error)
{
	int (*real)(const char *path, struct stat *ret) = sys.lstat;
	int64_t now = T0, until;
	int r = FILELOCK_STEP_EARLY;

	set_up(NULL);
	filelock_release(holder);
	if (endless[_i].missing)
		fault_set(FAULT_lstat, 1, FAULT_FOR_GOOD, ENOENT);
	else
		sys.lstat = lstat_of_another;
	begin(T0 + endless[_i].wait);
	for (int i = 0; i < 1000 && r > 0; i++) {
		r = filelock_step(waiter, now, &until);
		now = r > 0 && until > now ? until : now;
	}
	ck_assert_int_eq(r, endless[_i].result);
	ck_assert_int_lt(now, T0 + 10 * SECONDS);
	sys.lstat = real;
	tear_down();
}
END_TEST

static int open_but_no_file(const char *path, int flags, mode_t mode)
{
	errno = ENOENT;
	return flags & O_DIRECTORY ? open(path, flags, mode) : -1;
}

/* A mount of FUSE does so for a second, of what was removed through another one. */
/* shows: no-endless-races */
START_TEST(test_name_that_is_shown_after_its_file_is_gone_is_waited_for)
{
	int (*real)(const char *path, int flags, mode_t mode) = sys.open;
	int64_t now = T0, until;
	int r = FILELOCK_STEP_EARLY;

	set_up(NULL);
	filelock_release(holder);
	sys.open = open_but_no_file;
	begin(T0 + 3600 * SECONDS);
	for (int i = 0; i < 1000 && r > 0 && now < T0 + 1 * SECONDS; i++) {
		r = filelock_step(waiter, now, &until);
		now = r > 0 && until > now ? until : now;
	}
	ck_assert_int_ge(now, T0 + 1 * SECONDS);
	sys.open = real;
	ck_assert_int_eq(filelock_step(waiter, now, &until), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

START_TEST(test_nested_step_makes_no_system_call)
{
	set_up(NULL);
	filelock_release(holder);
	ck_assert_int_eq(filelock_acquire(waiter, FILELOCK_SHARED, FILELOCK_NO_WAIT), 0);
	fault_clear();
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_SHARED, T0, NULL, NULL), 0);
	ck_assert_int_eq(step(T0), FILELOCK_STEP_HELD);
	for (int call = 0; call < FAULT_COUNT; call++)
		ck_assert_msg(fault_calls(call) == 0, "%s", fault_name(call));
	ck_assert_uint_eq(filelock_depth(waiter), 2);
	filelock_release_all(waiter);
	tear_down();
}
END_TEST

START_TEST(test_begin_refuses_what_cannot_be)
{
	set_up(NULL);
	ck_assert_int_eq(filelock_begin(waiter, (enum filelock_mode)2, T0, NULL, NULL), -EINVAL);
	ck_assert_int_eq(filelock_begin(holder, FILELOCK_SHARED, T0, NULL, NULL), -EDEADLK);
	ck_assert_int_eq(step(T0), -EINVAL); /* nothing begun */
	begin(T0);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, T0, NULL, NULL), -EALREADY);
	ck_assert_int_eq(filelock_acquire(waiter, FILELOCK_EXCLUSIVE, 0), -EALREADY);
	ck_assert_int_eq(step(T0), -ETIMEDOUT); /* the first one was not disturbed */
	tear_down();
}
END_TEST

START_TEST(test_giving_up_drops_the_descriptor_and_can_be_begun_again)
{
	unsigned descriptors;

	set_up(NULL);
	descriptors = test_descriptors();
	begin(T0 + SECONDS);
	(void)step_busy(T0);
	ck_assert_uint_eq(test_descriptors(), descriptors + 1);
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	ck_assert_uint_eq(test_descriptors(), descriptors);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(waiter), "cancelled"));
	filelock_release(holder);
	begin(T0);
	ck_assert_int_eq(step(T0), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

START_TEST(test_giving_up_a_nested_one_keeps_the_hold)
{
	set_up(NULL);
	filelock_release(holder);
	ck_assert_int_eq(filelock_acquire(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	begin(T0);
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	ck_assert_uint_eq(filelock_depth(waiter), 1);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_SHARED, FILELOCK_NO_WAIT), -ETIMEDOUT);
	tear_down();
}
END_TEST

/* Between its own attempts a waiter closes nothing: that would wake the other waiters. */
START_TEST(test_waiter_keeps_its_descriptor_between_attempts)
{
	int64_t now = T0;

	set_up(NULL);
	begin(FILELOCK_NEVER);
	for (int i = 0; i < 10; i++)
		now = step_busy(now);
	ck_assert_uint_eq(fault_calls(FAULT_open), 1);
	ck_assert_uint_eq(fault_calls(FAULT_close), 0);
	tear_down();
}
END_TEST

static int64_t in_seven_ms(const struct filelock *lock)
{
	return lock == waiter ? 7 * MILLISECONDS : 0;
}

static int64_t in_an_hour(const struct filelock *lock)
{
	(void)lock;
	return 3600 * SECONDS;
}

static void set_retry_delay(int64_t (*retry_delay)(const struct filelock *lock))
{
	static struct kind impatient;

	impatient = *waiter->kind;
	impatient.retry_delay = retry_delay;
	waiter->kind = &impatient;
}

START_TEST(test_kind_that_retries_sooner_shortens_the_interval_whatever_was_asked_for)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int64_t now = T0;

	options.poll_interval_ms = 3600000;
	set_up(&options);
	set_retry_delay(in_seven_ms);
	begin(FILELOCK_NEVER);
	for (int i = 0; i < 5; i++) {
		int64_t until = step_busy(now);

		check_poll(until, now, 7 * MILLISECONDS);
		now = until;
	}
	tear_down();
}
END_TEST

START_TEST(test_kind_that_retries_later_does_not_stretch_the_interval)
{
	set_up(NULL);
	set_retry_delay(in_an_hour);
	begin(FILELOCK_NEVER);
	check_poll(step_busy(T0), T0, INTERVAL);
	tear_down();
}
END_TEST

static const struct {
	unsigned waiting;
	unsigned long file_system; /* 0: it cannot be asked for */
	int64_t interval;
} loads[] = {
	{ 50, TMPFS_MAGIC, INTERVAL },
	{ 1000, TMPFS_MAGIC, 1000 * MILLISECONDS },
	{ 1000000, TMPFS_MAGIC, 60000 * MILLISECONDS },
	{ 400, NFS_SUPER_MAGIC, INTERVAL },
	{ 1000, NFS_SUPER_MAGIC, 100 * MILLISECONDS },
	{ 1000000, NFS_SUPER_MAGIC, 60000 * MILLISECONDS },
	{ 1000, 0, 100 * MILLISECONDS },
};

static unsigned long file_system;
static unsigned asked;

static int say_file_system(const char *path, struct statfs *ret)
{
	(void)path;
	asked++;
	memset(ret, 0, sizeof(*ret));
	ret->f_type = file_system;
	errno = EIO;
	return file_system ? 0 : -1;
}

/* Only on file systems of this machine: elsewhere there may be no events to rely on. */
START_TEST(test_default_interval_grows_with_the_number_that_wait_in_the_loop)
{
	struct filelock_driver driver = { 0 };
	int64_t now = T0;

	set_up(NULL);
	sys.statfs = say_file_system;
	file_system = loads[_i].file_system;
	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	(void)inotify_count(driver.watcher, (int)loads[_i].waiting - 1);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, NULL),
	                 0);
	for (int i = 0; i < 3; i++) {
		int64_t until = step_busy(now);

		/* stretched polls come in groups, the later of two by less than 17 ms */
		ck_assert_int_ge(until, now + loads[_i].interval - loads[_i].interval / 8);
		ck_assert_int_lt(until, now + loads[_i].interval + 17 * MILLISECONDS);
		now = until;
	}
	ck_assert_uint_le(asked, 1);
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	filelock_watcher_free(driver.watcher);
	tear_down();
}
END_TEST

/* A driver that does not want to know of it need not end the acquisition. */
START_TEST(test_handle_closed_while_it_waits_is_counted_no_more)
{
	struct filelock_driver driver = { 0 };
	unsigned descriptors;

	set_up(NULL);
	descriptors = test_descriptors();
	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, NULL),
	                 0);
	(void)step_busy(T0);
	ck_assert_uint_eq(inotify_count(driver.watcher, 0), 1);
	filelock_close(waiter);
	ck_assert_uint_eq(inotify_count(driver.watcher, 0), 0);
	ck_assert_uint_eq(test_descriptors(), descriptors);
	filelock_watcher_free(driver.watcher);
	filelock_close(holder);
}
END_TEST

int main(void)
{
	TCase *each = tcase_create("each");
	Suite *suite = SUITE(
	        "step", test_free_lock_is_held_by_the_first_step, test_no_wait_is_exactly_one_attempt,
	        test_new_watch_is_worth_an_attempt_at_once_then_after_1_2_4_ms,
	        test_early_step_makes_no_attempt, test_polls_come_every_interval_option,
	        test_last_sleep_is_clamped_to_the_deadline,
	        test_timeout_shorter_than_the_interval_is_kept,
	        test_attempt_at_the_deadline_can_still_win, test_very_late_step_makes_one_attempt,
	        test_first_step_after_the_deadline_makes_one_attempt, test_endless_wait_polls_on,
	        test_deadline_does_not_overflow,
	        test_wake_is_worth_attempts_at_once_then_after_1_2_4_ms,
	        test_wake_up_begins_the_series_anew, test_who_has_lost_very_often_tries_at_once,
	        test_back_off_stops_at_a_short_interval,
	        test_hasten_is_one_attempt_at_once, test_endless_races_become_a_wait,
	        test_waiting_for_a_file_that_is_never_the_paths_sleeps,
	        test_handle_that_has_only_tried_lets_nobody_go_first,
	        test_new_watch_after_many_races_is_worth_an_attempt_soon,
	        test_nested_step_makes_no_system_call,
	        test_begin_refuses_what_cannot_be,
	        test_giving_up_drops_the_descriptor_and_can_be_begun_again,
	        test_giving_up_a_nested_one_keeps_the_hold,
	        test_waiter_keeps_its_descriptor_between_attempts,
	        test_kind_that_retries_sooner_shortens_the_interval_whatever_was_asked_for,
	        test_kind_that_retries_later_does_not_stretch_the_interval,
	        test_handle_closed_while_it_waits_is_counted_no_more,
	        test_name_that_is_shown_after_its_file_is_gone_is_waited_for);

	tcase_add_loop_test(each,
	                    test_default_interval_grows_with_the_number_that_wait_in_the_loop, 0,
	                    sizeof(loads) / sizeof(*loads));
	tcase_add_loop_test(each, test_races_without_end_are_an_error, 0,
	                    sizeof(endless) / sizeof(*endless));
	suite_add_tcase(suite, each);
	return support_main(suite);
}
