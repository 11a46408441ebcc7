/*
 * storm.h - many processes at locks of all kinds, synchronous and in loops, killed, stopped,
 * cancelled, forked and robbed of their lock files at random; and two verifiers: a witness inside
 * the lock, and a watch over releases that woke nobody.
 *
 *   storm.c        arguments, the scenarios, rounds
 *   supervisor.c   starts, kills, stops and replaces the workers; afterwards.c: what is left
 *   worker.c       what every worker does; worker_sync.c, worker_event.c: how it asks
 *   child.c        what is forked from a worker
 *   inside.c       the witness; baton.c: the wake-ups
 *   trouble.c      what was found; report.c: what was counted
 *
 * All share one arena. A process has a `life`, a number that is never used again; it asks as
 * several owners, one a handle: `who` is made of both.
 */
#ifndef FILELOCK_TESTS_STORM_H
#define FILELOCK_TESTS_STORM_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <filelock/filelock.h>

#define MILLISECOND INT64_C(1000000)
#define SECOND INT64_C(1000000000)
/* A wake-up is lost that comes so late: sooner than the poll, and no machine is that slow. */
#define LOST_BOUND (15 * SECOND)

enum {
	KINDS = FILELOCK_SOFT_READWRITE + 1,
	MOST_PLACES = 16, /* locks */
	MOST_SLOTS = 64,  /* workers at a time */
	TWINS = 2,        /* handles that a loop has on one lock */
	SEATS = MOST_SLOTS * TWINS,
	CHILD_NUMBER = MOST_PLACES * TWINS, /* the handle of a worker's child */
	NUMBERS = 64,
	MOST_TROUBLES = 32
};

/* The plan of a round; the counts grow with --long and shrink with the test scale. */
struct scenario {
	const char *name;
	unsigned places[KINDS]; /* locks of each kind */
	unsigned sync, event;   /* workers of each mode */
	unsigned long grants;   /* at least so many, */
	unsigned long wakes;    /* wake-ups across processes, */
	unsigned long kills;    /* kills and */
	unsigned long stops;    /* stops and continuations */
	unsigned poll_ms;       /* 0: the library's default */
	bool baton;             /* after a release only who waits already may ask: baton.c */
};

/* One lock, in shared memory. */
struct place {
	enum filelock_kind kind;
	char path[PATH_MAX];
	_Atomic uint32_t inside;         /* the exclusive holder's `who` */
	_Atomic uint32_t reading[SEATS]; /* shared holders */
	_Atomic int64_t waiting[SEATS];  /* since when; 0: does not */
	_Atomic int64_t released;        /* when, if nobody has been granted it since */
	_Atomic pid_t releaser;
};

/* A process that was ever started. */
struct life {
	pid_t pid;
	bool event;
	_Atomic int64_t marked; /* before it was killed; 0: it was not */
};

enum tally {
	TALLY_GRANTS,
	TALLY_NATIVE, /* grants by kind, in the order of enum filelock_kind */
	TALLY_TIMEOUTS = TALLY_NATIVE + KINDS,
	TALLY_CANCELS,
	TALLY_CHILDREN,
	TALLY_REMOVALS,
	TALLY_SETS,       /* granted */
	TALLY_ANSWERED,   /* releases by evfilelock_release */
	TALLY_BY_WORKERS, /* grants in loops that have workers */
	TALLY_TOGETHER,   /* readers that found another one inside, by kind as above */
	TALLY_WAKES = TALLY_TOGETHER + KINDS, /* across processes */
	TALLY_LATE,       /* of these, later than the bound */
	TALLIES
};

/* Of one worker at a time; counts go on from life to life. */
struct slot {
	unsigned number;
	unsigned life;
	pid_t pid;
	int64_t stopped_until; /* 0: it runs */
	bool event;
	unsigned long tallies[TALLIES];
	int64_t longest; /* from a release to the grant */
};

enum trouble_type {
	TROUBLE_OVERLAP,
	TROUBLE_LOST,   /* a release that woke nobody */
	TROUBLE_RESULT, /* of the library, that was not to be */
	TROUBLE_LEFT_BEHIND,
	TROUBLE_DEATH,  /* a process that ended by itself */
	TROUBLE_COUNTS  /* too little happened to prove anything */
};

struct trouble {
	_Atomic bool told;
	enum trouble_type type;
	char text[480];
};

