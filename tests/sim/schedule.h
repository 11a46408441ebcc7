/*
 * schedule.h - every interleaving of what a few processes do, up to a bound.
 */
#ifndef FILELOCK_TESTS_SIM_SCHEDULE_H
#define FILELOCK_TESTS_SIM_SCHEDULE_H

#include "processes.h"

#define LOCK_PATH SIM_FOLDER "/lock.db"

struct scenario {
	const char *name;
	process_main mains[SIM_PROCESSES]; /* the last may be one without a library */
	/* Before the processes begin: files that are there. Calls are process 0's. May be NULL. */
	void (*before)(void);
	/* Called when all is over; may be NULL. The checks of every scenario are made besides. */
	void (*after)(void);
	unsigned sleeps_ms; /* so long all may sleep at once, in all; more, and a wake-up was missed */
	unsigned late_us;  /* so long while somebody waits for a lock that is free; 0: as long */
	unsigned crashes;  /* at most so many processes are killed, at any call */
	unsigned stops;    /* so many are stopped, at any call, for half a second */
	unsigned stalls;   /* so often time passes although somebody could run */
	bool preempt_few;  /* at most `preemptions` switches away from one that could go on */
	unsigned preemptions;
	bool meddled;      /* somebody replaces the lock file: a holder of another file is excused */
	bool files_stay;   /* files may be there in the end besides the one at LOCK_PATH */
	bool in_folder;    /* a hold is told by records beside the path, and by no lock on it */
	bool by_existence; /* to hold is to have the file open for writing: a lock file without flock */
	unsigned stay;     /* so many descriptors of a process may stay open, of unlocked handles */
	unsigned spared;    /* bits of the processes that are never killed */
	unsigned strangers; /* and of those that are no users of the library */
};

struct run_options {
	unsigned long schedules; /* at most so many executions a scenario */
	unsigned long seed;      /* 0: depth first; else random ones */
	const char *replay;      /* one execution, of these choices, told call by call */
};

/* Prints what it tried. ret_whole: whether there are no more of them. False: it failed, and the choices
   that show it were printed. */
bool schedule_run(const struct scenario *scenario, const struct run_options *options,
                  bool *ret_whole);

/* main of a program of scenarios: see its usage. */
int schedule_main(int argc, char **argv, const struct scenario *scenarios, size_t count);

/* --- for the processes of a scenario --- */

/* Others may run here. */
void pause_here(const char *where);
/* The process waits for the lock from here on, until it enters; or it no longer does. */
void ask(void);
void give_up(void);
/* The process holds the lock from here on; and is about to release it. */
void enter(enum filelock_mode mode);
void leave(void);
/* Ends the execution: that claim does not hold, but this value. */
void claim_failed(const char *claim, long value) __attribute__((noreturn));
#define CLAIM(condition, value)                             \
	do {                                                \
		if (!(condition))                           \
			claim_failed(#condition, (value)); \
	} while (0)
#define CLAIM_EQUAL(a, b) CLAIM((a) == (b), (long)(a))
/* How often anybody was a holder, in this execution. */
unsigned entries(void);
bool anybody_died(void);

/* Options under which only a wake-up can be in time. */
struct filelock_options patient(void);

#endif
