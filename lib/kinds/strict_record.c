#include "kinds/strict_record.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"

#define MAGIC "filelock-strict-v1"
#define VERSION "-v1-"
#define ENDING ".claim"
#define PRIVATE ".private-v1-"
#define PRIVATE_ENDING ".tmp"
#define TOKEN (FOLDER_TOKEN - 1)
#define LINES 5

static bool take_token(const char *at, const char *ending, char ret[FOLDER_TOKEN])
{
	if (strlen(at) != TOKEN + strlen(ending) || strcmp(at + TOKEN, ending) != 0)
		return false;
	memcpy(ret, at, TOKEN);
	ret[TOKEN] = '\0';
	return folder_is_token(ret);
}

bool strict_record_parse_name(const char *name, struct strict_name *ret)
{
	static const char *const states[] = { "intent" VERSION, "held" VERSION };

	for (int held = 0; held < 2; held++) {
		size_t length = strlen(states[held]);

		if (strncmp(name, states[held], length) != 0)
			continue;
		ret->held = held;
		return take_token(name + length, ENDING, ret->token);
	}
	return false;
}

void strict_record_format_name(char ret[STRICT_NAME], bool held, const char *token)
{
	(void)snprintf(ret, STRICT_NAME, "%s" VERSION "%.32s" ENDING, held ? "held" : "intent",
	               token);
}

bool strict_record_parse_private(const char *name, char ret_public[NAME_MAX + 1])
{
	const size_t ending = strlen(PRIVATE) + TOKEN + strlen(PRIVATE_ENDING);
	size_t length = strlen(name);
	char token[FOLDER_TOKEN];
	const char *at = name + length - ending;

	if (*name != '.' || length <= ending + 1 || length > NAME_MAX ||
	    strncmp(at, PRIVATE, strlen(PRIVATE)) != 0 ||
	    !take_token(at + strlen(PRIVATE), PRIVATE_ENDING, token))
		return false;
	memcpy(ret_public, name + 1, length - ending - 1);
	ret_public[length - ending - 1] = '\0';
	return true;
}

int strict_record_make_private(const char *name, char **ret_private)
{
	char token[FOLDER_TOKEN];
	int r = folder_random(token);

	if (r < 0)
		return r;
	*ret_private = sys_format(".%s" PRIVATE "%s" PRIVATE_ENDING, name, token);
	return *ret_private ? 0 : -ENOMEM;
}

struct line {
	const char *at;
	size_t size;
};

/* Five of them, each with its end, and nothing else. */
static bool cut_lines(const char *bytes, size_t size, struct line lines[LINES])
{
	const char *end = bytes + size;

	for (int i = 0; i < LINES; i++) {
		const char *newline = memchr(bytes, '\n', (size_t)(end - bytes));

		if (!newline)
			return false;
		lines[i] = (struct line){ bytes, (size_t)(newline - bytes) };
		bytes = newline + 1;
	}
	return bytes == end;
}

static bool is_text(struct line line, const char *text)
{
	return line.size == strlen(text) && memcmp(line.at, text, line.size) == 0;
}

/* A number as it is written: digits, and no zero before others. */
static bool is_canonical(struct line line)
{
	if (line.size == 0 || (*line.at == '0' && line.size > 1))
		return false;
	for (size_t i = 0; i < line.size; i++)
		if (line.at[i] < '0' || line.at[i] > '9')
			return false;
	return true;
}

static bool take_pid(struct line line, pid_t *ret)
{
	int64_t value = 0;

	if (!is_canonical(line) || line.size > 10)
		return false;
	for (size_t i = 0; i < line.size; i++)
		value = value * 10 + (line.at[i] - '0');
	*ret = (pid_t)value;
	return value >= 1 && value <= INT32_MAX;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_printable(unsigned char c)
{
	return c > ' ' && c != 0x7f;
}

static bool take_host(struct line line, char ret[MARKER_SIZE])
{
	size_t length = line.size / 2;

	if (line.size % 2)
		return false;
	for (size_t i = 0; i < length; i++) {
		int high = hex_value(line.at[2 * i]), low = hex_value(line.at[2 * i + 1]);

		if (high < 0 || low < 0 || !is_printable((unsigned char)(high << 4 | low)))
			return false;
		ret[i] = (char)(high << 4 | low);
	}
	ret[length] = '\0';
	return soft_record_is_utf8(ret, length);
}

bool strict_record_parse(const char *bytes, size_t size, const char *token, struct marker *ret)
{
	struct line lines[LINES];

	*ret = (struct marker){ .type = MARKER_RECORD };
	if (size > MARKER_SIZE || !cut_lines(bytes, size, lines) || !is_text(lines[0], MAGIC) ||
	    !is_text(lines[1], token) || !take_pid(lines[2], &ret->pid) ||
	    !take_host(lines[3], ret->host))
		return false;
	if (lines[4].size > 0 && !is_canonical(lines[4]))
		return false;
	memcpy(ret->token, lines[4].at, lines[4].size);
	ret->token[lines[4].size] = '\0';
	return true;
}

size_t strict_record_format(char ret[MARKER_SIZE], const char *token, const struct marker *owner)
{
	char host[MARKER_SIZE];
	size_t length = strlen(owner->host);
	int n;

	if (2 * length >= sizeof(host))
		return 0;
	sys_hex(owner->host, length, host);
	n = snprintf(ret, MARKER_SIZE, MAGIC "\n%s\n%ld\n%s\n%s\n", token, (long)owner->pid, host,
	             owner->token);
	return n < MARKER_SIZE ? (size_t)n : 0;
}
