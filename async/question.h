/*
 * question.h - who holds a lock, asked on another thread.
 */
#ifndef EVFILELOCK_QUESTION_H
#define EVFILELOCK_QUESTION_H

#include "context.h"

/* evfilelock_holder. */
int question_ask(struct evfilelock *ev, struct filelock *lock, evfilelock_holder_cb cb, void *arg);

#endif
