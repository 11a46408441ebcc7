/*
 * The end of a soft lock's holder, where its marker cannot tell: no watch is to be had, or nobody
 * has it open, so that nobody will close it. Then the process that the record names is watched, as
 * a hint, and the lock is had without a poll.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "driver_private.h"
#include "softly.h"
#include "base/sys.h"

/* Why the marker will not tell. */
enum way { NOBODY_HAS_IT_OPEN, NO_WATCHES, NO_INSTANCES, WAYS };

static char path[4096];

/* False: this system has no pidfds (nor has valgrind), and the test is skipped. */
static bool set_up(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	if (fd < 0) {
		test_skip("no pidfd_open(2) here");
		return false;
	}
	close(fd);
	return true;
}

static void take_watches(enum way way)
{
	if (way == NO_WATCHES)
		fault_set(FAULT_inotify_add_watch, 1, FAULT_FOR_GOOD, ENOSPC);
	if (way == NO_INSTANCES)
		fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
}

/* A process with a marker at the path, which lasts until it is killed. */
static void start_holder(struct peer *holder, enum way way)
{
	if (way != NOBODY_HAS_IT_OPEN) {
		peer_start_holding(holder, path, FILELOCK_EXCLUSIVE);
		return;
	}
	peer_start(holder);
	put_record(path, holder->pid, NULL);
}

static int lose_watches_and_time(void *arg)
{
	clock_fake(test_now()); /* it stands, and no attempt is due but by a wake-up */
	take_watches(*(enum way *)arg);
	return 0;
}

/* shows: death-wakes */
START_TEST(test_death_wakes_a_waiter_though_the_marker_cannot_tell)
{
	struct filelock_options options = rarely();
	enum way *way = test_shared(sizeof(*way));
	struct peer holder, waiter;

	if (!set_up())
		return;
	*way = (enum way)_i;
	start_holder(&holder, *way);
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, path, &options), 0);
	ck_assert_int_eq(peer_call(&waiter, lose_watches_and_time, way), 0);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&waiter);
	ck_assert_int_eq(kill(holder.pid, SIGKILL), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(test_reap(holder.pid), 128 + SIGKILL);
	peer_stop(&waiter);
}
END_TEST

static unsigned wakes;

static void note_wake(struct filelock *lock, void *arg)
{
	(void)lock;
	(void)arg;
	wakes++;
}

static struct filelock_driver driver = { .woken = note_wake };

/* Steps an acquisition of the path until it has nothing to do but wait; how many steps it took. */
static unsigned start_waiting(struct filelock **ret_lock, const char *of)
{
	struct filelock_options options = rarely();
	int64_t until = 0, now = filelock_now();
	unsigned steps = 0;

	*ret_lock = test_open(of, &options);
	ck_assert_int_eq(filelock_begin(*ret_lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver,
	                                NULL), 0);
	for (; until <= now; steps++)
		ck_assert_int_gt(filelock_step(*ret_lock, now, &until), 0);
	return steps;
}

static void end_waiting(struct filelock *lock)
{
	(void)filelock_give_up(lock, -ECANCELED);
	filelock_close(lock);
	filelock_watcher_tidy(driver.watcher);
}

static bool is_readable(void)
{
	struct pollfd fd = { filelock_watcher_fd(driver.watcher), POLLIN, 0 };

	return poll(&fd, 1, 0) > 0;
}

static unsigned dispatch(void)
{
	wakes = 0;
	filelock_watcher_dispatch(driver.watcher);
	return wakes;
}

/* Open descriptors of this process whose names contain a word. */
static unsigned descriptors_of(const char *word)
{
	char name[64], target[64];
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++) {
		ssize_t n;

		(void)snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		n = readlink(name, target, sizeof(target) - 1);
		if (n <= 0)
			continue;
		target[n] = '\0';
		count += strstr(target, word) != NULL;
	}
	return count;
}

