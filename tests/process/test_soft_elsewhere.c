/*
 * What a soft lock keeps on every file system, whatever links, inode numbers and flocks are worth
 * there: tests/filesystems/run --soft runs these on some that users have.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "kinds/liveness.h"
#include "softly.h"

enum { PROCESSES = 3, CANNOT = 200, NEVER = 3 };

static struct storm {
	struct witness witness;
	_Atomic bool over, held;
	unsigned rounds;
} *storm;

/* No assertion here: a kill in the midst of one would leave half a message to Check. */
static int take_turns(void *arg)
{
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock;

	if (test_try_open(test_path("lock"), NULL, &lock) < 0)
		return 2;
	for (unsigned i = 0; !storm->over && (i < storm->rounds || storm->rounds == 0); i++) {
		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER) < 0) {
			fprintf(stderr, "%s\n", filelock_last_error(lock));
			return 1;
		}
		witness_enter(&storm->witness, who);
		witness_leave(&storm->witness, who);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

static void start_storm(pid_t pids[PROCESSES], unsigned rounds)
{
	storm = test_shared(sizeof(*storm));
	storm->rounds = rounds;
	(void)test_folder();
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns, (void *)(i + 1));
}

static void end_storm(const pid_t pids[PROCESSES])
{
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
}

/* shows: never-two */
START_TEST(test_processes_never_overlap)
{
	pid_t pids[PROCESSES];

	start_storm(pids, test_rounds(100));
	end_storm(pids);
	ck_assert_uint_eq(storm->witness.entries, PROCESSES * storm->rounds);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

static bool has_links(void)
{
	bool linked;

	put_bytes(test_path("one"), "", 0);
	linked = link(test_path("one"), test_path("two")) == 0;
	(void)unlink(test_path("one"));
	(void)unlink(test_path("two"));
	return linked;
}

/* shows: killed-holder-frees */
START_TEST(test_killed_processes_leave_the_lock_to_the_others)
{
	pid_t pids[PROCESSES];
	unsigned seed = (unsigned)getpid(), entries = 0;

	if (!has_links()) {
		test_skip("without hard links the killed can leave an empty marker, which is held");
		return;
	}
	start_storm(pids, 0);
	for (unsigned round = 0; round < test_rounds(20); round++) {
		size_t victim = (size_t)rand_r(&seed) % PROCESSES;

		await(storm->witness.entries > entries);
		entries = storm->witness.entries;
		storm->witness.victims[victim + 1] = true;
		ck_assert_int_eq(kill(pids[victim], SIGKILL), 0);
		ck_assert_int_eq(test_reap(pids[victim]), 128 + SIGKILL);
		pids[victim] = test_fork(take_turns, (void *)(victim + 1));
	}
	storm->over = true;
	end_storm(pids);
}
END_TEST

/* shows: killed-holder-frees */
START_TEST(test_killed_holder_is_recovered)
{
	struct peer holder;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(try_once(test_path("lock")), 0);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

static int try_there(void *arg)
{
	(void)arg;
	return mount("proc", "/proc", "proc", 0, "") < 0 ? CANNOT : -try_once(test_path("lock"));
}

static int try_in_a_pid_namespace(void *arg)
{
	(void)arg;
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return CANNOT;
	return test_in_child(try_there, NULL);
}

/* shows: dead-taken-over */
START_TEST(test_living_holder_of_another_pid_namespace_is_held)
{
	struct peer holder;
	int r;

	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	r = test_in_child(try_in_a_pid_namespace, NULL);
	if (r == CANNOT)
		test_skip("no PID namespace to be had");
	else
		ck_assert_int_eq(r, ETIMEDOUT);
	peer_stop(&holder);
	ck_assert_int_eq(try_once(test_path("lock")), 0);
}
END_TEST

static int hold_there(void *arg)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct storm *shared = arg;

	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return CANNOT;
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		return 1;
	shared->held = true;
	await(shared->over);
	filelock_close(lock);
	return 0;
}

static int hold_in_a_pid_namespace(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return CANNOT;
	return test_in_child(hold_there, arg);
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == pid;
}

/* shows: dead-taken-over */
START_TEST(test_living_holder_inside_a_pid_namespace_is_held)
{
	pid_t pid;
	int r;

	storm = test_shared(sizeof(*storm));
	(void)test_folder();
	pid = test_fork(hold_in_a_pid_namespace, storm);
	await(storm->held || has_ended(pid));
	if (!has_ended(pid))
		ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	storm->over = true;
	r = test_reap(pid);
	if (r == CANNOT)
		test_skip("no PID namespace to be had");
	else
		ck_assert_int_eq(r, 0);
	ck_assert_int_eq(try_once(test_path("lock")), 0);
}
END_TEST

/* As Python's releases before 4.1 write it: the host without the namespace. */
static int stay(void *arg)
{
	struct storm *shared = arg;
	struct marker own;
	char host[256], text[MARKER_SIZE + 1];

	if (liveness_read_own(&own) < 0 || gethostname(host, sizeof(host)) < 0)
		return 1;
	text[soft_record_format(text, getpid(), host, own.token)] = '\0';
	test_write_file(test_path("lock"), text);
	shared->held = true;
	await(shared->over);
	return 0;
}

/* The first process of each namespace has the same pid, and may have the same start token. */
static int stay_there(void *arg)
{
	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return CANNOT;
	return test_in_child(stay, arg);
}

static int stay_in_a_pid_namespace(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return CANNOT;
	return test_in_child(stay_there, arg);
}

/* Returns whether it stays there. */
static bool begin_to_stay(pid_t *ret_pid)
{
	storm = test_shared(sizeof(*storm));
	(void)test_folder();
	*ret_pid = test_fork(stay_in_a_pid_namespace, storm);
	await(storm->held || has_ended(*ret_pid));
	return !has_ended(*ret_pid);
}

static void end_to_stay(pid_t pid)
{
	storm->over = true;
	if (test_reap(pid) == CANNOT)
		test_skip("no PID namespace to be had");
}

/* Its pid is nobody's here, or another's. */
START_TEST(test_record_of_a_living_process_inside_is_held_where_open_files_are_not_known)
{
	pid_t pid;

	if (begin_to_stay(&pid)) {
		fault_set(FAULT_fcntl_setlease, 1, FAULT_FOR_GOOD, EACCES);
		ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
		fault_clear();
	}
	end_to_stay(pid);
}
END_TEST

static int look_there(void *arg)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	int64_t now = test_now();
	int r;

	(void)arg;
	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return CANNOT;
	clock_fake(now);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	if (r != -ETIMEDOUT)
		return 1;
	clock_fake(now + 2 * SECONDS - 1);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	if (r != -ETIMEDOUT)
		return 2;
	clock_fake(now + 2 * SECONDS);
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	filelock_close(lock);
	return r < 0 ? NEVER : 0;
}

