/*
 * acquire.c - one acquisition, step by step.
 *
 * The machine never sleeps, reads no clock and knows no loop. A step makes at most one attempt.
 * schedule.c computes when the next one is due.
 *
 *   begun ──> (yielding ──>) attempt ──> held
 *                               │busy
 *                               v
 *           contending: watch, if that is new attempt again, sleep until the next attempt is due
 *           or something wakes, (yield), attempt
 *                               │pending
 *                               v
 *           blocked: sleep until the kind, the poll or the deadline wakes, attempt
 *
 * Crowd. An event wakes everybody who watches, and one of them gets the lock. Whoever has lost three
 * events in a row therefore has the kind wait in the system's own queue, if it can. So does
 * whoever waits for a lock that was wanted by a crowd lately, or whose release once raised no event:
 * crowd.c remembers that. A wait whose file was replaced begins anew. After two of those in a row
 * the acquisition watches: peers may remove the file at each release.
 *
 * An attempt comes between every watch and the sleep after it, so that a release before the watch is
 * not missed, also when the watch was lost and is made anew. A new watch gives one attempt at once,
 * and the same series as a sign of a release. The poll stays armed under every watch: it is the
 * safety net.
 *
 * Deadline. The next attempt is never later than the deadline. One last attempt is made at it before
 * -ETIMEDOUT is returned.
 *
 * Pending. A kind that pends (kind.h) is not polled: it wakes the acquisition when it knows more. Its
 * last attempt may stay pending for a second after the deadline.
 *
 * Whoever has lost three events and only watches spaces its attempts: pollers and other watchers raise
 * events all the time.
 *
 * Races. After MOST_RACES the attempts wait as if the lock were held. After RACES_LIMIT with nothing
 * else between, for RACES_TIME or to the deadline, it is no race, and the acquisition fails.
 */
#include <errno.h>

#include "base/sys.h"
#include "crowd.h"
#include "handle.h"
#include "heartbeat.h"
#include "hold.h"
#include "inotify.h"
#include "registry.h"

#define QUICK_ATTEMPTS 3
#define MOST_RACES 10
#define RACES_LIMIT 100
#define RACES_TIME INT64_C(3000000000) /* ns, longer than a mount goes on showing what another one removed */
#define CROWD_LOST 3 /* events in a row */
#define CROWD_POLL INT64_C(10000000) /* ns, of those that only watch in a crowd */
#define CROWD_SPACE INT64_C(1000000) /* ns, between their attempts */
#define MOST_DEAD_WAITS 2
#define BLOCK_AGAIN INT64_C(10000000) /* ns, after the kind could not */
#define FIRST_LOOK INT64_C(50000000) /* ns, until one that is blocked watches its file */

FILELOCK_API int64_t filelock_now(void)
{
	return sys.now();
}

FILELOCK_API int64_t filelock_deadline(int64_t now, int64_t timeout_ns)
{
	return timeout_ns < 0 ? FILELOCK_NEVER : schedule_later(now, timeout_ns);
}

static struct filelock_watcher *watcher_of(const struct acquisition *a)
{
	return a->driver ? a->driver->watcher : NULL;
}

static int check_nesting(struct filelock *lock, enum filelock_mode mode)
{
	if (lock->depth == 0)
		return 0;
	if (lock->mode != mode)
		return handle_refuse(lock, -EDEADLK, "cannot acquire in another mode");
	if (lock->kind->is_over && lock->kind->is_over(lock))
		return handle_fail(lock, FILELOCK_ELOST, "cannot nest in the hold of");
	if (mode == FILELOCK_EXCLUSIVE && lock->kind->nests_in_thread &&
	    !registry_holds_here(lock))
		return handle_refuse(lock, -EDEADLK, "cannot nest in another thread");
	return 0;
}

FILELOCK_API int filelock_begin(struct filelock *lock, enum filelock_mode mode,
                                int64_t deadline, const struct filelock_driver *driver,
                                void *arg)
{
	struct acquisition *a = &lock->acquisition;
	int r;

	if (lock->inherited)
		return handle_fail(lock, FILELOCK_EFORKED, "cannot acquire");
	if (mode != FILELOCK_EXCLUSIVE && mode != FILELOCK_SHARED)
		return filelock_fail(lock, -EINVAL, "cannot acquire", "there is no such mode");
	if (acquisition_is_pending(a))
		return handle_refuse(lock, -EALREADY, "cannot acquire");
	if (lock->closed)
		return handle_refuse(lock, -ECANCELED, "cannot acquire");
	r = check_nesting(lock, mode);
	if (r < 0)
		return r;
	*a = (struct acquisition){ .driver = driver, .arg = arg,
		                   .schedule.deadline = deadline,
		                   .mode = (unsigned char)mode, .is_local = -1 };
	acquisition_move(a, ACQUISITION_BEGUN);
	return 0;
}

