/* Attempts and releases on the threads of a context, beside files whose calls do not return. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "fuse.h"
#include "set.h"
#include "base/sys.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static void release_here(struct loop *loop, struct asked *asked)
{
	asked->calls = 0;
	ck_assert_int_eq(evfilelock_release(loop->ev, asked->lock, loop_note, asked), 0);
	ck_assert_uint_eq(asked->calls, 0);
	loop_until(loop, &asked->calls, 1);
}

/* Calls on the disk by the loop's thread. */
static pthread_t loop_thread;
static struct sys_table real;
static atomic_uint calls_in_loop;

static void note_call(void)
{
	calls_in_loop += pthread_equal(pthread_self(), loop_thread) != 0;
}

static int noted_open(const char *path, int flags, mode_t mode)
{
	note_call();
	return real.open(path, flags, mode);
}

/* The context has descriptors of its own, which are no files. */
static int noted_close(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		note_call();
	return real.close(fd);
}

static int noted_flock(int fd, int operation)
{
	note_call();
	return real.flock(fd, operation);
}

static int noted_lstat(const char *path, struct stat *ret)
{
	note_call();
	return real.lstat(path, ret);
}

static int noted_add_watch(int fd, const char *path, uint32_t mask)
{
	note_call();
	return real.inotify_add_watch(fd, path, mask);
}

/* To the end of the test: a worker may be at it yet. */
static void note_calls(void)
{
	loop_thread = pthread_self();
	real = sys;
	sys.open = noted_open;
	sys.close = noted_close;
	sys.flock = noted_flock;
	sys.lstat = noted_lstat;
	sys.inotify_add_watch = noted_add_watch;
}

/* shows: workers */
START_TEST(test_loop_makes_no_call_on_a_lock_file)
{
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("a") } };
	struct loop loop = loop_with_workers(2);

	note_calls();
	for (unsigned i = 0; i < 2; i++)
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	for (unsigned i = 0; i < 2; i++) {
		loop_until(&loop, &asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, 0);
		release_here(&loop, &asked[i]);
		ck_assert_int_eq(asked[i].result, 0);
	}
	ck_assert_uint_eq(calls_in_loop, 0);
	ck_assert(is_free("a"));
	for (unsigned i = 0; i < 2; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

/* A set that has got two of its locks and waits for the third. */
static void wait_with_most_of_a_set(struct loop *loop, struct asked_set *asked)
{
	note_calls();
	set_ask(loop, asked, -1);
	set_reach(loop, asked, 2);
}

/* shows: workers */
START_TEST(test_failed_set_is_given_back_without_a_call_in_the_loop)
{
	struct filelock *holder = hold("c", EXCLUSIVE);
	struct loop loop = loop_with_workers(2);
	struct asked_set asked = set_open("abc");

	wait_with_most_of_a_set(&loop, &asked);
	set_cancel(&asked);
	ck_assert_int_eq(set_answer(&loop, &asked), -ECANCELED);
	ck_assert_uint_eq(calls_in_loop, 0);
	ck_assert_uint_eq(set_held(&asked), 0);
	ck_assert(is_free("a") && is_free("b"));
	set_close(&asked);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_freeing_the_context_of_a_set_makes_no_call_in_the_loop)
{
	struct filelock *holder = hold("c", EXCLUSIVE);
	struct loop loop = loop_with_workers(2);
	struct asked_set asked = set_open("abc");

	wait_with_most_of_a_set(&loop, &asked);
	evfilelock_free(loop.ev);
	loop.ev = NULL;
	ck_assert_uint_eq(calls_in_loop, 0);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	set_close(&asked);
	while (!is_free("a") || !is_free("b"))
		test_nap(); /* a worker is at it */
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

START_TEST(test_waiting_on_a_worker_is_woken_by_the_release)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop = loop_with_workers(1);
	struct filelock *holder = hold("a", EXCLUSIVE);

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 50);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static struct filelock *open_there(const struct fuse *fuse, const char *name)
{
	return test_open(fuse_path(fuse, name), NULL);
}

/* A request whose attempt never returns. */
static void ask_stuck(struct fuse *fuse, struct loop *loop, struct asked *asked, int timeout_ms)
{
	asked->lock = open_there(fuse, "lock.db");
	fuse->delay_ms = 3600000; /* no answer: a mount that is dead */
	loop_ask(loop, asked, EXCLUSIVE, timeout_ms);
	while (fuse->under_way == 0)
		loop_for(loop, 1);
}

/* The mount works again, and in the end nobody has the lock. */
static void check_nothing_is_left(struct fuse *fuse)
{
	struct filelock *lock;

	fuse->delay_ms = 0;
	lock = open_there(fuse, "lock.db");
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 50000), 0);
	filelock_close(lock);
}

