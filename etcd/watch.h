/*
 * watch.h - deletions of keys, by one stream for all locks of a session.
 */
#ifndef FILELOCK_ETCD_WATCH_H
#define FILELOCK_ETCD_WATCH_H

#include "rpc.h"

/* A lock whose keys are watched. */
struct watched {
	struct list link;   /* in watch->watched; unlinked: it is not watched */
	const char *folder; /* borrowed */
	uint64_t id;        /* of the watch, not 0 */
	int64_t from;       /* the first revision that it has to tell of yet */
};

struct watch_events {
	/* Somebody deleted this key, in that revision. */
	void (*deleted)(void *arg, struct watched *watched, const char *key, int64_t revision);
	/* Deletions may have gone by unseen: look at everything. */
	void (*trouble)(void *arg);
};

struct watch {
	struct rpc_access *access;
	const struct rpc *calls; /* the endpoint that answers calls is the one to watch */
	const struct watch_events *events;
	void *arg;
	struct list watched;
	struct http *http;   /* NULL: none */
	struct event *timer; /* begins the stream anew */
	unsigned failures;
	uint64_t last_id;
};

/* 0, or -ENOMEM. */
int watch_open(struct watch *watch, struct rpc_access *access, const struct rpc *calls,
               const struct watch_events *events, void *arg);
void watch_close(struct watch *watch);

/* Watches from a revision on; nothing changes if it is watched. */
void watch_add(struct watch *watch, struct watched *watched, int64_t from);
void watch_remove(struct watched *watched);
/* Another endpoint, another token: the stream begins anew. */
void watch_restart(struct watch *watch);

#endif
