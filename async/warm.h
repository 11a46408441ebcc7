/*
 * warm.h - descriptors of locks that come again at once.
 */
#ifndef EVFILELOCK_WARM_H
#define EVFILELOCK_WARM_H

#include "context.h"

/* Whether the release of this handle, a grant of the queue, is to leave its descriptor open. */
bool warm_is_worth_it(const struct queue *queue, const struct filelock *lock);
/* Takes over what the release has left open. True: a timer is to be armed. */
bool warm_put(struct queue *queue, struct filelock *lock);
/* Gives it to a handle that is about to attempt. */
void warm_lend(struct queue *queue, struct filelock *lock);
/* The timer of the queue has passed. */
void warm_take_timer(struct queue *queue);
/* Closes all. Whether there was any. */
bool warm_drop_all(struct evfilelock *ev);
/* Queues that exist for that only. */
size_t warm_count_idle(const struct evfilelock *ev);
/* Closes all if nothing else keeps the loop running. */
void warm_let_loop_end(struct evfilelock *ev);

#endif
