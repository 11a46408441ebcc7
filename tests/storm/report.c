/* report.c - what was counted, for people; and the plot of the waits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plot.h"
#include "storm.h"

void report_add(struct totals *totals)
{
	for (unsigned i = 0; i < arena->slot_count; i++) {
		const struct slot *slot = &arena->slots[i];

		for (int t = 0; t < TALLIES; t++)
			totals->tallies[t] += slot->tallies[t];
		for (int k = 0; k < KINDS; k++)
			waits_merge(&totals->asked[k], &slot->asked[k]);
		waits_merge(&totals->woken, &slot->woken);
	}
	totals->kills += supervisor_kills;
	totals->stops += supervisor_stops;
	totals->rounds++;
	totals->overlaps += trouble_count(TROUBLE_OVERLAP) + trouble_count(TROUBLE_INTERVALS);
	totals->lost += trouble_count(TROUBLE_LOST);
	totals->troubles += atomic_load(&arena->trouble_count);
	totals->took += arena->took;
}

void report_merge(struct totals *into, const struct totals *from)
{
	for (int t = 0; t < TALLIES; t++)
		into->tallies[t] += from->tallies[t];
	for (int k = 0; k < KINDS; k++)
		waits_merge(&into->asked[k], &from->asked[k]);
	waits_merge(&into->woken, &from->woken);
	into->kills += from->kills;
	into->stops += from->stops;
	into->rounds += from->rounds;
	into->overlaps += from->overlaps;
	into->lost += from->lost;
	into->troubles += from->troubles;
	into->took += from->took;
}

static double milliseconds(int64_t time)
{
	return (double)time / 1e6;
}

static void print_waits(const char *what, const struct histogram *histogram)
{
	if (waits_count(histogram) == 0)
		return;
	printf("  %-27s median %.3f, 99 %% %.3f, 99.99 %% %.2f, longest %.2f ms\n", what,
	       milliseconds(waits_quantile(histogram, 0.5)),
	       milliseconds(waits_quantile(histogram, 0.99)),
	       milliseconds(waits_quantile(histogram, 0.9999)), milliseconds(histogram->longest));
}

static void print_grants(const struct totals *totals)
{
	const unsigned long *t = totals->tallies;
	double took = (double)totals->took / 1e9;

	printf("  acquisitions                %lu in %.1f s, %.0f a second", t[TALLY_GRANTS], took,
	       (double)t[TALLY_GRANTS] / took);
	for (int k = 0; k < KINDS; k++)
		if (t[TALLY_NATIVE + k])
			printf(", %s %lu", kind_name((enum filelock_kind)k), t[TALLY_NATIVE + k]);
	printf("\n");
}

static void print_readers(const unsigned long *t)
{
	if (t[TALLY_TOGETHER + FILELOCK_NATIVE])
		printf("  native readers together     %lu\n", t[TALLY_TOGETHER + FILELOCK_NATIVE]);
	if (t[TALLY_TOGETHER + FILELOCK_READWRITE])
		printf("  readwrite readers together  %lu\n",
		       t[TALLY_TOGETHER + FILELOCK_READWRITE]);
}

static void print_loops(const unsigned long *t)
{
	printf("  in loops: by workers        %lu, sets %lu, releases answered %lu\n",
	       t[TALLY_BY_WORKERS], t[TALLY_SETS], t[TALLY_ANSWERED]);
}

/* Only where it is looked for: without the baton, nothing would find one. */
static void lost_text(const struct totals *totals, char *text, size_t size)
{
	*text = '\0';
	if (totals->tallies[TALLY_WAKES] || totals->lost)
		(void)snprintf(text, size, ", lost wake-ups %lu", totals->lost);
}

