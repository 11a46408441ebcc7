/*
 * crowd.c - which locks a crowd waits for, as far as this process has met it.
 *
 * A crowd is remembered for 100 ms after the last grant. A release that raised no event is
 * remembered for a minute: whoever made it will make the next one likewise. Handles come and go, so it
 * is the file that is remembered. Files that share a slot of the table share what is in it. No
 * mutex guards it: it is a hint, and a slot is one number.
 */
#include "crowd.h"

#define SLOTS 256
#define CROWD_MEMORY INT64_C(100000000)     /* ns */
#define SILENCE_MEMORY INT64_C(60000000000) /* ns */

static atomic_int_fast64_t slots[SLOTS]; /* until when */

static atomic_int_fast64_t *slot_of(struct identity identity)
{
	/* numbers of files differ in their lowest bits */
	return &slots[((size_t)identity.ino ^ (size_t)identity.dev) % SLOTS];
}

static void note(struct identity identity, int64_t until)
{
	atomic_int_fast64_t *slot = slot_of(identity);

	if (atomic_load_explicit(slot, memory_order_relaxed) < until)
		atomic_store_explicit(slot, until, memory_order_relaxed);
}

void crowd_note(struct identity identity, int64_t now)
{
	note(identity, schedule_later(now, CROWD_MEMORY));
}

void crowd_note_silence(struct identity identity, int64_t now)
{
	note(identity, schedule_later(now, SILENCE_MEMORY));
}

bool crowd_lasts(struct identity identity, int64_t now)
{
	return now < atomic_load_explicit(slot_of(identity), memory_order_relaxed);
}
