/*
 * loop.c - the events of a context on the caller's base: a timer, a watcher, a wake-up.
 *
 *	OFF, PARKED ── set ──> COARSE, PRECISE ── unset ──> OFF
 *	OFF, COARSE ── park ──> PARKED
 *
 * libevent's timers are late by milliseconds on most bases. Short delays are worth the two further
 * system calls of a timerfd. Most bases use a clock that ticks every few milliseconds, and is
 * behind: for a time between two ticks libevent wakes in vain until the next tick. A coarse timer
 * therefore ends with a tick, and not before.
 */
#include "loop.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include <event2/event_struct.h>

#include "base/sys.h" /* the table's type: filelock_sys() */

static void move(struct loop *loop, enum loop_timer to)
{
	static const unsigned char allowed[] __attribute__((unused)) = {
		[TIMER_OFF] = 1 << TIMER_PARKED | 1 << TIMER_COARSE | 1 << TIMER_PRECISE,
		[TIMER_PARKED] = 1 << TIMER_OFF | 1 << TIMER_COARSE,
		[TIMER_COARSE] = 1 << TIMER_OFF | 1 << TIMER_PARKED,
		[TIMER_PRECISE] = 1 << TIMER_OFF,
	};

	assert(allowed[loop->state] >> to & 1);
	(void)allowed;
	loop->state = to;
}

static struct event *new_event(struct loop *loop, int fd, event_callback_fn callback)
{
	struct event *event = event_new(loop->base, fd, EV_READ | EV_PERSIST, callback, loop->arg);

	if (event && loop->priority >= 0)
		(void)event_priority_set(event, loop->priority);
	return event;
}

int loop_open(struct loop *loop, struct event_base *base, int priority)
{
	loop->base = base;
	loop->priority = priority;
	loop->at = loop->quiet_at = FILELOCK_NEVER;
	loop->timer_fd.fd = -1;
	loop->wakeup_fd.fd = -1;
	loop->timer = evtimer_new(base, loop->on_time, loop->arg);
	if (!loop->timer)
		return -ENOMEM;
	if (priority >= 0)
		(void)event_priority_set(loop->timer, priority);
	return 0;
}

static void free_event(struct event **event)
{
	if (*event)
		event_free(*event);
	*event = NULL;
}

void loop_renew(struct loop *loop)
{
	loop->listening = loop->hearing = false;
	loop->quiet_at = FILELOCK_NEVER;
	free_event(&loop->quiet);
	free_event(&loop->precise);
	free_event(&loop->readable);
	free_event(&loop->wakeup);
	filelock_unguard_fd(&loop->timer_fd);
	filelock_unguard_fd(&loop->wakeup_fd);
}

void loop_close(struct loop *loop)
{
	free_event(&loop->timer);
	loop_renew(loop);
}

void loop_unset_timer(struct loop *loop)
{
	if (loop->state == TIMER_OFF)
		return;
	(void)event_del(loop->state == TIMER_PRECISE ? loop->precise : loop->timer);
	move(loop, TIMER_OFF);
	loop->at = FILELOCK_NEVER;
}

/* Looks at our events only: the base may be gone. */
static bool is_pending(const struct event *event)
{
	return event->ev_evcallback.evcb_flags &
	       (EVLIST_INSERTED | EVLIST_TIMEOUT | EVLIST_ACTIVE | EVLIST_ACTIVE_LATER);
}

bool loop_has_base(const struct loop *loop)
{
	if (loop->listening && !is_pending(loop->readable))
		return false;
	return loop->state == TIMER_OFF ||
	       is_pending(loop->state == TIMER_PRECISE ? loop->precise : loop->timer);
}

void loop_stop(struct loop *loop)
{
	loop_unset_timer(loop);
	loop->quiet_at = FILELOCK_NEVER;
	free_event(&loop->quiet);
	if (loop->listening)
		(void)event_del(loop->readable);
	loop->listening = false;
}

/* Unless another event of this turn takes its place. */
void loop_park_timer(struct loop *loop)
{
	static const struct timeval later = { 3600, 0 };

	if (loop->state == TIMER_PARKED)
		return;
	if (loop->state == TIMER_PRECISE)
		loop_unset_timer(loop);
	if (event_add(loop->timer, &later) < 0) {
		loop_unset_timer(loop);
		return;
	}
	move(loop, TIMER_PARKED);
	loop->at = FILELOCK_NEVER - 1;
}

/* Relative, as libevent's timers are: the library's clock was read for the delay, and the kernel's
   own may tell another time (libfaketime). */
static int set_timer_fd(struct loop *loop, int64_t delay)
{
	int r = loop->timer_fd.fd < 0 ? filelock_guard_timerfd(&loop->timer_fd) : 0;

	return r < 0 ? r : filelock_set_timerfd(&loop->timer_fd, delay);
}

static bool set_precise(struct loop *loop, int64_t delay)
{
	if (set_timer_fd(loop, delay) < 0)
		return false;
	if (!loop->precise)
		loop->precise = new_event(loop, loop->timer_fd.fd, loop->on_time);
	if (!loop->precise || event_add(loop->precise, NULL) < 0)
		return false;
	loop_unset_timer(loop); /* it may be parked */
	move(loop, TIMER_PRECISE);
	return true;
}

