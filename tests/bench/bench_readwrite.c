/*
 * Read/write locks. A cycle of a free lock against the bare calls of SQLite's VFS that it must
 * make, against transactions on an open connection, and against Python's; hand-overs against the
 * same in native locks; and how long a writer waits among readers that never all leave.
 *
 * FILELOCK_BENCH_PYTHON names the interpreter (python3), FILELOCK_BENCH_PYTHONPATH a folder to
 * find the package in first.
 */
#include <stdio.h>
#include <stdlib.h>

#include <filelock/filelock.h>

#include "bench.h"

#ifdef FILELOCK_SQLITE

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>
#include <sqlite3.h>

#include "waiter.h"

enum { SHARED, EXCLUSIVE, MODES };
static const enum filelock_mode modes[MODES] = { FILELOCK_SHARED, FILELOCK_EXCLUSIVE };
static const char *const mode_names[MODES] = { "shared", "exclusive" };

static char *path, *sql_path, *bare_path;
static struct filelock *lock;
static struct event_base *base;
static struct evfilelock *ev;

static void must_sql(int code, const char *what)
{
	if (code != SQLITE_OK && code != SQLITE_DONE && code != SQLITE_ROW)
		bench_fail("%s: %s", what, sqlite3_errstr(code));
}

static sqlite3 *open_sql(const char *name)
{
	sqlite3 *db;

	must_sql(sqlite3_open_v2(name, &db,
	                         SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE |
	                                 SQLITE_OPEN_NOMUTEX,
	                         "unix"),
	         name);
	return db;
}

/* --- cycles --- */

static int folder; /* where those that wait are registered: readwrite_waiters.c */

static void ask_for_waiters(void)
{
	struct flock waiters = { .l_type = F_WRLCK, .l_whence = SEEK_SET,
		                 .l_start = (INT64_C(1) << 61) + 1, .l_len = 1 };

	(void)must(fcntl(folder, F_OFD_GETLK, &waiters), "fcntl");
}

/* How an exclusive release woke others before it asked whether there are any. */
static void set_times(void)
{
	(void)must(utimensat(AT_FDCWD, bare_path, NULL, AT_SYMLINK_NOFOLLOW), "utimensat");
}

/* The calls that a cycle of ours needs, on a file of its own. */
static void call_barely(int mode, unsigned n, void (*wake)(void))
{
	static sqlite3_file *file;
	struct stat st;
	int reserved;

	if (!file)
		must_sql(sqlite3_file_control(open_sql(bare_path), "main",
		                              SQLITE_FCNTL_FILE_POINTER, &file),
		         "FILE_POINTER");
	while (n--) {
		must_sql(file->pMethods->xLock(file, SQLITE_LOCK_SHARED), "xLock");
		if (mode == EXCLUSIVE) {
			must_sql(file->pMethods->xLock(file, SQLITE_LOCK_RESERVED), "xLock");
			must_sql(file->pMethods->xLock(file, SQLITE_LOCK_EXCLUSIVE), "xLock");
		}
		(void)must(lstat(bare_path, &st), "lstat");
		must_sql(file->pMethods->xUnlock(file, SQLITE_LOCK_NONE), "xUnlock");
		if (mode == EXCLUSIVE)
			wake();
		else
			must_sql(file->pMethods->xCheckReservedLock(file, &reserved),
			         "xCheckReservedLock");
	}
}

static void bare_cycles(int mode, unsigned n)
{
	call_barely(mode, n, ask_for_waiters);
}

static void bare_cycles_with_times(int mode, unsigned n)
{
	call_barely(mode, n, set_times);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *statement;

	must_sql(sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL),
	         sql);
	return statement;
}

static void step(sqlite3_stmt *statement)
{
	must_sql(sqlite3_step(statement), "sqlite3_step");
	must_sql(sqlite3_reset(statement), "sqlite3_reset");
}

static void sql_cycles(int mode, unsigned n)
{
	static sqlite3_stmt *begin[MODES], *look, *rollback;

	if (!look) {
		sqlite3 *db = open_sql(sql_path);

		must_sql(sqlite3_exec(db, "pragma journal_mode=memory", NULL, NULL, NULL),
		         "journal_mode");
		begin[SHARED] = prepare(db, "begin");
		begin[EXCLUSIVE] = prepare(db, "begin exclusive");
		look = prepare(db, "select name from sqlite_schema limit 1");
		rollback = prepare(db, "rollback");
	}
	while (n--) {
		step(begin[mode]);
		if (mode == SHARED)
			step(look);
		step(rollback);
	}
}

