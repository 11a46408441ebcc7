/*
 * session.c - a lease, kept alive, and how long its keys are safe.
 *
 *	GRANTING ── lease ──> READY ── lost ──> GRANTING
 *	   │  ^ asked again                any ── close ──> CLOSING ──> CLOSED
 *	   v  │
 *	REFUSED
 *
 * The deadline is the time before the last renewal was sent, that is confirmed, plus the TTL, less a
 * margin. etcd answers keepalives with success for leases that it has revoked (before 3.4.38, 3.5.23 and
 * 3.6.5), so that a renewal counts only once a transaction, sent after its answer, has found a key of
 * the lease. Each transaction of the locks may be that; one is made where there is none. A server that was
 * the leader, and was stopped meanwhile, answers keepalives as if it were yet: both have to be of one term.
 *
 * Timers of libevent may fire early, since they count from the time that the loop last knew: a deadline
 * that has not passed is waited for again.
 */
#include "session.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver_private.h"

#define SECOND INT64_C(1000000000)
#define MILLISECOND INT64_C(1000000)
#define LEAST_MARGIN (250 * MILLISECOND)
#define GOODBYE (2 * SECOND)

#define TO(state) (1u << SESSION_##state)

static void move(struct filelock_etcd *session, enum session_state to)
{
	static const unsigned char allowed[] __attribute__((unused)) = {
		[SESSION_GRANTING] = TO(READY) | TO(REFUSED) | TO(CLOSING),
		[SESSION_READY] = TO(GRANTING) | TO(CLOSING),
		[SESSION_REFUSED] = TO(GRANTING) | TO(CLOSING),
		[SESSION_CLOSING] = TO(CLOSED),
		[SESSION_CLOSED] = 0,
	};

	assert(allowed[session->state] >> to & 1);
	(void)allowed;
	session->state = to;
}

bool session_is_inherited(const struct filelock_etcd *session)
{
	return rpc_is_inherited(&session->access);
}

/* --- timers --- */

static void set_timer(struct event *timer, int64_t delay)
{
	int64_t us = delay > 0 ? (delay + 999) / 1000 : 0;
	struct timeval after = { us / 1000000, us % 1000000 };

	if (event_add(timer, &after) < 0)
		event_active(timer, EV_TIMEOUT, 1);
}

static int64_t margin_of(int64_t ttl)
{
	return ttl / 10 > LEAST_MARGIN ? ttl / 10 : LEAST_MARGIN;
}

/* The keys live so long if the lease was renewed at that time. */
static void set_deadline(struct filelock_etcd *session, int64_t renewed_at)
{
	session->deadline = renewed_at + session->granted_ttl - margin_of(session->granted_ttl);
	set_timer(session->deadline_timer, session->deadline - rpc_now());
}

bool session_is_safe(const struct filelock_etcd *session)
{
	return session->state == SESSION_READY && rpc_now() < session->deadline;
}

FILELOCK_API int64_t filelock_etcd_time_left(const struct filelock_etcd *session)
{
	int64_t left = session->deadline - rpc_now();

	if (session->state != SESSION_READY || session_is_inherited(session))
		return 0;
	return left > 0 ? left / MILLISECOND : 0;
}

/* --- the lease --- */

static void note_error(struct filelock_etcd *session, const char *text)
{
	free(session->error);
	session->error = text ? strdup(text) : NULL;
}

static void grant(struct filelock_etcd *session);

static void on_granted(void *arg, const struct rpc_answer *answer)
{
	struct filelock_etcd *session = arg;
	int result = answer->result;
	int64_t ttl = 0;

	session->grant = NULL;
	if (result == 0)
		result = codec_read_grant(answer->json, &session->lease, &ttl) < 0 ? -EPROTO : 0;
	if (result < 0) {
		note_error(session, answer->message ? answer->message : "no lease in the answer");
		move(session, SESSION_REFUSED);
		session->events->lost(session, result);
		if (session->on_lost)
			session->on_lost(session, result, session->arg);
		return;
	}
	note_error(session, NULL);
	session->granted_ttl = ttl * SECOND;
	session->alive.patience = (unsigned)(session->granted_ttl / 3 / MILLISECOND);
	if (session->alive.patience > 2000)
		session->alive.patience = 2000;
	session->renewed_at = 0;
	set_deadline(session, answer->sent_at);
	move(session, SESSION_READY);
	set_timer(session->renew_timer, session->granted_ttl / 3);
	session->events->ready(session);
	if (session->on_ready)
		session->on_ready(session, 0, session->arg);
}

