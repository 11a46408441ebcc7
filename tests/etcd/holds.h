/*
 * holds.h - what processes noted of their holds, and a judge of it that knows nothing of the library: it has
 * instants (CLOCK_BOOTTIME, ns) at which a process was told that it holds, and tokens.
 */
#ifndef FILELOCK_TESTS_HOLDS_H
#define FILELOCK_TESTS_HOLDS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hold {
	uint64_t token;
	int64_t asked;            /* before the first question whether it is held */
	int64_t began;            /* after the answer: yes */
	_Atomic int64_t believed; /* before the last question whose answer was yes */
	bool shared;
	_Atomic bool noted;       /* all of this is there */
};

struct verdict {
	size_t overlaps; /* an exclusive hold began while another one lasted, or any hold beside an exclusive one */
	size_t fallen;   /* exclusive holds that began after another, and whose token is not above that one's */
};

/* Sorts the holds. */
struct verdict holds_judge(struct hold *holds, size_t count);

#endif
