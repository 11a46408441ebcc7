/*
 * The faults that break marker files elsewhere. The designs that they break are planted bugs
 * (tests/planted), which these tests catch. Stalls are in test_soft_stalls.c.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "softly.h"
#include "base/sys.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80 /* since Linux 5.6 */
#endif

static char path[4096];

static void set_up(void)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
}

/* In a process of its own: -try_once as an exit status. */
static int contend(void *arg)
{
	(void)arg;
	return -try_once(path);
}

/* The holder may be one that only seems to have ended, for two seconds. */
static int wait_for_it(void *arg)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);

	(void)arg;
	filelock_close(lock);
	return -r;
}

enum { CANNOT = 200 };

struct inside {
	int (*run)(void *arg);
	void *arg;
};

static int mount_proc_and_run(void *arg)
{
	const struct inside *inside = arg;

	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return CANNOT;
	return inside->run(inside->arg);
}

static int enter_pid_namespace(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return CANNOT;
	return test_in_child(mount_proc_and_run, arg);
}

/* Runs in a PID namespace, with its /proc; CANNOT: the system gives none. */
static int in_pid_namespace(int (*run)(void *arg), void *arg)
{
	struct inside inside = { run, arg };

	return test_in_child(enter_pid_namespace, &inside);
}

static int enter_time_namespace(void *arg)
{
	const struct inside *inside = arg;
	int fd;

	if (unshare(CLONE_NEWTIME) < 0)
		return CANNOT;
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "boottime 5000 0\n", 16) != 16)
		return CANNOT;
	close(fd);
	return test_in_child(inside->run, inside->arg); /* children are in it */
}

static int in_time_namespace(int (*run)(void *arg), void *arg)
{
	struct inside inside = { run, arg };

	return test_in_child(enter_time_namespace, &inside);
}

static void check_from(int (*where)(int (*run)(void *arg), void *arg))
{
	struct peer holder;
	int r;

	set_up();
	peer_start_holding(&holder, path, FILELOCK_EXCLUSIVE);
	r = where(contend, NULL);
	if (r == CANNOT)
		test_skip("the system gives no such namespace");
	else
		ck_assert_int_eq(r, ETIMEDOUT);
	peer_kill(&holder, SIGKILL);
	if (r != CANNOT)
		ck_assert_int_eq(where(wait_for_it, NULL), 0); /* recovered from there, too */
}

/* shows: live-marker-stays */
START_TEST(test_live_holder_in_another_pid_namespace_is_held)
{
	check_from(in_pid_namespace);
}
END_TEST

/* shows: live-marker-stays */
START_TEST(test_live_holder_in_another_time_namespace_is_held)
{
	check_from(in_time_namespace);
}
END_TEST

static void stop_here(void *arg)
{
	(void)arg;
	raise(SIGSTOP);
}

static bool has_stopped(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == pid;
}

static int break_late(void *arg)
{
	(void)arg;
	/* it has read the dead record by then */
	fault_before(FAULT_kill, 1, stop_here, NULL);
	return filelock_acquire(peer_lock(), FILELOCK_EXCLUSIVE, 0);
}

