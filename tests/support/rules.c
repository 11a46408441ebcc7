#include "rules.h"

#define NATIVE KIND(FILELOCK_NATIVE)
#define SOFT KIND(FILELOCK_SOFT)
#define READWRITE KIND(FILELOCK_READWRITE)

/* The manual pages', and what network and FUSE file systems add: EIO, ESTALE, ENOSYS, EINTR. */
const struct fault_errors fault_errors[] = {
	{ FAULT_open, { EACCES, EDQUOT, EINTR, EIO, EISDIR, ELOOP, EMFILE, ENFILE, ENOENT, ENOMEM,
	                ENOSPC, ENOTDIR, ENXIO, EOPNOTSUPP, EPERM, EROFS, ESTALE, ETXTBSY,
	                EWOULDBLOCK, ENOSYS } },
	{ FAULT_close, { EINTR, EIO, ENOSPC, EDQUOT } },
	{ FAULT_read, { EAGAIN, EINTR, EIO, EINVAL, ESTALE } },
	{ FAULT_pread, { EINTR, EIO, ESTALE, EISDIR } },
	{ FAULT_pwrite, { EINTR, EIO, ENOSPC, EDQUOT, EFBIG, EPERM, ESTALE, FAULT_SHORT,
	                  FAULT_ZERO } },
	{ FAULT_ftruncate, { EIO, EPERM, EROFS, EINTR } },
	{ FAULT_futimens, { EACCES, EPERM, EROFS } },
	{ FAULT_flock, { EINTR, ENOLCK, EWOULDBLOCK, EIO, ENOSYS, EOPNOTSUPP, EBADF, ESTALE,
	                 ENOMEM, EACCES } },
	{ FAULT_fstat, { EIO, ENOMEM, EOVERFLOW, EINTR, ESTALE } },
	/* Here and of unlink, not ENOENT: files that go are removed, not said to be gone:
	   process/test_replaced.c */
	{ FAULT_lstat, { EACCES, EIO, ELOOP, ENOMEM, EOVERFLOW, EINTR, ESTALE } },
	{ FAULT_statfs, { EACCES, EIO, ENOSYS, ENOMEM, ESTALE } },
	{ FAULT_unlink, { EACCES, EBUSY, EIO, ENOMEM, EPERM, EROFS, ESTALE } },
	{ FAULT_linkat, { EACCES, EDQUOT, EEXIST, EIO, EMLINK, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS,
	                  EXDEV, ENOSYS, EOPNOTSUPP, ESTALE } },
	{ FAULT_mkdir, { EACCES, EDQUOT, EIO, EMLINK, ENOMEM, ENOSPC, ENOTDIR, EPERM, EROFS } },
	{ FAULT_mknod, { EACCES, EDQUOT, EIO, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS } },
	{ FAULT_utimensat, { EACCES, EPERM, EROFS, ENOENT, EIO, ESTALE } },
	{ FAULT_readlink, { EACCES, EIO, ENOENT, ENOMEM } },
	{ FAULT_realpath, { EACCES, EIO, ELOOP, ENAMETOOLONG, ENOENT, ENOMEM } },
	{ FAULT_getcwd, { EACCES, ENOENT, ENOMEM } },
	{ FAULT_kill, { EPERM } },
	{ FAULT_gethostname, { ENAMETOOLONG } },
	{ FAULT_pidfd_open, { EMFILE, ENFILE, ENODEV, ENOMEM, ESRCH, ENOSYS } },
	{ FAULT_epoll_create1, { EMFILE, ENFILE, ENOMEM } },
	{ FAULT_epoll_ctl, { ENOMEM, ENOSPC, EPERM } },
	{ FAULT_epoll_wait, { EINTR } },
	{ FAULT_fcntl_setsig, { EINVAL } },
	{ FAULT_fcntl_setlease, { EAGAIN, EACCES, EINVAL, ENOMEM } },
	{ FAULT_getrandom, { ENOSYS, EIO } },
	{ FAULT_inotify_init1, { EMFILE, ENFILE, ENOMEM, ENOSYS } },
	{ FAULT_inotify_add_watch, { EACCES, ENOENT, ENOMEM, ENOSPC } },
	{ FAULT_inotify_rm_watch, { EINVAL } },
	{ FAULT_eventfd, { EMFILE, ENFILE, ENODEV, ENOMEM } },
	{ FAULT_timerfd_create, { EMFILE, ENFILE, ENODEV, ENOMEM } },
	{ FAULT_timerfd_settime, { EINVAL } },
	{ FAULT_ppoll, { EINTR, ENOMEM } },
	{ FAULT_nanosleep, { EINTR } },
};
const size_t fault_errors_count = sizeof(fault_errors) / sizeof(fault_errors[0]);

