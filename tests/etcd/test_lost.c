/*
 * Real servers: whoever is cut off from them, stopped, or left by all of them, knows that its lock is lost
 * before the next one has it.
 *
 * FILELOCK_TEST_PARTITIONS: how many partitions (4, and 1 by packets that are lost); they are made in ten
 * lanes at once, or one after another, at phases spread over the time between two renewals.
 * FILELOCK_TEST_TELL: prints by how much the loss came earlier.
 */
#include <signal.h>
#include <stdio.h>

#include "holder.h"
#include "proxy.h"
#include "rpc.h"
#include "wire.h"

#define TTL_MS 2000
#define LANES 10

/* Who comes next: in the test's own process. */
struct next {
	struct loop loop;
	struct filelock_etcd *session;
	struct asked asked;
	int64_t granted; /* CLOCK_BOOTTIME; 0: not yet */
};

static void note_grant(struct asked *asked)
{
	struct next *next = asked->arg;

	next->granted = rpc_now();
}

static void next_begin(struct next *next, const struct nodes *nodes, const char *name)
{
	struct filelock_etcd_options options = nodes_options(nodes, TTL_MS);

	*next = (struct next){ .loop = loop_new() };
	ck_assert_int_eq(filelock_etcd_open(next->loop.ev, &options, &next->session), 0);
	next->asked = (struct asked){ .then = note_grant, .arg = next };
	ck_assert_int_eq(filelock_open_etcd(next->session, name, NULL, &next->asked.lock), 0);
}

static void next_ask(struct next *next)
{
	next->granted = 0;
	loop_ask(&next->loop, &next->asked, FILELOCK_EXCLUSIVE, -1);
}

