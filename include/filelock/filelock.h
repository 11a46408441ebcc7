/*
 * filelock.h - file locks between processes, and between handles of one process.
 *
 * A handle (struct filelock) is one owner of one lock. Two handles on one path exclude each
 * other, in two processes as within one process or one thread. The locks are advisory: they bind
 * those who take them, and nobody else.
 *
 *	struct filelock *lock;
 *	int r = filelock_open("/run/app/state.lock", FILELOCK_NATIVE, NULL, &lock);
 *	if (r == 0) {
 *		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5000);
 *		if (r == 0) {
 *			...
 *			filelock_release(lock);
 *		}
 *		filelock_close(lock);
 *	}
 *
 * Results. Every call returns 0 or a negative error: the negative errno where one says it
 * exactly, else a code of enum filelock_error (below -4095). What a call returns through a
 * ret_ pointer is untouched when it fails. The errors that any call may give:
 *   -EINVAL          an argument is out of its range
 *   -ENOMEM          out of memory; nothing has changed
 *   FILELOCK_EFORKED the handle held the lock, or waited for it, when the process forked (see "Fork")
 *
 * Threads. Different handles may be used from different threads at once, freely. One handle
 * may be used from one thread at a time; it need not always be the same thread. Only
 * filelock_interrupt may be called on a handle that another thread is using.
 *
 * Signals. Only filelock_interrupt may be called from a signal handler. A signal never ends a
 * wait by itself.
 *
 * Fork. A lock belongs to the process that took it. In a child made by fork(2) a handle that held the
 * lock, or waited for it, is dead: each call on it but filelock_close gives FILELOCK_EFORKED, and
 * nothing that the child does, nor its exit, touches the parent's lock. Any other handle works in the
 * child, as a handle of its own: open before daemon(3), acquire after it. (flock(2): a lock belongs to
 * the open file description, which fork shares; so the child drops its descriptors, at the fork, by
 * pthread_atfork(3). A process made by a bare clone(2) or vfork(2) runs no such handler and
 * must do nothing but exec or exit.) To hand a lock to a child on purpose, lock a descriptor of your
 * own with filelock_open_fd and open it again, in the child, with filelock_open_fd. No descriptor of
 * ours survives exec(3).
 *
 * Cancellation. pthread_cancel(3) ends a thread of ours in the sleep of filelock_acquire only; the
 * acquisition is given up, and the handle can be used, or closed, by another thread. The callbacks
 * should_cancel and on_wait run with cancellation disabled.
 *
 * Native locks (FILELOCK_NATIVE) are flock(2) on the lock file, which is never written. A file that
 * may only be read serves both modes. NFS locks such a file only shared: an exclusive lock there is
 * the error of opening it for writing, and filelock_last_error says so. A folder that takes no lock
 * file is -ENOENT.
 *
 * Soft locks (FILELOCK_SOFT) are exclusive only: a shared acquisition gives -ENOTSUP. The marker of
 * a killed holder stays; the next attempt sees it and takes it over, at once. The kernel is asked
 * first whether the holder lives: a holder keeps a flock(2) on its marker and keeps it open for
 * writing. That answer holds across PID and time namespaces and for stopped processes. The record
 * decides only where the kernel proves nothing. A marker is held unless its holder is proved dead.
 * These markers are held, too:
 *   - a record of another host, of a process that may not be looked at, or of a newer protocol; an
 *     empty marker (Python's releases before 3.22 write nothing); a marker that may be read but not
 *     written; on a local file system without flock(2) every marker, since two processes that took
 *     one over could not tell each other. filelock_break removes such a marker.
 *   - a record whose writing was cut short, until it was seen unchanged for 2 s and the process that
 *     it names has ended, and for as long as the file has another name (a hard link);
 *   - the lock of another program, until it goes: content that is no record of ours or of Python's
 *     filelock, or a folder;
 *   - a marker of Python's SoftFileLease, and one of its MarkerSoftFileLock while its owner lives.
 * A marker that cannot be removed gets the record of an impossible process, so that the next
 * attempt takes it over. A release does so with a marker that was taken over from another user who
 * alone may remove it (in a sticky directory); filelock_close does so with any.
 *   The library cannot promise what Python does. Python's contenders judge by the record alone:
 * they may break a live lock of ours across PID and time namespaces, and one that is delayed
 * between judging and breaking may remove the marker of the next holder. filelock_verify tells.
 * Python 3.25.2 recovers two-line markers only: see two_line_marker.
 *
 * Read/write locks (FILELOCK_READWRITE). The lock file is an SQLite database, normally an empty
 * file, named *.db; its locks are SQLite's, shared with Python's ReadWriteLock (3.21 and
 * later) and with any SQLite transaction. A waiting writer keeps new readers out and is let in when
 * the last one leaves. No SQL is run, no byte of the file is changed, nothing is removed (so
 * unlink_on_release is -EINVAL). Setting the file's times is how waiters are woken.
 *   - The file must be empty or a database (-EBADMSG) that is not in WAL mode (FILELOCK_EWAL)
 *     and has no journal beside it (FILELOCK_EJOURNAL). One that we may only read serves shared
 *     locks only (-EACCES, -EROFS). Errors of SQLite are the nearest errno, with its own words
 *     in filelock_last_error.
 *   - An exclusive hold nests only in the thread that took it (-EDEADLK); any thread may release.
 *   - Python makes one lock of all ReadWriteLocks on a path in a process by default; here two
 *     handles exclude each other, unless the option singleton makes them one, whose holders nest.
 *   - In a child made by fork(2) a new handle on a database that the parent had locked is
 *     refused (FILELOCK_EFORKED_DATABASE) until exec(3): SQLite's memory of the parent's locks
 *     is copied, the locks are not. So is one on any database, if another thread did not come
 *     out of SQLite for two seconds before the fork.
 *   - Record locks belong to the process, and SQLite alone knows how to keep them: if anything
 *     else in this process closes a descriptor of the database file, or a second copy of the
 *     SQLite library (linked statically, or with other symbol names) uses it, the locks of
 *     this process on it are gone without a sign. Do not open that file otherwise.
 *   - Readers of one process that never all leave can keep a writer of another process out if
 *     they are not ours (SQLite grants them without looking); ours look.
 *   - Built without SQLite, filelock_open says -ENOSYS.
 *
 * Caveats
 *   - Overlapping shared holders can keep an exclusive waiter out for ever: flock(2) has no
 *     queue that would stop new ones. FILELOCK_READWRITE is the kind that does not starve writers.
 *   - On NFS flock(2) is emulated by byte-range locks, per host and mount options; releases by
 *     other machines raise no event and are found by polling.
 *   - The lock file stays when the lock is released. That is right: see unlink_on_release.
 */
