/*
 * wire.h - two network namespaces of the test's own, and a wire between them that loses what is sent, in
 * silence, on demand.
 */
#ifndef FILELOCK_TESTS_WIRE_H
#define FILELOCK_TESTS_WIRE_H

#include <stdbool.h>
#include <sys/types.h>

#include "proxy.h"

#define WIRE_NEAR "10.77.0.1"

struct wire {
	int near, far; /* descriptors of the namespaces */
	pid_t keeper;  /* in the near one, in which the test goes on */
};

/* False: that cannot be made here, and the test is skipped. */
bool wire_make(struct wire *wire);
/* Where what is forked from now on lives: beyond the wire, or here. */
void wire_go_far(const struct wire *wire);
void wire_go_near(const struct wire *wire);
/* The servers are near. CUT_NONE: it is whole. */
void wire_cut(const struct wire *wire, enum cut cut);
void wire_end(struct wire *wire);

#endif
