/* Handles among each other: their order, those of a parent, those that cannot be had; the log of
   drivers. */
#include <errno.h>
#include <string.h>

#include "driver_private.h"
#include "support.h"

static struct filelock *open_kind(const char *name, enum filelock_kind kind)
{
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open(test_path(name), kind, NULL, &lock), 0);
	return lock;
}

START_TEST(test_handles_are_in_one_order_by_kind_and_path)
{
	struct filelock *native = open_kind("a", FILELOCK_NATIVE);
	struct filelock *soft = open_kind("a", FILELOCK_SOFT);
	struct filelock *same = open_kind("a", FILELOCK_SOFT);
	struct filelock *later = open_kind("b", FILELOCK_SOFT);

	ck_assert_int_lt(filelock_compare(native, soft), 0);
	ck_assert_int_gt(filelock_compare(soft, native), 0);
	ck_assert_int_lt(filelock_compare(soft, later), 0);
	ck_assert_int_gt(filelock_compare(later, soft), 0);
	ck_assert_int_eq(filelock_compare(soft, same), 0);
	ck_assert_uint_eq(filelock_hash(soft), filelock_hash(same));
	filelock_close(native);
	filelock_close(soft);
	filelock_close(same);
	filelock_close(later);
}
END_TEST

static int try_all_in_child(void *arg)
{
	struct filelock *lock = arg;
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	if (filelock_break(lock) != FILELOCK_EFORKED || filelock_verify(lock) != FILELOCK_EFORKED)
		return 1;
	if (filelock_fd(lock) != FILELOCK_EFORKED ||
	    filelock_holder(lock, &owner) != FILELOCK_EFORKED)
		return 2;
	if (filelock_release_all(lock) != FILELOCK_EFORKED || filelock_is_held(lock))
		return 3;
	filelock_interrupt(lock);
	filelock_close(lock);
	return 0;
}

START_TEST(test_each_call_on_a_parents_handle_says_so)
{
	struct filelock *lock = open_kind("lock", FILELOCK_SOFT);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(try_all_in_child, lock), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_without_memory_nothing_opens_and_the_reason_is_told)
{
	struct filelock *lock = NULL;

	for (unsigned nth = 1; nth <= 2; nth++) {
		fault_set(FAULT_calloc, nth, FAULT_FOR_GOOD, ENOMEM);
		ck_assert_int_eq(filelock_open_fd(0, NULL, &lock), -ENOMEM);
		ck_assert_str_ne(filelock_last_error(NULL), "");
		fault_set(FAULT_calloc, nth, FAULT_FOR_GOOD, ENOMEM);
		ck_assert_int_eq(filelock_open("/lock", FILELOCK_SOFT, NULL, &lock), -ENOMEM);
		ck_assert_str_ne(filelock_last_error(NULL), "");
	}
	ck_assert_ptr_null(lock);
}
END_TEST

static char logged[64];

static void note(enum filelock_log_level level, const char *message, void *arg)
{
	(void)level;
	(void)arg;
	(void)strncpy(logged, message, sizeof(logged) - 1);
}

/* One that had to fall back, waiting for the other kind, keeps what it has of that. */
START_TEST(test_hold_is_not_passed_to_one_that_fell_back_to_another_kind)
{
	struct filelock *holder = open_kind("lock", FILELOCK_NATIVE);
	struct filelock *waiter = open_kind("lock", FILELOCK_NATIVE);
	int64_t until;

	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, INT64_MAX, NULL, NULL), 0);
	ck_assert_int_eq(filelock_step(waiter, filelock_now(), &until), FILELOCK_STEP_EARLY);
	ck_assert_int_eq(filelock_step(waiter, until, &until), FILELOCK_STEP_WAIT);
	ck_assert_int_eq(filelock_kind(waiter), FILELOCK_SOFT);
	fault_clear();
	ck_assert(!filelock_hand_over(holder, waiter));
	ck_assert(filelock_is_held(holder) && !filelock_is_held(waiter));
	ck_assert_int_eq(filelock_give_up(waiter, -ECANCELED), -ECANCELED);
	filelock_close(waiter);
	filelock_close(holder);
}
END_TEST

START_TEST(test_a_drivers_message_goes_to_the_log_of_its_level)
{
	ck_assert(!filelock_logs(FILELOCK_LOG_ERROR));
	filelock_set_log(note, NULL, FILELOCK_LOG_WARNING);
	ck_assert(filelock_logs(FILELOCK_LOG_WARNING));
	ck_assert(!filelock_logs(FILELOCK_LOG_INFO));
	filelock_log(FILELOCK_LOG_INFO, "quiet");
	ck_assert_str_eq(logged, "");
	filelock_log(FILELOCK_LOG_ERROR, "number %d", 7);
	ck_assert_str_eq(logged, "number 7");
	filelock_set_log(NULL, NULL, FILELOCK_LOG_DEBUG);
	ck_assert(!filelock_logs(FILELOCK_LOG_ERROR));
}
END_TEST

int main(void)
{
	return support_main(SUITE("handles", test_handles_are_in_one_order_by_kind_and_path,
	                          test_each_call_on_a_parents_handle_says_so,
	                          test_without_memory_nothing_opens_and_the_reason_is_told,
	                          test_hold_is_not_passed_to_one_that_fell_back_to_another_kind,
	                          test_a_drivers_message_goes_to_the_log_of_its_level));
}