#ifndef FILELOCK_FILELOCK_H
#define FILELOCK_FILELOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FILELOCK_API __attribute__((visibility("default")))
#else
#define FILELOCK_API
#endif

struct filelock;

enum filelock_kind {
	/* flock(2) on the lock file. Shares locks with flock(1) and Python's FileLock. */
	FILELOCK_NATIVE = 0,

	/* A marker file: the lock is its existence, its record says who holds it. For file systems
	   without a usable flock(2), and with Python's SoftFileLock. See "Soft locks". */
	FILELOCK_SOFT = 1,

	/* Many readers or one writer, whom no reader can starve: the locks of an SQLite
	   database, which they share with Python's ReadWriteLock. See "Read/write locks". */
	FILELOCK_READWRITE = 2
};

enum filelock_mode {
	FILELOCK_EXCLUSIVE = 0, /* one holder */
	FILELOCK_SHARED = 1     /* any number of shared holders, no exclusive one */
};

/* Timeouts are milliseconds, as in poll(2). */
#define FILELOCK_WAIT_FOREVER (-1)
#define FILELOCK_NO_WAIT 0 /* exactly one attempt */

/* Errors for which errno has no name: X(name, value, sentence). */
#define FILELOCK_ERRORS(X)                                                                     \
	X(FILELOCK_EFORKED, -4096,                                                             \
	  "the lock was held or awaited when the process forked: open a new handle here")     \
	X(FILELOCK_ENOTREGULAR, -4097,                                                         \
	  "what stands at the path is not a regular file")                                    \
	X(FILELOCK_ENOHOLDER, -4098, "nobody holds the lock")                                  \
	X(FILELOCK_EUNKNOWNHOLDER, -4099,                                                      \
	  "the system does not say who holds the lock, if anybody does")                       \
	X(FILELOCK_ENOLIFETIME, -4100,                                                         \
	  "a lock of this kind cannot expire: lifetime_ms is for soft locks only")             \
	X(FILELOCK_ELOST, -4101,                                                               \
	  "the path no longer names the file that is held: others may hold the lock, too")    \
	X(FILELOCK_EUNSTABLE, -4102,                                                           \
	  "the path names another file at each look: its inode number changes")               \
	X(FILELOCK_EFORKED_DATABASE, -4110,                                                    \
	  "the parent process was using databases at the fork: exec before using this one")   \
	X(FILELOCK_EWAL, -4111,                                                                \
	  "the database is in WAL mode, in which its locks exclude nobody")                   \
	X(FILELOCK_EJOURNAL, -4112,                                                            \
	  "a journal lies beside the database: let SQLite recover it first")

