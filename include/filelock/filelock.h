/*
 * filelock.h - file locks between processes, and between handles of one process.
 *
 * A handle (struct filelock) is one owner of one lock. Two handles on one path exclude each other,
 * also within one process and one thread. The locks are advisory: they bind only programs that take
 * them.
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
 * Results. Every call returns 0 or a negative error: the negative errno where one fits exactly,
 * else a code of enum filelock_error (below -4095). A call that fails leaves its ret_ pointers
 * untouched, and a sentence for filelock_last_error. Any call may give these errors:
 *   -EINVAL          an argument is out of its range
 *   -ENOMEM          out of memory; nothing has changed
 *   FILELOCK_EFORKED the handle held the lock, or waited for it, at a fork(2) (see "Fork")
 * A handle is NULL only for filelock_close and filelock_last_error. A struct with a member `size` is
 * made by its _INIT macro, so that program and library may have different versions of it.
 *
 * Threads. Different threads may use different handles at once. One thread at a time may use a
 * handle; it need not always be the same thread. Only filelock_interrupt may be called on a handle
 * that another thread is using.
 *
 * Helpers. A wait for a native lock goes on in a thread of the library's, which is blocked in
 * flock(2), if a crowd waits for the lock (three events in a row have found it held), if a release
 * of it once raised no event, or if it is on a folder. The kernel's queue is fair, wakes one waiter at
 * a time, and learns of every release. A process has at most 4 of these threads. They have small
 * stacks and every signal blocked, are made when they are needed, and end when nobody has needed them
 * for a second. A lock that nobody waits for has none, nor have two processes that take turns.
 * filelock_set_max_helpers(0) forbids them. A wait without one is woken by events, and polls.
 *   - Forbid them before a seccomp filter is loaded that kills a process at clone(2). One that
 *     refuses it does no harm. unshare(CLONE_NEWUSER) and setns(2) refuse a process with threads.
 *   - A wait that was given up may get the lock in its thread once more, which unlocks it at once.
 *     A single attempt of somebody else at that moment finds it held.
 *   - Only file systems of this machine's own have them: not FUSE, nor NFS.
 *
 * Heartbeats. One thread of the library's keeps alive the holds of all handles with the option
 * heartbeat_thread. The first acquisition makes it, and gives -EAGAIN if that fails. It has every
 * signal blocked, and ends when no such handle has held or waited for a second. Holds in a loop need
 * none, and do without it.
 *   - A heartbeat ends with the release, and with the close of the handle.
 *   - It does not call the program. A hold that it finds lost is refreshed no more; filelock_verify,
 *     filelock_loss and the release say so, and the log does, at FILELOCK_LOG_WARNING.
 *   - A child of fork(2) has no such thread, and its parent's holds are not refreshed there; its own
 *     first acquisition makes another. After exec(3), and after the exit, nobody refreshes: the lock
 *     ends by itself.
 *   - A refresh that blocks, on a dead mount, delays those of the other handles.
 *
 * Signals. A signal handler may call filelock_interrupt and nothing else. A signal by itself ends
 * no wait.
 *
 * Fork. A lock belongs to the process that took it. In a child made by fork(2) a handle that held
 * the lock, or waited for it, at the fork is dead: each call on it but filelock_close gives
 * FILELOCK_EFORKED. Nothing that the child does, nor its exit, touches the parent's lock. Any other
 * handle works in the child, as a handle of its own: open before daemon(3), acquire after it.
 *   The reason is in flock(2): a lock belongs to the open file description, which fork shares. The
 * child therefore drops its descriptors at the fork, by pthread_atfork(3). A process made by a bare
 * clone(2) or vfork(2) runs no such handler, and may only exec or exit.
 *   So that it knows them all, fork(2) waits for calls of other threads that open or close a lock file:
 * for two seconds at most if one is stuck, as on a dead mount. Calls that begin meanwhile wait for about
 * a tenth of one.
 *   To hand a lock to a child on purpose, lock a descriptor of your own with filelock_open_fd, and
 * open it again in the child with filelock_open_fd. No descriptor of the library survives exec(3).
 * None is below 3, also in a program without standard files.
 *
 * Cancellation. pthread_cancel(3) ends a thread inside the library only in the sleep of
 * filelock_acquire. The acquisition is given up, and another thread can use or close the handle.
 * The callbacks should_cancel and on_wait run with cancellation disabled.
 *
 * Native locks (FILELOCK_NATIVE) are flock(2) on the lock file, which is never written. A file that
 * we may only read serves both modes. NFS locks such a file shared only: an exclusive acquisition
 * gives the error of opening it for writing there, and filelock_last_error says so. A folder that
 * takes no lock file gives -ENOENT.
 *
 * Soft locks (FILELOCK_SOFT) are exclusive only: a shared acquisition gives -ENOTSUP. The marker of
 * a killed holder stays; the next attempt sees it and takes it over, at once. The kernel is asked
 * first whether the holder lives: a holder keeps a flock(2) on its marker and keeps it open for
 * writing. That answer holds across PID and time namespaces and for stopped processes. The record
 * decides only where the kernel proves nothing. A marker is held unless its holder is proved dead.
 * These markers are held, too:
 *   - a record of another host, of a process that may not be looked at, or of a newer protocol; one
 *     that names no PID namespace, where the kernel does not tell whether it is open (to those who
 *     may not write it), if a process inside one may be meant; an empty marker (Python's releases
 *     before 3.22 write nothing); a marker that may be read but not written; on a local file system
 *     without flock(2) every marker, since two processes that took one over could not tell each
 *     other. filelock_break removes such a marker.
 *   - for a handle in a PID namespace a record that names none, until the handle saw it closed and
 *     unchanged for 2 s: Python's releases before 4.1 name none, and close a marker before they remove
 *     it;
 *   - a record whose writing was cut short, until it was seen unchanged for 2 s and the process
 *     that it names has ended, and for as long as the file has another name (a hard link);
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
 *   On a file system that may be mounted twice or elsewhere (FUSE, networks) flock(2) proves little.
 * A marker is published there so that its flock shows at its name, if any way does that, and only
 * dead markers of the same PID namespace are taken over. Programs of one lock should reach it
 * through one mount. Another one goes on showing for a while (a second on most of FUSE) a marker that
 * was removed, and native and read/write locks through two mounts of FUSE do not exclude each other.
 *   Programs that go by age (dotlockfile without -p, lockmail, NFSLock) remove a living marker after
 * some minutes, and Python's FileLock on the same path empties it: should its holder be killed then,
 * nobody knows its owner, and it is held until filelock_break. A loop of event.h renews the times,
 * and the record, of a held marker once a minute, while it runs. Other holders call filelock_verify
 * as often, which does the same and tells a loss. A lock with the option lifetime_ms is not renewed.
 *
 * Leases (FILELOCK_LEASE) are exclusive only. A lease is a soft lock that ends when its holder has
 * not refreshed it for its duration (duration_ms), also where its holder is alive, but stopped, cut
 * off, or on another machine. So it does not exclude: the late holder may work on beside the next
 * one, until it asks. Where that must not be, take another kind.
 *   - In a loop (event.h) the context refreshes it every heartbeat_ms, or a little earlier, so that
 *     many leases share a wake-up. A synchronous holder calls filelock_renew, or filelock_verify, which
 *     does the same, or has the option heartbeat_thread.
 *   - A holder judges itself first. One that comes later than its duration after the last refresh, by
 *     a clock that also counts the time asleep (CLOCK_BOOTTIME), has lost the lease, and its calls
 *     do not touch what is at the path any more. filelock_renew, filelock_verify and the release give
 *     FILELOCK_ELOST then; the release releases all the same. evfilelock_on_lost calls. filelock_loss
 *     says why.
 *   - A waiter measures the duration by its own clock, from the refresh that it sees last. Clocks of
 *     machines need not agree. A holder of this kernel that has died is seen at once.
 *   - On NFSv4 a machine that is lost may hold others up for the lease time of the server (90 s, if
 *     nobody has set it). Shorter durations than that may then end holds of the living, and so they may
 *     with FILELOCK_SOFT_READWRITE.
 *   - All who use a path give the same duration: another one is FILELOCK_ESETTINGS. Whoever takes a
 *     lease over makes a new file. A marker of a soft lock, or of Python's MarkerSoftFileLock, is
 *     held, and taken over when its owner is proved dead; what else stands at the path is held.
 *   - A process that is killed while it takes a lease over may leave the dead marker beside it, called as
 *     the path with ".break." and more. It hinders nobody.
 *   - Python's contenders may move a live marker aside for two system calls. One look that finds
 *     nothing at the path is therefore no loss yet for the refresh; filelock_verify says it at once.
 *
 * Strict locks (FILELOCK_STRICT) are exclusive only. They need a file system with hard links and no
 * lock of its own, also a network's, and never take a holder for dead: a killed one leaves its claims,
 * and everybody waits until a person breaks them by name (filelock_claims, filelock_break_claim).
 *   - The path becomes a small file that stays, the sentinel. The claims lie beside it, in a folder
 *     called as the path with ".filelock/claims", made through the umask.
 *   - Everything odd fails closed: FILELOCK_EPROTOCOL, and filelock_last_error names the file. Odd are a
 *     claim that cannot be read for half a second, anything but a sentinel or a marker at the path,
 *     anything but a folder where the claims are to lie, and a file system without hard links (rclone's
 *     gives -EIO). A soft lock's marker at the path is waited for while its owner may live.
 *   - Files that killed processes left beside the claims are removed by later attempts, a few by each.
 *   - Two that come at the same moment may both step back; they come again at moments of their own.
 *   - filelock_verify gives FILELOCK_ELOST if somebody has broken our claims; evfilelock_on_lost sees
 *     the sentinel alone.
 *
 * Read/write locks (FILELOCK_READWRITE). The lock file is an SQLite database, normally an empty
 * file, named *.db. Its locks are SQLite's, shared with Python's ReadWriteLock (3.21 and later) and
 * with any SQLite transaction. A waiting writer keeps new readers out, and gets in when the last
 * reader leaves. The library runs no SQL, changes no byte of the file and removes nothing (so
 * unlink_on_release gives -EINVAL). It sets the file's times to wake waiters. A waiter on a local file
 * system opens the folder and has a shared record lock of that description on it (F_OFD_SETLK),
 * behind the byte at 2^61, so that a release with nobody waiting sets no times. A waiter that may not
 * read the folder finds such a release by its poll.
 *   - The file must be empty or a database (-EBADMSG) that is not in WAL mode (FILELOCK_EWAL) and
 *     has no journal beside it (FILELOCK_EJOURNAL), unless it is empty. A file that we may only read
 *     serves shared locks only (-EACCES, -EROFS). Errors of SQLite become the nearest errno, with
 *     SQLite's own words in filelock_last_error.
 *   - A file system whose record locks exclude nobody gives FILELOCK_ENOEXCLUSION: it is tried once,
 *     with a file beside the database. Where SQLite has no mutexes the library's own calls of it are
 *     serialised; the program's calls of SQLite must then stay in its one thread.
 *   - On NFS they exclude between machines as native locks do, and filelock_verify asks the server as it
 *     does for those, where /proc shows the descriptors of this process. SQLite itself does not ask.
 *   - An exclusive hold nests only in the thread that took it (-EDEADLK); any thread may release.
 *   - By default Python makes one lock of all ReadWriteLocks on a path in a process. Here two
 *     handles exclude each other, unless the option singleton makes them one.
 *   - A new handle in a forked child is refused (FILELOCK_EFORKED_DATABASE) until exec(3) on a
 *     database that the parent had locked: the child has SQLite's memory of the locks, and not the
 *     locks. Every database is refused if another thread did not leave SQLite for two seconds
 *     before the fork.
 *   - Record locks belong to the process, and only SQLite knows how to keep them. The locks of this
 *     process on a database are gone without a sign if anything else in it closes a descriptor of
 *     that file, or if a second copy of the SQLite library (linked statically, or with other
 *     symbol names) uses it. Do not open that file otherwise.
 *   - Readers of one process that never all leave can keep a writer of another process out if they
 *     are not ours: SQLite grants them without looking. Ours look.
 *   - Without SQLite in the build filelock_open gives -ENOSYS.
 *
 * Soft read/write locks (FILELOCK_SOFT_READWRITE) are many readers or one writer on a file system with
 * hard links and no lock of its own, also a network's. A waiting writer keeps new readers out, and gets
 * in when the last reader leaves. Nothing stands at the path itself: all is in the folder called as
 * the path with ".rw", which stays. It is this user's alone (0700; another's is -EACCES), so
 * unlink_on_release, file_mode and exact_mode give -EINVAL.
 *   - The log says generation by generation who holds: each acquisition, release and eviction publishes
 *     the next one, and syncs it to the disk before. A cycle is two of them, and on a disk takes as
 *     long as fsync(2) does twice, some milliseconds. A hand-over is two as well, the leaver's and the
 *     next one's, so it takes many times as long as that of a marker, which nobody syncs. The protocol
 *     asks for both, one after the other: a generation is a token, and the loss of power may make no
 *     more than the newest one come twice. An attempt that finds the lock held writes its record,
 *     unsynced. In a loop let workers do that (evfilelock_options.workers): the loop then makes no such
 *     call. filelock_token is the generation.
 *   - A holder renews its record every heartbeat_ms, as a lease: in a loop the context does, elsewhere
 *     filelock_renew or the option heartbeat_thread. Whoever waits counts as dead a holder whose
 *     record it saw unchanged for duration_ms, its own or the holder's, whichever is longer, by its own
 *     clock, and leaves it out. Clocks of machines need not agree, nor settings. A holder judges itself
 *     as with leases.
 *   - On a local file system a holder of this library is seen dead, or alive, at once, by its
 *     flock(2); a stopped one then holds. Python's contenders go by silence alone.
 *   - A record that makes no sense fails closed: FILELOCK_EPROTOCOL, and filelock_last_error names it. So
 *     do the files of releases before 4.0 at the path (".write", ".state"), which exclude nobody here.
 *     Who removes the folder begins a new log, and filelock_verify tells those who held by the old one.
 *   - An exclusive hold nests only in the thread that took it (-EDEADLK); any thread may release.
 *     filelock_break leaves everybody out. The default poll interval is 250 ms.
 *
 * Warm locks. A handle with the option keep_open keeps its lock file open, unlocked, between two holds.
 * That saves opening and closing it. The costs: a file system that cannot be unmounted, one descriptor,
 * and leases (fcntl(2)) on the file that others are refused, all as long as the handle keeps it.
 * Nothing is kept on a descriptor of the caller's, with unlink_on_release, after a fork(2) during the
 * hold, nor on file systems of networks or FUSE. A loop keeps files by itself: event.h.
 *   No close tells waiters of such a release. Every waiter of a native lock on a local file system, with
 * this option or without, therefore has a shared record lock of its open file description
 * (F_OFD_SETLK) on the byte at 2^61 of the lock file while it waits. A release looks for one
 * (F_OFD_GETLK), and raises the event by opening and closing the file. A program that locks the whole
 * file by fcntl(2) is refused that meanwhile; and beside such a record lock, if it is exclusive,
 * waiters cannot register, and find a warm release by their poll.
 *
 * Caveats
 *   - Overlapping shared holders can keep an exclusive waiter out for ever: flock(2) has no queue
 *     that would stop new ones. FILELOCK_READWRITE does not starve writers.
 *   - On NFS byte-range locks of the server emulate flock(2), depending on host and mount options.
 *     Releases by other machines raise no event; the poll finds them. A server of NFSv4 that has not
 *     heard of a machine for its lease's time gives that machine's locks to others, of this kind and
 *     FILELOCK_READWRITE. filelock_verify and filelock_renew ask it, by a lock more, whether
 *     another one has the lock now: FILELOCK_ELOST; a lock that nobody has they take again.
 *     evfilelock_on_lost does not ask.
 *   - The lock file stays after the release. unlink_on_release says why.
 *   - Programs that lock by fcntl(2) (Java, OCaml, R, Boost, LevelDB, lockf(3)) and holders of native
 *     locks do not exclude each other. A native lock beside such a lock is logged once a handle, at
 *     FILELOCK_LOG_WARNING; filelock_describe_holder names it.
 *   - Each thread that waits, and each context of event.h, uses one of the user's inotify instances
 *     (fs.inotify.max_user_instances, 128). Without one its waits poll, and say so once at
 *     FILELOCK_LOG_WARNING.
 *   - Cleaners of temporary folders (systemd-tmpfiles) remove lock files with old times, some under
 *     their holders. A loop of event.h renews the times of a held file after a minute and then once
 *     a day, filelock_verify once a day, where we may set them. Put lock files in /run/lock or a
 *     folder of your own.
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

	/* A marker file: its existence is the lock, its record names the holder. For file systems
	   without a usable flock(2). Shares locks with Python's SoftFileLock. See "Soft locks". */
	FILELOCK_SOFT = 1,

	/* The locks of an SQLite database: many readers or one writer, whom no reader can starve.
	   Shares locks with Python's ReadWriteLock. See "Read/write locks". */
	FILELOCK_READWRITE = 2,

	/* A marker that holds for a time and is refreshed meanwhile: others go on when its holder is
	   stopped or cut off. Shares locks with Python's SoftFileLease. See "Leases". */
	FILELOCK_LEASE = 3,

	/* Claims in a folder, which nothing but their holder or a person ends. Shares locks with
	   Python's StrictSoftFileLock. See "Strict locks". */
	FILELOCK_STRICT = 4,

	/* Many readers or one writer by a log in a folder, for file systems without usable locks. Shares
	   locks with Python's SoftReadWriteLock (4.0 and later). See "Soft read/write locks". */
	FILELOCK_SOFT_READWRITE = 5,

	/* A lock that an etcd cluster keeps. filelock_open gives -EINVAL: etcd.h has another call. */
	FILELOCK_ETCD = 16
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
	  "the lock was held or awaited at a fork(2) or daemon(3): acquire it after that")      \
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
	  "each look finds another file, or one that is gone: its inode number changes, or "  \
	  "other mounts of the folder change it")                                             \
	X(FILELOCK_ESETTINGS, -4103,                                                           \
	  "the lease is another one's of another duration: all who use a path must agree")     \
	X(FILELOCK_EPROTOCOL, -4104,                                                           \
	  "beside the lock stands what its protocol does not know")                            \
	X(FILELOCK_EFORKED_DATABASE, -4110,                                                    \
	  "the parent process was using databases at the fork: exec before using this one")   \
	X(FILELOCK_EWAL, -4111,                                                                \
	  "the database is in WAL mode, in which its locks exclude nobody")                   \
	X(FILELOCK_EJOURNAL, -4112,                                                            \
	  "a journal lies beside the database: let SQLite recover it first")                   \
	X(FILELOCK_ENOEXCLUSION, -4113,                                                        \
	  "record locks exclude nobody on this file system: several processes would hold the lock")

