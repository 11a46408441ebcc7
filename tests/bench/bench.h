/*
 * bench.h - what the measuring programs share: a clock, series of samples, a folder for the
 * lock files, and the lines that `run` makes its table of.
 *
 * A program prints on its standard output, fields separated by tabs:
 *	row   what  ours  peer  unit  ratio  bound     "-" where there is none, ">0.9" for at least
 *	note  text
 *	skip  what  reason
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Measured values of one contender, in the order they came until one asks for a percentile. */
struct series {
	double *values;
	size_t count, size;
};

void series_add(struct series *series, double value);
double series_mean(const struct series *series);
/* These sort the values. p is 0 … 100; nearest rank. */
double series_percentile(struct series *series, double p);
double series_median(struct series *series);
double series_max(struct series *series);
void series_free(struct series *series);

/* CLOCK_MONOTONIC, nanoseconds. */
int64_t bench_now(void);
void bench_sleep(int64_t ns);
/* A whole number from low to high, both included. */
int64_t bench_random(int64_t low, int64_t high);

/* --quick was given: few rounds, to see that the program works. */
extern bool bench_quick;
/* Rounds to make: the one or the other. */
static inline unsigned bench_rounds(unsigned full, unsigned quick)
{
	return bench_quick ? quick : full;
}

/* Reads the arguments and makes the folder, which goes away at exit. */
void bench_begin(int argc, char **argv);
/* The value of an argument `name VALUE`, or NULL. */
const char *bench_argument(const char *name);
/* A path in the folder; the caller frees it. */
char *bench_path(const char *name);

/* bound: what the ratio may be at most; 0: no bound. */
void bench_row(const char *what, double ours, double peer, const char *unit, double bound);
/* The same where more is better: what the ratio must be at least. */
void bench_row_least(const char *what, double ours, double peer, const char *unit, double bound);
/* A bound on the value itself, where there is no peer. */
void bench_row_limit(const char *what, double ours, const char *unit, double limit);
void bench_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void bench_skip(const char *what, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

_Noreturn void bench_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* For what cannot fail here: returns the result, or ends the program. */
int must(int result, const char *what);      /* -1 and errno */
int must_lock(int result, const char *what); /* a negative error of the library */
void *must_have(void *pointer, const char *what);

/* The CPUs we may run on, at most size of them; how many there are in ret_cpus. */
unsigned bench_cpus(int *ret_cpus, unsigned size);
/* Runs this process on that CPU only; -1: on all that it might use when it began. */
void bench_place(int cpu);

/* Memory that child processes share, zeroed. */
void *bench_shared(size_t size);
/* The lock file as a peer opens it: just as the library does. */
int bench_open_lock_file(const char *path);
/* A child that dies with us. As fork(2). */
int bench_fork(void);
/* Waits for a child to end; it must have exited with 0 unless killed by signal. */
void bench_reap(int pid, int signal);

#endif
