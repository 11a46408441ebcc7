/*
 * existing_app.c - how an ordinary libevent program gets a lock: a line server that appends what
 * its clients send to a file which other processes, too, append to.
 *
 *	cc existing_app.c -o existing_app $(pkg-config --cflags --libs filelock_event libevent_core)
 *	./existing_app lines.txt            (prints its port; run several on one file)
 *	nc 127.0.0.1 PORT                   (each line is answered by "ok")
 *
 * Lines that the lock added are marked LOCK: a context beside the base, and a handle for each client,
 * since each client is an owner of its own. The function that used to append at once is cut in two:
 * one half asks for the lock, the other appends when the lock is granted. The server does not read
 * from a client that waits, so its lines stay in order. All other clients are served meanwhile.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <filelock/event.h> /* LOCK */

#define LINE_MAX_LENGTH 65536

struct app {
	struct event_base *base;
	struct evconnlistener *listener;
	struct event *on_int, *on_term;
	FILE *file;
	struct evfilelock *ev; /* LOCK */
	char *lock_path;       /* LOCK */
	LIST_HEAD(, client) clients;
};

struct client {
	struct app *app;
	struct bufferevent *bev;
	struct filelock *lock;             /* LOCK */
	bool waiting; /* LOCK: for the lock */
	LIST_ENTRY(client) entry;
};

static void client_free(struct client *client)
{
	LIST_REMOVE(client, entry);
	filelock_close(client->lock); /* LOCK */
	if (client->bev)
		bufferevent_free(client->bev);
	free(client);
}

static bool append(struct client *client)
{
	struct evbuffer *input = bufferevent_get_input(client->bev);
	FILE *file = client->app->file;
	size_t length;
	char *line;

	while ((line = evbuffer_readln(input, &length, EVBUFFER_EOL_LF))) {
		bool written = fwrite(line, 1, length, file) == length && putc('\n', file) != EOF;

		free(line);
		if (!written || fflush(file) == EOF || /* in the file before the lock goes */
		    bufferevent_write(client->bev, "ok\n", 3) < 0)
			return false;
	}
	return true;
}

/* LOCK: the second half */
static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct client *client = arg;

	client->waiting = false;
	if (result == 0) {
		if (!append(client))
			result = -EIO;
		filelock_release(lock);
	}
	if (result < 0) { /* -ECANCELED: the client has gone, or we are going */
		if (result != -ECANCELED)
			fprintf(stderr, "not appended: %s\n", filelock_strerror(result));
		client_free(client);
		return;
	}
	bufferevent_enable(client->bev, EV_READ);
}

/* LOCK: the first half */
static void on_read(struct bufferevent *bev, void *arg)
{
	struct client *client = arg;
	struct evbuffer *input = bufferevent_get_input(bev);
	int r;

	if (evbuffer_search_eol(input, NULL, NULL, EVBUFFER_EOL_LF).pos < 0) {
		if (evbuffer_get_length(input) >= LINE_MAX_LENGTH)
			client_free(client);
		return;
	}
	bufferevent_disable(bev, EV_READ);
	r = evfilelock_acquire(client->app->ev, client->lock, FILELOCK_EXCLUSIVE, NULL, on_lock,
	                       client);
	client->waiting = r == 0;
	if (r < 0) {
		fprintf(stderr, "evfilelock_acquire: %s\n", filelock_strerror(r));
		client_free(client);
	}
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
	struct client *client = arg;

	(void)bev, (void)what; /* the end of the stream, or an error */
	if (client->waiting)
		evfilelock_cancel(client->app->ev, client->lock); /* LOCK: on_lock comes, and frees it */
	else
		client_free(client);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *arg)
{
	struct app *app = arg;
	struct client *client = calloc(1, sizeof(*client));

	(void)listener, (void)address, (void)length;
	if (!client) {
		evutil_closesocket(fd);
		return;
	}
	client->app = app;
	LIST_INSERT_HEAD(&app->clients, client, entry);
	client->bev = bufferevent_socket_new(app->base, fd, BEV_OPT_CLOSE_ON_FREE);
	if (!client->bev)
		evutil_closesocket(fd);
	if (!client->bev || filelock_open(app->lock_path, FILELOCK_NATIVE, NULL, /* LOCK */
	                                  &client->lock) < 0) {
		client_free(client);
		return;
	}
	bufferevent_setcb(client->bev, on_read, NULL, on_event, client);
	bufferevent_setwatermark(client->bev, EV_READ, 0, LINE_MAX_LENGTH);
	bufferevent_enable(client->bev, EV_READ | EV_WRITE);
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	(void)number, (void)what;
	event_base_loopbreak(arg);
}

static bool app_listen(struct app *app)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(address);

	app->listener = evconnlistener_new_bind(
	        app->base, on_accept, app, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, -1,
	        (struct sockaddr *)&address, sizeof(address));
	if (!app->listener || getsockname(evconnlistener_get_fd(app->listener),
	                                  (struct sockaddr *)&address, &length) < 0)
		return false;
	printf("listening on 127.0.0.1:%d\n", ntohs(address.sin_port));
	return fflush(stdout) == 0;
}

static bool app_start(struct app *app, const char *path)
{
	size_t size = strlen(path) + sizeof(".lock");

	app->file = fopen(path, "ae");
	app->base = event_base_new();
	if (!app->file || !app->base)
		return false;
	app->lock_path = malloc(size); /* LOCK */
	app->ev = evfilelock_new(app->base, NULL); /* LOCK */
	app->on_int = evsignal_new(app->base, SIGINT, on_signal, app->base);
	app->on_term = evsignal_new(app->base, SIGTERM, on_signal, app->base);
	if (!app->lock_path || !app->ev || !app->on_int || !app->on_term ||
	    event_add(app->on_int, NULL) < 0 || event_add(app->on_term, NULL) < 0)
		return false;
	snprintf(app->lock_path, size, "%s.lock", path);
	return app_listen(app);
}

static void app_stop(struct app *app)
{
	struct client *client;

	evfilelock_free(app->ev); /* LOCK: first, it calls back; on_lock frees who waited */
	while ((client = LIST_FIRST(&app->clients)))
		client_free(client);
	if (app->listener)
		evconnlistener_free(app->listener);
	if (app->on_int)
		event_free(app->on_int);
	if (app->on_term)
		event_free(app->on_term);
	if (app->base)
		event_base_free(app->base);
	free(app->lock_path); /* LOCK */
	if (app->file)
		fclose(app->file);
}

int main(int argc, char **argv)
{
	struct app app = { .clients = LIST_HEAD_INITIALIZER(app.clients) };
	bool ok;

	if (argc != 2) {
		fprintf(stderr, "usage: %s FILE\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	ok = app_start(&app, argv[1]);
	if (!ok)
		perror("cannot start");
	ok = ok && event_base_dispatch(app.base) == 0;
	app_stop(&app);
	return !ok;
}
