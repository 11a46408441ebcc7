/* Locks in etcd: modes, order, timeouts, cancelling, hand-over, tokens; and what a session loses. */
#include <sys/wait.h>

#include "gateway.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define SHARED FILELOCK_SHARED

struct scene {
	struct loop loop;
	struct gateway *gateway;
	struct filelock_etcd *one, *other;
};

static struct scene scene_on(struct loop loop)
{
	struct scene scene = { .loop = loop };

	scene.gateway = gateway_new(scene.loop.base);
	scene.one = gateway_session(scene.gateway, &scene.loop);
	scene.other = gateway_session(scene.gateway, &scene.loop);
	/* closed before, one would leave a lease */
	turn_until(&scene.loop, scene.one->state == SESSION_READY && scene.other->state == SESSION_READY);
	return scene;
}

static struct scene scene_new(void)
{
	return scene_on(loop_new());
}

/* Nothing is left in etcd, nor in the loop. */
static void scene_end(struct scene *scene)
{
	gateway_goodbye(&scene->loop, scene->one);
	gateway_goodbye(&scene->loop, scene->other);
	turn_until(&scene->loop,
	           gateway_keys(scene->gateway) == 0 && gateway_leases(scene->gateway) == 0);
	evfilelock_free(scene->loop.ev);
	gateway_free(scene->gateway);
	loop_drain(&scene->loop);
	event_base_free(scene->loop.base);
}

static void release(struct scene *scene, struct filelock *lock)
{
	struct asked asked = { .lock = lock };

	ck_assert_int_eq(evfilelock_release(scene->loop.ev, lock, loop_note, &asked), 0);
	ck_assert_int_eq(loop_answer(&scene->loop, &asked), 0);
}

/* A request that waits in the queue for sure. */
static void enqueue(struct scene *scene, struct asked *asked, enum filelock_mode mode)
{
	unsigned keys = gateway_keys(scene->gateway);

	loop_ask(&scene->loop, asked, mode, -1);
	turn_until(&scene->loop, gateway_keys(scene->gateway) == keys + 1);
}

START_TEST(test_readers_share_and_wait_for_the_writer_before_them)
{
	struct scene scene = scene_new();
	struct filelock *reader = gateway_lock(scene.one, "a"), *second = gateway_lock(scene.other, "a");
	struct loop beside = loop_on(scene.loop.base), third = loop_on(scene.loop.base);
	struct asked writer = { .lock = gateway_lock(scene.other, "a") };
	struct asked late = { .lock = gateway_lock(scene.one, "a") };

	ck_assert_int_eq(loop_acquire(&scene.loop, reader, SHARED, -1), 0);
	ck_assert_int_eq(loop_acquire(&scene.loop, second, SHARED, -1), 0);
	loop_ask(&beside, &writer, EXCLUSIVE, -1);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 3);
	loop_ask(&third, &late, SHARED, -1);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 4);
	release(&scene, reader);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 3);
	ck_assert_uint_eq(writer.calls + late.calls, 0);
	release(&scene, second);
	turn_until(&scene.loop, writer.calls == 1);
	ck_assert_int_eq(writer.result, 0);
	ck_assert_uint_eq(late.calls, 0);
	release(&scene, writer.lock);
	turn_until(&scene.loop, late.calls == 1);
	ck_assert_int_eq(late.result, 0);
	evfilelock_free(beside.ev);
	evfilelock_free(third.ev);
	filelock_close(reader);
	filelock_close(second);
	filelock_close(writer.lock);
	filelock_close(late.lock);
	scene_end(&scene);
}
END_TEST

