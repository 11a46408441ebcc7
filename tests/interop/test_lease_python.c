/*
 * Python's SoftFileLease on the same path, both ways round: of each release whose source folder
 * FILELOCK_TEST_PYTHONPATHS names (separated by colons), and has it.
 */
#include <signal.h>

#define PYTHON_CLASS "SoftFileLease"
#include "python.h"
#include "softly.h"

#define SHORT_MS 3000 /* a duration that a test may wait for, and Python is not late for */

static struct filelock_options lasting(unsigned duration_ms)
{
	struct filelock_options options = rarely();

	options.duration_ms = duration_ms;
	return options;
}

static bool set_up_lasting(struct program *python, int which, unsigned duration_ms)
{
	char seconds[32];

	(void)snprintf(seconds, sizeof(seconds), "%g", duration_ms / 1000.0);
	(void)setenv("FILELOCK_PEER_DURATION", seconds, 1);
	return set_up(python, which);
}

static struct filelock *open_lasting(unsigned duration_ms)
{
	struct filelock_options options = lasting(duration_ms);

	return test_open(path, &options);
}

static void expect_loss(struct program *python, const char *one, const char *other)
{
	char line[64];

	do {
		program_say(python, "loss");
		ck_assert(program_read(python, line, sizeof(line)));
	} while (strcmp(line, "none") == 0);
	ck_assert_msg(strcmp(line, one) == 0 || strcmp(line, other) == 0, "%s", line);
}

START_TEST(test_lease_held_by_python_keeps_us_out)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program python;
	struct filelock *lock;

	if (!set_up_lasting(&python, _i, 30000))
		return;
	ask(&python, "acquire 10", "held");
	lock = open_lasting(30000);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, python.pid);
	ck_assert(owner.duration == 30);
	ask(&python, "release", "released");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ask(&python, "acquire 0.05", "timeout");
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_another_duration_is_refused_on_both_sides)
{
	struct program python;
	struct filelock *lock;

	if (!set_up_lasting(&python, _i, 30000))
		return;
	ask(&python, "acquire 10", "held");
	lock = open_lasting(29000);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), FILELOCK_ESETTINGS);
	ask(&python, "release", "released");
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ask(&python, "acquire 1", "LeaseSettingsMismatch");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

START_TEST(test_stopped_python_loses_its_lease_and_learns_it)
{
	struct program python;
	struct filelock *lock;

	if (!set_up_lasting(&python, _i, SHORT_MS))
		return;
	ask(&python, "acquire 10", "held");
	ck_assert_int_eq(kill(python.pid, SIGSTOP), 0);
	lock = open_lasting(SHORT_MS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(kill(python.pid, SIGCONT), 0);
	expect_loss(&python, "owner-changed", "marker-missing");
	ask(&python, "release", "released");
	filelock_close(lock);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

static int hold_here(void *arg)
{
	(void)arg;
	return filelock_acquire(peer_lock(), FILELOCK_EXCLUSIVE, -1);
}

static int verify_here(void *arg)
{
	(void)arg;
	return filelock_verify(peer_lock());
}

/* It does not refresh: as good as stopped. */
START_TEST(test_python_takes_the_lease_of_ours_that_was_stopped)
{
	struct filelock_options options = lasting(SHORT_MS);
	struct program python;
	struct peer peer;

	if (!set_up_lasting(&python, _i, SHORT_MS))
		return;
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, &options), 0);
	ck_assert_int_eq(peer_call(&peer, hold_here, NULL), 0);
	ck_assert_int_eq(kill(peer.pid, SIGSTOP), 0);
	ask(&python, "acquire 50", "held");
	ck_assert_int_eq(kill(peer.pid, SIGCONT), 0);
	ck_assert_int_eq(peer_call(&peer, verify_here, NULL), FILELOCK_ELOST);
	ck_assert_int_eq(peer_release(&peer), FILELOCK_ELOST);
	ask(&python, "loss", "none");
	ask(&python, "release", "released");
	peer_stop(&peer);
	ck_assert_int_eq(program_end(&python), 0);
}
END_TEST

/* It holds the lease for a moment. */
static bool knows_our_host(struct program *python)
{
	struct marker marker;

	ask(python, "acquire 10", "held");
	ck_assert(read_marker(path, &marker));
	ask(python, "release", "released");
	return is_own_host(marker.host);
}

/* Releases before 4.1 take ours in a PID namespace for another host's, which is waited for. */
START_TEST(test_killed_holders_are_seen_at_once_on_both_sides)
{
	struct filelock_options options = lasting(3600000);
	struct program python;
	struct peer peer;
	bool sees;

	if (!set_up_lasting(&python, _i, 3600000))
		return;
	sees = knows_our_host(&python);
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, &options), 0);
	ck_assert_int_eq(peer_call(&peer, hold_here, NULL), 0);
	peer_kill(&peer, SIGKILL);
	ask(&python, sees ? "acquire 50" : "acquire 0.05", sees ? "held" : "timeout");
	if (!sees) {
		ck_assert_int_eq(unlink(path), 0);
		ask(&python, "acquire 50", "held");
	}
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, &options), 0);
	peer_order_acquire(&peer, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(&peer);
	ck_assert_int_eq(kill(python.pid, SIGKILL), 0);
	ck_assert_int_eq(peer_answer(&peer), 0);
	ck_assert_int_eq(program_end(&python), 128 + SIGKILL);
	peer_stop(&peer);
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
	return PYTHON_MAIN("lease python", "lease",
	                   test_lease_held_by_python_keeps_us_out,
	                   test_another_duration_is_refused_on_both_sides,
	                   test_stopped_python_loses_its_lease_and_learns_it,
	                   test_python_takes_the_lease_of_ours_that_was_stopped,
	                   test_killed_holders_are_seen_at_once_on_both_sides,
	                   test_storm_of_both_never_overlaps);
}
