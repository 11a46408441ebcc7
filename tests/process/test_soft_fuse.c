/* Soft locks on a file system that has less than ours, or says no to what it did. */
#include <dirent.h>
#include <errno.h>

#include "fuse.h"
#include "softly.h"

static struct fuse *fuse;
static struct filelock *lock;

/* A bare file system, on which the lock is tried for once. */
static int try_on(void (*take_away)(void))
{
	fuse = fuse_start(FUSE_FLOCK_LOCAL);
	if (!fuse)
		return 1; /* skipped */
	take_away();
	lock = test_open(fuse_path(fuse, "lock"), NULL);
	return filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
}

static unsigned names_in_folder(void)
{
	DIR *folder = opendir(fuse->path);
	unsigned count = 0;

	ck_assert_ptr_nonnull(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count - 2; /* . and .. */
}

/* It is held, as the only name; and gone when it is released. */
static void expect_held(int r)
{
	if (!fuse)
		return;
	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_uint_eq(names_in_folder(), 1);
	ck_assert_int_eq(try_once(fuse_path(fuse, "lock")), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(names_in_folder(), 0);
	filelock_close(lock);
	fuse_stop(fuse);
}

static void take_tmpfiles(void)
{
	fuse->refused[FUSE_TMPFILE] = ENOSYS;
}

static void take_links(void)
{
	take_tmpfiles();
	fuse->refused[FUSE_LINK] = EPERM;
}

static void lose_links(void)
{
	take_tmpfiles();
	fuse->lost[FUSE_LINK] = EEXIST;
}

START_TEST(test_without_unnamed_files_a_private_name_is_linked)
{
	expect_held(try_on(take_tmpfiles));
}
END_TEST

START_TEST(test_without_links_the_marker_is_made_in_place)
{
	expect_held(try_on(take_links));
}
END_TEST

/* A network's server did it, the answer got lost, and the call was sent again: open(2). */
START_TEST(test_link_that_was_made_though_it_was_refused_is_ours)
{
	expect_held(try_on(lose_links));
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	return support_main(SUITE("soft on FUSE",
	                          test_without_unnamed_files_a_private_name_is_linked,
	                          test_without_links_the_marker_is_made_in_place,
	                          test_link_that_was_made_though_it_was_refused_is_ours));
}
