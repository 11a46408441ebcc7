/*
 * engine.h - one turn of the loop.
 */
#ifndef EVFILELOCK_ENGINE_H
#define EVFILELOCK_ENGINE_H

#include "context.h"

/* The context's events on its base. 0, or -ENOMEM. */
int engine_open(struct evfilelock *ev, struct event_base *base, int priority);
/* The context goes, when nothing of it is pending, or in a forked child. */
void engine_destroy(struct evfilelock *ev);

#endif
