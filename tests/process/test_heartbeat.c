/* The option heartbeat_thread: one thread that keeps holds alive for whoever has no loop. */
#include <dirent.h>
#include <signal.h>

#include "failing.h"
#include "heartbeat.h"
#include "softly.h"
#include "base/sys.h"

enum { KINDS = 2, MANY = 8 };
static const enum filelock_kind kinds[KINDS] = { FILELOCK_LEASE, FILELOCK_SOFT_READWRITE };

/* Refreshed often, and no test is so late that a hold is lost. */
static struct filelock_options beating(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.duration_ms = 3600000;
	options.heartbeat_ms = 5;
	options.heartbeat_thread = true;
	return options;
}

static struct filelock *open_at(const char *name, enum filelock_kind kind,
                                const struct filelock_options *options)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open(test_path(name), kind, options, &lock), 0);
	return lock;
}

static struct filelock *hold(const char *name, enum filelock_kind kind)
{
	struct filelock_options options = beating();
	struct filelock *lock = open_at(name, kind, &options);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	return lock;
}

/* Of the one record in holders/ of a soft read/write lock. */
static void find_record(const char *path, char ret[600])
{
	char folder[560];
	const struct dirent *entry;
	DIR *opened;

	(void)snprintf(folder, sizeof(folder), "%s.rw/holders", path);
	opened = opendir(folder);
	ck_assert_ptr_nonnull(opened);
	ret[0] = '\0';
	while ((entry = readdir(opened)))
		if (entry->d_name[0] != '.')
			(void)snprintf(ret, 600, "%.560s/%.32s", folder, entry->d_name);
	closedir(opened);
}

static struct timespec refreshed_at(const struct filelock *lock)
{
	char path[600];
	struct stat st;

	if (filelock_kind(lock) == FILELOCK_SOFT_READWRITE)
		find_record(filelock_path(lock), path);
	else
		(void)snprintf(path, sizeof(path), "%s", filelock_path(lock));
	ck_assert_int_eq(lstat(path, &st), 0);
	return st.st_mtim;
}

/* Nobody but the thread does it. */
static void await_refresh(const struct filelock *lock)
{
	int64_t end = test_now() + TEST_PATIENCE;
	struct timespec before = refreshed_at(lock), now = before;

	while (now.tv_sec == before.tv_sec && now.tv_nsec == before.tv_nsec) {
		ck_assert(test_now() < end);
		test_nap();
		now = refreshed_at(lock);
	}
}

static void await_no_thread(void)
{
	int64_t end = test_now() + TEST_PATIENCE;

	while (heartbeat_threads() > 0) {
		ck_assert(test_now() < end);
		test_nap();
	}
}

