#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "rules.h"
#include "base/sys.h"

#define MOST_POINTS 500 /* of one call and one error */
#define MOST_RULES 256
#define MOST_COMPLAINTS 20
#define RECOVERY_MS 30000 /* half a record is looked at for 2 s */

/* The fault of a point. */
struct point {
	enum { BY_CALL, BY_MEMORY } door;
	unsigned call;
	int error;
	unsigned nth;
	enum fault_span span;
};

/* The resources that exist while nothing is under way. */
struct state {
	unsigned descriptors, watches;
	long blocks;
	char files[512];
};

static struct tally {
	unsigned long points, strikes;
	unsigned long calls[FAULT_COUNT], rows[MOST_RULES];
	unsigned operations; /* that were played */
} *tally; /* shared */
static enum driver driver;
static enum filelock_kind kind;

static const struct scenario *scenario;
static struct point point;
static struct state idle; /* as it has to be after each point */
static int expected;      /* without a fault */
static enum operation operation;
static unsigned complaints;

/* --- where it is --- */

static const char *lock_folder(void)
{
	static char path[512];

	if (!path[0])
		(void)snprintf(path, sizeof(path), "%s%s", test_folder(),
		               scenario->deep ? "/folder" : "");
	return path;
}

const char *sweep_path(void)
{
	static char path[600];

	if (!path[0])
		(void)snprintf(path, sizeof(path), "%s/lock", lock_folder());
	return path;
}

const char *sweep_second_path(void)
{
	static char path[600];

	if (!path[0])
		(void)snprintf(path, sizeof(path), "%s/lock-2", lock_folder());
	return path;
}

/* --- what to expect of the strikes --- */

static struct {
	unsigned count;
	unsigned rows[MOST_RULES]; /* strikes of each row of the rules */
	bool fatal, held, either, leaves;
	int says;
} struck;

static bool begins_with(const char *text, const char *beginning)
{
	return strncmp(text, beginning, strlen(beginning)) == 0;
}

static enum about about_system(const char *name)
{
	char own[32];

	/* as the descriptor of a file below /proc/self is called */
	(void)snprintf(own, sizeof(own), "%ld/", (long)getpid());
	if (begins_with(name, own) && !begins_with(name + strlen(own), "stat"))
		return THE_SYSTEM;
	return (*name >= '0' && *name <= '9') || begins_with(name, "stat") ||
	                  begins_with(name, "thread-self/ns") || begins_with(name, "sys/")
	               ? A_PROCESS
	               : THE_SYSTEM;
}

static enum about about_path(const char *path)
{
	const char *folder = lock_folder();
	const char *rest = path + strlen(folder);

	if (strcmp(path, sweep_path()) == 0 || strcmp(path, sweep_second_path()) == 0)
		return access(path, F_OK) == 0 ? THE_LOCK : MISSING_LOCK;
	if (begins_with(path, "/proc/"))
		return about_system(path + strlen("/proc/"));
	if (!begins_with(path, folder))
		return ELSE;
	if (begins_with(rest, "/#") || begins_with(rest, "/.filelock-"))
		return A_DRAFT;
	return *rest == '\0' || strcmp(rest, "/.") == 0 ? ITS_FOLDER : ELSE;
}

static enum about about(int fd, const char *path)
{
	char link[64], name[4096];
	ssize_t n;

	if (path)
		return about_path(path);
	if (fd < 0)
		return ELSE;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, name, sizeof(name) - 1);
	if (n < 0)
		return ELSE;
	name[n] = '\0';
	return about_path(name);
}

static bool fits(const struct rule *rule, enum fault_call call, enum about what)
{
	bool listed = rule->errors[0] == 0;
	/* what falls back is soft after that */
	unsigned kinds = KIND(kind) | (scenario->falls_back ? KIND(FILELOCK_SOFT) : 0);
	unsigned drivers = driver == LOOP ? kinds | IN_LOOP(kinds) : kinds;

	for (size_t i = 0; i < 12 && rule->errors[i]; i++)
		listed = listed || rule->errors[i] == point.error;
	return listed && rule->call == call && (rule->kinds & drivers) &&
	       (rule->operations & ON(operation)) &&
	       (rule->about == ANYTHING || rule->about == what);
}

