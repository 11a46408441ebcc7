/* Read/write locks: who gets in, which files are refused and left as they were, threads, fork. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support.h"

static int open_as_named(const char *path, struct filelock **ret_lock)
{
	return filelock_open(path, FILELOCK_READWRITE, NULL, ret_lock);
}

#ifdef FILELOCK_SQLITE

#include <sqlite3.h>

static char path[512];

static struct filelock *open_rw(void)
{
	struct filelock *lock = NULL;

	(void)snprintf(path, sizeof(path), "%s", test_path("lock.db"));
	ck_assert_int_eq(open_as_named(path, &lock), 0);
	return lock;
}

static int try(struct filelock *lock, enum filelock_mode mode)
{
	return filelock_acquire(lock, mode, FILELOCK_NO_WAIT);
}

/* --- the path --- */

START_TEST(test_name_must_end_in_db_and_the_error_says_what_to_use)
{
	static const char *const wrong[] = { "lock", "lock.lock", "lock.db.bak", ".db", "db" };
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		ck_assert_int_eq(open_as_named(test_path(wrong[i]), &lock), -EINVAL);
		ck_assert_ptr_null(lock);
		ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), ".db"));
		ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "any_extension"));
	}
	options.any_extension = true;
	ck_assert_int_eq(filelock_open(test_path("lock"), FILELOCK_READWRITE, &options, &lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_removing_the_database_on_release_is_refused)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = NULL;

	options.unlink_on_release = true;
	ck_assert_int_eq(filelock_open("/x.db", FILELOCK_READWRITE, &options, &lock), -EINVAL);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "unlink_on_release"));
}
END_TEST

/* shows: modes */
START_TEST(test_missing_database_and_its_parents_are_made_empty)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;
	struct stat st;
	char deep[512];

	(void)snprintf(deep, sizeof(deep), "%s/a/b/lock.db", test_folder());
	options.file_mode = 0640;
	umask(022);
	ck_assert_int_eq(filelock_open(deep, FILELOCK_READWRITE, &options, &lock), 0);
	ck_assert_int_eq(lstat(deep, &st), -1);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(lstat(deep, &st), 0);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0640);
	ck_assert_int_eq(st.st_size, 0);
	filelock_close(lock);
	ck_assert_int_eq(lstat(deep, &st), 0);
	ck_assert_int_eq(st.st_size, 0);
}
END_TEST

START_TEST(test_parent_may_be_a_symbolic_link)
{
	struct filelock *lock, *direct;
	char link[512];

	direct = open_rw();
	(void)snprintf(link, sizeof(link), "%s/link", test_folder());
	ck_assert_int_eq(symlink(test_folder(), link), 0);
	(void)snprintf(link, sizeof(link), "%s/link/lock.db", test_folder());
	ck_assert_int_eq(open_as_named(link, &lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	ck_assert_int_eq(try(direct, FILELOCK_SHARED), -ETIMEDOUT);
	filelock_close(lock);
	filelock_close(direct);
}
END_TEST

static void make_symlink(void)
{
	ck_assert_int_eq(symlink(test_path("elsewhere.db"), path), 0);
}

static void make_fifo(void)
{
	ck_assert_int_eq(mkfifo(path, 0600), 0);
}

static void make_directory(void)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
}

static const struct {
	void (*make)(void);
	int error;
} obstacles[] = {
	{ make_symlink, -ELOOP },
	{ make_fifo, FILELOCK_ENOTREGULAR },
	{ make_directory, -EISDIR },
};

/* shows: symbolic-link strange-file */
START_TEST(test_what_is_no_regular_file_is_refused)
{
	struct filelock *lock = open_rw();

	obstacles[_i].make();
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), obstacles[_i].error);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                 obstacles[_i].error);
	ck_assert_int_eq(access(test_path("elsewhere.db"), F_OK), -1);
	filelock_close(lock);
}
END_TEST

