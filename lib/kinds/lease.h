/*
 * lease.h - the state of a lease, which lease.c, the kind, and lease_judge.c share.
 */
#ifndef FILELOCK_LEASE_H
#define FILELOCK_LEASE_H

#include "kinds/lease_claim.h"
#include "kinds/soft.h"

/* A marker, and since when its inode and its time have been the same. */
struct lease_sighting {
	struct identity identity;
	struct timespec modified;
	int64_t since;
};

struct lease {
	struct soft soft; /* first: a lease is made, watched and found as a soft lock's marker */
	struct lease_claim *claim; /* NULL: none was needed yet */
	struct lease_sighting sighting;
	enum filelock_loss lost; /* of the last hold: why it was */
	int64_t expires; /* when the marker that was met last does, unless it is refreshed; 0: never */
};

static inline struct lease *lease_state(const struct filelock *lock)
{
	return kind_state(lock);
}

#define LEASE_DURATION_MS 30000u /* by default */

static inline unsigned lease_duration_ms(const struct filelock *lock)
{
	unsigned ms = lock->options.duration_ms;

	return ms ? ms : LEASE_DURATION_MS;
}

/* lease_judge.c: deals with what stands at the path, as soft_judge_try. */
int lease_judge_try(struct filelock *lock);
/* Takes the turn of those who would move our marker away. -1: there are no turns here; 0: it is
   ours, until the descriptor is closed; 1: somebody else's. */
int lease_judge_take_turn(struct filelock *lock, int fd);

#endif
