#include "kinds/soft_record.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STRICT "1\nfilelock-strict-v1\0\n0\n"
#define PROTOCOL "filelock/"
#define PID_DIGITS 10 /* of 2^31 - 1 */

/* Bytes that need not end with a zero, and may hold one. */
struct text {
	const char *at;
	size_t size;
};

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static struct text trim(struct text text)
{
	while (text.size > 0 && is_space(text.at[text.size - 1]))
		text.size--;
	while (text.size > 0 && is_space(*text.at)) {
		text.at++;
		text.size--;
	}
	return text;
}

/* Cuts the first line off. */
static struct text cut_line(struct text *rest)
{
	const char *end = memchr(rest->at, '\n', rest->size);
	struct text line = { rest->at, end ? (size_t)(end - rest->at) : rest->size };
	size_t taken = line.size + (end != NULL);

	rest->at += taken;
	rest->size -= taken;
	if (line.size > 0 && line.at[line.size - 1] == '\r')
		line.size--;
	return line;
}

static struct text first_line(struct text text)
{
	return cut_line(&text);
}

/* The digits of a number without leading zeros; false: it is none. */
static bool take_digits(struct text text, struct text *ret)
{
	if (text.size == 0)
		return false;
	for (size_t i = 0; i < text.size; i++)
		if (!is_digit(text.at[i]))
			return false;
	while (text.size > 1 && *text.at == '0') {
		text.at++;
		text.size--;
	}
	*ret = text;
	return true;
}

static bool parse_pid(struct text line, pid_t *ret)
{
	struct text digits;
	int64_t value = 0;

	if (!take_digits(line, &digits) || digits.size > PID_DIGITS)
		return false;
	for (size_t i = 0; i < digits.size; i++)
		value = value * 10 + (digits.at[i] - '0');
	if (value < 1 || value > INT32_MAX)
		return false;
	*ret = (pid_t)value;
	return true;
}

static void copy(char *ret, struct text text)
{
	memcpy(ret, text.at, text.size);
	ret[text.size] = '\0';
}

/* Bytes that follow the first one of a character; -1: it begins none. */
static int utf8_tail(unsigned char first)
{
	if (first < 0x80)
		return 0;
	if (first >= 0xc2 && first <= 0xdf)
		return 1;
	if ((first & 0xf0) == 0xe0)
		return 2;
	return first >= 0xf0 && first <= 0xf4 ? 3 : -1;
}

/* Neither longer than need be, nor half of a surrogate pair, nor beyond U+10FFFF. */
static bool utf8_second_fits(unsigned char first, unsigned char second)
{
	switch (first) {
	case 0xe0:
		return second >= 0xa0;
	case 0xed:
		return second < 0xa0;
	case 0xf0:
		return second >= 0x90;
	case 0xf4:
		return second < 0x90;
	default:
		return true;
	}
}

static bool is_utf8(struct text text)
{
	const unsigned char *p = (const unsigned char *)text.at;
	const unsigned char *end = p + text.size;

	while (p < end) {
		int tail = utf8_tail(*p);

		if (tail < 0 || end - p <= tail || (tail && !utf8_second_fits(p[0], p[1])))
			return false;
		for (p++; tail > 0; tail--, p++)
			if ((*p & 0xc0) != 0x80)
				return false;
	}
	return true;
}

static bool is_text(struct text text, const char *what)
{
	return text.size == strlen(what) && memcmp(text.at, what, text.size) == 0;
}

/* "filelock/<n>" */
static bool is_protocol(struct text line)
{
	size_t length = strlen(PROTOCOL);
	struct text number = { line.at + length, line.size - length };

	return line.size > length && memcmp(line.at, PROTOCOL, length) == 0 &&
	       take_digits(number, &number);
}

static bool take_host(struct text line, struct marker *ret)
{
	/* a zero inside makes it another host's */
	if (memchr(line.at, '\0', line.size))
		line.size = 0;
	copy(ret->host, line);
	return true;
}

/* Every release ends its record with a newline: without it a write was cut short. */
static bool is_whole_text(struct text content)
{
	return content.size > 0 && content.at[content.size - 1] == '\n' && is_utf8(content);
}

static bool take_record(struct text content, struct marker *ret)
{
	struct text pid, host, token = { "", 0 };

	if (!is_whole_text(content))
		return false;
	content = trim(content);
	pid = cut_line(&content);
	if (content.size == 0)
		return false;
	host = cut_line(&content);
	if (content.size > 0 && !take_digits(cut_line(&content), &token))
		return false;
	if (content.size > 0 || !parse_pid(pid, &ret->pid))
		return false;
	copy(ret->token, token);
	return take_host(host, ret);
}

static size_t skip_digits(struct text text, size_t at)
{
	while (at < text.size && is_digit(text.at[at]))
		at++;
	return at;
}

