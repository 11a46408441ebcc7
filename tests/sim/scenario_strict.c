/*
 * scenario_strict.c - claims in the doorway: each step of listing, publishing, linking and
 * withdrawing one interleaved with each of others.
 */
#include <fcntl.h>

#include "actors.h"
#include "kinds/strict_record.h"

#define STRICT .kind = FILELOCK_STRICT
#define CLAIMS LOCK_PATH ".filelock"

ACTOR(exclusive, STRICT)
ACTOR(exclusive_twice, STRICT, .twice = true)
ACTOR(closing, STRICT, .close_holding = true)
ACTOR(exiting, STRICT, .exits = true)
ACTOR(hurried, STRICT, .timeout_ms = 100)

/* The lock was held before. */
static void used(void)
{
	int fd = sim_calls.open(LOCK_PATH, O_WRONLY | O_CREAT, 0666);

	(void)sim_calls.pwrite(fd, STRICT_SENTINEL, STRICT_SENTINEL_SIZE, 0);
	(void)sim_calls.close(fd);
	(void)sim_calls.mkdirat(AT_FDCWD, CLAIMS, 0777);
	(void)sim_calls.mkdirat(AT_FDCWD, CLAIMS "/claims", 0777);
}

/* Those that meet in the doorway send each other back, and come again at moments of their own. */
#define BACK_OFF .in_folder = true, .sleeps_ms = 200, .late_us = 200000
#define FEW(n) .preempt_few = true, .preemptions = (n)

static const struct scenario scenarios[] = {
	{ .name = "two", .mains = { exclusive, exclusive }, .before = used, BACK_OFF, FEW(3) },
	{ .name = "two_of_a_new_lock", .mains = { exclusive, exclusive }, BACK_OFF, FEW(2) },
	{ .name = "two_twice", .mains = { exclusive_twice, exclusive_twice }, .before = used,
	  BACK_OFF, FEW(2) },
	{ .name = "three", .mains = { exclusive, exclusive, exclusive }, .before = used,
	  BACK_OFF, FEW(2) },
	{ .name = "closed_while_held", .mains = { closing, exclusive }, .before = used, BACK_OFF,
	  FEW(2) },
	{ .name = "left_by_exit", .mains = { exiting, exclusive }, .before = used, BACK_OFF,
	  FEW(1) },
	/* whose claims stay: nobody but a person ends that */
	{ .name = "a_crash", .mains = { hurried, hurried }, .before = used, .in_folder = true,
	  .sleeps_ms = 300, .crashes = 1, .files_stay = true, FEW(0) },
	{ .name = "hurried_while_others_stall", .mains = { hurried, exclusive },
	  .before = used, .stalls = 1, BACK_OFF, FEW(1) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
