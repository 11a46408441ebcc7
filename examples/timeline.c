/*
 * timeline.c - draws the traces of counter servers as an SVG, and says what is in them.
 *
 *	cc timeline.c -o timeline
 *	./timeline -t "Four servers, one lock" "with the lock=on.trace" "without=off.trace" >out.svg
 *
 * A panel a trace: a row a process, in which each request waits (pale) and is inside (solid, or
 * half so if it only reads; red: together with somebody who should have been kept out), how
 * many are inside at once, and a strip of the whole run under the few milliseconds that are
 * shown: those, -m MS long (default: about 100 requests), in which the processes took turns, or
 * clashed, most often. On standard error a line a panel: requests, their waits in microseconds
 * (median, 99th percentile, longest), how many were inside at once at most, and how many
 * clashed.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	WIDTH = 1200, LEFT = 130, RIGHT = 1170, /* of the drawing, and of its time axes */
	MAX_ROWS = 8, MAX_LANES = 12, LANE = 5, /* a lane is one waiter's line */
	STRIP = 16, COUNT = 34, OVERVIEW = 11, BINS = 260
};

struct span {
	long pid;
	int64_t asked, held, released; /* nanoseconds */
	int row, lane;
	bool shared, clash;
};

struct trace {
	char *name;
	struct span *spans; /* by the time they got in */
	size_t n, readers, clashes, most;
	long pids[MAX_ROWS];
	int rows, lanes;
	int64_t start, end, from, to; /* the run; the window */
	int64_t median, p99, longest; /* waits */
};

static const char *const colours[MAX_ROWS] = { "#0072b2", "#d98600", "#009e73", "#b5659a",
	                                       "#56b4e9", "#8a7400", "#5b4db3", "#555555" };

/* ---- reading ---- */

static int by_asked(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->asked > y->asked) - (x->asked < y->asked);
}

static int by_held(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return (x->held > y->held) - (x->held < y->held);
}

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static bool trace_read(struct trace *trace, FILE *file)
{
	struct span span = { 0 };
	size_t size = 0;
	char mode;

	while (fscanf(file, "%ld %" SCNd64 " %" SCNd64 " %" SCNd64 " %c", &span.pid, &span.asked,
	              &span.held, &span.released, &mode) == 5) {
		if (trace->n == size) {
			struct span *more;

			size = size ? size * 2 : 1024;
			more = realloc(trace->spans, size * sizeof(span));
			if (!more)
				return false;
			trace->spans = more;
		}
		span.shared = mode == 'S';
		trace->spans[trace->n++] = span;
	}
	return feof(file) && !ferror(file) && trace->n > 0;
}

/* ---- understanding ---- */

static bool find_row(struct trace *trace, struct span *span)
{
	while (span->row < trace->rows && trace->pids[span->row] != span->pid)
		span->row++;
	if (span->row == MAX_ROWS)
		return false;
	if (span->row == trace->rows)
		trace->pids[trace->rows++] = span->pid;
	return true;
}

/* Rows by process, and in each row the lowest line that is free when a request comes. */
static bool place(struct trace *trace)
{
	int64_t busy_until[MAX_ROWS][MAX_LANES] = { { 0 } }, *busy;

	qsort(trace->spans, trace->n, sizeof(*trace->spans), by_asked);
	trace->start = trace->spans[0].asked;
	for (size_t i = 0; i < trace->n; i++) {
		struct span *span = &trace->spans[i];

		if (!find_row(trace, span))
			return false;
		busy = busy_until[span->row];
		while (span->lane < MAX_LANES - 1 && busy[span->lane] > span->asked)
			span->lane++;
		busy[span->lane] = span->released;
		if (span->lane >= trace->lanes)
			trace->lanes = span->lane + 1;
		if (span->released > trace->end)
			trace->end = span->released;
	}
	return true;
}

/* Goes through the spans as they get in, with the list of those that are still inside. */
static bool find_clashes(struct trace *trace)
{
	struct span **inside = calloc(trace->n, sizeof(struct span *));
	size_t n = 0;

	if (!inside)
		return false;
	qsort(trace->spans, trace->n, sizeof(*trace->spans), by_held);
	for (size_t i = 0; i < trace->n; i++) {
		struct span *span = &trace->spans[i];
		size_t kept = 0;

		for (size_t k = 0; k < n; k++) {
			if (inside[k]->released < span->held)
				continue;
			if (!inside[k]->shared || !span->shared)
				inside[k]->clash = span->clash = true;
			inside[kept++] = inside[k];
		}
		inside[kept++] = span;
		n = kept;
		trace->most = n > trace->most ? n : trace->most;
	}
	free(inside);
	for (size_t i = 0; i < trace->n; i++)
		trace->clashes += trace->spans[i].clash;
	for (size_t i = 0; i < trace->n; i++)
		trace->readers += trace->spans[i].shared;
	return true;
}

