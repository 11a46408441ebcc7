/*
 * A crowd of every sort at one native lock: loops and synchronous handles with helpers, handles that
 * keep their file, others that only watch or poll, as before there were helpers, flock(1) and Python;
 * some are stopped meanwhile, and some are killed. Each adds one to its own count and to the sum, in a
 * file that it reads and writes as a whole. Whoever is inside at the same time as another one undoes
 * what that one wrote.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PYTHON_CLASS "FileLock"
#include "python.h"
#include "crowd.h"
#include "helpers.h"
#ifdef FILELOCK_EVENT
#include "tests/async/loop.h"
#endif

#define EX FILELOCK_EXCLUSIVE

enum sort { LOOP, SYNC, KEPT, WATCHER, LOOP_WATCHER, POLLER, FLOCK, PYTHON };
/* Every sort is among the first eight. */
static const enum sort sorts[] = { LOOP, SYNC, KEPT, WATCHER, FLOCK, PYTHON, POLLER, LOOP_WATCHER,
	                           LOOP, SYNC, LOOP, SYNC,    WATCHER, FLOCK, PYTHON, KEPT };
enum {
	SORTS = 8,
	ROUND = sizeof(sorts) / sizeof(*sorts),
	MOST = 64,   /* parties */
	VICTIMS = 6, /* one after the other */
	COUNTS = MOST + VICTIMS
};

/* How often each sort is to be granted the lock. Making a process takes longest. */
static const unsigned quotas[SORTS] = { [LOOP] = 30,   [SYNC] = 30, [KEPT] = 30,
	                                [WATCHER] = 30, [LOOP_WATCHER] = 30,
	                                [POLLER] = 20, [FLOCK] = 5, [PYTHON] = 10 };

/* The content of the file. peer.py writes it, too. */
struct ledger {
	uint64_t sum, counts[COUNTS];
};

struct party {
	enum sort sort;
	unsigned who;   /* its place in the ledger */
	unsigned quota; /* 0: until it is killed */
	bool absent;    /* such a one cannot be had here */
	pid_t pid;
	struct program python;
};

static char ledger_path[PATH_MAX];
static struct party parties[MOST];
static unsigned parties_count;
static int holder = -1; /* has the lock until all are there */
static _Atomic unsigned *grants; /* of each place in the ledger, as its owner counts them */

/* --- the ledger --- */

/* Adds one, inside the lock. False: somebody else was inside as well. */
static bool add(int fd, unsigned who, uint64_t own)
{
	struct ledger ledger;

	if (pread(fd, &ledger, sizeof(ledger), 0) != sizeof(ledger) || ledger.counts[who] != own)
		return false;
	(void)sched_yield();
	ledger.counts[who]++;
	ledger.sum++;
	return pwrite(fd, &ledger, sizeof(ledger), 0) == sizeof(ledger);
}

