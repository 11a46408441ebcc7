/*
 * holder.h - a process that holds a lock in etcd, and asks every few milliseconds whether it still does.
 */
#ifndef FILELOCK_TESTS_HOLDER_H
#define FILELOCK_TESTS_HOLDER_H

#include "nodes.h"

struct holder {
	pid_t pid;
	struct {
		_Atomic bool holds;       /* it has got the lock, and has not been told of a loss */
		_Atomic bool leaves;      /* it is to release and to end */
		_Atomic int64_t believed; /* CLOCK_BOOTTIME of a question, before it: yes */
		_Atomic int64_t deadline, told; /* of the loss; 0: none yet */
	} *shared;
};

/* Starts it; returns when it holds. */
void holder_start(struct holder *holder, const struct filelock_etcd_options *options,
                  const char *name);
/* Orders it to release and to end. */
void holder_leave(struct holder *holder);
/* Awaits that, whether it holds or has lost. */
void holder_stop(struct holder *holder);
bool holder_is_told(const struct holder *holder);
/* Somebody else has got the lock at that time: the holder did not believe then, nor later. */
void holder_check(const struct holder *holder, int64_t granted);

#endif
