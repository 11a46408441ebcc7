/*
 * checker.c - looks at the log when all is over, and at nothing else but the marks. Two holds
 * that exclude each other must not even touch: a tie is an overlap. A hold that its process was
 * killed in lasted at least until the mark, which was set before the kill.
 */
#include <stdlib.h>

#include "storm.h"

static int by_place_and_begin(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return (x->who > y->who) - (x->who < y->who);
}

static double seconds(int64_t time)
{
	return (double)(time - arena->began) / 1e9;
}

static int64_t end_of(const struct entry *entry)
{
	int64_t marked;

	if (entry->end)
		return entry->end;
	marked = who_is_marked(entry->who);
	return marked > entry->begin ? marked : entry->begin;
}

static void complain(const struct entry *first, const struct entry *second)
{
	const struct place *place = &arena->places[second->place];

	trouble_note(TROUBLE_INTERVALS,
	             "%s %s: %s of %s from %.9f to %.9f s on inode %lu and "
	             "%s of %s from %.9f to %.9f s on inode %lu",
	             kind_name(place->kind), place->path, first->mode ? "shared" : "exclusive",
	             who_text(first->who), seconds(first->begin), seconds(end_of(first)),
	             (unsigned long)first->file,
	             second->mode ? "shared" : "exclusive", who_text(second->who),
	             seconds(second->begin), seconds(end_of(second)),
	             (unsigned long)second->file);
}

static void check_open(const struct entry *entry)
{
	if (entry->end == 0 && !who_is_marked(entry->who))
		trouble_note(TROUBLE_INTERVALS, "%s: %s never left",
		             arena->places[entry->place].path, who_text(entry->who));
}

static bool ends_later(const struct entry *entry, const struct entry *than)
{
	return !than || end_of(entry) > end_of(than);
}

/* The entries of one place, by their beginning. */
static void check_place(const struct entry *entries, size_t count, struct findings *findings)
{
	const struct entry *exclusive = NULL, *shared = NULL; /* which end last, so far */

	for (size_t i = 0; i < count; i++) {
		const struct entry *entry = &entries[i];
		const struct entry *other = NULL;

		if (entry->mode == ENTRY_REMOVAL)
			continue;
		check_open(entry);
		if (exclusive && end_of(exclusive) >= entry->begin)
			other = exclusive;
		if (shared && end_of(shared) >= entry->begin) {
			if (entry->mode == FILELOCK_EXCLUSIVE)
				other = shared;
			else
				findings->together[arena->places[entry->place].kind]++;
		}
		if (other) {
			findings->overlaps++;
			complain(other, entry);
		}
		if (entry->mode == FILELOCK_EXCLUSIVE && ends_later(entry, exclusive))
			exclusive = entry;
		if (entry->mode == FILELOCK_SHARED && ends_later(entry, shared))
			shared = entry;
	}
}

struct findings checker_run(struct entry *entries, size_t count)
{
	struct findings findings = { 0 };
	size_t from = 0;

	qsort(entries, count, sizeof(*entries), by_place_and_begin);
	while (from < count) {
		size_t to = from;

		while (to < count && entries[to].place == entries[from].place)
			to++;
		findings.holds += to - from;
		/* who was killed between taking an entry and stamping it */
		while (from < to && entries[from].begin == 0)
			from++;
		check_place(&entries[from], to - from, &findings);
		from = to;
	}
	return findings;
}
