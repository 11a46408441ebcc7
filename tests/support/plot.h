/*
 * plot.h - charts of measurements, as SVG that needs nothing else: no style sheet, no script, no
 * font of its own; legible on any background.
 *
 *	double n[] = { 1, 10, 100 }, t[] = { 2e-6, 3e-6, 4e-6 };
 *	struct plot_series series[] = {
 *		{ .name = "ours", .style = PLOT_MARKED, .x = n, .y = t, .count = 3 },
 *	};
 *	struct plot plot = {
 *		.title = "Cost of a release", .note = "median of 5 runs",
 *		.x = { .label = "waiters", .log = true },
 *		.y = { .label = "time", .unit = PLOT_SECONDS, .log = true },
 *		.series = series, .count = 1,
 *	};
 *	r = plot_save(&plot, "release.svg");
 *
 * Axes find their own range: a linear one begins at zero unless there are values below, a
 * logarithmic one begins and ends at 1, 2 or 5 times a power of ten. What cannot be drawn (no
 * number, infinite, not above zero on a logarithmic axis) is left out and interrupts its line.
 * All text is UTF-8; strings and values are borrowed during the call.
 */
#ifndef FILELOCK_TESTS_PLOT_H
#define FILELOCK_TESTS_PLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum plot_style {
	PLOT_LINE,
	PLOT_STEP,   /* each value holds until the next one */
	PLOT_MARKED, /* a line with a mark at each value: for few, measured ones */
	PLOT_POINTS  /* marks only */
};

enum plot_unit {
	PLOT_NUMBER, /* 0.00001, 0.5, 2000, 20k, 3M, 4G */
	PLOT_SECONDS /* given in seconds; 5 ns, 20 µs, 3 ms, 1 s */
};

struct plot_axis {
	const char *label; /* NULL: none */
	enum plot_unit unit;
	bool log;
};

struct plot_series {
	const char *name; /* in the legend; NULL: not there */
	enum plot_style style;
	const double *x, *y;
	size_t count;
};

struct plot {
	const char *title; /* NULL: none */
	const char *note;  /* a smaller line under it, as "N runs on …"; NULL: none */
	struct plot_axis x, y;
	const struct plot_series *series; /* colours and marks differ for eight; then again */
	size_t count;
};

/* Writes the chart; 0, or a negative errno. */
int plot_write(const struct plot *plot, FILE *file);
/* The same to a file that is made or overwritten; after a failure it is incomplete. */
int plot_save(const struct plot *plot, const char *path);

#endif
