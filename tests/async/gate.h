/*
 * gate.h - a worker that is stopped inside a system call, for as long as the test likes.
 */
#ifndef FILELOCK_TESTS_GATE_H
#define FILELOCK_TESTS_GATE_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#include "loop.h"
#include "base/sys.h"

/* A worker's call number `gate_at` of flock(2) has been made, and does not return before `go`. */
static struct sys_table real;
static pthread_t loop_thread;
static atomic_int gate_at;
static atomic_int ring_gate_at; /* the same, of the rings of the bell */
static sem_t entered, go, rung;

static inline void wait_at_the_gate(void)
{
	(void)sem_post(&entered);
	while (sem_wait(&go) < 0)
		;
}

static inline int gated_flock(int fd, int operation)
{
	int r = real.flock(fd, operation);
	int error = errno;

	if (!pthread_equal(pthread_self(), loop_thread) && atomic_fetch_sub(&gate_at, 1) == 1)
		wait_at_the_gate();
	errno = error;
	return r;
}

/* Workers write nothing but the ringing of the bell: the lock is native. */
static inline ssize_t noted_write(int fd, const void *data, size_t size)
{
	ssize_t r = real.write(fd, data, size);

	if (pthread_equal(pthread_self(), loop_thread))
		return r;
	(void)sem_post(&rung);
	if (atomic_fetch_sub(&ring_gate_at, 1) == 1)
		wait_at_the_gate();
	return r;
}

/* For a context with workers. */
static inline struct loop gated(struct loop loop, int at)
{
	ck_assert_int_eq(sem_init(&entered, 0, 0), 0);
	ck_assert_int_eq(sem_init(&go, 0, 0), 0);
	ck_assert_int_eq(sem_init(&rung, 0, 0), 0);
	(void)is_free("a"); /* makes the file, and so no attempt has to look whether flock(2) works */
	loop_thread = pthread_self();
	gate_at = at;
	real = sys;
	sys.flock = gated_flock;
	sys.write = noted_write;
	return loop;
}

static inline struct loop gated_loop_of(unsigned workers, int at)
{
	return gated(loop_with_workers(workers), at);
}

static inline struct loop gated_loop(int at)
{
	return gated_loop_of(2, at);
}

static inline void run_to_the_gate(struct loop *loop)
{
	while (sem_trywait(&entered) < 0)
		loop_for(loop, 1);
}

static inline void open_gate(void)
{
	ck_assert_int_eq(sem_post(&go), 0);
}

/* Workers have rung so often since the last look; the loop has not heard it yet. */
static inline void await_rings(unsigned count)
{
	while (count > 0)
		if (sem_wait(&rung) == 0)
			count--;
}

/* So many attempts have failed, and each of their requests rests until an event, or its time. The clock must
   stand: else more are made meanwhile. */
static inline void await_attempts(struct loop *loop, uint64_t count)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	while (evfilelock_get_stats(loop->ev, &stats) == 0 && stats.attempts < count)
		ck_assert_int_eq(event_base_loop(loop->base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(stats.attempts, count);
}

/* Has the loop look at the time. */
static inline void nudge(struct loop *loop)
{
	struct filelock *other = open_patient("other");

	ck_assert_int_eq(loop_acquire(loop, other, FILELOCK_EXCLUSIVE, -1), 0);
	filelock_close(other);
}

#endif