static bool measure(struct trace *trace)
{
	int64_t *waits = calloc(trace->n, sizeof(*waits));

	if (!waits)
		return false;
	for (size_t i = 0; i < trace->n; i++)
		waits[i] = trace->spans[i].held - trace->spans[i].asked;
	qsort(waits, trace->n, sizeof(*waits), by_value);
	trace->median = waits[trace->n / 2];
	trace->p99 = waits[trace->n - 1 - trace->n / 100];
	trace->longest = waits[trace->n - 1];
	free(waits);
	fprintf(stderr, "requests %zu median %" PRId64 " p99 %" PRId64 " longest %" PRId64
	        " inside %zu clashes %zu\n", trace->n, trace->median / 1000, trace->p99 / 1000,
	        trace->longest / 1000, trace->most, trace->clashes);
	return true;
}

static bool trace_load(struct trace *trace, char *argument)
{
	char *path = strchr(argument, '=');
	FILE *file = path ? fopen(path + 1, "re") : NULL;
	bool ok = file && trace_read(trace, file);

	if (file)
		fclose(file);
	if (path)
		*path = '\0';
	trace->name = argument;
	return ok && place(trace) && find_clashes(trace) && measure(trace);
}

/* ---- drawing ---- */

/* The smallest of 1, 2, 5, 10, 20, … that is not below x. */
static double round_up(double x)
{
	double ten = 1e-9;

	while (ten * 10 <= x)
		ten *= 10;
	return x <= ten ? ten : x <= 2 * ten ? 2 * ten : x <= 5 * ten ? 5 * ten : 10 * ten;
}

static double x_of(int64_t t, int64_t from, int64_t to)
{
	double x = LEFT + (double)(t - from) * (RIGHT - LEFT) / (double)(to - from);

	return x < LEFT ? LEFT : x > RIGHT ? RIGHT : x;
}

