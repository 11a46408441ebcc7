/*
 * softrw_claim.c - one participant of a soft read/write lock.
 *
 *   record ──> look ──> entered ──> granted ──> left
 *               └─ others are in: wait, look again
 *
 * The record is there before any snapshot names its token, and goes after none does. The newest
 * snapshot is the truth about who is in: a commit that was reported as failed may have landed, and
 * others may have left us out. So each look asks it anew.
 *
 * A dead member is left out by whoever commits next. A member that is late with its record, or whose
 * record is gone, has lost the lock, whatever it finds later: others may have been granted it.
 */
#include "kinds/softrw_claim.h"

#include <errno.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"
#include "fork.h"
#include "kinds/liveness.h"
#include "kinds/softrw_rules.h"

#define MILLISECOND INT64_C(1000000)
#define COMMITS_A_TRY 4    /* lost races, before others get time */
#define COMMITS_TO_LEAVE 1000
#define MANY_ABSENCES 100  /* in a row: nothing can be made there */
#define RENEWED_AGAIN (250 * MILLISECOND) /* as often as Python's waiters do it */

static int64_t threshold(const struct softrw_claim *claim)
{
	return (int64_t)claim->threshold_ms * MILLISECOND;
}

/* --- folders --- */

static void close_fd(int *fd)
{
	if (*fd < 0)
		return;
	fork_hold_off();
	(void)sys_close(*fd);
	*fd = -1;
	fork_allow();
}

void softrw_claim_close(struct softrw_claim *claim)
{
	close_fd(&claim->log.folder);
	softrw_log_reset(&claim->log, -1);
	close_fd(&claim->holders);
	close_fd(&claim->record);
	claim->is_entered = claim->was_sent = claim->may_be_out = false;
	claim->generation = 0;
}

/* A folder of the log, which is the claim's from then on, also for a fork beside us. */
static int open_folder(int root, const char *name, bool make, int *ret_fd)
{
	int r = folder_open_into(ret_fd, root, name, FOLDER_OURS);

	if (r != -ENOENT || !make)
		return r;
	r = folder_make(root, name, 0700);
	return r < 0 ? r : folder_open_into(ret_fd, root, name, FOLDER_OURS);
}

static int note_place(struct softrw_claim *claim)
{
	struct statfs fs;
	struct stat st;
	int r = sys_fstat(claim->log.folder, &st);

	if (r < 0)
		return r;
	if (!identity_equal(claim->place, (struct identity){ st.st_dev, st.st_ino }))
		claim->is_local = sys.statfs(claim->paths->root, &fs) == 0 && sys_is_local(&fs);
	claim->place = (struct identity){ st.st_dev, st.st_ino };
	claim->log.is_local = claim->is_local;
	return 0;
}

static int open_both(struct softrw_claim *claim, int root, bool make)
{
	int fd = -1;
	int r = open_folder(root, "holders", make, &claim->holders);

	if (r == 0)
		r = open_folder(root, "gen", make, &fd);
	if (r < 0)
		return r;
	softrw_log_reset(&claim->log, fd);
	return note_place(claim);
}

static int make_root(const struct softrw_claim *claim, const struct filelock *lock)
{
	int r = folder_make(AT_FDCWD, claim->paths->root, 0700);

	if (r != -ENOENT)
		return r;
	r = handle_make_parents(lock);
	return r < 0 ? r : folder_make(AT_FDCWD, claim->paths->root, 0700);
}

int softrw_claim_open(struct softrw_claim *claim, const struct filelock *lock)
{
	int r, root = folder_open(AT_FDCWD, claim->paths->root, FOLDER_OURS);

	if (root == -ENOENT && lock) {
		r = make_root(claim, lock);
		root = r < 0 ? r : folder_open(AT_FDCWD, claim->paths->root, FOLDER_OURS);
	}
	if (root < 0)
		return root;
	r = open_both(claim, root, lock != NULL);
	(void)sys_close(root);
	if (r < 0)
		softrw_claim_close(claim);
	return r;
}

