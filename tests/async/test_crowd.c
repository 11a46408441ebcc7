/* Requests that wait in the kernel's own queue: every way out, and loops that are busy meanwhile. */
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "crowd.h"
#include "helpers.h"
#include "loop.h"

#define EX FILELOCK_EXCLUSIVE

static int open_file(const char *name)
{
	int fd = open(test_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0666);

	ck_assert_int_ge(fd, 0);
	return fd;
}

/* A descriptor with the lock, as somebody else's. */
static int hold_file(const char *name)
{
	int fd = open_file(name);

	ck_assert_int_eq(flock(fd, LOCK_EX | LOCK_NB), 0);
	return fd;
}

static bool is_unlocked(const char *name)
{
	int fd = open_file(name);
	int r = flock(fd, LOCK_EX | LOCK_NB);

	(void)close(fd);
	return r == 0;
}

static unsigned blocked(void)
{
	return test_blocked_on(test_path("lock"));
}

/* The loop has nothing more to do at once, and so many of its requests are in the kernel's queue. */
static void turn_until_blocked(struct loop *loop, unsigned wanted)
{
	await((loop_turn(loop), blocked() == wanted));
}

/* A request for the file "lock", which is held, in the kernel's queue. Its last release is as if it
   had raised no event. */
static void ask_blocked(struct loop *loop, struct asked *asked, int timeout_ms)
{
	struct stat st;

	ck_assert_int_eq(stat(test_path("lock"), &st), 0);
	crowd_note_silence((struct identity){ st.st_dev, st.st_ino }, test_now());
	asked->lock = open_patient("lock");
	loop_ask(loop, asked, EX, timeout_ms);
	turn_until_blocked(loop, 1);
}

/* A request in the kernel's queue behind another holder. */
struct scene {
	struct loop loop;
	struct asked asked;
	int holder;
};

/* False: it cannot be known here who is in the queue. */
static bool scene_begin(struct scene *scene)
{
	if (!test_locks_are_listed())
		return false;
	*scene = (struct scene){ .holder = hold_file("lock"), .loop = loop_new() };
	ask_blocked(&scene->loop, &scene->asked, -1);
	return true;
}

/* shows: crowd */
START_TEST(test_blocked_request_is_granted_by_a_release_without_an_event)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	ck_assert_int_eq(flock(scene.holder, LOCK_UN), 0);
	ck_assert_int_eq(loop_answer(&scene.loop, &scene.asked), 0);
	ck_assert_uint_eq(scene.asked.calls, 1);
	ck_assert(!is_unlocked("lock"));
	ck_assert_int_eq(filelock_release(scene.asked.lock), 0);
	ck_assert(is_unlocked("lock"));
	filelock_close(scene.asked.lock);
	loop_free(&scene.loop);
	(void)close(scene.holder);
}
END_TEST

/* shows: crowd */
START_TEST(test_cancelled_request_leaves_the_queue_though_the_lock_is_held)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	ask_cancel(&scene.asked);
	ck_assert_int_eq(loop_answer(&scene.loop, &scene.asked), -ECANCELED);
	await(blocked() == 0);
	(void)close(scene.holder);
	ck_assert(is_unlocked("lock"));
	filelock_close(scene.asked.lock);
	loop_free(&scene.loop);
}
END_TEST

START_TEST(test_deadline_of_a_blocked_request_is_kept)
{
	int holder = hold_file("lock");
	struct loop loop = loop_new();
	struct asked asked = { 0 };
	struct stat st;

	ck_assert_int_eq(fstat(holder, &st), 0);
	crowd_note_silence((struct identity){ st.st_dev, st.st_ino }, test_now());
	asked.lock = open_patient("lock");
	loop_ask(&loop, &asked, EX, 50);
	ck_assert_int_eq(loop_answer(&loop, &asked), -ETIMEDOUT);
	(void)close(holder);
	await(is_unlocked("lock"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_closing_the_handle_of_a_blocked_request_cancels_it)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	filelock_close(scene.asked.lock);
	ck_assert_int_eq(loop_answer(&scene.loop, &scene.asked), -ECANCELED);
	await(blocked() == 0);
	(void)close(scene.holder);
	loop_free(&scene.loop);
}
END_TEST

/* shows: crowd */
START_TEST(test_context_may_be_freed_with_a_request_blocked)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	evfilelock_free(scene.loop.ev);
	ck_assert_int_eq(scene.asked.result, -ECANCELED);
	ck_assert_uint_eq(scene.asked.calls, 1);
	(void)close(scene.holder); /* what is granted now tells nobody */
	await(is_unlocked("lock") && blocked() == 0);
	filelock_close(scene.asked.lock);
	event_base_free(scene.loop.base);
}
END_TEST