/* e[+-][0-9]+, or nothing. */
static bool take_exponent(struct text text, long *ret)
{
	*ret = 0;
	if (text.size == 0)
		return true;
	if (text.size < 3 || text.size > 6 || text.at[0] != 'e' ||
	    (text.at[1] != '+' && text.at[1] != '-') || skip_digits(text, 2) != text.size)
		return false;
	*ret = strtol(text.at + 1, NULL, 10); /* ends at the line's end */
	return true;
}

/* [0-9]+(\.[0-9]+)?(e[+-][0-9]+)?, as Python writes a float. It is given to strtod(3) without its
   point, which is another character in some locales. */
static bool take_duration(struct text text, double *ret)
{
	char number[64];
	size_t whole = skip_digits(text, 0), end = whole, fraction = 0;
	long exponent;
	double value;

	if (end < text.size && text.at[end] == '.') {
		end = skip_digits(text, whole + 1);
		fraction = end - whole - 1;
	}
	if (whole == 0 || end == whole + 1 || whole + fraction > 32 ||
	    !take_exponent((struct text){ text.at + end, text.size - end }, &exponent))
		return false;
	(void)snprintf(number, sizeof(number), "%.*s%.*se%ld", (int)whole, text.at, (int)fraction,
	               fraction ? text.at + whole + 1 : "", exponent - (long)fraction);
	value = strtod(number, NULL);
	if (!(value > 0) || value > DBL_MAX)
		return false;
	*ret = value;
	return true;
}

bool soft_record_parse_duration(const char *text, size_t length, double *ret)
{
	return take_duration((struct text){ text, length }, ret);
}

/* The fields of protocol 2, by name; absent ones are of size 0. */
struct fields {
	struct text pid, host, mode, token, duration, start;
};

static bool take_field(struct text line, struct fields *fields)
{
	const struct {
		const char *name;
		struct text *value;
	} known[] = { { "pid", &fields->pid },           { "host", &fields->host },
		      { "mode", &fields->mode },         { "token", &fields->token },
		      { "duration", &fields->duration }, { "start", &fields->start } };
	const char *sign = memchr(line.at, '=', line.size);
	size_t length = sign ? (size_t)(sign - line.at) : 0;

	if (!sign)
		return false;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i].name) == length && memcmp(known[i].name, line.at, length) == 0)
			*known[i].value = (struct text){ sign + 1, line.size - length - 1 };
	return true;
}

static enum marker_type type_of_mode(struct text mode)
{
	if (is_text(mode, "exclusive"))
		return MARKER_EXCLUSIVE;
	return is_text(mode, "lease") ? MARKER_LEASE : MARKER_NEWER;
}

/* False: the fields make no sense. */
static bool take_fields(const struct fields *fields, struct marker *ret)
{
	struct text start = { "", 0 };

	ret->type = type_of_mode(fields->mode);
	if (fields->mode.size == 0 || fields->host.size == 0 || !parse_pid(fields->pid, &ret->pid))
		return false;
	if (fields->start.at && !take_digits(fields->start, &start))
		return false;
	if (fields->duration.at && !take_duration(fields->duration, &ret->duration))
		return false;
	if (ret->type == MARKER_LEASE && (fields->token.size == 0 || !fields->duration.at))
		return false;
	if (fields->mode.size < sizeof(ret->mode))
		copy(ret->mode, fields->mode);
	if (fields->token.size < sizeof(ret->claim) && fields->token.at)
		copy(ret->claim, fields->token);
	copy(ret->token, start);
	return take_host(fields->host, ret);
}

static void forget_owner(struct marker *ret)
{
	memset(ret, 0, offsetof(struct marker, host));
	ret->host[0] = ret->token[0] = '\0';
	ret->type = MARKER_NEWER;
}

/* A marker of protocol 2; what cannot be read is a newer one's. */
static void take_protocol_2(struct text content, struct marker *ret)
{
	struct fields fields = { 0 };
	bool sane = is_whole_text(content);

	content = trim(content);
	(void)cut_line(&content);
	while (sane && content.size > 0)
		sane = take_field(cut_line(&content), &fields);
	if (!sane || !take_fields(&fields, ret))
		forget_owner(ret);
}

/* A host name as it may stand in a record, whole or not: at is where it begins, and the result
   where it ends. */
static size_t skip_host(struct text text, size_t at)
{
	while (at < text.size && (unsigned char)text.at[at] >= ' ' && text.at[at] != 0x7f)
		at++;
	return at;
}

/* Whether this is the beginning of a record, and not all of it: what is left if writing one was
   cut short. *ret_pid: its first line, which may be cut, too. */
static bool is_torn(struct text text, pid_t *ret_pid)
{
	size_t pid = skip_digits(text, 0), host, token;
	struct text digits = { text.at, pid };

	if (pid == 0 || *text.at == '0' || !parse_pid(digits, ret_pid))
		return false;
	if (pid == text.size)
		return true;
	if (text.at[pid] != '\n')
		return false;
	host = skip_host(text, pid + 1);
	if (host == text.size)
		return host - pid - 1 <= HOST_SIZE;
	if (host == pid + 1 || host - pid - 1 > HOST_SIZE || text.at[host] != '\n')
		return false;
	token = skip_digits(text, host + 1);
	return token == text.size && token > host + 1 && token - host - 1 < TOKEN_SIZE;
}

