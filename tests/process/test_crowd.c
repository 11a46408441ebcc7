/* Waits that go on in the kernel's own queue: how one begins, and every way out of it. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crowd.h"
#include "helpers.h"
#include "support.h"

#define EX FILELOCK_EXCLUSIVE
#define SH FILELOCK_SHARED

/* A thread that waits for a lock. */
struct waiter {
	struct filelock *lock;
	pthread_t thread;
	enum filelock_mode mode;
	int timeout_ms, result;
};

/* Polls so seldom that nothing but a wake-up helps. */
static struct filelock *open_lock(const char *name)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000;
	return test_open(test_path(name), &options);
}

static int open_file(const char *name)
{
	int fd = open(test_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* A descriptor with the lock, as somebody else's. */
static int hold_file(const char *name)
{
	int fd = open_file(name);

	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	return fd;
}

static bool is_free(const char *name)
{
	int fd = open_file(name);
	int r = flock(fd, LOCK_EX | LOCK_NB);

	(void)close(fd);
	return r == 0;
}

static struct identity identity_of(const char *name)
{
	struct stat st;

	ck_assert_int_eq(stat(test_path(name), &st), 0);
	return (struct identity){ st.st_dev, st.st_ino };
}

static unsigned blocked_on(const char *name)
{
	return test_blocked_on(test_path(name));
}

/* As if a release of that lock had raised no event. */
static void expect_silence(const char *name)
{
	(void)close(open_file(name));
	crowd_note_silence(identity_of(name), test_now());
}

static void *wait_for_lock(void *arg)
{
	struct waiter *waiter = arg;

	waiter->result = filelock_acquire(waiter->lock, waiter->mode, waiter->timeout_ms);
	return NULL;
}

static void begin(struct waiter *waiter, struct filelock *lock)
{
	waiter->lock = lock;
	if (!waiter->timeout_ms)
		waiter->timeout_ms = FILELOCK_WAIT_FOREVER;
	ck_assert_int_eq(pthread_create(&waiter->thread, NULL, wait_for_lock, waiter), 0);
}

static int end(struct waiter *waiter)
{
	ck_assert_int_eq(pthread_join(waiter->thread, NULL), 0);
	return waiter->result;
}

/* In the kernel's queue for the file "lock", which somebody holds. */
static void begin_blocked(struct waiter *waiter)
{
	expect_silence("lock");
	begin(waiter, open_lock("lock"));
	await(blocked_on("lock") == 1);
}

static void let_go(struct waiter *waiter)
{
	ck_assert_int_eq(filelock_release(waiter->lock), 0);
	filelock_close(waiter->lock);
}

/* --- how it begins --- */

/* shows: crowd */
START_TEST(test_who_loses_three_events_waits_in_the_kernels_queue)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	begin(&waiter, open_lock("lock"));
	await((close(open_file("lock")), blocked_on("lock") == 1));
	ck_assert_int_eq(flock(holder, LOCK_UN), 0); /* raises no event */
	ck_assert_int_eq(end(&waiter), 0);
	ck_assert(!is_free("lock"));
	let_go(&waiter);
	ck_assert(is_free("lock"));
	(void)close(holder);
}
END_TEST

/* shows: crowd */
START_TEST(test_after_a_release_without_an_event_the_next_wait_is_in_the_kernels_queue)
{
	struct filelock *lock = test_open(test_path("lock"), NULL); /* polls */
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	/* until a poll finds the lock free before anything else does */
	for (;;) {
		begin(&waiter, lock);
		for (int i = 0; i < 20; i++)
			test_nap();
		ck_assert_int_eq(flock(holder, LOCK_UN), 0);
		ck_assert_int_eq(end(&waiter), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
		if (crowd_lasts(identity_of("lock"), test_now()))
			break;
	}
	begin(&waiter, lock);
	await(blocked_on("lock") == 1);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	ck_assert_int_eq(end(&waiter), 0);
	let_go(&waiter);
	(void)close(holder);
}
END_TEST

/* shows: crowd */
START_TEST(test_wait_for_a_folder_is_in_the_kernels_queue)
{
	struct waiter waiter = { 0 };
	struct filelock *lock;
	int holder, own;

	if (!test_locks_are_listed())
		return;
	ck_assert_int_eq(mkdir(test_path("folder"), 0777), 0);
	holder = open(test_path("folder"), O_RDONLY | O_CLOEXEC);
	own = open(test_path("folder"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(filelock_open_fd(own, NULL, &lock), 0);
	begin(&waiter, lock);
	await(blocked_on("folder") == 1);
	(void)close(holder);
	ck_assert_int_eq(end(&waiter), 0);
	/* and it is the caller's own descriptor that has it */
	ck_assert_int_eq(flock(own, LOCK_UN), 0);
	holder = open(test_path("folder"), O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(close(holder), 0);
	filelock_close(lock);
	(void)close(own);
}
END_TEST

START_TEST(test_wait_on_a_callers_descriptor_leaves_it_where_it_is)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");
	int own = open_file("lock");
	struct filelock *lock;

	if (!test_locks_are_listed())
		return;
	options.poll_interval_ms = 3600000;
	expect_silence("lock");
	ck_assert_int_eq(filelock_open_fd(own, &options, &lock), 0);
	begin(&waiter, lock);
	await(blocked_on("lock") == 1);
	ck_assert_int_ge(fcntl(own, F_GETFD), 0);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	ck_assert_int_eq(end(&waiter), 0);
	ck_assert_int_eq(filelock_fd(lock), own);
	ck_assert(!is_free("lock"));
	let_go(&waiter);
	ck_assert(is_free("lock"));
	ck_assert_int_eq(close(own), 0);
	(void)close(holder);
}
END_TEST

START_TEST(test_shared_waits_are_granted_together)
{
	struct waiter waiters[2] = { { .mode = SH }, { .mode = SH } };
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	expect_silence("lock");
	for (unsigned i = 0; i < 2; i++)
		begin(&waiters[i], open_lock("lock"));
	await(blocked_on("lock") == 2);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(end(&waiters[i]), 0);
	for (unsigned i = 0; i < 2; i++)
		let_go(&waiters[i]);
	(void)close(holder);
}
END_TEST

/* shows: no-thread */
START_TEST(test_two_that_take_turns_have_no_thread)
{
	struct filelock *lock = open_lock("lock");
	struct peer peer;

	ck_assert_int_eq(filelock_acquire(lock, EX, FILELOCK_NO_WAIT), 0);
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, test_path("lock"), NULL), 0);
	for (unsigned i = test_rounds(20); i > 0; i--) {
		peer_order_acquire(&peer, EX, FILELOCK_WAIT_FOREVER);
		peer_await_notice(&peer);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(peer_answer(&peer), 0);
		ck_assert_int_eq(peer_release(&peer), 0);
		ck_assert_int_eq(filelock_acquire(lock, EX, FILELOCK_WAIT_FOREVER), 0);
	}
	ck_assert_uint_eq(helpers_thread_count(), 0);
	peer_stop(&peer);
	filelock_close(lock);
}
END_TEST

/* --- how it ends --- */

START_TEST(test_timeout_ends_a_blocked_wait)
{
	struct waiter waiter = { .timeout_ms = 100 };
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	expect_silence("lock");
	begin(&waiter, open_lock("lock"));
	ck_assert_int_eq(end(&waiter), -ETIMEDOUT);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	await(is_free("lock"));
	ck_assert_int_eq(filelock_acquire(waiter.lock, EX, FILELOCK_WAIT_FOREVER), 0);
	let_go(&waiter);
	(void)close(holder);
}
END_TEST

static void pass_the_deadline_and_let_go(void *arg)
{
	clock_advance(200 * SECONDS);
	(void)close(*(int *)arg);
}

START_TEST(test_attempt_at_the_deadline_of_a_blocked_wait_can_still_win)
{
	struct filelock *lock = open_lock("lock");
	int holder = hold_file("lock");

	expect_silence("lock");
	clock_fake(test_now()); /* before there is a helper */
	fault_before(FAULT_ppoll, 1, pass_the_deadline_and_let_go, &holder);
	ck_assert_int_eq(filelock_acquire(lock, EX, 100000), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

/* shows: crowd */
START_TEST(test_interrupt_ends_a_blocked_wait)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	begin_blocked(&waiter);
	filelock_interrupt(waiter.lock);
	ck_assert_int_eq(end(&waiter), -ECANCELED);
	await(blocked_on("lock") == 0); /* though the lock is held */
	filelock_close(waiter.lock);
	(void)close(holder);
	ck_assert(is_free("lock"));
}
END_TEST

START_TEST(test_cancelled_thread_leaves_a_handle_that_waits_again)
{
#ifdef __SANITIZE_THREAD__
	test_skip("ThreadSanitizer does not see what a cancelled thread locks");
	return;
#endif
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	begin_blocked(&waiter);
	ck_assert_int_eq(pthread_cancel(waiter.thread), 0);
	ck_assert_int_eq(pthread_join(waiter.thread, NULL), 0);
	begin(&waiter, waiter.lock);
	await(blocked_on("lock") == 1); /* one place, adopted or new */
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	ck_assert_int_eq(end(&waiter), 0);
	let_go(&waiter);
	(void)close(holder);
}
END_TEST

static int exit_while_blocked(void *arg)
{
	struct waiter waiter = { 0 };

	(void)arg;
	begin_blocked(&waiter);
	exit(0);
}

/* shows: crowd */
START_TEST(test_process_exits_while_it_is_blocked)
{
	int holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	ck_assert_int_eq(test_in_child(exit_while_blocked, NULL), 0);
	await(blocked_on("lock") == 0);
	(void)close(holder);
	await(is_free("lock"));
}
END_TEST

static int exec_while_blocked(void *arg)
{
	struct waiter waiter = { 0 };

	(void)arg;
	begin_blocked(&waiter);
	(void)execlp("sh", "sh", "-c", "> $0; exec sleep 1000", test_path("executed"), (char *)NULL);
	return 1;
}

/* shows: crowd */
START_TEST(test_exec_takes_a_process_out_of_the_queue)
{
	int holder = hold_file("lock");
	pid_t child;

	if (!test_locks_are_listed())
		return;
	child = test_fork(exec_while_blocked, NULL);
	await(access(test_path("executed"), F_OK) == 0);
	ck_assert_uint_eq(blocked_on("lock"), 0);
	(void)close(holder);
	await(is_free("lock"));
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(test_reap(child), 128 + SIGKILL);
}
END_TEST

static int stay_blocked(void *arg)
{
	struct waiter waiter = { 0 };

	(void)arg;
	expect_silence("lock");
	begin(&waiter, open_lock("lock"));
	return end(&waiter) == 0 ? 0 : 1;
}

/* shows: crowd */
START_TEST(test_death_takes_a_process_out_of_the_queue)
{
	int holder = hold_file("lock");
	pid_t child;

	if (!test_locks_are_listed())
		return;
	child = test_fork(stay_blocked, NULL);
	await(blocked_on("lock") == 1);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(test_reap(child), 128 + SIGKILL);
	ck_assert_uint_eq(blocked_on("lock"), 0);
	(void)close(holder);
	ck_assert(is_free("lock"));
}
END_TEST

START_TEST(test_stopped_process_keeps_nobody_out)
{
	int holder = hold_file("lock");
	pid_t child;
	int status;

	if (!test_locks_are_listed())
		return;
	child = test_fork(stay_blocked, NULL);
	await(blocked_on("lock") == 1);
	ck_assert_int_eq(kill(child, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	await(is_free("lock"));
	ck_assert_int_eq(kill(child, SIGCONT), 0);
	ck_assert_int_eq(test_reap(child), 0);
	(void)close(holder);
}
END_TEST

static int wait_for_a_kill(void *arg)
{
	(void)arg;
	for (;;)
		(void)pause();
	return 0;
}

/* shows: crowd */
START_TEST(test_forked_child_has_no_part_in_a_blocked_wait)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");
	pid_t child;

	if (!test_locks_are_listed())
		return;
	begin_blocked(&waiter);
	child = test_fork(wait_for_a_kill, NULL);
	(void)flock(holder, LOCK_UN);
	ck_assert_int_eq(end(&waiter), 0);
	let_go(&waiter);
	ck_assert(is_free("lock")); /* the child has no descriptor of it */
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(test_reap(child), 128 + SIGKILL);
	(void)close(holder);
}
END_TEST

/* shows: crowd */
START_TEST(test_file_that_is_replaced_under_a_blocked_wait_gives_way_to_its_successor)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");
	char old[256];

	if (!test_locks_are_listed())
		return;
	(void)snprintf(old, sizeof(old), "%s", test_path("old"));
	ck_assert_int_eq(link(test_path("lock"), old), 0);
	begin_blocked(&waiter);
	(void)close(open_file("another"));
	ck_assert_int_eq(rename(test_path("another"), test_path("lock")), 0);
	ck_assert_int_eq(end(&waiter), 0); /* the old file is held yet */
	ck_assert(!is_free("lock"));
	await(test_blocked_on(old) == 0);
	let_go(&waiter);
	(void)close(holder);
}
END_TEST

START_TEST(test_file_that_is_removed_long_after_a_wait_was_blocked_is_noticed)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	if (!test_locks_are_listed() || test_is_in_valgrind())
		return;
	begin_blocked(&waiter);
	await(test_watches() == 1); /* of what may befall the file */
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	ck_assert_int_eq(end(&waiter), 0);
	ck_assert(!is_free("lock"));
	let_go(&waiter);
	(void)close(holder);
}
END_TEST

START_TEST(test_grant_on_a_file_that_was_replaced_is_none)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");
	int other = hold_file("another");

	if (!test_locks_are_listed())
		return;
	begin_blocked(&waiter);
	ck_assert_int_eq(rename(test_path("another"), test_path("lock")), 0);
	(void)close(holder); /* the helper wins, and the lock is somebody else's */
	await(blocked_on("lock") == 1 || !is_free("lock"));
	(void)close(other);
	ck_assert_int_eq(end(&waiter), 0);
	ck_assert_int_eq(filelock_verify(waiter.lock), 0);
	let_go(&waiter);
}
END_TEST

/* --- without helpers --- */

/* shows: no-thread */
START_TEST(test_maximum_of_none_leaves_a_wait_to_events)
{
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	filelock_set_max_helpers(0);
	expect_silence("lock");
	begin(&waiter, open_lock("lock"));
	(void)close(holder); /* perhaps before it waits */
	ck_assert_int_eq(end(&waiter), 0);
	ck_assert_uint_eq(helpers_thread_count(), 0);
	let_go(&waiter);
}
END_TEST

/* What a wait needs to be blocked. */
static const struct {
	enum fault_call call;
	int error;
} needs[] = {
	{ FAULT_pthread_create, EAGAIN }, { FAULT_epoll_create1, EMFILE }, { FAULT_eventfd, EMFILE },
	{ FAULT_statfs, EIO },
};

/* shows: crowd */
START_TEST(test_wait_goes_on_by_events_without_what_it_takes_to_block)
{
	struct filelock *lock = open_lock("lock");
	struct waiter waiter = { 0 };
	int holder = hold_file("lock");

	expect_silence("lock");
	fault_set(needs[_i].call, 1, FAULT_FOR_GOOD, needs[_i].error);
	begin(&waiter, lock);
	await(fault_hits(needs[_i].call) > 0);
	(void)close(holder);
	ck_assert_int_eq(end(&waiter), 0);
	ck_assert_uint_eq(helpers_thread_count(), 0);
	let_go(&waiter);
}
END_TEST

/* --- where the system refuses a thread: 0, or NOT_HERE --- */

enum { NOBODY = 65534, NOT_HERE = 77 };

static int refuse_nothing(void)
{
	return 0;
}

/* Who may exceed the limit becomes somebody who may not. */
static int refuse_by_limit(void)
{
	struct rlimit none = { 0, 0 };

	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0))
		return NOT_HERE;
	return setrlimit(RLIMIT_NPROC, &none) < 0 ? NOT_HERE : 0;
}

