/* Strict locks: names and records of claims, the doorway, and what fails closed. */
#include <dirent.h>
#include <signal.h>

#include "handle.h"
#include "base/magic.h"
#include "kinds/strict_record.h"
#include "softly.h"
#include "base/sys.h"

#define TOKEN_A "00000000000000000000000000000001"
#define TOKEN_Z "ffffffffffffffffffffffffffffffff"

static struct filelock *open_strict(void)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_STRICT, NULL, &lock), 0);
	return lock;
}

static int try(struct filelock *lock)
{
	return filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
}

static const char *claim_path(const char *name)
{
	static char path[4096];

	(void)snprintf(path, sizeof(path), "%s.filelock/claims/%s", test_path("lock"), name);
	return path;
}

static unsigned count_claims(void)
{
	DIR *folder = opendir(claim_path(""));
	unsigned count = 0;

	ck_assert_ptr_nonnull(folder);
	for (const struct dirent *entry; (entry = readdir(folder));)
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(folder);
	return count;
}

/* The folders and the sentinel, as after a hold. */
static void make_folders(void)
{
	struct filelock *lock = open_strict();

	ck_assert_int_eq(try(lock), 0);
	filelock_close(lock);
	ck_assert_uint_eq(count_claims(), 0);
}

static void put_claim(const char *state, const char *token, pid_t pid)
{
	struct marker owner = { .pid = pid };
	char bytes[MARKER_SIZE], name[64];
	size_t size;

	strcpy(owner.host, own_host());
	size = strict_record_format(bytes, token, &owner);
	(void)snprintf(name, sizeof(name), "%s-v1-%s.claim", state, token);
	put_bytes(claim_path(name), bytes, size);
}

/* --- names and records --- */

START_TEST(test_fixtures_are_written_back_equal)
{
	static const char *const names[] = {
		"3.32.3/strict.lock.filelock/claims/held-v1-e33f075bb14f26872365ee50d0068ac6.claim",
		"3.32.3/strict.lock.filelock/claims/intent-v1-e33f075bb14f26872365ee50d0068ac6.claim",
		"4.1.1/strict.lock.filelock/claims/held-v1-6a29b42e350a686280f957402a32a464.claim",
		"4.1.1/strict.lock.filelock/claims/intent-v1-6a29b42e350a686280f957402a32a464.claim",
	};
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char path[4096], bytes[2 * MARKER_SIZE], again[MARKER_SIZE], name[STRICT_NAME];
	struct strict_name parsed;
	struct marker owner;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		(void)snprintf(path, sizeof(path), "%s/tests/fixtures/python-filelock-%s",
		               top ? top : ".", names[i]);
		test_read_file(path, bytes, sizeof(bytes));
		ck_assert(strict_record_parse_name(strrchr(path, '/') + 1, &parsed));
		ck_assert(strict_record_parse(bytes, strlen(bytes), parsed.token, &owner));
		ck_assert_str_eq(owner.host, "vm");
		ck_assert_uint_eq(strict_record_format(again, parsed.token, &owner),
		                  strlen(bytes));
		ck_assert_mem_eq(again, bytes, strlen(bytes));
		strict_record_format_name(name, parsed.held, parsed.token);
		ck_assert_str_eq(name, strrchr(path, '/') + 1);
	}
}
END_TEST

#define RECORD(pid, host, start) "filelock-strict-v1\n" TOKEN_A "\n" pid "\n" host "\n" start "\n"

START_TEST(test_only_canonical_records_are_claims)
{
	static const struct {
		const char *bytes;
		bool good;
	} cases[] = {
		{ RECORD("1", "766d", "12"), true },
		{ RECORD("2147483647", "", ""), true },
		{ RECORD("1", "c3a9", "0"), true },
		{ RECORD("0", "766d", "12"), false },
		{ RECORD("01", "766d", "12"), false },
		{ RECORD("2147483648", "766d", "12"), false },
		{ RECORD("+1", "766d", "12"), false },
		{ RECORD("1", "766", "12"), false },
		{ RECORD("1", "766D", "12"), false },
		{ RECORD("1", "7620", "12"), false },  /* a space */
		{ RECORD("1", "c3", "12"), false },    /* no UTF-8 */
		{ RECORD("1", "766d", "012"), false },
		{ RECORD("1", "766d", "-1"), false },
		{ RECORD("1", "766d", "12") "\n", false },
		{ "filelock-strict-v1\n" TOKEN_A "\n1\n766d\n12", false },
		{ "filelock-strict-v2\n" TOKEN_A "\n1\n766d\n12\n", false },
		{ "filelock-strict-v1\n" TOKEN_Z "\n1\n766d\n12\n", false },
		{ "", false },
	};
	struct marker owner;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ck_assert_msg(strict_record_parse(cases[i].bytes, strlen(cases[i].bytes), TOKEN_A,
		                                  &owner) == cases[i].good,
		              "%s", cases[i].bytes);
}
END_TEST