/* Gives the lease back, whether anybody hears of it or not. */
static void revoke(struct filelock_etcd *session, rpc_cb done)
{
	if (session->lease)
		(void)rpc_post(&session->calls, "/v3/lease/revoke", codec_lease(session->lease), done,
		               session);
	session->lease = 0;
}

static void grant(struct filelock_etcd *session)
{
	session->grant = rpc_post(&session->calls, "/v3/lease/grant", codec_grant(session->ttl),
	                          on_granted, session);
	if (!session->grant) /* no memory: in a while */
		set_timer(session->renew_timer, SECOND);
}

static void ignore(struct rpc_call **call)
{
	if (*call)
		rpc_ignore(*call);
	*call = NULL;
}

static void stop_confirming(struct filelock_etcd *session)
{
	ignore(&session->confirmation);
	free(session->confirmed_key);
	session->confirmed_key = NULL;
}

void session_lose(struct filelock_etcd *session)
{
	if (session->state != SESSION_READY)
		return;
	move(session, SESSION_GRANTING);
	/* repeated where only the answers are lost, it would keep the lease for ever */
	if (session->renewal)
		rpc_drop(&session->alive, session->renewal);
	session->renewal = NULL;
	stop_confirming(session);
	(void)event_del(session->renew_timer);
	(void)event_del(session->deadline_timer);
	session->events->lost(session, FILELOCK_ELOST);
	revoke(session, NULL);
	grant(session);
	if (session->on_lost)
		session->on_lost(session, FILELOCK_ELOST, session->arg);
}

bool session_is_ready(struct filelock_etcd *session)
{
	if (session->state == SESSION_REFUSED) {
		move(session, SESSION_GRANTING);
		grant(session);
	}
	return session->state == SESSION_READY;
}

/* --- renewals --- */

static void confirm_by_key(struct filelock_etcd *session);

void session_confirm(struct filelock_etcd *session, int64_t sent_at, int64_t term)
{
	if (session->state != SESSION_READY || session->renewed_at == 0 ||
	    sent_at < session->renewal_known_at)
		return;
	if (term == session->renewed_term)
		set_deadline(session, session->renewed_at);
	else /* by the next leader, which may not know of it: once more, soon */
		set_timer(session->renew_timer, session->granted_ttl / 30);
	session->renewed_at = 0;
}

static void on_confirmed(void *arg, const struct rpc_answer *answer)
{
	struct filelock_etcd *session = arg;
	struct codec_txn txn;
	char *key = session->confirmed_key;

	session->confirmation = NULL;
	session->confirmed_key = NULL;
	if (answer->result == -ENOENT) {
		session_lose(session);
	} else if (answer->result == 0 && codec_read_txn(answer->json, &txn) == 0) {
		if (txn.succeeded || !key) {
			session_confirm(session, answer->sent_at, txn.term);
		} else {
			session->events->missed(session, key);
			confirm_by_key(session);
		}
	} else if (answer->result == -EACCES && !key) {
		/* of a lock that this user may not have: nothing is held that could be lost */
		session_confirm(session, answer->sent_at, session->renewed_term);
	}
	free(key);
}

/* Without a key there is nothing that could be lost; the term counts yet. */
static void confirm_by_key(struct filelock_etcd *session)
{
	struct codec_key key;
	bool has_key;

	if (session->confirmation || session->renewed_at == 0)
		return;
	has_key = session->events->any_key(session, &key);
	session->confirmed_key = has_key ? strdup(key.key) : NULL;
	if (session->confirmed_key || !has_key)
		session->confirmation = rpc_post(&session->calls, "/v3/kv/txn",
		                                 has_key ? codec_confirm(&key)
		                                         : codec_agree(session->events->any_folder(session)),
		                                 on_confirmed, session);
	if (!session->confirmation)
		stop_confirming(session); /* out of memory: the next renewal tries again */
}

