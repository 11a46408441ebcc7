/*
 * context.h - the inside of a context, for the files of this folder.
 */
#ifndef EVFILELOCK_CONTEXT_H
#define EVFILELOCK_CONTEXT_H

#include <pthread.h>
#include <stdatomic.h>

#include <event2/event.h>

#include <filelock/event.h>

#include "driver_private.h"
#include "timers.h"
#include "base/hash.h" /* header only: async/ uses nothing hidden of lib/ */

struct queue;
struct hub;
struct job;
struct pool;

/* A request; and then, until its hold ends, the grant. */
struct request {
	struct evfilelock *ev;
	struct hub *hub;     /* of a grant, with a reference; else NULL */
	struct queue *queue; /* NULL: in ev->prompt; of a grant: the context was freed */
	struct request *previous, *next;
	struct request *next_ended; /* in the hub */
	struct filelock *lock; /* with a reference */
	evfilelock_cb cb;
	void *arg;
	struct alarm deadline;
	int64_t expires; /* the deadline itself */
	struct job *job; /* workers.c; NULL: none */
	uint64_t id;
	int64_t since; /* when it was asked for; of a grant ended on another thread: when */
	int result;    /* of a prompt one; 0: it nests, and is still to be stepped */
	uint32_t born; /* a pass that must not complete it */
	unsigned char mode; /* enum filelock_mode */
	bool calling;  /* and is running */
	bool granted;  /* in its queue's list of grants */
	bool releasing; /* asks for the end of a hold, not for one */
	bool last_call; /* its deadline has passed, and a worker is at it */
	bool slow;     /* it waits for long, and that was said */
};

struct request_list {
	struct request *first, *last;
};

/* The requests for one lock, first come first served, and the holds that came of them. Only the
   first one's handle is stepped, so only it has a descriptor and a watch. */
struct queue {
	struct hash_node node;
	struct evfilelock *ev;
	struct request_list requests;
	struct request_list grants;
	uint32_t length;    /* of requests */
	int64_t taken_at;   /* from the system, the hold that is passed on now */
	unsigned passes;  /* since then */
	bool passed;      /* the first request has it */
	struct queue *previous_ready, *next_ready;
	struct queue *previous_keeper, *next_keeper;
	struct alarm poll;  /* when to step the first one next */
	int64_t refused_at; /* when the last attempt found the lock held */
	unsigned char refused_mode; /* enum filelock_mode: what it asked for */
	int64_t slow_at;    /* when a slow wait was last told */
	uint32_t rested;    /* the pass in which it has nothing more to do */
	bool ready;         /* in ev's list of queues to serve */
	bool serving;
	bool keeps;  /* its first request keeps a descriptor: in ev's list of keepers */
	const struct filelock *orphan; /* a worker is at it, and no request has use of that */
	bool last_call; /* some of its requests are at their deadline, and wait for a worker */
	bool asleep; /* its first request waits for a hold of this very queue */
};

/*
 * What other threads may touch of a context: they release what it has granted. It lives until
 * the last grant has ended.
 */
struct hub {
	pthread_mutex_t mutex;
	struct evfilelock *ev; /* NULL: freed */
	struct request *ended; /* grants that other threads have ended */
	atomic_uint references;
	atomic_uintptr_t thread; /* that runs the loop */
	atomic_bool pending;     /* `ended` is not empty */
	bool has_bell;
};

struct evfilelock {
	struct event_base *base;
	struct event *timer;    /* the next pass */
	struct event *precise;  /* the same, for short delays; NULL until first needed */
	struct event *readable; /* of the watcher; NULL until it has a descriptor */
	struct event *bell;     /* other threads ring; NULL until first needed */
	struct hub *hub;
	struct filelock_watcher *watcher;
	struct filelock_driver driver;
	struct alarms alarms;
	struct hash queues;
	struct queue *first_ready, *last_ready;
	struct queue *first_keeper, *last_keeper; /* in the order in which they began to */
	unsigned keepers;
	unsigned most_keepers;
	int64_t scarce_until; /* until then nobody begins to keep a descriptor */
	struct pool *pool; /* of workers; NULL: none */
	struct request_list releases; /* with the workers */
	struct request_list prompt; /* no longer, or not, waiting for anybody */
	unsigned sleeping;         /* queues that are asleep */
	unsigned most_passes;      /* of one hold, and ... */
	int64_t longest_passing;   /* ... how long, in ns */
	struct set *sets; /* that are pending */
	struct evfilelock_stats stats; /* all but what can be derived: stats.c */
	evfilelock_trace_cb trace;     /* NULL: none */
	void *trace_arg;
	int64_t slow_wait;   /* ns; 0: never */
	int64_t next_holder; /* when a holder may be looked for again */
	int64_t armed;             /* what the timer is set to; FILELOCK_NEVER: nothing */
	int priority;              /* -1: the base's default */
	int64_t now;       /* of the pass */
	int64_t pass_ends;
	unsigned left;     /* completions that the pass may still make */
	uint32_t pass;      /* the one that runs, or ran last */
	uint32_t next_born; /* the pass in which a request made now must not be completed */
	bool precisely; /* `precise` is added */
	bool listening; /* `readable` is added */
	bool hearing;   /* `bell` is added */
	bool running;   /* inside a pass */
	bool freeing;   /* evfilelock_free was called */
};

