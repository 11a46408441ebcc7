/*
 * hold.c - a hold, from its grant to its end: releasing, handing over, verifying.
 */
#include "hold.h"

#include <errno.h>

#include "base/cancel.h"
#include "base/sys.h"
#include "heartbeat.h"
#include "lost.h"
#include "registry.h"

static int check_held(struct filelock *lock, const char *what)
{
	if (lock->inherited)
		return handle_fail(lock, FILELOCK_EFORKED, what);
	return lock->depth == 0 ? handle_refuse(lock, -EPERM, what) : 0;
}

FILELOCK_API bool filelock_comes_again(const struct filelock *lock)
{
	return lock->comes_again;
}

FILELOCK_API bool filelock_is_warm(const struct filelock *lock)
{
	return lock->kind->is_warm && lock->kind->is_warm(lock);
}

FILELOCK_API bool filelock_lend(struct filelock *from, struct filelock *to)
{
	return from->kind == to->kind && from->depth == 0 && to->depth == 0 &&
	       from->kind->lend && from->kind->lend(from, to);
}

FILELOCK_API enum filelock_mode filelock_mode(const struct filelock *lock)
{
	return lock->mode;
}

FILELOCK_API bool filelock_missed_wakeup(const struct filelock *lock)
{
	return lock->missed_wakeup;
}

FILELOCK_API bool filelock_has_lifetime(const struct filelock *lock)
{
	return lock->options.lifetime_ms > 0;
}

FILELOCK_API void filelock_set_listener(struct filelock *lock,
                                        const struct filelock_listener *listener, void *arg)
{
	lock->listener = listener;
	lock->listener_arg = arg;
}

FILELOCK_API void filelock_end_hold(struct filelock *lock)
{
	const struct filelock_listener *listener = lock->listener;

	lock->fairness.released_at = sys.now();
	lost_end(lock);
	heartbeat_end(lock);
	lock->listener = NULL;
	if (listener)
		listener->ended(lock, lock->listener_arg);
}

static bool is_intact(struct filelock *lock)
{
	return lock->kind->is_intact ? lock->kind->is_intact(lock)
	                             : lock->kind->verify(lock) == 0;
}

/* A hold of one level goes to whom the listener has for it. False: there is nobody. */
static bool hand_over_to_listener(struct filelock *lock)
{
	const struct filelock_listener *listener = lock->listener;

	if (!listener || lock->depth != 1)
		return false;
	/* the age of a marker is that of its first hold */
	if (filelock_has_lifetime(lock) || !listener->wants(lock, lock->listener_arg))
		return false;
	/* a file that the path no longer names keeps nobody out */
	if (!is_intact(lock))
		return false;
	return listener->take(lock, lock->listener_arg);
}

/* A hold that was handed over to an acquisition is gone before that took note of it. */
static void take_back(struct acquisition *a)
{
	if (a->state == ACQUISITION_HANDED_OVER)
		acquisition_move(a, ACQUISITION_CONTENDING);
}

static int unlock(struct filelock *lock)
{
	const struct filelock_listener *listener = lock->listener;
	int r;

	lock->keeps = listener && listener->keeps && listener->keeps(lock, lock->listener_arg);
	r = lock->kind->release(lock);
	if (r < 0 && r != FILELOCK_ELOST)
		return r;
	registry_remove_held(lock);
	lock->depth = 0;
	take_back(&lock->acquisition);
	return r;
}

int hold_release(struct filelock *lock)
{
	int r = check_held(lock, "cannot release");

	if (r < 0)
		return r;
	if (!hand_over_to_listener(lock))
		r = unlock(lock);
	if (lock->depth == 0)
		filelock_end_hold(lock);
	return r;
}

FILELOCK_API int filelock_release_all(struct filelock *lock)
{
	int cancel = cancel_off();
	int r = hold_release(lock);

	cancel_restore(cancel);
	return r;
}

