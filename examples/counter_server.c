/*
 * counter_server.c - an HTTP service of several processes that share one file.
 *
 *	cc counter_server.c -o counter_server \
 *	        $(pkg-config --cflags --libs filelock_event libevent_core libevent_extra)
 *	./counter_server counter.txt        (prints its port; start several on one file)
 *	curl -X POST http://127.0.0.1:PORT/ (adds one and answers the new value)
 *	curl http://127.0.0.1:PORT/         (answers the value)
 *	curl http://127.0.0.1:PORT/metrics  (answers what the lock has done, for Prometheus)
 *
 * Options: -p PORT (0: any free one), -k KIND of lock, -t FILE (a trace: below), -u (unlocked:
 * no locking at all, to see what it is for). Built with -DHAVE_ETCD and pkg-config's filelock_etcd it
 * has -k etcd, which takes the lock counter_server/NAME-OF-THE-FILE in the cluster of -e URL[,URL...];
 * the file is one of a shared file system then.
 *
 * Each request is an owner of its own, so it opens a handle, and waits for the lock in the loop:
 * exclusive to add, shared to read if the kind of lock can be. It reads the file and goes back to
 * the loop for one turn, as any handler must that asks somebody else before it can answer; to add
 * one it then writes. All that time the file belongs to it, or to it and other readers, or, with
 * -u, to everybody.
 *
 * The trace has a line a request: pid, and on CLOCK_MONOTONIC in nanoseconds when it asked for the
 * lock, when it had it and when it was about to give it back; then the mode, S or X.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <filelock/event.h>
#ifdef HAVE_ETCD
#include <filelock/etcd.h>
#endif

#include "kinds.h"

#define MOST_ENDPOINTS 16

struct server {
	struct event_base *base;
	struct evfilelock *ev;
	struct evhttp *http;
	struct event *on_int, *on_term;
	const char *path;
	char *lock_path;
	int file;
	FILE *trace; /* NULL: none */
	enum filelock_kind kind;
	bool unlocked;
	const char *endpoints[MOST_ENDPOINTS]; /* of -k etcd */
	size_t endpoint_count;
	struct filelock_etcd *session; /* NULL: the lock is a file */
	LIST_HEAD(, job) jobs;
};

/* A request of a client, until it is answered. */
struct job {
	struct server *server;
	struct evhttp_request *http;
	struct filelock *lock; /* NULL: unlocked */
	bool adds;
	enum filelock_mode mode;
	uint64_t value;
	int64_t asked, held;
	LIST_ENTRY(job) entry;
};

/* --- the lock --- */

#ifdef HAVE_ETCD

static bool begin_session(struct server *server)
{
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;

	options.endpoints = server->endpoints;
	options.endpoint_count = server->endpoint_count;
	if (filelock_etcd_open(server->ev, &options, &server->session) == 0)
		return true;
	fprintf(stderr, "counter_server: %s\n", filelock_last_error(NULL));
	return false;
}

static void end_session(struct server *server)
{
	filelock_etcd_close(server->session);
}

static int open_in_etcd(struct server *server, struct filelock **ret_lock)
{
	return filelock_open_etcd(server->session, server->lock_path, NULL, ret_lock);
}

#else

static bool begin_session(struct server *server)
{
	(void)server;
	fputs("counter_server: the library was built without locks in etcd\n", stderr);
	return false;
}

static void end_session(struct server *server)
{
	(void)server;
}

static int open_in_etcd(struct server *server, struct filelock **ret_lock)
{
	(void)server, (void)ret_lock;
	return -ENOTSUP;
}

#endif

static int open_lock(struct server *server, struct filelock **ret_lock)
{
	return server->session ? open_in_etcd(server, ret_lock) :
	                         filelock_open(server->lock_path, server->kind, NULL, ret_lock);
}

static enum filelock_mode reader_mode(const struct server *server)
{
	return server->kind == FILELOCK_ETCD ? FILELOCK_SHARED : kind_reader_mode(server->kind);
}

/* "counter.txt.lock" beside the file, or "counter_server/counter.txt" in etcd. NULL: no memory. */
static char *lock_path(const struct server *server)
{
	const char *slash = strrchr(server->path, '/');
	const char *name = slash ? slash + 1 : server->path;
	bool etcd = server->kind == FILELOCK_ETCD;
	const char *first = etcd ? "counter_server/" : server->path;
	const char *last = etcd ? name : kind_suffix(server->kind);
	size_t size = strlen(first) + strlen(last) + 1;
	char *path = malloc(size);

	if (path)
		snprintf(path, size, "%s%s", first, last);
	return path;
}

/* --- requests --- */