enum filelock_error {
#define FILELOCK_ERROR_CODE(name, value, text) name = value,
	FILELOCK_ERRORS(FILELOCK_ERROR_CODE)
#undef FILELOCK_ERROR_CODE
	FILELOCK_ERROR_LAST_ = -4095 /* not an error: ends the list */
};

/* Who holds a lock. What is not known is 0, or the empty string. */
struct filelock_owner {
	size_t size;             /* sizeof(struct filelock_owner), by FILELOCK_OWNER_INIT */
	pid_t pid;               /* in the caller's PID namespace; soft: in that of `host` */
	enum filelock_mode mode; /* the mode it is held in */
	int64_t start_time;      /* when the process began, seconds since the epoch */
	char host[256];          /* host name of the holder's machine; soft: as recorded, with
	                            "?pidns-" and a number in a PID namespace */
	bool ours;               /* this process holds it: pid, host and start token agree */
	char start_token[64];    /* soft: Python's start token, a decimal number */
	char contract[32];       /* soft: the mode of a marker of Python's protocol 2, as "lease" */
	double duration;         /* soft: of a lease, seconds */
};
#define FILELOCK_OWNER_INIT                                                                    \
	{ sizeof(struct filelock_owner), 0, FILELOCK_EXCLUSIVE, 0, { 0 }, false, { 0 }, { 0 }, \
	  0 }

/* What on_wait is told; valid during the call. */
struct filelock_waiting {
	size_t size;
	const char *path;                    /* as filelock_path */
	int64_t waited_ms;                   /* since filelock_acquire was called */
	const struct filelock_owner *holder; /* NULL: not known */
};

/* Zero is the default of every member. There is no padding, so that `size` tells all. */
struct filelock_options {
	size_t size; /* sizeof(struct filelock_options), by FILELOCK_OPTIONS_INIT */

	/* Permission bits of a lock file that we make, through the umask; 0: 0666. An existing
	   file is never changed. Beyond 07777: -EINVAL. */
	unsigned file_mode;

	/* How often a waiter tries without having been woken, 1 … 3,600,000 ms. It is the safety
	   net under the wake-ups, and the only way to find a release on another machine. A try may
	   come up to an eighth of this early, so that waiters do not go in step. 0: 50 ms, which
	   a loop that waits for many locks stretches to a millisecond for each of them (to a
	   tenth of that where the file system is not of this machine), to a minute at most. */
	unsigned poll_interval_ms;

	/* How often on_wait is called; 0: 1000. */
	unsigned on_wait_ms;

