/* Threads that wait in flock(2): every way out of such a wait. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "helpers.h"
#include "support.h"

#define EX FILELOCK_EXCLUSIVE
#define SH FILELOCK_SHARED

/* Who waits. */
struct owner {
	struct blocked *wait;
	atomic_uint notices;
};

static struct helpers_bell *on_notice(void *arg)
{
	struct owner *owner = arg;

	atomic_fetch_add(&owner->notices, 1);
	return NULL;
}

/* However slow the machine, what a test does not want to see does not happen. */
static void be_patient(void)
{
	helpers_times = (struct helpers_times){ .patience = 20000, .orphan = 3600000,
		                                .idle = 1000 };
}

static int open_file(const char *name)
{
	int fd = open(test_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* A descriptor with the lock, as somebody else's. */
static int hold_file(const char *name, int operation)
{
	int fd = open_file(name);

	ck_assert_int_eq(flock(fd, operation | LOCK_NB), 0);
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

static int try_submit(struct owner *owner, const char *name, enum filelock_mode mode)
{
	int fd = open_file(name);
	int r = helpers_submit(fd, identity_of(name), mode, on_notice, owner, &owner->wait);

	if (r < 0)
		ck_assert_int_eq(close(fd), 0); /* it is still ours */
	return r;
}

static void submit(struct owner *owner, const char *name, enum filelock_mode mode)
{
	ck_assert_int_eq(try_submit(owner, name, mode), 0);
}

static bool adopt(struct owner *owner, const char *name, enum filelock_mode mode)
{
	return helpers_adopt(identity_of(name), mode, on_notice, owner, &owner->wait);
}

static unsigned blocked_on(const char *name)
{
	return test_blocked_on(test_path(name));
}

/* Of those that wait for the file it is the nth. */
static void submit_and_see_blocked(struct owner *owner, const char *name, enum filelock_mode mode,
                                   unsigned nth)
{
	submit(owner, name, mode);
	await(blocked_on(name) == nth);
}

static int take_granted(struct owner *owner)
{
	int fd = -1;

	await(atomic_load(&owner->notices) == 1);
	ck_assert_int_eq(helpers_take(owner->wait, &fd), 0);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* For tests that see helpers end, which do so no sooner than an owner could come. */
static void take_or_lose(struct owner *owner)
{
	int fd = -1;
	int r;

	await(atomic_load(&owner->notices) == 1);
	r = helpers_take(owner->wait, &fd);
	if (r == 0)
		ck_assert_int_eq(close(fd), 0);
	else
		ck_assert_int_eq(r, -EAGAIN);
}

START_TEST(test_grant_is_notified_once_and_taken_with_the_lock)
{
	struct owner owner = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	int fd = -1, submitted;

	be_patient();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	ck_assert_int_eq(helpers_take(owner.wait, &fd), -EINPROGRESS);
	ck_assert_uint_eq(owner.notices, 0);
	submitted = helpers_fd(owner.wait);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	fd = take_granted(&owner);
	ck_assert_int_eq(fd, submitted);
	ck_assert(!is_free("lock"));
	ck_assert_int_eq(close(fd), 0);
	ck_assert(is_free("lock"));
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

START_TEST(test_shared_waits_are_granted_together)
{
	struct owner owners[2] = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	int fds[2];

	be_patient();
	for (int i = 0; i < 2; i++)
		submit_and_see_blocked(&owners[i], "lock", SH, (unsigned)i + 1);
	ck_assert_int_eq(close(holder), 0);
	for (int i = 0; i < 2; i++)
		await(atomic_load(&owners[i].notices) == 1);
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(helpers_take(owners[i].wait, &fds[i]), 0);
		ck_assert_int_eq(close(fds[i]), 0);
	}
}
END_TEST

START_TEST(test_grant_that_is_not_taken_is_given_back_with_an_event)
{
	struct owner owner = { 0 };
	int events = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	int holder = hold_file("lock", LOCK_EX);
	unsigned descriptors;
	char buffer[4096];
	int fd = -1;

	descriptors = test_descriptors();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	ck_assert_int_ge(inotify_add_watch(events, test_path("lock"), IN_CLOSE_WRITE), 0);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	await(read(events, buffer, sizeof(buffer)) > 0);
	await(flock(holder, LOCK_EX | LOCK_NB) == 0);
	ck_assert_uint_eq(owner.notices, 1);
	ck_assert_int_eq(helpers_take(owner.wait, &fd), -EAGAIN);
	await(test_descriptors() == descriptors);
}
END_TEST

START_TEST(test_wait_after_one_that_was_given_back_is_granted)
{
	struct owner first = { 0 }, second = { 0 };
	int fd = -1;

	submit(&first, "lock", EX);
	await(atomic_load(&first.notices) == 1 && is_free("lock")); /* in this order */
	ck_assert_int_eq(helpers_take(first.wait, &fd), -EAGAIN);
	submit(&second, "lock", EX);
	take_or_lose(&second);
	await(is_free("lock"));
}
END_TEST

START_TEST(test_orphan_is_adopted_with_its_place_and_tells_its_new_owner_alone)
{
	struct owner first = { 0 }, second = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	int fd;

	be_patient();
	submit_and_see_blocked(&first, "lock", EX, 1);
	helpers_cancel(first.wait, false);
	ck_assert(adopt(&second, "lock", EX));
	await(blocked_on("lock") == 1);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	fd = take_granted(&second);
	ck_assert_uint_eq(first.notices, 0);
	ck_assert_int_eq(close(fd), 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

START_TEST(test_orphan_of_another_mode_or_file_is_not_adopted)
{
	struct owner first = { 0 }, second = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	int other = open_file("other");

	submit_and_see_blocked(&first, "lock", EX, 1);
	helpers_cancel(first.wait, false);
	ck_assert(!adopt(&second, "lock", SH));
	ck_assert(!adopt(&second, "other", EX));
	ck_assert_int_eq(close(other), 0);
	ck_assert_int_eq(close(holder), 0);
	await(is_free("lock"));
}
END_TEST

START_TEST(test_orphan_that_nobody_adopts_leaves_the_queue_while_the_lock_is_held)
{
	struct owner owner = { 0 }, late = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	unsigned descriptors = test_descriptors();

	submit_and_see_blocked(&owner, "lock", EX, 1);
	helpers_cancel(owner.wait, false);
	await(blocked_on("lock") == 0);
	await(test_descriptors() == descriptors);
	ck_assert(!adopt(&late, "lock", EX));
	ck_assert_uint_eq(owner.notices, 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

START_TEST(test_wait_for_a_dead_file_leaves_the_queue_and_is_not_adopted)
{
	struct owner owner = { 0 }, other = { 0 };
	int holder = hold_file("lock", LOCK_EX);

	be_patient();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	helpers_cancel(owner.wait, true);
	ck_assert(!adopt(&other, "lock", EX));
	await(blocked_on("lock") == 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

START_TEST(test_orphans_of_a_file_that_is_found_dead_later_leave_the_queue)
{
	struct owner owner = { 0 }, other = { 0 };
	int holder = hold_file("lock", LOCK_EX);

	be_patient();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	helpers_cancel(owner.wait, false);
	helpers_forget(identity_of("lock"));
	ck_assert(!adopt(&other, "lock", EX));
	await(blocked_on("lock") == 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

START_TEST(test_orphan_that_is_granted_unlocks_and_tells_nobody)
{
	struct owner owner = { 0 };
	unsigned descriptors = test_descriptors();
	int holder = hold_file("lock", LOCK_EX);

	be_patient();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	helpers_cancel(owner.wait, false);
	ck_assert_int_eq(close(holder), 0);
	await(helpers_thread_count() == 0); /* granted; until then the lock may seem free */
	ck_assert(is_free("lock"));
	ck_assert_uint_eq(test_descriptors(), descriptors);
	ck_assert_uint_eq(owner.notices, 0);
}
END_TEST

START_TEST(test_cancel_after_the_grant_unlocks)
{
	struct owner owner = { 0 };

	be_patient();
	submit(&owner, "lock", EX);
	await(atomic_load(&owner.notices) == 1);
	helpers_cancel(owner.wait, false);
	await(is_free("lock"));
}
END_TEST

START_TEST(test_helpers_end_when_nobody_wants_them)
{
	struct owner owners[3] = { 0 };
	int holder = hold_file("lock", LOCK_SH);

	for (int i = 0; i < 3; i++)
		submit_and_see_blocked(&owners[i], "lock", EX, (unsigned)i + 1);
	ck_assert_uint_eq(helpers_thread_count(), 3);
	ck_assert_int_eq(close(holder), 0);
	for (int i = 0; i < 3; i++)
		take_or_lose(&owners[i]);
	await(helpers_thread_count() == 0);
}
END_TEST

START_TEST(test_helper_serves_one_wait_after_the_other)
{
	be_patient();
	for (unsigned i = 0; i < test_rounds(200); i++) {
		struct owner owner = { 0 };

		submit(&owner, "lock", EX);
		ck_assert_int_eq(close(take_granted(&owner)), 0);
		ck_assert_uint_eq(helpers_thread_count(), 1);
	}
}
END_TEST

START_TEST(test_error_of_flock_is_taken_and_leaves_no_descriptor)
{
	struct owner owner = { 0 };
	unsigned descriptors = test_descriptors();
	int fd = -1;

	be_patient();
	fault_set(FAULT_flock, 1, FAULT_ONCE, ENOLCK);
	submit(&owner, "lock", EX);
	await(atomic_load(&owner.notices) == 1);
	ck_assert_int_eq(helpers_take(owner.wait, &fd), -ENOLCK);
	await(test_descriptors() == descriptors);
}
END_TEST

START_TEST(test_interrupted_flock_goes_on)
{
	struct owner owner = { 0 };

	be_patient();
	fault_set(FAULT_flock, 1, FAULT_ONCE, EINTR);
	submit(&owner, "lock", EX);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 1);
}
END_TEST

/* --- limits --- */

START_TEST(test_without_a_thread_there_is_no_wait)
{
	struct owner owner = { 0 };

	be_patient();
	fault_set(FAULT_pthread_create, 1, FAULT_FOR_GOOD, EAGAIN);
	ck_assert_int_eq(try_submit(&owner, "lock", EX), -EAGAIN);
	fault_set(FAULT_pthread_create, 1, FAULT_ONCE, EPERM);
	ck_assert_int_eq(try_submit(&owner, "lock", EX), -EAGAIN);
	ck_assert_uint_eq(helpers_thread_count(), 0);
	submit(&owner, "lock", EX);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
}
END_TEST

START_TEST(test_without_memory_there_is_no_wait)
{
	struct owner owner = { 0 };

	be_patient();
	for (unsigned nth = 1; nth <= 2; nth++) {
		fault_set(FAULT_calloc, nth, FAULT_ONCE, ENOMEM);
		ck_assert_int_eq(try_submit(&owner, "lock", EX), -EAGAIN);
		ck_assert_uint_eq(fault_hits(FAULT_calloc), 1);
	}
	submit(&owner, "lock", EX);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
}
END_TEST

START_TEST(test_stack_that_is_too_small_is_made_larger)
{
	struct owner owner = { 0 };

	be_patient();
	fault_set(FAULT_pthread_create, 1, FAULT_ONCE, EINVAL);
	submit(&owner, "lock", EX);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
	ck_assert_uint_eq(fault_calls(FAULT_pthread_create), 2);
}
END_TEST

START_TEST(test_orphan_that_nobody_can_look_after_is_aborted_at_once)
{
	struct owner owner = { 0 }, other = { 0 };
	int holder = hold_file("lock", LOCK_EX);

	be_patient();
	fault_watch();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	fault_set(FAULT_pthread_create, 1, FAULT_FOR_GOOD, EAGAIN);
	helpers_cancel(owner.wait, false);
	ck_assert(!adopt(&other, "lock", EX));
	await(blocked_on("lock") == 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

START_TEST(test_maximum_bounds_waits_and_orphans_make_room)
{
	struct owner owners[2] = { 0 }, third = { 0 };
	int holders[2] = { hold_file("0", LOCK_EX), hold_file("1", LOCK_EX) };

	be_patient();
	filelock_set_max_helpers(2);
	submit_and_see_blocked(&owners[0], "0", EX, 1);
	submit_and_see_blocked(&owners[1], "1", EX, 1);
	ck_assert_int_eq(try_submit(&third, "lock", EX), -EAGAIN);
	await(blocked_on("0") == 1 && blocked_on("1") == 1);
	helpers_cancel(owners[0].wait, false);
	await(try_submit(&third, "lock", EX) == 0);
	ck_assert_int_eq(close(take_granted(&third)), 0);
	helpers_cancel(owners[1].wait, false);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(close(holders[i]), 0);
}
END_TEST

START_TEST(test_maximum_of_none_makes_no_thread)
{
	struct owner owner = { 0 };

	filelock_set_max_helpers(0);
	ck_assert_int_eq(try_submit(&owner, "lock", EX), -EAGAIN);
	ck_assert_uint_eq(helpers_thread_count(), 0);
}
END_TEST

START_TEST(test_without_an_unwinder_an_orphan_stays_and_keeps_other_waits_for_its_file_away)
{
	struct owner owner = { 0 }, other = { 0 };
	int holder = hold_file("lock", LOCK_EX);

	fault_set(FAULT_dlopen, 1, FAULT_FOR_GOOD, ENOENT);
	submit_and_see_blocked(&owner, "lock", EX, 1);
#ifndef __GLIBC__
	test_skip("this C library needs no unwinder");
	return;
#endif
	helpers_cancel(owner.wait, false);
	ck_assert_int_eq(try_submit(&other, "lock", SH), -EAGAIN);
	ck_assert(adopt(&other, "lock", EX));
	helpers_cancel(other.wait, true);
	ck_assert(!adopt(&other, "lock", EX));
	await(blocked_on("lock") == 1);
	submit(&other, "other", EX);
	take_or_lose(&other);
	ck_assert_int_eq(close(holder), 0);
	await(is_free("lock"));
	await(helpers_thread_count() == 0);
}
END_TEST

/* The first helper's look for it, which is kept up. */
struct look {
	int begins[2], ends[2];
};

static void keep_up(void *arg)
{
	const struct look *look = arg;
	char end;

	ck_assert_int_eq(write(look->begins[1], "", 1), 1);
	ck_assert_int_eq(read(look->ends[0], &end, 1), 1);
}

static void await_look(const struct look *look)
{
	char begun;

	ck_assert_int_eq(read(look->begins[0], &begun, 1), 1);
}

/* With the dynamic linker busy: a library's constructor may itself wait for the lock. */
START_TEST(test_while_the_unwinder_is_looked_for_nobody_waits_for_that)
{
	struct owner owner = { 0 }, other = { 0 };
	struct look look;
	int fd;

#ifndef __GLIBC__
	test_skip("this C library needs no unwinder");
	return;
#endif
	be_patient();
	ck_assert_int_eq(pipe2(look.begins, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(look.ends, O_CLOEXEC), 0);
	fault_before(FAULT_dlopen, 1, keep_up, &look);
	submit(&owner, "lock", EX);
	await_look(&look);
	ck_assert_int_eq(helpers_take(owner.wait, &fd), -EAGAIN);
	ck_assert(is_free("lock"));
	submit(&other, "lock", EX);
	helpers_cancel(other.wait, false);
	ck_assert(adopt(&owner, "lock", EX));
	ck_assert_int_eq(write(look.ends[1], "", 1), 1);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
}
END_TEST

/* --- the process --- */

START_TEST(test_helpers_have_every_signal_blocked)
{
	struct owner owner = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	char path[300], text[4096];
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *task;
	unsigned others = 0;

	submit_and_see_blocked(&owner, "lock", EX, 1);
	ck_assert_ptr_nonnull(tasks);
	while ((task = readdir(tasks))) {
		const char *blocked;

		if (task->d_name[0] == '.' || atoi(task->d_name) == getpid())
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		test_read_file(path, text, sizeof(text));
		blocked = strstr(text, "SigBlk:");
		ck_assert_ptr_nonnull(blocked);
		/* all but KILL, STOP and the first of real time, which are the C library's */
		ck_assert_uint_eq(strtoull(blocked + 8, NULL, 16) & 0x7ffbfeff, 0x7ffbfeff);
		others++;
	}
	(void)closedir(tasks);
	ck_assert_uint_ge(others, 1);
	helpers_cancel(owner.wait, false);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

struct family {
	struct owner *owner;
	unsigned descriptors; /* of the parent, without those of helpers */
};

static int be_child(void *arg)
{
	struct family *family = arg;
	int fd = -1;

	if (test_descriptors() != family->descriptors)
		return 1;
	if (helpers_fd(family->owner->wait) != -1)
		return 4;
	if (helpers_take(family->owner->wait, &fd) != FILELOCK_EFORKED)
		return 2;
	if (helpers_thread_count() != 0)
		return 3;
#ifndef __SANITIZE_THREAD__ /* it allows none in such a child */
	struct owner own = { 0 };

	submit(&own, "childs", EX);
	(void)close(take_granted(&own));
#endif
	return 0;
}

START_TEST(test_child_has_no_helper_and_none_of_their_descriptors_but_helpers_of_its_own)
{
	struct owner owner = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	struct family family = { &owner, test_descriptors() };

	be_patient();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	ck_assert_int_eq(test_in_child(be_child, &family), 0);
	await(blocked_on("lock") == 1);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

static int cancel_in_child(void *arg)
{
	struct owner *owner = arg;

	helpers_cancel(owner->wait, false);
	return helpers_thread_count() != 0;
}

START_TEST(test_cancel_in_a_child_does_not_touch_the_parents_wait)
{
	struct owner owner = { 0 };
	int holder = hold_file("lock", LOCK_EX);

	be_patient();
	submit_and_see_blocked(&owner, "lock", EX, 1);
	ck_assert_int_eq(test_in_child(cancel_in_child, &owner), 0);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	ck_assert_int_eq(close(take_granted(&owner)), 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

static int stay_for_a_byte(void *arg)
{
	const int *pipes = arg;
	char byte;

	(void)close(pipes[1]);
	return read(pipes[0], &byte, 1) < 0;
}

START_TEST(test_child_that_lives_on_does_not_keep_a_lock_that_a_helper_was_granted)
{
	struct owner owner = { 0 };
	int holder = hold_file("lock", LOCK_EX);
	int pipes[2];
	pid_t child;

	be_patient();
	ck_assert_int_eq(pipe(pipes), 0);
	submit_and_see_blocked(&owner, "lock", EX, 1);
	child = test_fork(stay_for_a_byte, pipes);
	ck_assert_int_eq(flock(holder, LOCK_UN), 0);
	/* the child has the holder's description, and closes the helper's as soon as it runs */
	ck_assert_int_eq(close(take_granted(&owner)), 0);
	await(is_free("lock"));
	ck_assert_int_eq(close(pipes[1]), 0);
	ck_assert_int_eq(test_reap(child), 0);
	ck_assert_int_eq(close(pipes[0]), 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

static int exit_now(void *arg)
{
	struct owner *owner = arg;

	submit_and_see_blocked(owner, "lock", EX, 1);
	exit(7);
}

START_TEST(test_process_exits_with_a_helper_blocked)
{
	struct owner owner = { 0 };
	int holder = hold_file("lock", LOCK_EX);

	ck_assert_int_eq(test_in_child(exit_now, &owner), 7);
	await(blocked_on("lock") == 0);
	ck_assert_int_eq(close(holder), 0);
}
END_TEST

/* --- races --- */

static struct {
	atomic_bool stop;
	int fd;
} toggler;

/* Asserts nothing: a child that is forked meanwhile would find Check's mutex taken. */
static void *toggle(void *arg)
{
	while (!atomic_load(&toggler.stop))
		if (flock(toggler.fd, LOCK_EX) < 0 || flock(toggler.fd, LOCK_UN) < 0)
			return "flock failed";
	return arg;
}

static pthread_t start_toggling(void)
{
	pthread_t thread;

	toggler.fd = open_file("lock");
	ck_assert_int_eq(pthread_create(&thread, NULL, toggle, NULL), 0);
	return thread;
}

static void stop_toggling(pthread_t thread)
{
	void *error;

	atomic_store(&toggler.stop, true);
	ck_assert_int_eq(pthread_join(thread, &error), 0);
	ck_assert_ptr_null(error);
	ck_assert_int_eq(close(toggler.fd), 0);
}

/* So that each moment of a wait is met. */
static void spin(unsigned turns)
{
	for (volatile unsigned i = 0; i < turns; i++)
		;
}

START_TEST(test_abort_at_any_moment_leaves_no_lock_and_no_descriptor)
{
	unsigned descriptors = test_descriptors();
	pthread_t thread = start_toggling();

	for (unsigned i = 0; i < test_rounds(3000); i++) {
		struct owner owner = { 0 };

		await(try_submit(&owner, "lock", i % 3 ? EX : SH) == 0);
		spin(i * 7919 % 30000);
		helpers_cancel(owner.wait, i % 2);
	}
	stop_toggling(thread);
	await(helpers_thread_count() == 0);
	ck_assert(is_free("lock"));
	ck_assert_uint_eq(test_descriptors(), descriptors);
}
END_TEST

START_TEST(test_take_cancel_and_adoption_at_any_moment_lose_no_lock)
{
	unsigned descriptors = test_descriptors();
	pthread_t thread = start_toggling();
	int fd;

	for (unsigned i = 0; i < test_rounds(3000); i++) {
		struct owner first = { 0 }, second = { 0 };
		int r;

		await(try_submit(&first, "lock", EX) == 0);
		spin(i * 7919 % 30000);
		helpers_cancel(first.wait, false);
		if (!adopt(&second, "lock", EX))
			continue;
		spin(i * 104729 % 30000);
		r = helpers_take(second.wait, &fd);
		if (r == 0) {
			ck_assert_int_eq(flock(fd, LOCK_UN), 0);
			ck_assert_int_eq(close(fd), 0);
		} else if (r == -EINPROGRESS) {
			helpers_cancel(second.wait, false);
		}
	}
	stop_toggling(thread);
	await(helpers_thread_count() == 0);
	ck_assert(is_free("lock"));
	ck_assert_uint_eq(test_descriptors(), descriptors);
}
END_TEST

static int look_around(void *arg)
{
	const unsigned *descriptors = arg;

	return test_descriptors() > *descriptors;
}

START_TEST(test_fork_at_any_moment_of_a_wait_leaves_the_child_no_descriptor)
{
	pthread_t thread = start_toggling();
	unsigned descriptors = test_descriptors();

	for (unsigned i = 0; i < test_rounds(300); i++) {
		struct owner owner = { 0 };

		await(try_submit(&owner, "lock", EX) == 0);
		spin(i * 7919 % 30000);
		ck_assert_int_eq(test_in_child(look_around, &descriptors), 0);
		helpers_cancel(owner.wait, i % 2);
	}
	stop_toggling(thread);
}
END_TEST

int main(void)
{
	test_has_helpers = true;
	return support_main(SUITE(
	        "helpers", test_grant_is_notified_once_and_taken_with_the_lock,
	        test_shared_waits_are_granted_together,
	        test_grant_that_is_not_taken_is_given_back_with_an_event,
	        test_wait_after_one_that_was_given_back_is_granted,
	        test_orphan_is_adopted_with_its_place_and_tells_its_new_owner_alone,
	        test_orphan_of_another_mode_or_file_is_not_adopted,
	        test_orphan_that_nobody_adopts_leaves_the_queue_while_the_lock_is_held,
	        test_wait_for_a_dead_file_leaves_the_queue_and_is_not_adopted,
	        test_orphans_of_a_file_that_is_found_dead_later_leave_the_queue,
	        test_orphan_that_is_granted_unlocks_and_tells_nobody,
	        test_cancel_after_the_grant_unlocks, test_helpers_end_when_nobody_wants_them,
	        test_helper_serves_one_wait_after_the_other,
	        test_error_of_flock_is_taken_and_leaves_no_descriptor,
	        test_interrupted_flock_goes_on, test_without_a_thread_there_is_no_wait,
	        test_without_memory_there_is_no_wait,
	        test_stack_that_is_too_small_is_made_larger,
	        test_orphan_that_nobody_can_look_after_is_aborted_at_once,
	        test_maximum_bounds_waits_and_orphans_make_room,
	        test_maximum_of_none_makes_no_thread,
	        test_without_an_unwinder_an_orphan_stays_and_keeps_other_waits_for_its_file_away,
	        test_while_the_unwinder_is_looked_for_nobody_waits_for_that,
	        test_helpers_have_every_signal_blocked,
	        test_child_has_no_helper_and_none_of_their_descriptors_but_helpers_of_its_own,
	        test_cancel_in_a_child_does_not_touch_the_parents_wait,
	        test_child_that_lives_on_does_not_keep_a_lock_that_a_helper_was_granted,
	        test_process_exits_with_a_helper_blocked,
	        test_abort_at_any_moment_leaves_no_lock_and_no_descriptor,
	        test_take_cancel_and_adoption_at_any_moment_lose_no_lock,
	        test_fork_at_any_moment_of_a_wait_leaves_the_child_no_descriptor));
}
