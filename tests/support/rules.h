/*
 * rules.h - what becomes of a call of the library when a call of its own fails.
 *
 * The rule without a row: the call ends at once with the very error, and has changed nothing. The
 * rows are the exceptions, the first that fits counts. `spare` strikes of a row are met as its
 * outcome says, those after them by the rule without a row.
 *
 * Leases, strict and soft read/write locks go many ways at each fault. Their one rule: the result is that
 * without a fault, the fault's own error, "busy" to the end if the fault stays, or a protocol error
 * (strict). The release, the close and verifying may not say anything else. All that has to be so after
 * a fault is the same: sweep.h.
 */
#ifndef FILELOCK_TESTS_RULES_H
#define FILELOCK_TESTS_RULES_H

#include <errno.h>

#include "sweep.h"

enum outcome {
	FAILS, /* with that error */
	FINE,  /* there is another way, or it did not matter */
	HELD,  /* as if somebody held the lock: tried again, and at last -ETIMEDOUT */
	SAYS,  /* the row's result */
	EITHER, /* FINE, HELD or FAILS: that depends on which of several such calls it was */
	LEAVES /* FINE, but a private name stays behind, which could not be removed */
};

/* The object of the failed call. */
enum about {
	ANYTHING,
	THE_LOCK,     /* the lock file */
	MISSING_LOCK, /* its path, at which nothing stands yet */
	ITS_FOLDER,
	A_DRAFT,    /* a file without a name, or with a private one */
	THE_SYSTEM, /* below /proc */
	A_PROCESS,  /* of it, what is known of a process: only for show */
	ELSE
};

#define ANY_TIME (~0u)
#define ON(operation) (1u << (operation))
#define EVERY_OPERATION (~0u)

struct rule {
	unsigned line; /* of rules.c */
	unsigned kinds;
	unsigned operations;
	enum fault_call call;
	enum about about;
	int errors[12]; /* none: every one */
	unsigned spare;
	enum outcome outcome;
	int result;
};
#define RULE __LINE__

extern const struct rule rules[];
extern const size_t rules_count;

/* The errors that a call is made to fail with; and the kinds of which some scenario makes it. */
#define IN_LOOP(kinds) ((kinds) << 8)
struct fault_errors {
	enum fault_call call;
	unsigned made;
	int errors[20];
};
extern const struct fault_errors fault_errors[];
extern const size_t fault_errors_count;

#endif
