/* Read/write locks by requests: readers together, writers first, and what a request gives back. */
#include "loop.h"

#ifdef FILELOCK_SQLITE

#define FOREVER FILELOCK_WAIT_FOREVER

static void start_reader(struct peer *peer)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = PATIENT_MS;
	peer_start(peer);
	ck_assert_int_eq(peer_open(peer, test_path("a"), &options), 0);
}

START_TEST(test_readers_of_one_loop_are_inside_together)
{
	enum { READERS = 20 };
	struct asked asked[READERS] = { 0 };
	struct loop loop = loop_new();

	for (unsigned i = 0; i < READERS; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], FILELOCK_SHARED, -1);
	}
	loop_until(&loop, &loop_answers, READERS);
	for (unsigned i = 0; i < READERS; i++)
		ck_assert(filelock_is_held(asked[i].lock));
	for (unsigned i = 0; i < READERS; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

/* A writer waits in the loop, and behind it a reader in another process. */
static void set_up(struct loop *loop, struct peer *first, struct peer *behind,
                   struct asked *writer)
{
	start_reader(first);
	start_reader(behind);
	ck_assert_int_eq(peer_acquire(first, FILELOCK_SHARED, 0), 0);
	*loop = loop_new();
	*writer = (struct asked){ .lock = open_patient("a") };
	loop_ask(loop, writer, FILELOCK_EXCLUSIVE, -1);
	loop_for(loop, 10);
	ck_assert_uint_eq(writer->calls, 0);
	peer_order_acquire(behind, FILELOCK_SHARED, FOREVER);
	peer_await_notice(behind);
}

static void tear_down(struct peer *first, struct peer *behind, struct asked *writer)
{
	filelock_close(writer->lock);
	peer_stop(first);
	peer_stop(behind);
}

START_TEST(test_cancelled_writer_lets_the_readers_behind_it_go_on)
{
	struct peer first, behind;
	struct asked writer;
	struct loop loop;

	set_up(&loop, &first, &behind, &writer);
	ask_cancel(&writer);
	loop_until(&loop, &writer.calls, 1);
	ck_assert_int_eq(writer.result, -ECANCELED);
	ck_assert_int_eq(peer_answer(&behind), 0);
	tear_down(&first, &behind, &writer);
	loop_free(&loop);
}
END_TEST

START_TEST(test_freed_context_lets_the_readers_behind_its_writer_go_on)
{
	struct peer first, behind;
	struct asked writer;
	struct loop loop;

	set_up(&loop, &first, &behind, &writer);
	loop_free(&loop);
	ck_assert_int_eq(writer.result, -ECANCELED);
	ck_assert_int_eq(peer_answer(&behind), 0);
	tear_down(&first, &behind, &writer);
}
END_TEST

START_TEST(test_closed_writer_lets_the_readers_behind_it_go_on)
{
	struct peer first, behind;
	struct asked writer;
	struct loop loop;

	set_up(&loop, &first, &behind, &writer);
	filelock_close(writer.lock);
	loop_drain(&loop);
	writer.lock = NULL;
	ck_assert_int_eq(peer_answer(&behind), 0);
	tear_down(&first, &behind, &writer);
	loop_free(&loop);
}
END_TEST

START_TEST(test_last_reader_of_another_process_wakes_the_writer_in_the_loop)
{
	struct peer first, behind;
	struct asked writer;
	struct loop loop;

	set_up(&loop, &first, &behind, &writer);
	ck_assert_int_eq(peer_release(&first), 0);
	loop_until(&loop, &writer.calls, 1);
	ck_assert_int_eq(writer.result, 0);
	ck_assert(!peer_answers_within(&behind, 20));
	ck_assert_int_eq(filelock_release(writer.lock), 0);
	ck_assert_int_eq(peer_answer(&behind), 0);
	tear_down(&first, &behind, &writer);
	loop_free(&loop);
}
END_TEST

START_TEST(test_reader_that_a_writer_keeps_out_is_told_of_the_hold_it_is_passed)
{
	struct asked readers[2] = { 0 };
	struct loop loop = loop_with_handover(100, 60000000);
	struct peer writer;

	start_reader(&writer);
	for (unsigned i = 0; i < 2; i++)
		readers[i].lock = open_patient("a");
	loop_ask(&loop, &readers[0], FILELOCK_SHARED, -1);
	ck_assert_int_eq(loop_answer(&loop, &readers[0]), 0);
	peer_order_acquire(&writer, FILELOCK_EXCLUSIVE, FOREVER);
	peer_await_notice(&writer);
	loop_ask(&loop, &readers[1], FILELOCK_SHARED, -1);
	loop_for(&loop, 10);
	ck_assert_uint_eq(readers[1].calls, 0);
	ck_assert_int_eq(filelock_release(readers[0].lock), 0);
	ck_assert(filelock_is_held(readers[1].lock));
	loop_turn(&loop);
	ck_assert_uint_eq(readers[1].calls, 1);
	for (unsigned i = 0; i < 2; i++)
		filelock_close(readers[i].lock);
	ck_assert_int_eq(peer_answer(&writer), 0);
	peer_stop(&writer);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	(void)setenv("FILELOCK_TEST_KIND", "readwrite", 1);
	return support_main(
	        SUITE("async read/write", test_readers_of_one_loop_are_inside_together,
	              test_cancelled_writer_lets_the_readers_behind_it_go_on,
	              test_freed_context_lets_the_readers_behind_its_writer_go_on,
	              test_closed_writer_lets_the_readers_behind_it_go_on,
	              test_last_reader_of_another_process_wakes_the_writer_in_the_loop,
	              test_reader_that_a_writer_keeps_out_is_told_of_the_hold_it_is_passed));
}

#else

int main(void)
{
	return 77;
}

#endif
