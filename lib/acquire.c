/*
 * acquire.c - one acquisition, step by step.
 *
 * The machine never sleeps, reads no clock and knows no loop. A step makes at most one attempt;
 * all arithmetic of deadlines, intervals and back-off is here, once.
 *
 *   begun ── attempt ──> held
 *              │busy
 *              v
 *           waiting: watch, if that is new attempt again, sleep until `next` or a stir, attempt
 *
 * No sleep follows a watch without an attempt between the two, so that a release before the
 * watch is not missed, also when the watch was lost and is made anew. The poll stays armed
 * under every watch: it is the safety net.
 *
 * After a stir that finds the lock still held, the release may be under way (on a plain close or a
 * kill the event can come first): three more attempts at once, then after 1, 2, 4 … ms, until the
 * poll interval is reached. A new watch may have come between the two: one attempt at once, and
 * the same series.
 *
 * Deadline: `next` is never later, and at it one last attempt is made before -ETIMEDOUT is said.
 *
 * Fairness. flock(2) has no queue for those who poll: whoever asks again right after its own
 * release beats everybody that must first be woken. So a handle that asks again within 1 ms of
 * releasing a lock that it had to wait for is polite: before each attempt it waits 200 µs,
 * halved for each wake that it has lost, so that who has lost most goes first. A handle that
 * never had to wait cannot know whether it keeps others out; it lets them go first
 * once every 25 ms of asking again at once, and if it must then wait, it has found out. Handles
 * that follow each other in one queue count as one (filelock_follow).
 */
#include <errno.h>

#include "handle.h"
#include "registry.h"
#include "base/sys.h"
#include "inotify.h"

#define MICROSECOND INT64_C(1000)
#define MILLISECOND INT64_C(1000000)

#define DEFAULT_INTERVAL (50 * MILLISECOND)
#define LONGEST_INTERVAL (60000 * MILLISECOND)
#define LOAD_INTERVAL (1 * MILLISECOND) /* a waiter: 1,000 attempts a second a loop */
#define REMOTE_LOAD_INTERVAL (MILLISECOND / 10)
#define SHARED_WAKE_UPS (INT64_C(1) << 24) /* ns: stretched polls come in groups */
#define JITTER 8 /* a poll comes up to an eighth of its interval early */
#define QUICK_ATTEMPTS 3
#define MOST_RACES 10
#define POLITE_DELAY (200 * MICROSECOND)
#define AGAIN_AT_ONCE (1 * MILLISECOND)
#define YIELD_EVERY (25 * MILLISECOND)

FILELOCK_API int64_t filelock_now(void)
{
	return sys.now();
}

static int64_t later(int64_t now, int64_t delay)
{
	return delay > FILELOCK_NEVER - now ? FILELOCK_NEVER : now + delay;
}

static struct filelock_watcher *watcher_of(const struct acquisition *a)
{
	return a->driver ? a->driver->watcher : NULL;
}

FILELOCK_API int64_t filelock_deadline(int64_t now, int64_t timeout_ns)
{
	return timeout_ns < 0 ? FILELOCK_NEVER : later(now, timeout_ns);
}

FILELOCK_API int filelock_begin(struct filelock *lock, enum filelock_mode mode,
                                int64_t deadline, const struct filelock_driver *driver,
                                void *arg)
{
	struct acquisition *a = &lock->acquisition;

	if (filelock_is_inherited(lock))
		return handle_fail(lock, FILELOCK_EFORKED, "cannot acquire");
	if (mode != FILELOCK_EXCLUSIVE && mode != FILELOCK_SHARED)
		return handle_fail(lock, -EINVAL, "cannot acquire");
	if (a->pending)
		return handle_fail(lock, -EALREADY, "cannot acquire");
	if (lock->closed)
		return handle_fail(lock, -ECANCELED, "cannot acquire");
	if (lock->depth > 0 && lock->mode != mode)
		return handle_fail(lock, -EDEADLK, "cannot acquire in another mode");
	if (lock->depth > 0 && mode == FILELOCK_EXCLUSIVE && lock->kind->nests_in_thread &&
	    !registry_holds_here(lock))
		return handle_fail(lock, -EDEADLK, "cannot nest in another thread");
	*a = (struct acquisition){ .driver = driver, .arg = arg, .deadline = deadline,
		                   .mode = (unsigned char)mode, .pending = true,
		                   .is_local = -1 };
	return 0;
}

