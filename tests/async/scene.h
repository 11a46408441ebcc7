/*
 * scene.h - what is played while something fails: requests of every sort, each of which must be
 * answered once, by its result or by the error; then all is as before.
 */
#ifndef FILELOCK_TESTS_SCENE_H
#define FILELOCK_TESTS_SCENE_H

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

/* A handle that polls so often that losing every event costs the test little. */
static inline struct filelock *scene_open(const char *name)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 2;
	options.no_fallback = true; /* ENOSYS is the error */
	return test_open(test_path(name), &options);
}

/* The sorts: two wait for a lock that comes free, one gets another lock at once, one is
   overdue, one nests, one is cancelled. */
enum { FIRST, SECOND, PROMPT, OVERDUE, NESTED, CANCELLED, SORTS };

struct scene {
	struct loop loop;
	struct filelock *holder, *blocker;
	void (*heal)(void); /* ends the fault */
	struct asked asked[SORTS];
};

static inline void scene_release(struct asked *asked)
{
	const struct scene *scene = asked->arg;

	if (asked->result != 0)
		return;
	/* a failed unlock leaves the lock held and the call retryable */
	while (filelock_release(asked->lock) < 0)
		scene->heal();
}

static inline void scene_begin(struct scene *scene, void (*heal)(void))
{
	static const char *const names[SORTS] = { "a", "a", "p", "b", "n", "a" };

	*scene = (struct scene){ .holder = hold("a", EXCLUSIVE),
		                 .blocker = hold("b", EXCLUSIVE),
		                 .heal = heal,
		                 .loop.base = event_base_new() };
	for (unsigned i = 0; i < SORTS; i++)
		scene->asked[i] = (struct asked){ .lock = scene_open(names[i]),
			                          .then = scene_release,
			                          .arg = scene };
	ck_assert_int_eq(filelock_acquire(scene->asked[NESTED].lock, EXCLUSIVE, 0), 0);
}

static inline unsigned scene_ask(struct scene *scene)
{
	unsigned pending = 0;

	scene->loop.ev = evfilelock_new(scene->loop.base, NULL);
	for (unsigned i = 0; scene->loop.ev && i < SORTS; i++) {
		int r = loop_try_ask(&scene->loop, &scene->asked[i], EXCLUSIVE,
		                     i == OVERDUE ? 5 : -1);

		if (r == 0)
			pending++;
		else if (r != -ENOMEM)
			ck_abort_msg("refused: %d", r);
	}
	ask_cancel(&scene->asked[CANCELLED]);
	return pending;
}

/* Each request that was made is answered, once. No assertion of Check's is met on the way: they
   take memory. */
static inline void scene_run(struct scene *scene)
{
	unsigned pending;
	int64_t end;

	loop_answers = 0;
	pending = scene_ask(scene);
	if (pending > 0) {
		end = test_now() + 3 * MILLISECONDS;
		while (test_now() < end) {
			/* ONCE: NONBLOCK alone ends only when nothing is active, which what is
			   readable and cannot be read always is */
			(void)event_base_loop(scene->loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
			test_nap();
		}
		while (filelock_release(scene->holder) < 0)
			scene->heal();
	}
	loop_until(&scene->loop, &loop_answers, pending);
}

/* Whether every answer is one that this error may lead to. */
static inline void scene_judge(struct scene *scene, int error)
{
	for (unsigned i = 0; i < SORTS; i++) {
		const struct asked *asked = &scene->asked[i];

		ck_assert_uint_le(asked->calls, 1);
		ck_assert(!asked->pending);
		if (asked->calls == 0 || asked->result == -error)
			continue;
		ck_assert_int_eq(asked->result, i == CANCELLED ? -ECANCELED
		                                : i == OVERDUE ? -ETIMEDOUT
		                                               : 0);
	}
}

static inline void scene_end(struct scene *scene)
{
	scene->heal();
	evfilelock_free(scene->loop.ev);
	event_base_free(scene->loop.base);
	filelock_close(scene->holder);
	filelock_close(scene->blocker);
	(void)filelock_release(scene->asked[NESTED].lock);
	for (unsigned i = 0; i < SORTS; i++) {
		ck_assert(!filelock_is_held(scene->asked[i].lock));
		acquire_free(scene->asked[i].lock, EXCLUSIVE); /* usable again */
		filelock_close(scene->asked[i].lock);
	}
}

#endif
