/*
 * softrw_claim.h - one participant of a soft read/write lock: its record, and its way through the
 * snapshots, from the first attempt until it leaves.
 */
#ifndef FILELOCK_SOFTRW_CLAIM_H
#define FILELOCK_SOFTRW_CLAIM_H

#include "kinds/softrw_log.h"
#include "kinds/softrw_members.h"
#include "kinds/softrw_pulse.h"

/* Names beside the lock's path; owned. */
struct softrw_paths {
	char *root;
	char *generations;
};

struct softrw_claim {
	const struct softrw_paths *paths; /* borrowed */
	const char *path;                 /* of the lock, borrowed */
	unsigned threshold_ms;            /* that our record may stay the same */

	int holders;           /* the folder; -1: not open */
	struct softrw_log log; /* log.folder likewise */
	struct identity place; /* of gen/ */
	bool is_local;

	int record; /* our record, open for the whole claim; -1: none, or by name only */
	struct softrw_badge badge;
	bool is_fresh;   /* renewed in this attempt */
	bool is_entered; /* the newest snapshot that was read names us */
	bool was_sent;   /* a snapshot that names us was committed, or tried to be */
	bool may_be_out; /* a commit without us failed, or was overtaken, and may be there */
	uint64_t generation; /* of the grant; 0: we do not hold */
	int64_t next_sweep;
	unsigned absences; /* attempts in a row that found a folder gone */
	char wrong[SOFTRW_NAME_SIZE]; /* what a protocol error is about */
};

/* Opens the folders; with `lock`, whose path it is, makes them, too. -ENOENT: they are not there. */
int softrw_claim_open(struct softrw_claim *claim, const struct filelock *lock);
/* Closes what is open. Our record stays where it is: without its flock it is a dead member's. */
void softrw_claim_close(struct softrw_claim *claim);

/* One attempt. HELD, BUSY, RACED: others were faster several times; or an error. *ret_blocker: whose
   end we wait for, where there is one. */
int softrw_claim_try(struct softrw_claim *claim, const struct filelock *lock,
                     enum filelock_mode mode, struct softrw_ledger *ledger,
                     struct softrw_token *ret_blocker);
/* Commits us out, and removes our record. 0; FILELOCK_ELOST: others had left us out; or another
   error: we may be named yet. */
int softrw_claim_leave(struct softrw_claim *claim);
/* Whether others may count it as dead by now. */
bool softrw_claim_is_late(const struct softrw_claim *claim, const struct softrw_badge *badge);
/* The heartbeat of a hold: 0, FILELOCK_ELOST, or an error that tells nothing. badge: whose. */
int softrw_claim_beat(struct softrw_claim *claim, struct softrw_badge *badge);
/* The newest snapshot, in claim->log.latest, for those who only ask. 0, -ENOENT or an error. */
int softrw_claim_look(struct softrw_claim *claim);
/* After a look: each member, and whether it is dead as far as one look tells. */
typedef void softrw_teller(const struct softrw_claim *claim, const struct softrw_token *token,
                           enum filelock_mode mode, bool is_dead, void *arg);
int softrw_claim_tell(struct softrw_claim *claim, softrw_teller *tell, void *arg);
/* Commits that member out. 0, -ENOENT: it was not in, or there is no log; or an error. */
int softrw_claim_evict(struct softrw_claim *claim, const struct softrw_token *token);
/* Commits everybody out. 0, -ENOENT: nobody was in; or an error. */
int softrw_claim_break(struct softrw_claim *claim);

#endif