	/* Soft: a marker this old, by its modification time, is removed, whether its holder
	   lives or not. Unsafe: both may then work at once, and a clock set wrong is enough for
	   that. It is there because Python has it. 0: never. On another kind of lock:
	   FILELOCK_ENOLIFETIME. */
	unsigned lifetime_ms;

	/* One handle a path and kind in this process: opening it again returns the same handle,
	   and filelock_close takes back one open. The path is compared with its parent
	   resolved and its last name not followed. The other options must agree, else -EINVAL,
	   and filelock_last_error(NULL) says which one differs. The holders nest: they do not
	   exclude each other. */
	bool singleton;

	/* Remove the lock file when the lock is released: only while we hold it, as the last of
	   its shared holders, and only while the path names the file that we hold. Unsafe with
	   peers that do not check, once they have the lock, that the path still names their
	   file, as flock(1) does not: one of them may hold the removed file while another holds
	   its successor. */
	bool unlink_on_release;

	/* Soft: write the record of Python's releases before 3.30, without a start token. Should we
	   crash, those releases recover it; three lines they leave alone for ever. Everybody then
	   takes a process that got our pid for us. */
	bool two_line_marker;

	/* Native: where flock(2) does not work (ENOSYS, ENOTSUP) fail with its error. Otherwise the
	   handle becomes a soft one at its first acquisition, with a logged warning, and
	   filelock_kind says so; not if it is acquired shared. */
	bool no_fallback;

	/* Soft: leave the marker when the process exits (exit(3), the end of main) while it holds
	   the lock. Otherwise it is removed then, never in a forked child: by an atexit(3) handler
	   of the library's loading, so after those that the program has registered since, which
	   may still work under the lock. */
	bool keep_on_exit;

	/* FILELOCK_READWRITE: the path need not end in .db. */
	bool any_extension;

	/* The lock file that we make gets exactly the bits of file_mode, past the umask, so that
	   users of one group, or all, can share a lock. */
	bool exact_mode;

	/* Do not make the missing folders of the path: acquiring fails with -ENOENT. They would be wrong
	   below a mount point at which nothing is mounted. */
	bool no_parents;

	/* Asked whenever a synchronous wait is about to sleep, so at least once a poll interval:
	   true ends the wait with -ECANCELED. May be NULL. Called on the waiting thread; must
	   not use the handle. */
	bool (*should_cancel)(void *arg);

	/* Told as a synchronous wait begins and then every on_wait_ms. Looking for the holder
	   reads /proc/locks. May be NULL. As should_cancel otherwise. */
	void (*on_wait)(const struct filelock_waiting *waiting, void *arg);

	void *arg; /* for the two callbacks; borrowed until the handle is closed */
};
#define FILELOCK_OPTIONS_INIT                                                                  \
	{ sizeof(struct filelock_options), 0, 0, 0, 0, false, false, false, false, false,      \
	  false, false, false, NULL, NULL, NULL }

/*
 * Opens a handle. Touches no file: the lock file, and missing parent directories, are made by
 * the first acquisition.
 *
 * path     copied, and made absolute now: a later chdir(2) changes nothing. The last name
 *          must not be a symbolic link when the lock is acquired (-ELOOP).
 * options  copied; NULL for the defaults.
 * ret_lock the handle; close it with filelock_close.
 *
 * Errors: -ENAMETOOLONG; -ENOSYS (the library was built without this kind); -EINVAL (no path,
 * unknown kind, option out of range or not of this kind: filelock_last_error(NULL) says which);
 * FILELOCK_ENOLIFETIME; those of getcwd(3); with the option singleton those of realpath(3) for the
 * path's folder (-EACCES, -ENOTDIR, -ELOOP, …), as far as that exists.
 */
FILELOCK_API int filelock_open(const char *path, enum filelock_kind kind,
                               const struct filelock_options *options,
                               struct filelock **ret_lock);

