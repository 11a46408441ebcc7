/*
 * process.c - what goes into the object of each process beside the library and SQLite: a heap, a
 * pid, an exit, and SQLite's system calls.
 *
 * malloc, getpid, rename and atexit are defined here, so that whatever is linked into the same
 * object calls these instead of the C library's. The heap is an arena of which nothing is used
 * again, so that restoring the section's bytes takes everything back, after a crash in the middle
 * of a call as well.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "library.h"
#include "sim.h"

#ifdef FILELOCK_SQLITE
#include <sqlite3.h>
#endif

enum { ALIGNMENT = 16, MOST_HANDLERS = 4 };

static struct {
	unsigned number;
	char *heap;
	size_t used, size;
	void (*handlers[MOST_HANDLERS])(void);
	int handler_count;
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
	.exit = run_handlers,
};
