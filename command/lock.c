/*
 * lock.c - opens the lock that an argument names.
 *
 * A native lock on a regular file is one of the library, which notices when the file is replaced. For
 * all else that flock(2) locks (folders, devices) the library is lent a descriptor. A symbolic link is
 * followed, as flock(1) does.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "etcd.h"
#include "lock.h"

int lock_status(const struct lock *lock, int error)
{
	switch (-error) {
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENOLCK:
		return EX_OSERR;
	case EROFS:
	case ENOSPC:
		return EX_CANTCREAT;
	case EINVAL:
		return EX_USAGE;
	default:
		return lock->fd >= 0 ? EX_DATAERR : EX_NOINPUT;
	}
}

static int open_by_path(const struct options *options, const char *path,
                        struct filelock **ret_handle)
{
	struct filelock_options filelock_options = FILELOCK_OPTIONS_INIT;

	filelock_options.no_parents = true;
	filelock_options.no_fallback = true;
	return filelock_open(path, options->kind, &filelock_options, ret_handle);
}

/* A folder cannot be opened for writing, nor made. */
static int open_descriptor(const struct options *options, const char *path)
{
	int flags = O_NOCTTY | O_CLOEXEC;
	int access = options->fcntl && options->mode == FILELOCK_EXCLUSIVE ? O_RDWR : O_RDONLY;
	int fd = open(path, access | O_CREAT | flags, 0666);

	if (fd < 0 && access == O_RDWR && (errno == EACCES || errno == EROFS))
		fd = open(path, O_RDONLY | O_CREAT | flags, 0666);
	if (fd < 0 && errno == EISDIR)
		fd = open(path, O_RDONLY | flags);
	return fd < 0 ? -errno : fd;
}

/* Of what stands at the path, a regular file or nothing goes to the library by its path: `path`, or
   where a link leads. NULL: by a descriptor. */
static char *path_for_library(const struct options *options, const char *path)
{
	struct stat st;

	if (options->kind != FILELOCK_NATIVE)
		return strdup(path);
	if (options->fcntl || options->unlock)
		return NULL;
	if (lstat(path, &st) < 0)
		return strdup(path);
	if (S_ISLNK(st.st_mode))
		return stat(path, &st) == 0 && S_ISREG(st.st_mode) ? realpath(path, NULL) : NULL;
	return S_ISREG(st.st_mode) ? strdup(path) : NULL;
}

static int open_path(const struct options *options, struct lock *lock)
{
	char *path = path_for_library(options, lock->path);
	int r;

	if (path) {
		r = open_by_path(options, path, &lock->handle);
		free(path);
		return r;
	}
	r = open_descriptor(options, lock->path);
	if (r < 0)
		return r;
	lock->fd = r;
	return 0;
}

static int open_any(const struct options *options, struct filelock_etcd *session,
                    struct lock *lock)
{
	int r;

	if (session)
		return etcd_open_lock(session, lock->path, &lock->handle);
	if (options->task == TASK_DESCRIPTOR) {
		lock->fd = options->descriptor;
		lock->lent = true;
	} else {
		r = open_path(options, lock);
		if (r < 0 || lock->handle)
			return r;
	}
	if (options->fcntl || options->unlock)
		return 0;
	return filelock_open_fd(lock->fd, NULL, &lock->handle);
}

int lock_open(const struct options *options, struct filelock_etcd *session, size_t i,
              struct lock *ret_lock)
{
	struct lock lock = { .path = options->paths[i], .fd = -1 };
	int r = open_any(options, session, &lock);

	if (r < 0) {
		const char *text = filelock_last_error(NULL);

		fprintf(stderr, "filelock: %s: %s\n", lock.path,
		        *text && lock.fd < 0 ? text : filelock_strerror(r));
		return lock_status(&lock, r);
	}
	*ret_lock = lock;
	return 0;
}

struct filelock *lock_ask(const struct options *options, const struct lock *lock)
{
	struct filelock *handle = NULL;
	int r;

	if (!lock->handle || options->kind == FILELOCK_ETCD)
		return NULL;
	r = lock->fd >= 0 ? filelock_open_fd(lock->fd, NULL, &handle) :
	                    open_by_path(options, filelock_path(lock->handle), &handle);
	return r == 0 ? handle : NULL;
}

int lock_inherited(const struct options *options, const struct lock *lock)
{
	int fd = lock->handle ? filelock_fd(lock->handle) : lock->fd;

	return options->close || fd < 0 ? -1 : fd;
}
