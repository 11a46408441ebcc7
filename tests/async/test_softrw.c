/* Soft read/write locks in a loop: it renews their records, and tells of those that are lost. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop.h"
#include "base/sys.h"

#define SHARED FILELOCK_SHARED
#define EXCLUSIVE FILELOCK_EXCLUSIVE

static struct filelock *open_renewed(unsigned heartbeat_ms)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.poll_interval_ms = PATIENT_MS;
	options.duration_ms = 3600000;
	options.heartbeat_ms = heartbeat_ms;
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_SOFT_READWRITE, &options, &lock), 0);
	return lock;
}

/* Renewed often, and long before it would count as dead, however busy the machine is. */
static struct filelock *open_lock(void)
{
	return open_renewed(10);
}

/* The records of all holders, one after another. */
static void read_records(char *text, size_t size)
{
	struct dirent **entries;
	int n = scandir(test_path("lock.rw/holders"), &entries, NULL, alphasort);
	size_t length = 0;

	*text = '\0';
	for (int i = 0; i < n; i++) {
		char path[512];

		(void)snprintf(path, sizeof(path), "lock.rw/holders/%s", entries[i]->d_name);
		if (entries[i]->d_name[0] != '.') {
			test_read_file(test_path(path), text + length, size - length);
			length += strlen(text + length);
		}
		free(entries[i]);
	}
	free(entries);
}

/* Turns the loop until the records were renewed so often. */
static void await_renewals(struct loop *loop, unsigned count)
{
	int64_t end = test_now() + TEST_PATIENCE;
	char then[2048], now[2048];

	read_records(then, sizeof(then));
	while (count > 0) {
		loop_for(loop, 5);
		read_records(now, sizeof(now));
		count -= strcmp(then, now) != 0;
		strcpy(then, now);
		ck_assert_int_lt(test_now(), end);
	}
}

/* What keeps holds alive does not keep a loop running. */
static void await_call(struct loop *loop, const struct asked *held)
{
	int64_t end = test_now() + TEST_PATIENCE;

	while (held->calls == 0) {
		ck_assert_int_lt(test_now(), end);
		loop_for(loop, 5);
	}
}

static void await_loss(struct loop *loop, struct asked *held, enum filelock_loss loss)
{
	await_call(loop, held);
	ck_assert_int_eq(held->result, FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(held->lock), loss);
	ck_assert_int_eq(filelock_verify(held->lock), FILELOCK_ELOST);
	loop_for(loop, 50);
	ck_assert_uint_eq(held->calls, 1);
	ck_assert_int_eq(filelock_release(held->lock), FILELOCK_ELOST);
	filelock_close(held->lock);
}

static void watch(struct loop *loop, struct asked *held)
{
	ck_assert_int_eq(loop_acquire(loop, held->lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop->ev, held->lock, loop_note, held), 0);
}

static void hold_watched(struct loop *loop, struct asked *held)
{
	held->lock = open_lock();
	watch(loop, held);
}

/* shows: rw-renewed */
START_TEST(test_hold_in_a_loop_is_renewed)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_lock(), *other = open_lock();

	ck_assert_int_eq(loop_acquire(&loop, lock, SHARED, -1), 0);
	ck_assert_int_eq(loop_acquire(&loop, other, SHARED, -1), 0);
	await_renewals(&loop, 5);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_verify(other), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	await_renewals(&loop, 3);
	ck_assert_int_eq(filelock_release(other), 0);
	filelock_close(lock);
	filelock_close(other);
	loop_free(&loop);
}
END_TEST

START_TEST(test_hold_that_was_handed_over_is_renewed)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_lock();
	struct asked next = { .lock = open_lock() };
	uint64_t token, handed;

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_token(lock, &token), 0);
	loop_ask(&loop, &next, EXCLUSIVE, -1);
	await_renewals(&loop, 1);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	loop_until(&loop, &next.calls, 1);
	ck_assert_int_eq(next.result, 0);
	ck_assert_int_eq(filelock_token(next.lock, &handed), 0);
	ck_assert_uint_ge(handed, token);
	await_renewals(&loop, 3);
	ck_assert_int_eq(filelock_release(next.lock), 0);
	filelock_close(next.lock);
	loop_free(&loop);
}
END_TEST

/* As after a suspend, or a stop, that was longer than it may be silent: before the record is touched. */
/* shows: rw-lost */
START_TEST(test_late_holder_is_told_once)
{
	struct asked held = { 0 };
	char then[2048], now[2048];
	struct loop loop;

	clock_fake(test_now()); /* no worker renews it after the one time that its heartbeat passes */
	clock_sleep(0);
	loop = loop_new();
	hold_watched(&loop, &held);
	clock_advance(10 * MILLISECONDS);
	await_renewals(&loop, 1);
	read_records(then, sizeof(then));
	clock_sleep(3600 * SECONDS);
	clock_advance(10 * MILLISECONDS);
	await_call(&loop, &held);
	read_records(now, sizeof(now));
	ck_assert_str_eq(then, now);
	await_loss(&loop, &held, FILELOCK_LOSS_LATE);
	loop_free(&loop);
}
END_TEST

/* shows: rw-lost */
START_TEST(test_holder_that_others_left_out_is_told_once)
{
	struct loop loop = loop_new();
	struct filelock *other = open_lock();
	struct asked held = { 0 };

	hold_watched(&loop, &held);
	ck_assert_int_eq(filelock_break(other), 0);
	await_loss(&loop, &held, FILELOCK_LOSS_EVICTED);
	filelock_close(other);
	loop_free(&loop);
}
END_TEST

/* It need not be late: no renewal is due for an hour. */
START_TEST(test_holder_whose_log_is_gone_is_told_once)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_renewed(3500000) };

	watch(&loop, &held);
	loop_for(&loop, 5);
	ck_assert_int_eq(rename(test_path("lock.rw"), test_path("moved")), 0);
	await_call(&loop, &held);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	ck_assert_int_eq(filelock_verify(held.lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(held.lock), FILELOCK_ELOST);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

/* A waiter's record is renewed at each attempt, and it gets in when the last reader leaves. */
START_TEST(test_waiting_writer_gets_in_after_the_readers)
{
	struct loop loop = loop_new();
	struct filelock *readers[] = { open_lock(), open_lock() };
	struct asked writer = { .lock = open_lock() }, late = { .lock = open_lock() };

	for (size_t i = 0; i < 2; i++)
		ck_assert_int_eq(filelock_acquire(readers[i], SHARED, 0), 0);
	loop_ask(&loop, &writer, EXCLUSIVE, -1);
	loop_for(&loop, 30);
	loop_ask(&loop, &late, SHARED, -1);
	loop_for(&loop, 30);
	ck_assert_uint_eq(writer.calls + late.calls, 0);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_int_eq(filelock_release(readers[i]), 0);
		filelock_close(readers[i]);
	}
	loop_until(&loop, &writer.calls, 1);
	ck_assert_int_eq(writer.result, 0);
	ck_assert_uint_eq(late.calls, 0);
	ck_assert_int_eq(filelock_release(writer.lock), 0);
	loop_until(&loop, &late.calls, 1);
	ck_assert_int_eq(late.result, 0);
	filelock_close(writer.lock);
	filelock_close(late.lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE("soft read/write in a loop", test_hold_in_a_loop_is_renewed,
	                          test_hold_that_was_handed_over_is_renewed,
	                          test_late_holder_is_told_once,
	                          test_holder_that_others_left_out_is_told_once,
	                          test_holder_whose_log_is_gone_is_told_once,
	                          test_waiting_writer_gets_in_after_the_readers));
}
