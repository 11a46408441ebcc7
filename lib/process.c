/*
 * process.c - the handlers of fork(2), in one order for all modules.
 *
 * Each module takes its mutex before the fork, so that the child finds its data whole, and gives it
 * back after the fork, in the reverse order. In the child the descriptors of locks are closed
 * before fork(2) returns, and never unlocked: LOCK_UN would drop the parent's lock, which belongs
 * to the open file description that both share (flock(2)).
 */
#include "process.h"

#include <errno.h>
#include <pthread.h>

#include "base/error.h"
#include "fork.h"
#include "heartbeat.h"
#include "helpers.h"
#include "kinds/lease_claim.h"
#include "kinds/readwrite_database.h"
#include "kinds/soft_exit.h"
#include "kinds/softrw_pulse.h"
#include "kinds/strict.h"
#include "lost.h"
#include "registry.h"
#include "sleepers.h"

static void before_fork(void)
{
	fork_close_gate();
	readwrite_database_before_fork();
	helpers_before_fork();
	registry_before_fork();
	lease_claim_before_fork();
	strict_door_before_fork();
	fork_lock_fds();
	sleepers_before_fork();
	soft_exit_before_fork();
	softrw_pulse_before_fork();
	lost_before_fork();
	heartbeat_before_fork();
	log_before_fork();
}

static void after_fork(bool in_child)
{
	log_after_fork();
	heartbeat_after_fork(in_child);
	lost_after_fork();
	softrw_pulse_after_fork(in_child);
	soft_exit_after_fork(in_child);
	sleepers_after_fork(in_child);
	fork_unlock_fds(in_child);
	registry_after_fork(in_child);
	strict_door_after_fork(in_child);
	lease_claim_after_fork(in_child);
	helpers_after_fork(in_child);
	readwrite_database_after_fork(in_child);
	fork_open_gate(in_child);
}

static void after_fork_parent(void)
{
	after_fork(false);
}

static void after_fork_child(void)
{
	int saved = errno;

	fork_begin_child();
	after_fork(true);
	errno = saved;
}

/* As early as can be: prepare handlers run in the reverse order, and the program's, which may
   take a mutex that it also holds when it calls us, must run before ours. */
__attribute__((constructor)) static void install(void)
{
	fork_note_handlers(-pthread_atfork(before_fork, after_fork_parent, after_fork_child));
}

int process_check(void)
{
	return fork_check();
}