static enum outcome judge_strike(enum fault_call call, enum about what)
{
	for (size_t i = 0; i < rules_count; i++) {
		if (!fits(&rules[i], call, what))
			continue;
		tally->rows[i]++;
		if (++struck.rows[i] > rules[i].spare)
			return FAILS;
		if (rules[i].outcome == SAYS)
			struck.says = rules[i].result;
		return rules[i].outcome;
	}
	return FAILS;
}

/* Kinds with records in files have one rule for all: rules.h. */
static bool is_loose(void)
{
	return kind == FILELOCK_LEASE || kind == FILELOCK_STRICT || kind == FILELOCK_SOFT_READWRITE;
}

static void note_strike(enum fault_call call, int fd, const char *path)
{
	enum about what = about(fd, path);
	enum outcome outcome = judge_strike(call, what);

	struck.count++;
	tally->calls[call]++;
	struck.fatal = struck.fatal || outcome == FAILS;
	struck.held = struck.held || outcome == HELD || outcome == EITHER;
	struck.either = struck.either || outcome == EITHER;
	struck.leaves = struck.leaves || outcome == LEAVES ||
	                (is_loose() && (call == FAULT_unlinkat || call == FAULT_unlink));
}

/* --- complaints --- */

static const char *door_name(void)
{
	return point.door == BY_CALL     ? fault_name((enum fault_call)point.call)
	                                 : "an allocation";
}

static void complain(const char *what, long is, long should)
{
	fprintf(stderr, "%s: %s %u of errno %d %s, %u strikes: %s: %ld, not %ld\n",
	        scenario->name, door_name(), point.nth, point.error,
	        point.span == FAULT_ONCE ? "once" : "for good", struck.count, what, is, should);
	complaints++;
	ck_assert_uint_lt(complaints, MOST_COMPLAINTS);
}

static void demand(const char *what, long is, long should)
{
	if (is != should)
		complain(what, is, should);
}

/* --- the stage --- */

struct filelock *sweep_open(const struct filelock_options *options)
{
	struct filelock_options any = FILELOCK_OPTIONS_INIT;

	if (options)
		any = *options;
	any.no_fallback = !scenario->falls_back;
	return test_open(sweep_path(), &any);
}

struct filelock *sweep_hold(enum filelock_mode mode)
{
	struct filelock *lock = sweep_open(NULL);

	ck_assert_int_eq(filelock_acquire(lock, mode, FILELOCK_NO_WAIT), 0);
	return lock;
}

static int64_t standing;

static int64_t standing_now(void)
{
	return standing;
}

static int pass_time(const struct timespec *time)
{
	standing += time->tv_sec * SECONDS + time->tv_nsec;
	return 0;
}

static int poll_instantly(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                          const sigset_t *mask)
{
	int r = poll(fds, n, 0);

	(void)mask;
	return r == 0 ? pass_time(timeout) : r;
}

static int sleep_instantly(const struct timespec *time, struct timespec *ret_rest)
{
	(void)ret_rest;
	return pass_time(time);
}

int sweep_timeout_ms(void)
{
	return point.nth && point.span == FAULT_FOR_GOOD ? 20 : 15000;
}

