/*
 * actors.h - what processes do in more than one scenario.
 */
#ifndef FILELOCK_TESTS_SIM_ACTORS_H
#define FILELOCK_TESTS_SIM_ACTORS_H

#include "schedule.h"

/* Opens the lock at LOCK_PATH, closes it, and between the two: */
struct actor {
	enum filelock_kind kind;
	enum filelock_mode mode;
	int timeout_ms; /* 0: for ever */
	bool twice;
	bool then_exclusive; /* the second time, and for ever, whatever the first was */
	bool unlink_on_release;
	bool keep_open;
	unsigned poll_interval_ms; /* 0: never, in effect */
	unsigned holds_ms;      /* so long each time, asleep */
	bool close_holding;     /* without a release at the end */
	bool exits;             /* gives the lock up by exit(3) */
	bool in_crowd;          /* waits in the kernel's queue: see make_crowded_file */
	bool stays_open;        /* goes on to do something else, and keeps its handle */
};
void act(const struct library *lib, const struct actor *actor);

/* For a scenario in which every release wakes whoever waits. Only a handle that lets others go
   first may sleep beside a free lock, and for less than it is until an attempt after an event. */
#define PROMPT .late_us = 900

/* A process_main that acts so. */
#define ACTOR(function, ...)                                                     \
	static void function(const struct library *lib, unsigned self)          \
	{                                                                        \
		(void)self;                                                      \
		act(lib, &(struct actor){ __VA_ARGS__ });                        \
	}

/* Strangers, who meddle with the lock file. */
void remove_file(const struct library *lib, unsigned self);
void rename_file(const struct library *lib, unsigned self);
void replace_file(const struct library *lib, unsigned self);

/* Makes a file, with this content, and closes it: for struct scenario's `before`. */
void make_file(const char *path, const char *content);
/* The same, of the lock file. */
void make_lock_file(const char *content);
/* The lock file, empty, for scenarios with actors in a crowd. */
void make_crowded_file(void);

#endif
