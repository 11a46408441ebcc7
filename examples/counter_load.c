/*
 * counter_load.c - an evhttp client with many connections in one loop: asks counter servers for
 * increments, as fast as they answer, and then reads the counter back.
 *
 *	cc counter_load.c -o counter_load $(pkg-config --cflags --libs libevent_core libevent_extra)
 *	./counter_load [-n INCREMENTS] [-r READS] [-c CONNECTIONS] PORT...
 *
 * CONNECTIONS is for each server; each asks again when it was answered, so -n is how many are asked
 * for in all; before each it reads the counter READS times (0). Prints "made M failed F counter
 * C seconds S". On a terminal, shows its progress.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

struct load {
	struct event_base *base;
	struct event *tick;
	struct client *clients;
	size_t n;
	long wanted, asked, made, failed;
	long reads; /* before each increment */
	char counter[32]; /* as read back */
	double started;
	bool terminal;
};

/* A connection, and the request that is on it. */
struct client {
	struct load *load;
	struct evhttp_connection *connection;
	long reads; /* to make before the next increment */
};

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void show(const struct load *load)
{
	static const char full[] = "########################################";
	const int width = sizeof(full) - 1;
	long done = load->made + load->failed;

	if (load->terminal)
		fprintf(stderr, "\r  [%-*.*s]", width, (int)(done * width / load->wanted), full);
	fprintf(stderr, "  %ld of %ld, %.1f s%s", done, load->wanted,
	        seconds() - load->started,
	        load->terminal && done < load->wanted ? " " : "\n");
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what;
	show(arg);
}

static void ask(struct client *client, enum evhttp_cmd_type command,
                void (*cb)(struct evhttp_request *, void *))
{
	struct evhttp_request *http = evhttp_request_new(cb, client);

	if (!http || evhttp_make_request(client->connection, http, command, "/") < 0) {
		fputs("counter_load: cannot make a request\n", stderr);
		exit(1);
	}
}

/* http is NULL, or its code 0, if there was no answer. */
static bool answered(struct evhttp_request *http)
{
	return http && evhttp_request_get_response_code(http) == HTTP_OK;
}

static void on_increment(struct evhttp_request *http, void *arg);

static void on_read(struct evhttp_request *http, void *arg)
{
	struct client *client = arg;
	struct load *load = client->load;

	load->failed += !answered(http);
	if (load->made + load->failed >= load->wanted)
		event_base_loopbreak(load->base);
	else if (--client->reads > 0)
		ask(client, EVHTTP_REQ_GET, on_read);
	else
		ask(client, EVHTTP_REQ_POST, on_increment);
}

/* An increment that load->asked counts, and the reads before it. */
static void ask_next(struct client *client)
{
	client->load->asked++;
	client->reads = client->load->reads;
	if (client->reads > 0)
		ask(client, EVHTTP_REQ_GET, on_read);
	else
		ask(client, EVHTTP_REQ_POST, on_increment);
}

static void on_increment(struct evhttp_request *http, void *arg)
{
	struct client *client = arg;
	struct load *load = client->load;

	if (answered(http))
		load->made++;
	else
		load->failed++;
	if (load->asked < load->wanted) {
		ask_next(client);
	} else if (load->made + load->failed == load->wanted) {
		event_base_loopbreak(load->base);
	}
}

static void on_counter(struct evhttp_request *http, void *arg)
{
	struct client *client = arg;
	struct load *load = client->load;
	char *line = NULL;

	if (answered(http))
		line = evbuffer_readln(evhttp_request_get_input_buffer(http), NULL,
		                       EVBUFFER_EOL_LF);
	if (line)
		snprintf(load->counter, sizeof(load->counter), "%s", line);
	free(line);
	event_base_loopbreak(load->base);
}

static bool load_start(struct load *load, char **ports, size_t n_ports, size_t each)
{
	struct timeval often = { 0, 100000 }, seldom = { 2, 0 };

	load->n = n_ports * each;
	load->base = event_base_new();
	load->clients = calloc(load->n, sizeof(*load->clients));
	if (!load->base || !load->clients)
		return false;
	for (size_t i = 0; i < load->n; i++) {
		struct client *client = &load->clients[i];

		client->load = load;
		client->connection = evhttp_connection_base_new(
		        load->base, NULL, "127.0.0.1", (uint16_t)atoi(ports[i % n_ports]));
		if (!client->connection)
			return false;
	}
	load->tick = event_new(load->base, -1, EV_PERSIST, on_tick, load);
	return load->tick && event_add(load->tick, load->terminal ? &often : &seldom) == 0;
}

static void load_stop(struct load *load)
{
	for (size_t i = 0; load->clients && i < load->n; i++)
		if (load->clients[i].connection)
			evhttp_connection_free(load->clients[i].connection);
	free(load->clients);
	if (load->tick)
		event_free(load->tick);
	if (load->base)
		event_base_free(load->base);
}

/* True if every increment was answered, and the counter. */
static bool load_run(struct load *load)
{
	double took;

	load->started = seconds();
	for (size_t i = 0; i < load->n && load->asked < load->wanted; i++)
		ask_next(&load->clients[i]);
	if (event_base_dispatch(load->base) < 0)
		return false;
	took = seconds() - load->started;
	show(load);
	event_del(load->tick);
	ask(&load->clients[0], EVHTTP_REQ_GET, on_counter);
	if (event_base_dispatch(load->base) < 0)
		return false;
	printf("made %ld failed %ld counter %s seconds %.2f\n", load->made, load->failed,
	       *load->counter ? load->counter : "unknown", took);
	return !load->failed && *load->counter && fflush(stdout) == 0;
}

int main(int argc, char **argv)
{
	struct load load = { .wanted = 20000, .terminal = isatty(STDERR_FILENO) };
	long each = 8;
	int option;
	bool ok;

	while ((option = getopt(argc, argv, "n:r:c:")) >= 0) {
		if (option == 'n')
			load.wanted = atol(optarg);
		else if (option == 'r')
			load.reads = atol(optarg);
		else
			each = option == 'c' ? atol(optarg) : 0;
	}
	if (load.wanted < 1 || load.reads < 0 || each < 1 || optind == argc) {
		fprintf(stderr, "usage: %s [-n INCREMENTS] [-r READS] [-c CONNECTIONS] PORT...\n",
		        argv[0]);
		return 2;
	}
	ok = load_start(&load, argv + optind, (size_t)(argc - optind), (size_t)each);
	if (!ok)
		perror("counter_load");
	ok = ok && load_run(&load);
	load_stop(&load);
	return !ok;
}
