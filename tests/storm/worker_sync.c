/*
 * worker_sync.c - a worker that asks for one lock at a time and sleeps meanwhile. A timer
 * interrupts some of its waits.
 */
#include <errno.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "storm.h"

static struct filelock *volatile asking;

static void interrupt(int signal)
{
	struct filelock *lock = asking;

	(void)signal;
	if (lock)
		filelock_interrupt(lock);
}

static void set_timer(long microseconds)
{
	struct itimerval timer = { { 0, microseconds }, { 0, microseconds } };

	(void)setitimer(ITIMER_REAL, &timer, NULL);
}

static void begin_interrupting(struct worker *worker)
{
	struct sigaction action = { .sa_handler = interrupt };

	(void)sigaction(SIGALRM, &action, NULL);
	set_timer(20000 + dice_below(&worker->dice, 30000));
}

static int choose_timeout(struct worker *worker)
{
	unsigned chance = dice_below(&worker->dice, 10);

	if (chance == 0 && !arena->scenario.baton)
		return FILELOCK_NO_WAIT;
	return chance < 3 ? 1 + (int)dice_below(&worker->dice, 5) : FILELOCK_WAIT_FOREVER;
}

/* A second level, now and then. */
static void nest(struct worker *worker, struct handle *handle)
{
	int r;

	if (!dice_one_in(&worker->dice, 50))
		return;
	r = filelock_acquire(handle->lock, handle->mode, FILELOCK_NO_WAIT);
	if (r == 0)
		r = filelock_release(handle->lock);
	if (r < 0)
		trouble_note(TROUBLE_RESULT, "%s: nesting: %s", who_text(handle->who),
		             filelock_strerror(r));
}

static void take_turn(struct worker *worker, struct handle *handle)
{
	int r;

	worker_choose_mode(worker, handle);
	worker_ask(handle);
	asking = handle->lock;
	r = filelock_acquire(handle->lock, handle->mode, choose_timeout(worker));
	asking = NULL;
	if (!worker_answered(worker, handle, r))
		return;
	nest(worker, handle);
	worker_hold(worker, handle);
	worker_leave(worker, handle);
	worker_released(handle, filelock_release(handle->lock));
}

void worker_sync_run(struct worker *worker)
{
	struct handle handles[MOST_PLACES] = { 0 };
	unsigned count = arena->place_count;

	for (unsigned i = 0; i < count; i++) {
		handles[i].place = &arena->places[i];
		handles[i].seat = worker->slot->number * TWINS;
		handles[i].who = who_of(worker->slot->life, i * TWINS);
		worker_open(worker, &handles[i]);
	}
	begin_interrupting(worker);
	while (!worker_is_over()) {
		struct handle *handle = &handles[dice_below(&worker->dice, count)];

		if (!baton_may_ask(handle->place)) {
			nap(20000);
			continue;
		}
		take_turn(worker, handle);
		if (dice_one_in(&worker->dice, 500)) {
			filelock_close(handle->lock);
			worker_open(worker, handle);
		}
	}
	set_timer(0);
	for (unsigned i = 0; i < count; i++)
		filelock_close(handles[i].lock);
}
