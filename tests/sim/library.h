/*
 * library.h - the library, as many times as there are simulated processes.
 *
 * A process has its own registry, its own pool of sleepers, its own SQLite with its own list of
 * inodes. So the library's objects, and SQLite's, are linked into one object for each process, all
 * of whose names but one are local, and whose variables lie in one section, which can be
 * restored: see process.c and CMakeLists.txt.
 */
#ifndef FILELOCK_TESTS_SIM_LIBRARY_H
#define FILELOCK_TESTS_SIM_LIBRARY_H

#include <filelock/filelock.h>

#include "crowd.h"
#include "helpers.h"

struct library {
	/* Once, in a new program: the process that it is, and memory for its heap. */
	void (*prepare)(unsigned process, char *heap, size_t size);
	size_t (*heap_used)(void);

	int (*open)(const char *path, enum filelock_kind kind,
	            const struct filelock_options *options, struct filelock **ret_lock);
	int (*acquire)(struct filelock *lock, enum filelock_mode mode, int timeout_ms);
	int (*release)(struct filelock *lock);
	void (*close)(struct filelock *lock);
	int (*verify)(struct filelock *lock);
	int (*break_lock)(struct filelock *lock);
	/* lib/helpers.h */
	int (*submit)(int fd, struct identity identity, enum filelock_mode mode,
	              helpers_notify *notify, void *arg, struct blocked **ret_wait);
	bool (*adopt)(struct identity identity, enum filelock_mode mode, helpers_notify *notify,
	              void *arg, struct blocked **ret_wait);
	int (*take)(struct blocked *wait, int *ret_fd);
	void (*cancel)(struct blocked *wait, bool is_dead);
	/* lib/crowd.h */
	void (*note_silence)(struct identity identity, int64_t now);
	/* exit(3): what the process has asked for with atexit(3) */
	void (*exit)(void);
};

#endif