enum filelock_error {
#define FILELOCK_ERROR_CODE(name, value, text) name = value,
	FILELOCK_ERRORS(FILELOCK_ERROR_CODE)
#undef FILELOCK_ERROR_CODE
	FILELOCK_ERROR_LAST_ = -4095 /* not an error: ends the list */
};

/* Why a hold was lost. */
enum filelock_loss {
	FILELOCK_LOSS_NONE = 0,
	FILELOCK_LOSS_MISSING = 1,        /* nothing stands at the path any more */
	FILELOCK_LOSS_REPLACED = 2,       /* another file stands there, so others may hold */
	FILELOCK_LOSS_LATE = 3,           /* it was not refreshed within its duration */
	FILELOCK_LOSS_REFRESH_FAILED = 4, /* refreshing it failed for too long */
	FILELOCK_LOSS_EVICTED = 5         /* others took its holder for dead */
};

/* The holder of a lock. Unknown members are 0, or the empty string. */
struct filelock_owner {
	size_t size;             /* sizeof(struct filelock_owner), by FILELOCK_OWNER_INIT */
	pid_t pid;               /* in the caller's PID namespace; soft: in that of `host` */
	enum filelock_mode mode; /* the mode it is held in */
	int64_t start_time;      /* when the process began, seconds since the epoch */
	char host[256];          /* host name of the holder's machine; soft: as recorded, with
	                            "?pidns-" and a number in a PID namespace */
	bool ours;               /* it is this process, by pid, host and start token */
	char start_token[64];    /* soft: Python's start token, a decimal number */
	char contract[32];       /* soft: the mode of a marker of Python's protocol 2, as "lease" */
	double duration;         /* soft: of a lease, seconds */
};
#define FILELOCK_OWNER_INIT                                                                    \
	{ sizeof(struct filelock_owner), 0, FILELOCK_EXCLUSIVE, 0, { 0 }, false, { 0 }, { 0 }, \
	  0 }

