/*
 * crowd.h - processes that all want one lock, time and again, and what each of them met with.
 *
 * A process of the crowd is a child of ours, or a program of an earlier build that is started anew:
 * `bench_crowd --member BODY PATH MEMORY START INDEX` with two descriptors, so the layout of
 * struct crowd and these arguments stay as they are.
 */
#ifndef CROWD_H
#define CROWD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CROWD_MAX 256

/* Of one process. */
struct crowd_member {
	int64_t grants;
	int64_t sum, longest; /* of its waits, ns */
	int64_t cpu;          /* user and system, from its first request to its last release, ns */
};

/* Shared by all. */
struct crowd {
	atomic_bool stop;
	_Atomic unsigned ready;
	int64_t hold_ns; /* 0: it is released at once */
	struct crowd_member members[CROWD_MAX];
};

typedef void crowd_body(const char *path, const struct crowd *crowd, struct crowd_member *self);

struct crowd_kind {
	const char *name; /* BODY */
	crowd_body *body;
};
/* Blocked in flock(2); in filelock_acquire; in a libevent loop. */
enum { CROWD_FLOCK, CROWD_ACQUIRE, CROWD_REQUEST, CROWD_KINDS };
extern const struct crowd_kind crowd_kinds[CROWD_KINDS];

/* The sums of a crowd. */
struct crowd_result {
	double rate;       /* grants a second */
	double cpu_us;     /* a grant */
	double longest_ms; /* wait */
};

/* n processes for that long. earlier: the program that they are, or NULL for children of ours. */
struct crowd_result crowd_run(const char *path, unsigned kind, const char *earlier, unsigned n,
                              int64_t hold_ns, int64_t duration);
/* In a program: if its arguments make it a member, it is one and ends. */
void crowd_be_member(int argc, char **argv);

#endif
