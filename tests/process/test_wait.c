/* Synchronous waiting: timeouts, ways out, reports meanwhile. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "support.h"
#include "base/sys.h"

static struct peer holder;
static struct filelock *lock;

/* A peer holds the lock; ours has these options. */
static void set_up(const struct filelock_options *options)
{
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), options);
}

static void tear_down(void)
{
	filelock_close(lock);
	peer_stop(&holder);
}

START_TEST(test_timeout_is_kept_and_the_lock_still_works)
{
	int64_t begin = test_now();

	set_up(NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 30), -ETIMEDOUT);
	ck_assert_int_ge(test_now() - begin, 30 * MILLISECONDS);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER), 0);
	tear_down();
}
END_TEST

/* shows: no-wait */
START_TEST(test_no_wait_does_not_sleep)
{
	if (test_is_not_native())
		return;
	set_up(NULL);
	fault_watch();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), -ETIMEDOUT);
	ck_assert_uint_eq(fault_calls(FAULT_ppoll), 0);
	ck_assert_uint_eq(fault_calls(FAULT_flock), 1);
	tear_down();
}
END_TEST

/* The poll interval is an hour: only an event can have woken it. */
START_TEST(test_release_wakes_the_waiter)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer waiter;

	options.poll_interval_ms = 3600000;
	set_up(NULL);
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&waiter);
	ck_assert(!peer_answers_within(&waiter, 0));
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
	tear_down();
}
END_TEST

START_TEST(test_shared_release_wakes_an_exclusive_waiter_when_the_last_leaves)
{
	if (test_is_without_shared())
		return;
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer waiter;

	options.poll_interval_ms = 3600000;
	set_up(NULL);
	peer_start(&waiter);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(peer_acquire(&holder, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&waiter);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert(!peer_answers_within(&waiter, 20));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
	tear_down();
}
END_TEST

static unsigned asked;

static bool cancel_at_third(void *arg)
{
	ck_assert_ptr_eq(arg, &asked);
	return ++asked == 3;
}

START_TEST(test_should_cancel_ends_the_wait)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.should_cancel = cancel_at_third;
	options.arg = &asked;
	options.poll_interval_ms = 1;
	set_up(&options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	ck_assert_uint_eq(asked, 3);
	ck_assert(!filelock_is_held(lock));
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "cancelled"));
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	tear_down();
}
END_TEST

START_TEST(test_should_cancel_is_not_asked_without_a_wait)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.should_cancel = cancel_at_third;
	options.arg = &asked;
	set_up(&options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), -ETIMEDOUT);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(asked, 0);
	tear_down();
}
END_TEST

static void *interrupt(void *arg)
{
	(void)arg;
	filelock_interrupt(lock);
	return NULL;
}

static pthread_t interrupter;

static void interrupt_from_a_thread(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	(void)arg;
	ck_assert_int_eq(pthread_create(&interrupter, NULL, interrupt, NULL), 0);
}

START_TEST(test_interrupt_from_a_thread_ends_the_wait_at_once)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000;
	options.on_wait_ms = 3600000;
	options.on_wait = interrupt_from_a_thread;
	set_up(&options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	pthread_join(interrupter, NULL);
	tear_down();
}
END_TEST

static void on_signal(int signal)
{
	(void)signal;
	filelock_interrupt(lock);
}

static void arm_alarm(const struct filelock_waiting *waiting, void *arg)
{
	const struct itimerval soon = { .it_value = { .tv_usec = 20000 } };

	(void)waiting;
	(void)arg;
	ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
}

/* With SA_RESTART too, which would restart a sleep that does restart. */
/* shows: interrupts */
START_TEST(test_interrupt_from_a_signal_handler_ends_the_wait)
{
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = _i ? SA_RESTART : 0 };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	options.poll_interval_ms = 3600000;
	options.on_wait_ms = 3600000;
	options.on_wait = arm_alarm;
	set_up(&options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	tear_down();
}
END_TEST

