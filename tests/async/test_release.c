/* A release through the context: what it refuses, and what a release that cannot begin leaves. */
#include "memory.h"
#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static int release(struct loop *loop, struct asked *asked)
{
	return evfilelock_release(loop->ev, asked->lock, loop_note, asked);
}

/* It is held as before, no callback came, and the next release succeeds. */
static void check_unharmed(struct loop *loop, struct asked *asked)
{
	ck_assert_uint_eq(asked->calls, 0);
	ck_assert_uint_eq(filelock_depth(asked->lock), 1);
	ck_assert(!is_free("a"));
	ck_assert_int_eq(release(loop, asked), 0);
	ck_assert_int_eq(loop_answer(loop, asked), 0);
	ck_assert_uint_eq(asked->calls, 1);
	ck_assert(is_free("a"));
	filelock_close(asked->lock);
	loop_free(loop);
}

START_TEST(test_refused_arguments_release_nothing)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct asked idle = { .lock = open_patient("a") };

	ck_assert_int_eq(evfilelock_release(NULL, asked.lock, loop_note, &asked), -EINVAL);
	ck_assert_int_eq(evfilelock_release(loop.ev, NULL, loop_note, &asked), -EINVAL);
	ck_assert_int_eq(evfilelock_release(loop.ev, asked.lock, NULL, &asked), -EINVAL);
	ck_assert_int_eq(release(&loop, &idle), -EPERM);
	loop_drain(&loop);
	ck_assert_uint_eq(idle.calls, 0);
	filelock_close(idle.lock);
	check_unharmed(&loop, &asked);
}
END_TEST

/* The parent's context, and the parent's handle on a context of the child's. */
static int release_in_child(void *arg)
{
	struct asked *asked = arg;
	struct asked own = { .lock = hold("own", EXCLUSIVE) };
	struct loop loop = loop_new();
	bool refused = release(asked->arg, &own) == FILELOCK_EFORKED &&
	               release(&loop, asked) == FILELOCK_EFORKED;

	loop_drain(&loop);
	filelock_close(own.lock);
	loop_free(&loop);
	return refused && asked->calls == 0 && own.calls == 0 ? 0 : 1;
}

START_TEST(test_forked_child_is_refused_a_release)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE), .arg = &loop };
	struct filelock *other = open_patient("b");

	ck_assert_int_eq(loop_acquire(&loop, other, EXCLUSIVE, -1), 0); /* and so it dies there */
	ck_assert_int_eq(test_in_child(release_in_child, &asked), 0);
	filelock_close(other);
	check_unharmed(&loop, &asked);
}
END_TEST

static void release_another(struct asked *asked)
{
	struct asked *another = asked->arg;

	ck_assert_int_eq(asked->result, -ECANCELED);
	ck_assert_int_eq(release(another->arg, another), -ECANCELED);
}

START_TEST(test_context_that_is_being_freed_refuses_a_release)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE), .arg = &loop };
	struct asked waits = { .lock = open_patient("a"), .then = release_another,
		               .arg = &asked };

	loop_ask(&loop, &waits, EXCLUSIVE, -1);
	evfilelock_free(loop.ev);
	ck_assert_uint_eq(waits.calls, 1);
	loop.ev = evfilelock_new(loop.base, NULL);
	filelock_close(waits.lock);
	check_unharmed(&loop, &asked);
}
END_TEST

/* Releases in its callback: the answer comes by another. */
static void release_own(struct asked *asked)
{
	struct loop *loop = asked->arg;

	if (asked->calls > 1)
		return;
	ck_assert_int_eq(asked->result, 0);
	ck_assert_int_eq(release(loop, asked), 0);
	ck_assert_uint_eq(asked->calls, 1);
}

START_TEST(test_release_inside_a_callback_is_answered_later)
{
	struct loop loop = _i ? loop_with_workers(1) : loop_new();
	struct asked asked = { .lock = open_patient("a"), .then = release_own, .arg = &loop };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	loop_until(&loop, &asked.calls, 2);
	ck_assert_int_eq(asked.result, 0);
	ck_assert(is_free("a"));
	loop_drain(&loop);
	ck_assert_uint_eq(asked.calls, 2);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* With workers a release needs a handle of its own. */
START_TEST(test_release_without_memory_for_its_handle_is_refused)
{
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	struct loop loop;

	fault_watch(); /* before there are workers */
	loop = loop_with_workers(1);
	fault_set(FAULT_calloc, 1, FAULT_ONCE, ENOMEM);
	ck_assert_int_eq(release(&loop, &asked), -ENOMEM);
	fault_clear();
	check_unharmed(&loop, &asked);
}
END_TEST

#ifndef SANITIZED
START_TEST(test_release_without_memory_is_refused)
{
	struct loop loop = _i ? loop_with_workers(1) : loop_new();
	struct asked asked = { .lock = hold("a", EXCLUSIVE) };
	unsigned nth = 0;
	int r;

	do {
		ck_assert_uint_lt(nth, 100);
		failing.count = 0;
		failing.nth = ++nth;
		r = release(&loop, &asked);
		heal();
		ck_assert(r == 0 || r == -ENOMEM);
		ck_assert_uint_eq(asked.calls, 0);
		if (r < 0) {
			ck_assert_uint_eq(filelock_depth(asked.lock), 1);
			ck_assert(!is_free("a"));
		}
	} while (r < 0);
	ck_assert_uint_gt(nth, _i ? 3 : 1);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert(is_free("a"));
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST
#endif

int main(void)
{
	Suite *suite = SUITE("async release", test_refused_arguments_release_nothing,
	                     test_forked_child_is_refused_a_release,
	                     test_context_that_is_being_freed_refuses_a_release,
	                     test_release_without_memory_for_its_handle_is_refused);
	TCase *both = tcase_create("with workers and without");

	tcase_add_loop_test(both, test_release_inside_a_callback_is_answered_later, 0, 2);
#ifndef SANITIZED
	tcase_add_loop_test(both, test_release_without_memory_is_refused, 0, 2);
#endif
	suite_add_tcase(suite, both);
	return support_main(suite);
}