FILELOCK_API void *filelock_driver_arg(const struct filelock *lock,
                                       const struct filelock_driver *driver)
{
	const struct acquisition *a = &lock->acquisition;

	return acquisition_is_pending(a) && a->driver == driver ? a->arg : NULL;
}

static void end(struct acquisition *a)
{
	if (a->counted)
		(void)inotify_count(a->driver->watcher, -1);
	a->counted = false;
	a->driver = NULL;
	acquisition_move(a, ACQUISITION_NONE);
}

static int fail(struct filelock *lock, int error)
{
	lock->kind->abandon(lock);
	heartbeat_end(lock);
	end(&lock->acquisition);
	return error;
}

FILELOCK_API int filelock_begin_blocking(struct filelock *lock, enum filelock_mode mode,
                                         int64_t deadline)
{
	int r = lock->kind->pends ? handle_refuse(lock, -ENOTSUP, "cannot wait in a call for")
	                          : filelock_begin(lock, mode, deadline, NULL, NULL);

	if (r == 0)
		lock->acquisition.blocking = true;
	return r;
}

FILELOCK_API void filelock_set_driver(struct filelock *lock,
                                      const struct filelock_driver *driver)
{
	lock->acquisition.driver = driver;
}

FILELOCK_API bool filelock_is_contended(const struct filelock *lock)
{
	return lock->acquisition.contended;
}

FILELOCK_API void filelock_hasten(struct filelock *lock)
{
	lock->acquisition.hastened = true;
}

FILELOCK_API int filelock_give_up(struct filelock *lock, int error)
{
	struct acquisition *a = &lock->acquisition;

	if (!acquisition_is_pending(a))
		return error;
	if (a->state == ACQUISITION_HANDED_OVER && !lock->inherited) {
		int r = hold_release(lock);

		if (r < 0)
			log_write(FILELOCK_LOG_ERROR, "%s stays held: %s", lock->path,
			          filelock_strerror(r));
	}
	(void)handle_refuse(lock, error, "gave up waiting for");
	if (lock->depth == 0)
		return fail(lock, error);
	end(a); /* a nested one has nothing to drop */
	return error;
}

/* It ends with a hold that the handle has already, one level deeper, or that was moved to it. */
static int take_hold(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;
	int r;

	if (lock->kind->is_over && lock->kind->is_over(lock)) {
		r = handle_fail(lock, FILELOCK_ELOST, "cannot nest in the hold of");
		return filelock_give_up(lock, r);
	}
	lock->missed_wakeup = false;
	lock->depth += a->state != ACQUISITION_HANDED_OVER;
	end(a);
	heartbeat_begin(lock);
	return FILELOCK_STEP_HELD;
}

static bool is_in_crowd(const struct filelock *lock, int64_t now)
{
	return lock->acquisition.lost_wakes >= CROWD_LOST ||
	       crowd_lasts(lock->kind->identity(lock), now);
}

/* What the wait that is over tells those to come. */
static void note_crowd(const struct filelock *lock, int64_t now)
{
	if (!lock->kind->block)
		return;
	if (lock->missed_wakeup)
		crowd_note_silence(lock->kind->identity(lock), now);
	else if (lock->acquisition.queued)
		crowd_note(lock->kind->identity(lock), now);
}

/* Found by a poll. One that is due at the same time as the event may be first. */
static bool missed_wakeup(const struct acquisition *a)
{
	return a->slept && !a->told &&
	       !(a->driver && a->driver->watcher && inotify_has_events(a->driver->watcher));
}

static int become_held(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	lock->depth = 1;
	lock->missed_wakeup = missed_wakeup(a); /* unwatched, it has no events any more */
	/* first: from then on no other thread wakes it */
	lock->kind->unwatch(lock);
	lock->mode = (enum filelock_mode)a->mode;
	lock->fairness.contended = a->contended;
	note_crowd(lock, now);
	end(a);
	registry_add_held(lock, lock->kind->identity(lock));
	heartbeat_begin(lock);
	return FILELOCK_STEP_HELD;
}

static bool is_local(const char *path)
{
	struct statfs fs;

	return sys.statfs(path, &fs) == 0 && sys_is_local(&fs);
}

