/* Opening handles: arguments, options, paths; what is said of failures; the log. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <printf.h>
#endif

#include "base/error.h"
#include "support.h"

static int try_open(const char *path, const struct filelock_options *options)
{
	struct filelock *lock = (struct filelock *)&lock; /* untouched on failure */
	struct filelock *before = lock;
	int r = filelock_open(path, FILELOCK_NATIVE, options, &lock);

	if (r < 0)
		ck_assert_ptr_eq(lock, before);
	else
		filelock_close(lock);
	return r;
}

START_TEST(test_opening_touches_no_file)
{
	struct filelock *lock = test_open(test_path("sub/lock"), NULL);

	ck_assert_int_eq(access(test_path("sub"), F_OK), -1);
	filelock_close(lock);
	ck_assert_int_eq(access(test_path("sub"), F_OK), -1);
}
END_TEST

START_TEST(test_wrong_arguments_are_einval)
{
	struct filelock *lock = NULL;

	ck_assert_int_eq(try_open(NULL, NULL), -EINVAL);
	ck_assert_int_eq(try_open("", NULL), -EINVAL);
	ck_assert_int_eq(filelock_open("x", FILELOCK_NATIVE, NULL, NULL), -EINVAL);
	ck_assert_int_eq(filelock_open("x", (enum filelock_kind)4711, NULL, &lock), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "kind"));
	ck_assert_ptr_null(lock);
}
END_TEST

/* -EINVAL, and the sentence names the option. */
static void expect_refused(const struct filelock_options *options, const char *name)
{
	ck_assert_int_eq(try_open(test_path("lock"), options), -EINVAL);
	ck_assert_msg(strstr(filelock_last_error(NULL), name) != NULL, "%s",
	              filelock_last_error(NULL));
}

START_TEST(test_options_out_of_range_are_named)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.file_mode = 010000;
	expect_refused(&options, "file_mode");
	options = (struct filelock_options)FILELOCK_OPTIONS_INIT;
	options.poll_interval_ms = UINT_MAX;
	expect_refused(&options, "poll_interval_ms");
	options = (struct filelock_options)FILELOCK_OPTIONS_INIT;
	options.size = 0;
	expect_refused(&options, "size");
}
END_TEST

/* A program built against an older header has fewer options, one against a newer one more. */
START_TEST(test_options_of_other_versions_are_understood)
{
	struct {
		struct filelock_options options;
		long more;
	} newer = { .options = FILELOCK_OPTIONS_INIT };
	struct filelock_options older = FILELOCK_OPTIONS_INIT;

	newer.options.size = sizeof(newer);
	ck_assert_int_eq(try_open(test_path("lock"), &newer.options), 0);
	newer.more = 1; /* asks for what we do not know */
	ck_assert_int_eq(try_open(test_path("lock"), &newer.options), -EINVAL);

	older.size = offsetof(struct filelock_options, poll_interval_ms);
	older.poll_interval_ms = UINT_MAX; /* lies behind its end */
	ck_assert_int_eq(try_open(test_path("lock"), &older), 0);
}
END_TEST

