/*
 * heartbeat.c - the thread that keeps holds alive.
 *
 *	IDLE ──────> PREPARED ──────> BEATING ──────> CALLING ──────> RESTING
 *	  ^  prepare     │      begin  │   ^  its time  │ │   there is no next call
 *	  │              │             │   └────────────┘ │              │
 *	  └──────────────┴─────────────┴── end            v end          └─ end, as the others
 *	                                              ABANDONED ──> (gone, by the thread)
 *
 * The handle is its user's. The thread calls the kind by another handle of the same lock, the
 * keeper, as a loop does (keep.c). Whoever ends a hold does not wait for a call under way, which a
 * dead mount may block: it leaves that beat to the thread, and the handle's next hold gets another.
 *
 * One mutex guards everything here; nobody who has it calls out of this file. The thread ends when
 * there has been no beat that is more than IDLE for a second. It is never joined.
 */
#include "heartbeat.h"

#include <errno.h>
#include <stdlib.h>

#include "handle.h"
#include "base/list.h"
#include "base/sys.h"
#include "base/thread.h"

#define LINGER INT64_C(1000000000) /* ns without a beat until the thread ends */

enum state { IDLE, PREPARED, BEATING, CALLING, RESTING, ABANDONED };

struct heartbeat {
	struct list link; /* BEATING */
	enum state state;
	int64_t next;     /* BEATING: when its call is due */
	const struct heartbeat_calls *calls;
	struct filelock *keeper; /* owned */
	bool was_called;  /* the keeper, which remembers a hold then */
	unsigned forks;   /* before the preparation */
};

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t wake;
	bool has_condition;
	struct list beats; /* by their time */
	unsigned users;    /* those that are more than IDLE */
	bool runs;
	unsigned forks; /* between the first process and this one */
} heart = { .mutex = PTHREAD_MUTEX_INITIALIZER, .beats = LIST_INIT(heart.beats) };

static void enter(void)
{
	(void)pthread_mutex_lock(&heart.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&heart.mutex);
}

__attribute__((unused)) static bool may_move(enum state from, enum state to)
{
	switch (to) {
	case IDLE:
		return from != IDLE && from != ABANDONED;
	case PREPARED:
		return from == IDLE;
	case BEATING:
		return from == PREPARED || from == CALLING;
	case CALLING:
		return from == BEATING;
	case RESTING:
		return from == PREPARED || from == BEATING || from == CALLING;
	case ABANDONED:
		return from == CALLING;
	}
	return false;
}

static void move(struct heartbeat *beat, enum state to)
{
	assert(may_move(beat->state, to));
	beat->state = to;
}

static void destroy(struct heartbeat *beat)
{
	if (beat->keeper)
		beat->calls->close(beat->keeper);
	free(beat);
}

/* --- the thread --- */

/* Mostly the last one: holds of one program have the same heartbeat. */
static void insert(struct heartbeat *beat, int64_t next)
{
	struct list *position = &heart.beats;

	beat->next = next;
	while (position->previous != &heart.beats &&
	       list_entry(position->previous, struct heartbeat, link)->next > next)
		position = position->previous;
	list_insert_before(position, &beat->link);
}

/* The next one whose time has come, or NULL: nobody has wanted any for long. Whoever changes which comes
   first, or ends the last, wakes us. */
static struct heartbeat *wait_for_beat(void)
{
	int64_t now = thread_now();
	int64_t end = FILELOCK_NEVER;

	for (;;) {
		struct list *first = list_first(&heart.beats);
		struct heartbeat *beat = first ? list_entry(first, struct heartbeat, link) : NULL;

		if (beat && beat->next <= now)
			return beat;
		if (heart.users > 0)
			end = FILELOCK_NEVER;
		else if (end == FILELOCK_NEVER)
			end = now + LINGER;
		else if (now >= end)
			return NULL;
		thread_sleep_until(&heart.wake, &heart.mutex, beat ? beat->next : end);
		now = thread_now();
	}
}

/* The mutex is held before and after. */
static void call(struct heartbeat *beat)
{
	struct filelock *keeper = beat->keeper;
	int64_t next;
	bool is_abandoned;

	move(beat, CALLING);
	list_remove(&beat->link);
	beat->was_called = true;
	leave();
	next = keeper->kind->held(keeper, thread_now());
	if (next == FILELOCK_ELOST)
		log_write(FILELOCK_LOG_WARNING, "the hold of %s is lost", keeper->path);
	enter();
	is_abandoned = beat->state == ABANDONED;
	if (is_abandoned) {
		leave();
		destroy(beat);
		enter();
	} else if (next < 0 || next == FILELOCK_NEVER) {
		move(beat, RESTING);
	} else {
		move(beat, BEATING);
		insert(beat, next);
	}
}

