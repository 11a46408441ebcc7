/*
 * session.h - a lease, kept alive, and how long its keys are safe.
 */
#ifndef FILELOCK_ETCD_SESSION_H
#define FILELOCK_ETCD_SESSION_H

#include <filelock/etcd.h>

#include "codec.h"
#include "rpc.h"
#include "watch.h"

enum session_state {
	SESSION_GRANTING, /* a lease is asked for */
	SESSION_READY,
	SESSION_REFUSED, /* etcd does not want us: until somebody asks again */
	SESSION_CLOSING, /* the lease is being given back */
	SESSION_CLOSED
};

/* What a session has to tell to the locks on it. */
struct session_events {
	void (*ready)(struct filelock_etcd *session);
	/* result: as of filelock_etcd_cb, or -ECANCELED. */
	void (*lost)(struct filelock_etcd *session, int result);
	void (*deleted)(struct filelock_etcd *session, struct watched *watched, const char *key,
	                int64_t revision);
	/* Look at every key: deletions may have gone by unseen. */
	void (*look)(struct filelock_etcd *session);
	/* Every third of the TTL. */
	void (*tick)(struct filelock_etcd *session);
	/* Any key of ours, for a confirmation; false: there is none. */
	bool (*any_key)(struct filelock_etcd *session, struct codec_key *ret_key);
	/* "NAME//" of any lock; NULL: none is open. */
	const char *(*any_folder)(const struct filelock_etcd *session);
	/* A confirmation did not find this key. */
	void (*missed)(struct filelock_etcd *session, const char *key);
	/* The memory goes, and no handle is left. */
	void (*end)(struct filelock_etcd *session);
};

struct filelock_etcd {
	const struct session_events *events;
	struct rpc_access access;
	struct rpc calls, alive; /* a keepalive does not queue behind calls */
	struct watch watch;
	enum session_state state;
	unsigned references;     /* the user's, and the handles' */
	int64_t ttl;             /* s, as asked for */
	int64_t lease;           /* 0: none */
	int64_t granted_ttl;     /* ns */
	int64_t deadline;        /* CLOCK_BOOTTIME: until then the keys are ours */
	int64_t renewed_at;      /* of the last keepalive, before it was sent; 0: it is confirmed */
	int64_t renewal_known_at; /* when it was answered */
	int64_t renewed_term;    /* of the leader that did it */
	struct rpc_call *renewal, *grant; /* NULL: none is out */
	char *confirmed_key;     /* that the confirmation which is out asks for; NULL: for none */
	struct rpc_call *confirmation;
	struct event *renew_timer, *deadline_timer, *end_timer;
	struct list locks;       /* of names: lock.c */
	struct list suspects;    /* keys that may come back: lock.c */
	uint64_t last_entry;
	int64_t looked_at;
	filelock_etcd_cb on_ready, on_lost;
	void *arg;
	char *error; /* NULL: none */
};

/* options are checked. 0, -EINVAL with a sentence, or -ENOMEM. */
int session_new(struct event_base *base, const struct filelock_etcd_options *options,
                const struct session_events *events, char **ret_why,
                struct filelock_etcd **ret_session);
void session_begin(struct filelock_etcd *session);
void session_close(struct filelock_etcd *session);
void session_ref(struct filelock_etcd *session);
void session_unref(struct filelock_etcd *session);
/* In a forked child, of the parent's session. */
bool session_is_inherited(const struct filelock_etcd *session);

/* Whether keys can be made; if not, asks for a lease once more where etcd had refused one. */
bool session_is_ready(struct filelock_etcd *session);
/* Whether our keys are there for sure. */
bool session_is_safe(const struct filelock_etcd *session);
/* A transaction that was sent at that time, in that term, found a key of ours in its place. */
void session_confirm(struct filelock_etcd *session, int64_t sent_at, int64_t term);
/* The lease is gone, or may be. */
void session_lose(struct filelock_etcd *session);

#endif