void sweep_stop_clock(void)
{
	standing = 1000 * SECONDS;
	sys.now = standing_now;
	sys.ppoll = poll_instantly;
	sys.nanosleep = sleep_instantly;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void list_files(char *ret, size_t size)
{
	struct dirent **entries;
	int n = scandir(lock_folder(), &entries, NULL, by_name);
	size_t length = 0;

	ck_assert_int_ge(n, 2);
	ret[0] = '\0';
	for (int i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.' || entries[i]->d_name[1] == 'f')
			length += (size_t)snprintf(ret + length, size - length, "%s ",
			                           entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

static unsigned count_files(const char *folder, const char *prefix)
{
	char path[1024];
	struct dirent *entry;
	unsigned count = 0;
	DIR *opened;

	(void)snprintf(path, sizeof(path), "%s%s", sweep_path(), folder);
	opened = opendir(path);
	while (opened && (entry = readdir(opened)))
		count += begins_with(entry->d_name, prefix) &&
		         (prefix[0] || entry->d_name[0] != '.');
	if (opened)
		closedir(opened);
	return count;
}

/* What participants have in the folders of a lock. */
static void list_records(char *ret, size_t size)
{
	size_t length = strlen(ret);

	(void)snprintf(ret + length, size - length, "%u claims, %u holders, %u commits",
	               count_files(".filelock/claims", ""), count_files(".rw/holders", ""),
	               count_files(".rw/gen", ".commit-"));
}

static struct state look_around(void)
{
	struct state state = { test_descriptors(), test_watches(), memory_live(), "" };

	list_files(state.files, sizeof(state.files));
	list_records(state.files, sizeof(state.files));
	return state;
}

/* Record locks, which are the process's and not a handle's; its other locks would go by its close. */
static bool has_record_locks(void)
{
	struct flock all = { .l_type = F_WRLCK };
	int fd = open(sweep_path(), O_RDWR | O_CLOEXEC);
	int r;

	if (fd < 0)
		return false;
	r = fcntl(fd, F_OFD_GETLK, &all);
	close(fd);
	return r < 0 || all.l_type != F_UNLCK;
}

static void remove_names(const char *path, const char *prefix)
{
	DIR *folder = opendir(path);
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		if (begins_with(entry->d_name, prefix))
			(void)unlinkat(dirfd(folder), entry->d_name, 0);
	if (folder)
		closedir(folder);
}

static void remove_private_names(void)
{
	char path[1024];

	remove_names(lock_folder(), ".filelock-");
	remove_names(lock_folder(), "lock.break.");
	remove_names(lock_folder(), ".lock.private-");
	(void)snprintf(path, sizeof(path), "%s.filelock/claims", sweep_path());
	remove_names(path, "");
	(void)snprintf(path, sizeof(path), "%s.rw/holders", sweep_path());
	remove_names(path, "");
	(void)snprintf(path, sizeof(path), "%s.rw/gen", sweep_path());
	remove_names(path, ".commit-");
}

static void clear_folder(void)
{
	test_remove_lock(sweep_path());
	test_remove_lock(sweep_second_path());
	if (scenario->deep)
		(void)rmdir(lock_folder());
	if (scenario->stays)
		test_write_file(sweep_path(), "");
}

/* --- one play --- */

static void check_usable(const struct filelock_options *options)
{
	struct filelock *fresh = sweep_open(options);

	demand("another handle's acquisition",
	       filelock_acquire(fresh, FILELOCK_EXCLUSIVE, RECOVERY_MS), 0);
	filelock_close(fresh);
}

/* What could not be released is held, and can be released later. SQLite's unlock that fails closes
   the connection, which releases. */
static void check_release(const struct stage *stage, int r)
{
	if (operation == RELEASING && (r == 0 || kind != FILELOCK_READWRITE))
		demand("held after the release", filelock_is_held(stage->lock),
		       r < 0 && r != FILELOCK_ELOST);
}

static void end_play(struct stage *stage)
{
	if (stage->other)
		filelock_close(stage->other);
	stage->other = NULL;
	if (!stage->lock) {
		check_usable(NULL);
		return;
	}
	if (filelock_is_held(stage->lock))
		demand("the release", filelock_release_all(stage->lock), 0);
	demand("the same handle's acquisition",
	       filelock_acquire(stage->lock, stage->mode, RECOVERY_MS), 0);
	demand("its release", filelock_release(stage->lock), 0);
	check_usable(&(struct filelock_options){ .size = sizeof(struct filelock_options) });
	filelock_close(stage->lock);
	check_usable(NULL);
	demand("record locks", has_record_locks(), 0);
}

static void arm(void)
{
	memset(&struck, 0, sizeof(struck));
	fault_clear();
	fault_set_witness(note_strike);
	if (point.nth && point.door == BY_CALL)
		fault_set((enum fault_call)point.call, point.nth, point.span, point.error);
	if (point.nth && point.door == BY_MEMORY)
		memory_fail(point.nth, point.span);
}

static void disarm(void)
{
	if (point.door == BY_MEMORY)
		struck.count = memory_hits();
	memory_fail(0, FAULT_ONCE);
	fault_clear();
}

static int wanted(void)
{
	if (point.nth == 0)
		return expected;
	if (struck.fatal)
		return -point.error;
	return struck.says ? struck.says : expected;
}

static bool is_endless(int r)
{
	return r == -ETIMEDOUT || r == FILELOCK_EUNSTABLE || r == -ENOENT;
}

/* The log looks like one that was begun anew, and our hold is lost with the old one. When its files are
   back, others wait until the record that is still in it was silent for long enough. */
static bool hides_the_log(void)
{
	return kind == FILELOCK_SOFT_READWRITE && point.call == FAULT_openat &&
	       point.span == FAULT_FOR_GOOD && (point.error == ENOENT || point.error == ESTALE);
}

/* What a kind that is loose may say besides the result without a fault, and the fault itself. */
static bool may_say(int r)
{
	bool asks = operation == ASKING;

	/* its turn is somebody's who takes it over */
	if (r == FILELOCK_ELOST)
		return (kind == FILELOCK_LEASE && point.call == FAULT_fcntl_ofd_setlk) ||
		       (hides_the_log() && operation == RELEASING);
	if (operation == VERIFYING || operation == RELEASING || operation == CLOSING)
		return false;
	if (r == FILELOCK_EPROTOCOL) /* ELOOP: a symbolic link is no record */
		return kind == FILELOCK_STRICT ||
		       (kind == FILELOCK_SOFT_READWRITE && point.error == ELOOP);
	if (r == FILELOCK_EUNKNOWNHOLDER)
		return asks;
	if (r == FILELOCK_ENOHOLDER)
		return (asks || operation == BREAKING) &&
		       (point.error == ENOENT || point.error == ESTALE);
	return is_endless(r) && point.span == FAULT_FOR_GOOD;
}

static void judge_loosely(int r)
{
	int error = point.error == FAULT_ZERO || point.error == FAULT_SHORT ? ENOSPC : point.error;

	if (r != expected && !(struck.count && (r == -error || may_say(r))))
		complain("the result", r, -error);
}

static void judge(int r)
{
	bool late = is_endless(r) && struck.held && !struck.fatal;

	if (is_loose() && point.nth) {
		judge_loosely(r);
		return;
	}
	if (point.door == BY_MEMORY && struck.count && r == -ENOMEM)
		return;
	if (struck.either && r == -(point.error == FAULT_ZERO ? ENOSPC : point.error))
		return;
	if (!(late && point.span == FAULT_FOR_GOOD))
		demand("the result", r, wanted());
}

/* Plays the scenario with the fault of `point`, or without any. */
static int play(enum filelock_mode mode)
{
	struct stage stage = { .mode = mode };
	int r;

	clear_folder();
	if (scenario->operation != OPENING)
		stage.lock = sweep_open(NULL);
	if (scenario->set)
		scenario->set(&stage);
	arm();
	r = scenario->play(&stage);
	disarm();
	judge(r);
	check_release(&stage, r);
	if (struck.count && hides_the_log() && !(stage.lock && filelock_is_held(stage.lock))) {
		test_remove_lock(sweep_path());
		test_remove_lock(sweep_second_path());
	}
	if (scenario->strike)
		scenario->strike(&stage);
	if (struck.leaves && (!is_loose() || !stage.lock))
		remove_private_names();
	end_play(&stage);
	if (struck.leaves && is_loose())
		remove_private_names();
	return r;
}

static void play_well(enum filelock_mode mode)
{
	struct point tried = point;

	point.nth = 0;
	(void)play(mode);
	point = tried;
}

/* A wait in the kernel's queue that was given up goes a moment later. */
static struct state look_when_calm(void)
{
	int64_t end = test_now() + TEST_PATIENCE;
	struct state now = look_around();

	while (now.descriptors > idle.descriptors && test_now() < end) {
		test_nap();
		now = look_around();
	}
	return now;
}

static void check_state(void)
{
	struct state now = look_when_calm();

	/* fewer: what cannot be read any more is not made use of again */
	if (now.descriptors > idle.descriptors)
		complain("descriptors", now.descriptors, idle.descriptors);
	demand("watches", now.watches, idle.watches);
	if (strcmp(now.files, idle.files) != 0) {
		fprintf(stderr, "files: %s, not %s\n", now.files, idle.files);
		complain("files", 1, 0);
	}
}

/* What a process makes once and keeps: what a wait sleeps on, the words of its record, … */
static void warm_up(void)
{
	struct filelock *lock = sweep_open(NULL);
	struct filelock *holder = sweep_hold(FILELOCK_EXCLUSIVE);

	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 100), -ETIMEDOUT);
	/* what replaces the watch of a marker is kept, too */
	fault_set(FAULT_inotify_add_watch, 1, FAULT_FOR_GOOD, ENOSPC);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 100), -ETIMEDOUT);
	fault_clear();
	filelock_close(holder);
	filelock_close(lock);
}

