/*
 * A crowd on one native lock: 8, 64 and 256 processes, each in a loop of acquire, hold for 0.3 ms,
 * release, and 128 that hold it for no time; with flock(2), with synchronous handles and with
 * requests in libevent loops. Grants a second, CPU a grant, the longest wait.
 *
 * $FILELOCK_BENCH_EARLIER, the folder of an earlier build, adds its bench_crowd as a peer.
 */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "crowd.h"
#include "plot.h"

#define HOLD_NS 300000

static char *path;
static char *earlier; /* NULL: none */

struct figures {
	struct series rate, cpu, longest;
};

static struct contender {
	const char *name;
	unsigned kind;
	bool earlier;
	struct figures figures; /* of the size that is measured */
} contenders[] = {
	{ .name = "flock(2)", .kind = CROWD_FLOCK },
	{ .name = "in loops", .kind = CROWD_REQUEST },
	{ .name = "synchronous", .kind = CROWD_ACQUIRE },
	{ .name = "in loops, earlier build", .kind = CROWD_REQUEST, .earlier = true },
	{ .name = "synchronous, earlier build", .kind = CROWD_ACQUIRE, .earlier = true },
};
enum { FLOCK, LOOPS, SYNCHRONOUS, EARLIER, CONTENDERS = 5 };

static unsigned contender_count(void)
{
	return earlier ? CONTENDERS : EARLIER;
}

/* Bounds on the ratios to flock(2); 0: none. */
static const struct size {
	unsigned processes, quick; /* with --quick */
	double rate_least, cpu_most, longest_most;
} sizes[] = {
	{ .processes = 8, .quick = 2, .cpu_most = 1.8 },
	{ .processes = 64, .quick = 4, .rate_least = 0.9, .cpu_most = 1.8, .longest_most = 1.5 },
	{ .processes = 256, .quick = 8, .cpu_most = 1.8 },
};
enum { SIZES = sizeof(sizes) / sizeof(*sizes) };
#define EMPTY_PROCESSES 128
#define EMPTY_LEAST 5 /* to a build in which every release wakes every waiter */

static double cpu_lines[CONTENDERS][SIZES], longest_lines[CONTENDERS][SIZES];

static void measure(struct contender *contender, unsigned n, int64_t hold_ns)
{
	int64_t duration = (int64_t)bench_rounds(2000, 50) * 1000000;
	struct crowd_result result = crowd_run(
	        path, contender->kind, contender->earlier ? earlier : NULL, n, hold_ns, duration);

	series_add(&contender->figures.rate, result.rate);
	series_add(&contender->figures.cpu, result.cpu_us);
	series_add(&contender->figures.longest, result.longest_ms);
}

static void measure_all(unsigned n, int64_t hold_ns)
{
	unsigned batches = bench_rounds(5, 1);

	for (unsigned batch = 0; batch < batches; batch++)
		for (unsigned i = 0; i < contender_count(); i++)
			measure(&contenders[i], n, hold_ns);
	for (unsigned i = 0; i < contender_count(); i++) {
		struct figures *figures = &contenders[i].figures;

		bench_note("%u processes, %.1f ms holds, %s: %.0f grants a second, %.1f us of CPU "
		           "a grant, longest wait %.1f ms (medians of %u; worst %.1f ms)",
		           n, (double)hold_ns / 1e6, contenders[i].name,
		           series_median(&figures->rate), series_median(&figures->cpu),
		           series_median(&figures->longest), batches,
		           series_max(&figures->longest));
	}
}

static void forget_figures(void)
{
	for (unsigned i = 0; i < CONTENDERS; i++) {
		series_free(&contenders[i].figures.rate);
		series_free(&contenders[i].figures.cpu);
		series_free(&contenders[i].figures.longest);
	}
}

