#include "kinds/softrw_members.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "base/sha256.h"
#include "base/sys.h"

#define LARGEST 4096 /* what is longer counts by its beginning */
#define SECOND INT64_C(1000000000)
#define LONGEST_LEASE 1e9 /* seconds: longer ones are as good as that */

void softrw_ledger_free(struct softrw_ledger *ledger)
{
	free(ledger->at);
	*ledger = (struct softrw_ledger){ 0 };
}

/* They are asked about in one order, so the next one is mostly the one after. NULL: not seen yet. */
static struct softrw_sighting *find(struct softrw_ledger *ledger, const struct softrw_token *token,
                                    bool is_private)
{
	for (size_t i = 0; i < ledger->count; i++) {
		size_t at = (ledger->last + 1 + i) % ledger->count;
		struct softrw_sighting *sighting = &ledger->at[at];

		if (sighting->is_private == is_private &&
		    softrw_token_equal(&sighting->token, token)) {
			ledger->last = at;
			return sighting;
		}
	}
	return NULL;
}

static struct softrw_sighting *add(struct softrw_ledger *ledger)
{
	size_t room = ledger->room ? 2 * ledger->room : 4;
	struct softrw_sighting *at;

	if (ledger->count == ledger->room) {
		at = sys.calloc(room, sizeof(*at));
		if (!at)
			return NULL;
		if (ledger->count > 0)
			memcpy(at, ledger->at, ledger->count * sizeof(*at));
		free(ledger->at);
		ledger->at = at;
		ledger->room = room;
	}
	return &ledger->at[ledger->count++];
}

int64_t softrw_ledger_observe(struct softrw_ledger *ledger, const struct softrw_token *token,
                              bool is_private, const char *bytes, size_t size, int64_t now)
{
	struct softrw_sighting *sighting = find(ledger, token, is_private);
	uint8_t digest[32] = { 0 };

	if (bytes)
		sha256(bytes, size, digest);
	if (sighting && sighting->is_missing == !bytes &&
	    memcmp(sighting->digest, digest, sizeof(sighting->digest)) == 0) {
		sighting->is_kept = true;
		return now - sighting->since;
	}
	if (!sighting)
		sighting = add(ledger);
	if (!sighting)
		return -ENOMEM;
	*sighting = (struct softrw_sighting){ .token = *token, .is_private = is_private,
		                              .is_missing = !bytes, .is_kept = true,
		                              .since = now };
	memcpy(sighting->digest, digest, sizeof(sighting->digest));
	return 0;
}

void softrw_ledger_forget(struct softrw_ledger *ledger, const struct softrw_token *token,
                          bool is_private)
{
	struct softrw_sighting *sighting = find(ledger, token, is_private);

	if (sighting)
		*sighting = ledger->at[--ledger->count];
}

void softrw_ledger_begin_sweep(struct softrw_ledger *ledger)
{
	for (size_t i = 0; i < ledger->count; i++)
		ledger->at[i].is_kept = false;
}

void softrw_ledger_end_sweep(struct softrw_ledger *ledger, const struct softrw_snapshot *latest)
{
	size_t kept = 0;

	for (size_t i = 0; i < ledger->count; i++) {
		const struct softrw_sighting *sighting = &ledger->at[i];

		if (sighting->is_kept ||
		    (!sighting->is_private && softrw_snapshot_names(latest, &sighting->token)))
			ledger->at[kept++] = *sighting;
	}
	ledger->count = kept;
	ledger->last = 0;
}

/* The record of a member, as it is now. */
struct sight {
	ssize_t size; /* below zero: there is none */
	bool is_locked; /* a living process of this kernel has it */
	bool is_unlocked;
	char bytes[LARGEST];
};

static void try_flock(int fd, struct sight *ret)
{
	int r = sys_flock(fd, LOCK_SH | LOCK_NB);

	ret->is_locked = r == -EWOULDBLOCK;
	ret->is_unlocked = r == 0;
	/* a child of a fork beside us may have the descriptor, too */
	if (r == 0)
		(void)sys_flock(fd, LOCK_UN);
}

static ssize_t read_open(int fd, const struct softrw_look *look, struct sight *ret)
{
	struct stat st;
	ssize_t n;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return 0;
	n = sys_read_start(fd, ret->bytes, sizeof(ret->bytes));
	/* after it: a record that says it is locked was locked before it was written */
	if (n > 0 && look->is_local)
		try_flock(fd, ret);
	return n;
}

static int look_at(const struct softrw_look *look, const char *name, struct sight *ret)
{
	int fd = sys_open_at(look->folder, name, O_RDONLY | SAFE_FLAGS, 0);

	ret->is_locked = ret->is_unlocked = false;
	if (fd == -ENOENT || fd == -ESTALE || fd == -ELOOP || fd == -ENXIO) {
		ret->size = -ENOENT;
		return 0;
	}
	if (fd < 0)
		return fd;
	ret->size = read_open(fd, look, ret);
	(void)sys_close(fd);
	if (ret->size == -ESTALE)
		ret->size = -ENOENT;
	return ret->size < 0 && ret->size != -ENOENT ? (int)ret->size : 0;
}

static int64_t longest_silence(const struct softrw_look *look, double lease)
{
	int64_t ns;

	if (!(lease > 0))
		return look->threshold;
	ns = lease < LONGEST_LEASE ? (int64_t)(lease * (double)SECOND)
	                           : (int64_t)LONGEST_LEASE * SECOND;
	return ns > look->threshold ? ns : look->threshold;
}

int softrw_member_is_dead(struct softrw_ledger *ledger, const struct softrw_look *look,
                          const struct softrw_token *token)
{
	struct softrw_holder holder = { 0 };
	char name[SOFTRW_HEX_SIZE];
	struct sight sight;
	int64_t silence;
	int r;

	softrw_token_format(token, name);
	r = look_at(look, name, &sight);
	if (r < 0)
		return r;
	if (sight.size >= 0)
		softrw_holder_parse(sight.bytes, (size_t)sight.size, token, &holder);
	silence = softrw_ledger_observe(ledger, token, false, sight.size >= 0 ? sight.bytes : NULL,
	                                sight.size >= 0 ? (size_t)sight.size : 0, look->now);
	if (silence < 0)
		return (int)silence;
	if (sight.is_locked)
		return 0;
	if (sight.is_unlocked && holder.is_ours)
		return 1;
	return silence >= longest_silence(look, holder.lease);
}

int softrw_private_is_dead(struct softrw_ledger *ledger, const struct softrw_look *look,
                           const struct softrw_token *token, const char *name)
{
	struct sight sight;
	int64_t silence;
	int r = look_at(look, name, &sight);

	if (r < 0)
		return r;
	silence = softrw_ledger_observe(ledger, token, true, sight.size >= 0 ? sight.bytes : NULL,
	                                sight.size >= 0 ? (size_t)sight.size : 0, look->now);
	return silence < 0 ? (int)silence : silence >= look->threshold;
}
