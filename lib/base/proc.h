/*
 * proc.h - reading /proc: a reader of lines, and one parser for each format.
 *
 * The parsers take text of any bytes. They return false for text that they do not understand, and
 * leave their outputs untouched then.
 */
#ifndef FILELOCK_PROC_H
#define FILELOCK_PROC_H

#include <filelock/filelock.h>

/* A device as the kernel prints it: of a superblock, not necessarily st_dev of stat(2). */
struct proc_device {
	unsigned major, minor;
};

/* A flock(2) lock that is held: a line FLOCK of /proc/locks, proc_locks(5). */
struct proc_lock {
	pid_t pid; /* 0: the line names no process of this PID namespace */
	enum filelock_mode mode;
	struct proc_device device;
	uint64_t inode;
};

/* False also for other types of locks, and for a lock that somebody waits for ("->"). */
bool proc_parse_lock(const char *line, struct proc_lock *ret);

/* As proc_parse_lock, for a record lock, fcntl(2), on bytes first to last: a line POSIX. */
struct proc_record {
	struct proc_lock lock;
	uint64_t first, last; /* UINT64_MAX: to the end of the file, however long it gets */
};
bool proc_parse_record(const char *line, struct proc_record *ret);
/* The same, also of a lock of an open file description, which names no process: a line OFDLCK. */
bool proc_parse_any_record(const char *line, struct proc_record *ret);

/* A line of /proc/PID/mountinfo, proc_pid_mountinfo(5): the mount's number and its device. */
bool proc_parse_mount(const char *line, uint64_t *ret_id, struct proc_device *ret_device);

/* The value of the line "name:  number" in /proc/PID/fdinfo/N. */
bool proc_parse_fdinfo(const char *text, const char *name, uint64_t *ret);

/* /proc/PID/stat, proc_pid_stat(5). */
struct proc_process {
	char state;         /* field 3 */
	uint64_t threads;   /* field 20 */
	uint64_t start;     /* field 22, in clock ticks after boot */
};
bool proc_parse_process(const char *text, struct proc_process *ret);

/* The line NSpid of /proc/PID/status: the process's pid in the innermost of its PID namespaces.
   *ret_depth: how many it is in, as far as the reader's. */
bool proc_parse_innermost_pid(const char *text, pid_t *ret_pid, unsigned *ret_depth);

/* The line btime of /proc/stat: when the machine booted, seconds since the epoch. */
bool proc_parse_boot_time(const char *line, int64_t *ret);

/* Lines of a file of any length. A line too long for the buffer is cut. */
struct proc_lines {
	int fd;
	size_t begin, end;
	size_t reads; /* that returned something */
	bool last;    /* the file was read to its end */
	bool cut;     /* the rest of the line is still to come */
	char buffer[4096];
};

int proc_lines_open(struct proc_lines *lines, const char *path);
/* 1 and a line without its end, valid until the next call; 0: no more; or an error. */
int proc_lines_next(struct proc_lines *lines, const char **ret_line);
void proc_lines_close(struct proc_lines *lines);

#endif
