/*
 * native_file.c - the lock file of a native lock: opened or made, looked at, locked.
 *
 * A flock(2) is on an inode, a lock is on a path. A successful flock is therefore followed by a look
 * whether the path still names that inode (by device and number: the link count does not show a
 * renamed file). If it does not, another process may hold the path's new file, and the flock is
 * worthless. The numbers alone are not enough everywhere: see look_again.
 *
 * flock(2) needs no right to write, so a file that may only be read serves both modes.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/sysmacros.h>

#include "fork.h"
#include "base/path.h"
#include "base/sys.h"
#include "kinds/native.h"
#include "kinds/soft_publish.h"

#define MOST_LOOKS 3
#define MOST_RACES 8 /* fewer than the machine makes at once, so that a single attempt ends */

void native_drop(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int fd = n->fd;
	int r;

	if (native_is_borrowed(lock) || fd < 0)
		return;
	fork_hold_off();
	n->fd = -1;
	n->warm = n->registered = false;
	r = sys_close(fd);
	fork_allow();
	if (r < 0)
		log_write(FILELOCK_LOG_ERROR, "cannot close %s: %s", lock->path,
		          filelock_strerror(r));
}

int native_call_it_a_race(struct filelock *lock, int error, const char *what, const char *why)
{
	struct native *n = native_state(lock);

	if (++n->races < MOST_RACES)
		return ATTEMPT_RACED;
	n->races = 0;
	return failure_set_detail(&lock->failure, error, what, why ? sys_strdup(why) : NULL);
}

bool native_is_gone(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ESTALE;
}

/* ENOENT although the parents were made: a race, or the error itself. */
static int judge_missing(struct filelock *lock)
{
	int r = path_check_parent(lock->path);
	struct stat st;

	if (r < 0)
		return handle_fail(lock, r, "cannot open the lock file");
	/* its name is there: a mount goes on showing for a while what was removed through another one */
	if (sys_lstat(lock->path, &st) == 0)
		return ATTEMPT_RACED;
	return native_call_it_a_race(lock, -ENOENT, "cannot open the lock file",
	                      "its folder is there, but takes no such file");
}

static bool is_refusal(int error)
{
	return error == -EACCES || error == -EPERM || error == -EROFS || error == -ETXTBSY;
}

/* What stands at the path, for reading if no more is allowed. *ret_refused: why no more is. */
static int open_standing(const char *path, int *ret_refused)
{
	int fd = sys_open(path, O_RDWR | SAFE_FLAGS, 0);

	if (!is_refusal(fd))
		return fd;
	*ret_refused = fd;
	return sys_open(path, O_RDONLY | SAFE_FLAGS, 0);
}

/* How the lock file is made. Not at all where flock(2) is not known to work: probe saw a file. */
static int making_flags(const struct native *n)
{
	if (n->alone)
		return O_CREAT | O_EXCL;
	return n->probed ? O_CREAT : 0;
}

/* The bits that the umask took are given to a file that is ours for certain, before it has its name,
   if that can be: whoever is killed in between would leave it without. */
static int open_or_make_exactly(const struct filelock *lock)
{
	int fd = sys_open(lock->path, O_RDWR | SAFE_FLAGS, 0);
	int r;

	if (fd != -ENOENT)
		return fd;
	r = soft_publish_empty(lock);
	if (r == 0 || r == -EEXIST)
		return sys_open(lock->path, O_RDWR | SAFE_FLAGS, 0);
	fd = sys_open(lock->path, O_RDWR | SAFE_FLAGS | O_CREAT | O_EXCL, lock->options.file_mode);
	if (fd >= 0)
		soft_publish_set_mode(lock, fd);
	return fd;
}

static int open_once(const struct filelock *lock)
{
	mode_t bits = lock->options.file_mode ? lock->options.file_mode : 0666;
	int make = making_flags(native_state(lock));
	int flags = O_RDWR | SAFE_FLAGS;

	if (make && lock->options.exact_mode && lock->options.file_mode)
		return open_or_make_exactly(lock);
	return sys_open(lock->path, flags | make, bits);
}

static int open_or_make(const struct filelock *lock)
{
	int fd = open_once(lock);
	int r;

	if (fd != -ENOENT)
		return fd;
	r = handle_make_parents(lock);
	return r < 0 ? r : open_once(lock);
}

/* The descriptor, or an error. */
static int open_lock_file(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int fd, standing;

	for (int i = 0; i < MOST_LOOKS; i++) {
		n->refused = 0;
		fd = open_or_make(lock);
		n->made = fd >= 0 && n->alone;
		if (!is_refusal(fd))
			break;
		/* fs.protected_regular: in a sticky directory O_CREAT of another user's file is
		   refused, opening it is not (proc_sys_fs(5)); and it may be removed meanwhile */
		standing = open_standing(lock->path, &n->refused);
		if (standing != -ENOENT)
			return standing;
	}
	return fd;
}

