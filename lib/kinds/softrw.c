/*
 * softrw.c - many readers or one writer, by the generation log of Python's SoftReadWriteLock (4.0
 * and later).
 *
 * <path>.rw/gen/       who holds it, generation by generation (softrw_log.c, softrw_rules.c)
 * <path>.rw/holders/   a record of each who is in, or wants in: whether it lives (softrw_members.c)
 *
 * softrw_claim.c is one participant's way through them. Here is the kind: options, wake-ups, and the
 * life of a hold.
 *
 * Wake-ups. Each commit moves gen/HEAD, which is what a waiter watches. It also watches the record
 * of the one member whose end it waits for: a process that ends closes it.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"
#include "inotify.h"
#include "kinds/holder.h"
#include "kinds/liveness.h"
#include "kinds/softrw_claim.h"

#define MILLISECOND INT64_C(1000000)
#define POLL_MS 250            /* as Python's */
#define THRESHOLD_MS 90000     /* likewise */
#define BEATS 3                /* in a threshold */
#define AFTER_RACES (2 * MILLISECOND)

struct softrw {
	struct softrw_paths paths;
	struct softrw_claim claim;
	struct softrw_ledger ledger;
	struct softrw_pulse pulse;
	bool lost_races; /* the last attempt: the next one comes soon */
	enum filelock_loss loss; /* of the last hold */
	struct softrw_token blocker;       /* whose end we wait for; all zero: nobody's */
	char watched[SOFTRW_HEX_SIZE];     /* whose record is watched */
	struct subscription on_head, on_blocker;
};

static struct softrw *state_of(const struct filelock *lock)
{
	return kind_state(lock);
}

static unsigned threshold_ms(const struct filelock *lock)
{
	return lock->options.duration_ms ? lock->options.duration_ms : THRESHOLD_MS;
}

static unsigned heartbeat_ms(const struct filelock *lock)
{
	unsigned ms = lock->options.heartbeat_ms;

	return ms ? ms : threshold_ms(lock) / BEATS;
}

/* --- a handle --- */

static const char *wrong_option(const struct filelock *lock)
{
	const struct filelock_options *options = &lock->options;

	if (options->unlink_on_release)
		return "unlink_on_release: the log of a soft read/write lock stays";
	if (options->file_mode || options->exact_mode)
		return "file_mode, exact_mode: the files of a soft read/write lock are its user's";
	if (heartbeat_ms(lock) == 0 || heartbeat_ms(lock) >= threshold_ms(lock))
		return "heartbeat_ms: it must be below duration_ms";
	return NULL;
}

static void free_paths(struct softrw_paths *paths)
{
	free(paths->root);
	free(paths->generations);
	*paths = (struct softrw_paths){ 0 };
}

static void set_up(struct filelock *lock)
{
	struct softrw *s = state_of(lock);

	s->claim = (struct softrw_claim){ .paths = &s->paths,
		                          .path = lock->path,
		                          .threshold_ms = threshold_ms(lock),
		                          .holders = -1,
		                          .record = -1 };
	softrw_log_reset(&s->claim.log, -1);
}

static int softrw_open(struct filelock *lock)
{
	struct softrw *s = state_of(lock);
	const char *wrong = wrong_option(lock);
	int r;

	if (lock->options.lifetime_ms)
		return FILELOCK_ENOLIFETIME;
	if (wrong)
		return failure_set_detail(&lock->failure, -EINVAL, "cannot open",
		                          sys_strdup(wrong));
	s->paths.root = sys_format("%s.rw", lock->path);
	s->paths.generations = sys_format("%s.rw/gen", lock->path);
	set_up(lock);
	/* a log that can be opened part by part, but not asked for by its path, could not be left */
	if (s->paths.root && s->paths.generations && strlen(s->paths.generations) < PATH_MAX)
		return 0;
	r = s->paths.root && s->paths.generations ? -ENAMETOOLONG : -ENOMEM;
	free_paths(&s->paths);
	return r;
}

static void softrw_close(struct filelock *lock)
{
	struct softrw *s = state_of(lock);

	softrw_ledger_free(&s->ledger);
	free_paths(&s->paths);
}

/* --- waiting --- */

static void softrw_unwatch(struct filelock *lock)
{
	struct softrw *s = state_of(lock);

	inotify_unsubscribe(&s->on_head);
	inotify_unsubscribe(&s->on_blocker);
}

