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
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "kinds/liveness.h"
#include "kinds/soft_proof.h"
#include "base/path.h"
#include "fork.h"
#include "base/sys.h"

#define NEXT_WAY 1
#define SAME_WAY 2
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
	return sys_is_unsupported(error);
}

int soft_publish_flock(const char *path, int fd, bool *ret_flocked)
{
	int r = sys_flock(fd, LOCK_EX | LOCK_NB);

	*ret_flocked = r == 0;
	if (r == -EACCES) /* as some file systems put it */
		return -EWOULDBLOCK;
	return is_without_flock(path, r) ? 0 : r;
}

int soft_publish_record(const struct filelock *lock, int fd)
{
	char record[MARKER_SIZE];
	int length = liveness_write_record(record, lock->options.two_line_marker);

	return length < 0 ? length : sys_write_start(fd, record, (size_t)length);
}

static int write_draft(const struct filelock *lock, const struct draft *draft)
{
	char record[MARKER_SIZE];
	int length;

	if (!draft->write)
		return soft_publish_record(lock, draft->fd);
	length = draft->write(lock, record);
	return length < 0 ? length : sys_write_start(draft->fd, record, (size_t)length);
}

/* Opens a file, which is the draft's from then on, also for a fork beside us. */
static int open_draft(struct draft *draft, const char *path, int flags, mode_t mode)
{
	int fd;

	fork_hold_off();
	fd = sys_open(path, flags | O_RDWR | O_CLOEXEC, mode);
	if (fd >= 0)
		draft->fd = fd;
	fork_allow();
	return fd < 0 ? fd : 0;
}

static int make_file(const struct filelock *lock, struct draft *draft, const char *path, int flags)
{
	return open_draft(draft, path, flags, permissions(lock));
}

void soft_publish_set_mode(const struct filelock *lock, int fd)
{
	if (lock->options.exact_mode && lock->options.file_mode &&
	    sys.fchmod(fd, lock->options.file_mode) < 0)
		log_write(FILELOCK_LOG_WARNING, "cannot set the mode of %s: %s", lock->path,
		          filelock_strerror(-errno));
}

/* Writes and locks the new file. */
static int fill_draft(const struct filelock *lock, struct draft *draft)
{
	struct stat st;
	int r = soft_publish_flock(lock->path, draft->fd, &draft->flocked);

	soft_publish_set_mode(lock, draft->fd);
	/* somebody judges one that is in place already: for a moment its open descriptor must do */
	if (r == -EWOULDBLOCK)
		r = 0;
	if (r == 0)
		r = write_draft(lock, draft);
	if (r == 0)
		r = sys_fstat(draft->fd, &st);
	if (r < 0)
		return r;
	draft->written_at = sys.now();
	draft->identity = (struct identity){ st.st_dev, st.st_ino };
	return 0;
}

/* Short of something just now: the next way is for this time only. */
static bool is_passing(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -EIO || error == -ENOMEM ||
	       error == -ESTALE;
}

/* By a profile of what the program may do, as well as by the folder's permissions. */
static bool is_refused(int error)
{
	return error == -EACCES || error == -EPERM;
}

/* Whatever a file system, or a profile of what the program may do, says to a file without a name; the
   errors here are of the path, or of a shortage. */
static bool is_without_tmpfile(int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ELOOP:
	case -ENAMETOOLONG:
	case -EMFILE:
	case -ENFILE:
	case -ENOMEM:
	case -ENOSPC:
	case -EDQUOT:
		return false;
	default:
		return error < 0;
	}
}

/* NEXT_WAY: there is no file without a name here. */
static int make_unnamed(const struct filelock *lock, struct draft *draft)
{
	char parent[PATH_MAX];
	int r;

	path_parent(lock->path, parent);
	r = make_file(lock, draft, parent, O_TMPFILE);
	if (is_without_tmpfile(r)) {
		if (!is_passing(r))
			draft->way = PUBLISH_NAME;
		return NEXT_WAY;
	}
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
	return sys_is_unsupported(error) || error == -EPERM || error == -EMLINK ||
	       error == -EXDEV;
}

/* Why a link was refused may be any system's affair: what counts is what it has left. 0: our
   file, so the answer of an earlier try was lost (link(2), under NFS); -EEXIST: another one;
   NEXT_WAY: nothing; or an error. */
