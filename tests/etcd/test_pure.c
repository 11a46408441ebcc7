/* What needs no etcd: the recipe's table, names, requests and answers, endpoints. */
#include <errno.h>
#include <string.h>

#include "codec.h"
#include "http.h"
#include "recipe.h"
#include "support.h"

/* Each move that is one; everything else leaves an entry where it is, with nothing to do. */
static const struct {
	enum entry_state from;
	enum entry_event event;
	enum entry_state to;
	enum entry_action action;
} moves[] = {
	{ ENTRY_PARKED, ENTRY_MAY_GO, ENTRY_ENQUEUING, ENTRY_SEND_ENQUEUE },
	{ ENTRY_PARKED, ENTRY_DROP, ENTRY_OVER, ENTRY_FREE },
	{ ENTRY_ENQUEUING, ENTRY_IS_FIRST, ENTRY_HELD, ENTRY_TELL },
	{ ENTRY_ENQUEUING, ENTRY_IS_BEHIND, ENTRY_WAITING, ENTRY_TELL },
	{ ENTRY_ENQUEUING, ENTRY_IS_THERE, ENTRY_RECHECKING, ENTRY_SEND_RECHECK },
	{ ENTRY_ENQUEUING, ENTRY_IS_REFUSED, ENTRY_PARKED, ENTRY_TELL },
	{ ENTRY_ENQUEUING, ENTRY_IS_GONE, ENTRY_PARKED, ENTRY_PARK },
	{ ENTRY_ENQUEUING, ENTRY_LEASE_LOST, ENTRY_PARKED, ENTRY_PARK },
	{ ENTRY_ENQUEUING, ENTRY_DROP, ENTRY_RELEASING, ENTRY_SEND_RELEASE },
	{ ENTRY_WAITING, ENTRY_LOOK, ENTRY_RECHECKING, ENTRY_SEND_RECHECK },
	{ ENTRY_WAITING, ENTRY_IS_GONE, ENTRY_PARKED, ENTRY_PARK },
	{ ENTRY_WAITING, ENTRY_LEASE_LOST, ENTRY_PARKED, ENTRY_PARK },
	{ ENTRY_WAITING, ENTRY_DROP, ENTRY_RELEASING, ENTRY_SEND_RELEASE },
	{ ENTRY_RECHECKING, ENTRY_IS_FIRST, ENTRY_HELD, ENTRY_TELL },
	{ ENTRY_RECHECKING, ENTRY_IS_BEHIND, ENTRY_WAITING, ENTRY_TELL },
	{ ENTRY_RECHECKING, ENTRY_IS_THERE, ENTRY_RECHECKING, ENTRY_SEND_RECHECK },
	{ ENTRY_RECHECKING, ENTRY_IS_REFUSED, ENTRY_PARKED, ENTRY_TELL },
	{ ENTRY_RECHECKING, ENTRY_IS_GONE, ENTRY_PARKED, ENTRY_PARK },
	{ ENTRY_RECHECKING, ENTRY_LEASE_LOST, ENTRY_PARKED, ENTRY_PARK },
	{ ENTRY_RECHECKING, ENTRY_DROP, ENTRY_RELEASING, ENTRY_SEND_RELEASE },
	{ ENTRY_HELD, ENTRY_IS_GONE, ENTRY_LOST, ENTRY_TELL_LOST },
	{ ENTRY_HELD, ENTRY_LEASE_LOST, ENTRY_LOST, ENTRY_TELL_LOST },
	{ ENTRY_HELD, ENTRY_DROP, ENTRY_RELEASING, ENTRY_SEND_RELEASE },
	{ ENTRY_LOST, ENTRY_DROP, ENTRY_OVER, ENTRY_FREE },
	{ ENTRY_RELEASING, ENTRY_DONE, ENTRY_OVER, ENTRY_FREE },
	{ ENTRY_RELEASING, ENTRY_LEASE_LOST, ENTRY_OVER, ENTRY_FREE },
};

static struct entry_step expected(enum entry_state from, enum entry_event event)
{
	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
		if (moves[i].from == from && moves[i].event == event)
			return (struct entry_step){ moves[i].to, moves[i].action };
	return (struct entry_step){ from, ENTRY_NOTHING };
}

START_TEST(test_entry_moves_as_the_table_says)
{
	for (int state = ENTRY_PARKED; state <= ENTRY_OVER; state++)
		for (int event = ENTRY_MAY_GO; event <= ENTRY_DONE; event++) {
			enum entry_state from = (enum entry_state)state;
			enum entry_event what = (enum entry_event)event;
			struct entry_step step = recipe_next(from, what), wanted = expected(from, what);

			ck_assert_msg(step.state == wanted.state && step.action == wanted.action,
			              "state %d, event %d: %d, %d", state, event, step.state,
			              step.action);
		}
}
END_TEST

