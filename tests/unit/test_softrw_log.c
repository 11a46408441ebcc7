/* The generation log of a soft read/write lock, on files: what is newest, and who commits. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/sys.h"
#include "kinds/softrw_log.h"
#include "kinds/softrw_rules.h"
#include "support.h"

#define LOG "filelock-rw/1\n"
#define A "00112233445566778899aabbccddeeff"
#define EPOCH A "\n"
#define RETAINED 64

static struct softrw_log folder_log; /* of the whole test */

static const char *in_folder(const char *name)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "gen/%s", name);
	return test_path(path);
}

static struct softrw_log *new_log(void)
{
	ck_assert(mkdir(test_path("gen"), 0700) == 0 || errno == EEXIST);
	softrw_log_reset(&folder_log, open(test_path("gen"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	ck_assert_int_ge(folder_log.folder, 0);
	return &folder_log;
}

static void free_log(struct softrw_log *log)
{
	int folder = log->folder;

	softrw_log_reset(log, -1);
	close(folder);
}

static const char *name_of(unsigned generation)
{
	static char names[4][SOFTRW_NAME_SIZE];
	static unsigned next;
	char *name = names[next++ % 4];

	softrw_name_format(generation, name);
	return name;
}

static void write_generation(unsigned generation)
{
	char text[128];

	(void)snprintf(text, sizeof(text), LOG "generation=%u\n", generation);
	test_write_file(in_folder(name_of(generation)), text);
}

static void write_head(const char *epoch, unsigned generation)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "%s" LOG "generation=%u\n", epoch, generation);
	test_write_file(in_folder("HEAD"), text);
}

static bool is_there(const char *name)
{
	return access(in_folder(name), F_OK) == 0;
}

static int commit_with(struct softrw_log *log, enum softrw_news news)
{
	struct softrw_snapshot next;
	int r;

	ck_assert_int_eq(softrw_successor(&log->latest, &next), 0);
	r = softrw_log_commit(log, &next);
	softrw_snapshot_clear(&next);
	if (r == 0)
		softrw_log_tell(log, news);
	return r;
}

static int commit(struct softrw_log *log)
{
	return commit_with(log, SOFTRW_NEWS);
}

static void look(struct softrw_log *log, unsigned expected)
{
	ck_assert_int_eq(softrw_log_look(log), 0);
	ck_assert_uint_eq(log->latest.generation, expected);
}

START_TEST(test_first_look_makes_the_epoch_and_finds_nothing)
{
	struct softrw_log *log = new_log();
	char epoch[64];

	look(log, 0);
	test_read_file(in_folder("epoch"), epoch, sizeof(epoch));
	ck_assert_uint_eq(strlen(epoch), SOFTRW_EPOCH_SIZE);
	look(log, 0);
	free_log(log);
}
END_TEST

START_TEST(test_commit_writes_pythons_files)
{
	struct softrw_log *log = new_log();
	char text[256];
	struct stat st;

	test_write_file(in_folder("epoch"), EPOCH);
	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	test_read_file(in_folder(name_of(1)), text, sizeof(text));
	ck_assert_str_eq(text, LOG "generation=1\n");
	test_read_file(in_folder("HEAD"), text, sizeof(text));
	ck_assert_str_eq(text, EPOCH LOG "generation=1\n");
	ck_assert_int_eq(stat(in_folder(name_of(1)), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_uint_eq(st.st_nlink, 1);
	look(log, 1);
	free_log(log);
}
END_TEST

/* shows: rw-one-successor */
START_TEST(test_second_successor_of_a_generation_is_refused)
{
	struct softrw_log *log = new_log();
	struct softrw_log late = { .folder = log->folder };

	look(log, 0);
	look(&late, 0);
	ck_assert_int_eq(commit(log), 0);
	ck_assert_int_eq(commit(&late), ATTEMPT_RACED);
	look(&late, 1);
	ck_assert_int_eq(commit(&late), 0);
	look(log, 2);
	softrw_log_reset(&late, -1);
	free_log(log);
}
END_TEST

START_TEST(test_newest_is_found_whatever_head_says)
{
	struct softrw_log *log = new_log();

	test_write_file(in_folder("epoch"), EPOCH);
	for (unsigned generation = 5; generation <= 9; generation++)
		write_generation(generation);
	look(log, 9); /* there is none */
	write_head(EPOCH, 6);
	look(log, 9); /* it lags */
	write_head("99112233445566778899aabbccddeeff\n", 7);
	look(log, 9); /* of another log */
	test_write_file(in_folder("HEAD"), EPOCH "filelock-rw/1\ngenera");
	look(log, 9); /* torn */
	write_head(EPOCH, 3);
	look(log, 9); /* of one that is gone */
	free_log(log);
}
END_TEST

START_TEST(test_gap_in_what_is_left_is_jumped)
{
	struct softrw_log *log = new_log();

	test_write_file(in_folder("epoch"), EPOCH);
	write_generation(5);
	write_generation(8);
	look(log, 8);
	free_log(log);
}
END_TEST

START_TEST(test_64_generations_stay)
{
	struct softrw_log *log = new_log();

	for (unsigned generation = 0; generation < RETAINED + 10; generation++) {
		look(log, generation);
		ck_assert_int_eq(commit(log), 0);
	}
	ck_assert(!is_there(name_of(RETAINED + 10 - RETAINED - 1)));
	ck_assert(is_there(name_of(RETAINED + 10 - RETAINED + 1)));
	look(log, RETAINED + 10);
	free_log(log);
}
END_TEST

START_TEST(test_commit_into_a_log_that_was_begun_anew_is_refused)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	test_write_file(in_folder("epoch"), EPOCH);
	ck_assert_int_eq(commit(log), ATTEMPT_RACED);
	ck_assert_int_eq(unlink(in_folder(name_of(1))), 0);
	look(log, 0); /* and its memory is of the other one */
	free_log(log);
}
END_TEST

START_TEST(test_first_generation_is_refused_where_a_head_says_it_was_passed)
{
	struct softrw_log *log = new_log();
	struct softrw_snapshot next = { .generation = 1 };

	test_write_file(in_folder("epoch"), EPOCH);
	look(log, 0);
	write_head(EPOCH, 70);
	ck_assert_int_eq(softrw_log_commit(log, &next), ATTEMPT_RACED);
	ck_assert(!is_there(name_of(1)));
	free_log(log);
}
END_TEST

static void remove_predecessor(void *arg)
{
	ck_assert_int_eq(unlink(in_folder(arg)), 0);
}

/* Stopped before its link, it comes back when its place was removed. */
START_TEST(test_commit_in_a_place_that_was_removed_is_taken_back)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	fault_before(FAULT_linkat, 1, remove_predecessor, (char *)name_of(1));
	ck_assert_int_eq(commit(log), ATTEMPT_RACED);
	ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
	fault_clear();
	ck_assert(!is_there(name_of(2)));
	free_log(log);
}
END_TEST

static int (*real_linkat)(int from_fd, const char *from, int to_fd, const char *to, int flags);

/* The link is made, and its answer lost: as network file systems have it. */
static int link_and_lie(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	ck_assert_int_eq(real_linkat(from_fd, from, to_fd, to, flags), 0);
	errno = EEXIST;
	return -1;
}

/* Others have gone on to 70. The second generation stands there, as one that was stopped, too, has put it
   back. */
static void go_on_and_leave_one_over(void *arg)
{
	const struct softrw_log *log = arg;

	write_generation(69);
	write_generation(70);
	write_head(log->epoch, 70);
}

/* It seems to have a predecessor. */
/* shows: rw-one-successor */
START_TEST(test_commit_after_a_generation_that_was_left_over_is_taken_back)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	ck_assert_int_eq(commit(log), 0);
	fault_before(FAULT_linkat, 1, go_on_and_leave_one_over, log);
	ck_assert_int_eq(commit(log), ATTEMPT_RACED);
	ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
	fault_clear();
	ck_assert(!is_there(name_of(3)));
	look(log, 70);
	ck_assert_int_eq(commit(log), 0);
	free_log(log);
}
END_TEST

