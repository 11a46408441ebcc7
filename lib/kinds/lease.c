/*
 * lease.c - a lease with the bytes of Python's SoftFileLease: a hold that ends by itself unless it is
 * refreshed, so that others go on when its holder is stopped or cut off.
 *
 * The marker is made, watched and removed as a soft lock's. lease_judge.c says when it is over,
 * lease_claim.c what its holder knows.
 */
#include "kinds/lease.h"

#include <errno.h>
#include <sys/file.h>

#include "base/sys.h"
#include "fork.h"
#include "kinds/folder.h"
#include "kinds/soft_proof.h"
#include "base/path.h"

#define MILLISECOND INT64_C(1000000)
#define SHORTEST_RETRY (5 * MILLISECOND)
#define WAKEUPS 256 /* in a heartbeat, for all leases of a loop */

static int64_t heartbeat(const struct filelock *lock)
{
	unsigned ms = lock->options.heartbeat_ms;

	return ms ? ms * MILLISECOND : lease_duration_ms(lock) * MILLISECOND / 3;
}

static int write_record(const struct filelock *lock, char ret_record[MARKER_SIZE])
{
	struct marker own;
	int r = liveness_read_own(&own);

	if (r == 0)
		r = folder_random(own.claim);
	if (r < 0)
		return r;
	return (int)soft_record_format_lease(ret_record, &own, lease_duration_ms(lock));
}

static int lease_open(struct filelock *lock)
{
	int r = kind_soft.open(lock);

	if (r < 0)
		return r;
	if (lock->options.lifetime_ms)
		return handle_fail(lock, FILELOCK_ENOLIFETIME, "cannot open");
	if (lock->options.heartbeat_ms >= lease_duration_ms(lock))
		return failure_set_detail(&lock->failure, -EINVAL, "cannot open",
		                          sys_strdup("heartbeat_ms"));
	soft_state(lock)->draft.write = write_record;
	return 0;
}

static void lease_close(struct filelock *lock)
{
	struct lease *l = lease_state(lock);

	lease_claim_unref(l->claim);
	l->claim = NULL;
}

/* The time is taken first: others see the lease begin later. */
static int lease_try(struct filelock *lock, enum filelock_mode mode)
{
	struct lease *l = lease_state(lock);
	int64_t began = sys.boot();
	int r;

	if (!l->claim)
		l->claim = lease_claim_new(lease_duration_ms(lock) * MILLISECOND, heartbeat(lock));
	if (!l->claim)
		return handle_fail(lock, -ENOMEM, "cannot acquire");
	r = soft_attempt(lock, mode, lease_judge_try);
	if (r == ATTEMPT_HELD) {
		l->lost = FILELOCK_LOSS_NONE;
		lease_claim_begin(l->claim, lock, l->soft.fd, began);
	}
	return r;
}

static int64_t lease_retry_delay(const struct filelock *lock)
{
	int64_t expires = lease_state(lock)->expires;
	int64_t delay = expires - sys.now();

	if (expires == 0)
		return 0;
	return delay > SHORTEST_RETRY ? delay : SHORTEST_RETRY;
}

static void lease_abandon(struct filelock *lock)
{
	struct lease *l = lease_state(lock);

	if (l->claim)
		lease_claim_end(l->claim);
	soft_abandon(lock);
}

static int64_t lease_held_after(const struct filelock *lock)
{
	return heartbeat(lock);
}

/* A little early, so that many leases of one loop share its wake-ups. */
static int64_t share_wakeup(const struct filelock *keeper, int64_t now, int64_t at)
{
	int64_t tick = heartbeat(keeper) / WAKEUPS;

	return tick > 0 && at - now > tick ? at - at % tick : at;
}

static int64_t lease_held(struct filelock *keeper, int64_t now)
{
	struct lease *l = lease_state(keeper);
	int64_t again = FILELOCK_NEVER;
	int r;

	if (!l->claim)
		l->claim = lease_claim_find(keeper->held.identity);
	if (!l->claim)
		return FILELOCK_NEVER;
	r = lease_claim_refresh(l->claim, &again);
	if (r == -ESTALE) /* released */
		return FILELOCK_NEVER;
	return r < 0 ? r : share_wakeup(keeper, now, schedule_later(now, again));
}

