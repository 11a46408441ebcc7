#include "seen.h"

#include <stdlib.h>
#include <string.h>

enum { BITS = 22 };
#define SLOTS ((size_t)1 << BITS)

static uint64_t *slots;
static size_t count;

void seen_clear(void)
{
	free(slots);
	slots = calloc(SLOTS, sizeof(*slots));
	count = 0;
	if (!slots)
		abort();
}

bool seen_add(uint64_t hash)
{
	size_t i = (size_t)(hash >> (64 - BITS));

	hash |= 1; /* zero is a free slot */
	while (slots[i] && slots[i] != hash)
		i = (i + 1) & (SLOTS - 1);
	if (slots[i])
		return true;
	if (count < SLOTS - SLOTS / 4) {
		slots[i] = hash;
		count++;
	}
	return false;
}

size_t seen_count(void)
{
	return count;
}