/* What it names is not there, as no commit leaves it. */
START_TEST(test_head_that_is_wrong_keeps_nobody_from_committing)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	write_head(log->epoch, 999);
	look(log, 1);
	ck_assert_int_eq(commit(log), 0);
	look(log, 2);
	free_log(log);
}
END_TEST

/* shows: rw-one-successor */
START_TEST(test_owner_of_a_generation_is_decided_by_the_inode)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	real_linkat = sys.linkat;
	sys.linkat = link_and_lie;
	ck_assert_int_eq(commit(log), 0);
	sys.linkat = real_linkat;
	look(log, 1);
	free_log(log);
}
END_TEST

START_TEST(test_head_moves_forward_only)
{
	struct softrw_log *log = new_log();
	char text[256];

	test_write_file(in_folder("epoch"), EPOCH);
	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	write_head(EPOCH, 9);
	ck_assert_int_eq(commit(log), 0);
	test_read_file(in_folder("HEAD"), text, sizeof(text));
	ck_assert_str_eq(text, EPOCH LOG "generation=9\n");
	free_log(log);
}
END_TEST

static unsigned head_of(void)
{
	char text[256];
	unsigned generation;

	test_read_file(in_folder("HEAD"), text, sizeof(text));
	ck_assert_int_eq(sscanf(strstr(text, "generation="), "generation=%u", &generation), 1);
	return generation;
}

