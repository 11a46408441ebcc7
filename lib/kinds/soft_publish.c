/*
 * soft_publish.c - making markers.
 *
 * A reader must never see half a record. The file is therefore written and locked while it has no
 * name, or a private one. A link then gives it its own name, and fails if something stands there.
 * Where there are no links the name comes first (O_EXCL). An empty marker counts as held, ours also
 * by its open descriptor, so a stall in between costs time and not the lock.
 */
#include "kinds/soft_publish.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "kinds/liveness.h"
#include "base/path.h"
#include "fork.h"
#include "base/sys.h"

#define NEXT_WAY 1
#define FRESH INT64_C(10000000) /* ns that a draft's time of writing may be off */

static mode_t permissions(const struct filelock *lock)
{
	return lock->options.file_mode ? lock->options.file_mode : 0666;
}

void soft_publish_drop(struct draft *draft)
{
	if (draft->fd < 0)
		return;
	fork_hold_off();
	(void)sys_close(draft->fd);
	draft->fd = -1;
	fork_allow();
}

static bool is_without_flock(const char *path, int error)
{
	struct statfs fs;

	/* ENOLCK: a network's lock server is missing; elsewhere the system is short of locks */
	if (error == -ENOLCK)
		return sys.statfs(path, &fs) == 0 && !sys_is_local(&fs);
	return sys_is_flock_missing(error);
}

int soft_publish_flock(const char *path, int fd, bool *ret_flocked)
{
	int r = sys_flock(fd, LOCK_EX | LOCK_NB);

	*ret_flocked = r == 0;
	if (r == -EACCES) /* as some file systems put it */
		return -EWOULDBLOCK;
	return is_without_flock(path, r) ? 0 : r;
}

static int put_record(const struct filelock *lock, int fd)
{
	char record[MARKER_SIZE];
	int length = liveness_write_record(record, lock->options.two_line_marker);

	return length < 0 ? length : sys_write_start(fd, record, (size_t)length);
}

/* Makes a file, which is the draft's from then on, also for a fork beside us. */
static int make_file(const struct filelock *lock, struct draft *draft, const char *path, int flags)
{
	int fd;

	fork_hold_off();
	fd = sys_open(path, flags | O_RDWR | O_CLOEXEC, permissions(lock));
	if (fd >= 0)
		draft->fd = fd;
	fork_allow();
	return fd < 0 ? fd : 0;
}

/* Writes and locks the new file. */
static int fill_draft(const struct filelock *lock, struct draft *draft)
{
	struct stat st;
	bool flocked;
	int r = soft_publish_flock(lock->path, draft->fd, &flocked);

	/* somebody judges one that is in place already: its open descriptor must do */
	if (r == -EWOULDBLOCK)
		r = 0;
	if (r == 0)
		r = put_record(lock, draft->fd);
	if (r == 0)
		r = sys_fstat(draft->fd, &st);
	if (r < 0)
		return r;
	draft->written_at = sys.now();
	draft->identity = (struct identity){ st.st_dev, st.st_ino };
	return 0;
}

static bool is_without_tmpfile(int error)
{
	/* EISDIR: a kernel that does not know the flag (open(2)) */
	return error == -EOPNOTSUPP || error == -EISDIR || error == -EINVAL || error == -ENOSYS;
}

static int make_unnamed(const struct filelock *lock, struct draft *draft)
{
	char parent[PATH_MAX];
	int r;

	path_parent(lock->path, parent);
	r = make_file(lock, draft, parent, O_TMPFILE);
	if (r < 0)
		return r;
	r = fill_draft(lock, draft);
	if (r < 0)
		soft_publish_drop(draft);
	return r;
}

int soft_publish_prepare(const struct filelock *lock, struct draft *draft)
{
	if (draft->fd >= 0 || draft->way != PUBLISH_TMPFILE)
		return 0;
	return make_unnamed(lock, draft);
}

static bool is_without_links(int error)
{
	return error == -EPERM || error == -EOPNOTSUPP || error == -ENOSYS ||
	       error == -EMLINK || error == -EXDEV;
}

static int publish_unnamed(const struct filelock *lock, struct draft *draft)
{
	bool prepared = draft->fd >= 0;
	char link[SYS_FD_LINK];
	struct stat st;
	int r = soft_publish_prepare(lock, draft);

	if (is_without_tmpfile(r)) {
		draft->way = PUBLISH_NAME;
		return NEXT_WAY;
	}
	if (r < 0)
		return r;
	/* its age is how long the lock has been held */
	if (sys.now() - draft->written_at > FRESH)
		(void)sys.futimens(draft->fd, NULL);
	sys_fd_link(link, draft->fd);
	r = sys_link(link, lock->path, AT_SYMLINK_FOLLOW);
	if (r == 0 || r == -EEXIST)
		return r;
	soft_publish_drop(draft);
	if (r == -ENOENT && sys_lstat("/proc/thread-self/fd", &st) < 0)
		draft->way = PUBLISH_NAME;
	else if (r == -EXDEV && prepared)
		return NEXT_WAY; /* the directory is another one by now: the same way again */
	else if (is_without_links(r))
		draft->way = PUBLISH_IN_PLACE;
	else
		return r;
	return NEXT_WAY;
}

