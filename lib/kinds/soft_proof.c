#include "kinds/soft_proof.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "kinds/liveness.h"
#include "kinds/soft_record.h"
#include "base/path.h"
#include "base/sys.h"

/* All of a record, and a byte more. */
struct snapshot {
	ssize_t size;
	char bytes[MARKER_SIZE + 1];
};

static int read_marker_of(int fd, struct snapshot *ret)
{
	ret->size = sys_read_start(fd, ret->bytes, sizeof(ret->bytes));
	return ret->size < 0 ? (int)ret->size : 0;
}

static int read_marker_at(const char *path, struct snapshot *ret)
{
	int fd = sys_open(path, O_RDONLY | SAFE_FLAGS, 0);
	int r;

	if (fd < 0)
		return fd;
	r = read_marker_of(fd, ret);
	(void)sys_close(fd);
	return r;
}

static bool is_same(const struct snapshot *a, const struct snapshot *b)
{
	return a->size == b->size && memcmp(a->bytes, b->bytes, (size_t)a->size) == 0;
}

static bool is_ours(const struct snapshot *snapshot)
{
	struct marker marker;

	soft_record_parse(snapshot->bytes, (size_t)snapshot->size, &marker);
	return soft_record_has_owner(&marker) && liveness_is_ours(&marker);
}

bool soft_proof_is_ours(int fd)
{
	struct snapshot snapshot;

	return read_marker_of(fd, &snapshot) == 0 && is_ours(&snapshot);
}

/* Our flock, met by another description of the file at the name. */
static int look_through(int there, int fd, bool flocked)
{
	struct snapshot ours, theirs;
	struct stat a, b;
	int r = sys_fstat(there, &a);

	if (r == 0)
		r = sys_fstat(fd, &b);
	if (r < 0)
		return r;
	if (a.st_dev == b.st_dev && a.st_ino == b.st_ino) {
		if (!flocked)
			return PROOF_SHOWN;
		r = sys_flock(there, LOCK_SH | LOCK_NB);
		return r == -EWOULDBLOCK || r == -EACCES ? PROOF_SHOWN : PROOF_HIDDEN;
	}
	r = read_marker_of(fd, &ours);
	if (r == 0)
		r = read_marker_of(there, &theirs);
	if (r < 0)
		return r;
	return is_same(&ours, &theirs) ? PROOF_HIDDEN : PROOF_ELSEWHERE;
}

/* Written by us, and not to be read by us, as with umask 0777: by its number, where that tells. */
static int look_by_number(const char *path, int fd)
{
	struct statfs fs;
	struct stat st;
	int names;

	if (sys.statfs(path, &fs) < 0 || !sys_is_local(&fs) || sys_fstat(fd, &st) < 0)
		return PROOF_HIDDEN;
	names = path_check(path, st.st_dev, st.st_ino);
	if (names < 0)
		return names;
	return names == PATH_NAMES_OURS ? PROOF_SHOWN : PROOF_ELSEWHERE;
}

int soft_proof_look(const char *path, int fd, bool flocked)
{
	int there = sys_open(path, O_RDONLY | SAFE_FLAGS, 0);
	int r;

	if (there == -ENOENT || there == -ELOOP || there == -ENXIO)
		return PROOF_ELSEWHERE;
	if (there == -EACCES || there == -EPERM)
		return look_by_number(path, fd);
	if (there < 0)
		return there;
	r = look_through(there, fd, flocked);
	(void)sys_close(there);
	return r;
}

/* Our record grows by a newline, which is no part of it: does it there? */
static bool shows_there(const char *path, int fd, struct snapshot *before)
{
	struct snapshot there;

	if (before->size >= MARKER_SIZE || read_marker_at(path, &there) < 0 ||
	    !is_same(before, &there))
		return false;
	before->bytes[before->size++] = '\n';
	if (sys_write_start(fd, before->bytes, (size_t)before->size) < 0)
		return false;
	return read_marker_at(path, &there) == 0 && is_same(before, &there);
}

void soft_proof_withdraw(const char *path, int fd)
{
	struct snapshot ours;
	struct stat st;

	if (sys_fstat(fd, &st) == 0 && path_check(path, st.st_dev, st.st_ino) == PATH_NAMES_OURS &&
	    sys_unlink(path) == 0)
		return;
	/* what is not our record any more is not ours to change */
	if (read_marker_of(fd, &ours) < 0 || !is_ours(&ours))
		return;
	if (!shows_there(path, fd, &ours) || sys_unlink(path) < 0)
		(void)soft_proof_disown(fd);
}

int soft_proof_disown(int fd)
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