/* shows: interrupts */
START_TEST(test_interrupt_before_the_wait_is_not_lost_and_told_once)
{
	set_up(NULL);
	errno = EDOM;
	filelock_interrupt(lock);
	filelock_interrupt(lock);
	ck_assert_int_eq(errno, EDOM);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 20), -ETIMEDOUT);
	tear_down();
}
END_TEST

START_TEST(test_interrupt_does_not_spoil_an_acquisition_that_need_not_wait)
{
	set_up(NULL);
	ck_assert_int_eq(peer_release(&holder), 0);
	filelock_interrupt(lock);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	tear_down();
}
END_TEST

static struct {
	unsigned count;
	int64_t longest;
} sleeps;

/* Sleeps by moving the clock; after many times comes an interrupt. */
static int sleep_noted(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask)
{
	int64_t time = timeout->tv_sec * SECONDS + timeout->tv_nsec;

	(void)mask;
	for (nfds_t i = 0; i < n; i++)
		fds[i].revents = 0;
	clock_advance(time);
	if (time > sleeps.longest)
		sleeps.longest = time;
	if (++sleeps.count == 1000)
		filelock_interrupt(lock);
	return 0;
}

/* Without a descriptor of its own, or without memory for anything. */
START_TEST(test_wait_that_cannot_be_woken_looks_for_an_interrupt_twenty_times_a_second)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	if (_i && (test_kind() == FILELOCK_READWRITE || test_kind() == FILELOCK_STRICT ||
	           test_kind() == FILELOCK_SOFT_READWRITE)) {
		test_skip("its attempts need memory");
		return;
	}
	if (test_kind() == FILELOCK_LEASE) {
		test_skip("a lease would end meanwhile");
		return;
	}
	options.poll_interval_ms = 3600000;
	set_up(&options);
	fault_set(_i ? FAULT_calloc : FAULT_eventfd, 1, FAULT_FOR_GOOD, _i ? ENOMEM : EMFILE);
	sys.ppoll = sleep_noted;
	clock_fake(test_now());
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	ck_assert_uint_eq(sleeps.count, 1000);
	ck_assert_int_le(sleeps.longest, 50 * MILLISECONDS);
	fault_clear();
	tear_down();
}
END_TEST

/* Interrupts at any moment: always an answer, and never a timeout. */
START_TEST(test_interrupts_race_with_waits)
{
	set_up(NULL);
	for (unsigned i = 0; i < test_rounds(500); i++) {
		pthread_t thread;

		ck_assert_int_eq(pthread_create(&thread, NULL, interrupt, NULL), 0);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
		pthread_join(thread, NULL);
	}
	tear_down();
}
END_TEST

static void ignore(int signal)
{
	(void)signal;
}

/* shows: interrupts */
START_TEST(test_signal_alone_does_not_end_a_wait)
{
	struct sigaction action = { .sa_handler = ignore };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	const struct itimerval often = { { .tv_usec = 1000 }, { .tv_usec = 1000 } };

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	options.poll_interval_ms = 3600000;
	set_up(&options);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 50), -ETIMEDOUT);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL), 0);
	tear_down();
}
END_TEST

static struct {
	unsigned count;
	int64_t last_waited;
	char path[4096];
	pid_t pid;
} told;

static void note_wait(const struct filelock_waiting *waiting, void *arg)
{
	ck_assert_ptr_eq(arg, &told);
	ck_assert_int_ge(waiting->waited_ms, told.last_waited);
	ck_assert_uint_eq(waiting->size, sizeof(*waiting));
	told.last_waited = waiting->waited_ms;
	told.pid = waiting->holder ? waiting->holder->pid : 0;
	(void)snprintf(told.path, sizeof(told.path), "%s", waiting->path);
	if (++told.count == 4)
		filelock_interrupt(lock);
}

/* Every so often, although nothing wakes it and the poll interval is long. */
START_TEST(test_on_wait_is_told_time_path_and_holder)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	if (!test_locks_are_listed())
		return;
	options.on_wait = note_wait;
	options.on_wait_ms = 10;
	options.arg = &told;
	options.poll_interval_ms = 3600000;
	set_up(&options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	ck_assert_uint_eq(told.count, 4);
	ck_assert_int_ge(told.last_waited, 30);
	ck_assert_str_eq(told.path, test_path("lock"));
	ck_assert_int_eq(told.pid, holder.pid);
	tear_down();
}
END_TEST

