/*
 * holds.c - a judge of holds.
 */
#include "holds.h"

#include <stdlib.h>

static int by_began(const void *a, const void *b)
{
	const struct hold *p = a, *q = b;

	return p->began < q->began ? -1 : p->began > q->began;
}

static int by_token(const void *a, const void *b)
{
	const struct hold *p = a, *q = b;

	return p->token < q->token ? -1 : p->token > q->token;
}

static int64_t later(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Each lasted from began to believed at least; one that was asked about only once has no such time. */
static size_t count_overlaps(struct hold *holds, size_t count)
{
	int64_t writers_end = 0, end = 0;
	size_t overlaps = 0;

	qsort(holds, count, sizeof(*holds), by_began);
	for (size_t i = 0; i < count; i++) {
		const struct hold *hold = &holds[i];

		if (!hold->noted || hold->believed < hold->began)
			continue;
		overlaps += hold->began <= (hold->shared ? writers_end : end);
		end = later(end, hold->believed);
		if (!hold->shared)
			writers_end = later(writers_end, hold->believed);
	}
	return overlaps;
}

/* A hold with a higher token did not begin before one with a lower token was asked for. */
static size_t count_fallen(struct hold *holds, size_t count)
{
	const struct hold *last = NULL;
	int64_t latest = 0;
	size_t fallen = 0;

	qsort(holds, count, sizeof(*holds), by_token);
	for (size_t i = 0; i < count; i++) {
		const struct hold *hold = &holds[i];

		if (!hold->noted || hold->shared)
			continue;
		fallen += hold->began < latest || (last && last->token == hold->token);
		latest = later(latest, hold->asked);
		last = hold;
	}
	return fallen;
}

struct verdict holds_judge(struct hold *holds, size_t count)
{
	struct verdict verdict;

	verdict.overlaps = count_overlaps(holds, count);
	verdict.fallen = count_fallen(holds, count);
	return verdict;
}
