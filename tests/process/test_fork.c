/* Fork and exec: a lock belongs to the process that took it, whatever its children do. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "driver_private.h"
#include "support.h"

static struct filelock *lock;

static void hold(const struct filelock_options *options)
{
	lock = test_open(test_path("lock"), options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
}

/* Asked of the kernel itself, by a description of the test's own. */
static bool somebody_holds(void)
{
	int fd = open(test_path("lock"), O_RDONLY | O_CLOEXEC);
	bool held = flock(fd, LOCK_EX | LOCK_NB) < 0;

	close(fd);
	return held;
}

static int use_in_child(void *arg)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	(void)arg;
	ck_assert(filelock_is_inherited(lock));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_release_all(lock), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_fd(lock), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EFORKED);
	ck_assert_int_eq(filelock_begin(lock, FILELOCK_EXCLUSIVE, 0, NULL, NULL),
	                 FILELOCK_EFORKED);
	ck_assert(!filelock_is_held(lock));
	ck_assert_uint_eq(filelock_depth(lock), 0);
	ck_assert_str_eq(filelock_path(lock), test_path("lock"));
	filelock_interrupt(lock);
	return 0;
}

/* shows: fork-is-harmless */
START_TEST(test_every_call_on_a_childs_handle_is_eforked)
{
	hold(NULL);
	ck_assert_int_eq(test_in_child(use_in_child, NULL), 0);
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert(somebody_holds());
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

static int hold_in_child(void *arg)
{
	struct filelock *other = arg;
	char sentence[256];

	ck_assert(!filelock_is_inherited(lock));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	(void)filelock_describe_holder(lock, sentence, sizeof(sentence));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_release_all(lock), 0);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(other), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	filelock_close(other);
	return 0;
}

/* As daemon(3) does. It has held the lock, and failed to have it, before. */
START_TEST(test_handle_that_holds_and_awaits_nothing_works_in_the_child)
{
	struct filelock *holder = test_open(test_path("lock"), NULL);

	hold(NULL);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 2), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(test_in_child(hold_in_child, holder), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	filelock_close(holder);
}
END_TEST

static int wait_in_child(void *arg)
{
	(void)arg;
	peer_notify();
	return filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
}

/* The watch of its own first wait is of no use to the child, which makes one of its own. */
START_TEST(test_handle_that_has_waited_waits_in_the_child_and_is_woken)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder = test_open(test_path("lock"), NULL);
	struct peer child;

	options.poll_interval_ms = 3600000;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 2), -ETIMEDOUT);
	peer_start(&child);
	peer_order(&child, wait_in_child, NULL);
	peer_await_notice(&child);
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(peer_answer(&child), 0);
	peer_kill(&child, SIGKILL);
	filelock_close(lock);
	filelock_close(holder);
}
END_TEST

static int ask_for_the_sentence(void *arg)
{
	(void)arg;
	ck_assert_int_eq(filelock_fd(lock), FILELOCK_EFORKED);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock),
	                             filelock_strerror(FILELOCK_EFORKED)));
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "acquire it after that"));
	return 0;
}

START_TEST(test_last_error_of_a_dead_handle_says_what_to_do)
{
	hold(NULL);
	ck_assert_int_eq(test_in_child(ask_for_the_sentence, NULL), 0);
	filelock_close(lock);
}
END_TEST

static int close_handle(void *arg)
{
	(void)arg;
	filelock_close(lock);
	return 0;
}

/* shows: fork-is-harmless */
START_TEST(test_close_in_the_child_leaves_the_parents_lock)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.unlink_on_release = true;
	hold(&options);
	ck_assert_int_eq(test_in_child(close_handle, NULL), 0);
	ck_assert(somebody_holds());
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

static int exit_with_handlers(void *arg)
{
	(void)arg;
	fclose(stdout);
	exit(7);
}

