/*
 * lock.c - the kind of lock that is kept in etcd.
 *
 * An entry is a place in the queue of a lock: a key of its own, for one attempt or hold. It outlives
 * its handle until its key is deleted. recipe.c says what it does next; here that is done. The handle's
 * machine (lib/acquire.c) asks, and where the answer has to come from etcd, the attempt is pending, and
 * the entry calls.
 *
 * An entry begins when the releases of its own process are over: the next request does not queue
 * behind a key that is about to go.
 *
 * A transaction that was sent twice may be done twice, and late: a key could come back that was deleted
 * already, and would stay for as long as the lease. Such a key is deleted again for a minute.
 */
#include "lock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver_private.h"
#include "kind.h"
#include "recipe.h"

#define SUSPECT_FOR INT64_C(60000000000) /* ns */
#define MOST_HANDOVERS 255 /* of one key: they are part of the token */
#define HANDOVER_BITS 8

/* A lock, and what this session has in its queue. */
struct lock_queue {
	struct list link; /* in session->locks */
	struct filelock_etcd *session;
	struct watched watched;
	char *folder;
	struct list entries;
	unsigned handles;
	unsigned releasing; /* entries */
	bool idle;          /* at the last tick it had no entry */
};

struct entry {
	struct list link;
	struct lock_queue *queue;
	struct filelock *lock; /* NULL: it was dropped */
	char *key;             /* NULL: none was made yet */
	int64_t lease;
	int64_t revision; /* that made the key; 0: not known */
	int64_t seen_deletion; /* the last one in the queue while a question is out */
	char *ahead;      /* the key that it waits for */
	struct rpc_call *call;
	enum entry_state state;
	unsigned handovers;
	int result;        /* why it will never hold; 0 */
	char *why;
	bool shared;
	bool once;         /* it joins only an empty queue */
	bool has_news;     /* for the handle */
	bool must_look;    /* when the question that is out is answered */
	bool suspect;      /* its key may be made once more */
	bool undone;       /* its key was deleted before it was known that it is made */
};

struct suspect {
	struct list link;
	char *key;
	int64_t until;
	struct rpc_call *call; /* NULL: none is out */
};

struct handle {
	struct filelock_etcd *session; /* with a reference */
	struct lock_queue *queue;
	struct entry *entry; /* NULL: none */
};

static struct entry *entry_at(struct list *link)
{
	return list_entry(link, struct entry, link);
}

static struct lock_queue *queue_at(struct list *link)
{
	return list_entry(link, struct lock_queue, link);
}

static struct codec_key key_of(const struct entry *entry)
{
	return (struct codec_key){ entry->queue->folder, entry->key, entry->shared, entry->lease,
		                   entry->revision };
}

/* --- what an entry does --- */

static void on_event(struct entry *entry, enum entry_event event);
static void on_enqueued(void *arg, const struct rpc_answer *answer);
static void on_rechecked(void *arg, const struct rpc_answer *answer);
static void on_released(void *arg, const struct rpc_answer *answer);

static void stop_asking(struct entry *entry)
{
	if (entry->call) {
		entry->suspect |= entry->state == ENTRY_ENQUEUING;
		rpc_ignore(entry->call);
	}
	entry->call = NULL;
}

static void fail(struct entry *entry, int result, const char *why)
{
	entry->result = result;
	free(entry->why);
	entry->why = why ? strdup(why) : NULL;
	entry->has_news = true;
	if (entry->lock)
		filelock_rouse(entry->lock);
}

static void post(struct entry *entry, char *body, rpc_cb done)
{
	stop_asking(entry);
	entry->seen_deletion = 0;
	entry->must_look = false;
	entry->call = rpc_post(&entry->queue->session->calls, "/v3/kv/txn", body, done, entry);
	if (!entry->call)
		fail(entry, -ENOMEM, NULL);
}

/* Its key is not used any more. One that may come back is deleted again for a while. */
static void retire_key(struct entry *entry)
{
	struct filelock_etcd *session = entry->queue->session;
	bool suspected = entry->suspect && entry->key && entry->lease == session->lease;
	struct suspect *suspect = suspected ? calloc(1, sizeof(*suspect)) : NULL;

	if (suspect) { /* without memory it stays until the lease ends, if it does come back */
		suspect->key = entry->key;
		suspect->until = rpc_now() + SUSPECT_FOR;
		list_add_last(&session->suspects, &suspect->link);
	} else {
		free(entry->key);
	}
	entry->key = NULL;
	entry->suspect = false;
}