/* A log that was removed is watched no more, and the new one is. */
static void note_place(struct filelock *lock, struct identity before)
{
	struct softrw *s = state_of(lock);

	if (before.ino != 0 && !identity_equal(before, s->claim.place))
		softrw_unwatch(lock);
}

static int watch_head(struct filelock *lock, struct filelock_watcher *watcher)
{
	struct softrw *s = state_of(lock);
	int r;

	if (inotify_is_subscribed(&s->on_head))
		return 0;
	r = inotify_subscribe(watcher, &s->on_head, lock, s->paths.generations,
	                      IN_MOVED_TO | IN_ONLYDIR | IN_DONT_FOLLOW, "HEAD");
	return r < 0 ? r : 1;
}

/* Only a hint: a member that leaves or is left out moves HEAD. */
static int watch_blocker(struct filelock *lock, struct filelock_watcher *watcher)
{
	static const struct softrw_token nobody;
	struct softrw *s = state_of(lock);
	char name[SOFTRW_HEX_SIZE], folder[SYS_FD_LINK];

	if (softrw_token_equal(&s->blocker, &nobody) || s->claim.holders < 0)
		return 0;
	softrw_token_format(&s->blocker, name);
	if (inotify_is_subscribed(&s->on_blocker) && strcmp(name, s->watched) == 0)
		return 0;
	inotify_unsubscribe(&s->on_blocker);
	strcpy(s->watched, name);
	sys_fd_link(folder, s->claim.holders);
	return inotify_subscribe(watcher, &s->on_blocker, lock, folder, IN_CLOSE_WRITE,
	                         s->watched) == 0;
}

static int softrw_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	int head = watch_head(lock, watcher);
	int blocker = watch_blocker(lock, watcher);

	return head < 0 ? head : head || blocker;
}

static int64_t softrw_retry_delay(const struct filelock *lock)
{
	/* a waiter's record is renewed at each attempt */
	return state_of(lock)->lost_races ? AFTER_RACES
	                                  : (int64_t)heartbeat_ms(lock) * MILLISECOND;
}

/* --- an acquisition --- */

/* Leaves the log as if we had not come, as far as that can be. */
static void softrw_abandon(struct filelock *lock)
{
	struct softrw *s = state_of(lock);

	softrw_unwatch(lock);
	softrw_pulse_remove(&s->pulse);
	/* else others find our record without its flock, or see it age */
	(void)softrw_claim_leave(&s->claim);
	softrw_claim_close(&s->claim);
	s->lost_races = false;
}

/* Releases up to 3.32 kept their state under names that this one does not look at. */
static int check_older(struct filelock *lock)
{
	static const char *const names[] = { ".write", ".state" };
	struct stat st;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = sys_format("%s%s", lock->path, names[i]);
		int r = path ? sys_lstat(path, &st) : -ENOMEM;

		if (r == 0)
			return failure_set_detail(&lock->failure, FILELOCK_EPROTOCOL,
			                          "cannot acquire", path);
		free(path);
		if (r == -ENOMEM)
			return handle_fail(lock, r, "cannot acquire");
	}
	return 0;
}

static int fail(struct filelock *lock, int r)
{
	struct softrw *s = state_of(lock);
	char *detail = NULL;

	if (r == FILELOCK_EPROTOCOL)
		detail = sys_format("%s/%s", s->paths.generations, s->claim.wrong);
	else if (r == -EIO)
		detail = sys_strdup(FOLDER_MAY_LACK_LINKS);
	softrw_abandon(lock);
	return failure_set_detail(&lock->failure, r, "cannot acquire", detail);
}

/* NULL: a normal exit leaves our name in the log, as a kill does. */
static const char *exit_root(const struct filelock *lock)
{
	return lock->options.keep_on_exit ? NULL : state_of(lock)->paths.root;
}

static void keep_hold(struct filelock *lock)
{
	struct softrw *s = state_of(lock);

	softrw_pulse_add(&s->pulse, &s->claim.badge, exit_root(lock));
	lock->kept_at = s->pulse.number;
}

