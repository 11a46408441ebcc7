/*
 * Many requests for one lock in one loop: what a grant costs when the hold is handed over and when
 * each takes it from the system, what adding one costs, what memory, and how long the caller's
 * other events wait meanwhile; each also against the number that waits. Python's asyncio
 * with a hundred tasks.
 */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "bench.h"
#include "plot.h"

#define ROW_WAITING 10000
#define TASKS 100
#define TICK_MS 10

static char *path;
static struct event_base *base;
static struct evfilelock *ev;
static struct filelock **locks;
static unsigned opened;
static uint64_t grants, grants_wanted;
static bool again;

static void granted(struct filelock *lock, int result, void *arg);

static void ask(struct filelock *lock)
{
	(void)must_lock(evfilelock_acquire(ev, lock, FILELOCK_EXCLUSIVE, NULL, granted, NULL), "evfilelock_acquire");
}

static void granted(struct filelock *lock, int result, void *arg)
{
	(void)arg;
	if (result == -ECANCELED) /* of what was added for a while */
		return;
	(void)must_lock(result, "evfilelock_acquire");
	(void)must_lock(filelock_release(lock), "filelock_release");
	if (++grants == grants_wanted)
		(void)event_base_loopbreak(base);
	else if (again && grants < grants_wanted)
		ask(lock);
}

static void open_locks(unsigned n, unsigned handover_max)
{
	struct evfilelock_options options = EVFILELOCK_OPTIONS_INIT;

	options.handover_max = handover_max;
	locks = must_have(calloc(n, sizeof(struct filelock *)), "calloc");
	for (opened = 0; opened < n; opened++)
		(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &locks[opened]),
		                "filelock_open");
	base = must_have(event_base_new(), "event_base_new");
	ev = must_have(evfilelock_new(base, &options), "evfilelock_new");
}

static void close_locks(void)
{
	evfilelock_free(ev);
	event_base_free(base);
	while (opened > 0)
		filelock_close(locks[--opened]);
	free(locks);
}

static void run_until(uint64_t wanted)
{
	grants = 0;
	grants_wanted = wanted;
	(void)must(event_base_dispatch(base), "event_base_dispatch");
	if (grants < wanted)
		bench_fail("the loop ended early");
}

/* Microseconds a grant, of n requests that were made before. */
static double drain(unsigned n, bool hand_over)
{
	int64_t begun;
	double us;

	open_locks(n, hand_over ? 0 : 1);
	again = false;
	for (unsigned i = 0; i < n; i++)
		ask(locks[i]);
	begun = bench_now();
	run_until(n);
	us = (double)(bench_now() - begun) / 1e3 / n;
	close_locks();
	return us;
}

/* The same while each that was served asks again, so that n wait at any time. */
static double keep_busy(unsigned n, uint64_t count)
{
	int64_t begun;
	double us;

	open_locks(n, 0);
	again = true;
	for (unsigned i = 0; i < n; i++)
		ask(locks[i]);
	run_until(n); /* warm, and all have come round */
	ask(locks[n - 1]);
	begun = bench_now();
	run_until(count);
	us = (double)(bench_now() - begun) / 1e3 / (double)count;
	close_locks();
	return us;
}

/* Microseconds to add a request behind n that wait for somebody else's lock. */
static double add(unsigned n)
{
	enum { BATCH = 100 };
	struct series us = { 0 };
	struct filelock *holder;
	double median;

	(void)must_lock(filelock_open(path, FILELOCK_NATIVE, NULL, &holder), "filelock_open");
	(void)must_lock(filelock_acquire(holder, FILELOCK_EXCLUSIVE, 0), "filelock_acquire");
	open_locks(n + BATCH, 0);
	again = false;
	for (unsigned i = 0; i < n; i++)
		ask(locks[i]);
	for (unsigned round = 0; round < bench_rounds(200, 5); round++) {
		int64_t begun = bench_now();

		for (unsigned i = 0; i < BATCH; i++)
			ask(locks[n + i]);
		series_add(&us, (double)(bench_now() - begun) / 1e3 / BATCH);
		for (unsigned i = 0; i < BATCH; i++)
			(void)must_lock(evfilelock_cancel(ev, locks[n + i]), "evfilelock_cancel");
		(void)must(event_base_loop(base, EVLOOP_NONBLOCK) < 0 ? -1 : 0, "event_base_loop");
	}
	close_locks();
	filelock_close(holder);
	median = series_median(&us);
	series_free(&us);
	return median;
}