static void on_renewed(void *arg, const struct rpc_answer *answer)
{
	struct filelock_etcd *session = arg;
	int64_t now = rpc_now();
	int64_t ttl = 0, term = 0;

	session->renewal = NULL;
	set_timer(session->renew_timer, answer->sent_at + session->granted_ttl / 3 - now);
	if (answer->result == -ENOENT ||
	    (answer->result == 0 && codec_read_keepalive(answer->json, &ttl, &term) == 0 && ttl <= 0)) {
		session_lose(session);
		return;
	}
	if (answer->result < 0 || ttl <= 0) {
		note_error(session, answer->message);
		return;
	}
	session->renewed_at = answer->sent_at;
	session->renewal_known_at = now;
	session->renewed_term = term;
	confirm_by_key(session);
}

static void on_renew(evutil_socket_t fd, short events, void *arg)
{
	struct filelock_etcd *session = arg;

	(void)fd;
	(void)events;
	if (session_is_inherited(session))
		return;
	if (session->state == SESSION_GRANTING && !session->grant)
		grant(session);
	if (session->state != SESSION_READY)
		return;
	if (!session->renewal)
		session->renewal = rpc_post(&session->alive, "/v3/lease/keepalive",
		                            codec_lease(session->lease), on_renewed, session);
	if (!session->renewal)
		set_timer(session->renew_timer, session->granted_ttl / 30);
	session->events->tick(session);
	if (rpc_now() - session->looked_at >= session->granted_ttl) {
		session->looked_at = rpc_now();
		session->events->look(session);
	}
}

static void on_deadline(evutil_socket_t fd, short events, void *arg)
{
	struct filelock_etcd *session = arg;
	int64_t now = rpc_now();

	(void)fd;
	(void)events;
	if (session_is_inherited(session) || session->state != SESSION_READY)
		return;
	if (now < session->deadline)
		set_timer(session->deadline_timer, session->deadline - now);
	else
		session_lose(session);
}

/* --- beginning and end --- */

static void on_deleted(void *arg, struct watched *watched, const char *key, int64_t revision)
{
	struct filelock_etcd *session = arg;

	session->events->deleted(session, watched, key, revision);
}

static void on_trouble(void *arg)
{
	struct filelock_etcd *session = arg;

	if (session->state == SESSION_READY)
		session->events->look(session);
}

static const struct watch_events watch_events = { on_deleted, on_trouble };

/* The watch follows the calls: a server that does not answer them tells nothing either. */
static void on_rotate(void *arg)
{
	struct filelock_etcd *session = arg;

	if (session->state == SESSION_READY)
		watch_restart(&session->watch);
}

static void free_access(struct rpc_access *access)
{
	for (unsigned i = 0; i < access->count; i++)
		http_endpoint_free(&access->endpoints[i]);
	free(access->endpoints);
	free(access->user);
	free(access->password);
	free(access->token);
}

static void free_event(struct event *event)
{
	if (event)
		event_free(event);
}

static void destroy(struct filelock_etcd *session)
{
	session->events->end(session);
	free_access(&session->access);
	free(session->confirmed_key);
	free(session->error);
	free(session);
}

/* All that is on the loop. */
static void take_down(struct filelock_etcd *session)
{
	watch_close(&session->watch);
	rpc_close(&session->calls);
	rpc_close(&session->alive);
	http_close(&session->access.ground);
	free_event(session->renew_timer);
	free_event(session->deadline_timer);
	free_event(session->end_timer);
}

void session_ref(struct filelock_etcd *session)
{
	session->references++;
}

void session_unref(struct filelock_etcd *session)
{
	if (--session->references > 0)
		return;
	if (session_is_inherited(session))
		http_forget(&session->access.ground);
	destroy(session);
}

static void on_end(evutil_socket_t fd, short events, void *arg)
{
	struct filelock_etcd *session = arg;

	(void)fd;
	(void)events;
	if (session_is_inherited(session))
		return;
	move(session, SESSION_CLOSED);
	take_down(session);
	session_unref(session);
}

static void on_revoked(void *arg, const struct rpc_answer *answer)
{
	struct filelock_etcd *session = arg;

	(void)answer;
	set_timer(session->end_timer, 0);
}

