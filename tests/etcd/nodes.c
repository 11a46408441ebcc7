/*
 * nodes.c - three real etcd servers on loopback.
 */
#include "nodes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "driver_private.h"
#include "rpc.h"

#define MOST_ARGUMENTS 40

static const char *program(void)
{
	const char *named = getenv("FILELOCK_TEST_ETCD");

	return named ? named : "etcd";
}

static bool is_installed(void)
{
	char command[512];

	(void)snprintf(command, sizeof(command), "command -v '%s' >/dev/null", program());
	return system(command) == 0;
}

/* Ports that nobody has, for now. */
static void find_ports(uint16_t *ports, unsigned count)
{
	int fds[2 * NODES];

	ck_assert_uint_le(count, 2 * NODES);
	for (unsigned i = 0; i < count; i++) {
		struct sockaddr_in address = { .sin_family = AF_INET,
			                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t size = sizeof(address);

		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		ck_assert_int_ge(fds[i], 0);
		ck_assert_int_eq(bind(fds[i], (struct sockaddr *)&address, size), 0);
		ck_assert_int_eq(getsockname(fds[i], (struct sockaddr *)&address, &size), 0);
		ports[i] = ntohs(address.sin_port);
	}
	for (unsigned i = 0; i < count; i++)
		ck_assert_int_eq(close(fds[i]), 0);
}

static void become(const struct nodes *nodes, unsigned node, const char *name, const char *data)
{
	const char *arguments[MOST_ARGUMENTS] = {
		program(), "--name", name, "--data-dir", data,
		"--listen-client-urls", nodes->clients[node],
		"--advertise-client-urls", nodes->clients[node],
		"--listen-peer-urls", nodes->peers[node],
		"--initial-advertise-peer-urls", nodes->peers[node],
		"--initial-cluster", nodes->cluster, "--initial-cluster-state", "new"
	};
	size_t n = 0;

	while (arguments[n])
		n++;
	for (size_t i = 0; nodes->extra && nodes->extra[i] && n + 1 < MOST_ARGUMENTS; i++)
		arguments[n++] = nodes->extra[i];
	(void)execvp(program(), (char *const *)arguments);
	_exit(127);
}

void nodes_run(struct nodes *nodes, unsigned node)
{
	char name[8], data[32], log[32];
	pid_t parent = getpid();
	int fd;

	(void)snprintf(name, sizeof(name), "n%u", node);
	(void)snprintf(data, sizeof(data), "node%u", node);
	(void)snprintf(log, sizeof(log), "node%u.log", node);
	nodes->pids[node] = fork();
	ck_assert_int_ge(nodes->pids[node], 0);
	if (nodes->pids[node] > 0)
		return;
	(void)setpgid(0, 0);
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	fd = open(test_path(log), O_WRONLY | O_CREAT | O_APPEND, 0600);
	(void)dup2(fd, 1);
	(void)dup2(fd, 2);
	become(nodes, node, name, test_path(data));
}

static bool start(struct nodes *nodes, const char *scheme, const char *address,
                  const char *const *extra)
{
	uint16_t ports[2 * NODES];
	size_t length = 0;

	if (!is_installed()) {
		test_skip("etcd is not installed");
		return false;
	}
	(void)test_folder(); /* made by the test itself, for all that it forks */
	find_ports(ports, 2 * NODES);
	*nodes = (struct nodes){ .extra = extra };
	for (unsigned i = 0; i < NODES; i++) {
		(void)snprintf(nodes->clients[i], sizeof(nodes->clients[i]), "%s://%s:%u", scheme,
		               address, ports[2 * i]);
		(void)snprintf(nodes->peers[i], sizeof(nodes->peers[i]), "http://127.0.0.1:%u",
		               ports[2 * i + 1]);
		length += (size_t)snprintf(nodes->cluster + length, sizeof(nodes->cluster) - length,
		                           "%sn%u=%s", i ? "," : "", i, nodes->peers[i]);
	}
	for (unsigned i = 0; i < NODES; i++)
		nodes_run(nodes, i);
	return true;
}

bool nodes_start(struct nodes *nodes)
{
	return start(nodes, "http", "127.0.0.1", NULL);
}

bool nodes_start_at(struct nodes *nodes, const char *address)
{
	return start(nodes, "http", address, NULL);
}

bool nodes_start_with_tls(struct nodes *nodes, const char *const *extra)
{
	return start(nodes, "https", "127.0.0.1", extra);
}

void nodes_kill(struct nodes *nodes, unsigned node)
{
	int status;

	if (nodes->pids[node] <= 0)
		return;
	(void)kill(nodes->pids[node], SIGKILL);
	ck_assert_int_eq(waitpid(nodes->pids[node], &status, 0), nodes->pids[node]);
	nodes->pids[node] = 0;
}

void nodes_stop(struct nodes *nodes)
{
	for (unsigned i = 0; i < NODES; i++)
		nodes_kill(nodes, i);
}

struct filelock_etcd_options options_with(const char urls[NODES][64], unsigned ttl_ms)
{
	static const char *endpoints[NODES];
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;

	for (unsigned i = 0; i < NODES; i++)
		endpoints[i] = urls[i];
	options.endpoints = endpoints;
	options.endpoint_count = NODES;
	options.ttl_ms = ttl_ms;
	return options;
}

struct filelock_etcd_options nodes_options(const struct nodes *nodes, unsigned ttl_ms)
{
	return options_with(nodes->clients, ttl_ms);
}

struct question {
	struct event_base *base;
	void (*take)(const json_t *answer, void *arg);
	void *arg;
};

static void on_told(void *arg, const struct rpc_answer *answer)
{
	struct question *question = arg;

	ck_assert_msg(answer->result == 0, "%s", answer->message);
	question->take(answer->json, question->arg);
	(void)event_base_loopbreak(question->base);
}

/* One question to those servers; without an answer for so long nothing is taken. */
static void ask(const char urls[][64], unsigned count, const char *path, const char *body, int seconds,
                struct question *question)
{
	struct timeval patience = { seconds, 0 };
	struct http_endpoint endpoints[NODES];
	struct rpc_access access = { .endpoints = endpoints, .count = count,
		                     .generation = filelock_generation() };
	struct rpc rpc = { 0 };

	question->base = event_base_new();
	for (unsigned i = 0; i < count; i++)
		ck_assert_int_eq(http_endpoint_read(urls[i], &endpoints[i]), 0);
	ck_assert_int_eq(http_open(&access.ground, question->base), 0);
	ck_assert_int_eq(rpc_open(&rpc, &access), 0);
	ck_assert_ptr_nonnull(rpc_post(&rpc, path, strdup(body), on_told, question));
	(void)event_base_loopexit(question->base, &patience);
	(void)event_base_dispatch(question->base);
	rpc_close(&rpc);
	http_close(&access.ground);
	for (unsigned i = 0; i < count; i++)
		http_endpoint_free(&endpoints[i]);
	event_base_free(question->base);
}

static void take_count(const json_t *answer, void *arg)
{
	const char *text = json_string_value(json_object_get(answer, "count"));
	int64_t *keys = arg;

	*keys = text ? strtoll(text, NULL, 10) : 0;
}

int64_t nodes_count_keys(const struct nodes *nodes)
{
	int64_t keys = -1;
	struct question question = { .take = take_count, .arg = &keys };

	ask(nodes->clients, NODES, "/v3/kv/range",
	    "{\"key\":\"AA==\",\"range_end\":\"AA==\",\"count_only\":true}", 20, &question);
	return keys;
}

static void take_status(const json_t *answer, void *arg)
{
	const char *leader = json_string_value(json_object_get(answer, "leader"));
	const char *member = json_string_value(
	        json_object_get(json_object_get(answer, "header"), "member_id"));
	bool *is_leader = arg;

	*is_leader = leader && member && strcmp(leader, member) == 0;
}

unsigned nodes_leader(const struct nodes *nodes)
{
	bool is_leader = false;
	struct question question = { .take = take_status, .arg = &is_leader };

	for (unsigned i = 0; i < NODES; i++) {
		if (nodes->pids[i] > 0)
			ask(&nodes->clients[i], 1, "/v3/maintenance/status", "{}", 1, &question);
		if (is_leader)
			return i;
	}
	return NODES;
}
