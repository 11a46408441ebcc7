/* Taking a dead marker over, or away, while it changes or a call fails: what was not judged is
   left alone, and what was written of it is put back. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/magic.h"
#include "softly.h"
#include "base/sys.h"

static char path[4096];
static struct filelock *lock;

static void set_up(const struct filelock_options *options)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	lock = test_open(path, options);
}

static int try(void)
{
	return filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
}

/* The marker at the path has that text, and nobody has taken it. */
static void expect_text(const char *text)
{
	char content[4 * MARKER_SIZE];

	test_read_file(path, content, sizeof(content));
	ck_assert_str_eq(content, text);
}

START_TEST(test_marker_that_cannot_be_opened_is_somebody_elses_to_judge)
{
	static const int errors[] = { EACCES, EPERM, EWOULDBLOCK };

	set_up(NULL);
	put_record(path, dead_pid(), NULL);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		fault_set(FAULT_open, 1, FAULT_FOR_GOOD, errors[i]);
		ck_assert_int_eq(try(), -ETIMEDOUT);
		fault_clear();
	}
	ck_assert_int_eq(try(), 0);
	filelock_close(lock);
}
END_TEST

/* The fault in the answers of lstat(2), from some moment on. */
static enum change {
	NOTHING,
	SIZE,
	MODIFIED_S,
	MODIFIED_NS,
	CHANGED_S,
	CHANGED_NS,
	CHANGES
} change;

static int lstat_changed(const char *name, struct stat *ret)
{
	int r = lstat(name, ret);

	ret->st_size += change == SIZE;
	ret->st_mtim.tv_sec += change == MODIFIED_S;
	ret->st_mtim.tv_nsec += change == MODIFIED_NS;
	ret->st_ctim.tv_sec += change == CHANGED_S;
	ret->st_ctim.tv_nsec += change == CHANGED_NS;
	return r;
}

START_TEST(test_torn_marker_is_seen_anew_whatever_has_changed)
{
	char torn[32];

	set_up(NULL);
	(void)snprintf(torn, sizeof(torn), "%ld\n", (long)dead_pid());
	put_bytes(path, torn, strlen(torn));
	sys.lstat = lstat_changed;
	clock_fake(1000 * SECONDS);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	change = (enum change)_i;
	clock_advance(2 * SECONDS);
	ck_assert_int_eq(try(), change == NOTHING ? 0 : -ETIMEDOUT);
	if (change != NOTHING) {
		clock_advance(2 * SECONDS);
		ck_assert_int_eq(try(), 0);
	}
	filelock_close(lock);
}
END_TEST

/* A marker that somebody has open, and that has reached its lifetime. */
static int put_expired(void)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int fd;

	options.lifetime_ms = 1000;
	set_up(&options);
	put_record(path, getpid(), NULL);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	date_shift(3600 * SECONDS);
	return fd;
}

static const struct {
	enum fault_call call;
	unsigned nth;
	int error;
} expiries[] = { { FAULT_pread, 1, EIO }, { FAULT_lstat, 2, EIO }, { FAULT_unlink, 1, EPERM } };
enum { EXPIRIES = sizeof(expiries) / sizeof(expiries[0]) };

START_TEST(test_failure_to_remove_an_expired_marker_is_told_and_leaves_it)
{
	struct marker marker;
	int fd = put_expired();

	fault_set(expiries[_i].call, expiries[_i].nth, FAULT_ONCE, expiries[_i].error);
	ck_assert_int_eq(try(), -expiries[_i].error);
	ck_assert(read_marker(path, &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, getpid());
	ck_assert_int_eq(try(), 0);
	filelock_close(lock);
	close(fd);
}
END_TEST

/* By one that is not old. */
static void put_a_successor(void *arg)
{
	const struct timespec later[2] = { [1] = { .tv_sec = INT32_MAX } };

	(void)arg;
	put_bytes(test_path("successor"), "filelock/2\n", 11);
	ck_assert_int_eq(utimensat(AT_FDCWD, test_path("successor"), later, 0), 0);
	ck_assert_int_eq(rename(test_path("successor"), path), 0);
}

START_TEST(test_successor_of_an_expired_marker_is_not_removed)
{
	int fd = put_expired();

	fault_before(FAULT_lstat, 2, put_a_successor, NULL);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	ck_assert_uint_eq(fault_hits(FAULT_lstat), 1);
	expect_text("filelock/2\n");
	filelock_close(lock);
	close(fd);
}
END_TEST

static struct filelock *taker;

static void take_it_over(void *arg)
{
	(void)arg;
	ck_assert_int_eq(filelock_acquire(taker, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT), 0);
}

/* The same file, of another time: it is dead and old, and just as we look taken over. */
START_TEST(test_expired_marker_that_is_taken_over_meanwhile_is_not_removed)
{
	const struct timespec old[2] = { { .tv_sec = 1000000000 }, { .tv_sec = 1000000000 } };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.lifetime_ms = 3600000;
	set_up(&options);
	taker = test_open(path, &options);
	put_record(path, dead_pid(), NULL);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, old, 0), 0);
	fault_before(FAULT_flock, 1, take_it_over, NULL);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 1);
	ck_assert_int_eq(filelock_verify(taker), 0);
	filelock_close(taker);
	filelock_close(lock);
}
END_TEST