static int look_in_a_pid_namespace(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return CANNOT;
	return test_in_child(look_there, arg);
}

static bool is_local(void)
{
	struct statfs fs;

	return statfs(test_folder(), &fs) == 0 && sys_is_local(&fs);
}

/* From a third one, where no process of the others shows. It has closed its marker, as those releases do
   before they remove it. */
/* shows: closed-marker */
START_TEST(test_closed_record_that_names_no_namespace_is_held_for_two_seconds_more)
{
	pid_t pid;

	if (begin_to_stay(&pid))
		ck_assert_int_eq(test_in_child(look_in_a_pid_namespace, NULL),
		                 is_local() ? 0 : NEVER);
	end_to_stay(pid);
}
END_TEST

static int try_elsewhere(void *arg)
{
	(void)arg;
	return -try_once(test_path("folder/lock"));
}

/* The releaser lives on. */
START_TEST(test_release_leaves_nothing)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	for (unsigned i = 0; i < 3; i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		ck_assert_int_eq(filelock_verify(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert(!exists(test_path("lock")));
	}
	ck_assert_int_eq(try_once(test_path("lock")), 0);
	filelock_close(lock);
}
END_TEST

/* shows: hidden-release */
START_TEST(test_release_of_a_marker_that_is_not_seen_keeps_nobody_out)
{
	struct filelock *lock;

	ck_assert_int_eq(mkdir(test_path("folder"), 0700), 0);
	lock = test_open(test_path("folder/lock"), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(rename(test_path("folder"), test_path("away")), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(rename(test_path("away"), test_path("folder")), 0);
	ck_assert_int_eq(test_in_child(try_elsewhere, NULL), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	return support_main(SUITE("soft elsewhere", test_processes_never_overlap,
	                          test_killed_processes_leave_the_lock_to_the_others,
	                          test_killed_holder_is_recovered,
	                          test_living_holder_of_another_pid_namespace_is_held,
	                          test_living_holder_inside_a_pid_namespace_is_held,
	                          test_record_of_a_living_process_inside_is_held_where_open_files_are_not_known,
	                          test_closed_record_that_names_no_namespace_is_held_for_two_seconds_more,
	                          test_release_leaves_nothing,
	                          test_release_of_a_marker_that_is_not_seen_keeps_nobody_out));
}