/* The argument of on_wait; valid during the call. */
struct filelock_waiting {
	size_t size;
	const char *path;                    /* as filelock_path */
	int64_t waited_ms;                   /* since filelock_acquire was called */
	const struct filelock_owner *holder; /* NULL: not known */
};

/* Zero is the default of every member. There is no padding, so `size` says which members there
   are. */
struct filelock_options {
	size_t size; /* sizeof(struct filelock_options), by FILELOCK_OPTIONS_INIT */

	/* Permission bits of a lock file that we make, through the umask. 0: 0666. An existing file
	   keeps its own. Beyond 07777: -EINVAL. */
	unsigned file_mode;

	/* How often a waiter tries without a wake-up, 1 … 3,600,000 ms. The poll is the safety
	   net under the wake-ups, and the only way to find a release on another machine. A try may
	   come up to an eighth earlier, so that waiters do not go in step. 0: 50 ms
	   (FILELOCK_SOFT_READWRITE: 250 ms). A loop that waits for many locks stretches the default
	   to a millisecond for each of them (to a tenth of that where the file system belongs to
	   other machines too), to a minute at most. */
	unsigned poll_interval_ms;

	/* Interval of on_wait in ms; 0: 1000. */
	unsigned on_wait_ms;

	/* Soft: a marker that is older than this, by its modification time, is removed, whether its
	   holder lives or not. Unsafe: both may work at once then, and a wrong clock is enough for
	   that. Python has this option. 0: never. On another kind of lock: FILELOCK_ENOLIFETIME. */
	unsigned lifetime_ms;

