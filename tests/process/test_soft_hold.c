/* Holding a soft lock: life and death of holders, release, exit, wake-ups, and the fallback. */
#include <pthread.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/wait.h>

#include <filelock/driver.h>

#include "softly.h"
#include "base/sys.h"

/* The option of a peer that waits. */
static void start_waiting(struct peer *peer, const char *path)
{
	struct filelock_options options = rarely();

	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(peer);
}

/* shows: stopped-holder-holds */
START_TEST(test_stopped_holder_holds)
{
	struct peer holder;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(kill(holder.pid, SIGSTOP), 0);
	await(test_process_state(holder.pid) == 'T');
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	ck_assert_int_eq(kill(holder.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(try_once(test_path("lock")), 0);
	peer_stop(&holder);
}
END_TEST

static int linger(void *arg)
{
	const int *pipe_ends = arg;

	if (write(pipe_ends[1], "", 1) != 1)
		return 1;
	(void)pause();
	return 0;
}

/* Returns when the child runs. */
static int fork_a_child(void *arg)
{
	int pipe_ends[2];
	char byte;
	pid_t pid;

	(void)arg;
	ck_assert_int_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
	pid = test_fork(linger, pipe_ends);
	ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 1);
	return (int)pid;
}

/* shows: dead-taken-over */
START_TEST(test_killed_holder_is_recovered_though_unreaped_and_survived_by_a_child)
{
	struct peer holder;
	pid_t child;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	child = peer_call(&holder, fork_a_child, NULL);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	ck_assert_int_eq(kill(holder.pid, SIGKILL), 0);
	await(test_process_state(holder.pid) == 'Z');
	/* a sanitizer's thread of the holder may live a little longer than its leader */
	await(try_once(test_path("lock")) == 0);
	ck_assert_int_eq(test_reap(holder.pid), 128 + SIGKILL);
	(void)kill(child, SIGKILL);
}
END_TEST

/* shows: release-wakes */
START_TEST(test_release_wakes_a_waiter)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer waiter;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	start_waiting(&waiter, test_path("lock"));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	peer_stop(&waiter);
	filelock_close(lock);
}
END_TEST

/* shows: death-wakes */
START_TEST(test_death_of_the_holder_wakes_a_waiter)
{
	struct peer holder, waiter;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	start_waiting(&waiter, test_path("lock"));
	ck_assert_int_eq(kill(holder.pid, SIGKILL), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0); /* and nobody has reaped it */
	ck_assert_int_eq(test_reap(holder.pid), 128 + SIGKILL);
	peer_stop(&waiter);
}
END_TEST

/* The second holder took the marker over in place: its death is found on the same inode. */
START_TEST(test_death_of_one_that_took_over_wakes_a_waiter)
{
	struct peer holder, waiter;

	put_record(test_path("lock"), dead_pid(), NULL);
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	start_waiting(&waiter, test_path("lock"));
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
}
END_TEST

static void remove_it(void)
{
	ck_assert_int_eq(unlink(test_path("lock")), 0);
}

static void rename_it(void)
{
	ck_assert_int_eq(rename(test_path("lock"), test_path("away")), 0);
}

static void (*const takings[])(void) = { remove_it, rename_it };

/* The path is free then. The holder learns it, and removes nobody else's marker. */
/* shows: changed-before-grant changed-under-holder */
START_TEST(test_marker_taken_away_wakes_a_waiter_and_its_holder_learns_it)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct peer waiter;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	start_waiting(&waiter, test_path("lock"));
	takings[_i]();
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert(exists(test_path("lock")));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(peer_release(&waiter), 0);
	ck_assert(!exists(test_path("lock")));
	peer_stop(&waiter);
	filelock_close(lock);
}
END_TEST

/* Steps an acquisition until it has nothing to do but wait. */
static void step_until_waiting(struct filelock *lock, struct filelock_driver *driver)
{
	int64_t until = 0, now = filelock_now();

	ck_assert_int_eq(filelock_begin(lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, driver, NULL), 0);
	while (until <= now)
		ck_assert_int_gt(filelock_step(lock, now, &until), 0);
}

static unsigned woken;

static void count_wake(struct filelock *lock, void *arg)
{
	(void)lock;
	(void)arg;
	woken++;
}

