/*
 * sweep.h - a scenario is played again and again, and each time something else fails in it: each
 * system call with each error it can give, and each allocation; the first time, the
 * second, … until the scenario ends before its turn comes; once, and for good.
 *
 * After each point: the result that rules.h demands, and nothing else; the handle and another one
 * can lock again; what is open, watched, allocated, locked and in the folder is what it is
 * after a scenario without a fault.
 */
#ifndef FILELOCK_TESTS_SWEEP_H
#define FILELOCK_TESTS_SWEEP_H

#include "support.h"

/* The caller: filelock_acquire and the like, or a loop. */
enum driver { SYNCHRONOUS, LOOP };

/* The calls that are made while something fails. */
enum operation {
	OPENING,
	ACQUIRING,
	SHARING, /* acquiring in shared mode */
	MAKING,  /* the folder: acquiring in one that is missing */
	WAITING, /* acquiring what somebody holds, in either mode */
	TAKING,  /* over: acquiring what a dead process has left */
	RELEASING,
	REMOVING, /* the lock file, with the release */
	CLOSING,
	ASKING, /* for the holder */
	VERIFYING,
	BREAKING
};

#define KIND(kind) (1u << (kind))
#define EVERY_KIND (~0u)

struct stage {
	enum filelock_mode mode;
	struct filelock *lock;  /* of whom it is told */
	struct filelock *other; /* holds the lock, where somebody does */
	void *scene;            /* the scenario's own */
};

struct scenario {
	const char *name;
	enum operation operation;
	int expected; /* what play returns without a fault */
	unsigned kinds;
	bool shared; /* also in that mode */
	bool cold;   /* each point in a process of its own, which has nothing made ready yet */
	bool falls_back; /* a marker may serve instead of a native lock */
	bool stays;  /* the lock file is there before */
	bool deep;   /* the lock's folder is not */
	const enum fault_call *only; /* fail, up to FAULT_COUNT; NULL: all, and allocations */
	void (*set)(struct stage *stage); /* without faults; may be NULL */
	int (*play)(struct stage *stage); /* with; no assertion may be met in it */
	void (*strike)(struct stage *stage); /* cleans up after play; may be NULL */
};

/* Every point of the scenario, for the kind of test_kind(). */
void sweep(const struct scenario *scenario, enum filelock_mode mode);
/* In main, before and after the suite. The kind of test_kind(). */
enum filelock_kind sweep_begin(enum driver driver);
/* Prints the number of points. main's status: that of the suite, or, if all points were tried, 1
   where a call never failed that rules.c lists, or a rule never mattered. */
int sweep_end(const char *name, int status);

/* The lock file of the scenarios, and one more. */
const char *sweep_path(void);
const char *sweep_second_path(void);
struct filelock *sweep_open(const struct filelock_options *options);
/* sweep_open, and it holds. */
struct filelock *sweep_hold(enum filelock_mode mode);
/* Time passes only while somebody sleeps in ppoll(2). */
void sweep_stop_clock(void);
/* Within which what the fault that is tried delays is done: much, unless it never goes away. */
int sweep_timeout_ms(void);

#endif