/* The dead marker was taken over, or made anew, while the breaker was away: it must not go. */
/* shows: late-breaker */
START_TEST(test_delayed_breaker_leaves_the_successor_alone)
{
	struct filelock *lock;
	struct peer breaker;

	set_up();
	lock = test_open(path, NULL);
	put_record(path, dead_pid(), NULL);
	peer_start(&breaker);
	ck_assert_int_eq(peer_open(&breaker, path, NULL), 0);
	peer_order(&breaker, break_late, NULL);
	await(has_stopped(breaker.pid));
	if (_i == 0) {
		/* the breaker's shared flock keeps takers off as long as it is stopped; by hand */
		ck_assert_int_eq(unlink(path), 0);
	} else {
		/* released and taken again */
		ck_assert_int_eq(filelock_break(lock), 0);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(kill(breaker.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_answer(&breaker), -ETIMEDOUT);
	ck_assert_int_eq(filelock_verify(lock), 0);
	peer_stop(&breaker);
	filelock_close(lock);
}
END_TEST

/* shows: dead-taken-over */
START_TEST(test_zombie_holder_is_recovered_before_it_is_reaped)
{
	struct peer holder;
	siginfo_t info;

	set_up();
	peer_start_holding(&holder, path, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(kill(holder.pid, SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)holder.pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(try_once(path), 0);
	ck_assert_int_eq(test_reap(holder.pid), 128 + SIGKILL);
}
END_TEST

/* The record alone: nobody has the marker open or locked. */
START_TEST(test_zombie_is_dead_by_its_record_too)
{
	pid_t pid;
	siginfo_t info;

	set_up();
	pid = test_fork(exit_at_once, NULL);
	put_record(path, pid, NULL);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert_int_eq(try_once(path), 0);
	ck_assert_int_eq(test_reap(pid), 0);
}
END_TEST

static pthread_t leader;

static void *outlive_the_leader(void *arg)
{
	(void)arg;
	for (;;)
		(void)pause();
	return NULL;
}

static int end_the_leader(void *arg)
{
	pthread_t thread;

	(void)arg;
	leader = pthread_self();
	if (pthread_create(&thread, NULL, outlive_the_leader, NULL) != 0)
		return 1;
	pthread_exit(NULL);
}

static bool is_zombie(pid_t pid)
{
	char name[64], text[512];
	const char *after;

	(void)snprintf(name, sizeof(name), "/proc/%ld/stat", (long)pid);
	test_read_file(name, text, sizeof(text));
	after = strrchr(text, ')');
	return after && after[2] == 'Z';
}

/* shows: live-marker-stays */
START_TEST(test_zombie_leader_with_living_threads_is_held)
{
	pid_t pid;

	set_up();
	pid = test_fork(end_the_leader, NULL);
	await(is_zombie(pid));
	put_record(path, pid, NULL);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(test_reap(pid), 128 + SIGKILL);
	ck_assert_int_eq(try_once(path), 0);
}
END_TEST

static int wait_for_a_signal(void *arg)
{
	(void)arg;
	(void)pause();
	return 0;
}

static int hold_and_die(void *arg)
{
	struct filelock *lock = test_open(path, NULL);

	(void)arg;
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		return 1;
	return raise(SIGKILL);
}

static bool give_pid_again(pid_t pid, pid_t *ret_pid)
{
	FILE *file = fopen("/proc/sys/kernel/ns_last_pid", "we");

	if (!file)
		return false;
	(void)fprintf(file, "%ld", (long)pid - 1);
	if (fclose(file) != 0)
		return false;
	*ret_pid = test_fork(wait_for_a_signal, NULL);
	return *ret_pid == pid;
}

/* In a PID namespace: 0 held, 1 taken, or CANNOT. */
static int reuse_a_pid(void *arg)
{
	int64_t tick_ends = test_now() + 50 * MILLISECONDS;
	pid_t dead = test_fork(hold_and_die, NULL), again;
	int r;

	(void)arg;
	if (test_reap(dead) != 128 + SIGKILL)
		return CANNOT + 1;
	while (test_now() < tick_ends) /* start times have a resolution of 10 ms */
		test_nap();
	if (!give_pid_again(dead, &again))
		return CANNOT;
	r = try_once(path);
	(void)kill(again, SIGKILL);
	return r == 0;
}

/* shows: dead-taken-over */
START_TEST(test_pid_given_to_another_process_is_recovered)
{
	int r;

	set_up();
	r = in_pid_namespace(reuse_a_pid, NULL);
	if (r == CANNOT)
		test_skip("pids cannot be chosen here");
	else
		ck_assert_int_eq(r, 1);
}
END_TEST

static int has_a_token(void *arg)
{
	(void)arg;
	return *own_token() != '\0';
}

/* Whether the first process of a namespace in this one's, whose /proc it is not in, has one. */
static int tell_and_descend(void *arg)
{
	(void)arg;
	if (getpid() != 1 || !has_a_token(NULL) || unshare(CLONE_NEWPID) < 0)
		return CANNOT;
	return test_in_child(has_a_token, NULL);
}

/* The parent's was remembered for this very pid. */
START_TEST(test_first_process_of_a_nested_pid_namespace_has_not_its_parents_token)
{
	int r = in_pid_namespace(tell_and_descend, NULL);

	if (r == CANNOT)
		test_skip("the system gives no PID namespace in another");
	else
		ck_assert_int_eq(r, 0);
}
END_TEST

static int have_another_host_name(void *arg)
{
	if (unshare(CLONE_NEWUTS) < 0 || sethostname("elsewhere", 9) < 0)
		return CANNOT;
	return contend(arg);
}

/* Another host's, as far as anybody can tell there: for as long as it stands. */
/* shows: unproved-is-held */
START_TEST(test_dead_holder_of_another_uts_namespace_is_held)
{
	int r;

	set_up();
	put_record(path, dead_pid(), NULL);
	r = test_in_child(have_another_host_name, NULL);
	if (r == CANNOT)
		test_skip("the system gives no UTS namespace");
	else
		ck_assert_int_eq(r, ETIMEDOUT);
	ck_assert_int_eq(try_once(path), 0);
}
END_TEST

int main(void)
{
	TCase *loops = tcase_create("each successor");
	Suite *suite;

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	suite = SUITE("soft faults", test_live_holder_in_another_pid_namespace_is_held,
	              test_live_holder_in_another_time_namespace_is_held,
	              test_zombie_holder_is_recovered_before_it_is_reaped,
	              test_zombie_is_dead_by_its_record_too,
	              test_zombie_leader_with_living_threads_is_held,
	              test_pid_given_to_another_process_is_recovered,
	              test_first_process_of_a_nested_pid_namespace_has_not_its_parents_token,
	              test_dead_holder_of_another_uts_namespace_is_held);
	tcase_add_loop_test(loops, test_delayed_breaker_leaves_the_successor_alone, 0, 2);
	suite_add_tcase(suite, loops);
	return support_main(suite);
}
