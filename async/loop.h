/*
 * loop.h - the events of a context on the caller's base.
 */
#ifndef EVFILELOCK_LOOP_H
#define EVFILELOCK_LOOP_H

#include <event2/event.h>

#include "driver_private.h"

/* States of the timer; only loop.c moves them. */
enum loop_timer {
	TIMER_OFF,
	TIMER_PARKED, /* far away: it keeps its place in libevent's heap */
	TIMER_COARSE, /* by the base's own clock */
	TIMER_PRECISE /* by a timerfd */
};

struct loop {
	struct event_base *base;
	struct event *timer;    /* coarse */
	struct event *quiet;    /* the same, for which the loop need not go on; NULL until needed */
	struct event *precise;  /* NULL until first needed */
	struct event *readable; /* of the watcher; NULL until it has a descriptor */
	struct event *wakeup;   /* of other threads; NULL until first needed */
	struct filelock_guarded_fd timer_fd, wakeup_fd;
	event_callback_fn on_time, on_quiet, on_readable, on_wakeup;
	void *arg;
	int64_t at; /* what the timer is set to; FILELOCK_NEVER: nothing */
	int64_t quiet_at; /* what `quiet` is set to */
	int priority; /* -1: the base's default */
	enum loop_timer state;
	bool listening; /* `readable` is added */
	bool hearing;   /* `wakeup` is added */
};

/* All callbacks get arg. 0, or -ENOMEM; to be closed in any case. */
int loop_open(struct loop *loop, struct event_base *base, int priority);
void loop_close(struct loop *loop);
/* In a forked child, where nothing is set: all but the timer is made anew when it is needed. */
void loop_renew(struct loop *loop);
/* Whether the base has what was set: event_base_free takes the events of all contexts back. */
bool loop_has_base(const struct loop *loop);
/* Takes all events back: nothing is called until one is set again. */
void loop_stop(struct loop *loop);

/* Has on_time called at that time, AT_ONCE, or never. False: no memory. */
#define LOOP_AT_ONCE INT64_MIN
bool loop_set_timer(struct loop *loop, int64_t at, bool precise);
/* Has on_quiet called by that time, if the loop runs until then. Without memory it is not. */
void loop_set_quiet(struct loop *loop, int64_t at);
/* Whether nothing but our own timer keeps the loop running. */
bool loop_is_last(const struct loop *loop);
/* on_time at once, without memory. */
void loop_force(struct loop *loop);
/* Takes the timer back, also if it has fired in this turn and is to run yet. */
void loop_unset_timer(struct loop *loop);
/* Unset, but setting it again needs no memory. */
void loop_park_timer(struct loop *loop);

/* Whether on_readable is called while the watcher has something to read. Without memory for the
   event it is not. */
void loop_listen(struct loop *loop, struct filelock_watcher *watcher, bool wanted);

/* Makes what loop_notify writes to. 0, or a negative error. */
int loop_make_wakeup(struct loop *loop);
/* From any thread, once that was made: on_wakeup is called, if it is heard. */
void loop_notify(struct loop *loop);
bool loop_hear(struct loop *loop);
void loop_stop_hearing(struct loop *loop);
/* Takes back the notice. */
void loop_clear_wakeup(struct loop *loop);

#endif
