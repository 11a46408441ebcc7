/* The holder of a read/write lock by the system's table of locks, and its paths. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

#ifdef FILELOCK_SQLITE

/* Where SQLite locks: lockingv3.html. */
#define RESERVED_BYTE 0x40000001
#define SHARED_FIRST 0x40000002
#define SHARED_SIZE 510

static char path[512];

static struct filelock *open_at(const char *name)
{
	(void)snprintf(path, sizeof(path), "%s", test_path(name));
	return test_open(path, NULL);
}

/* Of one CPU /proc/locks lists the newest lock first. */
static void stay_on_one_cpu(void)
{
	cpu_set_t all, one;
	int cpu = 0;

	ck_assert_int_eq(sched_getaffinity(0, sizeof(all), &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	ck_assert_int_eq(sched_setaffinity(0, sizeof(one), &one), 0);
}

static int set_record(short type, off_t start, off_t length)
{
	static int fd = -1;
	struct flock record = { .l_type = type, .l_start = start, .l_len = length };

	if (fd < 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	return fcntl(fd, F_SETLK, &record);
}

static int read_it(void *arg)
{
	(void)arg;
	return set_record(F_RDLCK, SHARED_FIRST, SHARED_SIZE);
}

/* It has SHARED and RESERVED, and waits for the readers to leave. */
static int wait_to_write(void *arg)
{
	return read_it(arg) | set_record(F_WRLCK, RESERVED_BYTE, 1);
}

START_TEST(test_reader_and_not_the_writer_behind_it_is_the_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock = open_at("lock.db");
	struct peer reader, writer;
	bool writer_first = _i;

	test_write_file(path, "");
	stay_on_one_cpu();
	peer_start(&reader);
	peer_start(&writer);
	if (writer_first)
		ck_assert_int_eq(peer_call(&writer, wait_to_write, NULL), 0);
	ck_assert_int_eq(peer_call(&reader, read_it, NULL), 0);
	if (!writer_first)
		ck_assert_int_eq(peer_call(&writer, wait_to_write, NULL), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, reader.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_SHARED);
	/* it is about to get in */
	peer_stop(&reader);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, writer.pid);
	filelock_close(lock);
	peer_stop(&writer);
}
END_TEST

START_TEST(test_holder_of_a_symbolic_link_is_not_looked_for)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock = open_at("lock.db");
	struct peer holder;

	peer_start_holding(&holder, test_path("other.db"), FILELOCK_SHARED);
	ck_assert_int_eq(symlink("other.db", path), 0);
	ck_assert_int_eq(filelock_holder(lock, &owner), -ELOOP);
	ck_assert_int_eq(owner.pid, 0);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

START_TEST(test_database_in_what_is_no_folder_any_more_is_not_the_one_held)
{
	struct filelock *lock = open_at("folder/lock.db");

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(rename(test_path("folder"), test_path("aside")), 0);
	test_write_file(test_path("folder"), "");
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

/* The folder's name is a link, which comes to name it by its new name. */
START_TEST(test_database_whose_folder_moved_is_the_one_held_as_long_as_the_path_names_it)
{
	struct filelock *lock = open_at("link/lock.db");

	ck_assert_int_eq(symlink("aside", test_path("link")), 0);
	ck_assert_int_eq(mkdir(test_path("aside"), 0700), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(rename(test_path("aside"), test_path("folder")), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(unlink(test_path("link")), 0);
	ck_assert_int_eq(symlink("folder", test_path("link")), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(lock);
}
END_TEST

/* Such a name leaves no room for that of a journal, so there can be none. */
START_TEST(test_longest_name_serves)
{
	char name[256];
	struct filelock *lock;

	memset(name, 'x', 255);
	memcpy(name + 252, ".db", 4);
	lock = open_at(name);
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		ck_assert_int_eq(filelock_acquire(lock, (enum filelock_mode)mode, 0), 0);
		ck_assert_int_eq(filelock_release(lock), 0);
	}
	filelock_close(lock);
}
END_TEST

int main(void)
{
	Suite *suite =
	        SUITE("readwrite holder", test_holder_of_a_symbolic_link_is_not_looked_for,
	              test_database_in_what_is_no_folder_any_more_is_not_the_one_held,
	              test_database_whose_folder_moved_is_the_one_held_as_long_as_the_path_names_it,
	              test_longest_name_serves);
	TCase *orders = tcase_create("orders");

	(void)setenv("FILELOCK_TEST_KIND", "readwrite", 1);
	tcase_add_loop_test(orders, test_reader_and_not_the_writer_behind_it_is_the_holder, 0, 2);
	suite_add_tcase(suite, orders);
	return support_main(suite);
}

#else

int main(void)
{
	return 77;
}

#endif
