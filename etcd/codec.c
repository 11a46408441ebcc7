/*
 * codec.c - what goes to etcd's JSON gateway and comes back.
 */
#include "codec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST_NAME 512

static char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));

static char *format(const char *text, ...)
{
	va_list arguments;
	char *result;
	int r;

	va_start(arguments, text);
	r = vasprintf(&result, text, arguments);
	va_end(arguments);
	return r < 0 ? NULL : result;
}

/* --- names --- */

bool codec_is_name(const char *name)
{
	size_t size = strlen(name);

	return size > 0 && size <= LONGEST_NAME && name[0] != '/' && name[size - 1] != '/' &&
	       !strstr(name, "//");
}

char *codec_folder(const char *name)
{
	return format("%s//", name);
}

char *codec_key(const char *folder, bool shared, int64_t lease, uint64_t number)
{
	return format("%s%c/%" PRIx64 "-%" PRIu64, folder, shared ? 'r' : 'w', (uint64_t)lease,
	              number);
}

bool codec_is_text(const char *text)
{
	json_t *json = json_string(text);

	json_decref(json);
	return json != NULL;
}

/* --- base64 and numbers --- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static json_t *base64(const void *data, size_t size)
{
	const unsigned char *from = data;
	char *text = malloc((size + 2) / 3 * 4 + 1);
	char *to = text;
	json_t *json;

	if (!text)
		return NULL;
	for (size_t i = 0; i < size; i += 3) {
		size_t left = size - i;
		unsigned bits = (unsigned)from[i] << 16 | (left > 1 ? from[i + 1] : 0u) << 8 |
		                (left > 2 ? from[i + 2] : 0u);

		*to++ = digits[bits >> 18];
		*to++ = digits[bits >> 12 & 63];
		*to++ = left > 1 ? digits[bits >> 6 & 63] : '=';
		*to++ = left > 2 ? digits[bits & 63] : '=';
	}
	*to = '\0';
	json = json_string(text);
	free(text);
	return json;
}

static json_t *encoded(const char *key)
{
	return base64(key, strlen(key));
}

/* At most size - 1 bytes, and a NUL. */
static void decode(const char *text, char *to, size_t size)
{
	unsigned bits = 0, count = 0;
	size_t length = 0;

	for (; *text && *text != '='; text++) {
		const char *digit = strchr(digits, *text);

		bits = bits << 6 | (digit ? (unsigned)(digit - digits) : 0u);
		count += 6;
		if (count < 8)
			continue;
		count -= 8;
		if (length + 1 < size)
			to[length++] = (char)(bits >> count & 255);
	}
	to[length] = '\0';
}

static json_t *number(int64_t value)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRId64, value);
	return json_string(text);
}

/* Of a member that may be a string, a number, or left out. */
static int64_t read_number(const json_t *object, const char *name)
{
	const json_t *member = json_object_get(object, name);

	if (json_is_string(member))
		return strtoll(json_string_value(member), NULL, 10);
	return json_is_integer(member) ? json_integer_value(member) : 0;
}

/* --- requests --- */

/* Takes the document over. */
static char *text_of(json_t *document)
{
	char *text = document ? json_dumps(document, JSON_COMPACT) : NULL;

	json_decref(document);
	return text;
}

/* The end of all keys that begin so: the last byte is one more. */
static json_t *encoded_end(const char *prefix)
{
	size_t size = strlen(prefix);
	char *end = strdup(prefix);
	json_t *json;

	if (!end)
		return NULL;
	end[size - 1]++;
	json = base64(end, size);
	free(end);
	return json;
}

/* The keys that a request waits for: a reader waits for writers alone. NULL: out of memory. */
static char *waited_for(const struct codec_key *me)
{
	return format("%s%s", me->folder, me->shared ? "w/" : "");
}

/* The newest key that it waits for. before: created before this revision; 0: any. */
static json_t *newest(const struct codec_key *me, int64_t before)
{
	char *prefix = waited_for(me);
	json_t *range;

	if (!prefix)
		return NULL;
	range = json_pack("{s:o,s:o,s:s,s:s,s:s,s:b}", "key", encoded(prefix), "range_end",
	                  encoded_end(prefix), "limit", "1", "sort_order", "DESCEND",
	                  "sort_target", "CREATE", "keys_only", 1);
	free(prefix);
	if (range && before)
		(void)json_object_set_new(range, "max_create_revision", number(before - 1));
	return json_pack("{s:o}", "request_range", range);
}

static json_t *range_of(const char *key)
{
	return json_pack("{s:{s:o,s:b}}", "request_range", "key", encoded(key), "keys_only", 1);
}

static json_t *myself(const struct codec_key *me)
{
	return range_of(me->key);
}

static json_t *put(const struct codec_key *me)
{
	return json_pack("{s:{s:o,s:o}}", "request_put", "key", encoded(me->key), "lease",
	                 number(me->lease));
}

static json_t *created_at(const struct codec_key *me, int64_t revision)
{
	return json_pack("{s:o,s:s,s:s,s:o}", "key", encoded(me->key), "target", "CREATE", "result",
	                 "EQUAL", "create_revision", number(revision));
}

char *codec_login(const char *user, const char *password)
{
	return text_of(json_pack("{s:s,s:s}", "name", user, "password", password));
}

char *codec_grant(int64_t ttl)
{
	return text_of(json_pack("{s:o}", "TTL", number(ttl)));
}

char *codec_lease(int64_t lease)
{
	return text_of(json_pack("{s:o}", "ID", number(lease)));
}