START_TEST(test_head_stays_a_little_behind_where_nobody_waits)
{
	struct softrw_log *log = new_log();

	log->is_local = true;
	look(log, 0);
	/* it keeps the first place, so it is there at once */
	ck_assert_int_eq(commit_with(log, SOFTRW_NO_NEWS), 0);
	ck_assert_uint_eq(head_of(), 1);
	for (unsigned i = 2; i <= 9; i++) {
		ck_assert_int_eq(commit_with(log, SOFTRW_NO_NEWS), 0);
		ck_assert_uint_eq(head_of(), 1);
		look(log, i);
	}
	ck_assert_int_eq(commit_with(log, SOFTRW_NO_NEWS), 0);
	ck_assert_uint_eq(head_of(), 10);
	ck_assert_int_eq(commit_with(log, SOFTRW_NO_NEWS), 0);
	ck_assert_int_eq(commit(log), 0);
	ck_assert_uint_eq(head_of(), 12);
	free_log(log);
}
END_TEST

START_TEST(test_head_of_a_log_that_others_change_moves_at_once)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	ck_assert_int_eq(commit_with(log, SOFTRW_NO_NEWS), 0);
	ck_assert_uint_eq(head_of(), 2);
	free_log(log);
}
END_TEST

START_TEST(test_look_goes_on_from_its_last_one_while_that_is_there)
{
	struct softrw_log *log = new_log();
	struct softrw_log other = { .folder = log->folder, .is_local = true };

	log->is_local = true;
	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	look(&other, 1);
	ck_assert_int_eq(commit(&other), 0);
	/* what HEAD says is not asked for */
	write_head(log->epoch, 1);
	look(log, 2);
	for (unsigned i = 0; i <= RETAINED; i++)
		ck_assert_int_eq(commit(&other), 0);
	ck_assert(!is_there(name_of(2)));
	/* one was left over just behind it: it takes HEAD */
	write_generation(3);
	look(log, 67);
	softrw_log_reset(&other, -1);
	free_log(log);
}
END_TEST