/* Looks at the file that was opened: 0, or why it cannot be used. */
static int take_file(struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct stat st;
	int r = sys_fstat(n->fd, &st);

	if (r == 0 && !S_ISREG(st.st_mode))
		r = FILELOCK_ENOTREGULAR;
	if (r < 0) {
		native_drop(lock);
		return native_is_gone(r) ? native_call_it_a_race(lock, r, "cannot use the lock file", NULL)
		                  : handle_fail(lock, r, "cannot use the lock file");
	}
	n->regular = true;
	n->seen = n->placed = false;
	n->ctime = st.st_ctim;
	n->identity = (struct identity){ st.st_dev, st.st_ino };
	return 0;
}

int native_open_file(struct filelock *lock)
{
	struct native *n = native_state(lock);
	unsigned forks = fork_count();
	int fd;

	fork_hold_off();
	fd = open_lock_file(lock);
	if (fd >= 0)
		n->fd = fd;
	fork_allow();
	if (fd == -ENOENT)
		return judge_missing(lock);
	if (fd == -EEXIST)
		return native_call_it_a_race(lock, fd, "cannot make the lock file", NULL);
	if (fd == -ENXIO) /* a socket: open(2) */
		fd = FILELOCK_ENOTREGULAR;
	if (fd == -EWOULDBLOCK) /* also: under a lease, which is being broken (open(2)) */
		return ATTEMPT_BUSY;
	if (fd < 0)
		return handle_fail(lock, fd, "cannot open the lock file");
	n->forks = forks;
	return take_file(lock);
}