FILELOCK_API int filelock_release(struct filelock *lock)
{
	int r = check_held(lock, "cannot release");

	if (r < 0)
		return r;
	if (lock->depth == 1)
		return filelock_release_all(lock);
	lock->depth--;
	return 0;
}

FILELOCK_API int filelock_verify(struct filelock *lock)
{
	int r = check_held(lock, "cannot verify");
	int cancel;

	if (r < 0)
		return r;
	cancel = cancel_off();
	r = lock->kind->verify(lock);
	cancel_restore(cancel);
	return r < 0 ? handle_fail(lock, r, "cannot vouch for") : 0;
}

FILELOCK_API int filelock_renew(struct filelock *lock)
{
	if (!lock->inherited && lock->depth > 0 && !lock->kind->held)
		return handle_refuse(lock, -ENOTSUP, "cannot renew");
	return filelock_verify(lock);
}

/* By what stands at the path. */
static enum filelock_loss look_for_loss(const struct filelock *lock)
{
	struct stat st;
	int r;

	if (lock->depth == 0 || lock->borrowed >= 0)
		return FILELOCK_LOSS_NONE;
	r = sys_lstat(handle_place(lock), &st);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR ? FILELOCK_LOSS_MISSING : FILELOCK_LOSS_NONE;
	return st.st_dev == lock->held.identity.dev && st.st_ino == lock->held.identity.ino
	               ? FILELOCK_LOSS_NONE
	               : FILELOCK_LOSS_REPLACED;
}

FILELOCK_API enum filelock_loss filelock_loss(struct filelock *lock)
{
	enum filelock_loss loss = FILELOCK_LOSS_NONE;

	if (lock->inherited)
		return loss;
	if (lock->kind->loss)
		loss = lock->kind->loss(lock);
	return loss == FILELOCK_LOSS_NONE && !lock->kind->pends ? look_for_loss(lock) : loss;
}

FILELOCK_API int filelock_token(struct filelock *lock, uint64_t *ret_token)
{
	int r = check_held(lock, "cannot tell the token of");

	if (r < 0)
		return r;
	if (!ret_token)
		return filelock_fail(lock, -EINVAL, "cannot tell the token of", "ret_token is NULL");
	if (!lock->kind->token)
		return handle_refuse(lock, -ENOTSUP, "cannot tell the token of");
	return lock->kind->token(lock, ret_token);
}

/* Whether what one of the two holds is as good as what the other would have taken. */
static bool are_alike(const struct filelock *a, const struct filelock *b)
{
	const struct filelock_options *p = &a->options;
	const struct filelock_options *q = &b->options;

	return a->borrowed == b->borrowed && filelock_compare(a, b) == 0 &&
	       p->lifetime_ms == q->lifetime_ms && p->file_mode == q->file_mode &&
	       p->exact_mode == q->exact_mode && p->no_parents == q->no_parents &&
	       p->unlink_on_release == q->unlink_on_release &&
	       p->two_line_marker == q->two_line_marker && p->no_fallback == q->no_fallback &&
	       p->keep_on_exit == q->keep_on_exit && p->duration_ms == q->duration_ms &&
	       p->heartbeat_ms == q->heartbeat_ms;
}

FILELOCK_API bool filelock_hand_over(struct filelock *from, struct filelock *to)
{
	struct acquisition *a = &to->acquisition;

	if (from->depth != 1 || !acquisition_is_pending(a) || to->depth > 0 ||
	    from->mode != a->mode || !are_alike(from, to))
		return false;
	/* where flock(2) does not work the one has found out before the other; what has become
	   another kind stays so */
	if (from->kind != to->kind &&
	    (to->kind != to->asked || registry_change_kind(to, from->kind) < 0))
		return false;
	to->kind->abandon(to);
	from->kind->hand_over(from, to);
	registry_hand_over_held(from, to);
	to->depth = 1;
	to->mode = from->mode;
	to->fairness = from->fairness;
	to->kept_at = from->kept_at;
	acquisition_move(a, ACQUISITION_HANDED_OVER);
	from->depth = 0;
	take_back(&from->acquisition);
	lost_end(from);
	return true;
}
