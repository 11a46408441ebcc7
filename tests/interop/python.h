/*
 * python.h - Python's filelock as a peer on one path: Debian's, and each release whose source
 * folder FILELOCK_TEST_PYTHONPATHS names (separated by colons). For one source of a program only,
 * which defines PYTHON_CLASS, what the peer makes, and PYTHON_IS_APART if it may start in a PID
 * namespace of its own.
 */
#ifndef FILELOCK_TESTS_PYTHON_H
#define FILELOCK_TESTS_PYTHON_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "python_folders.h"
#include "support.h"

#ifndef PYTHON_IS_APART
#define PYTHON_IS_APART false
#endif
#define APART_WORDS 5 /* of the command that starts it so */

static char path[PATH_MAX], witness_path[PATH_MAX];
static struct witness *witness;

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
	program_start(python, (const char *const[]){ "unshare", "--pid", "--fork", "--mount-proc",
	                                             "--kill-child", "/usr/bin/python3", script,
	                                             path, witness_path, PYTHON_CLASS, NULL } +
	                              (PYTHON_IS_APART ? 0 : APART_WORDS));
	if (program_read(python, line, sizeof(line)) && strncmp(line, "ready ", 6) == 0)
		return true;
	(void)program_end(python);
	(void)snprintf(reason, sizeof(reason), "no filelock for /usr/bin/python3: %s", line);
	test_skip(reason);
	return false;
}

static inline bool set_up(struct program *python, int which)
{
	make_witness();
	return start_python(python, which);
}

static void ask(struct program *python, const char *order, const char *answer)
{
	program_say(python, order);
	program_expect(python, answer);
}

/* Neither gets the lock while the other one has it. patience: how long Python tries, s. */
static inline void check_exclusion(struct program *python, const char *patience)
{
	struct filelock *lock = test_open(path, NULL);
	char order[32];

	(void)snprintf(order, sizeof(order), "acquire %s", patience);
	ask(python, "acquire 10", "held");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ask(python, "release", "released");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ask(python, order, "timeout");
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ask(python, "acquire 10", "held");
	filelock_close(lock);
}
#define LONGER_THAN_UNREADABLE "2.5" /* lets Python think that a marker is none */

static _Atomic bool *python_is_done;

static inline int run_ours(void *arg)
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

/* Ours and Python's together. */
static inline void storm(int which)
{
	unsigned rounds = test_rounds(100);
	struct program python;
	char order[64];
	pid_t ours[2];

	if (!set_up(&python, which))
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

#endif