START_TEST(test_private_names_are_known)
{
	char public_name[NAME_MAX + 1];
	char *name;

	ck_assert_int_eq(strict_record_make_private("lock", &name), 0);
	ck_assert(strict_record_parse_private(name, public_name));
	ck_assert_str_eq(public_name, "lock");
	free(name);
	ck_assert(!strict_record_parse_private(".lock.private-v1-" TOKEN_A ".tmpx", public_name));
	ck_assert(!strict_record_parse_private("lock.private-v1-" TOKEN_A ".tmp", public_name));
	ck_assert(!strict_record_parse_private(".private-v1-" TOKEN_A ".tmp", public_name));
	ck_assert(!strict_record_parse_private(".", public_name));
}
END_TEST

/* --- the doorway --- */

START_TEST(test_hold_is_two_claims_beside_a_sentinel)
{
	struct filelock *lock = open_strict();
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	char bytes[64];
	struct stat st;

	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(stat(test_path("lock"), &st), 0);
	ck_assert_int_eq(st.st_size, STRICT_SENTINEL_SIZE);
	test_read_file(test_path("lock"), bytes, sizeof(bytes));
	ck_assert_mem_eq(bytes, STRICT_SENTINEL, STRICT_SENTINEL_SIZE);
	ck_assert_uint_eq(count_claims(), 2);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert(owner.ours);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_claims(), 0);
	ck_assert(exists(test_path("lock")));
	filelock_close(lock);
}
END_TEST

