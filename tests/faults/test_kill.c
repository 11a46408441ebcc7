/* Holders and waiters are killed, or stopped for a while, before each of their system calls. */
#include <errno.h>
#include <unistd.h>

#include "kill.h"

static int hold_and_release(struct victim *victim)
{
	struct filelock *lock = kill_open(victim);

	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 60000) < 0)
		return 1;
	victim->inside = true;
	(void)getppid();
	victim->inside = false;
	if (filelock_release(lock) < 0)
		return 2;
	filelock_close(lock);
	return 0;
}

static int share_and_release(struct victim *victim)
{
	struct filelock *lock = kill_open(victim);

	if (filelock_acquire(lock, FILELOCK_SHARED, 60000) < 0)
		return 1;
	victim->inside = true;
	(void)getppid();
	victim->inside = false;
	if (filelock_release(lock) < 0)
		return 2;
	filelock_close(lock);
	return 0;
}

/* Two faults at once: it has no inotify, each call is interrupted once, and then it is killed. */
static int hold_in_trouble(struct victim *victim)
{
	static const enum fault_call calls[] = { FAULT_open, FAULT_flock, FAULT_fstat, FAULT_lstat,
		                                 FAULT_pread, FAULT_pwrite, FAULT_ppoll };

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		fault_set(calls[i], 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	return hold_and_release(victim);
}

static const struct victim victims[] = {
	{ .run = hold_and_release },
	{ .run = hold_and_release, .waits = true },
	{ .run = share_and_release },
	{ .run = share_and_release, .waits = true },
	{ .run = hold_and_release, .inherits = true },
	{ .run = hold_in_trouble, .deaf = true },
	{ .run = hold_in_trouble, .deaf = true, .inherits = true },
};

static bool is_impossible(const struct victim *victim)
{
	return !kill_is_possible(victim, victim->run == share_and_release);
}

/* shows: killed-holder-frees */
START_TEST(test_victim_killed_before_any_call_leaves_the_lock_to_the_others)
{
	if (!is_impossible(&victims[_i]))
		kill_sweep(&victims[_i], KILLED);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_victim_stopped_before_any_call_keeps_what_it_has_and_goes_on)
{
	if (!is_impossible(&victims[_i]))
		kill_sweep(&victims[_i], CONTINUED);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_victim_stalled_for_three_seconds_keeps_what_it_has)
{
	if (!is_impossible(&victims[_i]) && !victims[_i].waits)
		kill_stall(&victims[_i]);
}
END_TEST

int main(void)
{
	enum { VICTIMS = sizeof(victims) / sizeof(victims[0]) };
	Suite *suite = suite_create("kill");
	TCase *tcase = tcase_create("kill");
	int status;

	tcase_add_loop_test(tcase, test_victim_killed_before_any_call_leaves_the_lock_to_the_others,
	                    0, VICTIMS);
	tcase_add_loop_test(tcase, test_victim_stopped_before_any_call_keeps_what_it_has_and_goes_on,
	                    0, VICTIMS);
	tcase_add_loop_test(tcase, test_victim_stalled_for_three_seconds_keeps_what_it_has, 0,
	                    VICTIMS);
	suite_add_tcase(suite, tcase);
	kill_begin();
	status = support_main(suite);
	kill_end("killed, stopped and stalled");
	return status;
}