START_TEST(test_timeouts_are_kept_and_leave_nothing)
{
	struct scene scene = scene_new();
	struct filelock *holder = gateway_lock(scene.one, "a"), *waiter = gateway_lock(scene.other, "a");

	turn_until(&scene.loop, loop_acquire(&scene.loop, waiter, EXCLUSIVE, 0) == 0); /* within a second */
	release(&scene, waiter);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 0);
	ck_assert_int_eq(loop_acquire(&scene.loop, holder, EXCLUSIVE, PATIENT_MS), 0);
	ck_assert_int_eq(loop_acquire(&scene.loop, waiter, EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 1);
	ck_assert_int_eq(loop_acquire(&scene.loop, waiter, EXCLUSIVE, 30), -ETIMEDOUT);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	ck_assert(filelock_is_held(holder));
	filelock_close(holder);
	filelock_close(waiter);
	scene_end(&scene);
}
END_TEST

/* After all calls were left unheard: none is on its way, and the one that was lost is made again. */
static void mend(struct scene *scene, struct filelock_etcd *session)
{
	for (unsigned i = 0; i < 20; i++)
		loop_turn(&scene->loop);
	gateway_fault_all(scene->gateway, WAY_NONE);
	gateway_hurry(session);
}

START_TEST(test_timeouts_are_kept_while_etcd_is_away)
{
	struct scene scene = scene_new();
	struct filelock *lock = gateway_lock(scene.one, "a");

	gateway_fault_all(scene.gateway, WAY_DEAF);
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, 20), -ETIMEDOUT);
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, 0), -ETIMEDOUT);
	mend(&scene, scene.one);
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	filelock_close(lock);
	scene_end(&scene);
}
END_TEST

/* Of one context: those behind the first one learn from its attempt. */
START_TEST(test_requests_behind_the_first_time_out_too)
{
	struct scene scene = scene_new();
	struct filelock *holder = gateway_lock(scene.one, "a");
	struct asked first = { .lock = gateway_lock(scene.other, "a") };
	struct filelock *second = gateway_lock(scene.other, "a");

	ck_assert_int_eq(loop_acquire(&scene.loop, holder, EXCLUSIVE, -1), 0);
	enqueue(&scene, &first, EXCLUSIVE);
	ck_assert_int_eq(loop_acquire(&scene.loop, second, EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(loop_acquire(&scene.loop, second, EXCLUSIVE, 20), -ETIMEDOUT);
	ck_assert_uint_eq(first.calls, 0);
	release(&scene, holder);
	turn_until(&scene.loop, first.calls == 1);
	filelock_close(holder);
	filelock_close(first.lock);
	filelock_close(second);
	scene_end(&scene);
}
END_TEST

START_TEST(test_cancelled_while_the_answer_is_out_leaves_no_key)
{
	struct scene scene = scene_new();
	struct asked asked = { .lock = gateway_lock(scene.one, "a") };

	turn_until(&scene.loop, gateway_leases(scene.gateway) == 2);
	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_SILENT);
	loop_ask(&scene.loop, &asked, EXCLUSIVE, -1);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	ask_cancel(&asked);
	gateway_hurry(scene.one);
	turn_until(&scene.loop, asked.calls == 1 && gateway_keys(scene.gateway) == 0);
	ck_assert_int_eq(asked.result, -ECANCELED);
	filelock_close(asked.lock);
	scene_end(&scene);
}
END_TEST

/* It waits in a server that was cut off, and is done after the lock was released. */
START_TEST(test_key_that_comes_back_is_deleted_again)
{
	struct scene scene = scene_new();
	struct filelock *lock = gateway_lock(scene.one, "a");
	struct asked asked = { .lock = lock };

	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_LATE);
	loop_ask(&scene.loop, &asked, EXCLUSIVE, -1);
	turn_until(&scene.loop, gateway_fault_is_met(scene.gateway));
	gateway_hurry(scene.one);
	ck_assert_int_eq(loop_answer(&scene.loop, &asked), 0);
	release(&scene, lock);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 0);
	gateway_do_late(scene.gateway);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 1);
	event_active(scene.one->renew_timer, EV_TIMEOUT, 1);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 0);
	filelock_close(lock);
	scene_end(&scene);
}
END_TEST

