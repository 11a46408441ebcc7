/*
 * Soft read/write locks beside Python's SoftReadWriteLock on one path, both modes, both ways round: of each
 * release of 4.0 or later whose source folder FILELOCK_TEST_PYTHONPATHS names (separated by colons).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "python_folders.h"
#include "support.h"

#define SHARED FILELOCK_SHARED
#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define LONG "3600"  /* seconds of silence: nobody is taken for dead */
#define SHORT "2"

/* Shared with Python. Each word has one writer, or is an atomic of ours. */
static struct board {
	_Atomic unsigned stop;
	_Atomic unsigned python_readers, python_writers, python_overlaps, python_entries;
	struct witness witness;
	_Atomic unsigned overlaps;
} *board;

static char path[PATH_MAX], board_path[PATH_MAX];

static void set_up(void)
{
	int fd;

	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	(void)snprintf(board_path, sizeof(board_path), "%s", test_path("board"));
	fd = open(board_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(ftruncate(fd, sizeof(*board)), 0);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert(board != MAP_FAILED);
	close(fd);
}

static bool start_python(struct program *python, int which, const char *duration)
{
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char script[PATH_MAX], folder[PATH_MAX], line[256], reason[512];

	set_up();
	(void)snprintf(script, sizeof(script), "%s/tests/interop/softrw_peer.py", top ? top : ".");
	(void)unsetenv("PYTHONPATH");
	if (which > 0 && find_folder(which, folder, sizeof(folder)))
		(void)setenv("PYTHONPATH", folder, 1);
	(void)setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	program_start(python, (const char *const[]){ "/usr/bin/python3", script, path, board_path,
	                                             duration, NULL });
	if (program_read(python, line, sizeof(line)) && strncmp(line, "ready ", 6) == 0)
		return true;
	(void)program_end(python);
	(void)snprintf(reason, sizeof(reason), "no such filelock for /usr/bin/python3: %s", line);
	test_skip(reason);
	return false;
}

static void ask(struct program *python, const char *order, const char *answer)
{
	program_say(python, order);
	program_expect(python, answer);
}

/* Of ours, as patient as Python's LONG. */
static struct filelock *open_patiently(unsigned duration_ms)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.duration_ms = duration_ms;
	options.poll_interval_ms = 20;
	return test_open(path, &options);
}

static int attempt(enum filelock_mode mode)
{
	struct filelock *lock = open_patiently(3600000);
	int r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

START_TEST(test_modes_exclude_each_other_both_ways)
{
	struct filelock *lock;
	struct program python;

	if (!start_python(&python, _i, LONG))
		return;
	lock = open_patiently(3600000);
	ask(&python, "write 0", "held");
	ck_assert_int_eq(attempt(SHARED), -ETIMEDOUT);
	ck_assert_int_eq(attempt(EXCLUSIVE), -ETIMEDOUT);
	ask(&python, "release", "released");
	ask(&python, "read 0", "held");
	ck_assert_int_eq(attempt(SHARED), 0);
	ck_assert_int_eq(attempt(EXCLUSIVE), -ETIMEDOUT);
	ask(&python, "release", "released");
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), 0);
	ask(&python, "write 0", "timeout");
	ask(&python, "read 0", "timeout");
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), 0);
	ask(&python, "write 0", "timeout");
	ask(&python, "read 0", "held");
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ask(&python, "release", "released");
	ask(&python, "holders", "0");
	ck_assert_int_eq(program_end(&python), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_generations_of_both_are_one_row)
{
	struct filelock *lock;
	struct program python;
	uint64_t token = 0;
	char expected[32];

	if (!start_python(&python, _i, LONG))
		return;
	lock = open_patiently(3600000);
	for (int i = 0; i < 20; i++) { /* more generations than stay */
		ck_assert_int_eq(filelock_acquire(lock, i % 2 ? SHARED : EXCLUSIVE, 0), 0);
		ck_assert_int_eq(filelock_token(lock, &token), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		ask(&python, i % 2 ? "write 0" : "read 0", "held");
		(void)snprintf(expected, sizeof(expected), "%llu", (unsigned long long)token + 2);
		ask(&python, "generation", expected);
		ask(&python, "release", "released");
	}
	ck_assert_int_eq(program_end(&python), 0);
	filelock_close(lock);
}
END_TEST

static void start_waiting(struct peer *peer, enum filelock_mode mode, unsigned duration_ms)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.duration_ms = duration_ms;
	options.poll_interval_ms = 20;
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, mode, FILELOCK_WAIT_FOREVER);
	peer_await_notice(peer);
}

/* shows: rw-writer-first */
START_TEST(test_waiting_writer_keeps_readers_out_both_ways)
{
	struct filelock *lock;
	struct program python;
	struct peer writer;

	if (!start_python(&python, _i, LONG))
		return;
	lock = open_patiently(3600000);
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), 0);
	start_waiting(&writer, EXCLUSIVE, 3600000);
	ask(&python, "read 0", "timeout");
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_answer(&writer), 0);
	ck_assert_int_eq(peer_release(&writer), 0);
	/* Python's waits now, for ours */
	ck_assert_int_eq(filelock_acquire(lock, SHARED, 0), 0);
	program_say(&python, "write 100");
	await(attempt(SHARED) == -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	program_expect(&python, "held");
	ask(&python, "release", "released");
	ck_assert_int_eq(attempt(SHARED), 0);
	peer_stop(&writer); /* first: it has a copy of Python's input */
	ck_assert_int_eq(program_end(&python), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_pythons_release_wakes_us)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct program python;
	struct peer waiter;

	if (!start_python(&python, _i, LONG))
		return;
	options.duration_ms = 10800000;
	options.poll_interval_ms = 3600000;
	ask(&python, "write 0", "held");
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, path, &options), 0);
	peer_order_acquire(&waiter, SHARED, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&waiter);
	ask(&python, "release", "released");
	ck_assert_int_eq(peer_answer(&waiter), 0);
	peer_stop(&waiter);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* --- death --- */

