/*
 * Real servers: processes of their own contend for one lock while servers and clients are killed and
 * stopped. Whoever enters finds nobody inside whose own clock still says that it holds the lock; tokens
 * rise; nothing is left in the store.
 */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "nodes.h"
#include "rpc.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define SHARED FILELOCK_SHARED
#define WORKERS 4
#define TTL_MS 2000

enum { OUTSIDE, READS, WRITES };

struct slot {
	_Atomic int inside;
	_Atomic int64_t until; /* CLOCK_BOOTTIME: it believes to hold until then */
	_Atomic unsigned entries, lost, errors;
};

struct arena {
	struct slot slots[WORKERS];
	_Atomic uint64_t token; /* the highest seen */
	_Atomic unsigned overlaps, tokens_fallen;
	_Atomic bool over;
};

struct worker {
	struct arena *arena;
	struct slot *slot;
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

	ck_assert_int_eq(event_add(worker->timer, &after), 0);
}

static void look_around(const struct worker *worker)
{
	struct arena *arena = worker->arena;
	int64_t now = rpc_now();

	for (unsigned i = 0; i < WORKERS; i++) {
		const struct slot *other = &arena->slots[i];
		int inside = atomic_load(&other->inside);

		if (other != worker->slot && now < atomic_load(&other->until) &&
		    (inside == WRITES || (inside == READS && worker->mode == EXCLUSIVE)))
			atomic_fetch_add(&arena->overlaps, 1);
	}
}

static void check_token(const struct worker *worker)
{
	struct arena *arena = worker->arena;
	uint64_t token = 0;

	if (filelock_token(worker->lock, &token) < 0 || worker->mode != EXCLUSIVE)
		return;
	/* of one that is late the resource would not take it */
	if (token <= atomic_load(&arena->token) && filelock_is_held(worker->lock))
		atomic_fetch_add(&arena->tokens_fallen, 1);
	else
		atomic_store(&arena->token, token);
}

/* False: it is lost already. */
static bool believe(const struct worker *worker)
{
	int64_t left = filelock_etcd_time_left(worker->session);

	if (!filelock_is_held(worker->lock) || left <= 0)
		return false;
	atomic_store(&worker->slot->until, rpc_now() + (left - 1) * 1000000);
	return true;
}

static void ask(struct worker *worker);

static void on_released(struct filelock *lock, int result, void *arg)
{
	struct worker *worker = arg;

	(void)lock;
	if (result < 0)
		atomic_fetch_add(&worker->slot->errors, 1);
	if (atomic_load(&worker->arena->over))
		(void)event_base_loopbreak(worker->loop.base);
	else
		ask(worker);
}

static void leave(struct worker *worker)
{
	atomic_store(&worker->slot->inside, OUTSIDE);
	(void)event_del(worker->timer);
	if (evfilelock_release(worker->loop.ev, worker->lock, on_released, worker) < 0)
		atomic_fetch_add(&worker->slot->errors, 1);
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct worker *worker = arg;

	(void)fd;
	(void)events;
	if (!believe(worker))
		atomic_fetch_add(&worker->slot->lost, 1);
	else if (rpc_now() < worker->leaves) {
		set_timer(worker, 10);
		return;
	}
	leave(worker);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct worker *worker = arg;

	(void)lock;
	if (result == -ETIMEDOUT && !atomic_load(&worker->arena->over)) {
		ask(worker);
		return;
	}
	if (result < 0) {
		if (result != -ETIMEDOUT)
			atomic_fetch_add(&worker->slot->errors, 1);
		(void)event_base_loopbreak(worker->loop.base);
		return;
	}
	if (believe(worker)) {
		atomic_store(&worker->slot->inside, worker->mode == EXCLUSIVE ? WRITES : READS);
		look_around(worker);
		check_token(worker);
		atomic_fetch_add(&worker->slot->entries, 1);
	}
	/* some stay for longer than a lease lasts */
	worker->leaves = rpc_now() + (draw(&worker->random) % 64 ? draw(&worker->random) % 8
	                                                         : TTL_MS * 3 / 2) *
	                                     MILLISECONDS;
	set_timer(worker, 1);
}

static void ask(struct worker *worker)
{
	struct timeval timeout = { 5, 0 };

	worker->mode = draw(&worker->random) % 4 ? EXCLUSIVE : SHARED;
	if (evfilelock_acquire(worker->loop.ev, worker->lock, worker->mode, &timeout, on_lock,
	                       worker) < 0)
		abort();
}