static int look_after_refusal(const struct filelock *lock, const struct draft *draft, int error)
{
	struct stat st;
	int r = sys_lstat(lock->path, &st);

	if (r == -ENOENT)
		return error == -ENOENT && path_check_parent(lock->path) < 0 ? error : NEXT_WAY;
	if (r < 0)
		return r;
	return st.st_dev == draft->identity.dev && st.st_ino == draft->identity.ino ? 0 : -EEXIST;
}

/* Which way comes first from now on, after a link was refused. */
static void learn_refusal(struct draft *draft, int error)
{
	if (is_without_links(error))
		draft->way = PUBLISH_IN_PLACE;
	else if (!is_passing(error))
		draft->way++;
}

static int publish_unnamed(const struct filelock *lock, struct draft *draft)
{
	bool prepared = draft->fd >= 0;
	char link[SYS_FD_LINK];
	int error, r = soft_publish_prepare(lock, draft);

	if (r != 0)
		return r;
	/* its age is how long the lock has been held */
	if (sys.now() - draft->written_at > FRESH)
		(void)sys.futimens(draft->fd, NULL);
	sys_fd_link(link, draft->fd);
	error = sys_link(link, lock->path, AT_SYMLINK_FOLLOW);
	if (error == 0 || error == -EEXIST)
		return error;
	r = look_after_refusal(lock, draft, error);
	if (r == 0)
		return 0;
	soft_publish_drop(draft);
	if (error == -EXDEV && prepared)
		return SAME_WAY; /* the directory is another one by now */
	if (r == NEXT_WAY)
		learn_refusal(draft, error);
	return r;
}

/* "DIRECTORY/.filelock-<32 hex>.tmp", owned by the caller; NULL and *ret_error. */
static char *private_name(const char *path, int *ret_error)
{
	unsigned char bytes[16];
	char parent[PATH_MAX], hex[33];
	char *name;

	*ret_error = sys_random(bytes, sizeof(bytes));
	if (*ret_error < 0)
		return NULL;
	path_parent(path, parent);
	sys_hex(bytes, sizeof(bytes), hex);
	name = sys_format("%s/.filelock-%s.tmp", parent, hex);
	*ret_error = name ? 0 : -ENOMEM;
	return name;
}

static int link_name(const struct filelock *lock, struct draft *draft, const char *name)
{
	int error = sys_link(name, lock->path, 0);
	int r;

	if (error == 0)
		return 0;
	r = look_after_refusal(lock, draft, error);
	if (r == NEXT_WAY && error == -EEXIST)
		return error; /* what stood there is gone by now: the way is right */
	if (r == NEXT_WAY)
		learn_refusal(draft, error);
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
	int r;
	char *name = private_name(lock->path, &r);

	if (!name)
		return r;
	r = make_file(lock, draft, name, O_CREAT | O_EXCL | SAFE_FLAGS);
	if (is_refused(r) || r == -ENAMETOOLONG)
		r = NEXT_WAY;
	else if (r == 0)
		r = fill_and_link(lock, draft, name);
	free(name);
	if (r != 0)
		soft_publish_drop(draft);
	return r;
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
		(void)soft_proof_disown(draft->fd);
	soft_publish_drop(draft);
	return r;
}

static int publish_by(enum publish_way way, const struct filelock *lock, struct draft *draft)
{
	switch (way) {
	case PUBLISH_TMPFILE:
		return publish_unnamed(lock, draft);
	case PUBLISH_NAME:
		return publish_named(lock, draft);
	default:
		return publish_in_place(lock, draft);
	}
}

static int publish_somehow(const struct filelock *lock, struct draft *draft)
{
	enum publish_way way = (enum publish_way)draft->way;
	int r = publish_by(way, lock, draft);

	while (r == NEXT_WAY || r == SAME_WAY) {
		if (r == NEXT_WAY)
			way++;
		if (way < draft->way)
			way = (enum publish_way)draft->way;
		r = publish_by(way, lock, draft);
	}
	return r;
}

static int publish_with_parents(const struct filelock *lock, struct draft *draft)
{
	int r = publish_somehow(lock, draft);

	if (r != -ENOENT)
		return r;
	r = handle_make_parents(lock);
	return r < 0 ? r : publish_somehow(lock, draft);
}

/* Whether others meet our flock there, found out once for a file system: an enum soft_proof or an
   error. */