START_TEST(test_names_have_no_empty_part)
{
	static const char *const good[] = { "a", "jobs/nightly", "a b", "\xc3\xa4/w/r" };
	static const char *const bad[] = { "", "/", "/a", "a/", "a//b" };
	char longest[514];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		ck_assert_msg(codec_is_name(good[i]), "%s", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(!codec_is_name(bad[i]), "%s", bad[i]);
	memset(longest, 'a', sizeof(longest));
	longest[513] = '\0';
	ck_assert(!codec_is_name(longest));
	longest[512] = '\0';
	ck_assert(codec_is_name(longest));
}
END_TEST

/* The key "N//w/1f-7" is in the range of N, and in none of "N/w". */
START_TEST(test_requests_are_what_the_gateway_reads)
{
	char *folder = codec_folder("N"), *key = codec_key(folder, false, 0x1f, 7);
	struct codec_key me = { folder, key, false, 0x1f, 12 };
	char *text = codec_enqueue(&me);
	json_t *json = json_loads(text, 0, NULL), *wanted;

	ck_assert_str_eq(key, "N//w/1f-7");
	wanted = json_loads(
	        "{\"compare\":[{\"key\":\"Ti8vdy8xZi03\",\"target\":\"CREATE\",\"result\":\"EQUAL\","
	        "\"create_revision\":\"0\"}],\"success\":[{\"request_range\":{\"key\":\"Ti8v\","
	        "\"range_end\":\"Ti8w\",\"limit\":\"1\",\"sort_order\":\"DESCEND\",\"sort_target\":"
	        "\"CREATE\",\"keys_only\":true}},{\"request_put\":{\"key\":\"Ti8vdy8xZi03\",\"lease\":"
	        "\"31\"}}],\"failure\":[{\"request_range\":{\"key\":\"Ti8vdy8xZi03\",\"keys_only\":"
	        "true}}]}",
	        0, NULL);
	ck_assert_ptr_nonnull(wanted);
	ck_assert(json_equal(json, wanted));
	json_decref(json);
	json_decref(wanted);
	free(text);
	free(key);
	free(folder);
}
END_TEST

/* A reader asks for writers alone, and only for those that were there before it. */
START_TEST(test_recheck_is_bounded_by_the_own_revision)
{
	char *folder = codec_folder("N"), *key = codec_key(folder, true, 1, 2);
	struct codec_key me = { folder, key, true, 1, 12 };
	char *text = codec_recheck(&me);
	json_t *json = json_loads(text, 0, NULL);
	const json_t *range = json_object_get(
	        json_array_get(json_object_get(json, "success"), 0), "request_range");

	ck_assert_str_eq(json_string_value(json_object_get(range, "key")), "Ti8vdy8=");
	ck_assert_str_eq(json_string_value(json_object_get(range, "range_end")), "Ti8vdzA=");
	ck_assert_str_eq(json_string_value(json_object_get(range, "max_create_revision")), "11");
	json_decref(json);
	free(text);
	free(key);
	free(folder);
}
END_TEST

START_TEST(test_answers_may_leave_out_what_is_zero)
{
	json_t *json = json_loads("{\"header\":{\"revision\":\"9007199254740993\"}}", 0, NULL);
	struct codec_txn txn;
	int64_t ttl = 1, term = 1;

	ck_assert_int_eq(codec_read_txn(json, &txn), 0);
	ck_assert_int_eq(txn.revision, INT64_C(9007199254740993));
	ck_assert(!txn.succeeded && !txn.found);
	json_decref(json);
	json = json_loads("{\"result\":{\"header\":{},\"ID\":\"7\"}}", 0, NULL);
	ck_assert_int_eq(codec_read_keepalive(json, &ttl, &term), 0);
	ck_assert_int_eq(ttl, 0);
	json_decref(json);
	json = json_loads("[]", 0, NULL);
	ck_assert_int_eq(codec_read_txn(json, &txn), -EBADMSG);
	ck_assert_int_eq(codec_read_keepalive(json, &ttl, &term), -EBADMSG);
	json_decref(json);
}
END_TEST

START_TEST(test_endpoints_are_read)
{
	static const struct {
		const char *url, *host;
		uint16_t port;
		bool tls, is_address;
	} good[] = {
		{ "http://127.0.0.1:12379", "127.0.0.1", 12379, false, true },
		{ "https://etcd.example:1/", "etcd.example", 1, true, false },
		{ "etcd.example", "etcd.example", 2379, false, false },
		{ "http://[::1]:5", "::1", 5, false, true },
		{ "[::1]", "::1", 2379, false, true },
	};
	static const char *const bad[] = { "", "http://", "http://:1", "a:", "a:0", "a:65536", "a:1x",
		                           "http://a/b", "[::1", "[::1]x", "ftp://a" };
	struct http_endpoint endpoint;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		ck_assert_msg(http_endpoint_read(good[i].url, &endpoint) == 0, "%s", good[i].url);
		ck_assert_str_eq(endpoint.host, good[i].host);
		ck_assert_int_eq(endpoint.port, good[i].port);
		ck_assert_int_eq(endpoint.tls, good[i].tls);
		ck_assert_int_eq(endpoint.is_address, good[i].is_address);
		http_endpoint_free(&endpoint);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(http_endpoint_read(bad[i], &endpoint) == -EINVAL, "%s", bad[i]);
}
END_TEST

int main(void)
{
	return support_main(SUITE("etcd_pure", test_entry_moves_as_the_table_says,
	                          test_names_have_no_empty_part,
	                          test_requests_are_what_the_gateway_reads,
	                          test_recheck_is_bounded_by_the_own_revision,
	                          test_answers_may_leave_out_what_is_zero,
	                          test_endpoints_are_read));
}
