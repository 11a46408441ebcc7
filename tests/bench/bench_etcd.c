/*
 * Locks in etcd, on three servers of its own on loopback: a cycle, beside etcdctl, beside the two bare
 * transactions by evhttp, and by TLS beside plain; a hand-off between two processes, beside a linearizable
 * read and the transaction that it cannot do without; and how many connections a crowd has. $FILELOCK_TEST_ETCD: the server (etcd); ETCDCTL: the client (etcdctl).
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <filelock/etcd.h>

#include "bench.h"
#include "codec.h"

#define NODES 3
#define PROCESSES 16
#define REQUESTS 100 /* of each */
#define NS_A_MS 1e6

static char clients[NODES][64], secure[NODES][64], peers[NODES][64], cluster[512];
static pid_t servers[NODES];
static bool has_tls; /* openssl made certificates */

/* --- servers --- */

static uint16_t free_port(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket");

	(void)must(bind(fd, (struct sockaddr *)&address, size), "bind");
	(void)must(getsockname(fd, (struct sockaddr *)&address, &size), "getsockname");
	(void)must(close(fd), "close");
	return ntohs(address.sin_port);
}

static const char *program(const char *variable, const char *name)
{
	const char *named = getenv(variable);

	return named ? named : name;
}

static bool is_installed(const char *name)
{
	char command[512];

	(void)snprintf(command, sizeof(command), "command -v '%s' >/dev/null", name);
	return system(command) == 0;
}

static void silence(void)
{
	int fd = must(open("/dev/null", O_WRONLY | O_CLOEXEC), "/dev/null");

	(void)must(dup2(fd, 1), "dup2");
	(void)must(dup2(fd, 2), "dup2");
}

/* A certificate for 127.0.0.1 that is its own authority. */
static bool make_certificate(void)
{
	char command[1024], *certificate = bench_path("cert.pem"), *key = bench_path("key.pem");
	bool made;

	(void)snprintf(command, sizeof(command),
	               "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
	               "-subj /O=bench -addext subjectAltName=IP:127.0.0.1 -keyout '%s' -out '%s' "
	               ">/dev/null 2>&1", key, certificate);
	made = is_installed("openssl") && system(command) == 0;
	free(certificate);
	free(key);
	return made;
}

static void become_server(unsigned node)
{
	const char *etcd = program("FILELOCK_TEST_ETCD", "etcd");
	char name[8], listen[160];

	(void)snprintf(name, sizeof(name), "n%u", node);
	(void)snprintf(listen, sizeof(listen), has_tls ? "%s,%s" : "%s", clients[node], secure[node]);
	silence();
	(void)execlp(etcd, etcd, "--name", name, "--data-dir", bench_path(name),
	             "--listen-client-urls", listen, "--advertise-client-urls", clients[node],
	             "--listen-peer-urls", peers[node], "--initial-advertise-peer-urls", peers[node],
	             "--initial-cluster", cluster, "--initial-cluster-state", "new",
	             has_tls ? "--cert-file" : (char *)NULL, bench_path("cert.pem"), "--key-file",
	             bench_path("key.pem"), (char *)NULL);
	_exit(127);
}

static void start_servers(void)
{
	size_t length = 0;

	has_tls = make_certificate();
	for (unsigned i = 0; i < NODES; i++) {
		(void)snprintf(secure[i], sizeof(secure[i]), "https://127.0.0.1:%u", free_port());
		(void)snprintf(clients[i], sizeof(clients[i]), "http://127.0.0.1:%u", free_port());
		(void)snprintf(peers[i], sizeof(peers[i]), "http://127.0.0.1:%u", free_port());
		length += (size_t)snprintf(cluster + length, sizeof(cluster) - length, "%sn%u=%s",
		                           i ? "," : "", i, peers[i]);
	}
	for (unsigned i = 0; i < NODES; i++) {
		servers[i] = bench_fork();
		if (servers[i] == 0)
			become_server(i);
	}
}