/* shows: workers */
START_TEST(test_deadline_is_kept_while_a_call_does_not_return)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_LOCAL);
	struct asked stuck = { 0 };
	struct loop loop;

	if (!fuse)
		return;
	loop = loop_with_workers(1);
	ask_stuck(fuse, &loop, &stuck, 20);
	loop_until(&loop, &stuck.calls, 1);
	ck_assert_int_eq(stuck.result, -ETIMEDOUT);
	filelock_close(stuck.lock);
	check_nothing_is_left(fuse);
	loop_free(&loop);
	fuse_stop(fuse);
}
END_TEST

static void note_holder(struct filelock *lock, int result, const struct filelock_owner *owner,
                        void *arg)
{
	(void)lock, (void)owner;
	ck_assert_int_eq(result, -ECANCELED);
	(*(unsigned *)arg)++;
}

/* Everything that a callback may call on the locks of a mount that is dead by now. */
struct visit {
	struct loop *loop;
	struct fuse *fuse;
	struct filelock *held, *other;
	struct asked asked, released;
	unsigned holders;
};

static void call_everything(struct asked *asked)
{
	struct visit *visit = asked->arg;
	struct evfilelock *ev = visit->loop->ev;
	char text[256];

	visit->fuse->delay_ms = 3600000;
	ck_assert_int_eq(evfilelock_on_lost(ev, visit->held, loop_note, asked), 0);
	ck_assert_int_eq(evfilelock_holder(ev, visit->held, note_holder, &visit->holders), 0);
	ck_assert_int_eq(evfilelock_acquire(ev, visit->other, EXCLUSIVE, NULL, loop_note,
	                                    &visit->asked),
	                 0);
	ck_assert_int_eq(evfilelock_cancel(ev, visit->other), 0);
	ck_assert_int_eq(evfilelock_release(ev, visit->held, loop_note, &visit->released), 0);
	(void)snprintf(text, sizeof(text), "%s", filelock_last_error(visit->other));
}

/* shows: workers */
START_TEST(test_callback_on_a_dead_mount_returns)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_LOCAL);
	struct asked first = { .then = call_everything };
	struct visit visit = { .fuse = fuse, .asked = { 0 } };
	struct loop loop;

	if (!fuse)
		return;
	loop = loop_with_workers(2);
	visit.loop = &loop;
	visit.held = first.lock = open_there(fuse, "lock.db");
	visit.other = open_there(fuse, "other.db");
	visit.asked.lock = visit.other;
	visit.released.lock = visit.held;
	first.arg = &visit;
	loop_ask(&loop, &first, EXCLUSIVE, -1);
	loop_until(&loop, &visit.asked.calls, 1);
	ck_assert_int_eq(visit.asked.result, -ECANCELED);
	loop_free(&loop); /* nor does this wait */
	ck_assert_uint_eq(visit.holders, 1);
	ck_assert_uint_eq(visit.released.calls, 1);
	fuse->delay_ms = 0;
	filelock_close(visit.held);
	filelock_close(visit.other);
	fuse_stop(fuse);
}
END_TEST

