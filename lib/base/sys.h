/*
 * sys.h - the system calls of the library.
 *
 * Every call that can fail goes through this table, so that a test can replace an entry and make
 * the Nth call fail, in a plain build. An entry has the contract of the call it is named after (-1
 * and errno). The library uses the sys_… functions below: they repeat EINTR where repeating is
 * right, return a negative errno, and give no descriptor below 3.
 */
#ifndef FILELOCK_SYS_H
#define FILELOCK_SYS_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/vfs.h>
#include <time.h>

struct sys_table {
	int (*open)(const char *path, int flags, mode_t mode);
	int (*close)(int fd);
	ssize_t (*read)(int fd, void *buffer, size_t size);
	ssize_t (*write)(int fd, const void *buffer, size_t size);
	ssize_t (*pread)(int fd, void *buffer, size_t size, off_t at);
	ssize_t (*pwrite)(int fd, const void *buffer, size_t size, off_t at);
	int (*ftruncate)(int fd, off_t size);
	int (*fsync)(int fd);
	int (*futimens)(int fd, const struct timespec times[2]);
	int (*flock)(int fd, int operation);
	int (*fstat)(int fd, struct stat *ret);
	int (*lstat)(const char *path, struct stat *ret);
	int (*statfs)(const char *path, struct statfs *ret);
	int (*name_to_handle_at)(int folder, const char *path, struct file_handle *ret, int *ret_mount,
	                         int flags);
	int (*openat)(int folder, const char *name, int flags, mode_t mode);
	int (*fstatat)(int folder, const char *name, struct stat *ret, int flags);
	int (*mkdirat)(int folder, const char *name, mode_t mode);
	int (*unlinkat)(int folder, const char *name, int flags);
	int (*renameat)(int from_folder, const char *from, int to_folder, const char *to);
	ssize_t (*getdents)(int folder, void *buffer, size_t size); /* getdents64(2) */
	int (*unlink)(const char *path);
	int (*linkat)(int from_fd, const char *from, int to_fd, const char *to, int flags);
	int (*mkdir)(const char *path, mode_t mode);
	int (*mknod)(const char *path, mode_t mode, dev_t device);
	int (*utimensat)(int directory, const char *path, const struct timespec times[2],
	                 int flags);
	ssize_t (*readlink)(const char *path, char *buffer, size_t size);
	char *(*realpath)(const char *path, char *resolved);
	char *(*getcwd)(char *buffer, size_t size);
	int (*kill)(pid_t pid, int signal);
	int (*pidfd_open)(pid_t pid, unsigned flags);
	int (*gethostname)(char *name, size_t size);
	int (*fcntl_dupfd)(int fd, int lowest);
	int (*fcntl_getfl)(int fd);
	int (*fcntl_ofd_setlk)(int fd, struct flock *range);
	int (*fcntl_ofd_getlk)(int fd, struct flock *range);
	int (*fcntl_setlk)(int fd, struct flock *range);
	int (*fchmod)(int fd, mode_t mode);
	int (*chmod)(const char *path, mode_t mode);
	int (*fcntl_setsig)(int fd, int signal);
	int (*fcntl_setlease)(int fd, int type);
	ssize_t (*getrandom)(void *buffer, size_t size, unsigned flags);
	int (*dup3)(int from, int to, int flags);
	int (*inotify_init1)(int flags);
	int (*inotify_add_watch)(int fd, const char *path, uint32_t mask);
	int (*inotify_rm_watch)(int fd, int wd);
	int (*epoll_create1)(int flags);
	int (*epoll_ctl)(int epoll, int operation, int fd, struct epoll_event *event);
	int (*epoll_wait)(int epoll, struct epoll_event *ret_events, int size, int timeout_ms);
	int (*eventfd)(unsigned initial, int flags);
	int (*timerfd_create)(int clock, int flags);
	int (*timerfd_settime)(int fd, int flags, const struct itimerspec *at,
	                       struct itimerspec *ret_old);
	int (*ppoll)(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
	             const sigset_t *mask);
	int (*nanosleep)(const struct timespec *time, struct timespec *ret_rest);
	/* these two tell errors by their result */
	int (*pthread_create)(pthread_t *ret, const pthread_attr_t *attributes,
	                      void *(*run)(void *arg), void *arg);
	void *(*dlopen)(const char *name, int flags); /* NULL, too, where there is none */
	int64_t (*now)(void);  /* CLOCK_MONOTONIC, nanoseconds */
	int64_t (*date)(void); /* CLOCK_REALTIME, nanoseconds */
	int64_t (*boot)(void); /* CLOCK_BOOTTIME, nanoseconds: also the time asleep */
	void *(*calloc)(size_t n, size_t size);
};

