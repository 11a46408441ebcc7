#include "kinds/softrw_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

#define EPOCH "epoch"
#define HEAD "HEAD"
#define PRIVATE ".commit-"
#define RETAINED 64 /* generations that stay */
#define MOST_LAG 8  /* of HEAD; far from those that are removed */
#define USUAL_SIZE 4096
#define SECOND INT64_C(1000000000)
#define COARSEST_TICK 2 /* seconds, of the times of a local file: FAT */

/* A file of the log. Few are larger than a page. */
struct content {
	size_t size;
	char *bytes; /* usual, or owned */
	char usual[USUAL_SIZE];
};

static void drop(struct content *content)
{
	if (content->bytes != content->usual)
		free(content->bytes);
}

static bool is_missing(ssize_t error)
{
	return error == -ENOENT || error == -ESTALE;
}

static ssize_t read_large(int folder, const char *name, struct content *ret)
{
	size_t size = SOFTRW_RECORD_SIZE + 1;

	ret->bytes = sys.calloc(1, size);
	return ret->bytes ? folder_read(folder, name, ret->bytes, size, NULL) : -ENOMEM;
}

/* 0, and *ret is to be dropped; -ENOENT: there is none; or an error. What is no regular file is
   empty. */
static int read_file(int folder, const char *name, struct content *ret)
{
	ssize_t n = folder_read(folder, name, ret->usual, sizeof(ret->usual), NULL);

	ret->bytes = ret->usual;
	if (n == sizeof(ret->usual))
		n = read_large(folder, name, ret);
	if (n == FILELOCK_ENOTREGULAR)
		n = 0;
	if (n < 0) {
		drop(ret);
		return is_missing(n) ? -ENOENT : (int)n;
	}
	ret->size = (size_t)n;
	return 0;
}

static int read_name(struct softrw_log *log, uint64_t generation, struct content *ret)
{
	char name[SOFTRW_NAME_SIZE];

	softrw_name_format(generation, name);
	return read_file(log->folder, name, ret);
}

/* 0, and *ret is to be cleared; -ENOENT; -EBADMSG: it is malformed; or an error. */
static int read_snapshot(struct softrw_log *log, uint64_t generation, struct softrw_snapshot *ret)
{
	struct content content;
	int r = read_name(log, generation, &content);

	if (r < 0)
		return r;
	r = softrw_snapshot_parse(content.bytes, content.size, ret);
	drop(&content);
	if (r == 0 && ret->generation != generation)
		r = -EBADMSG;
	if (r < 0)
		softrw_snapshot_clear(ret);
	if (r == -EBADMSG)
		softrw_name_format(generation, log->wrong);
	return r;
}

static struct softrw_mark mark_of(const struct stat *st)
{
	return (struct softrw_mark){ { st->st_dev, st->st_ino }, st->st_ctim, st->st_size };
}

/* Two changes within one tick of a file system's clock show one time, and another file may have the
   number of one that is gone. */
static bool is_settled(const struct stat *st)
{
	return sys.date() / SECOND - st->st_ctim.tv_sec > COARSEST_TICK;
}

/* Whether the epoch is in the file, as it was then, that it was read from. */
static bool is_epoch_untouched(const struct softrw_log *log)
{
	struct softrw_mark now;
	struct stat st;

	if (!log->is_local || log->mark.identity.ino == 0 ||
	    sys_stat_at(log->folder, EPOCH, &st) < 0)
		return false;
	now = mark_of(&st);
	return identity_equal(now.identity, log->mark.identity) && now.size == log->mark.size &&
	       now.changed.tv_sec == log->mark.changed.tv_sec &&
	       now.changed.tv_nsec == log->mark.changed.tv_nsec;
}

/* What log->epoch was read from, up to a size that none has. */
static int read_epoch(const struct softrw_log *log, struct softrw_log *ret)
{
	struct stat st = { 0 };
	ssize_t n = folder_read(log->folder, EPOCH, ret->epoch, sizeof(ret->epoch), &st);

	ret->mark = n >= 0 && is_settled(&st) ? mark_of(&st) : (struct softrw_mark){ 0 };
	if (n == FILELOCK_ENOTREGULAR)
		n = 0;
	ret->has_epoch = n >= 0;
	ret->epoch_size = n >= 0 ? (size_t)n : 0;
	return n >= 0 ? 0 : is_missing(n) ? -ENOENT : (int)n;
}

