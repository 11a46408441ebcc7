/*
 * wait.c - waits for the locks in a libevent loop.
 *
 * Signals are read from a signalfd, because they have to be blocked, not caught, while the command is
 * started, so that none is lost; and because it says who sent them: a SIGINT of the terminal has
 * reached the command already, and is not passed on a second time.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "run.h"

void run_end(struct run *run, int status)
{
	run->status = status;
	event_base_loopbreak(run->base);
}

static void on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct run *run = arg;
	struct signalfd_siginfo info;

	(void)what;
	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD)
		spawn_reap(run);
	else if (run->waiting)
		run_end(run, 128 + (int)info.ssi_signo);
	else if (run->child && info.ssi_code != SI_KERNEL)
		kill(run->child, (int)info.ssi_signo);
}

/* Signals that we were started to ignore stay ignored. */
static void add_unless_ignored(sigset_t *set, int number)
{
	struct sigaction action;

	if (sigaction(number, NULL, &action) == 0 && action.sa_handler != SIG_IGN)
		sigaddset(set, number);
}

static bool watch_signals(struct run *run)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	add_unless_ignored(&set, SIGINT);
	add_unless_ignored(&set, SIGTERM);
	if (signal(SIGCHLD, SIG_DFL) == SIG_ERR || /* ignored, it would leave no status */
	    sigprocmask(SIG_BLOCK, &set, &run->old_mask) < 0)
		return false;
	run->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (run->signals < 0)
		return false;
	run->on_signal = event_new(run->base, run->signals, EV_READ | EV_PERSIST, on_signal, run);
	return run->on_signal && event_add(run->on_signal, NULL) == 0;
}

static void on_second(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	holder_name(arg);
}

static bool watch_time(struct run *run)
{
	static const struct timeval second = { 1, 0 };
	const struct options *options = run->options;

	if (options->quiet || (!options->wait_message && !isatty(STDERR_FILENO)))
		return true;
	run->on_second = evtimer_new(run->base, on_second, run);
	return run->on_second && evtimer_add(run->on_second, &second) == 0;
}

const struct timeval *run_limit(const struct options *options, struct timeval *buffer)
{
	const double longest = 1e9; /* seconds: thirty years */
	double whole;

	if (options->nonblock)
		return memset(buffer, 0, sizeof(*buffer));
	if (options->wait < 0)
		return NULL;
	buffer->tv_usec = (suseconds_t)(modf(fmin(options->wait, longest), &whole) * 1e6);
	buffer->tv_sec = (time_t)whole;
	if (buffer->tv_sec == 0 && buffer->tv_usec == 0)
		buffer->tv_usec = 1;
	return buffer;
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct run *run = arg;

	(void)lock;
	wait_answer(run, &run->locks[0], result);
}

static void on_all(struct filelock *const *set, size_t n, int result, struct filelock *failed,
                   void *arg)
{
	struct run *run = arg;
	size_t i = 0;

	(void)set, (void)n;
	while (i + 1 < run->n && run->locks[i].handle != failed)
		i++;
	wait_answer(run, &run->locks[i], result);
}

static int acquire_all(struct run *run, const struct timeval *timeout)
{
	struct filelock **set = calloc(run->n, sizeof(*set));
	int r;

	if (!set)
		return -ENOMEM;
	for (size_t i = 0; i < run->n; i++)
		set[i] = run->locks[i].handle;
	r = evfilelock_acquire_all(run->ev, set, run->n, run->options->mode, timeout, on_all, run);
	free(set);
	return r;
}

static int begin(struct run *run)
{
	struct timeval buffer;
	const struct timeval *timeout = run_limit(run->options, &buffer);

	if (run->options->fcntl)
		return record_begin(run);
	if (run->n > 1)
		return acquire_all(run, timeout);
	return evfilelock_acquire(run->ev, run->locks[0].handle, run->options->mode, timeout,
	                          on_lock, run);
}

static void fail(struct run *run, const struct lock *lock, int error)
{
	const char *text = lock->handle ? filelock_last_error(lock->handle) : "";

	if (*text)
		fprintf(stderr, "filelock: %s\n", text);
	else
		fprintf(stderr, "filelock: %s: %s\n", lock->path, filelock_strerror(error));
	run_end(run, lock_status(lock, error));
}

/* Not in time: the end, or the signal to the holder and one wait more. */
static void give_up(struct run *run)
{
	const struct options *options = run->options;

	if (options->timeout_signal && !run->signalled) {
		run->signalled = true;
		if (holder_signal(run) && begin(run) == 0)
			return;
	}
	if (options->verbose)
		fputs(options->nonblock ? "filelock: failed to get lock\n" :
		                          "filelock: timeout while waiting to get lock\n",
		      stderr);
	run_end(run, options->conflict);
}

void wait_answer(struct run *run, const struct lock *lock, int result)
{
	if (result == 0) {
		run->held = true;
		event_base_loopbreak(run->base);
	} else if (result == -ETIMEDOUT) {
		give_up(run);
	} else if (result != -ECANCELED) {
		fail(run, lock, result);
	}
}

static bool out_of_something(struct run *run)
{
	perror("filelock");
	run->status = EX_OSERR;
	return false;
}

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

bool run_make_loop(struct run *run)
{
	if (!run->base)
		run->base = event_base_new();
	if (run->base && !run->ev)
		run->ev = evfilelock_new(run->base, NULL);
	return run->ev != NULL;
}

bool wait_for_locks(struct run *run)
{
	struct timespec start;
	int r;

	clock_gettime(CLOCK_MONOTONIC, &start);
	if (!run_make_loop(run) || !watch_signals(run) || !watch_time(run))
		return out_of_something(run);
	run->waiting = true;
	r = run->options->unlock ? unlock(run) : begin(run);
	if (r < 0)
		fail(run, &run->locks[0], r);
	else if (run->options->unlock)
		run->held = true;
	else if (!run->held && event_base_dispatch(run->base) < 0)
		return out_of_something(run);
	run->waiting = false;
	if (run->on_second)
		evtimer_del(run->on_second);
	if (run->held && run->options->verbose)
		printf("filelock: getting lock took %.6f seconds\n", seconds_since(&start));
	return run->held;
}
