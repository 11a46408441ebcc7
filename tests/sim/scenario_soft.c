/*
 * scenario_soft.c - marker files: each step of making, judging, taking over and removing one
 * interleaved with each of others.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "actors.h"

#define SOFT .kind = FILELOCK_SOFT

ACTOR(exclusive, SOFT)
ACTOR(exclusive_twice, SOFT, .twice = true)
ACTOR(closing, SOFT, .close_holding = true)
ACTOR(exiting, SOFT, .exits = true)
ACTOR(slow, SOFT, .holds_ms = 10000)
ACTOR(hurried, SOFT, .timeout_ms = 100)
ACTOR(polling, SOFT, .poll_interval_ms = 500)

/* Nobody has that pid. */
static void dead_marker(void)
{
	make_lock_file("1999\n" SIM_HOST "\n");
}

/* Only the flock tells who lives. */
static void apart(void)
{
	sim_set_apart();
}

static void dead_marker_apart(void)
{
	dead_marker();
	sim_set_apart();
}

/* A contender has its pid by now. */
static void recycled_marker(void)
{
	make_lock_file("1000\n" SIM_HOST "\n12345\n");
}

static void torn_marker(void)
{
	make_lock_file("1999\n" SIM_HOST);
}

static void no_marker(void)
{
	if (sim_exists(LOCK_PATH) && !anybody_died())
		CLAIM(!"a marker without a holder", 0);
}

static void breaking(const struct library *lib, unsigned self)
{
	struct filelock *lock;

	(void)self;
	CLAIM_EQUAL(lib->open(LOCK_PATH, FILELOCK_SOFT, NULL, &lock), 0);
	(void)lib->break_lock(lock);
	lib->close(lock);
}

/*
 * Python's SoftFileLock, one attempt: O_EXCL, the record, no flock; closed before it is removed,
 * and removed only if it is its own.
 */
static void classic(const struct library *lib, unsigned self)
{
	int fd = sim_calls.open(LOCK_PATH, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0644);
	struct stat ours, there;
	char record[64];

	(void)lib;
	if (fd < 0)
		return;
	(void)snprintf(record, sizeof(record), "%d\n%s\n", (int)SIM_PID(self), SIM_HOST);
	(void)sim_calls.pwrite(fd, record, strlen(record), 0);
	enter(FILELOCK_EXCLUSIVE);
	pause_here("inside");
	leave();
	(void)sim_calls.fstat(fd, &ours);
	(void)sim_calls.close(fd);
	if (sim_calls.lstat(LOCK_PATH, &there) == 0 && there.st_ino == ours.st_ino)
		(void)sim_calls.unlink(LOCK_PATH);
}

#define FEW(n) .preempt_few = true, .preemptions = (n)

static const struct scenario scenarios[] = {
	{ .name = "two", .mains = { exclusive, exclusive }, .after = no_marker },
	{ .name = "two_twice", .mains = { exclusive_twice, exclusive_twice },
	  .sleeps_ms = 1, .after = no_marker, FEW(3) },
	{ .name = "three", .mains = { exclusive, exclusive, exclusive },
	  .after = no_marker, FEW(2) },
	{ .name = "closed_while_held", .mains = { closing, exclusive },
	  .after = no_marker },
	{ .name = "left_by_exit", .mains = { exiting, exclusive }, .after = no_marker },
	{ .name = "a_crash", .mains = { exclusive, exclusive }, .sleeps_ms = 100,
	  .crashes = 1, FEW(3) },
	{ .name = "a_crash_of_three", .mains = { exclusive, exclusive, exclusive },
	  .sleeps_ms = 100, .crashes = 1, FEW(1) },
	{ .name = "a_crash_after_a_while", .mains = { slow, exclusive },
	  .sleeps_ms = 10500, .crashes = 1, FEW(2) },
	{ .name = "stale", .mains = { exclusive, exclusive }, .sleeps_ms = 10,
	  .before = dead_marker, .after = no_marker, FEW(4) },
	{ .name = "stale_of_three", .mains = { exclusive, exclusive, exclusive },
	  .before = dead_marker, .after = no_marker, FEW(2) },
	{ .name = "stale_and_a_crash", .mains = { exclusive, exclusive },
	  .sleeps_ms = 100, .before = dead_marker, .crashes = 1, FEW(2) },
	{ .name = "apart", .mains = { exclusive, exclusive }, .before = apart,
	  .after = no_marker },
	{ .name = "apart_and_a_crash", .mains = { exclusive, exclusive },
	  .sleeps_ms = 100, .before = apart, .crashes = 1, FEW(3) },
	{ .name = "apart_and_stale", .mains = { exclusive, exclusive },
	  .before = dead_marker_apart, .after = no_marker, FEW(4) },
	{ .name = "recycled_pid", .mains = { exclusive, exclusive }, .sleeps_ms = 10,
	  .before = recycled_marker, .after = no_marker, FEW(4) },
	{ .name = "torn", .mains = { polling, polling }, .sleeps_ms = 4000,
	  .before = torn_marker, .after = no_marker, FEW(2) },
	{ .name = "with_a_classic", .mains = { exclusive, exclusive, classic },
	  .after = no_marker, .by_existence = true, .strangers = 1 << 2, FEW(3) },
	{ .name = "stale_with_a_classic", .mains = { exclusive, exclusive, classic },
	  .before = dead_marker, .after = no_marker, .by_existence = true,
	  .strangers = 1 << 2, FEW(3) },
	{ .name = "removed_by_another", .mains = { exclusive, exclusive, remove_file },
	  .strangers = 1 << 2, .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "stale_and_removed", .mains = { exclusive, exclusive, remove_file },
	  .strangers = 1 << 2, .before = dead_marker, .meddled = true,
	  .files_stay = true, FEW(3) },
	{ .name = "renamed_by_another", .mains = { exclusive, exclusive, rename_file },
	  .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "stale_and_renamed", .mains = { exclusive, exclusive, rename_file },
	  .before = dead_marker, .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "broken_by_force", .mains = { exclusive, exclusive, breaking },
	  .strangers = 1 << 2,
	  .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "hurried_while_others_stall", .mains = { hurried, exclusive },
	  .stalls = 1, .after = no_marker, FEW(3) },
	{ .name = "hurried_and_a_crash", .mains = { hurried, exclusive },
	  .sleeps_ms = 200, .crashes = 1, .stalls = 1, FEW(2) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
