/* A soft lock judges the file at its path. */
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "softly.h"
#include "base/sys.h"

static unsigned count_names(void)
{
	DIR *folder = opendir(test_folder());
	struct dirent *entry;
	unsigned count = 0;

	ck_assert_ptr_nonnull(folder);
	while ((entry = readdir(folder)))
		count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
	closedir(folder);
	return count;
}

/* Our marker, complete, alone in the folder; and gone after the release. */
static void hold_and_look(void)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct marker marker;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert(read_marker(test_path("lock"), &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, getpid());
	ck_assert_str_eq(marker.host, own_host());
	ck_assert_str_eq(marker.token, own_token());
	ck_assert_uint_eq(count_names(), 1);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(count_names(), 0);
	filelock_close(lock);
}

START_TEST(test_marker_is_pythons_record_and_goes_with_the_release)
{
	hold_and_look();
}
END_TEST

START_TEST(test_without_tmpfile_a_private_name_is_linked)
{
	fault_set(FAULT_open, 1, FAULT_ONCE, EOPNOTSUPP);
	hold_and_look();
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
	ck_assert_uint_eq(fault_calls(FAULT_getrandom) , 1);
}
END_TEST

START_TEST(test_without_links_the_marker_is_made_in_place)
{
	static const int errors[] = { EPERM, EOPNOTSUPP, ENOSYS };

	for (size_t i = 0; i < 3; i++) {
		fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, errors[i]);
		hold_and_look();
		ck_assert_uint_eq(fault_hits(FAULT_linkat), 1);
	}
}
END_TEST

static struct sys_table real;

static ssize_t write_a_byte(int fd, const void *buffer, size_t size, off_t at)
{
	return real.pwrite(fd, buffer, size ? 1 : 0, at);
}

static ssize_t write_nothing(int fd, const void *buffer, size_t size, off_t at)
{
	(void)fd, (void)buffer, (void)size, (void)at;
	return 0;
}

static int acquire_above_the_limit(void *arg)
{
	enum filelock_kind kind = *(const enum filelock_kind *)arg;
	struct rlimit before, limit;
	struct filelock *lock;
	int r;

	if (filelock_open(test_path("limited"), kind, NULL, &lock) < 0)
		return 1;
	if (getrlimit(RLIMIT_FSIZE, &before) < 0)
		return 2;
	limit = (struct rlimit){ 0, before.rlim_max };
	if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
		return 2;
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0);
	/* what watches the test may write files */
	if (setrlimit(RLIMIT_FSIZE, &before) < 0)
		return 2;
	filelock_close(lock);
	return r == -EFBIG ? 0 : 3;
}

/* As under ulimit -f 0: an error, and neither a signal nor half a marker. */
START_TEST(test_record_above_the_limit_of_files_is_an_error)
{
	const enum filelock_kind kinds[] = { FILELOCK_SOFT, FILELOCK_LEASE, FILELOCK_STRICT,
		                             FILELOCK_SOFT_READWRITE };
	struct filelock *lock;

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		enum filelock_kind kind = kinds[i];

		ck_assert_int_eq(test_in_child(acquire_above_the_limit, &kind), 0);
		ck_assert(!exists(test_path("limited")));
		ck_assert_int_eq(filelock_open(test_path("limited"), kind, NULL, &lock), 0);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		filelock_close(lock);
		(void)unlink(test_path("limited"));
	}
}
END_TEST

/* shows: whole-marker */
START_TEST(test_short_writes_make_a_complete_marker)
{
	real = sys;
	sys.pwrite = write_a_byte;
	hold_and_look();
}
END_TEST

/* shows: whole-marker errors */
START_TEST(test_marker_that_cannot_be_written_is_absent)
{
	unsigned descriptors = test_descriptors();

	real = sys;
	sys.pwrite = write_nothing;
	ck_assert_int_eq(try_once(test_path("lock")), -ENOSPC);
	sys = real;
	fault_set(FAULT_linkat, 1, FAULT_FOR_GOOD, EPERM); /* in place too */
	sys.pwrite = write_nothing;
	ck_assert_int_eq(try_once(test_path("lock")), -ENOSPC);
	ck_assert_uint_eq(count_names(), 0);
	ck_assert_uint_eq(test_descriptors(), descriptors);
	sys.pwrite = real.pwrite;
	ck_assert_int_eq(try_once(test_path("lock")), 0);
}
END_TEST