struct arena {
	struct scenario scenario;
	uint64_t seed;
	char folder[PATH_MAX];
	int64_t began, took;
	int64_t bound; /* of a wake-up that is not late */
	_Atomic bool stopping;
	unsigned place_count, slot_count;
	struct place places[MOST_PLACES];
	struct slot slots[MOST_SLOTS];
	_Atomic unsigned trouble_count; /* may be more than are kept */
	struct trouble troubles[MOST_TROUBLES];
	_Atomic int64_t worst_stall; /* of the supervisor: what the machine may do to anybody */
	unsigned life_count, life_capacity;
	struct life *lives;
};

extern struct arena *arena;

/* --- chance: a generator of its own for each process --- */

struct dice {
	uint64_t state;
};

uint64_t dice_roll(struct dice *dice);
static inline unsigned dice_below(struct dice *dice, unsigned limit)
{
	return (unsigned)(dice_roll(dice) % limit);
}
static inline bool dice_one_in(struct dice *dice, unsigned count)
{
	return dice_below(dice, count) == 0;
}

int64_t now(void); /* CLOCK_MONOTONIC */
void nap(int64_t nanoseconds);
void spin(int64_t nanoseconds);

/* --- who --- */

static inline uint32_t who_of(unsigned life, unsigned number)
{
	return life * NUMBERS + number;
}
static inline const struct life *life_of(uint32_t who)
{
	return &arena->lives[who / NUMBERS];
}
/* Marked as a victim: what it left inside is no overlap. Never a child: nobody kills one. */
static inline int64_t who_is_marked(uint32_t who)
{
	return who % NUMBERS == CHILD_NUMBER ? 0 : atomic_load(&life_of(who)->marked);
}
const char *kind_name(enum filelock_kind kind);
/* "pid 12 (loop, life 3, handle 4, killed)"; good for four more calls. */
const char *who_text(uint32_t who);

/* --- trouble --- */

/* Notes what was found; it is printed at the end of the round, which ends soon. */
void trouble_note(enum trouble_type type, const char *format, ...)
        __attribute__((format(printf, 2, 3)));
unsigned trouble_count(enum trouble_type type);

/* --- holds --- */

/* One handle of a worker, on one lock. */
struct handle {
	struct filelock *lock;
	struct place *place;
	unsigned seat;
	uint32_t who;
	enum filelock_mode mode;
	int64_t asked;
};

/* The witness. enter returns whether a reader found another one. */
bool inside_enter(struct handle *handle);
void inside_leave(struct handle *handle);

/* The baton. ask before, granted or unasked after; release before a hold ends. */
bool baton_may_ask(struct place *place);
void baton_ask(struct handle *handle);
void baton_unask(struct handle *handle);
void baton_granted(struct handle *handle, struct slot *slot);
void baton_release(struct handle *handle);
bool baton_has_waiters(struct place *place);
/* In the supervisor: its life is over, perhaps with a lock. */
void baton_died(const struct slot *slot, int64_t when);
void baton_look_for_lost(void);

/* --- workers --- */

struct worker {
	struct slot *slot;
	struct dice dice;
	bool hands_over; /* inside its loop, as by default */
	bool delegates;  /* its loop's system calls, to workers */
	int64_t last_fork;
};

/* In the process of a worker: to its end. */
_Noreturn void worker_main(struct slot *slot);
void worker_sync_run(struct worker *worker);
void worker_event_run(struct worker *worker);

bool worker_is_over(void);
void worker_open(struct worker *worker, struct handle *handle);
void worker_choose_mode(struct worker *worker, struct handle *handle);
/* Whether it may ask is the caller's question. */
void worker_ask(struct handle *handle);
/* Takes the result; true: it holds. */
bool worker_answered(struct worker *worker, struct handle *handle, int result);
void worker_hold(struct worker *worker, struct handle *handle);
/* Ends a hold, up to its release, which comes next. */
void worker_leave(struct worker *worker, struct handle *handle);
/* Takes the result of the release. */
void worker_released(const struct handle *handle, int result);

/* Perhaps forks a child that does something or other; handle: one of its, held or not. */
void child_maybe_fork(struct worker *worker, const struct handle *handle);

/* --- the supervisor --- */

/* One round, from the start of the workers to their end, which must come within limit. */
void supervisor_run(int64_t limit);
/* Checks the folder and every lock when all processes are gone. */
void afterwards_check(void);

/* --- the report --- */

struct totals {
	unsigned long tallies[TALLIES];
	unsigned long kills, stops, rounds;
	unsigned long overlaps, lost, troubles;
	int64_t longest, took;
};

void report_add(struct totals *totals); /* the round that is over */
void report_print(const struct totals *totals, const char *name);
/* The troubles of the round. */
void report_troubles(void);

extern unsigned long supervisor_kills, supervisor_stops; /* of the round */

#endif
