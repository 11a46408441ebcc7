/*
 * Real servers: processes of their own contend for one lock while servers and clients are killed and
 * stopped. Each notes when it was told that it holds, and with which token; at the end a judge that knows
 * nothing of the library finds no two holds at one time, tokens that rise, and nothing left in the store.
 *
 * FILELOCK_TEST_STORM: for so many seconds, with trouble at random, instead of one trouble of each sort.
 * FILELOCK_TEST_TELL: prints how much of everything there was.
 */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "holds.h"
#include "nodes.h"
#include "rpc.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define SHARED FILELOCK_SHARED
#define WORKERS 4
#define TTL_MS 2000
#define MOST_HOLDS (1u << 19)

struct arena {
	_Atomic unsigned entries, lost, errors;
	_Atomic bool over;
	struct hold holds[MOST_HOLDS];
};

struct worker {
	struct arena *arena;
	struct hold *hold;
	struct loop loop;
	struct filelock_etcd *session;
	struct filelock *lock;
	struct event *timer;
	int64_t leaves; /* CLOCK_BOOTTIME */
	enum filelock_mode mode;
	unsigned random;
};

static unsigned draw(unsigned *random)
{
	*random = *random * 1103515245u + 12345u;
	return *random >> 16;
}

static void set_timer(struct worker *worker, int ms)
{
	struct timeval after = { ms / 1000, ms % 1000 * 1000 };

	if (event_add(worker->timer, &after) < 0)
		abort();
}

/* False: it is lost already. */
static bool note_hold(struct worker *worker)
{
	struct hold hold = { .asked = rpc_now(), .shared = worker->mode == SHARED };
	unsigned place;

	if (filelock_token(worker->lock, &hold.token) < 0 || !filelock_is_held(worker->lock))
		return false;
	hold.believed = hold.began = rpc_now();
	place = atomic_fetch_add(&worker->arena->entries, 1);
	if (place >= MOST_HOLDS)
		abort();
	worker->hold = &worker->arena->holds[place];
	*worker->hold = hold;
	atomic_store(&worker->hold->noted, true);
	return true;
}

static bool believes(const struct worker *worker)
{
	int64_t asked = rpc_now();

	if (!filelock_is_held(worker->lock))
		return false;
	atomic_store(&worker->hold->believed, asked);
	return true;
}

static void ask_for_lock(struct worker *worker);

static void on_released(struct filelock *lock, int result, void *arg)
{
	struct worker *worker = arg;

	(void)lock;
	if (result < 0)
		atomic_fetch_add(&worker->arena->errors, 1);
	if (atomic_load(&worker->arena->over))
		(void)event_base_loopbreak(worker->loop.base);
	else
		ask_for_lock(worker);
}

static void leave(struct worker *worker)
{
	if (evfilelock_release(worker->loop.ev, worker->lock, on_released, worker) < 0)
		abort();
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct worker *worker = arg;

	(void)fd;
	(void)events;
	if (!believes(worker))
		atomic_fetch_add(&worker->arena->lost, 1);
	else if (rpc_now() < worker->leaves && !atomic_load(&worker->arena->over)) {
		set_timer(worker, 2);
		return;
	}
	leave(worker);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct worker *worker = arg;

	(void)lock;
	if (result == -ETIMEDOUT && !atomic_load(&worker->arena->over)) {
		ask_for_lock(worker);
		return;
	}
	if (result < 0) {
		if (result != -ETIMEDOUT)
			atomic_fetch_add(&worker->arena->errors, 1);
		(void)event_base_loopbreak(worker->loop.base);
		return;
	}
	if (!note_hold(worker)) {
		atomic_fetch_add(&worker->arena->lost, 1);
		leave(worker);
		return;
	}
	/* some stay for longer than a lease lasts */
	worker->leaves = rpc_now() + (draw(&worker->random) % 64 ? draw(&worker->random) % 8
	                                                         : TTL_MS * 3 / 2) *
	                                     MILLISECONDS;
	set_timer(worker, 1);
}

static void ask_for_lock(struct worker *worker)
{
	struct timeval timeout = { 5, 0 };

	worker->mode = draw(&worker->random) % 4 ? EXCLUSIVE : SHARED;
	if (evfilelock_acquire(worker->loop.ev, worker->lock, worker->mode, &timeout, on_lock,
	                       worker) < 0)
		abort();
}

static void work(struct arena *arena, const struct nodes *nodes)
{
	struct filelock_etcd_options options = nodes_options(nodes, TTL_MS);
	struct worker worker = { .arena = arena, .random = (unsigned)getpid() };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	worker.loop = loop_new();
	worker.timer = evtimer_new(worker.loop.base, on_timer, &worker);
	if (filelock_etcd_open(worker.loop.ev, &options, &worker.session) < 0 ||
	    filelock_open_etcd(worker.session, "storm", NULL, &worker.lock) < 0)
		abort();
	ask_for_lock(&worker);
	(void)event_base_dispatch(worker.loop.base);
	filelock_close(worker.lock);
	filelock_etcd_close(worker.session);
	event_free(worker.timer);
	evfilelock_free(worker.loop.ev);
	(void)event_base_dispatch(worker.loop.base);
	event_base_free(worker.loop.base);
	_exit(0);
}

