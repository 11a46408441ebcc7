/*
 * Read/write locks beside others on one database, both ways round: the sqlite3 shell,
 * transactions of Python's sqlite3 module, and Python's ReadWriteLock, of each release whose
 * source folder FILELOCK_TEST_PYTHONPATHS names (separated by colons).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

#ifdef FILELOCK_SQLITE

#include "python_folders.h"

#define FOREVER FILELOCK_WAIT_FOREVER

static char path[PATH_MAX], board_path[PATH_MAX];

/* Shared with Python. */
static struct board {
	_Atomic unsigned stop;
	struct witness witness;
} *board;

static void set_up(void)
{
	int fd;

	(void)snprintf(path, sizeof(path), "%s", test_path("lock.db"));
	(void)snprintf(board_path, sizeof(board_path), "%s", test_path("board"));
	fd = open(board_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(ftruncate(fd, sizeof(*board)), 0);
	board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert(board != MAP_FAILED);
	close(fd);
}

static int try(enum filelock_mode mode)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

static void start_waiting(struct peer *peer, enum filelock_mode mode, unsigned poll_ms)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = poll_ms;
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, mode, FOREVER);
	peer_await_notice(peer);
}

/* --- the sqlite3 shell --- */

static bool start_shell(struct program *shell)
{
	char line[64];

	set_up();
	program_start(shell, (const char *const[]){ "sqlite3", "-bail", "-batch", path, NULL });
	program_say(shell, ".print ready");
	if (program_read(shell, line, sizeof(line)))
		return true;
	(void)program_end(shell);
	test_skip("no sqlite3");
	return false;
}

static void tell_shell(struct program *shell, const char *sql)
{
	program_say(shell, sql);
	program_say(shell, ".print done");
	program_expect(shell, "done");
}

/* Another shell runs that, waiting 50 ms at most. */
static bool shell_can(const char *sql)
{
	return program_run((const char *const[]){ "sqlite3", "-bail", "-batch", "-cmd",
	                                          ".output /dev/null", "-cmd", ".timeout 50",
	                                          path, sql, NULL }) == 0;
}

#define READ "begin; select name from sqlite_master;"
#define WRITE "begin exclusive;"

START_TEST(test_shells_write_transaction_keeps_us_out)
{
	struct program shell;

	if (!start_shell(&shell))
		return;
	tell_shell(&shell, WRITE);
	ck_assert_int_eq(try(FILELOCK_SHARED), -ETIMEDOUT);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	tell_shell(&shell, "rollback;");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(program_end(&shell), 0);
}
END_TEST

START_TEST(test_shells_read_transaction_lets_our_readers_in)
{
	struct program shell;

	if (!start_shell(&shell))
		return;
	tell_shell(&shell, READ);
	ck_assert_int_eq(try(FILELOCK_SHARED), 0);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	tell_shell(&shell, "rollback;");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(program_end(&shell), 0);
}
END_TEST

START_TEST(test_shells_reservation_lets_our_readers_in)
{
	struct program shell;

	if (!start_shell(&shell))
		return;
	tell_shell(&shell, "begin immediate;");
	ck_assert_int_eq(try(FILELOCK_SHARED), 0);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	tell_shell(&shell, "rollback;");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(program_end(&shell), 0);
}
END_TEST

START_TEST(test_our_locks_keep_the_shell_out)
{
	struct program shell;
	struct filelock *lock;

	if (!start_shell(&shell))
		return;
	ck_assert_int_eq(program_end(&shell), 0);
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert(!shell_can(READ));
	ck_assert(!shell_can(WRITE));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert(shell_can(WRITE));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	ck_assert(shell_can(READ));
	ck_assert(!shell_can(WRITE));
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_our_waiting_writer_keeps_the_shells_readers_out)
{
	struct program shell;
	struct peer writer;

	if (!start_shell(&shell))
		return;
	tell_shell(&shell, READ);
	start_waiting(&writer, FILELOCK_EXCLUSIVE, 3600000);
	ck_assert(!shell_can(READ));
	tell_shell(&shell, "rollback;");
	ck_assert_int_eq(peer_answer(&writer), 0);
	ck_assert_int_eq(peer_release(&writer), 0);
	ck_assert(shell_can(READ));
	peer_stop(&writer); /* which has the shell's pipe open */
	ck_assert_int_eq(program_end(&shell), 0);
}
END_TEST

