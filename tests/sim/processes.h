/*
 * processes.h - simulated processes: a copy of the library for each, and a stack for each thread.
 */
#ifndef FILELOCK_TESTS_SIM_PROCESSES_H
#define FILELOCK_TESTS_SIM_PROCESSES_H

#include "library.h"
#include "sim.h"

enum { LIBRARIES = 3 };

/* The work of a process: it begins with nothing, and ends when it returns. */
typedef void (*process_main)(const struct library *lib, unsigned self);

/* Once. */
void processes_prepare(void);
/* A kernel just booted, and `count` processes about to begin, as if nothing had been before. */
void processes_begin(const process_main *mains, unsigned count);
/* One more thread of the current process: 0, or -1. */
int processes_start_thread(void *(*run)(void *arg), void *arg, unsigned *ret_task);
/* The current thread ends. */
void processes_end_thread(void) __attribute__((noreturn));
/* Gives the processor to a thread; comes back when processes_leave or another one gives it. */
void processes_enter(unsigned task);
/* Back to whom the first processes_enter came from; what runs is left for ever. */
void processes_leave(void);
bool processes_is_done(unsigned task);

/* To be defined by who schedules: a thread has come to its end. Does not return. */
void processes_ended(unsigned task);

#endif
