/* The end of a context that has workers: while it is freed, and in a child. */
#include "gate.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

/* A context that ends refuses these. */
static void try_all(struct asked *asked)
{
	const struct loop *loop = asked->arg;
	struct filelock *held = hold("held", EXCLUSIVE);

	ck_assert_int_eq(evfilelock_release(loop->ev, held, loop_note, asked), -ECANCELED);
	ck_assert(filelock_is_held(held));
	filelock_close(held);
}

START_TEST(test_inside_free_releases_are_refused)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE), .then = try_all, .arg = &loop };

	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	loop_free(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	filelock_close(asked.lock);
}
END_TEST

struct legacy {
	struct loop loop;
	struct filelock *held;
};

static int try_all_in_child(void *arg)
{
	const struct legacy *legacy = arg;
	struct asked asked = { .lock = hold("own", EXCLUSIVE) };
	struct loop own;

	ck_assert_int_eq(evfilelock_release(legacy->loop.ev, asked.lock, loop_note, &asked),
	                 FILELOCK_EFORKED);
	ck_assert(filelock_is_held(asked.lock));
	own = loop_with_workers(2);
	asked.lock = legacy->held;
	ck_assert_int_eq(evfilelock_release(own.ev, asked.lock, loop_note, &asked), FILELOCK_EFORKED);
	loop_drain(&own);
	return (int)asked.calls;
}

START_TEST(test_in_a_child_releases_of_the_parents_are_refused)
{
	struct legacy legacy = { .loop = loop_new(), .held = hold("a", EXCLUSIVE) };
	struct filelock *other = open_patient("b");

	ck_assert_int_eq(loop_acquire(&legacy.loop, other, EXCLUSIVE, -1), 0); /* it dies there */
	ck_assert_int_eq(test_in_child(try_all_in_child, &legacy), 0);
	ck_assert(filelock_is_held(legacy.held));
	ck_assert(!is_free("a"));
	filelock_close(legacy.held);
	filelock_close(other);
	loop_free(&legacy.loop);
}
END_TEST

static void turn_the_loop(struct asked *asked)
{
	loop_turn(asked->arg);
}

/* Though a bell that has rung is heard in it: what was known to have ended is answered so. */
START_TEST(test_loop_that_is_turned_inside_free_comes_to_rest)
{
	struct loop loop;
	struct asked asked[2] = {
		{ .lock = hold("a", EXCLUSIVE), .then = turn_the_loop, .arg = &loop },
		{ .lock = hold("b", EXCLUSIVE) },
	};

	loop = gated_loop(0);
	for (unsigned i = 0; i < 2; i++)
		ck_assert_int_eq(evfilelock_release(loop.ev, asked[i].lock, loop_note, &asked[i]),
		                 0);
	await_rings(2);
	loop_free(&loop);
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_uint_eq(asked[i].calls, 1);
		ck_assert_int_eq(asked[i].result, i == 0 ? -ECANCELED : 0);
		filelock_close(asked[i].lock);
	}
	ck_assert(is_free("a"));
	ck_assert(is_free("b"));
}
END_TEST

/* One worker stands inside an attempt; the other has rung, and has what it shares with the loop
   locked: so it stays in the child. */
static void let_it_come_back(struct asked *asked)
{
	open_gate();
	await_rings(1);
	loop_turn(asked->arg);
}

START_TEST(test_release_that_comes_back_while_the_loop_is_turned_inside_free_is_nobodys)
{
	struct loop loop;
	struct asked asked = { .lock = hold("a", EXCLUSIVE), .then = let_it_come_back,
		               .arg = &loop };

	loop = gated_loop(1);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, loop_note, &asked), 0);
	while (sem_wait(&entered) < 0)
		;
	loop_free(&loop);
	ck_assert_uint_eq(asked.calls, 1);
	ck_assert_int_eq(asked.result, -ECANCELED);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
}
END_TEST

struct family {
	struct loop loop;
	struct asked asking, releasing;
};

static void family_begin(struct family *family)
{
	family->loop = gated_loop(1);
	family->asking = (struct asked){ .lock = open_patient("a") };
	family->releasing = (struct asked){ .lock = hold("b", EXCLUSIVE) };
	loop_ask(&family->loop, &family->asking, EXCLUSIVE, -1);
	run_to_the_gate(&family->loop);
	ring_gate_at = 1;
	ck_assert_int_eq(evfilelock_release(family->loop.ev, family->releasing.lock, loop_note,
	                                    &family->releasing),
	                 0);
	while (sem_wait(&entered) < 0)
		;
}

static void family_end(struct family *family)
{
	for (unsigned i = 0; i < 2; i++)
		open_gate();
	loop_until(&family->loop, &family->releasing.calls, 1);
	loop_until(&family->loop, &family->asking.calls, 1);
	ck_assert_int_eq(family->releasing.result, 0);
	ck_assert_int_eq(family->asking.result, 0);
	ck_assert(is_free("b"));
	filelock_close(family->releasing.lock);
	filelock_close(family->asking.lock);
	loop_free(&family->loop);
}

static int free_in_child(void *arg)
{
	struct family *family = arg;

	loop_free(&family->loop);
	filelock_close(family->asking.lock);
	filelock_close(family->releasing.lock);
	return (int)(family->asking.calls + family->releasing.calls);
}

/* Without event_reinit(3) the child sees the parent's bell, which it cannot hush. */
static int turn_in_child(void *arg)
{
	struct family *family = arg;

	loop_turn(&family->loop);
	return (int)(family->asking.calls + family->releasing.calls);
}

START_TEST(test_child_frees_a_context_whose_workers_were_at_it)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(free_in_child, &family), 0);
	family_end(&family);
}
END_TEST

START_TEST(test_child_that_turns_the_loop_hears_no_worker_and_comes_to_rest)
{
	struct family family;

	family_begin(&family);
	ck_assert_int_eq(test_in_child(turn_in_child, &family), 0);
	family_end(&family);
}
END_TEST

int main(void)
{
	return support_main(SUITE("workers_ends", test_inside_free_releases_are_refused,
	                          test_in_a_child_releases_of_the_parents_are_refused,
	                          test_loop_that_is_turned_inside_free_comes_to_rest,
	                          test_release_that_comes_back_while_the_loop_is_turned_inside_free_is_nobodys,
	                          test_child_frees_a_context_whose_workers_were_at_it,
	                          test_child_that_turns_the_loop_hears_no_worker_and_comes_to_rest));
}
