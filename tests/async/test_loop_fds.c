/* The timer and the wake-up of a context, by themselves. */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include <event2/event.h>

#include "support.h"
#include "async/loop.h"

static struct loop loop;
static unsigned calls;

static void note_call(evutil_socket_t fd, short events, void *arg)
{
	(void)fd, (void)events;
	ck_assert_ptr_eq(arg, &calls);
	calls++;
}

static void set_up(void)
{
	loop = (struct loop){ .on_time = note_call, .on_readable = note_call,
		              .on_wakeup = note_call, .arg = &calls };
	ck_assert_int_eq(loop_open(&loop, event_base_new(), -1), 0);
}

static void tear_down(void)
{
	struct event_base *base = loop.base;

	loop_close(&loop);
	event_base_free(base);
}

static bool is_readable(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };

	return poll(&poll_fd, 1, 0) > 0;
}

static void run_until_called(unsigned times)
{
	while (calls < times)
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
}

START_TEST(test_timer_is_precise_when_asked_for)
{
	set_up();
	ck_assert(loop_set_timer(&loop, filelock_now() + 3600 * SECONDS, true));
	ck_assert_int_eq(loop.state, TIMER_PRECISE);
	ck_assert(loop_set_timer(&loop, filelock_now() + 2000000, true));
	run_until_called(1);
	ck_assert(loop_set_timer(&loop, filelock_now() + 3600 * SECONDS, false));
	ck_assert_int_eq(loop.state, TIMER_COARSE);
	loop_unset_timer(&loop);
	ck_assert_int_eq(loop.state, TIMER_OFF);
	ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_NONBLOCK), 1); /* nothing waits */
	tear_down();
}
END_TEST

START_TEST(test_timer_set_anew_takes_the_one_before_back)
{
	set_up();
	ck_assert(loop_set_timer(&loop, filelock_now() + 1000000, true));
	while (!is_readable(loop.timer_fd.fd))
		test_nap();
	ck_assert(loop_set_timer(&loop, filelock_now() + 3600 * SECONDS, true));
	ck_assert(!is_readable(loop.timer_fd.fd));
	ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_NONBLOCK), 0);
	ck_assert_uint_eq(calls, 0);
	tear_down();
}
END_TEST

START_TEST(test_timer_without_a_descriptor_is_coarse)
{
	set_up();
	fault_set(FAULT_timerfd_create, 1, FAULT_ONCE, EMFILE);
	ck_assert(loop_set_timer(&loop, filelock_now() + 1000000, true));
	ck_assert_uint_eq(fault_hits(FAULT_timerfd_create), 1);
	ck_assert_int_eq(loop.state, TIMER_COARSE);
	run_until_called(1);
	tear_down();
}
END_TEST

START_TEST(test_notice_is_heard_once_whatever_interrupts)
{
	set_up();
	ck_assert(loop_hear(&loop));
	fault_set(FAULT_write, 1, FAULT_ONCE, EINTR);
	loop_notify(&loop);
	ck_assert(is_readable(loop.wakeup_fd.fd));
	fault_set(FAULT_read, 1, FAULT_ONCE, EINTR);
	loop_clear_wakeup(&loop);
	ck_assert(!is_readable(loop.wakeup_fd.fd));
	loop_clear_wakeup(&loop); /* there is nothing to hear */
	tear_down();
}
END_TEST

START_TEST(test_notice_that_cannot_be_counted_is_heard_all_the_same)
{
	const uint64_t most = UINT64_MAX - 1;

	set_up();
	ck_assert(loop_hear(&loop));
	ck_assert_int_eq(write(loop.wakeup_fd.fd, &most, sizeof(most)), sizeof(most));
	loop_notify(&loop);
	run_until_called(1);
	loop_clear_wakeup(&loop);
	ck_assert(!is_readable(loop.wakeup_fd.fd));
	tear_down();
}
END_TEST

START_TEST(test_wakeup_without_a_descriptor_is_its_error)
{
	set_up();
	fault_set(FAULT_eventfd, 1, FAULT_ONCE, EMFILE);
	ck_assert_int_eq(loop_make_wakeup(&loop), -EMFILE);
	ck_assert_int_eq(loop_make_wakeup(&loop), 0);
	tear_down();
}
END_TEST

int main(void)
{
	return support_main(SUITE("loop_fds", test_timer_is_precise_when_asked_for,
	                          test_timer_set_anew_takes_the_one_before_back,
	                          test_timer_without_a_descriptor_is_coarse,
	                          test_notice_is_heard_once_whatever_interrupts,
	                          test_notice_that_cannot_be_counted_is_heard_all_the_same,
	                          test_wakeup_without_a_descriptor_is_its_error));
}