START_TEST(test_malformed_generation_is_named)
{
	static const char *const wrong[] = { "", LOG, LOG "generation=3\n", "x" };
	struct softrw_log *log = new_log();

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		test_write_file(in_folder(name_of(2)), wrong[i]);
		ck_assert_int_eq(softrw_log_look(log), -EBADMSG);
		ck_assert_str_eq(log->wrong, name_of(2));
	}
	free_log(log);
}
END_TEST

START_TEST(test_generation_that_is_no_file_is_malformed)
{
	struct softrw_log *log = new_log();

	ck_assert_int_eq(mkfifo(in_folder(name_of(2)), 0600), 0);
	ck_assert_int_eq(softrw_log_look(log), -EBADMSG); /* and does not block */
	ck_assert_int_eq(unlink(in_folder(name_of(2))), 0);
	ck_assert_int_eq(symlink("/dev/zero", in_folder(name_of(2))), 0);
	ck_assert_int_eq(softrw_log_look(log), -EBADMSG);
	free_log(log);
}
END_TEST

START_TEST(test_log_that_names_what_nobody_can_read_is_refused)
{
	struct softrw_log *log = new_log();

	test_write_file(in_folder("epoch"), EPOCH);
	write_head(EPOCH, 100);
	ck_assert_int_eq(softrw_log_look(log), -EBADMSG);
	ck_assert_str_eq(log->wrong, "");
	free_log(log);
}
END_TEST

START_TEST(test_other_names_in_the_folder_are_ignored)
{
	struct softrw_log *log = new_log();

	test_write_file(in_folder("1"), "x");
	test_write_file(in_folder("0000000000000000000x"), "x");
	test_write_file(in_folder(".commit-" A), "x");
	look(log, 0);
	free_log(log);
}
END_TEST

START_TEST(test_snapshot_larger_than_a_page_is_read_whole)
{
	struct softrw_log *log = new_log();
	struct softrw_snapshot next = { .generation = 1 };

	look(log, 0);
	for (unsigned i = 0; i < 500; i++) {
		struct softrw_token token = { { (unsigned char)(i >> 8), (unsigned char)i } };

		ck_assert_int_eq(softrw_snapshot_add_reader(&next, &token), 0);
	}
	ck_assert_int_eq(softrw_log_commit(log, &next), 0);
	look(log, 1);
	ck_assert_uint_eq(log->latest.readers, 500);
	free_log(log);
}
END_TEST

/* Where this kernel alone changes the folder, the epoch is read once, and HEAD is gone on from. */
START_TEST(test_local_log_sees_what_others_did)
{
	struct softrw_log *log = new_log();
	struct softrw_log other = { .folder = log->folder, .is_local = true };

	log->is_local = true;
	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	look(&other, 1);
	ck_assert_int_eq(commit(&other), 0);
	ck_assert_int_eq(commit(&other), 0);
	look(log, 3);
	/* HEAD lags, and names what is gone */
	write_head(log->epoch, 1);
	look(log, 3);
	ck_assert_int_eq(unlink(in_folder(name_of(1))), 0);
	look(log, 3);
	ck_assert_int_eq(unlink(in_folder("HEAD")), 0);
	look(log, 3);
	softrw_log_reset(&other, -1);
	free_log(log);
}
END_TEST

START_TEST(test_local_log_that_was_begun_anew_is_another_one)
{
	struct softrw_log *log = new_log();

	log->is_local = true;
	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	ck_assert_int_eq(unlink(in_folder("epoch")), 0);
	ck_assert_int_eq(commit(log), ATTEMPT_RACED);
	test_write_file(in_folder("new"), EPOCH);
	ck_assert_int_eq(rename(test_path("gen/new"), in_folder("epoch")), 0);
	ck_assert_int_eq(commit(log), ATTEMPT_RACED);
	ck_assert_int_eq(unlink(in_folder(name_of(1))), 0);
	look(log, 0);
	free_log(log);
}
END_TEST

static int64_t a_minute_later(void)
{
	struct timespec now;

	ck_assert_int_eq(clock_gettime(CLOCK_REALTIME, &now), 0);
	return ((int64_t)now.tv_sec + 60) * 1000000000;
}

