/*
 * soft_publish.h - a marker file that appears complete, with its flock on it, or not at all.
 */
#ifndef FILELOCK_SOFT_PUBLISH_H
#define FILELOCK_SOFT_PUBLISH_H

#include "handle.h"

/* The ways to make one, from the best; a handle goes on to the next where one is not to be had. */
enum publish_way {
	PUBLISH_TMPFILE, /* O_TMPFILE, then linkat(2): a crash leaves nothing */
	PUBLISH_NAME,    /* a private name, then link(2) */
	PUBLISH_IN_PLACE /* O_EXCL: the file system has no links */
};

/* A marker that is written and locked, and not yet to be seen. */
struct draft {
	int fd; /* -1: none */
	unsigned char way;
	int64_t written_at;
	struct identity identity;
};

/*
 * Makes the draft ahead of time. 0 also where there can be none: nothing that has a name waits
 * for its turn, since a crash would leave it.
 */
int soft_publish_prepare(const struct filelock *lock, struct draft *draft);

/*
 * Puts the marker at the handle's path, making missing directories. 0: draft->fd is the marker;
 * -EEXIST: something stands there, and the draft is kept; or another error.
 */
int soft_publish(const struct filelock *lock, struct draft *draft);

/* For a marker of ours that cannot be removed: it gets the record of a process that there cannot
   be, so that whoever comes next takes it over. */
int soft_publish_disown(int fd);

void soft_publish_drop(struct draft *draft);

/* The flock of a holder: 0 and *ret_flocked; -EWOULDBLOCK: somebody else's; or an error. */
int soft_publish_flock(const char *path, int fd, bool *ret_flocked);

/* A probe for native locks: whether flock(2) works in the directory of path, found out on a file
   without a name, or with a private one. 0 and what it said, or an error of making that file. */
int soft_publish_probe_flock(const char *path, int *ret_result);

#endif
