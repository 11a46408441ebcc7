#include "crowd.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"

enum { DESCRIPTORS = 2, MEMBER_ARGUMENTS = 7 };

/* Called with the lock; false: time is up. */
static bool hold(const struct crowd *crowd, struct crowd_member *self, int64_t asked)
{
	int64_t wait = bench_now() - asked;

	self->sum += wait;
	self->grants++;
	if (wait > self->longest)
		self->longest = wait;
	if (crowd->hold_ns)
		bench_sleep(crowd->hold_ns);
	return !atomic_load(&crowd->stop);
}

static void crowd_by_flock(const char *path, const struct crowd *crowd, struct crowd_member *self)
{
	int fd = bench_open_lock_file(path);
	bool goes_on = true;

	while (goes_on) {
		int64_t asked = bench_now();

		(void)must(flock(fd, LOCK_EX), "flock");
		goes_on = hold(crowd, self, asked);
		(void)must(flock(fd, LOCK_UN), "flock");
	}
	(void)must(close(fd), "close");
}

static struct filelock *open_lock(const char *path)
{
	struct filelock *lock;

	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), "filelock_open");
	return lock;
}

static void crowd_by_acquire(const char *path, const struct crowd *crowd,
                             struct crowd_member *self)
{
	struct filelock *lock = open_lock(path);
	bool goes_on = true;

