/* Read/write locks: waiting writers come first, which calls wake others, no wake-up is lost. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <filelock/driver.h>

#include "support.h"
#include "base/sys.h"

#ifdef FILELOCK_SQLITE

#include <sqlite3.h>

/* A poll so rare that a lost wake-up shows; the verifiers of storms speak of 60 s. */
#define RARE_POLL_MS 60000
#define TOO_LONG (45 * SECONDS) /* for one handover: less than the poll, which comes an eighth early */
#define FOREVER FILELOCK_WAIT_FOREVER

static char path[512];

static struct filelock_options rare(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = RARE_POLL_MS;
	return options;
}

static void set_path(void)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("lock.db"));
}

static void start(struct peer *peer)
{
	struct filelock_options options = rare();

	set_path();
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
}

static void hold(struct peer *peer, enum filelock_mode mode)
{
	ck_assert_int_eq(peer_acquire(peer, mode, FILELOCK_NO_WAIT), 0);
}

static void wait_for(struct peer *peer, enum filelock_mode mode)
{
	peer_order_acquire(peer, mode, FOREVER);
	peer_await_notice(peer);
}

static void cycle(struct filelock *lock)
{
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
}

/* But with another name, perhaps in another folder, where somebody might be registered. */
START_TEST(test_release_sets_no_times_when_nobody_waits)
{
	struct filelock *lock;

	set_path();
	lock = test_open(path, NULL);
	cycle(lock);
	cycle(lock); /* from the second release on it asks */
	fault_watch();
	cycle(lock);
	ck_assert_uint_eq(fault_calls(FAULT_utimensat), 0);
	ck_assert_uint_eq(fault_calls(FAULT_fcntl_ofd_getlk), 1);
	ck_assert_int_eq(link(path, test_path("another.db")), 0);
	cycle(lock);
	ck_assert_uint_eq(fault_calls(FAULT_utimensat), 1);
	filelock_close(lock);
}
END_TEST

/* To and fro: the releases are all but the first those that ask. */
/* shows: release-wakes */
START_TEST(test_release_that_asks_wakes_who_waits)
{
	struct filelock *lock;
	struct peer peer;

	start(&peer);
	lock = test_open(path, NULL);
	cycle(lock);
	for (unsigned i = 0; i < test_rounds(200); i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FOREVER), 0);
		peer_order_acquire(&peer, i % 3 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED, FOREVER);
		if (i % 2)
			peer_await_notice(&peer);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert_int_eq(peer_answer(&peer), 0);
		ck_assert_int_eq(peer_release(&peer), 0);
	}
	filelock_close(lock);
	peer_stop(&peer);
}
END_TEST

/* --- counting, in the peer --- */

static int begin_count(void *arg)
{
	(void)arg;
	fault_watch();
	fault_clear();
	return 0;
}

static int count_wakes(void *arg)
{
	(void)arg;
	return (int)fault_calls(FAULT_utimensat);
}

static void watch_wakes(struct peer *peer)
{
	ck_assert_int_eq(peer_call(peer, begin_count, NULL), 0);
}

static int wakes_of(struct peer *peer)
{
	return peer_call(peer, count_wakes, NULL);
}

/* --- a foreign transaction, in the peer --- */

static int run_sql(void *arg)
{
	static sqlite3 *db;

	if (!db && sqlite3_open(path, &db) != SQLITE_OK)
		return 1;
	/* a commit may meet the SHARED of a writer that tries for RESERVED just then */
	sqlite3_busy_timeout(db, (int)(TEST_PATIENCE / MILLISECONDS));
	return sqlite3_exec(db, arg, NULL, NULL, NULL) == SQLITE_OK ? 0 : 1;
}

static void sql(struct peer *peer, const char *text)
{
	ck_assert_int_eq(peer_call(peer, run_sql, (void *)text), 0);
}

/* --- writers first --- */

