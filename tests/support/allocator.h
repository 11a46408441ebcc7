/*
 * allocator.h - the allocator of a program that includes this, in one file: it stands before the C
 * library's for every object of the program, so it makes our allocations fail as well as
 * libevent's and SQLite's, and counts what is not freed. Beside a sanitizer, which has one of its
 * own, it fails through the doors that each library has, and counts nothing.
 *
 * (In a library of the tests it would become every program's.)
 */
#ifndef FILELOCK_TESTS_ALLOCATOR_H
#define FILELOCK_TESTS_ALLOCATOR_H

#include <dlfcn.h>
#include <errno.h>

#include "failing.h"
#include "base/sys.h"

#ifdef FILELOCK_SQLITE
#include <sqlite3.h>
#endif

static struct {
	unsigned count;
	unsigned nth; /* 0: none */
	enum fault_span span;
	unsigned hits;
	long live;
	bool paused;
} memory;

void memory_pause(bool pause)
{
	memory.paused = pause;
}

void memory_fail(unsigned nth, enum fault_span span)
{
	memory.count = memory.hits = 0;
	memory.paused = false;
	memory.span = span;
	memory.nth = nth;
}

unsigned memory_hits(void)
{
	return memory.hits;
}

static bool strikes(void)
{
	if (memory.nth == 0 || memory.paused || ++memory.count < memory.nth ||
	    (memory.count > memory.nth && memory.span == FAULT_ONCE))
		return false;
	memory.hits++;
	errno = ENOMEM;
	return true;
}

#ifndef ALLOCATOR_IS_SANITIZERS

void memory_prepare(void)
{
}

long memory_live(void)
{
	return memory.live;
}

static _Thread_local bool finding;

static void *find(const char *name)
{
	void *found;

	finding = true;
	found = dlsym(RTLD_NEXT, name);
	finding = false;
	if (!found)
		abort();
	return found;
}

static void *count(void *allocated)
{
	memory.live += allocated != NULL;
	return allocated;
}

void *malloc(size_t size)
{
	static void *(*real)(size_t);

	if (!real)
		*(void **)&real = find("malloc");
	return strikes() ? NULL : count(real(size));
}

void *calloc(size_t n, size_t size)
{
	static void *(*real)(size_t, size_t);

	if (finding) /* dlsym(3) of a glibc before 2.34 asks, and does without */
		return NULL;
	if (!real)
		*(void **)&real = find("calloc");
	return strikes() ? NULL : count(real(n, size));
}

void *realloc(void *allocated, size_t size)
{
	static void *(*real)(void *, size_t);
	void *moved;

	if (!real)
		*(void **)&real = find("realloc");
	if (strikes())
		return NULL;
	moved = real(allocated, size);
	if (!allocated)
		(void)count(moved);
	return moved;
}

void free(void *allocated)
{
	static void (*real)(void *);

	if (!real)
		*(void **)&real = find("free");
	memory.live -= allocated != NULL;
	real(allocated);
}

#else

long memory_live(void)
{
	return 0;
}

static void *failing_calloc(size_t n, size_t size)
{
	return strikes() ? NULL : calloc(n, size);
}

#ifdef FILELOCK_SQLITE
static sqlite3_mem_methods real_methods;

static void *sqlite_malloc(int size)
{
	return strikes() ? NULL : real_methods.xMalloc(size);
}

static void *sqlite_realloc(void *allocated, int size)
{
	return strikes() ? NULL : real_methods.xRealloc(allocated, size);
}
#endif

void memory_prepare(void)
{
	sys.calloc = failing_calloc;
#ifdef FILELOCK_SQLITE
	sqlite3_mem_methods methods;

	(void)sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_methods);
	methods = real_methods;
	methods.xMalloc = sqlite_malloc;
	methods.xRealloc = sqlite_realloc;
	(void)sqlite3_config(SQLITE_CONFIG_MALLOC, &methods);
#endif
}

void *memory_malloc(size_t size)
{
	return strikes() ? NULL : malloc(size);
}

void *memory_realloc(void *allocated, size_t size)
{
	return strikes() ? NULL : realloc(allocated, size);
}

#endif

#endif
