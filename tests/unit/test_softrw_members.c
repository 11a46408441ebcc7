/* Whether the members of a soft read/write lock live: by silence, and by flock(2) on our own records. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "kinds/softrw_members.h"
#include "support.h"

#define A "00112233445566778899aabbccddeeff"

static const struct softrw_token token = { { 0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88,
	                                     0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff } };
static struct softrw_ledger ledger;
static struct softrw_look here;

static void set_up(bool is_local)
{
	here = (struct softrw_look){ .folder = open(test_folder(), O_RDONLY | O_CLOEXEC),
		                     .is_local = is_local,
		                     .now = 1000 * SECONDS,
		                     .threshold = 90 * SECONDS };
	ck_assert_int_ge(here.folder, 0);
}

static void tear_down(void)
{
	softrw_ledger_free(&ledger);
	close(here.folder);
}

static int is_dead_after(int64_t seconds)
{
	here.now += seconds * SECONDS;
	return softrw_member_is_dead(&ledger, &here, &token);
}

static void write_foreign(const char *lease, char nonce)
{
	char text[256];

	(void)snprintf(text, sizeof(text),
	               "filelock-rw/1\ntoken=" A "\npid=1\nhost=h\nlease=%s\nnonce=%032d\n", lease,
	               nonce);
	test_write_file(test_path(A), text);
}

/* A record of this library's, which is open for writing. */
static int write_ours(void)
{
	int fd = open(test_path(A), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct softrw_token nonce;
	char text[SOFTRW_HOLDER_SIZE];
	size_t size;

	ck_assert_int_ge(fd, 0);
	softrw_nonce(&token, (const unsigned char *)"12345678", &nonce);
	size = softrw_holder_format(text, &token, 1, "h", 90000, &nonce);
	ck_assert_int_eq(pwrite(fd, text, size, 0), (ssize_t)size);
	return fd;
}

/* shows: rw-dead */
START_TEST(test_member_that_is_silent_for_the_threshold_is_dead)
{
	set_up(true);
	write_foreign("1.0", 1);
	ck_assert_int_eq(is_dead_after(0), 0);
	ck_assert_int_eq(is_dead_after(89), 0);
	write_foreign("1.0", 2);
	ck_assert_int_eq(is_dead_after(2), 0);
	ck_assert_int_eq(is_dead_after(89), 0);
	ck_assert_int_eq(is_dead_after(1), 1);
	tear_down();
}
END_TEST

START_TEST(test_longer_lease_of_the_record_counts)
{
	set_up(true);
	write_foreign("200.0", 1);
	ck_assert_int_eq(is_dead_after(0), 0);
	ck_assert_int_eq(is_dead_after(199), 0);
	ck_assert_int_eq(is_dead_after(1), 1);
	tear_down();
}
END_TEST

START_TEST(test_lease_without_an_end_is_never_over)
{
	set_up(true);
	write_foreign("1e+308", 1);
	ck_assert_int_eq(is_dead_after(0), 0);
	ck_assert_int_eq(is_dead_after(900000000), 0);
	tear_down();
}
END_TEST

START_TEST(test_missing_record_is_silence_too)
{
	set_up(true);
	ck_assert_int_eq(is_dead_after(0), 0);
	ck_assert_int_eq(is_dead_after(89), 0);
	write_foreign("1.0", 1); /* made again */
	ck_assert_int_eq(is_dead_after(5), 0);
	ck_assert_int_eq(unlink(test_path(A)), 0);
	ck_assert_int_eq(is_dead_after(5), 0);
	ck_assert_int_eq(is_dead_after(90), 1);
	tear_down();
}
END_TEST

/* shows: rw-dead */
START_TEST(test_unlocked_record_of_ours_is_a_dead_members)
{
	int fd;

	set_up(true);
	fd = write_ours();
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	ck_assert_int_eq(is_dead_after(0), 0);
	ck_assert_int_eq(is_dead_after(1000000), 0); /* stopped, and alive */
	close(fd);
	ck_assert_int_eq(is_dead_after(0), 1);
	tear_down();
}
END_TEST

/* A look must not be what keeps a member from locking its record again, nor from being seen dead. */
START_TEST(test_look_leaves_no_flock_behind)
{
	int fd;

	set_up(true);
	fd = write_ours();
	ck_assert_int_eq(is_dead_after(0), 1);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
	tear_down();
}
END_TEST

START_TEST(test_flock_says_nothing_on_a_file_system_of_others)
{
	set_up(false);
	close(write_ours());
	ck_assert_int_eq(is_dead_after(0), 0);
	ck_assert_int_eq(is_dead_after(89), 0);
	ck_assert_int_eq(is_dead_after(1), 1);
	tear_down();
}
END_TEST

START_TEST(test_unlocked_record_of_pythons_is_not_dead)
{
	set_up(true);
	write_foreign("1.0", 1);
	ck_assert_int_eq(is_dead_after(0), 0);
	tear_down();
}
END_TEST

START_TEST(test_any_bytes_count_as_a_record)
{
	static const char *const contents[] = { "", "lease=\n", "\n\n\n", "lease=1e999\n" };

	set_up(true);
	for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
		test_write_file(test_path(A), contents[i]);
		ck_assert_int_eq(is_dead_after(0), 0);
		ck_assert_int_eq(is_dead_after(90), 1);
		softrw_ledger_forget(&ledger, &token, false);
	}
	tear_down();
}
END_TEST

