/*
 * played.h - time that stands, for the library and for libevent alike, unless it is moved by hand
 * or something sleeps. And inotify instances that are used again, since closing one takes a
 * thousand times as long as all the rest of an input.
 */
#ifndef FILELOCK_TESTS_PLAYED_H
#define FILELOCK_TESTS_PLAYED_H

#include <stdint.h>

/* Puts itself under the table of system calls: before fault_watch. */
void played_install(void);
/* From now on, or back to the system's time. */
void played_begin(void);
void played_end(void);

int64_t played_now(void);
void played_advance(int64_t by);

/* Inotify instances that are open, and closed as the library sees it. */
unsigned played_idle_descriptors(void);

/* Called when the library goes to sleep; may be NULL. */
extern void (*played_on_sleep)(void);

#endif
