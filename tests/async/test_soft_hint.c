/* The end of a soft lock's holder that no event of its marker tells of, in a loop. */
#include <signal.h>
#include <sys/syscall.h>

#include "loop.h"
#include "softly.h"
#include "base/sys.h"

static bool has_pidfds(void)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (fd < 0) {
		test_skip("no pidfd_open(2) here"); /* nor in valgrind */
		return false;
	}
	close(fd);
	return true;
}

/* The library's clock stands, ahead of the timers that it sets: no attempt is due but by an event. */
static void stop_the_clock(void)
{
	clock_fake(test_now() + 1000 * SECONDS);
}

/* A process with a marker that nobody has open. */
static void start_holder(struct peer *holder, const char *name)
{
	peer_start(holder);
	put_record(test_path(name), holder->pid, NULL);
}

static void wait_for(struct loop *loop, struct asked *asked, const char *name)
{
	asked->lock = open_patient(name);
	loop_ask(loop, asked, FILELOCK_EXCLUSIVE, -1);
	loop_for(loop, 5);
	ck_assert_uint_eq(asked->calls, 0);
}

static const char *const methods[] = { "epoll", "poll", "select" };

static struct loop loop_by(const char *method)
{
	struct event_config *config = event_config_new();
	struct loop loop;

	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(methods[i], method) != 0)
			event_config_avoid_method(config, methods[i]);
	loop = loop_on(event_base_new_with_config(config));
	event_config_free(config);
	ck_assert_str_eq(event_base_get_method(loop.base), method);
	return loop;
}

/* The descriptor to listen to changes while the first one waits. */
START_TEST(test_death_and_release_complete_requests_of_one_loop)
{
	struct loop loop = loop_by(methods[_i]);
	struct filelock *held = hold("held", FILELOCK_EXCLUSIVE);
	struct asked asked[3] = { { .calls = 0 } };
	struct peer holder, other;

	if (!has_pidfds())
		return;
	start_holder(&holder, "a");
	start_holder(&other, "b");
	stop_the_clock();
	wait_for(&loop, &asked[0], "held");
	wait_for(&loop, &asked[1], "a");
	wait_for(&loop, &asked[2], "b");
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(loop_answer(&loop, &asked[1]), 0);
	ck_assert_int_eq(filelock_release(held), 0);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), 0);
	peer_kill(&other, SIGKILL);
	ck_assert_int_eq(loop_answer(&loop, &asked[2]), 0);
	loop_drain(&loop);
	for (int i = 0; i < 3; i++)
		filelock_close(asked[i].lock);
	filelock_close(held);
	loop_free(&loop);
}
END_TEST

/* shows: death-wakes */
START_TEST(test_death_without_watches_completes_the_request)
{
	struct loop loop = loop_new();
	struct asked asked = { .calls = 0 };
	struct peer holder;

	if (!has_pidfds())
		return;
	peer_start_holding(&holder, test_path("a"), FILELOCK_EXCLUSIVE);
	fault_set(_i ? FAULT_inotify_init1 : FAULT_inotify_add_watch, 1, FAULT_FOR_GOOD, ENOSPC);
	stop_the_clock();
	wait_for(&loop, &asked, "a");
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* The child has the context, frees it, and lives on. */
struct child {
	struct loop loop;
	_Atomic bool freed;
};

static int free_and_linger(void *arg)
{
	struct child *child = arg;

	if (event_reinit(child->loop.base) != 0)
		return 1;
	loop_free(&child->loop);
	child->freed = true;
	return pause();
}

START_TEST(test_death_completes_a_request_of_a_loop_that_was_forked)
{
	struct child *child = test_shared(sizeof(*child));
	struct loop *loop = &child->loop;
	struct asked asked = { .calls = 0 };
	struct peer holder;
	pid_t pid;

	if (!has_pidfds())
		return;
	*loop = loop_new();
	start_holder(&holder, "a");
	stop_the_clock();
	wait_for(loop, &asked, "a");
	pid = test_fork(free_and_linger, child);
	await(child->freed);
	peer_kill(&holder, SIGKILL);
	ck_assert_int_eq(loop_answer(loop, &asked), 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(test_reap(pid), 128 + SIGKILL);
	filelock_close(asked.lock);
	loop_free(loop);
}
END_TEST

/* The record named somebody else: the marker is held by its flock. */
START_TEST(test_death_of_no_holder_is_told_once)
{
	struct loop loop = loop_new();
	struct asked asked = { .calls = 0 };
	struct peer holder, bystander;

	if (!has_pidfds())
		return;
	peer_start_holding(&holder, test_path("a"), FILELOCK_EXCLUSIVE);
	start_holder(&bystander, "a");
	/* the directory is watched */
	fault_set(FAULT_inotify_add_watch, 2, FAULT_FOR_GOOD, ENOSPC);
	wait_for(&loop, &asked, "a");
	peer_kill(&bystander, SIGKILL);
	loop_for(&loop, 50);
	ck_assert_uint_eq(fault_calls(FAULT_epoll_wait), 1);
	ck_assert_uint_eq(asked.calls, 0);
	ask_cancel(&asked);
	ck_assert_int_eq(loop_answer(&loop, &asked), -ECANCELED);
	peer_stop(&holder);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	TCase *loops = tcase_create("loops");
	Suite *suite;

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	suite = SUITE("soft hint", test_death_completes_a_request_of_a_loop_that_was_forked,
	              test_death_of_no_holder_is_told_once);
	tcase_add_loop_test(loops, test_death_and_release_complete_requests_of_one_loop, 0, 3);
	tcase_add_loop_test(loops, test_death_without_watches_completes_the_request, 0, 2);
	suite_add_tcase(suite, loops);
	return support_main(suite);
}