START_TEST(test_path_too_long_for_sqlite_is_enametoolong)
{
	char deep[1024];
	struct filelock *lock;
	int length = snprintf(deep, sizeof(deep), "%s", test_folder());

	for (int i = 0; i < 3; i++)
		length += snprintf(deep + length, sizeof(deep) - (size_t)length, "/%0200d", i);
	(void)snprintf(deep + length, sizeof(deep) - (size_t)length, "/lock.db");
	ck_assert_int_eq(open_as_named(deep, &lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), -ENAMETOOLONG);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(lock), "SQLite"));
	filelock_close(lock);
}
END_TEST

/* --- what is in the file --- */

static void run_sql(const char *sql)
{
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}

struct content {
	char bytes[65536];
	size_t size;
};

static void read_content(struct content *content)
{
	FILE *file = fopen(path, "re");

	ck_assert_ptr_nonnull(file);
	content->size = fread(content->bytes, 1, sizeof(content->bytes), file);
	fclose(file);
}

static void check_content(const struct content *before)
{
	static struct content now;

	read_content(&now);
	ck_assert_uint_eq(now.size, before->size);
	ck_assert_mem_eq(now.bytes, before->bytes, now.size);
}

/* Both modes give this error, at once, and a sentence with this word; no byte is changed. */
static void expect_refusal(int error, const char *word)
{
	static struct content before;
	struct filelock *lock = open_rw();

	read_content(&before);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, FILELOCK_WAIT_FOREVER), error);
	ck_assert_msg(strstr(filelock_last_error(lock), word), "%s", filelock_last_error(lock));
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER), error);
	filelock_close(lock);
	check_content(&before);
}

static const struct {
	const char *bytes;
	size_t size;
} no_databases[] = {
	{ "x", 1 },
	{ "hello\n", 6 },
	{ "SQLite format 3\0\020\0\1", 19 },
	{ "SQLite format 3\0\020\0\3\3", 20 },
	{ "SQLite format 4\0\020\0\1\1 and more of it", 35 },
	{ "a text that is longer than the header looked at", 47 },
};

/* shows: bytes-stay */
START_TEST(test_file_that_is_no_database_is_refused_and_unchanged)
{
	FILE *file;

	filelock_close(open_rw());
	file = fopen(path, "we");
	ck_assert_uint_eq(fwrite(no_databases[_i].bytes, 1, no_databases[_i].size, file),
	                  no_databases[_i].size);
	fclose(file);
	expect_refusal(-EBADMSG, "neither empty nor an SQLite database");
}
END_TEST

/* shows: bytes-stay */
START_TEST(test_database_serves_and_is_unchanged)
{
	static struct content before;
	struct filelock *lock = open_rw();

	run_sql("create table t (x); insert into t values (1)");
	read_content(&before);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	filelock_close(lock);
	check_content(&before);
}
END_TEST

/* shows: bytes-stay */
START_TEST(test_wal_database_is_refused_and_never_converted)
{
	filelock_close(open_rw());
	run_sql("pragma journal_mode=wal; create table t (x)");
	expect_refusal(FILELOCK_EWAL, "WAL");
	ck_assert_int_eq(access(test_path("lock.db-wal"), F_OK), -1);
}
END_TEST

START_TEST(test_database_that_became_wal_since_the_last_hold_is_refused)
{
	struct filelock *lock = open_rw();

	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	run_sql("pragma journal_mode=wal; create table t (x)");
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), FILELOCK_EWAL);
	filelock_close(lock);
}
END_TEST

