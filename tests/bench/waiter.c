#include "waiter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"

/* Words of the caller. The end of file would not do: later waiters inherit the writing end. */
#define SAY_GO "g"
#define SAY_STOP "s"

/* False: no more rounds. */
static bool next_round(struct waiter_side *side)
{
	char byte;

	return read(side->go, &byte, 1) == 1 && byte == SAY_GO[0];
}

/* From here on the first sleep of this process is its wait. */
static void begins(struct waiter_side *side)
{
	atomic_fetch_add(&side->shared->begun, 1);
}

static void has_acquired(struct waiter_side *side)
{
	atomic_store(&side->shared->acquired, bench_now());
}

static void has_released(struct waiter_side *side)
{
	(void)must((int)write(side->done, "", 1), "write");
}

void waiter_by_flock(struct waiter_side *side)
{
	int fd = bench_open_lock_file(side->setup->path);

	while (next_round(side)) {
		begins(side);
		(void)must(flock(fd, LOCK_EX), "flock");
		has_acquired(side);
		(void)must(flock(fd, LOCK_UN), "flock");
		has_released(side);
	}
	close(fd);
}

static struct filelock *open_lock(const struct waiter_side *side)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.poll_interval_ms = side->setup->poll_interval_ms;
	(void)must_lock(filelock_open(side->setup->path, side->setup->kind, &options, &lock),
	                "filelock_open");
	return lock;
}

void waiter_by_acquire(struct waiter_side *side)
{
	struct filelock *lock = open_lock(side);

	while (next_round(side)) {
		begins(side);
		(void)must_lock(filelock_acquire(lock, side->setup->mode,
		                                 FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		has_acquired(side);
		(void)must_lock(filelock_release(lock), "filelock_release");
		has_released(side);
	}
	filelock_close(lock);
}

static void granted(struct filelock *lock, int result, void *arg)
{
	struct waiter_side *side = arg;

	has_acquired(side);
	(void)must_lock(result, "evfilelock_acquire");
	(void)must_lock(filelock_release(lock), "filelock_release");
}

void waiter_by_request(struct waiter_side *side)
{
	struct event_base *base = must_have(event_base_new(), "event_base_new");
	struct evfilelock *ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");
	struct filelock *lock = open_lock(side);

	while (next_round(side)) {
		(void)must_lock(evfilelock_acquire(ev, lock, side->setup->mode, NULL, granted,
		                                   side), "evfilelock_acquire");
		begins(side);
		(void)must(event_base_dispatch(base), "event_base_dispatch");
		has_released(side);
	}
	filelock_close(lock);
	evfilelock_free(ev);
	event_base_free(base);
}

void waiter_start(struct waiter *waiter, waiter_body body, const struct waiter_setup *setup)
{
	int go[2], done[2];

	(void)must(pipe2(go, O_CLOEXEC), "pipe2");
	(void)must(pipe2(done, O_CLOEXEC), "pipe2");
	*waiter = (struct waiter){ .go = go[1], .done = done[0] };
	waiter->shared = bench_shared(sizeof(struct waiter_shared));
	waiter->pid = bench_fork();
	if (waiter->pid == 0) {
		struct waiter_side side = { setup, go[0], done[1], waiter->shared };

		if (setup->placed)
			bench_place(setup->cpu);
		body(&side);
		exit(0);
	}
	close(go[0]);
	close(done[1]);
}

static char process_state(pid_t pid)
{
	char path[32], line[512], *after_name;
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = must(open(path, O_RDONLY | O_CLOEXEC), path);
	n = must((int)read(fd, line, sizeof(line) - 1), path);
	close(fd);
	line[n] = '\0';
	after_name = strrchr(line, ')');
	return after_name ? after_name[2] : '?';
}

void waiter_see_asleep(pid_t pid)
{
	for (char state = '?'; state != 'S'; (void)sched_yield()) {
		state = process_state(pid);
		if (state == 'Z' || state == 'X')
			bench_fail("a waiter has died");
	}
}

void waiter_go(struct waiter *waiter)
{
	(void)must((int)write(waiter->go, SAY_GO, 1), "write");
	waiter->rounds++;
	while (atomic_load(&waiter->shared->begun) != waiter->rounds)
		(void)sched_yield();
	waiter_see_asleep(waiter->pid);
}

int64_t waiter_finish(struct waiter *waiter)
{
	char byte;

	if (read(waiter->done, &byte, 1) != 1)
		bench_fail("a waiter has died");
	return atomic_load(&waiter->shared->acquired);
}

void waiter_stop(struct waiter *waiter)
{
	(void)must((int)write(waiter->go, SAY_STOP, 1), "write");
	close(waiter->go);
	close(waiter->done);
	bench_reap(waiter->pid, 0);
	(void)munmap(waiter->shared, sizeof(struct waiter_shared));
}
