/* pthread_cancel(3) of a thread that waits: the acquisition is given up, and nothing is left. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "support.h"

static struct filelock *lock;

static void *acquire_it(void *arg)
{
	(void)arg;
	(void)filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	return NULL;
}

static void tell_that_it_waits(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	atomic_store((atomic_bool *)arg, true);
}

static void cancel_one_that_waits(atomic_bool *waits)
{
	pthread_t thread;
	void *result;

	atomic_store(waits, false);
	ck_assert_int_eq(pthread_create(&thread, NULL, acquire_it, NULL), 0);
	while (!atomic_load(waits))
		test_nap();
	ck_assert_int_eq(pthread_cancel(thread), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
}

START_TEST(test_handle_of_a_cancelled_waiter_can_be_used_again)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	atomic_bool waits = false;
	struct peer holder;
	unsigned descriptors = 0;

	options.on_wait = tell_that_it_waits;
	options.on_wait_ms = 1;
	options.arg = &waits;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), &options);
	for (int i = 0; i < 3; i++) {
		cancel_one_that_waits(&waits);
		ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "cancelled"));
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
		/* a sleeper was made at the first wait, and serves all the others */
		if (i > 0)
			ck_assert_uint_eq(test_descriptors(), descriptors);
		descriptors = test_descriptors();
	}
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER), 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

/* An assertion writes, which is a cancellation point: it comes later. */
static void *cancel_itself(void *arg)
{
	int *failures = arg;

	(void)pthread_cancel(pthread_self());
	for (int i = 0; i < 3; i++) {
		*failures += filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0;
		*failures += filelock_verify(lock) < 0;
		*failures += filelock_release(lock) < 0;
	}
	(*failures)--;
	pthread_testcancel();
	return NULL;
}

START_TEST(test_call_that_need_not_wait_is_no_cancellation_point)
{
	pthread_t thread;
	void *result;
	int failures = 1;

	lock = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(pthread_create(&thread, NULL, cancel_itself, &failures), 0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
	ck_assert_int_eq(failures, 0); /* and it came to the end */
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE("cancel", test_handle_of_a_cancelled_waiter_can_be_used_again,
	                          test_call_that_need_not_wait_is_no_cancellation_point));
}
