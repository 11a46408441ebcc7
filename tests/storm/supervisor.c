/*
 * supervisor.c - one round. Kills and stops are spread over the round by its progress, so that a
 * slow machine sees as many of them. A victim is marked before it is killed; what it leaves
 * inside is legal from then on. Orphans of the victims are ours to reap (PR_SET_CHILD_SUBREAPER).
 */
#include "storm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK (MILLISECOND / 2)
#define KILLS_A_TICK 3
/* for the end of processes that were told to end */
#define PATIENCE (30 * SECOND)
#define PATIENCE_IN_TROUBLE (2 * SECOND)

unsigned long supervisor_kills, supervisor_stops;
static struct dice dice;

static void start(struct slot *slot)
{
	pid_t supervisor = getpid();
	struct life *life;
	pid_t pid;

	slot->pid = -1;
	if (arena->life_count == arena->life_capacity) {
		trouble_note(TROUBLE_COUNTS, "more lives than were reckoned with");
		return;
	}
	slot->life = arena->life_count++;
	life = &arena->lives[slot->life];
	life->event = slot->event;
	slot->stopped_until = 0;
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != supervisor)
			_exit(1);
		life->pid = getpid();
		worker_main(slot);
	}
	if (pid < 0)
		trouble_note(TROUBLE_COUNTS, "fork: %s", strerror(errno));
	else
		slot->pid = life->pid = pid;
}

/* Never to 0 or -1, which are whole crowds. */
static void send_signal(const struct slot *slot, int signal)
{
	if (slot->pid > 0)
		(void)kill(slot->pid, signal);
}

static void clear_seats(const struct slot *slot)
{
	for (unsigned p = 0; p < arena->place_count; p++)
		for (unsigned twin = 0; twin < TWINS; twin++)
			atomic_store(&arena->places[p].reading[slot->number * TWINS + twin], 0);
}

static void kill_and_replace(struct slot *slot)
{
	int64_t marked = now();
	int status;

	if (slot->pid <= 0) /* it could not be replaced */
		return;
	atomic_store(&arena->lives[slot->life].marked, marked);
	send_signal(slot, SIGKILL);
	while (waitpid(slot->pid, &status, 0) < 0 && errno == EINTR) {
	}
	/* told to stop, it may have been faster */
	if (status != SIGKILL && !(status == 0 && atomic_load(&arena->stopping)))
		trouble_note(TROUBLE_DEATH, "pid %d ended by itself, with status %#x",
		             (int)slot->pid, (unsigned)status);
	baton_died(slot, now());
	clear_seats(slot);
	supervisor_kills++;
	start(slot);
}

static struct slot *any_slot(void)
{
	return &arena->slots[dice_below(&dice, arena->slot_count)];
}

/* Every second time one that is inside a lock just now, if there is one. */
static struct slot *victim(void)
{
	struct place *place = &arena->places[dice_below(&dice, arena->place_count)];
	uint32_t inside = atomic_load(&place->inside);

	if (inside == 0 || dice_one_in(&dice, 2))
		return any_slot();
	for (unsigned i = 0; i < arena->slot_count; i++)
		if (arena->slots[i].life == inside / NUMBERS)
			return &arena->slots[i];
	return any_slot();
}

static void stop(struct slot *slot)
{
	if (slot->stopped_until || slot->pid <= 0)
		return;
	slot->stopped_until = now() + MILLISECOND + dice_below(&dice, 20) * MILLISECOND;
	send_signal(slot, SIGSTOP);
	supervisor_stops++;
}

static void continue_stopped(int64_t until)
{
	for (unsigned i = 0; i < arena->slot_count; i++) {
		struct slot *slot = &arena->slots[i];

		if (slot->stopped_until == 0 || slot->stopped_until > until)
			continue;
		send_signal(slot, SIGCONT);
		slot->stopped_until = 0;
	}
}

