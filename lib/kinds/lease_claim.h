/*
 * lease_claim.h - a lease that is held: refreshed on any thread, and judged by its holder before
 * anything else.
 */
#ifndef FILELOCK_LEASE_CLAIM_H
#define FILELOCK_LEASE_CLAIM_H

#include "base/hash.h"
#include "handle.h"

struct lease_claim {
	struct hash_node node; /* of all that are held, by their files */
	unsigned references;
	const char *path; /* of the handle that holds it; only while it is held */
	int fd;           /* that handle's, too */
	struct identity identity;
	int64_t duration, heartbeat; /* ns */
	int64_t refreshed; /* by the clock that also counts the time asleep */
	enum filelock_loss loss;
	bool is_held;
	bool missing; /* the last look found nothing at the path */
	bool busy;    /* somebody refreshes it just now */
};

/* NULL: out of memory. One reference is the caller's. */
struct lease_claim *lease_claim_new(int64_t duration, int64_t heartbeat);
/* NULL is allowed. */
void lease_claim_unref(struct lease_claim *claim);

/* The hold begins, with what the claim needs to refresh it. refreshed: before it was published. */
void lease_claim_begin(struct lease_claim *claim, const struct filelock *lock, int fd,
                       int64_t refreshed);
/* The hold went to another handle, with its descriptor. */
void lease_claim_move(struct lease_claim *claim, const struct filelock *to);
/* The hold ends: nobody uses its descriptor from now on. */
void lease_claim_end(struct lease_claim *claim);
/* A reference to the claim that is held on this file, or NULL. On any thread. */
struct lease_claim *lease_claim_find(struct identity identity);

/* Refreshes it, on any thread. 0 and in how many ns to do so again; FILELOCK_ELOST; -ESTALE: it is
   held no more. */
int lease_claim_refresh(struct lease_claim *claim, int64_t *ret_again);
/* 0, or FILELOCK_ELOST: by what is known and by the clock. No system call but of that. */
int lease_claim_judge(struct lease_claim *claim);
/* Notes why it is lost, unless that is known already. */
void lease_claim_lose(struct lease_claim *claim, enum filelock_loss loss);
enum filelock_loss lease_claim_loss(struct lease_claim *claim);

/* The handle's descriptor is gone in a forked child. */
void lease_claim_forget(struct lease_claim *claim);
/* For process.c. */
void lease_claim_before_fork(void);
void lease_claim_after_fork(bool in_child);

#endif
