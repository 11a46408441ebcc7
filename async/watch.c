/*
 * watch.c - holds that the program wants to know the loss of.
 *
 * An event of the file or of its name in the folder sets the hold's timer to now; in the turn that
 * follows somebody looks whether the path names the file yet: the loop, or a worker, where there
 * are any. The loss is told once, and never after the release, which ends the watch: at once on the
 * loop's thread, by mail from others.
 *
 * Its memory goes with the last of those who may come back to it: the context, the hold, and a
 * worker's look that is out.
 */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>

#include "job.h"
#include "workers.h"

#define LOOK_EVERY INT64_C(1000000000) /* ns; no event tells that a folder above was renamed */

static void unref(struct watched_hold *watched)
{
	if (atomic_fetch_sub_explicit(&watched->references, 1, memory_order_acq_rel) > 1)
		return;
	filelock_lost_free(watched->lost);
	if (watched->proxy)
		(void)filelock_give_up(watched->proxy, -ECANCELED);
	filelock_close(watched->proxy);
	filelock_unref(watched->lock);
	mailbox_unref(watched->mailbox);
	free(watched);
}

static bool is_out(const struct watched_hold *watched)
{
	enum job_state state = pool_state(&watched->job);

	return state == JOB_SUBMITTED || state == JOB_DONE;
}

/* Out of the context: no callback comes any more. */
static void end(struct watched_hold *watched)
{
	struct evfilelock *ev = watched->ev;

	watched->over = true;
	timers_unset(&ev->timers, &watched->timer);
	timers_unreserve(&ev->timers);
	list_remove(&watched->link);
	if (filelock_lost_detach(watched->lost))
		unref(watched);
	unref(watched);
}

/* --- the hold ends --- */

static void take_mail(struct mail *mail, bool gone)
{
	struct watched_hold *watched = list_entry(mail, struct watched_hold, mail);

	(void)gone; /* then it is over, too */
	if (!watched->over)
		end(watched);
	unref(watched);
}

static void on_ended(void *arg)
{
	struct watched_hold *watched = arg;
	struct evfilelock *ev = watched->ev;

	if (mailbox_is_loop_thread(watched->mailbox)) {
		if (!watched->over) {
			end(watched);
			context_arm_surely(ev);
		}
		unref(watched);
	} else if (!mailbox_post(watched->mailbox, &watched->mail)) {
		unref(watched);
	}
}

/* --- looking --- */

static void look(struct watched_hold *watched)
{
	filelock_lost_watch(watched->lost, watched->watcher);
	watched->result = filelock_lost_check(watched->lost);
	if (watched->result == FILELOCK_ELOST || filelock_now() < watched->keep_at)
		return;
	watched->keep_at = filelock_keep(watched->proxy, filelock_now());
	if (watched->keep_at < 0)
		watched->result = FILELOCK_ELOST;
}

static bool run(struct pool_job *job, bool alone)
{
	struct watched_hold *watched = list_entry(job, struct watched_hold, job);

	if (alone) {
		unref(watched);
		return false;
	}
	look(watched);
	return true;
}

static void collect(struct pool_job *job)
{
	struct watched_hold *watched = list_entry(job, struct watched_hold, job);
	struct evfilelock *ev = watched->ev;

	ev->awaited--;
	pool_rest(job);
	if (!watched->over) {
		watched->looked = true;
		timers_set(&ev->timers, &watched->timer, ev->now, ev->now);
	}
	unref(watched);
}

static void tell(struct watched_hold *watched)
{
	struct evfilelock *ev = watched->ev;
	struct filelock *lock = watched->lock;
	evfilelock_cb cb = watched->cb;
	void *arg = watched->arg;

	if (ev->left > 0)
		ev->left--;
	filelock_ref(lock);
	end(watched);
	PROBE_LOST(filelock_path(lock));
	cb(lock, FILELOCK_ELOST, arg);
	(void)context_check(ev);
	filelock_unref(lock);
}

static void take_result(struct watched_hold *watched)
{
	struct evfilelock *ev = watched->ev;
	int64_t next = watched->keep_at;

	watched->looked = false;
	timers_unset(&ev->timers, &watched->timer);
	if (watched->result == FILELOCK_ELOST) {
		tell(watched);
		return;
	}
	if (watched->woken)
		next = ev->now;
	else if ((watched->proxy || watched->result < 0) && next > ev->now + LOOK_EVERY)
		next = ev->now + LOOK_EVERY;
	if (next != FILELOCK_NEVER)
		timers_set(&ev->timers, &watched->timer, next, ev->now);
}

