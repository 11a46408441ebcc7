/* Nesting, releasing, modes, and handles that would wait for themselves. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "support.h"

static struct filelock *one, *other;

static void set_up(void)
{
	one = test_open(test_path("lock"), NULL);
	other = test_open(test_path("lock"), NULL);
}

static void tear_down(void)
{
	filelock_close(one);
	filelock_close(other);
}

static int try(struct filelock *lock, enum filelock_mode mode)
{
	return filelock_acquire(lock, mode, FILELOCK_NO_WAIT);
}

/* shows: two-handles-exclude */
START_TEST(test_two_handles_of_one_thread_exclude_each_other)
{
	if (test_is_without_shared())
		return;
	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(other, FILELOCK_SHARED), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(one), 0);
	ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), 0);
	tear_down();
}
END_TEST

START_TEST(test_shared_holders_overlap_and_keep_exclusive_out)
{
	if (test_is_without_shared())
		return;
	struct filelock *third = test_open(test_path("lock"), NULL);

	set_up();
	ck_assert_int_eq(try(one, FILELOCK_SHARED), 0);
	ck_assert_int_eq(try(other, FILELOCK_SHARED), 0);
	ck_assert_int_eq(try(third, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	filelock_release(one);
	ck_assert_int_eq(try(third, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	filelock_release(other);
	ck_assert_int_eq(try(third, FILELOCK_EXCLUSIVE), 0);
	filelock_close(third);
	tear_down();
}
END_TEST

/* shows: levels */
START_TEST(test_nested_acquisitions_each_need_their_release)
{
	set_up();
	for (unsigned depth = 1; depth <= 5; depth++) {
		ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, -1), 0);
		ck_assert_uint_eq(filelock_depth(one), depth);
	}
	for (unsigned depth = 5; depth > 1; depth--) {
		ck_assert_int_eq(filelock_release(one), 0);
		ck_assert_uint_eq(filelock_depth(one), depth - 1);
		ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	}
	ck_assert_int_eq(filelock_release(one), 0);
	ck_assert(!filelock_is_held(one));
	ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), 0);
	tear_down();
}
END_TEST

START_TEST(test_release_all_gives_back_every_level)
{
	if (test_is_without_shared())
		return;
	set_up();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(try(one, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_release_all(one), 0);
	ck_assert_uint_eq(filelock_depth(one), 0);
	ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), 0);
	tear_down();
}
END_TEST

/* shows: close-releases */
START_TEST(test_close_gives_back_every_level)
{
	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	filelock_close(one);
	one = NULL;
	ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), 0);
	tear_down();
}
END_TEST

/* shows: levels */
START_TEST(test_what_is_not_held_is_eperm)
{
	set_up();
	ck_assert_int_eq(filelock_release(one), -EPERM);
	ck_assert_int_eq(filelock_release_all(one), -EPERM);
	ck_assert_int_eq(filelock_verify(one), -EPERM);
	ck_assert_int_eq(filelock_fd(one), -EPERM);
	ck_assert_int_eq(try(other, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(one), -EPERM); /* other's */
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(one), -EPERM);
	ck_assert(filelock_is_held(other));
	tear_down();
}
END_TEST

/* shows: levels */
START_TEST(test_other_mode_of_a_held_lock_is_edeadlk)
{
	if (test_is_without_shared())
		return;
	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try(one, FILELOCK_SHARED), -EDEADLK);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_SHARED, -1), -EDEADLK);
	ck_assert_uint_eq(filelock_depth(one), 1);
	filelock_release(one);
	ck_assert_int_eq(try(one, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, 10), -EDEADLK);
	ck_assert_int_eq(try(other, FILELOCK_SHARED), 0); /* still held shared, no more */
	tear_down();
}
END_TEST

START_TEST(test_wrong_mode_and_timeout_are_einval)
{
	set_up();
	ck_assert_int_eq(filelock_acquire(one, (enum filelock_mode)7, 0), -EINVAL);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_EXCLUSIVE, -2), -EINVAL);
	ck_assert(!filelock_is_held(one));
	tear_down();
}
END_TEST

/* shows: self-deadlock */
START_TEST(test_endless_wait_for_ones_own_thread_is_edeadlk)
{
	if (test_is_without_shared())
		return;
	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, -1), -EDEADLK);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_SHARED, -1), -EDEADLK);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, 20), -ETIMEDOUT);
	filelock_release(one);
	ck_assert_int_eq(try(one, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, -1), -EDEADLK);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_SHARED, -1), 0); /* overlaps */
	tear_down();
}
END_TEST

/* The same lock under another name: a hard link, and a symbolic link in the parent. */
/* shows: self-deadlock */
START_TEST(test_self_deadlock_is_seen_through_other_names)
{
	struct filelock *linked, *detour;

	if (test_is_beside_its_path())
		return;
	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(link(test_path("lock"), test_path("link")), 0);
	ck_assert_int_eq(symlink(".", test_path("here")), 0);
	linked = test_open(test_path("link"), NULL);
	detour = test_open(test_path("here/lock"), NULL);
	ck_assert_int_eq(filelock_acquire(linked, FILELOCK_EXCLUSIVE, -1), -EDEADLK);
	ck_assert_int_eq(filelock_acquire(detour, FILELOCK_EXCLUSIVE, -1), -EDEADLK);
	filelock_close(linked);
	filelock_close(detour);
	tear_down();
}
END_TEST

static void *release_one(void *arg)
{
	(void)arg;
	ck_assert_int_eq(filelock_release(one), 0);
	return NULL;
}

static void release_by_thread(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	ck_assert_int_eq(pthread_create(arg, NULL, release_one, NULL), 0);
}

static void *acquire_one(void *arg)
{
	(void)arg;
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	return NULL;
}

/* Another thread will release its lock: an honest wait. */
START_TEST(test_endless_wait_for_another_thread_waits)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	pthread_t thread, releaser;

	options.on_wait = release_by_thread;
	options.on_wait_ms = 3600000;
	options.arg = &releaser;
	set_up();
	filelock_close(other);
	other = test_open(test_path("lock"), &options);
	ck_assert_int_eq(pthread_create(&thread, NULL, acquire_one, NULL), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, -1), 0);
	pthread_join(releaser, NULL);
	tear_down();
}
END_TEST

/* Another thread may release what this one acquired: then there is nothing to wait for. */
START_TEST(test_release_by_another_thread_ends_the_hold)
{
	pthread_t thread;

	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, release_one, NULL), 0);
	pthread_join(thread, NULL);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_EXCLUSIVE, -1), 0);
	tear_down();
}
END_TEST

START_TEST(test_fd_is_lent_while_held)
{
	int fd;

	if (test_is_not_native())
		return;
	set_up();
	ck_assert_int_eq(try(one, FILELOCK_EXCLUSIVE), 0);
	fd = filelock_fd(one);
	ck_assert_int_ge(fd, 0);
	ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	filelock_release(one);
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
	tear_down();
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "nesting", test_two_handles_of_one_thread_exclude_each_other,
	        test_shared_holders_overlap_and_keep_exclusive_out,
	        test_nested_acquisitions_each_need_their_release,
	        test_release_all_gives_back_every_level, test_close_gives_back_every_level,
	        test_what_is_not_held_is_eperm, test_other_mode_of_a_held_lock_is_edeadlk,
	        test_wrong_mode_and_timeout_are_einval,
	        test_endless_wait_for_ones_own_thread_is_edeadlk,
	        test_self_deadlock_is_seen_through_other_names,
	        test_endless_wait_for_another_thread_waits,
	        test_release_by_another_thread_ends_the_hold, test_fd_is_lent_while_held));
}
