/*
 * world.h - a model of what the handles and requests of a program hold and ask for, and the calls
 * of the library checked against it.
 */
#ifndef FILELOCK_TESTS_WORLD_H
#define FILELOCK_TESTS_WORLD_H

#include <event2/event.h>

#include <filelock/event.h>

#include "fuzz.h"
#include "stranger.h"

enum { SLOTS = 6, PATHS = 3, CONTEXTS = 2, MOST_REQUESTS = 64 };
enum { PATIENT_MS = 60000, HANDING_OVER = 0 /* the context that does */ };
#define NO_FILE (~0u)

/* A lock file. */
struct place {
	enum filelock_kind kind;
	const char *name;
};
extern const struct place places[PATHS];

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
	struct filelock *lock;
	struct slot *slot; /* NULL: closed meanwhile */
	unsigned place;
	unsigned context;
	enum filelock_mode mode;
	int64_t deadline;
	unsigned turn; /* of the loop, in whose callback it began; 0: in none */
	bool cancelled, answered;
};

struct world {
	struct input input;
	struct event_base *base;
	struct evfilelock *contexts[CONTEXTS];
	bool freeing[CONTEXTS];
	unsigned requested[CONTEXTS], answered[CONTEXTS]; /* of the contexts that are there now */
	struct slot slots[SLOTS];
	struct request requests[MOST_REQUESTS];
	unsigned asked;
	struct stranger strangers[PATHS];
	unsigned files[PATHS]; /* counts the files that a place has had */
	unsigned freed[PATHS]; /* in which turn it was last made way at */
	unsigned turn;
	unsigned depth; /* of callbacks */
	bool looping, inside, broken;
	bool faulty, messed, limited, forked, settling, in_child;
};
extern struct world w;

/* The program's: does something, from the loop or from inside a callback. */
void play(unsigned what);

const char *path_of(unsigned place);
/* One of so many, by a byte whose upper two bits say something else. */
unsigned pick(unsigned byte, unsigned count);
/* Whatever is not ours to predict has happened. */
bool is_troubled(void);
/* Whether anybody but `self` holds the file that stands at a place, in a way that excludes. */
bool is_excluded(unsigned place, const struct slot *self, enum filelock_mode mode);
void check_slots(void);
void check_stats(unsigned context);

/* limit: descriptors that waiting requests may keep, and 1; 0: the default. */
void new_context(unsigned context, unsigned limit);
void free_context(unsigned context);
void ask(struct slot *slot, unsigned context, enum filelock_mode mode);
void cancel(struct request *request);
/* One turn of the loop, unless it is inside one. */
void turn(void);

/* Each takes what more it needs from the input. */
void open_slot(struct slot *slot);
void close_slot(struct slot *slot);
void acquire(struct slot *slot, enum filelock_mode mode, int timeout);
void release(struct slot *slot, bool all);
void look(struct slot *slot);

#endif
