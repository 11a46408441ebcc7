/*
 * readwrite_database.c - connections to SQLite databases, used for their locks only.
 *
 * SQLite's unix VFS locks by POSIX record locks (fcntl(2)), which belong to the process: closing
 * any descriptor of a file drops all that the process has on it. The file is therefore never
 * opened but through the VFS, which keeps descriptors open as long as it must. A missing file
 * is made by mknod(2), which opens nothing.
 *
 * No SQL is ever run. Any statement could roll back a journal, convert the database, and drop the
 * lock.
 *
 * Resting connections. Opening a connection takes ten times as long as locking, so a release keeps
 * it. A process may have more handles than descriptors, so only the last MOST_RESTING are kept, in
 * a list from which the oldest is closed.
 *
 * Fork. The child shares none of the locks, but its copy of SQLite's memory says that it has them.
 * What it inherits is set aside for good, neither used nor closed. A database that was locked at
 * the fork is refused in the child: SQLite would hand out locks that it does not have. Every
 * database is refused if a thread was stuck inside SQLite, whose mutexes stay taken there.
 *
 * Forks wait while a thread is inside SQLite (fork.h), so that a child finds neither a mutex of
 * SQLite's taken nor `table`'s, which guards the lists.
 */
#include "kinds/readwrite_database.h"

#ifdef FILELOCK_SQLITE

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "base/path.h"
#include "fork.h"
#include "base/sys.h"
#include "kinds/readwrite_probe.h"
#include "kinds/readwrite_waiters.h"

#define MOST_RESTING 64
#define HEADER_SIZE 20 /* of the header's 100 bytes: the text, page size, format versions */

/* A file and its connections in this process. */
struct database_file {
	struct list link;
	struct identity identity;
	unsigned connections;
	atomic_uint locked; /* connections that have a level, or are taking one */
};

static atomic_uint inside; /* threads that are inside SQLite */

/* Whether SQLite has mutexes. It has none if it was built so, or if the program told it so by
   sqlite3_config(SQLITE_CONFIG_SINGLETHREAD). Known from the first connection on. */
enum { MUTEXES_UNKNOWN, MUTEXES_THERE, MUTEXES_MISSING };
static atomic_int mutexes;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* to be inside, unless they are there */
static _Thread_local bool has_turn;
static pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER; /* see make_by_open */

static struct {
	pthread_mutex_t mutex;
	struct list files;
	struct list resting; /* the newest first */
	unsigned resting_count;
	struct list inherited;
	bool unusable; /* in a child that was made while a thread was inside SQLite */
} table = { .mutex = PTHREAD_MUTEX_INITIALIZER,
	    .files = LIST_INIT(table.files),
	    .resting = LIST_INIT(table.resting),
	    .inherited = LIST_INIT(table.inherited) };

static void enter_sqlite(void)
{
	fork_hold_off();
	has_turn = atomic_load(&mutexes) != MUTEXES_THERE;
	if (has_turn)
		(void)pthread_mutex_lock(&turn);
	atomic_fetch_add(&inside, 1);
}

static void leave_sqlite(void)
{
	atomic_fetch_sub(&inside, 1);
	if (has_turn)
		(void)pthread_mutex_unlock(&turn);
	fork_allow();
}

static void enter_table(void)
{
	(void)pthread_mutex_lock(&table.mutex);
}

static void leave_table(void)
{
	(void)pthread_mutex_unlock(&table.mutex);
}

/* The nearest errno of an SQLite result; system_errno, if any, is what the system said. Out of
   memory it gives no connection, and the results of SQL are not met without any. */
static int nearest_errno(int code, int system_errno)
{
	if (code == SQLITE_CANTOPEN_SYMLINK)
		return -ELOOP;
	return system_errno ? -system_errno : -EIO;
}

static int fail_with(struct filelock *lock, int error, const char *what, const char *words)
{
	return failure_set_detail(&lock->failure, error, what, sys_strdup(words));
}

/* --- files --- */

/* With the table. */
static struct database_file *find_file(struct identity identity)
{
	list_for_each(link, &table.files) {
		struct database_file *file = list_entry(link, struct database_file, link);

		if (identity_equal(file->identity, identity))
			return file;
	}
	return NULL;
}

static struct database_file *get_file(struct identity identity)
{
	struct database_file *spare = sys.calloc(1, sizeof(*spare));
	struct database_file *file;

