/*
 * readwrite_probe.h - whether record locks exclude anybody on a file system.
 */
#ifndef FILELOCK_READWRITE_PROBE_H
#define FILELOCK_READWRITE_PROBE_H

#include <sys/types.h>

/* 0: they do, or it cannot be found out; FILELOCK_ENOEXCLUSION: they do not; or an error. device is
   that of the folder of path. */
int readwrite_probe(const char *path, dev_t device);

#endif