/* A thing that is made once and kept is no leak; a leak happens again the next time. */
static void check_memory(enum filelock_mode mode)
{
	long first = memory_live();
	unsigned count = struck.count;

	if (first <= idle.blocks)
		return;
	for (int i = 0; i < 3 && (i == 0 || memory_live() > first); i++) {
		first = memory_live();
		(void)play(mode);
	}
	struck.count = count;
	if (memory_live() > first)
		complain("blocks of memory", memory_live(), idle.blocks);
	idle.blocks = memory_live();
}

/* Whether it struck. */
static bool play_point(enum filelock_mode mode)
{
	unsigned strikes;

	(void)play(mode);
	strikes = struck.count;
	tally->strikes += strikes;
	if (scenario->cold) {
		play_well(mode);
		warm_up();
	} else {
		check_memory(mode);
	}
	check_state();
	return strikes > 0;
}

/* Whether it struck; in a process of its own. */
static bool play_cold(enum filelock_mode mode)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		complaints = 0;
		status = play_point(mode);
		_exit(status | (complaints > 0) << 1);
	}
	status = test_reap(pid);
	complaints += status > 1;
	ck_assert_int_lt(status, 4);
	return status & 1;
}

/* Of many points only some are tried where all is slow: FILELOCK_TEST_SCALE. A kind with folders makes
   ten times the calls of another. */
