/*
 * proxy.c - a process that forwards TCP connections, and stops on demand.
 */
#include "proxy.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "base/list.h"

struct relay {
	struct event_base *base;
	struct proxy *proxy;
	struct event *tick;
	struct list pairs;
	enum cut cut;
};

/* What is connected to for those who come in. */
struct door {
	struct relay *relay;
	struct sockaddr_in server;
	evutil_socket_t fd;
};

struct pair {
	struct list link; /* in relay->pairs */
	struct relay *relay;
	struct bufferevent *client, *server;
};

static void set_reading(struct bufferevent *bufev, bool on)
{
	int r = on ? bufferevent_enable(bufev, EV_READ) : bufferevent_disable(bufev, EV_READ);

	if (r < 0)
		abort();
}

static void apply(const struct pair *pair)
{
	enum cut cut = pair->relay->cut;

	set_reading(pair->client, cut == CUT_NONE || cut == CUT_ANSWERS);
	set_reading(pair->server, cut == CUT_NONE || cut == CUT_REQUESTS);
}

static void on_read(struct bufferevent *from, void *arg)
{
	struct pair *pair = arg;
	struct bufferevent *to = from == pair->client ? pair->server : pair->client;

	if (bufferevent_write_buffer(to, bufferevent_get_input(from)) < 0)
		abort();
}

static void on_event(struct bufferevent *bufev, short what, void *arg)
{
	struct pair *pair = arg;

	(void)bufev;
	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)))
		return;
	list_remove(&pair->link);
	bufferevent_free(pair->client);
	bufferevent_free(pair->server);
	free(pair);
}

static struct bufferevent *side(struct pair *pair, evutil_socket_t fd)
{
	struct bufferevent *bufev =
	        bufferevent_socket_new(pair->relay->base, fd, BEV_OPT_CLOSE_ON_FREE);

	if (!bufev)
		abort();
	bufferevent_setcb(bufev, on_read, NULL, on_event, pair);
	return bufev;
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int length, void *arg)
{
	struct door *door = arg;
	struct pair *pair = calloc(1, sizeof(*pair));

	(void)listener;
	(void)address;
	(void)length;
	if (!pair)
		abort();
	pair->relay = door->relay;
	list_add_last(&door->relay->pairs, &pair->link);
	pair->client = side(pair, fd);
	pair->server = side(pair, -1);
	apply(pair);
	/* refused, it fails at once, or by on_event */
	if (bufferevent_socket_connect(pair->server, (struct sockaddr *)&door->server,
	                               sizeof(door->server)) < 0)
		return;
}

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
	struct relay *relay = arg;
	int wanted = atomic_load(&relay->proxy->cut->wanted);

	(void)fd;
	(void)events;
	if (wanted == (int)relay->cut)
		return;
	relay->cut = (enum cut)wanted;
	list_for_each(link, &relay->pairs)
		apply(list_entry(link, struct pair, link));
	atomic_store(&relay->proxy->cut->done, wanted);
}

static void run_relay(struct proxy *proxy, struct door *doors)
{
	static const struct timeval often = { 0, 2000 };
	struct relay relay = { .base = event_base_new(), .proxy = proxy };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	list_init(&relay.pairs);
	relay.tick = event_new(relay.base, -1, EV_PERSIST, on_tick, &relay);
	if (!relay.tick || event_add(relay.tick, &often) < 0)
		abort();
	for (unsigned i = 0; i < NODES; i++) {
		doors[i].relay = &relay;
		if (evutil_make_socket_nonblocking(doors[i].fd) < 0 ||
		    !evconnlistener_new(relay.base, on_accept, &doors[i], 0, -1, doors[i].fd))
			abort();
	}
	(void)event_base_dispatch(relay.base);
	_exit(1);
}

static void open_door(struct door *door, const char *server, char *ret_url, size_t size)
{
	struct sockaddr_in own = { .sin_family = AF_INET,
		                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t length = sizeof(own);
	const char *port = strrchr(server, ':');

	door->server = own;
	door->server.sin_port = htons((uint16_t)atoi(port + 1));
	door->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(door->fd, 0);
	ck_assert_int_eq(bind(door->fd, (struct sockaddr *)&own, length), 0);
	ck_assert_int_eq(listen(door->fd, 64), 0);
	ck_assert_int_eq(getsockname(door->fd, (struct sockaddr *)&own, &length), 0);
	(void)snprintf(ret_url, size, "http://127.0.0.1:%u", ntohs(own.sin_port));
}

void proxy_start(struct proxy *proxy, const struct nodes *nodes)
{
	struct door doors[NODES] = { 0 };

	*proxy = (struct proxy){ .cut = test_shared(sizeof(*proxy->cut)) };
	for (unsigned i = 0; i < NODES; i++)
		open_door(&doors[i], nodes->clients[i], proxy->urls[i], sizeof(proxy->urls[i]));
	proxy->pid = fork();
	ck_assert_int_ge(proxy->pid, 0);
	if (proxy->pid == 0)
		run_relay(proxy, doors);
	for (unsigned i = 0; i < NODES; i++)
		ck_assert_int_eq(close(doors[i].fd), 0);
}

void proxy_cut(struct proxy *proxy, enum cut cut)
{
	atomic_store(&proxy->cut->wanted, (int)cut);
	await(atomic_load(&proxy->cut->done) == (int)cut);
}

void proxy_stop(struct proxy *proxy)
{
	(void)kill(proxy->pid, SIGKILL);
	ck_assert_int_eq(test_reap(proxy->pid), 128 + SIGKILL);
}

struct filelock_etcd_options proxy_options(const struct proxy *proxy, unsigned ttl_ms)
{
	return options_with(proxy->urls, ttl_ms);
}
