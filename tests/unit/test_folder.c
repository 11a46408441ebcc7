/* Folders of records: what is published, what is read, what is swept. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kinds/folder.h"
#include "support.h"
#include "base/path.h"
#include "base/sys.h"

#define TEXT "record\n"
#define PRIVATE ".record.tmp"

static const struct folder_record record = { .private_name = PRIVATE, .name = "record",
	                                     .bytes = TEXT, .size = sizeof(TEXT) - 1,
	                                     .mode = 0666 };

static int open_folder(void)
{
	int fd = folder_open(AT_FDCWD, test_folder(), FOLDER_OURS);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static int count(const char *name, void *arg)
{
	(void)name;
	++*(int *)arg;
	return 0;
}

static int count_names(int folder)
{
	int names = 0;

	ck_assert_int_eq(folder_list(folder, count, &names), 0);
	return names;
}

static void check_text(int folder, const char *name)
{
	char bytes[32];

	ck_assert_int_eq(folder_read(folder, name, bytes, sizeof(bytes), NULL),
	                 sizeof(TEXT) - 1);
	ck_assert_mem_eq(bytes, TEXT, sizeof(TEXT) - 1);
}

START_TEST(test_record_is_published_whole_and_alone)
{
	int folder = open_folder();
	struct identity identity;
	struct stat st;

	ck_assert_int_eq(folder_publish(folder, &record, &identity), 0);
	check_text(folder, "record");
	ck_assert_int_eq(count_names(folder), 1);
	ck_assert_int_eq(folder_check(folder, "record", identity), PATH_NAMES_OURS);
	ck_assert_int_eq(lstat(test_path("record"), &st), 0);
	ck_assert_uint_eq(st.st_nlink, 1);
	close(folder);
}
END_TEST

START_TEST(test_record_replaces_nothing)
{
	int folder = open_folder();
	struct identity first, second;

	ck_assert_int_eq(folder_publish(folder, &record, &first), 0);
	ck_assert_int_eq(folder_publish(folder, &record, &second), -EEXIST);
	ck_assert_int_eq(count_names(folder), 1);
	ck_assert_int_eq(folder_check(folder, "record", first), PATH_NAMES_OURS);
	ck_assert_int_eq(folder_replace(folder, &record), 0);
	ck_assert_int_eq(folder_check(folder, "record", first), PATH_NAMES_ANOTHER);
	ck_assert_int_eq(count_names(folder), 1);
	close(folder);
}
END_TEST

/* As link(2) on NFS says EEXIST of a link that it has made, when the answer was lost. */
static void link_before(void *arg)
{
	(void)arg;
	ck_assert_int_eq(link(test_path(PRIVATE), test_path("record")), 0);
}

START_TEST(test_link_whose_answer_was_lost_is_ours)
{
	int folder = open_folder();
	struct identity identity;

	fault_watch();
	fault_before(FAULT_linkat, 1, link_before, NULL);
	ck_assert_int_eq(folder_publish(folder, &record, &identity), 0);
	ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
	ck_assert_int_eq(folder_check(folder, "record", identity), PATH_NAMES_OURS);
	fault_clear();
	close(folder);
}
END_TEST

START_TEST(test_failure_leaves_nothing)
{
	static const struct {
		enum fault_call call;
		int error;
	} faults[] = { { FAULT_openat, EROFS }, { FAULT_fstat, EIO },
		       { FAULT_pwrite, ENOSPC }, { FAULT_fsync, EIO },
		       { FAULT_linkat, EPERM } };
	int folder = open_folder();
	struct folder_record synced = record;
	struct identity identity;

	synced.sync = true;
	fault_watch();
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		fault_set(faults[i].call, 1, FAULT_ONCE, faults[i].error);
		ck_assert_int_eq(folder_publish(folder, &synced, &identity), -faults[i].error);
		fault_clear();
		ck_assert_int_eq(count_names(folder), 0);
	}
	fault_set(FAULT_renameat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(folder_replace(folder, &record), -EIO);
	fault_clear();
	ck_assert_int_eq(count_names(folder), 0);
	close(folder);
}
END_TEST