static double bare_cycle(unsigned n)
{
	int64_t begun = bench_now();
	struct stat st;

	for (unsigned i = 0; i < n; i++) {
		int fd = bench_open_lock_file(path);

		(void)must(fstat(fd, &st), "fstat");
		(void)must(flock(fd, LOCK_EX | LOCK_NB), "flock");
		(void)must(lstat(path, &st), "lstat");
		(void)must(flock(fd, LOCK_UN), "flock");
		(void)must(close(fd), "close");
	}
	return (double)(bench_now() - begun) / 1e3 / n;
}

/* The caller's other events: how long one of them was kept waiting at most. */
static struct gaps {
	int64_t ticked, read, longest_tick, longest_read;
} gaps;

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
	int64_t now = bench_now();

	(void)fd;
	(void)events;
	(void)arg;
	if (now - gaps.ticked > gaps.longest_tick)
		gaps.longest_tick = now - gaps.ticked;
	gaps.ticked = now;
}

static void on_socket(evutil_socket_t fd, short events, void *arg)
{
	int64_t now = bench_now();
	char byte;

	(void)events;
	if (read(fd, &byte, 1) == 1)
		(void)must((int)write(*(int *)arg, &byte, 1), "write");
	if (now - gaps.read > gaps.longest_read)
		gaps.longest_read = now - gaps.read;
	gaps.read = now;
}

/* In milliseconds; the socket has something to read all the time. */
static void measure_gaps(unsigned n, uint64_t count, double *ret_tick, double *ret_read)
{
	static const struct timeval tick = { 0, TICK_MS * 1000 };
	struct event *timer, *socket;
	int pair[2];

	open_locks(n, 0);
	(void)must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), "socketpair");
	timer = must_have(event_new(base, -1, EV_PERSIST, on_tick, NULL), "event_new");
	socket = must_have(event_new(base, pair[0], EV_READ | EV_PERSIST, on_socket, &pair[1]),
	                   "event_new");
	again = true;
	for (unsigned i = 0; i < n; i++)
		ask(locks[i]);
	gaps = (struct gaps){ .ticked = bench_now(), .read = bench_now() };
	(void)must(event_add(timer, &tick), "event_add");
	(void)must(event_add(socket, NULL), "event_add");
	(void)must((int)write(pair[1], "x", 1), "write");
	run_until(count);
	event_free(timer);
	event_free(socket);
	(void)close(pair[0]);
	(void)close(pair[1]);
	close_locks();
	*ret_tick = (double)gaps.longest_tick / 1e6;
	*ret_read = (double)gaps.longest_read / 1e6;
}

static size_t allocated(void)
{
	return mallinfo2().uordblks;
}

static void measure_memory(unsigned n)
{
	size_t before = allocated(), handles;

	open_locks(n, 0);
	handles = allocated();
	again = false;
	for (unsigned i = 0; i < n; i++)
		ask(locks[i]);
	bench_row_limit("memory of a request, 100,000 waiting on one path",
	                (double)(allocated() - handles) / n, "bytes", 256);
	bench_note("and of its handle: %.0f bytes", (double)(handles - before) / n);
	close_locks();
}

static double total_ms(unsigned n)
{
	struct series ms = { 0 };
	double median;

	for (unsigned round = 0; round < bench_rounds(21, 3); round++) {
		int64_t begun;

		open_locks(n, 0);
		again = false;
		begun = bench_now();
		for (unsigned i = 0; i < n; i++)
			ask(locks[i]);
		run_until(n);
		series_add(&ms, (double)(bench_now() - begun) / 1e6);
		close_locks();
	}
	median = series_median(&ms);
	series_free(&ms);
	return median;
}

static void compare_with_python(void)
{
	static const char what[] = "100 requests on one path, in all / 100 asyncio tasks of Python";
	const char *interpreter = getenv("FILELOCK_BENCH_PYTHON");
	const char *folder = getenv("FILELOCK_BENCH_PYTHONPATH");
	const char *script = bench_argument("--python-tasks");
	char command[4096], line[256] = "";
	FILE *python;

	if (!script) {
		bench_skip(what, "no --python-tasks");
		return;
	}
	(void)snprintf(command, sizeof(command), "PYTHONPATH='%s' '%s' '%s' '%s' %d",
	               folder ? folder : "", interpreter ? interpreter : "python3", script, path,
	               TASKS);
	python = must_have(popen(command, "r"), "popen");
	if (!fgets(line, sizeof(line), python))
		line[0] = '\0';
	(void)pclose(python);
	line[strcspn(line, "\n")] = '\0';
	if (strncmp(line, "total ", 6) == 0)
		bench_row(what, total_ms(TASKS), strtod(line + 6, NULL) / 1e6, "ms", 1.0 / 1000);
	else
		bench_skip(what, "%s", line[0] ? line + 5 : "no python3");
}