/* Nothing is published beside it, dead or not. */
START_TEST(test_any_claim_keeps_out)
{
	static const char *const states[] = { "intent", "held" };
	struct filelock *lock = open_strict();
	pid_t dead = dead_pid();

	make_folders();
	for (int i = 0; i < 2; i++) {
		char name[64];

		put_claim(states[i], TOKEN_Z, dead);
		fault_watch();
		fault_clear();
		ck_assert_int_eq(try(lock), -ETIMEDOUT);
		ck_assert_uint_eq(fault_calls(FAULT_linkat), 0);
		fault_clear();
		ck_assert_uint_eq(count_claims(), 1);
		(void)snprintf(name, sizeof(name), "%s-v1-%s.claim", states[i], TOKEN_Z);
		ck_assert_int_eq(filelock_break_claim(lock, name), 0);
		ck_assert_int_eq(try(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
}
END_TEST

/* What a peer does just before a call of ours. */
static const char *peer_state, *peer_token;

static void join(void *arg)
{
	(void)arg;
	put_claim(peer_state, peer_token, getppid());
}

/* Before the first link, which publishes our intent, or the second, which makes it held. */
/* shows: strict-doorway */
START_TEST(test_who_meets_another_in_the_doorway_backs_out_or_wins)
{
	static const struct {
		const char *state, *token;
		unsigned nth;
		int result;
	} cases[] = {
		{ "intent", TOKEN_A, 1, -ETIMEDOUT }, /* its name is less */
		{ "intent", TOKEN_Z, 1, 0 },
		{ "held", TOKEN_Z, 1, -ETIMEDOUT }, /* a held one is there */
		{ "intent", TOKEN_A, 2, -ETIMEDOUT },
		{ "intent", TOKEN_Z, 2, 0 },
		{ "held", TOKEN_A, 2, -ETIMEDOUT },
	};
	struct filelock *lock = open_strict();

	make_folders();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char name[64];

		peer_state = cases[i].state;
		peer_token = cases[i].token;
		fault_watch();
		fault_before(FAULT_linkat, cases[i].nth, join, NULL);
		ck_assert_msg(try(lock) == cases[i].result, "case %zu", i);
		ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
		fault_clear();
		ck_assert_uint_eq(count_claims(), cases[i].result == 0 ? 3 : 1);
		if (cases[i].result == 0)
			ck_assert_int_eq(filelock_release(lock), 0);
		(void)snprintf(name, sizeof(name), "%s-v1-%s.claim", peer_state, peer_token);
		ck_assert_int_eq(filelock_break_claim(lock, name), 0);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_attempt_that_fails_leaves_no_claim)
{
	static const struct {
		enum fault_call call;
		unsigned nth;
		int error;
	} cases[] = { { FAULT_linkat, 1, EIO },  { FAULT_linkat, 2, EIO },
		      { FAULT_linkat, 2, ENOSPC }, { FAULT_getdents, 3, EIO },
		      { FAULT_getdents, 5, EIO }, { FAULT_pwrite, 1, ENOSPC } };
	struct filelock *lock = open_strict();

	make_folders();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fault_watch();
		fault_set(cases[i].call, cases[i].nth, FAULT_ONCE, cases[i].error);
		ck_assert_msg(try(lock) == -cases[i].error, "case %zu", i);
		ck_assert_uint_eq(fault_hits(cases[i].call), 1);
		fault_clear();
		ck_assert_uint_eq(count_claims(), 0);
		ck_assert_int_eq(try(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
}
END_TEST

/* A claim that could not be removed is, before the next attempt publishes anything. */
START_TEST(test_claim_that_was_left_in_the_doorway_is_removed_first)
{
	struct filelock *lock = open_strict();

	make_folders();
	peer_state = "intent";
	peer_token = TOKEN_A;
	fault_watch();
	fault_before(FAULT_linkat, 1, join, NULL);
	/* the first removes the private name, the next two the claims */
	fault_set(FAULT_unlinkat, 3, FAULT_FOR_GOOD, EIO);
	ck_assert_int_eq(try(lock), -EIO);
	fault_clear();
	ck_assert_uint_eq(count_claims(), 2);
	ck_assert_int_eq(unlink(claim_path("intent-v1-" TOKEN_A ".claim")), 0);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_uint_eq(count_claims(), 2);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_claims(), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_release_that_fails_can_be_repeated)
{
	struct filelock *lock = open_strict();

	ck_assert_int_eq(try(lock), 0);
	for (unsigned nth = 1; nth <= 2; nth++) {
		fault_watch();
		fault_set(FAULT_unlinkat, nth, FAULT_ONCE, EIO);
		ck_assert_int_eq(filelock_release(lock), -EIO);
		ck_assert(filelock_is_held(lock));
		fault_clear();
	}
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_claims(), 0);
	filelock_close(lock);
}
END_TEST

/* --- failing closed --- */

static void check_refused(struct filelock *lock, const char *named)
{
	ck_assert_int_eq(try(lock), FILELOCK_EPROTOCOL);
	ck_assert_msg(strstr(filelock_last_error(lock), named) != NULL, "%s",
	              filelock_last_error(lock));
}

/* shows: strict-closed */
START_TEST(test_odd_claims_fail_closed_and_are_named)
{
	static const char *const odd[] = { "a-file", "held-v2-" TOKEN_A ".claim",
		                           "intent-v1-" TOKEN_A ".claim",
		                           "held-v1-0.claim" };
	struct filelock *lock = open_strict();

	make_folders();
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		put_bytes(claim_path(odd[i]), "odd", 3);
		check_refused(lock, odd[i]);
		ck_assert_uint_eq(count_claims(), 1);
		ck_assert_int_eq(filelock_break_claim(lock, odd[i]), 0);
	}
	ck_assert_int_eq(symlink("lock", claim_path("held-v1-" TOKEN_A ".claim")), 0);
	check_refused(lock, "held-v1-" TOKEN_A);
	ck_assert_int_eq(filelock_break_claim(lock, "held-v1-" TOKEN_A ".claim"), 0);
	put_bytes(claim_path(".hidden"), "", 0); /* ignored */
	ck_assert_int_eq(try(lock), 0);
	filelock_close(lock);
}
END_TEST

static void fail_open(int error, unsigned nth)
{
	fault_watch();
	fault_set(FAULT_openat, nth, FAULT_FOR_GOOD, error);
}

/* Folders are opened by the first two calls, and listed by the third. */
START_TEST(test_claim_that_cannot_be_read_has_half_a_second)
{
	struct filelock *lock = open_strict();

	make_folders();
	put_claim("held", TOKEN_A, getppid());
	clock_fake(SECONDS);
	fail_open(EACCES, 4);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	fault_clear();
	clock_advance(500 * MILLISECONDS);
	fail_open(EACCES, 4);
	check_refused(lock, "held-v1-" TOKEN_A);
	fault_clear();
	fail_open(EIO, 4);
	check_refused(lock, "held-v1-" TOKEN_A);
	fault_clear();
	ck_assert_int_eq(filelock_break_claim(lock, "held-v1-" TOKEN_A ".claim"), 0);
	ck_assert_int_eq(try(lock), 0);
	filelock_close(lock);
}
END_TEST

static int (*openat_of_the_system)(int folder, const char *name, int flags, mode_t mode);

static int openat_without_the_claim(int folder, const char *name, int flags, mode_t mode)
{
	if (strcmp(name, "held-v1-" TOKEN_A ".claim") != 0)
		return openat_of_the_system(folder, name, flags, mode);
	errno = ESTALE;
	return -1;
}

/* A server has no such claim any more: it is skipped when that lasts. */
START_TEST(test_stale_claim_is_skipped_after_half_a_second)
{
	struct filelock *lock = open_strict();

	make_folders();
	put_claim("held", TOKEN_A, getppid());
	clock_fake(SECONDS);
	openat_of_the_system = sys.openat;
	sys.openat = openat_without_the_claim;
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(500 * MILLISECONDS - 1);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	ck_assert_uint_eq(count_claims(), 1);
	clock_advance(1);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_uint_eq(count_claims(), 3);
	filelock_close(lock);
}
END_TEST

START_TEST(test_what_is_no_folder_is_refused)
{
	struct filelock *lock = open_strict();
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s.filelock", test_path("lock"));
	put_bytes(path, "", 0);
	check_refused(lock, "folder");
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("/tmp", path), 0);
	check_refused(lock, "folder");
	filelock_close(lock);
}
END_TEST

START_TEST(test_occupant_of_the_path_is_waited_for_or_refused)
{
	struct filelock *lock = open_strict();

	clock_fake(SECONDS);
	put_record(test_path("lock"), getppid(), NULL);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(60 * SECONDS);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	put_record(test_path("lock"), dead_pid(), NULL);
	check_refused(lock, "has ended");
	put_bytes(test_path("lock"), "nobody's", 8);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(2 * SECONDS - 1);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(1);
	check_refused(lock, "stands at the path");
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	ck_assert_int_eq(mkdir(test_path("lock"), 0700), 0);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(SECONDS / 2);
	check_refused(lock, "no regular file");
	filelock_close(lock);
}
END_TEST

static void remove_claim(void *name)
{
	ck_assert_int_eq(unlink(claim_path(name)), 0);
}

/* Its folders are opened by the first two calls, and listed by the third. */
START_TEST(test_claim_that_goes_while_it_is_listed_keeps_nobody_out)
{
	static char claim[] = "held-v1-" TOKEN_A ".claim";
	struct filelock *lock = open_strict();

	make_folders();
	put_claim("held", TOKEN_A, getppid());
	fault_watch();
	fault_before(FAULT_openat, 4, remove_claim, claim);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_uint_eq(fault_hits(FAULT_openat), 1);
	fault_clear();
	filelock_close(lock);
}
END_TEST

/* Short of descriptors, it does not say that a claim is odd. */
START_TEST(test_shortage_of_descriptors_is_told_as_it_is)
{
	struct filelock *lock = open_strict();

	make_folders();
	put_claim("held", TOKEN_A, getppid());
	fail_open(EMFILE, 4);
	ck_assert_int_eq(try(lock), -EMFILE);
	fault_clear();
	filelock_close(lock);
}
END_TEST

static void try_beside(void *other)
{
	ck_assert_int_eq(try(other), -ETIMEDOUT);
}

START_TEST(test_one_attempt_of_a_process_is_in_the_doorway)
{
	struct filelock *lock = open_strict(), *other = open_strict();

	make_folders();
	fault_watch();
	fault_before(FAULT_linkat, 1, try_beside, other);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
	fault_clear();
	ck_assert_uint_eq(count_claims(), 2);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* Peers have taken the private file for left over, or have the name. */
START_TEST(test_claim_that_cannot_be_published_is_tried_again)
{
	static const struct {
		unsigned nth;
		int error, result;
	} cases[] = { { 1, ENOENT, -ETIMEDOUT },        { 1, EEXIST, -ETIMEDOUT },
		      { 2, ESTALE, -ETIMEDOUT },        { 1, EXDEV, FILELOCK_EPROTOCOL },
		      { 2, EPERM, FILELOCK_EPROTOCOL } };
	struct filelock *lock = open_strict();

	make_folders();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fault_watch();
		fault_set(FAULT_linkat, cases[i].nth, FAULT_ONCE, cases[i].error);
		ck_assert_msg(try(lock) == cases[i].result, "case %zu", i);
		ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
		fault_clear();
		ck_assert_uint_eq(count_claims(), 0);
	}
	ck_assert_int_eq(try(lock), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_private_name_that_is_no_file_fails_closed)
{
	static const char name[] = ".held-v1-" TOKEN_A ".claim.private-v1-" TOKEN_Z ".tmp";
	struct filelock *lock = open_strict();

	make_folders();
	ck_assert_int_eq(mkdir(claim_path(name), 0700), 0);
	check_refused(lock, name);
	filelock_close(lock);
}
END_TEST

START_TEST(test_symbolic_link_at_the_path_is_refused_after_half_a_second)
{
	struct filelock *lock = open_strict();

	ck_assert_int_eq(symlink("elsewhere", test_path("lock")), 0);
	clock_fake(SECONDS);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(500 * MILLISECONDS);
	ck_assert_int_eq(try(lock), -ELOOP);
	ck_assert(!exists(test_path("elsewhere")));
	filelock_close(lock);
}
END_TEST

START_TEST(test_owner_of_odd_claims_is_not_known)
{
	struct filelock *lock = open_strict();
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	make_folders();
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	put_claim("held", TOKEN_A, getppid());
	fail_open(EACCES, 4);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	fault_clear();
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, getppid());
	put_bytes(claim_path("odd"), "odd", 3);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EPROTOCOL);
	filelock_close(lock);
}
END_TEST

/* Of another user, or on a server that has just removed it: it may be a lock all the same. */
START_TEST(test_sentinel_that_may_not_be_opened_is_waited_for)
{
	static const int errors[] = { EACCES, EPERM, EWOULDBLOCK };
	struct filelock *lock = open_strict();

	make_folders();
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fault_watch();
		fault_set(FAULT_open, 1, FAULT_FOR_GOOD, errors[i]);
		ck_assert_msg(try(lock) == -ETIMEDOUT, "error %d", errors[i]);
		ck_assert_uint_ge(fault_hits(FAULT_open), 1);
		fault_clear();
		ck_assert_uint_eq(count_claims(), 0);
	}
	fault_set(FAULT_open, 1, FAULT_FOR_GOOD, EIO);
	ck_assert_int_eq(try(lock), -EIO);
	fault_set(FAULT_open, 1, FAULT_ONCE, ESTALE);
	ck_assert_int_eq(try(lock), 0);
	fault_clear();
	filelock_close(lock);
}
END_TEST