#define next_turn_until(next, condition)                                                    \
	do {                                                                                \
		int64_t next_end_ = test_now() + TEST_PATIENCE;                             \
		while (!(condition)) {                                                      \
			ck_assert_msg(test_now() < next_end_, "never: %s", #condition);     \
			ck_assert_int_ge(event_base_loop((next)->loop.base, EVLOOP_NONBLOCK), 0); \
			test_nap();                                                         \
		}                                                                           \
	} while (0)

static void next_end(struct next *next)
{
	filelock_close(next->asked.lock);
	filelock_etcd_close(next->session);
	evfilelock_free(next->loop.ev);
	ck_assert_int_eq(event_base_dispatch(next->loop.base), 1);
	event_base_free(next->loop.base);
}

/* --- partitions --- */

struct results {
	_Atomic unsigned made;
	_Atomic int64_t least[LANES], most[LANES]; /* ns: the grant after the holder's callback */
};

struct lanes {
	struct nodes nodes;
	unsigned partitions;
	struct results *results;
};

static void note_margin(struct results *results, unsigned lane, int64_t ns)
{
	if (results->least[lane] == 0 || ns < results->least[lane])
		results->least[lane] = ns;
	if (ns > results->most[lane])
		results->most[lane] = ns;
	atomic_fetch_add(&results->made, 1);
}

static void partition(const struct lanes *lanes, unsigned number, struct proxy *proxy,
                      struct next *next, const char *name)
{
	struct filelock_etcd_options options = proxy_options(proxy, TTL_MS);
	int64_t phase = (int64_t)TTL_MS * MILLISECONDS / 3 * number / lanes->partitions;
	struct holder holder;
	int64_t begun;

	holder_start(&holder, &options, name);
	begun = test_now();
	next_ask(next);
	next_turn_until(next, test_now() >= begun + phase);
	proxy_cut(proxy, CUT_BOTH + number % (CUT_WAYS - CUT_BOTH));
	next_turn_until(next, next->granted != 0);
	ck_assert_int_eq(next->asked.result, 0);
	holder_check(&holder, next->granted);
	note_margin(lanes->results, number % LANES,
	            next->granted - atomic_load(&holder.shared->told));
	ck_assert(filelock_is_held(next->asked.lock) || rpc_now() - next->granted > SECONDS);
	proxy_cut(proxy, CUT_NONE);
	ck_assert_int_eq(filelock_release(next->asked.lock), 0);
	holder_stop(&holder);
	/* and none came later */
	ck_assert_int_gt(next->granted, atomic_load(&holder.shared->believed));
}

struct lane {
	const struct lanes *lanes;
	unsigned number;
};

static int run_lane(void *arg)
{
	const struct lane *lane = arg;
	struct proxy proxy;
	struct next next;
	char name[16];

	(void)snprintf(name, sizeof(name), "lane%u", lane->number);
	proxy_start(&proxy, &lane->lanes->nodes);
	next_begin(&next, &lane->lanes->nodes, name);
	for (unsigned i = lane->number; i < lane->lanes->partitions; i += LANES)
		partition(lane->lanes, i, &proxy, &next, name);
	next_end(&next);
	proxy_stop(&proxy);
	return 0;
}

static void tell_margins(const struct results *results)
{
	int64_t least = INT64_MAX, most = 0;

	for (unsigned i = 0; i < LANES; i++) {
		if (results->least[i] && results->least[i] < least)
			least = results->least[i];
		if (results->most[i] > most)
			most = results->most[i];
	}
	if (getenv("FILELOCK_TEST_TELL"))
		printf("partitions %u; told before the next one's grant by %.0f to %.0f ms\n",
		       results->made, (double)least / 1e6, (double)most / 1e6);
}

START_TEST(test_holder_that_is_cut_off_knows_before_the_next_one_has_the_lock)
{
	const char *wanted = getenv("FILELOCK_TEST_PARTITIONS");
	struct lanes lanes = { .partitions = wanted ? (unsigned)atoi(wanted) : 4 };
	struct lane lane[LANES];
	pid_t pids[LANES];
	unsigned count = lanes.partitions < LANES ? lanes.partitions : LANES;

	ck_assert_uint_gt(count, 0);
	if (!nodes_start(&lanes.nodes))
		return;
	lanes.results = test_shared(sizeof(*lanes.results));
	await(nodes_count_keys(&lanes.nodes) == 0); /* they answer */
	for (unsigned i = 0; i < count; i++) {
		lane[i] = (struct lane){ &lanes, i };
		pids[i] = test_fork(run_lane, &lane[i]);
	}
	for (unsigned i = 0; i < count; i++)
		ck_assert_int_eq(test_reap(pids[i]), 0);
	ck_assert_uint_eq(lanes.results->made, lanes.partitions);
	tell_margins(lanes.results);
	nodes_stop(&lanes.nodes);
}
END_TEST

/* --- packets that are lost --- */

static void lose_packets(const struct wire *wire, const struct nodes *nodes, struct next *next, unsigned number,
                         unsigned count)
{
	struct filelock_etcd_options options = nodes_options(nodes, TTL_MS);
	int64_t phase = (int64_t)TTL_MS * MILLISECONDS / 3 * number / count;
	struct holder holder;
	int64_t begun;

	wire_go_far(wire);
	holder_start(&holder, &options, "wire");
	wire_go_near(wire);
	begun = test_now();
	next_ask(next);
	next_turn_until(next, test_now() >= begun + phase);
	wire_cut(wire, CUT_BOTH + number % (CUT_WAYS - CUT_BOTH));
	next_turn_until(next, next->granted != 0);
	ck_assert_int_eq(next->asked.result, 0);
	holder_check(&holder, next->granted);
	if (getenv("FILELOCK_TEST_TELL"))
		printf("packets lost: told before the next one's grant by %.0f ms\n",
		       (double)(next->granted - atomic_load(&holder.shared->told)) / 1e6);
	wire_cut(wire, CUT_NONE);
	ck_assert_int_eq(filelock_release(next->asked.lock), 0);
	holder_stop(&holder);
	ck_assert_int_gt(next->granted, atomic_load(&holder.shared->believed));
}

START_TEST(test_holder_whose_packets_are_lost_knows_before_the_next_one_has_the_lock)
{
	const char *wanted = getenv("FILELOCK_TEST_PARTITIONS");
	unsigned count = wanted ? (unsigned)atoi(wanted) : 1;
	struct wire wire;
	struct nodes nodes;
	struct next next;

	if (!wire_make(&wire))
		return;
	if (nodes_start_at(&nodes, WIRE_NEAR)) {
		next_begin(&next, &nodes, "wire");
		for (unsigned i = 0; i < count; i++)
			lose_packets(&wire, &nodes, &next, i, count);
		next_end(&next);
		nodes_stop(&nodes);
	}
	wire_end(&wire);
}
END_TEST

/* --- stops and restarts --- */

struct scene {
	struct nodes nodes;
	struct holder holder;
	struct next next;
};

static bool scene_begin(struct scene *scene)
{
	struct filelock_etcd_options options;

	if (!nodes_start(&scene->nodes))
		return false;
	options = nodes_options(&scene->nodes, TTL_MS);
	holder_start(&scene->holder, &options, "a");
	next_begin(&scene->next, &scene->nodes, "a");
	next_ask(&scene->next);
	return true;
}

static void scene_end(struct scene *scene)
{
	holder_stop(&scene->holder);
	ck_assert_int_gt(scene->next.granted, atomic_load(&scene->holder.shared->believed));
	ck_assert_int_eq(filelock_release(scene->next.asked.lock), 0);
	next_end(&scene->next);
	await(nodes_count_keys(&scene->nodes) == 0);
	nodes_stop(&scene->nodes);
}

START_TEST(test_holder_that_was_stopped_past_its_lease_does_not_believe_when_it_goes_on)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	ck_assert_int_eq(kill(scene.holder.pid, SIGSTOP), 0);
	next_turn_until(&scene.next, scene.next.granted != 0);
	ck_assert_int_eq(scene.next.asked.result, 0);
	ck_assert_int_eq(kill(scene.holder.pid, SIGCONT), 0);
	holder_check(&scene.holder, scene.next.granted);
	scene_end(&scene);
}
END_TEST

