/* No wake-up is lost, none is needed for ever, and losing the watch costs no lock. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/time.h>
#include <unistd.h>

#include "support.h"

/* A poll so rare that a lost wake-up shows. */
#define RARE_POLL_MS 3600000
#define TOO_LONG (45 * SECONDS) /* for one handover: a missed one lasts an hour */

static struct filelock_options rare(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = RARE_POLL_MS;
	return options;
}

/* Shared by the processes of a storm. */
static struct storm {
	struct witness witness;
	_Atomic int64_t longest_wait;
	unsigned rounds;
} *storm;

static void note_wait(int64_t waited)
{
	int64_t longest = atomic_load(&storm->longest_wait);

	while (waited > longest &&
	       !atomic_compare_exchange_weak(&storm->longest_wait, &longest, waited)) {
	}
}

static int take_turns(void *arg)
{
	struct filelock_options options = rare();
	struct filelock *lock = test_open(test_path("lock"), &options);
	unsigned who = (unsigned)(size_t)arg;

	for (unsigned i = 0; i < storm->rounds; i++) {
		int64_t begin = test_now();

		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1) < 0)
			return 1;
		note_wait(test_now() - begin);
		witness_enter(&storm->witness, who);
		witness_leave(&storm->witness, who);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* Processes that want the lock all the time: each grant but the first needs a wake-up. */
/* shows: release-wakes */
START_TEST(test_no_wake_up_is_lost_between_processes)
{
	enum { PROCESSES = 3 };
	pid_t pids[PROCESSES];

	storm = test_shared(sizeof(*storm));
	storm->rounds = test_rounds(4000);
	(void)test_folder();
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns, (void *)(i + 1));
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
	ck_assert_uint_eq(storm->witness.entries, PROCESSES * storm->rounds);
	ck_assert_int_lt(storm->longest_wait, TOO_LONG);
}
END_TEST

/* Strictly to and fro: the waiter is always asleep, or about to be, when the release comes. */
/* shows: release-wakes */
START_TEST(test_every_handover_wakes_the_sleeper)
{
	struct filelock_options options = rare();
	struct filelock *lock = test_open(test_path("lock"), &options);
	struct peer peer;

	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), &options), 0);
	for (unsigned i = 0; i < test_rounds(2000); i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		peer_order_acquire(&peer, FILELOCK_EXCLUSIVE, -1);
		if (i % 2)
			peer_await_notice(&peer);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(peer_answer(&peer), 0);
		ck_assert_int_eq(peer_release(&peer), 0);
	}
	filelock_close(lock);
	peer_stop(&peer);
}
END_TEST

/* The holder dies in the act, by the hundred, and the waiter has no poll to rescue it. */
/* shows: death-wakes */
START_TEST(test_killed_holder_wakes_the_waiter)
{
	struct filelock_options options = rare();
	struct peer waiter;

	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	for (unsigned i = 0; i < test_rounds(200); i++) {
		struct peer victim;

		peer_start_holding(&victim, test_path("lock"), FILELOCK_EXCLUSIVE);
		peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
		peer_await_notice(&waiter);
		peer_kill(&victim, SIGKILL);
		ck_assert_int_eq(peer_answer(&waiter), 0);
		ck_assert_int_eq(peer_release(&waiter), 0);
	}
	peer_stop(&waiter);
}
END_TEST

