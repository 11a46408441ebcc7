/*
 * gateway.c - etcd's JSON gateway, played in the test's own process and loop.
 */
#include "gateway.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <jansson.h>

#define MOST 256
#define PATIENCE 600000 /* ms */

struct stored {
	char *key; /* in base64, as it came; its order is that of the keys themselves where it matters */
	int64_t lease, created;
};

struct watcher {
	struct evhttp_request *request; /* NULL: it is gone */
	char *prefix;                   /* decoded */
	int64_t id, from;
};

struct deletion {
	char *key;
	int64_t revision;
};

struct gateway {
	struct event_base *base;
	struct evhttp *http;
	char url[64], url_6[64];
	int64_t revision, last_lease;
	struct stored keys[MOST];
	int64_t leases[MOST];
	struct watcher watchers[MOST];
	struct deletion deletions[4 * MOST];
	struct evhttp_request *unanswered[MOST];
	char *late[MOST];
	unsigned key_count, lease_count, watcher_count, deletion_count, unanswered_count, late_count;
	unsigned calls, watches, tokens, keepalives;
	int keepalive_term, transaction_term;
	struct evhttp_request *held; /* NULL: none */
	char *held_answer;
	const char *fault_path, *slow_path;
	unsigned slow_ms;
	int64_t came;
	unsigned fault_in;
	enum fault_way fault, fault_all;
	int answer_status;
	const char *answer_text;
	bool keepalives_lie, keepalives_dead, wants_token, token_void, mute, chop;
};

/* --- base64 and numbers --- */

static char *decode(const char *text)
{
	static const char digits[] =
	        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *result = calloc(1, strlen(text) + 1);
	unsigned bits = 0, count = 0;
	size_t size = 0;

	for (; *text && *text != '='; text++) {
		bits = bits << 6 | (unsigned)(strchr(digits, *text) - digits);
		count += 6;
		if (count >= 8) {
			count -= 8;
			result[size++] = (char)(bits >> count & 255);
		}
	}
	return result;
}

static int64_t number(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text ? strtoll(text, NULL, 10) : 0;
}

static const char *string(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	ck_assert_msg(text != NULL, "no %s in the request", name);
	return text;
}

static json_t *numeral(int64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRId64, value);
	return json_string(text);
}

/* --- the store --- */

static bool is_in(const char *encoded, const char *from, const char *end)
{
	char *key = decode(encoded), *first = decode(from), *last = end ? decode(end) : NULL;
	bool inside = last ? strcmp(key, first) >= 0 && strcmp(key, last) < 0
	                   : strcmp(key, first) == 0;

	free(key);
	free(first);
	free(last);
	return inside;
}

static void send_line(const struct gateway *gateway, struct evhttp_request *request, struct evbuffer *line)
{
	struct evbuffer *part = evbuffer_new();

	while (gateway->chop && evbuffer_remove_buffer(line, part, 1) == 1)
		evhttp_send_reply_chunk(request, part);
	if (evbuffer_get_length(line) > 0)
		evhttp_send_reply_chunk(request, line);
	evbuffer_free(part);
}

static void tell(struct gateway *gateway, const struct watcher *watcher,
                 const struct deletion *deletion)
{
	char *key = decode(deletion->key);
	struct evbuffer *line = evbuffer_new();

	if (watcher->request && !gateway->mute && deletion->revision >= watcher->from &&
	    strncmp(key, watcher->prefix, strlen(watcher->prefix)) == 0) {
		(void)evbuffer_add_printf(line,
		                          "{\"result\":{\"header\":{\"revision\":\"%" PRId64 "\"},"
		                          "\"watch_id\":\"%" PRId64 "\",\"events\":[{\"type\":"
		                          "\"DELETE\",\"kv\":{\"key\":\"%s\",\"mod_revision\":\"%"
		                          PRId64 "\"}}]}}\n",
		                          deletion->revision, watcher->id, deletion->key,
		                          deletion->revision);
		send_line(gateway, watcher->request, line);
	}
	evbuffer_free(line);
	free(key);
}

