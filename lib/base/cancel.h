/*
 * cancel.h - delays pthread_cancel(3) of a thread inside the library, while it would leave
 * something half done.
 */
#ifndef FILELOCK_CANCEL_H
#define FILELOCK_CANCEL_H

#include <pthread.h>

static inline int cancel_off(void)
{
	int before = PTHREAD_CANCEL_ENABLE;

	(void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &before);
	return before;
}

static inline void cancel_restore(int before)
{
	(void)pthread_setcancelstate(before, NULL);
}

#endif
