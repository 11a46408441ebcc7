/* SHA-256, by the vectors of NIST's examples for FIPS 180-4 and its long test of a million letters. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "support.h"

static void check_digest(const void *bytes, size_t size, const char *expected)
{
	uint8_t digest[32];
	char hex[65];

	sha256(bytes, size, digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	ck_assert_str_eq(hex, expected);
}

static void check_text(const char *text, const char *expected)
{
	check_digest(text, strlen(text), expected);
}

START_TEST(test_vectors_of_the_standard)
{
	check_text("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
	check_text("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	check_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
	           "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
	check_text("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
	           "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
	           "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
}
END_TEST

START_TEST(test_long_message)
{
	size_t size = 1000000;
	char *bytes = malloc(size);

	ck_assert_ptr_nonnull(bytes);
	memset(bytes, 'a', size);
	check_digest(bytes, size, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
	free(bytes);
}
END_TEST

/* Where the length needs a block of its own, and where it does not any more. */
START_TEST(test_lengths_around_a_block)
{
	char bytes[120];

	memset(bytes, 0, sizeof(bytes));
	check_digest(bytes, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
	check_digest(bytes, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
	check_digest(bytes, 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785");
	check_digest(bytes, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}
END_TEST

int main(void)
{
	return support_main(SUITE("sha256", test_vectors_of_the_standard, test_long_message,
	                          test_lengths_around_a_block));
}
