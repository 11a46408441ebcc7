/*
 * strict.h - the state of a strict lock, which strict.c, the kind, and strict_door.c share.
 */
#ifndef FILELOCK_STRICT_H
#define FILELOCK_STRICT_H

#include "inotify.h"
#include "kinds/soft_exit.h"
#include "kinds/strict_scan.h"

/* Something at the path, or a claim, that may be right in a moment, and since when it is so. */
struct strict_doubt {
	struct identity identity;
	struct timespec modified;
	off_t size;
	int64_t since; /* 0: none */
};

struct strict {
	int sentinel, claims; /* descriptors of the hold, or while an attempt is made; -1 */
	struct identity identity;   /* of the sentinel */
	char token[FOLDER_TOKEN];   /* of our claims; "": none stand there */
	struct identity claim;      /* their file's */
	struct strict_doubt occupant;
	int64_t unreadable_since;
	char unreadable[NAME_MAX + 1]; /* the claim that could not be read */
	char blocking[STRICT_NAME];    /* the claim to wait for the end of; "": none */
	char watched[STRICT_NAME];     /* that on_claim is about */
	unsigned losses;               /* in the doorway, in a row */
	int64_t retry; /* ns: when the last attempt wants the next one; 0: as it is polled */
	char *folder;                  /* of the claims; NULL: not needed yet */
	char *held_path, *intent_path; /* of a hold, for the exit */
	struct leftover held, intent;
	struct subscription on_claim;
};

static inline struct strict *strict_state(const struct filelock *lock)
{
	return kind_state(lock);
}

/* strict_door.c */

/* One attempt: enum attempt, or an error whose sentence is noted. Held: both descriptors and claims
   stay; else only what could not be removed. */
int strict_door_try(struct filelock *lock);
/* Opens the claims: 0; -ENOENT: there are none; or an error. make: folders that are missing. */
int strict_door_open_claims(const struct filelock *lock, bool make, int *ret_fd);
/* Removes our claims, those that stand there: 0 or an error. */
int strict_door_withdraw(struct filelock *lock);
/* Notes FILELOCK_EPROTOCOL with what is wrong, or another error. */
int strict_door_fail(struct filelock *lock, const char *what, int error,
                     const struct strict_scan *scan);
void strict_door_close(struct strict *s);

/* For process.c. */
void strict_door_before_fork(void);
void strict_door_after_fork(bool in_child);

#endif