/* Its size says nothing of that. */
/* shows: bytes-stay */
START_TEST(test_database_that_became_unfit_since_the_last_hold_is_refused)
{
	enum filelock_mode mode = _i % 2 ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE;
	bool wal = _i / 2;
	struct filelock *lock = open_rw();
	struct stat before, after;

	run_sql("create table t (x)");
	ck_assert_int_eq(stat(path, &before), 0);
	ck_assert_int_eq(try(lock, mode), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	if (wal)
		run_sql("pragma journal_mode=wal");
	else
		test_write_file(test_path("lock.db-journal"), "left behind");
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_int_eq(after.st_size, before.st_size);
	ck_assert_int_eq(try(lock, mode), wal ? FILELOCK_EWAL : FILELOCK_EJOURNAL);
	filelock_close(lock);
}
END_TEST

/* shows: bytes-stay */
START_TEST(test_journal_beside_the_database_is_refused_and_left)
{
	char journal[600], content[32];

	filelock_close(open_rw());
	run_sql("create table t (x)");
	(void)snprintf(journal, sizeof(journal), "%s-journal", path);
	test_write_file(journal, "left behind");
	expect_refusal(FILELOCK_EJOURNAL, "journal");
	test_read_file(journal, content, sizeof(content));
	ck_assert_str_eq(content, "left behind");
}
END_TEST

START_TEST(test_journal_of_a_live_writer_is_its_own_business)
{
	struct filelock *lock = open_rw();
	sqlite3 *db;

	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "create table t (x); begin immediate; "
	                                  "insert into t values (1)",
	                              NULL, NULL, NULL),
	                 SQLITE_OK);
	ck_assert_int_eq(access(test_path("lock.db-journal"), F_OK), 0);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(sqlite3_exec(db, "commit", NULL, NULL, NULL), SQLITE_OK);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
	ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
}
END_TEST

static int lock_as_nobody(void *arg)
{
	struct filelock *lock = open_rw();
	int shared, exclusive;

	(void)arg;
	ck_assert_int_eq(setgroups(0, NULL), 0);
	ck_assert_int_eq(setresgid(65534, 65534, 65534), 0);
	ck_assert_int_eq(setresuid(65534, 65534, 65534), 0);
	shared = try(lock, FILELOCK_SHARED);
	filelock_release_all(lock);
	exclusive = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	filelock_close(lock);
	return shared == 0 && exclusive == -EACCES ? 0 : 1;
}

/* shows: full-or-forbidden */
START_TEST(test_file_that_we_may_only_read_serves_shared_mode_only)
{
	struct filelock *lock;

	if (!test_may_change_user())
		return;
	lock = open_rw();
	umask(022);
	ck_assert_int_eq(chmod(test_folder(), 0755), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
	ck_assert_int_eq(test_in_child(lock_as_nobody, NULL), 0);
}
END_TEST

/* --- who gets in --- */

/* shows: two-handles-exclude */
START_TEST(test_two_handles_of_a_process_exclude_each_other_as_two_processes_do)
{
	struct filelock *a = open_rw(), *b = open_rw();
	struct peer peer;

	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, NULL), 0);
	ck_assert_int_eq(try(a, FILELOCK_SHARED), 0);
	ck_assert_int_eq(try(b, FILELOCK_SHARED), 0);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(peer_release(&peer), 0);
	ck_assert_int_eq(filelock_release(b), 0);
	ck_assert_int_eq(try(b, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(a), 0);
	ck_assert_int_eq(try(b, FILELOCK_EXCLUSIVE), 0);
	for (int mode = FILELOCK_EXCLUSIVE; mode <= FILELOCK_SHARED; mode++) {
		ck_assert_int_eq(try(a, (enum filelock_mode)mode), -ETIMEDOUT);
		ck_assert_int_eq(peer_acquire(&peer, (enum filelock_mode)mode, 0), -ETIMEDOUT);
	}
	ck_assert_int_eq(filelock_release(b), 0);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(try(a, FILELOCK_SHARED), -ETIMEDOUT);
	filelock_close(a);
	filelock_close(b);
	peer_stop(&peer);
}
END_TEST

