/*
 * oracle.c - never two incompatible holders; whoever holds, holds the file that the path names; and
 * nothing is left when all is over.
 */
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The pool keeps it, when all is over: an eventfd, inotify, epoll. */
enum { SLEEPER = 3 };

static struct {
	const struct scenario *scenario;
	bool inside[SIM_PROCESSES], waits[SIM_PROCESSES];
	enum filelock_mode mode[SIM_PROCESSES];
	unsigned entries;
	bool crashed;
} o;

void oracle_begin(const struct scenario *scenario)
{
	memset(&o, 0, sizeof(o));
	o.scenario = scenario;
}

static bool is_compatible(unsigned a, unsigned b)
{
	return o.mode[a] == FILELOCK_SHARED && o.mode[b] == FILELOCK_SHARED;
}

static bool holds(unsigned process)
{
	if (o.scenario->in_folder)
		return o.inside[process];
	return sim_holds(LOCK_PATH, process) ||
	       (o.scenario->by_existence && sim_writes(LOCK_PATH, process));
}

static bool is_stranger(unsigned process)
{
	return o.scenario->strangers & 1u << process;
}

void enter(enum filelock_mode mode)
{
	unsigned self = sim_current();

	o.waits[self] = false;
	o.inside[self] = true;
	o.mode[self] = mode;
	o.entries++;
	if (!is_stranger(self) && !o.scenario->in_folder && !sim_has_looked(self))
		execution_fail("a holder that did not look at the path when it had the lock");
	for (unsigned p = 0; p < SIM_PROCESSES; p++) {
		if (p == self || !o.inside[p] || is_compatible(p, self))
			continue;
		/* whose file was replaced cannot keep others out, and can find out about it */
		if (!o.scenario->meddled || (holds(p) && holds(self)))
			execution_fail("two incompatible holders");
	}
	oracle_check();
}

void leave(void)
{
	o.inside[sim_current()] = false;
	sim_look_away();
}

void ask(void)
{
	o.waits[sim_current()] = true;
}

void give_up(void)
{
	o.waits[sim_current()] = false;
}

static bool is_held_by_others(unsigned self)
{
	for (unsigned p = 0; p < SIM_PROCESSES; p++)
		if (p != self && holds(p))
			return true;
	return false;
}

/* Who is stopped after it has unlocked raises the event of its close when it goes on. */
static bool somebody_stopped_in_its_release(void)
{
	for (unsigned p = 0; p < SIM_PROCESSES; p++)
		if (sim_is_stopped(p) && !o.waits[p] && !holds(p))
			return true;
	return false;
}

bool oracle_is_wanted(void)
{
	if (somebody_stopped_in_its_release())
		return false;
	for (unsigned p = 0; p < SIM_PROCESSES; p++)
		if (o.waits[p] && !sim_is_stopped(p) && !is_held_by_others(p))
			return true;
	return false;
}

void oracle_call(const char *call)
{
	unsigned self = sim_current();

	/* it may have become another's while we held the lock */
	if (strcmp(call, "unlink") == 0 && !o.scenario->in_folder && !is_stranger(self) &&
	    !sim_has_looked(self))
		execution_fail("a file is removed that was not found to be its own");
}

bool anybody_died(void)
{
	return o.crashed;
}

unsigned entries(void)
{
	return o.entries;
}

void oracle_check(void)
{
	if (o.scenario->meddled)
		return;
	for (unsigned p = 0; p < SIM_PROCESSES; p++)
		if (o.inside[p] && !holds(p))
			execution_fail("a holder of a file that the path does not name");
}

void oracle_died(unsigned process)
{
	o.inside[process] = o.waits[process] = false;
	o.crashed = true;
}

void claim_failed(const char *claim, long value)
{
	char text[160];

	(void)snprintf(text, sizeof(text), "process %u: not %s (%ld)", sim_current(), claim,
	               value);
	execution_fail(text);
	abort();
}

struct filelock_options patient(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000;
	return options;
}

static const char *find_leftover(void)
{
	unsigned files = sim_exists(LOCK_PATH);

	for (unsigned p = 0; p < SIM_PROCESSES; p++) {
		if (sim_life(p) == SIM_ALIVE && sim_open_count(p) > SLEEPER + o.scenario->stay)
			return "a descriptor was left";
		if (sim_life(p) == SIM_ALIVE && sim_watch_count(p) > 0)
			return "a watch was left";
	}
	if (sim_lock_count() > 0)
		return "a lock was left";
	if (sim_file_count() != files && !o.scenario->files_stay)
		return "a file was left";
	return NULL;
}

void oracle_end(char *ret_failure, size_t size)
{
	const char *left = find_leftover();

	if (left)
		(void)snprintf(ret_failure, size, "%s", left);
	else if (o.scenario->after)
		o.scenario->after();
}
