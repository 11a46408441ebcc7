/*
 * lock.h - one lock of the command: a handle, or a descriptor with --fcntl.
 */
#ifndef LOCK_H
#define LOCK_H

#include "options.h"

struct filelock_etcd;

struct lock {
	const char *path; /* for messages */
	struct filelock *handle; /* NULL with --fcntl and -u */
	int fd;   /* opened here, or the caller's; -1: the handle's own */
	bool lent; /* the caller's */
};

/* Opens what options->paths[i] names; session: NULL, or for -k etcd. Returns 0, or the exit status after a
   message. */
int lock_open(const struct options *options, struct filelock_etcd *session, size_t i,
              struct lock *ret_lock);

/* Another handle on the same lock, for questions while the first one waits; NULL: none. */
struct filelock *lock_ask(const struct options *options, const struct lock *lock);

/* The descriptor that the command is to inherit, so that it keeps the lock; -1: none. */
int lock_inherited(const struct options *options, const struct lock *lock);

/* sysexits.h, as flock(1) uses it. */
int lock_status(const struct lock *lock, int error);

#endif