/* Either nothing stands there or a whole record. */
static void look_for_half_a_marker(void *arg)
{
	struct marker marker;

	(void)arg;
	if (read_marker(test_path("lock"), &marker))
		ck_assert_int_eq(marker.type, MARKER_RECORD);
}

static void look_before_each(enum fault_call call, bool without_tmpfile)
{
	for (unsigned nth = 1;; nth++) {
		struct filelock *lock = test_open(test_path("lock"), NULL);
		bool met;

		fault_clear();
		if (without_tmpfile)
			fault_set(FAULT_open, 1, FAULT_ONCE, EOPNOTSUPP);
		fault_before(call, nth, look_for_half_a_marker, NULL);
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
		met = fault_hits(call) > 0;
		filelock_close(lock);
		if (!met)
			return;
	}
}

/* shows: whole-marker */
START_TEST(test_no_marker_is_ever_seen_incomplete)
{
	static const enum fault_call calls[] = { FAULT_pwrite, FAULT_flock, FAULT_fstat,
		                                 FAULT_linkat, FAULT_unlink, FAULT_lstat };

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		look_before_each(calls[i], false);
		look_before_each(calls[i], true);
	}
}
END_TEST

START_TEST(test_two_line_marker_has_no_token)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	char content[MARKER_SIZE], expected[MARKER_SIZE];

	options.two_line_marker = true;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	test_read_file(test_path("lock"), content, sizeof(content));
	(void)snprintf(expected, sizeof(expected), "%ld\n%s\n", (long)getpid(), own_host());
	ck_assert_str_eq(content, expected);
	filelock_close(lock);
}
END_TEST

/* shows: modes */
START_TEST(test_mode_of_the_marker_is_the_options_through_the_umask)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	struct stat st;

	umask(027);
	options.file_mode = 0664;
	lock = test_open(test_path("lock"), &options);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(stat(test_path("lock"), &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);
	filelock_close(lock);
}
END_TEST

START_TEST(test_missing_folders_are_made)
{
	ck_assert_int_eq(try_once(test_path("a/b/lock")), 0);
	ck_assert(exists(test_path("a/b")));
}
END_TEST

START_TEST(test_shared_is_not_supported)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, -1), -ENOTSUP);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

/* Whatever it says, it is held, and not touched: now, later, and whatever the date. */
static void check_held_for_ever(const void *bytes, size_t size)
{
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);
	char after[2 * MARKER_SIZE];
	const struct timespec epoch[2] = { { 0 } };

	put_bytes(path, bytes, size);
	clock_fake(1000 * SECONDS);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
		clock_advance(3 * SECONDS);
	}
	date_shift(365 * 86400 * SECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(utimensat(AT_FDCWD, path, epoch, 0), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	test_read_file(path, after, sizeof(after));
	ck_assert_mem_eq(after, bytes, size);
	filelock_close(lock);
}

static void check_text_held_for_ever(const char *text)
{
	check_held_for_ever(text, strlen(text));
}

/* shows: unproved-is-held */
START_TEST(test_record_of_another_host_is_held)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "%ld\nanother-%s\n", (long)dead_pid(), own_host());
	check_text_held_for_ever(text);
	(void)snprintf(text, sizeof(text), "%ld\nanother-%s\n12345\n", (long)dead_pid(), own_host());
	check_text_held_for_ever(text);
}
END_TEST

START_TEST(test_record_of_a_living_process_is_held)
{
	char text[2048];

	(void)snprintf(text, sizeof(text), "%ld\n%s\n", (long)getppid(), own_host());
	check_text_held_for_ever(text);
	(void)snprintf(text, sizeof(text), "%ld\n%s\n%s\n", (long)getpid(), own_host(), own_token());
	check_text_held_for_ever(text);
}
END_TEST

/* shows: unproved-is-held */
START_TEST(test_empty_marker_is_held)
{
	check_held_for_ever("", 0);
}
END_TEST

