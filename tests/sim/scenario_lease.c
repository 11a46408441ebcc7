/*
 * scenario_lease.c - leases: each step of making, judging, taking over and removing one interleaved
 * with each of others. None lasts long enough here to end by the clock.
 */
#include "actors.h"

#define LEASE .kind = FILELOCK_LEASE

ACTOR(exclusive, LEASE)
ACTOR(exclusive_twice, LEASE, .twice = true)
ACTOR(closing, LEASE, .close_holding = true)
ACTOR(hurried, LEASE, .timeout_ms = 100)

#define RECORD(pid, mode)                                                                \
	"filelock/2\npid=" pid "\nhost=" SIM_HOST "\nmode=" mode "\n"                    \
	"token=0123456789abcdef0123456789abcdef\nduration=30.0\n"

/* Nobody has that pid. */
static void dead_lease(void)
{
	make_lock_file(RECORD("1999", "lease"));
}

static void dead_exclusive(void)
{
	make_lock_file(RECORD("1999", "exclusive"));
}

static void dead_marker(void)
{
	make_lock_file("1999\n" SIM_HOST "\n");
}

static void no_marker(void)
{
	if (sim_exists(LOCK_PATH) && !anybody_died())
		CLAIM(!"a marker without a holder", 0);
}

#define FEW(n) .preempt_few = true, .preemptions = (n)

static const struct scenario scenarios[] = {
	{ .name = "two", .mains = { exclusive, exclusive }, .after = no_marker, FEW(3) },
	{ .name = "two_twice", .mains = { exclusive_twice, exclusive_twice },
	  .sleeps_ms = 10, .after = no_marker, FEW(2) },
	{ .name = "three", .mains = { exclusive, exclusive, exclusive },
	  .after = no_marker, FEW(2) },
	{ .name = "closed_while_held", .mains = { closing, exclusive }, .after = no_marker,
	  FEW(2) },
	{ .name = "a_crash", .mains = { exclusive, exclusive }, .sleeps_ms = 100, .crashes = 1,
	  .files_stay = true, FEW(1) },
	{ .name = "stale", .mains = { exclusive, exclusive }, .sleeps_ms = 100,
	  .before = dead_lease, .after = no_marker, FEW(2) },
	{ .name = "stale_of_three", .mains = { exclusive, exclusive, exclusive },
	  .sleeps_ms = 100, .before = dead_lease, .after = no_marker, FEW(2) },
	{ .name = "stale_exclusive", .mains = { exclusive, exclusive }, .sleeps_ms = 100,
	  .before = dead_exclusive, .after = no_marker, FEW(2) },
	{ .name = "stale_marker", .mains = { exclusive, exclusive }, .sleeps_ms = 100,
	  .before = dead_marker, .after = no_marker, FEW(2) },
	{ .name = "hurried_while_others_stall", .mains = { hurried, exclusive }, .stalls = 1,
	  .after = no_marker, FEW(2) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