static bool is_same_epoch(const struct softrw_log *a, const struct softrw_log *b)
{
	return a->has_epoch == b->has_epoch && a->epoch_size == b->epoch_size &&
	       memcmp(a->epoch, b->epoch, a->epoch_size) == 0;
}

/* One that was cut short, or is no token, tells nothing apart. */
static bool is_epoch_valid(const struct softrw_log *log)
{
	struct softrw_token token;

	return log->has_epoch && log->epoch_size == SOFTRW_EPOCH_SIZE &&
	       log->epoch[SOFTRW_EPOCH_SIZE - 1] == '\n' &&
	       softrw_token_parse(log->epoch, SOFTRW_EPOCH_SIZE - 1, &token);
}

/* Not by a link: to read the log must work where there are none. Somebody who reads it before it
   is written finds another one at the next look. */
static int make_epoch(const struct softrw_log *log)
{
	char text[FOLDER_TOKEN + 1];
	int fd, r = folder_random(text);

	if (r < 0)
		return r;
	text[SOFTRW_EPOCH_SIZE - 1] = '\n';
	fd = sys_open_at(log->folder, EPOCH, O_WRONLY | O_CREAT | O_EXCL | SAFE_FLAGS, 0600);
	if (fd < 0)
		return fd == -EEXIST ? 0 : fd;
	r = sys_write_start(fd, text, SOFTRW_EPOCH_SIZE);
	if (r == 0)
		r = sys_sync(fd);
	(void)sys_close(fd);
	if (r < 0)
		(void)sys_unlink_at(log->folder, EPOCH);
	return r;
}

/* Memory is worth nothing in another log. */
static int take_epoch(struct softrw_log *log)
{
	struct softrw_log now = { 0 };
	int r;

	if (is_epoch_untouched(log))
		return 0;
	r = read_epoch(log, &now);
	if (r == -ENOENT) {
		r = make_epoch(log);
		if (r == 0)
			r = read_epoch(log, &now);
	}
	if (r < 0 && r != -ENOENT)
		return r;
	log->mark = now.mark;
	if (is_same_epoch(log, &now))
		return 0;
	softrw_snapshot_clear(&log->latest);
	log->has_epoch = now.has_epoch;
	log->epoch_size = now.epoch_size;
	memcpy(log->epoch, now.epoch, sizeof(log->epoch));
	return 0;
}

/* 1: it is there; 0; or an error. On a network file system it is opened and not only looked at, since a
   client asks the server then. */
static int has_generation(const struct softrw_log *log, uint64_t generation)
{
	char name[SOFTRW_NAME_SIZE], byte;
	struct stat st;
	ssize_t n;

	softrw_name_format(generation, name);
	n = log->is_local ? sys_stat_at(log->folder, name, &st)
	                  : folder_read(log->folder, name, &byte, 1, NULL);
	if (is_missing(n))
		return 0;
	return n >= 0 || n == FILELOCK_ENOTREGULAR ? 1 : (int)n;
}

/* The generation that HEAD names; 0: none of this epoch. */
static int read_head(const struct softrw_log *log, bool *ret_is_ours, uint64_t *ret_generation)
{
	struct softrw_snapshot snapshot;
	struct content content;
	int r = read_file(log->folder, HEAD, &content);

	*ret_is_ours = false;
	*ret_generation = 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	*ret_is_ours = is_epoch_valid(log) && content.size >= log->epoch_size &&
	               memcmp(content.bytes, log->epoch, log->epoch_size) == 0;
	if (*ret_is_ours) {
		/* never synced, so a crash may have torn it */
		r = softrw_snapshot_parse(content.bytes + log->epoch_size,
		                          content.size - log->epoch_size, &snapshot);
		if (r == 0)
			*ret_generation = snapshot.generation;
		softrw_snapshot_clear(&snapshot);
	}
	drop(&content);
	return r == -ENOMEM ? r : 0;
}

/* The generations that the folder lists, all of them. */
struct listing {
	size_t count, room;
	uint64_t *at; /* owned */
};

