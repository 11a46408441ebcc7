/*
 * log.c - the ring of intervals. An entry is taken and begun inside the lock, and ended there, so
 * that who is killed inside leaves one that is open.
 */
#include <sys/stat.h>

#include "storm.h"

/* For who must find out how two came to hold one lock: by two files, or by one. */
static uint64_t file_of(const struct handle *handle)
{
	int fd = filelock_fd(handle->lock);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static struct entry *begin(const struct handle *handle, unsigned mode)
{
	size_t at = atomic_fetch_add(&arena->entry_count, 1);
	struct entry *entry;

	if (at >= arena->entry_capacity) {
		atomic_store(&arena->stopping, true);
		return NULL;
	}
	entry = &arena->entries[at];
	entry->who = handle->who;
	entry->file = file_of(handle);
	entry->place = (uint16_t)(handle->place - arena->places);
	entry->mode = (uint16_t)mode;
	atomic_store(&entry->begin, now());
	return entry;
}

struct entry *log_begin(const struct handle *handle)
{
	return begin(handle, handle->mode);
}

struct entry *log_removal(const struct handle *handle)
{
	return begin(handle, ENTRY_REMOVAL);
}

void log_end(struct entry *entry)
{
	if (entry)
		atomic_store(&entry->end, now());
}
