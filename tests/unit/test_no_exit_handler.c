/* Where no handler for the exit can be installed (atexit(3): ENOMEM), a marker stays behind. */
#include <dlfcn.h>
#include <errno.h>

#include "softly.h"

#ifdef __SANITIZE_THREAD__

/* It calls the handler's registration before it can follow what that does. */
int main(void)
{
	return 77;
}

#else

int __cxa_atexit(void (*handler)(void *arg), void *arg, void *library);

static bool full;
static unsigned refused;

/* In the place of the C library's, which atexit(3) calls. */
int __cxa_atexit(void (*handler)(void *arg), void *arg, void *library)
{
	static int (*real)(void (*)(void *), void *, void *);

	if (full) {
		refused++;
		errno = ENOMEM;
		return -1;
	}
	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "__cxa_atexit");
	return real(handler, arg, library);
}

static unsigned warnings;

static void count_warnings(enum filelock_log_level level, const char *message, void *arg)
{
	(void)arg;
	warnings += level == FILELOCK_LOG_WARNING && strstr(message, "exit") != NULL;
}

static int hold_and_exit(void *arg)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	(void)arg;
	filelock_set_log(count_warnings, NULL, FILELOCK_LOG_WARNING);
	full = true;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		if (i == 0)
			ck_assert_int_eq(filelock_release(lock), 0);
	}
	if (refused == 0)
		exit(77);
	exit(warnings == 1 ? 0 : 1);
}

START_TEST(test_marker_that_exit_cannot_remove_is_warned_of_and_recovered)
{
	int status;

	(void)test_folder();
	status = test_in_child(hold_and_exit, NULL);
	if (status == 77) {
		test_skip("something else stands before the C library: a sanitizer");
		return;
	}
	ck_assert_int_eq(status, 0);
	ck_assert(exists(test_path("lock")));
	ck_assert_int_eq(try_once(test_path("lock")), 0);
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	return support_main(SUITE("no exit handler",
	                          test_marker_that_exit_cannot_remove_is_warned_of_and_recovered));
}

#endif
