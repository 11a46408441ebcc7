/*
 * holder.h - the holder of a lock, from the kernel, and what is known about a process.
 */
#ifndef FILELOCK_HOLDER_H
#define FILELOCK_HOLDER_H

#include <filelock/filelock.h>

#include "base/proc.h"

/*
 * Finds the holder of a flock(2) on the file that fd is open on; fd's description need not hold
 * anything. Returns 0 and the owner (pid, mode, host, start time where known), FILELOCK_ENOHOLDER,
 * FILELOCK_EUNKNOWNHOLDER (no /proc, or the holder's pid means nothing here), or an error.
 *
 * flock(2) locks are the lines FLOCK of /proc/locks. They name the inode and the device of the
 * superblock. stat(2) reports another device on btrfs and overlay, so the device is looked up by
 * mnt_id of fdinfo/N in mountinfo. Both are read below /proc/thread-self: /proc/self is the first
 * thread's, and empty once that thread has ended.
 */
int holder_of_flock(int fd, struct filelock_owner *ret_owner);

/* Whether /proc numbers processes as we do: one mounted for another PID namespace does not. */
bool holder_knows_pids(void);
/* When the process began, in seconds since the epoch; 0: not known. */
int64_t holder_start_time(pid_t pid);
bool holder_read_process(pid_t pid, struct proc_process *ret);

/* Whether `is_it` says so of a process that has this pid in a PID namespace below ours. */
bool holder_any_inside(pid_t pid, bool (*is_it)(const struct proc_process *process, void *arg),
                       void *arg);

/* Record locks, fcntl(2), on any of the bytes first to last, both included, except those of one
   process (0: of none). */
struct holder_records {
	uint64_t first, last;
	pid_t except;
};

/* As holder_of_flock, for record locks: the lines POSIX. fd must be opened with O_PATH: closing any
   other descriptor drops this process's record locks on the file. */
int holder_of_records(int fd, const struct holder_records *records,
                      struct filelock_owner *ret_owner);

/* Who has a record lock on the file, of any range, of a process or an open file description; pid 0: it
   is not known who. FILELOCK_ENOHOLDER; FILELOCK_EUNKNOWNHOLDER; or an error. */
int holder_of_any_record(int fd, struct filelock_owner *ret_owner);

/* Fills in host and start time of a process of this machine, as far as they are known. */
void holder_describe_process(struct filelock_owner *owner, pid_t pid);

/* Asks about the file at the path. It is opened with O_PATH: the close of such a descriptor raises no
   event at the waiters and drops no record locks. FILELOCK_ENOHOLDER: there is none. */
int holder_at_path(const char *path, int (*question)(int fd, struct filelock_owner *ret_owner),
                   struct filelock_owner *ret_owner);

#endif
