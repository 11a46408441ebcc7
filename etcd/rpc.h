/*
 * rpc.h - calls of the gateway: one at a time on one connection, each repeated on the next endpoint
 * until one answers.
 */
#ifndef FILELOCK_ETCD_RPC_H
#define FILELOCK_ETCD_RPC_H

#include <jansson.h>

#include "http.h"

/* What the lines of a session share. */
struct rpc_access {
	struct http_ground ground;
	struct http_endpoint *endpoints;
	unsigned count;
	char *user, *password; /* NULL: etcd has no users */
	char *token;           /* NULL: to be asked for */
	unsigned generation;   /* of the process that they work in */
};

struct rpc_answer {
	int result;           /* 0, or what etcd refuses: see rpc.c */
	const json_t *json;   /* of a success */
	const char *message;  /* of a refusal */
	int64_t sent_at;      /* CLOCK_BOOTTIME, before the request that this is the answer to */
	unsigned sends;       /* more than 1: an earlier one may be done, too, or yet to come */
};
typedef void (*rpc_cb)(void *arg, const struct rpc_answer *answer);

struct rpc_call {
	struct list link;
	const char *path; /* static */
	char *body;       /* owned */
	rpc_cb done;      /* NULL: nobody cares any more */
	void *arg;
	int64_t sent_at;
	unsigned sends;
};

enum rpc_state {
	RPC_IDLE,    /* nothing to do */
	RPC_CALLING, /* the first call is out */
	RPC_LOGIN,   /* a token is asked for, for the first call */
	RPC_RESTING  /* no endpoint has answered: until the timer */
};

/* A line: a queue of calls. */
struct rpc {
	struct rpc_access *access;
	struct list calls;
	struct http *http;   /* NULL: none */
	struct event *timer; /* of the call that is out, or of the rest */
	unsigned endpoint;   /* index */
	unsigned failures;   /* since the last answer */
	unsigned logins;     /* for the first call */
	unsigned patience;   /* ms, for an answer */
	enum rpc_state state;
	char *trouble;       /* why the last request failed; NULL: not known */
	void (*on_rotate)(void *arg); /* calls have gone on to another endpoint. NULL: nobody asks */
	void *arg;
};

/* 0, or -ENOMEM. */
int rpc_open(struct rpc *rpc, struct rpc_access *access);
/* Calls that are not answered are dropped without a word. */
void rpc_close(struct rpc *rpc);

/* body: taken over; NULL: out of memory. Returns NULL out of memory. The callback comes from the
   loop. */
struct rpc_call *rpc_post(struct rpc *rpc, const char *path, char *body, rpc_cb done, void *arg);
/* The callback is not wanted any more; the call is made all the same. */
void rpc_ignore(struct rpc_call *call);
/* The call is not made again, though it may be done already; no callback comes. */
void rpc_drop(struct rpc *rpc, struct rpc_call *call);

/* In a forked child, of the parent's session: nothing is sent, nothing is taken in. */
bool rpc_is_inherited(const struct rpc_access *access);

/* CLOCK_BOOTTIME, ns. */
int64_t rpc_now(void);

#endif
