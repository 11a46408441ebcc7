/* The file at the path: made, found, or refused, and never changed. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <signal.h>
#include <sys/un.h>
#include <unistd.h>

#include "support.h"

static int acquire_once(const char *path, enum filelock_mode mode)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, mode, 1000);

	filelock_close(lock);
	return r;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	ck_assert_int_eq(lstat(path, &st), 0);
	return st.st_mode & 07777;
}

START_TEST(test_missing_parents_are_made)
{
	ck_assert_int_eq(acquire_once(test_path("a/b/c/lock"), FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(access(test_path("a/b/c/lock"), F_OK), 0);
}
END_TEST

START_TEST(test_parent_that_is_a_file_is_enotdir)
{
	test_write_file(test_path("file"), "");
	ck_assert_int_eq(acquire_once(test_path("file/lock"), FILELOCK_EXCLUSIVE), -ENOTDIR);
	ck_assert_int_eq(acquire_once(test_path("file/sub/lock"), FILELOCK_EXCLUSIVE), -ENOTDIR);
}
END_TEST

/* shows: modes */
START_TEST(test_new_file_has_mode_0666_through_the_umask)
{
	umask(027);
	ck_assert_int_eq(acquire_once(test_path("lock"), FILELOCK_EXCLUSIVE), 0);
	ck_assert_uint_eq(mode_of(test_path("lock")), 0640);
}
END_TEST

/* shows: modes */
START_TEST(test_file_mode_option_goes_through_the_umask)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	umask(022);
	options.file_mode = 0620;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(mode_of(test_path("lock")), 0600);
	filelock_close(lock);
}
END_TEST

/* shows: modes */
START_TEST(test_mode_of_an_existing_file_is_not_changed)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	test_write_file(test_path("lock"), "");
	ck_assert_int_eq(chmod(test_path("lock"), 0640), 0);
	options.file_mode = 0666;
	umask(0);
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	ck_assert_uint_eq(mode_of(test_path("lock")), 0640);
}
END_TEST

/* shows: bytes-stay */
START_TEST(test_content_and_times_of_an_existing_file_stay)
{
	static const char content[] = "the user's only copy\n";
	const char *path = test_path("precious");
	struct stat before, after;
	char found[64];

	test_write_file(path, content);
	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert_int_eq(acquire_once(path, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(acquire_once(path, FILELOCK_SHARED), 0);
	test_read_file(path, found, sizeof(found));
	ck_assert_str_eq(found, content);
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert_int_eq(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	ck_assert_int_eq(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
}
END_TEST

/* shows: hard-link */
START_TEST(test_hard_link_to_a_victim_leaves_the_victim_alone)
{
	char found[64];

	test_write_file(test_path("victim"), "content");
	ck_assert_int_eq(chmod(test_path("victim"), 0600), 0);
	ck_assert_int_eq(link(test_path("victim"), test_path("lock")), 0);
	ck_assert_int_eq(acquire_once(test_path("lock"), FILELOCK_EXCLUSIVE), 0);
	test_read_file(test_path("victim"), found, sizeof(found));
	ck_assert_str_eq(found, "content");
	ck_assert_uint_eq(mode_of(test_path("victim")), 0600);
}
END_TEST

/* shows: huge-file */
START_TEST(test_huge_sparse_file_is_no_matter)
{
	int fd = open(test_path("lock"), O_RDWR | O_CREAT, 0600);
	struct stat st;

	if (ftruncate(fd, (off_t)1 << 40) < 0) {
		test_skip("this file system has no files of 1 TiB");
		return;
	}
	ck_assert_int_eq(acquire_once(test_path("lock"), FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, (off_t)1 << 40);
	close(fd);
}
END_TEST

START_TEST(test_lock_file_stays_after_release_and_close)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(access(test_path("lock"), F_OK), 0);
	filelock_close(lock);
	ck_assert_int_eq(access(test_path("lock"), F_OK), 0);
}
END_TEST

/* shows: symbolic-link */
START_TEST(test_symlink_is_eloop_and_its_target_untouched)
{
	char found[64];

	test_write_file(test_path("target"), "content");
	ck_assert_int_eq(symlink("target", test_path("lock")), 0);
	ck_assert_int_eq(acquire_once(test_path("lock"), FILELOCK_EXCLUSIVE), -ELOOP);
	ck_assert_int_eq(acquire_once(test_path("lock"), FILELOCK_SHARED), -ELOOP);
	test_read_file(test_path("target"), found, sizeof(found));
	ck_assert_str_eq(found, "content");
}
END_TEST

/* shows: symbolic-link */
START_TEST(test_dangling_symlink_is_eloop_and_creates_nothing)
{
	ck_assert_int_eq(symlink("nowhere", test_path("lock")), 0);
	ck_assert_int_eq(acquire_once(test_path("lock"), FILELOCK_EXCLUSIVE), -ELOOP);
	ck_assert_int_eq(access(test_path("nowhere"), F_OK), -1);
}
END_TEST

/* shows: symbolic-link */
START_TEST(test_symlink_in_the_parent_is_followed)
{
	ck_assert_int_eq(mkdir(test_path("real"), 0777), 0);
	ck_assert_int_eq(symlink("real", test_path("alias")), 0);
	ck_assert_int_eq(acquire_once(test_path("alias/lock"), FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(access(test_path("real/lock"), F_OK), 0);
}
END_TEST

/* Refused at once, in both modes, without waiting for the other end of anything. */
static void expect_refused(const char *path, int error)
{
	struct filelock *lock = test_open(path, NULL);
	unsigned descriptors = test_descriptors();

	fault_watch();
	fault_clear();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), error);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), error);
	ck_assert_uint_eq(fault_calls(FAULT_ppoll), 0);
	ck_assert_uint_eq(test_descriptors(), descriptors);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), filelock_strerror(error)));
	filelock_close(lock);
}

