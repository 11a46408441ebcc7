/* Holds that move from one handle to another of the same lock, without a word to the system. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "driver_private.h"
#include "handle.h"
#include "softly.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define T0 INT64_C(1) /* long ago, however short the machine has been up */

static struct filelock *from, *to;

static struct filelock *open_with(const struct filelock_options *options)
{
	return test_open(test_path("lock"), options);
}

static void begin(struct filelock *lock, enum filelock_mode mode)
{
	ck_assert_int_eq(filelock_begin(lock, mode, FILELOCK_NEVER, NULL, NULL), 0);
}

/* One that holds, and one whose acquisition is under way. */
static void set_up(const struct filelock_options *options)
{
	from = open_with(options);
	to = open_with(options);
	ck_assert_int_eq(filelock_acquire(from, EXCLUSIVE, 0), 0);
	begin(to, EXCLUSIVE);
}

static void tear_down(void)
{
	filelock_close(from);
	filelock_close(to);
}

static int step(struct filelock *lock)
{
	int64_t until;

	return filelock_step(lock, filelock_now(), &until);
}

static bool is_free(void)
{
	return try_once(test_path("lock")) == 0;
}

static void check_moved(void)
{
	ck_assert(!filelock_is_held(from));
	ck_assert_int_eq(step(to), FILELOCK_STEP_HELD);
	ck_assert_uint_eq(filelock_depth(to), 1);
	ck_assert(!is_free());
	ck_assert_int_eq(filelock_release(to), 0);
	ck_assert(is_free());
}

static void nest_the_hold(void)
{
	ck_assert_int_eq(filelock_acquire(from, EXCLUSIVE, 0), 0);
}

static void end_the_hold(void)
{
	ck_assert_int_eq(filelock_release(from), 0);
}

static void end_the_acquisition(void)
{
	ck_assert_int_eq(filelock_give_up(to, -ECANCELED), -ECANCELED);
}

static void want_another_mode(void)
{
	end_the_acquisition();
	begin(to, FILELOCK_SHARED);
}