/*
 * Opens a FILELOCK_NATIVE handle on the caller's descriptor, of any kind of file that flock(2)
 * takes, a directory too. It stays the caller's: never closed by us, in a forked child neither;
 * it must stay open until the handle is closed. No path is looked at, so filelock_verify never
 * finds it stale. The lock belongs to the open file description, so keep one handle for it:
 * handles on one descriptor, or its duplicates, do not exclude each other, and a release or a
 * change of mode through one is one through all (flock(2)). A waiter on a directory is not
 * woken, it polls.
 *
 * Errors: -EBADF; -EINVAL also for singleton or unlink_on_release, which need a path, and for an
 * eventfd, a timerfd or the like: they share one inode, so their lock would be the whole machine's.
 */
FILELOCK_API int filelock_open_fd(int fd, const struct filelock_options *options,
                                  struct filelock **ret_lock);

/*
 * Acquires the lock, waiting at most timeout_ms (CLOCK_MONOTONIC). Acquiring again in the mode
 * that the handle holds nests: each needs its release.
 *
 * A wait is woken by the release (inotify(7)) and tries besides every poll interval. It is over
 * at the deadline, after one last attempt.
 *
 * Errors worth branching on:
 *   -ETIMEDOUT  not had in time, also after the single attempt of FILELOCK_NO_WAIT
 *   -ECANCELED  should_cancel or filelock_interrupt ended the wait
 *   -EDEADLK    the handle holds the lock in the other mode; or a wait without end for a
 *               lock that another handle of this thread holds; or the write lock is
 *               another thread's (FILELOCK_READWRITE)
 *   -EALREADY   an asynchronous request for this handle is pending
 *   -ELOOP      the path's last name is a symbolic link
 *   -ENOTSUP    shared, of a kind that is only exclusive
 *   -EISDIR, FILELOCK_ENOTREGULAR  what stands there is no regular file
 *   FILELOCK_EUNSTABLE  each look at the path finds another file
 *   other errors of open(2), mkdir(2) and flock(2), as they came, at once
 */
FILELOCK_API int filelock_acquire(struct filelock *lock, enum filelock_mode mode,
                                  int timeout_ms);

/*
 * Opens a FILELOCK_NATIVE handle with default options and acquires the lock, exclusively. Errors as
 * filelock_open and filelock_acquire; filelock_last_error(NULL) says what failed.
 *
 *	struct filelock *lock __attribute__((cleanup(filelock_closep))) = NULL;
 *	int r = filelock_take("/run/app/state.lock", 5000, &lock);
 */
FILELOCK_API int filelock_take(const char *path, int timeout_ms, struct filelock **ret_lock);

/*
 * Gives back one level; the last one unlocks. -EPERM: not held. If unlocking itself fails, its
 * error is returned, the lock is still held, and the call may be repeated.
 */
FILELOCK_API int filelock_release(struct filelock *lock);

/* Gives back every level. Errors as filelock_release. */
FILELOCK_API int filelock_release_all(struct filelock *lock);

/*
 * Closes the handle, releasing what it holds; NULL is fine. A pending asynchronous request is
 * cancelled; its callback still comes, and the handle lives until that returns. A singleton
 * handle closes with its last close. errno is kept.
 */
FILELOCK_API void filelock_close(struct filelock *lock);
/* The same for a variable, which becomes NULL: for __attribute__((cleanup(filelock_closep))). */
FILELOCK_API void filelock_closep(struct filelock **lock);

/*
 * Ends the synchronous wait of this handle, at once, with -ECANCELED. If there is none, the
 * handle's next acquisition that would have to wait ends so: an interrupt is never lost. Safe from
 * any thread and from a signal handler; errno is kept. The handle must not be closed meanwhile.
 */
FILELOCK_API void filelock_interrupt(struct filelock *lock);

/* Whether, and at how many levels, this handle holds the lock; false and 0 if it is a forked child's
   copy of one that does. */
FILELOCK_API bool filelock_is_held(const struct filelock *lock);
FILELOCK_API unsigned filelock_depth(const struct filelock *lock);

/*
 * Whether what we hold is still what the path names: 0, or FILELOCK_ELOST if somebody removed, renamed
 * or replaced the lock file, so that others may now hold the lock too. -EPERM: not held.
 */
