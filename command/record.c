/*
 * record.c - --fcntl: an open file description lock of fcntl(2) on the whole file.
 *
 * The kernel raises no event when such a lock comes free, so a thread waits for it in fcntl(2). If the
 * command ends before, the thread ends with it, and what it may have won goes then.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>
#include <unistd.h>

#include "run.h"

/* Returns 0 or a negative error. */
static int lock_record(int fd, int command, short type)
{
	struct flock range = { .l_type = type, .l_whence = SEEK_SET };

	while (fcntl(fd, command, &range) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int unlock(const struct run *run)
{
	int fd = run->locks[0].fd;

	if (run->options->fcntl)
		return lock_record(fd, F_OFD_SETLK, F_UNLCK);
	return flock(fd, LOCK_UN) < 0 ? -errno : 0;
}

static void *wait_in_fcntl(void *arg)
{
	struct run *run = arg;
	int result = lock_record(run->record_fd, F_OFD_SETLKW, run->record_type);

	while (write(run->record_pipe[1], &result, sizeof(result)) < 0 && errno == EINTR)
		;
	return NULL;
}

static void on_record(evutil_socket_t fd, short what, void *arg)
{
	int result;

	(void)what;
	if (read(fd, &result, sizeof(result)) == sizeof(result))
		wait_answer(arg, &((struct run *)arg)->locks[0], result);
}

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	wait_answer(arg, &((struct run *)arg)->locks[0], -ETIMEDOUT);
}

static int start_thread(struct run *run)
{
	pthread_t thread;
	int r = pthread_create(&thread, NULL, wait_in_fcntl, run);

	return r == 0 ? -pthread_detach(thread) : -r;
}

static int add_timeout(struct run *run)
{
	struct timeval buffer;
	const struct timeval *limit = run_limit(run->options, &buffer);

	if (!limit)
		return 0;
	run->on_timeout = evtimer_new(run->base, on_timeout, run);
	return run->on_timeout && evtimer_add(run->on_timeout, limit) == 0 ? 0 : -ENOMEM;
}

static int start_wait(struct run *run)
{
	int r = add_timeout(run);

	if (r < 0 || run->options->nonblock)
		return r;
	if (pipe2(run->record_pipe, O_CLOEXEC) < 0)
		return -errno;
	run->on_record = event_new(run->base, run->record_pipe[0], EV_READ, on_record, run);
	if (!run->on_record || event_add(run->on_record, NULL) < 0)
		return -ENOMEM;
	return start_thread(run);
}

int record_begin(struct run *run)
{
	int r;

	run->record_fd = run->locks[0].fd;
	run->record_type = run->options->mode == FILELOCK_SHARED ? F_RDLCK : F_WRLCK;
	r = lock_record(run->record_fd, F_OFD_SETLK, run->record_type);
	run->held = r == 0;
	return r == -EAGAIN || r == -EACCES ? start_wait(run) : r;
}