static const struct {
	struct timespec modified;
	bool expired;
} ages[] = {
	{ { 1999, 500 }, true },
	{ { 1999, 501 }, false },
	{ { 1998, 999999999 }, true },
	{ { 2000, 0 }, false },
	/* in the year 2400, and when there will be none: not to be told in nanoseconds */
	{ { INT64_C(13569465600), 0 }, false },
	{ { INT64_MAX, 0 }, false },
	{ { INT64_MIN, 0 }, true },
};
enum { AGES = sizeof(ages) / sizeof(ages[0]) };
static struct timespec modified;

static int64_t fixed_date(void)
{
	return 2000 * SECONDS + 500;
}

static int lstat_dated(const char *name, struct stat *ret)
{
	int r = lstat(name, ret);

	ret->st_mtim = modified;
	return r;
}

START_TEST(test_marker_expires_at_its_lifetime_whatever_its_date)
{
	int fd = put_expired(); /* after 1 s */

	sys.date = fixed_date;
	sys.lstat = lstat_dated;
	modified = ages[_i].modified;
	ck_assert_int_eq(try(), ages[_i].expired ? 0 : -ETIMEDOUT);
	filelock_close(lock);
	close(fd);
}
END_TEST

START_TEST(test_successor_of_a_dead_marker_is_not_taken)
{
	set_up(NULL);
	put_record(path, dead_pid(), NULL);
	fault_before(FAULT_open, 2, put_a_successor, NULL); /* for writing */
	ck_assert_int_eq(try(), -ETIMEDOUT);
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
	expect_text("filelock/2\n");
	filelock_close(lock);
}
END_TEST

/* Two dead markers of the same bytes, of which the judged one steps aside for the other. */
static void exchange(void *arg)
{
	(void)arg;
	ck_assert_int_eq(rename(path, test_path("third")), 0);
	ck_assert_int_eq(rename(test_path("aside"), path), 0);
	ck_assert_int_eq(rename(test_path("third"), test_path("aside")), 0);
}

START_TEST(test_marker_that_stood_there_for_a_moment_is_not_taken_for_the_one_that_does)
{
	struct stat held, named;
	pid_t pid = dead_pid();

	set_up(NULL);
	put_record(path, pid, NULL);
	put_record(test_path("aside"), pid, NULL);
	fault_before(FAULT_open, 2, exchange, NULL); /* for writing */
	fault_before(FAULT_flock, 3, exchange, NULL);
	ck_assert_int_eq(try(), 0);
	ck_assert_uint_eq(fault_hits(FAULT_open) + fault_hits(FAULT_flock), 2);
	ck_assert_int_eq(fstat(filelock_fd(lock), &held), 0);
	ck_assert_int_eq(stat(path, &named), 0);
	ck_assert_uint_eq(held.st_ino, named.st_ino);
	filelock_close(lock);
}
END_TEST

/* Another marker, of the same size. */
static void rewrite(void *arg)
{
	char text[MARKER_SIZE];
	struct stat st;

	(void)arg;
	ck_assert_int_eq(stat(path, &st), 0);
	memset(text, ' ', sizeof(text));
	memcpy(text, "filelock/2\n", 11);
	put_bytes(path, text, (size_t)st.st_size);
}

/* The same bytes, but only the first two of them. */
static void cut(void *arg)
{
	(void)arg;
	ck_assert_int_eq(truncate(path, 2), 0);
}