/* A key of its own for each: a transaction that comes late can hit no other. */
static void send_enqueue(struct entry *entry)
{
	struct filelock_etcd *session = entry->queue->session;
	struct codec_key key;

	retire_key(entry);
	entry->lease = session->lease;
	entry->revision = 0;
	entry->undone = false;
	entry->key = codec_key(entry->queue->folder, entry->shared, entry->lease,
	                       ++session->last_entry);
	if (!entry->key) {
		fail(entry, -ENOMEM, NULL);
		return;
	}
	key = key_of(entry);
	post(entry, entry->once ? codec_try(&key) : codec_enqueue(&key), on_enqueued);
}

static void send_recheck(struct entry *entry)
{
	struct codec_key key = key_of(entry);

	post(entry, codec_recheck(&key), on_rechecked);
}

static void send_release(struct entry *entry)
{
	struct codec_key key = key_of(entry);

	post(entry, codec_release(&key), on_released);
	entry->queue->releasing++;
}

static void forget_entry(struct entry *entry)
{
	list_remove(&entry->link);
	free(entry->key);
	free(entry->ahead);
	free(entry->why);
	free(entry);
}

static void free_entry(struct entry *entry)
{
	retire_key(entry);
	stop_asking(entry);
	forget_entry(entry);
}

/* What may go, goes. */
static void serve(struct lock_queue *queue)
{
	if (queue->releasing > 0 || list_is_empty(&queue->entries) ||
	    !session_is_ready(queue->session))
		return;
	list_for_each_safe(link, after, &queue->entries) {
		struct entry *entry = entry_at(link);

		if (entry->state == ENTRY_PARKED && entry->result == 0 && !entry->has_news)
			on_event(entry, ENTRY_MAY_GO);
	}
}

/* Without a key: it begins anew, when it may. */
static void park(struct entry *entry)
{
	stop_asking(entry);
	entry->revision = 0;
	free(entry->ahead);
	entry->ahead = NULL;
	serve(entry->queue);
}

static void tell(struct entry *entry)
{
	entry->has_news = true;
	if (entry->lock)
		filelock_rouse(entry->lock);
}

static void on_event(struct entry *entry, enum entry_event event)
{
	struct lock_queue *queue = entry->queue;
	struct entry_step step = recipe_next(entry->state, event);
	bool released = entry->state == ENTRY_RELEASING && step.state == ENTRY_OVER;

	if (step.action == ENTRY_SEND_RELEASE)
		stop_asking(entry); /* while the state says what was asked */
	entry->state = step.state;
	switch (step.action) {
	case ENTRY_NOTHING:
		break;
	case ENTRY_SEND_ENQUEUE:
		send_enqueue(entry);
		break;
	case ENTRY_SEND_RECHECK:
		send_recheck(entry);
		break;
	case ENTRY_SEND_RELEASE:
		send_release(entry);
		break;
	case ENTRY_PARK:
		park(entry);
		break;
	case ENTRY_TELL:
		tell(entry);
		break;
	case ENTRY_TELL_LOST:
		stop_asking(entry);
		if (entry->lock) {
			filelock_hold_changed(entry->lock);
			filelock_rouse(entry->lock); /* nobody may have taken note of the hold yet */
		}
		break;
	case ENTRY_FREE:
		free_entry(entry);
		if (released) {
			queue->releasing--;
			serve(queue);
		}
		break;
	}
}

/* --- answers --- */

/* Whether the answer is one of a transaction; else it is dealt with. */
static bool is_txn(struct entry *entry, const struct rpc_answer *answer, struct codec_txn *ret_txn)
{
	struct filelock_etcd *session = entry->queue->session;

	entry->call = NULL;
	if (answer->result == 0 && codec_read_txn(answer->json, ret_txn) == 0)
		return true;
	if (answer->result == -ENOENT) /* there is no such lease */
		session_lose(session);
	else
		fail(entry, answer->result ? answer->result : -EPROTO, answer->message);
	return false;
}

