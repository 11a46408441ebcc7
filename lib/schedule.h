/*
 * schedule.h - when to attempt next: arithmetic of deadlines, polls, back-off and fairness. It
 * reads no clock and knows no handle.
 */
#ifndef FILELOCK_SCHEDULE_H
#define FILELOCK_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Times are nanoseconds of the driver's clock. */
struct schedule {
	int64_t deadline;    /* FILELOCK_NEVER: none */
	int64_t next;        /* no attempt before this, unless woken */
	int64_t back_off;    /* the last wait of a series; 0: no series is on */
	unsigned char quick; /* attempts left to make at once, in a series */
	unsigned lost;       /* wake-ups after which the lock was still held */
};

/* How often to poll. */
struct schedule_poll {
	int64_t interval;
	bool is_exact; /* the caller's own interval, or the default one: not rounded */
	uint64_t salt; /* differs from waiter to waiter */
};

/* The facts for fairness, of one handle, or of those that follow each other in one queue. */
struct fairness {
	int64_t released_at; /* when the lock was last released; 0: never */
	int64_t yielded_at;  /* when others were last let go first */
	bool contended;      /* the hold, or the last one, had to be waited for */
};

/* The time `delay` after `now`; FILELOCK_NEVER at most. */
int64_t schedule_later(int64_t now, int64_t delay);

/* Whether so many waiters in one loop make the default interval longer. */
bool schedule_is_loaded(size_t waiting);
/* configured_ms 0: the default interval, which grows with the number of waiters in one loop. */
struct schedule_poll schedule_poll(unsigned configured_ms, size_t waiting, bool local,
                                   uint64_t salt);

/* A sign of a release has come, which is worth a series of attempts, `quick` of them at once. */
void schedule_expect_release(struct schedule *schedule, unsigned char quick);
/* A wait begins that ends otherwise. */
void schedule_end_series(struct schedule *schedule);
/* Sets when to attempt after one that found the lock held. most > 0: not later than that from now.
   Whether a poll is next: no series of attempts is on. */
bool schedule_after_busy(struct schedule *schedule, int64_t now, struct schedule_poll poll,
                         int64_t most);
/* Lets others go first: the more wake-ups were lost, the shorter. */
void schedule_yield(struct schedule *schedule, int64_t now);
/* The earlier of the next attempt and the deadline. */
int64_t schedule_until(const struct schedule *schedule);

/* Whether to let others go first. Notes that it was asked. */
/* Whether the handle was released just before. */
bool fairness_is_again(const struct fairness *fairness, int64_t now);
bool fairness_should_yield(struct fairness *fairness, int64_t now);

#endif