/* shows: unproved-is-held */
START_TEST(test_newer_protocol_is_held)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "filelock/2\npid=%ld\nhost=%s\nmode=lease\n",
	               (long)dead_pid(), own_host());
	check_text_held_for_ever(text);
}
END_TEST

/* shows: unproved-is-held */
START_TEST(test_strict_sentinel_is_held)
{
	static const char strict[] = "1\nfilelock-strict-v1\0\n0\n";

	check_held_for_ever(strict, sizeof(strict) - 1);
}
END_TEST

/* Its state cannot be asked: kill(2) says EPERM, or /proc nothing. */
/* shows: unproved-is-held */
START_TEST(test_process_that_may_not_be_looked_at_is_held)
{
	pid_t pid = dead_pid();

	put_record(test_path("lock"), pid, "12345");
	fault_set(FAULT_kill, 1, FAULT_FOR_GOOD, EPERM);
	fault_set(FAULT_readlink, 1, FAULT_FOR_GOOD, ENOENT);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	fault_clear();
	ck_assert_int_eq(try_once(test_path("lock")), 0);
}
END_TEST

/* shows: unproved-is-held */
START_TEST(test_living_process_without_proc_is_held)
{
	put_record(test_path("lock"), getpid(), "12345");
	fault_set(FAULT_readlink, 1, FAULT_FOR_GOOD, ENOENT);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
	fault_clear();
	ck_assert_int_eq(try_once(test_path("lock")), 0); /* another token: another process */
}
END_TEST

/* Recovered at the first attempt, in place: the very inode, with our record, padded. */
static void check_taken_at_once(const char *path)
{
	struct filelock *lock = test_open(path, NULL);
	struct stat before, after;
	struct marker marker;

	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	ck_assert_int_ge(after.st_size, before.st_size > MARKER_SIZE ? 0 : before.st_size);
	ck_assert(read_marker(path, &marker));
	ck_assert_int_eq(marker.type, MARKER_RECORD);
	ck_assert_int_eq(marker.pid, getpid());
	ck_assert_str_eq(marker.token, own_token());
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert(!exists(path));
	filelock_close(lock);
}

/* shows: dead-taken-over */
START_TEST(test_records_of_the_dead_are_taken_over_in_place)
{
	char longest[MARKER_SIZE], token[900];
	const char *path = test_path("lock");

	put_record(path, dead_pid(), NULL);
	check_taken_at_once(path);
	put_record(path, dead_pid(), "1");
	check_taken_at_once(path);
	memset(token, '7', sizeof(token) - 1);
	token[sizeof(token) - 1] = '\0';
	put_bytes(path, longest, soft_record_format(longest, dead_pid(), own_host(), token));
	check_taken_at_once(path);
}
END_TEST

/* shows: dead-taken-over */
START_TEST(test_record_of_a_reused_pid_is_taken_over)
{
	char token[TOKEN_SIZE];
	size_t last = strlen(own_token()) - 1;

	/* to the last of its 58 digits the same */
	strcpy(token, own_token());
	token[last] = token[last] == '0' ? '1' : (char)(token[last] - 1);
	put_record(test_path("lock"), getpid(), token);
	check_taken_at_once(test_path("lock"));
}
END_TEST

/* The first process of a container always has the pid that the one before had. */
/* shows: same-kernel */
START_TEST(test_record_of_our_pid_that_we_did_not_write_is_dead_unless_it_is_open)
{
	const char *path = test_path("lock");
	int fd;

	put_record(path, getpid(), NULL);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	close(fd);
	check_taken_at_once(path);
}
END_TEST

/* Renamed, or a container that was made anew: the token tells that it was this kernel's. */
/* shows: same-kernel */
START_TEST(test_record_of_this_boot_and_another_host_is_dead_unless_it_is_open)
{
	const char *path = test_path("lock");
	char text[MARKER_SIZE], token[TOKEN_SIZE];
	int fd;

	strcpy(token, own_token());
	(void)snprintf(text, sizeof(text), "%ld\nearlier-%s\n%s\n", (long)dead_pid(), own_host(),
	               token);
	put_bytes(path, text, strlen(text));
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	close(fd);
	fault_set(FAULT_fcntl_setsig, 1, FAULT_ONCE, EINVAL); /* it cannot be asked */
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	fault_clear();
	check_taken_at_once(path);
}
END_TEST

