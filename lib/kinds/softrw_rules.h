/*
 * softrw_rules.h - who may hold a soft read/write lock, and who is next: the rules alone. They read
 * no file and no clock.
 *
 *   a reader   enters, and holds, when no writer is named
 *   a writer   enters when no writer is named: that keeps new readers out. It holds when no reader is
 *              left, by one more snapshot.
 */
#ifndef FILELOCK_SOFTRW_RULES_H
#define FILELOCK_SOFTRW_RULES_H

#include <filelock/filelock.h>

#include "kinds/softrw_record.h"

enum softrw_move {
	SOFTRW_WAIT,  /* there is nothing to commit */
	SOFTRW_EVICT, /* commit what is left without the dead, and wait */
	SOFTRW_ENTER, /* commit: we are named then, and wait for the readers */
	SOFTRW_GRANT  /* commit: we hold then */
};

/* The successor of a snapshot, with the same members. 0 or -ENOMEM; *ret is to be cleared. */
int softrw_successor(const struct softrw_snapshot *latest, struct softrw_snapshot *ret);

/*
 * Decides what a participant does, and makes *next, a successor without the dead, what it is to
 * commit.
 *
 * entered  the latest snapshot names us
 * evicted  somebody was left out of next
 */
int softrw_advance(struct softrw_snapshot *next, const struct softrw_token *self,
                   enum filelock_mode mode, bool entered, bool evicted,
                   enum softrw_move *ret_move);

/* Whether two of the members exclude each other, or the mode's holder is not one: never in a
   snapshot that granted. */
bool softrw_is_granted(const struct softrw_snapshot *snapshot, const struct softrw_token *self,
                       enum filelock_mode mode);

#endif
