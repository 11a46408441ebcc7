/* What happens to servers rarely: leaders that do not know of their end, histories that are cut, users that
   are changed, connections that end early, names without a name server. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>

#include <event2/bufferevent.h>
#include <event2/listener.h>

#include "gateway.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

struct scene {
	struct loop loop;
	struct gateway *gateway;
	struct filelock_etcd *session;
	struct filelock *lock;
};

static struct scene scene_new(void)
{
	struct scene scene = { .loop = loop_new() };

	scene.gateway = gateway_new(scene.loop.base);
	scene.session = gateway_session(scene.gateway, &scene.loop);
	scene.lock = gateway_lock(scene.session, "a");
	/* closed before, it would leave a lease */
	turn_until(&scene.loop, scene.session->state == SESSION_READY);
	return scene;
}

static void scene_end(struct scene *scene)
{
	filelock_close(scene->lock);
	gateway_goodbye(&scene->loop, scene->session);
	turn_until(&scene->loop,
	           gateway_keys(scene->gateway) == 0 && gateway_leases(scene->gateway) == 0);
	evfilelock_free(scene->loop.ev);
	gateway_free(scene->gateway);
	loop_drain(&scene->loop);
	event_base_free(scene->loop.base);
}

static void acquire(struct scene *scene)
{
	ck_assert_int_eq(loop_acquire(&scene->loop, scene->lock, EXCLUSIVE, -1), 0);
}

static void release(struct scene *scene)
{
	struct asked asked = { .lock = scene->lock };

	ck_assert_int_eq(evfilelock_release(scene->loop.ev, scene->lock, loop_note, &asked), 0);
	ck_assert_int_eq(loop_answer(&scene->loop, &asked), 0);
	turn_until(&scene->loop, gateway_keys(scene->gateway) == 0);
}

static void renew(struct scene *scene)
{
	unsigned keepalives = gateway_keepalives(scene->gateway);

	event_active(scene->session->renew_timer, EV_TIMEOUT, 1);
	turn_until(&scene->loop, gateway_keepalives(scene->gateway) > keepalives);
	turn_until(&scene->loop, !scene->session->renewal && !scene->session->confirmation);
}

/* It is stopped, and goes on after the election: it answers a keepalive before it hears of that. */
START_TEST(test_renewal_by_a_leader_that_was_deposed_does_not_count)
{
	struct scene scene = scene_new();
	int64_t deadline;

	gateway_set_terms(scene.gateway, 7, 7);
	if (_i)
		acquire(&scene);
	renew(&scene);
	deadline = scene.session->deadline;
	gateway_set_terms(scene.gateway, 7, 8);
	renew(&scene);
	ck_assert_int_eq(scene.session->deadline, deadline);
	gateway_set_terms(scene.gateway, 8, 8);
	renew(&scene);
	ck_assert_int_gt(scene.session->deadline, deadline);
	scene_end(&scene);
}
END_TEST

START_TEST(test_idle_session_of_who_may_not_read_the_lock_is_renewed)
{
	struct scene scene = scene_new();
	int64_t deadline = scene.session->deadline;

	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_DENIED);
	renew(&scene);
	ck_assert(gateway_fault_is_met(scene.gateway));
	ck_assert_int_gt(scene.session->deadline, deadline);
	scene_end(&scene);
}
END_TEST

/* The answer that it was made comes after the news that it is deleted. */
START_TEST(test_key_that_is_gone_before_it_is_known_is_held_by_nobody)
{
	struct scene scene = scene_new();
	struct asked asked = { .lock = scene.lock };

	acquire(&scene); /* from now on there is a watch */
	turn_until(&scene.loop, gateway_watches(scene.gateway) == 1);
	release(&scene);
	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_HELD);
	loop_ask(&scene.loop, &asked, EXCLUSIVE, _i ? -1 : 0);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	gateway_delete_all(scene.gateway, true);
	for (unsigned i = 0; i < 20; i++) /* the news is in this process already, and is read */
		loop_turn(&scene.loop);
	gateway_answer_held(scene.gateway);
	turn_until(&scene.loop, asked.calls == 1);
	ck_assert(asked.result == -ETIMEDOUT ||
	          (asked.result == 0 && gateway_keys(scene.gateway) == 1));
	scene_end(&scene);
}
END_TEST