static int softrw_try(struct filelock *lock, enum filelock_mode mode)
{
	struct softrw *s = state_of(lock);
	struct identity before = s->claim.place;
	int r = s->claim.holders < 0 ? check_older(lock) : 0;

	if (r < 0)
		return r;
	s->blocker = (struct softrw_token){ { 0 } };
	r = softrw_claim_try(&s->claim, lock, mode, &s->ledger, &s->blocker);
	if (r < 0)
		return fail(lock, r);
	note_place(lock, before);
	s->lost_races = r == ATTEMPT_RACED;
	if (r == ATTEMPT_HELD)
		keep_hold(lock);
	return r == ATTEMPT_HELD ? ATTEMPT_HELD : ATTEMPT_BUSY;
}

/* --- a hold --- */

/* The kind keeps the hold's number where whoever keeps it alive finds it. */
static int64_t softrw_held_after(const struct filelock *lock)
{
	return (int64_t)heartbeat_ms(lock) * MILLISECOND;
}

static int lose(int64_t number, enum filelock_loss loss)
{
	softrw_pulse_lose(number, loss);
	return FILELOCK_ELOST;
}

/* Renews the record of the hold of that number. 0; FILELOCK_ELOST, and why is noted; -ESTALE: that
   hold is over; or an error that tells nothing about it. */
static int beat(const struct filelock *lock, struct softrw_claim *claim, int64_t number)
{
	int64_t most = (int64_t)(threshold_ms(lock) - heartbeat_ms(lock)) * MILLISECOND;
	struct softrw_badge badge;
	int r;

	if (!softrw_pulse_read(number, &badge))
		return -ESTALE;
	if (badge.loss != FILELOCK_LOSS_NONE)
		return FILELOCK_ELOST;
	/* before the record is touched: it would look alive, and the lock be another's */
	if (softrw_claim_is_late(claim, &badge))
		return lose(number, FILELOCK_LOSS_LATE);
	r = softrw_claim_beat(claim, &badge);
	if (r == 0)
		softrw_pulse_renew(number, badge.renewed_at);
	if (r == FILELOCK_ELOST)
		return lose(number, FILELOCK_LOSS_EVICTED);
	/* it was stopped before it came to write */
	if (r == 0 && softrw_claim_is_late(claim, &badge))
		return lose(number, FILELOCK_LOSS_LATE);
	/* it could not be renewed for so long that others may count it as dead before the next one */
	if (r < 0 && sys.boot() - badge.renewed_at >= most)
		return lose(number, FILELOCK_LOSS_REFRESH_FAILED);
	return r;
}

static int64_t softrw_held(struct filelock *keeper, int64_t now)
{
	int r = beat(keeper, &state_of(keeper)->claim, keeper->kept_at);

	if (r == -ESTALE)
		return FILELOCK_NEVER;
	return r == FILELOCK_ELOST ? r : now + (int64_t)heartbeat_ms(keeper) * MILLISECOND;
}

static int softrw_verify(const struct filelock *lock)
{
	struct softrw *s = state_of(lock);

	return beat(lock, &s->claim, s->pulse.number);
}

/* Without a look at the log. */
static enum filelock_loss softrw_loss(const struct filelock *lock)
{
	struct softrw *s = state_of(lock);
	struct softrw_badge badge;

	if (!softrw_pulse_read(s->pulse.number, &badge))
		return s->loss;
	if (badge.loss == FILELOCK_LOSS_NONE && softrw_claim_is_late(&s->claim, &badge))
		badge.loss = FILELOCK_LOSS_LATE;
	return badge.loss;
}

/* Who has lost the lock leaves as well: nobody else's name is touched. */
static int softrw_release(struct filelock *lock)
{
	struct softrw *s = state_of(lock);
	enum filelock_loss loss = softrw_loss(lock);
	int r;

	softrw_pulse_begin_leaving(&s->pulse);
	r = softrw_claim_leave(&s->claim);
	softrw_pulse_end_leaving(&s->pulse, r < 0 && r != FILELOCK_ELOST ? exit_root(lock) : NULL);
	if (r < 0 && r != FILELOCK_ELOST)
		return handle_fail(lock, r, "cannot release");
	s->loss = loss == FILELOCK_LOSS_NONE && r < 0 ? FILELOCK_LOSS_EVICTED : loss;
	softrw_pulse_remove(&s->pulse);
	softrw_claim_close(&s->claim);
	return s->loss == FILELOCK_LOSS_NONE
	               ? 0
	               : handle_fail(lock, FILELOCK_ELOST, "too late to release");
}