START_TEST(test_relative_path_is_made_absolute_at_open)
{
	struct filelock *lock;
	char expected[PATH_MAX];

	ck_assert_int_eq(chdir(test_folder()), 0);
	ck_assert_ptr_nonnull(getcwd(expected, sizeof(expected) - 8));
	strcat(expected, "/lock");
	lock = test_open("lock", NULL);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_str_eq(filelock_path(lock), expected);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(access(expected, F_OK), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_path_is_copied)
{
	char path[PATH_MAX], copy[PATH_MAX];
	struct filelock *lock;

	strcpy(path, test_path("lock"));
	strcpy(copy, path);
	lock = test_open(path, NULL);
	memset(path, 'x', strlen(path));
	ck_assert_str_eq(filelock_path(lock), copy);
	filelock_close(lock);
}
END_TEST

START_TEST(test_too_long_paths_are_enametoolong)
{
	static char path[2 * PATH_MAX];
	struct filelock *lock;

	memset(path, 'x', sizeof(path) - 1);
	path[0] = '/';
	ck_assert_int_eq(try_open(path, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(chdir(test_folder()), 0);
	path[PATH_MAX - 10] = '\0'; /* fits itself, not behind the folder's name */
	ck_assert_int_eq(try_open(path + 1, NULL), -ENAMETOOLONG);
	path[1 + NAME_MAX + 1] = '\0'; /* a single name too long: the file system's word */
	lock = test_open(path + 1, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 1000), -ENAMETOOLONG);
	filelock_close(lock);
}
END_TEST

START_TEST(test_relative_path_in_a_removed_folder_is_its_error)
{
	const char *folder = test_path("gone");

	ck_assert_int_eq(mkdir(folder, 0777), 0);
	ck_assert_int_eq(chdir(folder), 0);
	ck_assert_int_eq(rmdir(folder), 0);
	ck_assert_int_eq(try_open("lock", NULL), -ENOENT);
}
END_TEST

START_TEST(test_failing_open_is_its_error_and_leaves_nothing)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.singleton = true;
	ck_assert_int_eq(try_open(test_path("warm"), NULL), 0);
	fault_set(FAULT_getcwd, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(try_open("lock", NULL), -EACCES);
	fault_set(FAULT_realpath, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(try_open(test_path("lock"), &options), -EIO);
	for (unsigned nth = 1;; nth++) {
		fault_set(FAULT_calloc, nth, FAULT_ONCE, ENOMEM);
		if (try_open(test_path("lock"), &options) == 0)
			break;
		ck_assert_uint_eq(fault_hits(FAULT_calloc), 1);
	}
	ck_assert_uint_gt(fault_calls(FAULT_calloc), 1);
}
END_TEST

START_TEST(test_descriptor_must_be_open)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;
	int fd = open(test_folder(), O_RDONLY | O_DIRECTORY);

	ck_assert_int_eq(filelock_open_fd(-1, NULL, &lock), -EBADF);
	ck_assert_int_eq(filelock_open_fd(1000000, NULL, &lock), -EBADF);
	ck_assert_int_eq(filelock_open_fd(fd, NULL, NULL), -EINVAL);
	options.singleton = true;
	ck_assert_int_eq(filelock_open_fd(fd, &options, &lock), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "singleton"));
	options = (struct filelock_options)FILELOCK_OPTIONS_INIT;
	options.unlink_on_release = true;
	ck_assert_int_eq(filelock_open_fd(fd, &options, &lock), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "unlink_on_release"));
	ck_assert_ptr_null(lock);
	close(fd);
}
END_TEST

START_TEST(test_closing_null_is_fine_and_close_keeps_errno)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_close, 1, FAULT_ONCE, EIO);
	errno = EDOM;
	filelock_close(NULL);
	filelock_close(lock);
	ck_assert_int_eq(errno, EDOM);
	ck_assert_uint_eq(fault_hits(FAULT_close), 1);
}
END_TEST

START_TEST(test_every_error_has_a_sentence_of_its_own)
{
#define CODE(name, value, text) name,
	static const int codes[] = { FILELOCK_ERRORS(CODE) -ETIMEDOUT, -ECANCELED, -EDEADLK,
		                     -EALREADY, -EPERM, -ELOOP, -EISDIR, -ESTALE, -EACCES };
#undef CODE
	const size_t count = sizeof(codes) / sizeof(codes[0]);

	for (size_t i = 0; i < count; i++)
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(filelock_strerror(codes[i]), filelock_strerror(codes[j]));
	ck_assert_str_eq(filelock_strerror(0), "success");
	for (int odd = -70000; odd < 200; odd += 7)
		ck_assert_uint_gt(strlen(filelock_strerror(odd)), 0);
	ck_assert_uint_gt(strlen(filelock_strerror(INT_MIN)), 0);
	ck_assert_uint_gt(strlen(filelock_strerror(INT_MAX)), 0);
}
END_TEST

/* Of each: what a call of the system's failed with keeps the system's words. */
static const int systems[] = { EPERM, EINVAL, ESTALE, EOPNOTSUPP, EBUSY, EAGAIN, ETIMEDOUT, EACCES };

START_TEST(test_error_of_a_system_call_has_the_systems_words)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	fault_set(FAULT_open, 1, FAULT_FOR_GOOD, systems[_i]);
	ck_assert_int_lt(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	if (systems[_i] != EAGAIN) /* contention, as under a lease */
		ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), strerror(systems[_i])));
	fault_clear();
	filelock_close(lock);
}
END_TEST

START_TEST(test_refusal_of_the_library_has_its_own_words)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	uint64_t token = 7;

	ck_assert_int_eq(filelock_release(lock), -EPERM);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "does not hold the lock"));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -2), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "out of its range: timeout_ms"));
	ck_assert_int_eq(filelock_fd(lock), -EPERM);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "descriptor"));
	ck_assert_int_eq(filelock_holder(lock, NULL), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "holder"));
	ck_assert_int_eq(filelock_token(lock, &token), -EPERM);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_token(lock, &token), -ENOTSUP);
	ck_assert_uint_eq(token, 7);
	ck_assert_int_eq(filelock_token(lock, NULL), -EINVAL);
	filelock_close(lock);
}
END_TEST