FILELOCK_API void *filelock_driver_arg(const struct filelock *lock,
                                       const struct filelock_driver *driver)
{
	const struct acquisition *a = &lock->acquisition;

	return a->pending && a->driver == driver ? a->arg : NULL;
}

FILELOCK_API bool filelock_missed_wakeup(const struct filelock *lock)
{
	return lock->rescued;
}

FILELOCK_API void filelock_hasten(struct filelock *lock)
{
	lock->acquisition.hastened = true;
}

void acquire_wake(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;

	atomic_store_explicit(&a->stirred, true, memory_order_relaxed);
	if (a->driver && a->driver->woken)
		a->driver->woken(lock, a->arg);
}

static void end(struct acquisition *a)
{
	if (a->counted)
		(void)inotify_count(a->driver->watcher, -1);
	a->counted = false;
	a->pending = false;
	a->driver = NULL;
}

static int fail(struct filelock *lock, int error)
{
	lock->kind->abandon(lock);
	end(&lock->acquisition);
	return error;
}

FILELOCK_API int filelock_give_up(struct filelock *lock, int error)
{
	if (!lock->acquisition.pending)
		return error;
	if (lock->acquisition.handed_over && !filelock_is_inherited(lock) &&
	    filelock_release_all(lock) < 0)
		log_write(FILELOCK_LOG_ERROR, "%s stays held: %s", lock->path,
		          filelock_last_error(lock));
	(void)handle_fail(lock, error, "gave up waiting for");
	if (lock->depth == 0)
		return fail(lock, error);
	end(&lock->acquisition); /* a nested one has nothing to drop */
	return error;
}

static int hold(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;

	lock->rescued = false;
	if (a->handed_over || lock->depth > 0) {
		end(a);
		lock->depth += !a->handed_over;
		a->handed_over = false;
		return FILELOCK_STEP_HELD;
	}
	lock->depth = 1;
	/* first: from then on no other thread stirs it */
	lock->kind->unwatch(lock);
	end(a);
	lock->mode = (enum filelock_mode)a->mode;
	lock->fairness.contended = a->contended;
	lock->rescued = a->slept && !a->told;
	registry_add_held(lock, lock->kind->identity(lock));
	return FILELOCK_STEP_HELD;
}

static bool is_local(const char *path)
{
	struct statfs fs;

	return sys.statfs(path, &fs) == 0 && sys_is_local(&fs);
}

/* The poll interval: the default one grows with the number that wait in this loop. */
static int64_t poll_interval(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;
	struct filelock_watcher *watcher = watcher_of(a);
	int64_t waiting, interval;

	if (lock->options.poll_interval_ms)
		return lock->options.poll_interval_ms * MILLISECOND;
	if (!watcher)
		return DEFAULT_INTERVAL;
	waiting = (int64_t)inotify_count(watcher, 0);
	if (waiting * LOAD_INTERVAL <= DEFAULT_INTERVAL)
		return DEFAULT_INTERVAL;
	if (a->is_local < 0)
		a->is_local = is_local(lock->path);
	interval = waiting * (a->is_local ? LOAD_INTERVAL : REMOTE_LOAD_INTERVAL);
	if (interval < DEFAULT_INTERVAL)
		return DEFAULT_INTERVAL;
	return interval < LONGEST_INTERVAL ? interval : LONGEST_INTERVAL;
}

/* When to look again though nothing stirs. Whoever began to wait at the same moment, here or
   elsewhere, is not to go on doing everything at the same moment. */
static int64_t next_poll(const struct filelock *lock, int64_t now, int64_t interval)
{
	uint64_t mixed = ((uintptr_t)lock ^ (uint64_t)now) * UINT64_C(0x9e3779b97f4a7c15);
	int64_t early = (int64_t)(mixed >> 33) % (interval / JITTER + 1);
	int64_t at = later(now, interval - early);

	if (lock->options.poll_interval_ms || interval <= DEFAULT_INTERVAL)
		return at;
	return at | (SHARED_WAKE_UPS - 1);
}

