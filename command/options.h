/*
 * options.h - the command line of filelock.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include <filelock/filelock.h>

enum task {
	TASK_RUN,        /* a command under the lock */
	TASK_DESCRIPTOR, /* lock a descriptor of the caller, and leave it so */
	TASK_HOLDER,     /* print who holds it */
	TASK_BREAK,
	TASK_CLAIMS,     /* print the claims on a strict lock */
	TASK_BREAK_CLAIM
};

struct options {
	enum task task;
	enum filelock_kind kind;
	enum filelock_mode mode;
	bool unlock;
	bool fcntl;
	bool nonblock;
	double wait;        /* seconds; below zero: for ever */
	int conflict;       /* exit status if the lock does not come free in time */
	int timeout_signal; /* 0: none */
	bool close;
	bool exec; /* -F */
	bool verbose;
	bool quiet;
	bool wait_message; /* also without a terminal */
	const char *endpoints; /* of -k etcd; NULL: none were given */

	const char **paths; /* the one that must be named, and then those of -a */
	size_t n;
	int descriptor; /* of TASK_DESCRIPTOR */
	const char *claim; /* of TASK_BREAK_CLAIM */
	char **command;
	char *shell_command[4]; /* `command` of -c */
};

/* Reads the command line. Returns 0, or the exit status plus one: then all has been said. */
int options_read(struct options *options, int argc, char **argv);

#endif
