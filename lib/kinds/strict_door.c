/*
 * strict_door.c - one attempt at a strict lock.
 *
 *   the sentinel ─> any claim? ─ yes ─────────────────────────────────────────────> busy
 *                      │ no
 *                      v
 *            publish our intent ─> a held one, or an intent with a lesser name? ─ yes ─> back out
 *                      │ no
 *                      v
 *             link it as held ─> our token the least of all? ─ no ───────────────> back out
 *                      │ yes
 *                      v
 *                     held
 *
 * The intent stays for the hold: a name that was there before a listing began is in the listing,
 * which is not so of the held one. All odd things fail closed. What may pass is looked at again: in
 * a later attempt, since none sleeps here.
 *
 * One attempt of a process is in the doorway of a path: others of it would only send each other
 * back.
 */
#include "kinds/strict.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"
#include "fork.h"
#include "kinds/liveness.h"

#define MILLISECOND INT64_C(1000000)
#define CLAIM_GRACE (500 * MILLISECOND)     /* for a claim that may not be read */
#define DAMAGE_GRACE (500 * MILLISECOND)    /* for what no lock writes, at the path */
#define UNKNOWN_GRACE (2000 * MILLISECOND)  /* for what no lock can read, at the path */
#define SOON (2 * MILLISECOND)
#define MOST_DOUBLINGS 5

/* --- one attempt of a process --- */

struct passage {
	struct list link;
	const char *path;
};

static struct {
	pthread_mutex_t mutex;
	struct list passages;
} door = { .mutex = PTHREAD_MUTEX_INITIALIZER, .passages = LIST_INIT(door.passages) };

static bool enter_door(struct passage *passage, const char *path)
{
	bool is_free = true;

	(void)pthread_mutex_lock(&door.mutex);
	list_for_each(link, &door.passages)
		if (strcmp(list_entry(link, struct passage, link)->path, path) == 0)
			is_free = false;
	passage->path = path;
	if (is_free)
		list_add_last(&door.passages, &passage->link);
	(void)pthread_mutex_unlock(&door.mutex);
	return is_free;
}

static void leave_door(struct passage *passage)
{
	(void)pthread_mutex_lock(&door.mutex);
	list_remove(&passage->link);
	(void)pthread_mutex_unlock(&door.mutex);
}

void strict_door_before_fork(void)
{
	(void)pthread_mutex_lock(&door.mutex);
}

/* The child's only thread was in no doorway. */
void strict_door_after_fork(bool in_child)
{
	if (in_child)
		list_init(&door.passages);
	(void)pthread_mutex_unlock(&door.mutex);
}

/* --- failing --- */

int strict_door_fail(struct filelock *lock, const char *what, int error,
                     const struct strict_scan *scan)
{
	char *detail = NULL;

	if (error == FILELOCK_EPROTOCOL)
		detail = sys_format("%s: %s", scan->culprit, scan->reason);
	return failure_set_detail(&lock->failure, error, what, detail);
}

static int fail(struct filelock *lock, int error, const struct strict_scan *scan)
{
	return strict_door_fail(lock, "cannot acquire", error, scan);
}

static int fail_by(struct filelock *lock, const char *what)
{
	return failure_set_detail(&lock->failure, FILELOCK_EPROTOCOL, "cannot acquire",
	                          sys_strdup(what));
}

/* --- folders --- */

static int open_folder(const struct filelock *lock, int parent, const char *name, bool make,
                       int *ret_fd)
{
	int r = folder_open_into(ret_fd, parent, name, FOLDER_ANYBODYS);

	if (r != -ENOENT || !make)
		return r;
	r = folder_make(parent, name, 0777);
	if (r == -ENOENT && parent == AT_FDCWD)
		r = handle_make_parents(lock);
	if (r == 0 && parent == AT_FDCWD)
		r = folder_make(parent, name, 0777);
	return r < 0 ? r : folder_open_into(ret_fd, parent, name, FOLDER_ANYBODYS);
}

int strict_door_open_claims(const struct filelock *lock, bool make, int *ret_fd)
{
	char *name = sys_format("%s.filelock", lock->path);
	int folder = -1;
	int r = name ? open_folder(lock, AT_FDCWD, name, make, &folder) : -ENOMEM;

	if (r == 0)
		r = open_folder(lock, folder, "claims", make, ret_fd);
	folder_close(&folder);
	free(name);
	return r;
}