static unsigned pidfds(void)
{
	return descriptors_of("pidfd");
}

START_TEST(test_marker_that_can_tell_needs_no_pidfd)
{
	struct filelock *waiter;
	struct peer holder;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	peer_start_holding(&holder, path, FILELOCK_EXCLUSIVE);
	(void)start_waiting(&waiter, path);
	ck_assert_uint_eq(pidfds(), 0);
	end_waiting(waiter);
	filelock_watcher_free(driver.watcher);
	peer_stop(&holder);
}
END_TEST

START_TEST(test_one_pidfd_serves_all_locks_of_a_process_and_goes_when_it_ends)
{
	enum { LOCKS = 3 };
	struct filelock *waiting[LOCKS];
	struct peer holder;
	char name[16];

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	peer_start(&holder);
	for (int i = 0; i < LOCKS; i++) {
		(void)snprintf(name, sizeof(name), "lock%d", i);
		put_record(test_path(name), holder.pid, NULL);
		(void)start_waiting(&waiting[i], test_path(name));
	}
	ck_assert_uint_eq(pidfds(), 1);
	ck_assert_uint_eq(dispatch(), 0);
	peer_kill(&holder, SIGKILL);
	ck_assert(is_readable());
	ck_assert_uint_eq(dispatch(), LOCKS);
	/* else a loop would spin on it */
	ck_assert(!is_readable());
	ck_assert_uint_eq(pidfds(), 0);
	for (int i = 0; i < LOCKS; i++) {
		int64_t until;

		ck_assert_int_eq(filelock_step(waiting[i], filelock_now(), &until), 0);
		filelock_close(waiting[i]);
	}
	filelock_watcher_tidy(driver.watcher);
	filelock_watcher_free(driver.watcher);
}
END_TEST

/* The record's pid is a live process, which is not the one that is meant: held it is by its flock. */
START_TEST(test_process_of_another_start_is_not_watched)
{
	static const char *const tokens[] = { "12345", NULL };
	struct peer holder, bystander;
	struct filelock *waiter;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	peer_start_holding(&holder, path, FILELOCK_EXCLUSIVE);
	peer_start(&bystander);
	put_record(path, bystander.pid, tokens[_i]);
	take_watches(NO_INSTANCES);
	(void)start_waiting(&waiter, path);
	filelock_watcher_tidy(driver.watcher);
	ck_assert_uint_eq(pidfds(), tokens[_i] ? 0 : 1);
	peer_kill(&bystander, SIGKILL);
	ck_assert_uint_eq(dispatch(), tokens[_i] ? 0 : 1);
	end_waiting(waiter);
	filelock_watcher_free(driver.watcher);
	peer_kill(&holder, SIGKILL);
}
END_TEST

/* The hint names no process, as with a holder in another PID namespace: it costs one attempt. */
START_TEST(test_process_that_is_not_there_is_asked_for_once)
{
	struct filelock *waiter;
	struct peer holder;
	int64_t until;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	peer_start_holding(&holder, path, FILELOCK_EXCLUSIVE);
	put_record(path, dead_pid(), NULL);
	take_watches(NO_WATCHES);
	ck_assert_uint_le(start_waiting(&waiter, path), 3);
	ck_assert_uint_eq(fault_calls(FAULT_pidfd_open), 1);
	for (int i = 0; i < 5; i++) {
		filelock_hasten(waiter);
		ck_assert_int_gt(filelock_step(waiter, filelock_now(), &until), 0);
	}
	ck_assert_uint_eq(fault_calls(FAULT_pidfd_open), 1);
	end_waiting(waiter);
	filelock_watcher_free(driver.watcher);
	peer_kill(&holder, SIGKILL);
}
END_TEST

static void kill_holder(void *arg)
{
	peer_kill(arg, SIGKILL);
}