/* shows: protocol-2 */
START_TEST(test_exclusive_marker_of_protocol_2_is_recovered_once_its_owner_is_dead)
{
	static const char format[] = "filelock/2\npid=%ld\nhost=%s\nmode=%s\nstart=12345\n";
	const char *path = test_path("lock");
	char text[MARKER_SIZE];

	(void)snprintf(text, sizeof(text), format, (long)dead_pid(), own_host(), "shared");
	check_text_held_for_ever(text);
	(void)snprintf(text, sizeof(text), format, (long)dead_pid(), own_host(), "exclusive");
	put_bytes(path, text, strlen(text));
	check_taken_at_once(path);
}
END_TEST

/* git's index.lock, a binary file; dotlockfile and lockfile-create; procmail's lockfile. */
/* shows: foreign-marker */
START_TEST(test_markers_of_other_programs_are_held)
{
	static const char index[] = "DIRC\0\0\0\2\0\0\0\0";
	char text[64];

	check_held_for_ever(index, sizeof(index) - 1);
	check_text_held_for_ever("0\n");
	check_text_held_for_ever("0");
	check_text_held_for_ever("garbage");
	check_text_held_for_ever("12\nprogram\nhost\nid\nboot\n");
	(void)snprintf(text, sizeof(text), "%ld\n", (long)getppid());
	check_text_held_for_ever(text);
	(void)snprintf(text, sizeof(text), "%ld", (long)getppid());
	check_text_held_for_ever(text);
}
END_TEST

