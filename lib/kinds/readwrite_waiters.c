/*
 * readwrite_waiters.c - whether anybody waits for a read/write lock.
 *
 * Setting a file's times to wake its waiters costs a third of a cycle, mostly for nobody. A waiter is
 * therefore registered, as one of a native lock is (native_wait.c), but not on the database: closing any
 * descriptor of that drops all locks which this process has on it. It is registered on the folder,
 * which has no such locks, by a shared record lock of an open file description, on one of many bytes
 * that the number of the database tells. Two databases that share a byte wake each other's waiters.
 *
 * A waiter watches, registers, and tries then; a releaser unlocks, and asks then. So one of them sees
 * the other. Through two hard links in two folders they would not: a database with another name
 * wakes without asking. So does a releaser that cannot ask. A waiter that may not read the folder cannot
 * register, and neither is one seen whose folder was exchanged meanwhile: their poll finds the release.
 */
#include "kinds/readwrite_waiters.h"

#ifdef FILELOCK_SQLITE

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

#define BYTES 65521

static unsigned place_of(struct identity database)
{
	return (unsigned)(database.ino % BYTES) + 1;
}

static int open_folder(const char *folder)
{
	struct statfs fs;

	if (sys.statfs(folder, &fs) < 0)
		return -errno;
	if (!sys_is_local(&fs))
		return -ENOTSUP;
	return sys_open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
}

int readwrite_waiters_open(const char *path, struct filelock_guarded_fd *ret_folder)
{
	char *folder = sys_strdup(path);
	char *slash;
	int fd;

	if (!folder)
		return -ENOMEM;
	slash = strrchr(folder, '/'); /* the path is absolute */
	slash[slash == folder] = '\0';
	fd = open_folder(folder);
	free(folder);
	if (fd < 0)
		return fd;
	filelock_guard_fd(ret_folder, fd, false);
	return 0;
}

int readwrite_waiters_register(int folder, struct identity database)
{
	return sys_register_waiter_at(folder, place_of(database));
}

bool readwrite_waiters_exist(int folder, struct identity database)
{
	return sys_has_waiter_at(folder, place_of(database)) != 0;
}

#endif
