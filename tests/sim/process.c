/*
 * process.c - what goes into the object of each process beside the library and SQLite: a heap, a
 * pid, an exit, and SQLite's system calls.
 *
 * malloc, getpid, rename, atexit and what the library uses of pthreads are defined here, so that
 * whatever is linked into the same object calls these instead of the C library's. The heap is an
 * arena of which nothing is used again, so that restoring the section's bytes takes everything back,
 * after a crash in the middle of a call as well.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "library.h"
#include "processes.h"
#include "sim.h"

#ifdef FILELOCK_SQLITE
#include <sqlite3.h>
#endif

enum { ALIGNMENT = 16, MOST_HANDLERS = 4 };

struct thread {
	bool disabled, cancelled; /* pthread_cancel(3) */
	__pthread_unwind_buf_t *cleanup;
};

static struct {
	unsigned number;
	char *heap;
	size_t used, size;
	void (*handlers[MOST_HANDLERS])(void);
	int handler_count;
	struct thread threads[SIM_TASKS];
} self;

void *malloc(size_t size)
{
	size_t *block = (size_t *)(void *)(self.heap + self.used);
	size_t taken = (size + ALIGNMENT + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

	if (taken < size || taken > self.size - self.used)
		return NULL;
	self.used += taken;
	*block = size;
	return (char *)block + ALIGNMENT;
}

void free(void *block)
{
	(void)block;
}

void *calloc(size_t n, size_t size)
{
	void *block = size && n > SIZE_MAX / size ? NULL : malloc(n * size);

	return block ? memset(block, 0, n * size) : NULL;
}

void *realloc(void *block, size_t size)
{
	size_t old = block ? *(const size_t *)(void *)((char *)block - ALIGNMENT) : 0;
	void *bigger = size > old ? malloc(size) : block;

	if (bigger && bigger != block && old)
		memcpy(bigger, block, old);
	return bigger;
}

/* By a planted bug that breaks stale markers as it is done elsewhere. */
int rename(const char *from, const char *to)
{
	return sim_rename(from, to);
}

pid_t getpid(void)
{
	return SIM_PID(self.number);
}

int atexit(void (*handler)(void))
{
	if (self.handler_count == MOST_HANDLERS)
		return -1;
	self.handlers[self.handler_count++] = handler;
	return 0;
}

static void run_handlers(void)
{
	while (self.handler_count > 0)
		self.handlers[--self.handler_count]();
}

/* --- threads, of which one runs at a time, and is left in a call of the kernel alone --- */

int clock_gettime(clockid_t clock, struct timespec *ret)
{
	int64_t now = sim_calls.now();

	(void)clock;
	*ret = (struct timespec){ now / 1000000000, now % 1000000000 };
	return 0;
}

static int start_thread(pthread_t *ret, const pthread_attr_t *attributes, void *(*run)(void *arg),
                        void *arg)
{
	unsigned task;

	(void)attributes;
	if (processes_start_thread(run, arg, &task) < 0)
		return EAGAIN;
	self.threads[task] = (struct thread){ 0 };
	*ret = task;
	return 0;
}

/* Recursive, whatever its type: whoever waits for itself would wait for ever elsewhere. */
int pthread_mutex_lock(pthread_mutex_t *mutex)
{
	int me = (int)sim_task() + 1;

	while (mutex->__data.__lock && mutex->__data.__lock != me)
		sim_wait_at(mutex, INT64_MAX);
	mutex->__data.__lock = me;
	mutex->__data.__count++;
	return 0;
}

int pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	if (mutex->__data.__lock && mutex->__data.__lock != (int)sim_task() + 1)
		return EBUSY;
	return pthread_mutex_lock(mutex);
}

int pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	if (--mutex->__data.__count > 0)
		return 0;
	mutex->__data.__lock = 0;
	sim_wake_at(mutex);
	return 0;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           const struct timespec *at)
{
	(void)pthread_mutex_unlock(mutex);
	sim_wait_at(cond, (int64_t)at->tv_sec * 1000000000 + at->tv_nsec);
	return pthread_mutex_lock(mutex);
}

int pthread_cond_signal(pthread_cond_t *cond)
{
	sim_wake_at(cond);
	return 0;
}

/* --- cancelling them: by what pthread_cleanup_push(3) is made of in glibc --- */

static struct thread *this_thread(void)
{
	return &self.threads[sim_task()];
}

static void cancel_if_asked(void)
{
	struct thread *thread = this_thread();
	void *volatile where; /* begins as a jmp_buf does, which is larger */

	if (!thread->cancelled || thread->disabled || !thread->cleanup)
		return;
	thread->disabled = true;
	where = thread->cleanup->__cancel_jmp_buf;
	longjmp(where, 1);
}

