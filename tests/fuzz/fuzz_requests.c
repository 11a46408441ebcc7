/*
 * fuzz_requests.c - any sequence of calls, synchronous and in a loop, on six handles of three kinds
 * of lock, from the loop and from inside callbacks; with strangers that lock the same files, files
 * that vanish, system calls that fail, forks, and time that passes as the input says.
 *
 * The oracle is a model of what is held and asked for, and the guarantees of event.h: exclusion;
 * exactly one answer, the right one, at the right time and place; no lost wake-up (with safety
 * polls a minute apart all is answered within a second of the last release); nothing is left.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/event.h>

#include <filelock/event.h>

#include "fuzz.h"
#include "played.h"
#include "stranger.h"
#include "support.h"

enum { SLOTS = 6, PATHS = 3, CONTEXTS = 2, MOST_REQUESTS = 64 };
enum { PATIENT_MS = 60000, HANDING_OVER = 0 /* the context that does */ };
#define NO_FILE (~0u)

/* A lock file. */
static const struct place {
	enum filelock_kind kind;
	const char *name;
} places[PATHS] = {
	{ FILELOCK_NATIVE, "native" },
	{ FILELOCK_SOFT, "soft" },
#ifdef FILELOCK_SQLITE
	{ FILELOCK_READWRITE, "rw.db" },
#else
	{ FILELOCK_NATIVE, "rw.db" },
#endif
};

struct slot {
	struct filelock *lock; /* NULL: closed */
	unsigned place;
	unsigned depth;
	enum filelock_mode mode;
	unsigned file; /* of its place, when it was acquired */
	struct request *request;
	bool interrupted;
};

struct request {
	struct evfilelock_request *handle;
	struct filelock *lock;
	struct slot *slot; /* NULL: closed meanwhile */
	unsigned place;
	unsigned context;
	enum filelock_mode mode;
	int64_t deadline;
	unsigned turn; /* of the loop, in whose callback it began; 0: in none */
	bool cancelled, answered;
};

static struct world {
	struct input input;
	struct event_base *base;
	struct evfilelock *contexts[CONTEXTS];
	bool freeing[CONTEXTS];
	struct slot slots[SLOTS];
	struct request requests[MOST_REQUESTS];
	unsigned asked;
	struct stranger strangers[PATHS];
	unsigned files[PATHS]; /* counts the files that a place has had */
	unsigned freed[PATHS]; /* in which turn it was last made way at */
	unsigned turn;
	unsigned depth; /* of callbacks */
	bool looping, inside, broken;
	bool faulty, messed, prioritised, forked, settling, in_child;
} w;

static const char *path_of(unsigned place)
{
	return fuzz_path(places[place].name);
}

/* One of so many, by a byte whose upper two bits say something else. */
static unsigned pick(unsigned byte, unsigned count)
{
	return (byte & 0x3f) % count;
}

/* Whatever is not ours to predict has happened. */
static bool is_troubled(void)
{
	return w.faulty || w.messed;
}

/* --- the model of holds --- */

static bool conflicts(enum filelock_mode a, enum filelock_mode b)
{
	return a == FILELOCK_EXCLUSIVE || b == FILELOCK_EXCLUSIVE;
}

/* Whether anybody but `self` holds the file that stands at a place, in a way that excludes. */
static bool is_excluded(unsigned place, const struct slot *self, enum filelock_mode mode)
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

static void check_slots(void)
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

/* One attempt is made at the deadline: so it was not to be had in this turn of the loop. */
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

static void play(unsigned what);