START_TEST(test_file_system_without_links_is_refused)
{
	static const int errors[] = { EPERM, EXDEV, ENOSYS, EOPNOTSUPP };
	struct filelock *lock = open_strict();

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fault_watch();
		fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, errors[i]);
		check_refused(lock, "hard links");
		fault_clear();
		ck_assert(!exists(test_path("lock")));
	}
	fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, EIO); /* rclone */
	ck_assert_int_eq(try(lock), -EIO);
	ck_assert_msg(strstr(filelock_last_error(lock), "hard links"), "%s", filelock_last_error(lock));
	fault_clear();
	filelock_close(lock);
}
END_TEST

START_TEST(test_private_files_are_swept_and_are_no_claims)
{
	static const char held[] = ".held-v1-" TOKEN_A ".claim.private-v1-" TOKEN_Z ".tmp";
	const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	struct filelock *lock = open_strict();

	make_folders();
	put_bytes(claim_path(held), "", 0);
	ck_assert_int_eq(try(lock), 0);
	ck_assert(exists(claim_path(held)));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, claim_path(held), old, 0), 0);
	ck_assert_int_eq(try(lock), 0);
	ck_assert(!exists(claim_path(held)));
	filelock_close(lock);
}
END_TEST

/* Left over by crashes, many of them. */
static void put_private(unsigned i)
{
	const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	char name[128];

	(void)snprintf(name, sizeof(name), ".held-v1-" TOKEN_A ".claim.private-v1-%032x.tmp", i);
	put_bytes(claim_path(name), "", 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, claim_path(name), old, 0), 0);
}

