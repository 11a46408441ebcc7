/*
 * standby.c - a server of which one process is active, and any number stands by.
 *
 *	cc standby.c -o standby $(pkg-config --cflags --libs filelock_event libevent_core)
 *	./standby /run/app.lock 8080 &      (prints "standing by", then "live")
 *	./standby /run/app.lock 8080 &      (prints "standing by")
 *	nc 127.0.0.1 8080                   (answers the pid of the active one)
 *
 * The active process holds the lock from its beginning to its end, so the kernel gives the lock to a
 * process that stands by the moment the active one ends, also by kill -9. A pid file and the port may
 * outlive the lock: a new active process replaces the one, and tries again until it has the other. If
 * somebody removes the lock file, another process may become active, so this one ends.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <filelock/event.h>

#define TRY_PORT_US 10000

struct server {
	struct event_base *base;
	struct evfilelock *ev;
	struct filelock *lock;
	struct evconnlistener *listener; /* NULL: not live */
	struct event *on_int, *on_term;
	struct event *port_timer;
	const char *lock_path;
	int port;
	bool failed;
};

static void server_fail(struct server *server, const char *what, const char *why)
{
	fprintf(stderr, "%s: %s\n", what, why);
	server->failed = true;
	event_base_loopbreak(server->base);
}

static void on_written(struct bufferevent *bev, void *arg)
{
	(void)arg;
	bufferevent_free(bev);
}

static void on_gone(struct bufferevent *bev, short what, void *arg)
{
	(void)what, (void)arg;
	bufferevent_free(bev);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *arg)
{
	struct bufferevent *bev =
	        bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);
	char line[32];
	int n = snprintf(line, sizeof(line), "%ld\n", (long)getpid());

	(void)address, (void)length, (void)arg;
	if (!bev) {
		evutil_closesocket(fd);
		return;
	}
	bufferevent_setcb(bev, NULL, on_written, on_gone, NULL);
	if (bufferevent_write(bev, line, (size_t)n) < 0)
		bufferevent_free(bev);
}

/* By rename(2), so that nobody reads half a number; a file of the process before is replaced. */
static int write_pid_file(const struct server *server)
{
	char path[4096], new_path[4100];
	FILE *file;

	snprintf(path, sizeof(path), "%.4000s.pid", server->lock_path);
	snprintf(new_path, sizeof(new_path), "%s.new", path);
	file = fopen(new_path, "we");
	if (!file)
		return -errno;
	fprintf(file, "%ld\n", (long)getpid());
	if (fclose(file) == EOF || rename(new_path, path) < 0)
		return -errno;
	return 0;
}

static void go_live(struct server *server)
{
	const struct timeval later = { 0, TRY_PORT_US };
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_port = htons((uint16_t)server->port),
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	server->listener = evconnlistener_new_bind(
	        server->base, on_accept, server,
	        LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC | LEV_OPT_REUSEABLE, -1,
	        (struct sockaddr *)&address, sizeof(address));
	if (server->listener) {
		puts("live");
		fflush(stdout);
	} else if (errno != EADDRINUSE || event_add(server->port_timer, &later) < 0) {
		server_fail(server, "cannot listen", strerror(errno));
	}
}

static void on_port_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	go_live(arg);
}

static void on_lost(struct filelock *lock, int result, void *arg)
{
	server_fail(arg, filelock_path(lock), filelock_strerror(result));
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct server *server = arg;

	if (result == -ECANCELED) /* we are ending */
		return;
	if (result == 0)
		result = evfilelock_on_lost(server->ev, lock, on_lost, server);
	if (result == 0)
		result = write_pid_file(server);
	if (result == 0)
		go_live(server);
	else
		server_fail(server, filelock_path(lock), filelock_strerror(result));
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)number, (void)what;
	event_base_loopbreak(arg);
}

static struct event *add_signal(struct server *server, int number)
{
	struct event *event = evsignal_new(server->base, number, on_signal, server->base);

	if (event && event_add(event, NULL) < 0) {
		event_free(event);
		event = NULL;
	}
	return event;
}

/* 0 or a negative error. */
static int server_start(struct server *server)
{
	int r;

	server->base = event_base_new();
	server->ev = server->base ? evfilelock_new(server->base, NULL) : NULL;
	if (!server->ev)
		return -ENOMEM;
	server->on_int = add_signal(server, SIGINT);
	server->on_term = add_signal(server, SIGTERM);
	server->port_timer = evtimer_new(server->base, on_port_timer, server);
	if (!server->on_int || !server->on_term || !server->port_timer)
		return -ENOMEM;
	r = filelock_open(server->lock_path, FILELOCK_NATIVE, NULL, &server->lock);
	if (r == 0)
		r = evfilelock_acquire(server->ev, server->lock, FILELOCK_EXCLUSIVE, NULL,
		                       on_lock, server);
	if (r == 0) {
		puts("standing by");
		fflush(stdout);
	}
	return r;
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

/* Nobody is answered any more before the lock goes. */
static void server_stop(struct server *server)
{
	if (server->listener)
		evconnlistener_free(server->listener);
	evfilelock_free(server->ev);
	filelock_close(server->lock);
	free_event(server->on_int);
	free_event(server->on_term);
	free_event(server->port_timer);
	if (server->base)
		event_base_free(server->base);
}

int main(int argc, char **argv)
{
	struct server server = { 0 };
	int r;

	if (argc != 3) {
		fprintf(stderr, "usage: %s LOCK PORT\n", argv[0]);
		return 2;
	}
	server.lock_path = argv[1];
	server.port = atoi(argv[2]);
	signal(SIGPIPE, SIG_IGN);
	r = server_start(&server);
	if (r < 0)
		fprintf(stderr, "%s: %s\n", argv[1], filelock_strerror(r));
	else if (event_base_dispatch(server.base) < 0)
		r = -ENOMEM;
	server_stop(&server);
	return r < 0 || server.failed;
}