START_TEST(test_killed_python_is_left_out_after_its_lease)
{
	struct program python;
	struct peer waiter;

	if (!start_python(&python, _i, SHORT))
		return;
	ask(&python, "write 0", "held");
	start_waiting(&waiter, SHARED, 2000);
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	peer_stop(&waiter);
}
END_TEST

START_TEST(test_python_leaves_our_killed_holder_out_after_its_lease)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct program python;
	struct peer holder;

	if (!start_python(&python, _i, SHORT))
		return;
	options.duration_ms = 2000;
	peer_start(&holder);
	ck_assert_int_eq(peer_open(&holder, path, &options), 0);
	ck_assert_int_eq(peer_acquire(&holder, EXCLUSIVE, 0), 0);
	peer_kill(&holder, SIGKILL);
	ask(&python, "read 100", "held");
	ask(&python, "holders", "1");
	ask(&python, "release", "released");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static int verify(void *arg)
{
	(void)arg;
	return filelock_verify(peer_lock());
}

static int release(void *arg)
{
	(void)arg;
	return filelock_release(peer_lock());
}

/* shows: rw-lost */
START_TEST(test_stopped_holder_of_ours_learns_what_python_did)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct program python;
	struct peer holder;

	if (!start_python(&python, _i, SHORT))
		return;
	options.duration_ms = 2000;
	peer_start(&holder);
	ck_assert_int_eq(peer_open(&holder, path, &options), 0);
	ck_assert_int_eq(peer_acquire(&holder, EXCLUSIVE, 0), 0);
	ck_assert_int_eq(kill(holder.pid, SIGSTOP), 0);
	ask(&python, "write 100", "held");
	ck_assert_int_eq(kill(holder.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_call(&holder, verify, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(peer_call(&holder, release, NULL), FILELOCK_ELOST);
	ask(&python, "holders", "1"); /* and Python's hold is as it was */
	ask(&python, "release", "released");
	peer_stop(&holder);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_stopped_python_learns_what_we_did)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct program python;
	struct filelock *lock;

	if (!start_python(&python, _i, SHORT))
		return;
	options.duration_ms = 2000;
	lock = test_open(path, &options);
	ask(&python, "read 0", "held");
	ck_assert_int_eq(kill(python.pid, SIGSTOP), 0);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, FILELOCK_WAIT_FOREVER), 0);
	ck_assert_int_eq(kill(python.pid, SIGCONT), 0);
	ask(&python, "lost", "evicted");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* --- storm --- */

static void look(bool writing)
{
	if (board->python_writers || (writing && board->python_readers))
		board->overlaps++;
}

static int stay(unsigned who, bool writing)
{
	if (writing)
		witness_enter(&board->witness, who);
	else
		witness_enter_shared(&board->witness);
	look(writing);
	test_nap();
	look(writing);
	if (writing)
		witness_leave(&board->witness, who);
	else
		witness_leave_shared(&board->witness);
	return 0;
}

static int run_ours(void *arg)
{
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock = open_patiently(3600000);

	for (unsigned round = who; !board->stop; round++) {
		bool writing = round % 3 == 0;

		if (filelock_acquire(lock, writing ? EXCLUSIVE : SHARED, -1) < 0)
			return 1;
		stay(who, writing);
		if (filelock_release(lock) < 0)
			return 2;
		test_nap();
	}
	filelock_close(lock);
	return 0;
}

/* Two readers and a writer by turns in each of three processes, and Python among them. */
START_TEST(test_storm_of_both_never_overlaps)
{
	unsigned rounds = test_rounds(40);
	struct program python;
	char order[64];
	pid_t ours[3];

	if (!start_python(&python, _i, LONG))
		return;
	for (size_t i = 0; i < 3; i++)
		ours[i] = test_fork(run_ours, (void *)(i + 1));
	(void)snprintf(order, sizeof(order), "storm %u", rounds);
	ask(&python, order, "done");
	board->stop = 1;
	for (size_t i = 0; i < 3; i++)
		ck_assert_int_eq(test_reap(ours[i]), 0);
	ck_assert_uint_eq(board->witness.overlaps, 0);
	ck_assert_uint_eq(board->overlaps, 0);
	ck_assert_uint_eq(board->python_overlaps, 0);
	ck_assert_uint_eq(board->python_entries, rounds);
	ck_assert_uint_gt(board->witness.entries, 0);
	ask(&python, "holders", "0");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("soft read/write beside Python");
	TCase *each = tcase_create("python");
	int peers = python_peers();

	(void)setenv("FILELOCK_TEST_KIND", "soft-readwrite", 1);
	tcase_add_loop_test(each, test_modes_exclude_each_other_both_ways, 0, peers);
	tcase_add_loop_test(each, test_generations_of_both_are_one_row, 0, peers);
	tcase_add_loop_test(each, test_waiting_writer_keeps_readers_out_both_ways, 0, peers);
	tcase_add_loop_test(each, test_pythons_release_wakes_us, 0, peers);
	tcase_add_loop_test(each, test_killed_python_is_left_out_after_its_lease, 0, peers);
	tcase_add_loop_test(each, test_python_leaves_our_killed_holder_out_after_its_lease, 0,
	                    peers);
	tcase_add_loop_test(each, test_stopped_holder_of_ours_learns_what_python_did, 0, peers);
	tcase_add_loop_test(each, test_stopped_python_learns_what_we_did, 0, peers);
	tcase_add_loop_test(each, test_storm_of_both_never_overlaps, 0, peers);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