START_TEST(test_killed_waiter_leaves_the_others_alone)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock_options options = rare();
	struct peer victim, waiter;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	peer_start(&victim);
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&victim, test_path("lock"), &options), 0);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	peer_order_acquire(&victim, FILELOCK_EXCLUSIVE, -1);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&victim);
	peer_await_notice(&waiter);
	peer_kill(&victim, SIGKILL);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	filelock_close(lock);
	peer_stop(&waiter);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_stopped_holder_keeps_the_lock)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer holder;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(kill(holder.pid, SIGSTOP), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 100), -ETIMEDOUT);
	ck_assert_int_eq(kill(holder.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

static int release_descriptor(void *arg)
{
	return filelock_release(*(struct filelock **)arg);
}

static int acquire_descriptor(void *arg)
{
	struct filelock **lock = arg;
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r = filelock_open_fd(fd, NULL, lock);

	return r < 0 ? r : filelock_acquire(*lock, FILELOCK_EXCLUSIVE, 0);
}

/* The descriptor stays open, so no close tells the waiters. */
START_TEST(test_release_of_a_callers_descriptor_wakes_the_waiter)
{
	static struct filelock *of_peer; /* the peer's own copy */
	struct filelock_options options = rare();
	struct filelock *lock = test_open(test_path("lock"), &options);
	struct peer holder, waiter;

	peer_start(&holder);
	peer_start(&waiter);
	ck_assert_int_eq(peer_call(&holder, acquire_descriptor, &of_peer), 0);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&waiter);
	ck_assert_int_eq(peer_call(&holder, release_descriptor, &of_peer), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	filelock_close(lock);
	peer_stop(&waiter);
	peer_stop(&holder);
}
END_TEST

static void kill_holder(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	peer_kill(arg, SIGKILL);
}

START_TEST(test_waiter_on_a_callers_descriptor_is_woken)
{
	struct filelock_options options = rare();
	struct filelock *lock = NULL;
	struct peer holder;
	int fd;

	options.on_wait = kill_holder;
	options.on_wait_ms = RARE_POLL_MS;
	options.arg = &holder;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	fd = open(test_path("lock"), O_RDONLY);
	ck_assert_int_eq(filelock_open_fd(fd, &options, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	filelock_close(lock);
	close(fd);
}
END_TEST

static void ignore(int signal)
{
	(void)signal;
}

static void start_alarms(long microseconds)
{
	const struct itimerval often = { { .tv_usec = microseconds }, { .tv_usec = microseconds } };
	struct sigaction action = { .sa_handler = ignore };

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static int take_turns_under_alarms(void *arg)
{
	start_alarms(100);
	return take_turns(arg);
}

/* Ten thousand signals a second, and no call restarts: no error surfaces, no wake-up is lost. */
/* shows: interrupts */
START_TEST(test_storm_of_signals_surfaces_nowhere)
{
	pid_t pids[2];

	storm = test_shared(sizeof(*storm));
	storm->rounds = test_rounds(1000);
	(void)test_folder();
	pids[0] = test_fork(take_turns_under_alarms, (void *)1);
	pids[1] = test_fork(take_turns_under_alarms, (void *)2);
	ck_assert_int_eq(test_reap(pids[0]), 0);
	ck_assert_int_eq(test_reap(pids[1]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
	ck_assert_uint_eq(storm->witness.entries, 2 * storm->rounds);
}
END_TEST

/* shows: interrupts */
START_TEST(test_deadline_is_kept_in_a_storm_of_signals)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer holder;
	int64_t begin;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	start_alarms(100);
	begin = test_now();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 50), -ETIMEDOUT);
	ck_assert_int_ge(test_now() - begin, 50 * MILLISECONDS);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL), 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

/* Each way in which there can be no watch. */
static const struct {
	enum fault_call call;
	int error;
} no_watch[] = {
	{ FAULT_inotify_init1, EMFILE },     { FAULT_inotify_init1, ENFILE },
	{ FAULT_inotify_init1, ENOMEM },     { FAULT_inotify_init1, ENOSYS },
	{ FAULT_inotify_add_watch, ENOSPC }, { FAULT_inotify_add_watch, EACCES },
	{ FAULT_inotify_add_watch, ENOENT }, { FAULT_eventfd, EMFILE },
};
enum { NO_WATCH = sizeof(no_watch) / sizeof(no_watch[0]) };

/* As a wait is about to sleep. */
static bool notify_once(void *arg)
{
	bool *told = arg;

	if (!*told)
		peer_notify();
	*told = true;
	return false;
}

static int wait_without_watch(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	size_t i = (size_t)arg;
	bool told = false;
	int r;

	options.poll_interval_ms = 2;
	options.should_cancel = notify_once;
	options.arg = &told;
	lock = test_open(test_path("lock"), &options);
	fault_set(no_watch[i].call, 1, FAULT_FOR_GOOD, no_watch[i].error);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1);
	filelock_close(lock);
	return r < 0 || fault_hits(no_watch[i].call) == 0 ? -1 : 0;
}

/* shows: poll-stays */
START_TEST(test_wait_without_a_watch_polls)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer waiter;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	peer_start(&waiter);
	peer_order(&waiter, wait_without_watch, (void *)(size_t)_i);
	peer_await_notice(&waiter);
	ck_assert(!peer_answers_within(&waiter, 20));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	filelock_close(lock);
	peer_stop(&waiter);
}
END_TEST

/* flock -u on a descriptor that is kept raises no event: the poll is the safety net. */
/* shows: poll-stays */
START_TEST(test_unlock_without_a_close_is_found_by_the_poll)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer waiter;
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	options.poll_interval_ms = 5;
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	peer_start(&waiter); /* shares the description, but does not unlock it */
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&waiter);
	ck_assert_int_eq(flock(fd, LOCK_UN), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
	close(fd);
}
END_TEST

static void unlock(void *arg)
{
	ck_assert_int_eq(flock(*(int *)arg, LOCK_UN), 0);
}

/* As by a process that dies: its close raised the event before the waiter watched, and its lock
   goes when the waiter, having looked again, falls asleep. */
/* shows: early-event */
START_TEST(test_lock_dropped_after_its_event_is_found_before_the_poll)
{
	struct filelock_options options = rare();
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct filelock *lock = test_open(test_path("lock"), &options);

	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	fault_before(FAULT_ppoll, 1, unlock, &fd);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(fault_hits(FAULT_ppoll), 1);
	filelock_close(lock);
	close(fd);
}
END_TEST

enum { WAITERS = 3 };

/* Its times and time slices: they stand still while it sleeps. */
static void read_schedule(pid_t pid, char ret[64])
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
	test_read_file(path, ret, 64);
}