START_TEST(test_refused_look_is_an_error)
{
	set_up(true);
	write_foreign("1.0", 1);
	fault_set(FAULT_openat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(is_dead_after(0), -EIO);
	fault_set(FAULT_calloc, 1, FAULT_ONCE, ENOMEM);
	ck_assert_int_eq(is_dead_after(0), -ENOMEM);
	fault_clear();
	tear_down();
}
END_TEST

START_TEST(test_commit_left_over_ages_likewise)
{
	const char *name = ".commit-" A;

	set_up(true);
	test_write_file(test_path(name), "half");
	ck_assert_int_eq(softrw_private_is_dead(&ledger, &here, &token, name), 0);
	here.now += 89 * SECONDS;
	ck_assert_int_eq(softrw_private_is_dead(&ledger, &here, &token, name), 0);
	here.now += SECONDS;
	ck_assert_int_eq(softrw_private_is_dead(&ledger, &here, &token, name), 1);
	tear_down();
}
END_TEST

START_TEST(test_sweep_forgets_who_has_left)
{
	struct softrw_snapshot latest = { .has_writer = true, .writer = { { 1 } } };
	struct softrw_token gone = { { 2 } };

	set_up(true);
	ck_assert_int_eq(softrw_ledger_observe(&ledger, &latest.writer, false, "x", 1, 0), 0);
	ck_assert_int_eq(softrw_ledger_observe(&ledger, &gone, false, "x", 1, 0), 0);
	softrw_ledger_begin_sweep(&ledger);
	ck_assert_int_eq(softrw_ledger_observe(&ledger, &token, false, "x", 1, 5), 0);
	softrw_ledger_end_sweep(&ledger, &latest);
	ck_assert_uint_eq(ledger.count, 2);
	ck_assert_int_eq(softrw_ledger_observe(&ledger, &latest.writer, false, "x", 1, 9), 9);
	ck_assert_int_eq(softrw_ledger_observe(&ledger, &token, false, "x", 1, 9), 4);
	ck_assert_int_eq(softrw_ledger_observe(&ledger, &gone, false, "x", 1, 9), 0);
	tear_down();
}
END_TEST

int main(void)
{
	return support_main(
	        SUITE("softrw_members", test_member_that_is_silent_for_the_threshold_is_dead,
	              test_longer_lease_of_the_record_counts, test_lease_without_an_end_is_never_over,
	              test_missing_record_is_silence_too,
	              test_unlocked_record_of_ours_is_a_dead_members,
	              test_look_leaves_no_flock_behind,
	              test_flock_says_nothing_on_a_file_system_of_others,
	              test_unlocked_record_of_pythons_is_not_dead, test_any_bytes_count_as_a_record,
	              test_refused_look_is_an_error, test_commit_left_over_ages_likewise,
	              test_sweep_forgets_who_has_left));
}
