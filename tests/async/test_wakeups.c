/* Woken by what happens elsewhere, with a safety poll that comes too late for any test. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

/* A waiter in a loop for what a peer holds. */
struct watch {
	struct peer peer;
	struct loop loop;
	struct asked asked;
};

static void watch_begin(struct watch *watch)
{
	*watch = (struct watch){ 0 };
	peer_start_holding(&watch->peer, test_path("a"), EXCLUSIVE);
	watch->loop = loop_new();
	watch->asked.lock = open_patient("a");
	loop_ask(&watch->loop, &watch->asked, EXCLUSIVE, -1);
	loop_for(&watch->loop, 5);
	ck_assert_uint_eq(watch->asked.calls, 0);
}

static void watch_end(struct watch *watch)
{
	filelock_close(watch->asked.lock);
	loop_free(&watch->loop);
}

START_TEST(test_release_elsewhere_wakes)
{
	struct watch watch;

	watch_begin(&watch);
	ck_assert_int_eq(peer_release(&watch.peer), 0);
	ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), 0);
	peer_stop(&watch.peer);
	watch_end(&watch);
}
END_TEST

START_TEST(test_killed_holder_wakes)
{
	for (unsigned i = test_rounds(20); i > 0; i--) {
		struct watch watch;

		watch_begin(&watch);
		peer_kill(&watch.peer, SIGKILL);
		ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), 0);
		watch_end(&watch);
	}
}
END_TEST

static int flock_fd = -1; /* the peer's */

static int take_by_flock(void *arg)
{
	flock_fd = open(arg, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
	return flock_fd < 0 || flock(flock_fd, LOCK_EX) < 0 ? -errno : 0;
}

static int drop_by_close(void *arg)
{
	(void)arg;
	return close(flock_fd);
}

/* As flock(1): opened for reading, never unlocked, only closed. */
START_TEST(test_plain_close_of_a_read_only_descriptor_wakes)
{
	struct peer peer;
	struct loop loop;
	struct asked asked = { 0 };
	char *path = test_shared(512);

	(void)snprintf(path, 512, "%s", test_path("a"));
	peer_start(&peer);
	ck_assert_int_eq(peer_call(&peer, take_by_flock, path), 0);
	loop = loop_new();
	asked.lock = open_patient("a");
	for (unsigned i = test_rounds(500); i > 0; i--) {
		loop_ask(&loop, &asked, EXCLUSIVE, -1);
		loop_turn(&loop);
		peer_order(&peer, drop_by_close, NULL);
		ck_assert_int_eq(loop_answer(&loop, &asked), 0);
		ck_assert_int_eq(peer_answer(&peer), 0);
		ck_assert_int_eq(filelock_release(asked.lock), 0);
		ck_assert_int_eq(peer_call(&peer, take_by_flock, path), 0);
	}
	peer_stop(&peer);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

static void unlock_quietly(void *arg)
{
	ck_assert_int_eq(flock(*(int *)arg, LOCK_UN), 0);
}

/* On a plain close the kernel tells first and unlocks afterwards. A waiter that begins to watch
   in between sees no event, and still finds the lock held. */
/* shows: early-event */
START_TEST(test_lock_dropped_after_the_event_that_nobody_saw_is_found_soon)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");
	int fd = open(test_path("a"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	/* it looks at the path after an attempt: among others, the one that follows its watch */
	fault_before(FAULT_lstat, (unsigned)_i, unlock_quietly, &fd);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(fault_hits(FAULT_lstat), 1);
	ck_assert_int_eq(close(fd), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_unlinked_lock_file_wakes_and_its_successor_is_locked)
{
	struct watch watch;

	watch_begin(&watch);
	ck_assert_int_eq(unlink(test_path("a")), 0);
	ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), 0);
	ck_assert_int_eq(filelock_verify(watch.asked.lock), 0);
	ck_assert(!is_free("a"));
	ck_assert_int_eq(peer_release(&watch.peer), 0);
	peer_stop(&watch.peer);
	ck_assert_int_eq(filelock_verify(watch.asked.lock), 0);
	watch_end(&watch);
}
END_TEST

START_TEST(test_renamed_lock_file_wakes_and_its_successor_is_locked)
{
	struct watch watch;

	watch_begin(&watch);
	ck_assert_int_eq(rename(test_path("a"), test_path("b")), 0);
	ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), 0);
	ck_assert_int_eq(filelock_verify(watch.asked.lock), 0);
	ck_assert(!is_free("b"));
	peer_stop(&watch.peer);
	watch_end(&watch);
}
END_TEST