static void stop_servers(void)
{
	for (unsigned i = 0; i < NODES; i++) {
		(void)kill(servers[i], SIGKILL);
		bench_reap(servers[i], SIGKILL);
	}
}

/* --- ours --- */

struct client {
	struct event_base *base;
	struct evfilelock *ev;
	struct filelock_etcd *session;
	struct filelock *lock;
	unsigned rounds, done;
	int64_t since; /* the last grant */
	struct series *samples;
};

static struct client client_of(const char *name, char urls[NODES][64])
{
	const char *endpoints[NODES];
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	struct client client = { .base = must_have(event_base_new(), "event_base_new") };
	char *ca_file = urls == secure ? bench_path("cert.pem") : NULL;

	for (unsigned i = 0; i < NODES; i++)
		endpoints[i] = urls[i];
	options.endpoints = endpoints;
	options.endpoint_count = NODES;
	options.ca_file = ca_file;
	client.ev = must_have(evfilelock_new(client.base, NULL), "evfilelock_new");
	(void)must_lock(filelock_etcd_open(client.ev, &options, &client.session), "filelock_etcd_open");
	(void)must_lock(filelock_open_etcd(client.session, name, NULL, &client.lock),
	                "filelock_open_etcd");
	free(ca_file);
	return client;
}

static struct client client_new(const char *name)
{
	return client_of(name, clients);
}

static void client_end(struct client *client)
{
	filelock_close(client->lock);
	filelock_etcd_close(client->session);
	evfilelock_free(client->ev);
	(void)event_base_dispatch(client->base);
	event_base_free(client->base);
}

/* From grant to grant: the request does not overtake the release before it. */
static void on_cycle(struct filelock *lock, int result, void *arg)
{
	struct client *client = arg;
	int64_t now = bench_now();

	(void)must_lock(result, "evfilelock_acquire");
	if (client->since && client->samples)
		series_add(client->samples, (double)(now - client->since) / NS_A_MS);
	client->since = now;
	(void)must_lock(filelock_release(lock), "filelock_release");
	if (++client->done > client->rounds)
		(void)event_base_loopbreak(client->base);
	else
		(void)must_lock(evfilelock_acquire(client->ev, lock, FILELOCK_EXCLUSIVE, NULL,
		                                   on_cycle, client),
		                "evfilelock_acquire");
}

static void run_cycles(struct client *client, unsigned rounds, struct series *samples)
{
	client->rounds = rounds;
	client->samples = samples;
	client->done = 0;
	client->since = 0;
	(void)must_lock(evfilelock_acquire(client->ev, client->lock, FILELOCK_EXCLUSIVE, NULL,
	                                   on_cycle, client),
	                "evfilelock_acquire");
	(void)must(event_base_dispatch(client->base), "event_base_dispatch");
}

/* --- bare requests --- */

struct bare {
	struct event_base *base;
	struct evhttp_connection *connection;
	struct codec_txn txn;
	bool answered;
};

static struct bare bare_new(void)
{
	struct bare bare = { .base = must_have(event_base_new(), "event_base_new") };
	const char *port = strrchr(clients[0], ':') + 1;

	bare.connection = must_have(evhttp_connection_base_new(bare.base, NULL, "127.0.0.1",
	                                                       (uint16_t)atoi(port)),
	                            "evhttp_connection_base_new");
	return bare;
}

static void bare_end(struct bare *bare)
{
	evhttp_connection_free(bare->connection);
	event_base_free(bare->base);
}

static void on_answer(struct evhttp_request *request, void *arg)
{
	struct bare *bare = arg;
	struct evbuffer *body;
	json_t *json;

	if (!request || evhttp_request_get_response_code(request) != HTTP_OK)
		bench_fail("a bare request was refused");
	body = evhttp_request_get_input_buffer(request);
	json = must_have(json_loadb((const char *)evbuffer_pullup(body, -1), evbuffer_get_length(body),
	                            0, NULL), "json_loadb");
	(void)codec_read_txn(json, &bare->txn); /* a range is none */
	json_decref(json);
	bare->answered = true;
}

