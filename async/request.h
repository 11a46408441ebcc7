/*
 * request.h - every transition of a request, its queue and its grant.
 */
#ifndef EVFILELOCK_REQUEST_H
#define EVFILELOCK_REQUEST_H

#include "context.h"

/* Fills the driver of the requests' handles. */
void request_init_driver(struct evfilelock *ev);

/* NULL: out of memory. It has no reference to its handle yet. */
struct request *request_new(struct evfilelock *ev, struct filelock *lock, enum filelock_mode mode,
                            evfilelock_cb cb, void *arg);
/* Its arg, from now on: so much memory that goes with it. NULL: none is left. */
void *request_add_room(struct request *request, size_t size);
/* One that nobody was promised an answer to. */
void request_discard(struct request *request);
/* Puts one that has begun where it belongs. 0, or -ENOMEM. */
int request_enlist(struct request *request, int64_t now);
/* And out of there again. */
void request_unlist(struct request *request);
/* It releases, and a worker is at it; or the result is known, and is to be told. */
void request_delegate(struct request *request);
void request_know(struct request *request, int result);

/* Takes one out of its queue, which is freed with its last one unless it is being served. */
void request_leave(struct request *request);
/* The one place where callbacks are called. The request is in no list, or a grant. */
void request_answer(struct request *request, int result);
/* Leaves its queue, gives up, and is answered. */
void request_end(struct request *request, int result);
/* Without a callback: in a forked child. In no list. */
void request_drop(struct request *request);
/* Cancels one without telling: the next turn does. False: it is not pending. */
bool request_cancel(struct request *request);

/* The queue's first request holds the lock: it becomes a grant. */
void request_grant(struct request *request);
/* Hands the hold of a grant, or of a request that it was handed over to, on to the next request. */
bool request_hand_over(struct request *from, struct request *to);
/* The hold of a grant has ended. lock: its handle, or NULL if that may be gone. */
void request_settle(struct request *grant, struct filelock *lock);

/* The queue blocks; false if what it waits for could not be heard. */
bool request_may_block(struct queue *queue);
/* In a context that goes: its grants are on their own, and it is freed. */
void request_orphan_grants(struct queue *queue);

#endif
