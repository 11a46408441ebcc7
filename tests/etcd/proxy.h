/*
 * proxy.h - a process that forwards TCP connections to real etcd servers, and stops on demand: a network
 * that is cut. What was sent meanwhile comes when it is whole again, as TCP does it.
 */
#ifndef FILELOCK_TESTS_PROXY_H
#define FILELOCK_TESTS_PROXY_H

#include "nodes.h"

enum cut {
	CUT_NONE,
	CUT_BOTH,
	CUT_ANSWERS,  /* from the servers */
	CUT_REQUESTS, /* to them; connections can be made */
	CUT_WAYS
};

struct proxy {
	pid_t pid;
	struct {
		_Atomic int wanted, done; /* enum cut */
	} *cut; /* shared with it */
	char urls[NODES][64];
};

void proxy_start(struct proxy *proxy, const struct nodes *nodes);
/* When it returns nothing more passes. */
void proxy_cut(struct proxy *proxy, enum cut cut);
void proxy_stop(struct proxy *proxy);
/* Options of a session with all servers, by the proxy. */
struct filelock_etcd_options proxy_options(const struct proxy *proxy, unsigned ttl_ms);

#endif