/* queue.c */
struct queue *queue_of(struct evfilelock *ev, struct request *request);
void queue_append(struct queue *queue, struct request *request);
/* Takes a request out of its queue, which is freed with its last one unless it is being served. */
void queue_leave(struct request *request);
/* The queue's first request is granted: it becomes a grant. */
void queue_grant(struct queue *queue, struct request *request);
/* Whether one more hand-over leaves other processes their turn. */
bool queue_may_pass(const struct queue *queue);
/* Hands the hold of a grant, or of a request that it was passed to, on to the next request. */
bool queue_pass(struct queue *queue, struct request *from,
                struct request *to);
/* The hold of a grant has ended. lock: its handle, or NULL if that may be gone. */
void queue_settle(struct request *grant, const struct filelock *lock);
/* Whether the first request has to wait for a hold of the same queue. */
bool queue_waits_for_itself(const struct queue *queue);
/* An attempt of its first request, begun at that time, found the lock held. */
void queue_note_refusal(struct queue *queue, const struct request *request, int64_t at);
/* Whether an attempt at its deadline, or later, was refused to the request as well. */
bool queue_has_refused(const struct request *request);
/* It does; false if the end of that hold could not be heard. */
bool queue_sleep(struct queue *queue);
/* In a context that goes: its grants are on their own, and it is freed. */
void queue_destroy(struct queue *queue);
void queue_free_if_empty(struct queue *queue);
void queue_make_ready(struct queue *queue);
struct queue *queue_take_ready(struct evfilelock *ev);
void requests_append(struct request_list *list, struct request *request);
void requests_remove(struct request_list *list, struct request *request);

/* fd_budget.c */
/* How many may keep a descriptor in a context that is new. */
unsigned keepers_default(void);
/* Before the first request of the queue is stepped: whether it may keep one. */
void keepers_admit(struct queue *queue);
/* It waits, and has what it was allowed. */
void keepers_add(struct queue *queue);
/* Idempotent. */
void keepers_remove(struct queue *queue);
/* One of them gives back what it has. False: there is none. */
bool keepers_make_room(struct evfilelock *ev);

/* mailbox.c */
int hub_new(struct evfilelock *ev);
/* The context goes. */
void hub_leave(struct evfilelock *ev);
void hub_unref(struct hub *hub);
/* The calling thread runs the loop, or is about to. */
void hub_enter(struct hub *hub);
/* Asks to be told when the hold of a grant ends. */
void hub_follow(struct request *grant);
/* Settles the grants that other threads have ended. */
void hub_settle(struct evfilelock *ev);
/* Hears other threads from now on; false if they cannot be heard. */
bool hub_hear(struct evfilelock *ev);

/* engine.c */
/* Cancels a request without telling: the next pass does. */
void request_cancel(struct request *request);
/* The one place where callbacks are called. The request is in no list, or a grant. */
void request_complete(struct request *request, int result);
/* Without a callback: in a forked child. */
void request_drop(struct request *request);
/* When neither a list nor a callback nor a handle knows it. */
void request_free(struct request *request);
void pass_on_timer(evutil_socket_t fd, short events, void *arg);
struct event *context_event(struct evfilelock *ev, int fd, event_callback_fn callback);
/* Takes the timer back, also if it has fired in this turn and is to run yet. */
void pass_disarm(struct evfilelock *ev);
/* Sets the timer, and listens to the watcher, as what is pending demands. False: no memory. */
bool pass_arm(struct evfilelock *ev);
/* The same where there is nobody to tell; a pass that runs does it at its end. */
void pass_arm_surely(struct evfilelock *ev);

/* set.c */
/* What is left of the sets: in a forked child. */
void sets_free(struct evfilelock *ev);

/* event.c */
/* As evfilelock_release, also while the context is being freed: a worker then goes on with it. */
int request_release(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb, void *arg);
/* Puts a request that has begun where it belongs. 0, or -ENOMEM. */
/* Of the handle's request: evfilelock_cancel but for sets. */
int event_cancel(struct evfilelock *ev, struct filelock *lock);
int request_enlist(struct request *request, int64_t now);
bool timeout_is_valid(const struct timeval *timeout);
/* In nanoseconds, below zero for ever; what cannot be told from it is. */
int64_t timeout_ns(const struct timeval *timeout);
void context_destroy(struct evfilelock *ev);

#endif
