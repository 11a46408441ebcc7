/* Paths: what is too long, what cannot be resolved, what a path names. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "support.h"
#include "base/sys.h"

/* "/xxx…" of so many bytes, its last name `name`. */
static char *long_path(size_t length, const char *name)
{
	char *path = malloc(length + 1);

	ck_assert_ptr_nonnull(path);
	memset(path, 'x', length);
	for (size_t i = 0; i < length; i += 200)
		path[i] = '/';
	strcpy(path + length - strlen(name), name);
	return path;
}

START_TEST(test_absolute_path_of_a_path_too_long_is_refused)
{
	char *path = long_path(PATH_MAX, "/last");
	char *absolute = NULL;

	ck_assert_int_eq(path_absolute(path, &absolute), -ENAMETOOLONG);
	ck_assert_int_eq(path_absolute(path + 1, &absolute), -ENAMETOOLONG);
	path[PATH_MAX - 1] = '\0';
	ck_assert_int_eq(path_absolute(path, &absolute), 0);
	ck_assert_str_eq(absolute, path);
	free(absolute);
	free(path);
}
END_TEST

static char *resolve_to_much(const char *path, char *resolved)
{
	if (strcmp(path, "/short") != 0) {
		errno = ENOENT;
		return NULL;
	}
	memset(resolved, 'y', PATH_MAX - 10);
	resolved[0] = '/';
	resolved[PATH_MAX - 10] = '\0';
	return resolved;
}

START_TEST(test_canonical_path_may_become_too_long)
{
	char *canonical = NULL;

	sys.realpath = resolve_to_much;
	ck_assert_int_eq(path_canonical("/short/name", &canonical), 0);
	free(canonical);
	ck_assert_int_eq(path_canonical("/short/does-not-exist/name", &canonical),
	                 -ENAMETOOLONG);
}
END_TEST

START_TEST(test_canonical_path_tells_why_it_cannot_be_resolved)
{
	char *canonical = NULL;

	fault_set(FAULT_realpath, 1, FAULT_ONCE, ELOOP);
	ck_assert_int_eq(path_canonical("/tmp/name", &canonical), -ELOOP);
	/* not even the root */
	fault_set(FAULT_realpath, 1, FAULT_FOR_GOOD, ENOENT);
	ck_assert_int_eq(path_canonical("/tmp/name", &canonical), -ENOENT);
	fault_clear();
	fault_set(FAULT_calloc, 1, FAULT_ONCE, ENOMEM);
	ck_assert_int_eq(path_canonical("/tmp/name", &canonical), -ENOMEM);
	ck_assert_ptr_null(canonical);
}
END_TEST

START_TEST(test_canonical_path_in_the_root_has_one_slash)
{
	char *canonical = NULL;

	ck_assert_int_eq(path_canonical("/name", &canonical), 0);
	ck_assert_str_eq(canonical, "/name");
	free(canonical);
}
END_TEST

START_TEST(test_path_is_compared_by_device_and_inode)
{
	const char *path = test_path("file");
	char below[PATH_MAX];
	struct stat st;

	test_write_file(path, "");
	ck_assert_int_eq(stat(path, &st), 0);
	(void)snprintf(below, sizeof(below), "%s/below", path);
	ck_assert_int_eq(path_check(path, st.st_dev, st.st_ino), PATH_NAMES_OURS);
	ck_assert_int_eq(path_check(path, st.st_dev, st.st_ino + 1), PATH_NAMES_ANOTHER);
	ck_assert_int_eq(path_check(path, st.st_dev + 1, st.st_ino), PATH_NAMES_ANOTHER);
	ck_assert_int_eq(path_check(below, st.st_dev, st.st_ino), PATH_NAMES_ANOTHER);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(path_check(path, st.st_dev, st.st_ino), PATH_NAMES_ANOTHER);
	fault_set(FAULT_lstat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(path_check(path, st.st_dev, st.st_ino), -EIO);
}
END_TEST

START_TEST(test_parent_is_the_text_before_the_last_name)
{
	char parent[PATH_MAX];

	path_parent("/a/b/c", parent);
	ck_assert_str_eq(parent, "/a/b");
	path_parent("/a", parent);
	ck_assert_str_eq(parent, "/");
}
END_TEST

START_TEST(test_parent_is_there_or_says_why_not)
{
	char *path = long_path(PATH_MAX + 4, "/last");
	unsigned before = test_descriptors();

	ck_assert_int_eq(path_check_parent(test_path("file")), 0);
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_int_eq(path_check_parent("/nowhere-at-all/file"), -ENOENT);
	ck_assert_int_eq(path_check_parent("/dev/null/file"), -ENOTDIR);
	ck_assert_int_eq(path_check_parent(path), -ENOENT);
	free(path);
}
END_TEST

START_TEST(test_parents_are_made_or_the_first_error_is_told)
{
	ck_assert_int_eq(path_make_parents(test_path("a/b/c")), 0);
	ck_assert_int_eq(path_check_parent(test_path("a/b/c")), 0);
	fault_set(FAULT_mkdir, 1, FAULT_FOR_GOOD, EACCES);
	ck_assert_int_eq(path_make_parents(test_path("d/e/f")), -EACCES);
	/* one that may not be made, and is there */
	fault_set(FAULT_mkdir, 1, FAULT_ONCE, EROFS);
	ck_assert_int_eq(path_make_parents(test_path("d/e/f")), 0);
}
END_TEST

int main(void)
{
	return support_main(SUITE("path", test_absolute_path_of_a_path_too_long_is_refused,
	                          test_canonical_path_may_become_too_long,
	                          test_canonical_path_tells_why_it_cannot_be_resolved,
	                          test_canonical_path_in_the_root_has_one_slash,
	                          test_path_is_compared_by_device_and_inode,
	                          test_parent_is_the_text_before_the_last_name,
	                          test_parent_is_there_or_says_why_not,
	                          test_parents_are_made_or_the_first_error_is_told));
}
