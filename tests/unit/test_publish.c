/* Making markers: each way, what leads from one to the next, and that a failure leaves nothing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "kinds/soft_proof.h"
#include "kinds/soft_publish.h"
#include "softly.h"
#include "support.h"
#include "base/sys.h"

static const int no_links[] = { EPERM, EOPNOTSUPP, ENOSYS, EMLINK, EXDEV };
static const int no_tmpfile[] = { 524, EROFS, ENXIO, EOPNOTSUPP, EISDIR, EINVAL, ENOSYS };
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct filelock *lock;

/* A draft before its first use, in this way. */
static struct draft draft_of(enum publish_way way)
{
	if (!lock)
		ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_SOFT, NULL, &lock), 0);
	return (struct draft){ .fd = -1, .way = (unsigned char)way };
}

/* Names in the test's folder. */
static unsigned count_files(void)
{
	DIR *folder = opendir(test_folder());
	const struct dirent *entry;
	unsigned count = 0;

	ck_assert_ptr_nonnull(folder);
	while ((entry = readdir(folder)))
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(folder);
	return count;
}

/* The marker stands there, complete and alone; and is taken away again. */
static void check_published(struct draft *draft)
{
	struct marker marker;

	ck_assert_int_ge(draft->fd, 0);
	ck_assert(read_marker(test_path("lock"), &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, getpid());
	ck_assert_uint_eq(count_files(), 1);
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	soft_publish_drop(draft);
}

static void check_fails(enum publish_way way, int error)
{
	struct draft draft = draft_of(way);
	unsigned before = test_descriptors();

	ck_assert_int_eq(soft_publish(lock, &draft), error);
	ck_assert_int_eq(draft.fd, -1);
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_uint_eq(count_files(), 0);
	fault_clear();
}

START_TEST(test_each_way_publishes_a_complete_marker)
{
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_IN_PLACE; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		ck_assert_int_eq(draft.way, way);
		check_published(&draft);
	}
}
END_TEST

START_TEST(test_what_stands_there_is_left_alone_in_each_way)
{
	char content[16];

	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_IN_PLACE; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		test_write_file(test_path("lock"), "another's");
		ck_assert_int_eq(soft_publish(lock, &draft), -EEXIST);
		test_read_file(test_path("lock"), content, sizeof(content));
		ck_assert_str_eq(content, "another's");
		ck_assert_uint_eq(count_files(), 1);
		soft_publish_drop(&draft);
	}
}
END_TEST

static int tmpfile_error;

static int open_without_tmpfile(const char *path, int flags, mode_t mode)
{
	if ((flags & O_TMPFILE) != O_TMPFILE)
		return open(path, flags, mode);
	errno = tmpfile_error;
	return -1;
}

START_TEST(test_without_unnamed_files_a_private_name_serves)
{
	sys.open = open_without_tmpfile;
	for (size_t i = 0; i < COUNT(no_tmpfile); i++) {
		struct draft draft = draft_of(PUBLISH_TMPFILE);

		tmpfile_error = no_tmpfile[i];
		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		ck_assert_int_eq(draft.way, PUBLISH_NAME);
		check_published(&draft);
	}
	tmpfile_error = ENOSPC;
	check_fails(PUBLISH_TMPFILE, -ENOSPC);
}
END_TEST

/* It may pass: the way is not given up. */
START_TEST(test_unnamed_file_that_fails_once_is_tried_again_next_time)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	sys.open = open_without_tmpfile;
	tmpfile_error = EIO;
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_int_eq(draft.way, PUBLISH_TMPFILE);
	check_published(&draft);
}
END_TEST

START_TEST(test_without_links_the_marker_is_made_in_place)
{
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++)
		for (size_t i = 0; i < COUNT(no_links); i++) {
			struct draft draft = draft_of((enum publish_way)way);

			fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, no_links[i]);
			ck_assert_int_eq(soft_publish(lock, &draft), 0);
			ck_assert_int_eq(draft.way, PUBLISH_IN_PLACE);
			fault_clear();
			check_published(&draft);
		}
}
END_TEST

START_TEST(test_without_proc_a_private_name_serves)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	fault_set(FAULT_linkat, 1, FAULT_ONCE, ENOENT);
	fault_set(FAULT_lstat, 1, FAULT_ONCE, ENOENT);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_int_eq(draft.way, PUBLISH_NAME);
	check_published(&draft);
}
END_TEST

