/* Many processes, both modes: a witness in shared memory and interval logs see no overlap. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "support.h"

enum { PROCESSES = 4 };

static struct storm {
	struct witness witness;
	unsigned rounds;
} *storm;
static struct interval_log *log_;

static void set_up(unsigned rounds)
{
	storm = test_shared(sizeof(*storm));
	storm->rounds = test_rounds(rounds);
	log_ = interval_log_new((size_t)PROCESSES * storm->rounds);
	(void)test_folder();
}

static void stay(struct filelock *lock, enum filelock_mode mode, unsigned who)
{
	struct interval interval = { .who = who, .mode = mode, .begin = test_now() };

	(void)lock;
	if (mode == FILELOCK_SHARED) {
		witness_enter_shared(&storm->witness);
		witness_leave_shared(&storm->witness);
	} else {
		witness_enter(&storm->witness, who);
		witness_leave(&storm->witness, who);
	}
	interval.end = test_now();
	interval_log_add(log_, interval);
}

static int take_turns(void *arg)
{
	unsigned who = (unsigned)(size_t)arg, seed = who;
	struct filelock *lock = test_open(test_path("lock"), NULL);

	for (unsigned i = 0; i < storm->rounds; i++) {
		enum filelock_mode mode =
		        rand_r(&seed) % 3 ? FILELOCK_EXCLUSIVE : FILELOCK_SHARED;

		if (filelock_acquire(lock, mode, -1) < 0)
			return 1;
		stay(lock, mode, who);
		if (filelock_release(lock) < 0)
			return 2;
	}
	filelock_close(lock);
	return 0;
}

/* shows: never-two */
START_TEST(test_processes_of_both_modes_never_overlap)
{
	if (test_is_without_shared())
		return;
	pid_t pids[PROCESSES];

	set_up(3000);
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns, (void *)(i + 1));
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
	ck_assert_uint_eq(storm->witness.entries, PROCESSES * storm->rounds);
	ck_assert_uint_eq(interval_log_overlaps(log_), 0);
}
END_TEST

/* Each keeps its shared hold until all are seen inside: else the test proves nothing. */
static int read_together(void *arg)
{
	struct filelock *lock = test_open(test_path("lock"), NULL);

	(void)arg;
	if (filelock_acquire(lock, FILELOCK_SHARED, -1) < 0)
		return 1;
	witness_enter_shared(&storm->witness);
	await(storm->witness.most_readers == PROCESSES);
	witness_leave_shared(&storm->witness);
	return filelock_release(lock) < 0;
}

/* shows: shared-together */
START_TEST(test_shared_holders_of_several_processes_are_seen_overlapping)
{
	if (test_is_without_shared())
		return;
	pid_t pids[PROCESSES];

	set_up(1);
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(read_together, NULL);
	for (size_t i = 0; i < PROCESSES; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(storm->witness.most_readers, PROCESSES);
	ck_assert_uint_eq(storm->witness.overlaps, 0);
}
END_TEST

/* No assertion here: a kill in the midst of one would leave half a message to Check. */
static int take_turns_for_ever(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	unsigned who = (unsigned)(size_t)arg;
	struct filelock *lock;

	options.poll_interval_ms = 3600000;
	if (test_try_open(test_path("lock"), &options, &lock) < 0)
		return 2;
	while (filelock_acquire(lock, FILELOCK_EXCLUSIVE, -1) == 0) {
		witness_enter(&storm->witness, who);
		witness_leave(&storm->witness, who);
		if (filelock_release(lock) < 0)
			break;
	}
	return 1;
}

/* Killed at any moment, by the hundred: the others go on, and nobody overlaps. */
/* shows: killed-holder-frees */
START_TEST(test_random_kills_free_the_lock_and_nothing_else)
{
	unsigned kills = test_rounds(300), seed = 1;
	pid_t pids[PROCESSES];

	set_up(1);
	for (size_t i = 0; i < PROCESSES; i++)
		pids[i] = test_fork(take_turns_for_ever, (void *)(i + 1));
	for (unsigned i = 0; i < kills; i++) {
		size_t victim = (size_t)rand_r(&seed) % PROCESSES;
		unsigned entries = storm->witness.entries;
		unsigned who = (unsigned)victim + 1;

		await(storm->witness.entries > entries + (unsigned)rand_r(&seed) % 50);
		storm->witness.victims[who] = true;
		ck_assert_int_eq(kill(pids[victim], SIGKILL), 0);
		ck_assert_int_eq(test_reap(pids[victim]), 128 + SIGKILL);
		entries = storm->witness.entries;
		await(storm->witness.entries > entries + PROCESSES); /* its traces are gone */
		storm->witness.victims[who] = false;
		pids[victim] = test_fork(take_turns_for_ever, (void *)(victim + 1));
	}
	for (size_t i = 0; i < PROCESSES; i++) {
		storm->witness.victims[i + 1] = true;
		kill(pids[i], SIGKILL);
		test_reap(pids[i]);
	}
	ck_assert_uint_eq(storm->witness.overlaps, 0);
}
END_TEST

int main(void)
{
	return support_main(
	        SUITE("exclusion", test_processes_of_both_modes_never_overlap,
	              test_shared_holders_of_several_processes_are_seen_overlapping,
	              test_random_kills_free_the_lock_and_nothing_else));
}
