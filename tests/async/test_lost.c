/* The loss of a hold, told from the loop; and the holder of a lock, asked without blocking it. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static void take_away(const char *path)
{
	ck_assert_int_eq(unlink(path), 0);
}

static void move_away(const char *path)
{
	ck_assert_int_eq(rename(path, test_path("moved")), 0);
}

static void replace(const char *path)
{
	test_write_file(test_path("new"), "");
	ck_assert_int_eq(rename(test_path("new"), path), 0);
}

static void move_folder(const char *path)
{
	(void)path;
	ck_assert_int_eq(rename(test_path("d"), test_path("moved")), 0);
}

static void (*const ways[])(const char *path) = { take_away, move_away, replace };

static struct filelock *open_here(void)
{
	(void)mkdir(test_path("d"), 0700);
	return open_patient("d/a");
}

static void watch(struct loop *loop, struct asked *asked)
{
	ck_assert_int_eq(evfilelock_on_lost(loop->ev, asked->lock, loop_note, asked), 0);
	loop_for(loop, 5);
	ck_assert_uint_eq(asked->calls, 0);
}

/* shows: lost */
START_TEST(test_loss_of_a_hold_is_told_once)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	ways[_i](filelock_path(held.lock));
	loop_until(&loop, &held.calls, 1);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	ck_assert_int_eq(filelock_verify(held.lock), FILELOCK_ELOST);
	loop_drain(&loop);
	ck_assert_uint_eq(held.calls, 1);
	(void)filelock_release(held.lock);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_loss_with_the_folder_is_told)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	move_folder(NULL);
	loop_until(&loop, &held.calls, 1);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

static struct filelock *open_below(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	(void)mkdir(test_path("d"), 0700);
	(void)mkdir(test_path("d/e"), 0700);
	options.poll_interval_ms = 5;
	if (test_kind() == FILELOCK_LEASE || test_kind() == FILELOCK_SOFT_READWRITE)
		options.heartbeat_ms = 100;
	return test_open(test_path("d/e/a"), &options);
}

/* No event says so. */
START_TEST(test_loss_with_a_folder_above_is_told)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_below() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	move_folder(NULL);
	loop_until(&loop, &held.calls, 1);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	ck_assert_int_eq(filelock_verify(held.lock), FILELOCK_ELOST);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

/* The path's own folders are made anew. */
START_TEST(test_waiters_below_a_moved_folder_get_the_paths_lock)
{
	struct loop loop = loop_new();
	struct filelock *holder = open_below(), *third = open_below();
	struct asked first = { .lock = open_below() }, second = { .lock = open_below() };

	ck_assert_int_eq(filelock_acquire(holder, EXCLUSIVE, 0), 0);
	loop_ask(&loop, &first, EXCLUSIVE, -1);
	loop_ask(&loop, &second, EXCLUSIVE, -1);
	loop_for(&loop, 20);
	ck_assert_uint_eq(first.calls, 0);
	move_folder(NULL);
	ck_assert_int_eq(loop_answer(&loop, &first), 0);
	ck_assert_int_eq(filelock_verify(first.lock), 0);
	ck_assert_int_eq(filelock_verify(holder), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_acquire(third, EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(holder);
	ck_assert_int_eq(filelock_verify(first.lock), 0);
	ck_assert_int_eq(filelock_release(first.lock), 0);
	ck_assert_int_eq(loop_answer(&loop, &second), 0);
	filelock_close(first.lock);
	filelock_close(second.lock);
	filelock_close(third);
	loop_free(&loop);
}
END_TEST

START_TEST(test_loss_of_a_synchronous_hold_is_told)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };

	ck_assert_int_eq(filelock_acquire(held.lock, EXCLUSIVE, 0), 0);
	watch(&loop, &held);
	take_away(filelock_path(held.lock));
	loop_until(&loop, &held.calls, 1);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

/* A release removes a soft marker itself. */

/* shows: lost */
START_TEST(test_release_ends_the_watch_without_a_call)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	if (_i == 0)
		take_away(filelock_path(held.lock)); /* known, but not yet told */
	if (_i < 2)
		(void)filelock_release(held.lock);
	else
		ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, NULL, NULL), 0);
	if (_i == 2)
		take_away(filelock_path(held.lock));
	loop_drain(&loop);
	ck_assert_uint_eq(held.calls, 0);
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

static void *release_there(void *lock)
{
	ck_assert_int_eq(filelock_release(lock), 0);
	return NULL;
}

/* shows: lost */
START_TEST(test_release_on_another_thread_ends_the_watch)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };
	pthread_t thread;

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	ck_assert_int_eq(pthread_create(&thread, NULL, release_there, held.lock), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	if (_i == 0)
		loop_drain(&loop);
	loop_free(&loop);
	ck_assert_uint_eq(held.calls, 0);
	filelock_close(held.lock);
}
END_TEST