	/* One handle for each path and kind in this process: opening it again returns the same
	   handle, and filelock_close takes back one open. Paths are compared with their parent
	   resolved and their last name not followed. The other options must agree, else -EINVAL,
	   and filelock_last_error(NULL) names the one that differs. Holders nest: they do not
	   exclude each other. */
	bool singleton;

	/* Remove the lock file at the release: only while we hold it, as the last of its shared
	   holders, and only while the path names the file that we hold. Unsafe with programs that
	   do not check after the lock that the path still names their file, as flock(1) does not:
	   one of them may hold the removed file while another holds its successor. */
	bool unlink_on_release;

	/* Soft: write the record of Python's releases before 3.30, without a start token. Those
	   releases recover it after a crash; they leave a record of three lines alone for ever.
	   A process that gets our pid later is taken for us then. */
	bool two_line_marker;

	/* Native: fail with the error of flock(2) where it does not work (ENOSYS, ENOTSUP).
	   Otherwise the handle becomes a soft one at its first exclusive acquisition, with a logged
	   warning, and filelock_kind says so. */
	bool no_fallback;

	/* Soft: keep the marker when the process exits (exit(3), the end of main) while it holds
	   the lock. Otherwise an exit handler removes the marker, never in a forked child. The
	   library installs that handler when it is loaded, so it runs after those that the program
	   has registered since, which may still work under the lock. Soft read/write: the same of
	   its place in the log, which syncs a file. */
	bool keep_on_exit;

