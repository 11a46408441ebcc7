/* flock(1) of util-linux on the same path, both ways round. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

static char path[PATH_MAX];

static bool set_up(void)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	if (program_run((const char *const[]){ "flock", "--version", NULL }) == 0)
		return true;
	test_skip("flock(1) is not installed");
	return false;
}

/* flock(1) holds the lock in this mode ("-x", "-s") until its input ends. */
static void start_holding(struct program *program, const char *mode)
{
	program_start(program, (const char *const[]){ "flock", mode, path, "-c",
	                                              "echo held; read line; exit 0", NULL });
	program_expect(program, "held");
}

/* By a line: a peer forked meanwhile has the pipe open, too, so it would see no end. */
static void end_holding(struct program *program)
{
	program_say(program, "go");
	ck_assert_int_eq(program_end(program), 0);
}

static int try(enum filelock_mode mode)
{
	struct filelock *lock = test_open(path, NULL);
	int r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);

	filelock_close(lock);
	return r;
}

static int let_flock_try(const char *mode)
{
	return program_run((const char *const[]){ "flock", "-n", mode, path, "true", NULL });
}

/* shows: shared-with-flock */
START_TEST(test_exclusive_flock_1_keeps_us_out)
{
	struct program program;

	if (!set_up())
		return;
	start_holding(&program, "-x");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(FILELOCK_SHARED), -ETIMEDOUT);
	end_holding(&program);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
}
END_TEST

START_TEST(test_shared_flock_1_overlaps_our_shared_lock)
{
	struct program program;

	if (!set_up())
		return;
	start_holding(&program, "-s");
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), -ETIMEDOUT);
	ck_assert_int_eq(try(FILELOCK_SHARED), 0);
	end_holding(&program);
}
END_TEST

/* shows: shared-with-flock */
START_TEST(test_our_locks_keep_flock_1_out)
{
	struct filelock *lock;

	if (!set_up())
		return;
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	ck_assert_int_eq(let_flock_try("-x"), 1);
	ck_assert_int_eq(let_flock_try("-s"), 1);
	filelock_release(lock);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_SHARED, 0), 0);
	ck_assert_int_eq(let_flock_try("-x"), 1);
	ck_assert_int_eq(let_flock_try("-s"), 0);
	filelock_release(lock);
	ck_assert_int_eq(let_flock_try("-x"), 0);
	filelock_close(lock);
}
END_TEST

START_TEST(test_flock_1_is_named_as_the_holder)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct program program;
	struct filelock *lock;

	if (!set_up())
		return;
	start_holding(&program, "-x");
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_holder(lock, &owner), 0);
	ck_assert_int_eq(owner.pid, program.pid);
	filelock_close(lock);
	end_holding(&program);
}
END_TEST

static void start_waiting(struct peer *peer)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 3600000; /* only an event can wake it */
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, path, &options), 0);
	peer_order_acquire(peer, FILELOCK_EXCLUSIVE, -1);
	peer_await_notice(peer);
}

/* It opens the file read-only, and just closes it. */
START_TEST(test_release_by_flock_1_wakes_us)
{
	struct program program;
	struct peer peer;

	if (!set_up())
		return;
	start_holding(&program, "-x");
	start_waiting(&peer);
	end_holding(&program);
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_killed_flock_1_wakes_us)
{
	struct program program;
	struct peer peer;

	if (!set_up())
		return;
	/* -F: no fork, so the killed process is the one that holds */
	program_start(&program, (const char *const[]){ "flock", "-F", path, "sh", "-c",
	                                               "echo held; read line", NULL });
	program_expect(&program, "held");
	start_waiting(&peer);
	ck_assert_int_eq(kill(program.pid, SIGKILL), 0);
	ck_assert_int_eq(program_end(&program), 128 + SIGKILL);
	ck_assert_int_eq(peer_answer(&peer), 0);
	peer_stop(&peer);
}
END_TEST