void __pthread_register_cancel(__pthread_unwind_buf_t *buffer)
{
	this_thread()->cleanup = buffer;
}

void __pthread_unregister_cancel(__pthread_unwind_buf_t *buffer)
{
	(void)buffer;
	this_thread()->cleanup = NULL;
}

void __pthread_unwind_next(__pthread_unwind_buf_t *buffer)
{
	(void)buffer;
	processes_end_thread();
}

int pthread_setcancelstate(int state, int *ret_old)
{
	if (ret_old)
		*ret_old = this_thread()->disabled ? PTHREAD_CANCEL_DISABLE
		                                   : PTHREAD_CANCEL_ENABLE;
	this_thread()->disabled = state == PTHREAD_CANCEL_DISABLE;
	return 0;
}

int pthread_setcanceltype(int type, int *ret_old)
{
	if (ret_old)
		*ret_old = PTHREAD_CANCEL_DEFERRED;
	if (type == PTHREAD_CANCEL_ASYNCHRONOUS)
		cancel_if_asked();
	return 0;
}

int pthread_cancel(pthread_t thread)
{
	self.threads[thread].cancelled = true;
	sim_interrupt((unsigned)thread);
	return 0;
}

static int interruptible_flock(int fd, int operation)
{
	int r;

	cancel_if_asked();
	r = sim_calls.flock(fd, operation);
	cancel_if_asked();
	return r;
}

static size_t heap_used(void)
{
	return self.used;
}

#ifdef FILELOCK_SQLITE
static int lite_open(const char *path, int flags, int mode)
{
	return sim_calls.open(path, flags, (mode_t)mode);
}

static void redirect_sqlite(void)
{
	const struct {
		const char *name;
		sqlite3_syscall_ptr call;
	} calls[] = {
		{ "open", (sqlite3_syscall_ptr)lite_open },
		{ "close", (sqlite3_syscall_ptr)sim_calls.close },
		{ "access", (sqlite3_syscall_ptr)sim_access },
		{ "getcwd", (sqlite3_syscall_ptr)sim_calls.getcwd },
		{ "stat", (sqlite3_syscall_ptr)sim_stat },
		{ "fstat", (sqlite3_syscall_ptr)sim_calls.fstat },
		{ "lstat", (sqlite3_syscall_ptr)sim_calls.lstat },
		{ "readlink", (sqlite3_syscall_ptr)sim_calls.readlink },
		{ "ftruncate", (sqlite3_syscall_ptr)sim_calls.ftruncate },
		{ "fcntl", (sqlite3_syscall_ptr)sim_fcntl },
		{ "read", (sqlite3_syscall_ptr)sim_calls.read },
		{ "pread", (sqlite3_syscall_ptr)sim_calls.pread },
		{ "pread64", (sqlite3_syscall_ptr)sim_calls.pread },
		{ "write", (sqlite3_syscall_ptr)sim_calls.write },
		{ "pwrite", (sqlite3_syscall_ptr)sim_calls.pwrite },
		{ "pwrite64", (sqlite3_syscall_ptr)sim_calls.pwrite },
		{ "unlink", (sqlite3_syscall_ptr)sim_calls.unlink },
	};
	sqlite3_vfs *vfs = sqlite3_vfs_find("unix");

	for (size_t i = 0; vfs && i < sizeof(calls) / sizeof(*calls); i++)
		(void)vfs->xSetSystemCall(vfs, calls[i].name, calls[i].call);
}
#else
static void redirect_sqlite(void)
{
}
#endif

static void prepare(unsigned number, char *heap, size_t size)
{
	self.number = number;
	self.heap = heap;
	self.size = size;
	sys = sim_calls;
	sys.calloc = calloc;
	sys.pthread_create = start_thread;
	sys.flock = interruptible_flock;
	redirect_sqlite();
}

/* The one name that stays: sim_library_0, … in the program. */
extern const struct library sim_library;
const struct library sim_library = {
	.prepare = prepare,
	.heap_used = heap_used,
	.open = filelock_open,
	.acquire = filelock_acquire,
	.release = filelock_release,
	.close = filelock_close,
	.verify = filelock_verify,
	.break_lock = filelock_break,
	.submit = helpers_submit,
	.adopt = helpers_adopt,
	.take = helpers_take,
	.cancel = helpers_cancel,
	.note_silence = crowd_note_silence,
	.exit = run_handlers,
};