/* Somebody is ahead, or nobody. */
static void place(struct entry *entry, const struct codec_txn *txn)
{
	watch_add(&entry->queue->session->watch, &entry->queue->watched, txn->revision + 1);
	free(entry->ahead);
	entry->ahead = txn->found ? strdup(txn->key) : NULL;
	if (!txn->found) {
		on_event(entry, ENTRY_IS_FIRST);
		return;
	}
	on_event(entry, ENTRY_IS_BEHIND);
	/* the one ahead may have gone since, or nobody could say so: out of memory */
	if (entry->state == ENTRY_WAITING &&
	    (entry->must_look || entry->seen_deletion > txn->revision || !entry->ahead))
		on_event(entry, ENTRY_LOOK);
}

static void on_tried(struct entry *entry, const struct codec_txn *txn)
{
	if (!txn->succeeded && !txn->found) {
		on_event(entry, ENTRY_IS_REFUSED);
		return;
	}
	entry->revision = txn->succeeded ? txn->revision : txn->created;
	watch_add(&entry->queue->session->watch, &entry->queue->watched, entry->revision + 1);
	on_event(entry, ENTRY_IS_FIRST);
}

static void on_enqueued(void *arg, const struct rpc_answer *answer)
{
	struct entry *entry = arg;
	struct codec_txn txn;

	entry->suspect |= answer->sends > 1;
	if (!is_txn(entry, answer, &txn))
		return;
	/* whichever it was, a key of the lease is there */
	if (txn.succeeded || txn.found)
		session_confirm(entry->queue->session, answer->sent_at, txn.term);
	if (entry->undone) {
		on_event(entry, ENTRY_IS_GONE);
	} else if (entry->once) {
		on_tried(entry, &txn);
	} else if (txn.succeeded) {
		entry->revision = txn.revision;
		place(entry, &txn);
	} else if (txn.found) { /* an earlier request has made it */
		entry->revision = txn.created;
		on_event(entry, ENTRY_IS_THERE);
	} else {
		on_event(entry, ENTRY_IS_GONE);
	}
}

static void on_rechecked(void *arg, const struct rpc_answer *answer)
{
	struct entry *entry = arg;
	struct codec_txn txn;

	if (!is_txn(entry, answer, &txn))
		return;
	if (!txn.succeeded) {
		on_event(entry, ENTRY_IS_GONE);
		return;
	}
	session_confirm(entry->queue->session, answer->sent_at, txn.term);
	place(entry, &txn);
}

static void on_released(void *arg, const struct rpc_answer *answer)
{
	struct entry *entry = arg;

	entry->call = NULL;
	(void)answer; /* refused: it goes with the lease */
	on_event(entry, ENTRY_DONE);
}

/* --- what the session has to tell --- */

/* All entries, until one returns false. It may free the one that it is given, and no other. */
static bool visit_entries(struct filelock_etcd *session, bool (*visit)(struct entry *, void *),
                          void *arg)
{
	list_for_each(queue, &session->locks)
		list_for_each_safe(link, after, &queue_at(queue)->entries)
			if (!visit(entry_at(link), arg))
				return false;
	return true;
}

static void on_ready(struct filelock_etcd *session)
{
	list_for_each(link, &session->locks)
		serve(queue_at(link));
}

static bool lose(struct entry *entry, void *arg)
{
	(void)arg;
	on_event(entry, ENTRY_LEASE_LOST);
	return true;
}

static bool refuse(struct entry *entry, void *arg)
{
	const int *result = arg;

	if (entry->state == ENTRY_PARKED)
		fail(entry, *result, *result == -ECANCELED ? NULL : entry->queue->session->error);
	return true;
}

static void free_suspect(struct suspect *suspect)
{
	list_remove(&suspect->link);
	free(suspect->key);
	free(suspect);
}

/* With the lease all its keys are gone, and none can be made. */
static void forget_suspects(struct filelock_etcd *session)
{
	list_for_each_safe(link, after, &session->suspects) {
		struct suspect *suspect = list_entry(link, struct suspect, link);

		if (suspect->call)
			rpc_ignore(suspect->call);
		free_suspect(suspect);
	}
}

static void on_lost(struct filelock_etcd *session, int result)
{
	(void)visit_entries(session, lose, NULL);
	forget_suspects(session);
	if (result != FILELOCK_ELOST) /* there will be no other lease */
		(void)visit_entries(session, refuse, &result);
}