static void pass_on(struct asked *asked)
{
	uint64_t *token = asked->arg, mine;

	ck_assert_int_eq(asked->result, 0);
	ck_assert_int_eq(filelock_token(asked->lock, &mine), 0);
	ck_assert_uint_gt(mine, *token);
	*token = mine;
	ck_assert_int_eq(filelock_release(asked->lock), 0);
}

START_TEST(test_hold_is_handed_over_inside_the_process_and_tokens_rise)
{
	enum { N = 5 };
	struct scene scene = scene_on(loop_with_handover(N, 60000000)); /* however long it lasts */
	struct asked asked[N];
	uint64_t token = 0;
	unsigned calls;

	turn_until(&scene.loop, gateway_leases(scene.gateway) == 2);
	calls = gateway_calls(scene.gateway);
	for (unsigned i = 0; i < N; i++) {
		asked[i] = (struct asked){ .lock = gateway_lock(scene.one, "a"),
			                   .then = pass_on,
			                   .arg = &token };
		loop_ask(&scene.loop, &asked[i], EXCLUSIVE, -1);
	}
	turn_until(&scene.loop, asked[N - 1].calls == 1 && gateway_keys(scene.gateway) == 0);
	ck_assert_uint_lt(gateway_calls(scene.gateway) - calls, 2 * N);
	for (unsigned i = 0; i < N; i++)
		filelock_close(asked[i].lock);
	scene_end(&scene);
}
END_TEST

/* A stream for all locks of a session, and not one for each acquisition. */
START_TEST(test_one_watch_serves_all_that_comes)
{
	struct scene scene = scene_new();
	struct filelock *lock = gateway_lock(scene.one, "a");

	for (unsigned i = 0; i < 5; i++) {
		ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
		release(&scene, lock);
		turn_until(&scene.loop, gateway_keys(scene.gateway) == 0);
	}
	turn_until(&scene.loop, gateway_watches(scene.gateway) > 0);
	ck_assert_uint_eq(gateway_watches(scene.gateway), 1);
	filelock_close(lock);
	scene_end(&scene);
}
END_TEST

START_TEST(test_waiter_gets_the_lock_when_its_watch_was_cut)
{
	struct scene scene = scene_new();
	struct filelock *holder = gateway_lock(scene.one, "a");
	struct asked waiter = { .lock = gateway_lock(scene.other, "a") };

	ck_assert_int_eq(loop_acquire(&scene.loop, holder, EXCLUSIVE, -1), 0);
	enqueue(&scene, &waiter, EXCLUSIVE);
	turn_until(&scene.loop, gateway_watches(scene.gateway) == 2);
	gateway_mute_watches(scene.gateway, true);
	release(&scene, holder);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	ck_assert_uint_eq(waiter.calls, 0);
	gateway_cut_watches(scene.gateway);
	turn_until(&scene.loop, waiter.calls == 1);
	ck_assert_int_eq(waiter.result, 0);
	filelock_close(holder);
	filelock_close(waiter.lock);
	scene_end(&scene);
}
END_TEST

/* --- losses --- */

struct told {
	unsigned ready, lost;
	int result;
};

static void on_ready(struct filelock_etcd *session, int result, void *arg)
{
	struct told *told = arg;

	(void)session;
	ck_assert_int_eq(result, 0);
	told->ready++;
}

static void on_lost(struct filelock_etcd *session, int result, void *arg)
{
	struct told *told = arg;

	(void)session;
	told->lost++;
	told->result = result;
}

static struct filelock_etcd *told_session(struct scene *scene, struct told *told, unsigned ttl_ms)
{
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;

	options.ttl_ms = ttl_ms;
	options.on_ready = on_ready;
	options.on_lost = on_lost;
	options.arg = told;
	return gateway_session_with(scene->gateway, &scene->loop, &options);
}

enum loss { DEAD_KEEPALIVE, LYING_KEEPALIVE, DELETED_KEY, ENDED_LEASE, LOSSES };