void report_print(const struct totals *totals, const char *name)
{
	const unsigned long *t = totals->tallies;
	char lost[48];

	printf("storm %s: %lu round%s\n", name, totals->rounds, totals->rounds == 1 ? "" : "s");
	print_grants(totals);
	printf("  kills, stops                %lu, %lu\n", totals->kills, totals->stops);
	printf("  time-outs, cancellations    %lu, %lu\n", t[TALLY_TIMEOUTS], t[TALLY_CANCELS]);
	printf("  children, files removed     %lu, %lu\n", t[TALLY_CHILDREN], t[TALLY_REMOVALS]);
	print_readers(t);
	print_loops(t);
	for (int k = 0; k < KINDS; k++) {
		char what[32];

		(void)snprintf(what, sizeof(what), "waits, %s", kind_name((enum filelock_kind)k));
		print_waits(what, &totals->asked[k]);
	}
	if (t[TALLY_WAKES]) {
		printf("  wake-ups across processes   %lu, later than the bound (missed_wakeups by poll) "
		       "%lu\n",
		       t[TALLY_WAKES], t[TALLY_LATE]);
		print_waits("release to grant", &totals->woken);
	}
	lost_text(totals, lost, sizeof(lost));
	printf("  overlaps %lu%s, troubles in all %lu\n", totals->overlaps, lost, totals->troubles);
}

/* The share of waits that were longer, by their length; how many points that makes. */
static size_t make_curve(const struct histogram *histogram, double *x, double *y)
{
	double all = (double)waits_count(histogram);
	double longer = all;
	size_t count = 0;

	for (int i = 0; i < WAIT_BUCKETS; i++) {
		if (histogram->buckets[i] == 0)
			continue;
		longer -= (double)histogram->buckets[i];
		x[count] = waits_bucket_end(i) / 1e9;
		y[count++] = longer / all;
	}
	return count;
}

int report_plot(const struct totals *totals, const char *path)
{
	static const char *const names[] = { "native", "soft", "readwrite", "woken by a release" };
	static double x[KINDS + 1][WAIT_BUCKETS], y[KINDS + 1][WAIT_BUCKETS];
	struct plot_series series[KINDS + 1];
	struct plot plot = {
		.title = "Waiting times under storm",
		.x = { .label = "time from asking, or from the release, to the grant",
		       .unit = PLOT_SECONDS, .log = true },
		.y = { .label = "share of the waits that were longer", .log = true },
		.series = series,
	};
	char note[160], lost[48];

	for (int k = 0; k <= KINDS; k++) {
		const struct histogram *waits = k < KINDS ? &totals->asked[k] : &totals->woken;

		if (waits_count(waits) == 0)
			continue;
		series[plot.count++] = (struct plot_series){ names[k], PLOT_LINE, x[k], y[k],
			                                     make_curve(waits, x[k], y[k]) };
	}
	lost_text(totals, lost, sizeof(lost));
	(void)snprintf(note, sizeof(note), "%lu acquisitions, %lu kills, %lu overlaps%s",
	               totals->tallies[TALLY_GRANTS], totals->kills, totals->overlaps, lost);
	plot.note = note;
	return plot_save(&plot, path);
}

static void write_log(void)
{
	static const char *const modes[] = { "exclusive", "shared", "removal" };
	char path[PATH_MAX + 16];
	size_t count = atomic_load(&arena->entry_count);
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/log.tsv", arena->folder);
	file = fopen(path, "we");
	if (!file)
		return;
	(void)fputs("lock\tmode\tbegin\tend\tkilled at\tinode\twho\n", file);
	for (size_t i = 0; i < count && i < arena->entry_capacity; i++) {
		const struct entry *e = &arena->entries[i];
		int64_t marked = who_is_marked(e->who);

		(void)fprintf(file, "%s\t%s\t%ld\t%ld\t%ld\t%lu\t%s\n", arena->places[e->place].path,
		              modes[e->mode], (long)(e->begin - arena->began),
		              e->end ? (long)(e->end - arena->began) : 0,
		              marked ? (long)(marked - arena->began) : 0,
		              (unsigned long)e->file, who_text(e->who));
	}
	(void)fclose(file);
	printf("  the log, in nanoseconds since the start, is %s\n", path);
}

void report_troubles(void)
{
	static const char *const names[] = { "OVERLAP",  "INTERVALS",   "LOST WAKE-UP", "LEAK",
		                             "RESULT",   "LEFT BEHIND", "DEATH",        "COUNTS" };
	unsigned count = atomic_load(&arena->trouble_count);

	for (unsigned i = 0; i < count && i < MOST_TROUBLES; i++) {
		const struct trouble *trouble = &arena->troubles[i];

		printf("  %s: %s\n", names[trouble->type],
		       atomic_load(&trouble->told) ? trouble->text : "(cut short)");
	}
	if (count > MOST_TROUBLES)
		printf("  and %u more\n", count - MOST_TROUBLES);
	write_log();
}