/* --- trouble --- */

enum trouble { STOP_CLIENT, KILL_CLIENT, KILL_LEADER, STOP_LEADER, KILL_SERVER, RESTART_ALL, TROUBLES };

static const char *const troubles[TROUBLES] = { "clients stopped", "clients killed",
	                                        "leaders killed", "leaders stopped",
	                                        "servers killed", "restarts of all servers" };

struct supervisor {
	struct nodes nodes;
	struct arena *arena;
	pid_t workers[WORKERS];
	/* test_now: when it goes on; 0: it does */
	int64_t workers_back[WORKERS], nodes_back[NODES];
	unsigned made[TROUBLES];
	unsigned random;
};

static void start_worker(struct supervisor *all, unsigned i)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		work(all->arena, &all->nodes);
	all->workers[i] = pid;
}

static void bring_back(struct supervisor *all, int64_t now)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (all->workers_back[i] && all->workers_back[i] <= now) {
			ck_assert_int_eq(kill(all->workers[i], SIGCONT), 0);
			all->workers_back[i] = 0;
		}
	for (unsigned i = 0; i < NODES; i++)
		if (all->nodes_back[i] && all->nodes_back[i] <= now) {
			if (all->nodes.pids[i] > 0)
				ck_assert_int_eq(kill(all->nodes.pids[i], SIGCONT), 0);
			else
				nodes_run(&all->nodes, i);
			all->nodes_back[i] = 0;
		}
}

static bool is_whole(const struct supervisor *all)
{
	for (unsigned i = 0; i < NODES; i++)
		if (all->nodes_back[i])
			return false;
	return true;
}

/* Stopped for longer than its lease lasts. */
static bool trouble_client(struct supervisor *all, bool dies)
{
	unsigned i = draw(&all->random) % WORKERS;

	if (all->workers_back[i])
		return false;
	if (!dies) {
		ck_assert_int_eq(kill(all->workers[i], SIGSTOP), 0);
		all->workers_back[i] = test_now() + (TTL_MS + 200 + draw(&all->random) % 1500) *
		                                            MILLISECONDS;
		return true;
	}
	ck_assert_int_eq(kill(all->workers[i], SIGKILL), 0);
	ck_assert_int_eq(test_reap(all->workers[i]), 128 + SIGKILL);
	start_worker(all, i);
	return true;
}

/* Only one is away at a time. */
static bool trouble_server(struct supervisor *all, unsigned node, bool dies)
{
	if (node == NODES || !is_whole(all))
		return false;
	if (dies)
		nodes_kill(&all->nodes, node);
	else
		ck_assert_int_eq(kill(all->nodes.pids[node], SIGSTOP), 0);
	all->nodes_back[node] = test_now() + (300 + draw(&all->random) % TTL_MS) * MILLISECONDS;
	return true;
}

static bool restart_all(struct supervisor *all)
{
	if (!is_whole(all))
		return false;
	nodes_stop(&all->nodes);
	for (unsigned i = 0; i < NODES; i++)
		nodes_run(&all->nodes, i);
	return true;
}

/* False: not now. */
static bool make_trouble(struct supervisor *all, enum trouble trouble)
{
	switch (trouble) {
	case STOP_CLIENT:
	case KILL_CLIENT:
		return trouble_client(all, trouble == KILL_CLIENT);
	case KILL_LEADER:
	case STOP_LEADER:
		return is_whole(all) && trouble_server(all, nodes_leader(&all->nodes),
		                                       trouble == KILL_LEADER);
	case KILL_SERVER:
		return trouble_server(all, draw(&all->random) % NODES, true);
	default:
		return restart_all(all);
	}
}

/* Clients are the most of it, and restarts of everything, in which all wait, the least. */
static enum trouble draw_trouble(struct supervisor *all)
{
	unsigned number = draw(&all->random) % 20;

	return number < TROUBLES ? (enum trouble)number : number % 2 ? STOP_CLIENT : KILL_CLIENT;
}

/* Until the next one; when it is to last, so that work is done meanwhile: one that dies leaves all others
   waiting for its lease. */
static int64_t draw_pause(struct supervisor *all, bool long_storm)
{
	return (200 + draw(&all->random) % (long_storm ? 2 * TTL_MS : 600)) * MILLISECONDS;
}

/* One of each sort; or, until that time, any. False: it is over. */
static bool next_trouble(struct supervisor *all, int64_t end, unsigned *ret_number)
{
	unsigned number = *ret_number;
	enum trouble trouble = end ? draw_trouble(all) : (enum trouble)number;

	if (end ? test_now() >= end : number == TROUBLES)
		return false;
	if (make_trouble(all, trouble)) {
		all->made[trouble]++;
		++*ret_number;
	}
	return true;
}

