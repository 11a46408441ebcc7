/*
 * watch.h - holds that the program wants to know the loss of.
 */
#ifndef EVFILELOCK_WATCH_H
#define EVFILELOCK_WATCH_H

#include "context.h"
#include "pool.h"

struct watched_hold {
	struct pool_job job;
	struct mail mail;
	struct list link; /* in ev->watches, until it is over */
	struct timer timer;
	struct evfilelock *ev;
	struct filelock *lock;  /* with a reference */
	struct filelock *proxy; /* of the same lock: events wake it */
	struct filelock_lost *lost;
	struct filelock_watcher *watcher; /* of the last look: a worker's may outlast the context */
	struct mailbox *mailbox; /* with a reference */
	atomic_uint references;  /* the context's, the hold's, that of a look that is out */
	evfilelock_cb cb;
	void *arg;
	int result;  /* of the last look */
	int64_t keep_at; /* when the hold is to be kept alive next */
	bool looked; /* its result is to be seen yet */
	bool woken;  /* since the last look began */
	bool over;   /* the context has no more to do with it */
};

/* evfilelock_on_lost; cb NULL: takes it back. */
int watch_begin(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb, void *arg);
/* In a turn: its time has come. */
void watch_take_timer(struct watched_hold *watched);
/* Fills the driver of the proxies. */
void watch_init_driver(struct evfilelock *ev);
/* The context goes. */
void watch_end_all(struct evfilelock *ev);

#endif