static void on_answer(struct filelock *lock, int result, void *arg)
{
	struct request *request = arg;
	struct slot *slot = request->slot;

	CHECK(!w.in_child);
	CHECK(!request->answered && request->lock == lock);
	CHECK(!w.inside);
	if (!w.freeing[request->context]) {
		CHECK(w.looping && !w.broken);
		CHECK(request->turn != w.turn || request->turn == 0 || w.prioritised);
	}
	check_answer(request, result);
	request->answered = true;
	request->handle = NULL;
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

static void ask(struct slot *slot, unsigned context, enum filelock_mode mode)
{
	static const int timeouts[] = { -1, 0, 1, 3, 60, 1500, -1, 250 };
	int timeout = timeouts[input_byte(&w.input) % 8];
	struct timeval tv = { timeout / 1000, timeout % 1000 * 1000 };
	struct request *request = &w.requests[w.asked];
	bool refused = slot->request || (slot->depth > 0 && slot->mode != mode);

	if (w.asked == MOST_REQUESTS || !w.contexts[context])
		return;
	*request = (struct request){ .lock = slot->lock, .slot = slot, .place = slot->place,
		                     .context = context, .mode = mode, .deadline = INT64_MAX,
		                     .turn = w.depth > 0 && w.looping ? w.turn : 0 };
	if (timeout >= 0)
		request->deadline = played_now() + timeout * MILLISECONDS;
	w.inside = true;
	request->handle = evfilelock_acquire(w.contexts[context], slot->lock, mode,
	                                     timeout < 0 ? NULL : &tv, on_answer, request);
	w.inside = false;
	if (!request->handle) {
		CHECK(refused || w.freeing[context] || is_troubled());
		CHECK(!slot->request || errno == EALREADY || w.freeing[context] || is_troubled());
		return;
	}
	CHECK(!refused && !w.freeing[context]);
	slot->request = request;
	w.asked++;
}

static void cancel(struct request *request)
{
	if (request->answered)
		return;
	request->cancelled = true;
	w.inside = true;
	evfilelock_cancel(request->handle);
	evfilelock_cancel(request->handle);
	w.inside = false;
}

static void turn(void)
{
	if (w.looping)
		return;
	w.turn++;
	w.looping = true;
	w.broken = false;
	CHECK(event_base_loop(w.base, EVLOOP_ONCE | EVLOOP_NONBLOCK) >= 0);
	w.looping = false;
}

static void new_context(unsigned context)
{
	if (w.contexts[context] || w.freeing[context])
		return;
	w.contexts[context] = evfilelock_new(w.base);
	CHECK(w.contexts[context] || w.faulty);
	if (w.contexts[context] && context != HANDING_OVER)
		CHECK(evfilelock_set_handover(w.contexts[context], 1, 0) == 0);
}

static void free_context(unsigned context)
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

static void open_slot(struct slot *slot)
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

static void close_slot(struct slot *slot)
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

static void acquire(struct slot *slot, enum filelock_mode mode, int timeout)
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

static void release(struct slot *slot, bool all)
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

static void look(struct slot *slot)
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

/* --- the rest of the world --- */

static void stranger_comes(unsigned place, bool shared)
{
	struct stranger *stranger = &w.strangers[place];
	struct stranger newcomer = { .file = w.files[place] };

	if (stranger->holds)
		return;
	stranger_take(&newcomer, places[place].kind, path_of(place),
	              shared ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE);
	CHECK(!newcomer.holds || !is_excluded(place, NULL, newcomer.mode));
	*stranger = newcomer;
}

static void stranger_goes(unsigned place)
{
	struct stranger *stranger = &w.strangers[place];

	w.freed[place] = w.turn;
	stranger_leave(stranger, places[place].kind, path_of(place),
	               stranger->file != w.files[place]);
}

/* The library sleeps: a stranger may go meanwhile. */
static void on_sleep(void)
{
	unsigned what = w.settling ? 0 : input_byte(&w.input);

	if (what & 1)
		stranger_goes(what / 2 % PATHS);
}

/* The file goes, or another comes in its place: whoever held it holds nothing any more. */
static void mess_up(unsigned place, bool replace)
{
	const char *path = path_of(place);
	const char *other = fuzz_path("other");

	w.messed = true;
	w.files[place]++;
	if (!replace) {
		(void)unlink(path);
		return;
	}
	if (places[place].kind == FILELOCK_SOFT)
		fuzz_write(other, "2147483647\nnobody\n", 18);
	else
		fuzz_write(other, "", 0);
	CHECK(rename(other, path) == 0);
	if (places[place].kind != FILELOCK_SOFT)
		return;
	/* another host's: it is held, by a stranger */
	w.strangers[place] = (struct stranger){ .holds = true, .file = w.files[place],
		                                .mode = FILELOCK_EXCLUSIVE };
}

static void set_fault(void)
{
	static const int errors[] = { EINTR, EMFILE, ENOMEM, ENOSPC, EIO, ENOLCK,
		                      ENOSYS, EACCES, EAGAIN, ENOENT, EPERM, EROFS };
	enum fault_call call = (enum fault_call)(input_byte(&w.input) % FAULT_COUNT);
	unsigned which = input_byte(&w.input);
	unsigned nth = input_byte(&w.input) % 16 + 1;
	int error = errors[which % 12];
	enum fault_span span = which & 0x80 ? FAULT_FOR_GOOD : FAULT_ONCE;

	/* time must be able to pass; and whoever gives up reading a descriptor of the process's
	   pool gives it up for the inputs to come, too */
	if (call == FAULT_nanosleep || (call == FAULT_read && error != EINTR && error != EAGAIN))
		return;
	if (error == EINTR)
		span = FAULT_ONCE;
	w.faulty = true;
	fault_set(call, nth, span, error);
}

/* In a child all that is the parent's is dead, and the parent's locks exclude the child. */
static void live_as_child(void)
{
	struct filelock *lock;
	int r;

	for (int i = 0; i < SLOTS; i++) {
		struct slot *slot = &w.slots[i];

		if (!slot->lock)
			continue;
		CHECK(!filelock_is_held(slot->lock));
		CHECK(filelock_acquire(slot->lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT) ==
		      FILELOCK_EFORKED);
		CHECK(filelock_release(slot->lock) == FILELOCK_EFORKED);
		if (slot->request)
			evfilelock_cancel(slot->request->handle);
		filelock_close(slot->lock);
	}
	for (int i = 0; i < CONTEXTS; i++)
		if (!w.freeing[i])
			evfilelock_free(w.contexts[i]);
	fault_clear();
	for (unsigned i = 0; i < PATHS; i++) {
		if (!is_excluded(i, NULL, FILELOCK_EXCLUSIVE))
			continue;
		CHECK(filelock_open(path_of(i), places[i].kind, NULL, &lock) == 0);
		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
		CHECK(r != 0);
		filelock_close(lock);
	}
}

static void fork_once(void)
{
	int status;
	pid_t pid;

	if (w.forked)
		return;
	w.forked = true;
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		w.in_child = true;
		live_as_child();
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0) /* libFuzzer has a timer */
		CHECK(errno == EINTR);
	CHECK(status == 0);
}