static void work(struct arena *arena, unsigned i, const struct nodes *nodes)
{
	struct filelock_etcd_options options = nodes_options(nodes, TTL_MS);
	struct worker worker = { .arena = arena, .slot = &arena->slots[i], .random = (unsigned)getpid() };

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	worker.loop = loop_new();
	worker.timer = evtimer_new(worker.loop.base, on_timer, &worker);
	if (filelock_etcd_open(worker.loop.ev, &options, &worker.session) < 0 ||
	    filelock_open_etcd(worker.session, "storm", NULL, &worker.lock) < 0)
		abort();
	ask(&worker);
	(void)event_base_dispatch(worker.loop.base);
	filelock_close(worker.lock);
	filelock_etcd_close(worker.session);
	event_free(worker.timer);
	evfilelock_free(worker.loop.ev);
	(void)event_base_dispatch(worker.loop.base);
	event_base_free(worker.loop.base);
	_exit(0);
}

static pid_t start(struct arena *arena, unsigned i, const struct nodes *nodes)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0)
		work(arena, i, nodes);
	return pid;
}

static void nap(unsigned ms)
{
	int64_t end = test_now() + ms * MILLISECONDS;

	while (test_now() < end)
		test_nap();
}

struct supervisor {
	struct nodes nodes;
	struct arena *arena;
	pid_t workers[WORKERS];
	unsigned random;
};

static void replace(struct supervisor *all, unsigned i)
{
	(void)kill(all->workers[i], SIGKILL);
	ck_assert_int_eq(test_reap(all->workers[i]), 128 + SIGKILL);
	/* it believes yet, as others have to respect: the next one comes under its number later */
	await(rpc_now() >= atomic_load(&all->arena->slots[i].until));
	atomic_store(&all->arena->slots[i].inside, OUTSIDE);
	all->workers[i] = start(all->arena, i, &all->nodes);
}

static void trouble(struct supervisor *all)
{
	unsigned node = draw(&all->random) % NODES, worker = draw(&all->random) % WORKERS;
	unsigned ms = 200 + draw(&all->random) % (TTL_MS + 1000);

	switch (draw(&all->random) % 4) {
	case 0:
		nodes_kill(&all->nodes, node);
		nap(ms / 2);
		nodes_run(&all->nodes, node);
		break;
	case 1:
		(void)kill(all->nodes.pids[node], SIGSTOP);
		nap(ms);
		(void)kill(all->nodes.pids[node], SIGCONT);
		break;
	case 2:
		(void)kill(all->workers[worker], SIGSTOP);
		nap(ms);
		(void)kill(all->workers[worker], SIGCONT);
		break;
	default:
		replace(all, worker);
	}
}

static unsigned entries(const struct arena *arena)
{
	unsigned sum = 0;

	for (unsigned i = 0; i < WORKERS; i++)
		sum += atomic_load(&arena->slots[i].entries);
	return sum;
}

START_TEST(test_nobody_overlaps_while_servers_and_clients_die)
{
	struct supervisor all = { .random = (unsigned)getpid() };
	unsigned rounds = test_rounds(8), before;

	if (!nodes_start(&all.nodes))
		return;
	all.arena = test_shared(sizeof(*all.arena));
	for (unsigned i = 0; i < WORKERS; i++)
		all.workers[i] = start(all.arena, i, &all.nodes);
	await(entries(all.arena) > WORKERS);
	for (unsigned round = 0; round < rounds; round++) {
		trouble(&all);
		before = entries(all.arena);
		await(entries(all.arena) > before); /* it goes on */
	}
	atomic_store(&all.arena->over, true);
	for (unsigned i = 0; i < WORKERS; i++) {
		ck_assert_int_eq(test_reap(all.workers[i]), 0);
		ck_assert_uint_eq(atomic_load(&all.arena->slots[i].errors), 0);
	}
	ck_assert_uint_eq(atomic_load(&all.arena->overlaps), 0);
	ck_assert_uint_eq(atomic_load(&all.arena->tokens_fallen), 0);
	await(nodes_count_keys(&all.nodes) == 0); /* leases of the dead have to end */
	if (getenv("FILELOCK_TEST_TELL"))
		printf("entries %u\n", entries(all.arena));
	nodes_stop(&all.nodes);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("etcd_storm");
	TCase *tcase = tcase_create("storm");

	tcase_set_timeout(tcase, 600);
	tcase_add_test(tcase, test_nobody_overlaps_while_servers_and_clients_die);
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
