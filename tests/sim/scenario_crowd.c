/*
 * scenario_crowd.c - acquisitions that wait in the kernel's own queue, by helper threads, among
 * themselves and beside those that watch.
 */
#include <fcntl.h>
#include <sys/file.h>

#include "actors.h"

#define NATIVE .kind = FILELOCK_NATIVE
#define CROWD NATIVE, .in_crowd = true

ACTOR(blocked, CROWD)
ACTOR(blocked_twice, CROWD, .twice = true)
ACTOR(blocked_shared, CROWD, .mode = FILELOCK_SHARED)
ACTOR(blocked_warm, CROWD, .keep_open = true, .twice = true)
ACTOR(hurried, CROWD, .timeout_ms = 30)
ACTOR(hasty, CROWD, .timeout_ms = 1)
ACTOR(hasty_then_patient, CROWD, .timeout_ms = 5, .twice = true, .then_exclusive = true)
ACTOR(polling, NATIVE, .poll_interval_ms = 50)
ACTOR(hurried_twice, CROWD, .timeout_ms = 30, .twice = true)
ACTOR(hurried_reader_then_writer, CROWD, .mode = FILELOCK_SHARED, .timeout_ms = 30, .twice = true,
      .then_exclusive = true)
ACTOR(unlinking, CROWD, .unlink_on_release = true)
ACTOR(watching, NATIVE)
ACTOR(watching_twice, NATIVE, .twice = true)
ACTOR(warm, NATIVE, .keep_open = true, .twice = true)
ACTOR(slow, NATIVE, .holds_ms = 1000)
ACTOR(slow_shared, NATIVE, .mode = FILELOCK_SHARED, .holds_ms = 1000)

/* No helper can be made. */
static void make_crowded_file_and_no_thread(void)
{
	make_crowded_file();
	sim_set_threadless();
}

/* Long after the others' first looks at their file. */
static void replace_later(const struct library *lib, unsigned self)
{
	struct timespec time = { 0, 200000000 };

	(void)sim_calls.nanosleep(&time, NULL);
	replace_file(lib, self);
}

/* flock(1): opens read-only, looks at no path, and unlocks without closing, at first. */
static void stranger(const struct library *lib, unsigned self)
{
	int fd = sim_calls.open(LOCK_PATH, O_RDONLY | O_CREAT, 0666);

	(void)lib;
	(void)self;
	CLAIM_EQUAL(sim_calls.flock(fd, LOCK_EX), 0);
	enter(FILELOCK_EXCLUSIVE);
	pause_here("inside");
	leave();
	(void)sim_calls.flock(fd, LOCK_UN);
	pause_here("with the file open");
	(void)sim_calls.close(fd);
}

#define FEW(n) .preempt_few = true, .preemptions = (n)
/* Of a sleeper: where notices come, beside what else it may have. */
enum { WATCHER = 1 };
/* Helpers that are idle sleep, and end; who is not woken sleeps for ever. */
#define SLEEPS .sleeps_ms = 6000, .before = make_crowded_file, .stay = WATCHER

static const struct scenario scenarios[] = {
	{ .name = "two_blocked", .mains = { blocked, blocked }, SLEEPS, PROMPT, FEW(6) },
	{ .name = "two_blocked_twice", .mains = { blocked_twice, blocked_twice }, SLEEPS, PROMPT,
	  FEW(4) },
	{ .name = "three_blocked", .mains = { blocked, blocked, blocked }, SLEEPS, PROMPT, FEW(2) },
	{ .name = "blocked_beside_a_watcher", .mains = { blocked, watching }, SLEEPS, PROMPT,
	  FEW(6) },
	{ .name = "blocked_beside_a_watcher_twice", .mains = { blocked_twice, watching_twice },
	  SLEEPS, PROMPT, FEW(4) },
	{ .name = "readers_and_a_writer", .mains = { blocked_shared, blocked_shared, watching },
	  SLEEPS, PROMPT, FEW(2) },
	{ .name = "blocked_beside_flock", .mains = { blocked, watching, stranger }, SLEEPS, PROMPT,
	  .strangers = 1 << 2, FEW(2) },
	{ .name = "release_without_an_event", .mains = { blocked, stranger }, SLEEPS, PROMPT,
	  .strangers = 1 << 1, FEW(3) },
	{ .name = "warm_releases", .mains = { blocked_warm, warm }, SLEEPS, PROMPT, FEW(4) },
	{ .name = "grant_to_one_that_stalls", .mains = { blocked, watching }, SLEEPS, .stalls = 1,
	  FEW(3) },
	{ .name = "a_crash", .mains = { blocked, blocked }, SLEEPS, .crashes = 1, FEW(3) },
	{ .name = "a_crash_beside_a_watcher", .mains = { blocked, watching }, SLEEPS, .crashes = 1,
	  FEW(3) },
	{ .name = "timeout_beside_a_long_hold", .mains = { hurried, slow }, SLEEPS, PROMPT,
	  FEW(4) },
	{ .name = "timeout_at_any_moment", .mains = { hurried, blocked }, SLEEPS, .stalls = 1,
	  FEW(3) },
	{ .name = "timeout_of_a_millisecond", .mains = { hasty, blocked, slow }, SLEEPS, PROMPT, FEW(2) },
	{ .name = "asked_again_after_5_ms", .mains = { hasty_then_patient, blocked, slow }, SLEEPS, PROMPT,
	  FEW(2) },
	{ .name = "readers_beside_a_queued_writer", .mains = { blocked_shared, blocked, blocked_shared },
	  SLEEPS, PROMPT, FEW(2) },
	{ .name = "helpers_watchers_and_pollers", .mains = { blocked, watching, polling }, SLEEPS, FEW(2) },
	{ .name = "no_thread_can_be_made", .mains = { blocked, blocked_twice }, .sleeps_ms = 6000,
	  .before = make_crowded_file_and_no_thread, .stay = WATCHER, FEW(4) },
	{ .name = "stopped", .mains = { slow, blocked, watching }, SLEEPS, PROMPT, .stops = 1, FEW(1) },
	{ .name = "stopped_among_blocked", .mains = { slow, blocked, blocked }, SLEEPS, PROMPT,
	  .stops = 1, FEW(1) },
	{ .name = "stopped_twice", .mains = { blocked_twice, blocked }, SLEEPS, PROMPT, .stops = 2, FEW(1) },
	{ .name = "stopped_and_late", .mains = { slow_shared, hurried_twice, blocked }, SLEEPS, PROMPT,
	  .stops = 1, FEW(0) },
	{ .name = "asked_again_after_a_timeout", .mains = { hurried_twice, slow_shared }, SLEEPS,
	  PROMPT, FEW(4) },
	{ .name = "asked_again_in_another_mode",
	  .mains = { slow, hurried_reader_then_writer, blocked_shared }, SLEEPS, PROMPT, FEW(3) },
	{ .name = "replaced_while_blocked", .mains = { blocked, slow, replace_file }, SLEEPS,
	  .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "replaced_long_after_a_wait_began", .mains = { slow, blocked, replace_later },
	  SLEEPS, PROMPT, .meddled = true, .files_stay = true, FEW(3) },
	/* it comes to look at its file when that has been granted, and given back */
	{ .name = "replaced_while_one_stalls", .mains = { slow, blocked, replace_later }, SLEEPS,
	  .stalls = 2, .meddled = true, .files_stay = true, FEW(2) },
	{ .name = "removed_while_blocked", .mains = { blocked, slow, remove_file }, SLEEPS,
	  .strangers = 1 << 2, .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "removed_at_each_release", .mains = { unlinking, unlinking }, SLEEPS, FEW(4) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
