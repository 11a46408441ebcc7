/*
 * plot.c - the chart is laid out on a sheet of fixed size: the title above, the legend on the
 * right, the axes below and on the left of the area that the values are drawn in. Only
 * presentation attributes are used, which every reader of SVG knows.
 */
#include "plot.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define SHEET_WIDTH 800
#define SHEET_HEIGHT 460
#define LEFT 84.0
#define RIGHT 772.0
#define RIGHT_OF_LEGEND 600.0 /* where the area ends if there is one */
#define TOP 62.0
#define BOTTOM 400.0
#define MOST_DECADES 8 /* beyond, not every power of ten is labelled */

/* Told apart also by those who see colours otherwise, and by their marks. */
static const char *const colours[] = { "#0072b2", "#d55e00", "#009e73", "#aa4499",
	                               "#e69f00", "#56b4e9", "#882255", "#555555" };
enum { COLOURS = sizeof(colours) / sizeof(*colours) };

/* An axis with its range, by logarithms if it is logarithmic, and where that lies on the sheet. */
struct scale {
	const struct plot_axis *axis;
	double low, high;
	double from, to;
	double step; /* linear: between ticks */
};

struct sheet {
	FILE *file;
	struct scale x, y;
};

static void put_text(FILE *file, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '&':
			(void)fputs("&amp;", file);
			break;
		case '<':
			(void)fputs("&lt;", file);
			break;
		case '>':
			(void)fputs("&gt;", file);
			break;
		default: /* XML has no control characters */
			(void)fputc((unsigned char)*text < ' ' ? ' ' : *text, file);
		}
	}
}

