/*
 * fuse.h - a file system of the test's own, which can be slow, stuck, or refuse calls. It shows a
 * folder through /dev/fuse, from a process of its own: a test that blocks blocks not its disk.
 *
 * Nothing is cached by the kernel: each call on a name or a file's attributes comes to the server.
 */
#ifndef FILELOCK_TESTS_FUSE_H
#define FILELOCK_TESTS_FUSE_H

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#if FUSE_KERNEL_MINOR_VERSION < 37 /* headers of a Linux before 6.1 */
#define FUSE_TMPFILE 51
#endif
#define FUSE_OPCODES 64

enum fuse_flock {
	FUSE_FLOCK_LOCAL,    /* flock(2) is the kernel's, on the mount */
	FUSE_FLOCK_FORWARDED, /* it comes to the server: FUSE_SETLK, FUSE_SETLKW */
	FUSE_RECORDS_FORWARDED /* so do record locks, which become the server's own: all succeed */
};

/* What stat(2) says of each file. */
enum fuse_numbers {
	FUSE_NUMBERS_REAL,
	FUSE_NUMBERS_SAME,    /* one number, one link: a removed file's successor has its number */
	FUSE_NUMBERS_AND_TIMES_SAME, /* and its times */
	FUSE_NUMBERS_CHANGING /* another number with each look */
};

/* In memory that the server and all processes forked later share. */
struct fuse {
	/* May be changed at any time, and holds for requests under way, too. */
	_Atomic unsigned delay_ms;            /* from each request to its answer */
	_Atomic bool stuck;                   /* no answer while it is true: a dead mount */
	_Atomic unsigned ticks_each;          /* no answer before `ticks` has grown by so many */
	_Atomic unsigned ticks;               /* of whatever the test lets go on meanwhile */
	_Atomic int refused[FUSE_OPCODES];    /* by opcode: the errno instead; 0: none */
	_Atomic int lost[FUSE_OPCODES];       /* by opcode: done, but answered by this errno */

	_Atomic unsigned numbers;             /* enum fuse_numbers */

	_Atomic unsigned asked[FUSE_OPCODES]; /* by opcode: requests that came */
	_Atomic unsigned under_way;           /* that came and are not answered */

	pid_t server;
	enum fuse_flock flock;
	int device;
	char path[512];    /* where it is mounted */
	char backing[512]; /* the folder that it shows */
};

/*
 * Mounts one for this test, with an empty folder behind it; NULL: impossible here, and the test
 * is skipped. Only this process and those it forks later see it, so nothing is left when they are
 * gone. To be called before the test starts threads and processes.
 */
struct fuse *fuse_start(enum fuse_flock flock);
/* Idempotent for NULL. A stuck or delayed request of another process then fails: ENOTCONN. */
void fuse_stop(struct fuse *fuse);
/* A path on it, good as long as one of test_path. */
const char *fuse_path(const struct fuse *fuse, const char *name);

/* For a program that is no test: shows backing at path. NULL: *ret_reason says why not. */
struct fuse *fuse_mount(const char *backing, const char *path, enum fuse_flock flock,
                        const char **ret_reason);

#endif
