/*
 * gateway.h - etcd's JSON gateway, played in the test's own process and loop: a store of keys, leases
 * that end only when the test says so, watches; and calls that go wrong on demand.
 */
#ifndef FILELOCK_TESTS_GATEWAY_H
#define FILELOCK_TESTS_GATEWAY_H

#include <event2/event.h>

#include "../async/loop.h"
#include "session.h"

#include <filelock/etcd.h>

enum fault_way {
	WAY_NONE,
	WAY_SILENT,         /* done, and never answered */
	WAY_DEAF,           /* neither done nor answered */
	WAY_500,
	WAY_503,
	WAY_UNSURE,         /* done, and answered that it timed out, as in a change of leaders */
	WAY_CUT,            /* done, and cut off in the middle of the answer */
	WAY_CLOSED,         /* done, and the connection is closed without an answer */
	WAY_TWICE,          /* done twice; the second answer is given */
	WAY_LATE,           /* not answered, and done when the test says so */
	WAY_HELD,           /* done, and answered when the test says so */
	WAY_FULL,           /* there is no room for another key */
	WAY_OLD_TOKEN,      /* users were changed since the token was given */
	WAY_401,
	WAY_DENIED,         /* the user may not */
	WAY_COUNT
};

struct gateway;

struct gateway *gateway_new(struct event_base *base);
void gateway_free(struct gateway *gateway);
const char *gateway_url(const struct gateway *gateway);

/* The nth call from now (1: the next one) goes wrong. path NULL: of any sort. */
void gateway_fault(struct gateway *gateway, const char *path, unsigned nth, enum fault_way way);
bool gateway_fault_is_met(const struct gateway *gateway);
/* All calls, from now on. */
void gateway_fault_all(struct gateway *gateway, enum fault_way way);
/* What was late is done; what was held is answered. */
void gateway_do_late(struct gateway *gateway);
void gateway_answer_held(struct gateway *gateway);
/* The terms that keepalives and transactions name. */
void gateway_set_terms(struct gateway *gateway, int keepalives, int transactions);
/* Answers all calls so, with this status. */
void gateway_answer_all(struct gateway *gateway, int status, const char *text);
/* Keepalives from now on come without a TTL; or with one, whether there is the lease or not. */
void gateway_keepalives_lie(struct gateway *gateway, bool dead);
/* Each call is answered so long after it has come, and the loop stands still meanwhile; and when, by
   CLOCK_BOOTTIME, the last one on that path came. */
void gateway_take_time(struct gateway *gateway, const char *path, unsigned ms);
int64_t gateway_came(const struct gateway *gateway);
/* Wants a token; the one that was given is void from now on. */
void gateway_want_token(struct gateway *gateway);
/* Deletes all keys, or ends all leases, and tells watchers or not. */
void gateway_delete_all(struct gateway *gateway, bool tell);
void gateway_end_leases(struct gateway *gateway, bool tell);
/* Cuts all watches off; and whether watches tell of anything. */
void gateway_cut_watches(struct gateway *gateway);
/* Ends all watches for the reason that what they would have told of is not kept. */
void gateway_compact(struct gateway *gateway);
/* What watches tell comes a byte at a time. */
void gateway_chop_watches(struct gateway *gateway);
void gateway_mute_watches(struct gateway *gateway, bool mute);

unsigned gateway_keys(const struct gateway *gateway);
unsigned gateway_leases(const struct gateway *gateway);
unsigned gateway_calls(const struct gateway *gateway);
unsigned gateway_watches(const struct gateway *gateway); /* that were ever begun */
unsigned gateway_keepalives(const struct gateway *gateway);
/* The same gateway at the address ::1; NULL: there is none here. */
const char *gateway_url_6(struct gateway *gateway);

/* A session on it, with a TTL and a patience that no test outlives. */
struct filelock_etcd *gateway_session(struct gateway *gateway, struct loop *loop);
struct filelock_etcd *gateway_session_with(struct gateway *gateway, struct loop *loop,
                                           struct filelock_etcd_options *options);
/* The time for the answer that it waits for is over. */
void gateway_hurry(struct filelock_etcd *session);
struct filelock *gateway_lock(struct filelock_etcd *session, const char *name);
/* Closes a session. A machine may be too slow for the two seconds of its goodbye: it has all the time that it
   takes. */
void gateway_close(struct filelock_etcd *session);
/* And waits for its end. */
void gateway_goodbye(struct loop *loop, struct filelock_etcd *session);
/* Turns the loop until the condition holds. */
#define turn_until(loop, condition)                                                         \
	do {                                                                                \
		int64_t turn_end_ = test_now() + TEST_PATIENCE;                             \
		while (!(condition)) {                                                      \
			ck_assert_msg(test_now() < turn_end_, "never: %s", #condition);     \
			ck_assert_int_ge(event_base_loop((loop)->base, EVLOOP_NONBLOCK), 0); \
			test_nap();                                                         \
		}                                                                           \
	} while (0)

#endif
