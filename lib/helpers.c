/*
 * helpers.c - threads that wait in flock(2).
 *
 *	                granted            taken
 *	WAITING ──────────────> GRANTED ─────────> (gone)
 *	   │  │ error              │  │ 5 ms
 *	   │  └────> FAILED        │  └─────> GIVEN_BACK
 *	   │ cancelled             │ cancelled
 *	   v          100 ms       v
 *	ORPHANED ──────────────> DYING ──────────> (gone)
 *	   └─> WAITING, adopted
 *
 * One mutex guards everything here. A helper leaves it for flock(2) and to close, and closes under
 * the gate of forks, so that a forked child has no descriptor that its handlers do not know of.
 *
 * Whoever wakes another thread has left the mutex, or that one would run into it and sleep once more.
 * So bells are rung after it, and a helper is woken after it. By then the helper's thread may have
 * ended. Its condition stays all the same: helpers that have ended are kept for the next ones.
 *
 * Nothing but pthread_cancel(3), asynchronous, gets a thread out of flock(2) and spares the program
 * its signals. It is enabled around that call alone. Who aborts a wait sets `dies` under the
 * mutex, and the helper asks for that under the mutex before it waits; so a request to cancel that
 * comes too early, or too late, ends a thread that has nothing to do. On glibc it needs libgcc_s,
 * which the first helper looks for; without it an orphan stays until it is granted, and no second
 * wait begins on its file. That look takes as long as the constructor of a library that is being
 * loaded, which may itself wait for the lock: an owner that asks meanwhile gets its wait back.
 *
 * Somebody has to look at the clock for orphans: a helper that is idle. If there is none, one more
 * is made, beyond the maximum; else the orphan is aborted at once.
 *
 * A helper that is not wanted for a second ends. None is ever joined.
 */
#include "helpers.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <time.h>

#include "base/list.h"
#include "base/sys.h"
#include "base/thread.h"
#include "fork.h"

#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
#define UNTAKEN 1 /* instead of a result of flock(2) */

struct helpers_times helpers_times = { .patience = 5, .orphan = 100, .idle = 1000 };

enum state { WAITING, GRANTED, GIVEN_BACK, FAILED, ORPHANED, DYING };

struct blocked {
	enum state state;
	int fd; /* -1: closed, or taken */
	int error; /* FAILED: why */
	struct identity identity;
	enum filelock_mode mode;
	struct helper *helper; /* NULL: it has left the wait */
	int64_t until; /* ORPHANED: when to abort it */
	helpers_notify *notify;
	void *arg;
};

struct helper {
	struct list link;
	pthread_t thread;
	pthread_cond_t wake;
	struct blocked *wait; /* NULL: idle */
	bool looks; /* for the unwinder, without the mutex */
	bool dies; /* its thread was, or might be, cancelled: it takes no more waits */
};

static struct {
	pthread_mutex_t mutex;
	struct list helpers, spare; /* spare: those whose threads have ended */
	unsigned threads, waits; /* waits that have a helper */
	unsigned max;
	enum { UNKNOWN, IMPOSSIBLE, POSSIBLE } aborting;
} pool = { .mutex = PTHREAD_MUTEX_INITIALIZER,
	   .helpers = LIST_INIT(pool.helpers),
	   .spare = LIST_INIT(pool.spare),
	   .max = HELPERS_DEFAULT_MAX };

static void enter(void)
{
	(void)pthread_mutex_lock(&pool.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&pool.mutex);
}

/* glibc ends the program if a thread is cancelled and its unwinder cannot be loaded. Whoever is
   linked statically has it. */
static bool has_unwinder(void)
{
#ifdef __GLIBC__
	return getauxval(AT_BASE) == 0 || sys.dlopen("libgcc_s.so.1", RTLD_NOW | RTLD_LOCAL);
#else
	return true;
#endif
}

static bool may_move(enum state from, enum state to)
{
	static const unsigned allowed[] = {
		[WAITING] = 1u << GRANTED | 1u << FAILED | 1u << ORPHANED | 1u << DYING,
		[GRANTED] = 1u << GIVEN_BACK | 1u << DYING | 1u << FAILED,
		[ORPHANED] = 1u << WAITING | 1u << DYING,
		[GIVEN_BACK] = 0,
		[FAILED] = 0,
		[DYING] = 0,
	};

	return allowed[from] & 1u << to;
}

static void move(struct blocked *wait, enum state to)
{
	if (!may_move(wait->state, to))
		abort();
	wait->state = to;
}