static void delete_key(struct gateway *gateway, unsigned i, bool told)
{
	struct deletion *deletion = &gateway->deletions[gateway->deletion_count];

	*deletion = (struct deletion){ gateway->keys[i].key, gateway->revision };
	gateway->keys[i] = gateway->keys[--gateway->key_count];
	if (!told) {
		free(deletion->key);
		return;
	}
	ck_assert_uint_lt(++gateway->deletion_count, 4 * MOST);
	for (unsigned w = 0; w < gateway->watcher_count; w++)
		tell(gateway, &gateway->watchers[w], deletion);
}

static int find_key(const struct gateway *gateway, const char *key)
{
	for (unsigned i = 0; i < gateway->key_count; i++)
		if (strcmp(gateway->keys[i].key, key) == 0)
			return (int)i;
	return -1;
}

static int find_lease(const struct gateway *gateway, int64_t lease)
{
	for (unsigned i = 0; i < gateway->lease_count; i++)
		if (gateway->leases[i] == lease)
			return (int)i;
	return -1;
}

static void end_lease(struct gateway *gateway, unsigned at, bool told)
{
	int64_t lease = gateway->leases[at];

	gateway->leases[at] = gateway->leases[--gateway->lease_count];
	gateway->revision++;
	for (unsigned i = gateway->key_count; i-- > 0;)
		if (gateway->keys[i].lease == lease)
			delete_key(gateway, i, told);
}

/* --- transactions --- */

static bool compares(const struct gateway *gateway, const json_t *compare)
{
	const char *end = json_string_value(json_object_get(compare, "range_end"));
	int at = find_key(gateway, string(compare, "key"));

	ck_assert_str_eq(string(compare, "target"), "CREATE");
	if (!end)
		return (at < 0 ? 0 : gateway->keys[at].created) == number(compare, "create_revision");
	for (unsigned i = 0; i < gateway->key_count; i++)
		if (is_in(gateway->keys[i].key, string(compare, "key"), end) &&
		    gateway->keys[i].created != number(compare, "create_revision"))
			return false;
	return true;
}

static json_t *range(const struct gateway *gateway, const json_t *request)
{
	const char *end = json_string_value(json_object_get(request, "range_end"));
	int64_t before = number(request, "max_create_revision");
	const struct stored *newest = NULL;
	json_t *kvs = json_array();

	for (unsigned i = 0; i < gateway->key_count; i++) {
		const struct stored *stored = &gateway->keys[i];

		if (is_in(stored->key, string(request, "key"), end) &&
		    (!before || stored->created <= before) &&
		    (!newest || newest->created < stored->created))
			newest = stored;
	}
	if (newest)
		json_array_append_new(kvs, json_pack("{s:s,s:o}", "key", newest->key,
		                                     "create_revision", numeral(newest->created)));
	return json_pack("{s:{s:o}}", "response_range", "kvs", kvs);
}

static json_t *put(struct gateway *gateway, const json_t *request)
{
	int at = find_key(gateway, string(request, "key"));

	ck_assert_int_lt(at, 0); /* keys are made once */
	ck_assert_uint_lt(gateway->key_count, MOST);
	gateway->keys[gateway->key_count++] = (struct stored){
		strdup(string(request, "key")), number(request, "lease"), gateway->revision
	};
	return json_pack("{s:{}}", "response_put");
}