/* Some kinds' attempts cost more. */
static void make_rarer(struct schedule_poll *poll, const struct filelock *lock)
{
	int64_t least = (int64_t)lock->kind->least_poll_ms * 1000000;

	if (!lock->options.poll_interval_ms && poll->interval < least)
		poll->interval = least;
}

static struct schedule_poll poll_of(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;
	struct filelock_watcher *watcher = watcher_of(a);
	size_t waiting = watcher ? inotify_count(watcher, 0) : 0;
	struct schedule_poll poll;

	if (a->is_local < 0 && !lock->options.poll_interval_ms && schedule_is_loaded(waiting))
		a->is_local = is_local(lock->path);
	poll = schedule_poll(lock->options.poll_interval_ms, waiting, a->is_local > 0,
	                     (uintptr_t)lock);
	make_rarer(&poll, lock);
	return poll;
}

/* When to try again after an attempt that found the lock held. */
static void wait_for_next(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	int64_t most = lock->kind->retry_delay ? lock->kind->retry_delay(lock) : 0;

	/* those that wait in the system's queue are before those that watch */
	if (a->lost_wakes >= CROWD_LOST && a->state != ACQUISITION_BLOCKED &&
	    lock->kind->block && !lock->options.poll_interval_ms)
		most = CROWD_POLL;
	if (schedule_after_busy(&a->schedule, now, poll_of(lock), most))
		a->told = false;
}

/* Watches the lock: 1 if that is new, so that it must be looked at again; 0, or an error. */
static int watch_anew(struct filelock *lock)
{
	struct filelock_watcher *watcher = watcher_of(&lock->acquisition);
	int r = watcher ? lock->kind->watch(lock, watcher) : 0;

	if (r < 0)
		log_write(FILELOCK_LOG_DEBUG, "polling %s, no watch: %s", lock->path,
		          filelock_strerror(r));
	return r;
}

static bool would_wait_for_itself(const struct filelock *lock)
{
	const struct acquisition *a = &lock->acquisition;

	return a->blocking && a->schedule.deadline == FILELOCK_NEVER &&
	       registry_holds_elsewhere(lock, lock->kind->identity(lock));
}

/* It is counted among those that wait by its watcher. */
static void count(struct acquisition *a)
{
	if (a->counted || !watcher_of(a))
		return;
	a->counted = true;
	(void)inotify_count(a->driver->watcher, 1);
}

static void note_lost_wake(struct acquisition *a)
{
	if (a->wake_untried && a->lost_wakes < CROWD_LOST)
		a->lost_wakes++;
	a->wake_untried = false;
}

/* Not at each step: the kind may have to register among those that watch anew, for which there
   is one more step. */
static bool ask_to_block(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	if (!watcher_of(a) || !lock->kind->block || a->dead_waits >= MOST_DEAD_WAITS ||
	    now < a->block_after)
		return false;
	a->block_after = schedule_later(now, BLOCK_AGAIN);
	return lock->kind->block(lock, (enum filelock_mode)a->mode, watcher_of(a)) >= 0;
}

/* Whether the kind waits in the system's queue from now on. */
static bool block(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	if (!ask_to_block(lock, now))
		return false;
	a->block_after = 0;
	acquisition_move(a, ACQUISITION_BLOCKED);
	a->queued = true;
	schedule_end_series(&a->schedule);
	a->schedule.next = schedule_later(now, FIRST_LOOK); /* most waits are over by then */
	a->slept = true;
	a->told = false;
	a->races = 0;
	return true;
}

/* The attempt is pending. */
static int stay_blocked(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	a->contended = true;
	if (now >= a->schedule.deadline)
		return fail(lock, handle_refuse(lock, -ETIMEDOUT, "cannot acquire"));
	if (a->state != ACQUISITION_BLOCKED)
		acquisition_move(a, ACQUISITION_BLOCKED);
	count(a);
	schedule_end_series(&a->schedule);
	wait_for_next(lock, now);
	if (!a->poll_only && watch_anew(lock) > 0)
		a->schedule.next = now;
	a->slept = true;
	a->races = a->races_in_a_row = 0;
	return FILELOCK_STEP_WAIT;
}