static void draw(const char *name, const char *title, const char *unit, const double *x,
                 const double *const y[2], const char *const names[2], size_t count)
{
	const char *folder = bench_argument("--plots");
	struct plot_series series[2];
	struct plot plot = { .title = title,
		             .x = { .label = "requests that wait", .log = true },
		             .y = { .label = unit, .log = true },
		             .series = series,
		             .count = y[1] ? 2 : 1 };
	char file[4096];

	if (!folder)
		return;
	for (size_t i = 0; i < plot.count; i++)
		series[i] = (struct plot_series){ .name = names[i], .style = PLOT_MARKED, .x = x,
			                          .y = y[i], .count = count };
	(void)snprintf(file, sizeof(file), "%s/%s.svg", folder, name);
	(void)must_lock(plot_save(&plot, file), "plot_save");
	bench_note("plot: %s.svg", name);
}

static double worst_over_best(const double *values, size_t count)
{
	double best = values[0], worst = values[0];

	for (size_t i = 1; i < count; i++) {
		best = values[i] < best ? values[i] : best;
		worst = values[i] > worst ? values[i] : worst;
	}
	return worst / best;
}

/* The smallest of some: what else the machine does only adds. */
static double best_of(double (*measure)(unsigned n, uint64_t count), unsigned n, uint64_t count)
{
	double best = measure(n, count);

	for (unsigned i = 1; i < bench_rounds(5, 1); i++) {
		double other = measure(n, count);

		best = other < best ? other : best;
	}
	return best;
}

static double drain_passing(unsigned n, uint64_t count)
{
	(void)count;
	return drain(n, true);
}

static double drain_taking(unsigned n, uint64_t count)
{
	(void)count;
	return drain(n, false);
}

static double add_behind(unsigned n, uint64_t count)
{
	(void)count;
	return add(n);
}

static double cycle_bare(unsigned n, uint64_t count)
{
	(void)count;
	return bare_cycle(n);
}

enum { SIZES = 5 };

static void measure_against_number(void)
{
	static const double sizes[SIZES] = { 10, 100, 1000, 10000, 100000 };
	double passing[SIZES], adding[SIZES], tick[SIZES], reading[SIZES];
	const double *grant_lines[2] = { passing, adding };
	const double *gap_lines[2] = { tick, reading };
	static const char *const grant_names[2] = { "a grant", "adding a request" };
	static const char *const gap_names[2] = { "a 10 ms timer", "a busy socket" };
	uint64_t count = bench_rounds(300000, 3000);
	size_t sizes_used = bench_quick ? 3 : SIZES;

	for (size_t i = 0; i < sizes_used; i++) {
		unsigned n = (unsigned)sizes[i];

		passing[i] = best_of(keep_busy, n, count);
		adding[i] = best_of(add_behind, n, 0);
		measure_gaps(n, bench_rounds(3000000, 30000), &tick[i], &reading[i]);
		bench_note("%6u waiting: a grant %.2f us, adding %.2f us, longest gap of a 10 ms "
		           "timer %.1f ms, of a busy socket %.1f ms",
		           n, passing[i], adding[i], tick[i], reading[i]);
	}
	bench_row_limit("one path: a grant with 10 … 100,000 waiting, dearest / cheapest",
	                worst_over_best(passing, sizes_used), "x", 2);
	bench_row_limit("one path: adding a request, likewise",
	                worst_over_best(adding, sizes_used), "x", 2);
	bench_row_limit("longest gap of a 10 ms timer, 10,000 waiting",
	                tick[sizes_used > 3 ? 3 : sizes_used - 1], "ms", 15);
	bench_row_limit("longest gap of a busy socket, 10,000 waiting",
	                reading[sizes_used > 3 ? 3 : sizes_used - 1], "ms", 15);
	draw("queue_cost", "Cost against the number that waits on one path", "microseconds", sizes,
	     grant_lines, grant_names, sizes_used);
	draw("queue_gaps", "Longest gap of other events of the loop", "milliseconds", sizes,
	     gap_lines, gap_names, sizes_used);
}

int main(int argc, char **argv)
{
	unsigned n = bench_rounds(ROW_WAITING, 500);
	double taking, bare;

	bench_begin(argc, argv);
	path = bench_path("queue.lock");
	bench_row_limit("one path, 10,000 requests: a grant, handed over",
	                best_of(drain_passing, n, 0), "us", 1);
	taking = best_of(drain_taking, n, 0);
	bare = best_of(cycle_bare, n, 0);
	bench_row("one path, 10,000 requests: a grant, each taken / six bare calls", taking, bare,
	          "us", 1 / 0.8);
	measure_against_number();
	measure_memory(bench_rounds(100000, 1000));
	compare_with_python();
	free(path);
	return 0;
}
