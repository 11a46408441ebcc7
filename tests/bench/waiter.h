/*
 * waiter.h - a process that waits for a lock when the test asks, and is seen asleep before
 * the lock is let go.
 *
 * One round: the caller holds the lock; waiter_go tells the other process to ask for it and
 * returns when that sleeps in its wait; the caller stamps the time and lets go;
 * waiter_finish returns when the other had the lock and has given it back.
 */
#ifndef WAITER_H
#define WAITER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <filelock/filelock.h>

/* To pass between two rounds: a handle that asks again sooner after its release lets others go
   first, by 200 us. What that costs is bench_fairness.c's to show. */
#define WAITER_PAUSE_NS 1200000

struct waiter_setup {
	const char *path;
	enum filelock_kind kind;   /* of ours */
	enum filelock_mode mode;
	unsigned poll_interval_ms; /* for ours; 0: the default */
	bool placed;               /* on `cpu`; else wherever the scheduler likes */
	int cpu;
};

/* The waiting process's own side. */
struct waiter_side {
	const struct waiter_setup *setup;
	int go, done; /* pipes */
	struct waiter_shared *shared;
};

struct waiter_shared {
	_Atomic unsigned begun;    /* rounds */
	_Atomic int64_t acquired;  /* CLOCK_MONOTONIC, ns */
};

typedef void (*waiter_body)(struct waiter_side *side);

/* Waits for one round after the other, until the caller stops it. */
void waiter_by_flock(struct waiter_side *side);   /* blocked in flock(2) */
void waiter_by_acquire(struct waiter_side *side); /* in filelock_acquire */
void waiter_by_request(struct waiter_side *side); /* in a libevent loop */

struct waiter {
	pid_t pid;
	int go, done;
	unsigned rounds;
	struct waiter_shared *shared;
};

void waiter_start(struct waiter *waiter, waiter_body body, const struct waiter_setup *setup);
void waiter_go(struct waiter *waiter);
/* When the waiter had the lock. */
int64_t waiter_finish(struct waiter *waiter);
void waiter_stop(struct waiter *waiter);

/* Returns once the process sleeps. */
void waiter_see_asleep(pid_t pid);

#endif
