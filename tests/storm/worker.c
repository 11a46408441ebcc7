/*
 * worker.c - what every worker does, however it asks. It may be killed, or stopped, between any
 * two instructions of it.
 */
#include "storm.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool worker_is_over(void)
{
	return atomic_load(&arena->stopping);
}

static bool sometimes(void *arg)
{
	struct worker *worker = arg;

	return dice_one_in(&worker->dice, 200);
}

void worker_open(struct worker *worker, struct handle *handle)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int r;

	options.poll_interval_ms = arena->scenario.poll_ms;
	/* not everywhere: making files takes ten times as long as locking them */
	if (handle->place == &arena->places[0] && handle->place->kind == FILELOCK_NATIVE)
		options.unlink_on_release = dice_one_in(&worker->dice, 4);
	options.keep_open = dice_one_in(&worker->dice, 2); /* of a native lock */
	options.should_cancel = sometimes;
	options.arg = worker;
	r = filelock_open(handle->place->path, handle->place->kind, &options, &handle->lock);
	if (r < 0)
		trouble_note(TROUBLE_RESULT, "pid %d: filelock_open: %s", (int)getpid(),
		             filelock_last_error(NULL));
}

void worker_choose_mode(struct worker *worker, struct handle *handle)
{
	static const unsigned shared_of_ten[KINDS] = { [FILELOCK_NATIVE] = 2,
		                                       [FILELOCK_READWRITE] = 6,
		                                       [FILELOCK_SOFT_READWRITE] = 6 };

	handle->mode = dice_below(&worker->dice, 10) < shared_of_ten[handle->place->kind]
	                       ? FILELOCK_SHARED
	                       : FILELOCK_EXCLUSIVE;
}

void worker_ask(struct handle *handle)
{
	baton_ask(handle);
}

/* Results of a request that are no trouble, besides success. */
static bool is_expected(int result)
{
	return result == -ETIMEDOUT || result == -ECANCELED;
}

static void note_result(const struct handle *handle, const char *what, int result)
{
	trouble_note(TROUBLE_RESULT, "%s %s: %s: %s said %d (%s): %s",
	             kind_name(handle->place->kind), handle->place->path, who_text(handle->who),
	             what, result, filelock_strerror(result), filelock_last_error(handle->lock));
}

bool worker_answered(struct worker *worker, struct handle *handle, int result)
{
	struct slot *slot = worker->slot;

	if (result < 0) {
		baton_unask(handle);
		if (!is_expected(result))
			note_result(handle, "the acquisition", result);
		slot->tallies[result == -ETIMEDOUT ? TALLY_TIMEOUTS : TALLY_CANCELS]++;
		return false;
	}
	if (inside_enter(handle))
		slot->tallies[TALLY_TOGETHER + handle->place->kind]++;
	baton_granted(handle, slot);
	slot->tallies[TALLY_NATIVE + handle->place->kind]++;
	slot->tallies[TALLY_GRANTS]++;
	return true;
}

/* Another file in the place of the lock's, as editors do it. */
static void replace(const struct worker *worker, const struct handle *handle)
{
	char path[PATH_MAX + 32];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/aside/%u", arena->folder, worker->slot->number);
	file = fopen(path, "we");
	if (file)
		(void)fclose(file);
	(void)rename(path, handle->place->path);
}

/* A holder may do this to its lock file after its work: the next one may be inside before our
   release. */
static void maybe_remove(struct worker *worker, const struct handle *handle)
{
	if (handle->mode == FILELOCK_SHARED || !dice_one_in(&worker->dice, 100) ||
	    handle->place->kind == FILELOCK_SOFT_READWRITE) /* it has no such file */
		return;
	if (handle->place->kind == FILELOCK_NATIVE && dice_one_in(&worker->dice, 3))
		replace(worker, handle);
	else
		(void)unlink(handle->place->path);
	if (dice_one_in(&worker->dice, 4)) /* long enough for others to come in meanwhile */
		nap(dice_below(&worker->dice, 300000));
	worker->slot->tallies[TALLY_REMOVALS]++;
}

void worker_leave(struct worker *worker, struct handle *handle)
{
	int r = 0;

	if (dice_one_in(&worker->dice, 16))
		r = filelock_verify(handle->lock);
	if (r < 0)
		note_result(handle, "filelock_verify", r);
	child_maybe_fork(worker, handle);
	baton_release(handle);
	inside_leave(handle);
	maybe_remove(worker, handle);
}

void worker_released(const struct handle *handle, int result)
{
	if (result < 0)
		note_result(handle, "the release", result);
}

/* Until somebody waits, so that there is somebody to wake, and a bit more, so that it has come to
   this or that point of its wait. */
static void hold_for_waiters(struct worker *worker, struct handle *handle)
{
	int64_t end = now() + 2 * MILLISECOND;

	while (!baton_has_waiters(handle->place) && now() < end)
		nap(20000);
	spin(dice_below(&worker->dice, 60000));
}

static void hold_for_a_while(struct worker *worker)
{
	unsigned chance = dice_below(&worker->dice, 1000);

	if (chance == 0)
		nap(dice_below(&worker->dice, 1000000));
	else if (chance < 50)
		spin(dice_below(&worker->dice, 20000));
}

void worker_hold(struct worker *worker, struct handle *handle)
{
	if (arena->scenario.baton)
		hold_for_waiters(worker, handle);
	else
		hold_for_a_while(worker);
}

_Noreturn void worker_main(struct slot *slot)
{
	struct worker worker = { .slot = slot };

	worker.dice.state = arena->seed ^ (UINT64_C(0x100000001b3) * slot->life);
	worker.delegates = dice_one_in(&worker.dice, 4);
	(void)signal(SIGCHLD, SIG_IGN); /* nobody waits for its children */
#ifdef __SANITIZE_ADDRESS__
	filelock_set_max_helpers(0); /* a thread may have its allocator locked at a fork, for ever in the child */
#endif
	if (slot->event)
		worker_event_run(&worker);
	else
		worker_sync_run(&worker);
	exit(0);
}
