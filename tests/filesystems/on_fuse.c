/*
 * on_fuse BACKING PATH [forwarded] [bare] -- COMMAND...: runs the command while PATH shows BACKING
 * through FUSE. forwarded: flock(2) is the server's. bare: no flock(2), O_TMPFILE, hard links.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fuse.h"
#include "support.h"

/* The server has a descriptor for each name that the kernel knows, and for each that is open. */
static void leave_some_to_the_server(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max = limit.rlim_max / 4;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int run(char **command)
{
	pid_t pid = fork();

	if (pid == 0) {
		leave_some_to_the_server();
		(void)execvp(command[0], command);
		perror(command[0]);
		_exit(127);
	}
	return pid < 0 ? 127 : test_reap(pid);
}

static void make_bare(struct fuse *fuse)
{
	fuse->refused[FUSE_SETLK] = ENOSYS;
	fuse->refused[FUSE_SETLKW] = ENOSYS;
	fuse->refused[FUSE_TMPFILE] = ENOSYS;
	fuse->refused[FUSE_LINK] = EPERM;
}

int main(int argc, char **argv)
{
	enum fuse_flock flock = FUSE_FLOCK_LOCAL;
	bool bare = false;
	const char *reason;
	struct fuse *fuse;
	int i, status;

	for (i = 3; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "forwarded") == 0)
			flock = FUSE_FLOCK_FORWARDED;
		else
			bare = true;
	}
	if (i + 1 >= argc)
		return 2;
	fuse = fuse_mount(argv[1], argv[2], flock, &reason);
	if (!fuse) {
		puts(reason);
		return 77;
	}
	if (bare)
		make_bare(fuse);
	status = run(argv + i + 1);
	fuse_stop(fuse);
	return status;
}
