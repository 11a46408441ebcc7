/*
 * soft.h - the state of a soft lock, which soft.c, the kind, and soft_judge.c share.
 */
#ifndef FILELOCK_SOFT_H
#define FILELOCK_SOFT_H

#include <sys/stat.h>

#include "kinds/liveness.h"
#include "kinds/soft_exit.h"
#include "kinds/soft_record.h"
#include "kinds/soft_publish.h"
#include "inotify.h"

/* A marker that is half a record, and since when it has been the same. */
struct sighting {
	struct identity identity;
	off_t size;
	struct timespec modified, changed;
	int64_t since;
};

struct soft {
	int fd;     /* of the hold; -1: none */
	int marker; /* somebody's marker, open for reading; -1: none */
	int turn;   /* to take over where flock(2) may not tell; -1: none */
	bool warned;
	bool taken; /* what is held was somebody else's marker, and perhaps is still their file */
	unsigned absences; /* in a row, of a folder that is there all the same */
	unsigned refusals; /* in a row, of a dead marker's flock: somebody else judges it */
	bool by_record; /* the record, and not the kernel, says that its owner lives */
	struct {
		dev_t device;
		signed char answer; /* below zero: not asked yet */
	} local; /* whether the marker met last is on a file system of this kernel alone */
	pid_t hinted; /* the process that on_holder was last tried for; 0: none */
	struct identity identity; /* of the hold, or of the marker met last */
	struct draft draft;
	struct sighting sighting;
	struct leftover leftover;
	struct subscription in_directory, on_marker, on_holder;
};

/* The content of a marker: one byte more than a record has tells that it is longer. */
struct content {
	ssize_t size;
	char bytes[MARKER_SIZE + 1];
};

static inline struct soft *soft_state(const struct filelock *lock)
{
	return kind_state(lock);
}

/* soft.c: what leases, whose markers are made and watched in the same way, have in common with
   it. */

/* One attempt; judge deals with what stands at the path, as soft_judge_try. */
int soft_attempt(struct filelock *lock, enum filelock_mode mode,
                 int (*judge)(struct filelock *lock));
/* 0: held; ATTEMPT_BUSY: something stands there; ATTEMPT_RACED or an error. */
int soft_publish_marker(struct filelock *lock);
int soft_watch(struct filelock *lock, struct filelock_watcher *watcher);
void soft_unwatch(struct filelock *lock);
void soft_abandon(struct filelock *lock);
int soft_holder(const struct filelock *lock, struct filelock_owner *ret_owner);
int soft_fd(const struct filelock *lock);
void soft_learn(struct filelock *lock, const struct filelock *other);
struct identity soft_identity(const struct filelock *lock);
int soft_break(struct filelock *lock);
void soft_forget(struct filelock *lock);

/* soft_judge.c */

/* Opens what stands at the path as s->marker. 0, and *ret_st; ATTEMPT_BUSY: it may not be looked
   at; ATTEMPT_RACED, ATTEMPT_ABSENT or an error. */
int soft_judge_find(struct filelock *lock, struct stat *ret_st);
/* Opens into a member of the state, also for a fork beside us: the descriptor or an error. */
int soft_judge_open(int *ret_fd, const char *path, int flags);
/* Lets go of the marker that was met last. */
void soft_judge_drop(struct soft *s);
/* Whether the locks of the file system are this kernel's own, and all of them. */
bool soft_judge_is_local(struct filelock *lock);
/* How far the kernel's answers about the marker that was met last prove its owner dead. */
enum proof soft_judge_weigh(struct filelock *lock, const struct stat *st, bool flocked, int written);

/* Deals with what stands at the path. 0: its holder was dead, and we hold the lock, by s->fd and
   s->identity; ATTEMPT_BUSY, ATTEMPT_RACED, ATTEMPT_ABSENT or an error. */
int soft_judge_try(struct filelock *lock);
/* The marker at the path: 0 and *ret, ATTEMPT_ABSENT, or an error. */
int soft_judge_look(const struct filelock *lock, struct stat *ret);
/* Only regular files are opened: to open a device may do something. */
int soft_judge_check_type(const struct stat *st);
int soft_judge_read(int fd, struct content *ret);
/* An enum path_names of the file that we hold or judge, or an error. */
int soft_judge_check_names(const struct filelock *lock);
/* Stops watching the marker met last; and closes it. */
void soft_judge_unwatch(struct soft *s);
void soft_judge_close(int *fd);

#endif