START_TEST(test_watch_whose_history_is_cut_begins_anew)
{
	struct scene scene = scene_new();
	struct filelock_etcd *other = gateway_session(scene.gateway, &scene.loop);
	struct asked waiter = { .lock = gateway_lock(other, "a") };

	acquire(&scene);
	loop_ask(&scene.loop, &waiter, EXCLUSIVE, -1);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 2);
	turn_until(&scene.loop, gateway_watches(scene.gateway) == 2);
	gateway_mute_watches(scene.gateway, true);
	ck_assert_int_eq(filelock_release(scene.lock), 0);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 1);
	gateway_compact(scene.gateway);
	turn_until(&scene.loop, waiter.calls == 1);
	ck_assert_int_eq(waiter.result, 0);
	turn_until(&scene.loop, gateway_watches(scene.gateway) == 4);
	filelock_close(waiter.lock);
	gateway_goodbye(&scene.loop, other);
	scene_end(&scene);
}
END_TEST

/* Keys cannot be made any more; those that are there, and their lease, are as good as before. */
START_TEST(test_store_that_is_full_refuses_requests_and_keeps_holds)
{
	struct scene scene = scene_new();
	struct filelock *next = gateway_lock(scene.session, "b");
	int64_t deadline;

	acquire(&scene);
	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_FULL);
	ck_assert_int_eq(loop_acquire(&scene.loop, next, EXCLUSIVE, -1), -EPROTO);
	ck_assert_msg(strstr(filelock_last_error(next), "alarm disarm"), "%s", filelock_last_error(next));
	deadline = scene.session->deadline;
	renew(&scene);
	ck_assert_int_gt(scene.session->deadline, deadline);
	ck_assert(filelock_is_held(scene.lock));
	filelock_close(next);
	scene_end(&scene);
}
END_TEST

/* However it is cut: the lines count, and not the parts that they come in. */
START_TEST(test_news_may_come_a_byte_at_a_time)
{
	struct scene scene = scene_new();
	struct filelock_etcd *other = gateway_session(scene.gateway, &scene.loop);
	struct asked waiter = { .lock = gateway_lock(other, "a") };

	gateway_chop_watches(scene.gateway);
	acquire(&scene);
	loop_ask(&scene.loop, &waiter, EXCLUSIVE, -1);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 2);
	turn_until(&scene.loop, gateway_watches(scene.gateway) == 2);
	ck_assert_int_eq(filelock_release(scene.lock), 0);
	turn_until(&scene.loop, waiter.calls == 1);
	ck_assert_int_eq(waiter.result, 0);
	ck_assert_uint_eq(gateway_watches(scene.gateway), 2); /* and none was given up */
	filelock_close(waiter.lock);
	gateway_goodbye(&scene.loop, other);
	scene_end(&scene);
}
END_TEST

static void close_session(struct filelock_etcd *session, int result, void *arg)
{
	unsigned *closed = arg;

	(void)result;
	++*closed;
	gateway_close(session);
}

START_TEST(test_session_may_be_closed_by_its_own_callbacks)
{
	struct scene scene = scene_new();
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	struct filelock_etcd *session;
	struct asked asked = { 0 };
	unsigned closed = 0;

	options.ttl_ms = 3600000;
	options.arg = &closed;
	if (_i)
		options.on_ready = close_session;
	else
		options.on_lost = close_session;
	session = gateway_session_with(scene.gateway, &scene.loop, &options);
	asked.lock = gateway_lock(session, "b");
	loop_ask(&scene.loop, &asked, EXCLUSIVE, -1);
	if (!_i) {
		turn_until(&scene.loop, asked.calls == 1);
		turn_until(&scene.loop, gateway_watches(scene.gateway) == 1);
		gateway_keepalives_lie(scene.gateway, true);
		event_active(session->renew_timer, EV_TIMEOUT, 1);
	}
	turn_until(&scene.loop, closed == 1 && asked.calls == 1);
	ck_assert_int_eq(asked.result, _i ? -ECANCELED : 0);
	ck_assert(!filelock_is_held(asked.lock));
	filelock_close(asked.lock);
	scene_end(&scene);
}
END_TEST

