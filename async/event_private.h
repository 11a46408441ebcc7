/*
 * event_private.h - what etcd/ needs of async/ beyond event.h. Not installed.
 */
#ifndef EVFILELOCK_EVENT_PRIVATE_H
#define EVFILELOCK_EVENT_PRIVATE_H

#include <filelock/event.h>

/* The caller's base that the context is on. */
FILELOCK_API struct event_base *evfilelock_base(const struct evfilelock *ev);
/* In a forked child, of a context of the parent's that held or waited. */
FILELOCK_API bool evfilelock_is_inherited(struct evfilelock *ev);

#endif
