/*
 * soft_exit.h - the markers that this process holds: removed when it exits normally.
 */
#ifndef FILELOCK_SOFT_EXIT_H
#define FILELOCK_SOFT_EXIT_H

#include "handle.h"

/* Lives in a kind's state. */
struct leftover {
	struct leftover *previous, *next;
	const char *path; /* borrowed; NULL: not listed */
	struct identity identity;
};

/* Lists a held marker, which must stay open while it is listed. */
void soft_exit_add(struct leftover *leftover, const char *path, struct identity identity);

/* Another handle holds it now. */
void soft_exit_move(struct leftover *from, struct leftover *to, const char *path);

/* Takes it off the list, if it is on it; idempotent. */
void soft_exit_remove(struct leftover *leftover);
/* Around the removal of a marker by its owner; it need not be listed. */
void soft_exit_begin_removal(struct leftover *leftover);
void soft_exit_end_removal(void);

/* Around a fork: the child has no marker. */
void soft_exit_before_fork(void);
void soft_exit_after_fork(bool in_child);

#endif
