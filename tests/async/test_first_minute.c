/* Wrong use as a newcomer makes it: the error names the mend. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "loop.h"

static void expect_said(const char *mend)
{
	ck_assert_msg(strstr(filelock_last_error(NULL), mend) != NULL, "%s",
	              filelock_last_error(NULL));
}

START_TEST(test_context_without_a_base_says_what_is_missing)
{
	errno = 0;
	ck_assert_ptr_null(evfilelock_new(NULL, NULL));
	ck_assert_int_eq(errno, EINVAL);
	expect_said("event_base_new");
}
END_TEST

START_TEST(test_options_without_their_macro_are_told_it)
{
	struct filelock_options options = { .poll_interval_ms = 10 };
	struct evfilelock_options of_context = { .workers = 2 };
	struct event_base *base = event_base_new();
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open(test_path("l"), FILELOCK_NATIVE, &options, &lock), -EINVAL);
	expect_said("begin the options with FILELOCK_OPTIONS_INIT");
	ck_assert_ptr_null(evfilelock_new(base, &of_context));
	ck_assert_int_eq(errno, EINVAL);
	expect_said("begin the options with EVFILELOCK_OPTIONS_INIT");
	event_base_free(base);
}
END_TEST

START_TEST(test_context_says_which_option_is_out_of_range)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;
	struct event_base *base = event_base_new();

	options.workers = 257;
	ck_assert_ptr_null(evfilelock_new(base, &options));
	expect_said("workers");
	options = (struct evfilelock_options)EVFILELOCK_OPTIONS_INIT;
	options.priority = 1;
	ck_assert_ptr_null(evfilelock_new(base, &options));
	expect_said("event_base_priority_init");
	event_base_free(base);
}
END_TEST

START_TEST(test_options_of_another_kind_are_named)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;

	options.lifetime_ms = 10;
	ck_assert_int_eq(filelock_open(test_path("l"), FILELOCK_NATIVE, &options, &lock),
	                 FILELOCK_ENOLIFETIME);
	expect_said("soft locks only");
#ifdef FILELOCK_SQLITE
	options = (struct filelock_options)FILELOCK_OPTIONS_INIT;
	options.keep_on_exit = true;
	ck_assert_int_eq(filelock_open(test_path("l.db"), FILELOCK_READWRITE, &options, &lock),
	                 -EINVAL);
	expect_said("options of markers");
#endif
}
END_TEST

/* Each refused call is noted anew: `says` is in the sentence. */
static void expect_noted(const struct filelock *lock, int result, int expected, const char *says)
{
	ck_assert_int_eq(result, expected);
	ck_assert_msg(strstr(filelock_last_error(lock), says) != NULL, "%s",
	              filelock_last_error(lock));
}

START_TEST(test_calls_of_the_loop_that_are_refused_say_why)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("l");
	struct timeval second_and_a_half = { 1, 1500000 };
	struct asked lost = { 0 };

	expect_noted(lock,
	             evfilelock_acquire(loop.ev, lock, FILELOCK_EXCLUSIVE, &second_and_a_half,
	                                loop_note, &lost),
	             -EINVAL, "tv_usec");
	expect_noted(lock, evfilelock_release(loop.ev, lock, loop_note, &lost), -EPERM,
	             "does not hold the lock");
	expect_noted(lock, evfilelock_on_lost(loop.ev, lock, loop_note, &lost), -EPERM,
	             "cannot watch over");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, lock, loop_note, &lost), 0);
	expect_noted(lock, evfilelock_on_lost(loop.ev, lock, loop_note, &lost), -EALREADY,
	             "has a callback already");
	expect_noted(lock, evfilelock_holder(loop.ev, lock, NULL, NULL), -EINVAL,
	             "cannot tell the holder");
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

static int use_parents_lock(void *arg)
{
	struct filelock *lock = arg;

	ck_assert_int_eq(filelock_release(lock), FILELOCK_EFORKED);
	return strstr(filelock_last_error(lock), "daemon(3): acquire it after that") ? 0 : 1;
}

START_TEST(test_lock_from_before_daemon_says_when_to_acquire)
{
	struct filelock *lock = test_open(test_path("l"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(use_parents_lock, lock), 0);
	filelock_close(lock);
}
END_TEST

#ifndef NDEBUG
static void free_in_wrong_order(void)
{
	int fd = open(test_path("words"), O_WRONLY | O_CREAT, 0600);
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("l") };

	ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	loop_for(&loop, 5);
	event_base_free(loop.base);
	evfilelock_free(loop.ev);
}

START_TEST(test_debug_build_catches_a_base_that_is_freed_before_its_context)
{
	struct filelock *holder = hold("l", FILELOCK_EXCLUSIVE);
	char words[512] = "";
	pid_t child = fork();
	int status, fd;

	if (child == 0) {
		free_in_wrong_order();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	fd = open(test_path("words"), O_RDONLY);
	ck_assert_int_gt(read(fd, words, sizeof(words) - 1), 0);
	ck_assert_msg(strstr(words, "must come before event_base_free") != NULL, "%s", words);
	close(fd);
	filelock_close(holder);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = SUITE("first minute", test_context_without_a_base_says_what_is_missing,
	                     test_options_without_their_macro_are_told_it,
	                     test_context_says_which_option_is_out_of_range,
	                     test_options_of_another_kind_are_named,
	                     test_calls_of_the_loop_that_are_refused_say_why,
	                     test_lock_from_before_daemon_says_when_to_acquire);
#ifndef NDEBUG
	TCase *debug = tcase_create("debug builds");

	tcase_add_test(debug,
	               test_debug_build_catches_a_base_that_is_freed_before_its_context);
	suite_add_tcase(suite, debug);
#endif
	return support_main(suite);
}
