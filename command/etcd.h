/*
 * etcd.h - -k etcd: the session on which the locks are, for as long as filelock runs.
 */
#ifndef COMMAND_ETCD_H
#define COMMAND_ETCD_H

#include "run.h"

struct filelock_etcd;

/* Whether this filelock was built with it. */
extern const bool etcd_is_built;

/* Opens the session, in the loop of the run. Returns 0, or the exit status after a message. */
int etcd_begin(struct run *run);
/* Returns 0 or a negative error. */
int etcd_open_lock(struct filelock_etcd *session, const char *name, struct filelock **ret_handle);
/* Why etcd does not answer, as a sentence; empty: it does. */
const char *etcd_trouble(struct filelock_etcd *session);
/* From now on a lock that is lost is said, and the command gets SIGTERM. Returns 0 or a negative error. */
int etcd_guard_command(struct run *run);
/* Gives the locks back; the loop has to run after that, until it ends by itself. */
void etcd_end(struct run *run);

#endif