void session_close(struct filelock_etcd *session)
{
	bool said_goodbye = session->lease == 0;

	if (session_is_inherited(session)) {
		session_unref(session);
		return;
	}
	session->on_ready = session->on_lost = NULL;
	move(session, SESSION_CLOSING);
	ignore(&session->renewal);
	ignore(&session->grant);
	stop_confirming(session);
	(void)event_del(session->renew_timer);
	(void)event_del(session->deadline_timer);
	session->events->lost(session, -ECANCELED);
	watch_close(&session->watch);
	revoke(session, on_revoked);
	set_timer(session->end_timer, said_goodbye ? 0 : GOODBYE);
}

static int copy(const char *text, char **ret_copy)
{
	*ret_copy = text ? strdup(text) : NULL;
	return text && !*ret_copy ? -ENOMEM : 0;
}

static int refuse(int r, char **ret_why, const char *text, const char *what)
{
	if (r == -EINVAL && asprintf(ret_why, "%s %s", text, what) < 0)
		*ret_why = NULL;
	return r;
}

static int set_access(struct rpc_access *access, const struct filelock_etcd_options *options,
                      char **ret_why)
{
	struct http_tls tls = { options->ca_file, options->cert_file, options->key_file };
	bool wants_tls = false;
	int r;

	access->endpoints = calloc(options->endpoint_count, sizeof(*access->endpoints));
	if (!access->endpoints)
		return -ENOMEM;
	for (size_t i = 0; i < options->endpoint_count; i++) {
		struct http_endpoint *endpoint = &access->endpoints[i];

		r = options->endpoints[i] ? http_endpoint_read(options->endpoints[i], endpoint) : -EINVAL;
		if (r < 0)
			return refuse(r, ret_why, "this is no endpoint:",
			              options->endpoints[i] ? options->endpoints[i] : "NULL");
		access->count++;
		wants_tls |= endpoint->tls;
	}
	r = copy(options->user, &access->user);
	if (r == 0)
		r = copy(options->password, &access->password);
	if (r == 0 && wants_tls)
		r = http_set_tls(&access->ground, &tls, ret_why);
	return r;
}

static int set_up(struct filelock_etcd *session, struct event_base *base)
{
	int r = http_open(&session->access.ground, base);

	if (r == 0)
		r = rpc_open(&session->calls, &session->access);
	if (r == 0)
		r = rpc_open(&session->alive, &session->access);
	if (r == 0)
		r = watch_open(&session->watch, &session->access, &session->calls, &watch_events,
		               session);
	session->renew_timer = evtimer_new(base, on_renew, session);
	session->deadline_timer = evtimer_new(base, on_deadline, session);
	session->end_timer = evtimer_new(base, on_end, session);
	if (!session->renew_timer || !session->deadline_timer || !session->end_timer)
		r = -ENOMEM;
	return r;
}

int session_new(struct event_base *base, const struct filelock_etcd_options *options,
                const struct session_events *events, char **ret_why,
                struct filelock_etcd **ret_session)
{
	struct filelock_etcd *session = calloc(1, sizeof(*session));
	int r;

	if (!session)
		return -ENOMEM;
	list_init(&session->locks);
	list_init(&session->suspects);
	session->events = events;
	session->references = 1;
	session->access.generation = filelock_generation();
	session->ttl = ((options->ttl_ms ? options->ttl_ms : 10000) + 999) / 1000;
	session->on_ready = options->on_ready;
	session->on_lost = options->on_lost;
	session->arg = options->arg;
	r = set_access(&session->access, options, ret_why);
	if (r == 0)
		r = set_up(session, base);
	if (r < 0) {
		take_down(session);
		destroy(session);
		return r;
	}
	session->calls.on_rotate = on_rotate;
	session->calls.arg = session;
	*ret_session = session;
	return 0;
}

void session_begin(struct filelock_etcd *session)
{
	grant(session);
}

FILELOCK_API const char *filelock_etcd_last_error(const struct filelock_etcd *session)
{
	if (session->error)
		return session->error;
	if (session->state != SESSION_READY && session->calls.trouble)
		return session->calls.trouble;
	return "";
}
