/* More requests than there are descriptors or watches: some only poll, nobody fails. */
#include <errno.h>
#include <stdio.h>

#include "handle.h"
#include "loop.h"
#include "inotify.h"

#define PATHS 24
#define FEW 5

static unsigned *position; /* in test_shared memory, made before the peer */

static const char *name_of(unsigned i)
{
	static char name[8];

	(void)snprintf(name, sizeof(name), "p%u", i);
	return name;
}

/* In the peer: takes all paths, and gives one back. */
static struct filelock *taken[PATHS];

static int take_all(void *arg)
{
	(void)arg;
	for (unsigned i = 0; i < PATHS; i++)
		taken[i] = hold(name_of(i), FILELOCK_EXCLUSIVE);
	return 0;
}

static int give_back(void *arg)
{
	const unsigned *i = arg;

	filelock_close(taken[*i]);
	return 0;
}

static void start_holding_all(struct peer *peer)
{
	(void)test_folder();
	position = test_shared(sizeof(*position));
	peer_start(peer);
	ck_assert_int_eq(peer_call(peer, take_all, NULL), 0);
}

/* A request for each path that the peer holds; then every one of them has been tried. */
static void ask_for_all(struct loop *loop, struct asked *asked)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	options.poll_interval_ms = 5;
	for (unsigned i = 0; i < PATHS; i++) {
		asked[i].lock = test_open(test_path(name_of(i)), &options);
		loop_ask(loop, &asked[i], FILELOCK_EXCLUSIVE, -1);
	}
	do {
		loop_for(loop, 20);
		ck_assert_int_eq(evfilelock_get_stats(loop->ev, &stats), 0);
	} while (stats.attempts < 5 * PATHS);
	ck_assert_uint_eq(loop_answers, 0);
}

/* The peer gives back one path after another; whoever waited for it is granted. */
static void grant_all(struct loop *loop, struct asked *asked, struct peer *peer)
{
	/* older than the order, and shared: the peer reads it */
	unsigned *i = position;

	for (*i = 0; *i < PATHS; ++*i) {
		ck_assert_uint_eq(asked[*i].calls, 0);
		ck_assert_int_eq(peer_call(peer, give_back, i), 0);
		loop_until(loop, &asked[*i].calls, 1);
		ck_assert_int_eq(asked[*i].result, 0);
		filelock_close(asked[*i].lock);
	}
}

static unsigned keepers(const struct asked *asked)
{
	unsigned count = 0;

	for (unsigned i = 0; i < PATHS; i++)
		count += asked[i].calls == 0 && !filelock_is_poll_only(asked[i].lock);
	return count;
}

/* shows: limits */
START_TEST(test_waiting_requests_keep_no_more_descriptors_than_was_set)
{
	struct asked asked[PATHS] = { 0 };
	struct peer peer;
	struct loop loop;
	unsigned before;

	if (test_is_not_native())
		return;
	start_holding_all(&peer);
	loop = loop_with_fds(FEW);
	before = test_descriptors();
	ask_for_all(&loop, asked);
	/* and those of the context: inotify, a timer */
	ck_assert_uint_le(test_descriptors(), before + FEW + 2);
	ck_assert_uint_eq(keepers(asked), FEW);
	ck_assert_uint_eq(test_watches(), FEW);
	grant_all(&loop, asked, &peer);
	loop_free(&loop);
	peer_stop(&peer);
}
END_TEST

START_TEST(test_who_polls_keeps_a_descriptor_when_another_has_finished)
{
	struct asked asked[PATHS] = { 0 };
	struct peer peer;
	struct loop loop;

	start_holding_all(&peer);
	loop = loop_with_fds(1);
	ask_for_all(&loop, asked);
	for (unsigned i = 0; i + 1 < PATHS; i++) {
		for (unsigned n = 0; n < PATHS; n++)
			if (asked[n].calls == 0 && !filelock_is_poll_only(asked[n].lock))
				ask_cancel(&asked[n]);
		loop_until(&loop, &loop_answers, i + 1);
		while (keepers(asked) == 0)
			ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
		ck_assert_uint_eq(keepers(asked), 1);
	}
	loop_free(&loop);
	for (unsigned n = 0; n < PATHS; n++)
		filelock_close(asked[n].lock);
	peer_stop(&peer);
}
END_TEST

/* shows: limits */
START_TEST(test_running_out_of_descriptors_fails_no_request_that_waits)
{
	struct asked asked[PATHS] = { 0 };
	struct rlimit limit;
	struct peer peer;
	struct loop loop;

	start_holding_all(&peer);
	loop = loop_new();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	/* with what the context itself needs, made by a first request */
	asked[0].lock = open_patient(name_of(0));
	loop_ask(&loop, &asked[0], FILELOCK_EXCLUSIVE, 10);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), -ETIMEDOUT);
	filelock_close(asked[0].lock);
	asked[0] = (struct asked){ 0 };
	loop_answers = 0;
	limit.rlim_cur = test_descriptors() + 2 * FEW;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ask_for_all(&loop, asked);
	grant_all(&loop, asked, &peer);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	loop_free(&loop);
	peer_stop(&peer);
}
END_TEST