static void softrw_hand_over(struct filelock *from, struct filelock *to)
{
	struct softrw *f = state_of(from);
	struct softrw *t = state_of(to);
	struct softrw_claim claim = f->claim;

	claim.paths = &t->paths;
	claim.path = to->path;
	t->claim = claim;
	set_up(from);
	softrw_pulse_move(&f->pulse, &t->pulse, t->paths.root);
	to->kept_at = t->pulse.number;
}

static int softrw_token(const struct filelock *lock, uint64_t *ret_token)
{
	*ret_token = state_of(lock)->claim.generation;
	return 0;
}

static struct identity softrw_identity(const struct filelock *lock)
{
	return state_of(lock)->claim.place;
}

static const char *softrw_place(const struct filelock *lock)
{
	return state_of(lock)->paths.generations;
}

static int softrw_fd(const struct filelock *lock)
{
	(void)lock;
	return -ENOTSUP;
}

static void softrw_forget(struct filelock *lock)
{
	struct softrw *s = state_of(lock);
	int *fds[] = { &s->claim.log.folder, &s->claim.holders, &s->claim.record };

	inotify_forget(&s->on_head);
	inotify_forget(&s->on_blocker);
	s->pulse.number = 0;
	s->pulse.root = NULL;
	s->pulse.link = (struct list){ NULL, NULL };
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			(void)sys_close(*fds[i]);
		*fds[i] = -1;
	}
	s->claim.generation = 0;
}

/* --- exit(3) --- */

/* By a claim of its own, since other threads may still work with the handle. */
static void leave_for(char *root, const struct softrw_token *token)
{
	struct softrw_paths paths = { .root = root, .generations = sys_format("%s/gen", root) };
	struct softrw_claim claim = { .paths = &paths, .path = root, .holders = -1, .record = -1 };

	softrw_log_reset(&claim.log, -1);
	if (paths.generations)
		(void)softrw_claim_evict(&claim, token);
	softrw_claim_close(&claim);
	free(paths.generations);
}

static void leave_at_exit(void)
{
	struct softrw_token token;
	char *root;

	while (softrw_pulse_take_at_exit(&root, &token)) {
		if (root)
			leave_for(root, &token);
		free(root);
	}
}

/* As early as possible: see soft_exit.c. */
__attribute__((constructor)) static void install(void)
{
	(void)atexit(leave_at_exit);
}

/* --- questions --- */

/* A claim that only looks, beside what the handle has. */
static void set_up_look(const struct filelock *lock, struct softrw_claim *claim)
{
	*claim = (struct softrw_claim){ .paths = &state_of(lock)->paths,
		                        .path = lock->path,
		                        .threshold_ms = threshold_ms(lock),
		                        .holders = -1,
		                        .record = -1 };
	softrw_log_reset(&claim->log, -1);
}

static int read_owner(const struct softrw_claim *claim, const struct softrw_token *token,
                      enum filelock_mode mode, struct filelock_owner *ret_owner)
{
	struct marker marker = { .type = MARKER_RECORD };
	char name[SOFTRW_HEX_SIZE], bytes[SOFTRW_HOLDER_SIZE];
	struct softrw_holder holder;
	ssize_t n;

	softrw_token_format(token, name);
	n = folder_read(claim->holders, name, bytes, sizeof(bytes), NULL);
	if (n < 0)
		return FILELOCK_EUNKNOWNHOLDER;
	softrw_holder_parse(bytes, (size_t)n, token, &holder);
	if (holder.pid == 0 || !holder.host[0])
		return FILELOCK_EUNKNOWNHOLDER;
	marker.pid = holder.pid;
	marker.duration = holder.lease;
	strcpy(marker.host, holder.host);
	liveness_describe(&marker, ret_owner);
	ret_owner->mode = mode;
	if (liveness_is_here(&marker))
		ret_owner->start_time = holder_start_time(marker.pid);
	return 0;
}

/* A writer that is named beside readers waits for them. */
static int find_owner(const struct softrw_claim *claim, struct filelock_owner *ret_owner)
{
	const struct softrw_snapshot *latest = &claim->log.latest;

	if (latest->readers > 0)
		return read_owner(claim, &latest->reader[0], FILELOCK_SHARED, ret_owner);
	if (latest->has_writer)
		return read_owner(claim, &latest->writer, FILELOCK_EXCLUSIVE, ret_owner);
	return FILELOCK_ENOHOLDER;
}