FILELOCK_API int filelock_verify(struct filelock *lock);

/*
 * A number that grows from one exclusive hold of the lock to the next, for a resource that refuses
 * whoever comes with an older one. -EPERM: not held; -ENOTSUP: this kind has none.
 */
FILELOCK_API int filelock_token(struct filelock *lock, uint64_t *ret_token);

/* The descriptor that holds the lock, lent while it is held: do not close it. -EPERM: not held;
   -ENOTSUP: this kind holds by no descriptor. */
FILELOCK_API int filelock_fd(const struct filelock *lock);

/* The absolute path, owned by the handle; for a handle on a descriptor "fd N". */
FILELOCK_API const char *filelock_path(const struct filelock *lock);

/* The kind: that of filelock_open, or the one it fell back to (no_fallback). */
FILELOCK_API enum filelock_kind filelock_kind(const struct filelock *lock);

/*
 * Looks who holds the lock now; of several shared holders, one. It is gone as soon as it is
 * said, so good for messages only. For native and read/write locks read from /proc/locks, which
 * takes half a second when the machine has 100,000 locks: not for an event loop's path.
 *
 * Errors: FILELOCK_ENOHOLDER; FILELOCK_EUNKNOWNHOLDER (another PID namespace, a network file
 * system, no /proc; an empty or unreadable marker); errors of opening the file. For soft locks read
 * from the marker's record, without asking whether that process lives.
 */
FILELOCK_API int filelock_holder(const struct filelock *lock, struct filelock_owner *ret_owner);

/*
 * The same as a sentence for a message, cut to size - 1 bytes:
 *	pid 4242 (nightly.sh) on host.example, running since 2026-05-01 12:00:00
 * It costs as much as filelock_holder. Errors as filelock_holder.
 */
FILELOCK_API int filelock_describe_holder(const struct filelock *lock, char *buffer, size_t size);

/*
 * Removes the marker of a soft lock by force, whoever holds it: for a person who knows that the
 * holder is gone, or an emergency. A holder that lives is not told; its filelock_verify is.
 * Errors: FILELOCK_ENOHOLDER, no marker; -EBUSY, this handle holds the lock; -ENOTSUP, not a soft
 * lock; -ELOOP, -EISDIR, FILELOCK_ENOTREGULAR, what stands there is none; those of unlink(2).
 */
FILELOCK_API int filelock_break(struct filelock *lock);

/* A sentence for an error of this library or a negative errno; never NULL. It is static; for a number
   that has no text it is this thread's, until its next call. */
FILELOCK_API const char *filelock_strerror(int error);

/*
 * What the last failed call on this handle failed at: what, on which path and why. Nothing is asked of
 * the system: after a timeout, filelock_describe_holder tells who holds the lock now. With NULL: the
 * same of this thread's last failed filelock_open or filelock_take. Empty if nothing failed. Valid
 * until the next call on the handle (or, with NULL, in the thread).
 */
FILELOCK_API const char *filelock_last_error(const struct filelock *lock);

enum filelock_log_level {
	FILELOCK_LOG_ERROR = 0, /* something was lost: a descriptor could not be closed, … */
	FILELOCK_LOG_WARNING,   /* works, but not as asked: polling for want of a watch, … */
	FILELOCK_LOG_INFO,
	FILELOCK_LOG_DEBUG
};
typedef void (*filelock_log_cb)(enum filelock_log_level level, const char *message, void *arg);

/*
 * Sends log messages of the whole process up to this level to cb, on whatever thread they
 * arise; cb must not call into the library. NULL (the start): silence. The library never
 * prints. message is one line without its end, valid during the call. Another thread may
 * still be calling the one before when this returns: keep its arg alive.
 */
FILELOCK_API void filelock_set_log(filelock_log_cb cb, void *arg,
                                   enum filelock_log_level up_to);

/* "1.0.0": the version of the library that is running. */
FILELOCK_API const char *filelock_version(void);

#ifdef __cplusplus
}
#endif

#endif