/* shows: torn-marker */
START_TEST(test_torn_marker_is_held_until_it_was_seen_for_two_seconds)
{
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);
	char torn[64], again[64];
	size_t size;

	(void)snprintf(torn, sizeof(torn), "%ld\nho", (long)dead_pid());
	(void)snprintf(again, sizeof(again), "%ld\nhO", (long)dead_pid());
	size = strlen(torn);
	put_bytes(path, torn, size);
	clock_fake(1000 * SECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	clock_advance(1999 * MILLISECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	put_bytes(path, again, strlen(again)); /* seen anew */
	clock_advance(1 * MILLISECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	clock_advance(1999 * MILLISECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	clock_advance(1 * MILLISECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

/* However old the file says it is. */
/* shows: torn-marker */
START_TEST(test_age_by_the_date_makes_no_marker_torn_for_longer)
{
	const char *path = test_path("lock");
	const struct timespec epoch[2] = { { 0 } };
	char torn[64];

	(void)snprintf(torn, sizeof(torn), "%ld", (long)dead_pid());
	put_bytes(path, torn, strlen(torn));
	ck_assert_int_eq(utimensat(AT_FDCWD, path, epoch, 0), 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	date_shift(86400 * SECONDS);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
}
END_TEST

/* shows: huge-file */
START_TEST(test_huge_file_is_read_to_a_bound_and_held)
{
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);
	struct stat st;

	put_record(path, dead_pid(), NULL);
	ck_assert_int_eq(truncate(path, (off_t)1 << 40), 0);
	clock_fake(1000 * SECONDS);
	fault_watch();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_uint_le(fault_calls(FAULT_pread), 2);
	clock_advance(2 * SECONDS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_size, (off_t)1 << 40);
	filelock_close(lock);
}
END_TEST

/* An error at once, though the caller would wait for ever. */
static void check_refused(int error)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), error);
	ck_assert_int_eq(filelock_holder(lock, &owner), error);
	ck_assert_int_eq(filelock_break(lock), error);
	filelock_close(lock);
	ck_assert(exists(test_path("lock")));
}

/* shows: symbolic-link */
START_TEST(test_symlinks_are_not_followed)
{
	char content[16];

	put_bytes(test_path("target"), "precious", 8);
	ck_assert_int_eq(symlink("target", test_path("lock")), 0);
	check_refused(-ELOOP);
	test_read_file(test_path("target"), content, sizeof(content));
	ck_assert_str_eq(content, "precious");
	ck_assert_int_eq(unlink(test_path("lock")), 0);
	ck_assert_int_eq(symlink("nowhere", test_path("lock")), 0);
	check_refused(-ELOOP);
	ck_assert(!exists(test_path("nowhere")));
}
END_TEST

static void *remove_folder(void *arg)
{
	await(fault_calls(FAULT_ppoll) > 0);
	return rmdir(test_path("lock")) == 0 ? NULL : arg;
}

/* Other programs lock by making one. */
/* shows: foreign-marker */
START_TEST(test_folder_is_held_until_it_goes_which_wakes)
{
	struct filelock_options options = rarely();
	struct filelock *lock = test_open(test_path("lock"), &options);
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	pthread_t remover;
	void *failed;

	ck_assert_int_eq(mkdir(test_path("lock"), 0755), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_EUNKNOWNHOLDER);
	ck_assert_int_eq(filelock_break(lock), -EISDIR);
	fault_watch();
	ck_assert_int_eq(pthread_create(&remover, NULL, remove_folder, lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert_int_eq(pthread_join(remover, &failed), 0);
	ck_assert_ptr_null(failed);
	filelock_close(lock);
}
END_TEST

/* shows: strange-file */
START_TEST(test_fifo_is_refused)
{
	ck_assert_int_eq(mkfifo(test_path("lock"), 0666), 0);
	check_refused(FILELOCK_ENOTREGULAR);
}
END_TEST

/* shows: strange-file */
START_TEST(test_socket_is_refused)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", test_path("lock"));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	check_refused(FILELOCK_ENOTREGULAR);
	close(fd);
}
END_TEST

/* procmail's lockfile makes its so. */
/* shows: foreign-marker */
START_TEST(test_unwritable_marker_of_another_program_is_held)
{
	put_bytes(test_path("lock"), "0", 1);
	ck_assert_int_eq(chmod(test_path("lock"), 0444), 0);
	ck_assert_int_eq(try_once(test_path("lock")), -ETIMEDOUT);
}
END_TEST

/* As nobody: a negative error as a positive exit status. */
static int try_as_nobody(void *arg)
{
	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 255;
	return access(arg, F_OK) < 0 ? 254 : -try_once(arg);
}

/* shows: unproved-is-held */
START_TEST(test_dead_marker_that_may_not_be_written_stays_held)
{
	char path[4096];
	int r;

	if (getuid() != 0) {
		test_skip("needs root");
		return;
	}
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	ck_assert_int_eq(chmod(test_folder(), 0777), 0);
	put_record(path, dead_pid(), NULL);
	r = test_in_child(try_as_nobody, path);
	if (r == 254) {
		test_skip("nobody cannot reach the folder");
		return;
	}
	ck_assert_int_eq(r, ETIMEDOUT);
	ck_assert_int_eq(chmod(path, 0600), 0); /* nor read */
	ck_assert_int_eq(test_in_child(try_as_nobody, path), ETIMEDOUT);
	ck_assert_int_eq(chmod(path, 0666), 0);
	ck_assert_int_eq(test_in_child(try_as_nobody, path), 0);
}
END_TEST

/* A dead record, but somebody has it open: every Python holder does. */
/* shows: live-marker-stays */
START_TEST(test_marker_open_for_writing_is_held)
{
	const char *path = test_path("lock");
	int fd;

	put_record(path, dead_pid(), NULL);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT);
	close(fd);
	fd = open(path, O_RDONLY | O_CLOEXEC); /* a reader holds nothing */
	ck_assert_int_eq(try_once(path), 0);
	close(fd);
}
END_TEST

/* Others may be judging it too; nobody takes it while one does. */
START_TEST(test_another_judges_shared_flock_delays_a_taker_but_proves_no_life)
{
	const char *path = test_path("lock");
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	int fd;

	options.poll_interval_ms = 1;
	lock = test_open(path, &options);
	put_record(path, dead_pid(), NULL);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(flock(fd, LOCK_SH), 0);
	fault_watch();
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_uint_gt(fault_calls(FAULT_flock), 10); /* tried again, at once */
	ck_assert_int_eq(flock(fd, LOCK_UN), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
	close(fd);
}
END_TEST

/* shows: unproved-is-held */
START_TEST(test_without_flock_the_dead_stay_held)
{
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);

	fault_set(FAULT_flock, 1, FAULT_FOR_GOOD, ENOSYS);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(try_once(path), -ETIMEDOUT); /* open for writing */
	ck_assert_int_eq(filelock_release(lock), 0);
	put_record(path, dead_pid(), NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 20), -ETIMEDOUT);
	ck_assert_int_eq(filelock_break(lock), 0);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

static void move_away(void *arg)
{
	(void)arg;
	ck_assert_int_eq(rename(test_path("lock"), test_path("away")), 0);
}

/* By somebody else's breaker: then what we wrote is no lock, and the path is free. */
/* shows: late-breaker changed-before-grant */
START_TEST(test_marker_moved_away_during_the_takeover_is_not_held)
{
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);
	struct stat held, named;

	put_record(path, dead_pid(), NULL);
	fault_before(FAULT_pwrite, 1, move_away, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_uint_eq(fault_hits(FAULT_pwrite), 1);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(fstat(filelock_fd(lock), &held), 0);
	ck_assert_int_eq(stat(path, &named), 0);
	ck_assert_uint_eq(held.st_ino, named.st_ino);
	filelock_close(lock);
}
END_TEST

/* shows: errors */
START_TEST(test_failed_overwriting_leaves_the_old_record)
{
	const char *path = test_path("lock");
	struct filelock *lock = test_open(path, NULL);
	char before[MARKER_SIZE], after[MARKER_SIZE];

	put_record(path, dead_pid(), NULL);
	test_read_file(path, before, sizeof(before));
	fault_set(FAULT_pwrite, 1, FAULT_ONCE, EIO);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1), -EIO);
	test_read_file(path, after, sizeof(after));
	ck_assert_str_eq(before, after);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(lock);
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	return support_main(SUITE(
	        "soft marker",
	        test_marker_is_pythons_record_and_goes_with_the_release,
	        test_without_tmpfile_a_private_name_is_linked,
	        test_without_links_the_marker_is_made_in_place,
	        test_short_writes_make_a_complete_marker,
	        test_marker_that_cannot_be_written_is_absent,
	        test_no_marker_is_ever_seen_incomplete,
	        test_two_line_marker_has_no_token,
	        test_mode_of_the_marker_is_the_options_through_the_umask,
	        test_missing_folders_are_made,
	        test_record_above_the_limit_of_files_is_an_error,
	        test_shared_is_not_supported,
	        test_record_of_another_host_is_held,
	        test_record_of_a_living_process_is_held,
	        test_empty_marker_is_held,
	        test_newer_protocol_is_held,
	        test_strict_sentinel_is_held,
	        test_process_that_may_not_be_looked_at_is_held,
	        test_living_process_without_proc_is_held,
	        test_records_of_the_dead_are_taken_over_in_place,
	        test_record_of_a_reused_pid_is_taken_over,
	        test_record_of_our_pid_that_we_did_not_write_is_dead_unless_it_is_open,
	        test_record_of_this_boot_and_another_host_is_dead_unless_it_is_open,
	        test_exclusive_marker_of_protocol_2_is_recovered_once_its_owner_is_dead,
	        test_markers_of_other_programs_are_held,
	        test_torn_marker_is_held_until_it_was_seen_for_two_seconds,
	        test_age_by_the_date_makes_no_marker_torn_for_longer,
	        test_huge_file_is_read_to_a_bound_and_held,
	        test_symlinks_are_not_followed,
	        test_folder_is_held_until_it_goes_which_wakes,
	        test_fifo_is_refused,
	        test_socket_is_refused,
	        test_unwritable_marker_of_another_program_is_held,
	        test_dead_marker_that_may_not_be_written_stays_held,
	        test_marker_open_for_writing_is_held,
	        test_another_judges_shared_flock_delays_a_taker_but_proves_no_life,
	        test_without_flock_the_dead_stay_held,
	        test_marker_moved_away_during_the_takeover_is_not_held,
	        test_failed_overwriting_leaves_the_old_record));
}