static void lose(struct scene *scene, struct filelock_etcd *session, enum loss loss)
{
	switch (loss) {
	case DEAD_KEEPALIVE:
		gateway_keepalives_lie(scene->gateway, true);
		break;
	case LYING_KEEPALIVE:
		gateway_keepalives_lie(scene->gateway, false);
		gateway_end_leases(scene->gateway, false);
		break;
	case DELETED_KEY:
		gateway_delete_all(scene->gateway, true);
		return;
	default:
		gateway_end_leases(scene->gateway, true);
		return;
	}
	event_active(session->renew_timer, EV_TIMEOUT, 1);
}

START_TEST(test_loss_is_told_once_and_the_next_hold_is_good)
{
	struct scene scene = scene_new();
	struct told told = { 0 };
	struct filelock_etcd *session = told_session(&scene, &told, 3600000);
	struct asked held = { .lock = gateway_lock(session, "a") };
	struct filelock *next = gateway_lock(session, "a");
	uint64_t token;

	ck_assert_int_eq(loop_acquire(&scene.loop, held.lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(evfilelock_on_lost(scene.loop.ev, held.lock, loop_note, &held), 0);
	turn_until(&scene.loop, gateway_watches(scene.gateway) == 1);
	loop_turn(&scene.loop);
	ck_assert_uint_eq(held.calls, 0);
	ck_assert_int_eq(filelock_loss(held.lock), FILELOCK_LOSS_NONE);
	lose(&scene, session, (enum loss)_i);
	turn_until(&scene.loop, held.calls == 1);
	ck_assert_int_eq(held.result, FILELOCK_ELOST);
	if (_i == DELETED_KEY)
		ck_assert_int_eq(filelock_loss(held.lock), FILELOCK_LOSS_MISSING);
	else
		ck_assert_int_ne(filelock_loss(held.lock), FILELOCK_LOSS_NONE);
	ck_assert(!filelock_is_held(held.lock));
	ck_assert_int_eq(filelock_verify(held.lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_token(held.lock, &token), FILELOCK_ELOST);
	ck_assert_int_eq(loop_try_ask(&scene.loop, &held, EXCLUSIVE, -1), FILELOCK_ELOST);
	release(&scene, held.lock);
	ck_assert_int_eq(loop_acquire(&scene.loop, next, EXCLUSIVE, -1), 0);
	ck_assert(filelock_is_held(next));
	ck_assert_uint_eq(held.calls, 1);
	filelock_close(held.lock);
	filelock_close(next);
	gateway_close(session);
	scene_end(&scene);
}
END_TEST

/* By the clock alone: no loop runs, nobody says anything. */
START_TEST(test_hold_ends_by_its_deadline)
{
	struct scene scene = scene_new();
	struct told told = { 0 };
	struct filelock_etcd *session = told_session(&scene, &told, 2000);
	struct filelock *lock = gateway_lock(session, "a");
	struct told before;

	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	gateway_fault_all(scene.gateway, WAY_DEAF);
	await(!filelock_is_held(lock));
	before = told; /* on a machine that is slow enough it was lost before */
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_etcd_time_left(session), 0);
	turn_until(&scene.loop, told.lost > before.lost);
	ck_assert_int_eq(told.result, FILELOCK_ELOST);
	ck_assert(list_is_empty(&session->alive.calls)); /* or they might renew it yet */
	mend(&scene, session);
	turn_until(&scene.loop, told.ready > before.ready);
	filelock_close(lock);
	gateway_close(session);
	scene_end(&scene);
}
END_TEST

/* A lease of an hour, whose margin is a tenth. */
#define HOUR (3600 * SECONDS)
#define latest_deadline(came) ((came) + HOUR - HOUR / 10)

START_TEST(test_deadline_counts_from_the_sending)
{
	struct scene scene = scene_new();
	struct told told = { 0 };
	struct filelock_etcd *session;
	struct filelock *lock;
	int64_t first;

	gateway_take_time(scene.gateway, "/v3/lease/grant", 100);
	session = told_session(&scene, &told, 3600000);
	lock = gateway_lock(session, "a");
	turn_until(&scene.loop, told.ready == 1);
	ck_assert_int_le(session->deadline, latest_deadline(gateway_came(scene.gateway)));
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	first = session->deadline;
	gateway_take_time(scene.gateway, "/v3/lease/keepalive", 100);
	event_active(session->renew_timer, EV_TIMEOUT, 1);
	turn_until(&scene.loop, session->deadline != first);
	ck_assert_int_le(session->deadline, latest_deadline(gateway_came(scene.gateway)));
	filelock_close(lock);
	gateway_close(session);
	scene_end(&scene);
}
END_TEST

/* Timers of libevent may. */
START_TEST(test_deadline_that_is_looked_at_early_is_waited_for_again)
{
	struct scene scene = scene_new();
	struct filelock *lock = gateway_lock(scene.one, "a");

	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(event_del(scene.one->deadline_timer), 0);
	event_active(scene.one->deadline_timer, EV_TIMEOUT, 1);
	loop_turn(&scene.loop);
	ck_assert(filelock_is_held(lock));
	ck_assert(evtimer_pending(scene.one->deadline_timer, NULL));
	filelock_close(lock);
	scene_end(&scene);
}
END_TEST

START_TEST(test_request_whose_answer_was_lost_makes_no_second_key)
{
	struct scene scene = scene_new();
	struct asked asked = { .lock = gateway_lock(scene.one, "a") };

	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_CLOSED);
	loop_ask(&scene.loop, &asked, EXCLUSIVE, -1);
	turn_until(&scene.loop, asked.calls == 1 || gateway_keys(scene.gateway) > 1);
	ck_assert_uint_eq(gateway_keys(scene.gateway), 1);
	ck_assert_int_eq(asked.result, 0);
	filelock_close(asked.lock);
	scene_end(&scene);
}
END_TEST

/* Its place in the queue is lost, and it waits at the end. */
START_TEST(test_waiter_outlives_a_lost_lease)
{
	struct scene scene = scene_new();
	struct filelock *holder = gateway_lock(scene.one, "a");
	struct asked waiter = { .lock = gateway_lock(scene.other, "a") };

	ck_assert_int_eq(loop_acquire(&scene.loop, holder, EXCLUSIVE, -1), 0);
	enqueue(&scene, &waiter, EXCLUSIVE);
	gateway_end_leases(scene.gateway, true);
	turn_until(&scene.loop, waiter.calls == 1);
	ck_assert_int_eq(waiter.result, 0);
	ck_assert(!filelock_is_held(holder) || gateway_watches(scene.gateway) < 2);
	filelock_close(holder);
	filelock_close(waiter.lock);
	scene_end(&scene);
}
END_TEST

/* --- refusals --- */

START_TEST(test_what_etcd_refuses_is_an_error_that_says_what_to_do)
{
	static const struct {
		int status;
		const char *text, *hint;
		int error;
	} refusals[] = {
		{ 400, "CommonName of client sending a request against gateway will be ignored",
		  "without", -EPROTO },
		{ 404, "404 page not found", "enable-grpc-gateway", -EPROTO },
		{ 400, "{\"error\":\"etcdserver: user name is empty\",\"code\":3}", "user and password",
		  -EPROTO },
		{ 403, "{\"error\":\"etcdserver: permission denied\",\"code\":7}", "permission denied",
		  -EACCES },
	};
	struct scene scene = scene_new();
	struct told told = { 0 };
	struct filelock_etcd *session;
	struct filelock *lock;

	gateway_answer_all(scene.gateway, refusals[_i].status, refusals[_i].text);
	session = told_session(&scene, &told, 2000);
	lock = gateway_lock(session, "a");
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), refusals[_i].error);
	ck_assert_msg(strstr(filelock_last_error(lock), refusals[_i].hint), "%s",
	              filelock_last_error(lock));
	ck_assert_msg(strstr(filelock_etcd_last_error(session), refusals[_i].hint), "%s",
	              filelock_etcd_last_error(session));
	ck_assert_int_eq(told.result, refusals[_i].error);
	gateway_answer_all(scene.gateway, 0, NULL);
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_str_eq(filelock_etcd_last_error(session), "");
	filelock_close(lock);
	gateway_close(session);
	scene_end(&scene);
}
END_TEST

