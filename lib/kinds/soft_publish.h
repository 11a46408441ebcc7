/*
 * soft_publish.h - a marker file that appears complete, with its flock on it, or not at all.
 */
#ifndef FILELOCK_SOFT_PUBLISH_H
#define FILELOCK_SOFT_PUBLISH_H

#include "handle.h"
#include "kinds/soft_record.h"

/* The ways to make a marker, the best first. A handle goes on to the next where one does not
   work. */
enum publish_way {
	PUBLISH_TMPFILE, /* O_TMPFILE, then linkat(2): a crash leaves nothing */
	PUBLISH_NAME,    /* a private name, then link(2) */
	PUBLISH_IN_PLACE /* O_EXCL: the file system has no links */
};

/* A marker that is written and locked, but not yet visible. */
struct draft {
	int fd; /* -1: none */
	unsigned char way;   /* enum publish_way, which comes first */
	bool shown;          /* its flock was met at its name, */
	bool warned;         /* or that it was not was said */
	dev_t shown_on;      /* on this device */
	bool flocked;
	int64_t written_at;
	struct identity identity;
	/* Writes what it says, and returns its length or an error; NULL: the record of a soft lock. */
	int (*write)(const struct filelock *lock, char ret_record[MARKER_SIZE]);
};

/*
 * Makes the draft ahead of time. Returns 0 also where no draft is possible: nothing that has a name
 * waits for its turn, since a crash would leave it.
 */
int soft_publish_prepare(const struct filelock *lock, struct draft *draft);

/*
 * Puts the marker at the handle's path, and makes missing directories. Returns 0, and draft->fd is
 * the marker; -EEXIST: something stands there, and the draft is kept; or another error.
 */
int soft_publish(const struct filelock *lock, struct draft *draft);

/* Writes our record into a marker of ours. */
int soft_publish_record(const struct filelock *lock, int fd);

void soft_publish_drop(struct draft *draft);

/* Makes an empty file at the handle's path, which has its mode before it has its name. -EEXIST, or
   another error: not in this way, or not here. */
int soft_publish_empty(const struct filelock *lock);
/* The option exact_mode, for a file of ours. */
void soft_publish_set_mode(const struct filelock *lock, int fd);

/* Takes the flock of a holder. Returns 0 and *ret_flocked, -EWOULDBLOCK (another process has
   it), or an error. */
int soft_publish_flock(const char *path, int fd, bool *ret_flocked);

/* Probes for native locks whether flock(2) works in the directory of path, on a file without a
   name or with a private one. Returns 0 and the result of flock(2), or an error of making that
   file. */
int soft_publish_probe_flock(const char *path, int *ret_result);

/* A file in the folder of path to try locks on: its descriptor, or an error. *ret_name: NULL if it has
   no name; else to be removed and freed. */
int soft_publish_make_probe(const char *path, char **ret_name);

#endif
