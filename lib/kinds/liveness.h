/*
 * liveness.h - whether the owner of a marker lives, by the open files and by the record.
 */
#ifndef FILELOCK_LIVENESS_H
#define FILELOCK_LIVENESS_H

#include <filelock/filelock.h>

#include "kinds/soft_record.h"

/*
 * Whether the file is open for writing anywhere on this kernel, in any namespace: 1, 0, or
 * -ENOTSUP: the kernel cannot tell (another user's file, a network file system). fd is open for
 * reading only. path is the file's, and serves to find the file system.
 */
int liveness_is_written(int fd, const char *path);

/* The kernel's answers about a marker, before its record is asked. */
enum proof {
	PROOF_NONE,     /* nothing: its locks mean nothing here, or it does not tell */
	PROOF_UNLOCKED, /* nobody has a flock(2) on it */
	PROOF_CLOSED,   /* and nobody on this kernel has it open for writing */
	PROOF_LEFT      /* and that for so long that no release is under way */
};

/*
 * Whether the record proves its owner dead: false also when it proves nothing. Without proof by the
 * kernel only what was written in this PID namespace, and says so, is believed.
 */
bool liveness_is_over(const struct marker *record, enum proof proof);

/* Whether no process has this pid, or one that has ended. */
bool liveness_is_gone(pid_t pid);

/* Whether the record is of this host, by any name that a release has given to it: its pid may mean
   something here. */
bool liveness_is_here(const struct marker *record);

/* The owner by the record, completed by what is known about the process if it is on this host. */
void liveness_describe(const struct marker *record, struct filelock_owner *ret_owner);

/* Whether the record is of this process, by pid, host and start token. */
bool liveness_is_ours(const struct marker *record);

/* The host of our records: 0 or an error. */
int liveness_host(char ret_host[HOST_SIZE + 1]);

/* Writes the record of this process, with the start token where it is known; returns its length, or
   an error. */
int liveness_write_record(char ret[MARKER_SIZE], bool two_lines);

/* This process as a record names it: pid, host and start token. 0 or an error. */
int liveness_read_own(struct marker *ret);

/* Writes the record of an impossible process, which is dead for everybody on this host. */
int liveness_write_nobody(char ret[MARKER_SIZE]);

#endif
