/*
 * failing.h - the Nth allocation fails, ours or another library's; and what is never freed is
 * counted. allocator.h does it. For programs of one thread, since it counts without a lock.
 */
#ifndef FILELOCK_TESTS_FAILING_H
#define FILELOCK_TESTS_FAILING_H

#include "support.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define ALLOCATOR_IS_SANITIZERS 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ALLOCATOR_IS_SANITIZERS 1
#endif

/* Before the first use of any library, and before fault_watch. */
void memory_prepare(void);
/* The nth allocation from now on fails; 0: none does. */
void memory_fail(unsigned nth, enum fault_span span);
unsigned memory_hits(void);
/* Allocations meanwhile are neither counted nor made to fail. memory_fail ends it. */
void memory_pause(bool pause);
/* Blocks that are allocated now; always 0 beside a sanitizer, which looks for leaks itself. */
long memory_live(void);

#ifdef ALLOCATOR_IS_SANITIZERS
/* For event_set_mem_functions. */
void *memory_malloc(size_t size);
void *memory_realloc(void *allocated, size_t size);
#endif

#endif