	enter_table();
	file = find_file(identity);
	if (!file && spare) {
		file = spare;
		spare = NULL;
		file->identity = identity;
		list_add_first(&table.files, &file->link);
	}
	if (file)
		file->connections++;
	leave_table();
	free(spare);
	return file;
}

static void put_file(struct database_file *file)
{
	if (!file)
		return;
	enter_table();
	if (--file->connections > 0)
		file = NULL;
	else
		list_remove(&file->link);
	leave_table();
	free(file);
}

static bool was_locked_at_fork(struct identity identity)
{
	bool found;

	enter_table();
	found = table.unusable;
	list_for_each(link, &table.inherited) {
		const struct database *db = list_entry(link, struct database, link);

		found = found || (db->level > DATABASE_UNLOCKED &&
		                  identity_equal(db->identity, identity));
	}
	leave_table();
	return found;
}

/* --- connections --- */

static void destroy(struct database *db)
{
	if (!db)
		return;
	if (db->connection) {
		enter_sqlite();
		/* fails only with statements unfinished, of which there are none */
		(void)sqlite3_close(db->connection);
		leave_sqlite();
	}
	if (db->level > DATABASE_UNLOCKED)
		atomic_fetch_sub(&db->file->locked, 1);
	put_file(db->file);
	filelock_unguard_fd(&db->folder);
	free(db);
}

/* Where mknod(2) is refused (CIFS, some FUSE servers). The close drops what this process has locked on
   the file, so no connection to it may be opened in between: await_making. */
static int make_by_open(const char *path, mode_t bits)
{
	int fd;

	fork_hold_off();
	(void)pthread_mutex_lock(&making);
	fd = sys_open(path, O_WRONLY | O_CREAT | O_EXCL | SAFE_FLAGS, bits);
	if (fd >= 0)
		(void)sys_close(fd);
	(void)pthread_mutex_unlock(&making);
	fork_allow();
	return fd < 0 ? fd : 0;
}

static void await_making(void)
{
	(void)pthread_mutex_lock(&making);
	(void)pthread_mutex_unlock(&making);
}

static int make_by_any_means(const char *path, mode_t bits)
{
	int r = sys_make_file(path, bits);

	return r == -EPERM || r == -ENOSYS || r == -EOPNOTSUPP || r == -EINVAL
	               ? make_by_open(path, bits)
	               : r;
}

/* Gives the new file the bits that the umask took: by O_PATH, whose close drops no locks. */
static void set_mode(const struct filelock *lock)
{
	int fd = sys_open(lock->path, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0);
	char link[SYS_FD_LINK];
	struct stat st;

	if (fd < 0)
		return;
	sys_fd_link(link, fd);
	if (sys_fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    sys.chmod(link, lock->options.file_mode) < 0)
		log_write(FILELOCK_LOG_WARNING, "cannot set the mode of %s: %s", lock->path,
		          filelock_strerror(-errno));
	(void)sys_close(fd);
}

static int make_file(const struct filelock *lock)
{
	mode_t bits = lock->options.file_mode ? lock->options.file_mode : 0666;
	int r = make_by_any_means(lock->path, bits);

	if (r == -ENOENT) {
		r = handle_make_parents(lock);
		if (r == 0)
			r = make_by_any_means(lock->path, bits);
	}
	if (r == 0 && lock->options.exact_mode && lock->options.file_mode)
		set_mode(lock);
	return r == -EEXIST ? 0 : r;
}

/* Looks at what stands at the path, before SQLite does: opening a device can have effects. */
static int look(struct filelock *lock, struct stat *ret)
{
	int r = sys_lstat(lock->path, ret);

	if (r == -ENOENT) {
		r = make_file(lock);
		if (r < 0)
			return handle_fail(lock, r, "cannot make the database");
		r = sys_lstat(lock->path, ret);
		if (r == -ENOENT)
			return ATTEMPT_RACED;
	}
	if (r == 0 && S_ISLNK(ret->st_mode))
		r = -ELOOP;
	else if (r == 0 && S_ISDIR(ret->st_mode))
		r = -EISDIR;
	else if (r == 0 && !S_ISREG(ret->st_mode))
		r = FILELOCK_ENOTREGULAR;
	return r < 0 ? handle_fail(lock, r, "cannot use the database") : 0;
}

