/* Leases: their bytes, their end by the clocks, and what stands at the path instead. */
#include <dirent.h>
#include <sys/file.h>

#include "handle.h"
#include "softly.h"
#include "base/sys.h"

#define DURATION 30 /* seconds, the default */

static struct filelock *open_lease(const struct filelock_options *options)
{
	struct filelock *lock;

	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_LEASE, options, &lock), 0);
	return lock;
}

static struct filelock *hold(void)
{
	struct filelock *lock = open_lease(NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	return lock;
}

static int try(struct filelock *lock)
{
	return filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
}

/* And the other one has seen it for so long. */
static struct filelock *hold_until_it_is_over(struct filelock *other)
{
	struct filelock *lock;

	clock_fake(SECONDS);
	lock = hold();
	ck_assert_int_eq(try(other), -ETIMEDOUT);
	clock_advance(DURATION * SECONDS);
	return lock;
}

static struct stat look(void)
{
	struct stat st;

	ck_assert_int_eq(lstat(test_path("lock"), &st), 0);
	return st;
}

/* Names in the test's folder. */
static unsigned count_files(void)
{
	DIR *folder = opendir(test_folder());
	unsigned count = 0;

	ck_assert_ptr_nonnull(folder);
	for (const struct dirent *entry; (entry = readdir(folder));)
		count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
	closedir(folder);
	return count;
}

/* Until its file has another time: the system's own clock of files is coarse. */
static void renew_visibly(struct filelock *lock)
{
	struct stat before = look(), now;

	do {
		ck_assert_int_eq(filelock_renew(lock), 0);
		now = look();
	} while (now.st_mtim.tv_sec == before.st_mtim.tv_sec &&
	         now.st_mtim.tv_nsec == before.st_mtim.tv_nsec);
}

/* --- bytes --- */

static size_t read_fixture(const char *name, char bytes[2 * MARKER_SIZE])
{
	const char *top = getenv("FILELOCK_SOURCE_DIR");
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/tests/fixtures/python-filelock-%s", top ? top : ".",
	               name);
	test_read_file(path, bytes, 2 * MARKER_SIZE);
	return strlen(bytes);
}

START_TEST(test_fixtures_are_written_back_equal)
{
	static const struct {
		const char *name;
		unsigned duration_ms;
	} cases[] = { { "4.1.1/lease.lock", 30000 },
		      { "4.1.1/lease-short.lock", 1000 },
		      { "4.1.1/lease-in-pid-namespace.lock", 30000 } };
	char bytes[2 * MARKER_SIZE], again[MARKER_SIZE];
	struct marker marker;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = read_fixture(cases[i].name, bytes);

		soft_record_parse(bytes, size, &marker);
		ck_assert_uint_eq(
		        soft_record_format_lease(again, &marker, cases[i].duration_ms), size);
		ck_assert_mem_eq(again, bytes, size);
	}
}
END_TEST

/* As Python writes a float. */
START_TEST(test_duration_is_written_as_pythons_float)
{
	static const struct {
		unsigned ms;
		const char *line;
	} cases[] = { { 1, "\nduration=0.001\n" },     { 250, "\nduration=0.25\n" },
		      { 1000, "\nduration=1.0\n" },    { 1500, "\nduration=1.5\n" },
		      { 90000, "\nduration=90.0\n" },  { 100, "\nduration=0.1\n" },
		      { 4294967295, "\nduration=4294967.295\n" } };
	struct marker marker = { .pid = 1, .host = "h", .claim = "c" }, read;
	char bytes[MARKER_SIZE];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t size = soft_record_format_lease(bytes, &marker, cases[i].ms);

		ck_assert_ptr_nonnull(strstr(bytes, cases[i].line));
		soft_record_parse(bytes, size, &read);
		ck_assert(read.duration == cases[i].ms / 1000.0);
		ck_assert_str_eq(read.claim, "c");
	}
}
END_TEST

