/*
 * native.c - flock(2) on the lock file.
 *
 * One descriptor serves an acquisition from its first attempt, and then the hold. It stays open
 * between attempts: closing it raises an event at every other waiter, so two waiters that closed
 * and opened again would wake each other for ever.
 *
 * A flock(2) is on an inode, a lock is on a path. A successful flock is therefore followed by a look
 * whether the path still names that inode (by device and number: the link count does not show a
 * renamed file). If it does not, another process may hold the path's new file, and the flock is
 * worthless. The numbers alone are not enough everywhere: see look_again.
 *
 * flock(2) needs no right to write, so a file that may only be read serves both modes.
 *
 * In a crowd a helper waits in flock(2), in the kernel's own queue, and has the descriptor meanwhile. A
 * caller's descriptor is not given away: the helper has a description of its own of that file, and
 * what it wins is unlocked and tried for again at once on the caller's. Nobody else is awake yet
 * then. Meanwhile only the replacement of the file is watched for. This is not done on file systems
 * that are not this kernel's: on FUSE a blocked flock keeps even an exiting process until the
 * server answers, and NFS asks its server from time to time, as we do.
 *
 * A release unlocks before it closes: on a plain close the event can reach a waiter before the lock
 * is dropped.
 *
 * Warm. With the option keep_open the descriptor stays open after the release, and no close raises
 * an event. Whoever watches is therefore registered (sys_register_waiter), on the description that it
 * tries with, so that the kernel forgets a dead one. It registers, and tries then; the releaser
 * unlocks, and asks then whether anybody is registered. So one of them sees the other. The releaser
 * raises the event by opening and closing the file once more; if that fails, it closes the
 * descriptor after all. A caller's descriptor may have record locks of its own, so a waiter on one
 * opens the file once more to register. Nobody registers where record locks may be another machine's or
 * another program's: there nothing is kept.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "handle.h"
#include "kinds/holder.h"
#include "kinds/refresh.h"
#include "base/path.h"
#include "kinds/soft_publish.h"
#include "fork.h"
#include "helpers.h"
#include "base/sys.h"
#include "inotify.h"

#define REPLACED (IN_ATTRIB | IN_MOVE_SELF)
#define WATCHED (IN_CLOSE_WRITE | IN_CLOSE_NOWRITE | REPLACED)

#define SECOND INT64_C(1000000000)
#define MOST_LOOKS 3
#define MOST_RACES 8 /* fewer than the machine makes at once, so that a single attempt ends */
#define CLOCK_TICK 20000000 /* ns, with room to spare: 10 ms at the slowest */

struct native {
	int fd; /* of the hold or of the waiter; -1: none */
	bool regular;
	bool probed; /* flock(2) is known to work here */
	bool alone;  /* it has to be found out on the lock file itself */
	bool made;   /* the lock file was, for that */
	int suspect; /* an error, if the path named another file and ours was not removed */
	unsigned char races; /* in a row that were not known to be any */
	bool asked;  /* whether others have record locks on the file */
	int refused; /* why the lock file was opened for reading only; 0: it was not */
	bool warm;       /* fd is kept for the next acquisition */
	bool registered; /* among those that wait: `post`, if there is one, else fd */
	int post;        /* for that, where fd is the caller's; -1: none */
	bool placed;     /* whether the file system is this machine's own is known ... */
	bool local;      /* ... and it is */
	unsigned forks; /* fork_count() when it was opened */
	bool seen; /* the path named the file, whose status has been `changed` since then ... */
	struct timespec changed; /* ... unless it has another time of change now */
	struct timespec ctime; /* when it was last looked at */
	struct timespec modified; /* by the last look at the path */
	struct identity identity;
	struct subscription subscription;
	struct blocked *wait; /* in the kernel's queue, with the descriptor; NULL: none */
	struct notice notice; /* of it */
	bool refuses;         /* the file cannot be waited for so */
};

