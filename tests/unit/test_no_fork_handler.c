/* Where no handler for forks could be installed (pthread_atfork(3): ENOMEM), nothing is opened. */
#include <errno.h>

#include <filelock/driver.h>

#include "support.h"

#ifdef __SANITIZE_THREAD__

/* It calls the handler's registration before it can follow what that does. */
int main(void)
{
	return 77;
}

#else

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *library);

static unsigned asked;

/* In the place of the C library's, which pthread_atfork(3) calls. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *library)
{
	asked += prepare != NULL;
	(void)parent;
	(void)child;
	(void)library;
	return ENOMEM;
}

START_TEST(test_nothing_opens_whose_fork_would_go_unnoticed)
{
	struct filelock *lock = NULL;
	struct filelock_watcher *watcher = NULL;

	if (asked == 0) {
		test_skip("something else stands before the C library: a sanitizer");
		return;
	}
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, NULL, &lock), -ENOMEM);
	ck_assert_ptr_null(lock);
	ck_assert_int_eq(filelock_watcher_new(&watcher), -ENOMEM);
	ck_assert_ptr_null(watcher);
}
END_TEST

int main(void)
{
	return support_main(SUITE("no fork handler",
	                          test_nothing_opens_whose_fork_would_go_unnoticed));
}

#endif
