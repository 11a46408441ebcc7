/*
 * readwrite_server.h - whether a server of NFS still has the lock of a hold.
 */
#ifndef FILELOCK_READWRITE_SERVER_H
#define FILELOCK_READWRITE_SERVER_H

#include <stdbool.h>

#include "handle.h"

/* Whether another machine has what the hold of this database needs. What nobody has is taken again. */
bool readwrite_server_forgot(struct identity database, enum filelock_mode mode);

#endif
