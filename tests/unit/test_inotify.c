/* The watcher, driven by hand: events that wake a waiter, and others; nothing is left behind. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "driver_private.h"
#include "support.h"
#include "base/sys.h"

static struct filelock *holder;
static unsigned wakes;
static struct filelock *woken_lock;

static void note_wake(struct filelock *lock, void *arg)
{
	ck_assert_ptr_eq(arg, &wakes);
	woken_lock = lock;
	wakes++;
}

static struct filelock_driver driver = { .woken = note_wake };

static void set_up(void)
{
	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	holder = test_open(test_path("lock"), NULL);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
}

static void tear_down(void)
{
	filelock_close(holder);
	filelock_watcher_free(driver.watcher);
}

static void wait_with(struct filelock *lock)
{
	int64_t until, now = filelock_now();

	ck_assert_int_eq(filelock_begin(lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver, &wakes),
	                 0);
	do
		ck_assert_int_eq(filelock_step(lock, now, &until), FILELOCK_STEP_WAIT);
	while (until <= now);
}

/* A handle that waits with its watch set. */
static struct filelock *start_waiting(const char *path)
{
	struct filelock *lock = test_open(path, NULL);

	wait_with(lock);
	return lock;
}

static void end_waiting(struct filelock *lock)
{
	(void)filelock_give_up(lock, -ECANCELED);
	filelock_watcher_tidy(driver.watcher);
	filelock_close(lock);
}

static int step(struct filelock *lock)
{
	int64_t until;

	return filelock_step(lock, filelock_now(), &until);
}

static bool is_readable(void)
{
	struct pollfd fd = { filelock_watcher_fd(driver.watcher), POLLIN, 0 };

	return poll(&fd, 1, 0) > 0;
}

static unsigned dispatch(void)
{
	unsigned before = wakes;

	filelock_watcher_dispatch(driver.watcher);
	return wakes - before;
}

START_TEST(test_watcher_has_no_descriptor_until_somebody_waits)
{
	struct filelock *waiter;
	unsigned descriptors;

	set_up();
	descriptors = test_descriptors();
	ck_assert_int_eq(filelock_watcher_fd(driver.watcher), -1);
	ck_assert_uint_eq(dispatch(), 0);
	waiter = start_waiting(test_path("lock"));
	ck_assert_int_ge(filelock_watcher_fd(driver.watcher), 0);
	ck_assert_uint_eq(test_descriptors(), descriptors + 2); /* the lock file, inotify */
	end_waiting(waiter);
	ck_assert_uint_eq(test_descriptors(), descriptors + 1); /* inotify is kept */
	tear_down();
}
END_TEST

START_TEST(test_release_wakes_the_waiter_and_its_next_step_holds)
{
	struct filelock *waiter;

	set_up();
	clock_fake(filelock_now()); /* no attempt is due by itself */
	waiter = start_waiting(test_path("lock"));
	ck_assert(!is_readable());
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert(is_readable());
	ck_assert_uint_ge(dispatch(), 1);
	ck_assert_ptr_eq(woken_lock, waiter);
	ck_assert_int_eq(step(waiter), FILELOCK_STEP_HELD);
	filelock_watcher_tidy(driver.watcher);
	filelock_close(waiter);
	tear_down();
}
END_TEST

/* The descriptor stays open: no close of ours tells the waiters. */
START_TEST(test_release_of_a_callers_descriptor_wakes_the_waiter)
{
	struct filelock *borrower = NULL, *waiter;
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	set_up();
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(filelock_open_fd(fd, NULL, &borrower), 0);
	ck_assert_int_eq(filelock_acquire(borrower, FILELOCK_EXCLUSIVE, 0), 0);
	waiter = start_waiting(test_path("lock"));
	(void)dispatch();
	ck_assert_int_eq(filelock_release(borrower), 0);
	ck_assert_uint_ge(dispatch(), 1);
	ck_assert_int_eq(step(waiter), FILELOCK_STEP_HELD);
	filelock_close(waiter);
	filelock_close(borrower);
	close(fd);
	tear_down();
}
END_TEST

/* As while a fork has not yet come to its handlers in the child: a bare clone(2) runs none. */
static pid_t clone_with_descriptors(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	ck_assert_int_ge(pid, 0);
	while (pid == 0)
		pause();
	return pid;
}

static int exit_at_once(void *arg)
{
	(void)arg;
	return 0;
}

START_TEST(test_release_while_a_child_has_the_file_open_wakes_the_waiter)
{
	struct filelock *waiter;
	pid_t child;

	set_up();
	child = clone_with_descriptors();
	ck_assert_int_eq(test_in_child(exit_at_once, NULL), 0); /* a fork that we know of */
	waiter = start_waiting(test_path("lock"));
	(void)dispatch();
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_uint_ge(dispatch(), 1);
	ck_assert_int_eq(step(waiter), FILELOCK_STEP_HELD);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(test_reap(child), 128 + SIGKILL);
	filelock_close(waiter);
	tear_down();
}
END_TEST