START_TEST(test_number_without_a_text_is_in_the_sentence)
{
	ck_assert_ptr_nonnull(strstr(filelock_strerror(-524), "524"));
	ck_assert_ptr_nonnull(strstr(filelock_strerror(-4094), "4094"));
}
END_TEST

START_TEST(test_empty_path_is_refused_by_name)
{
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open("", FILELOCK_NATIVE, NULL, &lock), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "path is empty"));
	ck_assert_ptr_null(lock);
}
END_TEST

START_TEST(test_last_error_makes_no_system_call)
{
	struct filelock *holder = test_open(test_path("lock"), NULL);
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	fault_watch();
	fault_clear();
	ck_assert_uint_gt(strlen(filelock_last_error(lock)), 0);
	for (int call = 0; call < FAULT_COUNT; call++)
		if (call != FAULT_calloc)
			ck_assert_uint_eq(fault_calls((enum fault_call)call), 0);
	filelock_close(lock);
	filelock_close(holder);
}
END_TEST

START_TEST(test_take_opens_and_acquires_or_says_why_not)
{
	struct filelock *lock = NULL, *other = NULL;

	ck_assert_int_eq(filelock_take(test_path("lock"), 0, &lock), 0);
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(filelock_take(test_path("lock"), 0, &other), -ETIMEDOUT);
	ck_assert_ptr_null(other);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), test_path("lock")));
	ck_assert_int_eq(filelock_take("", 0, &other), -EINVAL);
	ck_assert_int_eq(filelock_take(test_path("lock"), 0, NULL), -EINVAL);
	filelock_closep(&lock);
	ck_assert_ptr_null(lock);
	filelock_closep(&lock);
	ck_assert_int_eq(filelock_take(test_path("lock"), 0, &other), 0);
	filelock_closep(&other);
}
END_TEST

START_TEST(test_no_parents_makes_no_folder)
{
	static const enum filelock_kind kinds[] = { FILELOCK_NATIVE, FILELOCK_SOFT };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;

	options.no_parents = true;
	ck_assert_int_eq(filelock_open(test_path("a/lock"), kinds[_i], &options, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ENOENT);
	ck_assert_int_eq(access(test_path("a"), F_OK), -1);
	ck_assert_int_eq(mkdir(test_path("a"), 0700), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_own_codes_lie_below_every_errno)
{
#define CODE(name, value, text) ck_assert_int_lt(name, -4095);
	FILELOCK_ERRORS(CODE)
#undef CODE
}
END_TEST

START_TEST(test_last_error_says_what_where_and_why)
{
	struct filelock *lock = test_open(test_folder(), NULL);

	ck_assert_str_eq(filelock_last_error(lock), "");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -EISDIR);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "lock file"));
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), test_folder()));
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), filelock_strerror(-EISDIR)));
	ck_assert_int_eq(filelock_release(lock), -EPERM);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "release"));
	filelock_close(lock);
}
END_TEST

static struct {
	unsigned count[4];
	char last[512];
} logged;

static void log_here(enum filelock_log_level level, const char *message, void *arg)
{
	ck_assert_ptr_eq(arg, &logged);
	ck_assert_ptr_null(strchr(message, '\n'));
	logged.count[level]++;
	(void)snprintf(logged.last, sizeof(logged.last), "%s", message);
}

/* A close(2) that fails is one for the log: there is nobody else to tell. */
static void lose_a_descriptor(void)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_close, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}

START_TEST(test_log_goes_to_the_hook_up_to_its_level)
{
	lose_a_descriptor(); /* silent by default */
	filelock_set_log(log_here, &logged, FILELOCK_LOG_ERROR);
	lose_a_descriptor();
	ck_assert_uint_eq(logged.count[FILELOCK_LOG_ERROR], 1);
	ck_assert_ptr_nonnull(strstr(logged.last, test_path("lock")));
	log_write(FILELOCK_LOG_WARNING, "not asked for");
	ck_assert_uint_eq(logged.count[FILELOCK_LOG_WARNING], 0);
	filelock_set_log(log_here, &logged, FILELOCK_LOG_DEBUG);
	log_write(FILELOCK_LOG_WARNING, "asked %s", "for");
	ck_assert_uint_eq(logged.count[FILELOCK_LOG_WARNING], 1);
	ck_assert_str_eq(logged.last, "asked for");
	filelock_set_log(NULL, NULL, FILELOCK_LOG_DEBUG);
	lose_a_descriptor();
	ck_assert_uint_eq(logged.count[FILELOCK_LOG_ERROR], 1);
}
END_TEST