/* When to try again after an attempt that found the lock held. */
static int64_t next_attempt(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	int64_t poll = poll_interval(lock);
	int64_t interval = poll;
	int64_t most = lock->kind->retry_delay ? lock->kind->retry_delay(lock) : 0;

	if (most > 0 && most < interval)
		interval = most;
	if (a->quick > 0) {
		a->quick--;
		return now;
	}
	if (a->back_off > 0 && a->back_off < interval) {
		int64_t delay = a->back_off;

		a->back_off *= 2;
		return later(now, delay);
	}
	a->back_off = 0;
	a->told = false;
	return interval < poll ? later(now, interval) : next_poll(lock, now, poll);
}

/* Watches the lock, and says whether that is new, so that it must be looked at again. */
static bool watch_anew(struct filelock *lock)
{
	struct filelock_watcher *watcher = watcher_of(&lock->acquisition);
	int r = watcher ? lock->kind->watch(lock, watcher) : 0;

	if (r < 0)
		log_write(FILELOCK_LOG_DEBUG, "polling %s, no watch: %s", lock->path,
		          filelock_strerror(r));
	return r > 0;
}

/* Begins the series of attempts that a sign of a release is worth. */
static void expect_release(struct acquisition *a, unsigned char quick)
{
	a->quick = quick;
	a->back_off = MILLISECOND;
}

static bool would_wait_for_itself(const struct filelock *lock)
{
	const struct acquisition *a = &lock->acquisition;

	return a->blocking && a->deadline == FILELOCK_NEVER &&
	       registry_holds_elsewhere(lock, lock->kind->identity(lock));
}

static int take_busy(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	bool first = !a->contended;

	a->contended = true;
	if (now >= a->deadline)
		return fail(lock, handle_fail(lock, -ETIMEDOUT, "cannot acquire"));
	if (first && would_wait_for_itself(lock))
		return fail(lock, handle_fail(lock, -EDEADLK, "cannot wait for"));
	if (a->woken && a->lost < 30)
		a->lost++;
	a->woken = false;
	if (!a->counted && watcher_of(a)) {
		a->counted = true;
		(void)inotify_count(a->driver->watcher, 1);
	}
	if (a->frugal)
		lock->kind->abandon(lock);
	else if (watch_anew(lock))
		expect_release(a, a->races < MOST_RACES); /* at once, but not for ever: see races */
	/* the synchronous driver finds a watcher only after the first attempt */
	a->next = first && a->blocking ? now : next_attempt(lock, now);
	a->slept = a->next > now;
	if (a->slept)
		a->races = 0;
	return FILELOCK_STEP_WAIT;
}

/* Out of descriptors: whether the driver had others give one back. */
static bool make_room(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;

	return a->driver && a->driver->out_of_fds && a->driver->out_of_fds(lock, a->arg);
}

FILELOCK_API void filelock_set_poll_only(struct filelock *lock, bool frugal)
{
	struct acquisition *a = &lock->acquisition;

	if (frugal && !a->frugal && lock->depth == 0)
		lock->kind->abandon(lock);
	a->frugal = frugal;
}

FILELOCK_API bool filelock_is_poll_only(const struct filelock *lock)
{
	return lock->acquisition.frugal;
}

/* The kind does not work here. The handle becomes one of the kind that serves instead, unless its
   caller asked for more than that can be. */
static int fall_back(struct filelock *lock)
{
	const struct kind *fallback = lock->kind->fallback;
	bool shared = lock->acquisition.mode == FILELOCK_SHARED;
	int r;

	if (!fallback || lock->borrowed >= 0 || lock->options.no_fallback ||
	    (shared && fallback->exclusive_only))
		return lock->failure.code;
	log_write(FILELOCK_LOG_WARNING, "%s: %s locks do not work here: a %s lock serves instead",
	          lock->path, lock->kind->name, fallback->name);
	failure_clear(&lock->failure);
	r = registry_change_kind(lock, fallback);
	return r < 0 ? handle_fail(lock, r, "cannot fall back to another kind for")
	             : ATTEMPT_RACED;
}