static void make_ledger(void)
{
	struct ledger empty = { 0 };
	int fd;

	(void)snprintf(ledger_path, sizeof(ledger_path), "%s", test_path("ledger"));
	fd = open(ledger_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(write(fd, &empty, sizeof(empty)), sizeof(empty));
	(void)close(fd);
	grants = test_shared(COUNTS * sizeof(*grants));
}

/* The command that flock(1) runs: this program again. */
static int add_by_command(const char *file, const char *who, const char *own)
{
	int fd = open(file, O_RDWR | O_CLOEXEC);

	return fd >= 0 && add(fd, (unsigned)atoi(who), strtoull(own, NULL, 10)) ? 0 : 1;
}

static void check_ledger(void)
{
	struct ledger ledger;
	uint64_t sum = 0;
	int fd = open(ledger_path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_eq(read(fd, &ledger, sizeof(ledger)), sizeof(ledger));
	(void)close(fd);
	for (unsigned i = 0; i < parties_count; i++)
		if (!parties[i].absent)
			ck_assert_uint_eq(ledger.counts[i], parties[i].quota);
	/* a victim may have been killed between the two ways of counting */
	for (unsigned i = MOST; i < COUNTS; i++)
		ck_assert_uint_le(ledger.counts[i] - grants[i], 1);
	for (unsigned i = 0; i < COUNTS; i++)
		sum += ledger.counts[i];
	ck_assert_uint_eq(ledger.sum, sum);
}

/* --- parties of ours: 0, or what was wrong --- */

/* The next wait is in the kernel's queue, unless the file has just been removed. */
static void expect_silence(void)
{
	struct stat st;

	if (stat(path, &st) == 0)
		crowd_note_silence((struct identity){ st.st_dev, st.st_ino }, test_now());
}

static bool has_helpers(enum sort sort)
{
	return sort == LOOP || sort == SYNC || sort == KEPT;
}

static struct filelock *open_as(enum sort sort)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	if (has_helpers(sort))
		expect_silence();
	else
		filelock_set_max_helpers(0);
	if (sort == POLLER) {
		options.poll_interval_ms = 2;
		fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	}
	options.keep_open = sort == KEPT;
	return test_open(path, &options);
}

#ifdef FILELOCK_EVENT
static struct loop loop;

static int acquire(const struct party *party, struct filelock *lock)
{
	if (party->sort != LOOP && party->sort != LOOP_WATCHER)
		return filelock_acquire(lock, EX, FILELOCK_WAIT_FOREVER);
	if (!loop.base)
		loop = loop_new();
	return loop_acquire(&loop, lock, EX, -1);
}
#else
static int acquire(const struct party *party, struct filelock *lock)
{
	(void)party;
	return filelock_acquire(lock, EX, FILELOCK_WAIT_FOREVER);
}
#endif

static int run_party(const struct party *party)
{
	struct filelock *lock = open_as(party->sort);
	int fd = open(ledger_path, O_RDWR | O_CLOEXEC);

	for (unsigned own = 0; !party->quota || own < party->quota; own++) {
		if (acquire(party, lock) < 0)
			return 1;
		if (!add(fd, party->who, own))
			return 2;
		grants[party->who]++;
		if (filelock_release(lock) < 0)
			return 3;
	}
	filelock_close(lock);
	return 0;
}

/* --- parties of others --- */

static int run_flock(const struct party *party)
{
	char self[PATH_MAX], who[16], own[16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return 1;
	self[n] = '\0';
	(void)snprintf(who, sizeof(who), "%u", party->who);
	for (unsigned i = 0; i < party->quota; i++) {
		(void)snprintf(own, sizeof(own), "%u", i);
		if (program_run((const char *const[]){ "flock", path, self, "add", ledger_path,
		                                       who, own, NULL }) != 0)
			return 2;
	}
	return 0;
}

static bool has_flock(void)
{
	if (program_run((const char *const[]){ "flock", "--version", NULL }) == 0)
		return true;
	test_skip("flock(1) is not installed");
	return false;
}

/* Some releases remove the file when they release it; flock(1) does not look whether the path still
   names what it locks. */
static bool removes_the_file(struct program *python)
{
	ask(python, "acquire 60", "held");
	ask(python, "release", "released");
	return access(path, F_OK) < 0;
}

static void start_python_party(struct party *party, int which)
{
	party->absent = !start_python(&party->python, which);
}

/* Pythons first, for what they do decides whether flock(1) may take part. */
static void start_pythons(int which)
{
	bool there = true, flocks = has_flock();

	for (unsigned i = 0; i < parties_count; i++) {
		if (parties[i].sort != PYTHON)
			continue;
		if (there)
			start_python_party(&parties[i], which);
		else
			parties[i].absent = true;
		if (there && !parties[i].absent && flocks && removes_the_file(&parties[i].python)) {
			test_skip("flock(1) does not see that this Python removes the lock file");
			flocks = false;
		}
		there = !parties[i].absent;
	}
	for (unsigned i = 0; i < parties_count; i++)
		parties[i].absent |= parties[i].sort == FLOCK && !flocks;
}

/* --- all of them --- */

static void choose_parties(unsigned count)
{
	parties_count = count;
	for (unsigned i = 0; i < count; i++)
		parties[i] = (struct party){ .sort = sorts[i % ROUND], .who = i,
			                     .quota = test_rounds(quotas[sorts[i % ROUND]]) };
}

static void hold_lock(void)
{
	holder = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	ck_assert_int_eq(flock(holder, LOCK_EX | LOCK_NB), 0);
}

static void let_go(void)
{
	(void)close(holder);
	holder = -1;
}

/* In its own process, which has the descriptor of the test's lock. */
static int run(void *arg)
{
	const struct party *party = arg;

	if (holder >= 0)
		let_go();
	return party->sort == FLOCK ? run_flock(party) : run_party(party);
}

/* The lock is held. */
static void start_party(struct party *party)
{
	char order[PATH_MAX + 64];

	if (party->absent)
		return;
	if (party->sort == PYTHON) {
		(void)snprintf(order, sizeof(order), "count %s %u %u", ledger_path, party->who,
		               party->quota);
		program_say(&party->python, order);
		return;
	}
	party->pid = test_fork(run, party);
}

static void end_party(struct party *party)
{
	if (party->absent)
		return;
	if (party->sort == PYTHON) {
		program_expect(&party->python, "done");
		ck_assert_int_eq(program_end(&party->python), 0);
	} else if (party->pid) {
		ck_assert_int_eq(test_reap(party->pid), 0);
	}
}

/* Those that wait in the kernel's queue, where they can be counted. */
static void await_crowd(void)
{
	unsigned blocked = 0;

	for (unsigned i = 0; i < parties_count; i++)
		blocked += !parties[i].absent &&
		           (has_helpers(parties[i].sort) || parties[i].sort == FLOCK);
	if (test_locks_are_listed())
		await(test_blocked_on(path) == blocked);
}

/* It may have come to its end before. */
static void stop_for_a_while(struct party *party)
{
	int status;

	ck_assert_int_eq(kill(party->pid, SIGSTOP), 0);
	ck_assert_int_eq(waitpid(party->pid, &status, WUNTRACED), party->pid);
	if (!WIFSTOPPED(status)) {
		ck_assert_int_eq(status, 0);
		party->pid = 0;
		return;
	}
	test_nap();
	ck_assert_int_eq(kill(party->pid, SIGCONT), 0);
}

/* At any point of what it does, and perhaps inside; then a party is stopped. */
static void kill_and_stop(unsigned n)
{
	static const enum sort victims[] = { SYNC, LOOP, KEPT, WATCHER };
	struct party victim = { .sort = victims[n % 4], .who = MOST + n };
	struct party *stopped = &parties[n * 3 % parties_count];

	victim.pid = test_fork(run, &victim);
	while (grants[victim.who] < 2) /* Check has a limit */
		test_nap();
	ck_assert_int_eq(kill(victim.pid, SIGKILL), 0);
	ck_assert_int_eq(test_reap(victim.pid), 128 + SIGKILL);
	if (stopped->sort != FLOCK && stopped->sort != PYTHON && stopped->pid)
		stop_for_a_while(stopped);
}

/* shows: crowd shared-with-flock shared-with-python */
START_TEST(test_crowd_of_every_sort_loses_no_count_and_leaves_nobody_out)
{
	unsigned most = _i == 0 ? MOST : ROUND; /* its releases differ, and not the rest */
	unsigned victims = test_rounds(VICTIMS);

	make_witness();
	make_ledger();
	choose_parties(SORTS + test_rounds(most - SORTS));
	start_pythons(_i);
	hold_lock();
	for (unsigned i = 0; i < parties_count; i++)
		start_party(&parties[i]);
	await_crowd();
	let_go();
	for (unsigned i = 0; i < victims && i < VICTIMS; i++)
		kill_and_stop(i);
	for (unsigned i = 0; i < parties_count; i++)
		end_party(&parties[i]);
	check_ledger();
}
END_TEST

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "add") == 0)
		return add_by_command(argv[2], argv[3], argv[4]);
	return PYTHON_MAIN("a mixed crowd", "native",
	                   test_crowd_of_every_sort_loses_no_count_and_leaves_nobody_out);
}
