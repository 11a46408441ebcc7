/*
 * rpc.c - calls of the gateway.
 *
 *	IDLE ── call ──> CALLING ── answer ──> CALLING or IDLE
 *	                  │   ^  401: LOGIN ── token ──> CALLING
 *	       no answer  v   │
 *	                 RESTING (only after all endpoints in a row)
 *
 * A call is repeated as it is, on a new connection to the next endpoint: when it is not answered in
 * time, cut off, or answered by a server that has no leader, is overloaded or out of order. So
 * every call must bear to be done twice. A refusal that another server would repeat is an answer.
 *
 * Results of a refusal: -ENOENT (no such lease), -EACCES, -EPERM (user or password are wrong), and
 * -EPROTO for all else; with etcd's words.
 */
#include "rpc.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "codec.h"
#include "driver_private.h"

#define ANSWER_TIME 2000    /* ms */
#define SHORTEST_REST 100   /* ms */
#define LONGEST_REST 1000   /* ms */
#define LONGEST_LINE 200

/* Codes of gRPC. */
enum {
	CODE_NOT_FOUND = 5,
	CODE_PERMISSION = 7,
	CODE_UNAUTHENTICATED = 16
};

int64_t rpc_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_BOOTTIME, &t); /* cannot fail on Linux */
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

bool rpc_is_inherited(const struct rpc_access *access)
{
	return access->generation != filelock_generation();
}

static void move(struct rpc *rpc, enum rpc_state to)
{
	static const unsigned char allowed[] __attribute__((unused)) = {
		[RPC_IDLE] = 1 << RPC_CALLING | 1 << RPC_LOGIN | 1 << RPC_RESTING,
		[RPC_CALLING] = 1 << RPC_IDLE | 1 << RPC_RESTING,
		[RPC_LOGIN] = 1 << RPC_IDLE | 1 << RPC_RESTING,
		[RPC_RESTING] = 1 << RPC_IDLE,
	};

	assert(allowed[rpc->state] >> to & 1);
	(void)allowed;
	rpc->state = to;
}

static struct rpc_call *first(const struct rpc *rpc)
{
	struct list *link = list_first(&rpc->calls);

	return link ? list_entry(link, struct rpc_call, link) : NULL;
}

static void set_timer(struct rpc *rpc, unsigned ms)
{
	struct timeval after = { ms / 1000, ms % 1000 * 1000 };

	if (event_add(rpc->timer, &after) < 0)
		event_active(rpc->timer, EV_TIMEOUT, 1); /* no memory: early rather than never */
}

static void hang_up(struct rpc *rpc)
{
	http_free(rpc->http);
	rpc->http = NULL;
}

static void note_trouble(struct rpc *rpc, const char *text, size_t size)
{
	free(rpc->trouble);
	rpc->trouble = text ? strndup(text, size) : NULL;
}

/* Something is wrong with this endpoint: on to the next one. */
static void rotate(struct rpc *rpc)
{
	unsigned rest = SHORTEST_REST << (rpc->failures / rpc->access->count < 4
	                                          ? rpc->failures / rpc->access->count
	                                          : 4);

	hang_up(rpc);
	move(rpc, RPC_IDLE);
	rpc->endpoint = (rpc->endpoint + 1) % rpc->access->count;
	move(rpc, RPC_RESTING);
	/* at once, but not round and round */
	if (++rpc->failures % rpc->access->count != 0)
		rest = 0;
	set_timer(rpc, rest < LONGEST_REST ? rest : LONGEST_REST);
	if (rpc->on_rotate)
		rpc->on_rotate(rpc->arg);
}

static void serve(struct rpc *rpc);

/* The first call is over. */
static void finish(struct rpc *rpc, struct rpc_answer *answer)
{
	struct rpc_call *call = first(rpc);

	(void)event_del(rpc->timer);
	move(rpc, RPC_IDLE);
	list_remove(&call->link);
	rpc->failures = rpc->logins = 0;
	answer->sent_at = call->sent_at;
	answer->sends = call->sends;
	/* serve first: the callback may close the line */
	serve(rpc);
	if (call->done)
		call->done(call->arg, answer);
	free(call->body);
	free(call);
}

static int result_of(int code)
{
	switch (code) {
	case CODE_NOT_FOUND:
		return -ENOENT;
	case CODE_PERMISSION:
		return -EACCES;
	case CODE_UNAUTHENTICATED:
		return -EPERM;
	default:
		return -EPROTO;
	}
}

