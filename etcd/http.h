/*
 * http.h - one connection to one endpoint: requests by evhttp, one at a time; TLS by OpenSSL.
 *
 * A connection serves until something goes wrong with it; then it is freed and another one made. It
 * may be freed from inside its own callbacks.
 */
#ifndef FILELOCK_ETCD_HTTP_H
#define FILELOCK_ETCD_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <event2/event.h>

#include "base/list.h"

struct evdns_base;
struct ssl_ctx_st;

/* What the connections of a session share. */
struct http_ground {
	struct event_base *base;
	struct evdns_base *dns;    /* NULL until a name has to be resolved */
	struct ssl_ctx_st *tls;    /* NULL: no endpoint wants it */
	struct list dead;          /* connections to be freed from the loop */
	struct event *bury;
};

struct http_endpoint {
	char *url; /* as it was given */
	char *host;
	uint16_t port;
	bool tls, is_address;
};

struct http_tls {
	const char *ca_file, *cert_file, *key_file; /* NULL: none, or the system's */
};

struct http;

/* An answer; status 0: there was none, and the text says why, as far as that is known. */
struct http_answer {
	int status;
	const char *text;
	size_t size;
	bool by_tls; /* there was none since TLS refuses the other side, or is refused */
};
typedef void (*http_cb)(void *arg, const struct http_answer *answer);
/* A line of an answer that does not end. */
typedef void (*http_line_cb)(void *arg, const char *line, size_t size);

struct http_post {
	const char *path, *body;
	const char *token; /* NULL: none */
	http_cb done;      /* at the end, once, unless the connection is freed first */
	http_line_cb line; /* NULL: the answer is one text */
	void *arg;
};

/* ground is all zero. 0, -ENOMEM. */
int http_open(struct http_ground *ground, struct event_base *base);
/* Reads the files. 0, or -EINVAL with a sentence (owned by the caller). */
int http_set_tls(struct http_ground *ground, const struct http_tls *tls, char **ret_why);
/* No connection is left. In a forked child: forget, which touches nothing of the parent's. */
void http_close(struct http_ground *ground);
void http_forget(struct http_ground *ground);

/* "http://host:port", "https://…", "host:port", "[address]:port". 0, -EINVAL, -ENOMEM. */
int http_endpoint_read(const char *url, struct http_endpoint *ret_endpoint);
void http_endpoint_free(struct http_endpoint *endpoint);

/* 0, or -ENOMEM. The endpoint is borrowed. */
int http_new(struct http_ground *ground, const struct http_endpoint *endpoint,
             struct http **ret_http);
/* NULL is allowed. No callback comes any more. */
void http_free(struct http *http);
/* The other side has closed it, or a request on it failed. */
bool http_is_broken(const struct http *http);
/* Nothing is under way on it. 0, or -ENOMEM. */
int http_send(struct http *http, const struct http_post *post);

#endif