/* It was alive when it was judged, and is gone when it is to be watched. */
START_TEST(test_death_between_judging_and_watching_is_not_missed)
{
	struct filelock_options options = rarely();
	int64_t until = 0, now = filelock_now();
	struct filelock *waiter;
	struct peer holder;
	int r;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	start_holder(&holder, NOBODY_HAS_IT_OPEN);
	waiter = test_open(path, &options);
	fault_before(_i ? FAULT_pidfd_open : FAULT_epoll_ctl, 1, kill_holder, &holder);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, NULL),
	                 0);
	do
		r = filelock_step(waiter, now, &until);
	while (r > 0 && until <= now);
	ck_assert_int_eq(r, FILELOCK_STEP_HELD);
	ck_assert_uint_eq(fault_hits(_i ? FAULT_pidfd_open : FAULT_epoll_ctl), 1);
	filelock_close(waiter);
	filelock_watcher_free(driver.watcher);
}
END_TEST

/* The descriptor to wait on becomes another one, and tells what both tell. */
START_TEST(test_watcher_of_processes_tells_of_files_too)
{
	struct filelock *held = NULL, *waiters[2];
	struct peer holder;
	int before;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	start_holder(&holder, NOBODY_HAS_IT_OPEN);
	held = test_open(test_path("held"), NULL);
	ck_assert_int_eq(filelock_acquire(held, FILELOCK_EXCLUSIVE, 0), 0);
	/* in both orders of inotify and epoll */
	if (_i == 1)
		fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	(void)start_waiting(&waiters[_i], _i ? path : test_path("held"));
	before = filelock_watcher_fd(driver.watcher);
	fault_clear();
	(void)start_waiting(&waiters[!_i], _i ? test_path("held") : path);
	ck_assert(filelock_watcher_fd(driver.watcher) != before || _i == 1);
	ck_assert(!is_readable());
	ck_assert_int_eq(filelock_release(held), 0);
	ck_assert(is_readable());
	ck_assert_uint_ge(dispatch(), 1);
	ck_assert(!is_readable());
	peer_kill(&holder, SIGKILL);
	ck_assert(is_readable());
	ck_assert_uint_eq(dispatch(), 1);
	end_waiting(waiters[0]);
	end_waiting(waiters[1]);
	filelock_close(held);
	filelock_watcher_free(driver.watcher);
}
END_TEST

/* Judged by its record first; then another one stands there, which is not ours to read. */
START_TEST(test_marker_that_became_unreadable_names_nobody_to_watch)
{
	struct filelock *waiter;
	struct peer holder;
	int64_t until;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	start_holder(&holder, NOBODY_HAS_IT_OPEN);
	(void)start_waiting(&waiter, path);
	ck_assert_uint_eq(pidfds(), 1);
	put_record(test_path("another"), holder.pid, NULL);
	ck_assert_int_eq(rename(test_path("another"), path), 0);
	fault_set(FAULT_open, 1, FAULT_FOR_GOOD, EACCES);
	filelock_hasten(waiter);
	ck_assert_int_gt(filelock_step(waiter, filelock_now(), &until), 0);
	ck_assert_uint_eq(fault_calls(FAULT_pread), 0);
	fault_clear();
	filelock_watcher_tidy(driver.watcher);
	ck_assert_uint_eq(pidfds(), 0);
	/* it is still found when it goes */
	(void)dispatch();
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_uint_eq(dispatch(), 1);
	ck_assert_int_eq(filelock_step(waiter, filelock_now(), &until), FILELOCK_STEP_HELD);
	filelock_close(waiter);
	filelock_watcher_tidy(driver.watcher);
	filelock_watcher_free(driver.watcher);
	peer_kill(&holder, SIGKILL);
}
END_TEST

static int count_descriptors(void *arg)
{
	(void)arg;
	return (int)(pidfds() + descriptors_of("inotify") + descriptors_of("eventpoll"));
}