START_TEST(test_a_draft_whose_folder_was_replaced_is_made_again)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	ck_assert_int_eq(soft_publish_prepare(lock, &draft), 0);
	ck_assert_int_ge(draft.fd, 0);
	fault_set(FAULT_linkat, 1, FAULT_ONCE, EXDEV);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_int_eq(draft.way, PUBLISH_TMPFILE);
	check_published(&draft);
}
END_TEST

static unsigned touched;

static int count_futimens(int fd, const struct timespec times[2])
{
	(void)fd;
	(void)times;
	touched++;
	return 0;
}

START_TEST(test_a_draft_that_has_waited_is_dated_anew)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	sys.futimens = count_futimens;
	clock_fake(SECONDS);
	ck_assert_int_eq(soft_publish_prepare(lock, &draft), 0);
	ck_assert_int_eq(soft_publish_prepare(lock, &draft), 0);
	clock_advance(SECONDS);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_uint_eq(touched, 1);
	check_published(&draft);
}
END_TEST

START_TEST(test_only_what_has_no_name_is_prepared)
{
	struct draft draft = draft_of(PUBLISH_NAME);

	ck_assert_int_eq(soft_publish_prepare(lock, &draft), 0);
	ck_assert_int_eq(draft.fd, -1);
	draft.way = PUBLISH_TMPFILE;
	fault_set(FAULT_flock, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(soft_publish_prepare(lock, &draft), -EIO);
	ck_assert_int_eq(draft.fd, -1);
}
END_TEST

START_TEST(test_a_failure_leaves_no_file_in_any_way)
{
	static const struct {
		enum fault_call call;
		int error;
	} failures[] = {
		{ FAULT_flock, EIO },       { FAULT_pwrite, ENOSPC }, { FAULT_fstat, EIO },
		{ FAULT_gethostname, EIO }, { FAULT_open, EMFILE },
	};

	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_IN_PLACE; way++)
		for (size_t i = 0; i < COUNT(failures); i++) {
			fault_set(failures[i].call, 1, FAULT_ONCE, failures[i].error);
			check_fails((enum publish_way)way, -failures[i].error);
		}
}
END_TEST

/* As proot, Android, SELinux, rclone, CryFS and FUSE bindings say it: whatever it is, nothing is there. */
START_TEST(test_any_refusal_of_a_link_leads_to_the_next_way)
{
	static const int errors[] = { ENOENT, EACCES, EROFS, ERANGE, EINVAL, EIO, ENOSPC, ESTALE };

	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++)
		for (size_t i = 0; i < COUNT(errors); i++) {
			struct draft draft = draft_of((enum publish_way)way);

			fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, errors[i]);
			ck_assert_int_eq(soft_publish(lock, &draft), 0);
			fault_clear();
			check_published(&draft);
		}
}
END_TEST

/* In place, a kill could leave an empty marker, which is held for good. */
START_TEST(test_a_name_that_is_gone_when_it_is_looked_at_leads_to_no_other_way)
{
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		fault_set(FAULT_linkat, 1, FAULT_ONCE, EEXIST);
		ck_assert_int_eq(soft_publish(lock, &draft), -EEXIST);
		ck_assert_int_eq(draft.way, way);
		ck_assert_uint_eq(count_files(), 0);
		soft_publish_drop(&draft);
	}
}
END_TEST

START_TEST(test_a_refusal_that_may_pass_is_for_this_time)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	fault_set(FAULT_linkat, 1, FAULT_ONCE, ENOSPC);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_int_eq(draft.way, PUBLISH_TMPFILE);
	check_published(&draft);
	fault_set(FAULT_linkat, 1, FAULT_ONCE, ERANGE);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_int_eq(draft.way, PUBLISH_NAME);
	check_published(&draft);
}
END_TEST

static int link_and_lose_the_answer(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	if (linkat(from_fd, from, to_fd, to, flags) == 0)
		errno = EIO;
	return -1;
}

START_TEST(test_a_link_that_was_made_though_it_was_refused_is_ours)
{
	sys.linkat = link_and_lose_the_answer;
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		ck_assert_int_eq(draft.way, way);
		check_published(&draft);
	}
}
END_TEST

static int open_only_the_lock(const char *name, int flags, mode_t mode)
{
	if (strcmp(name, test_path("lock")) == 0)
		return open(name, flags, mode);
	errno = EACCES;
	return -1;
}

/* By a profile that names one file. */
START_TEST(test_where_no_other_file_may_be_made_the_marker_is_made_in_place)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	sys.open = open_only_the_lock;
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	check_published(&draft);
}
END_TEST