static void *run(void *arg)
{
	struct heartbeat *beat;
	int old;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	enter();
	while ((beat = wait_for_beat()))
		call(beat);
	heart.runs = false;
	leave();
	return arg;
}

/* The mutex is held. */
static int ensure_thread(void)
{
	pthread_t thread;
	int r;

	if (heart.runs)
		return 0;
	if (!heart.has_condition)
		thread_init_condition(&heart.wake);
	heart.has_condition = true;
	r = thread_start(&thread, run, NULL);
	heart.runs = r == 0;
	return r;
}

/* --- a handle --- */

/* A keeper that has seen a hold does not serve another one. */
static int ensure_keeper(const struct filelock *lock, struct heartbeat *beat)
{
	if (beat->keeper && !beat->was_called && beat->keeper->kind == lock->kind)
		return 0;
	if (beat->keeper)
		beat->calls->close(beat->keeper);
	beat->keeper = NULL;
	beat->was_called = false;
	return beat->calls->clone(lock, &beat->keeper);
}

static int prepare(const struct filelock *lock, struct heartbeat *beat)
{
	int r = ensure_keeper(lock, beat);

	if (r < 0)
		return r;
	enter();
	r = ensure_thread();
	if (r == 0) {
		move(beat, PREPARED);
		beat->forks = heart.forks;
		heart.users++;
	}
	leave();
	return r;
}

int heartbeat_prepare(struct filelock *lock, const struct heartbeat_calls *calls)
{
	if (!lock->options.heartbeat_thread || !lock->kind->held || lock->depth > 0)
		return 0;
	if (!lock->heartbeat)
		lock->heartbeat = sys.calloc(1, sizeof(*lock->heartbeat));
	if (!lock->heartbeat)
		return -ENOMEM;
	lock->heartbeat->calls = calls;
	return prepare(lock, lock->heartbeat);
}

static bool is_prepared(const struct filelock *lock)
{
	bool is;

	if (!lock->heartbeat)
		return false;
	enter();
	is = lock->heartbeat->state == PREPARED;
	leave();
	return is;
}

void heartbeat_begin(struct filelock *lock)
{
	struct heartbeat *beat = lock->heartbeat;
	int64_t after;

	if (!is_prepared(lock))
		return;
	after = lock->kind->held ? lock->kind->held_after(lock) : FILELOCK_NEVER;
	/* it became another kind meanwhile: a marker, whose times can wait */
	if (after != FILELOCK_NEVER && ensure_keeper(lock, beat) < 0)
		after = FILELOCK_NEVER;
	enter();
	if (after == FILELOCK_NEVER) {
		move(beat, RESTING);
	} else {
		beat->keeper->held.identity = lock->held.identity;
		beat->keeper->kept_at = lock->kept_at;
		move(beat, BEATING);
		insert(beat, thread_now() + after);
		if (heart.beats.next == &beat->link)
			(void)pthread_cond_signal(&heart.wake);
	}
	leave();
}

/* In a forked child a call is under way for ever, and what it was at is not touched. */
static void end(struct filelock *lock, struct heartbeat *beat)
{
	if (beat->state == IDLE)
		return;
	if (beat->forks == heart.forks && --heart.users == 0)
		(void)pthread_cond_signal(&heart.wake);
	list_remove(&beat->link);
	if (beat->state != CALLING) {
		move(beat, IDLE);
		return;
	}
	move(beat, ABANDONED);
	lock->heartbeat = NULL;
}

void heartbeat_end(struct filelock *lock)
{
	if (!lock->heartbeat)
		return;
	enter();
	end(lock, lock->heartbeat);
	leave();
}

void heartbeat_free(struct filelock *lock)
{
	heartbeat_end(lock);
	if (lock->heartbeat)
		destroy(lock->heartbeat);
	lock->heartbeat = NULL;
}

unsigned heartbeat_threads(void)
{
	unsigned count;

	enter();
	count = heart.runs;
	leave();
	return count;
}

/* --- fork --- */

void heartbeat_before_fork(void)
{
	enter();
}

void heartbeat_after_fork(bool in_child)
{
	if (in_child) {
		list_for_each_safe(link, after, &heart.beats) {
			list_remove(link);
			move(list_entry(link, struct heartbeat, link), RESTING);
		}
		heart.forks++;
		heart.users = 0;
		heart.runs = heart.has_condition = false;
	}
	leave();
}