/* Whether the path still names the log that is open. */
static int check_place(const struct softrw_claim *claim)
{
	return path_check(claim->paths->generations, claim->place.dev, claim->place.ino);
}

/* --- our record --- */

/* One that says it is locked would have us taken for dead where it is not. */
static int make_nonce(const struct softrw_badge *badge, struct softrw_token *ret)
{
	int r = sys_random(ret->bytes, sizeof(ret->bytes));

	if (r == 0 && badge->is_locked)
		softrw_nonce(&badge->token, ret->bytes, ret);
	return r;
}

static int write_record(const struct softrw_claim *claim, const struct softrw_badge *badge, int fd)
{
	char host[HOST_SIZE + 1], bytes[SOFTRW_HOLDER_SIZE];
	struct softrw_token nonce;
	size_t size;
	int r = liveness_host(host);

	if (r == 0)
		r = make_nonce(badge, &nonce);
	if (r < 0)
		return r;
	size = softrw_holder_format(bytes, &badge->token, getpid(), host, claim->threshold_ms,
	                            &nonce);
	return size == 0 ? -ENAMETOOLONG : sys_write_start(fd, bytes, size);
}

static void lock_record(struct softrw_claim *claim)
{
	claim->badge.is_locked = claim->is_local && sys_flock(claim->record, LOCK_EX | LOCK_NB) == 0;
}

static int open_record(struct softrw_claim *claim, const char *name)
{
	int fd;

	fork_hold_off();
	fd = sys_open_at(claim->holders, name, O_RDWR | O_CREAT | O_EXCL | SAFE_FLAGS, 0600);
	if (fd >= 0)
		claim->record = fd;
	fork_allow();
	return fd < 0 ? fd : 0;
}

static int fill_record(struct softrw_claim *claim)
{
	struct stat st;
	int r = sys_fstat(claim->record, &st);

	if (r < 0)
		return r;
	claim->badge.identity = (struct identity){ st.st_dev, st.st_ino };
	claim->badge.renewed_at = sys.boot();
	lock_record(claim);
	return write_record(claim, &claim->badge, claim->record);
}

static int make_record(struct softrw_claim *claim)
{
	char name[SOFTRW_HEX_SIZE];
	int r;

	softrw_token_format(&claim->badge.token, name);
	close_fd(&claim->record);
	r = open_record(claim, name);
	if (r < 0)
		return r;
	r = fill_record(claim);
	if (r < 0) {
		(void)sys_unlink_at(claim->holders, name);
		close_fd(&claim->record);
	}
	claim->is_fresh = r == 0;
	return r;
}

/* 0; FILELOCK_ELOST: it is gone; or an error. */
static int renew_named(const struct softrw_claim *claim, const struct softrw_badge *badge,
                       const char *name)
{
	struct stat st;
	int fd = sys_open_at(claim->holders, name, O_WRONLY | SAFE_FLAGS, 0);
	int r;

	if (fd < 0)
		return fd == -ENOENT ? FILELOCK_ELOST : fd;
	r = sys_fstat(fd, &st);
	if (r == 0 && !identity_equal((struct identity){ st.st_dev, st.st_ino }, badge->identity))
		r = FILELOCK_ELOST;
	if (r == 0)
		r = write_record(claim, badge, fd);
	(void)sys_close(fd);
	return r;
}

/* 0; FILELOCK_ELOST: it is gone; or an error. */
static int check_record(const struct softrw_claim *claim, const struct softrw_badge *badge)
{
	char name[SOFTRW_HEX_SIZE];
	int r;

	softrw_token_format(&badge->token, name);
	r = folder_check(claim->holders, name, badge->identity);
	return r == PATH_NAMES_ANOTHER ? FILELOCK_ELOST : r;
}