static bool is_borrowed(const struct filelock *lock)
{
	return lock->borrowed >= 0;
}

static struct native *native_state(const struct filelock *lock)
{
	return kind_state(lock);
}

static int native_open(struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct stat st;
	int r;

	if (lock->options.lifetime_ms)
		return FILELOCK_ENOLIFETIME;
	n->fd = lock->borrowed;
	n->post = -1;
	if (!is_borrowed(lock))
		return 0;
	r = sys_fstat(n->fd, &st);
	if (r < 0)
		return r;
	/* eventfd(2), timerfd_create(2), epoll_create(2), …: one inode serves them all */
	if ((st.st_mode & S_IFMT) == 0)
		return failure_set_detail(&lock->failure, -EINVAL, "cannot open",
		                          sys_strdup("its anonymous inode is shared by the "
		                                     "whole machine"));
	n->regular = S_ISREG(st.st_mode);
	n->refuses = !n->regular && !S_ISDIR(st.st_mode);
	n->identity = (struct identity){ st.st_dev, st.st_ino };
	return 0;
}

/* is_dead: no path names its file any more. */
static void cancel_wait(struct native *n, bool is_dead)
{
	if (!n->wait)
		return;
	fork_hold_off();
	helpers_cancel(n->wait, is_dead);
	n->wait = NULL;
	fork_allow();
	inotify_close_notice(&n->notice);
}

static void close_post(struct native *n)
{
	int fd = n->post;

	fork_hold_off();
	n->post = -1;
	(void)sys_close(fd);
	fork_allow();
}

static void unregister_waiter(struct native *n)
{
	if (n->post >= 0)
		close_post(n);
	else if (n->registered)
		/* a releaser that finds it all the same raises an event in vain */
		(void)sys_unregister_waiter(n->fd);
	n->registered = false;
}

static void native_unwatch(struct filelock *lock)
{
	struct native *n = native_state(lock);

	cancel_wait(n, false);
	inotify_unsubscribe(&n->subscription);
	unregister_waiter(n);
}

