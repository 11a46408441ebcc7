/*
 * liveness.h - whether the owner of a marker lives: by whoever has the file open, and by its record.
 */
#ifndef FILELOCK_LIVENESS_H
#define FILELOCK_LIVENESS_H

#include <filelock/filelock.h>

#include "kinds/soft_record.h"

/*
 * Whether the file is open for writing anywhere on this kernel, in whatever namespace: 1, 0, or
 * -ENOTSUP: that cannot be asked here (another user's file, a network's). fd is open for
 * reading only; path is the file's, good enough to tell the file system.
 */
int life_is_written(int fd, const char *path);

/* Whether the record proves its owner dead: false also when it proves nothing. */
bool life_is_over(const struct marker *record);

/* Whether the record is of this host, where its pid may mean something. */
bool life_is_here(const struct marker *record);

/* What the record says, and what is known of that process if it is this one's host. */
void life_describe(const struct marker *record, struct filelock_owner *ret_owner);

/* Whether the record is of the process that asks: pid, host and start token are. */
bool life_is_ours(const struct marker *record);

/* The record of this process, with the start token where it is known; its length or an error. */
int life_write_record(char ret[MARKER_SIZE], bool two_lines);

/* The record of a process that there cannot be: dead for everybody on this host. */
int life_write_nobody(char ret[MARKER_SIZE]);

/*
 * For the tests, which show with it that they can fail: how marker files are done elsewhere. All
 * false, always, outside of them.
 */
struct naive {
	bool record_only;     /* only the record tells who lives */
	bool kill_only;       /* a zombie answers kill(2), so it lives */
	bool any_zombie;      /* a zombie is dead, whatever other threads it has */
	bool ignore_token;    /* one process is like another of the same pid */
	bool publish_empty;   /* O_EXCL first, the record and the flock later */
	bool empty_ages;      /* and an empty marker is malformed */
	bool break_by_rename; /* a stale marker is renamed away, looked at, removed */
};
extern struct naive naive;

#endif