/* shows: strange-file */
START_TEST(test_directory_is_eisdir)
{
	ck_assert_int_eq(mkdir(test_path("lock"), 0777), 0);
	expect_refused(test_path("lock"), -EISDIR);
}
END_TEST

START_TEST(test_path_with_a_final_slash_is_eisdir)
{
	struct filelock *lock = NULL;
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/", test_folder());
	ck_assert_int_eq(filelock_open(path, FILELOCK_NATIVE, NULL, &lock), -EISDIR);
}
END_TEST

/* shows: strange-file */
START_TEST(test_fifo_is_refused)
{
	ck_assert_int_eq(mkfifo(test_path("lock"), 0666), 0);
	expect_refused(test_path("lock"), FILELOCK_ENOTREGULAR);
}
END_TEST

/* shows: strange-file */
START_TEST(test_socket_is_refused)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ck_assert_int_eq(chdir(test_folder()), 0);
	strcpy(address.sun_path, "lock");
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	expect_refused(test_path("lock"), FILELOCK_ENOTREGULAR);
	close(fd);
}
END_TEST

/* shows: strange-file */
START_TEST(test_device_is_refused)
{
	expect_refused("/dev/null", FILELOCK_ENOTREGULAR);
	expect_refused("/dev/zero", FILELOCK_ENOTREGULAR);
}
END_TEST

START_TEST(test_lock_descriptor_is_closed_on_exec)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(fcntl(filelock_fd(lock), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	filelock_close(lock);
}
END_TEST

START_TEST(test_unlink_on_release_removes_our_file)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(access(test_path("lock"), F_OK), 0); /* still held */
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(access(test_path("lock"), F_OK), -1);
	filelock_close(lock);
}
END_TEST

START_TEST(test_unlink_on_release_spares_another_ones_file)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	char found[16];

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	test_write_file(test_path("new"), "new");
	ck_assert_int_eq(rename(test_path("new"), test_path("lock")), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	test_read_file(test_path("lock"), found, sizeof(found));
	ck_assert_str_eq(found, "new");
	filelock_close(lock);
}
END_TEST

