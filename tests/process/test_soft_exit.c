/* exit(3) while markers are being removed by others, before and after it looks at them. */
#include <pthread.h>
#include <stdatomic.h>

#include "base/proc.h"
#include "softly.h"
#include "base/sys.h"

static struct filelock *lock;

static struct filelock *hold(const char *name, bool keep)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder;

	options.keep_on_exit = keep;
	holder = test_open(test_path(name), &options);
	ck_assert_int_eq(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), 0);
	return holder;
}

static atomic_bool removing, exiting;

static void note_exit(void)
{
	exiting = true;
}

/* The first thread, whose number is the process's. */
static bool is_asleep(void)
{
	struct proc_process process;
	char path[64], text[1024];

	(void)snprintf(path, sizeof(path), "/proc/self/task/%ld/stat", (long)getpid());
	fault_pause(true);
	ck_assert_int_gt(sys_read_file(path, text, sizeof(text)), 0);
	ck_assert(proc_parse_process(text, &process));
	return process.state == 'S';
}

/* Between looking whose the marker is and removing it. */
static void wait_for_the_exit(void *arg)
{
	(void)arg;
	removing = true;
	await(exiting && is_asleep());
}

static void *release(void *arg)
{
	(void)filelock_release(arg);
	return NULL;
}

static int exit_during_a_removal(void *arg)
{
	pthread_t thread;

	(void)arg;
	lock = hold("lock", false);
	(void)atexit(note_exit); /* comes before the library's */
	fault_before(FAULT_unlink, 1, wait_for_the_exit, NULL);
	ck_assert_int_eq(pthread_create(&thread, NULL, release, lock), 0);
	(void)pthread_detach(thread);
	await(removing);
	exit(0);
}

START_TEST(test_exit_waits_for_a_removal_under_way)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(exit_during_a_removal, NULL), 0);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

/* Registered before the lock was ever held. */
static void look_at_the_hold(void)
{
	if (filelock_verify(lock) != 0 || try_once(test_path("lock")) != -ETIMEDOUT)
		_exit(1);
}

static int exit_with_handlers_of_its_own(void *arg)
{
	(void)arg;
	(void)atexit(look_at_the_hold);
	lock = hold("lock", false);
	exit(0);
}

/* shows: held-through-exit */
START_TEST(test_lock_is_held_until_all_the_programs_exit_handlers_have_run)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(exit_with_handlers_of_its_own, NULL), 0);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

static bool to_be_released_late;

/* After all handlers, and so after the library's that removed our marker, somebody has come. */
__attribute__((destructor)) static void release_late(void)
{
	if (!to_be_released_late)
		return;
	if (exists(test_path("lock")))
		_exit(1);
	put_record(test_path("lock"), getppid(), NULL);
	if (filelock_release(lock) != 0 || filelock_is_held(lock))
		_exit(2);
	filelock_close(lock);
}

static int exit_before_the_release(void *arg)
{
	(void)arg;
	to_be_released_late = true;
	lock = hold("lock", false);
	exit(0);
}

START_TEST(test_release_after_the_exit_handler_removes_no_successors_marker)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(exit_before_the_release, NULL), 0);
	ck_assert(exists(test_path("lock")));
}
END_TEST

static int release_one_to_be_kept_and_exit(void *arg)
{
	struct filelock *kept;

	(void)arg;
	lock = hold("lock", false);
	kept = hold("kept", true);
	ck_assert_int_eq(filelock_release(kept), 0);
	ck_assert(!exists(test_path("kept")));
	exit(0);
}

START_TEST(test_release_of_a_marker_to_be_kept_at_exit_keeps_no_other)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(release_one_to_be_kept_and_exit, NULL), 0);
	ck_assert(!exists(test_path("lock")));
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	return support_main(
	        SUITE("soft exit", test_exit_waits_for_a_removal_under_way,
	              test_lock_is_held_until_all_the_programs_exit_handlers_have_run,
	              test_release_after_the_exit_handler_removes_no_successors_marker,
	              test_release_of_a_marker_to_be_kept_at_exit_keeps_no_other));
}