static unsigned count_private(unsigned n)
{
	unsigned count = 0;
	char name[128];

	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(name, sizeof(name), ".held-v1-" TOKEN_A ".claim.private-v1-%032x.tmp",
		               i);
		count += exists(claim_path(name));
	}
	return count;
}

/* shows: strict-sweeps */
START_TEST(test_no_attempt_sweeps_many_private_files_and_those_to_come_sweep_the_rest)
{
	struct filelock *lock = open_strict();
	unsigned left = 200;

	make_folders();
	for (unsigned i = 0; i < left; i++)
		put_private(i);
	while (left > 0) {
		unsigned before = left;

		ck_assert_int_eq(try(lock), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
		left = count_private(200);
		ck_assert_uint_lt(left, before);
		ck_assert_uint_le(before - left, 100);
	}
	filelock_close(lock);
}
END_TEST

/* --- claims --- */

struct told {
	unsigned claims, held, dead, ours;
};

static void tell(const struct filelock_claim *claim, void *arg)
{
	struct told *told = arg;

	ck_assert_uint_eq(claim->size, sizeof(*claim));
	told->claims++;
	told->held += claim->held;
	told->dead += claim->dead;
	told->ours += claim->owner.ours;
}

START_TEST(test_claims_are_told_and_broken_by_name)
{
	struct filelock *lock = open_strict(), *other = open_strict();
	struct told told = { 0 };

	ck_assert_int_eq(filelock_claims(lock, tell, &told), 0);
	ck_assert_uint_eq(told.claims, 0);
	ck_assert_int_eq(try(lock), 0);
	put_claim("intent", TOKEN_Z, dead_pid());
	ck_assert_int_eq(filelock_claims(other, tell, &told), 0);
	ck_assert_uint_eq(told.claims, 3);
	ck_assert_uint_eq(told.held, 1);
	ck_assert_uint_eq(told.dead, 1);
	ck_assert_uint_eq(told.ours, 2);
	ck_assert_int_eq(filelock_break_claim(other, "intent-v1-" TOKEN_A ".claim"), -ENOENT);
	ck_assert_int_eq(filelock_break_claim(other, "../lock"), -EINVAL);
	ck_assert_int_eq(filelock_break_claim(other, ""), -EINVAL);
	ck_assert_int_eq(filelock_break_claim(other, ".x"), -EINVAL);
	ck_assert_int_eq(filelock_break_claim(other, "intent-v1-" TOKEN_Z ".claim"), 0);
	ck_assert_uint_eq(count_claims(), 2);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

static void keep_name(const struct filelock_claim *claim, void *arg)
{
	if (claim->held)
		strcpy(arg, claim->name);
}

START_TEST(test_broken_claim_is_a_lost_hold)
{
	struct filelock *lock = open_strict();
	char name[64] = "";

	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_claims(lock, keep_name, name), 0);
	ck_assert_int_eq(filelock_break_claim(lock, name), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_EVICTED);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_claims(), 0);
	filelock_close(lock);
}
END_TEST