START_TEST(test_marker_that_is_written_after_it_was_judged_is_not_taken)
{
	static void (*const writers[])(void *arg) = { rewrite, cut };
	char content[MARKER_SIZE];

	set_up(NULL);
	put_record(path, dead_pid(), "12345678"); /* so that it is longer than the new text */
	fault_before(FAULT_flock, 3, writers[_i], NULL); /* judging took two */
	ck_assert_int_eq(try(), -ETIMEDOUT);
	ck_assert_uint_eq(fault_hits(FAULT_flock), 1);
	test_read_file(path, content, sizeof(content));
	if (_i == 0)
		ck_assert_int_eq(strncmp(content, "filelock/2\n", 11), 0);
	else
		ck_assert_uint_eq(strlen(content), 2);
	filelock_close(lock);
}
END_TEST

static unsigned long file_system;
static unsigned synced;

static int say_file_system(const char *name, struct statfs *ret)
{
	int r = statfs(name, ret);

	ret->f_type = file_system;
	return r;
}

static int count_sync(int fd)
{
	synced++;
	return fsync(fd);
}

static void set_up_elsewhere(void)
{
	set_up(NULL);
	sys.statfs = say_file_system;
	sys.fsync = count_sync;
	file_system = FUSE_SUPER_MAGIC;
	put_record(path, dead_pid(), NULL);
}

/* By another taker, through another mount: the flock on the marker does not tell of it there. */
/* shows: shown-marker */
START_TEST(test_where_flocks_may_not_tell_takers_take_turns)
{
	int turn = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(turn, 0);
	set_up_elsewhere();
	ck_assert_int_eq(flock(turn, LOCK_EX), 0);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	ck_assert_int_eq(flock(turn, LOCK_UN), 0);
	ck_assert_int_eq(try(), 0);
	ck_assert_uint_eq(synced, 1);
	ck_assert_int_eq(flock(turn, LOCK_EX | LOCK_NB), 0); /* the turn is over */
	close(turn);
	filelock_close(lock);
}
END_TEST

static int open_no_namespace(const char *name, int flags, mode_t mode)
{
	if (strcmp(name, "/proc/thread-self/ns/pid") != 0)
		return open(name, flags, mode);
	errno = ENOENT;
	return -1;
}

