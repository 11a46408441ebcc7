/*
 * softly.h - what the tests of soft locks share: markers made by hand.
 */
#ifndef FILELOCK_TESTS_SOFTLY_H
#define FILELOCK_TESTS_SOFTLY_H

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kinds/liveness.h"
#include "support.h"

static inline void put_bytes(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
	close(fd);
}

/* As in our records: in a PID namespace that is not the first one the host has its number. */
static inline const char *own_host(void)
{
	static char host[256];
	struct stat st;
	size_t length;

	ck_assert_int_eq(gethostname(host, sizeof(host)), 0);
	length = strlen(host);
	if (stat("/proc/self/ns/pid", &st) == 0 && st.st_ino != 0xeffffffc)
		(void)snprintf(host + length, sizeof(host) - length, "?pidns-%lx",
		               (unsigned long)st.st_ino);
	return host;
}

/* Whether its writer takes records of ours for those of its own host, and we its. Python's releases before
   4.1 do not where we name a PID namespace. */
static inline bool is_own_host(const char *host)
{
	return strcmp(host, own_host()) == 0;
}

/* A record of this host; token NULL: two lines. */
static inline void put_record(const char *path, pid_t pid, const char *token)
{
	char bytes[MARKER_SIZE];
	size_t size = soft_record_format(bytes, pid, own_host(), token);

	put_bytes(path, bytes, size);
}

static inline int exit_at_once(void *arg)
{
	(void)arg;
	return 0;
}

/* A pid that was just given to a process, which is gone. */
static inline pid_t dead_pid(void)
{
	pid_t pid = test_fork(exit_at_once, NULL);

	ck_assert_int_eq(test_reap(pid), 0);
	return pid;
}

/* The start token of this process; empty if the system does not tell. */
static inline const char *own_token(void)
{
	static struct marker marker;
	char bytes[MARKER_SIZE];
	int size = liveness_write_record(bytes, false);

	ck_assert_int_gt(size, 0);
	soft_record_parse(bytes, (size_t)size, &marker);
	return marker.token;
}

static inline int try_once(const char *path)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

/* Parses the marker at the path; false: there is none. */
static inline bool read_marker(const char *path, struct marker *ret)
{
	char bytes[2 * MARKER_SIZE];
	FILE *file = fopen(path, "re");
	size_t size;

	if (!file)
		return false;
	size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	soft_record_parse(bytes, size, ret);
	return true;
}

static inline bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static inline struct filelock_options rarely(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000; /* a lost wake-up would show */
	return options;
}

#endif
