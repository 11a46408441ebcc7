/*
 * strict.c - a lock of claims with the files of Python's StrictSoftFileLock: nothing but its holder,
 * or a person, ever ends a hold.
 *
 * The path is a sentinel that stays. Claims lie in a folder beside it: an intent from the doorway
 * on, and a hard link of it for the hold (strict_door.c). Python sees no difference.
 */
#include "kinds/strict.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "base/sys.h"
#include "fork.h"
#include "kinds/liveness.h"

static int refuse_option(struct filelock *lock, const char *name)
{
	return failure_set_detail(&lock->failure, -EINVAL, "cannot open", sys_strdup(name));
}

static int strict_open(struct filelock *lock)
{
	struct strict *s = strict_state(lock);

	s->sentinel = s->claims = -1;
	if (lock->options.lifetime_ms)
		return handle_fail(lock, FILELOCK_ENOLIFETIME, "cannot open");
	return lock->options.unlink_on_release ? refuse_option(lock, "unlink_on_release") : 0;
}

static void strict_close(struct filelock *lock)
{
	struct strict *s = strict_state(lock);

	free(s->folder);
	free(s->held_path);
	free(s->intent_path);
}

/* --- exit(3) --- */

static void list_for_exit(struct strict *s)
{
	/* the later one is removed first */
	soft_exit_add(&s->intent, s->intent_path, s->claim);
	soft_exit_add(&s->held, s->held_path, s->claim);
}

static int make_path(const struct strict *s, bool held, char **ret_path)
{
	char name[STRICT_NAME];

	strict_record_format_name(name, held, s->token);
	free(*ret_path);
	*ret_path = sys_format("%s/%s", s->folder, name);
	return *ret_path ? 0 : -ENOMEM;
}

/* Without memory its claims stay when the program ends, as if it were killed. */
static void keep_hold(struct filelock *lock)
{
	struct strict *s = strict_state(lock);

	s->blocking[0] = '\0';
	if (lock->options.keep_on_exit || make_path(s, true, &s->held_path) < 0 ||
	    make_path(s, false, &s->intent_path) < 0)
		return;
	list_for_exit(s);
}

/* --- acquiring --- */

static int strict_try(struct filelock *lock, enum filelock_mode mode)
{
	struct strict *s = strict_state(lock);
	int r;

	if (mode == FILELOCK_SHARED)
		return handle_fail(lock, -ENOTSUP, "cannot share the claim");
	if (!s->folder)
		s->folder = sys_format("%s.filelock/claims", lock->path);
	if (!s->folder)
		return handle_fail(lock, -ENOMEM, "cannot acquire");
	r = strict_door_try(lock);
	if (r == ATTEMPT_HELD)
		keep_hold(lock);
	return r;
}

static int64_t strict_retry_delay(const struct filelock *lock)
{
	return strict_state(lock)->retry;
}

static void strict_unwatch(struct filelock *lock)
{
	inotify_unsubscribe(&strict_state(lock)->on_claim);
}

/* A holder's intent goes last. Who is only in the doorway is not waited for, since it may leave
   before we look. */
static int strict_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct strict *s = strict_state(lock);
	int r;

	if (inotify_is_subscribed(&s->on_claim)) {
		if (strcmp(s->on_claim.name, s->watched) == 0 &&
		    strcmp(s->watched, s->blocking) == 0)
			return 0;
		inotify_unsubscribe(&s->on_claim);
	}
	if (!s->blocking[0])
		return 0;
	strcpy(s->watched, s->blocking);
	r = inotify_subscribe(watcher, &s->on_claim, lock, s->folder, IN_DELETE | IN_MOVED_FROM,
	                      s->watched);
	return r < 0 ? r : 1;
}

static void unlist(struct strict *s)
{
	soft_exit_remove(&s->held);
	soft_exit_remove(&s->intent);
}

/* Also of a handle that goes while it holds, since its claims could not be removed. Those that still
   cannot be are what the next attempt begins with. */