START_TEST(test_own_attempts_wake_nobody)
{
	struct filelock *a, *b;

	set_up();
	a = start_waiting(test_path("lock"));
	b = start_waiting(test_path("lock"));
	(void)dispatch(); /* what b's coming may have raised */
	for (int i = 0; i < 20; i++) {
		filelock_hasten(a);
		ck_assert_int_eq(step(a), FILELOCK_STEP_WAIT);
		filelock_hasten(b);
		ck_assert_int_eq(step(b), FILELOCK_STEP_WAIT);
	}
	ck_assert(!is_readable());
	end_waiting(a);
	end_waiting(b);
	tear_down();
}
END_TEST

START_TEST(test_waiters_of_one_file_share_a_watch_and_each_is_woken)
{
	struct filelock *a, *b;

	set_up();
	a = start_waiting(test_path("lock"));
	b = start_waiting(test_path("lock"));
	ck_assert_uint_eq(test_watches(), 1);
	ck_assert_uint_eq(filelock_watcher_load(driver.watcher), 2);
	(void)dispatch();
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_uint_ge(dispatch(), 2);
	end_waiting(a);
	ck_assert_uint_eq(test_watches(), 1); /* b's */
	end_waiting(b);
	ck_assert_uint_eq(test_watches(), 0);
	ck_assert_uint_eq(filelock_watcher_load(driver.watcher), 0);
	tear_down();
}
END_TEST

/* One inode, two names: inotify gives one watch for both, and one removal would end both. */
START_TEST(test_hard_link_keeps_the_other_waiters_watch)
{
	struct filelock *a, *b;

	set_up();
	ck_assert_int_eq(link(test_path("lock"), test_path("link")), 0);
	a = start_waiting(test_path("lock"));
	b = start_waiting(test_path("link"));
	end_waiting(a);
	(void)dispatch();
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_uint_ge(dispatch(), 1);
	ck_assert_ptr_eq(woken_lock, b);
	ck_assert_int_eq(step(b), FILELOCK_STEP_HELD);
	filelock_close(b);
	tear_down();
}
END_TEST

/* A marker in whose place a native lock's file stands: each kind has events of its own to wait for,
   and the inode has one mask. */
START_TEST(test_waiters_of_two_kinds_on_one_file_are_each_woken)
{
	struct filelock *native, *soft = NULL;

	set_up();
	native = start_waiting(test_path("lock"));
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_SOFT, NULL, &soft), 0);
	wait_with(soft);
	(void)dispatch();
	close(open(test_path("lock"), O_RDONLY | O_CLOEXEC)); /* as flock(1) ends */
	ck_assert_uint_eq(dispatch(), 1);
	ck_assert_ptr_eq(woken_lock, native);
	close(open(test_path("lock"), O_RDWR | O_CLOEXEC));
	ck_assert_uint_eq(dispatch(), 2);
	end_waiting(native);
	end_waiting(soft);
	tear_down();
}
END_TEST

/* The poll finds a release without an event, as flock -u on a descriptor that stays open. */
/* shows: poll-stays */
START_TEST(test_watched_lock_is_polled_all_the_same)
{
	struct filelock *waiter;
	int64_t until, now = filelock_now();
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	set_up();
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	waiter = start_waiting(test_path("lock"));
	(void)dispatch();
	for (int i = 0; i < 20; i++) { /* past what the new watch was worth */
		now += SECONDS;
		ck_assert_int_eq(filelock_step(waiter, now, &until), FILELOCK_STEP_WAIT);
		ck_assert_int_le(until, now + SECONDS);
	}
	ck_assert_int_eq(flock(fd, LOCK_UN), 0);
	ck_assert_uint_eq(dispatch(), 0);
	ck_assert_int_eq(filelock_step(waiter, until, &until), FILELOCK_STEP_HELD);
	filelock_watcher_tidy(driver.watcher);
	filelock_close(waiter);
	close(fd);
	tear_down();
}
END_TEST

START_TEST(test_release_of_another_lock_wakes_nobody)
{
	struct filelock *other = test_open(test_path("other"), NULL), *waiter;

	set_up();
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), 0);
	waiter = start_waiting(test_path("lock"));
	ck_assert_int_eq(filelock_release(other), 0);
	ck_assert(!is_readable());
	end_waiting(waiter);
	filelock_close(other);
	tear_down();
}
END_TEST

