#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schedule.h"

/* Depth first, of each scenario, unless told otherwise. */
#define SCHEDULES 30000

static int usage(const char *program)
{
	fprintf(stderr,
	        "usage: %s [OPTION VALUE]...\n"
	        "  --scenario NAME      only this one\n"
	        "  --schedules COUNT    at most so many of each scenario (%d)\n"
	        "  --random SEED        random ones, instead of all in their order\n"
	        "  --replay CHOICES     one, call by call: with --scenario\n",
	        program, SCHEDULES);
	return 2;
}

/* The option's value, if it is this one. */
static const char *value_of(char **arguments, const char *name)
{
	return strcmp(arguments[0], name) == 0 ? arguments[1] : NULL;
}

static bool read_arguments(char **arguments, struct run_options *options, const char **only)
{
	const char *value;

	for (; arguments[0]; arguments += 2) {
		if (!arguments[1])
			return false;
		if ((value = value_of(arguments, "--scenario")))
			*only = value;
		else if ((value = value_of(arguments, "--schedules")))
			options->schedules = strtoul(value, NULL, 10);
		else if ((value = value_of(arguments, "--random")))
			options->seed = strtoul(value, NULL, 10);
		else if ((value = value_of(arguments, "--replay")))
			options->replay = value;
		else
			return false;
	}
	return !options->replay || *only;
}

/* The percentage FILELOCK_TEST_SCALE of count. */
static unsigned long scaled(unsigned long count)
{
	const char *scale = getenv("FILELOCK_TEST_SCALE");
	unsigned long percent = scale ? strtoul(scale, NULL, 10) : 100;

	return percent ? count * percent / 100 : count;
}

int schedule_main(int argc, char **argv, const struct scenario *scenarios, size_t count)
{
	struct run_options options = { .schedules = scaled(SCHEDULES) };
	const char *only = NULL;
	unsigned ran = 0, whole = 0;
	bool fine = true;

	(void)argc;
	if (!read_arguments(argv + 1, &options, &only))
		return usage(argv[0]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	processes_prepare();
	for (size_t i = 0; i < count; i++) {
		bool is_whole;

		if (only && strcmp(only, scenarios[i].name) != 0)
			continue;
		ran++;
		fine = schedule_run(&scenarios[i], &options, &is_whole) && fine;
		whole += is_whole;
	}
	if (!options.replay)
		printf("of %u scenarios all schedules within their bounds were tried in %u\n", ran, whole);
	if (ran == 0)
		fprintf(stderr, "no such scenario: %s\n", only);
	return ran && fine ? 0 : 1;
}