/* --- an input --- */

static void play_on_slot(unsigned what)
{
	unsigned which = input_byte(&w.input);
	struct slot *slot = &w.slots[pick(which, SLOTS)];
	enum filelock_mode mode = which & 0x40 ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE;

	if (what == 0 || !slot->lock) {
		open_slot(slot);
		return;
	}
	switch (what) {
	case 1:
		close_slot(slot);
		break;
	case 2:
		acquire(slot, mode, FILELOCK_NO_WAIT);
		break;
	case 3:
		acquire(slot, mode, (int)input_byte(&w.input));
		break;
	case 4:
		release(slot, which & 0x80);
		break;
	case 5:
		look(slot);
		break;
	case 6:
		filelock_interrupt(slot->lock);
		slot->interrupted = true;
		break;
	default:
		ask(slot, which >> 7, mode);
	}
}

static void play_on_world(unsigned what)
{
	unsigned which = input_byte(&w.input);

	switch (what) {
	case 0:
		if (w.asked > 0)
			cancel(&w.requests[which % w.asked]);
		break;
	case 1:
		new_context(pick(which, CONTEXTS));
		break;
	case 2:
		free_context(pick(which, CONTEXTS));
		break;
	case 3:
		set_fault();
		break;
	case 4:
		fault_clear();
		break;
	case 5:
		stranger_comes(pick(which, PATHS), which & 0x80);
		break;
	case 6:
		stranger_goes(pick(which, PATHS));
		break;
	case 7:
		mess_up(pick(which, PATHS), which & 0x80);
		break;
	case 8:
		fork_once();
		break;
	case 9:
		if (w.looping && w.depth > 0) {
			w.broken = event_base_loopbreak(w.base) == 0;
		} else if (w.contexts[pick(which, CONTEXTS)]) {
			w.prioritised = true;
			(void)evfilelock_set_priority(w.contexts[pick(which, CONTEXTS)],
			                              which & 0x80 ? 1 : 0);
		}
		break;
	default:
		played_advance(which * which * 10000); /* to 650 ms */
	}
}