static int renew_record(const struct softrw_claim *claim, struct softrw_badge *badge)
{
	char name[SOFTRW_HEX_SIZE];
	int64_t now = sys.boot(); /* before: others count from what they see */
	int r;

	if (claim->record < 0) {
		softrw_token_format(&badge->token, name);
		r = renew_named(claim, badge, name);
	} else {
		r = check_record(claim, badge);
		if (r == 0)
			r = write_record(claim, badge, claim->record);
	}
	if (r == 0)
		badge->renewed_at = now;
	return r;
}

/* A wake-up soon after a poll gives no other reason to write it again; a network's client would show
   others an old one. */
static bool is_just_renewed(const struct softrw_claim *claim)
{
	int64_t age = sys.boot() - claim->badge.renewed_at;

	return claim->is_local && age < RENEWED_AGAIN && age < threshold(claim) / 8;
}

/* Others may take a waiter's record away; then it makes it again. */
static int keep_fresh(struct softrw_claim *claim)
{
	bool was_locked = claim->badge.is_locked;
	int r;

	if (claim->is_fresh)
		return 0;
	if (!claim->badge.is_locked)
		lock_record(claim);
	r = was_locked && is_just_renewed(claim) ? check_record(claim, &claim->badge)
	                                         : renew_record(claim, &claim->badge);
	claim->is_fresh = r == 0;
	return r == FILELOCK_ELOST ? make_record(claim) : r;
}

/* --- others --- */

static struct softrw_look look_of(const struct softrw_claim *claim, int folder)
{
	return (struct softrw_look){ .folder = folder,
		                     .is_local = claim->is_local,
		                     .now = sys.now(),
		                     .threshold = threshold(claim) };
}

static int look(struct softrw_claim *claim)
{
	int r = softrw_log_look(&claim->log);

	if (r == -EBADMSG) {
		strcpy(claim->wrong, claim->log.wrong);
		return FILELOCK_EPROTOCOL;
	}
	if (r == 0)
		claim->is_entered = softrw_snapshot_names(&claim->log.latest, &claim->badge.token);
	return r;
}

struct sweep {
	struct softrw_claim *claim;
	struct softrw_ledger *ledger;
	struct softrw_look look;
	int result; /* of looks at the log meanwhile */
};

static int sweep_holder(const char *name, void *arg)
{
	struct sweep *sweep = arg;
	const struct softrw_snapshot *latest = &sweep->claim->log.latest;
	struct softrw_token token;
	int r;

	if (!softrw_token_parse(name, strlen(name), &token) ||
	    softrw_token_equal(&token, &sweep->claim->badge.token) ||
	    softrw_snapshot_names(latest, &token))
		return 0;
	r = softrw_member_is_dead(sweep->ledger, &sweep->look, &token);
	if (r <= 0)
		return r == -ENOMEM ? r : 0;
	/* it may have entered since the look, before it died: then its record tells that it is dead */
	sweep->result = look(sweep->claim);
	if (sweep->result == 0 && !softrw_snapshot_names(latest, &token))
		(void)sys_unlink_at(sweep->look.folder, name);
	return sweep->result;
}

static int sweep_private(const char *name, void *arg)
{
	const struct sweep *sweep = arg;
	struct softrw_token token;
	int r;

	if (!softrw_log_is_private(name, &token))
		return 0;
	r = softrw_private_is_dead(sweep->ledger, &sweep->look, &token, name);
	if (r > 0)
		(void)sys_unlink_at(sweep->look.folder, name);
	return r == -ENOMEM ? r : 0;
}

/* Removes what the dead left that no snapshot names: it hinders nobody, so now and then. */
static int sweep(struct softrw_claim *claim, struct softrw_ledger *ledger)
{
	struct sweep sweep = { claim, ledger, look_of(claim, claim->holders), 0 };
	int r;

	if (sweep.look.now < claim->next_sweep)
		return 0;
	claim->next_sweep = sweep.look.now + threshold(claim) / 2;
	softrw_ledger_begin_sweep(ledger);
	r = folder_list(claim->holders, sweep_holder, &sweep);
	sweep.look.folder = claim->log.folder;
	if (r == 0)
		r = folder_list(claim->log.folder, sweep_private, &sweep);
	softrw_ledger_end_sweep(ledger, &claim->log.latest);
	return r == -ENOMEM ? r : sweep.result;
}

