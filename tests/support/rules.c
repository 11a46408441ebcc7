#include "rules.h"

#define NATIVE KIND(FILELOCK_NATIVE)
#define SOFT KIND(FILELOCK_SOFT)
#define READWRITE KIND(FILELOCK_READWRITE)
#define STRICT KIND(FILELOCK_STRICT)
#define SOFTRW KIND(FILELOCK_SOFT_READWRITE)
#define FILES (NATIVE | SOFT)
#define ALL (NATIVE | SOFT | READWRITE)
#define BOTH(kinds) ((kinds) | IN_LOOP(kinds))

/* The manual pages', and what network and FUSE file systems add: EIO, ESTALE, ENOSYS, EINTR. */
const struct fault_errors fault_errors[] = {
	{ FAULT_open, ALL | IN_LOOP(FILES), { EACCES, EDQUOT, EINTR, EIO, EISDIR, ELOOP, EMFILE,
	  ENFILE, ENOENT, ENOMEM, ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, EPERM, EROFS, ESTALE,
	  ETXTBSY, EWOULDBLOCK, ENOSYS } },
	{ FAULT_close, BOTH(ALL), { EINTR, EIO, ENOSPC, EDQUOT } },
	{ FAULT_write, ALL, { EAGAIN, EINVAL } },
	{ FAULT_pread, BOTH(SOFT), { EINTR, EIO, ESTALE, EISDIR } },
	{ FAULT_pwrite, FILES | IN_LOOP(SOFT), { EINTR, EIO, ENOSPC, EDQUOT, EFBIG, EPERM, ESTALE,
	  FAULT_SHORT, FAULT_ZERO } },
	{ FAULT_futimens, SOFT, { EACCES, EPERM, EROFS } },
	{ FAULT_flock, BOTH(FILES), { EINTR, ENOLCK, EWOULDBLOCK, EIO, ENOSYS, EOPNOTSUPP, EBADF,
	  ESTALE, ENOMEM, EACCES } },
	{ FAULT_fstat, ALL | IN_LOOP(FILES), { EIO, ENOMEM, EOVERFLOW, EINTR, ESTALE } },
	/* Here and of unlink, not ENOENT: files that go are removed, not said to be gone:
	   process/test_replaced.c */
	{ FAULT_lstat, BOTH(ALL), { EACCES, EIO, ELOOP, ENOMEM, EOVERFLOW, EINTR, ESTALE } },
	{ FAULT_statfs, ALL, { EACCES, EIO, ENOSYS, ENOMEM, ESTALE } },
	{ FAULT_unlink, FILES | IN_LOOP(SOFT), { EACCES, EBUSY, EINTR, EIO, ENOMEM, EPERM,
	  EROFS, ESTALE } },
	{ FAULT_linkat, FILES | IN_LOOP(SOFT), { EACCES, EDQUOT, EEXIST, EINTR, EIO, EMLINK,
	  ENOENT, ENOMEM, ENOSPC, EPERM, EROFS, EXDEV, ENOSYS, EOPNOTSUPP, ESTALE } },
	{ FAULT_mkdir, BOTH(ALL), { EACCES, EDQUOT, EINTR, EIO, EMLINK, ENOMEM, ENOSPC, ENOTDIR,
	  EPERM, EROFS } },
	{ FAULT_mknod, BOTH(READWRITE), { EACCES, EDQUOT, EINTR, EIO, ENOENT, ENOMEM, ENOSPC,
	  EPERM, EROFS, EINVAL, ENOSYS, EOPNOTSUPP } },
	{ FAULT_utimensat, BOTH(READWRITE), { EACCES, EPERM, EROFS, ENOENT, EIO, ESTALE } },
	{ FAULT_readlink, ALL, { EACCES, EIO, ENOENT, ENOMEM } },
	{ FAULT_realpath, ALL | IN_LOOP(READWRITE), { EACCES, EIO, ELOOP, ENAMETOOLONG, ENOENT,
	  ENOMEM } },
	{ FAULT_getcwd, ALL, { EACCES, ENOENT, ENOMEM } },
	{ FAULT_kill, ALL | IN_LOOP(SOFT), { EPERM } },
	{ FAULT_gethostname, ALL | IN_LOOP(SOFT), { ENAMETOOLONG } },
	{ FAULT_pidfd_open, BOTH(SOFT), { EMFILE, ENFILE, ENODEV, ENOMEM, ESRCH, ENOSYS } },
	{ FAULT_epoll_create1, BOTH(SOFT), { EMFILE, ENFILE, ENOMEM } },
	{ FAULT_epoll_ctl, BOTH(SOFT), { ENOMEM, ENOSPC, EPERM } },
	{ FAULT_epoll_wait, SOFT, { EINTR } }, /* in a loop by chance: another event may be first */
	{ FAULT_fcntl_getfl, BOTH(READWRITE), { EBADF } },
	{ FAULT_fcntl_setsig, BOTH(SOFT), { EINVAL } },
	{ FAULT_fcntl_setlease, BOTH(SOFT), { EAGAIN, EACCES, EINVAL, ENOMEM } },
	{ FAULT_getrandom, FILES, { ENOSYS, EIO } },
	{ FAULT_inotify_init1, BOTH(ALL), { EMFILE, ENFILE, ENOMEM, ENOSYS } },
	{ FAULT_inotify_add_watch, BOTH(ALL), { EACCES, ENOENT, ENOMEM, ENOSPC } },
	{ FAULT_inotify_rm_watch, BOTH(ALL), { EINVAL } },
	{ FAULT_eventfd, ALL, { EMFILE, ENFILE, ENODEV, ENOMEM } },
	{ FAULT_timerfd_create, IN_LOOP(ALL), { EMFILE, ENFILE, ENODEV, ENOMEM } },
	{ FAULT_timerfd_settime, IN_LOOP(ALL), { EINVAL } },
	{ FAULT_ppoll, ALL, { EINTR, ENOMEM } },
	{ FAULT_nanosleep, ALL, { EINTR } },
	/* Last: what wakes a waiter is not made use of again when it cannot be read. */
	{ FAULT_read, BOTH(ALL), { EAGAIN, EINTR, EIO, EINVAL, ESTALE } },
	/* Where flock(2) may not tell, and to undo after that: unit/test_takeover.c */
	{ FAULT_fsync, BOTH(SOFTRW), { EDQUOT, EIO, ENOSPC } },
	{ FAULT_ftruncate, 0, { EIO } },
	/* Threads that wait in flock(2): async/test_crowd_faults.c, process/test_helpers.c */
	{ FAULT_pthread_create, 0, { EAGAIN } },
	{ FAULT_dlopen, 0, { ENOENT } },
	/* In a forked child: process/test_fork_faults.c */
	/* Of a program without standard files: process/test_low_fds.c */
	{ FAULT_fcntl_dupfd, 0, { EMFILE } },
	/* Past the umask: process/test_readwrite_files.c */
	/* also on file systems of other machines: process/test_readwrite_files.c */
	{ FAULT_fcntl_ofd_setlk, BOTH(NATIVE | READWRITE), { EAGAIN, EACCES, ENOLCK, ENOMEM, EINVAL, EINTR } },
	{ FAULT_fcntl_ofd_getlk, NATIVE, { EINVAL, EINTR, ENOLCK } },
	/* On NFS only: process/test_readwrite_files.c */
	{ FAULT_fcntl_setlk, 0, { EAGAIN, EINTR, ENOLCK } },
	/* On FUSE only: process/test_native_files.c */
	{ FAULT_name_to_handle_at, 0, { EOPNOTSUPP } },
	{ FAULT_fchmod, 0, { EPERM } },
	{ FAULT_openat, BOTH(STRICT | SOFTRW), { EACCES, EDQUOT, EINTR, EIO, ELOOP, EMFILE, ENFILE,
	  ENOENT, ENOMEM, ENOSPC, ENOTDIR, EROFS, ESTALE } },
	{ FAULT_fstatat, BOTH(STRICT | SOFTRW), { EACCES, EINTR, EIO, ENOMEM, ESTALE } },
	{ FAULT_mkdirat, BOTH(STRICT | SOFTRW), { EACCES, EDQUOT, EINTR, EIO, ENOSPC, EROFS } },
	{ FAULT_unlinkat, BOTH(STRICT | SOFTRW), { EACCES, EBUSY, EINTR, EIO, EPERM, EROFS,
	  ESTALE } },
	{ FAULT_renameat, BOTH(SOFTRW), { EACCES, EINTR, EIO, ENOSPC, EROFS, ESTALE } },
	{ FAULT_getdents, BOTH(STRICT | SOFTRW), { EINTR, EIO, ENOENT, ESTALE } },
	{ FAULT_chmod, 0, { EPERM } },
	{ FAULT_dup3, 0, { EBUSY, EINTR, EMFILE } },
};
const size_t fault_errors_count = sizeof(fault_errors) / sizeof(fault_errors[0]);