/* Closes the descriptor, if it is ours, with whatever lock is on it. */
static void native_drop(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int fd = n->fd;
	int r;

	if (is_borrowed(lock) || fd < 0)
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

static void native_abandon(struct filelock *lock)
{
	struct native *n = native_state(lock);

	cancel_wait(n, false);
	inotify_unsubscribe(&n->subscription);
	if (is_borrowed(lock))
		unregister_waiter(n);
	native_drop(lock);
}

/* Says that the file changed under us, but not for ever: what is no race goes on. */
static int call_it_a_race(struct filelock *lock, int error, const char *what, const char *why)
{
	struct native *n = native_state(lock);

	if (++n->races < MOST_RACES)
		return ATTEMPT_RACED;
	n->races = 0;
	return failure_set_detail(&lock->failure, error, what, why ? sys_strdup(why) : NULL);
}

/* Whether a call on our own descriptor, or on the path, says that the file was removed. */
static bool is_gone(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ESTALE;
}

/* ENOENT although the parents were made: a race, or the error itself. */
static int judge_missing(struct filelock *lock)
{
	int r = path_check_parent(lock->path);

	if (r < 0)
		return handle_fail(lock, r, "cannot open the lock file");
	return call_it_a_race(lock, -ENOENT, "cannot open the lock file",
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
		return is_gone(r) ? call_it_a_race(lock, r, "cannot use the lock file", NULL)
		                  : handle_fail(lock, r, "cannot use the lock file");
	}
	n->regular = true;
	n->seen = n->placed = false;
	n->ctime = st.st_ctim;
	n->identity = (struct identity){ st.st_dev, st.st_ino };
	return 0;
}

static int open_descriptor(struct filelock *lock)
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
		return call_it_a_race(lock, fd, "cannot make the lock file", NULL);
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

static bool is_same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/*
 * Another number, or another time of change, than the file had: its descriptor tells. An overlay
 * gives a file another number when it copies it up. Elsewhere a removed file's number goes to
 * its successor at once; but that has changed later than the file that we have.
 */
static int look_again(struct native *n, const struct stat *named)
{
	struct stat own;
	/* if a helper closes it now, we err, and the next look tells */
	int r = sys_fstat(n->wait ? helpers_fd(n->wait) : n->fd, &own);

	if (is_gone(r))
		return PATH_NAMES_ANOTHER;
	if (r < 0)
		return r;
	n->suspect = own.st_nlink > 0 ? FILELOCK_EUNSTABLE : 0;
	if (own.st_nlink == 0 || own.st_dev != named->st_dev || own.st_ino != named->st_ino ||
	    is_earlier(&own.st_ctim, &named->st_ctim))
		return PATH_NAMES_ANOTHER;
	n->ctime = named->st_ctim;
	n->identity = (struct identity){ own.st_dev, own.st_ino };
	return PATH_NAMES_OURS;
}

/* An enum path_names, or an error. */
static int native_check_path(const struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct stat named;
	int r;

	n->suspect = 0;
	if (is_borrowed(lock))
		return PATH_NAMES_OURS;
	r = sys_lstat(lock->path, &named);
	if (is_gone(r)) {
		n->suspect = r == -ESTALE ? r : 0;
		return PATH_NAMES_ANOTHER;
	}
	if (r < 0)
		return r;
	n->modified = named.st_mtim;
	if (identity_equal(n->identity, (struct identity){ named.st_dev, named.st_ino }) &&
	    is_same_time(&n->ctime, &named.st_ctim))
		return PATH_NAMES_OURS;
	return look_again(n, &named);
}

/* Whether flock(2) does not work here; the handle's failure says how it was refused. */
static bool is_unsupported(struct filelock *lock, int error)
{
	char *number = NULL;

	if (!sys_is_flock_missing(error))
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

/* As enum attempt, or an error. */
static int lock_descriptor(struct filelock *lock, enum filelock_mode mode)
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
	if (is_gone(r))
		return call_it_a_race(lock, r, "cannot flock", NULL);
	return r < 0 ? fail_to_flock(lock, r) : ATTEMPT_HELD;
}

/*
 * Before we make a lock file: whether flock(2) will take it. Where it does not, the file would
 * stand there like the marker of a soft lock that somebody holds. Where only the lock file may be
 * made, by a policy that names it, flock(2) is tried on that one, and it is removed again.
 */
static int probe(struct filelock *lock)
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

/* Whether record locks of the file are this kernel's own affair. */
static bool is_on_local(const struct filelock *lock)
{
	struct native *n = native_state(lock);
	char link[SYS_FD_LINK];
	struct statfs fs;

	if (n->placed)
		return n->local;
	sys_fd_link(link, n->fd);
	n->local = sys.statfs(is_borrowed(lock) ? link : lock->path, &fs) == 0 &&
	           sys_is_local(&fs);
	n->placed = true;
	return n->local;
}

/*
 * Java, OCaml, LevelDB and others lock by fcntl(2), which flock(2) does not exclude. Nobody can mend
 * that here, but whoever reads the log learns of it: once a handle, since it costs a call. (Not of
 * a file system that makes flock(2) a record lock: it would be our own.)
 */
static void warn_of_records(struct filelock *lock)
{
	struct native *n = native_state(lock);
	pid_t pid;

	if (n->asked || !log_wants(FILELOCK_LOG_WARNING))
		return;
	n->asked = true;
	if (!sys_has_record(n->fd, &pid) || !is_on_local(lock))
		return;
	if (pid > 0)
		log_write(FILELOCK_LOG_WARNING,
		          "%s: pid %ld has a record lock (fcntl(2)) on it, which does not exclude "
		          "this lock", lock->path, (long)pid);
	else
		log_write(FILELOCK_LOG_WARNING,
		          "%s: another program has a record lock (fcntl(2)) on it, which does not "
		          "exclude this lock", lock->path);
}

/* The helper has won. What it won on a description of its own goes to the caller's. */
static int take_turn(struct filelock *lock, enum filelock_mode mode, int fd)
{
	int r;

	if (!is_borrowed(lock)) {
		native_state(lock)->fd = fd;
		return ATTEMPT_HELD;
	}
	(void)sys_flock(fd, LOCK_UN);
	r = lock_descriptor(lock, mode);
	(void)sys_close(fd);
	return r;
}

/* What has become of the wait; ABSENT: nothing, and an attempt is to be made as ever. */
static int take_wait(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int result = ATTEMPT_ABSENT;
	int fd, r;

	fork_hold_off();
	r = helpers_take(n->wait, &fd);
	if (r != -EINPROGRESS)
		n->wait = NULL;
	if (r == 0)
		result = take_turn(lock, mode, fd);
	fork_allow();
	if (r == -EINPROGRESS)
		return ATTEMPT_PENDING;
	n->refuses |= r < 0 && r != -EAGAIN;
	inotify_close_notice(&n->notice);
	inotify_unsubscribe(&n->subscription); /* what comes next is watched for more than that */
	return result;
}

static int prepare(struct filelock *lock)
{
	int r = probe(lock);

	return r == 0 ? open_descriptor(lock) : r;
}

static int native_try(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int r = n->wait ? take_wait(lock, mode) : ATTEMPT_ABSENT;
	int names = PATH_NAMES_OURS;
	bool fresh;
	int opened;

	/* a child may have the description, and would keep a lock on it */
	if (n->warm && n->forks != fork_count())
		native_drop(lock);
	n->warm = false;
	fresh = r == ATTEMPT_ABSENT && n->fd < 0;
	opened = fresh ? prepare(lock) : 0;
	if (opened != 0)
		return opened;
	if (r == ATTEMPT_ABSENT)
		r = lock_descriptor(lock, mode);
	/* a waiter's file may have been replaced, and its successor be free */
	if (r == ATTEMPT_HELD || r == ATTEMPT_PENDING || (r == ATTEMPT_BUSY && !fresh))
		names = native_check_path(lock);
	if (r >= 0 && r != ATTEMPT_RACED && r != ATTEMPT_UNSUPPORTED &&
	    names == PATH_NAMES_OURS) {
		n->races = r == ATTEMPT_HELD || !fresh ? 0 : n->races;
		if (r == ATTEMPT_HELD)
			warn_of_records(lock);
		return r;
	}
	cancel_wait(n, names == PATH_NAMES_ANOTHER);
	native_abandon(lock);
	if (names == PATH_NAMES_ANOTHER)
		return n->suspect ? call_it_a_race(lock, n->suspect, "cannot keep a lock on", NULL)
		                  : ATTEMPT_RACED;
	return names < 0 ? handle_fail(lock, names, "cannot check the lock file") : r;
}

/* Another description of the file. */
static int open_again(const struct native *n)
{
	char link[SYS_FD_LINK];

	sys_fd_link(link, n->fd);
	return sys_open(link, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0);
}

static int open_post(struct native *n)
{
	int fd;

	fork_hold_off();
	fd = open_again(n);
	n->post = fd >= 0 ? fd : -1;
	fork_allow();
	return fd;
}

/* Whether it is new. Without it a warm release raises no event, and the poll finds that: where
   somebody has a record lock on the whole file. */
static bool register_waiter(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int fd = n->fd;
	int r;

	if (n->registered || !is_on_local(lock))
		return false;
	/* once a wait: its close raises an event, too */
	if (is_borrowed(lock))
		fd = n->post >= 0 ? n->post : open_post(n);
	r = fd < 0 ? fd : sys_register_waiter(fd);
	n->registered = r == 0;
	if (r < 0)
		log_write(FILELOCK_LOG_DEBUG, "cannot register among the waiters of %s: %s",
		          lock->path, filelock_strerror(r));
	return n->registered;
}

/* If that is not the file that is waited for, the look that follows tells. */
static int watch_replaced(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	int r;

	if (is_borrowed(lock) || inotify_is_subscribed(&n->subscription))
		return 0;
	r = inotify_subscribe(watcher, &n->subscription, lock, lock->path,
	                      REPLACED | IN_DONT_FOLLOW, NULL);
	return r < 0 ? r : 1;
}

static int subscribe(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	char link[SYS_FD_LINK];
	int r;

	/* by descriptor: the inode that we shall try, whatever the path names by now */
	sys_fd_link(link, n->fd);
	r = inotify_subscribe(watcher, &n->subscription, lock, link, WATCHED, NULL);
	if (r == -ENOENT && !is_borrowed(lock)) /* no /proc */
		r = inotify_subscribe(watcher, &n->subscription, lock, lock->path,
		                      WATCHED | IN_DONT_FOLLOW, NULL);
	return r;
}

static int native_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	int r;

	if (n->wait)
		return watch_replaced(lock, watcher);
	if (inotify_is_subscribed(&n->subscription))
		return register_waiter(lock);
	if (n->fd < 0 || !n->regular)
		return -ENOTSUP;
	r = subscribe(lock, watcher);
	if (r < 0)
		return r;
	(void)register_waiter(lock);
	return 1;
}

