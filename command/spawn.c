/*
 * spawn.c - runs the command under the lock.
 *
 * The command inherits the descriptor of the lock (unless -o), so that the lock is held for as long as
 * the command runs, even if we are killed. For the same reason we end without releasing: what the
 * command left running in the background keeps the lock, too.
 *
 * posix_spawn(3) says why a command could not be run, which exec(3) after fork(2) cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "etcd.h"

static int cannot_run(const struct run *run, int error)
{
	fprintf(stderr, "filelock: failed to execute %s: %s\n", run->options->command[0],
	        strerror(error));
	return error == ENOMEM || error == EAGAIN ? EX_OSERR : EX_UNAVAILABLE;
}

static int spawn(struct run *run, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr)
{
	char **command = run->options->command;
	int r = posix_spawnattr_setsigmask(attr, &run->old_mask);

	if (r == 0)
		r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK);
	for (size_t i = 0; r == 0 && i < run->n; i++) {
		int fd = lock_inherited(run->options, &run->locks[i]);

		if (fd >= 0) /* onto itself: without FD_CLOEXEC */
			r = posix_spawn_file_actions_adddup2(actions, fd, fd);
	}
	if (r == 0)
		r = posix_spawnp(&run->child, command[0], actions, attr, command, environ);
	return r;
}

static int start(struct run *run)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int r = posix_spawn_file_actions_init(&actions);

	if (r != 0)
		return r;
	r = posix_spawnattr_init(&attr);
	if (r == 0) {
		r = spawn(run, &actions, &attr);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		run->child = 0;
	return r;
}

void spawn_reap(struct run *run)
{
	int status;

	if (run->child == 0 || waitpid(run->child, &status, WNOHANG) <= 0)
		return;
	run->child = 0;
	run_end(run, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
}

/* Only on failure does it return. */
static int become_command(struct run *run)
{
	char **command = run->options->command;

	for (size_t i = 0; i < run->n; i++) {
		int fd = lock_inherited(run->options, &run->locks[i]);

		if (fd >= 0 && fcntl(fd, F_SETFD, 0) < 0)
			return errno;
	}
	if (sigprocmask(SIG_SETMASK, &run->old_mask, NULL) < 0)
		return errno;
	execvp(command[0], command);
	return errno;
}

void spawn_command(struct run *run)
{
	int r;

	r = etcd_guard_command(run);
	if (r < 0) {
		fprintf(stderr, "filelock: %s\n", filelock_strerror(r));
		run->status = EX_OSERR;
		return;
	}
	if (run->options->verbose) {
		printf("filelock: executing %s\n", run->options->command[0]);
		fflush(stdout);
	}
	r = run->options->exec ? become_command(run) : start(run);
	if (r != 0) {
		run->status = cannot_run(run, r);
	} else if (event_base_dispatch(run->base) < 0) {
		perror("filelock");
		run->status = EX_OSERR;
	}
}