static int leave_out(struct softrw_snapshot *next, struct softrw_snapshot *dead,
                     const struct softrw_token *token)
{
	int r = softrw_snapshot_add_reader(dead, token);

	if (r == 0)
		softrw_snapshot_remove(next, token);
	return r;
}

/* Leaves the dead out of next, and notes them. */
static int bury(struct softrw_claim *claim, struct softrw_ledger *ledger,
                struct softrw_snapshot *next, struct softrw_snapshot *dead)
{
	const struct softrw_snapshot *latest = &claim->log.latest;
	struct softrw_look look = look_of(claim, claim->holders);
	size_t members = latest->readers + latest->has_writer;
	int r = 0;

	for (size_t i = 0; i < members && r >= 0; i++) {
		const struct softrw_token *token = i < latest->readers ? &latest->reader[i]
		                                                       : &latest->writer;

		if (softrw_token_equal(token, &claim->badge.token))
			continue;
		r = softrw_member_is_dead(ledger, &look, token);
		if (r > 0)
			r = leave_out(next, dead, token);
	}
	return r < 0 ? r : 0;
}

static void remove_records(const struct softrw_claim *claim, struct softrw_ledger *ledger,
                           const struct softrw_snapshot *dead)
{
	char name[SOFTRW_HEX_SIZE];

	for (size_t i = 0; i < dead->readers; i++) {
		softrw_token_format(&dead->reader[i], name);
		(void)sys_unlink_at(claim->holders, name);
		if (ledger)
			softrw_ledger_forget(ledger, &dead->reader[i], false);
	}
}

/* --- an attempt --- */

static void note_blocker(const struct softrw_claim *claim, struct softrw_token *ret)
{
	const struct softrw_snapshot *latest = &claim->log.latest;

	if (latest->has_writer && !softrw_token_equal(&latest->writer, &claim->badge.token))
		*ret = latest->writer;
	else if (latest->readers > 0)
		*ret = latest->reader[0];
}

static int make_move(struct softrw_claim *claim, struct softrw_ledger *ledger,
                     struct softrw_snapshot *next, const struct softrw_snapshot *dead,
                     enum softrw_move move)
{
	uint64_t generation = next->generation;
	int r;

	if (move == SOFTRW_WAIT)
		return ATTEMPT_BUSY;
	claim->was_sent |= move != SOFTRW_EVICT;
	r = softrw_log_commit(&claim->log, next);
	if (r != 0)
		return r;
	/* nobody can go on by our grant alone, but by the end of one who is dead */
	softrw_log_tell(&claim->log, move == SOFTRW_GRANT && dead->readers == 0 ? SOFTRW_NO_NEWS
	                                                                      : SOFTRW_NEWS);
	remove_records(claim, ledger, dead);
	claim->is_entered |= move != SOFTRW_EVICT;
	if (move != SOFTRW_GRANT)
		return ATTEMPT_BUSY;
	claim->generation = generation;
	return ATTEMPT_HELD;
}

static int decide(struct softrw_claim *claim, enum filelock_mode mode, struct softrw_ledger *ledger)
{
	struct softrw_snapshot next, dead = { 0 };
	enum softrw_move move;
	int r = softrw_successor(&claim->log.latest, &next);

	if (r == 0)
		r = bury(claim, ledger, &next, &dead);
	if (r == 0)
		r = softrw_advance(&next, &claim->badge.token, mode, claim->is_entered,
		                   dead.readers > 0, &move);
	if (r == 0)
		r = make_move(claim, ledger, &next, &dead, move);
	softrw_snapshot_clear(&next);
	softrw_snapshot_clear(&dead);
	return r;
}