static void strict_abandon(struct filelock *lock)
{
	struct strict *s = strict_state(lock);

	strict_unwatch(lock);
	unlist(s);
	if (s->token[0] && s->claims < 0)
		(void)strict_door_open_claims(lock, false, &s->claims);
	if (s->claims >= 0 && strict_door_withdraw(lock) < 0)
		log_write(FILELOCK_LOG_ERROR, "claims called %s stay beside %s", s->token,
		          lock->path);
	strict_door_close(s);
}

/* --- the hold --- */

static int strict_release(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	bool listed = s->held.path != NULL;
	int r;

	soft_exit_begin_removal(&s->held);
	soft_exit_remove(&s->intent);
	r = strict_door_withdraw(lock);
	soft_exit_end_removal();
	if (r < 0 && listed)
		list_for_exit(s);
	if (r < 0)
		return handle_fail(lock, r, "cannot remove the claims of");
	strict_door_close(s);
	return 0;
}

/* Most servers of FUSE give each hard link a number of its own. Nobody else has our token. */
static bool is_known_by_name(const struct strict *s, const char *name)
{
	struct statfs fs;
	struct stat st;

	return sys.statfs(s->folder, &fs) == 0 && !sys_is_local(&fs) &&
	       sys_stat_at(s->claims, name, &st) == 0;
}

/* 0, FILELOCK_ELOST or an error. */
static int check_claim(const struct strict *s, bool held)
{
	char name[STRICT_NAME];
	int names;

	strict_record_format_name(name, held, s->token);
	names = folder_check(s->claims, name, s->claim);
	if (names == PATH_NAMES_ANOTHER && is_known_by_name(s, name))
		return 0;
	return names == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : names;
}

/* Likewise: others claim in the folder that the path names by now. */
static int check_folder(const struct strict *s)
{
	struct stat st;
	int r = sys_fstat(s->claims, &st);
	int names = r < 0 ? r : path_check(s->folder, st.st_dev, st.st_ino);

	return names == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : names;
}

static int check_claims(const struct strict *s)
{
	int r = check_folder(s);

	if (r == 0)
		r = check_claim(s, false);
	return r == 0 ? check_claim(s, true) : r;
}

static int strict_verify(const struct filelock *lock)
{
	const struct strict *s = strict_state(lock);
	int names = path_check(lock->path, s->identity.dev, s->identity.ino);
	int r = names == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : names;

	return r == 0 ? check_claims(s) : r;
}

static enum filelock_loss strict_loss(const struct filelock *lock)
{
	const struct strict *s = strict_state(lock);

	if (!s->token[0] || s->claims < 0)
		return FILELOCK_LOSS_NONE;
	return check_claims(s) == FILELOCK_ELOST ? FILELOCK_LOSS_EVICTED : FILELOCK_LOSS_NONE;
}

static void strict_hand_over(struct filelock *from, struct filelock *to)
{
	struct strict *f = strict_state(from);
	struct strict *t = strict_state(to);
	bool listed = f->held.path != NULL;

	unlist(f);
	fork_hold_off();
	t->sentinel = f->sentinel;
	t->claims = f->claims;
	f->sentinel = f->claims = -1;
	fork_allow();
	t->identity = f->identity;
	t->claim = f->claim;
	memcpy(t->token, f->token, sizeof(t->token));
	f->token[0] = '\0';
	free(t->folder);
	free(t->held_path);
	free(t->intent_path);
	t->folder = f->folder;
	t->held_path = f->held_path;
	t->intent_path = f->intent_path;
	f->folder = f->held_path = f->intent_path = NULL;
	if (listed)
		list_for_exit(t);
}

static struct identity strict_identity(const struct filelock *lock)
{
	return strict_state(lock)->identity;
}

static int strict_fd(const struct filelock *lock)
{
	(void)lock;
	return -ENOTSUP;
}

/* --- claims --- */

