/*
 * queue.h - requests for one lock in one context, the holds that came of them, and the queues that
 * have something to do. Pure: nothing here calls the system, libevent or a callback.
 */
#ifndef EVFILELOCK_QUEUE_H
#define EVFILELOCK_QUEUE_H

#include <filelock/event.h>

#include "count.h"
#include "driver_private.h"
#include "mailbox.h"
#include "timers.h"
#include "base/hash.h" /* header only: async/ uses nothing hidden of lib/ */

struct job;
struct keeper;

/* Moved by request.c alone, which draws the picture. */
enum request_state {
	REQUEST_NEW,       /* in no list */
	REQUEST_QUEUED,    /* in its queue */
	REQUEST_NESTING,   /* in ev->prompt: its handle holds the lock */
	REQUEST_CANCELLED, /* in ev->prompt: to be answered with its result */
	REQUEST_DELEGATED, /* in ev->errands: a worker is at it */
	REQUEST_KNOWN,     /* in ev->prompt: an errand whose result is known */
	REQUEST_GRANTED,   /* in its queue's grants: its callback is to come, or is running */
	REQUEST_HELD,      /* the same, after its callback */
	REQUEST_TOLD,      /* in no list: its callback is to come, or is running */
	REQUEST_ENDED,     /* its memory goes */
};

/* A request; and then, until its hold ends, the grant. */
struct request {
	struct list link;
	struct mail mail; /* of a grant that another thread has ended */
	struct evfilelock *ev;
	struct mailbox *mailbox; /* of a grant, with a reference; else NULL */
	struct queue *queue;     /* NULL: in no queue; of a grant: the context was freed */
	struct filelock *lock;   /* with a reference */
	evfilelock_cb cb;
	void *arg;
	void *room; /* of an errand; NULL: none */
	struct timer deadline;
	int64_t expires; /* the deadline itself */
	struct keeper *keeper; /* of a grant, once it was needed */
	struct filelock_kept kept; /* of a grant */
	int64_t keep_after;        /* of a grant: how long after the grant, or FILELOCK_NEVER */
	struct job *job; /* its attempts, or its release, on a worker; NULL: none */
	uint64_t id;
	int64_t since; /* when it was asked for; of a grant ended on another thread: when */
	int result;    /* the answer, once it is known */
	uint32_t born; /* a turn that must not answer it */
	unsigned char state; /* enum request_state */
	unsigned char mode;  /* enum filelock_mode */
	bool is_errand;      /* a release, or a question, but no acquisition */
	bool last_call;      /* its deadline has passed, and a worker is at it */
	bool slow;           /* it waits for long, and that was said */
};

static inline struct request *request_at(struct list *link)
{
	return link ? list_entry(link, struct request, link) : NULL;
}

/* Moved by queue.c alone. */
enum queue_state {
	QUEUE_EMPTY,   /* nobody waits; perhaps there are grants */
	QUEUE_READY,   /* in the list of queues to serve */
	QUEUE_SERVED,  /* its first request is being stepped */
	QUEUE_TIMED,   /* until an event, or its timer */
	QUEUE_BLOCKED, /* until a hold of its own ends, or a worker comes back */
};

/* All queues of a context. */
struct queues {
	struct hash table;
	struct list ready;
	unsigned blocked; /* queues */
	size_t waiting;   /* requests in queues */
	struct count busy, longest; /* queues with requests; how many the longest one has */
	uint32_t *of_length; /* how many queues have i requests, for 0 < i < lengths */
	uint32_t lengths;
	struct timers *timers;
};

/* First come first served. Only the first one's handle is stepped, so only it has a descriptor and
   a watch. */
struct queue {
	struct hash_node node;
	struct queues *queues;
	struct evfilelock *ev;
	struct list requests, grants;
	struct list ready_link, budget_link;
	uint32_t length; /* of requests */
	enum queue_state state;
	bool again;         /* made ready while it is served */
	bool handed_over;   /* the first request has the hold that handovers counts */
	bool last_call;     /* some of its requests are at their deadline, and wait for a worker */
	unsigned char refused_mode; /* enum filelock_mode: what refused_at asked for */
	unsigned handovers; /* of the hold taken at taken_at */
	int64_t taken_at;   /* from the system, the hold that is handed over now */
	int64_t refused_at; /* when the last attempt found the lock held */
	int64_t slow_at;    /* when a slow wait was last told */
	struct timer poll;  /* when to step the first one next */
	uint32_t rested;    /* the turn in which it has nothing more to do */
	const struct filelock *orphan; /* a worker is at it, and no request has use of that */
	struct filelock *warm; /* keeps a descriptor for the next request: warm.c; NULL: none */
	struct list warm_link;
	struct timer warm_timer;
	int64_t warm_at; /* when it was put there last */
};

void queues_init(struct queues *queues, struct timers *timers);
/* When no queue is left. */
void queues_free(struct queues *queues);

/* The queue of this lock, made if there is none, with room for one request more. NULL: out of memory.
   turn: the one that runs. */
struct queue *queue_get(struct queues *queues, const struct filelock *lock,
                        struct evfilelock *ev, uint32_t turn);
/* At its end; and out of it. */
void queue_add(struct queue *queue, struct request *request);
void queue_remove(struct queue *queue, struct request *request);
/* Frees a queue that nobody has use of, unless it is being served. */
void queue_free_if_unused(struct queue *queue);

static inline struct request *queue_first(const struct queue *queue)
{
	return request_at(list_first(&queue->requests));
}

static inline struct request *queue_next(const struct queue *queue, const struct request *request)
{
	return request_at(list_next(&queue->requests, &request->link));
}

/* Something may have changed for its first request, if there is one. */
void queue_make_ready(struct queue *queue);
/* The next one to be served, SERVED from now on; NULL: all others rest until the next turn. */
struct queue *queues_take_ready(struct queues *queues, uint32_t turn);
/* It was served: its first request waits as `state` says; READY, it is to be served again. */
void queue_end_service(struct queue *queue, enum queue_state state);

/* Whether it has neither requests nor grants. */
bool queue_is_idle(const struct queue *queue);
/* Whether the first request has to wait for a hold of the same queue. */
bool queue_waits_for_itself(const struct queue *queue);
/* An attempt of its first request, begun at that time, found the lock held. */
void queue_note_refusal(struct queue *queue, const struct request *request, int64_t at);
/* Whether an attempt at its deadline, or later, was refused to the request as well. */
bool queue_has_refused(const struct request *request);

#endif
