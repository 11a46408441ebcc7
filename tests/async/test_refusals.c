/* Each call on a context refuses what its header says that it refuses: with a context of the parent's, with one
   that is being freed, without an argument. */
#include <limits.h>

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

/* --- each refusal says why --- */

static struct evfilelock *ev_of_all;
static struct filelock *idle, *held, *claims;
#define SET(...) ((struct filelock *const[]){ __VA_ARGS__ })

static int set_of(struct filelock *const *locks, size_t n, evfilelock_all_cb cb)
{
	return evfilelock_acquire_all(ev_of_all, locks, n, EXCLUSIVE, NULL, cb, NULL);
}

static int set_is_empty(void)
{
	return set_of(NULL, 0, never_all);
}

static int set_has_null(void)
{
	return set_of(SET(idle, NULL), 2, never_all);
}

static int set_has_held(void)
{
	return set_of(SET(held, idle), 2, never_all);
}

static int set_has_lock_twice(void)
{
	return set_of(SET(idle, idle), 2, never_all);
}

static int set_has_no_cb(void)
{
	return set_of(SET(idle), 1, NULL);
}

static int set_has_wrong_timeout(void)
{
	return evfilelock_acquire_all(ev_of_all, SET(idle), 1, EXCLUSIVE, &(struct timeval){ -1, 0 },
	                              never_all, NULL);
}

static int set_has_wrong_mode(void)
{
	return evfilelock_acquire_all(ev_of_all, SET(idle), 1, (enum filelock_mode)7, NULL, never_all,
	                              NULL);
}

static int acquire_without_cb(void)
{
	return evfilelock_acquire(ev_of_all, idle, EXCLUSIVE, NULL, NULL, NULL);
}

static int acquire_with_wrong_timeout(void)
{
	return evfilelock_acquire(ev_of_all, idle, EXCLUSIVE, &(struct timeval){ 0, 1000000 }, never,
	                          NULL);
}

static int acquire_in_other_mode(void)
{
	return evfilelock_acquire(ev_of_all, held, FILELOCK_SHARED, NULL, never, NULL);
}

static int acquire_without_context(void)
{
	return acquire(NULL, idle);
}

static int acquire_without_lock(void)
{
	return acquire(ev_of_all, NULL);
}

static int cancel_without_context(void)
{
	return evfilelock_cancel(NULL, idle);
}

static int cancel_nothing(void)
{
	return evfilelock_cancel(ev_of_all, idle);
}

static int release_idle_by_callback(void)
{
	return give_back(ev_of_all, idle);
}

static int ask_without_cb(void)
{
	return evfilelock_holder(ev_of_all, idle, NULL, NULL);
}

static int watch_idle(void)
{
	return watch(ev_of_all, idle);
}

static int count_without_size(void)
{
	struct evfilelock_stats stats = { 0 };

	return evfilelock_get_stats(ev_of_all, &stats);
}

static int write_counts_without_file(void)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	return evfilelock_stats_write(&stats, NULL, NULL);
}

static int trace_without_context(void)
{
	return evfilelock_set_trace(NULL, NULL, NULL);
}

static int trace_into_nowhere(void)
{
	struct evfilelock_trace *trace;

	return evfilelock_trace_open(test_path("none/trace"), &trace);
}

static int flush_no_trace(void)
{
	return evfilelock_trace_flush(NULL);
}

static int acquire_with_wrong_time(void)
{
	return filelock_acquire(idle, EXCLUSIVE, -2);
}

static int acquire_with_wrong_mode(void)
{
	return filelock_acquire(idle, (enum filelock_mode)7, 0);
}

static int acquire_shared_while_held(void)
{
	return filelock_acquire(held, FILELOCK_SHARED, 0);
}

static int take_into_nothing(void)
{
	return filelock_take(test_path("t"), 0, NULL);
}

static int open_without_path(void)
{
	struct filelock *lock;

	return filelock_open(NULL, FILELOCK_NATIVE, NULL, &lock);
}

static int open_without_descriptor(void)
{
	struct filelock *lock;

	return filelock_open_fd(-1, NULL, &lock);
}

static int release_idle(void)
{
	return filelock_release(idle);
}

static int release_idle_wholly(void)
{
	return filelock_release_all(idle);
}

static int verify_idle(void)
{
	return filelock_verify(idle);
}

static int renew_idle(void)
{
	return filelock_renew(idle);
}

static int drop_held(void)
{
	return filelock_drop(held);
}

static int tell_token(void)
{
	uint64_t token;

	return filelock_token(held, &token);
}

static int lend_descriptor(void)
{
	return filelock_fd(idle);
}

static int find_no_holder(void)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	return filelock_holder(idle, &owner);
}

static int describe_into_nothing(void)
{
	return filelock_describe_holder(idle, NULL, 0);
}

static int break_native(void)
{
	return filelock_break(idle);
}

static int list_into_nothing(void)
{
	return filelock_claims(claims, NULL, NULL);
}

static int break_claim_of_native(void)
{
	return filelock_break_claim(idle, "x");
}

static int break_no_claim(void)
{
	return filelock_break_claim(claims, NULL);
}

static int break_wrong_claim(void)
{
	return filelock_break_claim(claims, "../x");
}

