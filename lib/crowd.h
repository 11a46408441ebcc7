/*
 * crowd.h - which locks a crowd waits for, as far as this process has met it.
 */
#ifndef FILELOCK_CROWD_H
#define FILELOCK_CROWD_H

#include "handle.h"

/* One of a crowd has got the lock. */
void crowd_note(struct identity identity, int64_t now);
/* A release was found by a poll: no event had told of it. */
void crowd_note_silence(struct identity identity, int64_t now);
/* Whether it is best not to wait for events. May err: then a wait costs more, or a release is found
   later. */
bool crowd_lasts(struct identity identity, int64_t now);

#endif
