/*
 * Python's filelock on the same path, both ways round: Debian's, and each release whose source
 * folder FILELOCK_TEST_PYTHONPATHS names (separated by colons).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

static char path[PATH_MAX], witness_path[PATH_MAX];
static struct witness *witness;

/* The nth folder of FILELOCK_TEST_PYTHONPATHS, from 1; false: there are fewer. */
static bool find_folder(int nth, char *folder, size_t size)
{
	const char *list = getenv("FILELOCK_TEST_PYTHONPATHS");

	for (; list && *list; list += strcspn(list, ":"), list += *list == ':') {
		size_t length = strcspn(list, ":");

		if (length == 0 || --nth > 0)
			continue;
		(void)snprintf(folder, size, "%.*s", (int)length, list);
		return true;
	}
	return false;
}

static void make_witness(void)
{
	int fd;

	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	(void)snprintf(witness_path, sizeof(witness_path), "%s", test_path("witness"));
	fd = open(witness_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(ftruncate(fd, sizeof(*witness)), 0);
	witness = mmap(NULL, sizeof(*witness), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert(witness != MAP_FAILED);
	close(fd);
}

static bool start_python(struct program *python, int which)
{
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char script[PATH_MAX], folder[PATH_MAX], line[256], reason[512];

	(void)snprintf(script, sizeof(script), "%s/tests/interop/peer.py", top ? top : ".");
	(void)unsetenv("PYTHONPATH");
	if (which > 0 && find_folder(which, folder, sizeof(folder)))
		(void)setenv("PYTHONPATH", folder, 1);
	(void)setenv("PYTHONDONTWRITEBYTECODE", "1", 1);
	program_start(python, (const char *const[]){ "/usr/bin/python3", script, path,
	                                             witness_path, NULL });
	if (program_read(python, line, sizeof(line)) && strncmp(line, "ready ", 6) == 0)
		return true;
	(void)program_end(python);
	(void)snprintf(reason, sizeof(reason), "no filelock for /usr/bin/python3: %s", line);
	test_skip(reason);
	return false;
}

static bool set_up(struct program *python, int which)
{
	make_witness();
	return start_python(python, which);
}

static void ask(struct program *python, const char *order, const char *answer)
{
	program_say(python, order);
	program_expect(python, answer);
}

static int try(enum filelock_mode mode)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

START_TEST(test_lock_held_by_python_keeps_us_out)
{
	struct program python;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(FILELOCK_SHARED), -ETIMEDOUT);
	ask(&python, "release", "released");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_python_is_named_as_the_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, python.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_EXCLUSIVE);
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_our_locks_keep_python_out)
{
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	lock = test_open(path, NULL);
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		ck_assert_int_eq(filelock_acquire(lock, (enum filelock_mode)mode, 0), 0);
		ask(&python, "acquire 0.05", "timeout");
		ck_assert_int_eq(filelock_verify(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	ask(&python, "acquire 10", "held");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static void start_waiting(struct peer *peer)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000; /* only an event can wake it */
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(peer);
}

/* Some releases remove the file first, some do not. */
START_TEST(test_release_by_python_wakes_us)
{
	struct program python;
	struct peer peer;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	start_waiting(&peer);
	ask(&python, "release", "released");
	ck_assert_int_eq(peer_answer(&peer), 0);
	ask(&python, "acquire 0.05", "timeout");
	peer_stop(&peer);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_killed_python_wakes_us)
{
	struct program python;
	struct peer peer;

	if (!set_up(&python, _i))
		return;
	ask(&python, "acquire 10", "held");
	start_waiting(&peer);
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_our_release_lets_a_waiting_python_in)
{
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	program_say(&python, "acquire 60");
	for (int i = 0; i < 20; i++)
		test_nap(); /* most likely it waits by then; if not, nothing is lost */
	ck_assert_int_eq(filelock_release(lock), 0);
	program_expect(&python, "held");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static _Atomic bool *python_is_done;

static int run_ours(void *arg)
{
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock = test_open(path, NULL);

	while (!*python_is_done) {
		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1) < 0)
			return 1;
		witness_enter(witness, who);
		sched_yield();
		witness_leave(witness, who);
		if (filelock_release(lock) < 0)
			return 2;
		test_nap(); /* Python polls: let it in */
	}
	filelock_close(lock);
	return 0;
}

START_TEST(test_storm_of_both_never_overlaps)
{
	unsigned rounds = test_rounds(100);
	struct program python;
	char order[64];
	pid_t ours[2];

	if (!set_up(&python, _i))
		return;
	python_is_done = test_shared(sizeof(*python_is_done));
	ours[0] = test_fork(run_ours, (void *)1);
	ours[1] = test_fork(run_ours, (void *)2);
	await(witness->entries > 0);
	(void)snprintf(order, sizeof(order), "storm %u 9", rounds);
	ask(&python, order, "done");
	*python_is_done = true;
	ck_assert_int_eq(test_reap(ours[0]), 0);
	ck_assert_int_eq(test_reap(ours[1]), 0);
	ck_assert_uint_eq(witness->overlaps, 0);
	ck_assert_uint_gt(witness->entries, rounds);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("python");
	TCase *tcase = tcase_create("python");
	char folder[PATH_MAX];
	int peers = 1; /* Debian's */

	while (find_folder(peers, folder, sizeof(folder)))
		peers++;
	tcase_add_loop_test(tcase, test_lock_held_by_python_keeps_us_out, 0, peers);
	tcase_add_loop_test(tcase, test_python_is_named_as_the_holder, 0, peers);
	tcase_add_loop_test(tcase, test_our_locks_keep_python_out, 0, peers);
	tcase_add_loop_test(tcase, test_release_by_python_wakes_us, 0, peers);
	tcase_add_loop_test(tcase, test_killed_python_wakes_us, 0, peers);
	tcase_add_loop_test(tcase, test_our_release_lets_a_waiting_python_in, 0, peers);
	tcase_add_loop_test(tcase, test_storm_of_both_never_overlaps, 0, peers);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
