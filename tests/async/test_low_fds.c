/* A loop in a program without standard input, output or error: ours get none of their numbers. */
#include <fcntl.h>

#include "loop.h"

enum { COMBINATIONS = 8 }; /* bit i: descriptor i is closed */

static bool stay_closed(int closed)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (closed & 1 << fd && (fcntl(fd, F_GETFD) != -1 || errno != EBADF))
			return false;
	return true;
}

static int release_the_peers(void *arg)
{
	(void)arg;
	return filelock_release(peer_lock());
}

struct wait {
	struct peer peer;
	int closed;
	bool stayed_closed;
};

static void look(evutil_socket_t fd, short what, void *arg)
{
	struct wait *wait = arg;

	(void)fd;
	(void)what;
	wait->stayed_closed = stay_closed(wait->closed);
	peer_order(&wait->peer, release_the_peers, NULL);
}

START_TEST(test_waiter_in_a_loop_has_no_standard_descriptor)
{
	const struct timeval soon = { 0, 60000 }; /* a poll and a coarse timer have come by then */
	struct wait wait = { .closed = _i };
	struct event_base *base = event_base_new(); /* with its own, before they are closed */
	struct filelock *lock = test_open(test_path("lock"), NULL);
	struct loop loop;

	peer_start_holding(&wait.peer, test_path("lock"), FILELOCK_EXCLUSIVE);
	for (int i = 0; i <= STDERR_FILENO; i++)
		if (_i & 1 << i)
			ck_assert_int_eq(close(i), 0);
	loop = loop_on(base);
	ck_assert_int_eq(event_base_once(base, -1, EV_TIMEOUT, look, &wait, &soon), 0);
	ck_assert_int_eq(loop_acquire(&loop, lock, FILELOCK_EXCLUSIVE, -1), 0);
	ck_assert(wait.stayed_closed);
	ck_assert(stay_closed(_i));
	ck_assert_int_eq(peer_answer(&wait.peer), 0);
	ck_assert_int_eq(filelock_release(lock), 0);
	filelock_close(lock);
	loop_free(&loop);
	ck_assert(stay_closed(_i));
	peer_stop(&wait.peer);
}
END_TEST

START_TEST(test_trace_has_no_standard_descriptor)
{
	const char *path = test_path("trace");
	struct evfilelock_trace *trace;

	for (int i = 0; i <= STDERR_FILENO; i++)
		if (_i & 1 << i)
			ck_assert_int_eq(close(i), 0);
	ck_assert_int_eq(evfilelock_trace_open(path, &trace), 0);
	ck_assert(stay_closed(_i));
	evfilelock_trace_close(trace);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("low_fds");
	TCase *tcase = tcase_create("low_fds");

	tcase_add_loop_test(tcase, test_waiter_in_a_loop_has_no_standard_descriptor, 0,
	                    COMBINATIONS);
	tcase_add_loop_test(tcase, test_trace_has_no_standard_descriptor, 0, COMBINATIONS);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