static struct filelock_etcd *session_of(struct scene *scene, const char *url, const char *user)
{
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	struct filelock_etcd *session;

	options.endpoints = &url;
	options.endpoint_count = 1;
	options.user = user;
	options.ttl_ms = 3600000;
	ck_assert_int_eq(filelock_etcd_open(scene->loop.ev, &options, &session), 0);
	return session;
}

static void expect_lock(struct scene *scene, struct filelock_etcd *session)
{
	struct filelock *lock = gateway_lock(session, "a");

	ck_assert_int_eq(loop_acquire(&scene->loop, lock, EXCLUSIVE, -1), 0);
	filelock_close(lock);
	gateway_goodbye(&scene->loop, session);
}

/* One with a signature, which names the state of users and roles. */
START_TEST(test_token_of_before_a_change_of_users_is_asked_for_again)
{
	struct scene scene = scene_new();
	struct filelock_etcd *session = session_of(&scene, gateway_url(scene.gateway), "me");

	turn_until(&scene.loop, gateway_leases(scene.gateway) == 2);
	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_OLD_TOKEN);
	expect_lock(&scene, session);
	scene_end(&scene);
}
END_TEST

START_TEST(test_endpoint_may_be_an_address_of_version_6)
{
	struct scene scene = scene_new();
	const char *url = gateway_url_6(scene.gateway);

	if (!url)
		test_skip("there is no address ::1 here");
	else
		expect_lock(&scene, session_of(&scene, url, NULL));
	scene_end(&scene);
}
END_TEST

static void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(close(fd), 0);
}

/* Those of this process alone. */
static bool set_names(void)
{
	put_file(test_path("hosts"), "127.0.0.1 gateway.test\n");
	put_file(test_path("resolv.conf"), "");
	return unshare(CLONE_NEWNS) == 0 && mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount(test_path("hosts"), "/etc/hosts", "none", MS_BIND, NULL) == 0 &&
	       mount(test_path("resolv.conf"), "/etc/resolv.conf", "none", MS_BIND, NULL) == 0;
}

static int lock_by_name(void *arg)
{
	struct scene scene;
	char url[64];

	(void)arg;
	if (!set_names())
		return 77;
	scene = scene_new();
	(void)snprintf(url, sizeof(url), "gateway.test%s", strrchr(gateway_url(scene.gateway), ':'));
	expect_lock(&scene, session_of(&scene, url, NULL));
	scene_end(&scene);
	return 0;
}

START_TEST(test_name_is_found_where_no_name_server_is_known)
{
	int r;

	(void)test_folder();
	r = test_in_child(lock_by_name, NULL);
	if (r == 77)
		test_skip("files of /etc cannot be replaced for one process here");
	else
		ck_assert_int_eq(r, 0);
}
END_TEST

/* --- a server that ends each connection at the first bytes --- */

static void on_bytes(struct bufferevent *bufev, void *arg)
{
	unsigned *ended = arg;

	++*ended;
	bufferevent_free(bufev);
}

static void on_accepted(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *from,
                        int size, void *arg)
{
	struct bufferevent *bufev = bufferevent_socket_new(evconnlistener_get_base(listener), fd,
	                                                   BEV_OPT_CLOSE_ON_FREE);

	(void)from;
	(void)size;
	bufferevent_setcb(bufev, on_bytes, NULL, NULL, arg);
	ck_assert_int_eq(bufferevent_enable(bufev, EV_READ), 0);
}