static void assign(struct helper *helper, struct blocked *wait)
{
	wait->helper = helper;
	helper->wait = wait;
	pool.waits++;
}

/* The helper has nothing to do with its wait any more. */
static void detach(struct helper *helper)
{
	helper->wait->helper = NULL;
	helper->wait = NULL;
	pool.waits--;
}

static struct helper *find_idle(void)
{
	list_for_each(link, &pool.helpers) {
		struct helper *helper = list_entry(link, struct helper, link);

		if (!helper->wait && !helper->dies)
			return helper;
	}
	return NULL;
}

/* An orphan that this fits, or NULL. any_mode: of the file in any mode. */
static struct blocked *find_orphan(struct identity identity, enum filelock_mode mode, bool any_mode)
{
	list_for_each(link, &pool.helpers) {
		struct blocked *wait = list_entry(link, struct helper, link)->wait;

		if (wait && wait->state == ORPHANED && (any_mode || wait->mode == mode) &&
		    identity_equal(wait->identity, identity))
			return wait;
	}
	return NULL;
}

static struct blocked *oldest_orphan(void)
{
	struct blocked *oldest = NULL;

	list_for_each(link, &pool.helpers) {
		struct blocked *wait = list_entry(link, struct helper, link)->wait;

		if (wait && wait->state == ORPHANED && (!oldest || wait->until < oldest->until))
			oldest = wait;
	}
	return oldest;
}

/* --- aborting --- */

/* An orphan ends now, if that can be; else when it is granted, and nobody adopts it. */
static void abort_wait(struct blocked *wait)
{
	struct helper *helper = wait->helper;

	move(wait, DYING);
	/* before it has looked for the unwinder it has not begun to wait */
	helper->dies = true;
	if (pool.aborting == POSSIBLE)
		(void)pthread_cancel(helper->thread);
}

/* Aborts the orphans whose time has come; returns when the next one's comes. */
static int64_t abort_due(int64_t now)
{
	struct blocked *wait;

	if (pool.aborting != POSSIBLE)
		return INT64_MAX;
	while ((wait = oldest_orphan()) && wait->until <= now)
		abort_wait(wait);
	return wait ? wait->until : INT64_MAX;
}

/* --- a helper --- */

/* False: it was idle for too long, or is to end. Somebody who looks after orphans stays. */
static bool wait_for_work(struct helper *helper)
{
	int64_t now = thread_now();
	int64_t end = now + helpers_times.idle * MILLISECOND;

	while (!helper->wait && !helper->dies) {
		int64_t due = abort_due(now);

		if (now >= end && due == INT64_MAX)
			return false;
		thread_sleep_until(&helper->wake, &pool.mutex, due < end ? due : end > now ? end : due);
		now = thread_now();
	}
	return helper->wait;
}

static void tell(struct blocked *wait, struct helpers_bell **ret_bell)
{
	*ret_bell = wait->notify(wait->arg);
}

/* The descriptor to be let go. */
static int end_wait(struct helper *helper, int result, struct helpers_bell **ret_bell)
{
	struct blocked *wait = helper->wait;
	int fd = wait->fd;

	wait->fd = -1;
	detach(helper);
	if (wait->state == WAITING) {
		wait->error = result;
		move(wait, FAILED);
		tell(wait, ret_bell);
	} else if (wait->state == GRANTED) {
		move(wait, GIVEN_BACK);
	} else {
		free(wait); /* an orphan */
	}
	return fd;
}

/* What becomes of a wait now; the descriptor to be let go, or -1. */
static int judge(struct helper *helper, int result, struct helpers_bell **ret_bell)
{
	struct blocked *wait = helper->wait;

	/* taken in the last moment; and perhaps there is another wait by now */
	if (result == UNTAKEN && (!wait || wait->state == WAITING || wait->state == ORPHANED))
		return -1;
	if (wait->state != WAITING || result < 0)
		return end_wait(helper, result, ret_bell);
	move(wait, GRANTED);
	tell(wait, ret_bell);
	return -1;
}

/* Without the mutex. The close is the event for those that watch. */
static void settle(struct helper *helper, int result)
{
	struct helpers_bell *bell = NULL;
	int fd;

	fork_hold_off();
	enter();
	fd = judge(helper, result, &bell);
	leave();
	if (bell)
		bell->ring(bell);
	if (fd >= 0) {
		(void)sys_flock(fd, LOCK_UN);
		(void)sys_close(fd);
	}
	fork_allow();
}

