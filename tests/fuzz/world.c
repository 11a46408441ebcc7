#include "world.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "played.h"
#include "support.h"

const struct place places[PATHS] = {
	{ FILELOCK_NATIVE, "native" },
	{ FILELOCK_SOFT, "soft" },
#ifdef FILELOCK_SQLITE
	{ FILELOCK_READWRITE, "rw.db" },
#else
	{ FILELOCK_NATIVE, "rw.db" },
#endif
};

struct world w;

const char *path_of(unsigned place)
{
	return fuzz_path(places[place].name);
}

unsigned pick(unsigned byte, unsigned count)
{
	return (byte & 0x3f) % count;
}

bool is_troubled(void)
{
	return w.faulty || w.messed;
}

/* --- the model of holds --- */

static bool conflicts(enum filelock_mode a, enum filelock_mode b)
{
	return a == FILELOCK_EXCLUSIVE || b == FILELOCK_EXCLUSIVE;
}

bool is_excluded(unsigned place, const struct slot *self, enum filelock_mode mode)
{
	const struct stranger *stranger = &w.strangers[place];

	for (int i = 0; i < SLOTS; i++) {
		const struct slot *s = &w.slots[i];

		if (s != self && s->lock && s->place == place && s->depth > 0 &&
		    s->file == w.files[place] && conflicts(s->mode, mode))
			return true;
	}
	return stranger->holds && stranger->file == w.files[place] &&
	       conflicts(stranger->mode, mode);
}

static bool is_wanted_by_another(const struct slot *self)
{
	for (unsigned i = 0; i < w.asked; i++) {
		const struct request *request = &w.requests[i];

		/* a cancelled one makes way when the loop tells it */
		if (!request->answered && request->slot != self && request->place == self->place)
			return true;
	}
	return false;
}

/* passed: perhaps a hold that was taken from the system before, and handed over. */
static void note_grant(struct slot *slot, enum filelock_mode mode, bool passed)
{
	CHECK(filelock_is_held(slot->lock));
	if (slot->depth++ > 0)
		return;
	slot->mode = mode;
	slot->file = w.files[slot->place];
	if (passed && w.messed && filelock_verify(slot->lock) != 0)
		slot->file = NO_FILE;
	CHECK(slot->file == NO_FILE || !is_excluded(slot->place, slot, mode));
}

void check_slots(void)
{
	for (int i = 0; i < SLOTS; i++) {
		const struct slot *slot = &w.slots[i];
		unsigned depth = slot->lock ? filelock_depth(slot->lock) : 0;

		/* a hold that was handed over, and not yet told */
		if (slot->request && slot->depth == 0 && depth == 1)
			depth = 0;
		CHECK(depth == slot->depth);
	}
}

/* --- requests --- */

/* The attempt at the deadline was in this turn of the loop, and found it held. */
static void check_last_attempt(const struct slot *slot, enum filelock_mode mode)
{
	CHECK(is_troubled() || is_wanted_by_another(slot) || w.freed[slot->place] == w.turn ||
	      is_excluded(slot->place, slot, mode));
}

static void check_answer(const struct request *request, int result)
{
	if (request->cancelled) {
		CHECK(result == -ECANCELED);
		return;
	}
	switch (result) {
	case 0:
		break;
	case -ETIMEDOUT:
		CHECK(played_now() >= request->deadline);
		check_last_attempt(request->slot, request->mode);
		break;
	case -ENOTSUP:
		CHECK(is_troubled() || (places[request->slot->place].kind == FILELOCK_SOFT &&
		                        request->mode == FILELOCK_SHARED));
		break;
	default:
		CHECK(result < 0 && result != -ECANCELED && is_troubled());
	}
}

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct request *request = arg;
	struct slot *slot = request->slot;

	CHECK(!w.in_child);
	CHECK(!request->answered && request->lock == lock);
	CHECK(!w.inside);
	if (!w.freeing[request->context]) {
		CHECK(w.looping && !w.broken);
		CHECK(request->turn != w.turn || request->turn == 0);
	}
	check_answer(request, result);
	request->answered = true;
	w.answered[request->context]++;
	if (slot)
		slot->request = NULL;
	if (result == 0)
		note_grant(slot, request->mode, request->context == HANDING_OVER);
	w.depth++;
	if (w.settling && result == 0) {
		CHECK(filelock_release_all(lock) == 0);
		slot->depth = 0;
		w.freed[slot->place] = w.turn;
	} else if (!w.settling) {
		unsigned what = input_byte(&w.input);

		if (what & 0x80)
			play(what & 0x7f);
	}
	w.depth--;
}

