/*
 * lock.h - the kind of lock that is kept in etcd.
 */
#ifndef FILELOCK_ETCD_LOCK_H
#define FILELOCK_ETCD_LOCK_H

#include "session.h"

extern const struct session_events lock_events;

/* filelock_open_etcd with a name that is checked. */
int lock_open(struct filelock_etcd *session, const char *name,
              const struct filelock_options *options, struct filelock **ret_lock);

#endif
