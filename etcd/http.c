/*
 * http.c - one connection to one endpoint.
 *
 * evhttp must not be freed from its own callbacks, so that a timer of no time frees what is dead. A
 * connection with TLS cannot redial, and one that dials again by itself would be guarded by its old
 * descriptor: each serves until it breaks. A forked child gets idle descriptors in the place of the
 * connections' own (driver_private.h), so that it reads and shuts down nothing of the parent's.
 */
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/dns.h>
#include <event2/http.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "driver_private.h"

#define DEFAULT_PORT 2379
#define LARGEST_ANSWER (16 << 20)
#define NO_TIMEOUT 31536000 /* s: the callers have timers of their own */

struct http {
	struct list link; /* in ground->dead */
	struct http_ground *ground;
	struct evhttp_connection *connection;
	struct bufferevent *bufev;
	struct filelock_guarded_fd guard;
	struct http_post post;
	char *host; /* for the header */
	struct evbuffer *partial; /* of a line */
	bool broken, dead;
};

/* --- the ground --- */

static void free_one(struct http *http)
{
	filelock_unguard_kept_fd(&http->guard);
	if (http->connection)
		evhttp_connection_free(http->connection);
	if (http->partial)
		evbuffer_free(http->partial);
	free(http->host);
	free(http);
}

static void bury(evutil_socket_t fd, short events, void *arg)
{
	struct http_ground *ground = arg;
	struct list *link;

	(void)fd;
	(void)events;
	while ((link = list_take_first(&ground->dead)))
		free_one(list_entry(link, struct http, link));
}

int http_open(struct http_ground *ground, struct event_base *base)
{
	ground->base = base;
	list_init(&ground->dead);
	ground->bury = evtimer_new(base, bury, ground);
	return ground->bury ? 0 : -ENOMEM;
}

void http_close(struct http_ground *ground)
{
	if (ground->bury) {
		bury(-1, 0, ground);
		event_free(ground->bury);
	}
	if (ground->dns)
		evdns_base_free(ground->dns, 0);
	SSL_CTX_free(ground->tls);
}

void http_forget(struct http_ground *ground)
{
	SSL_CTX_free(ground->tls); /* the rest knows descriptors that are the parent's */
}

static int refuse_file(const char *what, const char *file, char **ret_why)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());

	if (asprintf(ret_why, "%s %s: %s", what, file, reason ? reason : "not to be read") < 0)
		*ret_why = NULL;
	ERR_clear_error();
	return -EINVAL;
}

int http_set_tls(struct http_ground *ground, const struct http_tls *tls, char **ret_why)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	if (!ctx)
		return -ENOMEM;
	ground->tls = ctx;
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION))
		return -ENOMEM;
	if (tls->ca_file ? !SSL_CTX_load_verify_locations(ctx, tls->ca_file, NULL)
	                 : !SSL_CTX_set_default_verify_paths(ctx))
		return refuse_file("ca_file", tls->ca_file ? tls->ca_file : "of the system", ret_why);
	if (tls->cert_file && SSL_CTX_use_certificate_chain_file(ctx, tls->cert_file) != 1)
		return refuse_file("cert_file", tls->cert_file, ret_why);
	if (tls->key_file && SSL_CTX_use_PrivateKey_file(ctx, tls->key_file, SSL_FILETYPE_PEM) != 1)
		return refuse_file("key_file", tls->key_file, ret_why);
	return 0;
}

/* --- endpoints --- */

static bool is_address(const char *host)
{
	struct in6_addr address;

	return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static int read_port(const char *text, uint16_t *ret_port)
{
	char *end;
	unsigned long port = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || (*end && strcmp(end, "/") != 0) || port == 0 ||
	    port > UINT16_MAX)
		return -EINVAL;
	*ret_port = (uint16_t)port;
	return 0;
}

/* Where the host ends, and, if there is one, the port begins. NULL: this is no endpoint. */
static const char *split(const char **host, const char **ret_port)
{
	const char *end;

	if (**host == '[') {
		end = strchr(++*host, ']');
		if (!end || (end[1] && end[1] != ':' && end[1] != '/'))
			return NULL;
		*ret_port = end[1] == ':' ? end + 2 : NULL;
		return end;
	}
	end = *host + strcspn(*host, ":/");
	if (*end == '/' && end[1])
		return NULL;
	*ret_port = *end == ':' ? end + 1 : NULL;
	return end;
}