/* Closing a descriptor of a file drops all of the process's record locks on it. */
/* shows: own-locks-stay */
START_TEST(test_closing_one_handle_leaves_the_lock_of_another)
{
	struct filelock *holder = open_rw(), *other = open_rw();
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct peer peer;

	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, NULL), 0);
	ck_assert_int_eq(try(holder, FILELOCK_SHARED), 0);
	ck_assert_int_eq(try(other, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_holder(other, &owner), 0);
	filelock_close(other);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_release(holder), 0);
	ck_assert_int_eq(peer_acquire(&peer, FILELOCK_EXCLUSIVE, 0), 0);
	filelock_close(holder);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_no_descriptor_is_lent)
{
	struct filelock *lock = open_rw();

	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_fd(lock), -ENOTSUP);
	filelock_close(lock);
}
END_TEST

START_TEST(test_holder_is_named_and_a_waiting_writer_is_not_taken_for_it)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock = open_rw();
	struct peer reader, writer;

	ck_assert_int_eq(filelock_holder(lock, &owner), FILELOCK_ENOHOLDER);
	peer_start_holding(&writer, path, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, writer.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_EXCLUSIVE);
	ck_assert_int_eq(peer_release(&writer), 0);
	peer_start_holding(&reader, path, FILELOCK_SHARED);
	peer_order_acquire(&writer, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&writer);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, reader.pid);
	ck_assert_int_eq(owner.mode, FILELOCK_SHARED);
	ck_assert_int_eq(peer_release(&reader), 0);
	ck_assert_int_eq(peer_answer(&writer), 0);
	filelock_close(lock);
	peer_stop(&reader);
	peer_stop(&writer);
}
END_TEST

/* --- the file is changed under us --- */

static char aside[512];

static void rename_it(void)
{
	ck_assert_int_eq(rename(path, aside), 0);
}

static void remove_it(void)
{
	ck_assert_int_eq(unlink(path), 0);
}

static void replace_it(void)
{
	test_write_file(aside, "");
	ck_assert_int_eq(rename(aside, path), 0);
}

static void (*const changes[])(void) = { rename_it, remove_it, replace_it };

/* shows: changed-under-holder */
START_TEST(test_holder_learns_that_its_database_was_changed)
{
	struct filelock *lock = open_rw(), *next = open_rw();

	(void)snprintf(aside, sizeof(aside), "%s", test_path("aside.db"));
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_verify(lock), 0);
	changes[_i]();
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	ck_assert_int_eq(try(next, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_verify(next), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(filelock_verify(next), 0);
	/* the connection that is kept is of the old one */
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), -ETIMEDOUT);
	filelock_close(lock);
	filelock_close(next);
}
END_TEST

/* shows: changed-before-grant */
START_TEST(test_waiter_waits_no_more_for_a_database_that_was_changed)
{
	struct filelock_options rare = FILELOCK_OPTIONS_INIT;
	struct filelock *lock = open_rw();
	struct peer waiter;

	(void)snprintf(aside, sizeof(aside), "%s", test_path("aside.db"));
	rare.poll_interval_ms = 3600000;
	peer_start(&waiter);
	ck_assert_int_eq(peer_open(&waiter, path, &rare), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	peer_order_acquire(&waiter, FILELOCK_SHARED, FILELOCK_WAIT_FOREVER);
	peer_await_notice(&waiter);
	changes[_i]();
	ck_assert_int_eq(peer_answer(&waiter), 0);
	ck_assert_int_eq(filelock_verify(lock), FILELOCK_ELOST);
	filelock_close(lock);
	peer_stop(&waiter);
}
END_TEST

/* --- threads --- */

static void *nest(void *arg)
{
	ck_assert_int_eq(filelock_acquire(arg, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                 -EDEADLK);
	ck_assert_int_eq(filelock_release(arg), 0);
	return NULL;
}

static void *nest_shared(void *arg)
{
	ck_assert_int_eq(filelock_acquire(arg, FILELOCK_SHARED, FILELOCK_WAIT_FOREVER), 0);
	return NULL;
}

START_TEST(test_write_lock_nests_in_its_thread_only_and_is_released_from_any)
{
	struct filelock *lock = open_rw();
	pthread_t thread;

	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, nest, lock), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(filelock_depth(lock), 1);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, nest_shared, lock), 0);
	pthread_join(thread, NULL);
	ck_assert_uint_eq(filelock_depth(lock), 2);
	filelock_close(lock);
}
END_TEST