static unsigned long tally(enum tally which)
{
	unsigned long sum = 0;

	for (unsigned i = 0; i < arena->slot_count; i++)
		sum += arena->slots[i].tallies[which];
	return sum;
}

/* 0 … 1 */
static double progress(void)
{
	const struct scenario *s = &arena->scenario;
	double grants = s->grants ? (double)tally(TALLY_GRANTS) / (double)s->grants : 1;
	double wakes = s->wakes ? (double)tally(TALLY_WAKES) / (double)s->wakes : 1;
	double least = grants < wakes ? grants : wakes;

	return least < 1 ? least : 1;
}

static void strike(double share)
{
	const struct scenario *s = &arena->scenario;

	for (int i = 0; i < KILLS_A_TICK; i++) {
		struct slot *slot = victim();

		if ((double)supervisor_kills < share * (double)s->kills)
			kill_and_replace(slot);
	}
	if ((double)supervisor_stops < share * (double)s->stops)
		stop(any_slot());
}

static bool is_done(double share)
{
	return share >= 1 && supervisor_kills >= arena->scenario.kills &&
	       supervisor_stops >= arena->scenario.stops;
}

static struct slot *slot_of(pid_t pid)
{
	for (unsigned i = 0; i < arena->slot_count; i++)
		if (arena->slots[i].pid == pid)
			return &arena->slots[i];
	return NULL;
}

/* Takes in who has ended by itself: workers at the end, orphans of victims. -ECHILD: nobody is
   left. */
static int reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct slot *slot = slot_of(pid);
		bool early = slot && !atomic_load(&arena->stopping);
		bool victim = slot && atomic_load(&arena->lives[slot->life].marked);

		if ((status != 0 || early) && !victim)
			trouble_note(TROUBLE_DEATH, "pid %d, %s, ended with status %#x", (int)pid,
			             slot ? "a worker" : "a child of one", (unsigned)status);
		if (slot)
			slot->pid = -1;
	}
	return pid < 0 ? -errno : 0;
}

static void note_stall(int64_t *last)
{
	int64_t time = now();
	int64_t stall = time - *last - TICK;

	if (stall > atomic_load(&arena->worst_stall))
		atomic_store(&arena->worst_stall, stall);
	*last = time;
}

static void kill_the_rest(void)
{
	for (unsigned i = 0; i < arena->slot_count; i++) {
		atomic_store(&arena->lives[arena->slots[i].life].marked, now());
		send_signal(&arena->slots[i], SIGKILL);
	}
}

/* A process that sleeps, since nobody woke it, would not stop before its poll. */
static int64_t patience(void)
{
	return atomic_load(&arena->trouble_count) ? PATIENCE_IN_TROUBLE : PATIENCE;
}

static void reap_all(void)
{
	int64_t begin = now();
	bool waited = false;

	atomic_store(&arena->stopping, true);
	while (reap() == 0) {
		continue_stopped(INT64_MAX);
		nap(TICK);
		if (waited || now() < begin + patience())
			continue;
		if (atomic_load(&arena->trouble_count) == 0)
			trouble_note(TROUBLE_DEATH, "a process did not end in time");
		kill_the_rest();
		waited = true;
	}
}

void supervisor_run(int64_t limit)
{
	int64_t last;
	double share = 0;

	dice.state = ~arena->seed;
	supervisor_kills = supervisor_stops = 0;
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (unsigned i = 0; i < arena->slot_count; i++)
		start(&arena->slots[i]);
	last = now();
	while (!is_done(share) && !atomic_load(&arena->stopping)) {
		nap(TICK);
		note_stall(&last);
		continue_stopped(now());
		strike(share);
		(void)reap();
		baton_look_for_lost();
		share = progress();
		if (now() - arena->began > limit)
			trouble_note(TROUBLE_COUNTS, "after %.0f s only %.1f %% was done",
			             (double)limit / 1e9, 100 * share);
	}
	reap_all();
}
