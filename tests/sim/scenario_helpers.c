/*
 * scenario_helpers.c - threads that wait in flock(2): grants, cancels, orphans, grants that are given
 * back.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>

#include "actors.h"

#define MILLISECOND INT64_C(1000000)
#define EX FILELOCK_EXCLUSIVE

ACTOR(watching, .kind = FILELOCK_NATIVE)
ACTOR(slow, .kind = FILELOCK_NATIVE, .holds_ms = 1000)

/* Who waits through a helper. */
struct owner {
	const struct library *lib;
	struct blocked *wait;
	int fd, bell;
	bool ended; /* and has no use for notices */
	struct identity identity;
};

static struct owner owners[SIM_PROCESSES];

static struct helpers_bell *on_notice(void *arg)
{
	static const uint64_t one = 1;
	const struct owner *owner = arg;

	CLAIM_EQUAL(owner->ended, false);
	(void)sim_calls.write(owner->bell, &one, sizeof(one));
	return NULL;
}

static void open_file(struct owner *owner)
{
	struct stat st;

	owner->fd = sim_calls.open(LOCK_PATH, O_RDWR | O_CREAT, 0666);
	(void)sim_calls.fstat(owner->fd, &st);
	owner->identity = (struct identity){ st.st_dev, st.st_ino };
}

static struct owner *begin(const struct library *lib, unsigned self)
{
	struct owner *owner = &owners[self];

	*owner = (struct owner){ .lib = lib, .bell = sim_calls.eventfd(0, 0) };
	open_file(owner);
	return owner;
}

static void submit(struct owner *owner)
{
	CLAIM_EQUAL(owner->lib->submit(owner->fd, owner->identity, EX, on_notice, owner,
	                               &owner->wait), 0);
}

static void sleep_ms(int64_t ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * MILLISECOND };

	(void)sim_calls.nanosleep(&time, NULL);
}

static void hear(struct owner *owner)
{
	struct pollfd bell = { owner->bell, POLLIN, 0 };
	uint64_t count;

	CLAIM_EQUAL(sim_calls.ppoll(&bell, 1, NULL, NULL), 1);
	(void)sim_calls.read(owner->bell, &count, sizeof(count));
}

/* With the lock, and then without it. */
static void use(struct owner *owner)
{
	struct stat st;

	(void)sim_calls.lstat(LOCK_PATH, &st);
	enter(EX);
	pause_here("inside");
	leave();
	(void)sim_calls.flock(owner->fd, LOCK_UN);
	(void)sim_calls.close(owner->fd);
}

/* After busy_ms, until it is had. */
static void wait_and_use(struct owner *owner, int64_t busy_ms)
{
	int r;

	for (;;) {
		hear(owner);
		if (busy_ms)
			sleep_ms(busy_ms);
		r = owner->lib->take(owner->wait, &owner->fd);
		if (r == 0)
			break;
		if (r == -EINPROGRESS) /* it was the notice of a wait that was cancelled */
			continue;
		CLAIM_EQUAL(r, -EAGAIN);
		busy_ms = 0;
		open_file(owner);
		submit(owner);
	}
	use(owner);
	(void)sim_calls.close(owner->bell);
}

static void helped(const struct library *lib, unsigned self)
{
	struct owner *owner = begin(lib, self);

	submit(owner);
	wait_and_use(owner, 0);
}

/* Its loop does something else when the grant comes. */
static void busy(const struct library *lib, unsigned self)
{
	struct owner *owner = begin(lib, self);

	submit(owner);
	wait_and_use(owner, 50);
}

/* Its loop never runs again; the descriptor is closed all the same. */
static void absent(const struct library *lib, unsigned self)
{
	struct owner *owner = begin(lib, self);
	struct stat st;

	submit(owner);
	hear(owner);
	sleep_ms(50);
	CLAIM_EQUAL(sim_calls.fstat(owner->fd, &st), -1);
	(void)sim_calls.close(owner->bell);
}

static void cancelling(const struct library *lib, unsigned self)
{
	struct owner *owner = begin(lib, self);

	submit(owner);
	pause_here("before the cancel");
	lib->cancel(owner->wait, false);
	owner->ended = true;
	(void)sim_calls.close(owner->bell);
}

/* The orphan leaves the queue though the lock is held. */
static void leaving(const struct library *lib, unsigned self)
{
	struct owner *owner = begin(lib, self);

	submit(owner);
	pause_here("before the cancel");
	lib->cancel(owner->wait, false);
	(void)sim_calls.close(owner->bell);
	sleep_ms(200);
	CLAIM_EQUAL(sim_wait_count(self), 0);
}

/* Cancels, and asks again, whether the orphan is there yet or not. */
static void adopting(const struct library *lib, unsigned self)
{
	struct owner *owner = begin(lib, self);

	submit(owner);
	pause_here("before the cancel");
	lib->cancel(owner->wait, false);
	pause_here("before the adoption");
	if (!lib->adopt(owner->identity, EX, on_notice, owner, &owner->wait)) {
		open_file(owner);
		submit(owner);
	}
	wait_and_use(owner, 0);
}

#define FEW(n) .preempt_few = true, .preemptions = (n)
/* Helpers that are idle sleep, and end; orphans do. Who is not woken sleeps for ever. */
#define SLEEPS .sleeps_ms = 5000

static const struct scenario scenarios[] = {
	{ .name = "two_helped", .mains = { helped, helped }, SLEEPS, FEW(3) },
	{ .name = "helped_beside_a_watcher", .mains = { helped, watching }, SLEEPS, FEW(3) },
	{ .name = "three_helped", .mains = { helped, helped, helped }, SLEEPS, FEW(1) },
	{ .name = "helped_and_a_crash", .mains = { helped, helped }, SLEEPS, .crashes = 1,
	  FEW(2) },
	{ .name = "grant_that_is_given_back", .mains = { busy, watching }, SLEEPS, FEW(3) },
	{ .name = "grant_that_nobody_takes", .mains = { absent, watching, watching }, SLEEPS,
	  FEW(2) },
	{ .name = "grant_given_back_among_helped", .mains = { busy, helped, watching }, SLEEPS,
	  FEW(1) },
	{ .name = "cancelled_at_any_moment", .mains = { cancelling, watching }, SLEEPS, FEW(3) },
	{ .name = "cancelled_beside_a_long_hold", .mains = { leaving, slow }, SLEEPS, FEW(2) },
	{ .name = "cancelled_and_asked_again", .mains = { adopting, helped }, SLEEPS, FEW(2) },
	{ .name = "cancelled_while_others_stall", .mains = { adopting, watching }, SLEEPS,
	  .stalls = 1, FEW(1) },
	{ .name = "orphan_aborted_when_granted", .mains = { cancelling, watching }, SLEEPS,
	  .stalls = 1, FEW(2) },
	{ .name = "orphan_and_a_crash", .mains = { cancelling, helped }, SLEEPS, .crashes = 1,
	  FEW(2) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