/* A file system that gives each name an inode of its own, to the kernel. */
static int flock_own_name_only(int fd, int operation)
{
	return operation & LOCK_SH ? 0 : flock(fd, operation);
}

/* shows: shown-marker */
START_TEST(test_where_a_link_hides_the_flock_the_marker_is_made_in_place)
{
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		sys.flock = flock_own_name_only;
		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		ck_assert_int_eq(draft.way, PUBLISH_IN_PLACE);
		check_published(&draft);
	}
}
END_TEST

static int lstat_another(const char *name, struct stat *ret)
{
	int r = lstat(name, ret);

	ret->st_ino += 1000000;
	return r;
}

static int fstat_another(int fd, struct stat *ret)
{
	int r = fstat(fd, ret);

	if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
		ret->st_ino += 1000000;
	return r;
}

/* sshfs and mergerfs: the name goes again, though its number is another one. */
/* shows: shown-marker */
START_TEST(test_where_a_link_has_another_number_the_marker_is_made_in_place)
{
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		sys.lstat = lstat_another;
		sys.fstat = fstat_another;
		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		ck_assert_int_eq(draft.way, PUBLISH_IN_PLACE);
		check_published(&draft);
	}
}
END_TEST

static int open_while_judged(const char *path, int flags, mode_t mode)
{
	if ((flags & O_ACCMODE) == O_RDONLY || strcmp(path, test_path("lock")) != 0)
		return open(path, flags, mode);
	errno = EWOULDBLOCK; /* a judge has a lease on it */
	return -1;
}

START_TEST(test_a_marker_that_is_judged_when_it_is_to_be_adopted_is_taken_back)
{
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_NAME; way++) {
		struct draft draft = draft_of((enum publish_way)way);

		sys.lstat = lstat_another;
		sys.fstat = fstat_another;
		sys.open = open_while_judged;
		ck_assert_int_eq(soft_publish(lock, &draft), -EEXIST);
		ck_assert_int_eq(draft.way, way);
		ck_assert_int_eq(draft.fd, -1);
		ck_assert_uint_eq(count_files(), 0);
	}
}
END_TEST

/* The private file, and the marker to be looked at; the first time besides what tells who we are. */
static unsigned opened_by_publishing(struct draft *draft)
{
	unsigned before;

	fault_watch();
	before = fault_calls(FAULT_open);
	ck_assert_int_eq(soft_publish(lock, draft), 0);
	check_published(draft);
	return fault_calls(FAULT_open) - before;
}

START_TEST(test_what_was_shown_is_not_looked_at_again_on_that_device)
{
	struct draft draft = draft_of(PUBLISH_NAME);

	ck_assert_uint_gt(opened_by_publishing(&draft), 2);
	ck_assert_uint_eq(opened_by_publishing(&draft), 1);
	draft.shown_on++;
	ck_assert_uint_eq(opened_by_publishing(&draft), 2);
}
END_TEST

static void replace_the_marker(void *arg)
{
	(void)arg;
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	test_write_file(test_path("lock"), "another's");
}

START_TEST(test_what_took_the_markers_place_before_it_was_looked_at_is_left_alone)
{
	struct draft draft = draft_of(PUBLISH_NAME);
	char content[16];

	(void)opened_by_publishing(&draft);
	draft.shown = false;
	fault_before(FAULT_open, 2, replace_the_marker, NULL); /* the first one makes it */
	ck_assert_int_eq(soft_publish(lock, &draft), -EEXIST);
	ck_assert_int_eq(draft.fd, -1);
	test_read_file(test_path("lock"), content, sizeof(content));
	ck_assert_str_eq(content, "another's");
}
END_TEST

START_TEST(test_what_cannot_be_looked_at_is_taken_back)
{
	struct draft draft = draft_of(PUBLISH_NAME);

	(void)opened_by_publishing(&draft);
	draft.shown = false;
	fault_set(FAULT_open, 2, FAULT_ONCE, EMFILE);
	ck_assert_int_eq(soft_publish(lock, &draft), -EMFILE);
	ck_assert_int_eq(draft.fd, -1);
	ck_assert_uint_eq(count_files(), 0);
}
END_TEST

