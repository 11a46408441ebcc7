/*
 * process.h - what this process does at a fork: the root of the handlers.
 */
#ifndef FILELOCK_PROCESS_H
#define FILELOCK_PROCESS_H

/* Called by filelock_open: what is named here is linked, and its handlers with it. 0, or why this
   process has no handlers for forks. */
int process_check(void);

#endif