static void on_deleted(struct filelock_etcd *session, struct watched *watched, const char *key,
                       int64_t revision)
{
	struct lock_queue *queue = list_entry(watched, struct lock_queue, watched);

	(void)session;
	list_for_each_safe(link, after, &queue->entries) {
		struct entry *entry = entry_at(link);

		if (entry->seen_deletion < revision)
			entry->seen_deletion = revision;
		if (entry->key && strcmp(entry->key, key) == 0 && entry->revision)
			on_event(entry, ENTRY_IS_GONE);
		else if (entry->key && strcmp(entry->key, key) == 0)
			entry->undone = true; /* and the answer that it was made is on its way */
		else if (entry->ahead && strcmp(entry->ahead, key) == 0)
			on_event(entry, ENTRY_LOOK);
	}
}

static void on_own_key_checked(void *arg, const struct rpc_answer *answer)
{
	struct entry *entry = arg;
	struct codec_txn txn;

	if (!is_txn(entry, answer, &txn))
		return;
	if (txn.succeeded)
		session_confirm(entry->queue->session, answer->sent_at, txn.term);
	else
		on_event(entry, ENTRY_IS_GONE);
}

static bool look(struct entry *entry, void *arg)
{
	struct codec_key key = key_of(entry);

	(void)arg;
	if (entry->state == ENTRY_HELD && !entry->call)
		post(entry, codec_confirm(&key), on_own_key_checked);
	else if (entry->state == ENTRY_WAITING)
		on_event(entry, ENTRY_LOOK);
	else
		entry->must_look = true;
	return true;
}

static void on_look(struct filelock_etcd *session)
{
	(void)visit_entries(session, look, NULL);
}

/* Entries are there only in a forked child: the parent's. */
static void free_queue(struct lock_queue *queue)
{
	list_for_each_safe(link, after, &queue->entries)
		forget_entry(entry_at(link));
	watch_remove(&queue->watched);
	list_remove(&queue->link);
	free(queue->folder);
	free(queue);
}

static void on_deleted_again(void *arg, const struct rpc_answer *answer)
{
	struct suspect *suspect = arg;

	suspect->call = NULL;
	if (answer->sent_at >= suspect->until)
		free_suspect(suspect);
}

/* One question each: while etcd is away they must not pile up ahead of what renews. */
static void delete_again(struct filelock_etcd *session)
{
	list_for_each(link, &session->suspects) {
		struct suspect *suspect = list_entry(link, struct suspect, link);
		struct codec_key key = { .key = suspect->key };

		if (!suspect->call)
			suspect->call = rpc_post(&session->calls, "/v3/kv/txn", codec_release(&key),
			                         on_deleted_again, suspect);
	}
}

static void on_tick(struct filelock_etcd *session)
{
	list_for_each_safe(link, after, &session->locks) {
		struct lock_queue *queue = queue_at(link);
		bool idle = list_is_empty(&queue->entries);

		if (idle && queue->idle && queue->handles == 0)
			free_queue(queue);
		else
			queue->idle = idle;
	}
	delete_again(session);
}

static bool has_key(const struct entry *entry)
{
	return entry->revision && (entry->state == ENTRY_HELD || entry->state == ENTRY_WAITING);
}

static bool take_key(struct entry *entry, void *arg)
{
	struct codec_key *key = arg;

	if (!has_key(entry))
		return true;
	*key = key_of(entry);
	return false;
}

static bool any_key(struct filelock_etcd *session, struct codec_key *ret_key)
{
	return !visit_entries(session, take_key, ret_key);
}

static const char *any_folder(const struct filelock_etcd *session)
{
	return list_is_empty(&session->locks) ? NULL : queue_at(session->locks.next)->folder;
}

static bool lose_key(struct entry *entry, void *arg)
{
	const char *key = arg;

	if (!has_key(entry) || strcmp(entry->key, key) != 0)
		return true;
	on_event(entry, ENTRY_IS_GONE);
	return false;
}

static void on_missed(struct filelock_etcd *session, const char *key)
{
	(void)visit_entries(session, lose_key, (void *)key);
}

