/*
 * calls.h - the entries of the table of calls: -1 and errno, as those that they are named after.
 */
#ifndef FILELOCK_TESTS_SIM_CALLS_H
#define FILELOCK_TESTS_SIM_CALLS_H

#include "kernel.h"

int call_open(const char *path, int flags, mode_t mode);
int call_close(int fd);
ssize_t call_read(int fd, void *buffer, size_t size);
ssize_t call_write(int fd, const void *buffer, size_t size);
ssize_t call_pread(int fd, void *buffer, size_t size, off_t at);
ssize_t call_pwrite(int fd, const void *buffer, size_t size, off_t at);
int call_ftruncate(int fd, off_t size);
int call_fsync(int fd);
int call_futimens(int fd, const struct timespec times[2]);
int call_utimensat(int directory, const char *path, const struct timespec times[2], int flags);
int call_flock(int fd, int operation);
int call_fstat(int fd, struct stat *ret);
int call_lstat(const char *path, struct stat *ret);
int call_statfs(const char *path, struct statfs *ret);
int call_unlink(const char *path);
int call_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags);
int call_renameat(int from_folder, const char *from, int to_folder, const char *to);
int call_openat(int folder, const char *name, int flags, mode_t mode);
int call_fstatat(int folder, const char *name, struct stat *ret, int flags);
int call_mkdirat(int folder, const char *name, mode_t mode);
int call_unlinkat(int folder, const char *name, int flags);
ssize_t call_getdents(int folder, void *buffer, size_t size);
int call_mkdir(const char *path, mode_t mode);
int call_mknod(const char *path, mode_t mode, dev_t device);
int call_getfl(int fd);
int call_ofd_setlk(int fd, struct flock *range);
int call_ofd_getlk(int fd, struct flock *range);
int call_setsig(int fd, int signal);
int call_setlease(int fd, int type);
int call_dup3(int from, int to, int flags);
int call_inotify_init1(int flags);
int call_inotify_add_watch(int fd, const char *path, uint32_t mask);
int call_inotify_rm_watch(int fd, int wd);
int call_eventfd(unsigned initial, int flags);
int call_timerfd_create(int clock, int flags);
int call_timerfd_settime(int fd, int flags, const struct itimerspec *at,
                         struct itimerspec *ret_old);
int call_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
               const sigset_t *mask);
int call_nanosleep(const struct timespec *time, struct timespec *ret_rest);
int call_pidfd_open(pid_t pid, unsigned flags);
int call_epoll_create1(int flags);
int call_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);
int call_epoll_wait(int epoll, struct epoll_event *ret_events, int size, int timeout_ms);

#endif