/* NULL: there is no such lease. */
static json_t *operate(struct gateway *gateway, const json_t *operations)
{
	json_t *responses = json_array();
	const json_t *operation, *request;
	size_t i;

	json_array_foreach(operations, i, operation) {
		request = json_object_get(operation, "request_put");
		if (request && find_lease(gateway, number(request, "lease")) < 0) {
			json_decref(responses);
			return NULL;
		}
		gateway->revision += request != NULL;
	}
	json_array_foreach(operations, i, operation) {
		if ((request = json_object_get(operation, "request_range"))) {
			json_array_append_new(responses, range(gateway, request));
		} else if ((request = json_object_get(operation, "request_put"))) {
			json_array_append_new(responses, put(gateway, request));
		} else {
			request = json_object_get(operation, "request_delete_range");
			int at = find_key(gateway, string(request, "key"));

			gateway->revision += at >= 0;
			if (at >= 0)
				delete_key(gateway, (unsigned)at, true);
			json_array_append_new(responses, json_pack("{s:{}}", "response_delete_range"));
		}
	}
	return responses;
}

/* As etcd does: one without an operation is answered by the server alone, which may be the one that was the
   leader when it answered the keepalive. */
static int term_of(const struct gateway *gateway, const json_t *request)
{
	return json_array_size(json_object_get(request, "success")) > 0 ||
	                       json_array_size(json_object_get(request, "failure")) > 0
	               ? gateway->transaction_term
	               : gateway->keepalive_term;
}

static json_t *transact(struct gateway *gateway, const json_t *request, int *ret_status)
{
	const json_t *compare;
	json_t *responses, *answer;
	bool succeeded = true;
	size_t i;

	json_array_foreach(json_object_get(request, "compare"), i, compare)
		succeeded = succeeded && compares(gateway, compare);
	responses = operate(gateway, json_object_get(request, succeeded ? "success" : "failure"));
	if (!responses) {
		*ret_status = 404;
		return json_pack("{s:s,s:i}", "error", "etcdserver: requested lease not found",
		                 "code", 5);
	}
	answer = json_pack("{s:{s:o,s:o}}", "header", "revision", numeral(gateway->revision),
	                   "raft_term", numeral(term_of(gateway, request)));
	if (succeeded)
		(void)json_object_set_new(answer, "succeeded", json_true());
	(void)json_object_set_new(answer, "responses", responses);
	return answer;
}

/* --- other calls --- */

static json_t *keep_alive(struct gateway *gateway, const json_t *request)
{
	bool alive = gateway->keepalives_lie ? !gateway->keepalives_dead
	                                     : find_lease(gateway, number(request, "ID")) >= 0;
	json_t *result = json_pack("{s:{s:o},s:o}", "header", "raft_term",
	                           numeral(gateway->keepalive_term), "ID",
	                           numeral(number(request, "ID")));

	gateway->keepalives++;
	if (alive)
		(void)json_object_set_new(result, "TTL", json_string("2"));
	return json_pack("{s:o}", "result", result);
}

static json_t *grant(struct gateway *gateway, const json_t *request)
{
	ck_assert_uint_lt(gateway->lease_count, MOST);
	gateway->leases[gateway->lease_count++] = ++gateway->last_lease;
	return json_pack("{s:o,s:o}", "ID", numeral(gateway->last_lease), "TTL",
	                 numeral(number(request, "TTL")));
}

static json_t *answer_to(struct gateway *gateway, const char *path, const json_t *request,
                         int *ret_status)
{
	int at;

	*ret_status = 200;
	if (strcmp(path, "/v3/kv/txn") == 0)
		return transact(gateway, request, ret_status);
	if (strcmp(path, "/v3/lease/grant") == 0)
		return grant(gateway, request);
	if (strcmp(path, "/v3/lease/keepalive") == 0)
		return keep_alive(gateway, request);
	if (strcmp(path, "/v3/auth/authenticate") == 0) {
		gateway->token_void = false;
		return json_pack("{s:o}", "token", numeral(++gateway->tokens));
	}
	ck_assert_str_eq(path, "/v3/lease/revoke");
	at = find_lease(gateway, number(request, "ID"));
	if (at >= 0)
		end_lease(gateway, (unsigned)at, true);
	return json_pack("{}");
}

static void send_text(struct evhttp_request *request, int status, const char *text)
{
	struct evbuffer *body = evbuffer_new();

	(void)evbuffer_add_printf(body, "%s\n", text);
	evhttp_send_reply(request, status, "answer", body);
	evbuffer_free(body);
}

