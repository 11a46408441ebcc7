/*
 * scenario_native.c - flock(2) on the lock file: each step of it interleaved with each of others.
 */
#include <fcntl.h>
#include <sys/file.h>

#include "actors.h"

#define NATIVE .kind = FILELOCK_NATIVE

ACTOR(exclusive, NATIVE)
ACTOR(exclusive_twice, NATIVE, .twice = true)
ACTOR(shared, NATIVE, .mode = FILELOCK_SHARED)
ACTOR(closing, NATIVE, .close_holding = true)
ACTOR(unlinking, NATIVE, .unlink_on_release = true)
ACTOR(shared_unlinking, NATIVE, .mode = FILELOCK_SHARED, .unlink_on_release = true)
ACTOR(slow, NATIVE, .holds_ms = 10000)
ACTOR(hurried, NATIVE, .timeout_ms = 100)

/* flock(1): opens read-only, looks at no path, is closed with the lock held. */
static void stranger(const struct library *lib, unsigned self)
{
	int fd = sim_calls.open(LOCK_PATH, O_RDONLY | O_CREAT, 0666);

	(void)lib;
	(void)self;
	if (sim_calls.flock(fd, LOCK_EX | LOCK_NB) == 0) {
		enter(FILELOCK_EXCLUSIVE);
		pause_here("inside");
		leave();
	}
	(void)sim_calls.close(fd);
}

/* The same, but it waits as long as it takes. */
static void blocked(const struct library *lib, unsigned self)
{
	int fd = sim_calls.open(LOCK_PATH, O_RDONLY | O_CREAT, 0666);

	(void)lib;
	(void)self;
	CLAIM_EQUAL(sim_calls.flock(fd, LOCK_EX), 0);
	enter(FILELOCK_EXCLUSIVE);
	pause_here("inside");
	leave();
	(void)sim_calls.close(fd);
}

static void blocked_shared(const struct library *lib, unsigned self)
{
	int fd = sim_calls.open(LOCK_PATH, O_RDONLY | O_CREAT, 0666);

	(void)lib;
	(void)self;
	CLAIM_EQUAL(sim_calls.flock(fd, LOCK_SH), 0);
	enter(FILELOCK_SHARED);
	leave();
	(void)sim_calls.close(fd);
}

#define FEW(n) .preempt_few = true, .preemptions = (n)

static const struct scenario scenarios[] = {
	{ .name = "two_exclusive", .mains = { exclusive, exclusive } },
	{ .name = "two_exclusive_twice", .mains = { exclusive_twice, exclusive_twice },
	  .sleeps_ms = 1 },
	{ .name = "reader_and_writer", .mains = { shared, exclusive } },
	{ .name = "two_readers_and_a_writer", .mains = { shared, shared, exclusive },
	  FEW(3) },
	{ .name = "three_exclusive", .mains = { exclusive, exclusive, exclusive },
	  FEW(3) },
	{ .name = "closed_while_held", .mains = { closing, exclusive } },
	{ .name = "a_crash", .mains = { exclusive, exclusive }, .sleeps_ms = 100,
	  .crashes = 1 },
	{ .name = "a_crash_of_three", .mains = { exclusive, shared, exclusive },
	  .sleeps_ms = 100, .crashes = 1, FEW(2) },
	{ .name = "stranger_that_closes", .mains = { exclusive, exclusive, stranger },
	  .sleeps_ms = 100, .strangers = 1 << 2, FEW(3) },
	{ .name = "blocked_strangers", .mains = { exclusive, blocked, blocked },
	  .sleeps_ms = 100, .strangers = 1 << 1 | 1 << 2 },
	{ .name = "blocked_reader_and_writer", .mains = { exclusive, blocked_shared, blocked },
	  .sleeps_ms = 100, .strangers = 1 << 1 | 1 << 2, FEW(3) },
	{ .name = "a_crash_among_blocked", .mains = { exclusive, exclusive, blocked },
	  .sleeps_ms = 100, .crashes = 1, .strangers = 1 << 2, FEW(1) },
	/* when its back-off has grown long, an event must be worth more than one attempt */
	{ .name = "a_crash_after_a_while", .mains = { slow, exclusive },
	  .sleeps_ms = 10500, .crashes = 1 },
	{ .name = "unlink_on_release", .mains = { unlinking, unlinking } },
	{ .name = "unlink_on_release_of_three",
	  .mains = { unlinking, unlinking, unlinking }, FEW(3) },
	{ .name = "unlink_by_the_last_reader",
	  .mains = { shared_unlinking, shared_unlinking, unlinking }, FEW(3) },
	{ .name = "unlink_and_a_crash", .mains = { unlinking, unlinking },
	  .sleeps_ms = 100, .crashes = 1 },
	{ .name = "unlinked_by_another", .mains = { exclusive, exclusive, remove_file },
	  .strangers = 1 << 2, .meddled = true, .files_stay = true },
	{ .name = "renamed_by_another", .mains = { exclusive, exclusive, rename_file },
	  .meddled = true, .files_stay = true },
	{ .name = "replaced_by_another",
	  .mains = { exclusive, exclusive, replace_file }, .meddled = true,
	  .files_stay = true },
	{ .name = "replaced_under_a_remover",
	  .mains = { unlinking, unlinking, replace_file }, .meddled = true,
	  .files_stay = true, FEW(3) },
	{ .name = "hurried_while_others_stall", .mains = { hurried, exclusive },
	  .stalls = 2 },
	{ .name = "hurried_and_a_crash", .mains = { hurried, exclusive },
	  .sleeps_ms = 200, .crashes = 1, .stalls = 1 },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
