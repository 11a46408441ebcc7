/*
 * kill.h - a victim is stopped before its first, second, … system call, by ptrace(2), until it ends
 * before its turn comes. While it is stopped another process asks for the lock; then the victim is
 * killed, or goes on. Its polls and the other's come once a minute: what comes sooner was woken.
 */
#ifndef FILELOCK_TESTS_KILL_H
#define FILELOCK_TESTS_KILL_H

#include "support.h"

/* Shared with the victim. */
struct victim {
	int (*run)(struct victim *victim); /* in the victim: its exit status */
	bool waits;    /* somebody holds the lock until the victim sleeps */
	bool deaf;     /* has no inotify, so it polls often */
	bool inherits; /* soft, lease: a dead process's marker is there */
	_Atomic bool inside;
	_Atomic bool asked; /* the other process waits */
	char path[512];
};

enum fate { KILLED, CONTINUED };

/* Every point of one victim. */
void kill_sweep(const struct victim *victim, enum fate fate);
/* All points at once, each victim stopped for three seconds. */
void kill_stall(const struct victim *victim);
/* In main, around the suite. */
void kill_begin(void);
void kill_end(const char *name);

/* A handle whose polls come once a minute, if it is not deaf. */
struct filelock *kill_open(const struct victim *victim);

/* Whether there is such a victim of this kind; shares: it asks in shared mode. */
bool kill_is_possible(const struct victim *victim, bool shares);

#endif
