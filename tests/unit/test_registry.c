/* Handles and holds of this process that are alike but for one thing. */
#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "registry.h"
#include "support.h"

static struct filelock *open_kind(const char *path, enum filelock_kind kind, bool singleton)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;

	options.singleton = singleton;
	ck_assert_int_eq(filelock_open(path, kind, &options, &lock), 0);
	return lock;
}

START_TEST(test_first_handle_of_a_process_may_lack_memory)
{
	struct filelock *lock = NULL;
	unsigned nth = 0;
	int r;

	do {
		fault_set(FAULT_calloc, ++nth, FAULT_ONCE, ENOMEM);
		r = filelock_open(test_path("lock"), FILELOCK_NATIVE, NULL, &lock);
		ck_assert_int_eq(r, fault_hits(FAULT_calloc) ? -ENOMEM : 0);
	} while (r < 0);
	ck_assert_uint_eq(nth, 5); /* the path, the handle, two tables; and then none fails */
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

/* Two texts of one hash, FNV-1a. */
START_TEST(test_singletons_that_hash_alike_are_two)
{
	struct filelock *one = open_kind("/c2py9hGI44U", FILELOCK_NATIVE, true);
	struct filelock *two = open_kind("/sA7W64RIa4N", FILELOCK_NATIVE, true);

	if (sizeof(size_t) == 8)
		ck_assert_uint_eq(filelock_hash(one), filelock_hash(two));
	ck_assert_ptr_ne(one, two);
	ck_assert_ptr_eq(open_kind("/c2py9hGI44U", FILELOCK_NATIVE, true), one);
	ck_assert_ptr_eq(open_kind("/sA7W64RIa4N", FILELOCK_NATIVE, true), two);
	for (int i = 0; i < 2; i++) {
		filelock_close(one);
		filelock_close(two);
	}
}
END_TEST

static void *hold_elsewhere(void *arg)
{
	registry_add_held(arg, (struct identity){ 1, 3 });
	return NULL;
}

START_TEST(test_thread_waits_for_itself_only_for_its_own_hold_of_the_kind_and_file)
{
	struct filelock *native = open_kind(test_path("native"), FILELOCK_NATIVE, false);
	struct filelock *soft = open_kind(test_path("soft"), FILELOCK_SOFT, false);
	struct filelock *holder = open_kind(test_path("native"), FILELOCK_NATIVE, false);
	struct filelock *others = open_kind(test_path("others"), FILELOCK_NATIVE, false);
	pthread_t thread;

	registry_add_held(holder, (struct identity){ 1, 2 });
	ck_assert_int_eq(pthread_create(&thread, NULL, hold_elsewhere, others), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(registry_holds_elsewhere(native, (struct identity){ 1, 2 }));
	ck_assert(!registry_holds_elsewhere(soft, (struct identity){ 1, 2 }));
	ck_assert(!registry_holds_elsewhere(native, (struct identity){ 2, 1 })); /* hashes alike */
	ck_assert(!registry_holds_elsewhere(native, (struct identity){ 1, 3 }));
	registry_remove_held(holder);
	ck_assert(!registry_holds_elsewhere(native, (struct identity){ 1, 2 }));
	registry_remove_held(others);
	filelock_close(native);
	filelock_close(soft);
	filelock_close(holder);
	filelock_close(others);
}
END_TEST

/* The later ones are looked at first. */
START_TEST(test_thread_waits_for_itself_whatever_else_it_holds)
{
	struct filelock *waiter = open_kind(test_path("lock"), FILELOCK_NATIVE, false);
	struct filelock *one = open_kind(test_path("alike"), FILELOCK_NATIVE, false);
	struct filelock *two = open_kind(test_path("lock"), FILELOCK_NATIVE, false);

	registry_add_held(one, (struct identity){ 2, 1 }); /* hashes alike */
	registry_add_held(two, (struct identity){ 1, 2 });
	ck_assert(registry_holds_elsewhere(waiter, (struct identity){ 1, 2 }));
	ck_assert(registry_holds_elsewhere(waiter, (struct identity){ 2, 1 }));
	registry_remove_held(two);
	ck_assert(!registry_holds_elsewhere(waiter, (struct identity){ 1, 2 }));
	registry_remove_held(one);
	ck_assert(!registry_holds_elsewhere(waiter, (struct identity){ 2, 1 }));
	filelock_close(waiter);
	filelock_close(one);
	filelock_close(two);
}
END_TEST

/* As a fork leaves it that comes while another thread has locked, and not yet listed the hold. */
static int close_half_held(void *arg)
{
	struct filelock *lock = arg;

	lock->depth = 1;
	ck_assert(!lock->held.listed);
	filelock_close(lock);
	return 0;
}

START_TEST(test_child_may_close_what_was_not_yet_listed_at_the_fork)
{
	struct filelock *lock = open_kind(test_path("lock"), FILELOCK_NATIVE, false);

	ck_assert_int_eq(test_in_child(close_half_held, lock), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "registry", test_first_handle_of_a_process_may_lack_memory,
	        test_singletons_that_hash_alike_are_two,
	        test_thread_waits_for_itself_only_for_its_own_hold_of_the_kind_and_file,
	        test_thread_waits_for_itself_whatever_else_it_holds,
	        test_child_may_close_what_was_not_yet_listed_at_the_fork));
}
