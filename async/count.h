/*
 * count.h - a number that the loop's thread changes and any thread reads, for the price of a plain
 * one. A reader that sees a change sees all changes of other counts before it.
 */
#ifndef EVFILELOCK_COUNT_H
#define EVFILELOCK_COUNT_H

#include <stdatomic.h>
#include <stdint.h>

struct count {
	_Alignas(8) _Atomic uint64_t value; /* also on 32 bit, where compilers differ */
};

static inline uint64_t count_get(const struct count *count)
{
	return atomic_load_explicit(&count->value, memory_order_acquire);
}

static inline void count_set(struct count *count, uint64_t value)
{
	atomic_store_explicit(&count->value, value, memory_order_release);
}

/* The new value. */
static inline uint64_t count_up(struct count *count)
{
	uint64_t value = atomic_load_explicit(&count->value, memory_order_relaxed) + 1;

	count_set(count, value);
	return value;
}

static inline void count_down(struct count *count)
{
	count_set(count, atomic_load_explicit(&count->value, memory_order_relaxed) - 1);
}

#endif