static bool is_earlier(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/*
 * Whether the path names the file of the descriptor, by their times of change, where the numbers agree:
 * only the same file's time is not behind what was seen of it just before, by either of them. (rclone
 * gives a file that it removes a new time, which is later than its successor's.)
 */
static int compare_times(const struct filelock *lock, int fd, struct stat *own, struct stat *named)
{
	int r = 0;

	for (int i = 0; r == 0 && i < MOST_LOOKS; i++) {
		if (own->st_nlink == 0 || own->st_dev != named->st_dev || own->st_ino != named->st_ino ||
		    is_earlier(&own->st_ctim, &named->st_ctim))
			return PATH_NAMES_ANOTHER;
		if (native_is_same_time(&own->st_ctim, &named->st_ctim))
			break;
		/* changed since the path was looked at? */
		r = sys_lstat(lock->path, named);
		if (r == 0 && is_earlier(&named->st_ctim, &own->st_ctim))
			return PATH_NAMES_ANOTHER;
		if (r == 0)
			r = sys_fstat(fd, own);
	}
	return r < 0 ? r : PATH_NAMES_OURS;
}

/*
 * Another number, or another time of change, than the file had: its descriptor tells. An overlay
 * gives a file another number when it copies it up. Elsewhere a removed file's number goes to
 * its successor at once; but that has another time of change than the file that we have.
 */
static int look_again(const struct filelock *lock, struct stat *named)
{
	struct native *n = native_state(lock);
	int fd = n->wait ? helpers_fd(n->wait) : n->fd;
	struct stat own;
	int r = sys_fstat(fd, &own);

	n->suspect = r == 0 && own.st_nlink > 0 ? FILELOCK_EUNSTABLE : 0;
	if (r == 0)
		r = compare_times(lock, fd, &own, named);
	/* the helper has closed it, or does so now: the next look tells */
	if (n->wait && r == -EBADF)
		return PATH_NAMES_OURS;
	if (native_is_gone(r))
		return PATH_NAMES_ANOTHER;
	if (r != PATH_NAMES_OURS)
		return r;
	n->ctime = named->st_ctim;
	n->identity = (struct identity){ own.st_dev, own.st_ino };
	return PATH_NAMES_OURS;
}

static bool is_on(const struct filelock *lock, bool (*is_such)(const struct statfs *fs))
{
	char link[SYS_FD_LINK];
	struct statfs fs;

	if (native_is_borrowed(lock))
		sys_fd_link(link, native_state(lock)->fd);
	return sys.statfs(native_is_borrowed(lock) ? link : lock->path, &fs) == 0 && is_such(&fs);
}

static bool is_on_fuse(const struct filelock *lock)
{
	struct native *n = native_state(lock);

	/* no server's: it has a block device */
	if (major(n->identity.dev) != 0)
		return false;
	if (n->device != n->identity.dev)
		n->fuse = is_on(lock, sys_is_fuse);
	n->device = n->identity.dev;
	return n->fuse;
}

/*
 * Servers of FUSE may call a removed file and its successor alike, and tell the same times of both
 * (rclone). The kernel takes them for two files, and has a lock on each: its own handles differ.
 */
static int look_closely(const struct filelock *lock)
{
	int r;

	if (native_state(lock)->wait || !is_on_fuse(lock))
		return PATH_NAMES_OURS;
	r = sys_is_file_at(native_state(lock)->fd, lock->path);
	if (native_is_gone(r))
		return PATH_NAMES_ANOTHER;
	native_state(lock)->suspect = r == 0 ? FILELOCK_EUNSTABLE : 0;
	return r == 0 ? PATH_NAMES_ANOTHER : PATH_NAMES_OURS;
}

int native_check_path(const struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct stat named;
	int r;

	n->suspect = 0;
	if (native_is_borrowed(lock))
		return PATH_NAMES_OURS;
	r = sys_lstat(lock->path, &named);
	if (native_is_gone(r)) {
		n->suspect = r == -ESTALE ? r : 0;
		return PATH_NAMES_ANOTHER;
	}
	if (r < 0)
		return r;
	n->modified = named.st_mtim;
	if (identity_equal(n->identity, (struct identity){ named.st_dev, named.st_ino }) &&
	    native_is_same_time(&n->ctime, &named.st_ctim))
		return look_closely(lock);
	r = look_again(lock, &named);
	return r == PATH_NAMES_OURS ? look_closely(lock) : r;
}

/* Whether flock(2) does not work here; the handle's failure says how it was refused. */
static bool is_unsupported(struct filelock *lock, int error)
{
	char *number = NULL;

	if (!sys_is_unsupported(error))
		return false;
	if (strcmp(filelock_strerror(error), "unknown error") == 0)
		number = sys_format("errno %d", -error);
	(void)failure_set_detail(&lock->failure, error, "cannot flock", number);
	return true;
}

/* NFS makes a flock(2) a record lock of the server's, which excludes others only by a descriptor
   that may write: flock(2). */
static int fail_to_flock(struct filelock *lock, int error)
{
	struct native *n = native_state(lock);

	if (error != -EBADF || n->refused == 0)
		return handle_fail(lock, error, "cannot flock");
	return failure_set_detail(&lock->failure, n->refused, "cannot flock exclusively",
	                          sys_strdup("the file may only be read, and its file system "
	                                     "(as NFS) locks such a file only shared"));
}

int native_lock(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int r = sys_flock(n->fd, (mode == FILELOCK_SHARED ? LOCK_SH : LOCK_EX) | LOCK_NB);

	if (is_unsupported(lock, r)) {
		/* nobody else can have locked it: it would stand there as a marker */
		if (n->made)
			(void)sys_unlink(lock->path);
		return ATTEMPT_UNSUPPORTED;
	}
	n->probed = true;
	if (r == -EWOULDBLOCK || r == -EACCES) /* EACCES: as some file systems put it */
		return ATTEMPT_BUSY;
	if (native_is_gone(r))
		return native_call_it_a_race(lock, r, "cannot flock", NULL);
	return r < 0 ? fail_to_flock(lock, r) : ATTEMPT_HELD;
}

/*
 * Before we make a lock file: whether flock(2) will take it. Where it does not, the file would
 * stand there like the marker of a soft lock that somebody holds. Where only the lock file may be
 * made, by a policy that names it, flock(2) is tried on that one, and it is removed again.
 */
int native_probe(struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct stat st;
	int error = 0;
	int r;

	n->alone = false;
	if (n->probed)
		return 0;
	r = sys_lstat(lock->path, &st);
	if (r == 0)
		return 0;
	if (r != -ENOENT)
		return handle_fail(lock, r, "cannot look for the lock file");
	r = soft_publish_probe_flock(lock->path, &error);
	if (r == -ENOENT) {
		r = handle_make_parents(lock);
		if (r < 0)
			return handle_fail(lock, r, "cannot make the folder of");
		r = soft_publish_probe_flock(lock->path, &error);
		if (r == -ENOENT)
			return judge_missing(lock);
	}
	n->alone = r == -EACCES || r == -EPERM;
	if (n->alone)
		return 0;
	if (r < 0)
		return handle_fail(lock, r, "cannot make the lock file");
	if (is_unsupported(lock, error))
		return ATTEMPT_UNSUPPORTED;
	/* what nobody else can have, nobody refuses */
	if (error < 0)
		return handle_fail(lock, error, "cannot flock");
	n->probed = true;
	return 0;
}

bool native_is_on_local(const struct filelock *lock)
{
	struct native *n = native_state(lock);

	if (!n->placed)
		n->local = is_on(lock, sys_is_local);
	n->placed = true;
	return n->local;
}

bool native_is_on_nfs(const struct filelock *lock)
{
	return !native_is_on_local(lock) && is_on(lock, sys_is_nfs);
}