	while (goes_on) {
		int64_t asked = bench_now();

		(void)must_lock(filelock_acquire(lock, FILELOCK_EXCLUSIVE,
		                                 FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		goes_on = hold(crowd, self, asked);
		(void)must_lock(filelock_release(lock), "filelock_release");
	}
	filelock_close(lock);
}

struct requester {
	struct evfilelock *ev;
	struct filelock *lock;
	const struct crowd *crowd;
	struct crowd_member *self;
	int64_t asked;
};

static void request(struct requester *requester);

static void granted(struct filelock *lock, int result, void *arg)
{
	struct requester *requester = arg;
	bool goes_on;

	(void)must_lock(result, "evfilelock_acquire");
	goes_on = hold(requester->crowd, requester->self, requester->asked);
	(void)must_lock(filelock_release(lock), "filelock_release");
	if (goes_on)
		request(requester);
}

static void request(struct requester *requester)
{
	requester->asked = bench_now();
	(void)must_lock(evfilelock_acquire(requester->ev, requester->lock, FILELOCK_EXCLUSIVE,
	                                   NULL, granted, requester), "evfilelock_acquire");
}

static void crowd_by_request(const char *path, const struct crowd *crowd,
                             struct crowd_member *self)
{
	struct event_base *base = must_have(event_base_new(), "event_base_new");
	struct requester requester = {
		.ev = must_have(evfilelock_new(base, NULL), "evfilelock_new"),
		.lock = open_lock(path),
		.crowd = crowd,
		.self = self,
	};

	request(&requester);
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	filelock_close(requester.lock);
	evfilelock_free(requester.ev);
	event_base_free(base);
}

const struct crowd_kind crowd_kinds[CROWD_KINDS] = {
	[CROWD_FLOCK] = { "flock", crowd_by_flock },
	[CROWD_ACQUIRE] = { "acquire", crowd_by_acquire },
	[CROWD_REQUEST] = { "request", crowd_by_request },
};

/* --- a member --- */

static int64_t to_ns(struct timeval time)
{
	return (int64_t)time.tv_sec * 1000000000 + (int64_t)time.tv_usec * 1000;
}

/* CPU time of all its threads. */
static int64_t cpu_used(void)
{
	struct rusage usage;

	(void)must(getrusage(RUSAGE_SELF, &usage), "getrusage");
	return to_ns(usage.ru_utime) + to_ns(usage.ru_stime);
}

static _Noreturn void be_member(const char *path, crowd_body *body, struct crowd *crowd, int start,
                                struct crowd_member *self)
{
	int64_t before;
	char byte;

	atomic_fetch_add(&crowd->ready, 1);
	if (read(start, &byte, 1) != 1)
		bench_fail("no start");
	before = cpu_used();
	body(path, crowd, self);
	self->cpu = cpu_used() - before;
	exit(0);
}

static struct crowd *map(int memory)
{
	void *shared = mmap(NULL, sizeof(struct crowd), PROT_READ | PROT_WRITE, MAP_SHARED, memory,
	                    0);

	if (shared == MAP_FAILED)
		bench_fail("mmap failed");
	return shared;
}

void crowd_be_member(int argc, char **argv)
{
	struct crowd *crowd;

	if (argc != MEMBER_ARGUMENTS || strcmp(argv[1], "--member") != 0)
		return;
	crowd = map(atoi(argv[4]));
	for (unsigned kind = 0; kind < CROWD_KINDS; kind++)
		if (strcmp(argv[2], crowd_kinds[kind].name) == 0)
			be_member(argv[3], crowd_kinds[kind].body, crowd, atoi(argv[5]),
			          &crowd->members[atoi(argv[6])]);
	bench_fail("no such member: %s", argv[2]);
}

/* --- the crowd --- */

/* fds: the shared memory and where the start is said, which the program inherits. */
static _Noreturn void start_earlier(const char *program, const char *path, unsigned kind,
                                    const int fds[DESCRIPTORS], unsigned index)
{
	char numbers[3][16];

	for (unsigned i = 0; i < DESCRIPTORS; i++) {
		(void)must(fcntl(fds[i], F_SETFD, 0), "fcntl");
		(void)snprintf(numbers[i], sizeof(numbers[i]), "%d", fds[i]);
	}
	(void)snprintf(numbers[2], sizeof(numbers[2]), "%u", index);
	(void)execl(program, program, "--member", crowd_kinds[kind].name, path, numbers[0],
	            numbers[1], numbers[2], (char *)NULL);
	bench_fail("cannot run %s", program);
}

static int start_member(const char *path, unsigned kind, const char *earlier,
                        const int fds[DESCRIPTORS], struct crowd *crowd, unsigned index)
{
	int pid = bench_fork();

	if (pid == 0 && earlier)
		start_earlier(earlier, path, kind, fds, index);
	if (pid == 0)
		be_member(path, crowd_kinds[kind].body, crowd, fds[1], &crowd->members[index]);
	return pid;
}

static struct crowd_result sum_up(const struct crowd *crowd, unsigned n, double seconds)
{
	struct crowd_member all = { 0 };

	for (unsigned i = 0; i < n; i++) {
		const struct crowd_member *member = &crowd->members[i];

		all.grants += member->grants;
		all.cpu += member->cpu;
		if (member->longest > all.longest)
			all.longest = member->longest;
	}
	return (struct crowd_result){ .rate = (double)all.grants / seconds,
		                      .cpu_us = (double)all.cpu / 1e3 / (double)all.grants,
		                      .longest_ms = (double)all.longest / 1e6 };
}

/* A wait that outlasts the time is counted whole: it ends when the others stop. */
static double let_run(struct crowd *crowd, int start, const int *pids, unsigned n, int64_t duration)
{
	char bytes[CROWD_MAX] = { 0 };
	int64_t begun;

	while (atomic_load(&crowd->ready) != n)
		bench_sleep(100000);
	begun = bench_now();
	(void)must((int)write(start, bytes, n), "write");
	bench_sleep(duration);
	atomic_store(&crowd->stop, true);
	for (unsigned i = 0; i < n; i++)
		bench_reap(pids[i], 0);
	return (double)(bench_now() - begun) / 1e9;
}

struct crowd_result crowd_run(const char *path, unsigned kind, const char *earlier, unsigned n,
                              int64_t hold_ns, int64_t duration)
{
	int memory = must(memfd_create("crowd", MFD_CLOEXEC), "memfd_create");
	struct crowd_result result;
	int start[2], pids[CROWD_MAX];
	struct crowd *crowd;

	(void)must(ftruncate(memory, sizeof(*crowd)), "ftruncate");
	(void)must(pipe2(start, O_CLOEXEC), "pipe2");
	crowd = map(memory);
	crowd->hold_ns = hold_ns;
	for (unsigned i = 0; i < n; i++)
		pids[i] = start_member(path, kind, earlier, (int[]){ memory, start[0] }, crowd, i);
	result = sum_up(crowd, n, let_run(crowd, start[1], pids, n, duration));
	(void)munmap(crowd, sizeof(*crowd));
	close(memory);
	close(start[0]);
	close(start[1]);
	return result;
}