/* What comes of it; but for held and errors, when the next one is due is noted. */
static int attempt(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	int r;

	a->hastened = false;
	a->next = now;
	r = lock->kind->try(lock, (enum filelock_mode)a->mode);
	if (r == ATTEMPT_UNSUPPORTED)
		r = fall_back(lock);
	if (r == ATTEMPT_HELD)
		return hold(lock);
	if (r == ATTEMPT_RACED && a->races++ < MOST_RACES)
		return FILELOCK_STEP_EARLY;
	if (r == ATTEMPT_BUSY || r == ATTEMPT_RACED)
		return take_busy(lock, now);
	if ((r == -EMFILE || r == -ENFILE) && now < a->deadline && make_room(lock))
		return FILELOCK_STEP_EARLY;
	return fail(lock, r);
}

static void take_stir(struct acquisition *a, int64_t now)
{
	bool waiting_politely = a->polite && a->woken;

	atomic_store_explicit(&a->stirred, false, memory_order_relaxed);
	a->woken = a->told = true;
	expect_release(a, QUICK_ATTEMPTS);
	if (!waiting_politely)
		a->next = a->polite ? later(now, POLITE_DELAY >> a->lost) : now;
}

/* Whether to let others go first: see "Fairness". */
static bool should_be_polite(struct filelock *lock, int64_t now)
{
	struct fairness *m = &lock->fairness;

	if (m->released_at == 0 || now - m->released_at >= AGAIN_AT_ONCE) {
		m->yielded_at = now;
		return false;
	}
	if (!m->contended && now - m->yielded_at < YIELD_EVERY)
		return false;
	m->yielded_at = now;
	return true;
}

static void start(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	a->started = true;
	if (a->deadline <= now || !should_be_polite(lock, now))
		return;
	a->polite = true;
	a->next = later(now, POLITE_DELAY);
}

FILELOCK_API void filelock_follow(struct filelock *lock, const struct filelock *predecessor)
{
	if (lock->acquisition.started || lock->kind != predecessor->kind)
		return;
	lock->fairness = predecessor->fairness;
	if (lock->kind->learn)
		lock->kind->learn(lock, predecessor);
}

/* Whether what one of the two holds is as good as what the other would have taken. */
static bool are_alike(const struct filelock *a, const struct filelock *b)
{
	const struct filelock_options *p = &a->options;
	const struct filelock_options *q = &b->options;

	return a->borrowed == b->borrowed && filelock_compare(a, b) == 0 &&
	       p->lifetime_ms == q->lifetime_ms && p->file_mode == q->file_mode &&
	       p->unlink_on_release == q->unlink_on_release &&
	       p->two_line_marker == q->two_line_marker && p->no_fallback == q->no_fallback &&
	       p->keep_on_exit == q->keep_on_exit;
}

FILELOCK_API bool filelock_hand_over(struct filelock *from, struct filelock *to)
{
	struct acquisition *a = &to->acquisition;

	if (from->depth != 1 || !a->pending || to->depth > 0 || from->mode != a->mode ||
	    !are_alike(from, to))
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
	to->rescued = from->rescued;
	a->handed_over = true;
	from->depth = 0;
	from->acquisition.handed_over = false;
	return true;
}

FILELOCK_API int filelock_step(struct filelock *lock, int64_t now, int64_t *ret_until)
{
	struct acquisition *a = &lock->acquisition;
	int r = FILELOCK_STEP_EARLY;

	if (filelock_is_inherited(lock)) { /* perhaps a callback forked meanwhile */
		(void)filelock_give_up(lock, FILELOCK_EFORKED);
		return handle_fail(lock, FILELOCK_EFORKED, "cannot acquire");
	}
	if (!a->pending)
		return handle_fail(lock, -EINVAL, "no acquisition is under way of");
	if (lock->depth > 0)
		return hold(lock);
	if (!a->started)
		start(lock, now);
	if (atomic_load_explicit(&a->stirred, memory_order_relaxed))
		take_stir(a, now);
	if (now >= a->next || now >= a->deadline || a->hastened)
		r = attempt(lock, now);
	if (r > 0)
		*ret_until = a->next < a->deadline ? a->next : a->deadline;
	return r;
}