/* Gives a descriptor to a helper. Under the gate of forks. */
static int submit_wait(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	int fd = is_borrowed(lock) ? open_again(n) : n->fd;
	int r;

	r = fd < 0 ? fd : helpers_submit(fd, n->identity, mode, inotify_give_notice, &n->notice,
	                                 &n->wait);
	if (is_borrowed(lock) && r < 0 && fd >= 0)
		(void)sys_close(fd);
	if (!is_borrowed(lock) && r == 0)
		n->fd = -1;
	return r;
}

/* In the place of a wait that was cancelled, if there is one. */
static int begin_wait(struct filelock *lock, enum filelock_mode mode)
{
	struct native *n = native_state(lock);
	bool adopted;
	int r = 0;

	unregister_waiter(n); /* who is blocked needs no event */
	fork_hold_off();
	adopted = helpers_adopt(n->identity, mode, inotify_give_notice, &n->notice, &n->wait);
	if (!adopted)
		r = submit_wait(lock, mode);
	fork_allow();
	if (adopted) {
		native_drop(lock);
		n->forks = fork_count() - 1; /* it is not known when that one was opened */
	}
	return r;
}

static int native_block(struct filelock *lock, enum filelock_mode mode,
                        struct filelock_watcher *watcher)
{
	struct native *n = native_state(lock);
	int r;