static void have_it_too(void)
{
	end_the_hold();
	end_the_acquisition();
	ck_assert_int_eq(filelock_acquire(from, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_acquire(to, FILELOCK_SHARED, 0), 0);
	begin(to, FILELOCK_SHARED);
}

static void (*const obstacles[])(void) = { nest_the_hold, end_the_hold, end_the_acquisition,
	                                   want_another_mode, have_it_too };

START_TEST(test_what_does_not_fit_is_not_passed_and_nothing_changes)
{
	unsigned before, wanted;

	set_up(NULL);
	obstacles[_i]();
	before = filelock_depth(from);
	wanted = filelock_depth(to);
	ck_assert(!filelock_hand_over(from, to));
	ck_assert_uint_eq(filelock_depth(from), before);
	ck_assert_uint_eq(filelock_depth(to), wanted);
	ck_assert_int_eq(is_free(), before + wanted == 0);
	tear_down();
	ck_assert(is_free());
}
END_TEST

START_TEST(test_passed_hold_is_the_other_handles)
{
	set_up(NULL);
	ck_assert(filelock_hand_over(from, to));
	check_moved();
	tear_down();
}
END_TEST

/* The descriptor is the caller's, and stays so. */
START_TEST(test_hold_on_a_callers_descriptor_is_passed)
{
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(filelock_open_fd(fd, NULL, &from), 0);
	ck_assert_int_eq(filelock_open_fd(fd, NULL, &to), 0);
	ck_assert_int_eq(filelock_acquire(from, EXCLUSIVE, 0), 0);
	begin(to, EXCLUSIVE);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_int_eq(filelock_fd(to), fd);
	check_moved();
	ck_assert_int_eq(filelock_acquire(from, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_fd(from), fd);
	tear_down();
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
	close(fd);
}
END_TEST

static char logged[512];

static void note(enum filelock_log_level level, const char *message, void *arg)
{
	(void)arg;
	if (level == FILELOCK_LOG_ERROR)
		(void)strncpy(logged, message, sizeof(logged) - 1);
}

START_TEST(test_hold_passed_to_one_that_gives_up_and_cannot_unlock_stays)
{
	set_up(NULL);
	filelock_set_log(note, NULL, FILELOCK_LOG_ERROR);
	ck_assert(filelock_hand_over(from, to));
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_give_up(to, -ECANCELED), -ECANCELED);
	ck_assert_ptr_nonnull(strstr(logged, "stays held"));
	ck_assert_ptr_nonnull(strstr(logged, filelock_strerror(-EIO)));
	ck_assert_uint_eq(filelock_depth(to), 1);
	ck_assert(!is_free());
	ck_assert_int_eq(filelock_release(to), 0);
	ck_assert(is_free());
	tear_down();
}
END_TEST

static int give_up_in_a_child(void *arg)
{
	(void)arg;
	filelock_set_log(note, NULL, FILELOCK_LOG_ERROR);
	end_the_acquisition();
	tear_down();
	return logged[0] == '\0' ? 0 : 1;
}

/* It is the parent's, and nothing was lost. */
START_TEST(test_child_that_gives_up_what_was_passed_a_hold_complains_of_nothing)
{
	set_up(NULL);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_int_eq(test_in_child(give_up_in_a_child, NULL), 0);
	check_moved();
	tear_down();
}
END_TEST

/* --- to whom the listener has for it --- */

static unsigned ended;

static bool wants(struct filelock *lock, void *arg)
{
	(void)lock;
	(void)arg;
	return true;
}

static bool take(struct filelock *lock, void *arg)
{
	(void)arg;
	return filelock_hand_over(lock, lock == from ? to : from);
}

static void end(struct filelock *lock, void *arg)
{
	(void)lock;
	(void)arg;
	ended++;
}

static const struct filelock_listener listener = { wants, take, end, NULL };

static int64_t change_s, change_ns; /* that fstat(2) adds to the file's time of change */
static int (*real_fstat)(int fd, struct stat *ret);

static int shifted_fstat(int fd, struct stat *ret)
{
	int r = real_fstat(fd, ret);

	ret->st_ctim.tv_sec += change_s;
	ret->st_ctim.tv_nsec += change_ns;
	return r;
}

/* Whether the listener's one got it, and how often the path was looked at before. */
static unsigned release_to_the_heir(void)
{
	struct filelock *old = from;

	fault_clear();
	filelock_set_listener(from, &listener, NULL);
	ck_assert_int_eq(filelock_release(from), 0);
	ck_assert_uint_eq(ended, 1);
	ended = 0;
	from = to;
	to = old;
	ck_assert_int_eq(step(from), FILELOCK_STEP_HELD);
	begin(to, EXCLUSIVE);
	return fault_calls(FAULT_lstat);
}

/* Unlinking, renaming and replacing change the file's status. */
START_TEST(test_path_is_looked_at_again_when_the_files_status_has_changed)
{
	set_up(NULL);
	fault_watch();
	real_fstat = sys.fstat;
	sys.fstat = shifted_fstat;
	date_shift(60 * SECONDS); /* the file is no longer new */
	ck_assert_uint_eq(release_to_the_heir(), 1);
	ck_assert_uint_eq(release_to_the_heir(), 0);
	change_s = 1;
	ck_assert_uint_eq(release_to_the_heir(), 1);
	ck_assert_uint_eq(release_to_the_heir(), 0);
	change_ns = 1;
	ck_assert_uint_eq(release_to_the_heir(), 1);
	ck_assert_uint_eq(release_to_the_heir(), 0);
	tear_down();
}
END_TEST

START_TEST(test_hold_that_is_moved_away_is_over_when_that_is_said)
{
	set_up(NULL);
	filelock_set_listener(from, &listener, NULL);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_int_eq(step(to), FILELOCK_STEP_HELD);
	begin(from, EXCLUSIVE);
	ck_assert(filelock_hand_over(to, from));
	ck_assert_int_eq(step(from), FILELOCK_STEP_HELD);
	begin(to, EXCLUSIVE);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_uint_eq(ended, 0);
	filelock_end_hold(from);
	filelock_end_hold(from);
	ck_assert_uint_eq(ended, 1);
	check_moved();
	ck_assert_uint_eq(ended, 1);
	tear_down();
}
END_TEST

/* A marker is as old as its first hold. */
START_TEST(test_hold_with_a_lifetime_has_no_heir)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	options.lifetime_ms = 3600000;
	set_up(&options);
	filelock_set_listener(from, &listener, NULL);
	ck_assert_int_eq(filelock_release(from), 0);
	ck_assert_uint_eq(ended, 1);
	ck_assert(!filelock_is_held(to));
	ck_assert(!exists(test_path("lock")));
	tear_down();
}
END_TEST

static int pass_and_exit(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.keep_on_exit = *(bool *)arg;
	set_up(&options);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_int_eq(step(to), FILELOCK_STEP_HELD);
	/* a marker that could not be removed is what it was */
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EBUSY);
	ck_assert_int_eq(filelock_release(to), -EBUSY);
	exit(0);
}

START_TEST(test_marker_that_was_passed_is_kept_at_exit_as_it_was_to_be_before)
{
	bool keep = _i;

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	(void)test_folder();
	ck_assert_int_eq(test_in_child(pass_and_exit, &keep), 0);
	ck_assert_int_eq(exists(test_path("lock")), keep);
}
END_TEST

/* --- what else one handle has of another --- */

/* Where flock(2) does not work: a native lock that has become a soft one. */
static struct filelock *fall_back(void)
{
	struct filelock *lock = open_with(NULL);

	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_kind(lock), FILELOCK_SOFT);
	return lock;
}