void ask(struct slot *slot, unsigned context, enum filelock_mode mode)
{
	static const int timeouts[] = { -1, 0, 1, 3, 60, 1500, -1, 250 };
	int timeout = timeouts[input_byte(&w.input) % 8];
	struct timeval tv = { timeout / 1000, timeout % 1000 * 1000 };
	struct request *request = &w.requests[w.asked];
	bool refused = slot->request || (slot->depth > 0 && slot->mode != mode);
	int r;

	if (w.asked == MOST_REQUESTS || !w.contexts[context])
		return;
	*request = (struct request){ .lock = slot->lock, .slot = slot, .place = slot->place,
		                     .context = context, .mode = mode, .deadline = INT64_MAX,
		                     .turn = w.depth > 0 && w.looping ? w.turn : 0 };
	if (timeout >= 0)
		request->deadline = played_now() + timeout * MILLISECONDS;
	w.inside = true;
	r = evfilelock_acquire(w.contexts[context], slot->lock, mode, timeout < 0 ? NULL : &tv,
	                       on_answer, request);
	w.inside = false;
	if (r < 0) {
		CHECK(refused || w.freeing[context] || is_troubled());
		CHECK(!slot->request || r == -EALREADY || w.freeing[context] || is_troubled());
		return;
	}
	CHECK(!refused && !w.freeing[context]);
	slot->request = request;
	w.asked++;
	w.requested[context]++;
}

void cancel(struct request *request)
{
	if (request->answered)
		return;
	request->cancelled = true;
	w.inside = true;
	(void)evfilelock_cancel(w.contexts[request->context], request->lock);
	CHECK(evfilelock_cancel(w.contexts[request->context], request->lock) == -ENOENT);
	w.inside = false;
}

void turn(void)
{
	if (w.looping)
		return;
	w.turn++;
	w.looping = true;
	w.broken = false;
	CHECK(event_base_loop(w.base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
	w.looping = false;
}

void new_context(unsigned context, unsigned limit)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;

	if (w.contexts[context] || w.freeing[context])
		return;
	options.handover_max = context == HANDING_OVER ? 0 : 1;
	options.max_fds = limit;
	w.contexts[context] = evfilelock_new(w.base, &options);
	w.requested[context] = w.answered[context] = 0;
	if (!w.contexts[context]) {
		CHECK(w.faulty);
		return;
	}
	if (limit > 0)
		w.limited = true;
}

void check_stats(unsigned context)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	if (!w.contexts[context] || w.freeing[context])
		return;
	CHECK(evfilelock_get_stats(w.contexts[context], &stats) == 0);
	CHECK(stats.requested == w.requested[context]);
	CHECK(stats.waiting == w.requested[context] - w.answered[context]);
	CHECK(stats.granted + stats.timed_out + stats.cancelled + stats.failed ==
	      w.answered[context]);
	CHECK(stats.handed_over <= stats.granted && stats.longest_queue <= stats.waiting);
}