static void report(unsigned n, struct contender *ours, const struct size *size)
{
	struct figures *flock = &contenders[FLOCK].figures;
	struct figures *own = &ours->figures;
	char what[80];

	(void)snprintf(what, sizeof(what), "grants a second, %u processes, %s / flock(2)", n,
	               ours->name);
	bench_row_least(what, series_median(&own->rate), series_median(&flock->rate), "/s",
	                size->rate_least);
	(void)snprintf(what, sizeof(what), "CPU a grant, %u processes, %s / flock(2)", n,
	               ours->name);
	bench_row(what, series_median(&own->cpu), series_median(&flock->cpu), "us",
	          size->cpu_most);
	(void)snprintf(what, sizeof(what), "longest wait, %u processes, %s / flock(2)", n,
	               ours->name);
	bench_row(what, series_median(&own->longest), series_median(&flock->longest), "ms",
	          size->longest_most);
}

static void measure_size(unsigned which)
{
	unsigned n = bench_rounds(sizes[which].processes, sizes[which].quick);

	measure_all(n, HOLD_NS);
	report(n, &contenders[LOOPS], &sizes[which]);
	report(n, &contenders[SYNCHRONOUS], &sizes[which]);
	for (unsigned i = 0; i < contender_count(); i++) {
		cpu_lines[i][which] = series_median(&contenders[i].figures.cpu);
		longest_lines[i][which] = series_median(&contenders[i].figures.longest);
	}
	forget_figures();
}

static void report_empty(unsigned n, const struct contender *ours, const struct contender *peer)
{
	char what[80];

	(void)snprintf(what, sizeof(what), "grants a second, %u processes, empty holds, %s / %s", n,
	               ours->name, peer->earlier ? "earlier build" : peer->name);
	bench_row_least(what, series_median((struct series *)&ours->figures.rate),
	                series_median((struct series *)&peer->figures.rate), "/s",
	                peer->earlier ? EMPTY_LEAST : 0);
}

static void measure_empty(void)
{
	unsigned n = bench_rounds(EMPTY_PROCESSES, 8);

	measure_all(n, 0);
	for (unsigned i = LOOPS; i <= SYNCHRONOUS; i++) {
		report_empty(n, &contenders[i], &contenders[FLOCK]);
		if (earlier)
			report_empty(n, &contenders[i], &contenders[i + EARLIER - LOOPS]);
	}
	forget_figures();
}

static void draw(const char *name, const char *title, const char *label,
                 double lines[CONTENDERS][SIZES])
{
	const char *folder = bench_argument("--plots");
	struct plot_series series[CONTENDERS];
	double x[SIZES];
	struct plot plot = { .title = title,
		             .note = "one native lock, holds of 0.3 ms",
		             .x = { .label = "processes", .log = true },
		             .y = { .label = label, .log = true },
		             .series = series,
		             .count = contender_count() };
	char file[4096];

	if (!folder)
		return;
	for (unsigned i = 0; i < SIZES; i++)
		x[i] = bench_rounds(sizes[i].processes, sizes[i].quick);
	for (unsigned i = 0; i < contender_count(); i++)
		series[i] = (struct plot_series){ .name = contenders[i].name,
			                          .style = PLOT_MARKED,
			                          .x = x,
			                          .y = lines[i],
			                          .count = SIZES };
	(void)snprintf(file, sizeof(file), "%s/%s.svg", folder, name);
	(void)must_lock(plot_save(&plot, file), "plot_save");
	bench_note("plot: %s.svg", name);
}

int main(int argc, char **argv)
{
	const char *folder = getenv("FILELOCK_BENCH_EARLIER");

	crowd_be_member(argc, argv);
	bench_begin(argc, argv);
	path = bench_path("crowd.lock");
	if (folder && asprintf(&earlier, "%s/tests/bench/bench_crowd", folder) < 0)
		bench_fail("out of memory");
	for (unsigned which = 0; which < SIZES; which++)
		measure_size(which);
	measure_empty();
	draw("crowd_cpu", "CPU a grant against the number of processes", "microseconds",
	     cpu_lines);
	draw("crowd_longest", "Longest wait against the number of processes", "milliseconds",
	     longest_lines);
	free(earlier);
	free(path);
	return 0;
}