static int add(struct listing *listing, uint64_t generation)
{
	size_t room = listing->room ? 2 * listing->room : 2 * RETAINED;
	uint64_t *at;

	if (listing->count == listing->room) {
		at = sys.calloc(room, sizeof(*at));
		if (!at)
			return -ENOMEM;
		if (listing->count > 0)
			memcpy(at, listing->at, listing->count * sizeof(*at));
		free(listing->at);
		listing->at = at;
		listing->room = room;
	}
	listing->at[listing->count++] = generation;
	return 0;
}

static int take_name(const char *name, void *arg)
{
	uint64_t generation;

	return softrw_name_parse(name, &generation) ? add(arg, generation) : 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? 1 : left > right ? -1 : 0;
}

static void unlink_generation(const struct softrw_log *log, uint64_t generation)
{
	char name[SOFTRW_NAME_SIZE];

	softrw_name_format(generation, name);
	(void)sys_unlink_at(log->folder, name);
}

/* Newest first; older ones than stay are removed. */
static int list(const struct softrw_log *log, struct listing *ret)
{
	int r = folder_list(log->folder, take_name, ret);

	if (r < 0)
		return is_missing(r) ? 0 : r;
	if (ret->count > 0)
		qsort(ret->at, ret->count, sizeof(*ret->at), compare);
	while (ret->count > RETAINED)
		unlink_generation(log, ret->at[--ret->count]);
	return 0;
}

/* Goes on from *snapshot by name, over gaps shorter than `patience`. */
static int probe(struct softrw_log *log, struct softrw_snapshot *snapshot, unsigned patience)
{
	uint64_t generation = snapshot->generation;
	unsigned gap = 0;

	while (gap < patience && generation < UINT64_MAX) {
		struct softrw_snapshot next;
		int r = read_snapshot(log, ++generation, &next);

		gap++;
		if (r == -ENOENT)
			continue;
		if (r < 0)
			return r;
		softrw_snapshot_clear(snapshot);
		*snapshot = next;
		gap = 0;
	}
	return 0;
}

/* The newest that is named, and can be read, and what follows it. -ENOENT: those that are named
   are gone. */
static int find_named(struct softrw_log *log, const struct listing *named, uint64_t head,
                      struct softrw_snapshot *ret)
{
	uint64_t newest = named->count > 0 ? named->at[0] : 0;
	int r;

	for (size_t i = 0; i < named->count; i++) {
		uint64_t generation = named->at[i];

		r = read_snapshot(log, generation, ret);
		if (r == -ENOENT)
			continue;
		/* what survives is without a gap: the first one after HEAD's is the end */
		return r < 0 ? r : probe(log, ret, generation == head ? 1 : RETAINED);
	}
	ret->generation = newest;
	r = probe(log, ret, RETAINED);
	return r == 0 && named->count > 0 && ret->generation == newest ? -ENOENT : r;
}

/* HEAD's, and what follows it without a gap. That is enough where this kernel looks names up, once the
   folder was listed, which shows what nobody committed. -ENOENT: it takes the list. */
static int find_from_head(struct softrw_log *log, uint64_t head, struct softrw_snapshot *ret)
{
	int r;

	if (!log->is_local || log->latest.generation == 0 || head < log->latest.generation)
		return -ENOENT;
	r = read_snapshot(log, head, ret);
	return r < 0 ? r : probe(log, ret, 1);
}

static int find_in_list(struct softrw_log *log, uint64_t head, struct softrw_snapshot *ret)
{
	struct listing named = { 0 };
	int r = list(log, &named);

	if (r == 0 && log->latest.generation > 0)
		r = add(&named, log->latest.generation);
	if (r == 0 && head > 0)
		r = add(&named, head);
	if (r == 0) {
		if (named.count > 0)
			qsort(named.at, named.count, sizeof(*named.at), compare);
		r = find_named(log, &named, head, ret);
	}
	free(named.at);
	return r;
}

/* The last look's, and what follows it without a gap. The oldest are removed first: while that one is
   there, none of its successors is gone. -ENOENT: it takes HEAD. */