static void bare_post(struct bare *bare, const char *path, const char *text)
{
	static const int on = 1;
	struct evhttp_request *request =
	        must_have(evhttp_request_new(on_answer, bare), "evhttp_request_new");

	(void)evhttp_add_header(evhttp_request_get_output_headers(request), "Host", "localhost");
	(void)evbuffer_add(evhttp_request_get_output_buffer(request), text, strlen(text));
	bare->answered = false;
	(void)must(evhttp_make_request(bare->connection, request, EVHTTP_REQ_POST, path),
	           "evhttp_make_request");
	(void)setsockopt(bufferevent_getfd(evhttp_connection_get_bufferevent(bare->connection)),
	                 IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while (!bare->answered)
		(void)must(event_base_loop(bare->base, EVLOOP_ONCE), "event_base_loop");
}

static void bare_post_and_free(struct bare *bare, char *text)
{
	bare_post(bare, "/v3/kv/txn", must_have(text, "codec"));
	free(text);
}

/* What a cycle cannot do without: the key is put, and deleted. */
static void run_bare_cycles(struct bare *bare, unsigned rounds, struct series *samples)
{
	static uint64_t number;
	char *folder = must_have(codec_folder("bare"), "codec_folder");

	for (unsigned i = 0; i < rounds; i++) {
		struct codec_key key = { .folder = folder };
		int64_t since = bench_now();
		char *name = must_have(codec_key(folder, false, 0, ++number), "codec_key");

		key.key = name;
		bare_post_and_free(bare, codec_enqueue(&key));
		key.revision = bare->txn.revision;
		bare_post_and_free(bare, codec_release(&key));
		if (!bare->txn.succeeded)
			bench_fail("a bare key was not deleted");
		if (samples)
			series_add(samples, (double)(bench_now() - since) / NS_A_MS);
		free(name);
	}
	free(folder);
}

static void run_reads(struct bare *bare, unsigned rounds, struct series *samples)
{
	for (unsigned i = 0; i < rounds; i++) {
		int64_t since = bench_now();

		bare_post(bare, "/v3/kv/range", "{\"key\":\"YQ==\"}");
		series_add(samples, (double)(bench_now() - since) / NS_A_MS);
	}
}

/* --- etcdctl --- */

static void run_etcdctl(unsigned rounds, struct series *samples)
{
	const char *etcdctl = program("ETCDCTL", "etcdctl");

	for (unsigned i = 0; i < rounds; i++) {
		int64_t since = bench_now();
		pid_t pid = bench_fork();

		if (pid == 0) {
			silence();
			(void)setenv("ETCDCTL_API", "3", 1);
			(void)execlp(etcdctl, etcdctl, "--endpoints", clients[0], "lock", "etcdctl",
			             "true", (char *)NULL);
			_exit(127);
		}
		bench_reap(pid, 0);
		series_add(samples, (double)(bench_now() - since) / NS_A_MS);
	}
}

static void measure_cycle(void)
{
	unsigned turns = bench_rounds(20, 2), rounds = bench_rounds(100, 5);
	struct series ours = { 0 }, bare = { 0 }, other = { 0 };
	struct client client = client_new("cycle");
	struct bare line = bare_new();
	bool has_etcdctl = is_installed(program("ETCDCTL", "etcdctl"));

	run_cycles(&client, 10, NULL); /* the servers may have begun just now */
	run_bare_cycles(&line, 10, NULL);
	for (unsigned i = 0; i < turns; i++) {
		run_cycles(&client, rounds, &ours);
		run_bare_cycles(&line, rounds, &bare);
		if (has_etcdctl)
			run_etcdctl(1, &other);
	}
	bench_row("etcd: cycle / two bare transactions by evhttp", series_median(&ours),
	          series_median(&bare), "ms", 1.3);
	if (has_etcdctl)
		bench_row("etcd: cycle / etcdctl lock NAME true", series_median(&ours),
		          series_median(&other), "ms", 0.2);
	else
		bench_skip("etcd: cycle / etcdctl lock NAME true", "etcdctl is not installed");
	bare_end(&line);
	client_end(&client);
	series_free(&ours);
	series_free(&bare);
	series_free(&other);
}

static void measure_tls(void)
{
	unsigned turns = bench_rounds(20, 2), rounds = bench_rounds(100, 5);
	struct series plain = { 0 }, tls = { 0 };
	struct client client, other;

	if (!has_tls) {
		bench_skip("etcd: cycle by TLS / plain", "openssl makes no certificate here");
		return;
	}
	client = client_of("tls", secure);
	other = client_new("plain");
	run_cycles(&client, 10, NULL);
	run_cycles(&other, 10, NULL);
	for (unsigned i = 0; i < turns; i++) {
		run_cycles(&client, rounds, &tls);
		run_cycles(&other, rounds, &plain);
	}
	bench_row("etcd: cycle by TLS / plain", series_median(&tls), series_median(&plain), "ms", 2);
	client_end(&client);
	client_end(&other);
	series_free(&plain);
	series_free(&tls);
}

/* --- hand-off --- */

#define MOST_HANDOFFS 1000
#define HOLD_MS 10
#define READ_EVERY 3000000 /* ns */

struct table {
	_Atomic int64_t released; /* by the one who held last */
	_Atomic int last;         /* its number */
	_Atomic unsigned count;
	double ms[MOST_HANDOFFS];
};

struct side {
	struct client client;
	struct table *table;
	int number;
	unsigned wanted;
};

static void ask_again(struct side *side);

static void on_held_long(evutil_socket_t fd, short what, void *arg)
{
	struct side *side = arg;

	(void)fd, (void)what;
	atomic_store(&side->table->last, side->number);
	atomic_store(&side->table->released, bench_now());
	(void)must_lock(filelock_release(side->client.lock), "filelock_release");
	if (atomic_load(&side->table->count) >= side->wanted)
		(void)event_base_loopbreak(side->client.base);
	else
		ask_again(side);
}

static void on_handed_off(struct filelock *lock, int result, void *arg)
{
	static const struct timeval hold = { 0, HOLD_MS * 1000 };
	struct side *side = arg;
	struct table *table = side->table;
	int64_t now = bench_now();

	(void)lock;
	(void)must_lock(result, "evfilelock_acquire");
	if (atomic_load(&table->last) == 3 - side->number &&
	    atomic_load(&table->count) < side->wanted)
		table->ms[atomic_fetch_add(&table->count, 1)] =
		        (double)(now - atomic_load(&table->released)) / NS_A_MS;
	(void)must(event_base_once(side->client.base, -1, EV_TIMEOUT, on_held_long, side, &hold),
	           "event_base_once");
}

static void ask_again(struct side *side)
{
	(void)must_lock(evfilelock_acquire(side->client.ev, side->client.lock, FILELOCK_EXCLUSIVE,
	                                   NULL, on_handed_off, side),
	                "evfilelock_acquire");
}

static void play(struct table *table, int number, unsigned wanted)
{
	struct side side = { .client = client_new("handoff"), .table = table, .number = number,
		             .wanted = wanted };

	ask_again(&side);
	(void)must(event_base_dispatch(side.client.base), "event_base_dispatch");
	client_end(&side.client);
	_exit(0);
}

static void measure_handoff(void)
{
	unsigned wanted = bench_rounds(MOST_HANDOFFS / 2, 10);
	struct table *table = bench_shared(sizeof(*table));
	struct series ours = { 0 }, reads = { 0 }, pairs = { 0 };
	struct bare line = bare_new();
	pid_t pids[2];

	for (int i = 0; i < 2; i++) {
		pids[i] = bench_fork();
		if (pids[i] == 0)
			play(table, i + 1, wanted);
	}
	while (atomic_load(&table->count) < wanted) { /* beside them, all the time */
		run_reads(&line, 1, &reads);
		bench_sleep(READ_EVERY);
		run_bare_cycles(&line, 1, &pairs);
		bench_sleep(READ_EVERY);
	}
	for (int i = 0; i < 2; i++)
		bench_reap(pids[i], 0);
	for (unsigned i = 0; i < atomic_load(&table->count); i++)
		series_add(&ours, table->ms[i]);
	bench_row("etcd: hand-off of two processes / a linearizable read", series_median(&ours),
	          series_median(&reads), "ms", 3);
	/* the release is written to the disks of two servers, which no read waits for */
	bench_row("etcd: hand-off / one bare transaction and the read",
	          series_median(&ours), series_median(&pairs) / 2 + series_median(&reads), "ms", 0);
	bare_end(&line);
	series_free(&ours);
	series_free(&reads);
	series_free(&pairs);
}

/* --- a crowd --- */

struct crowd {
	_Atomic unsigned connections[PROCESSES], granted;
};

struct member {
	struct client client;
	struct crowd *crowd;
	unsigned number, granted;
};

static unsigned count_sockets(void)
{
	DIR *folder = must_have(opendir("/proc/self/fd"), "/proc/self/fd");
	struct dirent *entry;
	unsigned count = 0;
	char target[64];

	while ((entry = readdir(folder))) {
		ssize_t n = readlinkat(dirfd(folder), entry->d_name, target, sizeof(target));

		count += n > 7 && strncmp(target, "socket:", 7) == 0;
	}
	closedir(folder);
	return count;
}

static void on_member(struct filelock *lock, int result, void *arg)
{
	struct member *member = arg;
	unsigned sockets = count_sockets();

	(void)must_lock(result, "evfilelock_acquire");
	if (sockets > atomic_load(&member->crowd->connections[member->number]))
		atomic_store(&member->crowd->connections[member->number], sockets);
	(void)must_lock(filelock_release(lock), "filelock_release");
	atomic_fetch_add(&member->crowd->granted, 1);
	if (++member->granted == REQUESTS)
		(void)event_base_loopbreak(member->client.base);
}

static void join(struct crowd *crowd, unsigned number)
{
	struct member member = { .client = client_new("crowd"), .crowd = crowd, .number = number };
	struct filelock *locks[REQUESTS];

	for (unsigned i = 0; i < REQUESTS; i++) {
		(void)must_lock(filelock_open_etcd(member.client.session, "crowd", NULL, &locks[i]),
		                "filelock_open_etcd");
		(void)must_lock(evfilelock_acquire(member.client.ev, locks[i], FILELOCK_EXCLUSIVE, NULL,
		                                   on_member, &member),
		                "evfilelock_acquire");
	}
	(void)must(event_base_dispatch(member.client.base), "event_base_dispatch");
	for (unsigned i = 0; i < REQUESTS; i++)
		filelock_close(locks[i]);
	client_end(&member.client);
	_exit(0);
}

static void measure_crowd(void)
{
	struct crowd *crowd = bench_shared(sizeof(*crowd));
	int64_t since = bench_now();
	pid_t pids[PROCESSES];
	unsigned most = 0;

	for (unsigned i = 0; i < PROCESSES; i++) {
		pids[i] = bench_fork();
		if (pids[i] == 0)
			join(crowd, i);
	}
	for (unsigned i = 0; i < PROCESSES; i++) {
		bench_reap(pids[i], 0);
		if (atomic_load(&crowd->connections[i]) > most)
			most = atomic_load(&crowd->connections[i]);
	}
	bench_row_limit("etcd: 1,600 waiters in 16 processes: connections of a process", most, "", 3);
	bench_note("etcd: %u waiters in %d processes had the lock in %.2f ms each",
	           atomic_load(&crowd->granted), PROCESSES,
	           (double)(bench_now() - since) / NS_A_MS / atomic_load(&crowd->granted));
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	if (!is_installed(program("FILELOCK_TEST_ETCD", "etcd"))) {
		bench_skip("etcd: all", "etcd-server is not installed");
		return 0;
	}
	start_servers();
	measure_cycle();
	measure_tls();
	measure_handoff();
	measure_crowd();
	stop_servers();
	return 0;
}
