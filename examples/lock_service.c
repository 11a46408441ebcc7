/*
 * lock_service.c - locks for programs that speak a line of text: a server with four event bases in
 * four threads.
 *
 *	cc lock_service.c -o lock_service -pthread \
 *	        $(pkg-config --cflags --libs filelock_event libevent_core)
 *	./lock_service locks/               (prints its port)
 *	nc 127.0.0.1 PORT
 *
 *	lock NAME    answers "held NAME" when the client has the lock locks/NAME.lock
 *	try NAME     answers "held NAME" or "busy NAME" at once
 *	unlock NAME  answers "free NAME"
 *
 * anything else, or what fails, is answered by "error" and a sentence. A client that leaves loses its
 * locks, also those that it waits for.
 *
 * Each thread has a base, a context on it, and a listener of its own on the one port (SO_REUSEPORT): a
 * client stays with the thread that accepted it, so nothing is shared, and nothing needs a mutex. Its
 * locks are files, so the clients of all threads, of other servers and of programs that lock the files
 * themselves exclude each other.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <filelock/event.h>

#define THREADS 4
#define LONGEST_LINE 256

struct worker {
	pthread_t thread;
	struct event_base *base;
	struct evfilelock *ev;
	struct evconnlistener *listener;
	struct event *on_stop; /* the end of a pipe */
	const char *folder;
	LIST_HEAD(, client) clients;
};

struct client {
	struct worker *worker;
	struct bufferevent *bev;
	LIST_ENTRY(client) entry;
	LIST_HEAD(, claim) claims;
};

/* A lock that a client has, or waits for. */
struct claim {
	struct client *client; /* NULL: it has left */
	struct filelock *lock;
	bool waiting;
	LIST_ENTRY(claim) entry;
	char name[];
};

static void answer(struct client *client, const char *word, const char *text)
{
	evbuffer_add_printf(bufferevent_get_output(client->bev), "%s %s\n", word, text);
}

/* Whoever waits is called back once more, and freed then. */
static void claim_drop(struct claim *claim)
{
	LIST_REMOVE(claim, entry);
	claim->client = NULL;
	filelock_close(claim->lock);
	if (!claim->waiting)
		free(claim);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct claim *claim = arg;
	struct client *client = claim->client;

	(void)lock;
	claim->waiting = false;
	if (!client) {
		free(claim);
		return;
	}
	if (result == 0) {
		answer(client, "held", claim->name);
		return;
	}
	if (result == -ETIMEDOUT)
		answer(client, "busy", claim->name);
	else
		answer(client, "error", filelock_strerror(result));
	claim_drop(claim);
}

static struct claim *claim_find(const struct client *client, const char *name)
{
	struct claim *claim;

	LIST_FOREACH(claim, &client->claims, entry)
		if (strcmp(claim->name, name) == 0)
			return claim;
	return NULL;
}

static int claim_open(struct claim *claim, const struct worker *worker)
{
	char path[4096];

	if (strchr(claim->name, '/') || *claim->name == '.' || !*claim->name)
		return -EINVAL;
	snprintf(path, sizeof(path), "%.3000s/%s.lock", worker->folder, claim->name);
	return filelock_open(path, FILELOCK_NATIVE, NULL, &claim->lock);
}

/* limit: NULL: for ever. Returns 0 (an answer follows) or an error. */
static int claim_begin(struct client *client, const char *name, const struct timeval *limit)
{
	struct claim *claim = calloc(1, sizeof(*claim) + strlen(name) + 1);
	int r;

	if (!claim)
		return -ENOMEM;
	strcpy(claim->name, name);
	claim->client = client;
	LIST_INSERT_HEAD(&client->claims, claim, entry);
	r = claim_open(claim, client->worker);
	if (r == 0)
		r = evfilelock_acquire(client->worker->ev, claim->lock, FILELOCK_EXCLUSIVE, limit,
		                       on_lock, claim);
	claim->waiting = r == 0;
	if (r < 0)
		claim_drop(claim);
	return r;
}

static int unlock(struct client *client, const char *name)
{
	struct claim *claim = claim_find(client, name);
	int r;

	if (!claim || claim->waiting)
		return -EPERM;
	r = filelock_release(claim->lock);
	if (r < 0)
		return r;
	answer(client, "free", name);
	claim_drop(claim);
	return 0;
}

static int obey(struct client *client, const char *line)
{
	static const struct timeval at_once = { 0, 0 };
	char verb[8], name[LONGEST_LINE];

	if (sscanf(line, "%7s %255s", verb, name) != 2)
		return -EINVAL;
	if (strcmp(verb, "unlock") == 0)
		return unlock(client, name);
	if (claim_find(client, name)) {
		answer(client, "error", "this client has it, or waits for it");
		return 0;
	}
	if (strcmp(verb, "lock") == 0)
		return claim_begin(client, name, NULL);
	if (strcmp(verb, "try") == 0)
		return claim_begin(client, name, &at_once);
	return -EINVAL;
}