/* Has something tell of a release, and says whether the kind is to do so. */
static bool wait_for_release(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	int r;

	if (a->poll_only) {
		lock->kind->abandon(lock);
		return false;
	}
	if (lock->kind->block && is_in_crowd(lock, now)) {
		if (block(lock, now))
			return true;
		a->asks = !watcher_of(a); /* it will have one: see sync.c */
	}
	r = watch_anew(lock);
	if (r > 0) /* at once, but not for ever: see races */
		schedule_expect_release(&a->schedule, a->races < MOST_RACES);
	return r == -ENOTSUP && block(lock, now); /* a folder: no event will come */
}

/* The kind wakes it. Its last attempt is not waited for without end. */
static int stay_pending(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	if (now >= schedule_later(a->schedule.deadline, FILELOCK_PENDING_GRACE))
		return fail(lock, handle_refuse(lock, -ETIMEDOUT, "cannot acquire"));
	a->schedule.next = FILELOCK_NEVER;
	return FILELOCK_STEP_PENDING;
}

static int take_busy(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	bool first = !a->contended;

	a->contended = true;
	note_lost_wake(a);
	if (now >= a->schedule.deadline)
		return fail(lock, handle_refuse(lock, -ETIMEDOUT, "cannot acquire"));
	if (lock->kind->pends) {
		a->schedule.next = FILELOCK_NEVER;
		return FILELOCK_STEP_WAIT;
	}
	if (first && would_wait_for_itself(lock))
		return fail(lock, handle_refuse(lock, -EDEADLK, "cannot wait for"));
	count(a);
	if (wait_for_release(lock, now))
		return FILELOCK_STEP_WAIT;
	/* the synchronous driver finds a watcher only after the first attempt */
	if (first && a->blocking)
		a->schedule.next = now;
	else
		wait_for_next(lock, now);
	a->slept = a->schedule.next > now;
	if (a->slept)
		a->races = 0;
	return FILELOCK_STEP_WAIT;
}

/* Nobody can race that often: either the file cannot be made, or its inode number changes. */
static int fail_by_races(struct filelock *lock)
{
	struct stat st;

	if (sys_lstat(lock->path, &st) == -ENOENT)
		return fail(lock, handle_fail(lock, -ENOENT, "cannot make the lock file"));
	return fail(lock, handle_fail(lock, FILELOCK_EUNSTABLE, "cannot acquire"));
}

static int take_race(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	a->races++;
	if (a->races_in_a_row == 0)
		a->raced_at = now;
	if (a->races_in_a_row < RACES_LIMIT)
		a->races_in_a_row++;
	if (a->races_in_a_row >= RACES_LIMIT &&
	    (now >= a->schedule.deadline || now - a->raced_at >= RACES_TIME))
		return fail_by_races(lock);
	if (a->races <= MOST_RACES || now >= a->schedule.deadline)
		return FILELOCK_STEP_EARLY;
	return take_busy(lock, now);
}

/* Out of descriptors: whether the driver had others give one back. */
static bool make_room(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;

	return a->driver && a->driver->out_of_fds && a->driver->out_of_fds(lock, a->arg);
}

FILELOCK_API void filelock_set_poll_only(struct filelock *lock, bool poll_only)
{
	struct acquisition *a = &lock->acquisition;

	if (lock->kind->pends) /* it has nothing to give back */
		return;
	if (poll_only && !a->poll_only && lock->depth == 0)
		lock->kind->abandon(lock);
	if (poll_only && a->state == ACQUISITION_BLOCKED)
		acquisition_move(a, ACQUISITION_CONTENDING);
	a->poll_only = poll_only;
}