/* --- Python: 0 is the module sqlite3, 1 Debian's filelock, then the folders --- */

static bool start_python(struct program *python, int which)
{
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char script[PATH_MAX], folder[PATH_MAX], line[256], reason[512];

	(void)snprintf(script, sizeof(script), "%s/tests/interop/readwrite_peer.py",
	               top ? top : ".");
	(void)unsetenv("PYTHONPATH");
	if (which > 1 && find_folder(which - 1, folder, sizeof(folder)))
		(void)setenv("PYTHONPATH", folder, 1);
	(void)setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	program_start(python, (const char *const[]){ "/usr/bin/python3", script,
	                                             which ? "filelock" : "sqlite3", path,
	                                             board_path, NULL });
	if (program_read(python, line, sizeof(line)) && strcmp(line, "ready") == 0)
		return true;
	(void)program_end(python);
	(void)snprintf(reason, sizeof(reason), "/usr/bin/python3: %s", line);
	test_skip(reason);
	return false;
}

static void ask(struct program *python, const char *order, const char *answer)
{
	program_say(python, order);
	program_expect(python, answer);
}

START_TEST(test_pythons_write_lock_keeps_us_out)
{
	struct program python;

	set_up();
	if (!start_python(&python, _i))
		return;
	ask(&python, "write 10", "held");
	ck_assert_int_eq(try(FILELOCK_SHARED), -ETIMEDOUT);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ask(&python, "release", "released");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_pythons_readers_overlap_ours)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	set_up();
	if (!start_python(&python, _i))
		return;
	ask(&python, "read 10", "held");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, python.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_SHARED);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 20), -ETIMEDOUT);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	/* ours is held, and it can leave and come back */
	ask(&python, "release", "released");
	ask(&python, "read 10", "held");
	ask(&python, "release", "released");
	ask(&python, "write 0.05", "timeout");
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ask(&python, "write 10", "held");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_our_write_lock_keeps_python_out)
{
	struct program python;
	struct filelock *lock;

	set_up();
	if (!start_python(&python, _i))
		return;
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ask(&python, "read 0.05", "timeout");
	ask(&python, "write 0.05", "timeout");
	ck_assert_int_eq(filelock_release(lock), 0);
	ask(&python, "read 10", "held");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* Whether or not the release closes a connection: the waiting writer has a short interval. */
START_TEST(test_pythons_last_reader_lets_our_waiting_writer_in)
{
	struct program python, late;
	struct peer writer;

	set_up();
	if (!start_python(&python, _i) || !start_python(&late, _i))
		return;
	ask(&python, "read 10", "held");
	start_waiting(&writer, FILELOCK_EXCLUSIVE, 3600000);
	ask(&late, "read 0.05", "timeout");
	ask(&python, "release", "released");
	ck_assert_int_eq(peer_answer(&writer), 0);
	ck_assert_int_eq(peer_release(&writer), 0);
	ask(&late, "read 10", "held");
	peer_stop(&writer);
	ck_assert_int_eq(program_end(&late), 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* A writer of Python that keeps its connection is found by the poll. */
START_TEST(test_pythons_writer_lets_our_waiting_reader_in)
{
	struct program python;
	struct peer reader;

	set_up();
	if (!start_python(&python, _i))
		return;
	ask(&python, "write 10", "held");
	start_waiting(&reader, FILELOCK_SHARED, 20);
	ask(&python, "release", "released");
	ck_assert_int_eq(peer_answer(&reader), 0);
	peer_stop(&reader);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_killed_python_wakes_us)
{
	struct program python;
	struct peer reader;

	set_up();
	if (!start_python(&python, _i))
		return;
	ask(&python, "write 10", "held");
	start_waiting(&reader, FILELOCK_SHARED, 3600000);
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	ck_assert_int_eq(peer_answer(&reader), 0);
	peer_stop(&reader);
}
END_TEST

START_TEST(test_our_release_lets_a_waiting_python_in)
{
	struct program python;
	struct filelock *lock;

	set_up();
	if (!start_python(&python, _i))
		return;
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	program_say(&python, "write 60");
	for (int i = 0; i < 20; i++)
		test_nap(); /* most likely it waits by then; if not, nothing is lost */
	ck_assert_int_eq(filelock_release(lock), 0);
	program_expect(&python, "held");
	ck_assert_int_eq(try(FILELOCK_SHARED), -ETIMEDOUT);
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* --- both at once --- */

static int read_on_and_on(void *arg)
{
	struct filelock *lock = test_open(path, NULL);

	(void)arg;
	while (!board->stop) {
		if (filelock_acquire(lock, FILELOCK_SHARED, FOREVER) < 0)
			return 1;
		witness_enter_shared(&board->witness);
		for (int i = 0; i < 20; i++)
			test_nap();
		witness_leave_shared(&board->witness);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* Two of each kind, holding 20 ms at a time without end. Without PENDING kept, the writer would
   never get in. */
START_TEST(test_our_writer_gets_in_among_readers_of_both_kinds_without_end)
{
	struct program pythons[2];
	struct filelock *lock;
	pid_t ours[2];

	set_up();
	if (!start_python(&pythons[0], _i) || !start_python(&pythons[1], _i))
		return;
	for (int i = 0; i < 2; i++) {
		ours[i] = test_fork(read_on_and_on, NULL);
		program_say(&pythons[i], "read_on");
	}
	await(board->witness.most_readers == 2);
	lock = test_open(path, NULL);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 20000), 0);
		ck_assert_uint_eq(board->witness.readers, 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		for (int ms = 0; ms < 30; ms++)
			test_nap();
	}
	board->stop = 1;
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(test_reap(ours[i]), 0);
		program_expect(&pythons[i], "done");
		ck_assert_int_eq(program_end(&pythons[i]), 0);
	}
	filelock_close(lock);
}
END_TEST

static int run_ours(void *arg)
{
	struct filelock *lock = test_open(path, NULL);
	unsigned who = (unsigned)(size_t)arg;

	while (!board->stop) {
		if (filelock_acquire(lock, who % 2 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED,
		                     FOREVER) < 0)
			return 1;
		if (who % 2) {
			witness_enter(&board->witness, who);
			witness_leave(&board->witness, who);
		} else {
			witness_enter_shared(&board->witness);
			witness_leave_shared(&board->witness);
		}
		if (filelock_release(lock) < 0)
			return 2;
		test_nap(); /* Python polls: let it in */
	}
	filelock_close(lock);
	return 0;
}

/* shows: shared-with-python */
START_TEST(test_storm_of_both_never_overlaps)
{
	unsigned rounds = test_rounds(50);
	struct program python;
	char order[64];
	pid_t ours[2];

	set_up();
	if (!start_python(&python, _i))
		return;
	ours[0] = test_fork(run_ours, (void *)1);
	ours[1] = test_fork(run_ours, (void *)2);
	await(board->witness.entries > 0);
	(void)snprintf(order, sizeof(order), "storm %u 9", rounds);
	ask(&python, order, "done");
	board->stop = 1;
	ck_assert_int_eq(test_reap(ours[0]), 0);
	ck_assert_int_eq(test_reap(ours[1]), 0);
	ck_assert_uint_eq(board->witness.overlaps, 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = SUITE("read/write beside others", test_shells_write_transaction_keeps_us_out,
	                     test_shells_read_transaction_lets_our_readers_in,
	                     test_shells_reservation_lets_our_readers_in,
	                     test_our_locks_keep_the_shell_out,
	                     test_our_waiting_writer_keeps_the_shells_readers_out);
	TCase *each = tcase_create("python");
	int peers = python_peers() + 1; /* and the module sqlite3 */

	tcase_add_loop_test(each, test_pythons_write_lock_keeps_us_out, 0, peers);
	tcase_add_loop_test(each, test_pythons_readers_overlap_ours, 0, peers);
	tcase_add_loop_test(each, test_our_write_lock_keeps_python_out, 0, peers);
	tcase_add_loop_test(each, test_pythons_last_reader_lets_our_waiting_writer_in, 0, peers);
	tcase_add_loop_test(each, test_pythons_writer_lets_our_waiting_reader_in, 0, peers);
	tcase_add_loop_test(each, test_killed_python_wakes_us, 0, peers);
	tcase_add_loop_test(each, test_our_release_lets_a_waiting_python_in, 0, peers);
	tcase_add_loop_test(
	        each, test_our_writer_gets_in_among_readers_of_both_kinds_without_end, 0, peers);
	tcase_add_loop_test(each, test_storm_of_both_never_overlaps, 0, peers);
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
