/* The option keep_open: what a cycle costs, who is woken, and when the descriptor goes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sys.h"
#include "support.h"

/* A poll so rare that a lost wake-up shows. */
#define RARE_POLL_MS 3600000

static struct filelock_options warm(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = RARE_POLL_MS;
	options.keep_open = true;
	return options;
}

static struct filelock *open_warm(void)
{
	struct filelock_options options = warm();

	return test_open(test_path("lock"), &options);
}

static void cycle(struct filelock *lock)
{
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
}

/* A peer with a handle. It is forked before the test holds what it wants to keep. */
static void start_peer(struct peer *peer, const struct filelock_options *options)
{
	(void)test_folder();
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, test_path("lock"), options), 0);
}

static void start_waiting(struct peer *peer)
{
	peer_order_acquire(peer, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(peer);
}

static void stop_waiting(struct peer *peer)
{
	ck_assert_int_eq(peer_answer(peer), 0);
	ck_assert_int_eq(peer_release(peer), 0);
	peer_stop(peer);
}

START_TEST(test_warm_cycle_is_flock_lstat_flock_and_a_question)
{
	struct filelock *lock = open_warm();
	unsigned open_before;

	cycle(lock);
	open_before = test_descriptors();
	fault_watch();
	cycle(lock);
	ck_assert_uint_eq(fault_calls(FAULT_flock), 2);
	ck_assert_uint_eq(fault_calls(FAULT_lstat), 1);
	ck_assert_uint_eq(fault_calls(FAULT_fcntl_ofd_getlk), 1);
	ck_assert_uint_eq(fault_calls(FAULT_open), 0);
	ck_assert_uint_eq(fault_calls(FAULT_close), 0);
	ck_assert_uint_eq(fault_calls(FAULT_fstat), 0);
	ck_assert_uint_eq(fault_calls(FAULT_statfs), 0);
	ck_assert_uint_eq(test_descriptors(), open_before);
	filelock_close(lock);
	ck_assert_uint_eq(test_descriptors(), open_before - 1);
}
END_TEST

START_TEST(test_dropping_closes_and_the_next_hold_opens)
{
	struct filelock *lock = open_warm();
	unsigned before = test_descriptors();

	cycle(lock);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	ck_assert_int_eq(filelock_drop(lock), 0);
	ck_assert_int_eq(filelock_drop(lock), 0);
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_drop(lock), -EBUSY);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	filelock_close(lock);
}
END_TEST

/* Strictly to and fro: 0, ours is warm; 1, the peer's; 2, both. */
/* shows: warm-wakes */
START_TEST(test_every_warm_handover_wakes_the_sleeper)
{
	struct filelock_options ours = warm(), others = warm();
	struct filelock *lock;
	struct peer peer;

	ours.keep_open = _i != 1;
	others.keep_open = _i != 0;
	lock = test_open(test_path("lock"), &ours);
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), &others), 0);
	for (unsigned i = 0; i < test_rounds(1000); i++) {
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

static struct storm {
	struct witness witness;
	unsigned rounds;
} *storm;

static int take_turns(void *arg)
{
	struct filelock_options options = warm();
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock;

	options.keep_open = who != 1;
	lock = test_open(test_path("lock"), &options);
	for (unsigned i = 0; i < storm->rounds; i++) {
		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1) < 0)
			return 1;
		witness_enter(&storm->witness, who);
		witness_leave(&storm->witness, who);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* One of them closes at each release. Without their wake-ups they would take hours. */
/* shows: warm-wakes */
START_TEST(test_no_wake_up_is_lost_among_warm_processes)
{
	enum { PROCESSES = 3 };
	pid_t pids[PROCESSES];

	storm = test_shared(sizeof(*storm));
	storm->rounds = test_rounds(2000);
	(void)test_folder();
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns, (void *)(i + 1));
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
	ck_assert_uint_eq(storm->witness.entries, PROCESSES * storm->rounds);
}
END_TEST

