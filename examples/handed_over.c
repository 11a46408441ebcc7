/*
 * handed_over.c - a lock that a process hands to its child, so that nobody else comes in between.
 *
 *	cc handed_over.c -o handed_over $(pkg-config --cflags --libs filelock)
 *	./handed_over state.lock
 *
 * The parent locks a descriptor of its own, which the child inherits. Both share one open file
 * description, and with it the lock: the kernel drops it when the last of them has closed it, or when
 * one of them unlocks. So the parent ends without releasing, and the child opens a handle on the
 * descriptor. Its acquisition succeeds at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <filelock/filelock.h>

extern char **environ;

/* In both: static, since the parent's handle is never closed. */
static struct filelock *lock;

static int lock_descriptor(int fd, int timeout_ms)
{
	int r = filelock_open_fd(fd, NULL, &lock);

	return r < 0 ? r : filelock_acquire(lock, FILELOCK_EXCLUSIVE, timeout_ms);
}

static int start_child(const char *program, int fd, pid_t *ret_pid)
{
	posix_spawn_file_actions_t actions;
	char number[16];
	char *const arguments[] = { (char *)program, (char *)"--child", number, NULL };
	int r = posix_spawn_file_actions_init(&actions);

	snprintf(number, sizeof(number), "%d", fd);
	if (r != 0)
		return -r;
	r = posix_spawn_file_actions_adddup2(&actions, fd, fd); /* without FD_CLOEXEC */
	if (r == 0)
		r = posix_spawn(ret_pid, program, &actions, NULL, arguments, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

static int run_parent(const char *program, const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	pid_t pid;
	int r = fd < 0 ? -errno : lock_descriptor(fd, FILELOCK_WAIT_FOREVER);

	if (r == 0)
		r = start_child("/proc/self/exe", fd, &pid);
	if (r < 0) {
		fprintf(stderr, "%s: %s: %s\n", program, path, filelock_strerror(r));
		return 1;
	}
	printf("parent %ld hands the lock to child %ld\n", (long)getpid(), (long)pid);
	return 0; /* neither filelock_release nor filelock_close: they would unlock */
}

/* Works until its input ends, and then releases. */
static int run_child(int fd)
{
	int r = lock_descriptor(fd, FILELOCK_NO_WAIT);

	if (r == 0) {
		printf("child %ld has the lock\n", (long)getpid());
		fflush(stdout);
		while (getchar() != EOF)
			;
		r = filelock_release(lock);
	}
	if (r < 0)
		fprintf(stderr, "child: %s\n", filelock_strerror(r));
	filelock_close(lock);
	return r < 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "--child") == 0)
		return run_child(atoi(argv[2]));
	if (argc != 2) {
		fprintf(stderr, "usage: %s LOCK\n", argv[0]);
		return 2;
	}
	return run_parent(argv[0], argv[1]);
}