static int64_t nanoseconds(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t up_to_a_tick(int64_t delay)
{
	struct timespec resolution, ticked, now;
	int64_t tick, since;

	/* of these clocks none of the calls can fail on Linux */
	(void)clock_getres(CLOCK_MONOTONIC_COARSE, &resolution);
	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ticked);
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	tick = nanoseconds(resolution);
	since = nanoseconds(now) - nanoseconds(ticked);
	if (since < 0 || since > tick) /* something has one of them tell another time */
		return delay;
	delay += since + tick - 1;
	return delay - delay % tick;
}

static bool set_coarse(struct loop *loop, int64_t delay)
{
	int64_t us = delay > 0 ? (up_to_a_tick(delay) + 999) / 1000 : 0;
	struct timeval after = { us / 1000000, us % 1000000 };

	if (event_add(loop->timer, &after) < 0)
		return false;
	move(loop, TIMER_COARSE);
	return true;
}

bool loop_set_timer(struct loop *loop, int64_t at, bool precise)
{
	int64_t delay = 0;
	int64_t now = 0;

	if (at == loop->at)
		return true;
	/* where it is parked, adding its event moves it */
	if (loop->state != TIMER_PARKED || at == FILELOCK_NEVER)
		loop_unset_timer(loop);
	if (at == FILELOCK_NEVER)
		return true;
	if (at != LOOP_AT_ONCE)
		now = filelock_now();
	if (at > now)
		delay = at - now;
	if (!(delay > 0 && precise && set_precise(loop, delay)) && !set_coarse(loop, delay) &&
	    !set_precise(loop, delay))
		return false;
	loop->at = at;
	return true;
}

/* An event that the base does not count: it does not keep a loop running. */
static struct event *new_quiet(struct loop *loop)
{
	struct event *event = evtimer_new(loop->base, loop->on_quiet, loop->arg);

	if (!event)
		return NULL;
	if (loop->priority >= 0)
		(void)event_priority_set(event, loop->priority);
	event->ev_evcallback.evcb_flags |= EVLIST_INTERNAL;
	return event;
}

/* It is not set again for each hold that ends: a turn too many finds nothing to do. */
void loop_set_quiet(struct loop *loop, int64_t at)
{
	struct timeval after = { 0, 0 };
	int64_t delay;

	if (at >= loop->quiet_at)
		return;
	if (!loop->quiet)
		loop->quiet = new_quiet(loop);
	delay = at - filelock_now();
	if (delay > 0)
		after = (struct timeval){ delay / 1000000000, delay % 1000000000 / 1000 };
	if (loop->quiet && event_add(loop->quiet, &after) == 0)
		loop->quiet_at = at;
}

/* How often the base counts it: an event that is to run now is among those added once more. */
static int times_counted(const struct event *event)
{
	int flags = event->ev_evcallback.evcb_flags;

	return !!(flags & EVLIST_INSERTED) + !!(flags & EVLIST_TIMEOUT) +
	       2 * !!(flags & (EVLIST_ACTIVE | EVLIST_ACTIVE_LATER));
}

bool loop_is_last(const struct loop *loop)
{
	int events = event_base_get_num_events(
	        loop->base, EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE |
	                            EVENT_BASE_COUNT_VIRTUAL);

	return loop->state == TIMER_OFF
	               ? events == 0
	               : events == times_counted(loop->state == TIMER_PRECISE ? loop->precise
	                                                                      : loop->timer);
}

void loop_force(struct loop *loop)
{
	/* but after what else is due */
	event_active(loop->timer, EV_TIMEOUT, 1);
	(void)event_base_loopcontinue(loop->base);
}

void loop_listen(struct loop *loop, struct filelock_watcher *watcher, bool wanted)
{
	int fd;

	if (!wanted && !loop->listening)
		return;
	fd = filelock_watcher_fd(watcher);
	if (loop->readable && event_get_fd(loop->readable) != fd) {
		free_event(&loop->readable);
		loop->listening = false;
	}
	if (wanted == loop->listening)
		return;
	if (!wanted) {
		(void)event_del(loop->readable);
		loop->listening = false;
		return;
	}
	if (!loop->readable)
		loop->readable = new_event(loop, fd, loop->on_readable);
	loop->listening = loop->readable && event_add(loop->readable, NULL) == 0;
}

int loop_make_wakeup(struct loop *loop)
{
	return loop->wakeup_fd.fd < 0 ? filelock_guard_eventfd(&loop->wakeup_fd) : 0;
}

void loop_notify(struct loop *loop)
{
	const uint64_t one = 1;

	/* EAGAIN: it was notified 2^64 - 2 times, and has to look yet */
	while (filelock_sys()->write(loop->wakeup_fd.fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

void loop_clear_wakeup(struct loop *loop)
{
	uint64_t count;

	while (filelock_sys()->read(loop->wakeup_fd.fd, &count, sizeof(count)) < 0 &&
	       errno == EINTR)
		;
}

bool loop_hear(struct loop *loop)
{
	if (loop->hearing)
		return true;
	if (loop_make_wakeup(loop) < 0)
		return false;
	if (!loop->wakeup)
		loop->wakeup = new_event(loop, loop->wakeup_fd.fd, loop->on_wakeup);
	loop->hearing = loop->wakeup && event_add(loop->wakeup, NULL) == 0;
	return loop->hearing;
}

void loop_stop_hearing(struct loop *loop)
{
	(void)event_del(loop->wakeup);
	loop->hearing = false;
}