static int open_claims(struct filelock *lock)
{
	int r = strict_door_open_claims(lock, true, &strict_state(lock)->claims);

	if (r == -ENOTDIR || r == -ELOOP)
		return fail_by(lock, "the folder of claims is no folder");
	return r < 0 ? fail(lock, r, NULL) : 0;
}

void strict_door_close(struct strict *s)
{
	folder_close(&s->sentinel);
	folder_close(&s->claims);
}

/* --- the sentinel --- */

static const char *base_name(const struct filelock *lock)
{
	return strrchr(lock->path, '/') + 1;
}

static mode_t permissions(const struct filelock *lock)
{
	return lock->options.file_mode ? lock->options.file_mode : 0666;
}

static int publish(const struct filelock *lock, int folder, const char *name, const char *bytes,
                   size_t size, struct identity *ret_identity)
{
	struct folder_record record = { .name = name, .bytes = bytes, .size = size,
		                        .mode = permissions(lock),
		                        .exact = lock->options.exact_mode };
	char *private_name;
	int r = strict_record_make_private(name, &private_name);

	if (r < 0)
		return r;
	record.private_name = private_name;
	r = folder_publish(folder, &record, ret_identity);
	free(private_name);
	return r;
}

struct leftovers {
	int folder;
	const char *name;
};

static int sweep_sentinels(const char *name, void *arg)
{
	const struct leftovers *l = arg;
	char public_name[NAME_MAX + 1];
	int r = 0;

	if (strict_record_parse_private(name, public_name) && strcmp(public_name, l->name) == 0)
		r = strict_scan_sweep(l->folder, name, l->name);
	return r < 0 ? r : 0;
}

/* rclone says so to link(2). */
static int fail_to_write(struct filelock *lock)
{
	return failure_set_detail(&lock->failure, -EIO, "cannot acquire",
	                          sys_strdup(FOLDER_MAY_LACK_LINKS));
}

/* ATTEMPT_RACED: look again. */
static int make_sentinel(struct filelock *lock)
{
	char parent[PATH_MAX];
	struct identity identity;
	struct leftovers leftovers = { .name = base_name(lock) };
	int r;

	path_parent(lock->path, parent);
	leftovers.folder = sys_open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	if (leftovers.folder < 0)
		return fail(lock, leftovers.folder, NULL);
	r = folder_list(leftovers.folder, sweep_sentinels, &leftovers);
	if (r == 0)
		r = publish(lock, leftovers.folder, leftovers.name, STRICT_SENTINEL,
		            STRICT_SENTINEL_SIZE, &identity);
	(void)sys_close(leftovers.folder);
	if (r == 0 || r == -EEXIST || r == -ENOENT || r == -ESTALE)
		return ATTEMPT_RACED;
	if (folder_is_without_links(r) || r == -EPERM)
		return fail_by(lock, "this file system has no hard links");
	return r == -EIO ? fail_to_write(lock) : fail(lock, r, NULL);
}

/* Whether it has been the same for so long. */
static bool has_lasted(struct strict_doubt *doubt, const struct stat *st, int64_t grace)
{
	struct strict_doubt now = { { st->st_dev, st->st_ino }, st->st_mtim, st->st_size,
		                    sys.now() };

	if (doubt->since == 0 || !identity_equal(doubt->identity, now.identity) ||
	    doubt->modified.tv_sec != now.modified.tv_sec ||
	    doubt->modified.tv_nsec != now.modified.tv_nsec || doubt->size != now.size)
		*doubt = now;
	return now.since - doubt->since >= grace;
}

/* A marker of a soft lock keeps us out while its owner may live. */
static int judge_marker(struct filelock *lock, const struct stat *st, const char *bytes,
                        size_t size)
{
	struct strict *s = strict_state(lock);
	struct marker marker;

	soft_record_parse(bytes, size, &marker);
	if (marker.pid > 0 && marker.host[0] && marker.type != MARKER_TORN)
		return liveness_is_over(&marker, PROOF_NONE)
		               ? fail_by(lock, "a soft lock's marker of a process that has ended "
		                               "stands at the path")
		               : ATTEMPT_BUSY;
	if (has_lasted(&s->occupant, st, UNKNOWN_GRACE))
		return fail_by(lock, "neither the sentinel nor a marker stands at the path");
	s->retry = 50 * MILLISECOND;
	return ATTEMPT_BUSY;
}

