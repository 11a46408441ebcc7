/*
 * What others can do to us through the lock file, and we to them: readers that hold what they may
 * read, links put in its place, descriptors across exec(3).
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "softly.h"

enum { NOBODY = 65534 };

static struct filelock *open_kind(const char *name, enum filelock_kind kind, unsigned file_mode)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;

	options.file_mode = file_mode;
	ck_assert_int_eq(filelock_open(test_path(name), kind, &options, &lock), 0);
	return lock;
}

static int try(struct filelock *lock, enum filelock_mode mode)
{
	return filelock_acquire(lock, mode, FILELOCK_NO_WAIT);
}

/* In a peer: becomes another user; opens the file for reading, and holds what it can of it. */
static char held_path[4096];
static int held_fd = -1;

static int become_nobody(void *arg)
{
	(void)arg;
	return setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0;
}

static int open_to_read(void *arg)
{
	(void)arg;
	held_fd = open(held_path, O_RDONLY | O_CLOEXEC);
	return held_fd < 0 ? -errno : 0;
}

static int open_to_write(void *arg)
{
	(void)arg;
	held_fd = open(held_path, O_RDWR | O_CLOEXEC);
	return held_fd < 0 ? -errno : 0;
}

static int flock_it(void *arg)
{
	return flock(held_fd, *(int *)arg | LOCK_NB) < 0 ? -errno : 0;
}

#ifdef FILELOCK_SQLITE
/* On all of the file, as everybody's record locks on parts of it conflict with. */
static int record_lock_it(void *arg)
{
	struct flock whole = { .l_type = (short)*(int *)arg };

	return fcntl(held_fd, F_SETLK, &whole) < 0 ? -errno : 0;
}

static int read_lock = F_RDLCK, write_lock = F_WRLCK;
#endif

static int operation_exclusive = LOCK_EX, operation_shared = LOCK_SH, operation_none = LOCK_UN;

/* False: there is no other user here. */
static bool start_nobody(struct peer *peer, const char *name)
{
	if (!test_may_change_user())
		return false;
	(void)snprintf(held_path, sizeof(held_path), "%s", test_path(name));
	peer_start(peer);
	ck_assert_int_eq(peer_call(peer, become_nobody, NULL), 0);
	return true;
}

/* flock(2) asks for no more than an open file: so the right to read is the right to hold. */
/* shows: reader-holds */
START_TEST(test_whoever_may_read_a_native_lock_file_can_hold_it)
{
	struct filelock *lock = open_kind("lock", FILELOCK_NATIVE, 0644);
	struct peer reader;

	umask(0);
	if (!start_nobody(&reader, "lock"))
		return;
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_call(&reader, open_to_write, NULL), -EACCES);
	ck_assert_int_eq(peer_call(&reader, open_to_read, NULL), 0);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_shared), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_exclusive), 0);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), -ETIMEDOUT);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_none), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
	peer_stop(&reader);
}
END_TEST

static void check_kept_from_others(enum filelock_kind kind)
{
	struct filelock *lock = open_kind("lock.db", kind, 0600);
	struct peer other;

	umask(0);
	if (!start_nobody(&other, "lock.db"))
		return;
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(peer_call(&other, open_to_read, NULL), -EACCES);
	ck_assert_int_eq(peer_call(&other, open_to_write, NULL), -EACCES);
	filelock_close(lock);
	peer_stop(&other);
	(void)unlink(test_path("lock.db"));
}

/* shows: mode-keeps-out */
START_TEST(test_file_mode_keeps_others_from_holding)
{
	check_kept_from_others(FILELOCK_NATIVE);
	check_kept_from_others(FILELOCK_SOFT);
#ifdef FILELOCK_SQLITE
	check_kept_from_others(FILELOCK_READWRITE);
#endif
}
END_TEST

/* It can keep us from what the dead have left, and from nothing else. */
/* shows: reader-delays */
START_TEST(test_reader_of_a_marker_can_only_keep_a_dead_one_in_place)
{
	struct filelock *lock = open_kind("lock", FILELOCK_SOFT, 0644);
	const char *path = test_path("lock");
	struct peer reader;

	umask(022);
	if (!start_nobody(&reader, "lock"))
		return;
	put_record(path, dead_pid(), NULL);
	ck_assert_int_eq(peer_call(&reader, open_to_read, NULL), 0);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_shared), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_exclusive), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(filelock_break(lock), 0); /* which asks nobody */
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(peer_call(&reader, open_to_read, NULL), 0);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_shared), -EWOULDBLOCK);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_call(&reader, flock_it, &operation_exclusive), 0); /* of what is gone */
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
	peer_stop(&reader);
}
END_TEST

