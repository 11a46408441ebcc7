/*
 * error.c - the sentences of errors, and the log.
 */
#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

#ifdef __GLIBC__
#if __GLIBC_PREREQ(2, 32)
#define HAVE_STRERRORDESC
#endif
#endif

/* Codes of the system's that hardly a system call of ours gives, or by which it says just this. */
#define SENTENCES(X)                                                                 \
	X(EALREADY, "an asynchronous request for this handle is pending")            \
	X(EBADMSG, "the file is neither empty nor an SQLite database")               \
	X(ECANCELED, "the wait was cancelled")                                       \
	X(EDEADLK, "this thread or handle would wait for itself")                    \
	X(ELOOP, "a symbolic link stands at the path, and is not followed")          \
	X(ETIMEDOUT, "the lock did not come free in time")

/* What they mean where the library itself refuses. */
#define REFUSALS(X)                                                                  \
	X(EBUSY, "this handle holds the lock, or waits for it: end that instead")    \
	X(EINVAL, "an argument is out of its range")                                 \
	X(EOPNOTSUPP, "this kind of lock cannot do that")                            \
	X(EPERM, "this handle does not hold the lock")                               \
	X(ETIMEDOUT,                                                                 \
	  "the lock did not come free in time; filelock_describe_holder names its holder")

#define CASE(name, sentence) \
	case -name:          \
		return sentence;

/* NULL: it has none. */
static const char *system_text(int number)
{
#ifdef HAVE_STRERRORDESC
	return strerrordesc_np(number);
#else
	const char *text = strerror(number);
	const char *unknown = "No error information"; /* musl */

	return strncmp(text, "Unknown error", 13) == 0 || strcmp(text, unknown) == 0 ? NULL
	                                                                             : text;
#endif
}

static const char *text_of(int error)
{
	static _Thread_local char number[40];
	const char *text =
	        error < 0 && error > FILELOCK_ERROR_LAST_ ? system_text(-error) : NULL;

	if (text)
		return text;
	(void)snprintf(number, sizeof(number), "unknown error %lld",
	               error < 0 ? -(long long)error : (long long)error);
	return number;
}

FILELOCK_API const char *filelock_strerror(int error)
{
	switch (error) {
#define OWN(name, value, sentence) \
	case name:                 \
		return sentence;
		FILELOCK_ERRORS(OWN)
#undef OWN
		SENTENCES(CASE)
	case 0:
		return "success";
	default:
		return text_of(error);
	}
}

static const char *refusal(int code)
{
	switch (code) {
		REFUSALS(CASE)
	default:
		return filelock_strerror(code);
	}
}

static const char *failure_text(const struct failure *failure)
{
	if (failure->own)
		return refusal(failure->code);
	/* of a system call, on a network file system */
	return failure->code == -ETIMEDOUT ? text_of(failure->code)
	                                   : filelock_strerror(failure->code);
}

int failure_set(struct failure *failure, int code, const char *what)
{
	return failure_set_detail(failure, code, what, NULL);
}

int failure_set_own(struct failure *failure, int code, const char *what)
{
	(void)failure_set(failure, code, what);
	failure->own = true;
	return code;
}

int failure_set_detail(struct failure *failure, int code, const char *what, char *detail)
{
	/* taken out before it is freed: a fork may come between */
	char *old = failure->detail;

	failure->code = code;
	failure->own = false;
	failure->what = what;
	failure->detail = detail;
	free(old);
	return code;
}

void failure_clear(struct failure *failure)
{
	free(failure->detail);
	free(failure->sentence);
	*failure = (struct failure){ 0 };
}

const char *failure_sentence(struct failure *failure, const char *path)
{
	const char *text;
	char *old = failure->sentence;

	if (failure->code == 0)
		return "";
	text = failure_text(failure);
	failure->sentence = sys_format("%s %s: %s%s%s", failure->what, path, text,
	                               failure->detail ? ": " : "",
	                               failure->detail ? failure->detail : "");
	free(old);
	return failure->sentence ? failure->sentence : text;
}

static _Thread_local char open_sentence[512];

int open_failure(int code, const char *path, const char *what, const char *detail)
{
	(void)snprintf(open_sentence, sizeof(open_sentence), "%s %.300s: %s%s%s", what,
	               path ? path : "(null)", detail ? refusal(code) : filelock_strerror(code),
	               detail ? ": " : "", detail ? detail : "");
	return code;
}

void open_failure_copy(const char *sentence)
{
	(void)snprintf(open_sentence, sizeof(open_sentence), "%s", sentence);
}

const char *open_failure_sentence(void)
{
	return open_sentence;
}

static struct {
	pthread_mutex_t mutex;
	filelock_log_cb cb;
	void *arg;
	atomic_int up_to; /* -1: nobody listens */
} logger = { .mutex = PTHREAD_MUTEX_INITIALIZER, .up_to = -1 };

FILELOCK_API void filelock_set_log(filelock_log_cb cb, void *arg, enum filelock_log_level up_to)
{
	pthread_mutex_lock(&logger.mutex);
	logger.cb = cb;
	logger.arg = arg;
	atomic_store(&logger.up_to, cb ? (int)up_to : -1);
	pthread_mutex_unlock(&logger.mutex);
}

bool log_wants(enum filelock_log_level level)
{
	return (int)level <= atomic_load_explicit(&logger.up_to, memory_order_relaxed);
}

static void log_arguments(enum filelock_log_level level, const char *format,
                          va_list arguments)
{
	char message[512];
	filelock_log_cb cb;
	void *arg;

	if (!log_wants(level))
		return;
	(void)vsnprintf(message, sizeof(message), format, arguments);
	pthread_mutex_lock(&logger.mutex);
	cb = logger.cb;
	arg = logger.arg;
	pthread_mutex_unlock(&logger.mutex);
	if (cb)
		cb(level, message, arg);
}

void log_write(enum filelock_log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_arguments(level, format, arguments);
	va_end(arguments);
}

FILELOCK_API bool filelock_logs(enum filelock_log_level level)
{
	return log_wants(level);
}

FILELOCK_API void filelock_log(enum filelock_log_level level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	log_arguments(level, format, arguments);
	va_end(arguments);
}

void log_before_fork(void)
{
	(void)pthread_mutex_lock(&logger.mutex);
}

void log_after_fork(void)
{
	(void)pthread_mutex_unlock(&logger.mutex);
}
