#include "support.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char base[PATH_MAX / 2]; /* of the program; each test has a folder in it */
static pid_t base_owner;

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void remove_base(void)
{
	if (base[0] && base_owner == getpid())
		(void)nftw(base, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void make_base(void)
{
	const char *parent = getenv("TMPDIR");

	(void)snprintf(base, sizeof(base), "%s/filelock-test.XXXXXX",
	               parent && *parent ? parent : "/tmp");
	if (!mkdtemp(base) || chmod(base, 0711) < 0) {
		perror(base);
		exit(1);
	}
	base_owner = getpid();
}

/* The limits of Check, which end what hangs, are for a quiet machine. Before it reads them. */
__attribute__((constructor)) static void be_patient(void)
{
	(void)setenv("CK_TIMEOUT_MULTIPLIER", "4", 0);
}

int support_main(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	make_base();
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	remove_base();
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void support_add_test(TCase *tcase, const TTest *test, int start, int end)
{
	const char *only = getenv("FILELOCK_TEST_ONLY");

	if (!only || !*only || strcmp(only, test->name) == 0)
		_tcase_add_test(tcase, test, 0, 0, start, end);
}

Suite *support_suite(const char *name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	for (size_t i = 0; i < count; i++)
		tcase_add_test(tcase, tests[i]);
	suite_add_tcase(suite, tcase);
	return suite;
}

void test_skip(const char *reason)
{
	const char *tap = getenv("CK_TAP_LOG_FILE_NAME");
	char path[PATH_MAX];
	FILE *file;

	fprintf(stderr, "skipped: %s: %s\n", tcase_name(), reason);
	if (!tap || snprintf(path, sizeof(path), "%s.skipped", tap) >= (int)sizeof(path))
		return;
	file = fopen(path, "ae");
	ck_assert_ptr_nonnull(file);
	fprintf(file, "%s: %s\n", tcase_name(), reason);
	fclose(file);
}

const char *test_folder(void)
{
	static char folder[PATH_MAX / 2 + 16];

	if (!folder[0]) {
		(void)snprintf(folder, sizeof(folder), "%s/XXXXXX", base);
		ck_assert_ptr_nonnull(mkdtemp(folder));
		ck_assert_int_eq(chmod(folder, 0755), 0);
	}
	return folder;
}

const char *test_path(const char *name)
{
	static char paths[16][PATH_MAX];
	static atomic_uint next; /* threads ask, too */
	char *path = paths[atomic_fetch_add(&next, 1) % 16];

	(void)snprintf(path, PATH_MAX, "%s/%s", test_folder(), name);
	return path;
}

void test_remove_lock(const char *path)
{
	static const char *const suffixes[] = { "", ".rw", ".filelock" };
	char name[PATH_MAX];

	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		(void)snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
		(void)nftw(name, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	}
}

void test_write_file(const char *path, const char *content)
{
	FILE *file = fopen(path, "we");

	ck_assert_ptr_nonnull(file);
	ck_assert_int_ge(fputs(content, file), 0);
	ck_assert_int_eq(fclose(file), 0);
}

void test_read_file(const char *path, char *content, size_t size)
{
	FILE *file = fopen(path, "re");

	ck_assert_ptr_nonnull(file);
	content[fread(content, 1, size - 1, file)] = '\0';
	fclose(file);
}

unsigned test_rounds(unsigned count)
{
	const char *scale = getenv("FILELOCK_TEST_SCALE");
	unsigned long percent = scale && *scale ? strtoul(scale, NULL, 10) : 100;
	unsigned long scaled = count * percent / 100;

	if (test_kind() == FILELOCK_SOFT_READWRITE) /* each cycle syncs two files to the disk */
		scaled /= 20;
	return scaled ? (unsigned)scaled : 1;
}

int64_t test_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * SECONDS + t.tv_nsec;
}

void test_nap(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

char test_process_state(pid_t pid)
{
	char path[64], text[512];
	const char *after;

	(void)snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	test_read_file(path, text, sizeof(text));
	after = strrchr(text, ')');
	return after ? after[2] : '?';
}

static void put_call_path(char path[64], pid_t tid)
{
	(void)snprintf(path, 64, "/proc/%ld/syscall", (long)tid);
}

static bool is_in_call(pid_t tid, long number)
{
	char path[64], call[32];

	put_call_path(path, tid);
	test_read_file(path, call, sizeof(call));
	return strtol(call, NULL, 10) == number;
}

bool test_waits_for_a_mutex(pid_t tid)
{
	return is_in_call(tid, SYS_futex);
}

bool test_waits_for_an_event(pid_t tid)
{
#ifdef SYS_ppoll_time64
	if (is_in_call(tid, SYS_ppoll_time64))
		return true;
#endif
	return is_in_call(tid, SYS_ppoll);
}

bool test_knows_waits(void)
{
	char path[64];

	put_call_path(path, getpid());
	if (access(path, R_OK) == 0)
		return true;
	test_skip("what a thread waits for cannot be known here");
	return false;
}

/* Calls count(fd) for each open descriptor but the one that reads the folder, and adds up. */
static unsigned over_descriptors(unsigned (*count)(int fd))
{
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;
	unsigned sum = 0;

	ck_assert_ptr_nonnull(folder);
	while ((entry = readdir(folder))) {
		int fd = atoi(entry->d_name);

		if (entry->d_name[0] != '.' && fd != dirfd(folder))
			sum += count(fd);
	}
	closedir(folder);
	return sum;
}

static unsigned count_one(int fd)
{
	(void)fd;
	return 1;
}

bool test_has_helpers;

unsigned test_descriptors(void)
{
	if (!test_has_helpers)
		filelock_set_max_helpers(0);
	return over_descriptors(count_one);
}

static unsigned count_watches(int fd)
{
	char path[64], line[512];
	unsigned count = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	file = fopen(path, "re");
	ck_assert_ptr_nonnull(file);
	while (fgets(line, sizeof(line), file))
		count += strncmp(line, "inotify wd:", 11) == 0;
	fclose(file);
	return count;
}

unsigned test_watches(void)
{
	return over_descriptors(count_watches);
}

enum filelock_kind test_kind(void)
{
	const char *name = getenv("FILELOCK_TEST_KIND");

	if (!name || strcmp(name, "native") == 0)
		return FILELOCK_NATIVE;
	if (strcmp(name, "soft") == 0)
		return FILELOCK_SOFT;
	if (strcmp(name, "lease") == 0)
		return FILELOCK_LEASE;
	if (strcmp(name, "strict") == 0)
		return FILELOCK_STRICT;
	if (strcmp(name, "soft-readwrite") == 0)
		return FILELOCK_SOFT_READWRITE;
	if (strcmp(name, "readwrite") == 0)
		return FILELOCK_READWRITE;
	/* no assertion: this is asked outside of tests too */
	(void)fprintf(stderr, "FILELOCK_TEST_KIND=%s: there is no such kind\n", name);
	abort();
}

bool test_kind_is_exclusive(void)
{
	return test_kind() == FILELOCK_SOFT || test_kind() == FILELOCK_LEASE ||
	       test_kind() == FILELOCK_STRICT;
}

bool test_is_not_native(void)
{
	if (test_kind() == FILELOCK_NATIVE)
		return false;
	test_skip("it is about native locks");
	return true;
}

bool test_is_in_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	if (!preloaded || !strstr(preloaded, "vgpreload"))
		return false;
	test_skip("valgrind does not see who has what");
	return true;
}

bool test_is_of_markers(void)
{
	enum filelock_kind kind = test_kind();

	return kind == FILELOCK_SOFT || kind == FILELOCK_LEASE || kind == FILELOCK_STRICT;
}

bool test_is_beside_its_path(void)
{
	if (test_kind() != FILELOCK_SOFT_READWRITE)
		return false;
	test_skip("nothing stands at the path of this kind");
	return true;
}

bool test_is_without_shared(void)
{
	if (!test_is_of_markers())
		return false;
	test_skip("locks of this kind are exclusive only");
	return true;
}

bool test_locks_are_listed(void)
{
	char line[256], inode[32], pid[32];
	bool found = false;
	struct stat st;
	FILE *locks;
	int fd;

	if (test_kind() != FILELOCK_NATIVE)
		return true;
	fd = open(test_path("listed"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	(void)flock(fd, LOCK_EX | LOCK_NB); /* where it does not work it is not listed either */
	(void)snprintf(inode, sizeof(inode), ":%ju ", (uintmax_t)st.st_ino);
	(void)snprintf(pid, sizeof(pid), " %ld ", (long)getpid());
	locks = fopen("/proc/locks", "re");
	while (locks && !found && fgets(line, sizeof(line), locks))
		found = strstr(line, " FLOCK ") && strstr(line, inode) &&
		        strstr(line, pid);
	if (locks)
		fclose(locks);
	close(fd);
	unlink(test_path("listed"));
	if (!found)
		test_skip("the locks of this file system are not in /proc/locks");
	return found;
}

int test_try_open(const char *path, const struct filelock_options *options,
                  struct filelock **ret_lock)
{
	struct filelock_options any = FILELOCK_OPTIONS_INIT;

	if (options)
		any = *options;
	any.any_extension = test_kind() == FILELOCK_READWRITE;
	return filelock_open(path, test_kind(), &any, ret_lock);
}

struct filelock *test_open(const char *path, const struct filelock_options *options)
{
	struct filelock *lock = NULL;
	int r = test_try_open(path, options, &lock);

	ck_assert_msg(r == 0, "filelock_open: %s", filelock_last_error(NULL));
	return lock;
}

void *test_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	ck_assert(memory != MAP_FAILED);
	return memory;
}

/* Every folder on the way must let others through. */
static bool is_reached_by_others(const char *path)
{
	char parent[PATH_MAX];
	struct stat st;

	(void)snprintf(parent, sizeof(parent), "%s", path);
	for (char *slash = strrchr(parent, '/'); slash; slash = strrchr(parent, '/')) {
		*slash = '\0';
		if (stat(*parent ? parent : "/", &st) < 0 || !(st.st_mode & S_IXOTH))
			return false;
	}
	return true;
}

bool test_may_change_user(void)
{
	if (geteuid() != 0) {
		test_skip("needs root, to become another user");
		return false;
	}
	if (!is_reached_by_others(test_folder())) {
		test_skip("another user cannot reach the test's folder here");
		return false;
	}
	return true;
}

unsigned test_blocked_on(const char *path)
{
	char line[256], number[32];
	FILE *locks = fopen("/proc/locks", "re");
	unsigned count = 0;
	struct stat st;

	ck_assert_ptr_nonnull(locks);
	ck_assert_int_eq(stat(path, &st), 0);
	(void)snprintf(number, sizeof(number), ":%llu ", (unsigned long long)st.st_ino);
	while (fgets(line, sizeof(line), locks))
		count += strstr(line, "-> FLOCK") && strstr(line, number);
	(void)fclose(locks);
	return count;
}
