/*
 * fuzz_claim.c - any bytes as the name of a strict lock's claim, up to the first newline, and as what
 * stands in it.
 *
 * Names and records are canonical: what is read is written again to the last byte.
 */
#include <string.h>

#include "fuzz.h"
#include "kinds/strict_record.h"

static void check_name(const char *name)
{
	char public_name[NAME_MAX + 1], again[STRICT_NAME];
	struct strict_name parsed;

	if (strict_record_parse_name(name, &parsed)) {
		CHECK(folder_is_token(parsed.token));
		strict_record_format_name(again, parsed.held, parsed.token);
		CHECK(strcmp(again, name) == 0);
	}
	if (strict_record_parse_private(name, public_name)) {
		CHECK(*public_name && strlen(public_name) < strlen(name));
		CHECK(strncmp(name + 1, public_name, strlen(public_name)) == 0);
	}
}

static void check_record(const char *bytes, size_t size, const char *token)
{
	struct marker owner;
	char again[MARKER_SIZE];
	size_t length;

	if (!strict_record_parse(bytes, size, token, &owner))
		return;
	CHECK(size <= MARKER_SIZE && owner.pid >= 1);
	length = strict_record_format(again, token, &owner);
	if (length == 0) /* as long as can be, without room for the end */
		return;
	CHECK(length == size && memcmp(again, bytes, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	size_t length = newline ? (size_t)(newline - data) : size;
	struct strict_name parsed = { .token = "00000000000000000000000000000000" };
	char name[NAME_MAX + 1];

	if (length > NAME_MAX)
		return 0;
	if (length > 0)
		memcpy(name, data, length);
	name[length] = '\0';
	check_name(name);
	(void)strict_record_parse_name(name, &parsed);
	if (newline)
		check_record((const char *)newline + 1, size - length - 1, parsed.token);
	return 0;
}
