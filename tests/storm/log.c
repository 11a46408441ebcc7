/*
 * log.c - the ring of intervals. An entry is taken and begun inside the lock, and ended there, so
 * that who is killed inside leaves one that is open.
 */
#include "storm.h"

struct entry *log_begin(const struct handle *handle)
{
	size_t at = atomic_fetch_add(&arena->entry_count, 1);
	struct entry *entry;

	if (at >= arena->entry_capacity) {
		atomic_store(&arena->stopping, true);
		return NULL;
	}
	entry = &arena->entries[at];
	entry->who = handle->who;
	entry->place = (uint16_t)(handle->place - arena->places);
	entry->mode = (uint16_t)handle->mode;
	atomic_store(&entry->begin, now());
	return entry;
}

void log_end(struct entry *entry)
{
	if (entry)
		atomic_store(&entry->end, now());
}
