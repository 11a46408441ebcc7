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
#define WARM NATIVE, .keep_open = true
/* they keep their handles to the end, so that no close wakes anybody */
ACTOR(warm, WARM, .stays_open = true)
ACTOR(warm_twice, WARM, .twice = true, .stays_open = true)
ACTOR(warm_shared, WARM, .mode = FILELOCK_SHARED, .stays_open = true)
ACTOR(warm_hurried, WARM, .timeout_ms = 100, .stays_open = true)
ACTOR(warm_closing, WARM, .close_holding = true)
ACTOR(polling, NATIVE, .poll_interval_ms = 50)

/* Java's FileLock, a lockf(3), …: an exclusive record lock of a description on the whole file. */
static void recording(const struct library *lib, unsigned self)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = sim_calls.open(LOCK_PATH, O_RDWR | O_CREAT, 0666);

	(void)lib;
	(void)self;
	(void)sim_calls.fcntl_ofd_setlk(fd, &whole);
	pause_here("recording");
	whole.l_type = F_UNLCK; /* a close would wake them */
	(void)sim_calls.fcntl_ofd_setlk(fd, &whole);
}

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
	{ .name = "two_exclusive", PROMPT, .mains = { exclusive, exclusive } },
	{ .name = "two_exclusive_twice", PROMPT, .mains = { exclusive_twice, exclusive_twice },
	  .sleeps_ms = 1 },
	{ .name = "reader_and_writer", PROMPT, .mains = { shared, exclusive } },
	{ .name = "two_readers_and_a_writer", PROMPT, .mains = { shared, shared, exclusive },
	  FEW(3) },
	{ .name = "three_exclusive", PROMPT, .mains = { exclusive, exclusive, exclusive },
	  FEW(3) },
	{ .name = "closed_while_held", PROMPT, .mains = { closing, exclusive } },
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
	{ .name = "unlink_on_release", PROMPT, .mains = { unlinking, unlinking } },
	{ .name = "unlink_on_release_of_three", PROMPT,
	  .mains = { unlinking, unlinking, unlinking }, FEW(3) },
	{ .name = "unlink_by_the_last_reader", PROMPT,
	  .mains = { shared_unlinking, shared_unlinking, unlinking }, FEW(3) },
	{ .name = "unlink_and_a_crash", .mains = { unlinking, unlinking },
	  .sleeps_ms = 100, .crashes = 1 },
	{ .name = "unlinked_by_another", PROMPT, .mains = { exclusive, exclusive, remove_file },
	  .strangers = 1 << 2, .meddled = true, .files_stay = true },
	{ .name = "renamed_by_another", PROMPT, .mains = { exclusive, exclusive, rename_file },
	  .meddled = true, .files_stay = true },
	{ .name = "replaced_by_another", PROMPT,
	  .mains = { exclusive, exclusive, replace_file }, .meddled = true,
	  .files_stay = true },
	{ .name = "replaced_under_a_remover", PROMPT,
	  .mains = { unlinking, unlinking, replace_file }, .meddled = true,
	  .files_stay = true, FEW(3) },
	/* an unlocked descriptor stays open: nobody hears of a release but by being registered */
	{ .name = "warm_and_a_waiter", PROMPT, .mains = { warm, exclusive }, .stay = 1 },
	{ .name = "warm_twice_and_a_waiter", .mains = { warm_twice, exclusive }, PROMPT,
	  .sleeps_ms = 1, .stay = 1 },
	{ .name = "two_warm_twice", PROMPT, .mains = { warm_twice, warm_twice }, .sleeps_ms = 1,
	  .stay = 1 },
	{ .name = "three_warm", PROMPT, .mains = { warm, warm, warm }, .stay = 1, FEW(3) },
	{ .name = "warm_readers_and_a_writer", .mains = { warm_shared, warm_shared, exclusive },
	  PROMPT, .stay = 1, FEW(3) },
	{ .name = "warm_and_closing", PROMPT, .mains = { warm_closing, warm, closing }, .stay = 1,
	  FEW(2) },
	{ .name = "warm_without_notices", .mains = { warm_twice, warm }, .before = sim_set_sealed,
	  PROMPT, .sleeps_ms = 1, .stay = 1 },
	{ .name = "warm_and_a_crash", .mains = { warm_twice, warm }, .sleeps_ms = 100,
	  .crashes = 1, .stay = 1 },
	{ .name = "warm_and_a_crash_of_three", .mains = { warm, exclusive, warm },
	  .sleeps_ms = 100, .crashes = 1, .stay = 1, FEW(2) },
	{ .name = "warm_and_hurried", PROMPT, .mains = { warm_hurried, warm_twice }, .stalls = 2,
	  .sleeps_ms = 1, .stay = 1 },
	{ .name = "warm_and_removed", PROMPT, .mains = { warm_twice, exclusive, remove_file },
	  .strangers = 1 << 2, .meddled = true, .files_stay = true, .sleeps_ms = 1, .stay = 1, FEW(3) },
	{ .name = "warm_and_replaced", PROMPT, .mains = { warm_twice, exclusive, replace_file },
	  .meddled = true, .files_stay = true, .sleeps_ms = 1, .stay = 1, FEW(3) },
	{ .name = "warm_and_unlinking", PROMPT, .mains = { warm_twice, unlinking }, .sleeps_ms = 1,
	  .stay = 1, .files_stay = true },
	{ .name = "warm_beside_record_locks", .mains = { warm, polling, recording },
	  .sleeps_ms = 1000, .strangers = 1 << 2, .stay = 1, FEW(3) },
	{ .name = "hurried_while_others_stall", PROMPT, .mains = { hurried, exclusive },
	  .stalls = 2 },
	{ .name = "hurried_and_a_crash", .mains = { hurried, exclusive },
	  .sleeps_ms = 200, .crashes = 1, .stalls = 1 },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