/* shows: workers */
START_TEST(test_stuck_path_costs_one_worker_however_often_it_is_asked_for)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_LOCAL);
	struct asked stuck = { 0 }, other = { 0 };
	struct loop loop;

	if (!fuse)
		return;
	loop = loop_with_workers(2);
	ask_stuck(fuse, &loop, &stuck, -1);
	for (unsigned i = 0; i < 5; i++) {
		ask_cancel(&stuck);
		loop_until(&loop, &stuck.calls, i + 1);
		ck_assert_int_eq(stuck.result, -ECANCELED);
		loop_ask(&loop, &stuck, EXCLUSIVE, -1);
		loop_for(&loop, 5);
	}
	other.lock = open_patient("a");
	loop_ask(&loop, &other, EXCLUSIVE, -1);
	loop_until(&loop, &other.calls, 1);
	ck_assert_int_eq(other.result, 0);
	ck_assert_uint_eq(stuck.calls, 5);
	fuse->delay_ms = 0;
	loop_until(&loop, &stuck.calls, 6);
	ck_assert_int_eq(stuck.result, 0);
	filelock_close(stuck.lock);
	filelock_close(other.lock);
	loop_free(&loop);
	fuse_stop(fuse);
}
END_TEST

/* shows: workers */
START_TEST(test_cancel_does_not_wait_for_a_worker)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_LOCAL);
	struct asked stuck = { 0 };
	struct loop loop;

	if (!fuse)
		return;
	loop = loop_with_workers(1);
	ask_stuck(fuse, &loop, &stuck, -1);
	ask_cancel(&stuck);
	loop_drain(&loop); /* and nothing keeps the loop */
	ck_assert_uint_eq(stuck.calls, 1);
	ck_assert_int_eq(stuck.result, -ECANCELED);
	filelock_close(stuck.lock);
	check_nothing_is_left(fuse);
	loop_free(&loop);
	fuse_stop(fuse);
}
END_TEST

/* shows: workers */
START_TEST(test_free_does_not_wait_for_a_worker)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_LOCAL);
	struct asked stuck = { 0 };
	struct loop loop;

	if (!fuse)
		return;
	loop = loop_with_workers(1);
	ask_stuck(fuse, &loop, &stuck, -1);
	loop_free(&loop);
	ck_assert_int_eq(stuck.result, -ECANCELED);
	filelock_close(stuck.lock);
	check_nothing_is_left(fuse);
	fuse_stop(fuse);
}
END_TEST

static int do_nothing(void *arg)
{
	(void)arg;
	return 0;
}

/* shows: workers */
START_TEST(test_fork_does_not_wait_for_an_open_that_is_stuck)
{
	struct fuse *fuse;
	struct asked stuck = { 0 };
	struct loop loop;

	fuse = fuse_start(FUSE_FLOCK_LOCAL);
	if (!fuse)
		return;
	loop = loop_with_workers(1);
	ask_stuck(fuse, &loop, &stuck, -1);
	ck_assert_int_eq(test_in_child(do_nothing, NULL), 0);
	ck_assert_uint_gt(fuse->under_way, 0);
	loop_free(&loop);
	filelock_close(stuck.lock);
	check_nothing_is_left(fuse);
	fuse_stop(fuse);
}
END_TEST

static void count_tick(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	++*(_Atomic unsigned *)arg;
}