static int take_turn(struct softrw_claim *claim, enum filelock_mode mode,
                     struct softrw_ledger *ledger, struct softrw_token *ret_blocker)
{
	int r = look(claim);

	if (r == 0)
		r = keep_fresh(claim);
	if (r == 0)
		r = sweep(claim, ledger);
	if (r == 0)
		r = decide(claim, mode, ledger);
	if (r == ATTEMPT_BUSY)
		note_blocker(claim, ret_blocker);
	return r;
}

/* The folders at the path, and our record in them. */
static int be_there(struct softrw_claim *claim, const struct filelock *lock)
{
	int r = 0;

	claim->is_fresh = false;
	if (claim->holders >= 0)
		r = check_place(claim);
	if (r < 0)
		return r;
	if (r == PATH_NAMES_ANOTHER) /* removed, with all that was in it */
		softrw_claim_close(claim);
	if (claim->holders < 0)
		r = softrw_claim_open(claim, lock);
	if (r < 0 || claim->record >= 0)
		return r;
	r = sys_random(claim->badge.token.bytes, sizeof(claim->badge.token.bytes));
	return r < 0 ? r : make_record(claim);
}

int softrw_claim_try(struct softrw_claim *claim, const struct filelock *lock,
                     enum filelock_mode mode, struct softrw_ledger *ledger,
                     struct softrw_token *ret_blocker)
{
	int r = be_there(claim, lock);

	if (r == 0)
		r = ATTEMPT_RACED;
	for (int i = 0; i < COMMITS_A_TRY && r == ATTEMPT_RACED; i++)
		r = take_turn(claim, mode, ledger, ret_blocker);
	if (claim->log.absences > MANY_ABSENCES)
		return -ENOENT;
	if (r != -ENOENT && r != -ESTALE) {
		claim->absences = 0;
		return r;
	}
	return ++claim->absences > MANY_ABSENCES ? r : ATTEMPT_RACED;
}

/* --- the end --- */

static int commit_out(struct softrw_claim *claim)
{
	struct softrw_snapshot next;
	int r = softrw_successor(&claim->log.latest, &next);

	softrw_snapshot_remove(&next, &claim->badge.token);
	if (r == 0)
		r = softrw_log_commit(&claim->log, &next);
	softrw_snapshot_clear(&next);
	if (r != 0)
		return r;
	/* that wakes whoever waits for us, some calls before HEAD does; nobody needs it any more */
	close_fd(&claim->record);
	softrw_log_tell(&claim->log, SOFTRW_NEWS);
	return 0;
}

/* 0; FILELOCK_ELOST: we were not in any more; or an error. The log may only be hidden from us, by a mount,
   a chroot(2) or a rename for a moment: it is left by its open folders wherever it is. */
static int get_out(struct softrw_claim *claim)
{
	int names = check_place(claim);
	int r = ATTEMPT_RACED;

	if (names < 0)
		return names;
	for (int i = 0; i < COMMITS_TO_LEAVE && r == ATTEMPT_RACED; i++) {
		r = look(claim);
		if (r == 0 && !claim->is_entered)
			return claim->may_be_out ? 0 : FILELOCK_ELOST;
		if (r < 0)
			break;
		r = commit_out(claim);
		/* a commit that failed may have landed all the same; and one that was overtaken, since its
		   successors had removed what it looked for, was what they went on from */
		claim->may_be_out |= r < 0 || claim->log.was_published;
	}
	if (names == PATH_NAMES_ANOTHER)
		return FILELOCK_ELOST;
	return r == ATTEMPT_RACED ? -EAGAIN : r;
}