extern struct sys_table sys;

/* For a path that anybody may have put anything at. O_NONBLOCK: a file under a lease of another
   process (fcntl(2)) would block the open. */
#define SAFE_FLAGS (O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

int sys_open(const char *path, int flags, mode_t mode);
int sys_inotify_init(int flags);
int sys_epoll_create(int flags);
int sys_eventfd(unsigned initial, int flags);
int sys_timerfd_create(int clock, int flags);
int sys_pidfd_open(pid_t pid, unsigned flags);
/* Between the two another library's descriptors are not below 3 either: those numbers are
   occupied, if they are free. */
int sys_occupy_standard(void);
void sys_vacate_standard(void);
/* Never repeated: on Linux the descriptor is gone whatever close(2) says. */
int sys_close(int fd);
int sys_flock(int fd, int operation);
/* Whether an error says that what was asked for (flock(2), link(2)) does not exist there. */
bool sys_is_unsupported(int error);
int sys_fstat(int fd, struct stat *ret);
/* Does not follow a symbolic link at the end of the path. */
int sys_lstat(const char *path, struct stat *ret);
/* Removes a name; 0 also if it is gone already. */
int sys_unlink(const char *path);
int sys_link(const char *from, const char *to, int flags);
/* The same of a name in a folder that is open. */
int sys_open_at(int folder, const char *name, int flags, mode_t mode);
int sys_stat_at(int folder, const char *name, struct stat *ret);
int sys_unlink_at(int folder, const char *name);
int sys_mkdir_at(int folder, const char *name, mode_t mode);
int sys_link_at(int folder, const char *from, const char *to);
int sys_rename_at(int folder, const char *from, const char *to);
/* Unless there is one already, or something else. */
int sys_mkdir(const char *path, mode_t mode);
/* -EEXIST, if there is one. */
int sys_make_file(const char *path, mode_t mode);
/* An exclusive record lock of the open file description on the whole file. */
int sys_lock_record(int fd);
/* Whether others have a record lock on the file, but for waiters that are registered; *ret_pid: who, or
   below 1 if that is not known. */
bool sys_has_record(int fd, pid_t *ret_pid);
/*
 * Whoever watches a lock file registers by a shared record lock of its open file description on one
 * byte far behind the end of any file. A holder that unlocks without closing asks then whether
 * anybody is registered. 1: somebody is, through another description.
 */
#define SYS_WAITERS_BYTE (INT64_C(1) << 61)
int sys_register_waiter(int fd);
int sys_unregister_waiter(int fd);
int sys_has_waiter(int fd);
/* The same on one of the bytes behind that. */
int sys_register_waiter_at(int fd, unsigned place);
int sys_has_waiter_at(int fd, unsigned place);
int sys_truncate(int fd, off_t size);
/* 0 also where there is nothing to wait for. */
int sys_sync(int fd);
/* From the start, up to size bytes; returns how many there are. */
ssize_t sys_read_start(int fd, char *buffer, size_t size);
/* The same of a file that fstat(2) has just found to be so long: its end is not asked for again. */
ssize_t sys_read_known(int fd, char *buffer, size_t size, off_t known);
/* All of it, at the start, or an error: -ENOSPC if nothing more can be written, -EFBIG beyond
   RLIMIT_FSIZE. */
int sys_write_start(int fd, const char *bytes, size_t size);
/* Reads a file (of /proc) to its end or to size - 1 bytes; returns the length, terminated. */
ssize_t sys_read_file(const char *path, char *buffer, size_t size);
/* Random bytes, at most SYS_RANDOM. */
#define SYS_RANDOM 32
int sys_random(void *bytes, size_t size);
/* A name of the descriptor's file. Not below /proc/self: what is there is the first thread's, and
   gone once that has ended by pthread_exit(3). */
#define SYS_FD_LINK 40
void sys_fd_link(char link[SYS_FD_LINK], int fd);
/* Whether the file system is on this machine's own disks or memory, by statfs(2). */
bool sys_is_local(const struct statfs *fs);
bool sys_is_nfs(const struct statfs *fs);
bool sys_is_fuse(const struct statfs *fs);
/* Whether the path names the file of the descriptor, as the kernel knows files: 1 or 0; an error where
   it does not say. A symbolic link is not followed. */
int sys_is_file_at(int fd, const char *path);
char *sys_strdup(const char *text);
/* Like asprintf(3), through the table's allocator; NULL out of memory. */
char *sys_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* As lower-case digits, two a byte, and a NUL. */
void sys_hex(const void *bytes, size_t size, char *ret);

#endif