/* shows: changed-before-grant */
START_TEST(test_replaced_lock_file_wakes_and_its_successor_is_locked)
{
	struct watch watch;

	watch_begin(&watch);
	test_write_file(test_path("b"), "new");
	ck_assert_int_eq(rename(test_path("b"), test_path("a")), 0);
	ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), 0);
	ck_assert_int_eq(filelock_verify(watch.asked.lock), 0);
	peer_stop(&watch.peer);
	watch_end(&watch);
}
END_TEST

START_TEST(test_successor_held_by_another_is_waited_for)
{
	struct watch watch;
	struct filelock *holder;

	watch_begin(&watch);
	holder = hold("b", EXCLUSIVE);
	ck_assert_int_eq(rename(test_path("b"), test_path("a")), 0);
	loop_for(&watch.loop, 20);
	ck_assert_uint_eq(watch.asked.calls, 0);
	peer_stop(&watch.peer); /* the old one's holder no longer matters */
	loop_for(&watch.loop, 20);
	ck_assert_uint_eq(watch.asked.calls, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), 0);
	watch_end(&watch);
}
END_TEST

START_TEST(test_link_put_in_place_of_the_lock_file_is_an_error)
{
	struct watch watch;

	watch_begin(&watch);
	ck_assert_int_eq(symlink("elsewhere", test_path("b")), 0);
	ck_assert_int_eq(rename(test_path("b"), test_path("a")), 0);
	ck_assert_int_eq(loop_answer(&watch.loop, &watch.asked), -ELOOP);
	peer_stop(&watch.peer);
	watch_end(&watch);
}
END_TEST

START_TEST(test_renamed_folder_is_found_by_the_safety_poll)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct loop loop = loop_new();
	struct filelock *holder = hold("folder/a", EXCLUSIVE);
	struct asked asked = { 0 };

	options.poll_interval_ms = 10;
	asked.lock = test_open(test_path("folder/a"), &options);
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ck_assert_int_eq(rename(test_path("folder"), test_path("gone")), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_int_eq(filelock_verify(asked.lock), 0);
	ck_assert_int_eq(filelock_verify(holder), FILELOCK_ELOST);
	filelock_close(holder);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* Through another name of the inode there is one kernel watch for two subscriptions. */
START_TEST(test_hard_links_in_one_loop_are_woken_both)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked[2] = { { .lock = open_patient("a") }, { .lock = open_patient("b") } };

	ck_assert_int_eq(link(test_path("a"), test_path("b")), 0);
	for (unsigned i = 0; i < 2; i++)
		loop_ask(&loop, &asked[i], FILELOCK_SHARED, -1);
	loop_for(&loop, 5);
	ck_assert_uint_eq(test_watches(), 1);
	filelock_close(holder);
	loop_drain(&loop);
	ck_assert_int_eq(asked[0].result | asked[1].result, 0);
	for (unsigned i = 0; i < 2; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_one_hard_links_answer_leaves_the_others_watch)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked first = { .lock = open_patient("a") };
	struct asked second = { .lock = open_patient("b") };

	ck_assert_int_eq(link(test_path("a"), test_path("b")), 0);
	loop_ask(&loop, &first, EXCLUSIVE, -1);
	loop_ask(&loop, &second, EXCLUSIVE, -1);
	loop_for(&loop, 5);
	ask_cancel(&first);
	ck_assert_int_eq(loop_answer(&loop, &first), -ECANCELED);
	loop_for(&loop, 5);
	ck_assert_uint_eq(test_watches(), 1);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &second), 0);
	filelock_close(first.lock);
	filelock_close(second.lock);
	loop_free(&loop);
}
END_TEST