START_TEST(test_on_wait_is_not_told_without_a_wait)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.on_wait = note_wait;
	options.arg = &told;
	set_up(&options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), -ETIMEDOUT);
	ck_assert_uint_eq(told.count, 0);
	tear_down();
}
END_TEST

static int64_t (*real_now)(void);

static int64_t count_readings(void)
{
	static unsigned readings;

	if (++readings > 100)
		ck_abort_msg("it spins");
	return real_now();
}

static void let_time_pass(void *arg)
{
	(void)arg;
	clock_advance(1 * MILLISECONDS);
}

/* While it is not known that anybody waits there is nothing to tell, and so nothing is due. */
START_TEST(test_letting_others_go_first_is_slept_through_with_on_wait_too)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.on_wait = note_wait;
	options.arg = &told;
	clock_fake(1000 * SECONDS);
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	clock_advance(100 * MILLISECONDS); /* after so long it lets others go first */
	ck_assert_int_eq(filelock_release(lock), 0);
	real_now = sys.now;
	sys.now = count_readings;
	fault_before(FAULT_ppoll, 1, let_time_pass, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(fault_hits(FAULT_ppoll), 1);
	ck_assert_uint_eq(told.count, 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_after_a_timeout_the_holder_is_described_when_asked_for)
{
	char pid[32], holder_is[256];

	if (!test_locks_are_listed())
		return;
	set_up(NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5), -ETIMEDOUT);
	(void)snprintf(pid, sizeof(pid), "pid %d", (int)holder.pid);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), test_path("lock")));
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "filelock_describe_holder"));
	ck_assert_int_eq(filelock_describe_holder(lock, holder_is, sizeof(holder_is)), 0);
	ck_assert_msg(strncmp(holder_is, pid, strlen(pid)) == 0, "%s", holder_is);
	ck_assert_ptr_nonnull(strstr(holder_is, "running since"));
	tear_down();
}
END_TEST

/* Descriptors that waiting needs are kept for the next wait: their number does not grow. */
START_TEST(test_waits_leak_no_descriptor_and_no_watch)
{
	unsigned descriptors, watches;

	set_up(NULL);
	fault_watch();
	do
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 2), -ETIMEDOUT);
	while (fault_calls(FAULT_inotify_add_watch) == 0);
	descriptors = test_descriptors();
	watches = test_watches();
	ck_assert_uint_eq(watches, 0);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 2), -ETIMEDOUT);
	ck_assert_uint_eq(test_descriptors(), descriptors);
	ck_assert_uint_eq(test_watches(), watches);
	tear_down();
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "wait", test_timeout_is_kept_and_the_lock_still_works, test_no_wait_does_not_sleep,
	        test_release_wakes_the_waiter,
	        test_shared_release_wakes_an_exclusive_waiter_when_the_last_leaves,
	        test_should_cancel_ends_the_wait, test_should_cancel_is_not_asked_without_a_wait,
	        test_interrupt_from_a_thread_ends_the_wait_at_once,
	        test_interrupt_before_the_wait_is_not_lost_and_told_once,
	        test_interrupt_does_not_spoil_an_acquisition_that_need_not_wait,
	        test_interrupts_race_with_waits, test_signal_alone_does_not_end_a_wait,
	        test_on_wait_is_told_time_path_and_holder, test_on_wait_is_not_told_without_a_wait,
	        test_letting_others_go_first_is_slept_through_with_on_wait_too,
	        test_after_a_timeout_the_holder_is_described_when_asked_for,
	        test_waits_leak_no_descriptor_and_no_watch);
	TCase *handlers = tcase_create("handlers");

	tcase_add_loop_test(handlers, test_interrupt_from_a_signal_handler_ends_the_wait, 0, 2);
	tcase_add_loop_test(
	        handlers,
	        test_wait_that_cannot_be_woken_looks_for_an_interrupt_twenty_times_a_second, 0, 2);
	suite_add_tcase(suite, handlers);
	return support_main(suite);
}