START_TEST(test_one_watch_serves_a_folder_and_other_names_in_it_wake_nobody)
{
	enum { LOCKS = 5 };
	struct filelock_driver driver = { .woken = count_wake };
	struct filelock *held[LOCKS], *waiting[LOCKS];
	char name[16];

	ck_assert_int_eq(filelock_watcher_new(&driver.watcher), 0);
	for (int i = 0; i < LOCKS; i++) {
		struct filelock_options options = rarely();

		(void)snprintf(name, sizeof(name), "lock%d", i);
		held[i] = test_open(test_path(name), NULL);
		waiting[i] = test_open(test_path(name), &options);
		ck_assert_int_eq(filelock_acquire(held[i], FILELOCK_EXCLUSIVE, 0), 0);
		step_until_waiting(waiting[i], &driver);
	}
	ck_assert_uint_eq(test_watches(), 1 + LOCKS); /* the folder, and each marker */
	put_bytes(test_path("other"), "", 0);
	ck_assert_int_eq(unlink(test_path("other")), 0);
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_eq(woken, 0);
	ck_assert_int_eq(filelock_release(held[2]), 0);
	filelock_watcher_dispatch(driver.watcher);
	ck_assert_uint_ge(woken, 1); /* removed, then closed, then its inode gone */
	ck_assert_uint_le(woken, 3);
	for (int i = 0; i < LOCKS; i++) {
		(void)filelock_give_up(waiting[i], -ECANCELED);
		filelock_close(waiting[i]);
		filelock_close(held[i]);
	}
	filelock_watcher_tidy(driver.watcher);
	ck_assert_uint_eq(test_watches(), 0);
	filelock_watcher_free(driver.watcher);
}
END_TEST

/* shows: failed-unlock */
START_TEST(test_failed_removal_leaves_the_lock_held_and_the_call_retryable)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EACCES);
	ck_assert_int_eq(filelock_release(lock), -EACCES);
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(try_once(test_path("lock")), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_close_leaves_no_holder_though_the_marker_cannot_be_removed)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_unlink, 1, FAULT_FOR_GOOD, EACCES);
	filelock_close(lock);
	fault_clear();
	ck_assert(exists(test_path("lock")));
	ck_assert_int_eq(try_once(test_path("lock")), 0);
}
END_TEST

START_TEST(test_failed_unlock_or_close_after_the_removal_is_released)
{
	unsigned descriptors = test_descriptors();
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	fault_set(FAULT_close, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(fault_calls(FAULT_close), 1);
	ck_assert(!exists(test_path("lock")));
	ck_assert_int_eq(try_once(test_path("lock")), 0);
	filelock_close(lock);
	ck_assert_uint_eq(test_descriptors(), descriptors);
}
END_TEST

START_TEST(test_holder_is_the_record)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct peer holder;

	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, getpid());
	ck_assert_str_eq(owner.host, own_host());
	ck_assert_str_eq(owner.start_token, own_token());
	ck_assert(owner.ours);
	ck_assert_int_gt(owner.start_time, 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, holder.pid);
	ck_assert(!owner.ours);
	peer_stop(&holder);
	put_bytes(test_path("lock"), "", 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	/* our pid on our host, but begun at another time: not we */
	put_record(test_path("lock"), getpid(), "12345");
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert(!owner.ours);
	filelock_close(lock);
}
END_TEST

START_TEST(test_break_removes_anybodys_marker_but_ones_own)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock *native;
	struct peer holder;

	ck_assert_int_eq(filelock_break(lock), FILELOCK_ENOHOLDER);
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(filelock_break(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_break(lock), -EBUSY);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	peer_stop(&holder);
	filelock_close(lock);
	ck_assert_int_eq(filelock_open(test_path("n"), FILELOCK_NATIVE, NULL, &native), 0);
	ck_assert_int_eq(filelock_break(native), -ENOTSUP);
	filelock_close(native);
}
END_TEST

START_TEST(test_lifetime_ends_a_hold_by_its_age_alone)
{
	struct filelock *holder = test_open(test_path("lock"), NULL);
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.lifetime_ms = 60000;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	date_shift(50 * SECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	date_shift(61 * SECONDS);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT); /* without the option: never */
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(holder), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
	filelock_close(holder);
}
END_TEST

