/*
 * lease_claim.c - leases that are held.
 *
 * A lease holds for its duration after the last refresh, by the holder's own clock, which also
 * counts the time that the machine sleeps (CLOCK_BOOTTIME). The time is taken before the call that
 * refreshes, so contenders, who see the change later, never think it shorter. A holder that was
 * stopped for longer has lost it, and finds that before it touches its file.
 *
 * One mutex guards everything here. It is not held across calls that a dead mount may block: who
 * refreshes a claim marks it busy meanwhile, and who ends it waits for that.
 */
#include "kinds/lease_claim.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/sys.h"

#define SOONER 4 /* after a look that told nothing, so many times sooner than a heartbeat */

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t idle; /* a claim is not busy any more */
	struct hash held;
} claims = { .mutex = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER };

static void enter(void)
{
	(void)pthread_mutex_lock(&claims.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&claims.mutex);
}

struct lease_claim *lease_claim_new(int64_t duration, int64_t heartbeat)
{
	struct lease_claim *claim = sys.calloc(1, sizeof(*claim));
	int r;

	if (!claim)
		return NULL;
	enter();
	r = hash_reserve(&claims.held, sys.calloc, free);
	leave();
	if (r < 0) {
		free(claim);
		return NULL;
	}
	claim->references = 1;
	claim->fd = -1;
	claim->duration = duration;
	claim->heartbeat = heartbeat;
	return claim;
}

void lease_claim_unref(struct lease_claim *claim)
{
	bool last;

	if (!claim)
		return;
	enter();
	last = --claim->references == 0;
	leave();
	if (last)
		free(claim);
}

/* --- refreshing --- */

static void note_loss(struct lease_claim *claim, enum filelock_loss loss)
{
	if (claim->loss == FILELOCK_LOSS_NONE)
		claim->loss = loss;
}

static bool is_late(const struct lease_claim *claim, int64_t now)
{
	return now - claim->refreshed >= claim->duration;
}

/* The mutex is held. */
static int judge(struct lease_claim *claim)
{
	if (claim->loss == FILELOCK_LOSS_NONE && is_late(claim, sys.boot()))
		note_loss(claim, FILELOCK_LOSS_LATE);
	return claim->loss == FILELOCK_LOSS_NONE ? 0 : FILELOCK_ELOST;
}

int lease_claim_judge(struct lease_claim *claim)
{
	int r;

	enter();
	r = judge(claim);
	leave();
	return r;
}

void lease_claim_lose(struct lease_claim *claim, enum filelock_loss loss)
{
	enter();
	note_loss(claim, loss);
	leave();
}

enum filelock_loss lease_claim_loss(struct lease_claim *claim)
{
	enum filelock_loss loss;

	enter();
	(void)judge(claim);
	loss = claim->loss;
	leave();
	return loss;
}

/* How a refresh went. */
enum outcome { REFRESHED, MISSING, REPLACED, UNKNOWN };

/* Without the mutex: the claim is busy. The file is refreshed by its descriptor, so that it is ours
   whatever the path has come to name meanwhile. */
static enum outcome refresh_file(const struct lease_claim *claim)
{
	struct stat st;
	int r = sys_lstat(claim->path, &st);

	if (r == -ENOENT || r == -ENOTDIR)
		return MISSING;
	if (r < 0)
		return UNKNOWN;
	if (st.st_dev != claim->identity.dev || st.st_ino != claim->identity.ino)
		return REPLACED;
	return sys.futimens(claim->fd, NULL) < 0 ? UNKNOWN : REFRESHED;
}

/* Who takes a lease over by Python's way moves the file aside for two calls, and moves it back if it
   was refreshed just then. So only the second look in a row that finds nothing tells. */
static void take_outcome(struct lease_claim *claim, enum outcome outcome, int64_t began)
{
	switch (outcome) {
	case REFRESHED:
		claim->refreshed = began;
		claim->missing = false;
		return;
	case MISSING:
		if (claim->missing)
			note_loss(claim, FILELOCK_LOSS_MISSING);
		claim->missing = true;
		return;
	case REPLACED:
		note_loss(claim, FILELOCK_LOSS_REPLACED);
		return;
	case UNKNOWN:
		if (began - claim->refreshed >= claim->duration - claim->heartbeat)
			note_loss(claim, FILELOCK_LOSS_REFRESH_FAILED);
	}
}

/* The mutex is held before and after. */
static int refresh(struct lease_claim *claim, int64_t *ret_again)
{
	enum outcome outcome;
	int64_t began;
	int r = judge(claim);

	if (r < 0)
		return r;
	claim->busy = true;
	began = sys.boot();
	leave();
	outcome = refresh_file(claim);
	enter();
	claim->busy = false;
	(void)pthread_cond_broadcast(&claims.idle);
	take_outcome(claim, outcome, began);
	*ret_again = outcome == REFRESHED ? claim->heartbeat : claim->heartbeat / SOONER;
	return judge(claim);
}

int lease_claim_refresh(struct lease_claim *claim, int64_t *ret_again)
{
	int r;

	enter();
	if (!claim->is_held) {
		r = -ESTALE;
	} else if (claim->busy) { /* by another, who will see to it, but may hang for long */
		*ret_again = claim->heartbeat;
		r = judge(claim);
	} else {
		r = refresh(claim, ret_again);
	}
	leave();
	return r;
}

/* --- holds --- */

static size_t hash_of(struct identity identity)
{
	return hash_bytes(&identity.ino, sizeof(identity.ino), (size_t)identity.dev);
}

void lease_claim_begin(struct lease_claim *claim, const struct filelock *lock, int fd,
                       int64_t refreshed)
{
	enter();
	claim->path = lock->path;
	claim->fd = fd;
	claim->identity = lock->kind->identity(lock);
	claim->refreshed = refreshed;
	claim->loss = FILELOCK_LOSS_NONE;
	claim->missing = false;
	claim->is_held = true;
	(void)hash_reserve(&claims.held, sys.calloc, free);
	hash_insert(&claims.held, &claim->node, hash_of(claim->identity));
	leave();
}

static void wait_until_idle(const struct lease_claim *claim)
{
	while (claim->busy)
		(void)pthread_cond_wait(&claims.idle, &claims.mutex);
}

void lease_claim_move(struct lease_claim *claim, const struct filelock *to)
{
	enter();
	wait_until_idle(claim);
	claim->path = to->path;
	leave();
}

void lease_claim_end(struct lease_claim *claim)
{
	enter();
	wait_until_idle(claim);
	if (claim->is_held)
		hash_remove(&claims.held, &claim->node);
	claim->is_held = false;
	claim->fd = -1;
	leave();
}

struct lease_claim *lease_claim_find(struct identity identity)
{
	struct lease_claim *found = NULL;
	struct hash_node *node;

	enter();
	node = hash_first(&claims.held, hash_of(identity));
	for (; node && !found; node = hash_next(node)) {
		struct lease_claim *claim = hash_entry(node, struct lease_claim, node);

		if (identity_equal(claim->identity, identity))
			found = claim;
	}
	if (found)
		found->references++;
	leave();
	return found;
}

/* --- fork --- */

void lease_claim_forget(struct lease_claim *claim)
{
	/* the mutex is the fork's, and no other thread is there */
	if (claim->is_held)
		hash_remove(&claims.held, &claim->node);
	claim->is_held = false;
	claim->busy = false;
	claim->fd = -1;
}

void lease_claim_before_fork(void)
{
	enter();
}

void lease_claim_after_fork(bool in_child)
{
	if (in_child)
		(void)pthread_cond_init(&claims.idle, NULL);
	leave();
}