START_TEST(test_half_a_marker_that_is_anothers_by_now_is_left)
{
	struct draft draft = draft_of(PUBLISH_IN_PLACE);

	fault_set(FAULT_pwrite, 1, FAULT_ONCE, ENOSPC);
	fault_set(FAULT_fstat, 1, FAULT_ONCE, EIO); /* it cannot be told */
	ck_assert_int_eq(soft_publish(lock, &draft), -ENOSPC);
	ck_assert_uint_eq(count_files(), 1);
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	fault_set(FAULT_pwrite, 1, FAULT_ONCE, ENOSPC);
	fault_set(FAULT_lstat, 1, FAULT_ONCE, ENOENT); /* it names another one */
	ck_assert_int_eq(soft_publish(lock, &draft), -ENOSPC);
	ck_assert_uint_eq(count_files(), 1);
	ck_assert_int_eq(draft.fd, -1);
}
END_TEST

START_TEST(test_half_a_marker_that_cannot_be_removed_is_disowned)
{
	struct draft draft = draft_of(PUBLISH_IN_PLACE);
	struct marker marker;

	fault_set(FAULT_fstat, 1, FAULT_ONCE, EIO); /* it is written by then */
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EPERM);
	ck_assert_int_eq(soft_publish(lock, &draft), -EIO);
	ck_assert_int_eq(draft.fd, -1);
	ck_assert(read_marker(test_path("lock"), &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, INT32_MAX);
}
END_TEST

START_TEST(test_folders_that_cannot_be_made_are_their_error)
{
	ck_assert_int_eq(filelock_open(test_path("a/b/lock"), FILELOCK_SOFT, NULL, &lock), 0);
	for (int way = PUBLISH_TMPFILE; way <= PUBLISH_IN_PLACE; way++) {
		fault_set(FAULT_mkdir, 1, FAULT_FOR_GOOD, EROFS);
		check_fails((enum publish_way)way, -EROFS);
	}
}
END_TEST

/* A marker of so many bytes, disowned. */
static int open_disowned(off_t size)
{
	int fd = open(test_path("lock"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, size), 0);
	ck_assert_int_eq(soft_proof_disown(fd), 0);
	return fd;
}

START_TEST(test_disowned_marker_is_nobodys_whatever_it_was)
{
	static const off_t sizes[] = { 0, 1, MARKER_SIZE - 1, MARKER_SIZE };
	struct marker marker;
	struct stat st;

	for (size_t i = 0; i < COUNT(sizes); i++) {
		int fd = open_disowned(sizes[i]);

		ck_assert(read_marker(test_path("lock"), &marker));
		ck_assert_int_eq(marker.type, MARKER_RECORD);
		ck_assert_int_eq(marker.pid, INT32_MAX);
		close(fd);
	}
	/* a longer one is no record, now as before: somebody has added to it */
	close(open_disowned(2 * MARKER_SIZE));
	ck_assert(read_marker(test_path("lock"), &marker));
	ck_assert_int_eq(marker.type, MARKER_FOREIGN);
	ck_assert_int_eq(stat(test_path("lock"), &st), 0);
	ck_assert_int_eq(st.st_size, 2 * MARKER_SIZE);
}
END_TEST

START_TEST(test_marker_that_cannot_be_disowned_is_left_as_it_is)
{
	char content[16];
	int fd;

	test_write_file(test_path("lock"), "1\nhost\n");
	fd = open(test_path("lock"), O_RDWR | O_CLOEXEC);
	fault_set(FAULT_gethostname, 1, FAULT_ONCE, EFAULT);
	ck_assert_int_eq(soft_proof_disown(fd), -EFAULT);
	test_read_file(test_path("lock"), content, sizeof(content));
	ck_assert_str_eq(content, "1\nhost\n");
	close(fd);
}
END_TEST

static int statfs_of_memory(const char *path, struct statfs *ret)
{
	(void)path;
	*ret = (struct statfs){ .f_type = TMPFS_MAGIC };
	return 0;
}

static void check_look(int fd, int result, enum fault_call call, int error)
{
	fault_set(call, 1, FAULT_ONCE, error);
	ck_assert_int_eq(soft_proof_look(test_path("lock"), fd, false), result);
	ck_assert_uint_eq(fault_hits(call), 1);
	fault_clear();
}

static int statfs_of_a_network(const char *path, struct statfs *ret)
{
	(void)path;
	*ret = (struct statfs){ .f_type = NFS_SUPER_MAGIC };
	return 0;
}

static int look_unread(int fd)
{
	int r;

	fault_set(FAULT_open, 1, FAULT_ONCE, EACCES);
	r = soft_proof_look(test_path("lock"), fd, true);
	fault_clear();
	return r;
}