/* Whether /proc/locks lists this process as one that waits. */
static bool is_blocked(pid_t pid)
{
	char line[256], needle[32];
	FILE *file = fopen("/proc/locks", "re");
	bool found = false;

	ck_assert_ptr_nonnull(file);
	(void)snprintf(needle, sizeof(needle), " %d ", (int)pid);
	while (fgets(line, sizeof(line), file))
		found |= strstr(line, "->") && strstr(line, needle);
	fclose(file);
	return found;
}

START_TEST(test_our_release_lets_a_blocked_flock_1_in)
{
	struct program program;
	struct filelock *lock;

	if (!set_up())
		return;
	lock = test_open(path, NULL);
	ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
	program_start(&program, (const char *const[]){ "flock", path, "echo", "in", NULL });
	await(is_blocked(program.pid));
	ck_assert_int_eq(filelock_release(lock), 0);
	program_expect(&program, "in");
	ck_assert_int_eq(program_end(&program), 0);
	ck_assert_int_eq(try(FILELOCK_EXCLUSIVE), 0);
	filelock_close(lock);
}
END_TEST

/* The witness is a file, so that a program can look at it, too. */
static struct witness *map_witness(const char *file)
{
	int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *memory = MAP_FAILED;

	if (fd >= 0 && ftruncate(fd, sizeof(struct witness)) == 0)
		memory = mmap(NULL, sizeof(struct witness), PROT_READ | PROT_WRITE, MAP_SHARED,
		              fd, 0);
	close(fd);
	return memory == MAP_FAILED ? NULL : memory;
}

/* The command of flock(1) in the storm: this program again, with a witness and a number. */
static int stay_inside(const char *file, const char *who)
{
	struct witness *witness = map_witness(file);

	if (!witness)
		return 1;
	witness_enter(witness, (unsigned)atoi(who));
	for (int i = 0; i < 100; i++)
		sched_yield();
	witness_leave(witness, (unsigned)atoi(who));
	return 0;
}

static unsigned rounds;

static int run_flock(void *arg)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return 1;
	self[n] = '\0';
	for (unsigned i = 0; i < rounds; i++)
		if (program_run((const char *const[]){ "flock", path, self, "inside", arg, "9",
		                                       NULL }) != 0)
			return 1;
	return 0;
}

static _Atomic bool *flock_is_done;

static int run_ours(void *arg)
{
	struct witness *witness = map_witness(arg);
	struct filelock *lock = test_open(path, NULL);

	while (!*flock_is_done) {
		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1) < 0)
			return 1;
		witness_enter(witness, 1);
		sched_yield();
		witness_leave(witness, 1);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* shows: shared-with-flock */
START_TEST(test_storm_of_both_never_overlaps)
{
	char file[PATH_MAX];
	struct witness *witness;
	pid_t theirs, ours;

	if (!set_up())
		return;
	rounds = test_rounds(100);
	(void)snprintf(file, sizeof(file), "%s", test_path("witness"));
	witness = map_witness(file);
	ck_assert_ptr_nonnull(witness);
	flock_is_done = test_shared(sizeof(*flock_is_done));
	ours = test_fork(run_ours, file);
	await(witness->entries > 0);
	theirs = test_fork(run_flock, file);
	ck_assert_int_eq(test_reap(theirs), 0);
	*flock_is_done = true;
	ck_assert_int_eq(test_reap(ours), 0);
	ck_assert_uint_eq(witness->overlaps, 0);
	ck_assert_uint_gt(witness->entries, rounds);
}
END_TEST

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "inside") == 0)
		return stay_inside(argv[2], argv[3]);
	return support_main(
	        SUITE("flock(1)", test_exclusive_flock_1_keeps_us_out,
	              test_shared_flock_1_overlaps_our_shared_lock, test_our_locks_keep_flock_1_out,
	              test_flock_1_is_named_as_the_holder, test_release_by_flock_1_wakes_us,
	              test_killed_flock_1_wakes_us, test_our_release_lets_a_blocked_flock_1_in,
	              test_storm_of_both_never_overlaps));
}
