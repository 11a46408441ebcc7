/*
 * refresh.h - the times of a held file, for those who remove files by age.
 */
#ifndef FILELOCK_REFRESH_H
#define FILELOCK_REFRESH_H

#include "handle.h"

#define REFRESH_FIRST INT64_C(60000000000)    /* ns of a hold: a shorter one needs nothing */
#define REFRESH_MARKER REFRESH_FIRST          /* against programs that go by minutes */
#define REFRESH_FILE INT64_C(86400000000000)  /* against cleaners, which go by days */

/* Whether times that are renewed so often are to be renewed. */
bool refresh_is_due(const struct timespec *modified, int64_t every);
/* Only a hint, so errors do not matter: the times of another user's file are not ours to set. */
void refresh_times(const struct filelock *lock);
/* For a kind's held_after, and its held: renews them, if the path names the file that is held. */
int64_t refresh_after(const struct filelock *lock);
int64_t refresh_held(const struct filelock *keeper, int64_t now, int64_t every);

#endif