/* --- fork --- */

static int try_new_handle(void *arg)
{
	enum filelock_mode mode = *(enum filelock_mode *)arg;
	struct filelock *lock = open_rw();
	int r = try(lock, mode);

	filelock_close(lock);
	return r == 0 ? 0 : r == -ETIMEDOUT ? 1 : r == FILELOCK_EFORKED_DATABASE ? 2 : 3;
}

static struct filelock *parents;

static int use_and_close_the_parents(void *arg)
{
	(void)arg;
	if (try(parents, FILELOCK_SHARED) != FILELOCK_EFORKED ||
	    filelock_release(parents) != FILELOCK_EFORKED || filelock_is_held(parents))
		return 1;
	filelock_close(parents);
	return 0;
}

/* shows: fork-is-harmless */
START_TEST(test_child_can_do_nothing_to_the_parents_lock)
{
	enum filelock_mode mode = FILELOCK_SHARED;
	struct peer other;

	parents = open_rw();
	peer_start(&other);
	ck_assert_int_eq(peer_open(&other, path, NULL), 0);
	ck_assert_int_eq(try(parents, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(test_in_child(use_and_close_the_parents, NULL), 0);
	ck_assert_int_eq(test_in_child(try_new_handle, &mode), 2);
	ck_assert_int_eq(peer_acquire(&other, FILELOCK_SHARED, 0), -ETIMEDOUT);
	ck_assert_int_eq(filelock_verify(parents), 0);
	ck_assert_int_eq(filelock_release(parents), 0);
	ck_assert_int_eq(peer_acquire(&other, FILELOCK_SHARED, 0), 0);
	filelock_close(parents);
	peer_stop(&other);
}
END_TEST

/* shows: child-opens-anew */
START_TEST(test_database_held_at_the_fork_is_refused_until_exec)
{
	enum filelock_mode mode = FILELOCK_SHARED;
	struct filelock *lock = open_rw(), *other;
	char program[512];
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);

	ck_assert_int_gt(n, 0);
	program[n] = '\0';
	ck_assert_int_eq(try(lock, FILELOCK_SHARED), 0);
	ck_assert_int_eq(test_in_child(try_new_handle, &mode), 2);
	ck_assert_int_eq(program_run((const char *const[]){ program, "try", path, NULL }), 0);
	/* another database is not concerned */
	ck_assert_int_eq(open_as_named(test_path("other.db"), &other), 0);
	ck_assert_int_eq(try(other, FILELOCK_SHARED), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(test_in_child(try_new_handle, &mode), 0);
	filelock_close(other);
	filelock_close(lock);
}
END_TEST

/* shows: child-opens-anew */
START_TEST(test_new_handle_in_a_child_works_on_what_was_not_held)
{
	enum filelock_mode mode = FILELOCK_EXCLUSIVE;
	struct filelock *lock = open_rw();
	struct peer holder;

	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_int_eq(test_in_child(try_new_handle, &mode), 0);
	peer_start_holding(&holder, path, FILELOCK_SHARED);
	ck_assert_int_eq(test_in_child(try_new_handle, &mode), 1);
	ck_assert_int_eq(try(lock, FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	filelock_close(lock);
	peer_stop(&holder);
}
END_TEST

/* --- resources --- */

START_TEST(test_released_handles_keep_few_descriptors)
{
	enum { HANDLES = 300 };
	struct filelock *locks[HANDLES];
	unsigned before = test_descriptors();

	for (int i = 0; i < HANDLES; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "lock%d.db", i);
		ck_assert_int_eq(open_as_named(test_path(name), &locks[i]), 0);
		ck_assert_int_eq(try(locks[i], FILELOCK_SHARED), 0);
		ck_assert_int_eq(filelock_release(locks[i]), 0);
	}
	ck_assert_uint_le(test_descriptors(), before + 64);
	for (int i = 0; i < HANDLES; i++)
		ck_assert_int_eq(try(locks[i], FILELOCK_EXCLUSIVE), 0);
	for (int i = 0; i < HANDLES; i++)
		filelock_close(locks[i]);
	ck_assert_uint_eq(test_descriptors(), before);
}
END_TEST

static int try_after_exec(const char *name)
{
	struct filelock *lock;
	int r = open_as_named(name, &lock);

	if (r == 0) {
		r = filelock_acquire(lock, FILELOCK_SHARED, FILELOCK_NO_WAIT);
		filelock_close(lock);
	}
	return r != 0;
}

static Suite *make_suite(void)
{
	Suite *suite = SUITE("readwrite", test_name_must_end_in_db_and_the_error_says_what_to_use,
	                     test_removing_the_database_on_release_is_refused,
	                     test_missing_database_and_its_parents_are_made_empty,
	                     test_parent_may_be_a_symbolic_link,
	                     test_path_too_long_for_sqlite_is_enametoolong,
	                     test_database_serves_and_is_unchanged,
	                     test_wal_database_is_refused_and_never_converted,
	                     test_database_that_became_wal_since_the_last_hold_is_refused,
	                     test_journal_beside_the_database_is_refused_and_left,
	                     test_journal_of_a_live_writer_is_its_own_business,
	                     test_file_that_we_may_only_read_serves_shared_mode_only,
	                     test_two_handles_of_a_process_exclude_each_other_as_two_processes_do,
	                     test_closing_one_handle_leaves_the_lock_of_another,
	                     test_no_descriptor_is_lent,
	                     test_holder_is_named_and_a_waiting_writer_is_not_taken_for_it,
	                     test_write_lock_nests_in_its_thread_only_and_is_released_from_any,
	                     test_child_can_do_nothing_to_the_parents_lock,
	                     test_database_held_at_the_fork_is_refused_until_exec,
	                     test_new_handle_in_a_child_works_on_what_was_not_held,
	                     test_released_handles_keep_few_descriptors);
	TCase *each = tcase_create("each");
	int changed = sizeof(changes) / sizeof(*changes);

	tcase_add_loop_test(each, test_what_is_no_regular_file_is_refused, 0,
	                    sizeof(obstacles) / sizeof(*obstacles));
	tcase_add_loop_test(each, test_file_that_is_no_database_is_refused_and_unchanged, 0,
	                    sizeof(no_databases) / sizeof(*no_databases));
	tcase_add_loop_test(each, test_database_that_became_unfit_since_the_last_hold_is_refused,
	                    0, 4);
	tcase_add_loop_test(each, test_holder_learns_that_its_database_was_changed, 0, changed);
	tcase_add_loop_test(each, test_waiter_waits_no_more_for_a_database_that_was_changed, 0,
	                    changed);
	suite_add_tcase(suite, each);
	return suite;
}

#else

START_TEST(test_library_without_sqlite_says_enosys)
{
	struct filelock *lock = NULL;

	ck_assert_int_eq(open_as_named("/x.db", &lock), -ENOSYS);
	ck_assert_ptr_null(lock);
	ck_assert_ptr_nonnull(strstr(filelock_last_error(NULL), "SQLite"));
}
END_TEST

static int try_after_exec(const char *name)
{
	(void)name;
	return 1;
}

static Suite *make_suite(void)
{
	return SUITE("readwrite", test_library_without_sqlite_says_enosys);
}

#endif

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "try") == 0)
		return try_after_exec(argv[2]);
	(void)setenv("FILELOCK_TEST_KIND", "readwrite", 1);
	return support_main(make_suite());
}
