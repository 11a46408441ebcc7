/*
 * handle.c - calls on a handle that the layers below filelock.c make.
 */
#include "handle.h"

#include <errno.h>
#include <string.h>

#include "base/path.h"
#include "base/sys.h"

void handle_wake(struct filelock *lock)
{
	struct acquisition *a = &lock->acquisition;

	atomic_store_explicit(&a->woken, true, memory_order_relaxed);
	if (a->driver && a->driver->woken)
		a->driver->woken(lock, a->arg);
}

FILELOCK_API void filelock_rouse(struct filelock *lock)
{
	if (acquisition_is_pending(&lock->acquisition))
		handle_wake(lock);
}

FILELOCK_API bool filelock_pends(const struct filelock *lock)
{
	return lock->kind->pends;
}

FILELOCK_API void *filelock_state(const struct filelock *lock)
{
	return kind_state(lock);
}

int handle_make_parents(const struct filelock *lock)
{
	return lock->options.no_parents ? -ENOENT : path_make_parents(lock->path);
}

FILELOCK_API int filelock_compare(const struct filelock *a, const struct filelock *b)
{
	int r;

	/* as they were opened: what changes its kind stays in its queue */
	if (a->asked != b->asked)
		return a->asked->id < b->asked->id ? -1 : 1;
	r = strcmp(a->path, b->path);
	return r == 0 && a->asked->compare ? a->asked->compare(a, b) : r;
}

FILELOCK_API size_t filelock_hash(const struct filelock *lock)
{
	return lock->hash;
}

FILELOCK_API bool filelock_is_inherited(const struct filelock *lock)
{
	return lock->inherited;
}

FILELOCK_API int filelock_fail(struct filelock *lock, int code, const char *what,
                               const char *detail)
{
	char *copy = detail ? sys_strdup(detail) : NULL;

	if (!copy)
		return handle_refuse(lock, code, what);
	(void)failure_set_detail(&lock->failure, code, what, copy);
	lock->failure.own = code == -EINVAL; /* an argument, not a system call's */
	return code;
}
