/* report.c - what was counted, for people. */
#include <stdio.h>

#include "storm.h"

void report_add(struct totals *totals)
{
	for (unsigned i = 0; i < arena->slot_count; i++) {
		const struct slot *slot = &arena->slots[i];

		for (int t = 0; t < TALLIES; t++)
			totals->tallies[t] += slot->tallies[t];
		if (slot->longest > totals->longest)
			totals->longest = slot->longest;
	}
	totals->kills += supervisor_kills;
	totals->stops += supervisor_stops;
	totals->rounds++;
	totals->overlaps += trouble_count(TROUBLE_OVERLAP);
	totals->lost += trouble_count(TROUBLE_LOST);
	totals->troubles += atomic_load(&arena->trouble_count);
	totals->took += arena->took;
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
	if (t[TALLY_TOGETHER + FILELOCK_SOFT_READWRITE])
		printf("  soft readers together       %lu\n",
		       t[TALLY_TOGETHER + FILELOCK_SOFT_READWRITE]);
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
	if (t[TALLY_WAKES])
		printf("  wake-ups across processes   %lu, %lu later than the bound, the longest after "
		       "%.1f ms\n",
		       t[TALLY_WAKES], t[TALLY_LATE], (double)totals->longest / 1e6);
	lost_text(totals, lost, sizeof(lost));
	printf("  overlaps %lu%s, troubles in all %lu\n", totals->overlaps, lost, totals->troubles);
}

void report_troubles(void)
{
	static const char *const names[] = { "OVERLAP", "LOST WAKE-UP", "RESULT", "LEFT BEHIND",
		                             "DEATH", "COUNTS" };
	unsigned count = atomic_load(&arena->trouble_count);

	for (unsigned i = 0; i < count && i < MOST_TROUBLES; i++) {
		const struct trouble *trouble = &arena->troubles[i];

		printf("  %s: %s\n", names[trouble->type],
		       atomic_load(&trouble->told) ? trouble->text : "(cut short)");
	}
	if (count > MOST_TROUBLES)
		printf("  and %u more\n", count - MOST_TROUBLES);
	if (count > 0)
		printf("  the folder is %s\n", arena->folder);
}
