#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/sys.h"

#define SECOND INT64_C(1000000000)
#define STACK_SIZE ((size_t)128 * 1024)

static int start_detached(pthread_t *ret_thread, void *(*run)(void *arg), void *arg, size_t stack)
{
	pthread_attr_t attributes;
	int r;

	(void)pthread_attr_init(&attributes);
	(void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	if (stack)
		(void)pthread_attr_setstacksize(&attributes, stack);
	r = sys.pthread_create(ret_thread, &attributes, run, arg);
	(void)pthread_attr_destroy(&attributes);
	return -r;
}

int thread_start(pthread_t *ret_thread, void *(*run)(void *arg), void *arg)
{
	sigset_t all, before;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	r = start_detached(ret_thread, run, arg, STACK_SIZE);
	if (r == -EINVAL) /* too small for the program's thread-local variables */
		r = start_detached(ret_thread, run, arg, 0);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	return r;
}

void thread_init_condition(pthread_cond_t *condition)
{
	pthread_condattr_t attributes; /* none of these fails, on Linux */

	(void)pthread_condattr_init(&attributes);
	(void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	(void)pthread_cond_init(condition, &attributes);
	(void)pthread_condattr_destroy(&attributes);
}

int64_t thread_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * SECOND + t.tv_nsec;
}

void thread_sleep_until(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t until)
{
	struct timespec at = { until / SECOND, until % SECOND };

	(void)pthread_cond_timedwait(condition, mutex, &at);
}