	if (n->fd < 0 || n->wait || n->refuses || !helpers_are_allowed() || !is_on_local(lock))
		return -ENOTSUP;
	r = inotify_open_notice(watcher, &n->notice, lock);
	if (r < 0)
		return r;
	r = begin_wait(lock, mode);
	if (r < 0) {
		inotify_close_notice(&n->notice);
		return r;
	}
	if (inotify_is_subscribed(&n->subscription)) {
		/* the kernel's watch has to go, or each release would wake us */
		inotify_unsubscribe(&n->subscription);
		filelock_watcher_tidy(watcher);
	}
	return 0;
}

/* Raises the event that waiters watch for where no close of ours will: on a descriptor that stays
   open, here or in a forked child. */
static int native_notify(const struct native *n)
{
	int fd;

	if (!n->regular)
		return 0;
	fd = open_again(n);
	if (fd < 0)
		return fd;
	(void)sys_close(fd);
	return 0;
}

/* Only to save the next acquisition its calls: never where waiters might not learn of a release. */
static bool may_stay_open(const struct filelock *lock)
{
	return (lock->options.keep_open || lock->keeps) && !lock->closed && !is_borrowed(lock) &&
	       native_state(lock)->forks == fork_count() && is_on_local(lock);
}

/* Unlocked: keeps the descriptor, and wakes those that wait. False: its close is to wake them. */
static bool stay_open(struct filelock *lock)
{
	struct native *n = native_state(lock);
	int waiters = sys_has_waiter(n->fd);

	n->warm = waiters == 0 || (waiters > 0 && native_notify(n) == 0);
	return n->warm;
}