static unsigned stride(void)
{
	unsigned scale = test_rounds(kind == FILELOCK_SOFT_READWRITE ? 2000 : 100);

	if (is_loose())
		scale /= 8;
	return scale >= 100 ? 1 : scale > 0 ? 100 / scale : 100;
}

static bool is_chosen(void)
{
	static unsigned turn;

	return turn++ % stride() == 0;
}

static void sweep_one(enum filelock_mode mode)
{
	static unsigned turn;
	unsigned step = point.door == BY_MEMORY || is_loose() ? stride() : 1;
	bool hit = true;

	/* not always the first ones */
	for (point.nth = 1 + turn++ % step % 4; hit; point.nth += step) {
		ck_assert_uint_lt(point.nth, MOST_POINTS);
		hit = scenario->cold ? play_cold(mode) : play_point(mode);
		tally->points += hit;
	}
}

/* Errors that no system gives again and again. A closed descriptor is the next to be opened. */
static bool passes(enum fault_call call, int error)
{
	return error == EINTR || error == EAGAIN || error == FAULT_SHORT ||
	       call == FAULT_fcntl_getfl;
}

static bool may_fail(enum fault_call call)
{
	const enum fault_call *only = scenario->only;

	while (only && *only != call && *only != FAULT_COUNT)
		only++;
	return !only || *only == call;
}

/* Of kinds with folders alone: without such a call each play would only cost time. */
static bool is_elsewhere(const struct fault_errors *errors)
{
	unsigned folders = KIND(FILELOCK_STRICT) | KIND(FILELOCK_SOFT_READWRITE);

	return !is_loose() && errors->made && !(errors->made & ~(folders | IN_LOOP(folders)));
}

static void sweep_calls(enum filelock_mode mode)
{
	for (size_t i = 0; i < fault_errors_count; i++) {
		if (!may_fail(fault_errors[i].call) || is_elsewhere(&fault_errors[i]))
			continue;
		for (size_t e = 0; e < 20 && fault_errors[i].errors[e]; e++) {
			int error = fault_errors[i].errors[e];

			point = (struct point){ BY_CALL, fault_errors[i].call, error, 0, 0 };
			if (is_chosen())
				sweep_one(mode);
			point.span = FAULT_FOR_GOOD;
			point.nth = 0;
			if (!passes(fault_errors[i].call, error) && is_chosen())
				sweep_one(mode);
		}
	}
}