/* Else the next exclusive holder would lock a new file beside the one still held. */
/* shows: unlink-on-release */
START_TEST(test_unlink_on_release_spares_a_file_that_others_hold_shared)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *one, *other, *writer = test_open(test_path("lock"), NULL);

	options.unlink_on_release = true;
	one = test_open(test_path("lock"), &options);
	other = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(one, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_acquire(other, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(filelock_release(one), 0);
	ck_assert_int_eq(filelock_verify(other), 0);
	ck_assert_int_eq(filelock_acquire(writer, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(other), 0);
	ck_assert_int_eq(filelock_acquire(writer, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(one);
	filelock_close(other);
	filelock_close(writer);
}
END_TEST

START_TEST(test_close_of_a_waiter_does_not_unlink)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock, *waiter;

	options.unlink_on_release = true;
	lock = test_open(test_path("lock"), NULL);
	waiter = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_acquire(waiter, FILELOCK_EXCLUSIVE, 5), -ETIMEDOUT);
	filelock_close(waiter);
	ck_assert_int_eq(access(test_path("lock"), F_OK), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_descriptor_of_a_file_is_locked_and_never_closed)
{
	int fd = open(test_path("data"), O_RDWR | O_CREAT, 0600);
	int peer = open(test_path("data"), O_RDONLY);
	struct filelock *lock = NULL;
	char name[32];

	ck_assert_int_eq(filelock_open_fd(fd, NULL, &lock), 0);
	(void)snprintf(name, sizeof(name), "fd %d", fd);
	ck_assert_str_eq(filelock_path(lock), name);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(filelock_fd(lock), fd);
	ck_assert_int_eq(flock(peer, LOCK_SH | LOCK_NB), -1);
	ck_assert_int_eq(unlink(test_path("data")), 0);
	ck_assert_int_eq(filelock_verify(lock), 0); /* no path is looked at */
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(flock(peer, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 5), -ETIMEDOUT);
	filelock_close(lock);
	ck_assert_int_ge(fcntl(fd, F_GETFD), 0);
	close(fd);
	close(peer);
}
END_TEST

START_TEST(test_closing_a_descriptors_handle_unlocks_it)
{
	int fd = open(test_path("data"), O_RDWR | O_CREAT, 0600);
	int peer = open(test_path("data"), O_RDONLY);
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open_fd(fd, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	ck_assert_int_eq(flock(peer, LOCK_EX | LOCK_NB), 0);
	close(fd);
	close(peer);
}
END_TEST

START_TEST(test_descriptor_of_a_directory_is_locked)
{
	int fd = open(test_folder(), O_RDONLY | O_DIRECTORY);
	int peer = open(test_folder(), O_RDONLY | O_DIRECTORY);
	struct filelock *lock = NULL;

	ck_assert_int_eq(filelock_open_fd(fd, NULL, &lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(flock(peer, LOCK_SH | LOCK_NB), -1);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(flock(peer, LOCK_EX | LOCK_NB), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5), -ETIMEDOUT);
	ck_assert_int_eq(flock(peer, LOCK_UN), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5000), 0);
	filelock_close(lock);
	close(fd);
	close(peer);
}
END_TEST

/* A file under a lease of another process: open(2) would block for up to 45 s. */
/* shows: lease */
START_TEST(test_lease_on_the_file_is_contention)
{
	int fd = open(test_path("lock"), O_RDWR | O_CREAT, 0600);
	struct filelock *lock = test_open(test_path("lock"), NULL);

	if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0) {
		test_skip("no leases here");
		return;
	}
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	close(fd);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "file", test_missing_parents_are_made, test_parent_that_is_a_file_is_enotdir,
	        test_new_file_has_mode_0666_through_the_umask,
	        test_file_mode_option_goes_through_the_umask,
	        test_mode_of_an_existing_file_is_not_changed,
	        test_content_and_times_of_an_existing_file_stay,
	        test_hard_link_to_a_victim_leaves_the_victim_alone,
	        test_huge_sparse_file_is_no_matter, test_lock_file_stays_after_release_and_close,
	        test_symlink_is_eloop_and_its_target_untouched,
	        test_dangling_symlink_is_eloop_and_creates_nothing,
	        test_symlink_in_the_parent_is_followed, test_directory_is_eisdir,
	        test_path_with_a_final_slash_is_eisdir, test_fifo_is_refused, test_socket_is_refused,
	        test_device_is_refused, test_lock_descriptor_is_closed_on_exec,
	        test_unlink_on_release_removes_our_file,
	        test_unlink_on_release_spares_another_ones_file,
	        test_unlink_on_release_spares_a_file_that_others_hold_shared,
	        test_close_of_a_waiter_does_not_unlink,
	        test_descriptor_of_a_file_is_locked_and_never_closed,
	        test_closing_a_descriptors_handle_unlocks_it,
	        test_descriptor_of_a_directory_is_locked, test_lease_on_the_file_is_contention));
}
