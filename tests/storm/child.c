/*
 * child.c - what is forked from a worker, inside a lock or out of it: it exits, execs, or lives
 * on, while its parent goes on and perhaps is killed. Its parent's handles must be dead in it,
 * its own must work, and nothing that it does may touch the parent's locks.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

#include "storm.h"

#define INTERVAL (20 * MILLISECOND) /* between two forks of a worker, at least */

static void expect(const struct handle *handle, const char *what, int result, int expected)
{
	if (result != expected)
		trouble_note(TROUBLE_RESULT, "%s %s: %s: %s said %d (%s), not %d",
		             kind_name(handle->place->kind), handle->place->path,
		             who_text(handle->who), what, result, filelock_strerror(result),
		             expected);
}

static void look_at_dead_handle(const struct handle *handle)
{
	expect(handle, "filelock_is_held", filelock_is_held(handle->lock), false);
	expect(handle, "filelock_release", filelock_release(handle->lock), FILELOCK_EFORKED);
	expect(handle, "filelock_acquire",
	       filelock_acquire(handle->lock, handle->mode, FILELOCK_NO_WAIT), FILELOCK_EFORKED);
	filelock_close(handle->lock);
}

/* A lock of its own, for a moment. Exclusive: its seat may be its sibling's too. */
static void take_part(struct worker *worker, const struct handle *parents)
{
	struct handle handle = *parents;
	int r;

	handle.who = who_of(worker->slot->life, CHILD_NUMBER);
	handle.mode = FILELOCK_EXCLUSIVE;
	worker_open(worker, &handle);
	r = filelock_acquire(handle.lock, handle.mode, 20);
	if (r == 0) {
		(void)inside_enter(&handle);
		spin(10000);
		inside_leave(&handle);
		r = filelock_release(handle.lock);
	}
	if (r < 0 && r != -ETIMEDOUT && r != -ECANCELED && r != FILELOCK_EFORKED_DATABASE)
		expect(&handle, "a child's acquisition", r, 0);
	filelock_close(handle.lock);
}

/* The memory of workers stays allocated after a fork, which LeakSanitizer would report. */
static _Noreturn void leave_by_exit(const struct worker *worker)
{
#ifdef __SANITIZE_ADDRESS__
	if (worker->delegates)
		_exit(0);
#else
	(void)worker;
#endif
	exit(0);
}

static _Noreturn void run(struct worker *worker, const struct handle *parents)
{
	struct handle handle = *parents;
	struct itimerval none = { { 0, 0 }, { 0, 0 } };

	worker->dice.state ^= (uint64_t)getpid();
	(void)setitimer(ITIMER_REAL, &none, NULL);
	switch (dice_below(&worker->dice, 6)) {
	case 0:
		_exit(0);
	case 1:
		(void)execl("/bin/true", "true", (char *)NULL);
		_exit(0);
	case 2: /* with the handlers of atexit(3) */
		leave_by_exit(worker);
	case 3:
		nap(dice_below(&worker->dice, 20000000));
		_exit(0);
	case 4:
		look_at_dead_handle(&handle);
		break;
	default:
		take_part(worker, &handle);
	}
	nap(dice_below(&worker->dice, 5000000));
	_exit(0);
}

void child_maybe_fork(struct worker *worker, const struct handle *handle)
{
	int64_t time = now();
	pid_t pid;

	if (time - worker->last_fork < INTERVAL || !dice_one_in(&worker->dice, 30))
		return;
	worker->last_fork = time;
	pid = fork();
	if (pid == 0)
		run(worker, handle);
	if (pid > 0)
		worker->slot->tallies[TALLY_CHILDREN]++;
}