int softrw_claim_leave(struct softrw_claim *claim)
{
	char name[SOFTRW_HEX_SIZE];
	int r;

	if (claim->record < 0)
		return 0;
	r = claim->was_sent ? get_out(claim) : 0;
	if (r < 0 && r != FILELOCK_ELOST)
		return r;
	softrw_token_format(&claim->badge.token, name);
	if (folder_check(claim->holders, name, claim->badge.identity) == PATH_NAMES_OURS)
		(void)sys_unlink_at(claim->holders, name);
	return r;
}

/* --- a hold --- */

bool softrw_claim_is_late(const struct softrw_claim *claim, const struct softrw_badge *badge)
{
	return sys.boot() - badge->renewed_at >= threshold(claim);
}

int softrw_claim_beat(struct softrw_claim *claim, struct softrw_badge *badge)
{
	int r;

	r = claim->holders < 0 ? softrw_claim_open(claim, NULL) : check_place(claim);
	if (r == PATH_NAMES_ANOTHER || r == -ENOENT)
		return FILELOCK_ELOST;
	if (r == 0)
		r = renew_record(claim, badge);
	if (r < 0)
		return r;
	r = look(claim);
	if (r < 0)
		return r;
	return softrw_snapshot_names(&claim->log.latest, &badge->token) ? 0 : FILELOCK_ELOST;
}

int softrw_claim_look(struct softrw_claim *claim)
{
	int r = softrw_claim_open(claim, NULL);

	return r < 0 ? r : look(claim);
}

int softrw_claim_tell(struct softrw_claim *claim, softrw_teller *tell, void *arg)
{
	const struct softrw_snapshot *latest = &claim->log.latest;
	struct softrw_look look = look_of(claim, claim->holders);
	struct softrw_ledger ledger = { 0 };
	size_t members = latest->readers + latest->has_writer;
	int r = 0;

	for (size_t i = 0; i < members && r >= 0; i++) {
		bool reads = i < latest->readers;
		const struct softrw_token *token = reads ? &latest->reader[i] : &latest->writer;

		r = softrw_member_is_dead(&ledger, &look, token);
		if (r >= 0)
			tell(claim, token, reads ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE, r > 0,
			     arg);
	}
	softrw_ledger_free(&ledger);
	return r < 0 ? r : 0;
}

int softrw_claim_evict(struct softrw_claim *claim, const struct softrw_token *token)
{
	char name[SOFTRW_HEX_SIZE];
	int r = softrw_claim_open(claim, NULL);

	if (r < 0)
		return r;
	claim->badge.token = *token;
	r = get_out(claim);
	if (r < 0)
		return r == FILELOCK_ELOST ? -ENOENT : r;
	softrw_token_format(token, name);
	(void)sys_unlink_at(claim->holders, name);
	return 0;
}

static int list_members(const struct softrw_snapshot *snapshot, struct softrw_snapshot *ret)
{
	int r = snapshot->has_writer ? softrw_snapshot_add_reader(ret, &snapshot->writer) : 0;

	for (size_t i = 0; i < snapshot->readers && r == 0; i++)
		r = softrw_snapshot_add_reader(ret, &snapshot->reader[i]);
	return r;
}

static int commit_nobody(struct softrw_claim *claim)
{
	struct softrw_snapshot next = { .generation = claim->log.latest.generation + 1 };
	struct softrw_snapshot members = { 0 };
	int r = list_members(&claim->log.latest, &members);

	if (r == 0 && members.readers == 0)
		r = -ENOENT;
	if (r == 0)
		r = softrw_log_commit(&claim->log, &next);
	if (r == 0) {
		softrw_log_tell(&claim->log, SOFTRW_NEWS);
		remove_records(claim, NULL, &members);
	}
	softrw_snapshot_clear(&members);
	return r;
}

int softrw_claim_break(struct softrw_claim *claim)
{
	int r = softrw_claim_look(claim);

	for (int i = 0; i < COMMITS_TO_LEAVE && r == 0; i++) {
		r = commit_nobody(claim);
		if (r != ATTEMPT_RACED)
			return r;
		r = look(claim);
	}
	return r == 0 ? -EAGAIN : r;
}
