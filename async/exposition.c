/*
 * exposition.c - counts of a context as text that Prometheus reads (exposition format 0.0.4).
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include <filelock/event.h>

#include "driver_private.h"

struct page {
	const struct evfilelock_stats *stats;
	const char *labels; /* "" or `a="b"` */
	FILE *file;
};

/* A series of one value, or of one for each result. */
struct series {
	const char *name, *type, *help;
	const char *result; /* NULL: no label of its own */
	size_t offset;
};

#define MEMBER(member) offsetof(struct evfilelock_stats, member)
static const struct series all[] = {
	{ "filelock_waiting", "gauge", "Requests without an answer.", NULL, MEMBER(waiting) },
	{ "filelock_held", "gauge", "Holds that have not ended.", NULL, MEMBER(held) },
	{ "filelock_queues", "gauge", "Locks that requests wait for.", NULL, MEMBER(queues) },
	{ "filelock_longest_queue", "gauge", "Requests for one lock.", NULL,
	  MEMBER(longest_queue) },
	{ "filelock_requests_total", "counter", "Requests.", NULL, MEMBER(requested) },
	{ "filelock_answers_total", "counter", "Answers to requests.", "granted",
	  MEMBER(granted) },
	{ "filelock_answers_total", NULL, NULL, "timed_out", MEMBER(timed_out) },
	{ "filelock_answers_total", NULL, NULL, "cancelled", MEMBER(cancelled) },
	{ "filelock_answers_total", NULL, NULL, "failed", MEMBER(failed) },
	{ "filelock_handovers_total", "counter", "Grants by hand-over inside the process.", NULL,
	  MEMBER(handed_over) },
	{ "filelock_attempts_total", "counter", "Attempts at locks.", NULL, MEMBER(attempts) },
	{ "filelock_wakes_by_event_total", "counter", "Wakes of a queue by an event.", NULL,
	  MEMBER(wakes_by_event) },
	{ "filelock_wakes_by_poll_total", "counter", "Wakes of a queue by its timer.", NULL,
	  MEMBER(wakes_by_poll) },
	{ "filelock_missed_wakeups_total", "counter",
	  "Grants after a wait that the timer found without an event.", NULL,
	  MEMBER(missed_wakeups) },
	{ "filelock_slow_waits_total", "counter", "Waits longer than slow_wait_ms.", NULL,
	  MEMBER(slow) },
};

static void write_head(const struct page *page, const char *name, const char *type,
                       const char *help)
{
	fprintf(page->file, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* `own`: a label before those of the page; NULL: none. */
static void write_value(const struct page *page, const char *name, const char *own,
                        const char *own_value, uint64_t value)
{
	const char *labels = page->labels;

	fputs(name, page->file);
	if (own)
		fprintf(page->file, "{%s=\"%s\"%s%s}", own, own_value, *labels ? "," : "", labels);
	else if (*labels)
		fprintf(page->file, "{%s}", labels);
	fprintf(page->file, " %" PRIu64 "\n", value);
}

static void write_series(const struct page *page, const struct series *series)
{
	const char *from = (const char *)page->stats + series->offset;

	if (series->type)
		write_head(page, series->name, series->type, series->help);
	write_value(page, series->name, series->result ? "result" : NULL, series->result,
	            *(const uint64_t *)from);
}

/* Bucket i ends at 2^i us; a histogram counts all that is shorter. The last one has no end. */
static void write_waits(const struct page *page)
{
	static const char name[] = "filelock_wait_seconds";
	uint64_t count = 0;
	char end[32];

	write_head(page, name, "histogram", "How long granted requests had waited.");
	for (unsigned i = 0; i < EVFILELOCK_WAIT_BUCKETS - 1; i++) {
		count += page->stats->waits[i];
		/* not as a double, whose point is a comma in some locales */
		snprintf(end, sizeof(end), "%u.%06u", (1u << i) / 1000000, (1u << i) % 1000000);
		write_value(page, "filelock_wait_seconds_bucket", "le", end, count);
	}
	count += page->stats->waits[EVFILELOCK_WAIT_BUCKETS - 1];
	write_value(page, "filelock_wait_seconds_bucket", "le", "+Inf", count);
	write_value(page, "filelock_wait_seconds_count", NULL, NULL, count);
}

FILELOCK_API int evfilelock_stats_write(const struct evfilelock_stats *stats, const char *labels,
                                        FILE *file)
{
	struct page page = { stats, labels ? labels : "", file };

	if (!stats || !file || stats->size != sizeof(*stats))
		return filelock_refuse_call(-EINVAL, "cannot write", "counts",
		                            !file    ? "file is NULL"
		                            : !stats ? "stats is NULL"
		                                     : "size: begin with EVFILELOCK_STATS_INIT");
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		write_series(&page, &all[i]);
	write_waits(&page);
	return ferror(file) ? filelock_refuse_call(-EIO, "cannot write", "counts", NULL) : 0;
}
