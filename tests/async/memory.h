/*
 * memory.h - allocations that fail: those of libevent and, where no sanitizer stands before malloc,
 * those of the whole program. For one source of a program only.
 */
#ifndef FILELOCK_TESTS_MEMORY_H
#define FILELOCK_TESTS_MEMORY_H

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Which allocation of this thread is to fail. */
static _Thread_local struct {
	unsigned count;
	unsigned nth; /* 0: none */
	bool for_good;
} failing;

static bool strikes(void)
{
	if (failing.nth == 0 || ++failing.count < failing.nth)
		return false;
	return failing.count == failing.nth || failing.for_good;
}

static inline void heal(void)
{
	failing.nth = 0;
}

/* For event_set_mem_functions(3). */
static inline void *event_malloc(size_t size)
{
	return strikes() ? NULL : malloc(size);
}

static inline void *event_realloc(void *memory, size_t size)
{
	return strikes() ? NULL : realloc(memory, size);
}

#ifndef SANITIZED
/* Ours stand before those of the C library, for every object of this program. */
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

void *malloc(size_t size)
{
	static void *(*real)(size_t);

	if (!real)
		*(void **)&real = find("malloc");
	if (!strikes())
		return real(size);
	errno = ENOMEM;
	return NULL;
}

void *calloc(size_t n, size_t size)
{
	static void *(*real)(size_t, size_t);

	if (finding) /* dlsym(3) of a glibc before 2.34 asks, and does without */
		return NULL;
	if (!real)
		*(void **)&real = find("calloc");
	if (!strikes())
		return real(n, size);
	errno = ENOMEM;
	return NULL;
}

void *realloc(void *memory, size_t size)
{
	static void *(*real)(void *, size_t);

	if (!real)
		*(void **)&real = find("realloc");
	if (!strikes())
		return real(memory, size);
	errno = ENOMEM;
	return NULL;
}
#endif

#endif