/* --- watches --- */

static void on_watcher_gone(struct evhttp_connection *connection, void *arg)
{
	struct gateway *gateway = arg;

	for (unsigned i = 0; i < gateway->watcher_count; i++)
		if (gateway->watchers[i].request &&
		    evhttp_request_get_connection(gateway->watchers[i].request) == connection)
			gateway->watchers[i].request = NULL;
}

static void add_watcher(struct gateway *gateway, struct evhttp_request *request,
                        const json_t *create)
{
	struct watcher *watcher = &gateway->watchers[gateway->watcher_count];
	struct evbuffer *line = evbuffer_new();

	ck_assert_uint_lt(++gateway->watcher_count, MOST);
	*watcher = (struct watcher){ request, decode(string(create, "key")),
		                     number(create, "watch_id"), number(create, "start_revision") };
	(void)evbuffer_add_printf(line,
	                          "{\"result\":{\"header\":{},\"watch_id\":\"%" PRId64
	                          "\",\"created\":true}}\n",
	                          watcher->id);
	evhttp_send_reply_chunk(request, line);
	evbuffer_free(line);
	for (unsigned i = 0; i < gateway->deletion_count; i++)
		tell(gateway, watcher, &gateway->deletions[i]);
}

static void keep_unanswered(struct gateway *gateway, struct evhttp_request *request)
{
	ck_assert_uint_lt(gateway->unanswered_count, MOST);
	gateway->unanswered[gateway->unanswered_count++] = request;
}

static void on_watch(struct evhttp_request *request, void *arg)
{
	struct gateway *gateway = arg;
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	size_t size = evbuffer_get_length(body), used = 0;
	const char *text = (const char *)evbuffer_pullup(body, -1);
	json_error_t error;
	json_t *message;

	gateway->watches++;
	keep_unanswered(gateway, request);
	evhttp_send_reply_start(request, 200, "stream");
	evhttp_connection_set_closecb(evhttp_request_get_connection(request), on_watcher_gone,
	                              gateway);
	while ((message = json_loadb(text + used, size - used, JSON_DISABLE_EOF_CHECK, &error))) {
		add_watcher(gateway, request, json_object_get(message, "create_request"));
		used += (size_t)error.position;
		json_decref(message);
	}
}

/* --- what goes wrong --- */

static enum fault_way way_of(struct gateway *gateway, const char *path)
{
	if (gateway->fault_all)
		return gateway->fault_all;
	if (!gateway->fault_in || (gateway->fault_path && strcmp(path, gateway->fault_path) != 0))
		return WAY_NONE;
	return --gateway->fault_in == 0 ? gateway->fault : WAY_NONE;
}

/* A part of an answer that says it is longer. */
static void send_half(struct evhttp_request *request, const char *text)
{
	struct evhttp_connection *connection = evhttp_request_get_connection(request);
	struct bufferevent *bufev = evhttp_connection_get_bufferevent(connection);
	char half[64];

	(void)snprintf(half, sizeof(half), "%.*s", (int)strlen(text) / 2, text);
	evhttp_send_reply_start(request, 200, "half");
	(void)bufferevent_write(bufev, half, strlen(half));
	(void)bufferevent_flush(bufev, EV_WRITE, BEV_FLUSH);
}