START_TEST(test_lifetime_ends_no_strict_or_newer_marker)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.lifetime_ms = 1;
	lock = test_open(test_path("lock"), &options);
	date_shift(3600 * SECONDS);
	put_bytes(test_path("lock"), "filelock/2\n", 11);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	put_bytes(test_path("lock"), "1\nfilelock-strict-v1\0\n0\n", 24);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	put_bytes(test_path("lock"), "", 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_lifetime_of_a_native_lock_is_refused)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.lifetime_ms = 1;
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, &options, &lock),
	                 FILELOCK_ENOLIFETIME);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "lifetime_ms"));
}
END_TEST

struct exiting {
	bool keep, in_child, other_thread;
};

static void *hold_in_a_thread(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	const struct exiting *exiting = arg;
	struct filelock *lock;

	options.keep_on_exit = exiting->keep;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	return NULL;
}

/* Not the tests' own handlers: they belong to the parent. */
static int hold_and_exit(void *arg)
{
	const struct exiting *exiting = arg;
	pthread_t thread;

	(void)fclose(stderr);
	if (exiting->other_thread) {
		ck_assert_int_eq(pthread_create(&thread, NULL, hold_in_a_thread, arg), 0);
		pthread_join(thread, NULL);
	} else {
		(void)hold_in_a_thread(arg);
	}
	if (exiting->in_child && fork() > 0) {
		int status;

		(void)wait(&status);
		_exit(0);
	}
	exit(0);
}

/* shows: protocol-2 */
START_TEST(test_holder_of_a_lease_is_named_with_its_mode_and_duration)
{
	static const char lease[] = "filelock/2\npid=7\nhost=elsewhere?pidns-f00001e5\nmode=lease\n"
	                            "token=0a681ff920ee26fbb4143bf2986a137e\nduration=2.5\nstart=12\n";
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	put_bytes(test_path("lock"), lease, strlen(lease));
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, 7);
	ck_assert_str_eq(owner.host, "elsewhere?pidns-f00001e5");
	ck_assert_str_eq(owner.contract, "lease");
	ck_assert_str_eq(owner.start_token, "12");
	ck_assert_int_eq((int)(owner.duration * 10), 25);
	filelock_close(lock);
}
END_TEST

/* As Python's FileLock does where both kinds meet. Killed then, the holder is known all the same. */
/* shows: killed-holder-frees */
START_TEST(test_marker_that_was_emptied_is_written_again_by_verify)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct marker marker;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(truncate(test_path("lock"), 0), 0);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert(read_marker(test_path("lock"), &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, getpid());
	filelock_close(lock);
}
END_TEST

/* shows: exit-removes-marker */
START_TEST(test_exit_removes_the_markers_unless_told_not_to)
{
	static struct exiting plain, kept = { .keep = true }, threaded = { .other_thread = true };

	(void)test_folder();
	ck_assert_int_eq(test_in_child(hold_and_exit, &plain), 0);
	ck_assert(!exists(test_path("lock")));
	ck_assert_int_eq(test_in_child(hold_and_exit, &threaded), 0);
	ck_assert(!exists(test_path("lock")));
	ck_assert_int_eq(test_in_child(hold_and_exit, &kept), 0);
	ck_assert(exists(test_path("lock")));
	ck_assert_int_eq(try_once(test_path("lock")), 0); /* dead, and recovered */
}
END_TEST

static bool one_look_expected;

/* After all handlers, and so after the library's, which looks at each marker that is listed. */
__attribute__((destructor)) static void expect_one_look(void)
{
	if (one_look_expected && fault_calls(FAULT_lstat) != 1)
		_exit(1);
}

static int fail_to_close_and_exit(void *arg)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	(void)arg;
	(void)fclose(stderr);
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		_exit(1);
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EACCES);
	filelock_close(lock);
	lock = test_open(test_path("other"), NULL);
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		_exit(1);
	fault_clear();
	one_look_expected = true;
	exit(0);
}

START_TEST(test_exit_leaves_the_marker_of_a_closed_handle_alone)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(fail_to_close_and_exit, NULL), 0);
	ck_assert(exists(test_path("lock")));
	ck_assert(!exists(test_path("other")));
}
END_TEST

