/* The record in a marker file: what is written, and what any bytes are taken for. */
#include <stdio.h>
#include <string.h>

#include "kinds/soft_record.h"
#include "support.h"

static enum marker_type type_of(const char *bytes, size_t size)
{
	struct marker marker;

	soft_record_parse(bytes, size, &marker);
	return marker.type;
}

#define TYPE_OF(literal) type_of((literal), sizeof(literal) - 1)

START_TEST(test_token_is_exact_to_192_bits)
{
	static const struct {
		const char *boot_id;
		uint64_t start;
		const char *token;
	} cases[] = {
		{ "00000000000000000000000000000000", 0, "0" },
		{ "00000000000000000000000000000000", 1, "1" },
		{ "00000000-0000-0000-0000-000000000001\n", 0, "18446744073709551616" },
		{ "ffffffff-ffff-ffff-ffff-ffffffffffff", UINT64_MAX,
		  "6277101735386680763835789423207666416102355444464034512895" },
		{ "fd752bd6-fac3-4380-9d58-e6e8fdd20ad7", 12345,
		  "6214764725470676256612006407554694068115158963905334620217" },
		{ "123456789abcdef0fedcba9876543210", (UINT64_C(1) << 63) + 7,
		  "446371678960830626602075884953218503826806753478729269255" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned char boot_id[16];
		char token[TOKEN_SIZE];

		ck_assert(soft_record_parse_boot_id(cases[i].boot_id, boot_id));
		soft_record_token(boot_id, cases[i].start, token);
		ck_assert_str_eq(token, cases[i].token);
	}
}
END_TEST

START_TEST(test_text_that_is_no_boot_id_is_refused)
{
	static const char *const texts[] = {
		"", "0", "fd752bd6-fac3-4380-9d58-e6e8fdd20ad", "fd752bd6-fac3-4380-9d58-e6e8fdd20ad77",
		"gd752bd6-fac3-4380-9d58-e6e8fdd20ad7", " fd752bd6fac343809d58e6e8fdd20ad7",
	};
	unsigned char boot_id[16];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		ck_assert(!soft_record_parse_boot_id(texts[i], boot_id));
}
END_TEST

START_TEST(test_record_is_pythons_byte_for_byte)
{
	char bytes[MARKER_SIZE];

	ck_assert_uint_eq(soft_record_format(bytes, 32675, "vm", NULL), 9);
	ck_assert_mem_eq(bytes, "32675\nvm\n", 9);
	ck_assert_uint_eq(soft_record_format(bytes, 1, "a.b-c", "123"), 12);
	ck_assert_mem_eq(bytes, "1\na.b-c\n123\n", 12);
}
END_TEST

START_TEST(test_record_that_would_be_too_long_is_none)
{
	char bytes[MARKER_SIZE], host[MARKER_SIZE];
	const size_t longest = MARKER_SIZE - 1 - strlen("1\n\n123\n");

	memset(host, 'h', sizeof(host));
	host[longest] = '\0';
	ck_assert_uint_eq(soft_record_format(bytes, 1, host, "123"), MARKER_SIZE - 1);
	ck_assert_uint_eq(soft_record_format(bytes, 1, host, "1234"), 0);
}
END_TEST

static size_t read_fixture(const char *name, char *bytes, size_t size)
{
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char path[4096];
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/tests/fixtures/%s", top ? top : ".", name);
	file = fopen(path, "re");
	ck_assert_msg(file != NULL, "%s", path);
	n = fread(bytes, 1, size, file);
	fclose(file);
	return n;
}

START_TEST(test_markers_of_the_releases_are_understood)
{
	static const struct {
		const char *name;
		enum marker_type type;
		pid_t pid;
		const char *token;
	} cases[] = {
		{ "python-filelock-3.25.2/soft.lock", MARKER_RECORD, 32675, "" },
		{ "python-filelock-3.32.3/soft.lock", MARKER_RECORD, 32716,
		  "3382388864678573183243531632917074124394430365416676402507" },
		{ "python-filelock-3.32.3/lease.lock", MARKER_NEWER, 0, "" },
		{ "python-filelock-3.32.3/strict.lock", MARKER_STRICT, 0, "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char bytes[2 * MARKER_SIZE], again[MARKER_SIZE];
		size_t size = read_fixture(cases[i].name, bytes, sizeof(bytes));
		struct marker marker;

		soft_record_parse(bytes, size, &marker);
		ck_assert_msg(marker.type == cases[i].type, "%s: %d", cases[i].name, marker.type);
		ck_assert_int_eq(marker.pid, cases[i].pid);
		ck_assert_str_eq(marker.token, cases[i].token);
		if (marker.type != MARKER_RECORD)
			continue;
		ck_assert_str_eq(marker.host, "vm");
		ck_assert_uint_eq(soft_record_format(again, marker.pid, marker.host,
		                                *marker.token ? marker.token : NULL),
		                  size);
		ck_assert_mem_eq(again, bytes, size);
	}
}
END_TEST

START_TEST(test_padding_is_no_part_of_the_record)
{
	struct marker marker;

	soft_record_parse("12\nhost\n34\n\n\n\n\n", 15, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_str_eq(marker.host, "host");
	ck_assert_str_eq(marker.token, "34");
	soft_record_parse("12\nhost\n\n\n", 10, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_str_eq(marker.token, "");
}
END_TEST

START_TEST(test_numbers_are_compared_without_their_zeros_and_spaces)
{
	struct marker marker;

	soft_record_parse(" 0012 \r\nhost\r\n 00034 \r\n", 23, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, 12);
	ck_assert_str_eq(marker.host, "host");
	ck_assert_str_eq(marker.token, "34");
	soft_record_parse("1\nh\n000\n", 8, &marker);
	ck_assert_str_eq(marker.token, "0");
}
END_TEST

START_TEST(test_nothing_is_empty_and_not_malformed)
{
	ck_assert_int_eq(type_of("", 0), MARKER_EMPTY);
	ck_assert_int_eq(TYPE_OF("\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("\0"), MARKER_MALFORMED);
}
END_TEST

START_TEST(test_newer_protocols_are_known_by_their_first_line)
{
	ck_assert_int_eq(TYPE_OF("filelock/2\n"), MARKER_NEWER);
	ck_assert_int_eq(TYPE_OF("filelock/2"), MARKER_NEWER);
	ck_assert_int_eq(TYPE_OF("filelock/99\npid=x\xff\n"), MARKER_NEWER);
	ck_assert_int_eq(TYPE_OF("filelock/\n1\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("filelock/x\n1\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\nfilelock/2\n"), MARKER_RECORD);
}
END_TEST

START_TEST(test_strict_sentinel_is_known_by_every_byte)
{
	ck_assert_int_eq(TYPE_OF("1\nfilelock-strict-v1\0\n0\n"), MARKER_STRICT);
	ck_assert_int_eq(TYPE_OF("1\nfilelock-strict-v1\n0\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\nfilelock-strict-v1\0\n0\n\n"), MARKER_RECORD);
}
END_TEST

START_TEST(test_pids_out_of_range_are_malformed)
{
	ck_assert_int_eq(TYPE_OF("0\nh\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("-1\nh\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("2147483648\nh\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("18446744073709551617\nh\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("2147483647\nh\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\nh\n"), MARKER_RECORD);
}
END_TEST

START_TEST(test_other_content_is_malformed)
{
	ck_assert_int_eq(TYPE_OF("1\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("x\nh\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\nh\nx\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\nh\n-5\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\nh\n1\n1\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\n\n\nh\n1\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\n2"), MARKER_RECORD);
}
END_TEST

START_TEST(test_too_much_is_malformed)
{
	char bytes[MARKER_SIZE + 1];

	memset(bytes, '\n', sizeof(bytes));
	memcpy(bytes, "1\nh", 3);
	ck_assert_int_eq(type_of(bytes, MARKER_SIZE), MARKER_RECORD);
	ck_assert_int_eq(type_of(bytes, MARKER_SIZE + 1), MARKER_MALFORMED);
}
END_TEST

START_TEST(test_hosts_are_utf8)
{
	ck_assert_int_eq(TYPE_OF("1\n\xc3\xa4\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\n\xe2\x82\xac\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\n\xf0\x9f\x94\x92\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\n\xff\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\n\x80\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\n\xc0\xaf\n"), MARKER_MALFORMED);     /* overlong */
	ck_assert_int_eq(TYPE_OF("1\n\xe0\x80\xaf\n"), MARKER_MALFORMED); /* overlong */
	ck_assert_int_eq(TYPE_OF("1\n\xed\xa0\x80\n"), MARKER_MALFORMED); /* a surrogate */
	ck_assert_int_eq(TYPE_OF("1\n\xf4\x90\x80\x80\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\n\xf5\x80\x80\x80\n"), MARKER_MALFORMED);
	ck_assert_int_eq(TYPE_OF("1\nh\xe2\x82"), MARKER_MALFORMED);
}
END_TEST

START_TEST(test_host_with_a_zero_is_nobodys)
{
	struct marker marker;

	soft_record_parse("1\nh\0x\n", 6, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_str_eq(marker.host, "");
}
END_TEST

/* Whatever it is called: no byte beyond is read (the sanitizers look), and it is one of the types. */
/* shows: huge-file */
START_TEST(test_any_bytes_are_something)
{
	static const char alphabet[] = "019\n\r filelock/\0\xc3\xa4\xff-";
	unsigned seed = 1;

	for (unsigned round = 0; round < test_rounds(20000); round++) {
		size_t size = (size_t)rand_r(&seed) % 48;
		char *bytes = malloc(size ? size : 1);
		struct marker marker;

		for (size_t i = 0; i < size; i++)
			bytes[i] = alphabet[(size_t)rand_r(&seed) % sizeof(alphabet)];
		soft_record_parse(bytes, size, &marker);
		ck_assert_int_ge(marker.type, MARKER_RECORD);
		ck_assert_int_le(marker.type, MARKER_MALFORMED);
		ck_assert(marker.type != MARKER_RECORD || marker.pid > 0);
		free(bytes);
	}
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "marker", test_token_is_exact_to_192_bits, test_text_that_is_no_boot_id_is_refused,
	        test_record_is_pythons_byte_for_byte, test_record_that_would_be_too_long_is_none,
	        test_markers_of_the_releases_are_understood,
	        test_padding_is_no_part_of_the_record,
	        test_numbers_are_compared_without_their_zeros_and_spaces,
	        test_nothing_is_empty_and_not_malformed,
	        test_newer_protocols_are_known_by_their_first_line,
	        test_strict_sentinel_is_known_by_every_byte, test_pids_out_of_range_are_malformed,
	        test_other_content_is_malformed, test_too_much_is_malformed, test_hosts_are_utf8,
	        test_host_with_a_zero_is_nobodys, test_any_bytes_are_something));
}