	/* FILELOCK_READWRITE: the path need not end in .db. */
	bool any_extension;

	/* A lock file that we make gets exactly the bits of file_mode, past the umask, so that the
	   users of one group, or all users, can share a lock. A program that is killed just then may
	   leave the umask's bits on a read/write lock's file, and on the marker of a soft lock where
	   there are no hard links. A file that is there already keeps its bits. */
	bool exact_mode;

	/* Do not make missing folders of the path: the acquisition fails with -ENOENT. Below a
	   mount point without a mount such folders would be wrong. */
	bool no_parents;

	/* Native: the lock file stays open after a release, until the handle is closed or
	   filelock_drop is called. A cycle of a lock that nobody else wants then costs half: see "Warm
	   locks". */
	bool keep_open;

	/* A thread of the library's keeps the holds of synchronous acquisitions alive, as a loop does: it
	   refreshes a lease and a soft read/write lock every heartbeat_ms, and the times of other
	   files. See "Heartbeats". */
	bool heartbeat_thread;

	bool reserved[6]; /* false */

	/* FILELOCK_LEASE: how long it holds without a refresh, 0: 30,000 ms; and how often a loop
	   refreshes it, which must be more often, 0: three times in that. FILELOCK_SOFT_READWRITE: how
	   long a holder may be silent, 0: 90,000 ms, and likewise. On another kind of lock: -EINVAL. */
	unsigned duration_ms, heartbeat_ms;