FILELOCK_API bool filelock_is_poll_only(const struct filelock *lock)
{
	return lock->acquisition.poll_only;
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

static bool is_out_of_fds(int error)
{
	return error == -EMFILE || error == -ENFILE;
}

/* Of the kind, as that says. */
static int try_kind(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	enum filelock_mode mode = (enum filelock_mode)a->mode;
	int r = lock->kind->try(lock, mode);

	/* the last one is not left to a queue, which may be slow to say that it is our turn */
	if (r == ATTEMPT_PENDING && lock->kind->block && now >= a->schedule.deadline) {
		lock->kind->abandon(lock);
		r = lock->kind->try(lock, mode);
	}
	return r == ATTEMPT_UNSUPPORTED ? fall_back(lock) : r;
}

/* What comes of it; but for held and errors, when the next one is due is noted. */
static int attempt(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	bool blocked = a->state == ACQUISITION_BLOCKED;
	int r;

	if (!blocked && a->state != ACQUISITION_CONTENDING)
		acquisition_move(a, ACQUISITION_CONTENDING);
	a->hastened = false;
	a->attempted = a->schedule.next = now;
	a->last = now >= a->schedule.deadline;
	r = try_kind(lock, now);
	if (r == ATTEMPT_PENDING)
		return lock->kind->pends ? stay_pending(lock, now) : stay_blocked(lock, now);
	if (blocked) {
		acquisition_move(a, ACQUISITION_CONTENDING);
		a->dead_waits += r == ATTEMPT_RACED;
	}
	if (r == ATTEMPT_HELD)
		return become_held(lock, now);
	if (r == ATTEMPT_RACED)
		return take_race(lock, now);
	if (r == ATTEMPT_BUSY) {
		a->races_in_a_row = 0;
		return take_busy(lock, now);
	}
	if (is_out_of_fds(r) && now < a->schedule.deadline && make_room(lock))
		return FILELOCK_STEP_EARLY;
	return fail(lock, r);
}

/* Lets others go first, before the next attempt. */
static void yield(struct acquisition *a, int64_t now)
{
	acquisition_move(a, ACQUISITION_YIELDING);
	schedule_yield(&a->schedule, now);
}

static bool is_spaced(const struct acquisition *a)
{
	return a->lost_wakes >= CROWD_LOST;
}

static void take_wake(struct acquisition *a, int64_t now)
{
	atomic_store_explicit(&a->woken, false, memory_order_relaxed);
	a->told = true;
	if (a->state == ACQUISITION_BLOCKED) {
		a->schedule.next = now;
		return;
	}
	a->wake_untried = true;
	schedule_expect_release(&a->schedule, is_spaced(a) ? 0 : QUICK_ATTEMPTS);
	if (a->state == ACQUISITION_YIELDING)
		return;
	if (a->yields) {
		yield(a, now);
		a->schedule.lost++; /* unless the attempt holds, and ends it all */
	} else {
		a->schedule.next = is_spaced(a) ? schedule_later(a->attempted, CROWD_SPACE) : now;
	}
}

/* The first step. */
static void start(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;

	lock->comes_again = fairness_is_again(&lock->fairness, now);
	a->yields = a->schedule.deadline > now && !lock->kind->pends &&
	            !(lock->kind->block && is_in_crowd(lock, now)) &&
	            fairness_should_yield(&lock->fairness, now);
	if (a->yields)
		yield(a, now);
	else
		acquisition_move(a, ACQUISITION_CONTENDING);
}

FILELOCK_API bool filelock_makes_last_attempt(const struct filelock *lock)
{
	return lock->acquisition.last;
}

/* The synchronous driver has a watcher by now, and an attempt has just found it held. */
static bool takes_place(struct filelock *lock, int64_t now)
{
	struct acquisition *a = &lock->acquisition;
	bool asks = a->asks && a->state == ACQUISITION_CONTENDING && now < a->schedule.deadline;

	a->asks = false;
	if (!asks || !block(lock, now))
		return false;
	count(a);
	return true;
}

FILELOCK_API void filelock_follow(struct filelock *lock, const struct filelock *predecessor)
{
	if (lock->acquisition.state != ACQUISITION_BEGUN || lock->kind != predecessor->kind)
		return;
	lock->fairness = predecessor->fairness;
	if (lock->kind->learn)
		lock->kind->learn(lock, predecessor);
}

FILELOCK_API int filelock_step(struct filelock *lock, int64_t now, int64_t *ret_until)
{
	struct acquisition *a = &lock->acquisition;
	int r = FILELOCK_STEP_EARLY;

	if (lock->inherited) { /* perhaps a callback forked meanwhile */
		(void)filelock_give_up(lock, FILELOCK_EFORKED);
		return handle_fail(lock, FILELOCK_EFORKED, "cannot acquire");
	}
	if (!acquisition_is_pending(a))
		return handle_refuse(lock, -EINVAL, "no acquisition is under way of");
	if (lock->depth > 0)
		return take_hold(lock);
	if (a->state == ACQUISITION_BEGUN)
		start(lock, now);
	if (atomic_load_explicit(&a->woken, memory_order_relaxed))
		take_wake(a, now);
	if (takes_place(lock, now))
		r = FILELOCK_STEP_WAIT;
	else if (now >= schedule_until(&a->schedule) || a->hastened)
		r = attempt(lock, now);
	if (r > 0)
		*ret_until = schedule_until(&a->schedule);
	if (r > 0 && a->last && lock->kind->pends)
		*ret_until = schedule_later(a->schedule.deadline, FILELOCK_PENDING_GRACE);
	return r;
}
