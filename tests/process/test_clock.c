/* Dates mean nothing: not the machine's clock set while somebody waits, nor the times of the file. */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "support.h"

#define YEAR (365 * 86400)
#define TIMEOUT 500 /* ms */

/* Stands before the C library's: the library, linked statically here, asks this one. */
static _Atomic long shift;

#ifdef SYS_clock_gettime64
#define GETTIME SYS_clock_gettime64 /* 32 bit, with times of 64 */
#else
#define GETTIME SYS_clock_gettime
#endif

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int r = (int)syscall(GETTIME, clock, ret);

	if (clock == CLOCK_REALTIME)
		ret->tv_sec += shift;
	return r;
}

static bool set_date(void *arg)
{
	shift = *(const long *)arg;
	return false;
}

/* Sets the date as the wait begins: on a busy machine the time may be over before, and is tried again. */
static void check_timeout(long by)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	struct peer holder;
	int64_t begin;

	options.should_cancel = set_date;
	options.arg = &by;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), &options);
	while (shift != by) {
		begin = test_now();
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, TIMEOUT), -ETIMEDOUT);
		ck_assert_int_ge(test_now() - begin, TIMEOUT * MILLISECONDS);
	}
	filelock_close(lock);
	peer_stop(&holder);
}

/* shows: deadline-kept */
START_TEST(test_timeout_is_kept_though_the_date_is_set_forward)
{
	check_timeout(YEAR);
}
END_TEST

/* shows: deadline-kept */
START_TEST(test_timeout_is_kept_though_the_date_is_set_back)
{
	check_timeout(-YEAR);
}
END_TEST

/* Of the lock file, or whatever the kind has instead or beside it. */
static void date_files(const char *path, struct timespec changed)
{
	static const char *const ends[] = { "", ".rw/*/*", ".filelock/claims/*" };
	struct timespec times[2] = { changed, changed };
	glob_t found = { .gl_pathc = 0 };
	char pattern[512];

	for (size_t i = 0; i < 3; i++) {
		(void)snprintf(pattern, sizeof(pattern), "%s%s", path, ends[i]);
		(void)glob(pattern, i > 0 ? GLOB_APPEND : 0, NULL, &found);
	}
	ck_assert_uint_gt(found.gl_pathc, 0);
	for (size_t i = 0; i < found.gl_pathc; i++)
		ck_assert_int_eq(utimensat(AT_FDCWD, found.gl_pathv[i], times, 0), 0);
	globfree(&found);
}

/* shows: dates-mean-nothing */
START_TEST(test_held_lock_is_held_whatever_the_dates_say)
{
	static const long years[] = { 0, YEAR, -YEAR };
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);
	struct peer holder;

	peer_start_holding(&holder, path, FILELOCK_EXCLUSIVE);
	for (size_t i = 0; i < 9; i++) {
		struct timespec changed = { .tv_sec = 0 }; /* the epoch; then a year to come, ago */

		if (i / 3 > 0)
			changed.tv_sec = time(NULL) + years[i / 3];
		date_files(path, changed);
		shift = years[i % 3];
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT),
		                 -ETIMEDOUT);
	}
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

int main(void)
{
	return support_main(SUITE("clock", test_timeout_is_kept_though_the_date_is_set_forward,
	                          test_timeout_is_kept_though_the_date_is_set_back,
	                          test_held_lock_is_held_whatever_the_dates_say));
}