/* shows: exit-removes-marker */
START_TEST(test_exit_of_a_forked_child_removes_nothing)
{
	static struct exiting forked = { .in_child = true };

	(void)test_folder();
	ck_assert_int_eq(test_in_child(hold_and_exit, &forked), 0);
	ck_assert(exists(test_path("lock")));
}
END_TEST

static int hold_replace_and_exit(void *arg)
{
	static struct exiting plain;

	(void)arg;
	(void)hold_in_a_thread(&plain);
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	put_bytes(test_path("lock"), "", 0);
	exit(0);
}

/* shows: exit-removes-marker */
START_TEST(test_exit_removes_no_successors_marker)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(hold_replace_and_exit, NULL), 0);
	ck_assert(exists(test_path("lock")));
}
END_TEST

static struct storm {
	struct witness witness;
	_Atomic bool over;
	unsigned rounds;
} *storm;

static int take_turns(void *arg)
{
	struct filelock_options options = rarely();
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock = test_open(test_path("lock"), &options);

	for (unsigned i = 0; i < storm->rounds || storm->rounds == 0; i++) {
		int r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);

		if (r < 0)
			return 1;
		witness_enter(&storm->witness, who);
		witness_leave(&storm->witness, who);
		if (storm->over)
			break;
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* shows: never-two */
START_TEST(test_processes_never_overlap_and_no_wake_up_is_lost)
{
	enum { PROCESSES = 4 };
	pid_t pids[PROCESSES];

	storm = test_shared(sizeof(*storm));
	storm->rounds = test_rounds(1500);
	(void)test_folder();
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns, (void *)(i + 1));
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
	ck_assert_uint_eq(storm->witness.entries, PROCESSES * storm->rounds);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

/* Killed wherever they are: publishing, holding, judging, taking over, releasing. */
/* shows: killed-holder-frees */
START_TEST(test_killed_processes_leave_the_lock_to_the_others)
{
	enum { PROCESSES = 3 };
	pid_t pids[PROCESSES];
	unsigned seed = (unsigned)getpid();
	unsigned entries = 0;

	storm = test_shared(sizeof(*storm));
	(void)test_folder();
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns, (void *)(i + 1));
	for (unsigned round = 0; round < test_rounds(300); round++) {
		size_t victim = (size_t)rand_r(&seed) % PROCESSES;

		/* somebody gets it between any two kills */
		await(storm->witness.entries > entries);
		entries = storm->witness.entries;
		nanosleep(&(struct timespec){ .tv_nsec = rand_r(&seed) % 500000 }, NULL);
		storm->witness.victims[victim + 1] = true;
		ck_assert_int_eq(kill(pids[victim], SIGKILL), 0);
		ck_assert_int_eq(test_reap(pids[victim]), 128 + SIGKILL);
		pids[victim] = test_fork(take_turns, (void *)(victim + 1));
	}
	storm->over = true;
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
}
END_TEST

static int logged;

static void count_warnings(enum filelock_log_level level, const char *message, void *arg)
{
	(void)message;
	(void)arg;
	logged += level == FILELOCK_LOG_WARNING;
}

static void try_native(const struct filelock_options *options, enum filelock_mode mode,
                       int error, int expected)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, options, &lock), 0);
	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, error);
	ck_assert_int_eq(filelock_acquire(lock, mode, 0), expected);
	ck_assert_int_eq(filelock_kind(lock), expected ? FILELOCK_NATIVE : FILELOCK_SOFT);
	ck_assert(exists(test_path("lock")) == (expected == 0));
	filelock_close(lock);
	ck_assert(!exists(test_path("lock")));
}

/* shows: without-flock */
START_TEST(test_native_lock_without_flock_becomes_soft)
{
	filelock_set_log(count_warnings, NULL, FILELOCK_LOG_WARNING);
	try_native(NULL, FILELOCK_EXCLUSIVE, ENOSYS, 0);
	ck_assert_int_eq(logged, 1);
	try_native(NULL, FILELOCK_EXCLUSIVE, ENOTSUP, 0);
	filelock_set_log(NULL, NULL, FILELOCK_LOG_ERROR);
}
END_TEST