	/* Called whenever a synchronous wait is about to sleep, so at least once in a poll
	   interval. True ends the wait with -ECANCELED. May be NULL. Runs on the waiting thread,
	   and must not use the handle. */
	bool (*should_cancel)(void *arg);

	/* Called when a synchronous wait begins, and then every on_wait_ms. The search for the
	   holder reads /proc/locks. May be NULL. Runs on the waiting thread, and must not use the
	   handle. */
	void (*on_wait)(const struct filelock_waiting *waiting, void *arg);

	void *arg; /* for the two callbacks; borrowed until the handle is closed */
};
#define FILELOCK_OPTIONS_INIT                                                                  \
	{ sizeof(struct filelock_options), 0, 0, 0, 0, false, false, false, false, false,      \
	  false, false, false, false, false, { false }, 0, 0, NULL, NULL, NULL }

/*
 * Opens a handle. Touches no file: the first acquisition makes the lock file and missing parent
 * directories.
 *
 * path     copied, and made absolute now: a later chdir(2) changes nothing. An acquisition gives
 *          -ELOOP if the last name is a symbolic link.
 * options  copied; NULL for the defaults.
 * ret_lock the handle, owned by the caller; close it with filelock_close.
 *
 * Errors: -ENAMETOOLONG; -ENOSYS (the library was built without this kind); -EINVAL (no path,
 * unknown kind, a path of FILELOCK_READWRITE without .db, option out of range or not of this kind:
 * filelock_last_error(NULL) says which); FILELOCK_ENOLIFETIME; those of getcwd(3); with the option
 * singleton those of realpath(3) for the path's folder (-EACCES, -ENOTDIR, -ELOOP, …), as far as that
 * exists.
 */
FILELOCK_API int filelock_open(const char *path, enum filelock_kind kind,
                               const struct filelock_options *options,
                               struct filelock **ret_lock);

/*
 * Opens a FILELOCK_NATIVE handle on a descriptor of the caller, of any kind of file that flock(2)
 * takes, a directory too. The descriptor stays the caller's: the library never closes it, in a
 * forked child neither, and it must stay open until the handle is closed. No path is looked at, so
 * filelock_verify never finds it stale.
 *
 * The lock belongs to the open file description, so keep one handle for it. Handles on one
 * descriptor, or on its duplicates, do not exclude each other; a release or a change of mode
 * through one is one through all (flock(2)). No event wakes a waiter on a directory: it polls, or
 * waits in the kernel's queue (see "Helpers").
 *
 * Errors: -EBADF; -EINVAL also for singleton or unlink_on_release, which need a path, and for an
 * eventfd, a timerfd or the like: they share one inode, so their lock would be the whole machine's.
 */
FILELOCK_API int filelock_open_fd(int fd, const struct filelock_options *options,
                                  struct filelock **ret_lock);

/*
 * Acquires the lock, and waits at most timeout_ms milliseconds for it (CLOCK_MONOTONIC), or
 * FILELOCK_WAIT_FOREVER, or FILELOCK_NO_WAIT. A handle that holds the lock in this mode gets one level
 * more; each level needs its release.
 *
 * A release wakes the wait (inotify(7)), which also tries at every poll interval. The wait ends at
 * the deadline, after one last attempt.
 *
 * Errors worth branching on:
 *   -ETIMEDOUT  held by others until the deadline, or at the attempt of FILELOCK_NO_WAIT
 *   -ECANCELED  should_cancel or filelock_interrupt ended the wait
 *   -EDEADLK    the handle holds the lock in the other mode; or an endless wait for a lock that
 *               another handle of this thread holds; or another thread took the write lock
 *               (FILELOCK_READWRITE)
 *   -EALREADY   an asynchronous request for this handle is pending
 *   -ELOOP      the path's last name is a symbolic link
 *   -ENOTSUP    a shared acquisition of a kind that is exclusive only, or a lock in etcd
 *   -EISDIR, FILELOCK_ENOTREGULAR  no regular file stands at the path
 *   -EFBIG      a record is longer than RLIMIT_FSIZE lets us write (ulimit -f 0)
 *   -EAGAIN     the thread of the option heartbeat_thread cannot be made
 *   FILELOCK_EUNSTABLE  each look at the path finds another file, or a name whose file is gone, for
 *               3 s or until the deadline
 *
 * Others are those of open(2), mkdir(2) and flock(2), unchanged and at once, and those that the text
 * about the kind names, above.
 */
FILELOCK_API int filelock_acquire(struct filelock *lock, enum filelock_mode mode,
                                  int timeout_ms);

/*
 * Opens a FILELOCK_NATIVE handle with default options and acquires the lock, exclusively, within
 * timeout_ms. The handle is the caller's; filelock_close releases the lock, too. Errors as filelock_open
 * and filelock_acquire; filelock_last_error(NULL) says what failed, and nothing is open then.
 *
 *	struct filelock *lock __attribute__((cleanup(filelock_closep))) = NULL;
 *	int r = filelock_take("/run/app/state.lock", 5000, &lock);
 */
FILELOCK_API int filelock_take(const char *path, int timeout_ms, struct filelock **ret_lock);

