/* The system calls: which are repeated, cut short, reported. */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "support.h"
#include "base/sys.h"

static int open_file(const char *content)
{
	int fd;

	test_write_file(test_path("file"), content);
	fd = open(test_path("file"), O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(test_interrupted_calls_are_repeated)
{
	int fd = open_file("1234");
	char buffer[8];
	struct stat st;

	fault_set(FAULT_open, 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_flock, 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_fstat, 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_lstat, 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_pread, 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_pwrite, 1, FAULT_ONCE, EINTR);
	fault_set(FAULT_read, 1, FAULT_ONCE, EINTR);
	ck_assert_int_eq(close(sys_open("/dev/null", O_RDONLY, 0)), 0);
	ck_assert_int_eq(sys_flock(fd, 8 /* LOCK_UN */), 0);
	ck_assert_int_eq(sys_fstat(fd, &st), 0);
	ck_assert_int_eq(sys_lstat(test_path("file"), &st), 0);
	ck_assert_int_eq(sys_read_start(fd, buffer, sizeof(buffer)), 4);
	ck_assert_int_eq(sys_write_start(fd, "56", 2), 0);
	ck_assert_int_eq(sys_read_file(test_path("file"), buffer, sizeof(buffer)), 4);
	ck_assert_str_eq(buffer, "5634");
	ck_assert_uint_eq(fault_hits(FAULT_open) + fault_hits(FAULT_flock) +
	                          fault_hits(FAULT_fstat) + fault_hits(FAULT_lstat) +
	                          fault_hits(FAULT_pread) + fault_hits(FAULT_pwrite) +
	                          fault_hits(FAULT_read),
	                  7);
	close(fd);
}
END_TEST

START_TEST(test_reading_ends_with_the_file_or_the_buffer)
{
	int fd = open_file("1234");
	char buffer[4];

	ck_assert_int_eq(sys_read_start(fd, buffer, 2), 2);
	ck_assert_int_eq(sys_read_start(fd, buffer, 4), 4);
	ck_assert_int_eq(sys_read_file(test_path("file"), buffer, sizeof(buffer)), 3);
	ck_assert_str_eq(buffer, "123");
	close(fd);
}
END_TEST

START_TEST(test_errors_of_reading_are_told_and_leak_nothing)
{
	int fd = open_file("1234");
	unsigned before = test_descriptors();
	char buffer[8];

	fault_set(FAULT_pread, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(sys_read_start(fd, buffer, sizeof(buffer)), -EIO);
	fault_set(FAULT_read, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(sys_read_file(test_path("file"), buffer, sizeof(buffer)), -EIO);
	ck_assert_int_eq(sys_read_file(test_path("nothing"), buffer, sizeof(buffer)), -ENOENT);
	ck_assert_uint_eq(test_descriptors(), before);
	close(fd);
}
END_TEST

static ssize_t write_a_byte(int fd, const void *buffer, size_t size, off_t at)
{
	return pwrite(fd, buffer, size > 1 ? 1 : size, at);
}

static ssize_t write_nothing(int fd, const void *buffer, size_t size, off_t at)
{
	(void)fd;
	(void)buffer;
	(void)size;
	(void)at;
	return 0;
}

START_TEST(test_writing_goes_on_until_all_is_there_or_nothing_more_goes)
{
	int fd = open_file("");
	char buffer[8];

	sys.pwrite = write_a_byte;
	ck_assert_int_eq(sys_write_start(fd, "1234", 4), 0);
	ck_assert_int_eq(sys_read_start(fd, buffer, sizeof(buffer)), 4);
	ck_assert_mem_eq(buffer, "1234", 4);
	sys.pwrite = write_nothing;
	ck_assert_int_eq(sys_write_start(fd, "5678", 4), -ENOSPC);
	sys.pwrite = pwrite;
	fault_set(FAULT_pwrite, 1, FAULT_ONCE, EDQUOT);
	ck_assert_int_eq(sys_write_start(fd, "5678", 4), -EDQUOT);
	close(fd);
}
END_TEST

START_TEST(test_removing_what_is_gone_is_no_error)
{
	ck_assert_int_eq(sys_unlink(test_path("nothing")), 0);
	ck_assert_int_eq(sys_unlink("/dev/null/nothing"), -ENOTDIR);
}
END_TEST

START_TEST(test_only_known_file_systems_are_local)
{
	static const unsigned long local[] = { EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC,
		                               BTRFS_SUPER_MAGIC, F2FS_SUPER_MAGIC,
		                               TMPFS_MAGIC, RAMFS_MAGIC,
		                               OVERLAYFS_SUPER_MAGIC };
	struct statfs fs = { 0 };

	for (size_t i = 0; i < sizeof(local) / sizeof(local[0]); i++) {
		fs.f_type = local[i];
		ck_assert(sys_is_local(&fs));
	}
	fs.f_type = NFS_SUPER_MAGIC;
	ck_assert(!sys_is_local(&fs));
	ck_assert(sys_is_nfs(&fs));
	fs.f_type = EXT4_SUPER_MAGIC;
	ck_assert(!sys_is_nfs(&fs));
	ck_assert(!sys_is_fuse(&fs));
	fs.f_type = FUSE_SUPER_MAGIC;
	ck_assert(!sys_is_local(&fs));
	ck_assert(sys_is_fuse(&fs));
}
END_TEST

START_TEST(test_text_without_memory_is_null)
{
	fault_set(FAULT_calloc, 1, FAULT_FOR_GOOD, ENOMEM);
	ck_assert_ptr_null(sys_strdup("text"));
	ck_assert_ptr_null(sys_format("%s", "text"));
}
END_TEST

/* A character that the C locale does not have: snprintf(3) fails. */
START_TEST(test_text_that_cannot_be_written_is_null)
{
	ck_assert_ptr_null(sys_format("%ls", L"\u0416"));
}
END_TEST

START_TEST(test_every_descriptor_is_moved_above_standard_error)
{
	int fds[6];

	ck_assert_int_eq(close(STDOUT_FILENO), 0);
	fds[0] = sys_open("/dev/null", O_RDONLY, 0);
	fds[1] = sys_inotify_init(IN_CLOEXEC);
	fds[2] = sys_epoll_create(EPOLL_CLOEXEC);
	fds[3] = sys_eventfd(0, EFD_CLOEXEC);
	fds[4] = sys_timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	fds[5] = sys_pidfd_open(getpid(), 0);
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (fds[i] == -ENOSYS)
			continue; /* valgrind knows no pidfds */
		ck_assert_int_gt(fds[i], STDERR_FILENO);
		ck_assert_int_eq(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		ck_assert_int_eq(close(fds[i]), 0);
	}
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFD), -1);
}
END_TEST

START_TEST(test_program_keeps_what_it_puts_in_an_occupied_place)
{
	ck_assert_int_eq(close(STDOUT_FILENO), 0);
	ck_assert_int_eq(sys_occupy_standard(), 0);
	ck_assert_int_eq(sys_occupy_standard(), 0);
	sys_vacate_standard();
	ck_assert_int_ge(fcntl(STDOUT_FILENO, F_GETFD), 0); /* the other one still asks for it */
	ck_assert_int_eq(dup2(STDERR_FILENO, STDOUT_FILENO), STDOUT_FILENO);
	sys_vacate_standard();
	ck_assert_int_ge(fcntl(STDOUT_FILENO, F_GETFD), 0);
}
END_TEST

START_TEST(test_places_that_cannot_all_be_occupied_are_left)
{
	ck_assert_int_eq(close(STDIN_FILENO), 0);
	ck_assert_int_eq(close(STDOUT_FILENO), 0);
	fault_set(FAULT_open, 2, FAULT_ONCE, EMFILE);
	ck_assert_int_eq(sys_occupy_standard(), -EMFILE);
	ck_assert_int_eq(fcntl(STDIN_FILENO, F_GETFD), -1);
	ck_assert_int_eq(fcntl(STDOUT_FILENO, F_GETFD), -1);
}
END_TEST

START_TEST(test_place_that_is_closed_whatever_is_opened_is_an_error)
{
	fault_set(FAULT_fcntl_getfl, 1, FAULT_FOR_GOOD, EBADF);
	ck_assert_int_eq(sys_occupy_standard(), -EBADF);
	ck_assert_uint_lt(fault_hits(FAULT_fcntl_getfl), 1000);
}
END_TEST

int main(void)
{
	return support_main(SUITE("sys", test_place_that_is_closed_whatever_is_opened_is_an_error,
	                          test_interrupted_calls_are_repeated,
	                          test_reading_ends_with_the_file_or_the_buffer,
	                          test_errors_of_reading_are_told_and_leak_nothing,
	                          test_writing_goes_on_until_all_is_there_or_nothing_more_goes,
	                          test_removing_what_is_gone_is_no_error,
	                          test_only_known_file_systems_are_local,
	                          test_text_without_memory_is_null,
	                          test_text_that_cannot_be_written_is_null,
	                          test_every_descriptor_is_moved_above_standard_error,
	                          test_program_keeps_what_it_puts_in_an_occupied_place,
	                          test_places_that_cannot_all_be_occupied_are_left));
}