static int connect_to(struct filelock *lock, struct database *db, const char *path)
{
	/* FULLMUTEX: the connection has a mutex, if SQLite has any */
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_FULLMUTEX |
	            SQLITE_OPEN_PRIVATECACHE;
	int code = sqlite3_initialize(); /* not by itself, if it was built so */
	sqlite3_vfs *vfs;

	if (code != SQLITE_OK)
		return fail_with(lock, code == SQLITE_NOMEM ? -ENOMEM : -EIO,
		                 "cannot initialize SQLite", sqlite3_errstr(code));
	vfs = sqlite3_vfs_find("unix");
	if (vfs && strlen(path) > (size_t)vfs->mxPathname)
		return fail_with(lock, -ENAMETOOLONG, "cannot open the database",
		                 "SQLite takes shorter paths only");
	code = sqlite3_open_v2(path, &db->connection, flags, "unix");
	if (db->connection)
		atomic_store(&mutexes, sqlite3_db_mutex(db->connection) ? MUTEXES_THERE
		                                                        : MUTEXES_MISSING);
	if (code == SQLITE_OK) {
		/* caches for SQL, which is never run: 48 KB a connection */
		(void)sqlite3_db_config(db->connection, SQLITE_DBCONFIG_LOOKASIDE, NULL, 0, 0);
		code = sqlite3_file_control(db->connection, "main",
		                            SQLITE_FCNTL_FILE_POINTER, &db->handle);
	}
	if (code == SQLITE_OK)
		return 0;
	if (!db->connection)
		return handle_fail(lock, -ENOMEM, "cannot open the database");
	return fail_with(lock,
	                 nearest_errno(sqlite3_extended_errcode(db->connection),
	                               sqlite3_system_errno(db->connection)),
	                 "cannot open the database", sqlite3_errmsg(db->connection));
}

/* SQLite closes a descriptor below 3 and opens the file again; but the close drops all record
   locks that this process has on it. */
static int connect_above_standard(struct filelock *lock, struct database *db, const char *path)
{
	int r = sys_occupy_standard();

	if (r < 0)
		return handle_fail(lock, r, "cannot open the database");
	r = connect_to(lock, db, path);
	sys_vacate_standard();
	return r;
}

static int open_resolved(struct filelock *lock, struct database *db)
{
	char *path;
	int r;

	/* NOFOLLOW refuses a symbolic link anywhere in the path */
	r = path_canonical(lock->path, &path);
	if (r < 0)
		return handle_fail(lock, r, "cannot resolve the folder of");
	enter_sqlite();
	r = connect_above_standard(lock, db, path);
	if (r == 0)
		db->read_only = sqlite3_db_readonly(db->connection, "main") == 1;
	leave_sqlite();
	free(path);
	return r;
}