char *codec_enqueue(const struct codec_key *me)
{
	return text_of(json_pack("{s:[o],s:[o,o],s:[o]}", "compare", created_at(me, 0), "success",
	                         newest(me, 0), put(me), "failure", myself(me)));
}

char *codec_try(const struct codec_key *me)
{
	char *prefix = waited_for(me);
	json_t *empty = NULL;

	if (prefix) /* each key of the range is to have been created never: there is none */
		empty = json_pack("{s:o,s:o,s:s,s:s,s:s}", "key", encoded(prefix), "range_end",
		                  encoded_end(prefix), "target", "CREATE", "result", "EQUAL",
		                  "create_revision", "0");
	free(prefix);
	return text_of(json_pack("{s:[o,o],s:[o],s:[o]}", "compare", empty, created_at(me, 0),
	                         "success", put(me), "failure", myself(me)));
}

char *codec_recheck(const struct codec_key *me)
{
	return text_of(json_pack("{s:[o],s:[o]}", "compare", created_at(me, me->revision),
	                         "success", newest(me, me->revision)));
}

char *codec_confirm(const struct codec_key *me)
{
	return text_of(json_pack("{s:[o],s:[o]}", "compare", created_at(me, me->revision),
	                         "success", myself(me)));
}

char *codec_agree(const char *folder)
{
	return folder ? text_of(json_pack("{s:[o]}", "success", range_of(folder))) : strdup("{}");
}

char *codec_release(const struct codec_key *me)
{
	return text_of(json_pack("{s:[{s:{s:o}}]}", "success", "request_delete_range", "key",
	                         encoded(me->key)));
}

char *codec_watch(const char *folder, uint64_t id, int64_t from)
{
	return text_of(json_pack("{s:{s:o,s:o,s:o,s:o,s:[s]}}", "create_request", "key",
	                         encoded(folder), "range_end", encoded_end(folder), "watch_id",
	                         number((int64_t)id), "start_revision", number(from), "filters",
	                         "NOPUT"));
}

/* --- answers --- */

/* The first key of the first range among the responses. */
static const json_t *first_key(const json_t *document)
{
	const json_t *response;
	size_t i;

	json_array_foreach(json_object_get(document, "responses"), i, response) {
		const json_t *range = json_object_get(response, "response_range");

		if (range)
			return json_array_get(json_object_get(range, "kvs"), 0);
	}
	return NULL;
}

static void read_key(const json_t *kv, char *key, size_t size)
{
	const char *text = json_string_value(json_object_get(kv, "key"));

	decode(text ? text : "", key, size);
}

int codec_read_txn(const json_t *document, struct codec_txn *ret)
{
	const json_t *header = json_object_get(document, "header");
	const json_t *kv = first_key(document);

	*ret = (struct codec_txn){ .revision = read_number(header, "revision") };
	if (ret->revision <= 0)
		return -EBADMSG;
	ret->term = read_number(header, "raft_term");
	ret->succeeded = json_is_true(json_object_get(document, "succeeded"));
	ret->found = kv != NULL;
	read_key(kv, ret->key, sizeof(ret->key));
	ret->created = read_number(kv, "create_revision");
	return ret->found && ret->created <= 0 ? -EBADMSG : 0;
}

int codec_read_grant(const json_t *document, int64_t *ret_lease, int64_t *ret_ttl)
{
	int64_t lease = read_number(document, "ID");
	int64_t ttl = read_number(document, "TTL");

	if (lease == 0 || ttl <= 0)
		return -EBADMSG;
	*ret_lease = lease;
	*ret_ttl = ttl;
	return 0;
}

int codec_read_keepalive(const json_t *document, int64_t *ret_ttl, int64_t *ret_term)
{
	const json_t *result = json_object_get(document, "result");

	if (!json_is_object(result))
		return -EBADMSG;
	*ret_ttl = read_number(result, "TTL");
	*ret_term = read_number(json_object_get(result, "header"), "raft_term");
	return 0;
}

int codec_read_token(const json_t *document, const char **ret_token)
{
	const char *token = json_string_value(json_object_get(document, "token"));

	if (!token)
		return -EBADMSG;
	*ret_token = token;
	return 0;
}

void codec_read_error(const json_t *document, int *ret_code, const char **ret_message)
{
	const json_t *error = document;
	const json_t *code;

	/* of a stream the error is an object of its own */
	if (json_is_object(json_object_get(document, "error")))
		error = json_object_get(document, "error");
	code = json_object_get(error, "code");
	if (!code)
		code = json_object_get(error, "grpc_code");
	*ret_code = json_is_integer(code) ? (int)json_integer_value(code) : -1;
	*ret_message = json_string_value(json_object_get(error, "message"));
	if (!*ret_message)
		*ret_message = json_string_value(json_object_get(error, "error"));
}

int codec_read_watch(const json_t *document, struct codec_watched *ret)
{
	const json_t *result = json_object_get(document, "result");

	if (!json_is_object(result))
		return -EBADMSG;
	*ret = (struct codec_watched){
		.id = (uint64_t)read_number(result, "watch_id"),
		.created = json_is_true(json_object_get(result, "created")),
		.canceled = json_is_true(json_object_get(result, "canceled")),
		.compacted = read_number(result, "compact_revision"),
		.events = json_object_get(result, "events"),
	};
	return 0;
}

bool codec_read_deletion(const json_t *event, struct codec_deletion *ret)
{
	const char *type = json_string_value(json_object_get(event, "type"));
	const json_t *kv = json_object_get(event, "kv");

	if (!type || strcmp(type, "DELETE") != 0)
		return false;
	read_key(kv, ret->key, sizeof(ret->key));
	ret->revision = read_number(kv, "mod_revision");
	return true;
}
