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
int liveness_is_written(int fd, const char *path);

/* Whether the record proves its owner dead: false also when it proves nothing. */
bool liveness_is_over(const struct marker *record);

/* Whether the record is of this host, where its pid may mean something. */
bool liveness_is_here(const struct marker *record);

/* What the record says, and what is known of that process if it is this one's host. */
void liveness_describe(const struct marker *record, struct filelock_owner *ret_owner);

/* Whether the record is of the process that asks: pid, host and start token are. */
bool liveness_is_ours(const struct marker *record);

/* The record of this process, with the start token where it is known; its length or an error. */
int liveness_write_record(char ret[MARKER_SIZE], bool two_lines);

/* The record of a process that there cannot be: dead for everybody on this host. */
int liveness_write_nobody(char ret[MARKER_SIZE]);

#endif