static void synchronous_cycles(int mode, unsigned n)
{
	while (n--) {
		(void)must_lock(filelock_acquire(lock, modes[mode], FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		(void)must_lock(filelock_release(lock), "filelock_release");
	}
}

static unsigned requests_left;
static int request_mode;

static void request(void);

static void granted(struct filelock *granted_lock, int result, void *arg)
{
	(void)arg;
	(void)must_lock(result, "evfilelock_acquire");
	(void)must_lock(filelock_release(granted_lock), "filelock_release");
	if (--requests_left)
		request();
}

static void request(void)
{
	(void)must_lock(evfilelock_acquire(ev, lock, modes[request_mode], NULL, granted, NULL), "evfilelock_acquire");
}

static void loop_cycles(int mode, unsigned n)
{
	requests_left = n;
	request_mode = mode;
	request();
	(void)must(event_base_dispatch(base), "event_base_dispatch");
}

static struct contender {
	void (*cycles)(int mode, unsigned n);
	struct series us[MODES];
} contenders[] = {
	{ .cycles = bare_cycles },
	{ .cycles = bare_cycles_with_times },
	{ .cycles = sql_cycles },
	{ .cycles = synchronous_cycles },
	{ .cycles = loop_cycles },
};
enum { BARE, BARE_WITH_TIMES, SQL, SYNCHRONOUS, LOOP, CONTENDERS };

static void measure_batch(struct contender *contender, int mode, unsigned cycles)
{
	int64_t begun = bench_now();

	contender->cycles(mode, cycles);
	series_add(&contender->us[mode], (double)(bench_now() - begun) / 1e3 / cycles);
}

static void measure_cycles(void)
{
	unsigned batches = bench_rounds(300, 10);
	unsigned cycles = bench_rounds(500, 50);

	for (unsigned batch = 0; batch < batches; batch++)
		for (int mode = 0; mode < MODES; mode++)
			for (unsigned i = 0; i < CONTENDERS; i++)
				measure_batch(&contenders[(batch + i) % CONTENDERS], mode,
				              cycles);
}

static double median(int contender, int mode)
{
	return series_median(&contenders[contender].us[mode]);
}

static void row(const char *format, int mode, double ours, double peer, double bound)
{
	char what[128];

	(void)snprintf(what, sizeof(what), format, mode_names[mode]);
	bench_row(what, ours, peer, "us", bound);
}

static void report_cycles(void)
{
	/* the least that is left of a cycle that woke by the file's times */
	row("read/write: bare calls, %s / bare calls that set the times", EXCLUSIVE,
	    median(BARE, EXCLUSIVE), median(BARE_WITH_TIMES, EXCLUSIVE), 0);
	for (int mode = 0; mode < MODES; mode++) {
		row("read/write: cycle, %s / bare calls of the VFS", mode,
		    median(SYNCHRONOUS, mode), median(BARE, mode), 1.3);
		row("read/write: cycle, %s / BEGIN, ROLLBACK", mode, median(SYNCHRONOUS, mode),
		    median(SQL, mode), 1.2);
		row("read/write: cycle in the loop, %s / bare calls", mode, median(LOOP, mode),
		    median(BARE, mode), 0);
	}
}

/* --- Python --- */

static const struct {
	const char *name;
	int contender, mode;
	double bound;
	const char *row;
} pythons[] = {
	{ "shared", SYNCHRONOUS, SHARED, 1.0 / 10,
	  "read/write: cycle, %s / Python's ReadWriteLock" },
	{ "exclusive", SYNCHRONOUS, EXCLUSIVE, 1.0 / 10,
	  "read/write: cycle, %s / Python's ReadWriteLock" },
	{ "async-shared", LOOP, SHARED, 1.0 / 30,
	  "read/write: cycle in the loop, %s / Python's AsyncReadWriteLock" },
	{ "async-exclusive", LOOP, EXCLUSIVE, 1.0 / 30,
	  "read/write: cycle in the loop, %s / Python's AsyncReadWriteLock" },
};

static void take_line(char *line)
{
	char *value = strchr(line, ' ');

	line[strcspn(line, "\n")] = '\0';
	if (!value)
		return;
	*value++ = '\0';
	if (strcmp(line, "skip") == 0)
		bench_skip("read/write: cycle / Python's ReadWriteLock", "%s", value);
	for (size_t i = 0; i < sizeof(pythons) / sizeof(*pythons); i++)
		if (strcmp(line, pythons[i].name) == 0)
			row(pythons[i].row, pythons[i].mode,
			    median(pythons[i].contender, pythons[i].mode), strtod(value, NULL),
			    pythons[i].bound);
}

static void measure_python(void)
{
	const char *interpreter = getenv("FILELOCK_BENCH_PYTHON");
	const char *folder = getenv("FILELOCK_BENCH_PYTHONPATH");
	const char *script = bench_argument("--python-cycles");
	char *python_path = bench_path("python.db");
	char command[4096], line[256];
	FILE *out;

	if (!script)
		bench_fail("--python-cycles PATH is missing: the Python script beside me");
	if (folder && *folder)
		(void)must(setenv("PYTHONPATH", folder, 1), "setenv");
	(void)snprintf(command, sizeof(command), "exec %s %s %s %u",
	               interpreter && *interpreter ? interpreter : "python3", script,
	               python_path, bench_rounds(300, 5));
	out = must_have(popen(command, "re"), command);
	while (fgets(line, sizeof(line), out))
		take_line(line);
	if (pclose(out) != 0)
		bench_skip("read/write: cycle / Python's ReadWriteLock", "cannot run it");
	free(python_path);
}

/* --- hand-overs --- */

static struct hand_over {
	enum filelock_kind kind;
	int mode; /* of the waiter */
	struct waiter_setup setup;
	struct waiter waiter;
	struct filelock *lock;
	char *path;
	struct series us;
} hand_overs[] = {
	{ .kind = FILELOCK_NATIVE, .mode = SHARED },
	{ .kind = FILELOCK_NATIVE, .mode = EXCLUSIVE },
	{ .kind = FILELOCK_READWRITE, .mode = SHARED },
	{ .kind = FILELOCK_READWRITE, .mode = EXCLUSIVE },
};
enum { HAND_OVERS = sizeof(hand_overs) / sizeof(*hand_overs) };
static int cpus[2];

static void start_hand_over(struct hand_over *h)
{
	h->path = bench_path(h->kind == FILELOCK_NATIVE ? "handover.lock" : "handover.db");
	h->setup = (struct waiter_setup){ .path = h->path, .kind = h->kind,
		                          .mode = modes[h->mode], .placed = true,
		                          .cpu = cpus[1] };
	waiter_start(&h->waiter, waiter_by_request, &h->setup);
}

static void hand_one_over(struct hand_over *h)
{
	int64_t released;

	(void)must_lock(filelock_acquire(h->lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER),
	                "filelock_acquire");
	waiter_go(&h->waiter);
	bench_sleep(bench_random(20000, 200000));
	waiter_see_asleep(h->waiter.pid);
	released = bench_now();
	(void)must_lock(filelock_release(h->lock), "filelock_release");
	series_add(&h->us, (double)(waiter_finish(&h->waiter) - released) / 1e3);
	bench_sleep(1200000); /* its next wait owes nobody politeness */
}

static void measure_hand_overs(void)
{
	unsigned rounds = bench_rounds(1000, 20);

	for (int i = 0; i < HAND_OVERS; i++)
		(void)must_lock(filelock_open(hand_overs[i].path, hand_overs[i].kind, NULL,
		                              &hand_overs[i].lock),
		                "filelock_open");
	bench_place(cpus[0]);
	for (unsigned round = 0; round < rounds; round++)
		for (int i = 0; i < HAND_OVERS; i++)
			hand_one_over(&hand_overs[i]);
	bench_place(-1);
	for (int mode = 0; mode < MODES; mode++)
		row("read/write: writer's release to the callback, %s / native", mode,
		    series_median(&hand_overs[MODES + mode].us),
		    series_median(&hand_overs[mode].us), 3);
}

static void stop_hand_overs(void)
{
	for (struct hand_over *h = hand_overs; h < hand_overs + HAND_OVERS; h++) {
		waiter_stop(&h->waiter);
		filelock_close(h->lock);
		series_free(&h->us);
		free(h->path);
	}
}

/* --- a writer among readers --- */

#define READERS 4
#define HOLD_NS 20000000

static struct rush {
	_Atomic bool over;
	_Atomic unsigned inside;
} *rush;
static pid_t readers[READERS];

/* Each begins a quarter of a hold after the one before, so that they overlap without end. */
static _Noreturn void read_on(const char *name, int which)
{
	struct filelock *own;

	(void)must_lock(filelock_open(name, FILELOCK_READWRITE, NULL, &own), "filelock_open");
	bench_sleep(which * (HOLD_NS / READERS));
	while (!atomic_load(&rush->over)) {
		(void)must_lock(filelock_acquire(own, FILELOCK_SHARED, FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		atomic_fetch_add(&rush->inside, 1);
		bench_sleep(HOLD_NS);
		atomic_fetch_sub(&rush->inside, 1);
		(void)must_lock(filelock_release(own), "filelock_release");
	}
	exit(0);
}

static void measure_writer(void)
{
	char *name = bench_path("rush.db");
	struct filelock *writer;
	struct series ms = { 0 };
	unsigned rounds = bench_rounds(100, 5);

	rush = bench_shared(sizeof(*rush));
	for (int i = 0; i < READERS; i++) {
		readers[i] = bench_fork();
		if (readers[i] == 0)
			read_on(name, i);
	}
	(void)must_lock(filelock_open(name, FILELOCK_READWRITE, NULL, &writer),
	                "filelock_open");
	for (unsigned round = 0; round < rounds; round++) {
		int64_t begun;

		while (atomic_load(&rush->inside) < 2)
			bench_sleep(100000);
		bench_sleep(bench_random(0, HOLD_NS));
		begun = bench_now();
		(void)must_lock(filelock_acquire(writer, FILELOCK_EXCLUSIVE,
		                                 FILELOCK_WAIT_FOREVER),
		                "filelock_acquire");
		series_add(&ms, (double)(bench_now() - begun) / 1e6);
		(void)must_lock(filelock_release(writer), "filelock_release");
		bench_sleep(HOLD_NS);
	}
	atomic_store(&rush->over, true);
	for (int i = 0; i < READERS; i++)
		bench_reap(readers[i], 0);
	bench_row_limit("read/write: writer's wait under 4 readers (20 ms holds), 99th",
	                series_percentile(&ms, 99), "ms", HOLD_NS / 1e6 + 10);
	bench_note("a writer's wait under 4 overlapping readers: median %.1f ms, longest %.1f ms",
	           series_median(&ms), series_max(&ms));
	filelock_close(writer);
	series_free(&ms);
	free(name);
}

static void open_folder(void)
{
	char *name = bench_path(".");

	folder = must(open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), name);
	free(name);
}

static void open_all(void)
{
	open_folder();
	path = bench_path("cycle.db");
	sql_path = bench_path("sql.db");
	bare_path = bench_path("bare.db");
	(void)must_lock(filelock_open(path, FILELOCK_READWRITE, NULL, &lock), "filelock_open");
	base = must_have(event_base_new(), "event_base_new");
	ev = must_have(evfilelock_new(base, NULL), "evfilelock_new");
}

static void close_all(void)
{
	evfilelock_free(ev);
	event_base_free(base);
	filelock_close(lock);
	close(folder);
	for (int i = 0; i < CONTENDERS; i++)
		for (int mode = 0; mode < MODES; mode++)
			series_free(&contenders[i].us[mode]);
	free(path);
	free(sql_path);
	free(bare_path);
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	if (bench_cpus(cpus, 2) < 2)
		cpus[1] = cpus[0];
	/* before our own handles: a database that is locked here could not be used there */
	for (int i = 0; i < HAND_OVERS; i++)
		start_hand_over(&hand_overs[i]);
	measure_hand_overs();
	stop_hand_overs();
	measure_writer();
	open_all();
	measure_cycles();
	report_cycles();
	measure_python();
	close_all();
	return 0;
}

#else

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	bench_skip("read/write", "built without SQLite");
	return 0;
}

#endif
