/*
 * context.h - the inside of a context, for event.c, queue.c and pass.c.
 */
#ifndef EVFILELOCK_CONTEXT_H
#define EVFILELOCK_CONTEXT_H

#include <event2/event.h>

#include <filelock/driver.h>
#include <filelock/event.h>

#include "alarms.h"
#include "../lib/hash.h" /* header only: async/ uses nothing hidden of lib/ */

struct queue;

struct evfilelock_request {
	struct evfilelock *ev;
	struct queue *queue; /* NULL: in ev->prompt */
	struct evfilelock_request *previous, *next;
	struct filelock *lock; /* with a reference */
	evfilelock_cb cb;
	void *arg;
	struct alarm deadline;
	int result;    /* of a prompt one; 0: it nests, and is still to be stepped */
	uint32_t born; /* a pass that must not complete it */
	bool finished; /* its callback has begun */
};

struct request_list {
	struct evfilelock_request *first, *last;
};

/* The requests for one lock, first come first served. Only the first one's handle is stepped, so
   only it has a descriptor and a watch. */
struct queue {
	struct hash_node node;
	struct evfilelock *ev;
	struct request_list requests;
	struct queue *previous_ready, *next_ready;
	struct alarm poll;  /* when to step the first one next */
	int64_t refused_at; /* when the last attempt found the lock held */
	uint32_t rested;    /* the pass in which it has nothing more to do */
	bool ready;         /* in ev's list of queues to serve */
	bool serving;
};

struct evfilelock {
	struct event_base *base;
	struct event *timer;    /* the next pass */
	struct event *precise;  /* the same, for short delays; NULL until first needed */
	struct event *readable; /* of the watcher; NULL until it has a descriptor */
	struct filelock_watcher *watcher;
	struct filelock_driver driver;
	struct alarms alarms;
	struct hash queues;
	struct queue *first_ready, *last_ready;
	struct request_list prompt; /* no longer, or not, waiting for anybody */
	int64_t armed;             /* what the timer is set to; FILELOCK_NEVER: nothing */
	int priority;              /* -1: the base's default */
	int64_t now;       /* of the pass */
	int64_t pass_ends;
	unsigned left;     /* completions that the pass may still make */
	uint32_t pass;      /* the one that runs, or ran last */
	uint32_t next_born; /* the pass in which a request made now must not be completed */
	bool precisely; /* `precise` is added */
	bool listening; /* `readable` is added */
	bool running;   /* inside a pass */
	bool freeing;   /* evfilelock_free was called */
};

/* queue.c */
struct queue *queue_of(struct evfilelock *ev, struct evfilelock_request *request);
void queue_append(struct queue *queue, struct evfilelock_request *request);
/* Takes a request out of its queue, which is freed with its last one unless it is being served. */
void queue_leave(struct evfilelock_request *request);
void queue_free_if_empty(struct queue *queue);
void queue_make_ready(struct queue *queue);
struct queue *queue_take_ready(struct evfilelock *ev);
void list_append(struct request_list *list, struct evfilelock_request *request);
void list_remove(struct request_list *list, struct evfilelock_request *request);

/* pass.c */
/* Cancels a request without telling: the next pass does. */
void request_cancel(struct evfilelock_request *request);
/* The one place where callbacks are called. The request is in no list. */
void request_complete(struct evfilelock_request *request, int result);
/* Without a callback: in a forked child. */
void request_free(struct evfilelock_request *request);
void pass_on_timer(evutil_socket_t fd, short events, void *arg);
/* Takes the timer back, also if it has fired in this turn and is to run yet. */
void pass_disarm(struct evfilelock *ev);
/* Sets the timer, and listens to the watcher, as what is pending demands. False: no memory. */
bool pass_arm(struct evfilelock *ev);
/* The same where there is nobody to tell. */
void pass_arm_surely(struct evfilelock *ev);

/* event.c */
void context_destroy(struct evfilelock *ev);

#endif
