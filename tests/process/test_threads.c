/* Different handles from different threads at once; one handle handed from thread to thread. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

enum { THREADS = 8, LOCKS = 3 };

static struct witness *witnesses; /* one a lock */
static char paths[LOCKS][4096];

struct worker {
	pthread_t thread;
	unsigned who;
	unsigned seed;
	unsigned counts[LOCKS];
};

/* Plain memory that only the lock protects: under TSan a missing order is a race. */
static unsigned unprotected[LOCKS];

static void hold_exclusive(struct worker *worker, struct filelock *lock, int which)
{
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	witness_enter(&witnesses[which], worker->who);
	unprotected[which]++;
	sched_yield(); /* let another come in, if it can */
	worker->counts[which]++;
	witness_leave(&witnesses[which], worker->who);
	ck_assert_int_eq(filelock_release(lock), 0);
}

static void hold_shared(struct filelock *lock, int which)
{
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), 0);
	witness_enter_shared(&witnesses[which]);
	witness_leave_shared(&witnesses[which]);
	ck_assert_int_eq(filelock_release(lock), 0);
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	struct filelock *locks[LOCKS];

	for (int i = 0; i < LOCKS; i++)
		locks[i] = test_open(paths[i], NULL);
	for (unsigned i = 0; i < test_rounds(1500); i++) {
		int which = rand_r(&worker->seed) % LOCKS;

		if (rand_r(&worker->seed) % 4 == 0)
			hold_shared(locks[which], which);
		else
			hold_exclusive(worker, locks[which], which);
	}
	for (int i = 0; i < LOCKS; i++)
		filelock_close(locks[i]);
	return NULL;
}

static void set_up(void)
{
	witnesses = test_shared(LOCKS * sizeof(*witnesses));
	for (int i = 0; i < LOCKS; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "lock%d", i);
		(void)snprintf(paths[i], sizeof(paths[i]), "%s", test_path(name));
	}
}

/* shows: two-handles-exclude */
START_TEST(test_threads_with_handles_of_their_own_exclude_each_other)
{
	if (test_is_without_shared())
		return;
	static struct worker workers[THREADS];
	unsigned sums[LOCKS] = { 0 };

	set_up();
	for (unsigned i = 0; i < THREADS; i++) {
		workers[i] = (struct worker){ .who = i + 1, .seed = i };
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		for (int k = 0; k < LOCKS; k++)
			sums[k] += workers[i].counts[k];
	}
	for (int k = 0; k < LOCKS; k++) {
		ck_assert_uint_eq(witnesses[k].overlaps, 0);
		ck_assert_uint_eq(unprotected[k], sums[k]);
		ck_assert_uint_gt(sums[k], 0);
	}
}
END_TEST

/* Readers that meet inside, proved by a barrier which only overlapping holders can pass. */
static pthread_barrier_t meeting;

static void *read_together(void *arg)
{
	struct filelock *lock = test_open(arg, NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), 0);
	pthread_barrier_wait(&meeting);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	return NULL;
}

/* shows: shared-together */
START_TEST(test_shared_holders_of_several_threads_overlap)
{
	if (test_is_without_shared())
		return;
	pthread_t threads[THREADS];

	set_up();
	pthread_barrier_init(&meeting, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_together, paths[0]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&meeting);
}
END_TEST

static void *acquire(void *arg)
{
	ck_assert_int_eq(filelock_acquire(arg, FILELOCK_EXCLUSIVE, -1), 0);
	return NULL;
}

static void *release(void *arg)
{
	ck_assert_int_eq(filelock_release(arg), 0);
	return NULL;
}

static void run_in_thread(void *(*run)(void *arg), void *arg)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, run, arg), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* shows: threads */
START_TEST(test_one_handle_moves_from_thread_to_thread)
{
	struct filelock *lock;

	if (test_is_not_native()) /* a write lock nests in one thread only */
		return;
	set_up();
	lock = test_open(paths[0], NULL);
	for (int i = 0; i < 20; i++) {
		run_in_thread(acquire, lock);
		run_in_thread(acquire, lock);
		ck_assert_uint_eq(filelock_depth(lock), 2);
		run_in_thread(release, lock);
		run_in_thread(release, lock);
	}
	filelock_close(lock);
}
END_TEST

