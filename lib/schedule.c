/*
 * schedule.c - when to attempt next.
 *
 * A sign of a release may find the lock still held, because the release is under way: on a plain
 * close or a kill the event can come first. Three more attempts then follow at once, and others
 * after 1, 2, 4 … ms, until the poll interval is reached.
 *
 * Fairness. flock(2) has no queue for those who poll: a handle that asks again right after its own
 * release beats everybody who must first be woken. A handle that asks again within 1 ms of releasing
 * a lock that it had to wait for therefore yields: before each attempt it waits 200 µs, halved for
 * each wake-up that it has lost, so that the one that has lost most goes first. A handle that never
 * had to wait cannot know whether it keeps others out. It lets them go first once in every 25 ms of
 * asking again at once, and knows when it then has to wait.
 */
#include "schedule.h"

#define NEVER INT64_MAX
#define MICROSECOND INT64_C(1000)
#define MILLISECOND INT64_C(1000000)

#define DEFAULT_INTERVAL (50 * MILLISECOND)
#define LONGEST_INTERVAL (60000 * MILLISECOND)
#define LOAD_INTERVAL (1 * MILLISECOND) /* a waiter: 1,000 attempts a second a loop */
#define REMOTE_LOAD_INTERVAL (MILLISECOND / 10)
#define SHARED_WAKE_UPS (INT64_C(1) << 24) /* ns: stretched polls come in groups */
#define JITTER 8 /* a poll comes up to an eighth of its interval early */
#define FIRST_BACK_OFF (1 * MILLISECOND)
#define YIELD_DELAY (200 * MICROSECOND)
#define MOST_LOST 30
#define AGAIN (10 * MILLISECOND)
#define AGAIN_AT_ONCE (1 * MILLISECOND)
#define YIELD_EVERY (25 * MILLISECOND)

int64_t schedule_later(int64_t now, int64_t delay)
{
	return delay > NEVER - now ? NEVER : now + delay;
}

bool schedule_is_loaded(size_t waiting)
{
	return (int64_t)waiting * LOAD_INTERVAL > DEFAULT_INTERVAL;
}

static int64_t stretched_interval(size_t waiting, bool local)
{
	int64_t interval =
	        (int64_t)waiting * (local ? LOAD_INTERVAL : REMOTE_LOAD_INTERVAL);

	if (interval < DEFAULT_INTERVAL)
		return DEFAULT_INTERVAL;
	return interval < LONGEST_INTERVAL ? interval : LONGEST_INTERVAL;
}

struct schedule_poll schedule_poll(unsigned configured_ms, size_t waiting, bool local,
                                   uint64_t salt)
{
	struct schedule_poll poll = { .salt = salt };

	if (configured_ms)
		poll.interval = configured_ms * MILLISECOND;
	else
		poll.interval = stretched_interval(waiting, local);
	poll.is_exact = configured_ms || poll.interval <= DEFAULT_INTERVAL;
	return poll;
}

/* When to look again though nothing wakes. Those who began to wait at the same moment, here or
   elsewhere, are not to go on doing everything at the same moment. */
static int64_t poll_at(int64_t now, struct schedule_poll poll)
{
	uint64_t mixed = (poll.salt ^ (uint64_t)now) * UINT64_C(0x9e3779b97f4a7c15);
	int64_t early = (int64_t)(mixed >> 33) % (poll.interval / JITTER + 1);
	int64_t at = schedule_later(now, poll.interval - early);

	return poll.is_exact ? at : at | (SHARED_WAKE_UPS - 1);
}

void schedule_expect_release(struct schedule *schedule, unsigned char quick)
{
	schedule->quick = quick;
	schedule->back_off = FIRST_BACK_OFF;
}

void schedule_end_series(struct schedule *schedule)
{
	schedule->quick = 0;
	schedule->back_off = 0;
}

bool schedule_after_busy(struct schedule *schedule, int64_t now, struct schedule_poll poll,
                         int64_t most)
{
	int64_t interval = most > 0 && most < poll.interval ? most : poll.interval;
	int64_t delay = schedule->back_off;

	if (schedule->quick > 0) {
		schedule->quick--;
		schedule->next = now;
		return false;
	}
	if (delay > 0 && delay < interval) {
		schedule->back_off *= 2;
		schedule->next = schedule_later(now, delay);
		return false;
	}
	schedule->back_off = 0;
	schedule->next = interval < poll.interval ? schedule_later(now, interval)
	                                          : poll_at(now, poll);
	return true;
}

void schedule_yield(struct schedule *schedule, int64_t now)
{
	unsigned lost = schedule->lost < MOST_LOST ? schedule->lost : MOST_LOST;

	schedule->next = schedule_later(now, YIELD_DELAY >> lost);
}

int64_t schedule_until(const struct schedule *schedule)
{
	return schedule->next < schedule->deadline ? schedule->next : schedule->deadline;
}

bool fairness_is_again(const struct fairness *fairness, int64_t now)
{
	return fairness->released_at != 0 && now - fairness->released_at <= AGAIN;
}

bool fairness_should_yield(struct fairness *fairness, int64_t now)
{
	bool is_at_once =
	        fairness->released_at != 0 && now - fairness->released_at < AGAIN_AT_ONCE;

	/* a handle that has only tried so far, without waiting, has kept nobody out yet */
	if (!is_at_once || fairness->yielded_at == 0) {
		fairness->yielded_at = now;
		return false;
	}
	if (!fairness->contended && now - fairness->yielded_at < YIELD_EVERY)
		return false;
	fairness->yielded_at = now;
	return true;
}
