/*
 * fuzz_softrw.c - any bytes as a snapshot of a soft read/write lock, as a holder's record, and as
 * names.
 *
 * A snapshot that is read and written again is read as the same one.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "kinds/softrw_record.h"

static void check_readers(const struct softrw_snapshot *snapshot)
{
	for (size_t i = 1; i < snapshot->readers; i++)
		CHECK(memcmp(snapshot->reader[i - 1].bytes, snapshot->reader[i].bytes, 16) < 0);
	for (size_t i = 0; i < snapshot->readers; i++)
		CHECK(softrw_snapshot_names(snapshot, &snapshot->reader[i]));
}

static void check_again(const struct softrw_snapshot *snapshot)
{
	struct softrw_snapshot again;
	size_t size;
	char *bytes;

	if (softrw_snapshot_format(snapshot, &bytes, &size) == -EUSERS)
		return;
	CHECK(softrw_snapshot_parse(bytes, size, &again) == 0);
	CHECK(again.generation == snapshot->generation);
	CHECK(again.has_writer == snapshot->has_writer);
	CHECK(!again.has_writer || softrw_token_equal(&again.writer, &snapshot->writer));
	CHECK(again.readers == snapshot->readers);
	CHECK(again.readers == 0 ||
	      memcmp(again.reader, snapshot->reader, again.readers * sizeof(*again.reader)) == 0);
	softrw_snapshot_clear(&again);
	free(bytes);
}

static void check_snapshot(const char *bytes, size_t size)
{
	struct softrw_snapshot snapshot;
	int r = softrw_snapshot_parse(bytes, size, &snapshot);

	CHECK(r == 0 || r == -EBADMSG);
	if (r == 0) {
		check_readers(&snapshot);
		check_again(&snapshot);
	}
	softrw_snapshot_clear(&snapshot);
}

static void check_holder(const char *bytes, size_t size)
{
	struct softrw_token token = { { 0 } };
	struct softrw_holder holder;

	if (size >= 32)
		(void)softrw_token_parse(bytes, 32, &token);
	softrw_holder_parse(bytes, size, &token, &holder);
	CHECK(holder.pid >= 0);
	CHECK(holder.lease >= 0);
	CHECK(strlen(holder.host) < sizeof(holder.host));
}

static void check_name(const char *bytes, size_t size)
{
	char name[SOFTRW_NAME_SIZE], text[64] = "";
	uint64_t generation;

	if (size < sizeof(text))
		memcpy(text, bytes, size);
	if (softrw_name_parse(text, &generation)) {
		softrw_name_format(generation, name);
		CHECK(strcmp(name, text) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = size > 0 ? (const char *)data : "";

	check_snapshot(bytes, size);
	check_holder(bytes, size);
	check_name(bytes, size);
	return 0;
}
