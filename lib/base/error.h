/*
 * error.h - the last failure of a handle, kept for filelock_last_error, and the log.
 */
#ifndef FILELOCK_ERROR_H
#define FILELOCK_ERROR_H

#include <filelock/filelock.h>

/* The last failure of a handle. Its sentence is made only when asked for. */
struct failure {
	int code;         /* 0: nothing */
	bool own;         /* we use the system's code for a refusal of our own */
	const char *what; /* static: "cannot open the lock file" */
	char *detail;     /* owned, may be NULL: another library's own words, an option's name */
	char *sentence;   /* owned: what filelock_last_error returned last */
};

/* Notes a failure and returns its code. */
int failure_set(struct failure *failure, int code, const char *what);
/* The same, of a refusal of our own for which we use the system's code. */
int failure_set_own(struct failure *failure, int code, const char *what);
/* The same with a detail, which it takes over. */
int failure_set_detail(struct failure *failure, int code, const char *what, char *detail);
void failure_clear(struct failure *failure);
/* "cannot acquire /x: why"; empty: nothing failed. The failure keeps it until it is asked again. */
const char *failure_sentence(struct failure *failure, const char *path);

/* The same for a filelock_open that returns no handle, in this thread. */
int open_failure(int code, const char *path, const char *what, const char *detail);
void open_failure_copy(const char *sentence);
const char *open_failure_sentence(void);

bool log_wants(enum filelock_log_level level);
void log_write(enum filelock_log_level level, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* Around a fork: the log's own mutex. */
void log_before_fork(void);
void log_after_fork(void);

#endif