/*
 * Releases one level; the last one unlocks. -EPERM: not held. FILELOCK_ELOST: it is released, but
 * was lost before (FILELOCK_LEASE, FILELOCK_SOFT_READWRITE). If unlocking fails otherwise, the call
 * returns its error, the lock is still held, and the call may be repeated.
 */
FILELOCK_API int filelock_release(struct filelock *lock);

/* Releases every level. Errors as in filelock_release. */
FILELOCK_API int filelock_release_all(struct filelock *lock);

/*
 * Closes the handle and releases its lock. NULL is allowed. A pending asynchronous request is
 * cancelled; its callback still comes, and the handle lives until that returns. A singleton handle
 * closes with its last close. errno is kept.
 */
FILELOCK_API void filelock_close(struct filelock *lock);

/* Gives back at once what an unlocked handle keeps for its next acquisition: the descriptor of
   keep_open, the connection of a read/write lock. A handle that keeps nothing stays the same. -EBUSY: it
   holds the lock, or waits for it. */
FILELOCK_API int filelock_drop(struct filelock *lock);

/* Closes *lock and sets it to NULL: for __attribute__((cleanup(filelock_closep))). */
FILELOCK_API void filelock_closep(struct filelock **lock);

/*
 * Ends the synchronous wait of this handle at once, with -ECANCELED. Without a wait the handle's
 * next acquisition that would have to wait ends so: an interrupt is never lost. Safe from any
 * thread and from a signal handler; errno is kept. The handle must not be closed meanwhile.
 */
FILELOCK_API void filelock_interrupt(struct filelock *lock);

/* Whether, and at how many levels, this handle holds the lock. Neither looks at the path:
   filelock_verify does. A hold in etcd that is lost is false, and keeps its levels until its release.
   False and 0 in a forked child if the parent's handle holds. */
FILELOCK_API bool filelock_is_held(const struct filelock *lock);
FILELOCK_API unsigned filelock_depth(const struct filelock *lock);

/*
 * Whether the path still names the file that we hold: 0, or FILELOCK_ELOST if somebody removed,
 * renamed or replaced the lock file, or the folder of its claims, so that others may hold the lock,
 * too. -EPERM: not held. Another error, as of lstat(2): that cannot be found out. It also refreshes: a
 * soft marker that another program has emptied gets its record again, and times of the held file that
 * are old become new, for a marker after half a minute, for other files after half a day. Its
 * system calls do not return on a dead mount.
 */
FILELOCK_API int filelock_verify(struct filelock *lock);

/*
 * Refreshes a hold, as filelock_verify does: one that ends by itself otherwise (FILELOCK_LEASE,
 * FILELOCK_SOFT_READWRITE), or whose file gets old. A hold in a loop needs no call. 0: it holds yet,
 * though a refresh may have failed; -ENOTSUP: holds of this kind need none; other errors as in
 * filelock_verify.
 */
FILELOCK_API int filelock_renew(struct filelock *lock);

/* Why the present hold is lost, as far as that is known or can be seen at the path; after the release,
   why the last one was lost (FILELOCK_LEASE, FILELOCK_SOFT_READWRITE). FILELOCK_LOSS_NONE: it is not, or
   the hold is the parent's. */
FILELOCK_API enum filelock_loss filelock_loss(struct filelock *lock);

/* One claim on a strict lock, where whoever has one keeps all others out; or one member of a soft
   read/write lock, whose mode is owner.mode. */
struct filelock_claim {
	size_t size;      /* how many bytes of this struct there are */
	const char *name; /* its file's, for filelock_break_claim; valid during the call */
	bool held;        /* of a holder; else an intent: its owner is in the doorway, or was; a writer
	                     that waits for the readers */
	bool dead;        /* its owner is proved dead: strict, by its record alone; soft read/write, by
	                     its flock(2) */
	struct filelock_owner owner;
};

/*
 * Calls `take` with each claim on the lock, in no order. FILELOCK_STRICT: a holder has two, held and
 * intent. FILELOCK_SOFT_READWRITE: each reader, and the writer, also one that waits for readers; who
 * waits for a writer has none yet. Changes nothing; the handle need not hold. `take` runs inside this
 * call, on its thread; of all calls on the handle it may make filelock_break_claim alone. 0;
 * -ENOTSUP: this kind has none; FILELOCK_EPROTOCOL: something there is no claim, and
 * filelock_last_error names it; errors of reading the folder.
 */
FILELOCK_API int filelock_claims(struct filelock *lock,
                                 void (*take)(const struct filelock_claim *claim, void *arg),
                                 void *arg);

/*
 * Removes a claim by its name, whoever has it: for a person who knows that its owner is gone. If it is
 * not, two hold the lock (FILELOCK_SOFT_READWRITE: until that one asks, and learns it). Strict: of a
 * holder that was killed break both. -ENOENT: there is none; -EINVAL: a name that no claim can have;
 * -ENOTSUP: this kind has none; errors of unlink(2).
 */
FILELOCK_API int filelock_break_claim(struct filelock *lock, const char *name);