static int find_from_memory(struct softrw_log *log, struct softrw_snapshot *ret)
{
	int r;

	if (!log->is_local || log->latest.generation == 0)
		return -ENOENT;
	r = softrw_snapshot_copy(&log->latest, ret);
	if (r == 0)
		r = probe(log, ret, 1);
	if (r == 0)
		r = has_generation(log, log->latest.generation);
	if (r > 0)
		return 0;
	softrw_snapshot_clear(ret);
	return r == 0 || r == -EBADMSG ? -ENOENT : r;
}

static int find(struct softrw_log *log, struct softrw_snapshot *ret)
{
	uint64_t head = 0;
	bool is_ours;
	int r = take_epoch(log);

	if (r == 0)
		r = find_from_memory(log, ret);
	if (r != -ENOENT)
		return r;
	r = read_head(log, &is_ours, &head);
	if (r < 0)
		return r;
	r = find_from_head(log, head, ret);
	return r == -ENOENT ? find_in_list(log, head, ret) : r;
}

int softrw_log_look(struct softrw_log *log)
{
	struct softrw_snapshot found = { 0 };
	int r;

	log->wrong[0] = '\0';
	r = find(log, &found);
	if (r == -ENOENT) /* others have gone on meanwhile, or the log was begun anew */
		r = find(log, &found);
	if (r < 0) {
		softrw_snapshot_clear(&found);
		return r == -ENOENT ? -EBADMSG : r;
	}
	softrw_snapshot_clear(&log->latest);
	log->latest = found;
	return 0;
}

/* 0: the place of a generation was never taken; ATTEMPT_RACED; or an error. The oldest are removed
   first, so its predecessor would be gone by then; the first has none, and a HEAD says that it was
   passed. */
static int check_place(const struct softrw_log *log, uint64_t generation)
{
	uint64_t head;
	bool is_ours;
	int r;

	if (generation > 1) {
		r = has_generation(log, generation - 1);
		return r < 0 ? r : r > 0 ? 0 : ATTEMPT_RACED;
	}
	r = read_head(log, &is_ours, &head);
	return r < 0 ? r : is_ours ? ATTEMPT_RACED : 0;
}

/* 0: it is the log that was looked at; ATTEMPT_RACED; or an error. */
static int check_epoch(const struct softrw_log *log)
{
	struct softrw_log now = { 0 };
	int r;

	if (is_epoch_untouched(log))
		return 0;
	r = read_epoch(log, &now);
	if (r < 0 && r != -ENOENT)
		return r;
	return is_same_epoch(log, &now) ? 0 : ATTEMPT_RACED;
}

static int make_private_name(char ret[SOFTRW_PRIVATE_SIZE])
{
	memcpy(ret, PRIVATE, strlen(PRIVATE));
	return folder_random(ret + strlen(PRIVATE));
}

bool softrw_log_is_private(const char *name, struct softrw_token *ret)
{
	size_t length = strlen(PRIVATE);

	return strncmp(name, PRIVATE, length) == 0 &&
	       softrw_token_parse(name + length, strlen(name + length), ret);
}

/* The sync keeps two promises over a loss of power. The record is complete wherever its name is, since a
   torn one stops everybody. And its predecessor's name is on the disk before its own is there, as far as
   the file system keeps the order of its changes: so no more than the newest generation can be lost, and
   come again. For that it has to lie between the two links, where a sync in advance would not. */
static int publish(struct softrw_log *log, uint64_t generation, const char *bytes, size_t size)
{
	char name[SOFTRW_NAME_SIZE];
	struct folder_record record = { .private_name = log->left, .name = name,
		                        .bytes = bytes, .size = size, .mode = 0600,
		                        .sync = true, .stays = true };
	struct identity identity;
	int r = make_private_name(log->left);

	softrw_name_format(generation, name);
	if (r == 0)
		r = folder_publish(log->folder, &record, &identity);
	if (r < 0)
		log->left[0] = '\0';
	return r;
}

/* Its predecessor was only left over, of another one that was stopped meanwhile. HEAD may be wrong, so
   what it names is asked for. */
static bool was_passed(const struct softrw_log *log, uint64_t generation, uint64_t head)
{
	return head > generation && head - generation > RETAINED && has_generation(log, head) > 0;
}