/* What no lock writes, and what may not be opened by name. */
static int judge_damage(struct filelock *lock, const struct stat *st)
{
	struct strict *s = strict_state(lock);

	if (has_lasted(&s->occupant, st, DAMAGE_GRACE))
		return S_ISLNK(st->st_mode)
		               ? fail(lock, -ELOOP, NULL)
		               : fail_by(lock, "no regular file stands at the path");
	s->retry = 10 * MILLISECOND;
	return ATTEMPT_BUSY;
}

static int read_sentinel(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	char bytes[MARKER_SIZE + 1];
	struct stat st;
	ssize_t n;
	int r = sys_fstat(s->sentinel, &st);

	if (r == 0 && !S_ISREG(st.st_mode))
		return judge_damage(lock, &st);
	n = r < 0 ? r : sys_read_start(s->sentinel, bytes, sizeof(bytes));
	if (n == -ESTALE)
		return ATTEMPT_RACED;
	if (n < 0)
		return fail(lock, (int)n, NULL);
	if (n != STRICT_SENTINEL_SIZE || memcmp(bytes, STRICT_SENTINEL, (size_t)n) != 0)
		return judge_marker(lock, &st, bytes, (size_t)n);
	s->identity = (struct identity){ st.st_dev, st.st_ino };
	s->occupant.since = 0;
	return 0;
}

/* 0; ATTEMPT_ABSENT; ATTEMPT_BUSY, ATTEMPT_RACED; or an error. */
static int open_sentinel(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	struct stat st;
	int fd;

	fork_hold_off();
	fd = sys_open(lock->path, O_RDONLY | SAFE_FLAGS, 0);
	if (fd >= 0)
		s->sentinel = fd;
	fork_allow();
	if (fd == -ENOENT)
		return ATTEMPT_ABSENT;
	if (fd == -ESTALE)
		return ATTEMPT_RACED;
	if (fd == -EACCES || fd == -EPERM || fd == -EWOULDBLOCK)
		return ATTEMPT_BUSY; /* perhaps a holder's, of another user */
	if (fd == -ELOOP || fd == -ENXIO) {
		int r = sys_lstat(lock->path, &st);

		return r < 0 ? ATTEMPT_RACED : judge_damage(lock, &st);
	}
	return fd < 0 ? fail(lock, fd, NULL) : read_sentinel(lock);
}

/* --- the doorway --- */

/* A claim that cannot be read may be one that goes just now, at a server: it has its time. */
static int wait_for_claim(struct filelock *lock, const struct strict_scan *scan)
{
	struct strict *s = strict_state(lock);
	int64_t now = sys.now();

	if (strcmp(s->unreadable, scan->culprit) != 0)
		s->unreadable_since = now;
	(void)snprintf(s->unreadable, sizeof(s->unreadable), "%s", scan->culprit);
	s->retry = SOON;
	if (now - s->unreadable_since < CLAIM_GRACE || scan->pending != -EACCES)
		return ATTEMPT_BUSY;
	return fail(lock, FILELOCK_EPROTOCOL, scan);
}

/* 0, and what there is; ATTEMPT_BUSY; or an error. */
static int scan_claims(struct filelock *lock, struct strict_scan *ret_scan)
{
	struct strict *s = strict_state(lock);
	bool is_late = s->unreadable[0] && sys.now() - s->unreadable_since >= CLAIM_GRACE;
	int r;

	*ret_scan = (struct strict_scan){ .sweeps = true, .token = s->token };
	r = strict_scan_claims(s->claims, ret_scan);
	if (r == -EAGAIN && is_late && ret_scan->pending == -ESTALE) {
		*ret_scan = (struct strict_scan){ .sweeps = true, .token = s->token,
			                          .skipped = s->unreadable };
		r = strict_scan_claims(s->claims, ret_scan);
	}
	else if (r == 0)
		s->unreadable[0] = '\0';
	if (r == -EAGAIN && ret_scan->culprit[0])
		return wait_for_claim(lock, ret_scan);
	if (r == -EAGAIN)
		return ATTEMPT_RACED;
	return r < 0 ? fail(lock, r, ret_scan) : 0;
}

int strict_door_withdraw(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	char name[STRICT_NAME];
	int r;

	if (!s->token[0])
		return 0;
	strict_record_format_name(name, true, s->token);
	r = sys_unlink_at(s->claims, name);
	if (r < 0)
		return r;
	strict_record_format_name(name, false, s->token);
	r = sys_unlink_at(s->claims, name);
	if (r == 0)
		s->token[0] = '\0';
	return r;
}