static bool is_named(const char *message, const char *part)
{
	return message && strstr(message, part);
}

/* It stays so until somebody acts; tried again and again it would keep off what renews. */
static bool is_full(const char *message)
{
	return is_named(message, "database space exceeded");
}

/* Whether another try may fare better: no leader, too many requests, time-outs, a server that stops. */
static bool may_pass(int status, int code, const char *message)
{
	static const int codes[] = { 1, 4, 8, 10, 14 };

	if (is_full(message))
		return false;
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (code == codes[i])
			return true;
	return status >= 500 || status == 408 || status == 429;
}

/* What is no JSON, in its first line; NULL: nothing, or out of memory. */
static char *first_line(const struct http_answer *http)
{
	size_t size = 0;

	while (size < http->size && size < LONGEST_LINE && http->text[size] >= ' ')
		size++;
	return size ? strndup(http->text, size) : NULL;
}

/* What etcd says, and what to do about it where that puzzles. */
static char *explain(const struct rpc *rpc, int status, const char *message, bool is_json)
{
	const char *hint = "";
	char *text;

	if (status == 404 && !is_json)
		hint = ": no JSON gateway answers there: before etcd 3.5 a configuration file needs "
		       "enable-grpc-gateway: true";
	else if (is_named(message, "CommonName of client"))
		hint = ": where etcd has users, its gateway refuses client certificates with a common "
		       "name (CN); issue one without";
	else if (is_full(message))
		hint = ": make room (etcdctl compact, defrag), and end the alarm (etcdctl alarm disarm)";
	else if (is_named(message, "user name is empty") ||
	         (is_named(message, "permission denied") && !rpc->access->user))
		hint = ": set user and password";
	if (asprintf(&text, "HTTP status %d: %s%s", status, message ? message : "", hint) < 0)
		return NULL;
	return text;
}

static bool is_login_void(const struct rpc *rpc, int status, int code, const char *message)
{
	return rpc->access->user && rpc->state == RPC_CALLING && rpc->logins == 0 &&
	       (status == 401 || code == CODE_UNAUTHENTICATED ||
	        is_named(message, "invalid auth token") ||
	        /* users or roles were changed: a token with a signature names the state before */
	        is_named(message, "revision of auth store is old") ||
	        is_named(message, "revision in header is old"));
}

static void refuse(struct rpc *rpc, const struct http_answer *http, const json_t *json)
{
	struct rpc_answer answer;
	char *plain = json ? NULL : first_line(http);
	const char *message = plain;
	char *text;
	int status = http->status, code = -1;
	bool passes;

	if (json)
		codec_read_error(json, &code, &message);
	if (is_login_void(rpc, status, code, message)) {
		free(plain);
		free(rpc->access->token);
		rpc->access->token = NULL;
		(void)event_del(rpc->timer);
		move(rpc, RPC_IDLE);
		serve(rpc);
		return;
	}
	text = explain(rpc, status, message, json != NULL);
	passes = may_pass(status, code, message);
	free(plain);
	note_trouble(rpc, text, text ? strlen(text) : 0);
	if (passes) {
		free(text);
		rotate(rpc);
		return;
	}
	answer = (struct rpc_answer){ .result = result_of(code), .message = text };
	finish(rpc, &answer);
	free(text);
}

static void take_token(struct rpc *rpc, const json_t *json)
{
	struct rpc_access *access = rpc->access;
	const char *token;

	if (codec_read_token(json, &token) < 0) {
		rotate(rpc);
		return;
	}
	free(access->token);
	access->token = strdup(token);
	(void)event_del(rpc->timer);
	move(rpc, RPC_IDLE);
	serve(rpc);
}

/* The connection failed. What TLS refuses everywhere no time will mend. */
static void take_silence(struct rpc *rpc, const struct http_answer *http)
{
	struct rpc_answer answer = { .result = -EPROTO };

	note_trouble(rpc, http->text, http->text ? strlen(http->text) : 0);
	if (!http->by_tls || rpc->failures + 1 < rpc->access->count) {
		rotate(rpc);
		return;
	}
	hang_up(rpc);
	answer.message = rpc->trouble;
	finish(rpc, &answer);
}