int http_endpoint_read(const char *url, struct http_endpoint *ret_endpoint)
{
	struct http_endpoint endpoint = { .port = DEFAULT_PORT };
	const char *host = url, *port, *end;

	if (strncasecmp(url, "https://", 8) == 0) {
		endpoint.tls = true;
		host += 8;
	} else if (strncasecmp(url, "http://", 7) == 0) {
		host += 7;
	}
	end = split(&host, &port);
	if (!end || end == host || (port && read_port(port, &endpoint.port) < 0))
		return -EINVAL;
	endpoint.url = strdup(url);
	endpoint.host = strndup(host, (size_t)(end - host));
	if (!endpoint.url || !endpoint.host) {
		http_endpoint_free(&endpoint);
		return -ENOMEM;
	}
	endpoint.is_address = is_address(endpoint.host);
	*ret_endpoint = endpoint;
	return 0;
}

void http_endpoint_free(struct http_endpoint *endpoint)
{
	free(endpoint->url);
	free(endpoint->host);
}

/* --- a connection --- */

/* The certificate must be the host's. */
static bool expect_host(SSL *ssl, const struct http_endpoint *endpoint)
{
	if (endpoint->is_address)
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), endpoint->host) == 1;
	return SSL_set_tlsext_host_name(ssl, endpoint->host) == 1 &&
	       SSL_set1_host(ssl, endpoint->host) == 1;
}

static struct bufferevent *new_bufev(struct http_ground *ground,
                                     const struct http_endpoint *endpoint)
{
	struct bufferevent *bufev;
	SSL *ssl;

	if (!endpoint->tls)
		return bufferevent_socket_new(ground->base, -1, BEV_OPT_CLOSE_ON_FREE);
	ssl = SSL_new(ground->tls);
	if (!ssl || !expect_host(ssl, endpoint)) {
		SSL_free(ssl);
		return NULL;
	}
	bufev = bufferevent_openssl_socket_new(ground->base, -1, ssl, BUFFEREVENT_SSL_CONNECTING,
	                                       BEV_OPT_CLOSE_ON_FREE);
	if (!bufev)
		SSL_free(ssl);
	else /* etcd closes without a notice of TLS's own */
		bufferevent_openssl_set_allow_dirty_shutdown(bufev, 1);
	return bufev;
}

static bool find_names(struct http_ground *ground, const struct http_endpoint *endpoint)
{
	if (endpoint->is_address || ground->dns)
		return true;
	ground->dns = evdns_base_new(ground->base, EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	if (!ground->dns)
		return false;
	/* where the file is missing, or names no server, /etc/hosts serves yet */
	(void)evdns_base_resolv_conf_parse(ground->dns, DNS_OPTIONS_ALL, "/etc/resolv.conf");
	return true;
}

static void on_closed(struct evhttp_connection *connection, void *arg)
{
	struct http *http = arg;

	(void)connection;
	http->broken = true;
	filelock_unguard_kept_fd(&http->guard);
}

static int connect_to(struct http *http, const struct http_endpoint *endpoint)
{
	struct http_ground *ground = http->ground;

	if (!find_names(ground, endpoint))
		return -ENOMEM;
	http->partial = evbuffer_new();
	http->bufev = new_bufev(ground, endpoint);
	if (asprintf(&http->host, strchr(endpoint->host, ':') ? "[%s]:%u" : "%s:%u",
	             endpoint->host, endpoint->port) < 0)
		http->host = NULL;
	if (!http->bufev || !http->partial || !http->host)
		goto fail;
	http->connection = evhttp_connection_base_bufferevent_new(
	        ground->base, ground->dns, http->bufev, endpoint->host, endpoint->port);
	if (!http->connection)
		goto fail;
	evhttp_connection_set_timeout(http->connection, NO_TIMEOUT);
	evhttp_connection_set_max_body_size(http->connection, LARGEST_ANSWER);
	evhttp_connection_set_closecb(http->connection, on_closed, http);
	return 0;
fail:
	if (http->bufev)
		bufferevent_free(http->bufev);
	return -ENOMEM;
}

int http_new(struct http_ground *ground, const struct http_endpoint *endpoint,
             struct http **ret_http)
{
	struct http *http = calloc(1, sizeof(*http));
	int r;

	if (!http)
		return -ENOMEM;
	http->ground = ground;
	http->guard.fd = -1;
	r = connect_to(http, endpoint);
	if (r < 0)
		free_one(http);
	else
		*ret_http = http;
	return r;
}

void http_free(struct http *http)
{
	static const struct timeval at_once = { 0, 0 };

	if (!http || http->dead)
		return;
	http->dead = true;
	list_add_last(&http->ground->dead, &http->link);
	if (event_add(http->ground->bury, &at_once) < 0)
		event_active(http->ground->bury, EV_TIMEOUT, 1);
}

bool http_is_broken(const struct http *http)
{
	return http->broken;
}

/* The descriptor is there at once for an address, and later for a name. */
static void guard(struct http *http)
{
	static const int on = 1;
	evutil_socket_t fd = bufferevent_getfd(http->bufev);

	if (fd < 0 || http->guard.fd == fd || http->broken)
		return;
	filelock_unguard_kept_fd(&http->guard);
	filelock_guard_fd(&http->guard, fd, true);
	(void)evutil_make_socket_closeonexec(fd);
	/* or each request waits for the acknowledgement of the one before it */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0) {
		/* then it is slower */
	}
}

