/*
 * event.h - calls of the public face that sets need, too.
 */
#ifndef EVFILELOCK_EVENT_H
#define EVFILELOCK_EVENT_H

#include "context.h"

/* Where the program enters. FILELOCK_EFORKED: in a child, of a context that held or waited. */
int event_enter(struct evfilelock *ev);

/* Notes a refusal for filelock_last_error, of the handle, or of the thread if that is NULL, and returns its
   code. detail: NULL, or more words. */
int event_refuse(struct filelock *lock, int code, const char *what, const char *detail);
#define EVENT_WRONG_TIMEOUT "in the timeout tv_sec is below 0, or tv_usec not from 0 to 999999"
/* evfilelock_cancel, but for sets. */
int event_cancel(struct evfilelock *ev, struct filelock *lock);
/* As evfilelock_release, also while the context is being freed: a worker then goes on with it. */
int event_release(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb, void *arg);
/* Whether a release is made by a worker. */
bool event_releases_by_worker(const struct evfilelock *ev, const struct filelock *lock);
bool event_timeout_is_valid(const struct timeval *timeout);
/* In nanoseconds; below zero for ever, also for a time out of range. */
int64_t event_timeout_ns(const struct timeval *timeout);

#endif