static void go_wrong(struct gateway *gateway, struct evhttp_request *request, enum fault_way way,
                     const char *path, const json_t *json)
{
	bool done = way == WAY_SILENT || way == WAY_CUT || way == WAY_CLOSED || way == WAY_UNSURE ||
	            way == WAY_HELD;
	char *text;
	int status;
	json_t *answer = done ? answer_to(gateway, path, json, &status) : NULL;

	switch (way) {
	case WAY_500:
		send_text(request, 500, "{\"error\":\"out of order\",\"code\":13}");
		break;
	case WAY_503:
		send_text(request, 503, "{\"error\":\"no leader\",\"code\":14}");
		break;
	case WAY_UNSURE:
		send_text(request, 503,
		          "{\"error\":\"etcdserver: request timed out, possibly due to previous leader "
		          "failure\",\"code\":14}");
		break;
	case WAY_HELD:
		ck_assert_ptr_null(gateway->held);
		gateway->held = request;
		gateway->held_answer = json_dumps(answer, 0);
		break;
	case WAY_FULL:
		send_text(request, 429,
		          "{\"error\":\"etcdserver: mvcc: database space exceeded\",\"code\":8}");
		break;
	case WAY_OLD_TOKEN:
		send_text(request, 400,
		          "{\"error\":\"etcdserver: revision of auth store is old\",\"code\":3}");
		break;
	case WAY_401:
		send_text(request, 401, "{\"error\":\"etcdserver: invalid auth token\",\"code\":16}");
		break;
	case WAY_DENIED:
		send_text(request, 403, "{\"error\":\"etcdserver: permission denied\",\"code\":7}");
		break;
	case WAY_CUT:
		text = json_dumps(answer, 0);
		send_half(request, text);
		free(text);
		keep_unanswered(gateway, request);
		break;
	case WAY_CLOSED:
		evhttp_connection_free(evhttp_request_get_connection(request));
		break;
	case WAY_LATE:
		gateway->late[gateway->late_count++] = json_dumps(json, 0);
		keep_unanswered(gateway, request);
		break;
	default:
		keep_unanswered(gateway, request);
	}
	json_decref(answer);
}

static bool has_token(const struct gateway *gateway, struct evhttp_request *request,
                      const char *path)
{
	const char *token = evhttp_find_header(evhttp_request_get_input_headers(request),
	                                       "Authorization");

	return !gateway->wants_token || strcmp(path, "/v3/auth/authenticate") == 0 ||
	       (token && (unsigned)atoi(token) == gateway->tokens && !gateway->token_void);
}

static void take_time(struct gateway *gateway)
{
	int64_t end;

	gateway->came = rpc_now();
	end = gateway->came + gateway->slow_ms * MILLISECONDS;
	while (rpc_now() < end)
		test_nap();
}

static void on_call(struct evhttp_request *request, void *arg)
{
	struct gateway *gateway = arg;
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	const char *path = evhttp_request_get_uri(request);
	enum fault_way way = way_of(gateway, path);
	json_t *answer, *json;
	char *text;
	int status;

	gateway->calls++;
	if (gateway->slow_path && strcmp(path, gateway->slow_path) == 0)
		take_time(gateway);
	if (gateway->answer_status) {
		send_text(request, gateway->answer_status, gateway->answer_text);
		return;
	}
	if (!has_token(gateway, request, path))
		way = WAY_401;
	json = json_loadb((const char *)evbuffer_pullup(body, -1), evbuffer_get_length(body), 0,
	                  NULL);
	ck_assert_ptr_nonnull(json);
	if (way != WAY_NONE && way != WAY_TWICE) {
		go_wrong(gateway, request, way, path, json);
	} else {
		if (way == WAY_TWICE)
			json_decref(answer_to(gateway, path, json, &status));
		answer = answer_to(gateway, path, json, &status);
		text = json_dumps(answer, JSON_COMPACT);
		send_text(request, status, text);
		free(text);
		json_decref(answer);
	}
	json_decref(json);
}

/* --- the test's side --- */

struct gateway *gateway_new(struct event_base *base)
{
	struct gateway *gateway = calloc(1, sizeof(*gateway));
	struct sockaddr_in address;
	socklen_t size = sizeof(address);
	struct evhttp_bound_socket *bound;