static void on_answer(void *arg, const struct http_answer *http)
{
	struct rpc *rpc = arg;
	struct rpc_answer answer = { 0 };
	json_t *json;

	if (rpc_is_inherited(rpc->access))
		return;
	if (http->status == 0) {
		take_silence(rpc, http);
		return;
	}
	json = http->size ? json_loadb(http->text, http->size, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
	if (http->status != 200) {
		refuse(rpc, http, json);
	} else if (!json) {
		note_trouble(rpc, "an answer that is no JSON", 64);
		rotate(rpc);
	} else if (json_object_get(json, "error")) { /* of a stream */
		refuse(rpc, http, json);
	} else if (rpc->state == RPC_LOGIN) {
		take_token(rpc, json);
	} else {
		answer.json = json;
		finish(rpc, &answer);
	}
	json_decref(json);
}

/* Out with a request. */
static int send_post(struct rpc *rpc, const char *path, const char *body, const char *token)
{
	struct http_post post = { .path = path, .body = body, .token = token,
		                  .done = on_answer, .arg = rpc };
	int r = 0;

	if (rpc->http && http_is_broken(rpc->http))
		hang_up(rpc);
	if (!rpc->http)
		r = http_new(&rpc->access->ground, &rpc->access->endpoints[rpc->endpoint], &rpc->http);
	return r < 0 ? r : http_send(rpc->http, &post);
}

static int log_in(struct rpc *rpc)
{
	char *body = codec_login(rpc->access->user,
	                         rpc->access->password ? rpc->access->password : "");
	int r = body ? send_post(rpc, "/v3/auth/authenticate", body, NULL) : -ENOMEM;

	free(body);
	rpc->logins++;
	return r;
}

/* Makes the first call, if none is out. */
static void serve(struct rpc *rpc)
{
	struct rpc_call *call = first(rpc);
	const struct rpc_access *access = rpc->access;
	bool must_log_in = access->user && !access->token;
	int r;

	if (rpc->state != RPC_IDLE || !call)
		return;
	move(rpc, must_log_in ? RPC_LOGIN : RPC_CALLING);
	if (must_log_in) {
		r = log_in(rpc);
	} else {
		call->sends++;
		call->sent_at = rpc_now();
		r = send_post(rpc, call->path, call->body, access->token);
	}
	if (r < 0)
		rotate(rpc); /* no memory: in a while */
	else
		set_timer(rpc, rpc->patience);
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct rpc *rpc = arg;

	(void)fd;
	(void)events;
	if (rpc_is_inherited(rpc->access))
		return;
	if (rpc->state == RPC_RESTING) {
		move(rpc, RPC_IDLE);
		serve(rpc);
	} else if (rpc->state != RPC_IDLE) {
		note_trouble(rpc, "no answer in time", 64);
		rotate(rpc);
	}
}

int rpc_open(struct rpc *rpc, struct rpc_access *access)
{
	list_init(&rpc->calls);
	rpc->access = access;
	rpc->patience = ANSWER_TIME;
	rpc->timer = evtimer_new(access->ground.base, on_timer, rpc);
	return rpc->timer ? 0 : -ENOMEM;
}

void rpc_close(struct rpc *rpc)
{
	struct list *link;

	hang_up(rpc);
	while (rpc->calls.next && (link = list_take_first(&rpc->calls))) {
		struct rpc_call *call = list_entry(link, struct rpc_call, link);

		free(call->body);
		free(call);
	}
	if (rpc->timer)
		event_free(rpc->timer);
	rpc->timer = NULL;
	free(rpc->trouble);
	rpc->trouble = NULL;
}

struct rpc_call *rpc_post(struct rpc *rpc, const char *path, char *body, rpc_cb done, void *arg)
{
	struct rpc_call *call = body ? calloc(1, sizeof(*call)) : NULL;

	if (!call) {
		free(body);
		return NULL;
	}
	call->path = path;
	call->body = body;
	call->done = done;
	call->arg = arg;
	list_add_last(&rpc->calls, &call->link);
	serve(rpc);
	return call;
}

void rpc_drop(struct rpc *rpc, struct rpc_call *call)
{
	bool is_out = call == first(rpc) && rpc->state != RPC_IDLE;

	list_remove(&call->link);
	free(call->body);
	free(call);
	if (!is_out)
		return;
	hang_up(rpc);
	(void)event_del(rpc->timer);
	move(rpc, RPC_IDLE);
	serve(rpc);
}

void rpc_ignore(struct rpc_call *call)
{
	call->done = NULL;
}