START_TEST(test_queue_has_one_place_in_the_kernels_queue)
{
	enum { COUNT = 5 };
	int holder = hold_file("lock");
	struct loop loop = loop_new();
	struct asked asked[COUNT] = { { 0 } };
	unsigned answered = 0;

	if (!test_locks_are_listed())
		return;
	for (unsigned i = 0; i < COUNT; i++)
		ask_blocked(&loop, &asked[i], -1);
	ask_cancel(&asked[0]);
	ck_assert_int_eq(loop_answer(&loop, &asked[0]), -ECANCELED);
	turn_until_blocked(&loop, 1); /* the next one has taken the place over, or a new one */
	(void)close(holder);
	for (unsigned i = 1; i < COUNT; i++) {
		if (asked[i].calls == 0)
			ck_assert_int_eq(loop_answer(&loop, &asked[i]), 0);
		ck_assert_int_eq(asked[i].result, 0);
		ck_assert_int_eq(filelock_release(asked[i].lock), 0);
		answered++;
	}
	ck_assert_uint_eq(answered, COUNT - 1);
	for (unsigned i = 0; i < COUNT; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
	await(is_unlocked("lock"));
}
END_TEST

START_TEST(test_grant_that_a_busy_loop_does_not_take_goes_to_others_meanwhile)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	ck_assert_int_eq(flock(scene.holder, LOCK_UN), 0);
	await(blocked() == 0); /* granted */
	await(flock(scene.holder, LOCK_EX | LOCK_NB) == 0); /* and given back */
	turn_until_blocked(&scene.loop, 1); /* it asks again */
	ck_assert_uint_eq(scene.asked.calls, 0);
	ck_assert_int_eq(flock(scene.holder, LOCK_UN), 0);
	ck_assert_int_eq(loop_answer(&scene.loop, &scene.asked), 0);
	filelock_close(scene.asked.lock);
	loop_free(&scene.loop);
	(void)close(scene.holder);
}
END_TEST

START_TEST(test_file_replaced_under_a_blocked_request_gives_way_to_its_successor)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	(void)close(open_file("another"));
	ck_assert_int_eq(rename(test_path("another"), test_path("lock")), 0);
	ck_assert_int_eq(loop_answer(&scene.loop, &scene.asked), 0);
	ck_assert(!is_unlocked("lock"));
	filelock_close(scene.asked.lock);
	loop_free(&scene.loop);
	(void)close(scene.holder);
}
END_TEST

/* shows: no-thread */
START_TEST(test_locks_that_are_held_for_long_need_no_thread)
{
	enum { LOCKS = 100 };
	struct asked asked[LOCKS] = { { 0 } };
	struct loop loop = loop_new();
	int holders[LOCKS];
	char name[16];

	for (unsigned i = 0; i < LOCKS; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		holders[i] = hold_file(name);
		asked[i].lock = open_patient(name);
		loop_ask(&loop, &asked[i], EX, -1);
	}
	loop_for(&loop, 100);
	ck_assert_uint_eq(helpers_thread_count(), 0);
	for (unsigned i = 0; i < LOCKS; i++)
		(void)close(holders[i]);
	for (unsigned i = 0; i < LOCKS; i++)
		if (asked[i].calls == 0)
			ck_assert_int_eq(loop_answer(&loop, &asked[i]), 0);
	for (unsigned i = 0; i < LOCKS; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "crowd in a loop", test_blocked_request_is_granted_by_a_release_without_an_event,
	        test_cancelled_request_leaves_the_queue_though_the_lock_is_held,
	        test_deadline_of_a_blocked_request_is_kept,
	        test_closing_the_handle_of_a_blocked_request_cancels_it,
	        test_context_may_be_freed_with_a_request_blocked,
	        test_queue_has_one_place_in_the_kernels_queue,
	        test_grant_that_a_busy_loop_does_not_take_goes_to_others_meanwhile,
	        test_file_replaced_under_a_blocked_request_gives_way_to_its_successor,
	        test_locks_that_are_held_for_long_need_no_thread));
}