START_TEST(test_marker_of_a_hold_is_a_lease_of_ours)
{
	struct filelock *lock = hold();
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct marker marker;

	ck_assert(read_marker(test_path("lock"), &marker));
	ck_assert_int_eq(marker.type, MARKER_LEASE);
	ck_assert_int_eq(marker.pid, getpid());
	ck_assert_uint_eq(strlen(marker.claim), 32);
	ck_assert(marker.duration == DURATION);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert(owner.ours && owner.duration == DURATION);
	ck_assert_str_eq(owner.contract, "lease");
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_files(), 0);
	filelock_close(lock);
}
END_TEST

/* --- options --- */

static int try_open(enum filelock_kind kind, const struct filelock_options *options)
{
	struct filelock *lock;
	int r = filelock_open(test_path("lock.db"), kind, options, &lock);

	if (r == 0)
		filelock_close(lock);
	return r;
}

START_TEST(test_options_are_checked)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.heartbeat_ms = DURATION * 1000;
	ck_assert_int_eq(try_open(FILELOCK_LEASE, &options), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "heartbeat_ms"));
	options.heartbeat_ms--;
	ck_assert_int_eq(try_open(FILELOCK_LEASE, &options), 0);
	for (int kind = FILELOCK_NATIVE; kind <= FILELOCK_READWRITE; kind++)
		ck_assert_int_eq(try_open(kind, &options), -EINVAL);
	options.heartbeat_ms = 0;
	options.duration_ms = 1;
	ck_assert_int_eq(try_open(FILELOCK_LEASE, &options), 0);
	ck_assert_int_eq(try_open(FILELOCK_SOFT, &options), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "duration_ms"));
	options.duration_ms = 0;
	options.lifetime_ms = 1;
	ck_assert_int_eq(try_open(FILELOCK_LEASE, &options), FILELOCK_ENOLIFETIME);
}
END_TEST

START_TEST(test_lease_cannot_be_shared)
{
	struct filelock *lock = open_lease(NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), -ENOTSUP);
	filelock_close(lock);
}
END_TEST

START_TEST(test_another_duration_is_an_error_of_its_own)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = hold(), *other;

	options.duration_ms = DURATION * 1000 + 1;
	other = open_lease(&options);
	ck_assert_int_eq(try(other), FILELOCK_ESETTINGS);
	ck_assert_int_eq(filelock_verify(lock), 0);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

START_TEST(test_only_what_ends_can_be_renewed)
{
	struct filelock *lock = open_lease(NULL);

	ck_assert_int_eq(filelock_renew(lock), -EPERM);
	filelock_close(lock);
	ck_assert_int_eq(filelock_open(test_path("strict"), FILELOCK_STRICT, NULL, &lock), 0);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_renew(lock), -ENOTSUP);
	filelock_close(lock);
}
END_TEST

/* --- the clocks --- */

/* shows: lease-by-own-clock */
START_TEST(test_lease_ends_by_the_clock_of_whoever_waits)
{
	struct filelock *lock, *other = open_lease(NULL);
	ino_t inode;

	clock_fake(SECONDS);
	lock = hold();
	inode = look().st_ino;
	ck_assert_int_eq(try(other), -ETIMEDOUT);
	clock_advance(DURATION * SECONDS - 1);
	ck_assert_int_eq(try(other), -ETIMEDOUT);
	clock_advance(1);
	ck_assert_int_eq(try(other), 0);
	/* by its inode Python's holders find that it is another one's */
	ck_assert_uint_ne(look().st_ino, inode);
	ck_assert_uint_eq(count_files(), 1);
	ck_assert_int_eq(filelock_verify(other), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_LATE);
	filelock_close(lock);
	ck_assert_int_eq(filelock_verify(other), 0);
	filelock_close(other);
	ck_assert_uint_eq(count_files(), 0);
}
END_TEST

START_TEST(test_refresh_begins_the_duration_anew)
{
	struct filelock *lock, *other = open_lease(NULL);

	clock_fake(SECONDS);
	lock = hold();
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(try(other), -ETIMEDOUT);
		clock_advance(DURATION * SECONDS * 2 / 3);
		renew_visibly(lock);
	}
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(try(other), 0);
	filelock_close(lock);
	filelock_close(other);
}
END_TEST