static int publish_intent(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	char name[STRICT_NAME], record[MARKER_SIZE];
	struct marker own;
	size_t size;
	int r = liveness_read_own(&own);

	if (r == 0)
		r = folder_random(s->token);
	if (r < 0)
		return r;
	size = strict_record_format(record, s->token, &own);
	strict_record_format_name(name, false, s->token);
	/* from here on our name may stand there, whatever comes back */
	r = size ? publish(lock, s->claims, name, record, size, &s->claim) : -EMSGSIZE;
	if (r == -EEXIST)
		s->token[0] = '\0'; /* another's name */
	return r;
}

static int link_held(struct strict *s)
{
	char intent[STRICT_NAME], held[STRICT_NAME];

	strict_record_format_name(intent, false, s->token);
	strict_record_format_name(held, true, s->token);
	return folder_link(s->claims, intent, held, s->claim);
}

/* Of publishing a name: a race, or an error. */
static int judge_publication(struct filelock *lock, int error)
{
	/* a peer took our private file for left over, or has the name */
	if (error == -ENOENT || error == -EEXIST || error == -ESTALE)
		return ATTEMPT_BUSY;
	if (folder_is_without_links(error) || error == -EPERM)
		return fail_by(lock, "this file system has no hard links");
	return error == -EIO ? fail_to_write(lock) : fail(lock, error, NULL);
}

static int pass(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	struct strict_scan scan;
	char intent[STRICT_NAME];
	int r = publish_intent(lock);

	if (r < 0)
		return judge_publication(lock, r);
	r = scan_claims(lock, &scan);
	if (r != 0)
		return r;
	strict_record_format_name(intent, false, s->token);
	if (scan.claims == 0 || scan.any_held || strcmp(scan.least_name, intent) != 0)
		return ATTEMPT_BUSY;
	r = link_held(s);
	if (r < 0)
		return judge_publication(lock, r);
	r = scan_claims(lock, &scan);
	if (r != 0)
		return r;
	return scan.has_intent && scan.has_held && strcmp(scan.least_token, s->token) == 0
	               ? ATTEMPT_HELD
	               : ATTEMPT_BUSY;
}

/* Those that send each other back come again at moments of their own. */
static int64_t back_off(struct strict *s)
{
	uint64_t seed = (uint64_t)sys.now() ^ (uint64_t)getpid() << 32 ^ (uintptr_t)s;
	unsigned doublings = s->losses < MOST_DOUBLINGS ? s->losses : MOST_DOUBLINGS;
	int64_t most = SOON << doublings;

	s->losses++;
	return SOON / 4 + (int64_t)((seed * UINT64_C(0x9e3779b97f4a7c15)) >> 33) % most;
}

/* The result, unless our claims cannot be removed. */
static int withdraw(struct filelock *lock, int result)
{
	int r = strict_door_withdraw(lock);

	return r < 0 ? fail(lock, r, NULL) : result;
}

/* The folders and the sentinel are there. */
static int go_through(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	struct strict_scan scan;
	int r = scan_claims(lock, &scan);

	if (r != 0)
		return r;
	(void)snprintf(s->blocking, sizeof(s->blocking), "%s", scan.blocking);
	if (scan.claims > 0) {
		/* others in the doorway tell nobody when they leave it */
		s->retry = scan.any_held ? 0 : back_off(s);
		return ATTEMPT_BUSY;
	}
	r = pass(lock);
	if (r == ATTEMPT_HELD) {
		s->losses = 0;
		return ATTEMPT_HELD;
	}
	if (s->retry == 0)
		s->retry = back_off(s);
	return withdraw(lock, r);
}

static int try_in_turn(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	int r = open_claims(lock);

	if (r == 0)
		r = withdraw(lock, 0); /* what an earlier attempt could not remove */
	if (r == 0)
		r = open_sentinel(lock);
	if (r == ATTEMPT_ABSENT)
		r = make_sentinel(lock);
	if (r == 0)
		r = go_through(lock);
	if (r != ATTEMPT_HELD)
		strict_door_close(s);
	return r;
}

int strict_door_try(struct filelock *lock)
{
	struct strict *s = strict_state(lock);
	struct passage passage;
	int r;

	s->retry = 0;
	if (!enter_door(&passage, lock->path)) {
		s->retry = back_off(s);
		return ATTEMPT_BUSY;
	}
	r = try_in_turn(lock);
	leave_door(&passage);
	return r;
}