START_TEST(test_token_that_has_expired_is_asked_for_again)
{
	struct scene scene = scene_new();
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	struct filelock_etcd *session;
	struct filelock *lock;

	turn_until(&scene.loop, gateway_leases(scene.gateway) == 2);
	gateway_want_token(scene.gateway);
	options.user = "me";
	options.password = "secret";
	session = gateway_session_with(scene.gateway, &scene.loop, &options);
	lock = gateway_lock(session, "a");
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	gateway_want_token(scene.gateway);
	release(&scene, lock);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 0);
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	filelock_close(lock);
	gateway_close(session);
	turn_until(&scene.loop, gateway_leases(scene.gateway) == 2);
	/* the others have no token, so nobody may say goodbye */
	gateway_goodbye(&scene.loop, scene.one);
	gateway_goodbye(&scene.loop, scene.other);
	evfilelock_free(scene.loop.ev);
	gateway_free(scene.gateway);
	loop_drain(&scene.loop);
	event_base_free(scene.loop.base);
}
END_TEST

START_TEST(test_calls_that_would_wait_are_refused)
{
	struct scene scene = scene_new();
	struct filelock *lock = gateway_lock(scene.one, "a"), *none;
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	ck_assert_str_eq(filelock_path(lock), "etcd:a");
	ck_assert_int_eq(filelock_kind(lock), FILELOCK_ETCD);
	ck_assert_int_eq(filelock_acquire(lock, EXCLUSIVE, 0), -ENOTSUP);
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(filelock_fd(lock), -ENOTSUP);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	ck_assert_int_eq(filelock_break(lock), -EBUSY);
	/* one level more, and both are released */
	ck_assert_int_eq(loop_acquire(&scene.loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(filelock_depth(lock), 2);
	ck_assert_int_eq(filelock_release_all(lock), 0);
	ck_assert_int_eq(filelock_open("/x", FILELOCK_ETCD, NULL, &none), -EINVAL);
	ck_assert_int_eq(filelock_open_etcd(scene.one, "a//b", NULL, &none), -EINVAL);
	options.file_mode = 0600;
	ck_assert_int_eq(filelock_open_etcd(scene.one, "a", &options, &none), -EINVAL);
	options.file_mode = 0;
	options.heartbeat_ms = 1000;
	ck_assert_int_eq(filelock_open_etcd(scene.one, "a", &options, &none), -EINVAL);
	filelock_close(lock);
	scene_end(&scene);
}
END_TEST

START_TEST(test_wrong_options_are_refused_by_name)
{
	struct loop loop = loop_new();
	static const char *const endpoints[] = { "http://127.0.0.1:1" };
	static const char *const wrong[] = { "ftp://127.0.0.1" };
	static const char *const secure[] = { "https://127.0.0.1:1" };
	struct filelock_etcd_options good = FILELOCK_ETCD_OPTIONS_INIT, options;
	struct filelock_etcd *session;

	good.endpoints = endpoints;
	good.endpoint_count = 1;
#define REFUSED(member, value, word)                                                              \
	options = good;                                                                           \
	options.member = value;                                                                   \
	ck_assert_int_eq(filelock_etcd_open(loop.ev, &options, &session), -EINVAL);               \
	ck_assert_msg(strstr(filelock_last_error(NULL), word), "%s", filelock_last_error(NULL));
	REFUSED(endpoint_count, 0, "endpoints")
	REFUSED(endpoints, wrong, "ftp://127.0.0.1")
	REFUSED(ttl_ms, 1999, "ttl_ms")
	REFUSED(cert_file, "/x", "cert_file")
	REFUSED(password, "x", "user")
	REFUSED(user, "J\xf6rg", "user")
	REFUSED(size, 0, "size")
	good.user = "somebody";
	REFUSED(password, "\xff", "password")
	good.endpoints = secure;
	REFUSED(ca_file, "/nowhere/ca.pem", "ca_file /nowhere/ca.pem")
#undef REFUSED
	loop_free(&loop);
}
END_TEST

struct inherited {
	struct scene scene;
	struct filelock *held, *idle;
};

/* The first call that does not refuse what is the parent's. NULL: they all do. */
static const char *what_is_not_refused(struct inherited *inherited)
{
	struct scene *scene = &inherited->scene;
	const char *url = gateway_url(scene->gateway);
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	struct asked asked = { .lock = inherited->idle };
	struct filelock_etcd *session;
	struct filelock *lock;
	uint64_t token;

	options.endpoints = &url;
	options.endpoint_count = 1;
	if (filelock_etcd_open(scene->loop.ev, &options, &session) != FILELOCK_EFORKED)
		return "a session in the context";
	if (filelock_open_etcd(scene->one, "b", NULL, &lock) != FILELOCK_EFORKED)
		return "a handle in the session";
	if (loop_try_ask(&scene->loop, &asked, EXCLUSIVE, -1) != FILELOCK_EFORKED)
		return "a request in the context";
	if (filelock_etcd_time_left(scene->one) != 0 || filelock_is_held(inherited->held))
		return "the hold";
	if (filelock_token(inherited->held, &token) == 0)
		return "the token";
	return NULL;
}

/* A context of the child's own, with handles of the parent's. */
static const char *what_is_not_refused_beside(struct inherited *inherited)
{
	struct loop own = loop_new();
	int r = loop_acquire(&own, inherited->idle, EXCLUSIVE, -1);

	loop_free(&own);
	return r == FILELOCK_EFORKED ? NULL : "a request in a context of the child";
}

/* Closes all of it. What is on the parent's loop is not freed: here it stays in the sight of a tool that looks
   for leaks. */
static void close_all(struct inherited *inherited)
{
	static struct filelock_etcd parents;

	parents = *inherited->scene.one;
	filelock_close(inherited->held);
	filelock_close(inherited->idle);
	filelock_etcd_close(inherited->scene.one);
	(void)event_base_loop(inherited->scene.loop.base, EVLOOP_NONBLOCK);
	ck_assert_uint_ne(parents.references, 0);
}

static int try_in_child(void *arg)
{
	struct inherited *inherited = arg;
	struct scene *scene = &inherited->scene;
	const char *taken;

	(void)event_reinit(scene->loop.base);
	(void)event_base_loop(scene->loop.base, EVLOOP_NONBLOCK);
	taken = what_is_not_refused(inherited);
	if (!taken)
		taken = what_is_not_refused_beside(inherited);
	if (taken) {
		(void)fprintf(stderr, "not refused: %s\n", taken);
		_exit(1);
	}
	close_all(inherited);
	_exit(0);
}

START_TEST(test_forked_child_is_refused_and_touches_nothing)
{
	struct inherited inherited = { .scene = scene_new() };
	struct scene *scene = &inherited.scene;
	struct filelock *lock = gateway_lock(scene->one, "a");
	unsigned calls;

	inherited.held = lock;
	inherited.idle = gateway_lock(scene->one, "c");
	ck_assert_int_eq(loop_acquire(&scene->loop, lock, EXCLUSIVE, -1), 0);
	/* else the child's copy of the gateway might accept it */
	turn_until(&scene->loop, gateway_watches(scene->gateway) == 1);
	calls = gateway_calls(scene->gateway);
	ck_assert_int_eq(test_in_child(try_in_child, &inherited), 0);
	loop_turn(&scene->loop);
	ck_assert_uint_eq(gateway_calls(scene->gateway), calls);
	ck_assert(filelock_is_held(lock));
	ck_assert_int_eq(filelock_verify(lock), 0);
	release(scene, lock);
	turn_until(&scene->loop, gateway_keys(scene->gateway) == 0);
	filelock_close(lock);
	filelock_close(inherited.idle);
	scene_end(scene);
}
END_TEST

START_TEST(test_closed_session_ends_all_that_is_on_it)
{
	struct scene scene = scene_new();
	struct told told = { 0 };
	struct filelock_etcd *session = told_session(&scene, &told, 3600000);
	struct filelock *holder = gateway_lock(session, "a");
	struct filelock *blocker = gateway_lock(scene.one, "b"), *none;
	struct asked waiter = { .lock = gateway_lock(session, "b") };

	ck_assert_int_eq(loop_acquire(&scene.loop, blocker, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(loop_acquire(&scene.loop, holder, EXCLUSIVE, -1), 0);
	enqueue(&scene, &waiter, EXCLUSIVE);
	gateway_close(session);
	ck_assert(!filelock_is_held(holder));
	turn_until(&scene.loop, waiter.calls == 1);
	ck_assert_int_eq(waiter.result, -ECANCELED);
	ck_assert_int_eq(filelock_open_etcd(session, "a", NULL, &none), -ECANCELED);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	filelock_close(holder);
	filelock_close(waiter.lock);
	filelock_close(blocker);
	scene_end(&scene);
}
END_TEST

struct taken {
	unsigned calls;
	int result;
};

static void on_all(struct filelock *const *set, size_t n, int result, struct filelock *failed, void *arg)
{
	struct taken *taken = arg;

	(void)set;
	(void)n;
	(void)failed;
	taken->calls++;
	taken->result = result;
}

START_TEST(test_set_of_locks_is_taken_in_etcd_and_files)
{
	struct scene scene = scene_new();
	struct filelock *set[3] = { gateway_lock(scene.one, "b"), gateway_lock(scene.one, "a"),
		                    open_patient("c") };
	struct filelock *blocker = gateway_lock(scene.other, "a");
	struct taken taken = { 0 };

	ck_assert_int_eq(loop_acquire(&scene.loop, blocker, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(evfilelock_acquire_all(scene.loop.ev, set, 3, EXCLUSIVE, NULL, on_all, &taken),
	                 0);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 2);
	ck_assert_uint_eq(taken.calls, 0);
	release(&scene, blocker);
	turn_until(&scene.loop, taken.calls == 1);
	ck_assert_int_eq(taken.result, 0);
	for (unsigned i = 0; i < 3; i++) {
		ck_assert(filelock_is_held(set[i]));
		filelock_close(set[i]);
	}
	filelock_close(blocker);
	scene_end(&scene);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("etcd_lock", test_readers_share_and_wait_for_the_writer_before_them,
	                     test_timeouts_are_kept_and_leave_nothing,
	                     test_timeouts_are_kept_while_etcd_is_away,
	                     test_requests_behind_the_first_time_out_too,
	                     test_cancelled_while_the_answer_is_out_leaves_no_key,
	                     test_key_that_comes_back_is_deleted_again,
	                     test_hold_is_handed_over_inside_the_process_and_tokens_rise,
	                     test_one_watch_serves_all_that_comes,
	                     test_waiter_gets_the_lock_when_its_watch_was_cut,
	                     test_hold_ends_by_its_deadline,
	                     test_deadline_counts_from_the_sending,
	                     test_deadline_that_is_looked_at_early_is_waited_for_again,
	                     test_request_whose_answer_was_lost_makes_no_second_key,
	                     test_waiter_outlives_a_lost_lease,
	                     test_token_that_has_expired_is_asked_for_again,
	                     test_calls_that_would_wait_are_refused,
	                     test_wrong_options_are_refused_by_name,
	                     test_forked_child_is_refused_and_touches_nothing,
	                     test_closed_session_ends_all_that_is_on_it,
	                     test_set_of_locks_is_taken_in_etcd_and_files);
	TCase *tcase = tcase_create("each");

	tcase_add_loop_test(tcase, test_loss_is_told_once_and_the_next_hold_is_good, 0, LOSSES);
	tcase_add_loop_test(tcase, test_what_etcd_refuses_is_an_error_that_says_what_to_do, 0, 4);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