/* And does not merely wait for its turn. */
static bool is_asleep(pid_t pid)
{
	char path[64], text[512];
	const char *name_ends;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	test_read_file(path, text, sizeof(text));
	name_ends = strrchr(text, ')');
	return name_ends && name_ends[2] == 'S';
}

static bool sleep_for_a_while(const struct peer waiters[WAITERS])
{
	char before[WAITERS][64], after[64];
	bool asleep = true;

	for (int i = 0; i < WAITERS; i++)
		read_schedule(waiters[i].pid, before[i]);
	for (int i = 0; i < 50; i++)
		test_nap();
	for (int i = 0; i < WAITERS; i++) {
		asleep = asleep && is_asleep(waiters[i].pid);
		read_schedule(waiters[i].pid, after);
		asleep = asleep && strcmp(before[i], after) == 0;
	}
	return asleep;
}

/* Their own attempts must raise no event at each other, or they would never sleep. */
/* shows: idle-waits */
START_TEST(test_waiters_do_not_wake_each_other)
{
	struct filelock_options options = rare();
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer waiters[WAITERS];

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	for (int i = 0; i < WAITERS; i++) {
		peer_start(&waiters[i]);
		ck_assert_int_eq(peer_open(&waiters[i], test_path("lock"), &options), 0);
		peer_order_acquire(&waiters[i], FILELOCK_EXCLUSIVE, -1);
		peer_await_notice(&waiters[i]);
	}
	if (access("/proc/self/schedstat", R_OK) < 0)
		test_skip("no /proc/PID/schedstat");
	else
		await(sleep_for_a_while(waiters));
	for (int i = 0; i < WAITERS; i++)
		peer_kill(&waiters[i], SIGKILL);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "wake", test_no_wake_up_is_lost_between_processes,
	        test_every_handover_wakes_the_sleeper, test_killed_holder_wakes_the_waiter,
	        test_killed_waiter_leaves_the_others_alone, test_stopped_holder_keeps_the_lock,
	        test_release_of_a_callers_descriptor_wakes_the_waiter,
	        test_waiter_on_a_callers_descriptor_is_woken,
	        test_storm_of_signals_surfaces_nowhere,
	        test_deadline_is_kept_in_a_storm_of_signals,
	        test_unlock_without_a_close_is_found_by_the_poll,
	        test_lock_dropped_after_its_event_is_found_before_the_poll,
	        test_waiters_do_not_wake_each_other);
	TCase *each = tcase_create("no watch");

	tcase_add_loop_test(each, test_wait_without_a_watch_polls, 0, NO_WATCH);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
