/*
 * stranger.h - one who locks a file besides the library, as another process would: a flock(2) on a
 * description of its own, another host's marker, SQLite's SHARED by open-file-description locks.
 */
#ifndef FILELOCK_TESTS_STRANGER_H
#define FILELOCK_TESTS_STRANGER_H

#include <filelock/filelock.h>

struct stranger {
	bool holds;
	enum filelock_mode mode;
	int fd;
	unsigned file; /* the caller's: which file it was */
};

/* Tries the lock: s->holds if it got it; a marker only exclusively, a database only shared. */
void stranger_take(struct stranger *s, enum filelock_kind kind, const char *path,
                   enum filelock_mode mode);
/* Gives it back. removed: the path does not name its file any more. */
void stranger_leave(struct stranger *s, enum filelock_kind kind, const char *path, bool removed);
/* When nobody has a lock any more. */
void stranger_end(void);

#endif