/* "DIRECTORY/.filelock-<32 hex>.tmp", owned by the caller; NULL and *ret_error. */
static char *private_name(const char *path, int *ret_error)
{
	unsigned char bytes[16];
	char parent[PATH_MAX], hex[33];
	char *name;

	errno = EIO; /* of a short read */
	if (sys.getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes)) {
		*ret_error = -errno;
		return NULL;
	}
	path_parent(path, parent);
	for (size_t i = 0; i < sizeof(bytes); i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
	name = sys_format("%s/.filelock-%s.tmp", parent, hex);
	*ret_error = name ? 0 : -ENOMEM;
	return name;
}

/* A network's server may have made the link that it refuses: the first answer got lost, and the
   call was sent again. link(2), under NFS. */
static int link_name(const struct filelock *lock, const struct draft *draft, const char *name)
{
	int r = sys_link(name, lock->path, 0);

	if (r == -EEXIST && path_check(lock->path, draft->identity.dev, draft->identity.ino) ==
	                            PATH_NAMES_OURS)
		return 0;
	return r;
}

static int fill_and_link(const struct filelock *lock, struct draft *draft, const char *name)
{
	int r = fill_draft(lock, draft);
	int removed;

	if (r == 0)
		r = link_name(lock, draft, name);
	removed = sys_unlink(name);
	if (removed < 0)
		log_write(FILELOCK_LOG_ERROR, "cannot remove %s: %s", name,
		          filelock_strerror(removed));
	return r;
}

static int publish_named(const struct filelock *lock, struct draft *draft)
{
	int r, made;
	char *name = private_name(lock->path, &r);

	if (!name)
		return r;
	made = make_file(lock, draft, name, O_CREAT | O_EXCL | SAFE_FLAGS);
	r = made < 0 ? made : fill_and_link(lock, draft, name);
	free(name);
	if (r == 0)
		return 0;
	soft_publish_drop(draft);
	if (made < 0 || !is_without_links(r))
		return r;
	draft->way = PUBLISH_IN_PLACE;
	return NEXT_WAY;
}

int soft_publish_disown(int fd)
{
	char record[MARKER_SIZE];
	int length = liveness_write_nobody(record);
	struct stat st;
	off_t size = sys_fstat(fd, &st) < 0 ? MARKER_SIZE : st.st_size;

	if (length < 0)
		return length;
	/* in one write, with nothing of the old one behind it */
	for (; length < size && length < MARKER_SIZE; length++)
		record[length] = '\n';
	return sys_write_start(fd, record, (size_t)length);
}

static int publish_in_place(const struct filelock *lock, struct draft *draft)
{
	struct stat st;
	int r = make_file(lock, draft, lock->path, O_CREAT | O_EXCL | SAFE_FLAGS);

	if (r < 0)
		return r;
	r = fill_draft(lock, draft);
	if (r == 0)
		return 0;
	if (sys_fstat(draft->fd, &st) < 0 ||
	    path_check(lock->path, st.st_dev, st.st_ino) != PATH_NAMES_OURS ||
	    sys_unlink(lock->path) < 0)
		(void)soft_publish_disown(draft->fd);
	soft_publish_drop(draft);
	return r;
}

static int publish_somehow(const struct filelock *lock, struct draft *draft)
{
	int r;

	do {
		if (draft->way == PUBLISH_IN_PLACE)
			r = publish_in_place(lock, draft);
		else if (draft->way == PUBLISH_NAME)
			r = publish_named(lock, draft);
		else
			r = publish_unnamed(lock, draft);
	} while (r == NEXT_WAY);
	return r;
}

int soft_publish(const struct filelock *lock, struct draft *draft)
{
	int r = publish_somehow(lock, draft);

	if (r != -ENOENT)
		return r;
	r = path_make_parents(lock->path);
	return r < 0 ? r : publish_somehow(lock, draft);
}

/* An empty file in the directory, and its name if it has one (owned by the caller). */
static int make_probe(const char *path, char **ret_name)
{
	char parent[PATH_MAX];
	int fd, r;

	path_parent(path, parent);
	fd = sys_open(parent, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	*ret_name = NULL;
	if (!is_without_tmpfile(fd))
		return fd;
	*ret_name = private_name(path, &r);
	return *ret_name ? sys_open(*ret_name, O_RDWR | O_CREAT | O_EXCL | SAFE_FLAGS, 0600)
	                 : r;
}

int soft_publish_probe_flock(const char *path, int *ret_result)
{
	char *name;
	int fd = make_probe(path, &name);

	if (fd >= 0) {
		*ret_result = sys_flock(fd, LOCK_EX | LOCK_NB);
		if (name)
			(void)sys_unlink(name);
		(void)sys_close(fd);
	}
	free(name);
	return fd < 0 ? fd : 0;
}
