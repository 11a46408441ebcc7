/*
 * process.h - the root of the handlers of fork and exit.
 */
#ifndef FILELOCK_PROCESS_H
#define FILELOCK_PROCESS_H

/* Called by filelock_open: what is named here is linked, and its handlers with it. 0, or why this
   process has no handlers for forks. */
int process_check(void);

#endif
