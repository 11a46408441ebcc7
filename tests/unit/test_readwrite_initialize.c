/* An SQLite built with SQLITE_OMIT_AUTOINIT crashes where it is used before sqlite3_initialize. */
#include <dlfcn.h>

#include "support.h"

#ifdef FILELOCK_SQLITE

#include <sqlite3.h>

static bool initialized, used_before;

int sqlite3_initialize(void)
{
	int (*real)(void);
	int r;

	*(void **)&real = dlsym(RTLD_NEXT, "sqlite3_initialize");
	r = real();
	initialized = true;
	return r;
}

sqlite3_vfs *sqlite3_vfs_find(const char *name)
{
	sqlite3_vfs *(*real)(const char *);

	*(void **)&real = dlsym(RTLD_NEXT, "sqlite3_vfs_find");
	used_before = used_before || !initialized;
	return real(name);
}

START_TEST(test_sqlite_is_initialized_before_it_is_used)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open(test_path("lock.db"), FILELOCK_READWRITE, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert(initialized);
	ck_assert(!used_before);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE("readwrite_initialize",
	                          test_sqlite_is_initialized_before_it_is_used));
}

#else

int main(void)
{
	return 77;
}

#endif