/* Each call takes two ticks of the loop: one that waited for a call would wait for ever. */
/* shows: workers */
START_TEST(test_loop_goes_on_while_calls_are_slow)
{
	struct fuse *fuse = fuse_start(FUSE_FLOCK_FORWARDED);
	static const struct timeval often = { 0, 10000 };
	struct asked slow = { 0 };
	struct event *timer;
	struct loop loop;
	unsigned ticks;

	if (!fuse)
		return;
	loop = loop_with_workers(1);
	slow.lock = open_there(fuse, "lock.db");
	fuse->ticks_each = 2;
	timer = event_new(loop.base, -1, EV_PERSIST, count_tick, (void *)&fuse->ticks);
	ck_assert_int_eq(event_add(timer, &often), 0);
	loop_ask(&loop, &slow, EXCLUSIVE, -1);
	loop_until(&loop, &slow.calls, 1);
	ck_assert_int_eq(slow.result, 0);
	ticks = fuse->ticks;
	ck_assert_uint_ge(ticks, 4); /* some calls were made */
	release_here(&loop, &slow);
	ck_assert_int_eq(slow.result, 0);
	ck_assert_uint_ge(fuse->ticks - ticks, 2);
	event_free(timer);
	fuse->ticks_each = 0;
	filelock_close(slow.lock);
	loop_free(&loop);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_release_that_fails_leaves_the_lock_held)
{
	struct asked asked = { 0 };
	struct loop loop;

	if (test_is_not_native())
		return;
	asked.lock = open_patient("a");
	fault_watch(); /* before there are workers */
	loop = loop_with_workers(1);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_until(&loop, &asked.calls, 1);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	release_here(&loop, &asked);
	ck_assert_int_eq(asked.result, -EIO);
	fault_clear();
	ck_assert(filelock_is_held(asked.lock));
	ck_assert(!is_free("a"));
	release_here(&loop, &asked);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_release_of_a_level_keeps_the_lock)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop = loop_with_workers(1);

	ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(asked.lock, EXCLUSIVE, 0), 0);
	release_here(&loop, &asked);
	ck_assert_int_eq(asked.result, 0);
	ck_assert_uint_eq(filelock_depth(asked.lock), 1);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_handle_may_be_closed_while_it_is_released)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop = loop_with_workers(1);

	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	filelock_close(asked.lock);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(is_free("a"));
	loop_free(&loop);
}
END_TEST

START_TEST(test_context_may_be_freed_while_it_releases)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop = loop_with_workers(1);

	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	loop_free(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert(asked.result == -ECANCELED || asked.result == 0);
	await(is_free("a"));
	filelock_close(asked.lock);
}
END_TEST

/* It has neither the threads nor their work, but the descriptors. */
static int free_in_child(void *arg)
{
	struct asked *asked = arg;
	struct loop *loop = asked->arg;
	unsigned before = test_descriptors();

	evfilelock_free(loop->ev);
	if (test_descriptors() >= before)
		return 1;
	event_base_free(loop->base);
	filelock_close(asked->lock);
	return asked->calls == 0 ? 0 : 2;
}

START_TEST(test_context_with_workers_may_be_freed_in_a_child)
{
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct loop loop = loop_with_workers(1);
	struct asked asked = { .lock = open_patient("a"), .arg = &loop };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_int_eq(test_in_child(free_in_child, &asked), 0);
	ck_assert_uint_eq(asked.calls, 0);
	filelock_close(holder);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_without_workers_a_release_is_answered_by_the_loop)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop = loop_new();

	release_here(&loop, &asked);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(is_free("a"));
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), -EPERM);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, NULL, NULL), -EINVAL);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_error_of_an_attempt_comes_through)
{
	struct asked asked = { 0 };
	struct loop loop;

	if (test_is_beside_its_path())
		return;
	loop = loop_with_workers(1);
	ck_assert_int_eq(symlink("nowhere", test_path("d.db")), 0);
	asked.lock = test_open(test_path("d.db"), NULL);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_until(&loop, &asked.calls, 1);
	ck_assert_int_eq(asked.result, -ELOOP);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "workers", test_loop_makes_no_call_on_a_lock_file,
	        test_failed_set_is_given_back_without_a_call_in_the_loop,
	        test_freeing_the_context_of_a_set_makes_no_call_in_the_loop,
	        test_waiting_on_a_worker_is_woken_by_the_release,
	        test_deadline_is_kept_while_a_call_does_not_return,
	        test_callback_on_a_dead_mount_returns,
	        test_stuck_path_costs_one_worker_however_often_it_is_asked_for,
	        test_cancel_does_not_wait_for_a_worker, test_free_does_not_wait_for_a_worker,
	        test_fork_does_not_wait_for_an_open_that_is_stuck,
	        test_loop_goes_on_while_calls_are_slow,
	        test_release_that_fails_leaves_the_lock_held,
	        test_release_of_a_level_keeps_the_lock,
	        test_handle_may_be_closed_while_it_is_released,
	        test_context_may_be_freed_while_it_releases,
	        test_context_with_workers_may_be_freed_in_a_child,
	        test_without_workers_a_release_is_answered_by_the_loop,
	        test_error_of_an_attempt_comes_through));
}