static int softrw_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	struct softrw_claim claim;
	int r;

	set_up_look(lock, &claim);
	r = softrw_claim_look(&claim);
	if (r == 0)
		r = find_owner(&claim, ret_owner);
	softrw_claim_close(&claim);
	return r == -ENOENT ? FILELOCK_ENOHOLDER : r;
}

/* --- claims --- */

struct telling {
	void (*take)(const struct filelock_claim *claim, void *arg);
	void *arg;
};

/* A writer beside readers waits for them. */
static void tell(const struct softrw_claim *claim, const struct softrw_token *token,
                 enum filelock_mode mode, bool is_dead, void *arg)
{
	const struct telling *telling = arg;
	char name[SOFTRW_HEX_SIZE];
	struct filelock_claim told = { .size = sizeof(told), .name = name, .dead = is_dead,
		                       .owner = FILELOCK_OWNER_INIT };

	softrw_token_format(token, name);
	told.held = mode == FILELOCK_SHARED || claim->log.latest.readers == 0;
	/* a record that is gone names nobody, and its member is told all the same */
	(void)read_owner(claim, token, mode, &told.owner);
	told.owner.mode = mode;
	telling->take(&told, telling->arg);
}

static int fail_question(struct filelock *lock, const char *what, const struct softrw_claim *claim,
                         int r)
{
	char *detail = r == FILELOCK_EPROTOCOL
	                       ? sys_format("%s/%s", state_of(lock)->paths.generations, claim->wrong)
	                       : NULL;

	return failure_set_detail(&lock->failure, r, what, detail);
}

static int softrw_claims(struct filelock *lock,
                         void (*take)(const struct filelock_claim *claim, void *arg), void *arg)
{
	struct telling telling = { take, arg };
	struct softrw_claim claim;
	int r;

	set_up_look(lock, &claim);
	r = softrw_claim_look(&claim);
	if (r == 0)
		r = softrw_claim_tell(&claim, tell, &telling);
	else if (r == -ENOENT) /* nobody has ever come */
		r = 0;
	if (r < 0)
		r = fail_question(lock, "cannot list the claims of", &claim, r);
	softrw_claim_close(&claim);
	return r;
}

static int softrw_break_claim(struct filelock *lock, const char *name)
{
	struct softrw_claim claim;
	struct softrw_token token;
	int r;

	if (!softrw_token_parse(name, strlen(name), &token))
		return filelock_fail(lock, -EINVAL, "cannot break a claim of",
		                     "no claim has this name");
	set_up_look(lock, &claim);
	r = softrw_claim_evict(&claim, &token);
	if (r < 0)
		r = fail_question(lock, "cannot break a claim of", &claim, r);
	softrw_claim_close(&claim);
	return r;
}

static int softrw_break(struct filelock *lock)
{
	struct softrw_claim claim;
	int r;

	set_up_look(lock, &claim);
	r = softrw_claim_break(&claim);
	softrw_claim_close(&claim);
	if (r == -ENOENT)
		r = FILELOCK_ENOHOLDER;
	return r < 0 ? handle_fail(lock, r, "cannot break") : 0;
}

const struct kind kind_soft_readwrite = {
	.id = FILELOCK_SOFT_READWRITE,
	.name = "soft-readwrite",
	.state_size = sizeof(struct softrw),
	.nests_in_thread = true,
	.expires = true,
	.least_poll_ms = POLL_MS,
	.open = softrw_open,
	.close = softrw_close,
	.try = softrw_try,
	.retry_delay = softrw_retry_delay,
	.watch = softrw_watch,
	.unwatch = softrw_unwatch,
	.abandon = softrw_abandon,
	.release = softrw_release,
	.held = softrw_held,
	.held_after = softrw_held_after,
	.verify = softrw_verify,
	.loss = softrw_loss,
	.holder = softrw_holder,
	.fd = softrw_fd,
	.token = softrw_token,
	.place = softrw_place,
	.identity = softrw_identity,
	.hand_over = softrw_hand_over,
	.claims = softrw_claims,
	.break_claim = softrw_break_claim,
	.break_lock = softrw_break,
	.forget = softrw_forget,
};