/* Other shared holders of a removed file would not keep out who locks its successor: only the
   last one removes it. A conversion that fails may drop our lock (flock(2)), which is to go. */
static bool may_remove(const struct filelock *lock)
{
	if (!lock->options.unlink_on_release)
		return false;
	if (lock->mode == FILELOCK_SHARED &&
	    sys_flock(native_state(lock)->fd, LOCK_EX | LOCK_NB) < 0)
		return false;
	return native_check_path(lock) == PATH_NAMES_OURS;
}

/* Undoes what may_remove did, for a hold that goes on. */
static int keep_holding(struct filelock *lock, int error)
{
	if (lock->mode == FILELOCK_SHARED)
		(void)sys_flock(native_state(lock)->fd, LOCK_SH | LOCK_NB);
	return handle_fail(lock, error, "cannot remove the lock file");
}

static int native_release(struct filelock *lock)
{
	struct native *n = native_state(lock);
	bool removed = may_remove(lock);
	int r = removed ? sys_unlink(lock->path) : 0;

	if (r < 0)
		return keep_holding(lock, r);
	r = sys_flock(n->fd, LOCK_UN);
	/* once the file is gone there is no holding on: closing unlocks, too */
	if (r < 0 && !removed && !is_gone(r))
		return handle_fail(lock, r, "cannot unlock");
	if (r == 0 && !removed && may_stay_open(lock) && stay_open(lock))
		return 0;
	/* only a hint: an error does not matter */
	if (is_borrowed(lock) || n->forks != fork_count())
		(void)native_notify(n);
	native_drop(lock);
	return 0;
}

/*
 * Unlinking, replacing and renaming a file changes its status (inode(7)), so as long as its time of
 * change is the same, the path names it as when that was last seen. (But for a folder that
 * is renamed: the next hold that is taken from the system finds that.) A change soon after another
 * may get the same time, from a clock that ticks every few milliseconds; and not every file system
 * keeps such times as that one has it: those of this machine's own disks do.
 */
static bool native_is_intact(struct filelock *lock)
{
	struct native *n = native_state(lock);
	struct statfs fs;
	struct stat st;

	if (sys_fstat(n->fd, &st) < 0 || st.st_nlink == 0)
		return false;
	if (n->seen && is_same_time(&st.st_ctim, &n->changed))
		return true;
	n->changed = st.st_ctim;
	n->seen = sys.statfs(lock->path, &fs) == 0 && sys_is_local(&fs) &&
	          sys.date() - (st.st_ctim.tv_sec * SECOND + st.st_ctim.tv_nsec) > CLOCK_TICK;
	return native_check_path(lock) == PATH_NAMES_OURS;
}

static void native_learn(struct filelock *lock, const struct filelock *other)
{
	native_state(lock)->probed |= native_state(other)->probed;
}

/* No fork needs to wait: a child in which both have it closes it twice, and opens nothing between. */
static void native_hand_over(struct filelock *from, struct filelock *to)
{
	struct native *f = native_state(from);
	struct native *t = native_state(to);

	t->fd = f->fd;
	atomic_thread_fence(memory_order_release);
	if (!is_borrowed(from))
		f->fd = -1;
	t->regular = f->regular;
	t->probed = f->probed;
	t->forks = f->forks;
	t->refused = f->refused;
	t->ctime = f->ctime;
	t->identity = f->identity;
	t->seen = f->seen;
	t->changed = f->changed;
	t->placed = f->placed;
	t->local = f->local;
}

static int64_t native_held(struct filelock *keeper, int64_t now)
{
	return refresh_held(keeper, now, REFRESH_FILE);
}