/* shows: limits */
START_TEST(test_alone_a_request_without_a_descriptor_fails_at_once)
{
	struct asked asked = { .lock = open_patient("a") };
	struct loop loop = loop_new();

	struct rlimit limit, before;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 3; /* those that are open stay open */
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, 60000);
	ck_assert_int_eq(loop_answer(&loop, &asked), -EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0); /* for who looks for leaks */
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_request_that_kept_a_descriptor_outlives_a_want_of_its_own)
{
	struct asked asked = { 0 };
	struct filelock *holder;
	struct loop loop;

	if (test_is_not_native())
		return;
	asked.lock = open_patient("a");
	holder = hold("a", FILELOCK_EXCLUSIVE);
	loop = loop_new();
	fault_watch();
	loop_ask(&loop, &asked, FILELOCK_EXCLUSIVE, -1);
	while (fault_calls(FAULT_inotify_add_watch) == 0)
		loop_turn(&loop);
	loop_for(&loop, 5);
	fault_set(FAULT_open, 1, FAULT_ONCE, EMFILE);
	/* it gives its own back, and opens the file that stands there now */
	ck_assert_int_eq(rename(test_path("a"), test_path("away")), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_uint_eq(fault_hits(FAULT_open), 1);
	ck_assert_int_eq(filelock_verify(asked.lock), 0);
	filelock_close(asked.lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

/* shows: limits poll-stays */
START_TEST(test_without_watches_requests_poll_and_get_one_later)
{
	struct asked asked[PATHS] = { 0 };
	struct peer peer;
	struct loop loop;

	if (test_is_not_native())
		return;
	start_holding_all(&peer);
	loop = loop_new();
	fault_set(FAULT_inotify_add_watch, FEW + 1, FAULT_FOR_GOOD, ENOSPC);
	ask_for_all(&loop, asked);
	ck_assert_uint_eq(test_watches(), FEW);
	fault_clear();
	while (test_watches() < PATHS)
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	grant_all(&loop, asked, &peer);
	loop_free(&loop);
	peer_stop(&peer);
}
END_TEST

static int64_t default_interval(size_t waiting)
{
	struct filelock_watcher *watcher;
	struct filelock_driver driver = { 0 };
	struct filelock *holder = hold("a", FILELOCK_EXCLUSIVE);
	struct filelock *lock = test_open(test_path("a"), NULL);
	int64_t now = 1000 * SECONDS, until = 0;

	ck_assert_int_eq(filelock_watcher_new(&watcher), 0);
	(void)inotify_count(watcher, (int)waiting - 1);
	driver.watcher = watcher;
	ck_assert_int_eq(filelock_begin(lock, FILELOCK_EXCLUSIVE, FILELOCK_NEVER, &driver,
	                                NULL), 0);
	filelock_set_poll_only(lock, true);
	ck_assert_int_eq(filelock_step(lock, now, &until), FILELOCK_STEP_WAIT);
	ck_assert_int_eq(filelock_give_up(lock, -ECANCELED), -ECANCELED);
	ck_assert_uint_eq(inotify_count(watcher, 0), waiting - 1);
	filelock_close(lock);
	filelock_close(holder);
	filelock_watcher_free(watcher);
	return until - now;
}

/* Whether so many make about 1,000 attempts a second. */
static void check_load(size_t waiting)
{
	int64_t interval = default_interval(waiting);

	ck_assert_int_ge(interval, (int64_t)waiting * MILLISECONDS / 8 * 7);
	ck_assert_int_le(interval, (int64_t)waiting * MILLISECONDS + 20 * MILLISECONDS);
}

/* shows: limits */
START_TEST(test_polls_are_about_a_thousand_a_second_however_many_wait)
{
	ck_assert_int_le(default_interval(50), 50 * MILLISECONDS);
	check_load(100);
	check_load(1000);
	check_load(50000);
	ck_assert_int_le(default_interval(1000000), 60 * SECONDS + 20 * MILLISECONDS);
}
END_TEST

/* The limit is small only while the context is made. */
START_TEST(test_by_default_three_quarters_of_the_allowed_descriptors_are_kept)
{
	struct asked asked[PATHS] = { 0 };
	struct rlimit limit, before;
	struct peer peer;
	struct loop loop;

	start_holding_all(&peer);
	loop.base = event_base_new();
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	limit = before;
	limit.rlim_cur = 16;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	loop.ev = evfilelock_new(loop.base, NULL);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	ck_assert_ptr_nonnull(loop.ev);
	ask_for_all(&loop, asked);
	ck_assert_uint_eq(keepers(asked), 12);
	grant_all(&loop, asked, &peer);
	loop_free(&loop);
	peer_stop(&peer);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "limits", test_waiting_requests_keep_no_more_descriptors_than_was_set,
	        test_who_polls_keeps_a_descriptor_when_another_has_finished,
	        test_running_out_of_descriptors_fails_no_request_that_waits,
	        test_alone_a_request_without_a_descriptor_fails_at_once,
	        test_request_that_kept_a_descriptor_outlives_a_want_of_its_own,
	        test_without_watches_requests_poll_and_get_one_later,
	        test_polls_are_about_a_thousand_a_second_however_many_wait,
	        test_by_default_three_quarters_of_the_allowed_descriptors_are_kept));
}