#define LOCKING (ON(ACQUIRING) | ON(SHARING) | ON(WAITING) | ON(TAKING) | ON(MAKING))

const struct rule rules[] = {
	/* Once: the call is repeated. A descriptor is gone whatever close(2) says. */
#define REPEATED(call)                                                             \
	{ RULE, EVERY_KIND, EVERY_OPERATION, call, ANYTHING, { EINTR }, ANY_TIME, FINE, 0 }
	REPEATED(FAULT_open), REPEATED(FAULT_flock), REPEATED(FAULT_fstat), REPEATED(FAULT_lstat),
	REPEATED(FAULT_read), REPEATED(FAULT_pread), REPEATED(FAULT_pwrite),
	REPEATED(FAULT_unlink), REPEATED(FAULT_linkat), REPEATED(FAULT_mkdir),
	REPEATED(FAULT_mknod), REPEATED(FAULT_ppoll), REPEATED(FAULT_nanosleep),
	REPEATED(FAULT_fcntl_ofd_setlk), REPEATED(FAULT_fcntl_ofd_getlk),
	{ RULE, EVERY_KIND, EVERY_OPERATION, FAULT_close, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },

	/* Soft. A draft made while another process holds serves the grant, and is then made anew. */
#define AHEAD(call, what) \
	{ RULE, SOFT, ON(WAITING) | ON(TAKING), call, what, { 0 }, ANY_TIME, EITHER, 0 }
	AHEAD(FAULT_open, ITS_FOLDER), AHEAD(FAULT_open, A_DRAFT), AHEAD(FAULT_flock, A_DRAFT),
	AHEAD(FAULT_fstat, A_DRAFT), AHEAD(FAULT_pwrite, A_DRAFT),
	AHEAD(FAULT_gethostname, ANYTHING),
	/* Only a hint is read from a living holder's marker. */
	AHEAD(FAULT_pread, THE_LOCK),

	/* Half of a record is followed by the rest; nothing written means a full disk. */
	{ RULE, EVERY_KIND, EVERY_OPERATION, FAULT_pwrite, ANYTHING, { FAULT_SHORT },
	  ANY_TIME, FINE, 0 },
	{ RULE, EVERY_KIND, EVERY_OPERATION, FAULT_pwrite, ANYTHING, { FAULT_ZERO }, ANY_TIME,
	  SAYS,
	  -ENOSPC },

	/* A wait without events polls. */
#define POLLS(call) { RULE, EVERY_KIND, LOCKING, call, ANYTHING, { 0 }, ANY_TIME, FINE, 0 }
	POLLS(FAULT_inotify_init1), POLLS(FAULT_inotify_add_watch), POLLS(FAULT_inotify_rm_watch),
	POLLS(FAULT_eventfd), POLLS(FAULT_ppoll), POLLS(FAULT_timerfd_create),
	POLLS(FAULT_timerfd_settime), POLLS(FAULT_write),
	{ RULE, EVERY_KIND, LOCKING, FAULT_read, ELSE, { 0 }, ANY_TIME, FINE, 0 },
	/* Without it the locks on a marker prove nothing. */
	{ RULE, SOFT, ON(TAKING), FAULT_statfs, ANYTHING, { 0 }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE | READWRITE, LOCKING, FAULT_statfs, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },

	/* A folder that is missing is made, with those above it, which are there. */
	{ RULE, EVERY_KIND, LOCKING, FAULT_mkdir, ELSE, { 0 }, ANY_TIME, FINE, 0 },
	/* When it is opened, what there is of the path is resolved. */
	{ RULE, EVERY_KIND, ON(OPENING), FAULT_realpath, ITS_FOLDER, { ENOENT }, 1, FINE, 0 },

	/* The holder: unknown where /proc does not tell; the rest of the answer is for show. */
	{ RULE, NATIVE | READWRITE, ON(ASKING), FAULT_open, THE_SYSTEM, { EMFILE, ENFILE,
	  ENOMEM }, 0, FAILS, 0 },
	{ RULE, NATIVE | READWRITE, ON(ASKING), FAULT_statfs, THE_SYSTEM, { ENOMEM }, 0,
	  FAILS, 0 },
#define UNKNOWN(call)                                                                       \
	{ RULE, NATIVE | READWRITE, ON(ASKING), call, THE_SYSTEM, { 0 }, ANY_TIME, SAYS,    \
	  FILELOCK_EUNKNOWNHOLDER }
#define SHOWN(kinds, call, what) \
	{ RULE, kinds, EVERY_OPERATION, call, what, { 0 }, ANY_TIME, FINE, 0 }
	{ RULE, SOFT, ON(ASKING), FAULT_readlink, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	UNKNOWN(FAULT_open), UNKNOWN(FAULT_read), UNKNOWN(FAULT_readlink), UNKNOWN(FAULT_statfs),
	SHOWN(EVERY_KIND, FAULT_open, A_PROCESS), SHOWN(EVERY_KIND, FAULT_read, A_PROCESS),
	SHOWN(NATIVE | READWRITE, FAULT_readlink, A_PROCESS),
	/* here it is the question whether a pid can be trusted */
	SHOWN(SOFT, FAULT_readlink, THE_SYSTEM),
	{ RULE, EVERY_KIND, ON(ASKING), FAULT_gethostname, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE | READWRITE, ON(ASKING), FAULT_kill, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, EVERY_KIND, ON(ASKING), FAULT_open, THE_LOCK, { ENOENT }, ANY_TIME, SAYS,
	  FILELOCK_ENOHOLDER },
	{ RULE, SOFT, ON(ASKING), FAULT_open, THE_LOCK, { EACCES, EWOULDBLOCK }, ANY_TIME, SAYS,
	  FILELOCK_EUNKNOWNHOLDER },

	/* Native. Who cannot register among the waiters polls, unless a close wakes it. */
	{ RULE, NATIVE | READWRITE, LOCKING, FAULT_fcntl_ofd_setlk, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	/* Where it is not known whether anybody waits, or the notice fails, the file is closed. */
	{ RULE, NATIVE, ON(RELEASING), FAULT_fcntl_ofd_getlk, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, ON(RELEASING), FAULT_open, THE_SYSTEM, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, ON(RELEASING), FAULT_open, THE_LOCK, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, ON(RELEASING), FAULT_fstat, THE_LOCK, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, ON(RELEASING), FAULT_statfs, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },

	/* Whether flock(2) works is looked for on a file without a name, or with a private
	   one, whose removal has no second chance. */
	{ RULE, FILES, LOCKING, FAULT_open, ITS_FOLDER, { EOPNOTSUPP, EISDIR, ENOSYS, EIO, ENXIO,
	  EROFS, ESTALE, ETXTBSY, EWOULDBLOCK }, ANY_TIME, FINE, 0 },
	/* Whose random bytes a device has as well. */
	{ RULE, FILES, LOCKING, FAULT_getrandom, ANYTHING, { ENOSYS }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, ITS_FOLDER, { ENOENT }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_flock, A_DRAFT, { ENOSYS, EOPNOTSUPP }, ANY_TIME,
	  EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_flock, A_DRAFT, { EWOULDBLOCK, EACCES, EBADF, EIO, ENOLCK,
	  ENOMEM, ESTALE }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, A_DRAFT, { ENOENT }, 1, FINE, 0 },
	{ RULE, FILES, LOCKING, FAULT_unlink, A_DRAFT, { 0 }, ANY_TIME, LEAVES, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { ENOENT }, 1, FINE, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, THE_LOCK, { ENOENT }, 1, FINE, 0 },
	/* Opening without O_CREAT may be allowed, or reading, which is enough; and what was refused
	   and is gone is made again. */
	{ RULE, NATIVE, ON(ACQUIRING) | ON(SHARING), FAULT_open, THE_LOCK,
	  { EACCES, EPERM, EROFS, ETXTBSY }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, ON(WAITING), FAULT_open, THE_LOCK, { EACCES, EPERM, EROFS, ETXTBSY },
	  ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { EACCES, EPERM, EROFS, ETXTBSY },
	  ANY_TIME, EITHER, 0 },
	/* A stale descriptor or name is a removed file's, unless it stays so. */
	{ RULE, NATIVE, ON(RELEASING) | ON(REMOVING), FAULT_flock, ANYTHING, { ESTALE },
	  ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_flock, THE_LOCK, { ESTALE }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_fstat, THE_LOCK, { ESTALE }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_lstat, THE_LOCK, { ESTALE }, ANY_TIME, EITHER, 0 },
	/* Where a file beside may not be made, the lock file itself is tried. */
	{ RULE, NATIVE, LOCKING, FAULT_open, ITS_FOLDER, { EACCES, EPERM }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, A_DRAFT, { EACCES, EPERM }, ANY_TIME, EITHER, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { ENXIO }, ANY_TIME, SAYS,
	  FILELOCK_ENOTREGULAR },
	{ RULE, NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { EWOULDBLOCK }, ANY_TIME, HELD, 0 },
	{ RULE, NATIVE, LOCKING, FAULT_flock, THE_LOCK, { EWOULDBLOCK, EACCES }, ANY_TIME,
	  HELD, 0 },
	/* A file that stays is unlocked; a removed one is released whatever unlocking gives. */
	{ RULE, NATIVE, ON(REMOVING), FAULT_lstat, THE_LOCK, { 0 }, ANY_TIME, FINE, 0 },
	/* a file system that is not known is not asked for its lock */
	{ RULE, NATIVE | READWRITE, ON(VERIFYING), FAULT_statfs, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, ON(REMOVING), FAULT_flock, ELSE, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, NATIVE, ON(REMOVING), FAULT_flock, THE_LOCK, { 0 }, 1, FINE, 0 },
	/* Closing has nobody to tell, and ends the hold by closing the descriptor. */
#define CLOSED(kinds, call) { RULE, kinds, ON(CLOSING), call, ANYTHING, { 0 }, ANY_TIME, FINE, 0 }
	CLOSED(EVERY_KIND, FAULT_flock), CLOSED(SOFT, FAULT_lstat), CLOSED(SOFT, FAULT_unlink),
	CLOSED(EVERY_KIND, FAULT_utimensat),

	/* Soft. */
	/* Without flock(2), and where it is refused to a draft, the marker does alone. */
	{ RULE, SOFT, LOCKING, FAULT_flock, A_DRAFT, { EWOULDBLOCK, EACCES, ENOSYS,
	  EOPNOTSUPP }, ANY_TIME,
	  FINE, 0 },
	{ RULE, SOFT, LOCKING, FAULT_flock, THE_LOCK, { EWOULDBLOCK, EACCES, ENOSYS, EOPNOTSUPP },
	  ANY_TIME, HELD, 0 },
	{ RULE, SOFT, LOCKING, FAULT_flock, THE_LOCK, { ENOLCK }, ANY_TIME, EITHER, 0 },
	/* The second of the three gives the judge's lock back: that may fail. */
	{ RULE, SOFT, ON(TAKING), FAULT_flock, THE_LOCK, { 0 }, ANY_TIME, EITHER, 0 },
	{ RULE, SOFT, ON(RELEASING), FAULT_flock, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	/* Markers that may not be opened are held; those that are gone, or changed, a race. */
	{ RULE, SOFT, LOCKING, FAULT_open, THE_LOCK,
	  { EACCES, EPERM, ENOENT, ELOOP, ENXIO, EWOULDBLOCK, EROFS }, ANY_TIME, EITHER, 0 },
	{ RULE, SOFT, LOCKING, FAULT_open, ITS_FOLDER, { ENOENT }, 1, FINE, 0 },
#define GONE(call) { RULE, SOFT, LOCKING, call, THE_LOCK, { ESTALE, ENOENT }, ANY_TIME, EITHER, 0 }
	GONE(FAULT_lstat), GONE(FAULT_open), GONE(FAULT_fstat), GONE(FAULT_flock),
	GONE(FAULT_pwrite),
	{ RULE, SOFT, LOCKING, FAULT_lstat, MISSING_LOCK, { ESTALE }, ANY_TIME, EITHER, 0 },
	{ RULE, SOFT, LOCKING, FAULT_open, MISSING_LOCK, { ESTALE }, ANY_TIME, EITHER, 0 },
	/* In a loop a request first gives back what it keeps open for its wait, and tries again. */
	{ RULE, IN_LOOP(SOFT), ON(WAITING), FAULT_open, THE_LOCK, { EMFILE, ENFILE }, ANY_TIME,
	  EITHER, 0 },
	{ RULE, SOFT, LOCKING, FAULT_open, A_DRAFT, { ENOENT }, 1, FINE, 0 },
	{ RULE, SOFT, LOCKING, FAULT_open, MISSING_LOCK, { ENOENT }, 1, FINE, 0 },
	/* Whether it was emptied is only looked at. */
	{ RULE, SOFT, ON(VERIFYING), FAULT_fstat, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	/* The next way, of making a file or of linking it: whatever the refusal, nothing is there. */
	{ RULE, SOFT, LOCKING, FAULT_open, ITS_FOLDER, { EACCES, EPERM }, ANY_TIME, FINE, 0 },
	{ RULE, SOFT, LOCKING, FAULT_open, A_DRAFT, { EACCES, EPERM }, ANY_TIME, FINE, 0 },
	{ RULE, FILES, LOCKING, FAULT_linkat, ANYTHING, { EACCES, EDQUOT, EIO, ENOENT, ENOMEM,
	  ENOSPC, EROFS, ESTALE }, ANY_TIME, EITHER, 0 },
	/* The marker is looked at by its name, where an error is as good as no answer. */
	{ RULE, SOFT, LOCKING, FAULT_flock, THE_LOCK, { EBADF, EIO, ENOMEM, ESTALE }, ANY_TIME,
	  EITHER, 0 },
	/* What the system does not tell of the PID namespace is not in the record. */
	{ RULE, SOFT, LOCKING, FAULT_readlink, ANYTHING, { 0 }, ANY_TIME, EITHER, 0 },
	/* "no links here" */
	{ RULE, SOFT, LOCKING, FAULT_pwrite, A_DRAFT, { EPERM }, ANY_TIME, EITHER, 0 },
	/* Links: the next way, or a race. */
	{ RULE, FILES, LOCKING, FAULT_linkat, ANYTHING, { EMLINK, EPERM, EXDEV, ENOSYS,
	  EOPNOTSUPP },
	  ANY_TIME, FINE, 0 },
	{ RULE, FILES, LOCKING, FAULT_linkat, ANYTHING, { EEXIST, ENOENT }, ANY_TIME, HELD, 0 },
	{ RULE, SOFT, LOCKING, FAULT_futimens, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	/* A holder that is not proved dead lives. */
	{ RULE, SOFT, LOCKING, FAULT_kill, ANYTHING, { 0 }, ANY_TIME, HELD, 0 },
	{ RULE, SOFT, LOCKING, FAULT_fcntl_setsig, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, SOFT, LOCKING, FAULT_fcntl_setlease, ANYTHING, { EAGAIN }, ANY_TIME, HELD, 0 },
	{ RULE, SOFT, LOCKING, FAULT_fcntl_setlease, ANYTHING, { 0 }, ANY_TIME, EITHER, 0 },
	POLLS(FAULT_pidfd_open), POLLS(FAULT_epoll_create1), POLLS(FAULT_epoll_ctl),
	POLLS(FAULT_epoll_wait),

	/* Native, after what its marker says where it falls back. */
	{ RULE, NATIVE, LOCKING, FAULT_open, THE_LOCK, { ENXIO }, ANY_TIME, SAYS,
	  FILELOCK_ENOTREGULAR },
	{ RULE, NATIVE, LOCKING, FAULT_open, THE_LOCK, { EWOULDBLOCK }, ANY_TIME, HELD, 0 },

	/* Read/write. Setting its times is a hint. */
	{ RULE, READWRITE, LOCKING, FAULT_open, ITS_FOLDER, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, READWRITE, LOCKING, FAULT_realpath, ANYTHING, { ENOENT }, ANY_TIME, HELD, 0 },
	{ RULE, READWRITE, ON(MAKING), FAULT_mknod, ANYTHING, { ENOENT }, ANY_TIME, EITHER, 0 },
	/* Where there is none, open(2) makes the file. */
	{ RULE, READWRITE, LOCKING, FAULT_mknod, ANYTHING, { EPERM, EINVAL, ENOSYS, EOPNOTSUPP },
	  ANY_TIME, FINE, 0 },
	/* A standard descriptor that seems closed is kept from SQLite for a while. */
	{ RULE, READWRITE, EVERY_OPERATION, FAULT_fcntl_getfl, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ RULE, READWRITE, LOCKING, FAULT_mknod, ANYTHING, { ENOENT }, 1, FINE, 0 },
	{ RULE, READWRITE, EVERY_OPERATION, FAULT_utimensat, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
};
const size_t rules_count = sizeof(rules) / sizeof(rules[0]);