/* Known by its file's times, it is not read again. */
START_TEST(test_settled_epoch_that_was_replaced_is_another_one)
{
	struct softrw_log *log = new_log();

	sys.date = a_minute_later;
	log->is_local = true;
	look(log, 0);
	ck_assert_uint_ne(log->mark.identity.ino, 0);
	ck_assert_int_eq(commit(log), 0);
	test_write_file(in_folder("new"), EPOCH);
	ck_assert_int_eq(rename(test_path("gen/new"), in_folder("epoch")), 0);
	ck_assert_int_eq(commit(log), ATTEMPT_RACED);
	ck_assert_int_eq(unlink(in_folder(name_of(1))), 0);
	look(log, 0);
	free_log(log);
}
END_TEST

/* Only a person can have made it: the next one would be the first. */
START_TEST(test_last_generation_has_no_successor)
{
	struct softrw_log *log = new_log();

	test_write_file(in_folder("18446744073709551615"),
	                LOG "generation=18446744073709551615\n");
	ck_assert_int_eq(softrw_log_look(log), 0);
	ck_assert(log->latest.generation == UINT64_MAX);
	ck_assert_int_eq(commit(log), -EOVERFLOW);
	ck_assert(!is_there(name_of(0)));
	free_log(log);
}
END_TEST

START_TEST(test_errors_of_the_system_come_through)
{
	struct softrw_log *log = new_log();

	look(log, 0);
	ck_assert_int_eq(commit(log), 0);
	fault_set(FAULT_openat, 1, FAULT_FOR_GOOD, EIO);
	ck_assert_int_eq(softrw_log_look(log), -EIO);
	ck_assert_int_eq(commit(log), -EIO);
	fault_set(FAULT_fsync, 1, FAULT_ONCE, ENOSPC);
	fault_set(FAULT_openat, 1000, FAULT_ONCE, EIO);
	ck_assert_int_eq(commit(log), -ENOSPC);
	fault_set(FAULT_linkat, 1, FAULT_ONCE, EPERM);
	ck_assert_int_eq(commit(log), -EPERM);
	fault_clear();
	look(log, 1); /* and nothing was left */
	ck_assert_int_eq(commit(log), 0);
	free_log(log);
}
END_TEST

int main(void)
{
	return support_main(
	        SUITE("softrw_log", test_first_look_makes_the_epoch_and_finds_nothing,
	              test_commit_writes_pythons_files,
	              test_second_successor_of_a_generation_is_refused,
	              test_newest_is_found_whatever_head_says, test_gap_in_what_is_left_is_jumped,
	              test_64_generations_stay,
	              test_commit_into_a_log_that_was_begun_anew_is_refused,
	              test_local_log_sees_what_others_did,
	              test_local_log_that_was_begun_anew_is_another_one,
	              test_settled_epoch_that_was_replaced_is_another_one,
	              test_last_generation_has_no_successor,
	              test_first_generation_is_refused_where_a_head_says_it_was_passed,
	              test_commit_in_a_place_that_was_removed_is_taken_back,
	              test_commit_after_a_generation_that_was_left_over_is_taken_back,
	              test_head_that_is_wrong_keeps_nobody_from_committing,
	              test_owner_of_a_generation_is_decided_by_the_inode,
	              test_head_moves_forward_only,
	              test_head_stays_a_little_behind_where_nobody_waits,
	              test_head_of_a_log_that_others_change_moves_at_once,
	              test_look_goes_on_from_its_last_one_while_that_is_there,
	              test_malformed_generation_is_named,
	              test_generation_that_is_no_file_is_malformed,
	              test_log_that_names_what_nobody_can_read_is_refused,
	              test_other_names_in_the_folder_are_ignored,
	              test_snapshot_larger_than_a_page_is_read_whole,
	              test_errors_of_the_system_come_through));
}
