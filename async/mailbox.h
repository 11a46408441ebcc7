/*
 * mailbox.h - holds that other threads have ended, left for the loop.
 */
#ifndef EVFILELOCK_MAILBOX_H
#define EVFILELOCK_MAILBOX_H

#include <stdbool.h>

#include "base/list.h"

struct mailbox;

struct mail {
	struct list link;
	/* On the loop's thread; gone: so is the context. */
	void (*take)(struct mail *mail, bool gone);
	bool ends_hold; /* and so mailbox_ended counts it, until it is taken */
};

/* With one reference, the owner's. NULL: out of memory. */
struct mailbox *mailbox_new(void);
void mailbox_ref(struct mailbox *mailbox);
void mailbox_unref(struct mailbox *mailbox);

/* The calling thread runs the loop, or is about to. */
void mailbox_enter(struct mailbox *mailbox);
bool mailbox_is_loop_thread(const struct mailbox *mailbox);

/* From now on `notify` is called, on the thread that posts, for each post. */
void mailbox_set_notify(struct mailbox *mailbox, void (*notify)(void *arg), void *arg);
/* From any thread. False: it is closed, and the mail stays the caller's. */
bool mailbox_post(struct mailbox *mailbox, struct mail *mail);
/* On any thread: how many holds have ended that the loop has not heard of. */
unsigned mailbox_ended(const struct mailbox *mailbox);
/* Takes all that there is. */
void mailbox_take(struct mailbox *mailbox);
/* The owner goes, with what there is. In a forked child a thread that is not there may have the
   mutex. */
void mailbox_close(struct mailbox *mailbox, bool in_child);

#endif