START_TEST(test_hold_after_hold_is_refreshed_without_a_call)
{
	struct filelock *lock = hold("lock", kinds[_i]);

	for (int i = 0; i < 3; i++) {
		await_refresh(lock);
		await_refresh(lock);
		ck_assert_int_eq(filelock_verify(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_inner_release_ends_no_heartbeat)
{
	struct filelock *lock = hold("lock", kinds[_i]);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	await_refresh(lock);
	filelock_close(lock);
}
END_TEST

START_TEST(test_one_thread_serves_all_and_ends_after_them)
{
	struct filelock *locks[MANY];
	char name[16];

	for (int i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "lock-%d", i);
		locks[i] = hold(name, kinds[i % KINDS]);
	}
	for (int i = 0; i < MANY; i++)
		await_refresh(locks[i]);
	ck_assert_uint_eq(heartbeat_threads(), 1);
	for (int i = 0; i < MANY; i++)
		filelock_close(locks[i]);
	await_no_thread();
	locks[0] = hold("again", kinds[0]);
	await_refresh(locks[0]);
	filelock_close(locks[0]);
}
END_TEST

START_TEST(test_handle_that_does_not_ask_has_no_thread)
{
	struct filelock_options options = beating();
	struct filelock *lock;

	options.heartbeat_thread = false;
	lock = open_at("lock", kinds[_i], &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(heartbeat_threads(), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_kind_whose_holds_need_nothing_has_no_thread)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.heartbeat_thread = true;
	lock = open_at("lock", FILELOCK_STRICT, &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(heartbeat_threads(), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_acquisition_that_fails_leaves_no_thread)
{
	struct filelock *holder = hold("lock", kinds[_i]);
	struct filelock_options options = beating();
	struct filelock *lock = open_at("lock", kinds[_i], &options);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	filelock_close(holder);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	await_refresh(lock);
	filelock_close(lock);
	await_no_thread();
}
END_TEST

/* A hold that nobody would refresh is worse than none. */
START_TEST(test_without_a_thread_nothing_is_acquired)
{
	struct filelock_options options = beating();
	struct filelock *lock = open_at("lock", kinds[_i], &options);

	fault_set(FAULT_pthread_create, 1, FAULT_FOR_GOOD, EAGAIN);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "cannot keep alive"));
	ck_assert(!filelock_is_held(lock));
	fault_clear();
	for (unsigned nth = 1, r = 1; r != 0; nth++) {
		fault_set(FAULT_calloc, nth, FAULT_ONCE, ENOMEM);
		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) != 0;
		fault_clear();
		ck_assert(r == 0 || !filelock_is_held(lock));
	}
	await_refresh(lock);
	filelock_close(lock);
}
END_TEST

static _Atomic bool said_lost;

static void note(enum filelock_log_level level, const char *message, void *arg)
{
	(void)level;
	(void)arg;
	if (strstr(message, "is lost"))
		said_lost = true;
}

static void lose(const struct filelock *lock)
{
	char path[600];

	if (filelock_kind(lock) == FILELOCK_SOFT_READWRITE)
		find_record(filelock_path(lock), path);
	else
		(void)snprintf(path, sizeof(path), "%s", filelock_path(lock));
	ck_assert_int_eq(unlink(path), 0);
}

START_TEST(test_lost_hold_is_logged_and_refreshed_no_more)
{
	struct filelock *lock = hold("lock", kinds[_i]);
	int64_t end = test_now() + TEST_PATIENCE;

	filelock_set_log(note, NULL, FILELOCK_LOG_WARNING);
	lose(lock);
	while (!said_lost) {
		ck_assert(test_now() < end);
		test_nap();
	}
	filelock_set_log(NULL, NULL, FILELOCK_LOG_ERROR);
	ck_assert_int_ne(filelock_loss(lock), FILELOCK_LOSS_NONE);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	await_refresh(lock);
	filelock_close(lock);
}
END_TEST

/* No child beside a thread that allocates: AddressSanitizer may hang in it, ThreadSanitizer allows it no
   new thread. */
#ifdef ALLOCATOR_IS_SANITIZERS
enum { CHILDREN = 0 };
#else
enum { CHILDREN = 5 };
#endif

static int go_on_in_child(void *arg)
{
	struct filelock *parents = arg, *own;

	if (heartbeat_threads() != 0 || filelock_renew(parents) != FILELOCK_EFORKED)
		return 1;
	own = hold("childs", filelock_kind(parents));
	await_refresh(own);
	filelock_close(own);
	filelock_close(parents);
	return 0;
}

START_TEST(test_child_has_a_thread_of_its_own_and_the_parents_goes_on)
{
	struct filelock *lock = hold("lock", kinds[_i]);

	await_refresh(lock);
	for (int i = 0; i < CHILDREN; i++)
		ck_assert_int_eq(test_in_child(go_on_in_child, lock), 0);
	await_refresh(lock);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

static int exec_while_it_holds(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	(void)close(*(int *)arg);
	options.duration_ms = 1000;
	options.heartbeat_thread = true;
	lock = open_at("lock", FILELOCK_LEASE, &options);
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		return 1;
	(void)execlp("sleep", "sleep", "600", (char *)NULL);
	return 2;
}

/* Another program has the process by then, and no thread of ours. */
START_TEST(test_lease_ends_by_itself_after_exec)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	int until_exec[2];
	char byte;
	pid_t pid;

	options.duration_ms = 1000;
	lock = open_at("lock", FILELOCK_LEASE, &options);
	ck_assert_int_eq(pipe2(until_exec, O_CLOEXEC), 0);
	pid = test_fork(exec_while_it_holds, &until_exec[0]);
	ck_assert_int_eq(close(until_exec[1]), 0);
	ck_assert_int_eq(read(until_exec[0], &byte, 1), 0);
	ck_assert(exists(test_path("lock")));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(kill(pid, 0), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(test_reap(pid), 128 + SIGKILL);
	filelock_close(lock);
}
END_TEST

static int exit_while_it_holds(void *arg)
{
	await_refresh(hold("lock", *(enum filelock_kind *)arg));
	exit(0);
}

START_TEST(test_exit_beside_the_thread_leaves_the_lock_to_the_next_one)
{
	enum filelock_kind kind = kinds[_i];
	struct filelock *next;

	(void)test_folder();
	ck_assert_int_eq(test_in_child(exit_while_it_holds, &kind), 0);
	next = hold("lock", kind);
	filelock_close(next);
}
END_TEST

/* One that is not this one; sanitizers may have threads of their own. */
static bool another_thread_sleeps(void)
{
	const struct dirent *entry;
	DIR *opened = opendir("/proc/self/task");
	bool sleeps = false;

	ck_assert_ptr_nonnull(opened);
	while (!sleeps && (entry = readdir(opened))) {
		pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);

		sleeps = thread > 0 && thread != getpid() && test_waits_for_a_mutex(thread);
	}
	closedir(opened);
	return sleeps;
}

/* Of these only the times are set, once in a minute or a day: the thread sleeps for as long, and yet ends
   soon after the release. */
START_TEST(test_kind_whose_files_only_age_has_the_thread_while_it_holds)
{
	static const enum filelock_kind others[] = { FILELOCK_NATIVE, FILELOCK_SOFT };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.heartbeat_thread = true;
	if (!test_knows_waits())
		return;
	lock = open_at("lock", others[_i], &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(heartbeat_threads(), 1);
	await(another_thread_sleeps());
	ck_assert_int_eq(filelock_release(lock), 0);
	await_no_thread();
	filelock_close(lock);
}
END_TEST

static void *cycle(void *arg)
{
	struct filelock *lock = arg;

	for (unsigned i = 0; i < test_rounds(40); i++) {
		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1) < 0 ||
		    filelock_renew(lock) < 0)
			return lock;
		if (i % 4 == 0)
			test_nap();
		if (filelock_release(lock) < 0)
			return lock;
	}
	return NULL;
}

START_TEST(test_heartbeats_begin_and_end_on_any_thread)
{
	enum { THREADS = 4 };
	struct filelock_options options = beating();
	struct filelock *locks[THREADS];
	pthread_t threads[THREADS];
	void *failed;

	options.heartbeat_ms = 1;
	for (int i = 0; i < THREADS; i++) /* two of each lock */
		locks[i] = open_at(i % 2 ? "one" : "two", FILELOCK_LEASE, &options);
	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, cycle, locks[i]), 0);
	for (int i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
		ck_assert_ptr_null(failed);
		filelock_close(locks[i]);
	}
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("heartbeat", test_one_thread_serves_all_and_ends_after_them,
	                     test_kind_whose_holds_need_nothing_has_no_thread,
	                     test_lease_ends_by_itself_after_exec,
	                     test_heartbeats_begin_and_end_on_any_thread);
	TCase *kind = tcase_create("kind");

	tcase_add_loop_test(kind, test_hold_after_hold_is_refreshed_without_a_call, 0, KINDS);
	tcase_add_loop_test(kind, test_inner_release_ends_no_heartbeat, 0, KINDS);
	tcase_add_loop_test(kind, test_handle_that_does_not_ask_has_no_thread, 0, KINDS);
	tcase_add_loop_test(kind, test_acquisition_that_fails_leaves_no_thread, 0, KINDS);
	tcase_add_loop_test(kind, test_without_a_thread_nothing_is_acquired, 0, KINDS);
	tcase_add_loop_test(kind, test_lost_hold_is_logged_and_refreshed_no_more, 0, KINDS);
	tcase_add_loop_test(kind, test_child_has_a_thread_of_its_own_and_the_parents_goes_on, 0,
	                    KINDS);
	tcase_add_loop_test(kind, test_exit_beside_the_thread_leaves_the_lock_to_the_next_one, 0, KINDS);
	tcase_add_loop_test(kind, test_kind_whose_files_only_age_has_the_thread_while_it_holds, 0, 2);
	suite_add_tcase(suite, kind);
	return support_main(suite);
}