/* Only a help: readers look at what it names. So it is not synced. */
static void write_head(const struct softrw_log *log, const char *bytes, size_t size)
{
	char private_name[SOFTRW_PRIVATE_SIZE];
	struct folder_record record = { .private_name = private_name, .name = HEAD,
		                        .size = log->epoch_size + size, .mode = 0600 };
	char *copy;

	if (make_private_name(private_name) < 0)
		return;
	copy = sys.calloc(1, record.size);
	if (!copy)
		return;
	memcpy(copy, log->epoch, log->epoch_size);
	memcpy(copy + log->epoch_size, bytes, size);
	record.bytes = copy;
	(void)folder_replace(log->folder, &record);
	free(copy);
}

static void move_head(const struct softrw_log *log)
{
	char *bytes;
	size_t size;

	if (softrw_snapshot_format(&log->latest, &bytes, &size) < 0)
		return;
	write_head(log, bytes, size);
	free(bytes);
}

/* Whether HEAD may stay behind. It has to be there, since it keeps the first place from being taken twice. */
static bool may_lag(const struct softrw_log *log)
{
	return log->is_local && log->head > 0 && log->latest.generation - log->head <= MOST_LAG;
}

/* 0, and log->head is what HEAD names, or ours where it is not to be moved; or ATTEMPT_RACED. */
static int check_head(struct softrw_log *log, uint64_t generation)
{
	uint64_t head;
	bool is_ours;

	log->head = generation;
	if (!is_epoch_valid(log) || check_epoch(log) != 0 || read_head(log, &is_ours, &head) < 0)
		return 0;
	log->head = head;
	if (!was_passed(log, generation, head))
		return 0;
	unlink_generation(log, generation);
	return ATTEMPT_RACED;
}

/* Removes what is older than stays, the oldest first: so there is never a gap in what is left. */
static void compact(const struct softrw_log *log, uint64_t newest)
{
	uint64_t last = newest > RETAINED + 1 ? newest - RETAINED - 1 : 0;
	uint64_t first = last;

	while (first > 1 && has_generation(log, first - 1) > 0)
		first--;
	for (; first > 0 && first <= last; first++)
		unlink_generation(log, first);
}

/* 0: it is at its name, and stays there. */
static int land(struct softrw_log *log, uint64_t generation, const char *bytes, size_t size)
{
	int r = publish(log, generation, bytes, size);

	log->was_published = r == 0;
	log->absences = is_missing(r) ? log->absences + 1 : 0;
	if (r == -EEXIST || is_missing(r))
		return ATTEMPT_RACED;
	if (r == 0)
		r = check_place(log, generation);
	/* stopped meanwhile, it has taken the place of one that was removed */
	if (r == ATTEMPT_RACED)
		unlink_generation(log, generation);
	return r == 0 ? check_head(log, generation) : r;
}

static void remove_left(struct softrw_log *log)
{
	if (log->left[0])
		(void)sys_unlink_at(log->folder, log->left);
	log->left[0] = '\0';
}

int softrw_log_commit(struct softrw_log *log, struct softrw_snapshot *successor)
{
	uint64_t generation = successor->generation;
	size_t size;
	char *bytes;
	/* none follows the last one, which nobody but a person can have made */
	int r = generation == 0 ? -EOVERFLOW : check_epoch(log);

	log->was_published = false;
	if (r == 0)
		r = check_place(log, generation);
	if (r == 0)
		r = softrw_snapshot_format(successor, &bytes, &size);
	if (r != 0)
		return r;
	r = land(log, generation, bytes, size);
	free(bytes);
	if (r != 0) {
		remove_left(log);
		return r;
	}
	softrw_snapshot_clear(&log->latest);
	log->latest = *successor;
	*successor = (struct softrw_snapshot){ 0 };
	return 0;
}

void softrw_log_tell(struct softrw_log *log, enum softrw_news news)
{
	bool lags = news == SOFTRW_NO_NEWS && may_lag(log);

	if (!lags && log->head < log->latest.generation)
		move_head(log);
	remove_left(log);
	if (!lags)
		compact(log, log->latest.generation);
}

void softrw_log_reset(struct softrw_log *log, int folder)
{
	softrw_snapshot_clear(&log->latest);
	*log = (struct softrw_log){ .folder = folder };
}