static void parse_content(struct text content, struct marker *ret)
{
	struct text line = first_line(content);
	pid_t pid;

	if (content.size == sizeof(STRICT) - 1 &&
	    memcmp(content.at, STRICT, content.size) == 0) {
		ret->type = MARKER_STRICT;
		return;
	}
	if (is_text(line, PROTOCOL "2"))
		take_protocol_2(content, ret);
	else if (is_protocol(line))
		ret->type = MARKER_NEWER;
	else if (take_record(content, ret))
		ret->type = MARKER_RECORD;
	else if (is_torn(content, &pid))
		*ret = (struct marker){ .type = MARKER_TORN, .pid = pid };
}

void soft_record_parse(const char *bytes, size_t size, struct marker *ret)
{
	struct text content = { bytes, size };

	forget_owner(ret);
	ret->type = size == 0 ? MARKER_EMPTY : MARKER_FOREIGN;
	if (size > 0 && size <= MARKER_SIZE)
		parse_content(content, ret);
}

bool soft_record_is_utf8(const char *bytes, size_t size)
{
	return is_utf8((struct text){ bytes, size });
}

size_t soft_record_format(char ret[MARKER_SIZE], pid_t pid, const char *host, const char *token)
{
	int n = snprintf(ret, MARKER_SIZE, "%ld\n%s\n%s%s", (long)pid, host, token ? token : "",
	                 token ? "\n" : "");

	return n < MARKER_SIZE ? (size_t)n : 0;
}

/* Seconds as Python writes a float: "30.0", "0.25". */
static void format_duration(char ret[24], unsigned duration_ms)
{
	char *end = ret + snprintf(ret, 24, "%u.%03u", duration_ms / 1000, duration_ms % 1000) - 1;

	while (*end == '0' && end[-1] != '.')
		*end-- = '\0';
}

size_t soft_record_format_lease(char ret[MARKER_SIZE], const struct marker *marker,
                                unsigned duration_ms)
{
	const char *token = marker->token;
	char duration[24];
	int n;

	format_duration(duration, duration_ms);
	n = snprintf(ret, MARKER_SIZE,
	             PROTOCOL "2\npid=%ld\nhost=%s\nmode=lease\ntoken=%s\nduration=%s\n%s%s%s",
	             (long)marker->pid, marker->host, marker->claim, duration,
	             *token ? "start=" : "", token, *token ? "\n" : "");
	return n < MARKER_SIZE ? (size_t)n : 0;
}

/* Divides the number of six digits to the base 2^32, and returns the rest. */
static uint32_t divide(uint32_t number[6], uint32_t by)
{
	uint64_t rest = 0;

	for (int i = 0; i < 6; i++) {
		uint64_t part = rest << 32 | number[i];

		number[i] = (uint32_t)(part / by);
		rest = part % by;
	}
	return (uint32_t)rest;
}

void soft_record_token(const unsigned char boot_id[16], uint64_t start, char ret[TOKEN_SIZE])
{
	uint32_t number[6];
	char digits[TOKEN_SIZE];
	size_t at = sizeof(digits) - 1;

	for (int i = 0; i < 4; i++)
		number[i] = (uint32_t)boot_id[4 * i] << 24 | (uint32_t)boot_id[4 * i + 1] << 16 |
		            (uint32_t)boot_id[4 * i + 2] << 8 | boot_id[4 * i + 3];
	number[4] = (uint32_t)(start >> 32);
	number[5] = (uint32_t)start;
	digits[at] = '\0';
	while (at > 0)
		digits[--at] = (char)('0' + divide(number, 10));
	while (at < sizeof(digits) - 2 && digits[at] == '0')
		at++;
	memcpy(ret, digits + at, sizeof(digits) - at);
}

bool soft_record_is_token_of(const char *token, const unsigned char boot_id[16])
{
	char least[TOKEN_SIZE], most[TOKEN_SIZE];
	size_t length = strlen(token);

	soft_record_token(boot_id, 0, least);
	soft_record_token(boot_id, UINT64_MAX, most);
	/* canonical numbers: of one length they compare as text */
	if (length < strlen(least) || length > strlen(most))
		return false;
	return (length > strlen(least) || strcmp(token, least) >= 0) &&
	       (length < strlen(most) || strcmp(token, most) <= 0);
}

static int hex_value(char c)
{
	if (is_digit(c))
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool soft_record_parse_boot_id(const char *text, unsigned char ret[16])
{
	unsigned char id[16] = { 0 };
	int digits = 0;

	for (; *text && *text != '\n'; text++) {
		if (*text == '-')
			continue;
		if (hex_value(*text) < 0 || digits == 32)
			return false;
		id[digits / 2] = (unsigned char)(id[digits / 2] << 4 | hex_value(*text));
		digits++;
	}
	if (digits != 32)
		return false;
	memcpy(ret, id, sizeof(id));
	return true;
}