static int look_once(const struct filelock *lock, struct draft *draft)
{
	int r;

	if (draft->shown && draft->shown_on == draft->identity.dev)
		return PROOF_SHOWN;
	if (!draft->flocked) /* it was judged just then */
		(void)soft_publish_flock(lock->path, draft->fd, &draft->flocked);
	r = soft_proof_look(lock->path, draft->fd, draft->flocked);
	draft->shown = r == PROOF_SHOWN;
	draft->shown_on = draft->identity.dev;
	return r;
}

/* Flocks a file of ours that is open under its name. While somebody judges it the open descriptor
   must do. */
static bool settle(const struct filelock *lock, struct draft *draft)
{
	struct stat st;
	int r;

	if (!soft_proof_is_ours(draft->fd) || sys_fstat(draft->fd, &st) < 0)
		return false;
	r = soft_publish_flock(lock->path, draft->fd, &draft->flocked);
	if (r < 0 && r != -EWOULDBLOCK)
		return false;
	draft->identity = (struct identity){ st.st_dev, st.st_ino };
	return true;
}

/*
 * Where a linked name is another inode to the kernel, the marker is complete there, but for our flock
 * and for being open: both come now, by a descriptor of that name. Until then its record alone
 * says that we live, as for all who judge on such a file system.
 */
static int adopt(const struct filelock *lock, struct draft *draft)
{
	struct draft linked = *draft;
	int r = open_draft(draft, lock->path, SAFE_FLAGS, 0);

	if (r < 0) {
		*draft = linked;
		/* EWOULDBLOCK: somebody judges it just now, with a lease (open(2)) */
		return r == -EWOULDBLOCK || r == -ENOENT ? PROOF_ELSEWHERE : PROOF_HIDDEN;
	}
	(void)sys_flock(linked.fd, LOCK_UN);
	r = settle(lock, draft) ? soft_proof_look(lock->path, draft->fd, draft->flocked)
	                        : PROOF_HIDDEN;
	if (r != PROOF_SHOWN) {
		soft_publish_drop(draft);
		*draft = linked;
		return r;
	}
	soft_publish_drop(&linked);
	return PROOF_SHOWN;
}

static void warn_hidden(const struct filelock *lock, struct draft *draft)
{
	if (!draft->warned)
		log_write(FILELOCK_LOG_WARNING,
		          "locks do not show at %s: only the record in it tells who holds it",
		          lock->path);
	draft->warned = true;
}

int soft_publish(const struct filelock *lock, struct draft *draft)
{
	int r = publish_with_parents(lock, draft);

	if (r < 0)
		return r;
	r = look_once(lock, draft);
	if (r == PROOF_HIDDEN && draft->way != PUBLISH_IN_PLACE)
		r = adopt(lock, draft);
	if (r == PROOF_HIDDEN && draft->way == PUBLISH_IN_PLACE)
		warn_hidden(lock, draft);
	if (r == PROOF_SHOWN || (r == PROOF_HIDDEN && draft->way == PUBLISH_IN_PLACE))
		return 0;
	soft_proof_withdraw(lock->path, draft->fd);
	soft_publish_drop(draft);
	if (r != PROOF_HIDDEN)
		return r < 0 ? r : -EEXIST;
	draft->way = PUBLISH_IN_PLACE;
	return soft_publish(lock, draft);
}

int soft_publish_empty(const struct filelock *lock)
{
	char parent[PATH_MAX], link[SYS_FD_LINK];
	int fd, r;

	path_parent(lock->path, parent);
	fd = sys_open(parent, O_TMPFILE | O_RDWR | O_CLOEXEC, permissions(lock));
	if (fd < 0)
		return fd;
	soft_publish_set_mode(lock, fd);
	sys_fd_link(link, fd);
	r = sys_link(link, lock->path, AT_SYMLINK_FOLLOW);
	(void)sys_close(fd);
	return r;
}

/* An empty file in the directory, and its name if it has one (owned by the caller). */
int soft_publish_make_probe(const char *path, char **ret_name)
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
	int fd = soft_publish_make_probe(path, &name);

	if (fd >= 0) {
		*ret_result = sys_flock(fd, LOCK_EX | LOCK_NB);
		if (name)
			(void)sys_unlink(name);
		(void)sys_close(fd);
	}
	free(name);
	return fd < 0 ? fd : 0;
}
