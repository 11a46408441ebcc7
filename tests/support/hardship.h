/*
 * hardship.h - a system that has used up its inotify watches, or its disk. In a child: it does not
 * come back from there.
 */
#ifndef FILELOCK_TESTS_HARDSHIP_H
#define FILELOCK_TESTS_HARDSHIP_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "support.h"

enum { HARDSHIP_MISSING = 77 };

static inline bool hardship_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return written;
}

/* limit: "max_inotify_instances" or "max_inotify_watches", of a user namespace of one's own. */
static inline bool hardship_no_inotify(const char *limit)
{
	char map[64], path[64];

	(void)snprintf(map, sizeof(map), "0 %ld 1", (long)geteuid());
	(void)snprintf(path, sizeof(path), "/proc/sys/user/%s", limit);
	return unshare(CLONE_NEWUSER) == 0 && hardship_write("/proc/self/uid_map", map) &&
	       hardship_write(path, "0");
}

/* The test's folder is a file system of one page and of three inodes, one of which is its own. */
static inline bool hardship_small_disk(void)
{
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", "", MS_REC | MS_PRIVATE, "") == 0 &&
	       mount("none", test_folder(), "tmpfs", 0, "size=4k,nr_inodes=3,mode=755") == 0;
}

static inline void hardship_fill_disk(void)
{
	test_write_file(test_path("one"), "");
	test_write_file(test_path("two"), "");
}

static inline void hardship_take_alarm(int signal)
{
	(void)signal;
}

enum loss { REMOVED, RENAMED, UNMOUNTED, LOSSES };

/* A folder that can be taken away, with "lock" in it. False: it cannot. */
static inline bool hardship_make_folder(enum loss loss)
{
	ck_assert_int_eq(mkdir(test_path("folder"), 0755), 0);
	return loss != UNMOUNTED ||
	       (unshare(CLONE_NEWNS) == 0 &&
	        mount("none", "/", "", MS_REC | MS_PRIVATE, "") == 0 &&
	        mount("none", test_path("folder"), "tmpfs", 0, "size=1m,mode=755") == 0);
}

static inline void hardship_take_folder(enum loss loss)
{
	if (loss == RENAMED) {
		ck_assert_int_eq(rename(test_path("folder"), test_path("away")), 0);
	} else if (loss == UNMOUNTED) {
		ck_assert_int_eq(umount2(test_path("folder"), MNT_DETACH), 0);
	} else {
		ck_assert_int_eq(unlink(test_path("folder/lock")), 0);
		ck_assert_int_eq(rmdir(test_path("folder")), 0);
	}
}

/* SIGALRM ten thousand times a second, without SA_RESTART. */
static inline void hardship_storm(bool on)
{
	struct sigaction action = { .sa_handler = hardship_take_alarm };
	struct itimerval interval = { { 0, on ? 100 : 0 }, { 0, on ? 100 : 0 } };

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &interval, NULL), 0);
}

/* Runs in a child, or says why not. */
static inline void hardship_run(int (*run)(void *arg), void *arg)
{
	int status;

	(void)test_folder();
	status = test_in_child(run, arg);
	if (status == HARDSHIP_MISSING)
		test_skip("the system gives no such namespace");
	else
		ck_assert_int_eq(status, 0);
}

#endif
