/*
 * inside.c - the witness. A writer exchanges itself for who was inside, then looks for
 * readers; a reader takes its seat, then looks for a writer. In an overlap one of them sees the
 * other. A killed process leaves its mark, which is legal for a marked victim only.
 */
#include "storm.h"

static void complain(const struct handle *handle, uint32_t other, const char *when)
{
	trouble_note(TROUBLE_OVERLAP, "%s %s: at %.6f s %s, %s, found %s inside, %s",
	             kind_name(handle->place->kind), handle->place->path,
	             (double)(now() - arena->began) / 1e9, who_text(handle->who),
	             handle->mode == FILELOCK_SHARED ? "a reader" : "exclusive", who_text(other),
	             when);
}

static bool is_alive(uint32_t who)
{
	return who != 0 && !who_is_marked(who);
}

/* A reader other than the handle, or 0. */
static uint32_t find_reader(const struct handle *handle)
{
	for (unsigned i = 0; i < arena->slot_count * TWINS; i++) {
		uint32_t who = atomic_load(&handle->place->reading[i]);

		if (who != handle->who && is_alive(who))
			return who;
	}
	return 0;
}

static bool enter_shared(struct handle *handle)
{
	struct place *place = handle->place;
	uint32_t writer;

	atomic_store(&place->reading[handle->seat], handle->who);
	writer = atomic_load(&place->inside);
	if (is_alive(writer))
		complain(handle, writer, "entering");
	return find_reader(handle) != 0;
}

bool inside_enter(struct handle *handle)
{
	struct place *place = handle->place;
	uint32_t other;

	if (handle->mode == FILELOCK_SHARED)
		return enter_shared(handle);
	other = atomic_exchange(&place->inside, handle->who);
	if (is_alive(other))
		complain(handle, other, "entering");
	other = find_reader(handle);
	if (other)
		complain(handle, other, "entering");
	return false;
}

void inside_leave(struct handle *handle)
{
	struct place *place = handle->place;
	bool shared = handle->mode == FILELOCK_SHARED;
	uint32_t expected = handle->who;

	if (shared) {
		uint32_t writer = atomic_load(&place->inside);

		if (is_alive(writer))
			complain(handle, writer, "leaving");
	}
	if (!atomic_compare_exchange_strong(shared ? &place->reading[handle->seat] : &place->inside,
	                                    &expected, 0))
		complain(handle, expected, "in its own place");
}
