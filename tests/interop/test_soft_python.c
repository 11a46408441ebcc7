/*
 * Python's SoftFileLock on the same path, both ways round: Debian's, and each release whose source
 * folder FILELOCK_TEST_PYTHONPATHS names (separated by colons).
 */
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#define PYTHON_CLASS "SoftFileLock"
#include "python.h"
#include "softly.h"

/* The lines that the release writes into its markers. */
static enum { EMPTY, TWO_LINES, THREE_LINES } release;
static bool knows_our_host;

/* By what it wrote: a source folder's version is not known. Held by it when called. */
static void look_at_its_marker(void)
{
	struct marker marker;

	ck_assert(read_marker(path, &marker));
	release = marker.type == MARKER_EMPTY ? EMPTY
	          : marker.token[0]           ? THREE_LINES
	                                      : TWO_LINES;
	knows_our_host = is_own_host(marker.host);
}

static void let_python_hold(struct program *python)
{
	ask(python, "acquire 10", "held");
	look_at_its_marker();
}

static int contend_in_a_namespace(void *arg)
{
	(void)arg;
	if (mount("proc", "/proc", "proc", 0, "") < 0)
		return 200;
	return -try_once(path);
}

static int enter_namespace(void *arg)
{
	if (unshare(CLONE_NEWPID | CLONE_NEWNS) < 0 ||
	    mount("none", "/", "", MS_REC | MS_PRIVATE, "") < 0)
		return 200;
	return test_in_child(contend_in_a_namespace, arg);
}

/* Stopped or not, from this PID namespace or another. */
START_TEST(test_marker_held_by_python_keeps_us_out)
{
	struct program python;
	int r;

	if (!set_up(&python, _i))
		return;
	let_python_hold(&python);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	ck_assert_int_eq(kill(python.pid, SIGSTOP), 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	r = test_in_child(enter_namespace, NULL);
	if (r == 200)
		test_skip("no PID namespace here: only without one");
	else
		ck_assert_int_eq(r, ETIMEDOUT);
	ck_assert_int_eq(kill(python.pid, SIGCONT), 0);
	ask(&python, "release", "released");
	ck_assert_int_eq(try_once(path), 0);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* As we write it, to the last byte, and as releases before 4.1 do. */
static bool is_our_name(const char *host)
{
	struct marker ours;
	char bytes[MARKER_SIZE], name[256];
	int size = liveness_write_record(bytes, false);

	ck_assert_int_gt(size, 0);
	soft_record_parse(bytes, (size_t)size, &ours);
	ck_assert_int_eq(gethostname(name, sizeof(name)), 0);
	return strcmp(host, ours.host) == 0 || strcmp(host, own_host()) == 0 || strcmp(host, name) == 0;
}

START_TEST(test_python_is_named_as_the_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	if (!set_up(&python, _i))
		return;
	let_python_hold(&python);
	lock = test_open(path, NULL);
	if (release == EMPTY) {
		ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	} else {
		ck_assert_int_eq(filelock_holder(lock, &owner), 0);
		ck_assert_int_eq(owner.pid, python.pid);
		ck_assert_msg(is_our_name(owner.host), "%s", owner.host);
		/* its token is what we make of that process, to the last digit */
		ck_assert((owner.start_token[0] != 0) == (release == THREE_LINES));
		ck_assert((owner.start_time != 0) == (release == THREE_LINES));
	}
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_our_markers_keep_python_out)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct program python;
	struct filelock *lock;
	char line[64], pid[32];

	if (!set_up(&python, _i))
		return;
	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	for (int two = 0; two < 2; two++) {
		options.two_line_marker = two;
		lock = test_open(path, &options);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		ask(&python, "acquire 0.05", "timeout");
		ck_assert_int_eq(filelock_verify(lock), 0);
		program_say(&python, "holder");
		ck_assert(program_read(&python, line, sizeof(line)));
		ck_assert(strcmp(line, pid) == 0 || strcmp(line, "none") == 0);
		filelock_close(lock);
	}
	ask(&python, "acquire 10", "held");
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

/* Unless it has written nothing: that is held for ever. */
START_TEST(test_killed_python_wakes_us_before_it_is_reaped)
{
	struct program python;
	struct peer peer;

	if (!set_up(&python, _i))
		return;
	let_python_hold(&python);
	start_waiting(&peer);
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	if (release == EMPTY) {
		ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
		ck_assert_int_eq(try_once(path), -ETIMEDOUT);
		peer_kill(&peer, SIGKILL);
		return;
	}
	ck_assert_int_eq(peer_answer(&peer), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	peer_stop(&peer);
}
END_TEST

static int hold_and_die(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.two_line_marker = *(int *)arg;
	lock = test_open(path, &options);
	(void)filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0);
	return raise(SIGKILL);
}

/* Releases before 3.22 recover nothing, those before 3.30 markers of two lines, and those before 4.1
   nothing of ours in a PID namespace, whose number we write behind the host. */
START_TEST(test_python_recovers_what_we_left_when_killed)
{
	struct program python;

	if (!set_up(&python, _i))
		return;
	let_python_hold(&python);
	ask(&python, "release", "released");
	for (int two = 0; two < 2; two++) {
		bool recovers = knows_our_host &&
		                (release == THREE_LINES || (release == TWO_LINES && two));

		ck_assert_int_eq(test_in_child(hold_and_die, &two), 128 + SIGKILL);
		ask(&python, recovers ? "acquire 10" : "acquire 0.05",
		    recovers ? "held" : "timeout");
		if (recovers)
			ask(&python, "release", "released");
		else
			ck_assert_int_eq(try_once(path), 0); /* we do */
	}
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* shows: shared-with-python */
START_TEST(test_storm_of_both_never_overlaps)
{
	storm(_i);
}
END_TEST

int main(void)
{
	return PYTHON_MAIN("soft python", "soft",
	                   test_marker_held_by_python_keeps_us_out,
	                   test_python_is_named_as_the_holder,
	                   test_our_markers_keep_python_out,
	                   test_release_by_python_wakes_us,
	                   test_killed_python_wakes_us_before_it_is_reaped,
	                   test_python_recovers_what_we_left_when_killed,
	                   test_storm_of_both_never_overlaps);
}