/* Another description of the lock file, which sees who is registered. */
static int open_looker(void)
{
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* A warm lock that is held, and for which a peer waits that is stopped: it stays registered, and does not
   try. The looker's close would wake it. */
static struct filelock *hold_beside(struct peer *waiter, int *ret_looker)
{
	struct filelock_options options = warm();
	struct filelock *lock = open_warm();
	int looker = open_looker();

	start_peer(waiter, &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	start_waiting(waiter);
	await(sys_has_waiter(looker) == 1);
	await(test_waits_for_an_event(waiter->pid)); /* it has tried since it registered */
	ck_assert_int_eq(kill(waiter->pid, SIGSTOP), 0);
	await(test_process_state(waiter->pid) == 'T');
	*ret_looker = looker;
	return lock;
}

/* 0: the notice cannot be given; 1: nobody can say whether anybody waits. */
/* shows: warm-wakes */
START_TEST(test_release_whose_notice_fails_closes)
{
	struct filelock *lock;
	unsigned before;
	int looker;
	struct peer waiter;

	if (!test_knows_waits())
		return;
	lock = hold_beside(&waiter, &looker);
	before = test_descriptors();
	if (_i)
		fault_set(FAULT_fcntl_ofd_getlk, 1, FAULT_ONCE, EINVAL);
	else /* by the path, and by the descriptor */
		fault_set(FAULT_open, 1, FAULT_FOR_GOOD, EACCES);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(fault_hits(_i ? FAULT_fcntl_ofd_getlk : FAULT_open), _i ? 1 : 2);
	fault_clear();
	ck_assert_uint_eq(test_descriptors(), before - 1);
	ck_assert_int_eq(kill(waiter.pid, SIGCONT), 0);
	stop_waiting(&waiter);
	close(looker);
	filelock_close(lock);
}
END_TEST

/* The file cannot be opened by its path; or it is not known which file that was. */
/* shows: warm-wakes */
START_TEST(test_notice_is_given_by_the_descriptor_where_the_path_does_not_serve)
{
	enum fault_call call = _i ? FAULT_fstat : FAULT_open;
	struct filelock *lock;
	unsigned before;
	int looker;
	struct peer waiter;

	if (!test_knows_waits())
		return;
	lock = hold_beside(&waiter, &looker);
	before = test_descriptors();
	fault_set(call, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(fault_hits(call), 1);
	ck_assert_uint_eq(fault_calls(FAULT_open), 2);
	fault_clear();
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_int_eq(kill(waiter.pid, SIGCONT), 0);
	stop_waiting(&waiter);
	close(looker);
	filelock_close(lock);
}
END_TEST

static int exit_at_once(void *arg)
{
	(void)arg;
	return 0;
}

/* Forked while it was held, and while it was kept. */
START_TEST(test_descriptor_that_a_child_may_have_is_not_kept)
{
	struct filelock *lock = open_warm();
	unsigned before = test_descriptors();

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(exit_at_once, NULL), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(test_descriptors(), before);
	cycle(lock);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	ck_assert_int_eq(test_in_child(exit_at_once, NULL), 0);
	fault_watch();
	cycle(lock);
	ck_assert_uint_eq(fault_calls(FAULT_open), 1);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	filelock_close(lock);
}
END_TEST

static int work_on(void *arg)
{
	struct filelock *lock = arg;
	unsigned before = test_descriptors();

	cycle(lock);
	return test_descriptors() == before + 1 ? 0 : 1;
}

START_TEST(test_kept_handle_works_on_in_a_child_with_a_file_of_its_own)
{
	struct filelock *lock = open_warm();

	cycle(lock);
	ck_assert_int_eq(test_in_child(work_on, lock), 0);
	cycle(lock);
	filelock_close(lock);
}
END_TEST

/* 0: removed; 1: renamed; 2: its folder is renamed. */
START_TEST(test_kept_file_that_the_path_no_longer_names_is_not_locked)
{
	struct filelock_options options = warm();
	struct filelock *lock = test_open(test_path("sub/lock"), &options);
	struct stat before, after;

	cycle(lock);
	ck_assert_int_eq(stat(test_path("sub/lock"), &before), 0);
	if (_i == 0)
		ck_assert_int_eq(unlink(test_path("sub/lock")), 0);
	else if (_i == 1)
		ck_assert_int_eq(rename(test_path("sub/lock"), test_path("sub/away")), 0);
	else
		ck_assert_int_eq(rename(test_path("sub"), test_path("away")), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(stat(test_path("sub/lock"), &after), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert(_i == 0 || before.st_ino != after.st_ino);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_nothing_is_kept_of_a_file_that_goes_or_of_anothers_descriptor)
{
	struct filelock_options options = warm();
	int fd = open(test_path("lent"), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	unsigned before = test_descriptors();
	struct filelock *lock;

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), &options);
	cycle(lock);
	ck_assert_uint_eq(test_descriptors(), before);
	filelock_close(lock);
	options.unlink_on_release = false;
	ck_assert_int_eq(filelock_open_fd(fd, &options, &lock), 0);
	cycle(lock);
	ck_assert_int_eq(filelock_drop(lock), 0);
	ck_assert_uint_eq(test_descriptors(), before);
	filelock_close(lock);
	close(fd);
}
END_TEST

static int lock_all_records(int fd, short type)
{
	struct flock range = { .l_type = type, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_SETLK, &range) < 0 ? errno : 0;
}

START_TEST(test_whole_file_record_lock_is_refused_while_somebody_waits)
{
	struct filelock_options options = warm();
	struct filelock *lock = open_warm();
	int fd = open_looker();
	struct peer waiter;

	start_peer(&waiter, &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	start_waiting(&waiter);
	await(sys_has_waiter(fd) == 1);
	ck_assert_int_eq(lock_all_records(fd, F_WRLCK), EAGAIN);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(lock_all_records(fd, F_WRLCK), 0);
	ck_assert_int_eq(peer_release(&waiter), 0);
	peer_stop(&waiter);
	close(fd);
	filelock_close(lock);
}
END_TEST

/* It cannot register, and polls. */
START_TEST(test_waiter_beside_a_whole_file_record_lock_polls)
{
	struct filelock_options options = warm();
	struct filelock *lock = open_warm();
	int fd = open_looker();
	struct peer waiter;

	options.poll_interval_ms = 20;
	start_peer(&waiter, &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(lock_all_records(fd, F_WRLCK), 0);
	start_waiting(&waiter);
	ck_assert_int_eq(filelock_release(lock), 0);
	stop_waiting(&waiter);
	close(fd);
	filelock_close(lock);
}
END_TEST

static int fd_of_ours = -1;

static int wait_on_a_descriptor(void *arg)
{
	struct filelock_options options = warm();
	struct filelock *lock;
	int r;

	(void)arg;
	fd_of_ours = open_looker();
	if (filelock_open_fd(fd_of_ours, &options, &lock) < 0)
		return 1;
	peer_notify();
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1);
	/* it has closed what it was registered by */
	if (r == 0 && sys_has_waiter(fd_of_ours) != 0)
		return 2;
	filelock_close(lock);
	close(fd_of_ours);
	return r == 0 ? 0 : 3;
}

START_TEST(test_warm_release_wakes_a_waiter_on_a_callers_descriptor)
{
	struct filelock *lock = open_warm();
	int looker = open_looker();
	struct peer waiter;
	unsigned before;

	peer_start(&waiter);
	cycle(lock);
	before = test_descriptors();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	peer_order(&waiter, wait_on_a_descriptor, NULL);
	peer_await_notice(&waiter);
	await(sys_has_waiter(looker) == 1);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	close(looker);
	filelock_close(lock);
	peer_stop(&waiter);
}
END_TEST

static unsigned warnings;

static void count_warning(enum filelock_log_level level, const char *message, void *arg)
{
	(void)message;
	(void)arg;
	warnings += level == FILELOCK_LOG_WARNING;
}

START_TEST(test_waiters_are_not_taken_for_programs_that_lock_records)
{
	struct filelock_options options = warm();
	struct filelock *lock;
	char text[512];
	struct peer holder, waiter;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	start_peer(&waiter, &options);
	start_waiting(&waiter);
	filelock_set_log(count_warning, NULL, FILELOCK_LOG_WARNING);
	lock = test_open(test_path("lock"), &options);
	if (test_locks_are_listed()) {
		ck_assert_int_eq(filelock_describe_holder(lock, text, sizeof(text)), 0);
		ck_assert_ptr_null(strstr(text, "record lock"));
	}
	peer_kill(&holder, SIGKILL);
	stop_waiting(&waiter);
	cycle(lock);
	ck_assert_uint_eq(warnings, 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("warm");
	TCase *each = tcase_create("each");

	tcase_add_test(each, test_warm_cycle_is_flock_lstat_flock_and_a_question);
	tcase_add_test(each, test_dropping_closes_and_the_next_hold_opens);
	tcase_add_loop_test(each, test_every_warm_handover_wakes_the_sleeper, 0, 3);
	tcase_add_test(each, test_no_wake_up_is_lost_among_warm_processes);
	tcase_add_loop_test(each, test_release_whose_notice_fails_closes, 0, 2);
	tcase_add_loop_test(each, test_notice_is_given_by_the_descriptor_where_the_path_does_not_serve,
	                    0, 2);
	tcase_add_test(each, test_descriptor_that_a_child_may_have_is_not_kept);
	tcase_add_test(each, test_kept_handle_works_on_in_a_child_with_a_file_of_its_own);
	tcase_add_loop_test(each, test_kept_file_that_the_path_no_longer_names_is_not_locked, 0, 3);
	tcase_add_test(each, test_nothing_is_kept_of_a_file_that_goes_or_of_anothers_descriptor);
	tcase_add_test(each, test_whole_file_record_lock_is_refused_while_somebody_waits);
	tcase_add_test(each, test_waiter_beside_a_whole_file_record_lock_polls);
	tcase_add_test(each, test_warm_release_wakes_a_waiter_on_a_callers_descriptor);
	tcase_add_test(each, test_waiters_are_not_taken_for_programs_that_lock_records);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
