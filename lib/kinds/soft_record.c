#include "kinds/soft_record.h"

#include <stdio.h>
#include <string.h>

#define STRICT "1\nfilelock-strict-v1\0\n0\n"
#define PROTOCOL "filelock/"

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

/* The digits of a number without leading zeros; false: it is none. */
static bool take_digits(struct text text, struct text *ret)
{
	text = trim(text);
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

	if (!take_digits(line, &digits) || digits.size > 10)
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

static bool is_newer(struct text content)
{
	struct text line = cut_line(&content);
	size_t length = strlen(PROTOCOL);
	struct text number = { line.at + length, line.size - length };

	return line.size > length && memcmp(line.at, PROTOCOL, length) == 0 &&
	       take_digits(number, &number);
}

static bool take_record(struct text content, struct marker *ret)
{
	struct text pid, host, token = { "", 0 };

	if (!is_utf8(content))
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
	/* a zero inside makes it another host's */
	if (memchr(host.at, '\0', host.size))
		host.size = 0;
	copy(ret->host, host);
	copy(ret->token, token);
	return true;
}

void soft_record_parse(const char *bytes, size_t size, struct marker *ret)
{
	struct text content = { bytes, size };

	ret->pid = 0;
	ret->host[0] = ret->token[0] = '\0';
	if (size == 0)
		ret->type = MARKER_EMPTY;
	else if (size > MARKER_SIZE)
		ret->type = MARKER_MALFORMED;
	else if (size == sizeof(STRICT) - 1 && memcmp(bytes, STRICT, size) == 0)
		ret->type = MARKER_STRICT;
	else if (is_newer(content))
		ret->type = MARKER_NEWER;
	else
		ret->type = take_record(content, ret) ? MARKER_RECORD : MARKER_MALFORMED;
}

size_t soft_record_format(char ret[MARKER_SIZE], pid_t pid, const char *host, const char *token)
{
	int n = snprintf(ret, MARKER_SIZE, "%ld\n%s\n%s%s", (long)pid, host, token ? token : "",
	                 token ? "\n" : "");

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
