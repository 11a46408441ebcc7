/*
 * filelock.c - the command: runs a command under a lock, as flock(1) does, waiting in a libevent loop.
 *
 * Exit status: that of the command (128 + N if signal N killed it); 1, or that of -E, if the lock did
 * not come free in time; 128 + N if signal N ended the wait; otherwise as flock(1): 64 usage, 65 the
 * descriptor cannot be locked, 66 the lock file cannot be opened, 69 the command cannot be run, 71 the
 * system is short of something, 73 the lock file cannot be made. --holder: 0 if somebody holds the
 * lock, 1 (or -E) if nobody does, 69 if the system does not say. --claims: 0 if there are any, 1 (or
 * -E) if there are none.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

#include "etcd.h"

static void hold_and_run(struct run *run)
{
	if (wait_for_locks(run) && run->options->task == TASK_RUN)
		spawn_command(run);
}

static void perform(struct run *run)
{
	const struct options *options = run->options;

	if (options->kind == FILELOCK_ETCD)
		run->status = etcd_begin(run);
	if (run->status != 0)
		return;
	for (; run->n < options->n; run->n++) {
		run->status = lock_open(options, run->session, run->n, &run->locks[run->n]);
		if (run->status != 0)
			return;
	}
	if (options->task == TASK_HOLDER)
		run->status = holder_print(options, &run->locks[0]);
	else if (options->task == TASK_BREAK)
		run->status = holder_break(&run->locks[0]);
	else if (options->task == TASK_CLAIMS)
		run->status = claims_print(options, &run->locks[0]);
	else if (options->task == TASK_BREAK_CLAIM)
		run->status = claims_break(&run->locks[0], options->claim);
	else
		hold_and_run(run);
}

/* Unlocking would take the lock from what the command left behind as well, and from the caller's
   descriptor; left alone, it goes when the last of us has closed it. */
static void close_locks(struct run *run)
{
	for (size_t i = 0; i < run->n; i++) {
		struct lock *lock = &run->locks[i];

		if (lock->lent || (!run->session && lock_inherited(run->options, lock) >= 0))
			continue;
		filelock_close(lock->handle);
		if (lock->fd >= 0)
			close(lock->fd);
	}
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void clean_up(struct run *run)
{
	if (run->session)
		etcd_end(run);
	evfilelock_free(run->ev);
	free_event(run->on_signal);
	free_event(run->on_second);
	free_event(run->on_record);
	free_event(run->on_timeout);
	close_locks(run);
	if (run->session && event_base_dispatch(run->base) < 0)
		perror("filelock");
	if (run->base)
		event_base_free(run->base);
}

int main(int argc, char **argv)
{
	static struct options options;
	static struct run run = { .options = &options, .signals = -1, .record_pipe = { -1, -1 } };
	int status = options_read(&options, argc, argv);

	if (status != 0)
		return status - 1;
	run.locks = calloc(options.n, sizeof(*run.locks));
	if (!run.locks) {
		perror("filelock");
		return EX_OSERR;
	}
	perform(&run);
	clean_up(&run);
	return fflush(stdout) == EOF ? EX_IOERR : run.status;
}
