/* The charts of plot.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "plot.h"
#include "support.h"

/* The chart as text, good until the next call. */
static const char *drawn(const struct plot *plot)
{
	static char *text;
	size_t size;
	FILE *file;

	free(text);
	file = open_memstream(&text, &size);
	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(plot_write(plot, file), 0);
	fclose(file);
	return text;
}

static unsigned count_of(const char *text, const char *part)
{
	unsigned count = 0;

	for (; (text = strstr(text, part)); text += strlen(part))
		count++;
	return count;
}

static const char *draw_one(const struct plot_series *series, struct plot_axis x,
                            struct plot_axis y)
{
	return drawn(&(struct plot){ .x = x, .y = y, .series = series, .count = 1 });
}

/* By a parser that is not ours. */
static bool is_well_formed(const char *path)
{
	static const char program[] = "import sys, xml.parsers.expat as x\n"
	                              "try: x.ParserCreate().ParseFile(open(sys.argv[1], 'rb'))\n"
	                              "except x.ExpatError: sys.exit(1)\n";

	return program_run((const char *[]){ "python3", "-c", program, path, NULL }) == 0;
}

START_TEST(test_chart_is_well_formed_whatever_the_texts)
{
	double x[] = { 1, 2, 3 }, y[] = { 1, 10, 100 };
	struct plot_series series[] = {
		{ "a < b & \"c\"", PLOT_LINE, x, y, 3 }, { "µ", PLOT_STEP, x, y, 3 },
		{ "marked", PLOT_MARKED, x, y, 3 },      { NULL, PLOT_POINTS, x, y, 3 },
	};
	struct plot plot = { "<title> \x01 'x'", "a \"note\" ]]>", { "<x>", PLOT_SECONDS, true },
		             { "&y;", PLOT_NUMBER, true }, series, 4 };
	const char *path = test_path("chart.svg");

	ck_assert_int_eq(plot_save(&plot, path), 0);
	ck_assert(is_well_formed(path));
}
END_TEST

START_TEST(test_check_of_form_can_fail)
{
	const char *path = test_path("broken.svg");

	test_write_file(path, "<svg><text>a & b</text></svg>");
	ck_assert(!is_well_formed(path));
}
END_TEST

START_TEST(test_chart_without_values_is_drawn)
{
	struct plot plot = { .x = { .log = true } };

	ck_assert_uint_eq(count_of(drawn(&plot), "</svg>"), 1);
	ck_assert_uint_eq(count_of(drawn(&plot), "nan"), 0);
	ck_assert_uint_eq(count_of(drawn(&plot), "inf"), 0);
}
END_TEST

START_TEST(test_one_value_is_drawn)
{
	double one[] = { 7 };
	struct plot_series series = { "one", PLOT_POINTS, one, one, 1 };
	struct plot_axis linear = { 0 }, log = { .log = true };

	ck_assert_uint_eq(count_of(draw_one(&series, linear, linear), "<circle"), 2);
	ck_assert_uint_eq(count_of(draw_one(&series, log, log), "<circle"), 2);
	ck_assert_uint_eq(count_of(draw_one(&series, log, log), "nan"), 0);
}
END_TEST

START_TEST(test_what_cannot_be_drawn_interrupts_the_line)
{
	double x[] = { 1, 2, 3, 4, 5 };
	double y[] = { 1, 2, NAN, 4, INFINITY };
	struct plot_series series = { NULL, PLOT_MARKED, x, y, 5 };
	const char *text = draw_one(&series, (struct plot_axis){ 0 }, (struct plot_axis){ 0 });
	const char *curve = strstr(text, "<path fill=\"none\"");

	ck_assert_uint_eq(count_of(text, "<circle"), 3);
	ck_assert_ptr_nonnull(curve);
	ck_assert_uint_eq(count_of(curve, "M"), 3); /* the start, and two pieces */
	ck_assert_uint_eq(count_of(text, "nan"), 0);
	ck_assert_uint_eq(count_of(text, "inf"), 0);
}
END_TEST

START_TEST(test_log_axis_leaves_zero_out)
{
	double x[] = { 0, 1, 10 }, y[] = { 5, 5, 5 };
	struct plot_series series = { NULL, PLOT_POINTS, x, y, 3 };

	ck_assert_uint_eq(count_of(draw_one(&series, (struct plot_axis){ .log = true },
	                                    (struct plot_axis){ 0 }),
	                           "<circle"),
	                  2);
}
END_TEST

START_TEST(test_log_axis_labels_powers_of_ten)
{
	double x[] = { 1e-9, 1 }, y[] = { 1, 1 };
	struct plot_series series = { NULL, PLOT_POINTS, x, y, 2 };
	const char *text = draw_one(&series, (struct plot_axis){ .unit = PLOT_SECONDS, .log = true },
	                            (struct plot_axis){ 0 });

	ck_assert_uint_eq(count_of(text, ">1 ns<"), 0); /* more than 8 decades: every second */
	ck_assert_uint_eq(count_of(text, ">10 ns<"), 1);
	ck_assert_uint_eq(count_of(text, ">1 µs<"), 1);
	ck_assert_uint_eq(count_of(text, ">100 µs<"), 1);
	ck_assert_uint_eq(count_of(text, ">10 ms<"), 1);
	ck_assert_uint_eq(count_of(text, ">1 s<"), 1);
}
END_TEST

START_TEST(test_linear_axis_begins_at_zero_and_covers_the_values)
{
	double x[] = { 3000, 50000 }, y[] = { -7, 12 };
	struct plot_series series = { NULL, PLOT_LINE, x, y, 2 };
	const char *text = draw_one(&series, (struct plot_axis){ 0 }, (struct plot_axis){ 0 });

	ck_assert_uint_eq(count_of(text, ">0<"), 2);
	ck_assert_uint_eq(count_of(text, ">50k<"), 1);
	ck_assert_uint_eq(count_of(text, ">-10<"), 1);
	ck_assert_uint_eq(count_of(text, ">15<"), 1);
}
END_TEST

START_TEST(test_step_keeps_the_value_until_the_next)
{
	double x[] = { 0, 1 }, y[] = { 0, 1 };
	struct plot_series series = { NULL, PLOT_STEP, x, y, 2 };
	const char *text = draw_one(&series, (struct plot_axis){ 0 }, (struct plot_axis){ 0 });

	ck_assert_ptr_nonnull(strstr(text, "M84.0 400.0L772.0 400.0L772.0 62.0"));
}
END_TEST

START_TEST(test_chart_that_cannot_be_written_says_why)
{
	struct plot plot = { 0 };

	ck_assert_int_eq(plot_save(&plot, test_path("missing/chart.svg")), -ENOENT);
	ck_assert_int_lt(plot_save(&plot, "/dev/full"), 0);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "plot", test_chart_is_well_formed_whatever_the_texts, test_check_of_form_can_fail,
	        test_chart_without_values_is_drawn, test_one_value_is_drawn,
	        test_what_cannot_be_drawn_interrupts_the_line, test_log_axis_leaves_zero_out,
	        test_log_axis_labels_powers_of_ten,
	        test_linear_axis_begins_at_zero_and_covers_the_values,
	        test_step_keeps_the_value_until_the_next,
	        test_chart_that_cannot_be_written_says_why));
}
