/* The records of a soft read/write lock: what is written, and what any bytes are taken for. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "kinds/softrw_record.h"
#include "support.h"

#define LOG "filelock-rw/1\n"
#define A "00112233445566778899aabbccddeeff"
#define B "11112233445566778899aabbccddeeff"
#define C "22112233445566778899aabbccddeeff"

static struct softrw_token token_of(const char *text)
{
	struct softrw_token token;

	ck_assert(softrw_token_parse(text, strlen(text), &token));
	return token;
}

static int parse(const char *text)
{
	struct softrw_snapshot snapshot;
	int r = softrw_snapshot_parse(text, strlen(text), &snapshot);

	softrw_snapshot_clear(&snapshot);
	return r;
}

START_TEST(test_token_is_32_lower_case_digits)
{
	static const char *const wrong[] = { "", "0", A "0", "00112233445566778899aabbccddeefF",
		                             "0011223344556677_899aabbccddeeff",
		                             "g0112233445566778899aabbccddeeff" };
	struct softrw_token token = token_of(A);
	char text[SOFTRW_HEX_SIZE];

	softrw_token_format(&token, text);
	ck_assert_str_eq(text, A);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert(!softrw_token_parse(wrong[i], strlen(wrong[i]), &token));
}
END_TEST

START_TEST(test_name_of_a_generation_is_20_digits)
{
	static const char *const wrong[] = { "", "1", "0000000000000000000a", "HEAD", "epoch",
		                             "99999999999999999999", "000000000000000000001" };
	uint64_t generation;
	char name[SOFTRW_NAME_SIZE];

	softrw_name_format(UINT64_MAX, name);
	ck_assert_str_eq(name, "18446744073709551615");
	softrw_name_format(42, name);
	ck_assert_str_eq(name, "00000000000000000042");
	ck_assert(softrw_name_parse(name, &generation));
	ck_assert_uint_eq(generation, 42);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert(!softrw_name_parse(wrong[i], &generation));
}
END_TEST

START_TEST(test_snapshot_is_pythons_byte_for_byte)
{
	const struct softrw_token a = token_of(A), b = token_of(B), c = token_of(C);
	const char *expected = LOG "generation=7\nwriter=" B "\nreader=" A "\nreader=" C "\n";
	struct softrw_snapshot snapshot = { .generation = 7, .has_writer = true, .writer = b };
	size_t size;
	char *bytes;

	ck_assert_int_eq(softrw_snapshot_add_reader(&snapshot, &c), 0);
	ck_assert_int_eq(softrw_snapshot_add_reader(&snapshot, &a), 0);
	ck_assert_int_eq(softrw_snapshot_add_reader(&snapshot, &c), 0);
	ck_assert_int_eq(softrw_snapshot_format(&snapshot, &bytes, &size), 0);
	ck_assert_uint_eq(size, strlen(expected));
	ck_assert_mem_eq(bytes, expected, size);
	free(bytes);
	softrw_snapshot_clear(&snapshot);
}
END_TEST

START_TEST(test_malformed_snapshot_is_refused)
{
	static const char *const wrong[] = {
		"",
		LOG,
		"filelock-rw/2\ngeneration=1\n",
		LOG "generation=1",
		LOG "generation=01\n",
		LOG "generation=\n",
		LOG "generation=-1\n",
		LOG "generation=18446744073709551616\n",
		LOG "generation=1\ngeneration=1\n",
		LOG "generation=1\n\n",
		LOG "generation=1\nwriter=\n",
		LOG "generation=1\nwriter=" A "\nwriter=" B "\n",
		LOG "generation=1\nreader=" A "\nreader=" A "\n",
		LOG "generation=1\nreader=" A "x\n",
		LOG "generation=1\nfuture=" A "\n",
		LOG "reader=" A "\n",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ck_assert_msg(parse(wrong[i]) == -EBADMSG, "%zu", i);
	ck_assert_int_eq(parse(LOG "generation=0\n"), 0);
	/* in any order, as Python reads them */
	ck_assert_int_eq(parse(LOG "reader=" B "\nreader=" A "\ngeneration=3\n"), 0);
}
END_TEST

START_TEST(test_snapshot_with_a_zero_byte_is_refused)
{
	static const char bytes[] = LOG "generation=1\0\n";
	struct softrw_snapshot snapshot;

	ck_assert_int_eq(softrw_snapshot_parse(bytes, sizeof(bytes) - 1, &snapshot), -EBADMSG);
	softrw_snapshot_clear(&snapshot);
}
END_TEST

