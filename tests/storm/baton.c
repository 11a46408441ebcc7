/*
 * baton.c - tells a lost wake-up from a late one. With the safety poll at 60 s, a waiter that nobody
 * wakes sleeps on. Any other process that asks meanwhile would get the lock and, by its own
 * release, wake the sleeper after all. After a release with somebody waiting, a process that does
 * not wait already therefore must not ask until somebody has been granted the lock:
 *
 *	released == 0     held, or free with nobody waiting
 *	released == time  one of those who waited at that time must be granted it, soon
 *
 * The holder sets it inside, before it releases. The next holder clears it. If all waiters have gone
 * (timed out, cancelled, killed), the next process that wants to ask clears it. It is no lock: an
 * asker that comes beside a release may take the lock before the waiters; they are not counted.
 */
#include "storm.h"

static bool waits_since_before(const struct place *place, int64_t when)
{
	for (unsigned i = 0; i < arena->slot_count * TWINS; i++) {
		int64_t since = atomic_load(&place->waiting[i]);

		if (since && since < when)
			return true;
	}
	return false;
}

bool baton_has_waiters(struct place *place)
{
	return waits_since_before(place, INT64_MAX);
}

bool baton_may_ask(struct place *place)
{
	int64_t released = atomic_load(&place->released);

	if (!arena->scenario.baton || released == 0)
		return true;
	if (waits_since_before(place, released))
		return false;
	(void)atomic_compare_exchange_strong(&place->released, &released, 0);
	return true;
}

void baton_ask(struct handle *handle)
{
	handle->asked = now();
	if (arena->scenario.baton)
		atomic_store(&handle->place->waiting[handle->seat], handle->asked);
}

void baton_unask(struct handle *handle)
{
	if (arena->scenario.baton)
		atomic_store(&handle->place->waiting[handle->seat], 0);
}

void baton_granted(struct handle *handle, struct slot *slot)
{
	struct place *place = handle->place;
	int64_t granted = now();
	pid_t releaser = atomic_load(&place->releaser);
	int64_t released;

	if (!arena->scenario.baton)
		return;
	released = atomic_exchange(&place->released, 0);
	baton_unask(handle);
	if (released == 0 || handle->asked >= released || releaser == life_of(handle->who)->pid)
		return;
	if (granted - released > slot->longest)
		slot->longest = granted - released;
	slot->tallies[TALLY_WAKES]++;
	if (granted - released > arena->bound)
		slot->tallies[TALLY_LATE]++;
}

static void release_at(struct place *place, int64_t when, pid_t releaser)
{
	int64_t none = 0;

	if (!waits_since_before(place, when))
		return;
	atomic_store(&place->releaser, releaser);
	(void)atomic_compare_exchange_strong(&place->released, &none, when);
}

/* Of shared holders only the last one makes way. */
static bool makes_way(const struct handle *handle)
{
	if (handle->mode == FILELOCK_EXCLUSIVE)
		return true;
	for (unsigned i = 0; i < arena->slot_count * TWINS; i++) {
		uint32_t who = atomic_load(&handle->place->reading[i]);

		if (who && who != handle->who && !who_is_marked(who))
			return false;
	}
	return true;
}

void baton_release(struct handle *handle)
{
	if (arena->scenario.baton && makes_way(handle))
		release_at(handle->place, now(), life_of(handle->who)->pid);
}

void baton_died(const struct slot *slot, int64_t when)
{
	if (!arena->scenario.baton)
		return;
	for (unsigned p = 0; p < arena->place_count; p++) {
		struct place *place = &arena->places[p];
		uint32_t inside = atomic_load(&place->inside);

		for (unsigned twin = 0; twin < TWINS; twin++)
			atomic_store(&place->waiting[slot->number * TWINS + twin], 0);
		if (inside && inside / NUMBERS == slot->life)
			release_at(place, when, slot->pid);
	}
}

void baton_look_for_lost(void)
{
	for (unsigned p = 0; p < arena->place_count; p++) {
		struct place *place = &arena->places[p];
		int64_t released = atomic_load(&place->released);
		int64_t bound = LOST_BOUND + atomic_load(&arena->worst_stall);

		if (!released || now() - released <= bound || !waits_since_before(place, released))
			continue;
		if (atomic_load(&place->released) == released)
			trouble_note(TROUBLE_LOST,
			             "%s %s: released at %.6f s by pid %d, and %.3f s later "
			             "nobody of those who wait has it",
			             kind_name(place->kind), place->path,
			             (double)(released - arena->began) / 1e9,
			             (int)atomic_load(&place->releaser),
			             (double)(now() - released) / 1e9);
	}
}