static void sweep_memory(enum filelock_mode mode)
{
	for (int span = FAULT_ONCE; span <= FAULT_FOR_GOOD; span++) {
		point = (struct point){ BY_MEMORY, 0, ENOMEM, 0, (enum fault_span)span };
		sweep_one(mode);
	}
}

/* The run without a fault; a cold scenario leaves this process unchanged. */
static void learn(enum filelock_mode mode)
{
	struct { struct state idle; int expected; } *learnt = test_shared(sizeof(*learnt));
	pid_t pid = scenario->cold ? fork() : 0;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		if (!scenario->cold)
			warm_up();
		expected = scenario->expected;
		learnt->expected = play(mode);
		expected = learnt->expected;
		(void)play(mode);
		if (scenario->cold)
			warm_up();
		learnt->idle = look_around();
		if (scenario->cold)
			_exit(complaints > 0);
	} else {
		ck_assert_int_eq(test_reap(pid), 0);
	}
	expected = learnt->expected;
	idle = learnt->idle;
	ck_assert_int_eq(munmap(learnt, sizeof(*learnt)), 0);
}

void sweep(const struct scenario *played, enum filelock_mode mode)
{
	unsigned long before = tally->points;

	scenario = played;
	operation = played->operation == ACQUIRING && mode == FILELOCK_SHARED ? SHARING
	                                                                      : played->operation;
	point = (struct point){ 0 };
	tally->operations |= ON(operation);
	memory_prepare();
	learn(mode);
	if (!scenario->only)
		sweep_memory(mode);
	sweep_calls(mode);
	fprintf(stderr, "%s, %s: %lu points\n", scenario->name,
	        mode == FILELOCK_SHARED ? "shared" : "exclusive", tally->points - before);
	ck_assert_uint_eq(complaints, 0);
}

static int sync_nothing(int fd)
{
	(void)fd;
	return 0;
}

/* Nothing may be asserted outside of a test: so no test_shared. */
enum filelock_kind sweep_begin(enum driver driven)
{
	/* a helper has its descriptor for a while after its wait was given up: process/test_crowd.c
	   has faults of its own */
	filelock_set_max_helpers(0);
	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
	             0);
	if (tally == MAP_FAILED || rules_count > MOST_RULES)
		abort();
	driver = driven;
	kind = test_kind();
	if (kind == FILELOCK_SOFT_READWRITE)
		sys.fsync = sync_nothing; /* thousands of them, and the disk does not fail here */
	return kind;
}

/* --- whether all of it was met --- */

static const struct fault_errors *errors_of(enum fault_call call)
{
	for (size_t i = 0; i < fault_errors_count; i++)
		if (fault_errors[i].call == call)
			return &fault_errors[i];
	return NULL;
}

static bool is_made_here(enum fault_call call)
{
	const struct fault_errors *errors = errors_of(call);
	return errors && (errors->made & (driver == LOOP ? IN_LOOP(KIND(kind)) : KIND(kind)));
}

static unsigned count_missed_calls(void)
{
	unsigned missed = 0;

	for (int call = 0; call < FAULT_COUNT; call++) {
		if (!errors_of((enum fault_call)call) && call != FAULT_calloc)
			printf("no errors are known of %s\n", fault_name((enum fault_call)call));
		else if (is_made_here((enum fault_call)call) && tally->calls[call] == 0)
			printf("never made: %s\n", fault_name((enum fault_call)call));
		else
			continue;
		missed++;
	}
	return missed;
}

/* In a loop fewer ways are gone. */
static unsigned count_missed_rules(void)
{
	unsigned missed = 0;

	for (size_t i = 0; driver == SYNCHRONOUS && !is_loose() && i < rules_count; i++) {
		const struct rule *rule = &rules[i];

		if (tally->rows[i] > 0 || !(rule->kinds & KIND(kind)) ||
		    !(rule->operations & tally->operations) || !is_made_here(rule->call))
			continue;
		printf("never met: the rule of %s in line %u of rules.c\n",
		       fault_name(rule->call), rule->line);
		missed++;
	}
	return missed;
}

int sweep_end(const char *name, int status)
{
	printf("%s: %lu points tried, %lu strikes\n", name, tally->points, tally->strikes);
	if (status != 0 || stride() > 1)
		return status;
	return count_missed_calls() + count_missed_rules() > 0;
}