struct telling {
	void (*take)(const struct filelock_claim *claim, void *arg);
	void *arg;
};

static void tell(const char *name, const struct strict_name *parsed, const struct marker *owner,
                 void *arg)
{
	const struct telling *telling = arg;
	struct filelock_claim claim = { .size = sizeof(claim), .name = name,
		                        .held = parsed->held,
		                        .owner = FILELOCK_OWNER_INIT };

	liveness_describe(owner, &claim.owner);
	claim.dead = liveness_is_over(owner, PROOF_NONE);
	telling->take(&claim, telling->arg);
}

static int strict_claims(struct filelock *lock,
                         void (*take)(const struct filelock_claim *claim, void *arg), void *arg)
{
	struct telling telling = { take, arg };
	struct strict_scan scan = { .token = "", .take = tell, .arg = &telling };
	int folder = -1;
	int r = strict_door_open_claims(lock, false, &folder);

	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = strict_scan_claims(folder, &scan);
	folder_close(&folder);
	if (r == -EAGAIN)
		r = scan.culprit[0] ? FILELOCK_EPROTOCOL : 0;
	return r < 0 ? strict_door_fail(lock, "cannot list the claims of", r, &scan) : 0;
}

static int strict_break_claim(struct filelock *lock, const char *name)
{
	struct stat st;
	int folder = -1;
	int r;

	if (!*name || *name == '.' || strchr(name, '/'))
		return filelock_fail(lock, -EINVAL, "cannot break a claim of",
		                     "no claim has this name");
	r = strict_door_open_claims(lock, false, &folder);
	if (r == 0)
		r = sys_stat_at(folder, name, &st);
	if (r == 0)
		r = sys_unlink_at(folder, name);
	folder_close(&folder);
	return r < 0 ? handle_fail(lock, r, "cannot break a claim of") : 0;
}

/* Whoever holds, else whoever is in the doorway, perhaps for ever. */
static void take_owner(const struct filelock_claim *claim, void *arg)
{
	struct filelock_claim *found = arg;

	if (found->owner.pid == 0 || (claim->held && !found->held))
		*found = *claim;
}

static int strict_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	struct filelock_claim found = { .owner = FILELOCK_OWNER_INIT };
	struct telling telling = { take_owner, &found };
	struct strict_scan scan = { .token = "", .take = tell, .arg = &telling };
	int folder = -1;
	int r = strict_door_open_claims(lock, false, &folder);

	if (r == -ENOENT)
		return FILELOCK_ENOHOLDER;
	if (r == 0)
		r = strict_scan_claims(folder, &scan);
	folder_close(&folder);
	if (r == -EAGAIN)
		r = FILELOCK_EUNKNOWNHOLDER;
	if (r < 0)
		return r;
	if (found.owner.pid == 0)
		return FILELOCK_ENOHOLDER;
	*ret_owner = found.owner;
	return 0;
}

static void strict_forget(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	int *fds[] = { &s->sentinel, &s->claims };

	inotify_forget(&s->on_claim);
	s->held = s->intent = (struct leftover){ 0 };
	s->token[0] = '\0'; /* the parent's */
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			(void)sys_close(*fds[i]);
		*fds[i] = -1;
	}
}

const struct kind kind_strict = {
	.id = FILELOCK_STRICT,
	.name = "strict",
	.state_size = sizeof(struct strict),
	.exclusive_only = true,
	.open = strict_open,
	.close = strict_close,
	.try = strict_try,
	.retry_delay = strict_retry_delay,
	.watch = strict_watch,
	.unwatch = strict_unwatch,
	.abandon = strict_abandon,
	.release = strict_release,
	.verify = strict_verify,
	.loss = strict_loss,
	.holder = strict_holder,
	.fd = strict_fd,
	.identity = strict_identity,
	.hand_over = strict_hand_over,
	.claims = strict_claims,
	.break_claim = strict_break_claim,
	.forget = strict_forget,
};