	gateway->base = base;
	gateway->revision = 1;
	gateway->http = evhttp_new(base);
	evhttp_set_timeout(gateway->http, 3600);
	bound = evhttp_bind_socket_with_handle(gateway->http, "127.0.0.1", 0);
	ck_assert_ptr_nonnull(bound);
	ck_assert_int_eq(getsockname(evhttp_bound_socket_get_fd(bound),
	                             (struct sockaddr *)&address, &size), 0);
	(void)snprintf(gateway->url, sizeof(gateway->url), "http://127.0.0.1:%u",
	               ntohs(address.sin_port));
	(void)evhttp_set_cb(gateway->http, "/v3/watch", on_watch, gateway);
	evhttp_set_gencb(gateway->http, on_call, gateway);
	return gateway;
}

/* What lost its connection before it was answered is nobody's else. */
static void free_unanswered(struct gateway *gateway)
{
	for (unsigned i = 0; i < gateway->unanswered_count; i++)
		if (!evhttp_request_get_connection(gateway->unanswered[i]))
			evhttp_request_free(gateway->unanswered[i]);
}

void gateway_free(struct gateway *gateway)
{
	free_unanswered(gateway);
	evhttp_free(gateway->http);
	for (unsigned i = 0; i < gateway->key_count; i++)
		free(gateway->keys[i].key);
	for (unsigned i = 0; i < gateway->deletion_count; i++)
		free(gateway->deletions[i].key);
	for (unsigned i = 0; i < gateway->watcher_count; i++)
		free(gateway->watchers[i].prefix);
	for (unsigned i = 0; i < gateway->late_count; i++)
		free(gateway->late[i]);
	free(gateway);
}

const char *gateway_url(const struct gateway *gateway)
{
	return gateway->url;
}

void gateway_fault(struct gateway *gateway, const char *path, unsigned nth, enum fault_way way)
{
	gateway->fault_path = path;
	gateway->fault_in = nth;
	gateway->fault = way;
}

bool gateway_fault_is_met(const struct gateway *gateway)
{
	return gateway->fault_in == 0;
}

void gateway_fault_all(struct gateway *gateway, enum fault_way way)
{
	gateway->fault_all = way;
}

void gateway_do_late(struct gateway *gateway)
{
	int status;

	for (unsigned i = 0; i < gateway->late_count; i++) {
		json_t *json = json_loads(gateway->late[i], 0, NULL);

		json_decref(transact(gateway, json, &status));
		json_decref(json);
	}
}

void gateway_answer_held(struct gateway *gateway)
{
	ck_assert_ptr_nonnull(gateway->held);
	send_text(gateway->held, 200, gateway->held_answer);
	free(gateway->held_answer);
	gateway->held = NULL;
}

void gateway_set_terms(struct gateway *gateway, int keepalives, int transactions)
{
	gateway->keepalive_term = keepalives;
	gateway->transaction_term = transactions;
}

void gateway_answer_all(struct gateway *gateway, int status, const char *text)
{
	gateway->answer_status = status;
	gateway->answer_text = text;
}

void gateway_keepalives_lie(struct gateway *gateway, bool dead)
{
	gateway->keepalives_lie = true;
	gateway->keepalives_dead = dead;
}

void gateway_take_time(struct gateway *gateway, const char *path, unsigned ms)
{
	gateway->slow_path = path;
	gateway->slow_ms = ms;
}

int64_t gateway_came(const struct gateway *gateway)
{
	return gateway->came;
}

void gateway_want_token(struct gateway *gateway)
{
	gateway->wants_token = true;
	gateway->token_void = true;
}

void gateway_delete_all(struct gateway *gateway, bool told)
{
	gateway->revision++;
	while (gateway->key_count > 0)
		delete_key(gateway, 0, told);
}

void gateway_end_leases(struct gateway *gateway, bool told)
{
	while (gateway->lease_count > 0)
		end_lease(gateway, 0, told);
}

static void end_watch(struct gateway *gateway, struct evhttp_request *request)
{
	for (unsigned i = 0; i < gateway->unanswered_count; i++)
		if (gateway->unanswered[i] == request)
			gateway->unanswered[i] = gateway->unanswered[--gateway->unanswered_count];
	evhttp_send_reply_end(request);
}

