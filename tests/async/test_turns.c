/* Rule 6 of event.h: the caller's other events go on while thousands of requests complete. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define MOST_A_TURN 256

static void release_own(struct asked *asked)
{
	if (filelock_release(asked->lock) < 0)
		ck_abort_msg("%s", filelock_last_error(asked->lock));
}

/* Counts the completions of each turn. */
struct census {
	struct event *event;
	int fds[2];
	unsigned turns, seen, most;
};

static void count_completions(evutil_socket_t fd, short what, void *arg)
{
	struct census *census = arg;
	unsigned completed = loop_answers - census->seen;

	(void)fd;
	(void)what;
	census->seen = loop_answers;
	census->turns++;
	if (completed > census->most)
		census->most = completed;
}

static void census_begin(struct census *census, struct event_base *base)
{
	*census = (struct census){ .seen = loop_answers };
	ck_assert_int_eq(pipe(census->fds), 0);
	ck_assert_int_eq(write(census->fds[1], "", 1), 1);
	census->event = event_new(base, census->fds[0], EV_READ | EV_PERSIST,
	                          count_completions, census);
	ck_assert_int_eq(event_add(census->event, NULL), 0);
}

static void census_end(struct census *census)
{
	event_free(census->event);
	close(census->fds[0]);
	close(census->fds[1]);
}

enum { MANY = 2000 };
static struct asked many[MANY];

static void ask_many(struct loop *loop, bool one_path, void (*then)(struct asked *asked))
{
	char name[16];

	for (unsigned i = 0; i < MANY; i++) {
		(void)snprintf(name, sizeof(name), "%u", one_path ? 0 : i);
		many[i] = (struct asked){ .lock = open_patient(name), .then = then };
		loop_ask(loop, &many[i], EXCLUSIVE, -1);
	}
}

static void check_census(bool one_path, bool cancel)
{
	struct loop loop = loop_new();
	struct census census;

	ask_many(&loop, one_path, cancel ? NULL : release_own);
	for (unsigned i = 0; cancel && i < MANY; i++)
		ask_cancel(&many[i]);
	census_begin(&census, loop.base);
	loop_until(&loop, &loop_answers, MANY);
	loop_until(&loop, &census.turns, census.turns + 2);
	ck_assert_uint_le(census.most, MOST_A_TURN);
	ck_assert_uint_ge(census.turns, MANY / MOST_A_TURN);
	census_end(&census);
	loop_drain(&loop);
	for (unsigned i = 0; i < MANY; i++) {
		if (many[i].calls != 1 || many[i].result != (cancel ? -ECANCELED : 0))
			ck_abort_msg("request %u: %u calls, %d", i, many[i].calls,
			             many[i].result);
		filelock_close(many[i].lock);
	}
	loop_free(&loop);
}

/* shows: rule-6 */
START_TEST(test_one_turn_completes_a_bounded_number_on_one_path)
{
	check_census(true, false);
}
END_TEST

START_TEST(test_one_turn_completes_a_bounded_number_on_many_paths)
{
	check_census(false, false);
}
END_TEST

START_TEST(test_one_turn_completes_a_bounded_number_of_cancelled_requests)
{
	check_census(true, true);
}
END_TEST

START_TEST(test_one_turn_completes_a_bounded_number_of_nested_requests)
{
	if (test_is_without_shared())
		return;
	struct loop loop = loop_new();
	struct census census;

	if (!loop_may_open(MANY))
		return;
	ask_many(&loop, false, NULL);
	loop_until(&loop, &loop_answers, MANY / 2);
	evfilelock_free(loop.ev);
	loop.ev = evfilelock_new(loop.base, NULL);
	loop_answers = 0;
	for (unsigned i = 0; i < MANY / 4; i++)
		loop_ask(&loop, &many[i], EXCLUSIVE, -1);
	census_begin(&census, loop.base);
	loop_until(&loop, &loop_answers, MANY / 4);
	loop_until(&loop, &census.turns, census.turns + 2);
	ck_assert_uint_le(census.most, MOST_A_TURN);
	census_end(&census);
	for (unsigned i = 0; i < MANY; i++) {
		if (i < MANY / 4)
			ck_assert_uint_eq(filelock_depth(many[i].lock), 2);
		filelock_close(many[i].lock);
	}
	loop_free(&loop);
}
END_TEST

/* A callback of 2 ms: one a turn. */
static void take_long(struct asked *asked)
{
	int64_t end = test_now() + 2 * MILLISECONDS;

	while (test_now() < end) {
	}
	release_own(asked);
}

