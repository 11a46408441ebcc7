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

	(void)snprintf(path, sizeof(path), "%s/tests/fixtures/python-filelock-%s", top ? top : ".", name);
	file = fopen(path, "re");
	ck_assert_msg(file != NULL, "%s", path);
	n = fread(bytes, 1, size, file);
	fclose(file);
	return n;
}

#define TOKEN_3_32 "3382388864678573183243531632917074124394430365416676402507"
#define TOKEN_4_1 "5183013233417267421121988825572831065245560233949376345376"
#define TOKEN_IN_NAMESPACE "5183013233417267421121988825572831065245560233949376345402"
#define IN_NAMESPACE "vm?pidns-f00001e5"

START_TEST(test_markers_of_the_releases_are_understood)
{
	static const struct {
		const char *name;
		enum marker_type type;
		pid_t pid;
		const char *host, *token, *mode;
		double duration;
	} cases[] = {
		{ "3.25.2/soft.lock", MARKER_RECORD, 32675, "vm", "", "", 0 },
		{ "3.32.3/soft.lock", MARKER_RECORD, 32716, "vm", TOKEN_3_32, "", 0 },
		{ "3.32.3/lease.lock", MARKER_LEASE, 32716, "vm", TOKEN_3_32, "lease", 30 },
		{ "3.32.3/strict.lock", MARKER_STRICT, 0, "", "", "", 0 },
		{ "4.1.1/soft.lock", MARKER_RECORD, 9080, "vm", TOKEN_4_1, "", 0 },
		{ "4.1.1/soft-in-pid-namespace.lock", MARKER_RECORD, 1, IN_NAMESPACE,
		  TOKEN_IN_NAMESPACE, "", 0 },
		{ "4.1.1/lease.lock", MARKER_LEASE, 9080, "vm", TOKEN_4_1, "lease", 30 },
		{ "4.1.1/lease-short.lock", MARKER_LEASE, 9080, "vm", TOKEN_4_1, "lease", 1 },
		{ "4.1.1/lease-in-pid-namespace.lock", MARKER_LEASE, 1, IN_NAMESPACE,
		  TOKEN_IN_NAMESPACE, "lease", 30 },
		{ "4.1.1/exclusive.lock", MARKER_EXCLUSIVE, 9080, "vm", TOKEN_4_1, "exclusive", 0 },
		{ "4.1.1/strict.lock", MARKER_STRICT, 0, "", "", "", 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char bytes[2 * MARKER_SIZE], again[MARKER_SIZE];
		size_t size = read_fixture(cases[i].name, bytes, sizeof(bytes));
		struct marker marker;

		soft_record_parse(bytes, size, &marker);
		ck_assert_msg(marker.type == cases[i].type, "%s: %d", cases[i].name, marker.type);
		ck_assert_int_eq(marker.pid, cases[i].pid);
		ck_assert_str_eq(marker.token, cases[i].token);
		ck_assert_str_eq(marker.host, cases[i].host);
		ck_assert_str_eq(marker.mode, cases[i].mode);
		ck_assert(marker.duration >= cases[i].duration);
		ck_assert(marker.duration <= cases[i].duration);
		if (marker.type != MARKER_RECORD)
			continue;
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

START_TEST(test_numbers_are_compared_without_their_zeros)
{
	struct marker marker;

	soft_record_parse("0012\r\nhost\r\n00034\r\n", 19, &marker);
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, 12);
	ck_assert_str_eq(marker.host, "host");
	ck_assert_str_eq(marker.token, "34");
	soft_record_parse("1\nh\n000\n", 8, &marker);
	ck_assert_str_eq(marker.token, "0");
}
END_TEST

START_TEST(test_numbers_are_ascii_digits_alone)
{
	ck_assert_int_eq(TYPE_OF("12 \nhost\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("+12\nhost\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1_2\nhost\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("\xd9\xa1\nhost\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("12\nhost\n 34\n"), MARKER_FOREIGN);
}
END_TEST

START_TEST(test_nothing_is_empty_and_not_foreign)
{
	ck_assert_int_eq(type_of("", 0), MARKER_EMPTY);
	ck_assert_int_eq(TYPE_OF("\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("\0"), MARKER_FOREIGN);
}
END_TEST

START_TEST(test_newer_protocols_are_known_by_their_first_line)
{
	ck_assert_int_eq(TYPE_OF("filelock/2\n"), MARKER_NEWER);
	ck_assert_int_eq(TYPE_OF("filelock/2"), MARKER_NEWER);
	ck_assert_int_eq(TYPE_OF("filelock/99\npid=x\xff\n"), MARKER_NEWER);
	ck_assert_int_eq(TYPE_OF("filelock/\n1\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("filelock/x\n1\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\nfilelock/2\n"), MARKER_RECORD);
}
END_TEST

#define EXCLUSIVE "filelock/2\npid=7\nhost=h\nmode=exclusive\n"
#define LEASE "filelock/2\npid=7\nhost=h\nmode=lease\ntoken=t\n"

START_TEST(test_protocol_2_says_its_mode)
{
	static const char another[] = "filelock/2\npid=7\nhost=h\nmode=new\n";
	struct marker marker;

	ck_assert_int_eq(TYPE_OF(EXCLUSIVE), MARKER_EXCLUSIVE);
	ck_assert_int_eq(TYPE_OF(EXCLUSIVE "colour=blue\nstart=12\n"), MARKER_EXCLUSIVE);
	ck_assert_int_eq(TYPE_OF(LEASE "duration=30.0\n"), MARKER_LEASE);
	soft_record_parse(another, strlen(another), &marker);
	ck_assert_int_eq(marker.type, MARKER_NEWER);
	ck_assert_int_eq(marker.pid, 7); /* its owner is named */
	ck_assert_str_eq(marker.host, "h");
	ck_assert_str_eq(marker.mode, "new");
}
END_TEST

/* Held, then, and nobody's: also what is cut short, since who writes leases does not write at once. */
START_TEST(test_protocol_2_that_makes_no_sense_has_no_owner)
{
	static const char *const texts[] = {
		"filelock/2\npid=7\nhost=h\nmode=exclusive",
		"filelock/2\npid=7\nhost=h\n",
		"filelock/2\npid=7\nmode=exclusive\n",
		"filelock/2\nhost=h\nmode=exclusive\n",
		"filelock/2\npid=0\nhost=h\nmode=exclusive\n",
		"filelock/2\npid= 7\nhost=h\nmode=exclusive\n",
		EXCLUSIVE "word\n",
		EXCLUSIVE "start=x\n",
		EXCLUSIVE "duration=inf\n",
		LEASE,
		"filelock/2\npid=7\nhost=h\nmode=lease\nduration=1\n",
		"filelock/2\npid=7\nhost=\xff\nmode=exclusive\n",
	};
	struct marker marker;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		soft_record_parse(texts[i], strlen(texts[i]), &marker);
		ck_assert_msg(marker.type == MARKER_NEWER, "%s", texts[i]);
		ck_assert_int_eq(marker.pid, 0);
		ck_assert_str_eq(marker.host, "");
	}
}
END_TEST

START_TEST(test_durations_are_compared_as_numbers)
{
	static const struct {
		const char *text;
		double value; /* 0: it is none */
	} cases[] = {
		{ "30", 30 },      { "30.0", 30 },    { "0.5", 0.5 },  { "1e-05", 1e-05 },
		{ "1.5e+3", 1500 }, { "1e+300", 1e300 }, { "1e+400", 0 }, { "0", 0 },
		{ "0.0", 0 },      { "-1", 0 },       { "1.", 0 },     { ".5", 0 },
		{ "1e5", 0 },      { "1E+5", 0 },     { "0x10", 0 },   { "", 0 },
		{ "nan", 0 },      { "1 ", 0 },
	};
	char bytes[256];
	struct marker marker;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		(void)snprintf(bytes, sizeof(bytes), LEASE "duration=%s\nstart=1\n", cases[i].text);
		soft_record_parse(bytes, strlen(bytes), &marker);
		ck_assert_msg(marker.type == (cases[i].value > 0 ? MARKER_LEASE : MARKER_NEWER),
		              "%s", cases[i].text);
		ck_assert_msg(marker.duration >= cases[i].value &&
		                      marker.duration <= cases[i].value,
		              "%s", cases[i].text);
	}
}
END_TEST

START_TEST(test_strict_sentinel_is_known_by_every_byte)
{
	ck_assert_int_eq(TYPE_OF("1\nfilelock-strict-v1\0\n0\n"), MARKER_STRICT);
	ck_assert_int_eq(TYPE_OF("1\nfilelock-strict-v1\n0\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\nfilelock-strict-v1\0\n0\n\n"), MARKER_RECORD);
}
END_TEST

START_TEST(test_pids_out_of_range_are_none)
{
	ck_assert_int_eq(TYPE_OF("0\nh\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("-1\nh\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("2147483648\nh\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("18446744073709551617\nh\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("2147483647\nh\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\nh\n"), MARKER_RECORD);
}
END_TEST

START_TEST(test_every_beginning_of_a_record_is_torn_but_for_two_whole_lines)
{
	static const char record[] = "1234\nhost\n5678901\n";
	const size_t two_lines = strlen("1234\nhost\n");
	struct marker marker;

	for (size_t size = 1; size < strlen(record); size++) {
		soft_record_parse(record, size, &marker);
		ck_assert_int_eq(marker.type, size == two_lines ? MARKER_RECORD : MARKER_TORN);
		ck_assert(size < 4 || marker.pid == 1234);
	}
	ck_assert_int_eq(TYPE_OF("1\nh\xe2\x82"), MARKER_TORN);
}
END_TEST

/* Of git, dotlockfile, lockfile-create, procmail, QLockFile, and of nobody in particular. */
START_TEST(test_other_content_is_foreign)
{
	ck_assert_int_eq(TYPE_OF("DIRC\0\0\0\2\0\0\0\1"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("0\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("0"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("12\nprogram\nhost\nid\nboot\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("x\nh\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\nh\nx\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\nh\nx"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\nh\n-5\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\nh\n1\n1\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\n\n\nh\n1\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\nh\tt"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("01"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("12345678901"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1 2"), MARKER_FOREIGN);
}
END_TEST

START_TEST(test_too_much_is_foreign)
{
	char bytes[MARKER_SIZE + 1];

	memset(bytes, '\n', sizeof(bytes));
	memcpy(bytes, "1\nh", 3);
	ck_assert_int_eq(type_of(bytes, MARKER_SIZE), MARKER_RECORD);
	ck_assert_int_eq(type_of(bytes, MARKER_SIZE + 1), MARKER_FOREIGN);
	memset(bytes, 'h', sizeof(bytes));
	memcpy(bytes, "1\n", 2);
	ck_assert_int_eq(type_of(bytes, 2 + HOST_SIZE), MARKER_TORN);
	ck_assert_int_eq(type_of(bytes, 2 + HOST_SIZE + 1), MARKER_FOREIGN);
}
END_TEST

/* One that is not may be a living holder's, of a release that wrote the name as it came. */
START_TEST(test_hosts_are_utf8)
{
	ck_assert_int_eq(TYPE_OF("1\n\xc3\xa4\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\n\xe2\x82\xac\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\n\xf0\x9f\x94\x92\n"), MARKER_RECORD);
	ck_assert_int_eq(TYPE_OF("1\n\xff\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\n\x80\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\n\xc0\xaf\n"), MARKER_FOREIGN);     /* overlong */
	ck_assert_int_eq(TYPE_OF("1\n\xe0\x80\xaf\n"), MARKER_FOREIGN); /* overlong */
	ck_assert_int_eq(TYPE_OF("1\n\xed\xa0\x80\n"), MARKER_FOREIGN); /* a surrogate */
	ck_assert_int_eq(TYPE_OF("1\n\xf4\x90\x80\x80\n"), MARKER_FOREIGN);
	ck_assert_int_eq(TYPE_OF("1\n\xf5\x80\x80\x80\n"), MARKER_FOREIGN);
}
END_TEST

START_TEST(test_token_tells_its_boot)
{
	static const char *const ids[] = { "fd752bd6fac343809d58e6e8fdd20ad7",
		                           "00000000000000000000000000000000",
		                           "00000000000000000000000000000005" };
	unsigned char boot_id[16], next[16];
	char token[TOKEN_SIZE];

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		ck_assert(soft_record_parse_boot_id(ids[i], boot_id));
		memcpy(next, boot_id, sizeof(next));
		next[15]++;
		soft_record_token(boot_id, 0, token);
		ck_assert(soft_record_is_token_of(token, boot_id));
		ck_assert(!soft_record_is_token_of(token, next));
		soft_record_token(boot_id, UINT64_MAX, token);
		ck_assert(soft_record_is_token_of(token, boot_id));
		ck_assert(!soft_record_is_token_of(token, next));
		soft_record_token(next, 0, token);
		ck_assert(!soft_record_is_token_of(token, boot_id));
	}
	ck_assert(!soft_record_is_token_of("", boot_id));
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
	static const char alphabet[] = "019\n\r filelock/2\0\xc3\xa4\xff-=";
	unsigned seed = 1;

	for (unsigned round = 0; round < test_rounds(20000); round++) {
		size_t size = (size_t)rand_r(&seed) % 48;
		char *bytes = malloc(size ? size : 1);
		struct marker marker;

		for (size_t i = 0; i < size; i++)
			bytes[i] = alphabet[(size_t)rand_r(&seed) % sizeof(alphabet)];
		soft_record_parse(bytes, size, &marker);
		ck_assert_int_ge(marker.type, MARKER_RECORD);
		ck_assert_int_le(marker.type, MARKER_FOREIGN);
		ck_assert(marker.type != MARKER_RECORD || marker.pid > 0);
		free(bytes);
	}
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "marker",
	        test_token_is_exact_to_192_bits,
	        test_text_that_is_no_boot_id_is_refused,
	        test_record_is_pythons_byte_for_byte,
	        test_record_that_would_be_too_long_is_none,
	        test_markers_of_the_releases_are_understood,
	        test_padding_is_no_part_of_the_record,
	        test_numbers_are_compared_without_their_zeros,
	        test_numbers_are_ascii_digits_alone,
	        test_nothing_is_empty_and_not_foreign,
	        test_newer_protocols_are_known_by_their_first_line,
	        test_protocol_2_says_its_mode,
	        test_protocol_2_that_makes_no_sense_has_no_owner,
	        test_durations_are_compared_as_numbers,
	        test_strict_sentinel_is_known_by_every_byte,
	        test_pids_out_of_range_are_none,
	        test_every_beginning_of_a_record_is_torn_but_for_two_whole_lines,
	        test_other_content_is_foreign,
	        test_too_much_is_foreign,
	        test_hosts_are_utf8,
	        test_token_tells_its_boot,
	        test_host_with_a_zero_is_nobodys,
	        test_any_bytes_are_something));
}
