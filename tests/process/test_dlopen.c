/* The shared library as a plugin's: opened by dlopen(3), and closed again. */
#include <dlfcn.h>

#include "support.h"

#ifdef FILELOCK_SHARED_LIBRARY

/* The library's own function of that name, not the one that this program is linked with. */
#define FIND(library, function) (*(void **)&(function) = dlsym((library), #function))

static void wait_in_vain_as_a_plugin(void)
{
	int (*filelock_open)(const char *, enum filelock_kind, const struct filelock_options *,
	                     struct filelock **);
	int (*filelock_acquire)(struct filelock *, enum filelock_mode, int);
	void (*filelock_close)(struct filelock *);
	void *library = dlopen(FILELOCK_SHARED_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	struct filelock *holder, *waiter;

	ck_assert_msg(library != NULL, "%s", dlerror());
	ck_assert_ptr_nonnull(FIND(library, filelock_open));
	ck_assert_ptr_nonnull(FIND(library, filelock_acquire));
	ck_assert_ptr_nonnull(FIND(library, filelock_close));
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, NULL, &holder), 0);
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, NULL, &waiter), 0);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_lt(filelock_acquire(waiter, FILELOCK_EXCLUSIVE, 1), 0);
	filelock_close(waiter);
	filelock_close(holder);
	ck_assert_int_eq(dlclose(library), 0);
}

START_TEST(test_library_that_is_closed_and_opened_again_leaves_no_descriptors_behind)
{
	enum { TIMES = 10 };
	unsigned descriptors;

	if (test_is_in_valgrind())
		return;
	wait_in_vain_as_a_plugin();
	descriptors = test_descriptors();
	for (int i = 0; i < TIMES; i++)
		wait_in_vain_as_a_plugin();
	/* what is made once may be made late: the first wait may have ended before it needed that */
	ck_assert_uint_lt(test_descriptors(), descriptors + TIMES);
}
END_TEST

#else

START_TEST(test_library_that_is_closed_and_opened_again_leaves_no_descriptors_behind)
{
	test_skip("no shared library, or one with a sanitizer");
}
END_TEST

#endif

int main(void)
{
	return support_main(SUITE(
	        "dlopen",
	        test_library_that_is_closed_and_opened_again_leaves_no_descriptors_behind));
}