/* lock: whose last error it is; NULL: the thread's. */
static const struct {
	int (*call)(void);
	struct filelock **lock;
	int code;
	const char *says;
} refused[] = {
	{ set_is_empty, NULL, -EINVAL, "it is empty" },
	{ set_has_null, &idle, -EINVAL, "a handle in it is NULL" },
	{ set_has_held, &held, -EDEADLK, "holds its lock already" },
	{ set_has_held, &idle, -EDEADLK, "refused was the set's /" },
	{ set_has_lock_twice, &idle, -EDEADLK, "on the same lock" },
	{ set_has_no_cb, &idle, -EINVAL, "cb is NULL" },
	{ set_has_wrong_timeout, &idle, -EINVAL, "tv_sec" },
	{ set_has_wrong_mode, &idle, -EINVAL, "cannot acquire" },
	{ acquire_without_cb, &idle, -EINVAL, "cb is NULL" },
	{ acquire_with_wrong_timeout, &idle, -EINVAL, "tv_usec" },
	{ acquire_in_other_mode, &held, -EDEADLK, "in another mode" },
	{ acquire_without_context, &idle, -EINVAL, "ev is NULL" },
	{ acquire_without_lock, NULL, -EINVAL, "lock is NULL" },
	{ cancel_without_context, &idle, -EINVAL, "ev is NULL" },
	{ cancel_nothing, &idle, -ENOENT, "none is pending here" },
	{ release_idle_by_callback, &idle, -EPERM, "does not hold" },
	{ ask_without_cb, &idle, -EINVAL, "cb is NULL" },
	{ watch_idle, &idle, -EPERM, "does not hold" },
	{ count_without_size, NULL, -EINVAL, "EVFILELOCK_STATS_INIT" },
	{ write_counts_without_file, NULL, -EINVAL, "file is NULL" },
	{ trace_without_context, NULL, -EINVAL, "ev is NULL" },
	{ trace_into_nowhere, NULL, -ENOENT, "/none/trace: No such file" },
	{ flush_no_trace, NULL, -EINVAL, "trace is NULL" },
	{ acquire_with_wrong_time, &idle, -EINVAL, "below -1" },
	{ acquire_with_wrong_mode, &idle, -EINVAL, "mode" },
	{ acquire_shared_while_held, &held, -EDEADLK, "in another mode" },
	{ take_into_nothing, NULL, -EINVAL, "ret_lock is NULL" },
	{ open_without_path, NULL, -EINVAL, "path is empty" },
	{ open_without_descriptor, NULL, -EBADF, "Bad file descriptor" },
	{ release_idle, &idle, -EPERM, "does not hold" },
	{ release_idle_wholly, &idle, -EPERM, "does not hold" },
	{ verify_idle, &idle, -EPERM, "does not hold" },
	{ renew_idle, &idle, -EPERM, "does not hold" },
	{ drop_held, &held, -EBUSY, "holds the lock" },
	{ tell_token, &held, -ENOTSUP, "this kind of lock cannot" },
	{ lend_descriptor, &idle, -EPERM, "does not hold" },
	{ find_no_holder, &idle, FILELOCK_ENOHOLDER, "nobody holds" },
	{ describe_into_nothing, &idle, -EINVAL, "buffer" },
	{ break_native, &idle, -ENOTSUP, "this kind of lock cannot" },
	{ list_into_nothing, &claims, -EINVAL, "take is NULL" },
	{ break_claim_of_native, &idle, -ENOTSUP, "this kind of lock cannot" },
	{ break_no_claim, &claims, -EINVAL, "name is NULL" },
	{ break_wrong_claim, &claims, -EINVAL, "no claim has this name" },
};

/* Something else failed before. */
static void fail_otherwise(struct filelock *lock)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *never_opened;

	options.poll_interval_ms = UINT_MAX;
	if (lock)
		ck_assert_int_eq(filelock_token(lock, NULL) < 0, 1);
	else
		ck_assert_int_eq(filelock_open("x", FILELOCK_NATIVE, &options, &never_opened), -EINVAL);
}

/* shows: errors-say-why */
START_TEST(test_each_refusal_says_why)
{
	struct filelock *lock;
	const char *said;
	struct loop loop = loop_new();

	ev_of_all = loop.ev;
	idle = open_patient("idle");
	held = hold("held", EXCLUSIVE);
	ck_assert_int_eq(filelock_open(test_path("claims"), FILELOCK_STRICT, NULL, &claims), 0);
	lock = refused[_i].lock ? *refused[_i].lock : NULL;
	fail_otherwise(lock);
	ck_assert_int_eq(refused[_i].call(), refused[_i].code);
	said = filelock_last_error(lock);
	ck_assert_msg(strstr(said, refused[_i].says) != NULL, "\"%s\" does not say \"%s\"", said,
	              refused[_i].says);
	ck_assert(!lock || strstr(said, filelock_path(lock)));
	filelock_close(idle);
	filelock_close(held);
	filelock_close(claims);
	loop_free(&loop);
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
	TCase *each = tcase_create("each");
	Suite *suite = SUITE("async refusals", test_every_call_refuses_a_context_of_the_parents,
	                          test_every_call_refuses_a_context_that_is_being_freed,
	                          test_every_call_refuses_a_null_pointer,
	                          test_release_and_watch_of_what_is_not_held_are_refused,
	                          test_question_without_a_descriptor_for_its_thread_is_refused);

	tcase_add_loop_test(each, test_each_refusal_says_why, 0, sizeof(refused) / sizeof(*refused));
	suite_add_tcase(suite, each);
	return support_main(suite);
}