START_TEST(test_more_readers_than_a_record_holds_are_refused)
{
	struct softrw_snapshot snapshot = { .generation = 1 };
	size_t size;
	char *bytes;

	for (uint32_t i = 0; i < SOFTRW_RECORD_SIZE / 40; i++) {
		struct softrw_token token = { { (unsigned char)(i >> 24), (unsigned char)(i >> 16),
			                        (unsigned char)(i >> 8), (unsigned char)i } };

		ck_assert_int_eq(softrw_snapshot_add_reader(&snapshot, &token), 0);
	}
	ck_assert_int_eq(softrw_snapshot_format(&snapshot, &bytes, &size), -EUSERS);
	snapshot.readers -= 8;
	ck_assert_int_eq(softrw_snapshot_format(&snapshot, &bytes, &size), 0);
	ck_assert_uint_le(size, SOFTRW_RECORD_SIZE);
	free(bytes);
	softrw_snapshot_clear(&snapshot);
}
END_TEST

START_TEST(test_removing_takes_a_member_out_in_both_roles)
{
	const struct softrw_token a = token_of(A), b = token_of(B);
	struct softrw_snapshot snapshot = { .has_writer = true, .writer = a };

	ck_assert_int_eq(softrw_snapshot_add_reader(&snapshot, &a), 0);
	ck_assert_int_eq(softrw_snapshot_add_reader(&snapshot, &b), 0);
	softrw_snapshot_remove(&snapshot, &a);
	ck_assert(!softrw_snapshot_names(&snapshot, &a));
	ck_assert(softrw_snapshot_names(&snapshot, &b));
	ck_assert(!snapshot.has_writer);
	softrw_snapshot_clear(&snapshot);
}
END_TEST

/* --- holders --- */

START_TEST(test_holder_is_pythons_byte_for_byte)
{
	const struct softrw_token a = token_of(A), b = token_of(B);
	static const struct {
		unsigned ms;
		const char *text;
	} leases[] = { { 90000, "90.0" },   { 1, "0.001" },     { 1500, "1.5" },
		       { 250, "0.25" },     { 100, "0.1" },     { 3600000, "3600.0" },
		       { 12345, "12.345" }, { 4294967295u, "4294967.295" } };
	char bytes[SOFTRW_HOLDER_SIZE], expected[SOFTRW_HOLDER_SIZE];

	for (size_t i = 0; i < sizeof(leases) / sizeof(leases[0]); i++) {
		size_t size = softrw_holder_format(bytes, &a, 42, "vm", leases[i].ms, &b);

		(void)snprintf(expected, sizeof(expected),
		               LOG "token=" A "\npid=42\nhost=vm\nlease=%s\nnonce=" B "\n",
		               leases[i].text);
		ck_assert_uint_eq(size, strlen(expected));
		ck_assert_mem_eq(bytes, expected, size);
	}
}
END_TEST

START_TEST(test_nonce_of_ours_is_known_by_its_token)
{
	const struct softrw_token a = token_of(A), b = token_of(B);
	struct softrw_holder holder;
	struct softrw_token nonce;
	char bytes[SOFTRW_HOLDER_SIZE];
	size_t size;

	softrw_nonce(&a, (const unsigned char *)"12345678", &nonce);
	size = softrw_holder_format(bytes, &a, 42, "vm", 90000, &nonce);
	softrw_holder_parse(bytes, size, &a, &holder);
	ck_assert(holder.is_ours);
	softrw_holder_parse(bytes, size, &b, &holder);
	ck_assert(!holder.is_ours);
	/* half of an older write */
	bytes[size - 3] ^= 1;
	softrw_holder_parse(bytes, size, &a, &holder);
	ck_assert(!holder.is_ours);
}
END_TEST

START_TEST(test_lease_that_is_no_float_of_pythons_counts_as_none)
{
	static const char *const wrong[] = { "", "0.0", "-1.0", "nan", "inf", "1_000", " 1", "1e999" };
	const struct softrw_token a = token_of(A);
	struct softrw_holder holder;
	char bytes[SOFTRW_HOLDER_SIZE];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int n = snprintf(bytes, sizeof(bytes), LOG "lease=%s\n", wrong[i]);

		softrw_holder_parse(bytes, (size_t)n, &a, &holder);
		ck_assert_msg(holder.lease <= 0, "%s", wrong[i]);
	}
	softrw_holder_parse(LOG "lease=1e-05\n", strlen(LOG "lease=1e-05\n"), &a, &holder);
	ck_assert(holder.lease > 0 && holder.lease < 0.0001);
}
END_TEST