static int refuse_by_filter(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 2, 0),
#ifdef SYS_clone3
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone3, 1, 0),
#else
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0),
#endif
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
	};
	struct sock_fprog program = { sizeof(code) / sizeof(*code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return NOT_HERE;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? NOT_HERE : 0;
}

static const struct refusal {
	int (*refuse)(void);
	unsigned helpers; /* that a wait has */
} refusals[] = { { refuse_nothing, 1 }, { refuse_by_limit, 0 }, { refuse_by_filter, 0 } };

struct refused_wait {
	int holder;
	unsigned helpers; /* when it was about to sleep */
};

/* Before it sleeps: lets the lock go, with an event. */
static bool count_and_let_go(void *arg)
{
	struct refused_wait *wait = arg;

	if (wait->holder < 0)
		return false;
	wait->helpers = helpers_thread_count();
	(void)close(wait->holder);
	wait->holder = -1;
	return false;
}

static int wait_refused(void *arg)
{
	const struct refusal *refusal = arg;
	struct refused_wait wait = { .holder = hold_file("lock") };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	int r;

	options.poll_interval_ms = 3600000;
	options.should_cancel = count_and_let_go;
	options.arg = &wait;
	lock = test_open(test_path("lock"), &options);
	expect_silence("lock");
	r = refusal->refuse();
	if (r != 0)
		return r;
	if (filelock_acquire(lock, EX, FILELOCK_WAIT_FOREVER) != 0)
		return 1;
	if (wait.holder >= 0 || wait.helpers != refusal->helpers)
		return 2;
	return filelock_release(lock) == 0 ? 0 : 3;
}

/* shows: no-thread */
START_TEST(test_wait_goes_on_by_events_where_the_system_refuses_a_thread)
{
	int r;

	if (refusals[_i].refuse == refuse_by_limit && geteuid() == 0 && !test_may_change_user())
		return;
	r = test_in_child(wait_refused, (void *)&refusals[_i]);
	if (r == NOT_HERE) {
		test_skip("the system does not let a process refuse itself threads");
		return;
	}
	ck_assert_int_eq(r, 0);
}
END_TEST

/* --- user namespaces, which the system refuses to a process with threads --- */

struct sandboxed_wait {
	int holder;
	int error; /* of unshare(2) */
};

static bool make_a_namespace_and_let_go(void *arg)
{
	struct sandboxed_wait *wait = arg;

	if (wait->holder < 0)
		return false;
	wait->error = unshare(CLONE_NEWUSER) < 0 ? errno : 0;
	(void)close(wait->holder);
	wait->holder = -1;
	return false;
}

/* The error of unshare(2) during a wait, or 255. */
static int wait_sandboxed(void *arg)
{
	struct sandboxed_wait wait = { .holder = hold_file("lock"), .error = -1 };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	const unsigned *helpers = arg;
	struct filelock *lock;

	options.poll_interval_ms = 3600000;
	options.should_cancel = make_a_namespace_and_let_go;
	options.arg = &wait;
	lock = test_open(test_path("lock"), &options);
	filelock_set_max_helpers(*helpers);
	expect_silence("lock");
	if (filelock_acquire(lock, EX, FILELOCK_WAIT_FOREVER) != 0)
		return 255;
	return filelock_release(lock) == 0 ? wait.error : 255;
}

/* shows: no-thread */
START_TEST(test_user_namespace_is_made_without_helpers_and_refused_with_one)
{
	unsigned none = 0, one = 1;
	int r = test_in_child(wait_sandboxed, &none);

	if (r != 0) {
		ck_assert_int_ne(r, 255);
		test_skip("this user may make no user namespace here, or a tool has a thread");
		return;
	}
	ck_assert_int_eq(test_in_child(wait_sandboxed, &one), EINVAL);
}
END_TEST

/* shows: crowd */
START_TEST(test_long_waits_that_use_up_the_helpers_leave_others_to_events)
{
	enum { MOST = 2 };
	static const char *const names[MOST] = { "a", "b" };
	struct waiter waiters[MOST] = { { 0 } }, last = { 0 };
	int holders[MOST], holder = hold_file("lock");

	if (!test_locks_are_listed())
		return;
	filelock_set_max_helpers(MOST);
	for (unsigned i = 0; i < MOST; i++) {
		holders[i] = hold_file(names[i]);
		expect_silence(names[i]);
		begin(&waiters[i], open_lock(names[i]));
		await(blocked_on(names[i]) == 1);
	}
	expect_silence("lock");
	begin(&last, open_lock("lock"));
	(void)close(holder);
	ck_assert_int_eq(end(&last), 0);
	let_go(&last);
	for (unsigned i = 0; i < MOST; i++) {
		(void)close(holders[i]);
		ck_assert_int_eq(end(&waiters[i]), 0);
		let_go(&waiters[i]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
	        "crowd", test_who_loses_three_events_waits_in_the_kernels_queue,
	        test_after_a_release_without_an_event_the_next_wait_is_in_the_kernels_queue,
	        test_wait_for_a_folder_is_in_the_kernels_queue,
	        test_wait_on_a_callers_descriptor_leaves_it_where_it_is,
	        test_shared_waits_are_granted_together, test_two_that_take_turns_have_no_thread,
	        test_timeout_ends_a_blocked_wait,
	        test_attempt_at_the_deadline_of_a_blocked_wait_can_still_win,
	        test_interrupt_ends_a_blocked_wait,
	        test_cancelled_thread_leaves_a_handle_that_waits_again,
	        test_process_exits_while_it_is_blocked, test_exec_takes_a_process_out_of_the_queue,
	        test_death_takes_a_process_out_of_the_queue, test_stopped_process_keeps_nobody_out,
	        test_forked_child_has_no_part_in_a_blocked_wait,
	        test_file_that_is_replaced_under_a_blocked_wait_gives_way_to_its_successor,
	        test_file_that_is_removed_long_after_a_wait_was_blocked_is_noticed,
	        test_grant_on_a_file_that_was_replaced_is_none,
	        test_maximum_of_none_leaves_a_wait_to_events,
	        test_user_namespace_is_made_without_helpers_and_refused_with_one,
	        test_long_waits_that_use_up_the_helpers_leave_others_to_events);
	TCase *faults = tcase_create("faults");

	tcase_add_loop_test(faults, test_wait_goes_on_by_events_without_what_it_takes_to_block, 0,
	                    sizeof(needs) / sizeof(*needs));
	tcase_add_loop_test(faults, test_wait_goes_on_by_events_where_the_system_refuses_a_thread,
	                    0, sizeof(refusals) / sizeof(*refusals));
	suite_add_tcase(suite, faults);
	return support_main(suite);
}