static bool native_is_warm(const struct filelock *lock)
{
	return native_state(lock)->warm;
}

static bool native_lend(struct filelock *from, struct filelock *to)
{
	const struct native *t = native_state(to);

	if (!native_is_warm(from) || is_borrowed(to) || t->fd >= 0 || t->wait)
		return false;
	native_hand_over(from, to);
	native_state(from)->warm = false;
	native_state(to)->warm = true;
	return true;
}

static bool is_on_nfs(const struct filelock *lock)
{
	char link[SYS_FD_LINK];
	struct statfs fs;

	if (is_on_local(lock))
		return false;
	sys_fd_link(link, native_state(lock)->fd);
	return sys.statfs(is_borrowed(lock) ? link : lock->path, &fs) == 0 && sys_is_nfs(&fs);
}

/* A server of NFS that has not heard of this machine for longer than its lease has forgotten the lock,
   and nothing at the path tells. Asked for the lock again it says whether another one has it. */
static bool is_forgotten(const struct filelock *lock)
{
	int mode = lock->mode == FILELOCK_SHARED ? LOCK_SH : LOCK_EX;

	return is_on_nfs(lock) && sys_flock(native_state(lock)->fd, mode | LOCK_NB) == -EWOULDBLOCK;
}

static int native_verify(const struct filelock *lock)
{
	int names = native_check_path(lock);

	if (names == PATH_NAMES_OURS && is_forgotten(lock))
		return FILELOCK_ELOST;
	if (names == PATH_NAMES_OURS && !is_borrowed(lock) &&
	    refresh_is_due(&native_state(lock)->modified, REFRESH_FILE))
		refresh_times(lock);
	if (names != PATH_NAMES_ANOTHER)
		return names;
	return native_state(lock)->suspect == -ESTALE ? -ESTALE : FILELOCK_ELOST;
}

typedef int native_question(int fd, struct filelock_owner *ret_owner);

static int native_ask(const struct filelock *lock, native_question *question,
                      struct filelock_owner *ret_owner)
{
	const struct native *n = native_state(lock);

	/* the path may name another file than the one that was kept */
	return n->fd >= 0 && !n->warm ? question(n->fd, ret_owner)
	                              : holder_at_path(lock->path, question, ret_owner);
}

static int native_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	return native_ask(lock, holder_of_flock, ret_owner);
}

static int native_bystander(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	return native_ask(lock, holder_of_any_record, ret_owner);
}

static int native_fd(const struct filelock *lock)
{
	return native_state(lock)->fd;
}

static struct identity native_identity(const struct filelock *lock)
{
	return native_state(lock)->identity;
}

static void native_forget(struct filelock *lock)
{
	struct native *n = native_state(lock);

	inotify_forget(&n->subscription);
	inotify_forget_notice(&n->notice);
	/* and the wait has lost its descriptor, or is about to: helpers.c */
	if (n->post >= 0)
		(void)sys_close(n->post);
	n->post = -1;
	n->warm = n->registered = false;
	if (is_borrowed(lock) || n->fd < 0)
		return;
	(void)sys_close(n->fd);
	n->fd = -1;
}

const struct kind kind_native = {
	.id = FILELOCK_NATIVE,
	.name = "native",
	.state_size = sizeof(struct native),
	.fallback = &kind_soft,
	.open = native_open,
	.try = native_try,
	.block = native_block,
	.watch = native_watch,
	.unwatch = native_unwatch,
	.abandon = native_abandon,
	.drop = native_drop,
	.is_warm = native_is_warm,
	.lend = native_lend,
	.release = native_release,
	.hand_over = native_hand_over,
	.is_intact = native_is_intact,
	.learn = native_learn,
	.held = native_held,
	.held_after = refresh_after,
	.verify = native_verify,
	.holder = native_holder,
	.bystander = native_bystander,
	.fd = native_fd,
	.identity = native_identity,
	.forget = native_forget,
};