static void on_end(struct filelock_etcd *session)
{
	list_for_each_safe(link, after, &session->locks)
		free_queue(queue_at(link));
	list_for_each_safe(link, after, &session->suspects)
		free_suspect(list_entry(link, struct suspect, link));
}

const struct session_events lock_events = {
	.ready = on_ready,
	.lost = on_lost,
	.deleted = on_deleted,
	.look = on_look,
	.tick = on_tick,
	.any_key = any_key,
	.any_folder = any_folder,
	.missed = on_missed,
	.end = on_end,
};

/* --- the kind --- */

static struct handle *handle_of(const struct filelock *lock)
{
	return filelock_state(lock);
}

/* What it has in the queue goes, and is nobody's until it is gone. */
static void drop(struct filelock *lock)
{
	struct handle *handle = handle_of(lock);
	struct entry *entry = handle->entry;

	if (!entry)
		return;
	handle->entry = NULL;
	entry->lock = NULL;
	if (session_is_inherited(handle->session))
		return;
	on_event(entry, ENTRY_DROP);
}

static int begin(struct filelock *lock, enum filelock_mode mode)
{
	struct handle *handle = handle_of(lock);
	struct entry *entry = calloc(1, sizeof(*entry));

	if (!entry)
		return filelock_fail(lock, -ENOMEM, "cannot acquire", NULL);
	entry->queue = handle->queue;
	entry->lock = lock;
	entry->shared = mode == FILELOCK_SHARED;
	entry->once = filelock_makes_last_attempt(lock);
	list_add_last(&handle->queue->entries, &entry->link);
	handle->entry = entry;
	serve(handle->queue);
	return ATTEMPT_PENDING;
}

/* What there is to say, if anything is new; else it is asked once more. */
static int go_on(struct filelock *lock, struct entry *entry, enum filelock_mode mode)
{
	bool has_news = entry->has_news;

	entry->has_news = false;
	if (entry->result < 0)
		return filelock_fail(lock, entry->result, "cannot acquire", entry->why);
	switch (entry->state) {
	case ENTRY_HELD:
		if (session_is_safe(entry->queue->session))
			return ATTEMPT_HELD;
		session_lose(entry->queue->session);
		return ATTEMPT_PENDING;
	case ENTRY_WAITING:
		if (has_news)
			return ATTEMPT_BUSY;
		on_event(entry, ENTRY_LOOK);
		return ATTEMPT_PENDING;
	case ENTRY_PARKED:
		if (has_news)
			return ATTEMPT_BUSY;
		serve(entry->queue);
		return ATTEMPT_PENDING;
	case ENTRY_LOST: /* before anybody took note of it */
		drop(lock);
		return begin(lock, mode);
	default:
		return ATTEMPT_PENDING;
	}
}

static int kind_try(struct filelock *lock, enum filelock_mode mode)
{
	struct handle *handle = handle_of(lock);

	if (session_is_inherited(handle->session))
		return filelock_fail(lock, FILELOCK_EFORKED, "cannot acquire", NULL);
	if (handle->session->state >= SESSION_CLOSING)
		return filelock_fail(lock, -ECANCELED, "cannot acquire", "the session is closed");
	return handle->entry ? go_on(lock, handle->entry, mode) : begin(lock, mode);
}

static int kind_release(struct filelock *lock)
{
	drop(lock);
	return 0;
}

static int kind_verify(const struct filelock *lock)
{
	const struct handle *handle = handle_of(lock);
	const struct entry *entry = handle->entry;

	return entry && entry->state == ENTRY_HELD && session_is_safe(handle->session)
	               ? 0
	               : FILELOCK_ELOST;
}

/* Late: its lease was not renewed, and the session has another one by now, or none. */
static enum filelock_loss kind_loss(const struct filelock *lock)
{
	const struct handle *handle = handle_of(lock);
	const struct entry *entry = handle->entry;

	if (filelock_depth(lock) == 0 || !entry || kind_verify(lock) == 0)
		return FILELOCK_LOSS_NONE;
	return entry->lease == handle->session->lease && session_is_safe(handle->session)
	               ? FILELOCK_LOSS_MISSING
	               : FILELOCK_LOSS_LATE;
}

static bool kind_is_over(const struct filelock *lock)
{
	return kind_verify(lock) < 0;
}