/* shows: without-flock */
START_TEST(test_native_lock_stays_native_where_it_must)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	try_native(NULL, FILELOCK_SHARED, ENOSYS, -ENOSYS);
	options.no_fallback = true;
	try_native(&options, FILELOCK_EXCLUSIVE, ENOSYS, -ENOSYS);
	try_native(&options, FILELOCK_EXCLUSIVE, ENOTSUP, -ENOTSUP);
}
END_TEST

/* Two that fell back exclude each other, as soft locks; a singleton stays one handle. */
START_TEST(test_handles_that_fell_back_exclude_each_other)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *one, *two, *same, *again;

	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	ck_assert_int_eq(filelock_open(test_path("a"), FILELOCK_NATIVE, NULL, &one), 0);
	ck_assert_int_eq(filelock_open(test_path("a"), FILELOCK_NATIVE, NULL, &two), 0);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(two, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_acquire(two, FILELOCK_EXCLUSIVE, -1), -EDEADLK);
	filelock_close(one);
	ck_assert_int_eq(filelock_acquire(two, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(two);
	options.singleton = true;
	ck_assert_int_eq(filelock_open(test_path("b"), FILELOCK_NATIVE, &options, &same), 0);
	ck_assert_int_eq(filelock_acquire(same, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_open(test_path("b"), FILELOCK_NATIVE, &options, &again), 0);
	ck_assert_ptr_eq(same, again);
	filelock_close(again);
	filelock_close(same);
}
END_TEST

static void let_go(void *arg)
{
	ck_assert_int_eq(filelock_release(arg), 0);
}

/* It would stand there like a marker that somebody holds, for ever. */
/* shows: without-flock */
START_TEST(test_marker_that_goes_leaves_no_native_lock_file_where_flock_is_missing)
{
	struct filelock *one, *two;

	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, NULL, &one), 0);
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_NATIVE, NULL, &two), 0);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, 0), 0);
	fault_before(FAULT_open, 1, let_go, one); /* the path was seen, and is not open yet */
	ck_assert_int_eq(filelock_acquire(two, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_kind(two), FILELOCK_SOFT);
	ck_assert_int_eq(filelock_release(two), 0);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(one);
	filelock_close(two);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

int main(void)
{
	Suite *suite;
	TCase *taken = tcase_create("each taking");

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	suite = SUITE(
	        "soft hold", test_stopped_holder_holds,
	        test_killed_holder_is_recovered_though_unreaped_and_survived_by_a_child,
	        test_release_wakes_a_waiter, test_death_of_the_holder_wakes_a_waiter,
	        test_death_of_one_that_took_over_wakes_a_waiter,
	        test_one_watch_serves_a_folder_and_other_names_in_it_wake_nobody,
	        test_failed_removal_leaves_the_lock_held_and_the_call_retryable,
	        test_close_leaves_no_holder_though_the_marker_cannot_be_removed,
	        test_failed_unlock_or_close_after_the_removal_is_released,
	        test_holder_of_a_lease_is_named_with_its_mode_and_duration,
	        test_marker_that_was_emptied_is_written_again_by_verify,
	              test_holder_is_the_record, test_break_removes_anybodys_marker_but_ones_own,
	        test_lifetime_ends_a_hold_by_its_age_alone,
	        test_lifetime_ends_no_strict_or_newer_marker,
	        test_lifetime_of_a_native_lock_is_refused,
	        test_exit_removes_the_markers_unless_told_not_to,
	        test_exit_leaves_the_marker_of_a_closed_handle_alone,
	        test_exit_of_a_forked_child_removes_nothing,
	        test_exit_removes_no_successors_marker,
	        test_processes_never_overlap_and_no_wake_up_is_lost,
	        test_killed_processes_leave_the_lock_to_the_others,
	        test_native_lock_without_flock_becomes_soft,
	        test_native_lock_stays_native_where_it_must,
	        test_handles_that_fell_back_exclude_each_other,
	        test_marker_that_goes_leaves_no_native_lock_file_where_flock_is_missing);
	tcase_add_loop_test(taken, test_marker_taken_away_wakes_a_waiter_and_its_holder_learns_it,
	                    0, sizeof(takings) / sizeof(takings[0]));
	suite_add_tcase(suite, taken);
	return support_main(suite);
}