/* attributes: more of them, or "". */
static void put_label(FILE *file, double x, double y, const char *attributes, const char *text)
{
	if (!text)
		return;
	(void)fprintf(file, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
	put_text(file, text);
	(void)fputs("</text>\n", file);
}

static void put_line(FILE *file, const double ends[4], const char *colour)
{
	(void)fprintf(file,
	              "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
	              ends[0], ends[1], ends[2], ends[3], colour);
}

/* --- scales --- */

static bool can_show(const struct plot_axis *axis, double value)
{
	return isfinite(value) && (!axis->log || value > 0);
}

static double place(const struct scale *scale, double value)
{
	double at = scale->axis->log ? log10(value) : value;

	return scale->from +
	       (at - scale->low) / (scale->high - scale->low) * (scale->to - scale->from);
}

/* The largest of 1, 2, 5 times a power of ten that is not above value; or, up, not below. */
static double round_125(double value, bool up)
{
	static const double digits[] = { 1, 2, 5, 10 };
	double power = pow(10, floor(log10(value) + 1e-9));
	int i = 0;

	while (i < 3 && digits[i] * power < value * (1 - 1e-9))
		i++;
	if (!up && i > 0 && digits[i] * power > value * (1 + 1e-9))
		i--;
	return digits[i] * power;
}

static void fit_log(struct scale *scale, double low, double high)
{
	scale->low = log10(round_125(low, false));
	scale->high = log10(round_125(high, true));
	if (scale->high - scale->low < 0.3) /* a single value */
		scale->high = scale->low + 1;
}

static void fit_linear(struct scale *scale, double low, double high)
{
	if (low > 0)
		low = 0;
	if (high <= low)
		high = low + 1;
	scale->step = round_125((high - low) / 6, true);
	scale->low = floor(low / scale->step + 1e-9) * scale->step;
	scale->high = ceil(high / scale->step - 1e-9) * scale->step;
}

static void fit(struct scale *scale, const struct plot *plot, bool is_x)
{
	double low = INFINITY, high = -INFINITY;

	for (size_t s = 0; s < plot->count; s++) {
		const struct plot_series *series = &plot->series[s];

		for (size_t i = 0; i < series->count; i++) {
			double value = is_x ? series->x[i] : series->y[i];

			if (!can_show(&plot->x, series->x[i]) ||
			    !can_show(&plot->y, series->y[i]))
				continue;
			low = fmin(low, value);
			high = fmax(high, value);
		}
	}
	if (low > high) { /* nothing at all */
		low = scale->axis->log ? 1 : 0;
		high = 1;
	}
	if (scale->axis->log)
		fit_log(scale, low, high);
	else
		fit_linear(scale, low, high);
}

/* --- axes --- */

static void format_value(char text[32], double value, enum plot_unit unit)
{
	static const struct {
		double least, factor;
		const char *suffix;
	} units[2][4] = {
		{ { 1e9, 1e9, "G" }, { 1e6, 1e6, "M" }, { 1e4, 1e3, "k" }, { 0, 1, "" } },
		{ { 1, 1, " s" }, { 1e-3, 1e-3, " ms" }, { 1e-6, 1e-6, " µs" },
		  { 0, 1e-9, " ns" } },
	};
	int i = 0;

	if (value == 0) {
		(void)strcpy(text, "0");
		return;
	}
	while (fabs(value) < units[unit][i].least * (1 - 1e-9))
		i++;
	if (unit == PLOT_NUMBER && fabs(value) < 1e-4) { /* rather than 1e-05 */
		(void)snprintf(text, 32, "%.*f", (int)ceil(-log10(fabs(value)) - 1e-9), value);
		return;
	}
	(void)snprintf(text, 32, "%.4g%s", value / units[unit][i].factor,
	               units[unit][i].suffix);
}

static void put_tick(const struct sheet *sheet, bool is_x, double value, bool labelled)
{
	const struct scale *scale = is_x ? &sheet->x : &sheet->y;
	double at = place(scale, value);
	char text[32];

	put_line(sheet->file,
	         is_x ? (double[]){ at, BOTTOM, at, TOP }
	              : (double[]){ LEFT, at, sheet->x.to, at },
	         labelled ? "#d5d5d5" : "#eeeeee");
	if (!labelled)
		return;
	format_value(text, value, scale->axis->unit);
	if (is_x)
		put_label(sheet->file, at, BOTTOM + 18, "text-anchor=\"middle\"", text);
	else
		put_label(sheet->file, LEFT - 8, at + 4, "text-anchor=\"end\"", text);
}

static void put_log_ticks(const struct sheet *sheet, bool is_x)
{
	const struct scale *scale = is_x ? &sheet->x : &sheet->y;
	double decades = scale->high - scale->low;
	int every = 1 + (int)(decades / MOST_DECADES);

	for (int power = (int)floor(scale->low); power <= (int)ceil(scale->high); power++) {
		for (int digit = 1; digit < 10; digit++) {
			double at = power + log10(digit);
			bool labelled = digit == 1 && power % every == 0;

			if (at < scale->low - 1e-9 || at > scale->high + 1e-9)
				continue;
			if (decades < 2.5 && (digit == 2 || digit == 5))
				labelled = true;
			if (labelled || decades <= MOST_DECADES)
				put_tick(sheet, is_x, digit * pow(10, power), labelled);
		}
	}
}

static void put_ticks(const struct sheet *sheet, bool is_x)
{
	const struct scale *scale = is_x ? &sheet->x : &sheet->y;
	long first, last;

	if (scale->axis->log) {
		put_log_ticks(sheet, is_x);
		return;
	}
	first = lround(scale->low / scale->step);
	last = lround(scale->high / scale->step);
	for (long i = first; i <= last; i++)
		put_tick(sheet, is_x, (double)i * scale->step, true);
}

static void put_axes(const struct sheet *sheet)
{
	double middle = (LEFT + sheet->x.to) / 2;
	char turned[80];

	put_ticks(sheet, true);
	put_ticks(sheet, false);
	put_line(sheet->file, (double[]){ LEFT, BOTTOM, sheet->x.to, BOTTOM }, "#333333");
	put_line(sheet->file, (double[]){ LEFT, BOTTOM, LEFT, TOP }, "#333333");
	put_label(sheet->file, middle, BOTTOM + 44, "text-anchor=\"middle\"",
	          sheet->x.axis->label);
	(void)snprintf(turned, sizeof(turned),
	               "text-anchor=\"middle\" transform=\"rotate(-90 18 %.1f)\"",
	               (TOP + BOTTOM) / 2);
	put_label(sheet->file, 18, (TOP + BOTTOM) / 2, turned, sheet->y.axis->label);
}

/* --- series --- */

/* One of four shapes, by the series' number. */
static void put_mark(FILE *file, size_t number, double x, double y)
{
	const char *colour = colours[number % COLOURS];

	switch (number % 4) {
	case 0:
		(void)fprintf(file, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n",
		              x, y, colour);
		return;
	case 1:
		(void)fprintf(file, "<path d=\"M%.1f %.1fh7v7h-7z\" fill=\"%s\"/>\n", x - 3.5,
		              y - 3.5, colour);
		return;
	case 2:
		(void)fprintf(file, "<path d=\"M%.1f %.1fl4.5 8h-9z\" fill=\"%s\"/>\n", x,
		              y - 5, colour);
		return;
	default:
		(void)fprintf(file, "<path d=\"M%.1f %.1fl5 5l-5 5l-5 -5z\" fill=\"%s\"/>\n", x,
		              y - 5, colour);
	}
}

static bool can_draw(const struct sheet *sheet, const struct plot_series *series, size_t i)
{
	return can_show(sheet->x.axis, series->x[i]) && can_show(sheet->y.axis, series->y[i]);
}

static void put_curve(const struct sheet *sheet, const struct plot_series *series,
                      const char *colour)
{
	bool drawing = false;
	double before = 0;

	(void)fprintf(sheet->file,
	              "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" "
	              "stroke-linejoin=\"round\" d=\"M%.1f %.1f",
	              colour, LEFT, BOTTOM);
	for (size_t i = 0; i < series->count; i++) {
		double x, y;

		if (!can_draw(sheet, series, i)) {
			drawing = false;
			continue;
		}
		x = place(&sheet->x, series->x[i]);
		y = place(&sheet->y, series->y[i]);
		if (drawing && series->style == PLOT_STEP)
			(void)fprintf(sheet->file, "L%.1f %.1f", x, before);
		(void)fprintf(sheet->file, "%s%.1f %.1f", drawing ? "L" : "M", x, y);
		drawing = true;
		before = y;
	}
	(void)fputs("\"/>\n", sheet->file);
}

static void put_series(const struct sheet *sheet, const struct plot_series *series,
                       size_t number)
{
	if (series->style != PLOT_POINTS)
		put_curve(sheet, series, colours[number % COLOURS]);
	if (series->style != PLOT_POINTS && series->style != PLOT_MARKED)
		return;
	for (size_t i = 0; i < series->count; i++)
		if (can_draw(sheet, series, i))
			put_mark(sheet->file, number, place(&sheet->x, series->x[i]),
			         place(&sheet->y, series->y[i]));
}

static void put_legend(const struct sheet *sheet, const struct plot *plot)
{
	double x = RIGHT_OF_LEGEND + 16;
	double y = TOP + 10;

	for (size_t i = 0; i < plot->count; i++) {
		const struct plot_series *series = &plot->series[i];

		if (!series->name)
			continue;
		if (series->style != PLOT_POINTS)
			(void)fprintf(sheet->file,
			              "<path d=\"M%.1f %.1fh22\" stroke=\"%s\" "
			              "stroke-width=\"2\"/>\n",
			              x, y, colours[i % COLOURS]);
		if (series->style == PLOT_POINTS || series->style == PLOT_MARKED)
			put_mark(sheet->file, i, x + 11, y);
		put_label(sheet->file, x + 30, y + 4, "", series->name);
		y += 20;
	}
}

static bool has_legend(const struct plot *plot)
{
	for (size_t i = 0; i < plot->count; i++)
		if (plot->series[i].name)
			return true;
	return false;
}

int plot_write(const struct plot *plot, FILE *file)
{
	double right = has_legend(plot) ? RIGHT_OF_LEGEND : RIGHT;
	struct sheet sheet = {
		.file = file,
		.x = { .axis = &plot->x, .from = LEFT, .to = right },
		.y = { .axis = &plot->y, .from = BOTTOM, .to = TOP },
	};

	fit(&sheet.x, plot, true);
	fit(&sheet.y, plot, false);
	(void)fprintf(file,
	              "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
	              "viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"13\" "
	              "fill=\"#222222\" role=\"img\">\n",
	              SHEET_WIDTH, SHEET_HEIGHT, SHEET_WIDTH, SHEET_HEIGHT);
	(void)fputs("<title>", file);
	put_text(file, plot->title ? plot->title : "");
	(void)fputs("</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n", file);
	put_label(file, LEFT, 26, "font-size=\"17\" font-weight=\"bold\"", plot->title);
	put_label(file, LEFT, 46, "font-size=\"12\" fill=\"#555555\"", plot->note);
	put_axes(&sheet);
	for (size_t i = 0; i < plot->count; i++)
		put_series(&sheet, &plot->series[i], i);
	put_legend(&sheet, plot);
	(void)fputs("</svg>\n", file);
	return fflush(file) != 0 || ferror(file) ? -EIO : 0;
}

int plot_save(const struct plot *plot, const char *path)
{
	FILE *file = fopen(path, "we");
	int r;

	if (!file)
		return -errno;
	r = plot_write(plot, file);
	if (fclose(file) != 0 && r == 0)
		r = -errno;
	return r;
}
