/*
 * readwrite_waiters.h - whether anybody waits for a read/write lock.
 */
#ifndef FILELOCK_READWRITE_WAITERS_H
#define FILELOCK_READWRITE_WAITERS_H

#include "handle.h"

/* Opens the folder of the path. -ENOTSUP: its locks are not this kernel's own affair. */
int readwrite_waiters_open(const char *path, struct filelock_guarded_fd *ret_folder);
/* Until the folder's descriptor is closed. */
int readwrite_waiters_register(int folder, struct identity database);
/* Whether somebody is registered through another description of the folder; true also if that is
   not known. */
bool readwrite_waiters_exist(int folder, struct identity database);

#endif
