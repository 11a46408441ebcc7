/*
 * softrw_members.h - whether the members of a soft read/write lock live, by their records in the
 * folder holders/.
 *
 * A record that stays the same for longer than it may, on the observer's own clock, is that of a dead
 * member; so two machines need not agree on the time. On a file system of this kernel alone a member
 * of this library keeps a flock(2) on its record as long as it lives, and says so in the record's nonce.
 * Its life or death shows at once.
 */
#ifndef FILELOCK_SOFTRW_MEMBERS_H
#define FILELOCK_SOFTRW_MEMBERS_H

#include "kinds/folder.h"
#include "kinds/softrw_record.h"

struct softrw_sighting {
	struct softrw_token token;
	bool is_private; /* a commit that is not published, and no member */
	bool is_missing;
	bool is_kept; /* seen in the sweep that is on */
	unsigned char digest[16];
	int64_t since;
};

/* What one handle has seen, over all its acquisitions. */
struct softrw_ledger {
	size_t count, room, last;
	struct softrw_sighting *at; /* owned */
};

void softrw_ledger_free(struct softrw_ledger *ledger);

/* What was seen now, and for how long it has been the same: ns, or -ENOMEM. bytes NULL: there is
   nothing. */
int64_t softrw_ledger_observe(struct softrw_ledger *ledger, const struct softrw_token *token,
                              bool is_private, const char *bytes, size_t size, int64_t now);
void softrw_ledger_forget(struct softrw_ledger *ledger, const struct softrw_token *token,
                          bool is_private);
/* Around a sweep: forgets what is no member of the snapshot and was not observed in between. */
void softrw_ledger_begin_sweep(struct softrw_ledger *ledger);
void softrw_ledger_end_sweep(struct softrw_ledger *ledger, const struct softrw_snapshot *latest);

/* How to look at the records of a folder. */
struct softrw_look {
	int folder;
	bool is_local; /* flock(2) shows who lives */
	int64_t now;
	int64_t threshold; /* ns that a record may stay the same, unless it says that it may longer */
};

/* 1: dead; 0; or an error. */
int softrw_member_is_dead(struct softrw_ledger *ledger, const struct softrw_look *look,
                          const struct softrw_token *token);
/* The same of a file that is not published. */
int softrw_private_is_dead(struct softrw_ledger *ledger, const struct softrw_look *look,
                           const struct softrw_token *token, const char *name);

#endif