static int64_t asleep; /* nanoseconds that the machine slept */

static int64_t boot_time(void)
{
	return sys.now() + asleep;
}

/* Its time at the path, and what it may call, show whether it touched the file. */
START_TEST(test_late_holder_finds_its_loss_before_it_touches_anything)
{
	struct filelock *lock;

	clock_fake(SECONDS);
	sys.boot = boot_time;
	lock = hold();
	asleep = DURATION * SECONDS; /* CLOCK_MONOTONIC did not see that */
	fault_watch();
	ck_assert_int_eq(filelock_renew(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_LATE);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert(!filelock_is_held(lock));
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_LATE);
	ck_assert_uint_eq(fault_calls(FAULT_futimens), 0);
	ck_assert_uint_eq(fault_calls(FAULT_unlink), 0);
	ck_assert_uint_eq(fault_calls(FAULT_pwrite), 0);
	fault_clear();
	/* it let go of its file, so the next one sees at once that nobody holds */
	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_NONE);
	filelock_close(lock);
}
END_TEST

START_TEST(test_refresh_that_fails_for_long_loses)
{
	struct filelock *lock;

	clock_fake(SECONDS);
	lock = hold();
	fault_watch();
	fault_set(FAULT_futimens, 1, FAULT_FOR_GOOD, EIO);
	ck_assert_int_eq(filelock_renew(lock), 0);
	clock_advance(DURATION * SECONDS * 2 / 3 - 1);
	ck_assert_int_eq(filelock_renew(lock), 0);
	clock_advance(1); /* a heartbeat before others may take it */
	ck_assert_int_eq(filelock_renew(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_REFRESH_FAILED);
	fault_clear();
	ck_assert_int_eq(filelock_renew(lock), FILELOCK_ELOST);
	filelock_close(lock);
}
END_TEST

static void come_too_late(void *lock)
{
	clock_advance(DURATION * SECONDS);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
}

/* As when the heartbeat hangs on a mount that is dead. */
START_TEST(test_late_holder_is_told_while_a_refresh_hangs)
{
	struct filelock *lock;

	clock_fake(SECONDS);
	lock = hold();
	fault_watch();
	fault_before(FAULT_futimens, 1, come_too_late, lock);
	ck_assert_int_eq(lock->kind->held(lock, filelock_now()), FILELOCK_ELOST);
	ck_assert_uint_eq(fault_hits(FAULT_futimens), 1);
	fault_clear();
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_LATE);
	filelock_close(lock);
}
END_TEST

/* shows: lease-refreshed */
START_TEST(test_heartbeats_that_are_due_together_share_a_wakeup)
{
	struct filelock *lock = hold();
	int64_t beat = DURATION * SECONDS / 3, now = filelock_now(), last = 0;
	unsigned wakeups = 0;

	for (unsigned i = 0; i < 1000; i++) { /* in a hundredth of a heartbeat */
		int64_t at = now + i * (beat / 100000);
		int64_t next = lock->kind->held(lock, at);

		ck_assert_int_le(next, at + beat);
		ck_assert_int_gt(next, at + beat * 99 / 100);
		wakeups += next != last;
		last = next;
	}
	ck_assert_uint_le(wakeups, 4);
	filelock_close(lock);
}
END_TEST

/* --- the path --- */

START_TEST(test_one_missing_look_is_no_loss_for_the_refresh)
{
	struct filelock *lock = hold();
	int64_t now = filelock_now();
	int64_t next;

	ck_assert_int_eq(rename(test_path("lock"), test_path("away")), 0);
	next = lock->kind->held(lock, now);
	ck_assert_int_gt(next, now);
	ck_assert_int_lt(next, now + DURATION * SECONDS / 3); /* it looks again soon */
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_MISSING); /* by a look of its own */
	ck_assert_int_eq(rename(test_path("away"), test_path("lock")), 0);
	next = lock->kind->held(lock, now);
	ck_assert_int_ge(next, now + DURATION * SECONDS / 3 * 99 / 100);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_NONE);
	ck_assert_int_eq(rename(test_path("lock"), test_path("away")), 0);
	ck_assert_int_gt(lock->kind->held(lock, now), now);
	ck_assert_int_eq(lock->kind->held(lock, now), FILELOCK_ELOST);
	ck_assert_int_eq(rename(test_path("away"), test_path("lock")), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_MISSING);
	filelock_close(lock);
}
END_TEST

