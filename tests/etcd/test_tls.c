/* Real servers with TLS: certificates that are good, missing, of a stranger, and with a common name. */
#include <stdio.h>
#include <string.h>

#include "driver_private.h"
#include "nodes.h"
#include "rpc.h"

struct files {
	char ca[256], server[256], server_key[256], client[256], client_key[256], named[256],
	        named_key[256], stranger[256];
};

/* Below a CA of the test, and one that is not. */
static const char script[] =
        "cd '%s' && "
        "new='openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes' && "
        "for ca in ca stranger; do"
        " $new -x509 -keyout $ca.key -out $ca.pem -subj /O=$ca -days 2 || exit; done && "
        "echo subjectAltName=IP:127.0.0.1 >names && "
        "for who in server client named; do"
        " case $who in named) subject=/O=$who/CN=somebody ;; *) subject=/O=$who ;; esac;"
        " $new -keyout $who.key -out $who.csr -subj $subject &&"
        " openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
        " -out $who.pem -extfile names || exit; done";

static void set_path(char *ret_path, const char *name)
{
	(void)snprintf(ret_path, 256, "%s", test_path(name));
}

static bool make_certificates(struct files *files)
{
	char command[2048], all[2200];

	if (system("command -v openssl >/dev/null") != 0) {
		test_skip("openssl is not installed");
		return false;
	}
	(void)snprintf(command, sizeof(command), script, test_folder());
	(void)snprintf(all, sizeof(all), "{ %s; } >'%s' 2>&1", command, test_path("openssl.log"));
	ck_assert_int_eq(system(all), 0);
	set_path(files->ca, "ca.pem");
	set_path(files->server, "server.pem");
	set_path(files->server_key, "server.key");
	set_path(files->client, "client.pem");
	set_path(files->client_key, "client.key");
	set_path(files->named, "named.pem");
	set_path(files->named_key, "named.key");
	set_path(files->stranger, "stranger.pem");
	return true;
}

struct scene {
	struct files files;
	struct nodes nodes;
	const char *arguments[8];
};

static bool scene_begin(struct scene *scene)
{
	struct files *files = &scene->files;

	if (!make_certificates(files))
		return false;
	memcpy(scene->arguments,
	       ((const char *[]){ "--cert-file", files->server, "--key-file", files->server_key,
	                          "--client-cert-auth", "--trusted-ca-file", files->ca, NULL }),
	       sizeof(scene->arguments));
	return nodes_start_with_tls(&scene->nodes, scene->arguments);
}

static struct filelock_etcd_options options_of(const struct scene *scene)
{
	struct filelock_etcd_options options = nodes_options(&scene->nodes, 0);

	options.ca_file = scene->files.ca;
	options.cert_file = scene->files.client;
	options.key_file = scene->files.client_key;
	return options;
}

/* One lock by a session with these options: the result. */
static int try_with(const struct filelock_etcd_options *options, char *ret_why, size_t size)
{
	struct filelock_etcd *session;
	struct filelock *lock;
	struct loop loop = loop_new();
	int r;

	ck_assert_int_eq(filelock_etcd_open(loop.ev, options, &session), 0);
	ck_assert_int_eq(filelock_open_etcd(session, "a", NULL, &lock), 0);
	r = loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1);
	(void)snprintf(ret_why, size, "%s", r < 0 ? filelock_last_error(lock) : "");
	if (r == 0)
		ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	filelock_etcd_close(session);
	evfilelock_free(loop.ev);
	ck_assert_int_eq(event_base_dispatch(loop.base), 1);
	event_base_free(loop.base);
	return r;
}

static void expect(const struct filelock_etcd_options *options, int result, const char *words)
{
	char why[1024];
	int r = try_with(options, why, sizeof(why));

	ck_assert_msg(r == result && strstr(why, words), "%d, not %d: %s", r, result, why);
}

START_TEST(test_certificates_decide_who_may_lock)
{
	struct scene scene;
	struct filelock_etcd_options options;

	if (!scene_begin(&scene))
		return;
	options = options_of(&scene);
	expect(&options, 0, "");
	options.ca_file = scene.files.stranger;
	expect(&options, -EPROTO, "certificate");
	options = options_of(&scene);
	options.cert_file = options.key_file = NULL;
	expect(&options, -EPROTO, "certificate");
	nodes_stop(&scene.nodes);
}
END_TEST

struct call {
	struct event_base *base;
	bool done;
};

static void on_called(void *arg, const struct rpc_answer *answer)
{
	struct call *call = arg;

	/* an earlier request may have done it already, without an answer in time */
	ck_assert_msg(answer->result == 0 || answer->sends > 1, "%s", answer->message);
	call->done = true;
	(void)event_base_loopbreak(call->base);
}

static void call_etcd(const struct scene *scene, const char *path, const char *body)
{
	struct call call = { .base = event_base_new() };
	struct http_endpoint endpoint;
	struct rpc_access access = { .endpoints = &endpoint, .count = 1,
		                     .generation = filelock_generation() };
	struct http_tls tls = { scene->files.ca, scene->files.client, scene->files.client_key };
	struct rpc rpc = { 0 };
	char *why;

	ck_assert_int_eq(http_endpoint_read(scene->nodes.clients[0], &endpoint), 0);
	ck_assert_int_eq(http_open(&access.ground, call.base), 0);
	ck_assert_int_eq(http_set_tls(&access.ground, &tls, &why), 0);
	ck_assert_int_eq(rpc_open(&rpc, &access), 0);
	ck_assert_ptr_nonnull(rpc_post(&rpc, path, strdup(body), on_called, &call));
	(void)event_base_dispatch(call.base);
	ck_assert(call.done);
	rpc_close(&rpc);
	http_close(&access.ground);
	http_endpoint_free(&endpoint);
	event_base_free(call.base);
}

START_TEST(test_common_name_is_refused_where_etcd_has_users)
{
	struct scene scene;
	struct filelock_etcd_options named, user;

	if (!scene_begin(&scene))
		return;
	named = options_of(&scene);
	named.cert_file = scene.files.named;
	named.key_file = scene.files.named_key;
	expect(&named, 0, "");
	call_etcd(&scene, "/v3/auth/user/add", "{\"name\":\"root\",\"password\":\"secret\"}");
	call_etcd(&scene, "/v3/auth/role/add", "{\"name\":\"root\"}");
	call_etcd(&scene, "/v3/auth/user/grant", "{\"user\":\"root\",\"role\":\"root\"}");
	call_etcd(&scene, "/v3/auth/enable", "{}");
	user = options_of(&scene);
	expect(&user, -EACCES, "set user and password");
	user.user = "root";
	user.password = "wrong";
	expect(&user, -EPROTO, "authentication failed");
	user.password = "secret";
	expect(&user, 0, "");
	named.user = "root";
	named.password = "secret";
	expect(&named, -EPROTO, "issue one without");
	nodes_stop(&scene.nodes);
}
END_TEST

int main(void)
{
	return support_main(SUITE("etcd_tls", test_certificates_decide_who_may_lock,
	                          test_common_name_is_refused_where_etcd_has_users));
}