static int64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int counter_read(int file, uint64_t *ret_value)
{
	char text[32] = "";

	if (pread(file, text, sizeof(text) - 1, 0) < 0)
		return -errno;
	*ret_value = strtoull(text, NULL, 10); /* an empty file: 0 */
	return 0;
}

static int counter_write(int file, uint64_t value)
{
	char text[32];
	int length = snprintf(text, sizeof(text), "%020" PRIu64 "\n", value);
	ssize_t n = pwrite(file, text, (size_t)length, 0);

	if (n < 0)
		return -errno;
	return n == length ? 0 : -EIO;
}

static void reply(struct evhttp_request *http, int result, uint64_t value)
{
	struct evbuffer *body = evhttp_request_get_output_buffer(http);

	if (result == 0)
		evbuffer_add_printf(body, "%" PRIu64 "\n", value);
	else
		evbuffer_add_printf(body, "%s\n", filelock_strerror(result));
	evhttp_send_reply(http, result == 0 ? HTTP_OK : HTTP_SERVUNAVAIL, NULL, NULL);
}

static void job_free(struct job *job)
{
	LIST_REMOVE(job, entry);
	filelock_close(job->lock);
	free(job);
}

/* First gives back the lock, so that nobody waits for our answer to be written. */
static void job_finish(struct job *job, int result)
{
	struct server *server = job->server;

	if (job->held && server->trace)
		fprintf(server->trace, "%ld %" PRId64 " %" PRId64 " %" PRId64 " %c\n",
		        (long)getpid(), job->asked, job->held, now(),
		        job->mode == FILELOCK_SHARED ? 'S' : 'X');
	if (job->held && job->lock) {
		int r = filelock_release(job->lock);

		result = result < 0 ? result : r;
	}
	reply(job->http, result, job->value);
	job_free(job);
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct job *job = arg;

	(void)fd, (void)what;
	if (!job->adds) {
		job_finish(job, 0);
		return;
	}
	if (job->lock && !filelock_is_held(job->lock)) { /* lost meanwhile: others may write */
		job_finish(job, FILELOCK_ELOST);
		return;
	}
	job->value++;
	job_finish(job, counter_write(job->server->file, job->value));
}

static void job_held(struct job *job)
{
	const struct timeval next_turn = { 0, 0 };
	int r;

	job->held = now();
	r = counter_read(job->server->file, &job->value);
	if (r == 0) {
		if (event_base_once(job->server->base, -1, EV_TIMEOUT, on_turn, job,
		                    &next_turn) == 0)
			return;
		r = -ENOMEM;
	}
	job_finish(job, r);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	(void)lock;
	if (result == 0)
		job_held(arg);
	else
		job_finish(arg, result);
}

static int job_start(struct job *job)
{
	struct server *server = job->server;
	const struct timeval limit = { 30, 0 };
	int r;

	job->asked = now();
	if (server->unlocked) {
		job_held(job);
		return 0;
	}
	r = open_lock(server, &job->lock);
	if (r < 0)
		return r;
	return evfilelock_acquire(server->ev, job->lock, job->mode, &limit, on_lock, job);
}

static void on_request(struct evhttp_request *http, void *arg)
{
	struct server *server = arg;
	struct job *job = calloc(1, sizeof(*job));
	bool post = evhttp_request_get_command(http) == EVHTTP_REQ_POST;
	int r;

	if (!job) {
		evhttp_send_error(http, HTTP_SERVUNAVAIL, NULL);
		return;
	}
	*job = (struct job){ .server = server,
		             .http = http,
		             .adds = post,
		             .mode = post ? FILELOCK_EXCLUSIVE : reader_mode(server) };
	LIST_INSERT_HEAD(&server->jobs, job, entry);
	r = job_start(job);
	if (r < 0)
		job_finish(job, r);
}

static int metrics_write(struct server *server, struct evbuffer *body)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	char *text = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);
	int r;

	if (!file)
		return -errno;
	r = evfilelock_get_stats(server->ev, &stats);
	if (r == 0)
		r = evfilelock_stats_write(&stats, NULL, file);
	if (fclose(file) == EOF && r == 0)
		r = -errno;
	if (r == 0 && evbuffer_add(body, text, length) < 0)
		r = -ENOMEM;
	free(text);
	return r;
}

static void on_metrics(struct evhttp_request *http, void *arg)
{
	int r = metrics_write(arg, evhttp_request_get_output_buffer(http));

	if (r < 0) {
		reply(http, r, 0);
		return;
	}
	evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type",
	                  "text/plain; version=0.0.4");
	evhttp_send_reply(http, HTTP_OK, NULL, NULL);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)number, (void)what;
	event_base_loopbreak(arg);
}