void watch_take_timer(struct watched_hold *watched)
{
	struct evfilelock *ev = watched->ev;

	timers_unset(&ev->timers, &watched->timer);
	if (watched->looked) {
		take_result(watched);
		return;
	}
	if (is_out(watched))
		return;
	watched->woken = false;
	watched->watcher = ev->watcher;
	if (!workers_are_for(ev, watched->lock)) {
		look(watched);
		take_result(watched);
	} else if (context_hear(ev)) {
		ev->awaited++;
		atomic_fetch_add_explicit(&watched->references, 1, memory_order_relaxed);
		pool_submit(ev->workers->pool, &watched->job);
	} else {
		timers_set(&ev->timers, &watched->timer, ev->now + LOOK_EVERY, ev->now);
	}
}

static void on_changed(void *arg)
{
	struct watched_hold *watched = arg;
	struct evfilelock *ev = watched->ev;

	watched->woken = true;
	if (!watched->over && !is_out(watched) && !watched->looked)
		timers_set(&ev->timers, &watched->timer, ev->now, ev->now);
	context_arm_surely(ev); /* unless a turn follows: a kind of lock has called */
}

static void on_woken(struct filelock *proxy, void *arg)
{
	(void)proxy;
	on_changed(arg);
}

void watch_init_driver(struct evfilelock *ev)
{
	ev->watch_driver = (struct filelock_driver){ .watcher = ev->watcher, .woken = on_woken };
}

static int make_proxy(struct watched_hold *watched, struct evfilelock *ev, struct filelock *lock)
{
	int r = filelock_clone(lock, &watched->proxy);
	struct filelock_kept kept;
	int64_t after;

	if (r < 0)
		return r;
	after = filelock_keep_after(lock, &kept);
	if (after != FILELOCK_NEVER)
		filelock_keeper_set(watched->proxy, &kept);
	watched->keep_at = filelock_deadline(filelock_now(), after == FILELOCK_NEVER ? -1 : after);
	/* refused to no handle that is new; it is never stepped */
	(void)filelock_begin(watched->proxy, filelock_mode(lock), FILELOCK_NEVER, &ev->watch_driver,
	                     watched);
	return 0;
}

static int make(struct evfilelock *ev, struct filelock *lock, struct watched_hold **ret_watched)
{
	struct watched_hold *watched = calloc(1, sizeof(*watched));
	int r = watched ? 0 : -ENOMEM;

	if (r == 0)
		watched->keep_at = FILELOCK_NEVER;
	if (r == 0 && !filelock_pends(lock))
		r = make_proxy(watched, ev, lock);
	if (r == 0) {
		r = filelock_lost_new(lock, watched->proxy, on_ended, on_changed, watched,
		                      &watched->lost);
		if (r < 0 && watched->proxy)
			(void)filelock_give_up(watched->proxy, r);
		if (r < 0)
			filelock_close(watched->proxy);
	}
	if (r < 0)
		free(watched);
	else
		*ret_watched = watched;
	return r;
}

int watch_begin(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb, void *arg)
{
	struct watched_hold *watched = filelock_lost_arg(lock);
	int64_t now = filelock_now();
	int r;

	if (!cb && watched && watched->ev == ev)
		end(watched);
	if (!cb)
		return 0;
	/* the hold may end on another thread */
	if (!context_hear(ev) || timers_reserve(&ev->timers) < 0)
		return -ENOMEM;
	r = make(ev, lock, &watched);
	if (r < 0) {
		timers_unreserve(&ev->timers);
		context_arm_surely(ev); /* it need not hear for this */
		return r;
	}
	filelock_ref(lock);
	watched->ev = ev;
	watched->lock = lock;
	watched->mailbox = ev->mailbox;
	mailbox_ref(watched->mailbox);
	atomic_init(&watched->references, 2);
	watched->cb = cb;
	watched->arg = arg;
	watched->job.run = run;
	watched->job.collected = collect;
	watched->mail.take = take_mail;
	watched->timer.owner = TIMER_OF_WATCH;
	list_add_last(&ev->watches, &watched->link);
	timers_set(&ev->timers, &watched->timer, now, now);
	context_arm_surely(ev);
	return 0;
}

void watch_end_all(struct evfilelock *ev)
{
	struct list *link;

	while ((link = list_first(&ev->watches))) {
		struct watched_hold *watched = list_entry(link, struct watched_hold, link);

		if (!ev->inherited) {
			end(watched);
			continue;
		}
		/* the watcher is the parent's, and a look may be out there */
		list_remove(link);
		filelock_lost_forget(watched->lost);
		filelock_close(watched->proxy);
		filelock_unref(watched->lock);
		mailbox_unref(watched->mailbox);
		free(watched);
	}
}