START_TEST(test_event_of_an_ended_wait_wakes_nobody)
{
	struct filelock *waiter;

	set_up();
	waiter = start_waiting(test_path("lock"));
	ck_assert_int_eq(filelock_release(holder), 0);
	end_waiting(waiter);
	ck_assert_uint_eq(dispatch(), 0);
	tear_down();
}
END_TEST

/* Bytes that the next read(2) of the library gives, as if from inotify. */
static _Alignas(struct inotify_event) char forged[512];
static size_t forged_size;

static ssize_t read_forged(int fd, void *buffer, size_t size)
{
	(void)fd;
	if (size == sizeof(uint64_t)) { /* of a bell, which has not rung */
		errno = EAGAIN;
		return -1;
	}
	ck_assert_uint_ge(size, forged_size);
	memcpy(buffer, forged, forged_size);
	return (ssize_t)forged_size;
}

/* Dispatches one forged event, cut to `size` bytes if that is less. */
static unsigned forge(struct inotify_event event, const char *name, size_t size)
{
	ssize_t (*real)(int, void *, size_t) = sys.read;
	unsigned told;

	event.len = name ? 16 : 0;
	memset(forged, 0, sizeof(forged));
	memcpy(forged, &event, sizeof(event));
	if (name)
		strcpy(forged + sizeof(event), name);
	forged_size = sizeof(event) + event.len;
	if (size < forged_size)
		forged_size = size;
	sys.read = read_forged;
	told = dispatch();
	sys.read = real;
	return told;
}

/* shows: poll-stays */
START_TEST(test_overflow_wakes_every_waiter)
{
	struct filelock *other = test_open(test_path("other"), NULL), *a, *b;

	set_up();
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), 0);
	a = start_waiting(test_path("lock"));
	b = start_waiting(test_path("other"));
	ck_assert_uint_eq(forge((struct inotify_event){ .wd = -1, .mask = IN_Q_OVERFLOW }, NULL,
	                        SIZE_MAX),
	                  2);
	end_waiting(a);
	end_waiting(b);
	filelock_close(other);
	tear_down();
}
END_TEST

/* As when its file system is unmounted: the waiter wakes, and watches again. */
START_TEST(test_lost_watch_wakes_and_is_set_again)
{
	struct filelock *waiter;
	int64_t until;

	set_up();
	waiter = start_waiting(test_path("lock"));
	ck_assert_uint_eq(filelock_watcher_load(driver.watcher), 1);
	ck_assert_uint_ge(forge((struct inotify_event){ .wd = 1, .mask = IN_IGNORED }, NULL,
	                        SIZE_MAX),
	                  1);
	ck_assert_uint_eq(filelock_watcher_load(driver.watcher), 0);
	ck_assert_int_eq(filelock_step(waiter, filelock_now(), &until), FILELOCK_STEP_WAIT);
	ck_assert_uint_eq(filelock_watcher_load(driver.watcher), 1);
	end_waiting(waiter);
	tear_down();
}
END_TEST

START_TEST(test_forged_and_cut_events_do_no_harm)
{
	static const uint32_t masks[] = { IN_CLOSE_WRITE, IN_DELETE, IN_IGNORED, IN_UNMOUNT,
		                          IN_MOVE_SELF,   IN_DELETE_SELF, 0, UINT32_MAX };
	struct filelock *waiter;

	set_up();
	waiter = start_waiting(test_path("lock"));
	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		struct inotify_event event = { .wd = 77, .mask = masks[i] };

		(void)forge(event, NULL, SIZE_MAX);
		(void)forge(event, "name", SIZE_MAX);
		event.wd = 1;
		for (size_t size = 0; size < sizeof(event); size++)
			ck_assert_uint_eq(forge(event, NULL, size), 0);
		(void)forge(event, "name", sizeof(event) + 3);
		(void)forge(event, "name", SIZE_MAX);
		filelock_hasten(waiter);
		ck_assert_int_eq(step(waiter), FILELOCK_STEP_WAIT);
	}
	end_waiting(waiter);
	tear_down();
}
END_TEST

START_TEST(test_failing_read_of_events_is_no_wake_up)
{
	struct filelock *waiter;

	set_up();
	waiter = start_waiting(test_path("lock"));
	fault_set(FAULT_read, 1, FAULT_ONCE, EAGAIN);
	ck_assert_uint_eq(dispatch(), 0);
	fault_clear();
	ck_assert_int_eq(filelock_release(holder), 0);
	fault_set(FAULT_read, 1, FAULT_ONCE, EINTR);
	ck_assert_uint_ge(dispatch(), 1);
	end_waiting(waiter);
	tear_down();
}
END_TEST