void gateway_cut_watches(struct gateway *gateway)
{
	for (unsigned i = 0; i < gateway->watcher_count; i++) {
		struct evhttp_request *request = gateway->watchers[i].request;

		if (request)
			end_watch(gateway, request);
		for (unsigned j = i; j < gateway->watcher_count; j++)
			if (gateway->watchers[j].request == request)
				gateway->watchers[j].request = NULL;
	}
}

void gateway_compact(struct gateway *gateway)
{
	struct evbuffer *line = evbuffer_new();

	for (unsigned i = 0; i < gateway->watcher_count; i++) {
		struct watcher *watcher = &gateway->watchers[i];

		if (!watcher->request)
			continue;
		(void)evbuffer_add_printf(line,
		                          "{\"result\":{\"header\":{},\"watch_id\":\"%" PRId64
		                          "\",\"canceled\":true,\"compact_revision\":\"%" PRId64 "\"}}\n",
		                          watcher->id, gateway->revision);
		evhttp_send_reply_chunk(watcher->request, line);
	}
	evbuffer_free(line);
}

void gateway_chop_watches(struct gateway *gateway)
{
	gateway->chop = true;
}

void gateway_mute_watches(struct gateway *gateway, bool mute)
{
	gateway->mute = mute;
}

unsigned gateway_keys(const struct gateway *gateway)
{
	return gateway->key_count;
}

unsigned gateway_leases(const struct gateway *gateway)
{
	return gateway->lease_count;
}

unsigned gateway_calls(const struct gateway *gateway)
{
	return gateway->calls;
}

unsigned gateway_watches(const struct gateway *gateway)
{
	return gateway->watches;
}

unsigned gateway_keepalives(const struct gateway *gateway)
{
	return gateway->keepalives;
}

const char *gateway_url_6(struct gateway *gateway)
{
	struct sockaddr_in6 address;
	socklen_t size = sizeof(address);
	struct evhttp_bound_socket *bound = evhttp_bind_socket_with_handle(gateway->http, "::1", 0);

	if (!bound)
		return NULL;
	ck_assert_int_eq(getsockname(evhttp_bound_socket_get_fd(bound),
	                             (struct sockaddr *)&address, &size), 0);
	(void)snprintf(gateway->url_6, sizeof(gateway->url_6), "http://[::1]:%u",
	               ntohs(address.sin6_port));
	return gateway->url_6;
}

struct filelock_etcd *gateway_session_with(struct gateway *gateway, struct loop *loop,
                                           struct filelock_etcd_options *options)
{
	const char *endpoints[] = { gateway->url, gateway->url };
	struct filelock_etcd *session;
	int r;

	options->endpoints = endpoints;
	options->endpoint_count = 2;
	r = filelock_etcd_open(loop->ev, options, &session);
	ck_assert_msg(r == 0, "%s", filelock_last_error(NULL));
	session->calls.patience = PATIENCE;
	return session;
}

struct filelock_etcd *gateway_session(struct gateway *gateway, struct loop *loop)
{
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;

	options.ttl_ms = 3600000;
	return gateway_session_with(gateway, loop, &options);
}

void gateway_hurry(struct filelock_etcd *session)
{
	event_active(session->calls.timer, EV_TIMEOUT, 1);
}

struct filelock *gateway_lock(struct filelock_etcd *session, const char *name)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open_etcd(session, name, NULL, &lock), 0);
	return lock;
}

void gateway_close(struct filelock_etcd *session)
{
	bool has_lease = session->lease != 0;

	session_ref(session);
	filelock_etcd_close(session);
	if (has_lease)
		ck_assert_int_eq(event_del(session->end_timer), 0);
	session_unref(session);
}

void gateway_goodbye(struct loop *loop, struct filelock_etcd *session)
{
	session_ref(session);
	gateway_close(session);
	turn_until(loop, session->state == SESSION_CLOSED);
	session_unref(session);
}