static void text(double x, double y, const char *class, const char *words)
{
	printf("<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
	for (; *words; words++) {
		if (*words == '<' || *words == '&')
			printf("&#%d;", *words);
		else
			putchar(*words);
	}
	puts("</text>");
}

static void box(double x, double y, double width, double height, const char *fill, double opacity)
{
	printf("<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"%s\"", x, y,
	       width, height, fill);
	printf(opacity < 1 ? " fill-opacity=\"%.2f\"/>\n" : "/>\n", opacity);
}

static void line(double x1, double y1, double x2, double y2, const char *class)
{
	printf("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>\n", x1, y1, x2,
	       y2, class);
}

/* unit: nanoseconds in one of what the numbers count */
static void axis(int64_t length, double unit, const char *name, double top, double bottom)
{
	double step = round_up((double)length / unit / 11);
	char number[32];

	for (int i = 0; i * step <= (double)length / unit + step / 100; i++) {
		double x = x_of((int64_t)(i * step * unit), 0, length);

		line(x, top, x, bottom + 4, "grid");
		snprintf(number, sizeof(number), "%g%s%s", i * step, i ? "" : " ", i ? "" : name);
		text(x, bottom + 17, "tick", number);
	}
}

/* Thin and grey, where a hold is thick and has the colour of its server: to be told apart without
   seeing colours, too. */
static void draw_wait(double x, double y, double width)
{
	box(x, y + (LANE - 1.5) / 3, width, (LANE - 1.5) / 3, "#8c8c8c", 1);
}

static void draw_span(const struct trace *trace, const struct span *span, double top)
{
	const char *colour = span->clash ? "#d62728" : colours[span->row];
	double asked = x_of(span->asked, trace->from, trace->to);
	double held = x_of(span->held, trace->from, trace->to);
	double inside = x_of(span->released, trace->from, trace->to) - held;
	double y = top + span->lane * LANE;

	if (held - asked > 0.1)
		draw_wait(asked, y, held - asked);
	if (span->released > trace->from && span->held < trace->to) {
		inside = inside < 0.5 ? 0.5 : inside; /* thinner ones would not be seen */
		/* readers that overlap add up to a darker colour */
		box(held, y, inside, LANE - 1.5, colour, span->shared ? 0.6 : 1);
		box(held, top + trace->lanes * LANE + 3, inside, STRIP, colour,
		    span->shared ? 0.3 : 1);
	}
}

static int row_height(const struct trace *trace)
{
	return trace->lanes * LANE + 3 + STRIP + 14;
}

static double draw_rows(const struct trace *trace, double top)
{
	char words[64];

	for (int row = 0; row < trace->rows; row++) {
		double y = top + row * row_height(trace);

		snprintf(words, sizeof(words), "server %d", row + 1);
		text(LEFT - 12, y + 16, "row", words);
		snprintf(words, sizeof(words), "pid %ld", trace->pids[row]);
		text(LEFT - 12, y + 31, "small right", words);
		text(LEFT - 12, y + trace->lanes * LANE + STRIP - 1, "small right", "inside");
		box(LEFT, y + trace->lanes * LANE + 3, RIGHT - LEFT, STRIP, "#f1f1ef", 1);
	}
	for (size_t i = 0; i < trace->n; i++) {
		const struct span *span = &trace->spans[i];

		if (span->asked < trace->to && span->released > trace->from)
			draw_span(trace, span, top + span->row * row_height(trace));
	}
	return top + trace->rows * row_height(trace);
}

static size_t inside_at(const struct trace *trace, int64_t t)
{
	size_t inside = 0;

	for (size_t i = 0; i < trace->n && trace->spans[i].held <= t; i++)
		inside += trace->spans[i].released > t;
	return inside;
}

/* How many are inside at once: one step a pixel. */
static double draw_count(const struct trace *trace, double top)
{
	double unit = (double)COUNT / (trace->most > 1 ? (double)trace->most : 2);
	char words[32];

	text(LEFT - 12, top + 14, "small right", "inside at once,");
	snprintf(words, sizeof(words), "at most %zu", trace->most);
	text(LEFT - 12, top + 29, "small right", words);
	printf("<path class=\"%s\" d=\"M%d %.1f", trace->clashes ? "clash" : "count", LEFT,
	       top + COUNT);
	for (int x = LEFT; x < RIGHT; x++) {
		int64_t t = trace->from +
		            (trace->to - trace->from) * (x - LEFT) / (RIGHT - LEFT);

		printf("V%.1fh1", top + COUNT - (double)inside_at(trace, t) * unit);
	}
	printf("V%.1fZ\"/>\n", top + COUNT);
	return top + COUNT;
}

static void add_to_bins(const struct trace *trace, const struct span *span, double *bins)
{
	double width = (double)(trace->end - trace->start) / BINS;
	double from = (double)(span->held - trace->start) / width;
	double to = (double)(span->released - trace->start) / width;

	for (int bin = (int)from; bin < to && bin < BINS; bin++) {
		double begin = from > bin ? from : bin, end = to < bin + 1 ? to : bin + 1;

		bins[bin] += end - begin;
	}
}

/* The whole run: the darker, the longer a server was inside during that bit of time. */
static double draw_overview(const struct trace *trace, double top)
{
	double width = (double)(RIGHT - LEFT) / BINS, bottom = top + trace->rows * OVERVIEW;
	double x = x_of(trace->from, trace->start, trace->end);

	text(LEFT - 12, top + 14, "small right", "the whole run");
	for (int row = 0; row < trace->rows; row++) {
		double bins[BINS] = { 0 };

		for (size_t i = 0; i < trace->n; i++)
			if (trace->spans[i].row == row)
				add_to_bins(trace, &trace->spans[i], bins);
		for (int i = 0; i < BINS; i++)
			if (bins[i] >= 0.01)
				box(LEFT + i * width, top + row * OVERVIEW, width, OVERVIEW - 1,
				    trace->clashes ? "#d62728" : colours[row],
				    bins[i] < 0.5 ? bins[i] * 2 : 1);
	}
	axis(trace->end - trace->start, 1e9, "s", top, bottom);
	printf("<rect class=\"window\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n",
	       x - 1, top - 3, x_of(trace->to, trace->start, trace->end) - x + 2, bottom - top + 5);
	return bottom + 24;
}

static int panel_height(const struct trace *trace)
{
	return 62 + trace->rows * row_height(trace) + COUNT + 34 + trace->rows * OVERVIEW + 50;
}

static void draw_panel(const struct trace *trace, double top)
{
	double rows = top + 62, y = rows + trace->rows * row_height(trace);
	char words[200];

	text(20, top + 20, "panel", trace->name);
	snprintf(words, sizeof(words),
	         "%zu increments in %.1f s; they waited %.2f ms at the median, %.1f ms at the 99th "
	         "percentile; %zu of them clashed. Shown: the %g ms with the most %s",
	         trace->n - trace->readers, (double)(trace->end - trace->start) / 1e9,
	         (double)trace->median / 1e6, (double)trace->p99 / 1e6, trace->clashes,
	         (double)(trace->to - trace->from) / 1e6,
	         trace->clashes ? "clashes of servers." : "turns.");
	text(20, top + 40, "small", words);
	axis(trace->to - trace->from, 1e6, "ms", rows - 6, y + COUNT);
	draw_rows(trace, rows);
	draw_count(trace, y);
	draw_overview(trace, y + COUNT + 34);
}

/* A swatch of each server's colour. Returns where the next thing may stand. */
static double draw_colours(double x, double y, int rows, double opacity)
{
	for (int row = 0; row < rows; row++)
		box(x + row * 17, y - 11, 14, STRIP - 3, colours[row], opacity);
	return x + rows * 17 + 3;
}

static void draw_legend(double y, int rows)
{
	double x;

	text(20, y, "small", "Each line is a request:");
	draw_wait(165, y - 8, 40);
	text(210, y, "small", "waits");
	x = draw_colours(255, y, rows, 1);
	text(x, y, "small", "inside, alone, to write (a colour for each server)");
	x = draw_colours(x + 290, y, rows, 0.4);
	text(x, y, "small", "to read, with other readers");
	box(x + 170, y - 11, 14, STRIP - 3, "#d62728", 1);
	text(x + 189, y, "small", "inside together: an update is lost");
}

static void draw(const char *title, const struct trace *traces, int n)
{
	int height = 84;

	for (int i = 0; i < n; i++)
		height += panel_height(&traces[i]);
	printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
	       "height=\"%d\">\n", WIDTH, height, WIDTH, height);
	puts("<style>text{font:13px 'DejaVu Sans',Verdana,sans-serif;fill:#222}"
	     ".title{font-size:22px;font-weight:bold}.panel{font-size:16px;font-weight:bold}"
	     ".row{font-weight:bold;text-anchor:end}.small{font-size:12px;fill:#555}"
	     ".right{text-anchor:end}.tick{font-size:11px;fill:#555;text-anchor:middle}"
	     ".grid{stroke:#ddd}.count{fill:#666}.clash{fill:#d62728}"
	     ".window{fill:none;stroke:#000;stroke-width:1.5}</style>");
	box(0, 0, WIDTH, height, "#fff", 1);
	text(20, 36, "title", title);
	draw_legend(62, traces[0].rows);
	for (int i = 0, top = 84; i < n; top += panel_height(&traces[i++]))
		draw_panel(&traces[i], top);
	puts("</svg>");
}