static int statfs_of_fuse(const char *path, struct statfs *ret)
{
	(void)path;
	*ret = (struct statfs){ .f_type = FUSE_SUPER_MAGIC };
	return 0;
}

/* As sshfs, mergerfs and unionfs-fuse number hard links: each has a number of its own. */
START_TEST(test_claim_of_another_number_is_ours_on_fuse_until_it_is_gone)
{
	struct filelock *lock = open_strict();
	char name[64] = "";

	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_claims(lock, keep_name, name), 0);
	ck_assert_int_eq(rename(claim_path(name), test_path("away")), 0);
	test_write_file(claim_path(name), "");
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST); /* here numbers tell */
	sys.statfs = statfs_of_fuse;
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_NONE);
	ck_assert_int_eq(unlink(claim_path(name)), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_EVICTED);
	filelock_close(lock);
}
END_TEST

/* Others claim in another one by then. */
/* shows: strict-lost */
START_TEST(test_hold_whose_folder_was_moved_is_lost)
{
	struct filelock *lock = open_strict(), *other = open_strict();
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s.filelock", test_path("lock"));
	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(rename(path, test_path("away")), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(try(other), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_EVICTED);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_claims(), 2);
	ck_assert_int_eq(filelock_verify(other), 0);
	fault_set(FAULT_fstat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_verify(other), -EIO);
	fault_clear();
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

START_TEST(test_claims_are_not_listed_beside_what_is_none)
{
	struct filelock *lock = open_strict();
	struct told told = { 0 };

	make_folders();
	put_bytes(claim_path("odd"), "odd", 3);
	ck_assert_int_eq(filelock_claims(lock, tell, &told), FILELOCK_EPROTOCOL);
	ck_assert_msg(strstr(filelock_last_error(lock), "odd"), "%s", filelock_last_error(lock));
	filelock_close(lock);
}
END_TEST

static int hold_and_die(void *arg)
{
	struct filelock *lock = open_strict();

	(void)try(lock);
	if (arg)
		exit(0);
	return raise(SIGKILL);
}

/* A killed one leaves its claims for a person; one that ends takes them away. */
/* shows: strict-stays */
START_TEST(test_only_a_person_ends_the_hold_of_the_killed)
{
	struct filelock *lock = open_strict();
	struct told told = { 0 };

	ck_assert_int_eq(test_in_child(hold_and_die, lock), 0);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(test_in_child(hold_and_die, NULL), 128 + SIGKILL);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	ck_assert_int_eq(filelock_claims(lock, tell, &told), 0);
	ck_assert_uint_eq(told.dead, 2);
	ck_assert_int_eq(filelock_break(lock), -ENOTSUP);
	filelock_close(lock);
}
END_TEST

START_TEST(test_options_and_modes_are_checked)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = open_strict();

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), -ENOTSUP);
	filelock_close(lock);
	options.unlink_on_release = true;
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_STRICT, &options, &lock), -EINVAL);
	options.unlink_on_release = false;
	options.lifetime_ms = 1;
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_STRICT, &options, &lock),
	                 FILELOCK_ENOLIFETIME);
	ck_assert_int_eq(filelock_take(test_path("native"), 0, &lock), 0);
	ck_assert_int_eq(filelock_claims(lock, tell, NULL), -ENOTSUP);
	ck_assert_int_eq(filelock_break_claim(lock, "x"), -ENOTSUP);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "strict", test_fixtures_are_written_back_equal,
	        test_only_canonical_records_are_claims, test_private_names_are_known,
	        test_hold_is_two_claims_beside_a_sentinel, test_any_claim_keeps_out,
	        test_who_meets_another_in_the_doorway_backs_out_or_wins,
	        test_attempt_that_fails_leaves_no_claim,
	        test_claim_that_was_left_in_the_doorway_is_removed_first,
	        test_release_that_fails_can_be_repeated,
	        test_odd_claims_fail_closed_and_are_named,
	        test_claim_that_cannot_be_read_has_half_a_second,
	        test_stale_claim_is_skipped_after_half_a_second, test_what_is_no_folder_is_refused,
	        test_occupant_of_the_path_is_waited_for_or_refused,
	        test_claim_that_goes_while_it_is_listed_keeps_nobody_out,
	        test_shortage_of_descriptors_is_told_as_it_is,
	        test_one_attempt_of_a_process_is_in_the_doorway,
	        test_claim_that_cannot_be_published_is_tried_again,
	        test_private_name_that_is_no_file_fails_closed,
	        test_symbolic_link_at_the_path_is_refused_after_half_a_second,
	        test_owner_of_odd_claims_is_not_known,
	        test_sentinel_that_may_not_be_opened_is_waited_for,
	        test_file_system_without_links_is_refused,
	        test_private_files_are_swept_and_are_no_claims,
	        test_no_attempt_sweeps_many_private_files_and_those_to_come_sweep_the_rest,
	        test_claims_are_told_and_broken_by_name, test_broken_claim_is_a_lost_hold,
	        test_claim_of_another_number_is_ours_on_fuse_until_it_is_gone,
	        test_hold_whose_folder_was_moved_is_lost, test_claims_are_not_listed_beside_what_is_none,
	        test_only_a_person_ends_the_hold_of_the_killed,
	        test_options_and_modes_are_checked));
}
