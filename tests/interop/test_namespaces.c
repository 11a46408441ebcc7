/*
 * Python's filelock on the same path from another PID namespace, as in two containers with one
 * folder and one host name: Debian's release, and each of FILELOCK_TEST_PYTHONPATHS.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char *python_class;
static bool python_is_apart; /* starts in a PID namespace of its own */
#define PYTHON_CLASS python_class
#define PYTHON_IS_APART python_is_apart
#include "python.h"
#include "softly.h"

enum { NATIVE, SOFT, KINDS };
#define INITIAL_NAMESPACE 0xEFFFFFFC /* its inode */

static bool may_make_a_namespace(void)
{
	if (program_run((const char *const[]){ "unshare", "--pid", "--fork", "--mount-proc",
	                                       "true", NULL }) == 0)
		return true;
	test_skip("this user may make no PID namespace here");
	return false;
}

/* Of each release, native and soft. */
static bool set_up_pair(struct program *python, int i, bool apart)
{
	python_class = i % KINDS == SOFT ? "SoftFileLock" : "FileLock";
	(void)setenv("FILELOCK_TEST_KIND", i % KINDS == SOFT ? "soft" : "native", 1);
	python_is_apart = apart;
	return may_make_a_namespace() && set_up(python, i / KINDS);
}

/*
 * Releases 3.30 to 3.32.3 name no PID namespace. One of them, in a namespace, takes a record of this
 * host's for its own, finds no such process, and breaks the marker (filelock.h says so).
 */
static bool takes_ours_for_dead(struct program *python)
{
	struct marker marker = { 0 };
	struct stat st;
	bool takes;

	if (strcmp(python_class, "SoftFileLock") != 0)
		return false;
	ask(python, "acquire 10", "held");
	ck_assert(read_marker(path, &marker));
	ask(python, "release", "released");
	takes = marker.token[0] && !strchr(marker.host, '?') &&
	        stat("/proc/self/ns/pid", &st) == 0 && st.st_ino == INITIAL_NAMESPACE;
	if (takes)
		test_skip("this release knows no PID namespaces");
	return takes;
}

/* Runs that in a PID namespace of its own; returns its exit status. */
static int (*run_inside)(void *arg);

static int enter_with_proc(void *arg)
{
	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return 200;
	return run_inside(arg);
}

static int enter(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return 200;
	return test_in_child(enter_with_proc, arg);
}

START_TEST(test_python_in_another_namespace_and_we_exclude_each_other)
{
	struct program python;

	if (!set_up_pair(&python, _i, true))
		return;
	if (!takes_ours_for_dead(&python))
		check_exclusion(&python, LONGER_THAN_UNREADABLE);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static int try_inside(void *arg)
{
	(void)arg;
	return -try_once(path);
}

static int hold_inside(void *arg)
{
	struct program *python = arg;
	struct filelock *lock = test_open(path, NULL);

	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		return 1;
	ask(python, "acquire 2.5", "timeout");
	if (filelock_verify(lock) < 0)
		return 2;
	filelock_close(lock);
	return 0;
}

START_TEST(test_we_in_another_namespace_and_python_exclude_each_other)
{
	struct program python;

	if (!set_up_pair(&python, _i, false))
		return;
	ask(&python, "acquire 10", "held");
	run_inside = try_inside;
	ck_assert_int_eq(test_in_child(enter, NULL), ETIMEDOUT);
	ask(&python, "release", "released");
	ck_assert_int_eq(test_in_child(enter, NULL), 0);
	run_inside = hold_inside;
	ck_assert_int_eq(test_in_child(enter, &python), 0);
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* Its marker is held where it has nothing in it; and where it has no token, and a process that lives
   here has the pid that the killed one had there. */
static bool stays_held(const struct marker *marker)
{
	return marker->type == MARKER_EMPTY || (!marker->token[0] && kill(marker->pid, 0) == 0);
}

START_TEST(test_python_killed_in_another_namespace_is_recovered)
{
	struct program python;
	struct marker marker = { 0 };
	struct filelock *lock;
	bool is_soft = _i % KINDS == SOFT;
	char line[64];

	if (!set_up_pair(&python, _i, true))
		return;
	ask(&python, "acquire 10", "held");
	if (is_soft)
		ck_assert(read_marker(path, &marker));
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0); /* who started it, and so itself */
	ck_assert(!program_read(&python, line, sizeof(line)));
	/* both are gone; the end of its input would have made it release */
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	lock = test_open(path, NULL);
	/* elsewhere a record without a namespace may be of one that lives, for two seconds */
	if (is_soft && stays_held(&marker))
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), -ETIMEDOUT);
	else
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER), 0);
	filelock_close(lock);
}
END_TEST

static int die_holding(void *arg)
{
	struct filelock *lock = test_open(path, NULL);

	(void)arg;
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		return 1;
	(void)kill(getpid(), SIGKILL); /* raise(3) is nothing to the first process of a namespace */
	return 0;
}

static int die_inside(void *arg)
{
	return test_in_child(die_holding, arg);
}

/* Python cannot know that a marker of another namespace is left over, and takes no harm. */
START_TEST(test_what_we_left_when_killed_in_another_namespace_is_recovered_by_us)
{
	struct program python;

	if (!set_up_pair(&python, _i, false))
		return;
	run_inside = die_inside;
	ck_assert_int_eq(test_in_child(enter, NULL), 128 + SIGKILL);
	if (_i % KINDS == SOFT)
		ask(&python, "acquire 2.5", "timeout");
	ck_assert_int_eq(try_once(path), 0);
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_storm_with_python_in_another_namespace_never_overlaps)
{
	struct program python;
	bool skip;

	if (!set_up_pair(&python, _i, true))
		return;
	skip = takes_ours_for_dead(&python);
	ck_assert_int_eq(program_end(&python), 0);
	if (!skip)
		storm(_i / KINDS);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("namespaces");
	TCase *tcase = tcase_create("namespaces");
	int pairs = python_peers() * KINDS;

	tcase_add_loop_test(
	        tcase, test_python_in_another_namespace_and_we_exclude_each_other, 0, pairs);
	tcase_add_loop_test(
	        tcase, test_we_in_another_namespace_and_python_exclude_each_other, 0, pairs);
	tcase_add_loop_test(
	        tcase, test_python_killed_in_another_namespace_is_recovered, 0, pairs);
	tcase_add_loop_test(
	        tcase, test_what_we_left_when_killed_in_another_namespace_is_recovered_by_us, 0,
	        pairs);
	tcase_add_loop_test(
	        tcase, test_storm_with_python_in_another_namespace_never_overlaps, 0, pairs);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
