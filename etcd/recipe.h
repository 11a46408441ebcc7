/*
 * recipe.h - an entry's way through the queue of a lock: what comes next. Pure.
 */
#ifndef FILELOCK_ETCD_RECIPE_H
#define FILELOCK_ETCD_RECIPE_H

enum entry_state {
	ENTRY_PARKED,     /* it has no key: until the session is ready, and its own releases are over */
	ENTRY_ENQUEUING,  /* the transaction that makes its key is out */
	ENTRY_WAITING,    /* somebody is ahead */
	ENTRY_RECHECKING, /* is anybody ahead yet? */
	ENTRY_HELD,
	ENTRY_LOST,       /* it was held */
	ENTRY_RELEASING,  /* the transaction that deletes its key is out */
	ENTRY_OVER
};

enum entry_event {
	ENTRY_MAY_GO,     /* the session is ready */
	ENTRY_IS_FIRST,   /* an answer: nobody is ahead */
	ENTRY_IS_BEHIND,  /* an answer: somebody is */
	ENTRY_IS_THERE,   /* an answer: its key was made before; who is ahead is not known */
	ENTRY_IS_REFUSED, /* an answer: the queue is not empty, and it was to join no other */
	ENTRY_IS_GONE,    /* its key is not there any more */
	ENTRY_LOOK,       /* the one ahead is gone, or nobody would have told */
	ENTRY_LEASE_LOST,
	ENTRY_DROP,       /* cancelled, or released */
	ENTRY_DONE        /* an answer: its key is deleted */
};

enum entry_action {
	ENTRY_NOTHING,
	ENTRY_SEND_ENQUEUE,
	ENTRY_SEND_RECHECK,
	ENTRY_SEND_RELEASE,
	ENTRY_PARK,     /* without key from now on; it may go again */
	ENTRY_TELL,     /* the handle, which has something to learn */
	ENTRY_TELL_LOST,
	ENTRY_FREE
};

struct entry_step {
	enum entry_state state;
	enum entry_action action;
};

struct entry_step recipe_next(enum entry_state state, enum entry_event event);

#endif