void free_context(unsigned context)
{
	struct evfilelock *ev = w.contexts[context];

	if (!ev)
		return;
	for (unsigned i = 0; i < w.asked; i++)
		if (w.requests[i].context == context && !w.requests[i].answered)
			w.requests[i].cancelled = true;
	if (w.freeing[context]) { /* from inside of its callbacks */
		evfilelock_free(ev);
		return;
	}
	w.freeing[context] = true;
	evfilelock_free(ev);
	w.freeing[context] = false;
	w.contexts[context] = NULL;
	for (unsigned i = 0; i < w.asked; i++)
		CHECK(w.requests[i].context != context || w.requests[i].answered);
}

/* --- handles --- */

void open_slot(struct slot *slot)
{
	unsigned which = input_byte(&w.input);
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int r;

	if (slot->lock)
		return;
	slot->place = pick(which, PATHS);
	options.no_fallback = true; /* a flock(2) that comes back finds no marker */
	options.poll_interval_ms = which & 0x40 ? 0 : PATIENT_MS;
	options.unlink_on_release = which & 0x80 && places[slot->place].kind != FILELOCK_READWRITE;
	r = filelock_open(path_of(slot->place), places[slot->place].kind, &options, &slot->lock);
	CHECK(r == 0 || w.faulty);
	if (r < 0)
		slot->lock = NULL;
}

void close_slot(struct slot *slot)
{
	struct filelock *lock = slot->lock;

	if (slot->request) {
		slot->request->cancelled = true;
		slot->request->slot = NULL;
	}
	w.freed[slot->place] = w.turn;
	*slot = (struct slot){ 0 };
	w.inside = true;
	filelock_close(lock);
	w.inside = false;
}

static void check_refusal(const struct slot *slot, enum filelock_mode mode, int r)
{
	bool nests = slot->depth > 0 && slot->mode == mode;

	switch (r) {
	case -EALREADY:
		CHECK(slot->request);
		break;
	case -EDEADLK:
		CHECK(slot->depth > 0 && !nests);
		break;
	case -ETIMEDOUT:
		CHECK(!nests);
		CHECK(is_troubled() || is_wanted_by_another(slot) ||
		      is_excluded(slot->place, slot, mode));
		break;
	case -ECANCELED:
		CHECK(slot->interrupted);
		break;
	case -ENOTSUP:
		CHECK(is_troubled() || places[slot->place].kind == FILELOCK_SOFT);
		break;
	default:
		CHECK(r < 0 && is_troubled());
	}
}

void acquire(struct slot *slot, enum filelock_mode mode, int timeout)
{
	int64_t began = played_now();
	bool nests = slot->depth > 0 && slot->mode == mode && !slot->request;
	int r = filelock_acquire(slot->lock, mode, timeout);
	int64_t took = played_now() - began;

	CHECK(took <= timeout * MILLISECONDS + 1 * MILLISECONDS);
	CHECK(r != -ETIMEDOUT || took >= timeout * MILLISECONDS);
	CHECK(strlen(filelock_last_error(slot->lock)) > 0 || r == 0);
	CHECK(!nests || r == 0);
	if (r == 0)
		note_grant(slot, mode, false);
	else
		check_refusal(slot, mode, r);
	if (r == -ECANCELED)
		slot->interrupted = false;
}

void release(struct slot *slot, bool all)
{
	int r;

	if (slot->request) /* only to be closed meanwhile */
		return;
	r = all ? filelock_release_all(slot->lock) : filelock_release(slot->lock);
	if (slot->depth == 0) {
		CHECK(r == -EPERM);
	} else if (r == 0) {
		slot->depth = all ? 0 : slot->depth - 1;
		w.freed[slot->place] = w.turn;
	} else {
		CHECK(w.faulty);
		CHECK(filelock_is_held(slot->lock));
	}
}

void look(struct slot *slot)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int r;

	(void)filelock_holder(slot->lock, &owner);
	CHECK(filelock_strerror(-(int)input_byte(&w.input))[0]);
	(void)filelock_last_error(slot->lock);
	if (slot->request)
		return;
	r = filelock_verify(slot->lock);
	if (slot->depth == 0)
		CHECK(r == -EPERM);
	else
		CHECK(r == 0 || is_troubled());
}
