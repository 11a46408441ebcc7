/*
 * context.h - the parts of a context, side by side, and when the loop is to call next.
 */
#ifndef EVFILELOCK_CONTEXT_H
#define EVFILELOCK_CONTEXT_H

#include "fd_budget.h"
#include "loop.h"
#include "mailbox.h"
#include "queue.h"
#include "stats.h"
#include "timers.h"

struct workers;

struct evfilelock {
	struct loop loop;
	struct mailbox *mailbox;
	struct filelock_watcher *watcher;
	struct filelock_driver driver; /* of the requests' handles */
	struct timers timers;
	struct queues queues;
	struct fd_budget fds;
	struct stats stats;
	struct workers *workers; /* NULL: none */
	struct workers *helper;  /* one thread, for questions; NULL: none was asked yet */
	unsigned worker_count;   /* that the program wants */
	struct filelock_driver watch_driver; /* of proxies that watch a hold */
	struct list watches;     /* of holds: watch.c */
	struct list prompt;      /* requests that wait for nobody */
	struct list errands;     /* requests that are with a worker */
	struct list sets;        /* that are pending: set.c */
	struct list warm;        /* queues that keep a descriptor: warm.c */
	unsigned warm_count;
	void (*free_sets)(struct evfilelock *ev); /* NULL: there never was one */
	unsigned awaited;        /* answers of other threads, but for those of blocked queues */
	unsigned handover_max;   /* requests that one hold serves, and ... */
	int64_t handover_time;   /* ... how long, in ns */
	unsigned generation;     /* of the process that it works in */
	int64_t now;             /* of the turn */
	int64_t turn_ends;
	unsigned left;           /* answers that the turn may still give */
	uint32_t turn;           /* the one that runs, or ran last */
	uint32_t next_born;      /* the turn that must not answer a request made now */
	bool inherited;          /* from the parent, in a forked child: nothing of it works ... */
	bool renewable;          /* ... until it is entered: at the fork nothing was pending */
	bool notified;           /* by the mailbox */
	bool running;            /* inside a turn */
	bool worked;             /* since `now` was taken */
	bool dispatching;        /* the watcher's events, and a turn follows */
	bool freeing;            /* evfilelock_free was called */
};

/* Asks whether this is a forked child, where the context is dead from now on. To be called where
   the program, or the loop, enters, and after each callback: all else goes by ev->inherited. */
bool context_check(struct evfilelock *ev);

/* Sets the timer, and listens to the watcher, as what is pending demands. False: no memory. */
bool context_arm(struct evfilelock *ev);
/* The same where there is nobody to tell; a turn that runs does it at its end. */
void context_arm_surely(struct evfilelock *ev);
/* Hears other threads from now on; false if they cannot be heard. */
bool context_hear(struct evfilelock *ev);
/* From any thread: something is to be heard. arg: the context. */
void context_notify(void *arg);

#endif
