/* Read/write locks whose file changes between the calls of one attempt. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#ifdef FILELOCK_SQLITE

static char path[512];

static void set_up(void)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("lock.db"));
	test_write_file(path, "");
	test_write_file(test_path("other.db"), "");
}

static void remove_it(void *arg)
{
	(void)arg;
	ck_assert_int_eq(unlink(path), 0);
}

static void replace_it(void *arg)
{
	(void)arg;
	ck_assert_int_eq(rename(test_path("other.db"), path), 0);
}

static void make_it_a_link(void *arg)
{
	remove_it(arg);
	ck_assert_int_eq(symlink(test_path("other.db"), path), 0);
}

static void make_it_a_folder(void *arg)
{
	remove_it(arg);
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

/* The result of one cycle, during which `change` comes before the nth call. */
static int cycle(enum fault_call call, unsigned nth, void (*change)(void *arg))
{
	struct filelock *lock;
	struct stat held, now;
	int r;

	set_up();
	lock = test_open(path, NULL);
	fault_before(call, nth, change, NULL);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	ck_assert_uint_eq(fault_hits(call), 1);
	fault_clear();
	if (r == 0) {
		/* what is held is what stands there */
		ck_assert_int_eq(filelock_verify(lock), 0);
		ck_assert_int_eq(stat(path, &held), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(stat(path, &now), 0);
		ck_assert_uint_eq(held.st_ino, now.st_ino);
	} else {
		ck_assert_str_ne(filelock_last_error(lock), "");
	}
	filelock_close(lock);
	return r;
}

START_TEST(test_link_in_the_place_of_a_database_looked_at_is_refused)
{
	ck_assert_int_eq(cycle(FAULT_realpath, 1, make_it_a_link), -ELOOP);
}
END_TEST

START_TEST(test_folder_in_the_place_of_a_database_looked_at_is_refused)
{
	ck_assert_int_eq(cycle(FAULT_realpath, 1, make_it_a_folder), -EISDIR);
}
END_TEST

START_TEST(test_database_that_is_replaced_while_it_is_opened_is_not_locked_in_vain)
{
	ck_assert_int_eq(cycle(FAULT_realpath, 1, replace_it), 0);
	ck_assert_int_eq(cycle(FAULT_realpath, 1, remove_it), 0);
	for (unsigned nth = 2; nth <= 3; nth++) {
		ck_assert_int_eq(cycle(FAULT_lstat, nth, replace_it), 0);
		ck_assert_int_eq(cycle(FAULT_lstat, nth, remove_it), 0);
	}
}
END_TEST

START_TEST(test_database_that_vanishes_as_soon_as_it_is_made_is_made_again)
{
	struct filelock *lock;

	set_up();
	ck_assert_int_eq(unlink(path), 0);
	lock = test_open(path, NULL);
	fault_before(FAULT_lstat, 2, remove_it, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, FILELOCK_NO_WAIT), 0);
	ck_assert_uint_eq(fault_hits(FAULT_lstat), 1);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "readwrite", 1);
	return support_main(
	        SUITE("readwrite races", test_link_in_the_place_of_a_database_looked_at_is_refused,
	              test_folder_in_the_place_of_a_database_looked_at_is_refused,
	              test_database_that_is_replaced_while_it_is_opened_is_not_locked_in_vain,
	              test_database_that_vanishes_as_soon_as_it_is_made_is_made_again));
}

#else

int main(void)
{
	return 77;
}

#endif