static int free_the_watcher(void *arg)
{
	end_waiting(arg);
	filelock_watcher_free(driver.watcher);
	return 0;
}

START_TEST(test_forked_child_has_no_descriptor_and_takes_no_hint_from_its_parent)
{
	struct filelock *waiter;
	struct peer holder;

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	start_holder(&holder, NOBODY_HAS_IT_OPEN);
	(void)start_waiting(&waiter, path);
	ck_assert_uint_eq(pidfds(), 1);
	ck_assert_uint_eq(descriptors_of("inotify") + descriptors_of("eventpoll"), 2);
	ck_assert_int_eq(test_in_child(count_descriptors, NULL), 0);
	ck_assert_int_eq(test_in_child(free_the_watcher, waiter), 0);
	ck_assert_uint_eq(dispatch(), 0);
	peer_kill(&holder, SIGKILL);
	ck_assert_uint_eq(dispatch(), 1);
	end_waiting(waiter);
	filelock_watcher_free(driver.watcher);
}
END_TEST

static const enum fault_call calls[] = { FAULT_pidfd_open, FAULT_epoll_create1, FAULT_epoll_ctl,
	                                 FAULT_epoll_wait, FAULT_calloc };
enum { CALLS = sizeof(calls) / sizeof(calls[0]), NTH = 4 };

/* Any failure costs the hint only: the next poll gets the lock, and nothing is left. */
/* shows: poll-stays */
START_TEST(test_failing_hint_leaves_the_poll)
{
	enum fault_span span = _i % 2 ? FAULT_FOR_GOOD : FAULT_ONCE;
	unsigned nth = (unsigned)_i / 2 % NTH + 1, before = test_descriptors();
	enum fault_call call = calls[_i / 2 / NTH];
	struct filelock *waiter = NULL;
	struct peer holder;
	int64_t until, now = filelock_now();

	if (!set_up())
		return;
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	start_holder(&holder, NOBODY_HAS_IT_OPEN);
	waiter = test_open(path, NULL);
	ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, NULL),
	                 0);
	fault_set(call, nth, span, call == FAULT_epoll_ctl ? ENOSPC : EMFILE);
	for (until = now; until <= now;)
		ck_assert_int_gt(filelock_step(waiter, now, &until), 0);
	peer_kill(&holder, SIGKILL);
	(void)dispatch();
	ck_assert(!is_readable() || filelock_watcher_load(driver.watcher) == 0);
	ck_assert_int_eq(filelock_step(waiter, wakes ? now : until, &until), 0);
	fault_clear();
	filelock_close(waiter);
	filelock_watcher_tidy(driver.watcher);
	filelock_watcher_free(driver.watcher);
	close(holder.orders);
	close(holder.answers);
	ck_assert_uint_le(test_descriptors(), before);
}
END_TEST

int main(void)
{
	TCase *loops = tcase_create("loops");
	Suite *suite;

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	suite = SUITE("soft hint", test_marker_that_can_tell_needs_no_pidfd,
	              test_one_pidfd_serves_all_locks_of_a_process_and_goes_when_it_ends,
	              test_process_that_is_not_there_is_asked_for_once,
	              test_marker_that_became_unreadable_names_nobody_to_watch,
	              test_forked_child_has_no_descriptor_and_takes_no_hint_from_its_parent);
	tcase_add_loop_test(loops, test_death_wakes_a_waiter_though_the_marker_cannot_tell, 0,
	                    WAYS);
	tcase_add_loop_test(loops, test_process_of_another_start_is_not_watched, 0, 2);
	tcase_add_loop_test(loops, test_death_between_judging_and_watching_is_not_missed, 0, 2);
	tcase_add_loop_test(loops, test_watcher_of_processes_tells_of_files_too, 0, 2);
	tcase_add_loop_test(loops, test_failing_hint_leaves_the_poll, 0, CALLS * NTH * 2);
	suite_add_tcase(suite, loops);
	return support_main(suite);
}