START_TEST(test_slow_callbacks_have_turns_of_their_own)
{
	struct loop loop = loop_new();
	struct asked asked[20] = { 0 };
	struct census census;

	for (unsigned i = 0; i < 20; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = take_long };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	census_begin(&census, loop.base);
	loop_until(&loop, &loop_answers, 20);
	loop_until(&loop, &census.turns, census.turns + 2);
	ck_assert_uint_eq(census.most, 1);
	census_end(&census);
	for (unsigned i = 0; i < 20; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

/* Requests that begin the next one in their callback, for ever. */
struct treadmill {
	struct loop *loop;
	bool stopped;
	unsigned most; /* completions before the test gives up on the other events */
};

static void go_on(struct asked *asked)
{
	struct treadmill *treadmill = asked->arg;

	release_own(asked);
	if (loop_answers > treadmill->most)
		(void)event_base_loopbreak(treadmill->loop->base);
	if (!treadmill->stopped)
		(void)loop_try_ask(treadmill->loop, asked, EXCLUSIVE, -1);
}

/* Each end of a socketpair sends back what it gets. */
static void send_back(evutil_socket_t fd, short what, void *arg)
{
	unsigned *echoes = arg;
	char byte;

	(void)what;
	if (read(fd, &byte, 1) != 1 || write(fd, &byte, 1) != 1)
		ck_abort_msg("the echo broke off");
	++*echoes;
}

static void count_tick(evutil_socket_t fd, short what, void *arg)
{
	unsigned *ticks = arg;

	(void)fd;
	(void)what;
	++*ticks;
}

/* shows: rule-6 */
START_TEST(test_timers_and_sockets_are_served_while_requests_complete_without_end)
{
	struct loop loop = loop_new();
	struct treadmill treadmill = { .loop = &loop, .most = 2000000 };
	struct asked asked[100] = { 0 };
	struct event *timer, *ends[2];
	unsigned ticks = 0, echoes = 0;
	int fds[2];
	char name[8];

	for (unsigned i = 0; i < 100; i++) {
		(void)snprintf(name, sizeof(name), "%u", i < 90 ? i : 90);
		asked[i] = (struct asked){ .lock = open_patient(name), .then = go_on,
			                   .arg = &treadmill };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	for (unsigned i = 0; i < 2; i++) {
		ends[i] = event_new(loop.base, fds[i], EV_READ | EV_PERSIST, send_back, &echoes);
		event_add(ends[i], NULL);
	}
	ck_assert_int_eq(write(fds[0], "", 1), 1);
	timer = event_new(loop.base, -1, EV_PERSIST, count_tick, &ticks);
	event_add(timer, &(struct timeval){ 0, 10000 });
	while ((ticks < 20 || loop_answers < 20) && loop_answers <= treadmill.most)
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	ck_assert_uint_ge(ticks, 20);
	ck_assert_uint_ge(loop_answers, 20);
	ck_assert_uint_ge(echoes, loop_answers / MOST_A_TURN);
	treadmill.stopped = true;
	for (unsigned i = 0; i < 2; i++) {
		event_free(ends[i]);
		close(fds[i]);
	}
	event_free(timer);
	loop_drain(&loop);
	for (unsigned i = 0; i < 100; i++) {
		ck_assert(!asked[i].pending);
		filelock_close(asked[i].lock);
	}
	loop_free(&loop);
}
END_TEST

/* The same, and each callback lasts longer than a pass may. */
static void go_on_slowly(struct asked *asked)
{
	struct treadmill *treadmill = asked->arg;

	release_own(asked);
	clock_advance(2 * MILLISECONDS); /* after it: whoever asks again at once may have to wait */
	if (!treadmill->stopped)
		loop_ask(treadmill->loop, asked, EXCLUSIVE, -1);
}

/* _i: the locks that are busy; 0: one, by a request that nests. */
/* shows: rule-6 */
START_TEST(test_deadline_is_told_while_requests_complete_without_end)
{
	struct filelock *holder = hold("held", EXCLUSIVE);
	struct asked late = { .lock = open_patient("held") };
	struct asked busy[3] = { 0 };
	struct loop loop = loop_new();
	struct treadmill treadmill = { .loop = &loop };
	unsigned count = _i > 0 ? (unsigned)_i : 1;
	char name[12];

	clock_fake(test_now());
	loop_ask(&loop, &late, EXCLUSIVE, 50);
	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		busy[i] = (struct asked){ .lock = _i > 0 ? open_patient(name) : hold(name, EXCLUSIVE),
			                  .then = go_on_slowly,
			                  .arg = &treadmill };
		loop_ask(&loop, &busy[i], EXCLUSIVE, -1);
	}
	while (late.calls == 0 && loop_answers < 2000)
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	ck_assert_uint_eq(late.calls, 1);
	ck_assert_int_eq(late.result, -ETIMEDOUT);
	treadmill.stopped = true;
	loop_drain(&loop);
	for (unsigned i = 0; i < count; i++)
		filelock_close(busy[i].lock);
	filelock_close(late.lock);
	filelock_close(holder);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("async turns");
	TCase *tcase = tcase_create("turns");

	tcase_add_test(tcase, test_one_turn_completes_a_bounded_number_on_one_path);
	tcase_add_test(tcase, test_one_turn_completes_a_bounded_number_on_many_paths);
	tcase_add_test(tcase, test_one_turn_completes_a_bounded_number_of_cancelled_requests);
	tcase_add_test(tcase, test_one_turn_completes_a_bounded_number_of_nested_requests);
	tcase_add_test(tcase, test_slow_callbacks_have_turns_of_their_own);
	tcase_add_test(tcase,
	               test_timers_and_sockets_are_served_while_requests_complete_without_end);
	tcase_add_loop_test(tcase, test_deadline_is_told_while_requests_complete_without_end, 0, 4);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