#define LOCKING (ON(ACQUIRING) | ON(SHARING) | ON(WAITING) | ON(TAKING))

const struct rule rules[] = {
	/* Once: the call is repeated. A descriptor is gone whatever close(2) says. */
#define REPEATED(call)                                                             \
	{ EVERY_KIND, EVERY_OPERATION, call, ANYTHING, { EINTR }, ANY_TIME, FINE, 0 }
	REPEATED(FAULT_open), REPEATED(FAULT_flock), REPEATED(FAULT_fstat), REPEATED(FAULT_lstat),
	REPEATED(FAULT_read), REPEATED(FAULT_pread), REPEATED(FAULT_pwrite),
	REPEATED(FAULT_ppoll), REPEATED(FAULT_nanosleep),
	{ EVERY_KIND, EVERY_OPERATION, FAULT_close, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },

	/* Soft. What is made while another one holds is made for the grant, and then once more. */
#define AHEAD(call, what) { SOFT, ON(WAITING) | ON(TAKING), call, what, { 0 }, ANY_TIME, EITHER, 0 }
	AHEAD(FAULT_open, ITS_FOLDER), AHEAD(FAULT_open, A_DRAFT), AHEAD(FAULT_flock, A_DRAFT),
	AHEAD(FAULT_fstat, A_DRAFT), AHEAD(FAULT_pwrite, A_DRAFT), AHEAD(FAULT_gethostname, ANYTHING),
	/* Of a living holder's marker only a hint is read. */
	AHEAD(FAULT_pread, THE_LOCK),

	/* Half of a record is followed by the rest; nothing written means a full disk. */
	{ EVERY_KIND, EVERY_OPERATION, FAULT_pwrite, ANYTHING, { FAULT_SHORT }, ANY_TIME, FINE, 0 },
	{ EVERY_KIND, EVERY_OPERATION, FAULT_pwrite, ANYTHING, { FAULT_ZERO }, ANY_TIME, SAYS,
	  -ENOSPC },

	/* A wait without events polls. */
#define POLLS(call) { EVERY_KIND, LOCKING, call, ANYTHING, { 0 }, ANY_TIME, FINE, 0 }
	POLLS(FAULT_inotify_init1), POLLS(FAULT_inotify_add_watch), POLLS(FAULT_inotify_rm_watch),
	POLLS(FAULT_eventfd), POLLS(FAULT_ppoll), POLLS(FAULT_timerfd_create),
	POLLS(FAULT_timerfd_settime),
	{ EVERY_KIND, LOCKING, FAULT_read, ELSE, { 0 }, ANY_TIME, FINE, 0 },
	{ EVERY_KIND, LOCKING, FAULT_statfs, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },

	/* A folder that is missing: what there is of the path is resolved. */
	{ EVERY_KIND, ON(OPENING), FAULT_realpath, ITS_FOLDER, { ENOENT }, 1, FINE, 0 },

	/* Who holds it: what /proc does not tell is unknown; the rest of the answer is for show. */
	{ EVERY_KIND, ON(ASKING), FAULT_open, THE_SYSTEM, { EMFILE, ENFILE, ENOMEM }, 0, FAILS, 0 },
	{ EVERY_KIND, ON(ASKING), FAULT_statfs, THE_SYSTEM, { ENOMEM }, 0, FAILS, 0 },
#define UNKNOWN(call) \
	{ EVERY_KIND, ON(ASKING), call, THE_SYSTEM, { 0 }, ANY_TIME, SAYS, FILELOCK_EUNKNOWNHOLDER }
#define SHOWN(call, what) { EVERY_KIND, EVERY_OPERATION, call, what, { 0 }, ANY_TIME, FINE, 0 }
	{ SOFT, ON(ASKING), FAULT_readlink, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	UNKNOWN(FAULT_open), UNKNOWN(FAULT_read), UNKNOWN(FAULT_readlink), UNKNOWN(FAULT_statfs),
	SHOWN(FAULT_open, A_PROCESS), SHOWN(FAULT_read, A_PROCESS), SHOWN(FAULT_readlink, A_PROCESS),
	SHOWN(FAULT_open, THE_SYSTEM), SHOWN(FAULT_read, THE_SYSTEM),
	SHOWN(FAULT_readlink, THE_SYSTEM), /* here it is the question whether a pid can be trusted */
	{ EVERY_KIND, ON(ASKING), FAULT_gethostname, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ EVERY_KIND, ON(ASKING), FAULT_kill, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ EVERY_KIND, ON(ASKING), FAULT_open, THE_LOCK, { ENOENT }, ANY_TIME, SAYS,
	  FILELOCK_ENOHOLDER },
	{ SOFT, ON(ASKING), FAULT_open, THE_LOCK, { EACCES, EWOULDBLOCK }, ANY_TIME, SAYS,
	  FILELOCK_EUNKNOWNHOLDER },

	/* Native. Whether flock(2) works is looked for on a file without a name, or with a private
	   one, whose removal has no second chance. */
	{ NATIVE | SOFT, LOCKING, FAULT_open, ITS_FOLDER, { EOPNOTSUPP, EISDIR, ENOSYS },
	  ANY_TIME, FINE, 0 },
	{ NATIVE, LOCKING, FAULT_open, ITS_FOLDER, { ENOENT }, ANY_TIME, EITHER, 0 },
	{ NATIVE, LOCKING, FAULT_flock, A_DRAFT, { ENOSYS, EOPNOTSUPP }, ANY_TIME, EITHER, 0 },
	{ NATIVE, LOCKING, FAULT_flock, A_DRAFT, { EWOULDBLOCK, EACCES }, ANY_TIME, EITHER, 0 },
	{ NATIVE, LOCKING, FAULT_open, A_DRAFT, { ENOENT }, 1, FINE, 0 },
	{ NATIVE | SOFT, LOCKING, FAULT_unlink, A_DRAFT, { 0 }, ANY_TIME, LEAVES, 0 },
	{ NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { ENOENT }, 1, FINE, 0 },
	{ NATIVE, LOCKING, FAULT_open, THE_LOCK, { ENOENT }, 1, FINE, 0 },
	/* Opening without O_CREAT may be allowed; and reading, which is enough to share. */
	{ NATIVE, ON(ACQUIRING), FAULT_open, THE_LOCK, { EACCES, EPERM }, 1, FINE, 0 },
	{ NATIVE, ON(SHARING), FAULT_open, THE_LOCK, { EACCES, EPERM }, 2, FINE, 0 },
	{ NATIVE, ON(SHARING), FAULT_open, THE_LOCK, { EROFS }, 1, FINE, 0 },
	{ NATIVE, ON(WAITING), FAULT_open, THE_LOCK, { EACCES, EPERM, EROFS }, ANY_TIME, EITHER, 0 },
	{ NATIVE, LOCKING, FAULT_open, THE_LOCK, { ENXIO }, ANY_TIME, SAYS, FILELOCK_ENOTREGULAR },
	{ NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { ENXIO }, ANY_TIME, SAYS,
	  FILELOCK_ENOTREGULAR },
	{ NATIVE, LOCKING, FAULT_open, THE_LOCK, { EWOULDBLOCK }, ANY_TIME, HELD, 0 },
	{ NATIVE, LOCKING, FAULT_open, MISSING_LOCK, { EWOULDBLOCK }, ANY_TIME, HELD, 0 },
	{ NATIVE, LOCKING, FAULT_flock, THE_LOCK, { EWOULDBLOCK, EACCES }, ANY_TIME, HELD, 0 },
	/* What was not removed is unlocked; what was, is released whatever the unlocking says. */
	{ NATIVE, ON(REMOVING), FAULT_lstat, THE_LOCK, { 0 }, ANY_TIME, FINE, 0 },
	{ NATIVE, ON(REMOVING), FAULT_flock, ELSE, { 0 }, ANY_TIME, FINE, 0 },
	{ NATIVE, ON(REMOVING), FAULT_flock, THE_LOCK, { 0 }, 1, FINE, 0 },
	/* Closing has nobody to tell, and ends the hold by closing the descriptor. */
#define CLOSED(call) { EVERY_KIND, ON(CLOSING), call, ANYTHING, { 0 }, ANY_TIME, FINE, 0 }
	CLOSED(FAULT_flock), CLOSED(FAULT_lstat), CLOSED(FAULT_unlink), CLOSED(FAULT_utimensat),

	/* Soft. */
	/* Without flock(2), and where it is refused to a draft, the marker does alone. */
	{ SOFT, LOCKING, FAULT_flock, A_DRAFT, { EWOULDBLOCK, EACCES, ENOSYS, EOPNOTSUPP }, ANY_TIME,
	  FINE, 0 },
	{ SOFT, LOCKING, FAULT_flock, THE_LOCK, { EWOULDBLOCK, EACCES, ENOSYS, EOPNOTSUPP },
	  ANY_TIME, HELD, 0 },
	{ SOFT, LOCKING, FAULT_flock, THE_LOCK, { ENOLCK }, ANY_TIME, EITHER, 0 },
	/* Of the three, the second gives the judge's back: that may fail. */
	{ SOFT, ON(TAKING), FAULT_flock, THE_LOCK, { 0 }, ANY_TIME, EITHER, 0 },
	{ SOFT, ON(RELEASING), FAULT_flock, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	/* Markers that may not be opened are held; those that are gone, or changed, a race. */
	{ SOFT, LOCKING, FAULT_open, THE_LOCK,
	  { EACCES, EPERM, ENOENT, ELOOP, ENXIO, EWOULDBLOCK, EROFS }, ANY_TIME, EITHER, 0 },
	{ SOFT, ON(TAKING), FAULT_pread, THE_LOCK, { 0 }, ANY_TIME, EITHER, 0 },
	{ SOFT, LOCKING, FAULT_open, ITS_FOLDER, { ENOENT }, 1, FINE, 0 },
	{ SOFT, LOCKING, FAULT_open, A_DRAFT, { ENOENT }, 1, FINE, 0 },
	{ SOFT, LOCKING, FAULT_open, MISSING_LOCK, { ENOENT }, 1, FINE, 0 },
	{ SOFT, LOCKING, FAULT_pwrite, A_DRAFT, { EPERM }, ANY_TIME, EITHER, 0 }, /* "no links here" */
	{ SOFT, ON(TAKING), FAULT_gethostname, ANYTHING, { 0 }, ANY_TIME, EITHER, 0 },
	/* Links: the next way, or a race. */
	{ NATIVE | SOFT, LOCKING, FAULT_linkat, ANYTHING, { EMLINK, EPERM, EXDEV, ENOSYS, EOPNOTSUPP },
	  ANY_TIME, FINE, 0 },
	{ NATIVE | SOFT, LOCKING, FAULT_linkat, ANYTHING, { EEXIST, ENOENT }, ANY_TIME, HELD, 0 },
	{ SOFT, LOCKING, FAULT_futimens, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	/* Whoever cannot be proved dead lives. */
	{ SOFT, LOCKING, FAULT_kill, ANYTHING, { 0 }, ANY_TIME, HELD, 0 },
	{ SOFT, LOCKING, FAULT_fcntl_setsig, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
	{ SOFT, LOCKING, FAULT_fcntl_setlease, ANYTHING, { EAGAIN }, ANY_TIME, HELD, 0 },
	{ SOFT, LOCKING, FAULT_fcntl_setlease, ANYTHING, { 0 }, ANY_TIME, EITHER, 0 },
	POLLS(FAULT_pidfd_open), POLLS(FAULT_epoll_create1), POLLS(FAULT_epoll_ctl),
	POLLS(FAULT_epoll_wait),

	/* Read/write. Setting its times is a hint. */
	{ READWRITE, LOCKING, FAULT_realpath, ANYTHING, { ENOENT }, ANY_TIME, HELD, 0 },
	{ READWRITE, LOCKING, FAULT_mknod, ANYTHING, { ENOENT }, 1, FINE, 0 },
	{ READWRITE, EVERY_OPERATION, FAULT_utimensat, ANYTHING, { 0 }, ANY_TIME, FINE, 0 },
};
const size_t rules_count = sizeof(rules) / sizeof(rules[0]);