/* While it lasts somebody always enters, sooner or later. */
static void storm(struct supervisor *all, int64_t end)
{
	int64_t entered_at = test_now(), next = 0;
	unsigned number = 0, entered = 0;

	for (;;) {
		int64_t now = test_now();
		unsigned entries = atomic_load(&all->arena->entries);

		if (entries != entered)
			entered_at = now;
		entered = entries;
		ck_assert_msg(now - entered_at < TEST_PATIENCE, "nobody enters any more");
		bring_back(all, now);
		if (now >= next && entries > WORKERS) {
			if (!next_trouble(all, end, &number))
				break;
			next = now + draw_pause(all, end != 0);
		}
		test_nap();
	}
	bring_back(all, INT64_MAX);
}

static void tell(const struct supervisor *all, const struct verdict *verdict)
{
	if (!getenv("FILELOCK_TEST_TELL"))
		return;
	for (unsigned i = 0; i < TROUBLES; i++)
		printf("%s%s %u", i ? ", " : "", troubles[i], all->made[i]);
	printf("; holds %u, of them lost %u; overlaps %zu, tokens that did not rise %zu\n",
	       all->arena->entries, all->arena->lost, verdict->overlaps, verdict->fallen);
	(void)fflush(stdout);
}

START_TEST(test_nobody_overlaps_while_servers_and_clients_die)
{
	const char *seconds = getenv("FILELOCK_TEST_STORM");
	struct supervisor all = { .random = (unsigned)getpid() };
	struct verdict verdict;

	if (!nodes_start(&all.nodes))
		return;
	all.arena = test_shared(sizeof(*all.arena));
	for (unsigned i = 0; i < WORKERS; i++)
		start_worker(&all, i);
	storm(&all, seconds ? test_now() + atoi(seconds) * SECONDS : 0);
	atomic_store(&all.arena->over, true);
	for (unsigned i = 0; i < WORKERS; i++)
		ck_assert_int_eq(test_reap(all.workers[i]), 0);
	verdict = holds_judge(all.arena->holds, all.arena->entries);
	tell(&all, &verdict);
	ck_assert_uint_eq(all.arena->errors, 0);
	ck_assert_uint_eq(verdict.overlaps, 0);
	ck_assert_uint_eq(verdict.fallen, 0);
	await(nodes_count_keys(&all.nodes) == 0); /* leases of the dead have to end */
	nodes_stop(&all.nodes);
}
END_TEST

/* --- the judge --- */

static void expect_verdict(const struct hold *holds, size_t count, size_t overlaps, size_t fallen)
{
	struct hold own[4];
	struct verdict verdict;

	memcpy(own, holds, count * sizeof(*holds));
	verdict = holds_judge(own, count);
	ck_assert_uint_eq(verdict.overlaps, overlaps);
	ck_assert_uint_eq(verdict.fallen, fallen);
}

START_TEST(test_judge_finds_holds_at_one_time_and_tokens_that_fall)
{
	/* token, asked, began, believed, shared, noted */
	static const struct hold fine[] = { { 2, 20, 21, 30, false, true }, { 1, 1, 2, 20, false, true },
		                            { 3, 31, 32, 40, true, true }, { 4, 33, 34, 50, true, true } };
	static const struct hold writers[] = { { 1, 1, 2, 20, false, true }, { 2, 9, 10, 11, false, true } };
	static const struct hold beside[] = { { 1, 1, 2, 20, false, true }, { 2, 9, 10, 11, true, true } };
	static const struct hold reader[] = { { 1, 1, 2, 20, true, true }, { 2, 9, 10, 11, false, true } };
	static const struct hold falls[] = { { 2, 1, 2, 3, false, true }, { 1, 9, 10, 11, false, true } };
	static const struct hold same[] = { { 2, 1, 2, 3, false, true }, { 2, 9, 10, 11, false, true } };
	/* killed while it noted this; stopped between question and answer */
	static const struct hold unknown[] = { { 5, 1, 2, 20, false, false }, { 1, 3, 5, 5, false, true },
		                               { 2, 6, 9, 10, false, true } };

	expect_verdict(fine, 4, 0, 0);
	expect_verdict(writers, 2, 1, 0);
	expect_verdict(beside, 2, 1, 0);
	expect_verdict(reader, 2, 1, 0);
	expect_verdict(falls, 2, 0, 1);
	expect_verdict(same, 2, 0, 1);
	expect_verdict(unknown, 3, 0, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("etcd_storm");
	TCase *tcase = tcase_create("storm");

	tcase_set_timeout(tcase, 7200);
	tcase_add_test(tcase, test_nobody_overlaps_while_servers_and_clients_die);
	tcase_add_test(tcase, test_judge_finds_holds_at_one_time_and_tokens_that_fall);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