static bool kind_is_intact(struct filelock *lock)
{
	return kind_verify(lock) == 0 && handle_of(lock)->entry->handovers < MOST_HANDOVERS;
}

static int kind_token(const struct filelock *lock, uint64_t *ret_token)
{
	const struct entry *entry = handle_of(lock)->entry;

	if (kind_is_over(lock))
		return filelock_fail((struct filelock *)lock, FILELOCK_ELOST,
		                     "cannot tell the token of", NULL);
	*ret_token = (uint64_t)entry->revision << HANDOVER_BITS | entry->handovers;
	return 0;
}

static void kind_hand_over(struct filelock *from, struct filelock *to)
{
	struct handle *giver = handle_of(from), *taker = handle_of(to);

	taker->entry = giver->entry;
	taker->entry->lock = to;
	taker->entry->handovers++;
	giver->entry = NULL;
}

static int kind_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	(void)lock;
	(void)ret_owner;
	return FILELOCK_EUNKNOWNHOLDER;
}

static int kind_fd(const struct filelock *lock)
{
	(void)lock;
	return -ENOTSUP;
}

static struct identity kind_identity(const struct filelock *lock)
{
	(void)lock;
	return (struct identity){ 0 }; /* no call that would ask for it may wait */
}

static int kind_watch(struct filelock *lock, struct filelock_watcher *watcher)
{
	(void)lock;
	(void)watcher;
	return 0; /* the entry calls */
}

static void kind_unwatch(struct filelock *lock)
{
	(void)lock;
}

static void kind_forget(struct filelock *lock)
{
	handle_of(lock)->entry = NULL; /* the parent's */
}

static int kind_open(struct filelock *lock)
{
	const struct handle *handle = handle_of(lock);

	session_ref(handle->session);
	handle->queue->handles++;
	return 0;
}

static void kind_close(struct filelock *lock)
{
	struct handle *handle = handle_of(lock);

	handle->queue->handles--;
	session_unref(handle->session);
}

/* 0 at the same name of the same session. */
static int kind_compare(const struct filelock *a, const struct filelock *b)
{
	const struct lock_queue *p = handle_of(a)->queue, *q = handle_of(b)->queue;

	return p == q ? 0 : p < q ? -1 : 1;
}

static const struct kind kind_etcd = {
	.id = FILELOCK_ETCD,
	.name = "etcd",
	.state_size = sizeof(struct handle),
	.pends = true,
	.open = kind_open,
	.close = kind_close,
	.try = kind_try,
	.watch = kind_watch,
	.unwatch = kind_unwatch,
	.abandon = drop,
	.release = kind_release,
	.verify = kind_verify,
	.loss = kind_loss,
	.is_over = kind_is_over,
	.holder = kind_holder,
	.fd = kind_fd,
	.token = kind_token,
	.identity = kind_identity,
	.hand_over = kind_hand_over,
	.is_intact = kind_is_intact,
	.compare = kind_compare,
	.forget = kind_forget,
};

static struct lock_queue *find_queue(const struct filelock_etcd *session, const char *folder)
{
	list_for_each(link, &session->locks)
		if (strcmp(queue_at(link)->folder, folder) == 0)
			return queue_at(link);
	return NULL;
}

static struct lock_queue *get_queue(struct filelock_etcd *session, const char *name)
{
	char *folder = codec_folder(name);
	struct lock_queue *queue = folder ? find_queue(session, folder) : NULL;

	if (queue || !folder) {
		free(folder);
		return queue;
	}
	queue = calloc(1, sizeof(*queue));
	if (!queue) {
		free(folder);
		return NULL;
	}
	queue->session = session;
	queue->folder = folder;
	queue->watched.folder = folder;
	list_init(&queue->entries);
	list_add_last(&session->locks, &queue->link);
	return queue;
}

int lock_open(struct filelock_etcd *session, const char *name,
              const struct filelock_options *options, struct filelock **ret_lock)
{
	struct handle handle = { .session = session, .queue = get_queue(session, name) };
	char *path;

	if (!handle.queue || asprintf(&path, "etcd:%s", name) < 0)
		return -ENOMEM; /* an empty queue goes with a tick, or with the session */
	return filelock_open_kind(&kind_etcd, path, options, &handle, ret_lock);
}
