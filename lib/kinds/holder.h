/*
 * holder.h - who holds a lock, as the kernel tells it; and what is known of a process.
 */
#ifndef FILELOCK_HOLDER_H
#define FILELOCK_HOLDER_H

#include <filelock/filelock.h>

#include "base/proc.h"

/*
 * Who holds a flock(2) on the file that fd is open on; fd's description need not hold
 * anything. 0 and the owner (pid, mode, host, start time where known), FILELOCK_ENOHOLDER,
 * FILELOCK_EUNKNOWNHOLDER (no /proc, or the holder's pid means nothing here), or an error.
 * flock(2) locks are the lines FLOCK of /proc/locks, found by inode and by the device of the
 * superblock: stat(2) reports another one on btrfs and overlay, so it is looked up through
 * mnt_id of fdinfo/N in mountinfo, both of /proc/thread-self: those of /proc/self are the first
 * thread's, and gone once it has ended by itself.
 */
int holder_of_flock(int fd, struct filelock_owner *ret_owner);

/* Whether /proc numbers processes as we do: one mounted for another PID namespace does not. */
bool holder_knows_pids(void);
/* When it began, in seconds since the epoch; 0: not known. */
int64_t holder_start_time(pid_t pid);
bool holder_read_process(pid_t pid, struct proc_process *ret);

/* Record locks, fcntl(2), that cover any of the bytes first to last, both included, but for those
   of a process that is not meant (0: all are). */
struct holder_records {
	uint64_t first, last;
	pid_t except;
};

/* The same for record locks: the lines POSIX. fd must be an O_PATH one: closing another kind drops
   this process's record locks on the file. */
int holder_of_records(int fd, const struct holder_records *records,
                      struct filelock_owner *ret_owner);

/* Fills in host and start time of a process of this machine, as far as they are known. */
void holder_describe_process(struct filelock_owner *owner, pid_t pid);

#endif