#ifdef __GLIBC__
static int end_the_log(FILE *stream, const struct printf_info *info, const void *const *arguments)
{
	(void)stream;
	(void)info;
	(void)arguments;
	filelock_set_log(NULL, NULL, FILELOCK_LOG_DEBUG);
	return 0;
}

static int take_no_argument(const struct printf_info *info, size_t n, int *types, int *sizes)
{
	(void)info;
	(void)n;
	(void)types;
	(void)sizes;
	return 0;
}

static bool can_end_the_log(void)
{
	return register_printf_specifier('Y', end_the_log, take_no_argument) == 0;
}
#else
static bool can_end_the_log(void)
{
	return false;
}
#endif

/* As by another thread, while a message is put into words. */
START_TEST(test_no_message_comes_once_the_log_was_ended)
{
	static const char format[] = "%s%Y";
	const char *words = format;

	if (!can_end_the_log()) {
		test_skip("printf(3) takes no words of one's own here");
		return;
	}
	filelock_set_log(log_here, &logged, FILELOCK_LOG_DEBUG);
	log_write(FILELOCK_LOG_ERROR, words, "a message");
	ck_assert_uint_eq(logged.count[FILELOCK_LOG_ERROR], 0);
	ck_assert(!log_wants(FILELOCK_LOG_ERROR));
}
END_TEST

START_TEST(test_library_prints_nothing)
{
	int out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO);
	int file = open(test_path("output"), O_RDWR | O_CREAT | O_EXCL, 0600);
	off_t size;

	ck_assert_int_eq(dup2(file, STDOUT_FILENO), STDOUT_FILENO);
	ck_assert_int_eq(dup2(file, STDERR_FILENO), STDERR_FILENO);
	lose_a_descriptor();
	(void)try_open(NULL, NULL);
	fflush(NULL);
	size = lseek(file, 0, SEEK_END);
	dup2(out, STDOUT_FILENO);
	dup2(err, STDERR_FILENO);
	ck_assert_int_eq(size, 0);
}
END_TEST

START_TEST(test_version_is_three_numbers)
{
	unsigned major, minor, patch;
	char more;

	ck_assert_int_eq(sscanf(filelock_version(), "%u.%u.%u%c", &major, &minor, &patch, &more),
	                 3);
}
END_TEST

/* They share one inode, so a lock on any of them would be one for the whole machine. */
START_TEST(test_descriptor_of_an_anonymous_inode_is_refused)
{
	int fds[] = { eventfd(0, EFD_CLOEXEC), timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC),
		      epoll_create1(EPOLL_CLOEXEC), inotify_init1(IN_CLOEXEC) };
	struct filelock *lock = NULL;

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		ck_assert_int_eq(filelock_open_fd(fds[i], NULL, &lock), -EINVAL);
		ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "anonymous inode"));
		ck_assert_ptr_null(lock);
		close(fds[i]);
	}
}
END_TEST

START_TEST(test_descriptor_of_a_file_in_memory_is_locked)
{
	int fd = memfd_create("lock", MFD_CLOEXEC);
	struct filelock *lock;

	ck_assert_int_eq(filelock_open_fd(fd, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	close(fd);
}
END_TEST

int main(void)
{
	TCase *each = tcase_create("each");
	Suite *suite = SUITE(
	        "open", test_descriptor_of_an_anonymous_inode_is_refused,
	        test_descriptor_of_a_file_in_memory_is_locked, test_opening_touches_no_file,
	        test_wrong_arguments_are_einval,
	        test_options_out_of_range_are_named, test_options_of_other_versions_are_understood,
	        test_relative_path_is_made_absolute_at_open, test_path_is_copied,
	        test_too_long_paths_are_enametoolong,
	        test_relative_path_in_a_removed_folder_is_its_error,
	        test_failing_open_is_its_error_and_leaves_nothing, test_descriptor_must_be_open,
	        test_closing_null_is_fine_and_close_keeps_errno,
	        test_every_error_has_a_sentence_of_its_own, test_own_codes_lie_below_every_errno,
	        test_last_error_says_what_where_and_why,
	        test_log_goes_to_the_hook_up_to_its_level,
	        test_no_message_comes_once_the_log_was_ended, test_library_prints_nothing,
	        test_version_is_three_numbers,
	        test_refusal_of_the_library_has_its_own_words,
	        test_number_without_a_text_is_in_the_sentence, test_empty_path_is_refused_by_name,
	        test_last_error_makes_no_system_call,
	        test_take_opens_and_acquires_or_says_why_not);

	tcase_add_loop_test(each, test_error_of_a_system_call_has_the_systems_words, 0,
	                    sizeof(systems) / sizeof(*systems));
	tcase_add_loop_test(each, test_no_parents_makes_no_folder, 0, 2);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