/* Whether SQLite finds that the file was renamed or replaced. */
static bool has_moved(struct database *db)
{
	int moved = 1; /* stays so where it is not known */

	enter_sqlite();
	(void)sqlite3_file_control(db->connection, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
	leave_sqlite();
	return moved != 0;
}

/* SQLite does not say which file it has open; it says whether it is the one that the path names,
   by the inode's number, and the path named the same one before and after. */
static int open_verified(struct filelock *lock, struct database *db)
{
	struct stat before, after;
	int r = look(lock, &before);

	if (r != 0)
		return r;
	db->identity = (struct identity){ before.st_dev, before.st_ino };
	if (was_locked_at_fork(db->identity))
		return handle_fail(lock, FILELOCK_EFORKED_DATABASE, "cannot use the database");
	r = readwrite_probe(lock->path, before.st_dev);
	if (r < 0)
		return handle_fail(lock, r, "cannot use the database");
	await_making();
	db->file = get_file(db->identity);
	if (!db->file)
		return handle_fail(lock, -ENOMEM, "cannot open the database");
	r = open_resolved(lock, db);
	if (r == -ENOENT || (r == 0 && has_moved(db)))
		return ATTEMPT_RACED;
	if (r < 0)
		return r;
	r = sys_lstat(lock->path, &after);
	if (r == -ENOENT)
		return ATTEMPT_RACED;
	if (r < 0)
		return handle_fail(lock, r, "cannot check the database");
	return identity_equal(db->identity, (struct identity){ after.st_dev, after.st_ino })
	               ? 0
	               : ATTEMPT_RACED;
}

static int open_database(struct filelock *lock, struct database **ret)
{
	struct database *db = sys.calloc(1, sizeof(*db));
	int r;

	if (!db)
		return handle_fail(lock, -ENOMEM, "cannot open the database");
	db->folder.fd = -1;
	r = open_verified(lock, db);
	if (r != 0) {
		destroy(db);
		return r;
	}
	*ret = db;
	return 0;
}

/* --- at rest --- */

static void link_resting(struct database *db, struct database **owner)
{
	db->owner = owner;
	list_add_first(&table.resting, &db->link);
	table.resting_count++;
}

static void unlink_resting(struct database *db)
{
	if (!db->owner)
		return;
	list_remove(&db->link);
	db->owner = NULL;
	table.resting_count--;
}

static struct database *wake(struct database **slot)
{
	struct database *db;

	enter_table();
	db = *slot;
	if (db)
		unlink_resting(db);
	leave_table();
	return db;
}

/* Takes the oldest away from its handle, if more than that many rest. The table is entered. */
static struct database *surplus_of(unsigned most)
{
	struct database *oldest;

	if (table.resting_count <= most)
		return NULL;
	oldest = list_entry(list_last(&table.resting), struct database, link);
	*oldest->owner = NULL;
	unlink_resting(oldest);
	return oldest;
}

/* Whether there was one to close. */
static bool close_oldest(void)
{
	struct database *oldest;

	enter_table();
	oldest = surplus_of(0);
	leave_table();
	destroy(oldest);
	return oldest != NULL;
}

int readwrite_database_get(struct filelock *lock, struct database **slot, bool *ret_fresh)
{
	int r;

	*ret_fresh = !wake(slot);
	if (!*ret_fresh)
		return 0;
	do {
		r = open_database(lock, slot);
	} while ((r == -EMFILE || r == -ENFILE) && close_oldest());
	return r;
}

void readwrite_database_rest(struct database **slot)
{
	struct database *surplus;

	enter_table();
	link_resting(*slot, slot);
	surplus = surplus_of(MOST_RESTING);
	leave_table();
	destroy(surplus);
}

void readwrite_database_exchange(struct database **lent, struct database **resting)
{
	struct database *db = *lent;

	enter_table();
	*lent = *resting;
	*resting = db;
	if (*lent)
		(*lent)->owner = lent;
	leave_table();
}

void readwrite_database_close(struct database **slot)
{
	struct database *db = wake(slot);

	*slot = NULL;
	destroy(db);
}

/* --- locks --- */

static int sqlite_level(enum database_level level)
{
	static const int levels[] = { SQLITE_LOCK_NONE, SQLITE_LOCK_SHARED,
		                      SQLITE_LOCK_RESERVED, SQLITE_LOCK_EXCLUSIVE };

	return levels[level];
}

static int fail_to_lock(struct filelock *lock, struct database *db, int code)
{
	int error = 0;

	(void)db->handle->pMethods->xFileControl(db->handle, SQLITE_FCNTL_LAST_ERRNO, &error);
	return fail_with(lock, nearest_errno(code, error), "cannot lock the database",
	                 sqlite3_errstr(code));
}

int readwrite_database_lock(struct filelock *lock, struct database *db, enum database_level level)
{
	bool first = db->level == DATABASE_UNLOCKED;
	int code, error;

	if (first)
		atomic_fetch_add(&db->file->locked, 1);
	enter_sqlite();
	do {
		errno = 0;
		code = db->handle->pMethods->xLock(db->handle, sqlite_level(level));
		error = errno;
	} while (code == SQLITE_BUSY && error == EINTR);
	if (code == SQLITE_OK)
		db->level = level;
	leave_sqlite();
	if (code == SQLITE_OK)
		return 0;
	if (first)
		atomic_fetch_sub(&db->file->locked, 1);
	/* SQLite takes this for contention, but the kernel is out of locks */
	if (code == SQLITE_BUSY && error == ENOLCK)
		return fail_with(lock, -ENOLCK, "cannot lock the database",
		                 sqlite3_errstr(code));
	return code == SQLITE_BUSY ? ATTEMPT_BUSY : fail_to_lock(lock, db, code);
}

int readwrite_database_unlock(struct database *db)
{
	int code;

	enter_sqlite();
	code = db->handle->pMethods->xUnlock(db->handle, SQLITE_LOCK_NONE);
	if (code == SQLITE_OK)
		db->level = DATABASE_UNLOCKED;
	leave_sqlite();
	if (code != SQLITE_OK)
		return nearest_errno(code, 0);
	atomic_fetch_sub(&db->file->locked, 1);
	return 0;
}

bool readwrite_database_is_reserved(struct database *db)
{
	int reserved = 0;
	int code;

	enter_sqlite();
	code = db->handle->pMethods->xCheckReservedLock(db->handle, &reserved);
	leave_sqlite();
	return code != SQLITE_OK || reserved;
}

bool readwrite_database_has_company(const struct database *db)
{
	return atomic_load(&db->file->locked) > 0;
}

/* --- what is in the file --- */

/* A connection that has one release will not save what opening the folder costs. */
bool readwrite_database_has_waiters(struct database *db, const char *path)
{
	if (db->releases < 2) {
		if (++db->releases < 2 || readwrite_waiters_open(path, &db->folder) < 0)
			return true;
	}
	return db->folder.fd < 0 || readwrite_waiters_exist(db->folder.fd, db->identity);
}

static bool has_journal(struct filelock *lock, int *ret_error)
{
	char *journal = sys_format("%s-journal", lock->path);
	struct stat st;
	int r = journal ? sys_lstat(journal, &st) : -ENOMEM;

	free(journal);
	/* a name too long for a journal is one that can have none */
	*ret_error = r == -ENOENT || r == -ENAMETOOLONG ? 0 : r;
	return r == 0;
}

static int examine_header(struct filelock *lock, struct database *db)
{
	unsigned char header[HEADER_SIZE];
	int code;

	enter_sqlite();
	code = db->handle->pMethods->xRead(db->handle, header, sizeof(header), 0);
	leave_sqlite();
	if (code == SQLITE_IOERR_SHORT_READ)
		return handle_fail(lock, -EBADMSG, "cannot use the database");
	if (code != SQLITE_OK)
		return fail_with(lock, nearest_errno(code, 0), "cannot read the database",
		                 sqlite3_errstr(code));
	if (memcmp(header, "SQLite format 3", 16) != 0)
		return handle_fail(lock, -EBADMSG, "cannot use the database");
	/* fileformat2.html, 1.3: 1 is a rollback journal, 2 is WAL */
	if (header[18] == 2 || header[19] == 2)
		return handle_fail(lock, FILELOCK_EWAL, "cannot use the database");
	if (header[18] != 1 || header[19] != 1)
		return handle_fail(lock, -EBADMSG, "cannot use the database");
	return 0;
}

int readwrite_database_examine(struct filelock *lock, struct database *db, off_t size)
{
	bool journal;
	int r;

	/* any other content may change, and a journal come, whenever nobody holds it */
	if (size == 0) {
		/* SQLite ignores a journal of nothing */
		db->was_empty = true;
		return 0;
	}
	journal = has_journal(lock, &r);
	/* a live writer's is its own business, and no obstacle to readers */
	if (journal && (db->level >= DATABASE_RESERVED || !readwrite_database_is_reserved(db)))
		return handle_fail(lock, FILELOCK_EJOURNAL, "cannot use the database");
	if (r < 0)
		return handle_fail(lock, r, "cannot look for a journal of the database");
	db->was_empty = false;
	return examine_header(lock, db);
}

/* --- fork --- */

void readwrite_database_before_fork(void)
{
	enter_table();
}

void readwrite_database_after_fork(bool in_child)
{
	if (in_child) {
		/* threads that are not here may have them */
		(void)pthread_mutex_init(&turn, NULL);
		(void)pthread_mutex_init(&making, NULL);
		table.unusable = atomic_exchange(&inside, 0) > 0 || table.unusable;
	}
	leave_table();
}

void readwrite_database_forget(struct database **slot)
{
	struct database *db = *slot;

	if (!db)
		return;
	/* the table is ours: this is between …_before_fork and …_after_fork */
	unlink_resting(db);
	*slot = NULL;
	list_add_first(&table.inherited, &db->link);
}

#else

void readwrite_database_before_fork(void)
{
}

void readwrite_database_after_fork(bool in_child)
{
	(void)in_child;
}

#endif