/* Memory fails at each allocation of setting a watch: it polls, and keeps no watch. */
START_TEST(test_failing_allocation_of_a_watch_leaves_none)
{
	unsigned nth = 0, hits;

	set_up();
	do {
		struct filelock *waiter = test_open(test_path("lock"), NULL);

		ck_assert_int_eq(filelock_begin(waiter, FILELOCK_EXCLUSIVE, FILELOCK_NEVER,
		                                &driver, &wakes),
		                 0);
		fault_set(FAULT_calloc, ++nth, FAULT_ONCE, ENOMEM);
		ck_assert_int_eq(step(waiter), FILELOCK_STEP_WAIT);
		hits = fault_hits(FAULT_calloc);
		fault_clear();
		end_waiting(waiter);
		ck_assert_uint_eq(test_watches(), 0);
		ck_assert_uint_eq(filelock_watcher_load(driver.watcher), 0);
	} while (hits > 0);
	ck_assert_uint_gt(nth, 1);
	tear_down();
}
END_TEST

static unsigned closings;

static void note_closing(struct filelock *lock, void *arg)
{
	ck_assert_ptr_eq(arg, &wakes);
	closings++;
	(void)filelock_give_up(lock, -ECANCELED);
}

START_TEST(test_handle_closed_while_waiting_lives_by_the_drivers_reference)
{
	struct filelock *waiter;

	driver.closing = note_closing;
	set_up();
	waiter = start_waiting(test_path("lock"));
	filelock_ref(waiter);
	filelock_close(waiter);
	ck_assert_uint_eq(closings, 1);
	ck_assert_str_eq(filelock_path(waiter), test_path("lock"));
	filelock_watcher_tidy(driver.watcher);
	filelock_unref(waiter);
	ck_assert_uint_eq(test_watches(), 0);
	tear_down();
}
END_TEST

/* As by the loop's thread, while another one is inside inotify_add_watch(2). */
static int (*real_add_watch)(int fd, const char *path, uint32_t mask);
static unsigned additions;

static int add_and_tidy(int fd, const char *path, uint32_t mask)
{
	int wd = real_add_watch(fd, path, mask);

	additions++;
	filelock_watcher_tidy(driver.watcher);
	return wd;
}

START_TEST(test_watch_that_is_removed_as_it_is_had_again_is_set_anew)
{
	struct filelock *first, *second;

	set_up();
	first = start_waiting(test_path("lock"));
	(void)filelock_give_up(first, -ECANCELED); /* its watch is idle */
	while (is_readable())
		(void)dispatch();
	real_add_watch = sys.inotify_add_watch;
	sys.inotify_add_watch = add_and_tidy;
	second = start_waiting(test_path("lock"));
	ck_assert_uint_eq(additions, 2);
	ck_assert_uint_eq(test_watches(), 1);
	while (is_readable())
		(void)dispatch();
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_uint_ge(dispatch(), 1);
	end_waiting(second);
	filelock_close(first);
	tear_down();
}
END_TEST

START_TEST(test_handles_of_one_lock_compare_equal_and_hash_alike)
{
	struct filelock *a = test_open(test_path("a"), NULL), *b = test_open(test_path("b"), NULL);
	struct filelock *again = test_open(test_path("a"), NULL);

	ck_assert_int_eq(filelock_compare(a, again), 0);
	ck_assert_uint_eq(filelock_hash(a), filelock_hash(again));
	ck_assert_int_ne(filelock_compare(a, b), 0);
	ck_assert_int_eq(filelock_compare(a, b) < 0, filelock_compare(b, a) > 0);
	filelock_close(a);
	filelock_close(b);
	filelock_close(again);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "watch", test_watcher_has_no_descriptor_until_somebody_waits,
	        test_release_wakes_the_waiter_and_its_next_step_holds,
	        test_release_of_a_callers_descriptor_wakes_the_waiter,
	        test_release_while_a_child_has_the_file_open_wakes_the_waiter, test_own_attempts_wake_nobody,
	        test_waiters_of_one_file_share_a_watch_and_each_is_woken,
	        test_hard_link_keeps_the_other_waiters_watch,
	        test_waiters_of_two_kinds_on_one_file_are_each_woken,
	        test_watched_lock_is_polled_all_the_same,
	        test_release_of_another_lock_wakes_nobody, test_event_of_an_ended_wait_wakes_nobody,
	        test_overflow_wakes_every_waiter, test_lost_watch_wakes_and_is_set_again,
	        test_forged_and_cut_events_do_no_harm, test_failing_read_of_events_is_no_wake_up,
	        test_failing_allocation_of_a_watch_leaves_none,
	        test_handle_closed_while_waiting_lives_by_the_drivers_reference,
	        test_watch_that_is_removed_as_it_is_had_again_is_set_anew,
	        test_handles_of_one_lock_compare_equal_and_hash_alike));
}