/* --- requests --- */

/* A server that goes while hands are shaken refuses nobody. */
static bool is_end(unsigned long error)
{
#ifdef SSL_R_UNEXPECTED_EOF_WHILE_READING
	return ERR_GET_LIB(error) == ERR_LIB_SSL &&
	       ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
#else
	(void)error;
	return false;
#endif
}

/* The reason in words, where TLS refuses. */
static const char *tls_reason(const struct http *http)
{
	SSL *ssl = bufferevent_openssl_get_ssl(http->bufev);
	long verified = ssl ? SSL_get_verify_result(ssl) : X509_V_OK;
	unsigned long error = ssl ? bufferevent_get_openssl_error(http->bufev) : 0;

	if (verified != X509_V_OK)
		return X509_verify_cert_error_string(verified);
	return error && !is_end(error) ? ERR_reason_error_string(error) : NULL;
}

static void on_done(struct evhttp_request *request, void *arg)
{
	struct http *http = arg;
	struct http_answer answer = { 0 };
	struct evbuffer *body;
	int error = EVUTIL_SOCKET_ERROR();

	if (http->dead)
		return;
	if (!request || evhttp_request_get_response_code(request) == 0) {
		http->broken = true;
		filelock_unguard_kept_fd(&http->guard);
		answer.text = tls_reason(http);
		answer.by_tls = answer.text != NULL;
		if (!answer.text && error)
			answer.text = strerror(error);
		http->post.done(http->post.arg, &answer);
		return;
	}
	body = evhttp_request_get_input_buffer(request);
	answer.status = evhttp_request_get_response_code(request);
	answer.size = evbuffer_get_length(body);
	answer.text = (const char *)evbuffer_pullup(body, -1);
	http->post.done(http->post.arg, &answer);
}

static void on_chunk(struct evhttp_request *request, void *arg)
{
	struct http *http = arg;
	size_t size;
	char *line;

	if (http->dead || evhttp_request_get_response_code(request) != HTTP_OK)
		return;
	guard(http);
	(void)evbuffer_add_buffer(http->partial, evhttp_request_get_input_buffer(request));
	while (!http->dead && (line = evbuffer_readln(http->partial, &size, EVBUFFER_EOL_LF))) {
		if (size > 0)
			http->post.line(http->post.arg, line, size);
		free(line);
	}
	if (!http->dead && evbuffer_get_length(http->partial) > LARGEST_ANSWER)
		http->broken = true;
}

static bool add_headers(const struct http *http, struct evhttp_request *request)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	const struct http_post *post = &http->post;

	if (evhttp_add_header(headers, "Host", http->host) < 0 ||
	    evhttp_add_header(headers, "Content-Type", "application/json") < 0)
		return false;
	/* Go's server reads a body to its end while it answers only if the connection then closes */
	if (post->line && evhttp_add_header(headers, "Connection", "close") < 0)
		return false;
	return !post->token || evhttp_add_header(headers, "Authorization", post->token) == 0;
}

int http_send(struct http *http, const struct http_post *post)
{
	struct evhttp_request *request = evhttp_request_new(on_done, http);

	if (!request)
		return -ENOMEM;
	http->post = *post;
	if (post->line)
		evhttp_request_set_chunked_cb(request, on_chunk);
	if (!add_headers(http, request) ||
	    evbuffer_add(evhttp_request_get_output_buffer(request), post->body,
	                 strlen(post->body)) < 0) {
		evhttp_request_free(request);
		return -ENOMEM;
	}
	/* the request is evhttp's now, also if this fails */
	if (evhttp_make_request(http->connection, request, EVHTTP_REQ_POST, post->path) < 0) {
		http->broken = true;
		return -ENOMEM;
	}
	guard(http);
	return 0;
}
