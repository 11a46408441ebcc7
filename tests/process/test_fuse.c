/* The tests' own file system: it passes calls through, and is slow, stuck and refuses as told. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse.h"
#include "support.h"

static struct fuse *fuse;

static bool set_up(enum fuse_flock flock)
{
	fuse = fuse_start(flock);
	return fuse != NULL;
}

/* The same file, not through the mount. */
static const char *behind(const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "behind0/%s", name);
	return test_path(path);
}

static int open_file(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
	return fd;
}

static int stat_it(void *arg)
{
	struct stat st;

	return stat(arg, &st) < 0 ? -errno : 0;
}

START_TEST(test_content_passes_through_both_ways)
{
	char text[32];

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	test_write_file(fuse_path(fuse, "there"), "through");
	test_read_file(behind("there"), text, sizeof(text));
	ck_assert_str_eq(text, "through");
	test_write_file(behind("back"), "and back");
	test_read_file(fuse_path(fuse, "back"), text, sizeof(text));
	ck_assert_str_eq(text, "and back");
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_names_are_made_moved_and_removed)
{
	struct stat st, linked;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	ck_assert_int_eq(mkdir(fuse_path(fuse, "d"), 0700), 0);
	test_write_file(fuse_path(fuse, "a"), "x");
	ck_assert_int_eq(link(fuse_path(fuse, "a"), fuse_path(fuse, "d/b")), 0);
	ck_assert_int_eq(stat(fuse_path(fuse, "a"), &st), 0);
	ck_assert_int_eq(stat(fuse_path(fuse, "d/b"), &linked), 0);
	ck_assert_uint_eq(st.st_ino, linked.st_ino);
	ck_assert_uint_eq(linked.st_nlink, 2);
	ck_assert_int_eq(rename(fuse_path(fuse, "a"), fuse_path(fuse, "c")), 0);
	ck_assert_int_eq(stat_it((void *)behind("a")), -ENOENT);
	ck_assert_int_eq(stat_it((void *)behind("c")), 0);
	ck_assert_int_eq(symlink("c", fuse_path(fuse, "s")), 0);
	ck_assert_int_eq(stat_it((void *)fuse_path(fuse, "s")), 0);
	ck_assert_int_eq(mknod(fuse_path(fuse, "n"), S_IFREG | 0600, 0), 0);
	ck_assert_int_eq(unlink(fuse_path(fuse, "d/b")), 0);
	ck_assert_int_eq(rmdir(fuse_path(fuse, "d")), 0);
	ck_assert_int_eq(stat_it((void *)behind("d")), -ENOENT);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_folder_is_listed_whole)
{
	unsigned count = 0;
	DIR *folder;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	for (unsigned i = 0; i < 300; i++) { /* more than one answer holds */
		char name[64];

		(void)snprintf(name, sizeof(name), "a-rather-long-name-of-a-file-%03u", i);
		test_write_file(behind(name), "");
	}
	folder = opendir(fuse->path);
	ck_assert_ptr_nonnull(folder);
	for (struct dirent *entry = readdir(folder); entry; entry = readdir(folder))
		count += entry->d_name[0] == 'a';
	closedir(folder);
	ck_assert_uint_eq(count, 300);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_attributes_are_set)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 1000, 5 } };
	struct stat st;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	test_write_file(fuse_path(fuse, "f"), "12345");
	ck_assert_int_eq(chmod(fuse_path(fuse, "f"), 0640), 0);
	ck_assert_int_eq(truncate(fuse_path(fuse, "f"), 2), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, fuse_path(fuse, "f"), times, 0), 0);
	ck_assert_int_eq(stat(behind("f"), &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0640);
	ck_assert_int_eq(st.st_size, 2);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1000);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_file_without_a_name_gets_one)
{
	char link[32];
	int fd;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	fd = open(fuse->path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && errno == EOPNOTSUPP) {
		test_skip("this kernel's FUSE knows no O_TMPFILE");
		fuse_stop(fuse);
		return;
	}
	ck_assert_int_ge(fd, 0);
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ck_assert_int_eq(linkat(AT_FDCWD, link, AT_FDCWD, fuse_path(fuse, "named"),
	                        AT_SYMLINK_FOLLOW), 0);
	ck_assert_int_eq(stat_it((void *)behind("named")), 0);
	close(fd);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_each_call_comes_to_the_server)
{
	unsigned before;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	test_write_file(fuse_path(fuse, "f"), "");
	before = fuse->asked[FUSE_LOOKUP];
	ck_assert_int_eq(stat_it((void *)fuse_path(fuse, "f")), 0);
	ck_assert_int_eq(stat_it((void *)fuse_path(fuse, "f")), 0);
	ck_assert_uint_ge(fuse->asked[FUSE_LOOKUP], before + 2);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_delay_can_be_set_and_ended_while_it_runs)
{
	int64_t begin;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	test_write_file(fuse_path(fuse, "f"), "");
	fuse->delay_ms = 50;
	begin = test_now();
	ck_assert_int_eq(stat_it((void *)fuse_path(fuse, "f")), 0);
	ck_assert_int_ge(test_now() - begin, 50 * MILLISECONDS);
	fuse->delay_ms = 0;
	ck_assert_int_eq(stat_it((void *)fuse_path(fuse, "f")), 0);
	fuse_stop(fuse);
}
END_TEST