/* Whether span i got in after that of another server: if some clashed, one that did. */
static bool is_turn(const struct trace *trace, size_t i)
{
	const struct span *span = &trace->spans[i];

	return span->row != span[-1].row && (span->clash || trace->clashes == 0);
}

/* The window of this length in which the servers took turns, or clashed, most often. */
static void choose_window(struct trace *trace, int64_t length)
{
	const struct span *spans = trace->spans;
	int turns = 0, most = -1;
	size_t first = 0;

	for (size_t last = 1; last < trace->n; last++) {
		turns += is_turn(trace, last);
		for (; spans[last].held - spans[first].held > length; first++)
			turns -= is_turn(trace, first + 1);
		if (turns > most) {
			most = turns;
			trace->from = spans[first].held - length / 50;
		}
	}
	if (trace->from > trace->end - length)
		trace->from = trace->end - length;
	if (trace->from < trace->start)
		trace->from = trace->start;
	trace->to = trace->from + length;
}

/* All are as long, so that they can be compared. */
static void choose_windows(struct trace *traces, int n, double ms)
{
	double run = (double)(traces[0].end - traces[0].start) / 1e6;

	if (ms <= 0)
		ms = round_up(run / (double)traces[0].n * 100);
	for (int i = 0; i < n; i++) {
		int64_t length = (int64_t)(ms * 1e6), whole = traces[i].end - traces[i].start;

		choose_window(&traces[i], length < whole ? length : whole);
	}
}

int main(int argc, char **argv)
{
	static struct trace traces[4];
	const char *title = "Who waited, and who was inside";
	double ms = 0;
	int option, n = 0;
	bool ok = true;

	while ((option = getopt(argc, argv, "t:m:")) >= 0) {
		if (option == 't')
			title = optarg;
		else if (option == 'm')
			ms = atof(optarg);
		else
			ok = false;
	}
	if (!ok || optind == argc || argc - optind > 4) {
		fprintf(stderr, "usage: %s [-t TITLE] [-m MS] NAME=TRACE... >SVG\n", argv[0]);
		return 2;
	}
	for (; ok && optind < argc; optind++) {
		ok = trace_load(&traces[n++], argv[optind]);
		if (!ok)
			fprintf(stderr, "timeline: no trace: %s\n", argv[optind]);
	}
	if (ok) {
		choose_windows(traces, n, ms);
		draw(title, traces, n);
		ok = fflush(stdout) == 0;
	}
	for (int i = 0; i < n; i++)
		free(traces[i].spans);
	return !ok;
}
