#include "base/error.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "base/sys.h"

/* Where the library says more than the system does. */
#define SENTENCES(X)                                                                 \
	X(EAGAIN, "somebody else holds the lock")                                    \
	X(EALREADY, "an asynchronous request for this handle is pending")            \
	X(EBADF, "the descriptor is not open")                                       \
	X(EBADMSG, "the file is neither empty nor an SQLite database")               \
	X(EBUSY, "this handle holds the lock: release it instead")                     \
	X(ECANCELED, "the wait was cancelled")                                       \
	X(EDEADLK, "this thread or handle would wait for itself")                    \
	X(EINVAL, "an argument is out of its range")                                 \
	X(EISDIR, "a directory stands at the path")                                  \
	X(ELOOP, "a symbolic link stands at the path, and is not followed")          \
	X(EOPNOTSUPP, "this kind of lock cannot do that")                              \
	X(EPERM, "not permitted, or the lock is not held by this handle")            \
	X(ESTALE, "the path no longer names the file that is held")                  \
	X(ETIMEDOUT, "the lock was not had in time")

FILELOCK_API const char *filelock_strerror(int error)
{
	const char *text;

	switch (error) {
#define OWN(name, value, sentence) \
	case name:                 \
		return sentence;
		FILELOCK_ERRORS(OWN)
#undef OWN
#define SYSTEM(name, sentence) \
	case -name:            \
		return sentence;
		SENTENCES(SYSTEM)
#undef SYSTEM
	case 0:
		return "success";
	default:
		text = error < 0 && error > FILELOCK_ERROR_LAST_ ? strerrordesc_np(-error)
		                                                 : NULL;
		return text ? text : "unknown error";
	}
}

int failure_set(struct failure *failure, int code, const char *what)
{
	return failure_set_detail(failure, code, what, NULL);
}

int failure_set_detail(struct failure *failure, int code, const char *what, char *detail)
{
	/* taken out before it is freed: a fork may come between */
	char *old = failure->detail;

	failure->code = code;
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

/* "held by pid 4242 on host since …", or what is known instead; NULL out of memory. */
static char *describe_holder(const struct filelock *lock)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int r = filelock_holder(lock, &owner);

	if (r < 0)
		return sys_format("%s", filelock_strerror(r));
	return sys_format("%s holds it%s: pid %ld on %s",
	                  owner.mode == FILELOCK_SHARED ? "a shared holder" : "its holder",
	                  owner.mode == FILELOCK_SHARED ? "" : " exclusively",
	                  (long)owner.pid, owner.host[0] ? owner.host : "an unknown host");
}

static char *make_sentence(const struct filelock *lock)
{
	const struct failure *failure = &lock->failure;
	const char *text = filelock_strerror(failure->code);
	char *sentence;
	char *holder = NULL;

	if (failure->code == -ETIMEDOUT)
		holder = describe_holder(lock);
	sentence = sys_format("%s %s: %s%s%s%s%s", failure->what, lock->path, text,
	                      failure->detail ? ": " : "",
	                      failure->detail ? failure->detail : "",
	                      holder ? "; " : "", holder ? holder : "");
	free(holder);
	return sentence;
}

static _Thread_local char open_sentence[512];

int open_failure(int code, const char *path, const char *what, const char *detail)
{
	(void)snprintf(open_sentence, sizeof(open_sentence), "%s %.300s: %s%s%s", what,
	               path ? path : "(null)", filelock_strerror(code), detail ? ": " : "",
	               detail ? detail : "");
	return code;
}

FILELOCK_API const char *filelock_last_error(const struct filelock *lock)
{
	/* the sentence is a cache: making it changes nothing that the caller can see */
	struct failure *failure = lock ? &((struct filelock *)lock)->failure : NULL;
	char *old;

	if (!failure)
		return open_sentence;
	if (failure->code == 0)
		return "";
	old = failure->sentence;
	failure->sentence = make_sentence(lock);
	free(old);
	return failure->sentence ? failure->sentence : filelock_strerror(failure->code);
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