static void restart_all(struct nodes *nodes)
{
	for (unsigned i = 0; i < NODES; i++)
		nodes_run(nodes, i);
}

START_TEST(test_holder_that_all_servers_left_knows_before_the_next_one_has_the_lock)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	nodes_stop(&scene.nodes);
	next_turn_until(&scene.next, holder_is_told(&scene.holder));
	restart_all(&scene.nodes);
	next_turn_until(&scene.next, scene.next.granted != 0);
	ck_assert_int_eq(scene.next.asked.result, 0);
	holder_check(&scene.holder, scene.next.granted);
	scene_end(&scene);
}
END_TEST

/* It may be in time for the next renewal or not; either way nobody holds beside it. */
START_TEST(test_servers_that_all_start_again_at_once_give_nobody_a_lock_that_is_held)
{
	struct scene scene;

	if (!scene_begin(&scene))
		return;
	nodes_stop(&scene.nodes);
	restart_all(&scene.nodes);
	next_turn_until(&scene.next, scene.next.granted != 0 || nodes_count_keys(&scene.nodes) > 0);
	if (scene.next.granted == 0 && !holder_is_told(&scene.holder))
		holder_leave(&scene.holder);
	next_turn_until(&scene.next, scene.next.granted != 0);
	ck_assert_int_eq(scene.next.asked.result, 0);
	scene_end(&scene);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("etcd_lost");
	TCase *tcase = tcase_create("real servers");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, test_holder_that_is_cut_off_knows_before_the_next_one_has_the_lock);
	tcase_add_test(tcase, test_holder_whose_packets_are_lost_knows_before_the_next_one_has_the_lock);
	tcase_add_test(tcase, test_holder_that_was_stopped_past_its_lease_does_not_believe_when_it_goes_on);
	tcase_add_test(tcase, test_holder_that_all_servers_left_knows_before_the_next_one_has_the_lock);
	tcase_add_test(tcase, test_servers_that_all_start_again_at_once_give_nobody_a_lock_that_is_held);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
