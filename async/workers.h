/*
 * workers.h - attempts and releases on threads of the context, for file systems whose calls take
 * long.
 */
#ifndef EVFILELOCK_WORKERS_H
#define EVFILELOCK_WORKERS_H

#include "request.h"

/* A descriptor that is the caller's, and may be closed before a worker returns, is the loop's; so is
   what calls by itself. */
static inline bool workers_are_for(const struct evfilelock *ev, const struct filelock *lock)
{
	return ev->workers && !filelock_is_borrowed(lock) && !filelock_pends(lock);
}

/* So many threads. 0, or -ENOMEM, -EMFILE, -EAGAIN. */
int workers_start(struct evfilelock *ev, unsigned n, struct workers **ret_workers);
/* Threads that may ask what takes long: the context's, or a helper of their own. 0, or an error. */
int workers_for_questions(struct evfilelock *ev, struct workers **ret_workers);
/* Serves the first request, which the context's workers attempt; and how it waits, or SERVED. */
enum queue_state workers_serve(struct queue *queue);
/* Attempts the request's lock at once. */
void workers_hasten(struct request *request);
/* Releases on a worker; or an error, and nothing was done. */
int workers_release(struct request *request);
/* Takes an errand out of their hands: they go on by themselves. */
void workers_abandon(struct request *request);
/* It is held by others: ends what waits for that one attempt, and had its deadline by then. */
void workers_refused(struct queue *queue, int64_t at);
/* Takes back what the workers have done, if there are any. */
void workers_collect(struct workers *workers);
/* The context goes, and its watcher with the last of its threads: they end what they have begun by
   themselves. */
void workers_leave(struct evfilelock *ev);

#endif
