/*
 * thread.h - threads of the library's own: detached, with a small stack, and with none of the
 * program's signals.
 */
#ifndef FILELOCK_THREAD_H
#define FILELOCK_THREAD_H

#include <pthread.h>
#include <stdint.h>

/* 0 or a negative error. */
int thread_start(pthread_t *ret_thread, void *(*run)(void *arg), void *arg);

/* For pthread_cond_timedwait(3) by CLOCK_MONOTONIC, whatever the library's clock says: such a
   condition, that clock, and a sleep until then. */
void thread_init_condition(pthread_cond_t *condition);
int64_t thread_now(void);
void thread_sleep_until(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until);

#endif
