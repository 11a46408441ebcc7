/* Each call on a context refuses what its header says that it refuses: with a context of the parent's, with one
   that is being freed, without an argument. */
#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

static void never(struct filelock *lock, int result, void *arg)
{
	(void)lock, (void)result, (void)arg;
	ck_abort_msg("called for a request that was refused");
}

static void never_all(struct filelock *const *set, size_t n, int result, struct filelock *failed,
                      void *arg)
{
	(void)set, (void)n, (void)failed;
	never(NULL, result, arg);
}

static void never_holder(struct filelock *lock, int result, const struct filelock_owner *owner,
                         void *arg)
{
	(void)owner;
	never(lock, result, arg);
}

static int acquire(struct evfilelock *ev, struct filelock *lock)
{
	return evfilelock_acquire(ev, lock, EXCLUSIVE, NULL, never, NULL);
}

static int acquire_all(struct evfilelock *ev, struct filelock *lock)
{
	return evfilelock_acquire_all(ev, &lock, 1, EXCLUSIVE, NULL, never_all, NULL);
}

static int give_back(struct evfilelock *ev, struct filelock *lock)
{
	return evfilelock_release(ev, lock, never, NULL);
}

static int ask_for_holder(struct evfilelock *ev, struct filelock *lock)
{
	return evfilelock_holder(ev, lock, never_holder, NULL);
}

static int watch(struct evfilelock *ev, struct filelock *lock)
{
	return evfilelock_on_lost(ev, lock, never, NULL);
}

static int read_stats(struct evfilelock *ev, struct filelock *lock)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	(void)lock;
	return evfilelock_get_stats(ev, &stats);
}

static int set_trace(struct evfilelock *ev, struct filelock *lock)
{
	(void)lock;
	return evfilelock_set_trace(ev, NULL, NULL);
}

/* The first ones need a handle, and are refused while the context is freed. */
#define NEED_A_HANDLE 6
static int (*const calls[])(struct evfilelock *, struct filelock *) = {
	acquire, acquire_all, give_back, ask_for_holder, watch, evfilelock_cancel,
	read_stats, set_trace,
};
#define CALLS (int)(sizeof(calls) / sizeof(*calls))

struct pair {
	struct loop loop;
	struct asked asked;
	struct filelock *held; /* synchronously */
};

static void pair_begin(struct pair *pair)
{
	*pair = (struct pair){ .loop = loop_new(), .held = hold("a", EXCLUSIVE) };
	pair->asked.lock = open_patient("a");
	loop_ask(&pair->loop, &pair->asked, EXCLUSIVE, -1);
}

static void pair_end(struct pair *pair)
{
	filelock_close(pair->held);
	ck_assert_int_eq(loop_answer(&pair->loop, &pair->asked), 0);
	filelock_close(pair->asked.lock);
	loop_free(&pair->loop);
}

static int call_in_child(void *arg)
{
	struct pair *pair = arg;
	struct filelock *own = open_patient("own");

	for (int i = 0; i < CALLS; i++) {
		ck_assert_msg(calls[i](pair->loop.ev, own) == FILELOCK_EFORKED, "call %d", i);
		ck_assert_msg(calls[i](pair->loop.ev, pair->held) == FILELOCK_EFORKED, "call %d", i);
	}
	filelock_close(own);
	return 0;
}

START_TEST(test_every_call_refuses_a_context_of_the_parents)
{
	struct pair pair;

	pair_begin(&pair);
	ck_assert_int_eq(test_in_child(call_in_child, &pair), 0);
	pair_end(&pair);
}
END_TEST

static void call_while_freed(struct asked *asked)
{
	struct filelock *other = open_patient("other");

	ck_assert_int_eq(asked->result, -ECANCELED);
	for (int i = 0; i < NEED_A_HANDLE; i++)
		if (calls[i] == evfilelock_cancel)
			ck_assert_int_eq(evfilelock_cancel(asked->ev, other), -ENOENT);
		else
			ck_assert_int_eq(calls[i](asked->ev, other), -ECANCELED);
	for (int i = NEED_A_HANDLE; i < CALLS; i++)
		ck_assert_int_eq(calls[i](asked->ev, NULL), 0);
	filelock_close(other);
}

START_TEST(test_every_call_refuses_a_context_that_is_being_freed)
{
	struct pair pair;

	pair_begin(&pair);
	pair.asked.then = call_while_freed;
	loop_free(&pair.loop);
	ck_assert_uint_eq(pair.asked.calls, 1);
	filelock_close(pair.held);
	filelock_close(pair.asked.lock);
}
END_TEST

START_TEST(test_every_call_refuses_a_null_pointer)
{
	struct pair pair;

	pair_begin(&pair);
	for (int i = 0; i < CALLS; i++)
		ck_assert_int_eq(calls[i](NULL, pair.held), -EINVAL);
	for (int i = 0; i < NEED_A_HANDLE; i++)
		ck_assert_int_eq(calls[i](pair.loop.ev, NULL), -EINVAL);
	ck_assert_int_eq(evfilelock_acquire(pair.loop.ev, pair.held, EXCLUSIVE, NULL, NULL, NULL),
	                 -EINVAL);
	ck_assert_int_eq(evfilelock_release(pair.loop.ev, pair.held, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evfilelock_holder(pair.loop.ev, pair.held, NULL, NULL), -EINVAL);
	pair_end(&pair);
}
END_TEST

START_TEST(test_release_and_watch_of_what_is_not_held_are_refused)
{
	struct pair pair;
	struct filelock *lock = open_patient("b");

	pair_begin(&pair);
	ck_assert_int_eq(give_back(pair.loop.ev, lock), -EPERM);
	ck_assert_int_eq(watch(pair.loop.ev, lock), -EPERM);
	ck_assert_int_eq(evfilelock_cancel(pair.loop.ev, lock), -ENOENT);
	filelock_close(lock);
	pair_end(&pair);
}
END_TEST

/* Without workers the first question makes a thread, and that one a descriptor to be heard by. */
START_TEST(test_question_without_a_descriptor_for_its_thread_is_refused)
{
	struct loop loop = loop_with_workers(0);
	struct filelock *lock = open_patient("a");

	fault_set(FAULT_eventfd, 1, FAULT_FOR_GOOD, EMFILE);
	ck_assert_int_eq(ask_for_holder(loop.ev, lock), -EMFILE);
	fault_clear();
	loop_drain(&loop);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

int main(void)
{
	return support_main(SUITE("async refusals", test_every_call_refuses_a_context_of_the_parents,
	                          test_every_call_refuses_a_context_that_is_being_freed,
	                          test_every_call_refuses_a_null_pointer,
	                          test_release_and_watch_of_what_is_not_held_are_refused,
	                          test_question_without_a_descriptor_for_its_thread_is_refused));
}
