#include <string.h>

#include "support.h"

static void note_overlap(struct witness *witness)
{
	atomic_fetch_add(&witness->overlaps, 1);
}

/* Only a process that was killed on purpose may have left a mark. */
static bool is_left_over(struct witness *witness, unsigned who)
{
	return who == 0 || atomic_load(&witness->victims[who]);
}

void witness_enter(struct witness *witness, unsigned who)
{
	unsigned before = atomic_exchange(&witness->inside, who);

	if (!is_left_over(witness, before) || atomic_load(&witness->readers) != 0)
		note_overlap(witness);
	atomic_fetch_add(&witness->entries, 1);
}

void witness_leave(struct witness *witness, unsigned who)
{
	if (!atomic_compare_exchange_strong(&witness->inside, &who, 0))
		note_overlap(witness);
}

void witness_enter_shared(struct witness *witness)
{
	unsigned readers = atomic_fetch_add(&witness->readers, 1) + 1;
	unsigned most = atomic_load(&witness->most_readers);

	while (readers > most &&
	       !atomic_compare_exchange_weak(&witness->most_readers, &most, readers)) {
	}
	if (!is_left_over(witness, atomic_load(&witness->inside)))
		note_overlap(witness);
	atomic_fetch_add(&witness->entries, 1);
}

void witness_leave_shared(struct witness *witness)
{
	if (!is_left_over(witness, atomic_load(&witness->inside)))
		note_overlap(witness);
	atomic_fetch_sub(&witness->readers, 1);
}

struct interval_log *interval_log_new(size_t capacity)
{
	struct interval_log *log =
	        test_shared(sizeof(*log) + capacity * sizeof(struct interval));

	log->capacity = capacity;
	return log;
}

void interval_log_add(struct interval_log *log, struct interval interval)
{
	size_t at = atomic_fetch_add(&log->count, 1);

	ck_assert_uint_lt(at, log->capacity);
	log->entries[at] = interval;
}

static int by_begin(const void *a, const void *b)
{
	const struct interval *x = a, *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

size_t interval_log_overlaps(const struct interval_log *log)
{
	size_t count = atomic_load(&log->count);
	struct interval *sorted = calloc(count + 1, sizeof(*sorted));
	int64_t exclusive_end = INT64_MIN; /* the latest so far */
	int64_t any_end = INT64_MIN;
	size_t overlaps = 0;

	ck_assert_ptr_nonnull(sorted);
	memcpy(sorted, log->entries, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_begin);
	for (size_t i = 0; i < count; i++) {
		const struct interval *interval = &sorted[i];
		bool exclusive = interval->mode == FILELOCK_EXCLUSIVE;

		overlaps += interval->begin <= (exclusive ? any_end : exclusive_end);
		if (interval->end > any_end)
			any_end = interval->end;
		if (exclusive && interval->end > exclusive_end)
			exclusive_end = interval->end;
	}
	free(sorted);
	return overlaps;
}
