/* Singletons: one handle a path and kind in this process. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static struct filelock_options singleton(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.singleton = true;
	return options;
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

static void tell_nobody(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	(void)arg;
}

START_TEST(test_second_open_gives_the_same_handle)
{
	struct filelock_options options = singleton();
	struct filelock *one = test_open(test_path("lock"), &options);
	struct filelock *two = test_open(test_path("lock"), &options);

	ck_assert_ptr_eq(one, two);
	filelock_close(one);
	filelock_close(two);
}
END_TEST

START_TEST(test_handle_lives_until_its_last_close)
{
	struct filelock_options options = singleton();
	struct filelock *lock = test_open(test_path("lock"), &options);
	struct filelock *other = test_open(test_path("lock"), NULL);

	ck_assert_ptr_eq(test_open(test_path("lock"), &options), lock);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(lock);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(other);
}
END_TEST

START_TEST(test_open_after_the_last_close_is_a_new_handle)
{
	struct filelock_options options = singleton();
	struct filelock *lock = test_open(test_path("lock"), &options);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	lock = test_open(test_path("lock"), &options);
	ck_assert(!filelock_is_held(lock));
	filelock_close(lock);
}
END_TEST

START_TEST(test_holds_through_both_opens_nest)
{
	struct filelock_options options = singleton();
	struct filelock *one = test_open(test_path("lock"), &options);
	struct filelock *two = test_open(test_path("lock"), &options);

	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_acquire(two, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(filelock_depth(one), 2);
	filelock_close(one);
	filelock_close(two);
}
END_TEST

START_TEST(test_plain_handle_on_the_path_is_another_owner)
{
	struct filelock_options options = singleton();
	struct filelock *shared = test_open(test_path("lock"), &options);
	struct filelock *plain = test_open(test_path("lock"), NULL);

	ck_assert_ptr_ne(shared, plain);
	ck_assert_int_eq(filelock_acquire(shared, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(plain, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(plain);
	filelock_close(shared);
}
END_TEST

/* Each option that may differ, and its name in the sentence. */
static const struct {
	const char *name;
	struct filelock_options options;
} differing[] = {
	{ "file_mode", { .file_mode = 0600 } },
	{ "poll_interval_ms", { .poll_interval_ms = 7 } },
	{ "unlink_on_release", { .unlink_on_release = true } },
	{ "should_cancel", { .should_cancel = never } },
	{ "on_wait", { .on_wait = tell_nobody } },
	{ "on_wait_ms", { .on_wait_ms = 7 } },
	{ "arg", { .arg = (void *)&differing } },
	{ "lifetime_ms", { .lifetime_ms = 7 } },
	{ "two_line_marker", { .two_line_marker = true } },
	{ "no_fallback", { .no_fallback = true } },
	{ "keep_on_exit", { .keep_on_exit = true } },
	{ "any_extension", { .any_extension = true } },
	{ "keep_open", { .keep_open = true } },
	{ "heartbeat_thread", { .heartbeat_thread = true } },
};
enum { DIFFERING = sizeof(differing) / sizeof(differing[0]) };

START_TEST(test_options_must_agree_and_the_one_that_does_not_is_named)
{
	struct filelock_options options = singleton(), other = differing[_i].options;
	const char *path = test_path("lock");
	struct filelock *lock, *refused = NULL;

	other.size = sizeof(other);
	other.singleton = true;
	/* the kind that takes every option */
	ck_assert_int_eq(filelock_open(path, FILELOCK_SOFT, &options, &lock), 0);
	ck_assert_int_eq(filelock_open(path, FILELOCK_SOFT, &other, &refused), -EINVAL);
	ck_assert_ptr_null(refused);
	ck_assert_msg(strstr(filelock_last_error(NULL), differing[_i].name) != NULL, "%s",
	              filelock_last_error(NULL));
	/* the refused one took back its open: the next close is the last */
	filelock_close(lock);
	ck_assert_int_eq(filelock_open(path, FILELOCK_SOFT, &other, &lock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_path_is_compared_with_its_parent_resolved)
{
	struct filelock_options options = singleton();
	struct filelock *one, *two, *three;

	ck_assert_int_eq(mkdir(test_path("real"), 0777), 0);
	ck_assert_int_eq(symlink("real", test_path("alias")), 0);
	ck_assert_int_eq(chdir(test_folder()), 0);
	one = test_open(test_path("real/lock"), &options);
	two = test_open(test_path("alias/lock"), &options);
	three = test_open("./real/../alias//lock", &options);
	ck_assert_ptr_eq(one, two);
	ck_assert_ptr_eq(one, three);
	filelock_close(one);
	filelock_close(two);
	filelock_close(three);
}
END_TEST

/* The last name of a path is not followed: what it leads to is refused, not shared. */
START_TEST(test_symlink_as_last_name_is_not_followed)
{
	struct filelock_options options = singleton();
	struct filelock *one, *two;

	test_write_file(test_path("lock"), "");
	ck_assert_int_eq(symlink("lock", test_path("link")), 0);
	one = test_open(test_path("lock"), &options);
	two = test_open(test_path("link"), &options);
	ck_assert_ptr_ne(one, two);
	ck_assert_int_eq(filelock_acquire(two, FILELOCK_EXCLUSIVE, 0), -ELOOP);
	filelock_close(one);
	filelock_close(two);
}
END_TEST

START_TEST(test_missing_parents_are_compared_as_they_stand)
{
	struct filelock_options options = singleton();
	struct filelock *one, *two;

	ck_assert_int_eq(symlink(".", test_path("here")), 0);
	one = test_open(test_path("a/b/lock"), &options);
	two = test_open(test_path("here/a/b/lock"), &options);
	ck_assert_ptr_eq(one, two);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(one);
	filelock_close(two);
}
END_TEST

START_TEST(test_different_paths_are_different_handles)
{
	struct filelock_options options = singleton();
	struct filelock *one = test_open(test_path("one"), &options);
	struct filelock *two = test_open(test_path("two"), &options);

	ck_assert_ptr_ne(one, two);
	filelock_close(one);
	filelock_close(two);
}
END_TEST

/* Opens and closes from many threads: whoever finds the handle finds a living one. */
static void *open_and_close(void *arg)
{
	struct filelock_options options = singleton();

	for (unsigned i = 0; i < test_rounds(2000); i++) {
		struct filelock *lock = test_open(arg, &options);

		ck_assert_ptr_nonnull(filelock_path(lock));
		filelock_close(lock);
	}
	return NULL;
}

START_TEST(test_threads_open_and_close_one_singleton)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	char *path = strdup(test_path("lock"));

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, open_and_close, path), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	free(path);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "singleton", test_second_open_gives_the_same_handle,
	        test_handle_lives_until_its_last_close,
	        test_open_after_the_last_close_is_a_new_handle, test_holds_through_both_opens_nest,
	        test_plain_handle_on_the_path_is_another_owner,
	        test_path_is_compared_with_its_parent_resolved,
	        test_symlink_as_last_name_is_not_followed,
	        test_missing_parents_are_compared_as_they_stand,
	        test_different_paths_are_different_handles,
	        test_threads_open_and_close_one_singleton);
	TCase *each = tcase_create("options");

	tcase_add_loop_test(each, test_options_must_agree_and_the_one_that_does_not_is_named, 0,
	                    DIFFERING);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