/* Why the path does not name our marker any more. */
static int lose_by_path(struct filelock *lock)
{
	struct stat st;
	bool gone = sys_lstat(lock->path, &st) == -ENOENT;

	lease_claim_lose(lease_state(lock)->claim,
	                 gone ? FILELOCK_LOSS_MISSING : FILELOCK_LOSS_REPLACED);
	return FILELOCK_ELOST;
}

/* A refresh that tells nothing is no loss yet, but one look at the path is asked for here. */
static int lease_verify(const struct filelock *lock)
{
	int64_t again = 0;
	int r = lease_claim_refresh(lease_state(lock)->claim, &again);

	if (r < 0 || again >= heartbeat(lock))
		return r;
	r = soft_judge_check_names(lock);
	return r == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : r;
}

/* In turn with those who might take it over: a holder that is late by now does not remove theirs. */
static int remove_in_turn(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	int r;

	if (lease_judge_take_turn(lock, s->fd) > 0)
		return lose_by_path(lock);
	r = soft_judge_check_names(lock);
	if (r == PATH_NAMES_ANOTHER)
		return lose_by_path(lock);
	return r == PATH_NAMES_OURS ? sys_unlink(lock->path) : r;
}

/*
 * The path of a lost lease is another's, and not touched. Our own file may yet come back to it, or be
 * there for others: hidden from us by a mount, a chroot(2) or a rename for a moment. So it says that
 * it is nobody's, unless the holder is late. Whoever takes a lease over makes a new file.
 */
static int remove_marker(struct filelock *lock)
{
	struct soft *s = soft_state(lock);
	bool listed = s->leftover.path != NULL;
	int r = lease_claim_judge(lease_state(lock)->claim);

	soft_exit_begin_removal(&s->leftover);
	if (r == 0)
		r = remove_in_turn(lock);
	if (r == FILELOCK_ELOST &&
	    lease_claim_loss(lease_state(lock)->claim) != FILELOCK_LOSS_LATE)
		(void)soft_proof_disown(s->fd);
	soft_exit_end_removal();
	if (r < 0 && r != FILELOCK_ELOST && listed)
		soft_exit_add(&s->leftover, lock->path, s->identity);
	return r;
}

static int lease_release(struct filelock *lock)
{
	struct lease *l = lease_state(lock);
	int r = remove_marker(lock);

	if (r < 0 && r != FILELOCK_ELOST)
		return handle_fail(lock, r, "cannot remove the marker");
	l->lost = lease_claim_loss(l->claim);
	if (r == 0)
		l->lost = FILELOCK_LOSS_NONE;
	lease_claim_end(l->claim);
	lease_claim_unref(l->claim);
	l->claim = NULL;
	(void)sys_flock(l->soft.fd, LOCK_UN); /* fails only where there is none */
	soft_judge_close(&l->soft.fd);
	return r < 0 ? handle_fail(lock, r, "too late to release") : 0;
}

static enum filelock_loss lease_loss(const struct filelock *lock)
{
	struct lease *l = lease_state(lock);

	return l->claim ? lease_claim_loss(l->claim) : l->lost;
}

static void lease_hand_over(struct filelock *from, struct filelock *to)
{
	struct lease *f = lease_state(from);
	struct lease *t = lease_state(to);

	kind_soft.hand_over(from, to);
	lease_claim_unref(t->claim);
	t->claim = f->claim;
	f->claim = NULL;
	t->lost = FILELOCK_LOSS_NONE;
	lease_claim_move(t->claim, to);
}

static void lease_forget(struct filelock *lock)
{
	struct lease *l = lease_state(lock);

	soft_forget(lock);
	if (l->claim)
		lease_claim_forget(l->claim);
}

const struct kind kind_lease = {
	.id = FILELOCK_LEASE,
	.name = "lease",
	.state_size = sizeof(struct lease),
	.exclusive_only = true,
	.expires = true,
	.open = lease_open,
	.close = lease_close,
	.try = lease_try,
	.retry_delay = lease_retry_delay,
	.watch = soft_watch,
	.unwatch = soft_unwatch,
	.abandon = lease_abandon,
	.release = lease_release,
	.held = lease_held,
	.held_after = lease_held_after,
	.verify = lease_verify,
	.loss = lease_loss,
	.holder = soft_holder,
	.fd = soft_fd,
	.learn = soft_learn,
	.identity = soft_identity,
	.hand_over = lease_hand_over,
	.break_lock = soft_break,
	.forget = lease_forget,
};