static void play(unsigned what)
{
	if (what < 0x40)
		play_on_slot(what % 10);
	else if (what < 0x70)
		play_on_world(what % 11);
	else
		turn();
	check_slots();
}

static bool is_anything_pending(void)
{
	for (unsigned i = 0; i < w.asked; i++)
		if (!w.requests[i].answered)
			return true;
	return false;
}

/* Until only safety polls are left of the series of attempts that follows a watch. */
static void wait_long(void)
{
	for (int i = 0; i < 20; i++) {
		turn();
		played_advance((PATIENT_MS + 1) * MILLISECONDS);
	}
	turn();
}

/* Everybody makes way, and all are answered: at once, unless something went wrong before, and
   then by the polls. */
static void settle(void)
{
	unsigned patience = is_troubled() ? 1300 : 1000;

	fault_clear();
	if (!is_troubled())
		wait_long();
	w.settling = true;
	for (unsigned i = 0; i < PATHS; i++)
		stranger_goes(i);
	for (int i = 0; i < SLOTS; i++)
		if (w.slots[i].lock && !w.slots[i].request)
			release(&w.slots[i], true);
		else if (w.slots[i].lock && w.slots[i].depth > 0)
			close_slot(&w.slots[i]);
	for (unsigned ms = 0; is_anything_pending(); ms++) {
		CHECK(ms < patience);
		turn();
		played_advance(ms < 1000 ? 1 * MILLISECONDS : 1 * SECONDS);
	}
	for (int i = 0; i < 3; i++)
		turn();
	CHECK(event_base_get_num_events(w.base, EVENT_BASE_COUNT_ADDED) == 0);
	check_slots();
}

static void tear_down(void)
{
	for (int i = 0; i < SLOTS; i++)
		if (w.slots[i].lock)
			close_slot(&w.slots[i]);
	for (unsigned i = 0; i < CONTEXTS; i++)
		free_context(i);
	event_base_free(w.base);
	stranger_end();
	for (unsigned i = 0; i < PATHS; i++)
		(void)unlink(path_of(i));
}

/* A file of ours that could not be removed is one that a fault left. */
static void check_folder(void)
{
	DIR *folder = opendir(fuzz_folder());
	const struct dirent *entry;

	CHECK(folder);
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.' && strlen(entry->d_name) < 3)
			continue;
		CHECK(w.faulty);
		(void)unlink(fuzz_path(entry->d_name));
	}
	closedir(folder);
}

static void begin(const uint8_t *data, size_t size)
{
	w = (struct world){ .input = { data, size } };
	played_on_sleep = on_sleep;
	played_begin();
	w.base = event_base_new();
	CHECK(w.base && event_base_priority_init(w.base, 2) == 0);
	for (unsigned i = 0; i < CONTEXTS; i++)
		new_context(i);
}

static void run(const uint8_t *data, size_t size)
{
	begin(data, size);
	while (w.input.left > 0)
		play(input_byte(&w.input) & 0x7f);
	settle();
	tear_down();
	played_end();
	check_folder();
}

/* One synchronous wait: what it waits by, the process keeps for good. */
static void warm_up(void)
{
	static const uint8_t wait[] = { 0, 0, 0, 0, 1, 0, 2, 0, 3, 1, 5 };

	played_install();
	fault_watch();
	run(wait, sizeof(wait));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool warm;
	unsigned descriptors;

	if (!warm)
		warm_up();
	warm = true;
	descriptors = fuzz_descriptors() - played_idle_descriptors();
	run(data, size);
	CHECK(fuzz_descriptors() - played_idle_descriptors() == descriptors);
	return 0;
}