START_TEST(test_without_a_turn_nothing_is_taken_where_flocks_may_not_tell)
{
	set_up_elsewhere();
	sys.open = open_no_namespace;
	ck_assert_int_eq(try(), -ETIMEDOUT);
	sys.open = open_no_namespace;
	file_system = TMPFS_MAGIC;
	filelock_close(lock);
	lock = test_open(path, NULL);
	ck_assert_int_eq(try(), 0);
	ck_assert_uint_eq(synced, 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_what_cannot_be_made_sure_for_the_next_taker_is_put_back)
{
	char before[MARKER_SIZE];

	set_up_elsewhere();
	test_read_file(path, before, sizeof(before));
	fault_set(FAULT_fsync, 1, FAULT_ONCE, EIO);
	fault_set(FAULT_ftruncate, 1, FAULT_ONCE, EINTR);
	ck_assert_int_eq(try(), -EIO);
	ck_assert_uint_eq(fault_hits(FAULT_ftruncate), 1);
	expect_text(before);
	fault_set(FAULT_fsync, 1, FAULT_ONCE, EINVAL); /* there is nothing to wait for */
	ck_assert_int_eq(try(), 0);
	filelock_close(lock);
}
END_TEST

/* Two faults: what is left names nobody who lives, and the next one takes it. */
START_TEST(test_what_cannot_be_put_back_is_nobodys)
{
	struct marker marker;

	set_up_elsewhere();
	put_record(path, 2147483646, NULL);
	fault_set(FAULT_fsync, 1, FAULT_ONCE, EIO);
	fault_set(FAULT_ftruncate, 1, FAULT_FOR_GOOD, EPERM);
	ck_assert_int_eq(try(), -EIO);
	ck_assert_uint_gt(fault_hits(FAULT_ftruncate), 0);
	ck_assert(read_marker(path, &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, 2147483647);
	ck_assert_int_eq(try(), 0);
	filelock_close(lock);
}
END_TEST

/* The names of earlier releases tell no PID namespace: without proof by the kernel it may be alive
   in another one. */
/* shows: shown-marker */
START_TEST(test_only_this_pid_namespaces_markers_are_judged_where_flocks_may_not_tell)
{
	char text[2 * MARKER_SIZE];

	set_up_elsewhere();
	(void)snprintf(text, sizeof(text), "%ld\nearlier\n%s\n", (long)dead_pid(), own_token());
	put_bytes(path, text, strlen(text));
	ck_assert_int_eq(try(), -ETIMEDOUT);
	(void)snprintf(text, sizeof(text), "%ld", (long)dead_pid());
	put_bytes(path, text, strlen(text));
	clock_fake(1000 * SECONDS);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	clock_advance(3 * SECONDS);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	file_system = EXT4_SUPER_MAGIC;
	filelock_close(lock);
	lock = test_open(path, NULL);
	ck_assert_int_eq(try(), -ETIMEDOUT);
	clock_advance(3 * SECONDS);
	ck_assert_int_eq(try(), 0);
	filelock_close(lock);
}
END_TEST

/* As another user's in a sticky folder: unlink(2) may say EPERM for ever. */
START_TEST(test_release_of_what_was_taken_over_and_cannot_be_removed_disowns_it)
{
	static const int errors[] = { EPERM, EACCES };
	struct marker marker;

	set_up(NULL);
	for (size_t i = 0; i < 2; i++) {
		put_record(path, dead_pid(), NULL);
		ck_assert_int_eq(try(), 0);
		fault_set(FAULT_unlink, 1, FAULT_ONCE, errors[i]);
		ck_assert_int_eq(filelock_release(lock), 0);
		ck_assert(read_marker(path, &marker));
		ck_assert_int_eq(marker.pid, INT32_MAX);
		ck_assert_int_eq(try_once(path), 0);
	}
	filelock_close(lock);
}
END_TEST

START_TEST(test_release_of_what_was_taken_over_tells_other_errors_and_holds)
{
	set_up(NULL);
	put_record(path, dead_pid(), NULL);
	ck_assert_int_eq(try(), 0);
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), -EIO);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

/* An exit would remove what a failed release had listed. */
static int fail_to_release_and_exit(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	(void)arg;
	options.keep_on_exit = true;
	set_up(&options);
	ck_assert_int_eq(try(), 0);
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_release(lock), -EIO);
	exit(0);
}

START_TEST(test_failed_release_of_a_marker_to_be_kept_keeps_it_at_exit)
{
	(void)test_folder();
	ck_assert_int_eq(test_in_child(fail_to_release_and_exit, NULL), 0);
	ck_assert(exists(test_path("lock")));
}
END_TEST

int main(void)
{
	TCase *each = tcase_create("each");
	Suite *suite;

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	suite = SUITE("takeover",
	              test_marker_that_cannot_be_opened_is_somebody_elses_to_judge,
	              test_successor_of_an_expired_marker_is_not_removed,
	              test_expired_marker_that_is_taken_over_meanwhile_is_not_removed,
	              test_successor_of_a_dead_marker_is_not_taken,
	              test_marker_that_stood_there_for_a_moment_is_not_taken_for_the_one_that_does,
	              test_where_flocks_may_not_tell_takers_take_turns,
	              test_what_cannot_be_put_back_is_nobodys,
	                          test_what_cannot_be_made_sure_for_the_next_taker_is_put_back,
	              test_without_a_turn_nothing_is_taken_where_flocks_may_not_tell,
	              test_only_this_pid_namespaces_markers_are_judged_where_flocks_may_not_tell,
	              test_release_of_what_was_taken_over_and_cannot_be_removed_disowns_it,
	              test_release_of_what_was_taken_over_tells_other_errors_and_holds,
	              test_failed_release_of_a_marker_to_be_kept_keeps_it_at_exit);
	tcase_add_loop_test(each, test_torn_marker_is_seen_anew_whatever_has_changed, 0,
	                    CHANGES);
	tcase_add_loop_test(each, test_failure_to_remove_an_expired_marker_is_told_and_leaves_it, 0,
	                    EXPIRIES);
	tcase_add_loop_test(each, test_marker_expires_at_its_lifetime_whatever_its_date, 0, AGES);
	tcase_add_loop_test(each, test_marker_that_is_written_after_it_was_judged_is_not_taken, 0,
	                    2);
	suite_add_tcase(suite, each);
	return support_main(suite);
}