/* The mutex is held. */
static void retire(struct helper *helper)
{
	list_remove(&helper->link);
	list_add_last(&pool.spare, &helper->link);
	pool.threads--;
}

/* Of a thread that is cancelled in flock(2), perhaps with the lock. */
static void end_cancelled(void *arg)
{
	settle(arg, -ECANCELED);
	enter();
	retire(arg);
	leave();
}

/* Without the mutex: returns when flock(2) does, or never. */
static int block(struct helper *helper, int fd, int operation)
{
	volatile int r;
	int old;

	pthread_cleanup_push(end_cancelled, helper);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old);
	/* in this order: it is here that musl looks for one that has come before */
	(void)pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	r = sys_flock(fd, operation);
	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	(void)pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old);
	pthread_cleanup_pop(0);
	return r;
}

/* The mutex is held before and after. */
static void wait_for_owner(struct helper *helper)
{
	int64_t until = thread_now() + helpers_times.patience * MILLISECOND;

	while (helper->wait && helper->wait->state == GRANTED && thread_now() < until)
		thread_sleep_until(&helper->wake, &pool.mutex, until);
	leave();
	settle(helper, UNTAKEN);
	enter();
}

/* The mutex is held before and after. */
static void serve(struct helper *helper)
{
	struct blocked *wait = helper->wait;
	int operation = wait->mode == FILELOCK_SHARED ? LOCK_SH : LOCK_EX;
	bool dies = helper->dies;
	int fd = wait->fd;

	leave();
	settle(helper, dies ? -ECANCELED : block(helper, fd, operation));
	enter();
	if (helper->wait)
		wait_for_owner(helper);
}

/* The mutex is held before and after. */
static void look_for_unwinder(struct helper *helper)
{
	bool found;

	if (pool.aborting != UNKNOWN)
		return;
	helper->looks = true;
	leave();
	found = has_unwinder();
	enter();
	helper->looks = false;
	pool.aborting = found ? POSSIBLE : IMPOSSIBLE;
}

static void *run(void *arg)
{
	struct helper *helper = arg;
	int old;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old);
	enter();
	look_for_unwinder(helper);
	while (wait_for_work(helper))
		serve(helper);
	retire(helper);
	leave();
	return NULL;
}

/* --- making one --- */

/* One that has no thread; or NULL. */
static struct helper *get_spare(void)
{
	struct list *link = list_take_first(&pool.spare);
	struct helper *helper;

	if (link)
		return list_entry(link, struct helper, link);
	helper = sys.calloc(1, sizeof(*helper));
	if (helper)
		thread_init_condition(&helper->wake);
	return helper;
}

/* A new helper, idle; or NULL. */
static struct helper *make_helper(void)
{
	struct helper *helper = get_spare();

	if (!helper)
		return NULL;
	helper->dies = false;
	if (thread_start(&helper->thread, run, helper) < 0) {
		list_add_first(&pool.spare, &helper->link);
		return NULL;
	}
	list_add_last(&pool.helpers, &helper->link);
	pool.threads++;
	return helper;
}

/* Orphans need somebody who looks at the clock. */
static void look_after_orphans(void)
{
	struct helper *idle;
	struct blocked *orphan;

	if (pool.aborting == IMPOSSIBLE || !oldest_orphan())
		return;
	idle = find_idle();
	if (idle) {
		(void)pthread_cond_signal(&idle->wake);
		return;
	}
	if (pool.threads <= pool.max && make_helper())
		return;
	while ((orphan = oldest_orphan()))
		abort_wait(orphan);
}

/* --- the owner --- */

/* Whether one more wait may begin on that file; if not, an orphan may make room for the next. */
static bool is_room(struct identity identity)
{
	struct blocked *orphan = oldest_orphan();

	if (pool.waits < pool.max)
		return pool.aborting == POSSIBLE ||
		       !find_orphan(identity, FILELOCK_EXCLUSIVE, true);
	if (orphan && pool.aborting == POSSIBLE)
		abort_wait(orphan);
	return false;
}

/* The helper that has it now; NULL: none can. */
static struct helper *submit(struct blocked *wait)
{
	struct helper *helper;

	if (!is_room(wait->identity))
		return NULL;
	helper = find_idle();
	if (!helper)
		helper = make_helper();
	if (!helper)
		return NULL;
	assign(helper, wait);
	look_after_orphans();
	return helper;
}