/* One has found out before the other, which needs memory to become another kind. */
START_TEST(test_hold_of_one_that_fell_back_makes_a_native_lock_fall_back)
{
	from = fall_back();
	ck_assert_int_eq(filelock_acquire(from, EXCLUSIVE, 0), 0);
	to = open_with(NULL);
	begin(to, EXCLUSIVE);
	fault_set(FAULT_calloc, 1, FAULT_ONCE, ENOMEM);
	ck_assert(!filelock_hand_over(from, to));
	ck_assert(filelock_is_held(from) && !filelock_is_held(to));
	ck_assert_int_eq(filelock_kind(to), FILELOCK_NATIVE);
	ck_assert(filelock_hand_over(from, to));
	ck_assert_int_eq(filelock_kind(to), FILELOCK_SOFT);
	check_moved();
	tear_down();
}
END_TEST

START_TEST(test_clone_of_a_lock_that_fell_back_is_of_its_kind)
{
	struct filelock *lock = fall_back(), *clone = NULL;

	ck_assert_int_eq(filelock_clone(lock, &clone), 0);
	ck_assert_int_eq(filelock_kind(clone), FILELOCK_SOFT);
	ck_assert_int_eq(filelock_compare(lock, clone), 0);
	ck_assert_int_eq(filelock_acquire(clone, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(clone);
	filelock_close(lock);
}
END_TEST

START_TEST(test_without_memory_there_is_no_clone)
{
	struct filelock *lock = fall_back(), *clone = NULL;
	unsigned nth = 0;
	int r;

	do {
		fault_set(FAULT_calloc, ++nth, FAULT_ONCE, ENOMEM);
		r = filelock_clone(lock, &clone);
		if (r < 0) {
			ck_assert_int_eq(r, -ENOMEM);
			ck_assert_ptr_null(clone);
		}
	} while (r < 0);
	/* its path, itself, and the state of its other kind */
	ck_assert_uint_eq(nth, 4);
	filelock_close(clone);
	filelock_close(lock);
}
END_TEST

/* Its knowledge of other waiters is about the lock of one kind. */
START_TEST(test_only_one_of_its_kind_that_has_not_begun_is_followed)
{
	struct filelock *follower = fall_back();

	fault_clear();
	from = open_with(NULL);
	to = open_with(NULL);
	from->fairness.released_at = T0;
	begin(follower, EXCLUSIVE);
	filelock_follow(follower, from);
	ck_assert_int_ne(follower->fairness.released_at, T0);
	begin(to, EXCLUSIVE);
	filelock_follow(to, from);
	ck_assert_int_eq(to->fairness.released_at, T0);
	/* too late for one that has begun to wait */
	ck_assert_int_eq(step(to), FILELOCK_STEP_HELD);
	from->fairness.released_at = T0 + 1;
	filelock_follow(to, from);
	ck_assert_int_eq(to->fairness.released_at, T0);
	filelock_close(follower);
	tear_down();
}
END_TEST

static int step_the_parents(void *arg)
{
	int64_t until;

	(void)arg;
	if (filelock_step(to, filelock_now(), &until) != FILELOCK_EFORKED)
		return 1;
	if (filelock_step(to, filelock_now(), &until) != FILELOCK_EFORKED)
		return 2;
	return strstr(filelock_last_error(to), filelock_strerror(FILELOCK_EFORKED)) ? 0 : 3;
}

START_TEST(test_acquisition_goes_not_on_in_a_forked_child)
{
	set_up(NULL);
	ck_assert_int_gt(step(to), 0);
	ck_assert_int_eq(test_in_child(step_the_parents, NULL), 0);
	end_the_hold();
	filelock_hasten(to);
	ck_assert_int_eq(step(to), FILELOCK_STEP_HELD);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *suite =
	        SUITE("pass", test_passed_hold_is_the_other_handles,
	              test_hold_on_a_callers_descriptor_is_passed,
	              test_hold_passed_to_one_that_gives_up_and_cannot_unlock_stays,
	              test_child_that_gives_up_what_was_passed_a_hold_complains_of_nothing,
	              test_path_is_looked_at_again_when_the_files_status_has_changed,
	              test_hold_that_is_moved_away_is_over_when_that_is_said,
	              test_hold_with_a_lifetime_has_no_heir,
	              test_hold_of_one_that_fell_back_makes_a_native_lock_fall_back,
	              test_clone_of_a_lock_that_fell_back_is_of_its_kind,
	              test_without_memory_there_is_no_clone,
	              test_only_one_of_its_kind_that_has_not_begun_is_followed,
	              test_acquisition_goes_not_on_in_a_forked_child);
	TCase *each = tcase_create("each");

	tcase_add_loop_test(each, test_what_does_not_fit_is_not_passed_and_nothing_changes, 0,
	                    sizeof(obstacles) / sizeof(*obstacles));
	tcase_add_loop_test(each,
	                    test_marker_that_was_passed_is_kept_at_exit_as_it_was_to_be_before,
	                    0, 2);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