/* shows: fork-is-harmless */
START_TEST(test_exit_of_the_child_leaves_the_parents_lock)
{
	hold(NULL);
	ck_assert_int_eq(test_in_child(exit_with_handlers, NULL), 7);
	ck_assert(somebody_holds());
	filelock_close(lock);
}
END_TEST

static int execute_true(void *arg)
{
	(void)arg;
	execl("/bin/sh", "sh", "-c", "exit 9", (char *)NULL);
	return 1;
}

/* shows: fork-is-harmless */
START_TEST(test_exec_in_the_child_leaves_the_parents_lock)
{
	hold(NULL);
	ck_assert_int_eq(test_in_child(execute_true, NULL), 9);
	ck_assert(somebody_holds());
	filelock_close(lock);
}
END_TEST

static int count_descriptors(void *arg)
{
	return test_descriptors() == *(unsigned *)arg ? 0 : 1;
}

/* shows: exec-closes */
START_TEST(test_child_has_no_descriptor_of_a_lock)
{
	unsigned before = test_descriptors();

	hold(NULL);
	ck_assert_uint_eq(test_descriptors(), before + 1);
	ck_assert_int_eq(test_in_child(count_descriptors, &before), 0);
	filelock_close(lock);
}
END_TEST

/* In a process that dies: takes the lock, leaves a child behind, says so, and waits. */
static int leave_a_child(void *arg)
{
	pid_t pid;

	hold(NULL);
	pid = fork();
	while (pid == 0)
		pause();
	*(pid_t *)arg = pid;
	return 0;
}

/* shows: dead-parent-frees */
START_TEST(test_living_child_does_not_keep_a_dead_parents_lock)
{
	pid_t *child = test_shared(sizeof(*child));
	struct peer parent;

	(void)test_folder();
	peer_start(&parent);
	ck_assert_int_eq(peer_call(&parent, leave_a_child, child), 0);
	ck_assert(somebody_holds());
	peer_kill(&parent, SIGKILL);
	ck_assert_int_eq(kill(*child, 0), 0);
	await(!somebody_holds()); /* fork(2) may return here before it does there */
	ck_assert_int_eq(kill(*child, SIGKILL), 0);
}
END_TEST

static int sleep_for_ever(void *arg)
{
	(void)arg;
	while (true)
		pause();
	return 0;
}

/* The child's copy was closed at the fork: the parent's release must tell the waiters itself. */
START_TEST(test_release_wakes_waiters_while_a_child_lives)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer waiter;
	pid_t child;

	options.poll_interval_ms = 3600000;
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, test_path("lock"), &options), 0);
	hold(NULL);
	child = test_fork(sleep_for_ever, NULL);
	peer_order_acquire(&waiter, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&waiter);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(test_reap(child), 128 + SIGKILL);
	peer_stop(&waiter);
	filelock_close(lock);
}
END_TEST