int helpers_submit(int fd, struct identity identity, enum filelock_mode mode,
                   helpers_notify *notify, void *arg, struct blocked **ret_wait)
{
	struct blocked *wait = sys.calloc(1, sizeof(*wait));
	struct helper *helper;

	if (!wait)
		return -EAGAIN;
	*wait = (struct blocked){ .state = WAITING, .fd = fd, .identity = identity, .mode = mode,
		                  .notify = notify, .arg = arg };
	enter();
	helper = submit(wait);
	leave();
	if (!helper) {
		free(wait);
		return -EAGAIN;
	}
	(void)pthread_cond_signal(&helper->wake);
	*ret_wait = wait;
	return 0;
}

bool helpers_adopt(struct identity identity, enum filelock_mode mode, helpers_notify *notify,
                   void *arg, struct blocked **ret_wait)
{
	struct blocked *wait;

	enter();
	wait = find_orphan(identity, mode, false);
	if (wait) {
		move(wait, WAITING);
		wait->notify = notify;
		wait->arg = arg;
		*ret_wait = wait;
	}
	leave();
	return wait;
}

static int result_of(const struct blocked *wait)
{
	switch (wait->state) {
	case GRANTED:
		return 0;
	case WAITING:
		return -EINPROGRESS;
	case GIVEN_BACK:
		return -EAGAIN;
	default:
		return wait->error;
	}
}

int helpers_take(struct blocked *wait, int *ret_fd)
{
	int fd = -1;
	int r;

	enter();
	r = result_of(wait);
	if (r == 0) {
		*ret_fd = wait->fd;
		detach(wait->helper); /* it sleeps on: waking it would cost more than it is worth */
	} else if (r == -EINPROGRESS && wait->helper->looks) {
		fd = wait->fd;
		detach(wait->helper);
		r = -EAGAIN;
	}
	leave();
	if (fd >= 0)
		(void)sys_close(fd);
	if (r != -EINPROGRESS)
		free(wait);
	return r;
}

/* False: it has no helper, and is the caller's to free. */
static bool orphan(struct blocked *wait, bool is_dead)
{
	if (!wait->helper)
		return false;
	if (wait->state == GRANTED) {
		move(wait, DYING);
		(void)pthread_cond_signal(&wait->helper->wake);
		return true;
	}
	wait->until = thread_now() + helpers_times.orphan * MILLISECOND;
	move(wait, ORPHANED);
	if (is_dead)
		abort_wait(wait);
	look_after_orphans();
	return true;
}

void helpers_cancel(struct blocked *wait, bool is_dead)
{
	bool lives_on;

	enter();
	lives_on = orphan(wait, is_dead);
	leave();
	if (!lives_on)
		free(wait);
}

void helpers_forget(struct identity identity)
{
	struct blocked *wait;

	enter();
	while ((wait = find_orphan(identity, FILELOCK_EXCLUSIVE, true)))
		abort_wait(wait);
	leave();
}

int helpers_fd(struct blocked *wait)
{
	int fd;

	enter();
	fd = wait->fd;
	leave();
	return fd;
}

FILELOCK_API void filelock_set_max_helpers(unsigned max)
{
	enter();
	pool.max = max;
	leave();
}

bool helpers_are_allowed(void)
{
	bool allowed;

	enter();
	allowed = pool.max > 0;
	leave();
	return allowed;
}

unsigned helpers_thread_count(void)
{
	unsigned count;

	enter();
	count = pool.threads;
	leave();
	return count;
}

/* --- fork --- */

void helpers_before_fork(void)
{
	enter();
}

/* In a child the owner of a wait has still to learn that it is over. */
static void forget_wait(struct helper *helper)
{
	struct blocked *wait = helper->wait;

	(void)sys_close(wait->fd);
	wait->fd = -1;
	detach(helper);
	if (wait->state == ORPHANED || wait->state == DYING) {
		free(wait);
		return;
	}
	wait->error = FILELOCK_EFORKED;
	move(wait, FAILED);
}

void helpers_after_fork(bool in_child)
{
	struct list *link;

	while (in_child && (link = list_take_first(&pool.helpers))) {
		struct helper *helper = list_entry(link, struct helper, link);

		if (helper->wait)
			forget_wait(helper);
		free(helper);
		pool.threads--;
	}
	/* somebody may be about to wake one, in the parent */
	while (in_child && (link = list_take_first(&pool.spare)))
		free(list_entry(link, struct helper, link));
	leave();
}