/* shows: waiting-writer */
START_TEST(test_waiting_writer_keeps_new_readers_out_and_is_let_in_by_the_last)
{
	struct peer reader, writer, late;

	start(&reader);
	start(&writer);
	start(&late);
	hold(&reader, FILELOCK_SHARED);
	wait_for(&writer, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(peer_acquire(&late, FILELOCK_SHARED, 20), -ETIMEDOUT);
	ck_assert(!peer_answers_within(&writer, 0));
	ck_assert_int_eq(peer_release(&reader), 0);
	ck_assert_int_eq(peer_answer(&writer), 0);
	ck_assert_int_eq(peer_acquire(&late, FILELOCK_SHARED, 20), -ETIMEDOUT);
	ck_assert_int_eq(peer_release(&writer), 0);
	ck_assert_int_eq(peer_acquire(&late, FILELOCK_SHARED, FOREVER), 0);
	peer_stop(&reader);
	peer_stop(&writer);
	peer_stop(&late);
}
END_TEST

/* SQLite lets a second connection of a process in without looking for other processes' PENDING. */
/* shows: waiting-writer */
START_TEST(test_readers_of_one_process_do_not_starve_a_writer_of_another)
{
	struct filelock *readers[2];
	struct peer writer;

	start(&writer);
	for (int i = 0; i < 2; i++)
		readers[i] = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(readers[0], FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_acquire(readers[1], FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_release(readers[1]), 0);
	wait_for(&writer, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(filelock_acquire(readers[1], FILELOCK_SHARED, 20), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(readers[0]), 0);
	ck_assert_int_eq(peer_answer(&writer), 0);
	ck_assert_int_eq(filelock_acquire(readers[1], FILELOCK_SHARED, 0), -ETIMEDOUT);
	peer_stop(&writer);
	for (int i = 0; i < 2; i++)
		filelock_close(readers[i]);
}
END_TEST

/* Four overlapping readers without end, each in a process of its own: the writer gets in. */
static struct {
	_Atomic bool over;
	_Atomic unsigned holds;
	struct witness witness;
} *rush;

static int read_on_and_on(void *arg)
{
	struct filelock_options options = rare();
	struct filelock *lock = test_open(path, &options);

	(void)arg;
	while (!atomic_load(&rush->over)) {
		if (filelock_acquire(lock, FILELOCK_SHARED, FOREVER) < 0)
			return 1;
		witness_enter_shared(&rush->witness);
		atomic_fetch_add(&rush->holds, 1);
		for (int i = 0; i < 10; i++)
			test_nap();
		witness_leave_shared(&rush->witness);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* shows: waiting-writer */
START_TEST(test_writer_gets_in_among_readers_without_end)
{
	enum { READERS = 4 };
	struct filelock_options options = rare();
	pid_t pids[READERS];
	struct filelock *lock;

	rush = test_shared(sizeof(*rush));
	set_path();
	for (int i = 0; i < READERS; i++)
		pids[i] = test_fork(read_on_and_on, NULL);
	await(atomic_load(&rush->witness.most_readers) >= 2);
	lock = test_open(path, &options);
	for (unsigned i = 0; i < 10; i++) {
		unsigned before = atomic_load(&rush->holds);

		await(atomic_load(&rush->holds) > before + READERS);
		/* it would not, ever, if it had to find a moment without readers */
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 20000), 0);
		witness_enter(&rush->witness, 1);
		witness_leave(&rush->witness, 1);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	atomic_store(&rush->over, true);
	for (int i = 0; i < READERS; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(rush->witness.overlaps, 0);
	ck_assert_uint_ge(rush->witness.most_readers, 2);
	filelock_close(lock);
}
END_TEST

/* --- which calls wake others --- */

START_TEST(test_readers_release_wakes_only_if_a_writer_waits)
{
	struct peer one, two, writer;

	start(&one);
	start(&two);
	start(&writer);
	watch_wakes(&one);
	watch_wakes(&two);
	hold(&one, FILELOCK_SHARED);
	hold(&two, FILELOCK_SHARED);
	ck_assert_int_eq(peer_release(&one), 0);
	ck_assert_int_eq(wakes_of(&one), 0);
	wait_for(&writer, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(peer_release(&two), 0);
	ck_assert_int_eq(wakes_of(&two), 1);
	ck_assert_int_eq(peer_answer(&writer), 0);
	peer_stop(&one);
	peer_stop(&two);
	peer_stop(&writer);
}
END_TEST

static int (*real_fcntl)(int fd, int operation, ...);
static struct peer *late_writer; /* to come before the next unlock */

static int fcntl_after_the_writer(int fd, int operation, ...)
{
	struct peer *writer = late_writer;
	struct flock *lock;
	va_list arguments;

	va_start(arguments, operation);
	lock = va_arg(arguments, struct flock *);
	va_end(arguments);
	if (writer && operation == F_SETLK && lock->l_type == F_UNLCK) {
		late_writer = NULL;
		wait_for(writer, FILELOCK_EXCLUSIVE);
	}
	return real_fcntl(fd, operation, lock);
}

/* It came after the release had begun, and found the reader still there. */
/* shows: release-wakes */
START_TEST(test_writer_that_comes_during_a_readers_release_is_woken)
{
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");
	struct filelock *reader;
	struct peer writer;

	start(&writer);
	reader = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(reader, FILELOCK_SHARED, FILELOCK_NO_WAIT), 0);
	real_fcntl = (int (*)(int, int, ...))vfs->xGetSystemCall(vfs, "fcntl");
	ck_assert_int_eq(vfs->xSetSystemCall(vfs, "fcntl",
	                                     (sqlite3_syscall_ptr)fcntl_after_the_writer),
	                 SQLITE_OK);
	ck_assert_int_eq(begin_count(NULL), 0);
	late_writer = &writer;
	ck_assert_int_eq(filelock_release(reader), 0);
	ck_assert_ptr_null(late_writer);
	ck_assert_int_eq(count_wakes(NULL), 1);
	ck_assert_int_eq(peer_answer(&writer), 0);
	filelock_close(reader);
	peer_stop(&writer);
}
END_TEST

/* shows: release-wakes */
START_TEST(test_writers_release_wakes_reader_or_writer)
{
	enum filelock_mode mode = _i ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE;
	struct peer holder, waiter;

	start(&holder);
	start(&waiter);
	watch_wakes(&holder);
	hold(&holder, FILELOCK_EXCLUSIVE);
	wait_for(&waiter, mode);
	ck_assert_int_eq(peer_release(&holder), 0);
	ck_assert_int_eq(wakes_of(&holder), 1);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&holder);
	peer_stop(&waiter);
}
END_TEST

/* A clock that stands, in shared memory. */
static _Atomic int64_t *shared_time;

static int64_t shared_now(void)
{
	return *shared_time;
}

static int go_by_the_shared_clock(void *arg)
{
	(void)arg;
	sys.now = sys.boot = shared_now;
	return 0;
}

START_TEST(test_timed_out_writer_gives_pending_back_and_wakes_the_readers_behind_it)
{
	struct peer reader, writer, late;

	shared_time = test_shared(sizeof(*shared_time));
	*shared_time = test_now();
	start(&reader);
	start(&writer);
	start(&late);
	watch_wakes(&writer);
	hold(&reader, FILELOCK_SHARED);
	ck_assert_int_eq(peer_call(&writer, go_by_the_shared_clock, NULL), 0);
	peer_order_acquire(&writer, FILELOCK_EXCLUSIVE, 3000);
	peer_await_notice(&writer);
	wait_for(&late, FILELOCK_SHARED);
	*shared_time += 3 * SECONDS;
	ck_assert_int_eq(peer_answer(&writer), -ETIMEDOUT);
	ck_assert_int_eq(peer_answer(&late), 0);
	ck_assert_int_eq(wakes_of(&writer), 1);
	peer_stop(&reader);
	peer_stop(&writer);
	peer_stop(&late);
}
END_TEST

static int interrupt_itself(void *arg)
{
	(void)arg;
	filelock_interrupt(peer_lock());
	return filelock_acquire(peer_lock(), FILELOCK_EXCLUSIVE, FOREVER);
}

START_TEST(test_cancelled_writer_gives_pending_back_and_wakes)
{
	struct peer reader, writer;

	start(&reader);
	start(&writer);
	watch_wakes(&writer);
	hold(&reader, FILELOCK_SHARED);
	ck_assert_int_eq(peer_call(&writer, interrupt_itself, NULL), -ECANCELED);
	ck_assert_int_eq(wakes_of(&writer), 1);
	ck_assert_int_eq(peer_acquire(&writer, FILELOCK_SHARED, 0), 0);
	peer_stop(&reader);
	peer_stop(&writer);
}
END_TEST

START_TEST(test_refused_reader_does_not_wake)
{
	struct peer writer, reader;

	start(&writer);
	start(&reader);
	watch_wakes(&reader);
	hold(&writer, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(peer_acquire(&reader, FILELOCK_SHARED, 20), -ETIMEDOUT);
	ck_assert_int_eq(wakes_of(&reader), 0);
	peer_stop(&writer);
	peer_stop(&reader);
}
END_TEST

/* RESERVED without PENDING, as BEGIN IMMEDIATE has it: readers are let in, writers are refused
   after they had SHARED. */
START_TEST(test_writer_refused_reserved_gives_shared_back_and_does_not_wake)
{
	struct peer foreign, writer, reader;

	start(&foreign);
	start(&writer);
	start(&reader);
	watch_wakes(&writer);
	sql(&foreign, "begin immediate");
	ck_assert_int_eq(peer_acquire(&writer, FILELOCK_EXCLUSIVE, 20), -ETIMEDOUT);
	ck_assert_int_eq(wakes_of(&writer), 0);
	hold(&reader, FILELOCK_SHARED);
	ck_assert_int_eq(peer_release(&reader), 0);
	/* the writer, still waiting, would keep it out if it had kept SHARED */
	wait_for(&writer, FILELOCK_EXCLUSIVE);
	sql(&foreign, "create table t (x)");
	sql(&foreign, "commit");
	peer_kill(&writer, SIGKILL);
	peer_stop(&foreign);
	peer_stop(&reader);
}
END_TEST

static int count_sleeps(void *arg)
{
	(void)arg;
	return (int)fault_calls(FAULT_ppoll);
}

static int wait_a_while(void *arg)
{
	(void)arg;
	return filelock_acquire(peer_lock(), FILELOCK_EXCLUSIVE, 500);
}

/* Two that wake others at each refusal wake each other 140,000 times a second. */
/* shows: idle-waits */
START_TEST(test_two_refused_writers_do_not_wake_each_other)
{
	struct peer foreign, one, two;

	start(&foreign);
	start(&one);
	start(&two);
	watch_wakes(&one);
	watch_wakes(&two);
	sql(&foreign, "begin immediate");
	peer_order(&one, wait_a_while, NULL);
	peer_order(&two, wait_a_while, NULL);
	ck_assert_int_eq(peer_answer(&one), -ETIMEDOUT);
	ck_assert_int_eq(peer_answer(&two), -ETIMEDOUT);
	ck_assert_int_lt(peer_call(&one, count_sleeps, NULL), 10);
	ck_assert_int_lt(peer_call(&two, count_sleeps, NULL), 10);
	peer_stop(&foreign);
	peer_stop(&one);
	peer_stop(&two);
}
END_TEST

/* shows: idle-waits */
START_TEST(test_readers_behind_a_writer_do_not_wake_each_other)
{
	struct peer holder, one, two;

	start(&holder);
	start(&one);
	start(&two);
	watch_wakes(&one);
	watch_wakes(&two);
	hold(&holder, FILELOCK_EXCLUSIVE);
	peer_order_acquire(&one, FILELOCK_SHARED, 500);
	peer_order_acquire(&two, FILELOCK_SHARED, 500);
	ck_assert_int_eq(peer_answer(&one), -ETIMEDOUT);
	ck_assert_int_eq(peer_answer(&two), -ETIMEDOUT);
	ck_assert_int_lt(peer_call(&one, count_sleeps, NULL), 10);
	ck_assert_int_lt(peer_call(&two, count_sleeps, NULL), 10);
	peer_stop(&holder);
	peer_stop(&one);
	peer_stop(&two);
}
END_TEST

/* A reader that leaves by SQL raises no event: the writer comes by itself. */
/* shows: poll-stays */
START_TEST(test_writer_finds_a_silent_release_by_itself)
{
	struct peer foreign, writer;

	start(&foreign);
	start(&writer);
	sql(&foreign, "begin; select * from sqlite_schema");
	wait_for(&writer, FILELOCK_EXCLUSIVE);
	sql(&foreign, "rollback");
	ck_assert_int_eq(peer_answer(&writer), 0);
	peer_stop(&foreign);
	peer_stop(&writer);
}
END_TEST

START_TEST(test_killed_writer_lets_the_readers_behind_it_in)
{
	for (unsigned i = 0; i < test_rounds(20); i++) {
		struct peer reader, writer, late;

		start(&reader);
		start(&writer);
		start(&late);
		hold(&reader, FILELOCK_SHARED);
		wait_for(&writer, FILELOCK_EXCLUSIVE);
		wait_for(&late, FILELOCK_SHARED);
		peer_kill(&writer, SIGKILL);
		ck_assert_int_eq(peer_answer(&late), 0);
		peer_stop(&reader);
		peer_stop(&late);
	}
}
END_TEST

/* shows: death-wakes */
START_TEST(test_killed_holder_wakes_the_waiter)
{
	for (unsigned i = 0; i < test_rounds(40); i++) {
		struct peer holder, waiter;

		start(&holder);
		start(&waiter);
		hold(&holder, i % 2 ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE);
		wait_for(&waiter, FILELOCK_EXCLUSIVE);
		peer_kill(&holder, SIGKILL);
		ck_assert_int_eq(peer_answer(&waiter), 0);
		peer_stop(&waiter);
	}
}
END_TEST

/* --- the short interval --- */

/* Steps the writer by a clock of our own; when the next attempt is due. */
static int64_t step_busy(struct filelock *writer, int64_t now)
{
	int64_t until = -1;

	ck_assert_int_eq(filelock_step(writer, now, &until), FILELOCK_STEP_WAIT);
	return until - now;
}

START_TEST(test_writer_at_pending_tries_after_1_2_and_then_every_5_ms)
{
	static const int64_t delays[] = { 1, 1, 2, 5, 5, 5, 5 };
	struct filelock_options options = rare();
	struct filelock *reader, *writer;
	int64_t now = 1000 * SECONDS;

	set_path();
	reader = test_open(path, NULL);
	writer = test_open(path, &options);
	ck_assert_int_eq(filelock_acquire(reader, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_begin(writer, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, NULL, NULL), 0);
	for (size_t i = 0; i < sizeof(delays) / sizeof(*delays); i++) {
		int64_t delay = step_busy(writer, now);

		ck_assert_int_eq(delay, delays[i] * MILLISECONDS);
		now += delay;
	}
	ck_assert_int_eq(filelock_release(reader), 0);
	ck_assert_int_eq(filelock_step(writer, now, &now), FILELOCK_STEP_HELD);
	filelock_close(writer);
	filelock_close(reader);
}
END_TEST

START_TEST(test_refused_reader_keeps_the_poll_interval)
{
	struct filelock_options options = rare();
	struct filelock *writer, *reader;

	set_path();
	writer = test_open(path, NULL);
	reader = test_open(path, &options);
	ck_assert_int_eq(filelock_acquire(writer, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_begin(reader, FILELOCK_SHARED, FILELOCK_NEVER, NULL, NULL), 0);
	/* but for the eighth of it that a poll may come early */
	ck_assert_int_ge(step_busy(reader, 1000 * SECONDS),
	                 RARE_POLL_MS * MILLISECONDS / 8 * 7);
	ck_assert_int_eq(filelock_give_up(reader, -ECANCELED), -ECANCELED);
	filelock_close(reader);
	filelock_close(writer);
}
END_TEST

/* --- storms --- */

static struct storm {
	struct witness witness;
	_Atomic int64_t longest_wait;
	unsigned rounds;
} *storm;

static void note_wait(int64_t waited)
{
	int64_t longest = atomic_load(&storm->longest_wait);

	while (waited > longest &&
	       !atomic_compare_exchange_weak(&storm->longest_wait, &longest, waited)) {
	}
}

/* who is odd: a writer. */
static int take_turns(void *arg)
{
	struct filelock_options options = rare();
	struct filelock *lock = test_open(path, &options);
	unsigned who = (unsigned)(size_t)arg;
	bool writes = who % 2;

	for (unsigned i = 0; i < storm->rounds; i++) {
		int64_t begin = test_now();

		if (filelock_acquire(lock, writes ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED,
		                     FOREVER) < 0)
			return 1;
		note_wait(test_now() - begin);
		if (writes) {
			witness_enter(&storm->witness, who);
			witness_leave(&storm->witness, who);
		} else {
			witness_enter_shared(&storm->witness);
			witness_leave_shared(&storm->witness);
		}
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* shows: never-two */
START_TEST(test_no_wake_up_is_lost_with_two_writers_and_readers)
{
	enum { PROCESSES = 5 };
	pid_t pids[PROCESSES];

	storm = test_shared(sizeof(*storm));
	storm->rounds = test_rounds(1500);
	set_path();
	for (size_t i = 0; i < PROCESSES; i++) /* 1 and 3 write, 0, 2 and 4 read */
		pids[i] = test_fork(take_turns, (void *)i);
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
	ck_assert_uint_eq(storm->witness.entries, PROCESSES * storm->rounds);
	ck_assert_int_lt(storm->longest_wait, TOO_LONG);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = SUITE(
	             "readwrite wake",
	             test_waiting_writer_keeps_new_readers_out_and_is_let_in_by_the_last,
	             test_readers_of_one_process_do_not_starve_a_writer_of_another,
	             test_writer_gets_in_among_readers_without_end,
	             test_readers_release_wakes_only_if_a_writer_waits,
	             test_writer_that_comes_during_a_readers_release_is_woken,
	             test_timed_out_writer_gives_pending_back_and_wakes_the_readers_behind_it,
	             test_cancelled_writer_gives_pending_back_and_wakes,
	             test_refused_reader_does_not_wake,
	             test_writer_refused_reserved_gives_shared_back_and_does_not_wake,
	             test_two_refused_writers_do_not_wake_each_other,
	             test_readers_behind_a_writer_do_not_wake_each_other,
	             test_writer_finds_a_silent_release_by_itself,
	             test_killed_writer_lets_the_readers_behind_it_in,
	             test_killed_holder_wakes_the_waiter,
	             test_writer_at_pending_tries_after_1_2_and_then_every_5_ms,
	             test_refused_reader_keeps_the_poll_interval,
	             test_no_wake_up_is_lost_with_two_writers_and_readers,
	             test_release_sets_no_times_when_nobody_waits,
	             test_release_that_asks_wakes_who_waits);
	TCase *each = tcase_create("mode");

	tcase_add_loop_test(each, test_writers_release_wakes_reader_or_writer, 0, 2);
	suite_add_tcase(suite, each);
	return suite;
}

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "readwrite", 1);
	return support_main(make_suite());
}

#else

int main(void)
{
	return 77;
}

#endif