/* shows: child-opens-anew */
START_TEST(test_new_handle_in_the_child_works)
{
	if (test_is_without_shared())
		return;
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer child;

	options.poll_interval_ms = 3600000;
	hold(NULL);
	/* what the parent's waits keep for later must not serve the child */
	ck_assert_int_eq(filelock_acquire(test_open(test_path("lock"), NULL), FILELOCK_SHARED, 2),
	                 -ETIMEDOUT);
	peer_start(&child);
	ck_assert_int_eq(peer_open(&child, test_path("lock"), &options), 0);
	ck_assert_int_eq(peer_acquire(&child, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	peer_order_acquire(&child, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&child);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&child), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	peer_stop(&child);
	filelock_close(lock);
}
END_TEST

static int nest_forks(void *arg)
{
	struct filelock *own;

	(void)arg;
	filelock_close(lock);
	lock = own = test_open(test_path("childs"), NULL);
	ck_assert_int_eq(filelock_acquire(own, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(close_handle, NULL), 0);
	ck_assert_int_eq(filelock_verify(own), 0);
	ck_assert_int_eq(filelock_acquire(test_open(test_path("childs"), NULL), FILELOCK_SHARED, 0),
	                 -ETIMEDOUT);
	filelock_close(own);
	return 0;
}

START_TEST(test_childs_own_lock_survives_its_child_too)
{
	if (test_is_without_shared())
		return;
	hold(NULL);
	ck_assert_int_eq(test_in_child(nest_forks, NULL), 0);
	ck_assert(somebody_holds());
	filelock_close(lock);
}
END_TEST

static int open_singleton(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *own;

	(void)arg;
	options.singleton = true;
	own = test_open(test_path("lock"), &options);
	ck_assert_ptr_ne(own, lock);
	ck_assert_int_eq(filelock_acquire(own, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(lock);
	filelock_close(own);
	return 0;
}

START_TEST(test_singleton_of_the_child_is_not_the_parents)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.singleton = true;
	hold(&options);
	ck_assert_int_eq(test_in_child(open_singleton, NULL), 0);
	filelock_close(lock);
}
END_TEST

static void fork_a_child(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	*(pid_t *)arg = test_fork(sleep_for_ever, NULL);
}

static int count_watches(void *arg)
{
	(void)arg;
	return (int)test_watches();
}

static void look_into_a_child(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	*(int *)arg = test_in_child(count_watches, NULL);
	filelock_interrupt(lock);
}

/* Shared, its events would be lost to the parent whenever the child read them. */
/* shows: fork-is-harmless */
START_TEST(test_child_has_no_watch_of_a_waiting_parent)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer holder;
	int watches = -1;

	options.on_wait = look_into_a_child;
	options.arg = &watches;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -ECANCELED);
	ck_assert_int_eq(watches, 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

static int release_in_peer(void *arg)
{
	(void)arg;
	return filelock_release(peer_lock());
}

/* A child that inherits the sleeper's descriptors must not take the parent's events. */
START_TEST(test_child_does_not_take_the_parents_wake_up)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct peer holder;
	pid_t child = 0;

	options.poll_interval_ms = 3600000;
	options.on_wait = fork_a_child;
	options.on_wait_ms = 3600000;
	options.arg = &child;
	peer_start_holding(&holder, test_path("lock"), FILELOCK_EXCLUSIVE);
	lock = test_open(test_path("lock"), &options);
	peer_order(&holder, release_in_peer, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(peer_answer(&holder), 0);
	if (child) {
		ck_assert_int_eq(kill(child, SIGKILL), 0);
		ck_assert_int_eq(test_reap(child), 128 + SIGKILL);
	}
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

static int handed_fd;

static int adopt(void *arg)
{
	struct filelock *own = NULL;

	(void)arg;
	ck_assert_int_eq(filelock_open_fd(handed_fd, NULL, &own), 0);
	ck_assert_int_eq(filelock_acquire(own, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert(somebody_holds());
	ck_assert_int_eq(filelock_release(own), 0);
	filelock_close(own);
	return 0;
}

/* shows: lock-for-a-child */
START_TEST(test_callers_descriptor_hands_the_lock_to_a_child)
{
	handed_fd = open(test_path("lock"), O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(filelock_open_fd(handed_fd, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(adopt, NULL), 0);
	ck_assert(!somebody_holds()); /* the child gave it back, for both */
	filelock_close(lock);
	close(handed_fd);
}
END_TEST

static int use_callers_descriptor(void *arg)
{
	(void)arg;
	ck_assert_int_eq(filelock_release(lock), FILELOCK_EFORKED);
	filelock_close(lock);
	ck_assert_int_ge(fcntl(handed_fd, F_GETFD), 0); /* it is the caller's, here too */
	return 0;
}

START_TEST(test_childs_handle_on_a_descriptor_is_dead_and_the_descriptor_open)
{
	handed_fd = open(test_path("lock"), O_RDWR | O_CREAT, 0600);
	ck_assert_int_eq(filelock_open_fd(handed_fd, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(test_in_child(use_callers_descriptor, NULL), 0);
	ck_assert(somebody_holds());
	filelock_close(lock);
	close(handed_fd);
}
END_TEST

/* shows: exec-closes */
START_TEST(test_exec_inherits_no_descriptor_of_ours)
{
	struct filelock *waiter = test_open(test_path("lock"), NULL);
	unsigned lines = 0;
	char line[4096];
	FILE *output;

	hold(NULL);
	ck_assert_int_eq(filelock_acquire(waiter, FILELOCK_EXCLUSIVE, 2), -ETIMEDOUT);
	output = popen("for f in /proc/self/fd/*; do readlink $f; done; true", "re");
	ck_assert_ptr_nonnull(output);
	while (fgets(line, sizeof(line), output)) {
		ck_assert_msg(!strstr(line, test_folder()) && !strstr(line, "inotify") &&
		                      !strstr(line, "eventfd") && !strstr(line, "timerfd"),
		              "%s", line);
		lines++;
	}
	ck_assert_int_eq(pclose(output), 0);
	ck_assert_uint_ge(lines, 1);
	filelock_close(waiter);
	filelock_close(lock);
}
END_TEST

/* Threads that acquire and wait all the time, while one forks. */
static _Atomic bool stop;

/* No check in here: what Check keeps for a thread would be lost, a leak, in a forked child. */
static void *take_turns(void *arg)
{
	struct filelock *own = NULL;

	if (test_try_open(arg, NULL, &own) < 0)
		abort();
	while (!stop)
		if (filelock_acquire(own, FILELOCK_EXCLUSIVE, -1) < 0 || filelock_release(own) < 0)
			abort();
	filelock_close(own);
	return NULL;
}

static int acquire_in_child(void *arg)
{
	struct filelock *own = test_open(arg, NULL);
	int r = filelock_acquire(own, FILELOCK_EXCLUSIVE, -1);

	filelock_close(own);
	return r < 0;
}

START_TEST(test_fork_beside_busy_threads_leaves_a_working_child)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	char path[4096];

#if defined(__SANITIZE_ADDRESS__)
	test_skip("AddressSanitizer's allocator may be locked for ever in the child of a thread");
	return;
#endif
#if defined(__SANITIZE_THREAD__)
	filelock_set_max_helpers(0); /* it ends a forked child that starts threads */
#endif
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, take_turns, path), 0);
	for (unsigned i = 0; i < test_rounds(100); i++)
		ck_assert_int_eq(test_in_child(acquire_in_child, path), 0);
	stop = true;
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "fork", test_handle_that_holds_and_awaits_nothing_works_in_the_child,
	        test_handle_that_has_waited_waits_in_the_child_and_is_woken,
	        test_last_error_of_a_dead_handle_says_what_to_do,
	        test_every_call_on_a_childs_handle_is_eforked,
	        test_close_in_the_child_leaves_the_parents_lock,
	        test_exit_of_the_child_leaves_the_parents_lock,
	        test_exec_in_the_child_leaves_the_parents_lock,
	        test_child_has_no_descriptor_of_a_lock,
	        test_living_child_does_not_keep_a_dead_parents_lock,
	        test_release_wakes_waiters_while_a_child_lives, test_new_handle_in_the_child_works,
	        test_childs_own_lock_survives_its_child_too,
	        test_singleton_of_the_child_is_not_the_parents,
	        test_child_does_not_take_the_parents_wake_up,
	        test_child_has_no_watch_of_a_waiting_parent,
	        test_callers_descriptor_hands_the_lock_to_a_child,
	        test_childs_handle_on_a_descriptor_is_dead_and_the_descriptor_open,
	        test_exec_inherits_no_descriptor_of_ours,
	        test_fork_beside_busy_threads_leaves_a_working_child));
}