/* Processes that pass one lock round, each waiting in a loop of its own. */
struct round {
	struct witness witness;
	_Atomic int64_t longest; /* ns from a release to the next grant */
	_Atomic int64_t released_at;
	unsigned turns;
	char path[512];
};

struct racer {
	struct round *round;
	struct loop loop;
	struct asked asked;
	unsigned who, left;
};

static void race_on(struct asked *asked)
{
	struct racer *racer = asked->arg;
	struct round *round = racer->round;
	int64_t passed = test_now() - round->released_at;

	if (asked->result < 0)
		_exit(2);
	if (round->released_at && passed > round->longest)
		round->longest = passed;
	witness_enter(&round->witness, racer->who);
	witness_leave(&round->witness, racer->who);
	round->released_at = test_now();
	if (filelock_release(asked->lock) < 0)
		_exit(3);
	if (--racer->left > 0 && loop_try_ask(&racer->loop, asked, EXCLUSIVE, -1) < 0)
		_exit(4);
}

static int race(void *arg)
{
	struct round *round = arg;
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct racer racer = { .round = round, .left = round->turns };

	racer.who = (unsigned)getpid() % 254 + 1;
	racer.loop = loop_new();
	options.poll_interval_ms = PATIENT_MS;
	racer.asked.lock = test_open(round->path, &options);
	racer.asked.then = race_on;
	racer.asked.arg = &racer;
	loop_ask(&racer.loop, &racer.asked, EXCLUSIVE, -1);
	if (event_base_dispatch(racer.loop.base) != 1)
		return 5;
	filelock_close(racer.asked.lock);
	loop_free(&racer.loop);
	return 0;
}

/* A lost wake-up would make somebody wait for the poll, a minute. */
static void hand_over(unsigned processes)
{
	struct round *round = test_shared(sizeof(*round));
	pid_t pids[8];

	round->turns = test_rounds(4000) / processes + 1;
	(void)snprintf(round->path, sizeof(round->path), "%s", test_path("a"));
	for (unsigned i = 0; i < processes; i++)
		pids[i] = test_fork(race, round);
	for (unsigned i = 0; i < processes; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(round->witness.overlaps, 0);
	ck_assert_uint_eq(round->witness.entries, processes * round->turns);
	ck_assert_int_lt(round->longest, PATIENT_MS / 2 * MILLISECONDS);
}

START_TEST(test_no_wake_up_is_lost_between_two_processes)
{
	hand_over(2);
}
END_TEST

START_TEST(test_no_wake_up_is_lost_between_three_processes)
{
	hand_over(3);
}
END_TEST

/* shows: release-wakes */
START_TEST(test_no_wake_up_is_lost_between_four_processes)
{
	hand_over(4);
}
END_TEST

int main(void)
{
	Suite *suite = SUITE("async wake-ups", test_release_elsewhere_wakes,
	                     test_killed_holder_wakes,
	                     test_plain_close_of_a_read_only_descriptor_wakes,
	                     test_unlinked_lock_file_wakes_and_its_successor_is_locked,
	                     test_renamed_lock_file_wakes_and_its_successor_is_locked,
	                     test_replaced_lock_file_wakes_and_its_successor_is_locked,
	                     test_successor_held_by_another_is_waited_for,
	                     test_link_put_in_place_of_the_lock_file_is_an_error,
	                     test_renamed_folder_is_found_by_the_safety_poll,
	                     test_hard_links_in_one_loop_are_woken_both,
	                     test_one_hard_links_answer_leaves_the_others_watch);
	TCase *many = tcase_create("hand-overs");

	tcase_add_test(many, test_no_wake_up_is_lost_between_two_processes);
	tcase_add_test(many, test_no_wake_up_is_lost_between_three_processes);
	tcase_add_test(many, test_no_wake_up_is_lost_between_four_processes);
	tcase_add_loop_test(many, test_lock_dropped_after_the_event_that_nobody_saw_is_found_soon,
	                    1, 6);
	suite_add_tcase(suite, many);
	return support_main(suite);
}