START_TEST(test_context_freed_ends_the_watch)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };

	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	take_away(filelock_path(held.lock));
	loop_free(&loop);
	ck_assert_uint_eq(held.calls, 0);
	ck_assert(filelock_is_held(held.lock));
	(void)filelock_release(held.lock);
	filelock_close(held.lock);
}
END_TEST

START_TEST(test_watch_that_cannot_be_had_is_refused)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };
	struct filelock *borrowed;
	int fd;

	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), -EPERM);
	ck_assert_int_eq(evfilelock_on_lost(NULL, held.lock, loop_note, &held), -EINVAL);
	ck_assert_int_eq(filelock_acquire(held.lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, held.lock, loop_note, &held), -EALREADY);
	filelock_close(held.lock);
	fd = open(test_path("f"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(filelock_open_fd(fd, NULL, &borrowed), 0);
	ck_assert_int_eq(filelock_acquire(borrowed, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(evfilelock_on_lost(loop.ev, borrowed, loop_note, &held), -ENOTSUP);
	filelock_close(borrowed);
	ck_assert_int_eq(close(fd), 0);
	loop_drain(&loop);
	loop_free(&loop);
}
END_TEST

START_TEST(test_loss_is_found_by_a_look_where_nothing_can_be_watched)
{
	struct loop loop = loop_new();
	struct asked held = { .lock = open_here() };

	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(loop_acquire(&loop, held.lock, EXCLUSIVE, -1), 0);
	watch(&loop, &held);
	take_away(filelock_path(held.lock));
	loop_until(&loop, &held.calls, 1);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	fault_clear();
	filelock_close(held.lock);
	loop_free(&loop);
}
END_TEST

struct answer {
	unsigned calls;
	int result;
	pid_t pid;
};

static void note_holder(struct filelock *lock, int result, const struct filelock_owner *owner,
                        void *arg)
{
	struct answer *answer = arg;

	ck_assert_ptr_nonnull(lock);
	ck_assert_int_eq(result == 0, owner != NULL);
	answer->calls++;
	answer->result = result;
	answer->pid = owner ? owner->pid : 0;
}

START_TEST(test_holder_is_asked_from_the_loop)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");
	struct answer answer = { 0 };
	struct peer peer;

	peer_start_holding(&peer, test_path("a"), EXCLUSIVE);
	ck_assert_int_eq(evfilelock_holder(loop.ev, lock, note_holder, &answer), 0);
	ck_assert_uint_eq(answer.calls, 0);
	loop_until(&loop, &answer.calls, 1);
	if (test_locks_are_listed()) {
		ck_assert_int_eq(answer.result, 0);
		ck_assert_int_eq(answer.pid, peer.pid);
	}
	loop_drain(&loop);
	ck_assert_uint_eq(answer.calls, 1);
	peer_stop(&peer);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* The context is gone before the worker has begun, or while it looks. */
START_TEST(test_context_can_be_freed_while_a_worker_looks)
{
	for (int i = 0; i < 100; i++) {
		struct loop loop = loop_with_workers(1);
		struct filelock *lock = open_here();
		struct asked asked = { .lock = lock };

		ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
		ck_assert_int_eq(evfilelock_on_lost(loop.ev, lock, loop_note, &asked), 0);
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0); /* a worker has it */
		evfilelock_free(loop.ev);
		filelock_close(lock);
		event_base_free(loop.base);
	}
}
END_TEST

START_TEST(test_question_is_answered_when_the_context_is_freed)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");
	struct answer answer = { 0 };

	ck_assert_int_eq(evfilelock_holder(loop.ev, lock, note_holder, &answer), 0);
	loop_free(&loop);
	ck_assert_uint_eq(answer.calls, 1);
	ck_assert_int_eq(answer.result, -ECANCELED);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("lost", test_loss_with_the_folder_is_told,
	                     test_loss_with_a_folder_above_is_told,
	                     test_waiters_below_a_moved_folder_get_the_paths_lock,
	                     test_loss_of_a_synchronous_hold_is_told,
	                     test_context_freed_ends_the_watch,
	                     test_context_can_be_freed_while_a_worker_looks,
	                     test_watch_that_cannot_be_had_is_refused,
	                     test_loss_is_found_by_a_look_where_nothing_can_be_watched,
	                     test_holder_is_asked_from_the_loop,
	                     test_question_is_answered_when_the_context_is_freed);
	TCase *tcase = tcase_create("ways");

	tcase_add_loop_test(tcase, test_loss_of_a_hold_is_told_once, 0, 3);
	tcase_add_loop_test(tcase, test_release_ends_the_watch_without_a_call, 0, 3);
	tcase_add_loop_test(tcase, test_release_on_another_thread_ends_the_watch, 0, 2);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
