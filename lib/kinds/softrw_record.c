#include "kinds/softrw_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/sys.h"
#include "kinds/soft_record.h"

#define PROTOCOL "filelock-rw/1\n"
#define HEX 32
#define NAME_DIGITS 20
#define LINE 40 /* "reader=", a token and a newline */
#define HEADER 128 /* all other lines of a snapshot */

/* A line without its end, of bytes that may hold a zero. */
struct line {
	const char *at;
	size_t size;
};

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool softrw_token_parse(const char *text, size_t length, struct softrw_token *ret)
{
	struct softrw_token token;

	if (length != HEX)
		return false;
	for (size_t i = 0; i < sizeof(token.bytes); i++) {
		int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		token.bytes[i] = (unsigned char)(high << 4 | low);
	}
	*ret = token;
	return true;
}

void softrw_token_format(const struct softrw_token *token, char ret[SOFTRW_HEX_SIZE])
{
	sys_hex(token->bytes, sizeof(token->bytes), ret);
}

bool softrw_token_equal(const struct softrw_token *a, const struct softrw_token *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes)) == 0;
}

/* Decimal digits alone; false also for more than 64 bits hold. */
static bool parse_number(const char *text, size_t length, uint64_t *ret)
{
	uint64_t value = 0;

	if (length == 0)
		return false;
	for (size_t i = 0; i < length; i++) {
		unsigned digit = (unsigned)(text[i] - '0');

		if (digit > 9 || value > (UINT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*ret = value;
	return true;
}

bool softrw_name_parse(const char *name, uint64_t *ret_generation)
{
	return strlen(name) == NAME_DIGITS && parse_number(name, NAME_DIGITS, ret_generation);
}

void softrw_name_format(uint64_t generation, char ret[SOFTRW_NAME_SIZE])
{
	(void)snprintf(ret, SOFTRW_NAME_SIZE, "%020llu", (unsigned long long)generation);
}

/* Cuts the first line off; false: there is no whole one. */
static bool cut_line(struct line *rest, struct line *ret)
{
	const char *end = memchr(rest->at, '\n', rest->size);

	if (!end)
		return false;
	*ret = (struct line){ rest->at, (size_t)(end - rest->at) };
	rest->size -= ret->size + 1;
	rest->at += ret->size + 1;
	return true;
}

/* Whether the line begins with "key=": *ret is what follows. */
static bool has_key(struct line line, const char *key, struct line *ret)
{
	size_t length = strlen(key);

	if (line.size < length || memcmp(line.at, key, length) != 0)
		return false;
	*ret = (struct line){ line.at + length, line.size - length };
	return true;
}

static bool cut_protocol(struct line *rest)
{
	size_t length = strlen(PROTOCOL);

	if (rest->size < length || memcmp(rest->at, PROTOCOL, length) != 0)
		return false;
	rest->at += length;
	rest->size -= length;
	return true;
}

static bool take_generation(struct line value, struct softrw_snapshot *ret)
{
	bool is_canonical = value.size == 1 || (value.size > 0 && *value.at != '0');

	return is_canonical && parse_number(value.at, value.size, &ret->generation);
}

/* Where the token stands among the readers, or is to stand. */
static size_t find_reader(const struct softrw_snapshot *snapshot, const struct softrw_token *token,
                          bool *ret_found)
{
	size_t low = 0, high = snapshot->readers;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(snapshot->reader[middle].bytes, token->bytes, sizeof(token->bytes)) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*ret_found = low < snapshot->readers && softrw_token_equal(&snapshot->reader[low], token);
	return low;
}

static int make_room(struct softrw_snapshot *snapshot)
{
	size_t room = snapshot->room ? 2 * snapshot->room : 4;
	struct softrw_token *reader;

	if (snapshot->readers < snapshot->room)
		return 0;
	reader = sys.calloc(room, sizeof(*reader));
	if (!reader)
		return -ENOMEM;
	if (snapshot->readers > 0)
		memcpy(reader, snapshot->reader, snapshot->readers * sizeof(*reader));
	free(snapshot->reader);
	snapshot->reader = reader;
	snapshot->room = room;
	return 0;
}

static int insert_reader(struct softrw_snapshot *snapshot, size_t at,
                         const struct softrw_token *token)
{
	int r = make_room(snapshot);

	if (r < 0)
		return r;
	memmove(snapshot->reader + at + 1, snapshot->reader + at,
	        (snapshot->readers - at) * sizeof(*token));
	snapshot->reader[at] = *token;
	snapshot->readers++;
	return 0;
}

int softrw_snapshot_add_reader(struct softrw_snapshot *snapshot, const struct softrw_token *token)
{
	bool found;
	size_t at = find_reader(snapshot, token, &found);

	return found ? 0 : insert_reader(snapshot, at, token);
}

static int take_reader(struct line value, struct softrw_snapshot *ret)
{
	struct softrw_token token;
	bool found;
	size_t at;

	if (!softrw_token_parse(value.at, value.size, &token))
		return -EBADMSG;
	at = find_reader(ret, &token, &found);
	return found ? -EBADMSG : insert_reader(ret, at, &token);
}

static int take_line(struct line line, struct softrw_snapshot *ret, bool *numbered)
{
	struct line value;

	if (has_key(line, "reader=", &value))
		return take_reader(value, ret);
	if (has_key(line, "writer=", &value) && !ret->has_writer) {
		ret->has_writer = softrw_token_parse(value.at, value.size, &ret->writer);
		return ret->has_writer ? 0 : -EBADMSG;
	}
	if (!has_key(line, "generation=", &value) || *numbered)
		return -EBADMSG;
	*numbered = take_generation(value, ret);
	return *numbered ? 0 : -EBADMSG;
}

int softrw_snapshot_parse(const char *bytes, size_t size, struct softrw_snapshot *ret)
{
	struct line rest = { bytes, size }, line;
	bool numbered = false;
	int r = 0;

	*ret = (struct softrw_snapshot){ 0 };
	if (size > SOFTRW_RECORD_SIZE || !cut_protocol(&rest))
		return -EBADMSG;
	while (r == 0 && rest.size > 0)
		r = cut_line(&rest, &line) ? take_line(line, ret, &numbered) : -EBADMSG;
	if (r < 0)
		return r;
	return numbered ? 0 : -EBADMSG;
}

void softrw_snapshot_clear(struct softrw_snapshot *snapshot)
{
	free(snapshot->reader);
	*snapshot = (struct softrw_snapshot){ 0 };
}

int softrw_snapshot_copy(const struct softrw_snapshot *snapshot, struct softrw_snapshot *ret)
{
	*ret = *snapshot;
	ret->room = 0;
	ret->reader = NULL;
	if (snapshot->readers == 0)
		return 0;
	ret->reader = sys.calloc(snapshot->readers + 1, sizeof(*ret->reader));
	if (!ret->reader) {
		ret->readers = 0;
		return -ENOMEM;
	}
	ret->room = snapshot->readers + 1;
	memcpy(ret->reader, snapshot->reader, snapshot->readers * sizeof(*ret->reader));
	return 0;
}

static char *put_member(char *to, const char *key, const struct softrw_token *token)
{
	char hex[SOFTRW_HEX_SIZE];

	softrw_token_format(token, hex);
	return to + sprintf(to, "%s%s\n", key, hex);
}

int softrw_snapshot_format(const struct softrw_snapshot *snapshot, char **ret_bytes,
                           size_t *ret_size)
{
	size_t room = HEADER + snapshot->readers * LINE;
	char *bytes, *end;

	if (room > SOFTRW_RECORD_SIZE)
		return -EUSERS;
	bytes = sys.calloc(1, room);
	if (!bytes)
		return -ENOMEM;
	end = bytes + sprintf(bytes, PROTOCOL "generation=%llu\n",
	                      (unsigned long long)snapshot->generation);
	if (snapshot->has_writer)
		end = put_member(end, "writer=", &snapshot->writer);
	for (size_t i = 0; i < snapshot->readers; i++)
		end = put_member(end, "reader=", &snapshot->reader[i]);
	*ret_bytes = bytes;
	*ret_size = (size_t)(end - bytes);
	return 0;
}

bool softrw_snapshot_names(const struct softrw_snapshot *snapshot, const struct softrw_token *token)
{
	bool found;

	if (snapshot->has_writer && softrw_token_equal(&snapshot->writer, token))
		return true;
	(void)find_reader(snapshot, token, &found);
	return found;
}

void softrw_snapshot_remove(struct softrw_snapshot *snapshot, const struct softrw_token *token)
{
	bool found;
	size_t at = find_reader(snapshot, token, &found);

	if (snapshot->has_writer && softrw_token_equal(&snapshot->writer, token))
		snapshot->has_writer = false;
	if (!found)
		return;
	snapshot->readers--;
	memmove(snapshot->reader + at, snapshot->reader + at + 1,
	        (snapshot->readers - at) * sizeof(*token));
}

void softrw_nonce(const struct softrw_token *token, const unsigned char random[8],
                  struct softrw_token *ret)
{
	unsigned char bytes[24];
	uint8_t digest[32];

	memcpy(bytes, token->bytes, 16);
	memcpy(bytes + 16, random, 8);
	sha256(bytes, sizeof(bytes), digest);
	memcpy(ret->bytes, random, 8);
	memcpy(ret->bytes + 8, digest, 8);
}

/* Seconds as Python writes a float: with a point, and no digit too many. A whole number of
   milliseconds below 2^32 has so few digits that this is the shortest text of its double, too. */
static void format_seconds(char ret[32], unsigned ms)
{
	int length = snprintf(ret, 32, "%u.%03u", ms / 1000, ms % 1000);

	while (ret[length - 1] == '0' && ret[length - 2] != '.')
		ret[--length] = '\0';
}

size_t softrw_holder_format(char ret[SOFTRW_HOLDER_SIZE], const struct softrw_token *token,
                            pid_t pid, const char *host, unsigned lease_ms,
                            const struct softrw_token *nonce)
{
	char id[SOFTRW_HEX_SIZE], number[SOFTRW_HEX_SIZE], seconds[32];
	int n;

	softrw_token_format(token, id);
	softrw_token_format(nonce, number);
	format_seconds(seconds, lease_ms);
	n = snprintf(ret, SOFTRW_HOLDER_SIZE,
	             PROTOCOL "token=%s\npid=%ld\nhost=%s\nlease=%s\nnonce=%s\n", id, (long)pid,
	             host, seconds, number);
	return n < SOFTRW_HOLDER_SIZE ? (size_t)n : 0;
}

static void take_pid(struct line value, struct softrw_holder *ret)
{
	uint64_t pid;

	if (ret->pid == 0 && parse_number(value.at, value.size, &pid) && pid <= INT32_MAX)
		ret->pid = (pid_t)pid;
}

static void take_host(struct line value, struct softrw_holder *ret)
{
	if (ret->host[0] || value.size >= sizeof(ret->host) || memchr(value.at, '\0', value.size))
		return;
	memcpy(ret->host, value.at, value.size);
	ret->host[value.size] = '\0';
}

static bool is_nonce_of(const struct softrw_token *token, const struct softrw_token *nonce)
{
	struct softrw_token ours;

	softrw_nonce(token, nonce->bytes, &ours);
	return softrw_token_equal(&ours, nonce);
}

/* As Python does, takes what it can: only the lease decides anything, and too long a one is
   safe. */
void softrw_holder_parse(const char *bytes, size_t size, const struct softrw_token *token,
                         struct softrw_holder *ret)
{
	struct line rest = { bytes, size }, line, value;
	struct softrw_token named = { { 0 } }, nonce;

	*ret = (struct softrw_holder){ 0 };
	while (cut_line(&rest, &line)) {
		if (has_key(line, "token=", &value))
			(void)softrw_token_parse(value.at, value.size, &named);
		else if (has_key(line, "pid=", &value))
			take_pid(value, ret);
		else if (has_key(line, "host=", &value))
			take_host(value, ret);
		else if (has_key(line, "lease=", &value) && ret->lease <= 0)
			(void)soft_record_parse_duration(value.at, value.size, &ret->lease);
		else if (has_key(line, "nonce=", &value) &&
		         softrw_token_parse(value.at, value.size, &nonce))
			ret->is_ours = softrw_token_equal(&named, token) &&
			               is_nonce_of(token, &nonce);
	}
}
