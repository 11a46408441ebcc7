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

#include "played.h"
#include "support.h"
#include "world.h"

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
	/* a file that is open and whose path is never there is tried again at once, for ever: time
	   would have to pass meanwhile */
	if (error == EINTR || call == FAULT_lstat)
		span = FAULT_ONCE;
	w.faulty = true;
	fault_set(call, nth, span, error);
}

/* A handle that has no request, or none in this context. */
static void cancel_nothing(unsigned context, unsigned index)
{
	const struct slot *slot = &w.slots[index];

	if (!w.contexts[context] || !slot->lock)
		return;
	if (!slot->request || slot->request->context != context)
		CHECK(evfilelock_cancel(w.contexts[context], slot->lock) == -ENOENT);
}

/* A handle in a child: dead if it held or waited at the fork, else kept out by what excludes it. */
static void live_as_slot(struct slot *slot)
{
	bool dead = slot->depth > 0 || slot->request;

	CHECK(!filelock_is_held(slot->lock));
	if (dead || is_excluded(slot->place, slot, FILELOCK_EXCLUSIVE)) {
		int r = filelock_acquire(slot->lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);

		CHECK(r < 0 && (r == FILELOCK_EFORKED) == dead);
	}
	CHECK(filelock_release(slot->lock) == (dead ? FILELOCK_EFORKED : -EPERM));
	if (slot->request)
		CHECK(evfilelock_cancel(w.contexts[slot->request->context], slot->lock) < 0);
	filelock_close(slot->lock);
}

/* In a child what held or waited is dead, and the parent's locks exclude the child. */
static void live_as_child(void)
{
	struct filelock *lock;
	int r;

	fault_clear();
	for (int i = 0; i < SLOTS; i++)
		if (w.slots[i].lock)
			live_as_slot(&w.slots[i]);
	for (int i = 0; i < CONTEXTS; i++)
		if (!w.freeing[i])
			evfilelock_free(w.contexts[i]);
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
		new_context(pick(which, CONTEXTS), which >> 6);
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
		} else {
			cancel_nothing(pick(which, CONTEXTS), pick(which >> 4, SLOTS));
		}
		break;
	default:
		played_advance(which * which * 10000); /* to 650 ms */
	}
}

void play(unsigned what)
{
	if (what < 0x40)
		play_on_slot(what % 10);
	else if (what < 0x70)
		play_on_world(what % 11);
	else
		turn();
	check_slots();
	for (unsigned i = 0; i < CONTEXTS; i++)
		check_stats(i);
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
	unsigned patience = is_troubled() || w.limited ? 1300 : 1000;

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
	if (event_base_get_num_events(w.base, EVENT_BASE_COUNT_ADDED) > 0) {
		/* the other context's was there at the last look of one that keeps a file open: for a second */
		played_advance(1 * SECONDS);
		turn();
	}
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
		new_context(i, 0);
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

/* A synchronous wait for a file, and one for a process: what they wait by, this one keeps for good. */
static void warm_up(void)
{
	static const uint8_t wait[] = { 0, 0, 0, 0, 1, 0, 2, 0, 3, 1, 5 };
	char record[300] = "1\n";
	struct filelock *lock;

	played_install();
	fault_watch();
	run(wait, sizeof(wait));
	played_begin();
	CHECK(gethostname(record + 2, sizeof(record) - 4) == 0);
	strcat(record, "\n");
	fuzz_write(fuzz_path("soft"), record, strlen(record));
	CHECK(filelock_open(fuzz_path("soft"), FILELOCK_SOFT, NULL, &lock) == 0);
	CHECK(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5) == -ETIMEDOUT);
	filelock_close(lock);
	CHECK(unlink(fuzz_path("soft")) == 0);
	played_end();
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