/*
 * A number that grows from one exclusive hold of the lock to the next, for a resource that refuses
 * older numbers: FILELOCK_SOFT_READWRITE and FILELOCK_ETCD have it. -EPERM: not held; FILELOCK_ELOST:
 * the hold in etcd is lost; -ENOTSUP: this kind has none.
 */
FILELOCK_API int filelock_token(struct filelock *lock, uint64_t *ret_token);

/* The descriptor that holds the lock, borrowed while it is held: do not close it. Or an error: -EPERM:
   not held; -ENOTSUP: only native locks, soft locks and leases hold by one. */
FILELOCK_API int filelock_fd(const struct filelock *lock);

/* The absolute path, owned by the handle; for a handle on a descriptor "fd N", for one in etcd
   "etcd:NAME". Never NULL. */
FILELOCK_API const char *filelock_path(const struct filelock *lock);

/* The kind: that of filelock_open, or the one it fell back to (no_fallback); FILELOCK_ETCD. */
FILELOCK_API enum filelock_kind filelock_kind(const struct filelock *lock);

/*
 * Finds the holder of the lock; one of several shared holders. The answer may be out of date when
 * it is returned, so it is good for messages only. For native and read/write locks the call reads
 * /proc/locks, which takes half a second when the machine has 100,000 locks: do not call it in an
 * event loop. Where thousands of other locks come and go just then, it may miss the holder and say
 * "nobody": the kernel gives that list in pieces. For the other kinds it reads the holder's record, and
 * does not ask whether that process lives.
 *
 * ret_owner  begun with FILELOCK_OWNER_INIT, else -EINVAL.
 *
 * Errors: FILELOCK_ENOHOLDER; FILELOCK_EUNKNOWNHOLDER (another PID namespace, a network file
 * system, no /proc; an empty or unreadable marker; a lock in etcd); errors of opening the file.
 */
FILELOCK_API int filelock_holder(const struct filelock *lock, struct filelock_owner *ret_owner);

/*
 * The holder as a sentence for a message, cut to size - 1 bytes:
 *	pid 4242 (nightly.sh) on host.example, running since 2026-05-01 12:00:00
 * It also names a program with a record lock (fcntl(2)) on the lock file, which native locks do not
 * exclude, nor it them. Cost and errors as in filelock_holder. FILELOCK_ENOHOLDER and
 * FILELOCK_EUNKNOWNHOLDER leave the buffer empty. size 0: -EINVAL.
 */
FILELOCK_API int filelock_describe_holder(const struct filelock *lock, char *buffer, size_t size);

/*
 * Ends the hold of a soft lock, a lease or a soft read/write lock by force, whoever has it: for a
 * person who knows that the holder is gone, or for an emergency. A live holder learns it by
 * filelock_verify or evfilelock_on_lost only. Errors: FILELOCK_ENOHOLDER, nobody holds it; -EBUSY,
 * this handle does; -ENOTSUP, a lock of another kind; -ELOOP, -EISDIR, FILELOCK_ENOTREGULAR, no
 * marker stands there; errors of unlink(2).
 */
FILELOCK_API int filelock_break(struct filelock *lock);

/* A sentence for an error of this library or a negative errno; never NULL. It is static; for a
   number that has no text it is this thread's, until its next call. */
FILELOCK_API const char *filelock_strerror(int error);

/*
 * The last failed call on this handle as a sentence: what failed, on which path, and why. Every call
 * of these headers that returns an error leaves one. The call asks nothing of the system:
 * filelock_describe_holder names the holder after a timeout. NULL: the same for this thread's last
 * failed call that has no handle (filelock_open, filelock_take, evfilelock_new, counts, traces, etcd
 * sessions), or got NULL for it. A call that succeeds leaves the sentence of the one that failed before.
 * Empty if nothing has failed. Valid until the next call on the handle, or with NULL in the thread.
 */
FILELOCK_API const char *filelock_last_error(const struct filelock *lock);

enum filelock_log_level {
	FILELOCK_LOG_ERROR = 0, /* something was lost: a descriptor could not be closed, … */
	FILELOCK_LOG_WARNING,   /* works, but not as asked: a wait without a watch polls, … */
	FILELOCK_LOG_INFO,
	FILELOCK_LOG_DEBUG
};
typedef void (*filelock_log_cb)(enum filelock_log_level level, const char *message, void *arg);

/*
 * Sends the log messages of the process up to this level to cb, on the thread where they arise, also
 * one of the library's. cb must not call the library. NULL, the default, means silence: the library
 * never prints. message is one line without its end, valid during the call. Any thread may call this. A
 * forked child keeps cb. Another thread may still be calling the previous cb when this returns: keep its
 * arg alive.
 */
FILELOCK_API void filelock_set_log(filelock_log_cb cb, void *arg,
                                   enum filelock_log_level up_to);

/* How many threads of this process may wait in flock(2) at a time, those of waits that were given up
   among them; 4 by default. 0: none from now on; waits that have one keep it. See "Helpers". Any thread
   may call it. A forked child keeps the number. */
FILELOCK_API void filelock_set_max_helpers(unsigned max);

/* "1.0.0": the version of the library that is running; static. */
FILELOCK_API const char *filelock_version(void);

#ifdef __cplusplus
}
#endif

#endif