#ifdef FILELOCK_SQLITE
/* Record locks ask for the right to do what they protect: fcntl(2), EBADF. */
/* shows: reader-stops-writers */
START_TEST(test_reader_of_a_database_can_keep_out_writers_and_no_readers)
{
	struct filelock *lock = open_kind("lock.db", FILELOCK_READWRITE, 0644);
	struct peer reader;

	umask(0);
	if (!start_nobody(&reader, "lock.db"))
		return;
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(peer_call(&reader, open_to_read, NULL), 0);
	ck_assert_int_eq(peer_call(&reader, record_lock_it, &write_lock), -EBADF);
	ck_assert_int_eq(peer_call(&reader, record_lock_it, &read_lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	filelock_close(lock);
	peer_stop(&reader);
}
END_TEST

/* Its times may change, since a release of this kind wakes by them. */
/* shows: hard-link */
START_TEST(test_hard_link_in_place_of_a_database_leaves_the_victims_bytes_and_mode)
{
	struct filelock *lock = open_kind("lock.db", FILELOCK_READWRITE, 0666);
	char content[64];
	struct stat st;

	test_write_file(test_path("victim"), "precious, and long enough to have a header\n");
	ck_assert_int_eq(chmod(test_path("victim"), 0600), 0);
	ck_assert_int_eq(link(test_path("victim"), test_path("lock.db")), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -EBADMSG);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), -EBADMSG);
	filelock_close(lock);
	test_read_file(test_path("victim"), content, sizeof(content));
	ck_assert_str_eq(content, "precious, and long enough to have a header\n");
	ck_assert_int_eq(stat(test_path("victim"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
}
END_TEST
#endif

/* However long it stands there: other content is taken for a marker's wreck only when nobody can
   miss it under another name. */
/* shows: hard-link */
START_TEST(test_hard_link_in_place_of_a_marker_leaves_the_victim_alone)
{
	struct filelock *lock = open_kind("lock", FILELOCK_SOFT, 0666);
	static const char precious[] = "2147483647\n"; /* as a record that was cut short */
	char content[64];
	struct stat before, after;

	test_write_file(test_path("victim"), precious);
	ck_assert_int_eq(chmod(test_path("victim"), 0600), 0);
	ck_assert_int_eq(link(test_path("victim"), test_path("lock")), 0);
	ck_assert_int_eq(stat(test_path("victim"), &before), 0);
	clock_fake(1000 * SECONDS);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
		clock_advance(3 * SECONDS);
	}
	test_read_file(test_path("victim"), content, sizeof(content));
	ck_assert_str_eq(content, precious);
	ck_assert_int_eq(stat(test_path("victim"), &after), 0);
	ck_assert_uint_eq(after.st_mode, before.st_mode);
	ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	ck_assert_int_eq(unlink(test_path("victim")), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT); /* seen anew, and alone */
	clock_advance(3 * SECONDS);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
}
END_TEST

static void put_link_in_place(void *arg)
{
	(void)arg;
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	ck_assert_int_eq(symlink("victim", test_path("lock")), 0);
}

/* Before each of the calls that look at a marker, or take one over. */
static const enum fault_call looks[] = { FAULT_lstat, FAULT_open, FAULT_fstat, FAULT_flock,
	                                 FAULT_pread, FAULT_pwrite };
enum { LOOKS = sizeof(looks) / sizeof(looks[0]) };

/* shows: symbolic-link */
START_TEST(test_link_put_in_a_markers_place_at_any_moment_is_never_followed)
{
	char content[64];

	test_write_file(test_path("victim"), "precious\n");
	for (unsigned nth = 1; nth < 10; nth++) {
		struct filelock *lock = open_kind("lock", FILELOCK_SOFT, 0);

		(void)unlink(test_path("lock"));
		put_record(test_path("lock"), dead_pid(), NULL);
		fault_clear();
		fault_before(looks[_i], nth, put_link_in_place, NULL);
		if (try(lock, FILELOCK_EXCLUSIVE) == 0)
			ck_assert_int_eq(filelock_verify(lock),
			                 fault_hits(looks[_i]) ? FILELOCK_ELOST : 0);
		fault_clear();
		filelock_close(lock);
		test_read_file(test_path("victim"), content, sizeof(content));
		ck_assert_str_eq(content, "precious\n");
	}
}
END_TEST

/* Names of what is open and would stay so, from our folder or without a name. */
static void check_closed_on_exec(enum filelock_kind kind)
{
	struct filelock *holder = open_kind("lock.db", kind, 0);
	struct filelock *waiter = open_kind("lock.db", kind, 0);

	ck_assert_int_eq(try(holder, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_acquire(waiter, FILELOCK_EXCLUSIVE, 10), -ETIMEDOUT);
	for (int fd = 3; fd < 256; fd++) {
		char link[64], target[512];
		ssize_t length;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, target, sizeof(target) - 1);
		target[length > 0 ? length : 0] = '\0';
		if (strstr(target, test_folder()) || strstr(target, "anon_inode:"))
			ck_assert_msg(fcntl(fd, F_GETFD) & FD_CLOEXEC, "%s", target);
	}
	filelock_close(waiter);
	filelock_close(holder);
	(void)unlink(test_path("lock.db"));
}

/* shows: exec-closes */
START_TEST(test_no_descriptor_of_a_holder_or_waiter_survives_exec)
{
	check_closed_on_exec(FILELOCK_NATIVE);
	check_closed_on_exec(FILELOCK_SOFT);
#ifdef FILELOCK_SQLITE
	check_closed_on_exec(FILELOCK_READWRITE);
#endif
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("security", test_whoever_may_read_a_native_lock_file_can_hold_it,
	                     test_file_mode_keeps_others_from_holding,
	                     test_reader_of_a_marker_can_only_keep_a_dead_one_in_place,
	                     test_hard_link_in_place_of_a_marker_leaves_the_victim_alone,
	                     test_no_descriptor_of_a_holder_or_waiter_survives_exec);
	TCase *more = tcase_create("more");

#ifdef FILELOCK_SQLITE
	tcase_add_test(more, test_reader_of_a_database_can_keep_out_writers_and_no_readers);
	tcase_add_test(more,
	               test_hard_link_in_place_of_a_database_leaves_the_victims_bytes_and_mode);
#endif
	tcase_add_loop_test(more, test_link_put_in_a_markers_place_at_any_moment_is_never_followed,
	                    0, LOOKS);
	suite_add_tcase(suite, more);
	return support_main(suite);
}