/* shows: lease-lost */
START_TEST(test_lost_file_is_told_by_verify_and_release)
{
	struct filelock *lock = hold();

	ck_assert_int_eq(unlink(test_path("lock")), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	put_bytes(test_path("lock"), "", 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_loss(lock), FILELOCK_LOSS_REPLACED);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert(exists(test_path("lock")));
	filelock_close(lock);
}
END_TEST

static time_t renewed_at = 4000000000;

static void touch_now(void *arg)
{
	const struct timespec later[2] = { { renewed_at, 0 }, { renewed_at, 0 } };

	(void)arg;
	ck_assert_int_eq(utimensat(AT_FDCWD, test_path("lock"), later, 0), 0);
}

/* Between the last look and the rename, as a holder does that comes just in time. */
/* shows: lease-new-file */
START_TEST(test_marker_refreshed_just_in_time_is_put_back)
{
	struct filelock *lock, *other = open_lease(NULL);
	ino_t inode;

	lock = hold_until_it_is_over(other);
	inode = look().st_ino;
	fault_watch();
	fault_before(FAULT_renameat, 1, touch_now, NULL);
	ck_assert_int_eq(try(other), -ETIMEDOUT);
	ck_assert_uint_eq(fault_hits(FAULT_renameat), 1);
	ck_assert_uint_eq(look().st_ino, inode);
	ck_assert_uint_eq(look().st_nlink, 1);
	ck_assert_uint_eq(count_files(), 1);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* It cannot be moved, or not looked at, or not be removed: nobody's file is lost by that. */
START_TEST(test_takeover_that_is_refused_leaves_the_marker)
{
	static const struct {
		enum fault_call call;
		unsigned nth;
		int error, result;
	} cases[] = { { FAULT_renameat, 1, EACCES, -ETIMEDOUT },
		      { FAULT_renameat, 1, EROFS, -ETIMEDOUT },
		      { FAULT_renameat, 1, EIO, -EIO },
		      { FAULT_getrandom, 1, EIO, -EIO },
		      { FAULT_lstat, 2, EIO, -EIO },   /* the last look */
		      { FAULT_lstat, 3, EIO, -EIO } }; /* at what was moved */
	struct filelock *lock, *other = open_lease(NULL);
	ino_t inode;

	lock = hold_until_it_is_over(other);
	inode = look().st_ino;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fault_watch();
		fault_set(cases[i].call, cases[i].nth, FAULT_ONCE, cases[i].error);
		ck_assert_msg(try(other) == cases[i].result, "case %zu", i);
		ck_assert_uint_eq(fault_hits(cases[i].call), 1);
		fault_clear();
		ck_assert_uint_eq(look().st_ino, inode);
		ck_assert_uint_eq(look().st_nlink, 1);
		ck_assert_uint_eq(count_files(), 1);
	}
	ck_assert_int_eq(try(other), 0);
	ck_assert_uint_ne(look().st_ino, inode);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* Refreshed just then. Its file stays for a person, and its holder learns of the loss. */
START_TEST(test_marker_that_cannot_be_put_back_is_lost_and_not_removed)
{
	struct filelock *lock, *other = open_lease(NULL);

	lock = hold_until_it_is_over(other);
	fault_watch();
	fault_before(FAULT_renameat, 1, touch_now, NULL);
	fault_set(FAULT_linkat, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(try(other), -EIO);
	ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
	fault_clear();
	ck_assert(!exists(test_path("lock")));
	ck_assert_uint_eq(count_files(), 1);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* Between the look and the turn, the turn and the last look: it is judged anew. */
START_TEST(test_marker_that_changes_while_it_is_taken_over_stays)
{
	static const struct {
		enum fault_call call;
		unsigned nth;
	} cases[] = { { FAULT_open, 1 }, { FAULT_lstat, 2 } };
	struct filelock *lock, *other = open_lease(NULL);
	ino_t inode;

	clock_fake(SECONDS);
	lock = hold();
	inode = look().st_ino;
	ck_assert_int_eq(try(other), -ETIMEDOUT);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		clock_advance(DURATION * SECONDS);
		renewed_at = (time_t)(4000000000 + i);
		fault_watch();
		fault_before(cases[i].call, cases[i].nth, touch_now, NULL);
		ck_assert_int_eq(try(other), -ETIMEDOUT);
		ck_assert_uint_eq(fault_hits(cases[i].call), 1);
		fault_clear();
		ck_assert_uint_eq(look().st_ino, inode);
	}
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* Of who judges it: nothing is moved, and the next attempt is as good as the first. */
START_TEST(test_errors_of_judging_come_through)
{
	static const struct {
		enum fault_call call;
		int error, result;
	} cases[] = { { FAULT_flock, EIO, -EIO },   { FAULT_pread, EIO, -EIO },
		      { FAULT_open, EIO, -EIO },    { FAULT_fstat, EIO, -EIO },
		      { FAULT_calloc, ENOMEM, -ENOMEM } };
	struct filelock *lock, *other = open_lease(NULL);
	ino_t inode;

	lock = hold_until_it_is_over(other);
	inode = look().st_ino;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		fault_watch();
		fault_set(cases[i].call, 1, FAULT_ONCE, cases[i].error);
		ck_assert_msg(try(other) == cases[i].result, "case %zu", i);
		ck_assert_uint_eq(fault_hits(cases[i].call), 1);
		fault_clear();
		ck_assert_uint_eq(look().st_ino, inode);
		ck_assert_uint_eq(count_files(), 1);
	}
	/* and of a network: it was removed meanwhile */
	fault_set(FAULT_pread, 1, FAULT_ONCE, ESTALE);
	ck_assert_int_eq(try(other), 0);
	fault_clear();
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* The one that is over stays beside it, under a name that nobody takes for a lock. */
START_TEST(test_old_marker_that_cannot_be_removed_keeps_nobody_out)
{
	struct filelock *lock, *other = open_lease(NULL);

	lock = hold_until_it_is_over(other);
	fault_watch();
	fault_set(FAULT_unlink, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(try(other), 0);
	ck_assert_uint_eq(fault_hits(FAULT_unlink), 1);
	fault_clear();
	ck_assert_uint_eq(count_files(), 2);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(filelock_verify(other), 0);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* Another one that takes it over just now, or its holder that removes it. */
START_TEST(test_one_takes_over_at_a_time)
{
	struct filelock *lock, *other = open_lease(NULL);
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd;

	lock = hold_until_it_is_over(other);
	fd = open(test_path("lock"), O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &range), 0);
	ck_assert_int_eq(try(other), -ETIMEDOUT);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	close(fd);
	ck_assert_int_eq(try(other), 0);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* A holder that stalls in its release removes nothing of whoever takes its lease over. */
START_TEST(test_release_waits_for_no_turn_and_removes_nothing)
{
	struct filelock *lock = hold();
	struct flock range = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(test_path("lock"), O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(fcntl(fd, F_OFD_SETLK, &range), 0);
	ck_assert_int_eq(filelock_release(lock), FILELOCK_ELOST);
	ck_assert(exists(test_path("lock")));
	close(fd);
	filelock_close(lock);
}
END_TEST

/* --- what else stands there --- */

static void put_protocol_2(const char *mode, pid_t pid, const char *more)
{
	char bytes[MARKER_SIZE];
	int n = snprintf(bytes, sizeof(bytes), "filelock/2\npid=%ld\nhost=%s\nmode=%s\n%s", (long)pid,
	                 own_host(), mode, more);

	put_bytes(test_path("lock"), bytes, (size_t)n);
}

static int try_new(void)
{
	struct filelock *lock = open_lease(NULL);
	int r = try(lock);

	filelock_close(lock);
	return r;
}

#define LEASE "token=0123456789abcdef0123456789abcdef\nduration=30.0\n"

START_TEST(test_markers_of_the_dead_are_taken_over)
{
	pid_t dead = dead_pid();

	put_protocol_2("lease", dead, LEASE);
	ck_assert_int_eq(try_new(), 0);
	put_protocol_2("exclusive", dead, "");
	ck_assert_int_eq(try_new(), 0);
	put_record(test_path("lock"), dead, NULL);
	ck_assert_int_eq(try_new(), 0);
	ck_assert_uint_eq(count_files(), 0);
}
END_TEST

/* However long nobody touches them. */
START_TEST(test_only_leases_end_by_time)
{
	static const char strict[] = "1\nfilelock-strict-v1\0\n0\n";
	struct filelock *lock = open_lease(NULL);

	clock_fake(SECONDS);
	for (int i = 0; i < 6; i++) {
		switch (i) {
		case 0:
			put_protocol_2("exclusive", getppid(), "");
			break;
		case 1:
			put_protocol_2("a-newer-contract", dead_pid(), LEASE);
			break;
		case 2:
			put_record(test_path("lock"), getppid(), NULL);
			break;
		case 3:
			put_bytes(test_path("lock"), strict, sizeof(strict) - 1);
			break;
		case 4:
			put_bytes(test_path("lock"), "", 0);
			break;
		default:
			put_bytes(test_path("lock"), "DIRC\0\0", 6);
		}
		ck_assert_int_eq(try(lock), -ETIMEDOUT);
		clock_advance(2 * DURATION * SECONDS);
		ck_assert_int_eq(try(lock), -ETIMEDOUT);
	}
	filelock_close(lock);
}
END_TEST

/* Of another host, which nobody can prove dead: it ends by the clock. */
START_TEST(test_lease_of_another_host_ends_by_the_clock)
{
	static const char record[] = "filelock/2\npid=1\nhost=elsewhere\nmode=lease\n" LEASE;
	struct filelock *lock = open_lease(NULL);

	clock_fake(SECONDS);
	put_bytes(test_path("lock"), record, sizeof(record) - 1);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(DURATION * SECONDS - 1);
	ck_assert_int_eq(try(lock), -ETIMEDOUT);
	clock_advance(1);
	ck_assert_int_eq(try(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "lease", test_fixtures_are_written_back_equal,
	        test_duration_is_written_as_pythons_float, test_marker_of_a_hold_is_a_lease_of_ours,
	        test_options_are_checked, test_lease_cannot_be_shared,
	        test_another_duration_is_an_error_of_its_own, test_only_what_ends_can_be_renewed,
	        test_lease_ends_by_the_clock_of_whoever_waits, test_refresh_begins_the_duration_anew,
	        test_late_holder_finds_its_loss_before_it_touches_anything,
	        test_refresh_that_fails_for_long_loses, test_late_holder_is_told_while_a_refresh_hangs,
	              test_heartbeats_that_are_due_together_share_a_wakeup,
	        test_one_missing_look_is_no_loss_for_the_refresh,
	        test_lost_file_is_told_by_verify_and_release,
	        test_marker_refreshed_just_in_time_is_put_back,
	        test_takeover_that_is_refused_leaves_the_marker,
	        test_marker_that_cannot_be_put_back_is_lost_and_not_removed,
	        test_marker_that_changes_while_it_is_taken_over_stays,
	        test_errors_of_judging_come_through,
	        test_old_marker_that_cannot_be_removed_keeps_nobody_out, test_one_takes_over_at_a_time,
	        test_release_waits_for_no_turn_and_removes_nothing,
	        test_markers_of_the_dead_are_taken_over, test_only_leases_end_by_time,
	        test_lease_of_another_host_ends_by_the_clock));
}