/* --- files of Python's --- */

static size_t read_fixture(const char *name, char *bytes, size_t size)
{
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char path[4096];
	FILE *file;
	size_t n;

	(void)snprintf(path, sizeof(path), "%s/tests/fixtures/python-filelock-4.1.1/%s",
	               top ? top : ".", name);
	file = fopen(path, "re");
	ck_assert_msg(file != NULL, "%s", path);
	n = fread(bytes, 1, size, file);
	fclose(file);
	return n;
}

START_TEST(test_snapshots_of_python_are_written_back_equal)
{
	static const struct {
		const char *name;
		uint64_t generation;
		bool has_writer;
		size_t readers;
	} cases[] = {
		{ "softrw.lock.rw/gen/00000000000000000001", 1, false, 1 },
		{ "softrw.lock.rw/gen/00000000000000000002", 2, false, 2 },
		{ "softrw-w.lock.rw/gen/00000000000000000001", 1, true, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char bytes[1024], *again;
		size_t size = read_fixture(cases[i].name, bytes, sizeof(bytes)), length;
		struct softrw_snapshot snapshot;

		ck_assert_int_eq(softrw_snapshot_parse(bytes, size, &snapshot), 0);
		ck_assert_uint_eq(snapshot.generation, cases[i].generation);
		ck_assert(snapshot.has_writer == cases[i].has_writer);
		ck_assert_uint_eq(snapshot.readers, cases[i].readers);
		ck_assert_int_eq(softrw_snapshot_format(&snapshot, &again, &length), 0);
		ck_assert_uint_eq(length, size);
		ck_assert_mem_eq(again, bytes, size);
		free(again);
		softrw_snapshot_clear(&snapshot);
	}
}
END_TEST

START_TEST(test_holders_of_python_are_written_back_equal)
{
	static const struct {
		const char *folder, *token, *nonce;
	} cases[] = {
		{ "softrw.lock.rw", "79b54c60fdbb4bcfab7f5b99ac14460e",
		  "ec2f50c555ed02ec2b73d8ec5c01eb27" },
		{ "softrw.lock.rw", "95d213302f39e0b32637d4885146c771",
		  "a587a03b216be674677fb69fcefe5368" },
		{ "softrw-w.lock.rw", "d50d4c06a6ec1e090bdf54fb8ff46f3a",
		  "3a917c3b470dcb333e8f459f6031fa54" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct softrw_token token = token_of(cases[i].token);
		const struct softrw_token nonce = token_of(cases[i].nonce);
		char name[256], bytes[1024], again[SOFTRW_HOLDER_SIZE];
		struct softrw_holder holder;
		size_t size;

		(void)snprintf(name, sizeof(name), "%s/holders/%s", cases[i].folder, cases[i].token);
		size = read_fixture(name, bytes, sizeof(bytes));
		softrw_holder_parse(bytes, size, &token, &holder);
		ck_assert_int_eq(holder.pid, 9080);
		ck_assert_str_eq(holder.host, "vm");
		ck_assert(holder.lease >= 90 && holder.lease <= 90);
		ck_assert(!holder.is_ours);
		ck_assert_uint_eq(softrw_holder_format(again, &token, holder.pid, holder.host,
		                                       (unsigned)(holder.lease * 1000), &nonce),
		                  size);
		ck_assert_mem_eq(again, bytes, size);
	}
}
END_TEST

int main(void)
{
	return support_main(SUITE("softrw_record", test_token_is_32_lower_case_digits,
	                          test_name_of_a_generation_is_20_digits,
	                          test_snapshot_is_pythons_byte_for_byte,
	                          test_malformed_snapshot_is_refused,
	                          test_snapshot_with_a_zero_byte_is_refused,
	                          test_more_readers_than_a_record_holds_are_refused,
	                          test_removing_takes_a_member_out_in_both_roles,
	                          test_holder_is_pythons_byte_for_byte,
	                          test_nonce_of_ours_is_known_by_its_token,
	                          test_lease_that_is_no_float_of_pythons_counts_as_none,
	                          test_snapshots_of_python_are_written_back_equal,
	                          test_holders_of_python_are_written_back_equal));
}