static void client_free(struct client *client)
{
	struct claim *claim;

	while ((claim = LIST_FIRST(&client->claims)))
		claim_drop(claim);
	LIST_REMOVE(client, entry);
	bufferevent_free(client->bev);
	free(client);
}

static void on_read(struct bufferevent *bev, void *arg)
{
	struct client *client = arg;
	struct evbuffer *input = bufferevent_get_input(bev);
	char *line;
	int r;

	while ((line = evbuffer_readln(input, NULL, EVBUFFER_EOL_CRLF))) {
		r = obey(client, line);
		free(line);
		if (r < 0)
			answer(client, "error", filelock_strerror(r));
	}
	if (evbuffer_get_length(input) >= LONGEST_LINE)
		client_free(client);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	(void)bev, (void)what; /* the end of the stream, or an error */
	client_free(arg);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *arg)
{
	struct worker *worker = arg;
	struct client *client = calloc(1, sizeof(*client));

	(void)listener, (void)address, (void)length;
	if (client)
		client->bev = bufferevent_socket_new(worker->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!client || !client->bev) {
		evutil_closesocket(fd);
		free(client);
		return;
	}
	client->worker = worker;
	LIST_INIT(&client->claims);
	LIST_INSERT_HEAD(&worker->clients, client, entry);
	bufferevent_setcb(client->bev, on_read, NULL, on_event, client);
	bufferevent_setwatermark(client->bev, EV_READ, 0, LONGEST_LINE);
	bufferevent_enable(client->bev, EV_READ | EV_WRITE);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;

	(void)fd, (void)what;
	event_base_loopbreak(worker->base);
}

/* port: 0: any free one; the one that it has, from then on. */
static bool worker_open(struct worker *worker, const char *folder, int stop, in_port_t *port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_port = *port,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);

	worker->folder = folder;
	LIST_INIT(&worker->clients);
	worker->base = event_base_new();
	worker->ev = worker->base ? evfilelock_new(worker->base, NULL) : NULL;
	if (!worker->ev)
		return false;
	worker->listener = evconnlistener_new_bind(
	        worker->base, on_accept, worker,
	        LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE_PORT, -1,
	        (struct sockaddr *)&address, sizeof(address));
	worker->on_stop = event_new(worker->base, stop, EV_READ, on_stop, worker);
	if (!worker->listener || !worker->on_stop || event_add(worker->on_stop, NULL) < 0 ||
	    getsockname(evconnlistener_get_fd(worker->listener), (struct sockaddr *)&address,
	                &length) < 0)
		return false;
	*port = address.sin_port;
	return true;
}

static void worker_close(struct worker *worker)
{
	struct client *client;

	while ((client = LIST_FIRST(&worker->clients)))
		client_free(client);
	evfilelock_free(worker->ev); /* calls back who waited */
	if (worker->listener)
		evconnlistener_free(worker->listener);
	if (worker->on_stop)
		event_free(worker->on_stop);
	if (worker->base)
		event_base_free(worker->base);
}

static void *worker_run(void *arg)
{
	struct worker *worker = arg;

	return event_base_dispatch(worker->base) < 0 ? worker : NULL;
}

/* Until a signal comes; the end of the pipe tells it to all threads. */
static bool serve(struct worker *workers, int stop)
{
	unsigned running = 0;
	sigset_t signals;
	int number;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &signals, NULL); /* the threads have that mask, too */
	while (running < THREADS && pthread_create(&workers[running].thread, NULL, worker_run,
	                                           &workers[running]) == 0)
		running++;
	if (running == THREADS)
		sigwait(&signals, &number);
	close(stop);
	for (unsigned i = 0; i < running; i++)
		pthread_join(workers[i].thread, NULL);
	return running == THREADS;
}

int main(int argc, char **argv)
{
	static struct worker workers[THREADS];
	in_port_t port = 0;
	int stop[2];
	bool ok = true;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	if (pipe(stop) < 0)
		return 1;
	for (unsigned i = 0; ok && i < THREADS; i++)
		ok = worker_open(&workers[i], argv[1], stop[0], &port);
	if (ok) {
		printf("listening on 127.0.0.1:%d\n", ntohs(port));
		fflush(stdout);
		ok = serve(workers, stop[1]);
	}
	if (!ok)
		perror("lock_service");
	for (unsigned i = 0; i < THREADS; i++)
		worker_close(&workers[i]);
	close(stop[0]);
	return !ok;
}
