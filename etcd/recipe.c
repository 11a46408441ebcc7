/*
 * recipe.c - an entry's way through the queue of a lock.
 *
 *	PARKED ─> ENQUEUING ─ nobody ahead ─────────────────────> HELD ─ drop ─> RELEASING ─> OVER
 *	   ^          │ behind                                    ^ │
 *	   │          v        the one ahead is gone              │ └ lease or key lost ─> LOST
 *	   │       WAITING ───────────────────────> RECHECKING ───┘
 *	   │          ^                                │  behind
 *	   │          └────────────────────────────────┘
 *	   └── lease or key lost: at the end of the queue again
 */
#include "recipe.h"

static struct entry_step step(enum entry_state state, enum entry_action action)
{
	return (struct entry_step){ state, action };
}

/* Before it has a key that it knows of. */
static struct entry_step from_parked(enum entry_event event)
{
	switch (event) {
	case ENTRY_MAY_GO:
		return step(ENTRY_ENQUEUING, ENTRY_SEND_ENQUEUE);
	case ENTRY_DROP:
		return step(ENTRY_OVER, ENTRY_FREE);
	default:
		return step(ENTRY_PARKED, ENTRY_NOTHING);
	}
}

/* In the queue, as far as is known. */
static struct entry_step from_queued(enum entry_state state, enum entry_event event)
{
	switch (event) {
	case ENTRY_IS_GONE:
	case ENTRY_LEASE_LOST:
		return step(ENTRY_PARKED, ENTRY_PARK);
	case ENTRY_DROP:
		return step(ENTRY_RELEASING, ENTRY_SEND_RELEASE);
	default:
		return step(state, ENTRY_NOTHING);
	}
}

/* With a question out. */
static struct entry_step from_asking(enum entry_state state, enum entry_event event)
{
	switch (event) {
	case ENTRY_IS_FIRST:
		return step(ENTRY_HELD, ENTRY_TELL);
	case ENTRY_IS_BEHIND:
		return step(ENTRY_WAITING, ENTRY_TELL);
	case ENTRY_IS_THERE:
		return step(ENTRY_RECHECKING, ENTRY_SEND_RECHECK);
	case ENTRY_IS_REFUSED:
		return step(ENTRY_PARKED, ENTRY_TELL);
	default:
		return from_queued(state, event);
	}
}

static struct entry_step from_waiting(enum entry_event event)
{
	return event == ENTRY_LOOK ? step(ENTRY_RECHECKING, ENTRY_SEND_RECHECK)
	                           : from_queued(ENTRY_WAITING, event);
}

static struct entry_step from_held(enum entry_event event)
{
	switch (event) {
	case ENTRY_IS_GONE:
	case ENTRY_LEASE_LOST:
		return step(ENTRY_LOST, ENTRY_TELL_LOST);
	case ENTRY_DROP:
		return step(ENTRY_RELEASING, ENTRY_SEND_RELEASE);
	default:
		return step(ENTRY_HELD, ENTRY_NOTHING);
	}
}

static struct entry_step from_releasing(enum entry_event event)
{
	if (event == ENTRY_DONE || event == ENTRY_LEASE_LOST)
		return step(ENTRY_OVER, ENTRY_FREE);
	return step(ENTRY_RELEASING, ENTRY_NOTHING);
}

struct entry_step recipe_next(enum entry_state state, enum entry_event event)
{
	switch (state) {
	case ENTRY_PARKED:
		return from_parked(event);
	case ENTRY_ENQUEUING:
	case ENTRY_RECHECKING:
		return from_asking(state, event);
	case ENTRY_WAITING:
		return from_waiting(event);
	case ENTRY_HELD:
		return from_held(event);
	case ENTRY_LOST:
		return event == ENTRY_DROP ? step(ENTRY_OVER, ENTRY_FREE)
		                           : step(ENTRY_LOST, ENTRY_NOTHING);
	case ENTRY_RELEASING:
		return from_releasing(event);
	case ENTRY_OVER:
		break;
	}
	return step(ENTRY_OVER, ENTRY_NOTHING);
}