static bool server_listen(struct server *server, int port)
{
	struct evhttp_bound_socket *bound;
	struct sockaddr_in address;
	socklen_t length = sizeof(address);

	server->http = evhttp_new(server->base);
	if (!server->http)
		return false;
	evhttp_set_allowed_methods(server->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
	evhttp_set_max_body_size(server->http, 0);
	evhttp_set_gencb(server->http, on_request, server);
	if (evhttp_set_cb(server->http, "/metrics", on_metrics, server) < 0)
		return false;
	bound = evhttp_bind_socket_with_handle(server->http, "127.0.0.1", (uint16_t)port);
	if (!bound || getsockname(evhttp_bound_socket_get_fd(bound), (struct sockaddr *)&address,
	                          &length) < 0)
		return false;
	printf("%d\n", ntohs(address.sin_port));
	return fflush(stdout) == 0;
}

static bool server_start(struct server *server, int port)
{
	server->lock_path = lock_path(server);
	server->file = open(server->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	server->base = event_base_new();
	if (!server->lock_path || server->file < 0 || !server->base)
		return false;
	server->ev = evfilelock_new(server->base, NULL);
	server->on_int = evsignal_new(server->base, SIGINT, on_signal, server->base);
	server->on_term = evsignal_new(server->base, SIGTERM, on_signal, server->base);
	if (!server->ev || !server->on_int || !server->on_term ||
	    event_add(server->on_int, NULL) < 0 || event_add(server->on_term, NULL) < 0)
		return false;
	if (server->kind == FILELOCK_ETCD && !begin_session(server))
		return false;
	return server_listen(server, port);
}

static bool server_stop(struct server *server)
{
	struct job *job;
	bool ok = true;

	if (server->session)
		end_session(server);
	evfilelock_free(server->ev); /* who waits is called back, and answered */
	while ((job = LIST_FIRST(&server->jobs)))
		job_finish(job, -ECANCELED);
	if (server->http)
		evhttp_free(server->http);
	if (server->on_int)
		event_free(server->on_int);
	if (server->on_term)
		event_free(server->on_term);
	if (server->session && event_base_dispatch(server->base) < 0) /* its lease is given back */
		ok = false;
	if (server->base)
		event_base_free(server->base);
	if (server->file >= 0 && close(server->file) < 0)
		ok = false;
	if (server->trace && (ferror(server->trace) | fclose(server->trace)))
		ok = false;
	free(server->lock_path);
	return ok;
}

static bool parse_port(const char *text, int *ret_port)
{
	char *rest;
	long port = strtol(text, &rest, 10);

	if (rest == text || *rest || port < 0 || port > 65535)
		return false;
	*ret_port = (int)port;
	return true;
}

static bool open_trace(struct server *server, const char *path)
{
	server->trace = fopen(path, "we");
	if (!server->trace)
		perror(path);
	return server->trace;
}

static bool parse_kind(struct server *server, const char *name)
{
	int kind = strcmp(name, "etcd") == 0 ? (int)FILELOCK_ETCD : kind_by_name(name);

	server->kind = (enum filelock_kind)kind;
	return kind >= 0;
}

/* "URL,URL": the commas become ends. */
static bool parse_endpoints(struct server *server, char *text)
{
	for (char *url; (url = strsep(&text, ","));) {
		if (server->endpoint_count == MOST_ENDPOINTS)
			return false;
		server->endpoints[server->endpoint_count++] = url;
	}
	return true;
}

static bool parse(struct server *server, int *ret_port, int argc, char **argv)
{
	bool ok = true;
	int option;

	while (ok && (option = getopt(argc, argv, "e:k:p:t:u")) >= 0) {
		switch (option) {
		case 'e':
			ok = parse_endpoints(server, optarg);
			break;
		case 'k':
			ok = parse_kind(server, optarg);
			break;
		case 'p':
			ok = parse_port(optarg, ret_port);
			break;
		case 't':
			ok = open_trace(server, optarg);
			break;
		case 'u':
			server->unlocked = true;
			break;
		default:
			ok = false;
		}
	}
	server->path = argv[optind];
	return ok && server->path && !argv[optind + 1];
}

int main(int argc, char **argv)
{
	static struct server server = { .file = -1, .jobs = LIST_HEAD_INITIALIZER(server.jobs) };
	int port = 0;
	bool ok;

	if (!parse(&server, &port, argc, argv)) {
		fprintf(stderr, "usage: %s [-k KIND] [-e URL,...] [-p PORT] [-t TRACE] [-u] FILE\n",
		        argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	ok = server_start(&server, port) && event_base_dispatch(server.base) == 0;
	if (!ok)
		perror("counter_server");
	return !(server_stop(&server) && ok);
}