/* Served in turn, they would not be seen under way together. */
START_TEST(test_delayed_calls_delay_no_others)
{
	enum { COUNT = 8 };
	struct peer peers[COUNT];

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	for (unsigned i = 0; i < COUNT; i++) {
		char name[16];

		(void)snprintf(name, sizeof(name), "f%u", i);
		test_write_file(fuse_path(fuse, name), "");
		peer_start(&peers[i]);
	}
	fuse->delay_ms = 3600000;
	for (unsigned i = 0; i < COUNT; i++)
		peer_order(&peers[i], stat_it, (void *)fuse->path);
	await(fuse->under_way >= COUNT);
	fuse->delay_ms = 0; /* for those under way, too */
	for (unsigned i = 0; i < COUNT; i++) {
		ck_assert_int_eq(peer_answer(&peers[i]), 0);
		peer_stop(&peers[i]);
	}
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_stuck_call_ends_when_the_mount_lives_again)
{
	struct peer peer;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	peer_start(&peer);
	fuse->stuck = true;
	peer_order(&peer, stat_it, (void *)fuse->path);
	ck_assert(!peer_answers_within(&peer, 50));
	fuse->stuck = false;
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_process_on_a_stuck_mount_can_be_killed)
{
	struct peer peer;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	peer_start(&peer);
	fuse->stuck = true;
	peer_order(&peer, stat_it, (void *)fuse->path);
	ck_assert(!peer_answers_within(&peer, 20));
	peer_kill(&peer, SIGKILL);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_end_of_the_mount_fails_what_is_stuck)
{
	struct peer peer;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	peer_start(&peer);
	fuse->delay_ms = 3600000;
	peer_order(&peer, stat_it, (void *)fuse->path);
	await(fuse->under_way == 1);
	fuse->stuck = true;
	fuse->delay_ms = 0;
	ck_assert(!peer_answers_within(&peer, 20));
	fuse_stop(fuse);
	ck_assert_int_lt(peer_answer(&peer), 0);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_call_is_refused_with_its_errno)
{
	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	test_write_file(fuse_path(fuse, "f"), "");
	fuse->refused[FUSE_UNLINK] = EDQUOT;
	ck_assert_int_eq(unlink(fuse_path(fuse, "f")), -1);
	ck_assert_int_eq(errno, EDQUOT);
	fuse->refused[FUSE_UNLINK] = 0;
	ck_assert_int_eq(unlink(fuse_path(fuse, "f")), 0);
	fuse_stop(fuse);
}
END_TEST

