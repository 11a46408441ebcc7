/*
 * nodes.h - three real etcd servers on loopback, in the test's folder; they end with the test.
 *
 * $FILELOCK_TEST_ETCD names the program; otherwise "etcd" is looked for in PATH.
 */
#ifndef FILELOCK_TESTS_NODES_H
#define FILELOCK_TESTS_NODES_H

#include <sys/types.h>

#include "../async/loop.h"

#include <filelock/etcd.h>

#define NODES 3

struct nodes {
	pid_t pids[NODES]; /* 0: not running */
	char clients[NODES][64], peers[NODES][64];
	char cluster[512];
	const char *const *extra; /* arguments of each server, NULL at their end; NULL: none */
};

/* False: there is no etcd here, and the test is skipped. */
bool nodes_start(struct nodes *nodes);
/* At this address, in place of the loopback's. */
bool nodes_start_at(struct nodes *nodes, const char *address);
/* On loopback, with these arguments more, and with https for clients. */
bool nodes_start_with_tls(struct nodes *nodes, const char *const *extra);
void nodes_stop(struct nodes *nodes);
void nodes_run(struct nodes *nodes, unsigned node);
void nodes_kill(struct nodes *nodes, unsigned node);

/* Options of a session with those endpoints, or with all nodes; good until the next call. */
struct filelock_etcd_options options_with(const char urls[NODES][64], unsigned ttl_ms);
struct filelock_etcd_options nodes_options(const struct nodes *nodes, unsigned ttl_ms);
/* How many keys the store has; -1: no answer came. */
int64_t nodes_count_keys(const struct nodes *nodes);
/* The number of the leader; NODES: none of those that run and answer is it. */
unsigned nodes_leader(const struct nodes *nodes);

#endif