START_TEST(test_only_regular_files_are_read)
{
	int folder = open_folder();
	char bytes[8];

	ck_assert_int_eq(mkfifo(test_path("fifo"), 0600), 0);
	ck_assert_int_eq(symlink("fifo", test_path("link")), 0);
	ck_assert_int_eq(mkdir(test_path("folder"), 0700), 0);
	ck_assert_int_eq(folder_read(folder, "fifo", bytes, 8, NULL), FILELOCK_ENOTREGULAR);
	ck_assert_int_eq(folder_read(folder, "link", bytes, 8, NULL), FILELOCK_ENOTREGULAR);
	ck_assert_int_eq(folder_read(folder, "folder", bytes, 8, NULL), FILELOCK_ENOTREGULAR);
	ck_assert_int_eq(folder_read(folder, "nothing", bytes, 8, NULL), -ENOENT);
	close(folder);
}
END_TEST

START_TEST(test_folder_is_no_link_and_no_other_users)
{
	int folder = open_folder();

	ck_assert_int_eq(symlink("/", test_path("link")), 0);
	ck_assert_int_lt(folder_open(folder, "link", FOLDER_ANYBODYS), 0);
	ck_assert_int_eq(folder_make(folder, "made", 0700), 0);
	ck_assert_int_eq(folder_make(folder, "made", 0700), 0);
	if (geteuid() == 0) {
		ck_assert_int_eq(chown(test_path("made"), 12345, 12345), 0);
		ck_assert_int_eq(folder_open(folder, "made", FOLDER_OURS), -EACCES);
	}
	close(folder);
}
END_TEST

static int stop(const char *name, void *arg)
{
	(void)name;
	++*(int *)arg;
	return 7;
}

/* More of them than one call gives. */
START_TEST(test_folder_is_listed_whole)
{
	int folder = open_folder(), names = 0;
	char name[64];

	for (int i = 0; i < 300; i++) {
		(void)snprintf(name, sizeof(name), "name-that-is-not-short-%d", i);
		close(open(test_path(name), O_WRONLY | O_CREAT, 0600));
	}
	ck_assert_int_eq(count_names(folder), 300);
	ck_assert_int_eq(folder_list(folder, stop, &names), 7);
	ck_assert_int_eq(names, 1);
	close(folder);
}
END_TEST

static void make_private(void)
{
	close(open(test_path(PRIVATE), O_WRONLY | O_CREAT, 0600));
}

START_TEST(test_private_names_are_swept)
{
	const struct timespec old[2] = { { 1000, 0 }, { 1000, 0 } };
	const int64_t second = 1000000000;
	int folder = open_folder();

	make_private();
	ck_assert_int_eq(folder_sweep(folder, PRIVATE, ".probe", 3600 * second), 0);
	ck_assert_int_eq(link(test_path(PRIVATE), test_path("record")), 0);
	ck_assert_int_eq(folder_sweep(folder, PRIVATE, ".probe", 3600 * second), 1);
	ck_assert_int_eq(unlink(test_path("record")), 0);
	make_private();
	ck_assert_int_eq(utimensat(AT_FDCWD, test_path(PRIVATE), old, 0), 0);
	ck_assert_int_eq(folder_sweep(folder, PRIVATE, ".probe", 3600 * second), 1);
	ck_assert_int_eq(folder_sweep(folder, PRIVATE, ".probe", 0), 0);
	ck_assert_int_eq(count_names(folder), 0);
	close(folder);
}
END_TEST

START_TEST(test_tokens_are_random_and_known)
{
	char a[FOLDER_TOKEN], b[FOLDER_TOKEN];

	ck_assert_int_eq(folder_random(a), 0);
	ck_assert_int_eq(folder_random(b), 0);
	ck_assert(folder_is_token(a) && folder_is_token(b));
	ck_assert_str_ne(a, b);
	ck_assert(!folder_is_token(""));
	ck_assert(!folder_is_token("6A29b42e350a686280f957402a32a464"));
	ck_assert(!folder_is_token("6a29b42e350a686280f957402a32a4644"));
	ck_assert(!folder_is_token("6a29b42e350a686280f957402a32a46"));
}
END_TEST

int main(void)
{
	return support_main(SUITE("folder", test_record_is_published_whole_and_alone,
	                          test_record_replaces_nothing,
	                          test_link_whose_answer_was_lost_is_ours,
	                          test_failure_leaves_nothing, test_only_regular_files_are_read,
	                          test_folder_is_no_link_and_no_other_users,
	                          test_folder_is_listed_whole, test_private_names_are_swept,
	                          test_tokens_are_random_and_known));
}