static void release_now(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	ck_assert_int_eq(filelock_release(arg), 0);
}

/* A thread that ended leaves its identifier to the next one, and its hold to the handle. */
START_TEST(test_ended_threads_hold_is_no_deadlock_for_its_successor)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *held, *waiter;

	set_up();
	held = test_open(paths[0], NULL);
	options.on_wait = release_now; /* as any other thread might */
	options.arg = held;
	waiter = test_open(paths[0], &options);
	run_in_thread(acquire, held);
	run_in_thread(acquire, waiter);
	ck_assert(filelock_is_held(waiter));
	filelock_close(waiter);
	filelock_close(held);
}
END_TEST

/* Opening, asking and closing beside each other: the registry is everybody's. */
static void *open_and_ask(void *arg)
{
	for (unsigned i = 0; i < test_rounds(500); i++) {
		struct filelock *lock = test_open(arg, NULL);

		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) == 0)
			ck_assert_int_eq(filelock_verify(lock), 0);
		else
			ck_assert_uint_gt(strlen(filelock_last_error(lock)), 0);
		filelock_close(lock);
	}
	return NULL;
}

/* shows: threads */
START_TEST(test_handles_come_and_go_in_several_threads)
{
	pthread_t threads[THREADS];

	set_up();
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(
		        pthread_create(&threads[i], NULL, open_and_ask, paths[i % LOCKS]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}
END_TEST

static void *fail_to_open(void *arg)
{
	struct filelock *lock;

	(void)arg;
	ck_assert_int_eq(filelock_open("", FILELOCK_NATIVE, NULL, &lock), -EINVAL);
	return NULL;
}

START_TEST(test_failed_open_is_told_in_its_own_thread)
{
	char sentence[512];
	struct filelock *lock;

	ck_assert_int_eq(filelock_open("x", (enum filelock_kind)99, NULL, &lock), -EINVAL);
	(void)snprintf(sentence, sizeof(sentence), "%s", filelock_last_error(NULL));
	run_in_thread(fail_to_open, NULL);
	ck_assert_str_eq(filelock_last_error(NULL), sentence);
}
END_TEST

/* The entries of /proc/self are gone with it. */
static bool has_first_thread_ended(void)
{
	char text[512];
	const char *after;

	test_read_file("/proc/self/stat", text, sizeof(text));
	after = strrchr(text, ')');
	return after && after[2] == 'Z';
}

static void *lock_alone(void *path)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock = test_open(path, NULL);

	await(has_first_thread_ended());
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) != 0)
		_exit(1);
	if (filelock_holder(lock, &owner) != 0 || owner.pid != getpid())
		_exit(2);
	if (filelock_release(lock) != 0)
		_exit(3);
	filelock_close(lock);
	_exit(0);
}

static int end_first_thread(void *path)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, lock_alone, path) != 0)
		return 4;
	pthread_exit(NULL);
}

/* shows: first-thread-ends */
START_TEST(test_locks_work_once_the_first_thread_has_ended)
{
	if (!test_locks_are_listed() || test_is_in_valgrind())
		return;
	ck_assert_int_eq(test_in_child(end_first_thread, (void *)test_path("lock")), 0);
}
END_TEST

int main(void)
{
	return support_main(
	        SUITE("threads", test_threads_with_handles_of_their_own_exclude_each_other,
	              test_shared_holders_of_several_threads_overlap,
	              test_one_handle_moves_from_thread_to_thread,
	              test_ended_threads_hold_is_no_deadlock_for_its_successor,
	              test_handles_come_and_go_in_several_threads,
	              test_failed_open_is_told_in_its_own_thread,
	              test_locks_work_once_the_first_thread_has_ended));
}
