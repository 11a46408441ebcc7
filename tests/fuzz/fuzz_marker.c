/*
 * fuzz_marker.c - any bytes as a marker's content, and as a boot id.
 *
 * A record or a lease that is read and written again is read as the same one.
 */
#include <string.h>

#include "fuzz.h"
#include "kinds/folder.h"
#include "kinds/soft_record.h"

static void check_record(const struct marker *marker)
{
	CHECK(marker->pid >= 1);
	CHECK(strlen(marker->host) < sizeof(marker->host));
	CHECK(strspn(marker->token, "0123456789") == strlen(marker->token));
	CHECK(marker->token[0] != '0' || marker->token[1] == '\0');
}

static void check_type(const struct marker *marker)
{
	switch (marker->type) {
	case MARKER_RECORD:
	case MARKER_EXCLUSIVE:
		check_record(marker);
		break;
	case MARKER_LEASE:
		check_record(marker);
		CHECK(marker->duration > 0);
		break;
	case MARKER_NEWER: /* of protocol 2 with its owner, of another without */
		CHECK((marker->pid > 0) == (marker->mode[0] != '\0'));
		break;
	case MARKER_TORN:
		CHECK(marker->pid >= 1 && marker->host[0] == '\0');
		break;
	default:
		CHECK(marker->pid == 0 && marker->host[0] == '\0');
	}
}

/* A name that no line has: read as another host's, or ending in what belongs to the line's end. */
static bool can_be_written(const struct marker *marker)
{
	size_t length = strlen(marker->host);

	return length > 0 && !strchr(" \t\n\v\f\r", marker->host[length - 1]);
}

static void check_round_trip(const struct marker *marker)
{
	char bytes[MARKER_SIZE];
	struct marker again;
	size_t size = soft_record_format(bytes, marker->pid, marker->host,
	                            marker->token[0] ? marker->token : NULL);

	if (size == 0) /* too long, with a newline more than it had */
		return;
	CHECK(size < MARKER_SIZE);
	soft_record_parse(bytes, size, &again);
	CHECK(again.type == MARKER_RECORD);
	CHECK(again.pid == marker->pid);
	CHECK(strcmp(again.host, marker->host) == 0);
	CHECK(strcmp(again.token, marker->token) == 0);
}

static void check_lease(const struct marker *marker)
{
	char bytes[MARKER_SIZE];
	struct marker again;
	size_t size = soft_record_format_lease(bytes, marker, 1500);

	if (size == 0)
		return;
	soft_record_parse(bytes, size, &again);
	CHECK(again.type == MARKER_LEASE);
	CHECK(again.pid == marker->pid);
	CHECK(again.duration == 1.5);
	CHECK(strcmp(again.host, marker->host) == 0);
	CHECK(strcmp(again.claim, marker->claim) == 0);
	CHECK(strcmp(again.token, marker->token) == 0);
}

static void check_boot_id(const uint8_t *data, size_t size)
{
	unsigned char id[16];
	char token[TOKEN_SIZE];
	char *text = calloc(1, size + 1);

	CHECK(text);
	if (size > 0)
		memcpy(text, data, size);
	memset(id, 0xa5, sizeof(id));
	if (soft_record_parse_boot_id(text, id)) {
		soft_record_token(id, size, token);
		CHECK(strspn(token, "0123456789") == strlen(token));
		CHECK(strlen(token) > 0 && strlen(token) < TOKEN_SIZE);
	} else {
		for (size_t i = 0; i < sizeof(id); i++)
			CHECK(id[i] == 0xa5);
	}
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct marker marker;

	soft_record_parse((const char *)data, size, &marker);
	CHECK((marker.type == MARKER_EMPTY) == (size == 0));
	if (size > MARKER_SIZE)
		CHECK(marker.type == MARKER_FOREIGN);
	check_type(&marker);
	if (marker.type == MARKER_RECORD && can_be_written(&marker))
		check_round_trip(&marker);
	if (marker.type == MARKER_LEASE && can_be_written(&marker) &&
	    folder_is_token(marker.claim))
		check_lease(&marker);
	check_boot_id(data, size);
	return 0;
}
