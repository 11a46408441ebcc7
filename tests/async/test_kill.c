/* A holder or waiter in a loop is killed, or stopped for a while, before each system call. */
#include "kill.h"
#include "loop.h"

struct run {
	struct victim *victim;
	int result;
};

static void hold_and_release(struct filelock *lock, int result, void *arg)
{
	struct run *run = arg;

	run->result = result;
	if (result < 0)
		return;
	run->victim->inside = true;
	(void)getppid();
	run->victim->inside = false;
	run->result = filelock_release(lock);
}

static int loop_once(struct victim *victim, enum filelock_mode mode)
{
	struct run run = { victim, -1 };
	struct event_base *base = event_base_new();
	struct evfilelock *ev = evfilelock_new(base, NULL);
	struct filelock *lock = kill_open(victim);

	if (evfilelock_acquire(ev, lock, mode, NULL, hold_and_release, &run) < 0)
		return 1;
	(void)event_base_dispatch(base);
	evfilelock_free(ev);
	event_base_free(base);
	filelock_close(lock);
	return run.result;
}

static int loop_exclusive(struct victim *victim)
{
	return loop_once(victim, FILELOCK_EXCLUSIVE);
}

static int loop_shared(struct victim *victim)
{
	return loop_once(victim, FILELOCK_SHARED);
}

static const struct victim victims[] = {
	{ .run = loop_exclusive },
	{ .run = loop_exclusive, .waits = true },
	{ .run = loop_shared },
	{ .run = loop_shared, .waits = true },
	{ .run = loop_exclusive, .inherits = true },
};

static bool is_impossible(const struct victim *victim)
{
	return !kill_is_possible(victim, victim->run == loop_shared);
}

/* shows: killed-holder-frees */
START_TEST(test_victim_killed_before_any_call_leaves_the_lock_to_the_others)
{
	if (!is_impossible(&victims[_i]))
		kill_sweep(&victims[_i], KILLED);
}
END_TEST

/* shows: deadline-kept */
START_TEST(test_victim_stopped_before_any_call_keeps_what_it_has_and_goes_on)
{
	if (!is_impossible(&victims[_i]))
		kill_sweep(&victims[_i], CONTINUED);
}
END_TEST

START_TEST(test_victim_stalled_for_three_seconds_keeps_what_it_has)
{
	if (!is_impossible(&victims[_i]) && !victims[_i].waits)
		kill_stall(&victims[_i]);
}
END_TEST

int main(void)
{
	enum { VICTIMS = sizeof(victims) / sizeof(victims[0]) };
	Suite *suite = suite_create("async kill");
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
	kill_end("killed, stopped and stalled in a loop");
	return status;
}