static struct evconnlistener *end_connections(struct event_base *base, unsigned *ended, char *ret_url)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(address);
	struct evconnlistener *listener = evconnlistener_new_bind(
	        base, on_accepted, ended, LEV_OPT_CLOSE_ON_FREE, -1, (struct sockaddr *)&address,
	        sizeof(address));

	ck_assert_ptr_nonnull(listener);
	ck_assert_int_eq(getsockname(evconnlistener_get_fd(listener), (struct sockaddr *)&address, &size),
	                 0);
	(void)snprintf(ret_url, 64, "https://127.0.0.1:%u", ntohs(address.sin_port));
	return listener;
}

/* It may be about to start; what TLS refuses is an error at once. */
START_TEST(test_server_that_goes_in_the_handshake_refuses_nobody)
{
	struct scene scene = scene_new();
	unsigned ended = 0;
	char url[64];
	struct evconnlistener *listener = end_connections(scene.loop.base, &ended, url);
	struct filelock_etcd *session = session_of(&scene, url, NULL);
	struct asked asked = { .lock = gateway_lock(session, "a") };

	loop_ask(&scene.loop, &asked, EXCLUSIVE, -1);
	turn_until(&scene.loop, ended >= 3);
	ck_assert_uint_eq(asked.calls, 0);
	ask_cancel(&asked);
	turn_until(&scene.loop, asked.calls == 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	filelock_close(asked.lock);
	gateway_goodbye(&scene.loop, session);
	evconnlistener_free(listener);
	scene_end(&scene);
}
END_TEST

static unsigned count_calls(const struct filelock_etcd *session)
{
	unsigned count = 0;

	list_for_each(link, &session->calls.calls)
		count++;
	return count;
}

/* They would stand before what keeps the lease. */
START_TEST(test_deletions_of_what_may_come_back_do_not_pile_up_while_etcd_is_away)
{
	struct scene scene = scene_new();
	struct asked asked = { .lock = scene.lock };

	gateway_fault(scene.gateway, "/v3/kv/txn", 1, WAY_LATE);
	loop_ask(&scene.loop, &asked, EXCLUSIVE, -1);
	turn_until(&scene.loop, gateway_fault_is_met(scene.gateway));
	gateway_hurry(scene.session);
	ck_assert_int_eq(loop_answer(&scene.loop, &asked), 0);
	release(&scene);
	turn_until(&scene.loop, count_calls(scene.session) == 0);
	gateway_fault_all(scene.gateway, WAY_DEAF);
	for (unsigned i = 0; i < 20; i++) {
		event_active(scene.session->renew_timer, EV_TIMEOUT, 1);
		loop_turn(&scene.loop);
	}
	ck_assert_uint_eq(count_calls(scene.session), 1);
	gateway_fault_all(scene.gateway, WAY_NONE);
	gateway_do_late(scene.gateway);
	gateway_hurry(scene.session);
	turn_until(&scene.loop, gateway_keys(scene.gateway) == 0);
	scene_end(&scene);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("etcd_rare", test_store_that_is_full_refuses_requests_and_keeps_holds,
	                     test_idle_session_of_who_may_not_read_the_lock_is_renewed,
	                     test_news_may_come_a_byte_at_a_time,
	                     test_watch_whose_history_is_cut_begins_anew,
	                     test_token_of_before_a_change_of_users_is_asked_for_again,
	                     test_endpoint_may_be_an_address_of_version_6,
	                     test_name_is_found_where_no_name_server_is_known,
	                     test_server_that_goes_in_the_handshake_refuses_nobody,
	                     test_deletions_of_what_may_come_back_do_not_pile_up_while_etcd_is_away);
	TCase *tcase = tcase_create("each");

	tcase_add_loop_test(tcase, test_renewal_by_a_leader_that_was_deposed_does_not_count, 0, 2);
	tcase_add_loop_test(tcase, test_key_that_is_gone_before_it_is_known_is_held_by_nobody, 0, 2);
	tcase_add_loop_test(tcase, test_session_may_be_closed_by_its_own_callbacks, 0, 2);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