/* With umask 0777 nobody may read it, nor its maker. */
START_TEST(test_marker_that_may_not_be_read_is_known_by_its_number)
{
	int fd;

	test_write_file(test_path("lock"), "1\nhost\n");
	fd = open(test_path("lock"), O_RDWR | O_CLOEXEC);
	sys.statfs = statfs_of_memory;
	ck_assert_int_eq(look_unread(fd), PROOF_SHOWN);
	fault_set(FAULT_lstat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(look_unread(fd), -EIO);
	fault_set(FAULT_fstat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(look_unread(fd), PROOF_HIDDEN);
	sys.statfs = statfs_of_a_network;
	ck_assert_int_eq(look_unread(fd), PROOF_HIDDEN);
	sys.statfs = statfs_of_memory;
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	test_write_file(test_path("lock"), "1\nhost\n");
	ck_assert_int_eq(look_unread(fd), PROOF_ELSEWHERE);
	close(fd);
}
END_TEST

START_TEST(test_what_a_look_cannot_tell_is_its_error)
{
	int fd, other;

	test_write_file(test_path("lock"), "1\nhost\n");
	test_write_file(test_path("other"), "1\nhost\n");
	fd = open(test_path("lock"), O_RDWR | O_CLOEXEC);
	other = open(test_path("other"), O_RDWR | O_CLOEXEC);
	check_look(fd, -EIO, FAULT_open, EIO);
	check_look(fd, -EIO, FAULT_fstat, EIO);
	check_look(other, -EIO, FAULT_pread, EIO);
	check_look(fd, PROOF_ELSEWHERE, FAULT_open, ENOENT);
	check_look(fd, PROOF_ELSEWHERE, FAULT_open, ELOOP);
	ck_assert_int_eq(soft_proof_look(test_path("lock"), other, true), PROOF_HIDDEN);
	test_write_file(test_path("other"), "2\nhost\n");
	ck_assert_int_eq(soft_proof_look(test_path("lock"), other, true), PROOF_ELSEWHERE);
	close(other);
	close(fd);
}
END_TEST

static ssize_t short_random(void *buffer, size_t size, unsigned flags)
{
	(void)buffer;
	(void)size;
	(void)flags;
	return 1;
}

START_TEST(test_without_randomness_there_is_no_private_name)
{
	fault_set(FAULT_getrandom, 1, FAULT_ONCE, EAGAIN);
	check_fails(PUBLISH_NAME, -EAGAIN);
	sys.getrandom = short_random;
	check_fails(PUBLISH_NAME, -EIO);
}
END_TEST

/* An old kernel, and a sandbox. */
START_TEST(test_without_getrandom_the_device_serves)
{
	const int errors[] = { ENOSYS, EPERM };

	for (size_t i = 0; i < COUNT(errors); i++) {
		struct draft draft = draft_of(PUBLISH_NAME);

		fault_set(FAULT_getrandom, 1, FAULT_FOR_GOOD, errors[i]);
		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		check_published(&draft);
		fault_clear();
	}
}
END_TEST

START_TEST(test_a_private_name_that_cannot_be_removed_is_logged_and_no_failure)
{
	struct draft draft = draft_of(PUBLISH_NAME);

	fault_set(FAULT_unlink, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	ck_assert_uint_eq(count_files(), 2);
}
END_TEST

static unsigned long file_system;

static int say_file_system(const char *path, struct statfs *ret)
{
	(void)path;
	memset(ret, 0, sizeof(*ret));
	ret->f_type = file_system;
	return 0;
}

START_TEST(test_no_locks_to_be_had_is_an_error_on_local_file_systems_only)
{
	struct draft draft = draft_of(PUBLISH_TMPFILE);

	sys.statfs = say_file_system;
	file_system = EXT4_SUPER_MAGIC;
	fault_set(FAULT_flock, 1, FAULT_ONCE, ENOLCK);
	check_fails(PUBLISH_TMPFILE, -ENOLCK);
	file_system = NFS_SUPER_MAGIC;
	fault_set(FAULT_flock, 1, FAULT_ONCE, ENOLCK);
	ck_assert_int_eq(soft_publish(lock, &draft), 0);
	check_published(&draft);
	fault_set(FAULT_statfs, 1, FAULT_ONCE, EIO);
	fault_set(FAULT_flock, 1, FAULT_ONCE, ENOLCK);
	check_fails(PUBLISH_TMPFILE, -ENOLCK);
}
END_TEST

START_TEST(test_a_marker_needs_no_flock_where_there_is_none_or_somebody_judges_it)
{
	static const int errors[] = { ENOSYS, EOPNOTSUPP, EWOULDBLOCK, EACCES };

	for (size_t i = 0; i < COUNT(errors); i++) {
		struct draft draft = draft_of(PUBLISH_IN_PLACE);

		fault_set(FAULT_flock, 1, FAULT_ONCE, errors[i]);
		ck_assert_int_eq(soft_publish(lock, &draft), 0);
		check_published(&draft);
	}
}
END_TEST

START_TEST(test_flock_is_probed_on_a_file_that_is_gone_afterwards)
{
	unsigned before = test_descriptors();
	const char *path = test_path("lock");
	int result = 1;

	ck_assert_int_eq(soft_publish_probe_flock(path, &result), 0);
	ck_assert_int_eq(result, 0);
	fault_set(FAULT_flock, 1, FAULT_ONCE, ENOSYS);
	ck_assert_int_eq(soft_publish_probe_flock(path, &result), 0);
	ck_assert_int_eq(result, -ENOSYS);
	fault_set(FAULT_open, 1, FAULT_ONCE, EOPNOTSUPP); /* then by a private name */
	ck_assert_int_eq(soft_publish_probe_flock(path, &result), 0);
	ck_assert_int_eq(result, 0);
	fault_set(FAULT_open, 1, FAULT_FOR_GOOD, EOPNOTSUPP);
	ck_assert_int_eq(soft_publish_probe_flock(path, &result), -EOPNOTSUPP);
	fault_set(FAULT_open, 1, FAULT_ONCE, EOPNOTSUPP);
	fault_set(FAULT_getrandom, 1, FAULT_ONCE, EAGAIN);
	ck_assert_int_eq(soft_publish_probe_flock(path, &result), -EAGAIN);
	fault_clear();
	ck_assert_uint_eq(test_descriptors(), before);
	ck_assert_uint_eq(count_files(), 0);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "publish",
	        test_each_way_publishes_a_complete_marker,
	        test_what_stands_there_is_left_alone_in_each_way,
	        test_without_unnamed_files_a_private_name_serves,
	        test_unnamed_file_that_fails_once_is_tried_again_next_time,
		              test_without_links_the_marker_is_made_in_place,
	        test_without_proc_a_private_name_serves,
	        test_a_draft_whose_folder_was_replaced_is_made_again,
	        test_a_draft_that_has_waited_is_dated_anew,
	        test_only_what_has_no_name_is_prepared,
	        test_a_failure_leaves_no_file_in_any_way,
	        test_any_refusal_of_a_link_leads_to_the_next_way,
	        test_a_refusal_that_may_pass_is_for_this_time,
	        test_a_link_that_was_made_though_it_was_refused_is_ours,
	        test_where_no_other_file_may_be_made_the_marker_is_made_in_place,
	        test_where_a_link_hides_the_flock_the_marker_is_made_in_place,
	        test_where_a_link_has_another_number_the_marker_is_made_in_place,
	        test_a_marker_that_is_judged_when_it_is_to_be_adopted_is_taken_back,
	        test_a_name_that_is_gone_when_it_is_looked_at_leads_to_no_other_way,
	        test_what_was_shown_is_not_looked_at_again_on_that_device,
	        test_what_took_the_markers_place_before_it_was_looked_at_is_left_alone,
	        test_what_cannot_be_looked_at_is_taken_back,
	        test_half_a_marker_that_is_anothers_by_now_is_left,
	        test_half_a_marker_that_cannot_be_removed_is_disowned,
	        test_folders_that_cannot_be_made_are_their_error,
	        test_disowned_marker_is_nobodys_whatever_it_was,
	        test_marker_that_cannot_be_disowned_is_left_as_it_is,
	        test_marker_that_may_not_be_read_is_known_by_its_number,
	        test_what_a_look_cannot_tell_is_its_error,
	        test_without_randomness_there_is_no_private_name,
	        test_without_getrandom_the_device_serves,
		              test_a_private_name_that_cannot_be_removed_is_logged_and_no_failure,
	        test_no_locks_to_be_had_is_an_error_on_local_file_systems_only,
	        test_a_marker_needs_no_flock_where_there_is_none_or_somebody_judges_it,
	        test_flock_is_probed_on_a_file_that_is_gone_afterwards));
}