/* A lock on the file behind is of another world, unless flock(2) is forwarded. */
START_TEST(test_flock_is_local_or_forwarded)
{
	bool forwarded = _i;
	int inside, outside;

	if (!set_up(forwarded ? FUSE_FLOCK_FORWARDED : FUSE_FLOCK_LOCAL))
		return;
	inside = open_file(fuse_path(fuse, "f"));
	outside = open_file(behind("f"));
	ck_assert_int_eq(flock(outside, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(flock(inside, LOCK_EX | LOCK_NB), forwarded ? -1 : 0);
	ck_assert_int_eq(flock(outside, LOCK_UN), 0);
	ck_assert_int_eq(flock(inside, LOCK_SH | LOCK_NB), 0);
	ck_assert_int_eq(fuse->asked[FUSE_SETLK] > 0, forwarded);
	close(inside);
	/* close(2) does not wait for the server */
	await(flock(outside, LOCK_EX | LOCK_NB) == 0);
	close(outside);
	fuse_stop(fuse);
}
END_TEST

static int hold_flock(void *arg)
{
	int fd = open(arg, O_RDWR | O_CLOEXEC);

	return fd < 0 || flock(fd, LOCK_EX) < 0 ? -errno : 0;
}

START_TEST(test_wait_for_a_forwarded_flock_is_served)
{
	const char *path;
	struct peer peer;
	int fd;

	if (!set_up(FUSE_FLOCK_FORWARDED))
		return;
	path = fuse_path(fuse, "f");
	fd = open_file(path);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	peer_start(&peer);
	peer_order(&peer, hold_flock, (void *)path);
	await(fuse->under_way == 1);
	ck_assert(!peer_answers_within(&peer, 0));
	ck_assert_int_eq(flock(fd, LOCK_UN), 0);
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
	close(fd);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_waiter_for_a_forwarded_flock_can_be_killed)
{
	const char *path;
	struct peer peer;
	int fd;

	if (!set_up(FUSE_FLOCK_FORWARDED))
		return;
	path = fuse_path(fuse, "f");
	fd = open_file(path);
	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	peer_start(&peer);
	peer_order(&peer, hold_flock, (void *)path);
	await(fuse->under_way == 1);
	peer_kill(&peer, SIGKILL);
	ck_assert_int_eq(flock(fd, LOCK_UN), 0);
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	close(fd);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_flock_can_be_missing)
{
	int fd;

	if (!set_up(FUSE_FLOCK_FORWARDED))
		return;
	fuse->refused[FUSE_SETLK] = ENOSYS;
	fd = open_file(fuse_path(fuse, "f"));
	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), -1);
	ck_assert_int_eq(errno, ENOSYS);
	close(fd);
	fuse_stop(fuse);
}
END_TEST

START_TEST(test_two_mounts_are_two)
{
	struct fuse *other;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	other = fuse_start(FUSE_FLOCK_LOCAL);
	ck_assert_ptr_nonnull(other);
	fuse->stuck = true;
	test_write_file(fuse_path(other, "f"), "");
	ck_assert_int_eq(stat_it((void *)behind("f")), -ENOENT);
	fuse_stop(other);
	fuse_stop(fuse);
}
END_TEST

static bool is_mounted(const char *path)
{
	char line[2048];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	ck_assert_ptr_nonnull(mounts);
	while (fgets(line, sizeof(line), mounts))
		found = found || strstr(line, path);
	fclose(mounts);
	return found;
}

START_TEST(test_nothing_is_left)
{
	const char *path = test_path("fuse0");
	unsigned descriptors = test_descriptors();
	pid_t server;

	if (!set_up(FUSE_FLOCK_LOCAL))
		return;
	server = fuse->server;
	ck_assert(is_mounted(path));
	fuse_stop(fuse);
	ck_assert(!is_mounted(path));
	ck_assert_int_eq(kill(server, 0), -1);
	ck_assert_uint_eq(test_descriptors(), descriptors);
}
END_TEST

static pid_t *served_by;

static int start_and_be_killed(void *arg)
{
	(void)arg;
	if (set_up(FUSE_FLOCK_LOCAL))
		*served_by = fuse->server;
	(void)raise(SIGKILL);
	return 0;
}

START_TEST(test_server_dies_with_its_test)
{
	served_by = test_shared(sizeof(*served_by));
	/* its parent is gone by then, and not every init reaps */
	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	ck_assert_int_eq(test_in_child(start_and_be_killed, NULL), 128 + SIGKILL);
	if (*served_by == 0)
		return; /* skipped */
	(void)test_reap(*served_by);
	ck_assert(!is_mounted(test_path("fuse0")));
}
END_TEST

int main(void)
{
	Suite *suite = SUITE(
		"fuse", test_content_passes_through_both_ways, test_names_are_made_moved_and_removed,
		test_folder_is_listed_whole, test_attributes_are_set,
		test_file_without_a_name_gets_one, test_each_call_comes_to_the_server,
		test_delay_can_be_set_and_ended_while_it_runs, test_delayed_calls_delay_no_others,
		test_stuck_call_ends_when_the_mount_lives_again,
		test_process_on_a_stuck_mount_can_be_killed,
		test_end_of_the_mount_fails_what_is_stuck, test_call_is_refused_with_its_errno,
		test_wait_for_a_forwarded_flock_is_served,
		test_waiter_for_a_forwarded_flock_can_be_killed, test_flock_can_be_missing,
		test_two_mounts_are_two, test_nothing_is_left, test_server_dies_with_its_test);
	TCase *both = tcase_create("both");

	tcase_add_loop_test(both, test_flock_is_local_or_forwarded, 0, 2);
	suite_add_tcase(suite, both);
	return support_main(suite);
}
