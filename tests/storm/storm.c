/*
 * storm [OPTION...] SCENARIO...: native, crowd, soft, readwrite, softrw, wakeups, or all.
 *
 * --seed N     what chance begins with; printed, and another one each time unless given
 * --scale N    percent of the usual counts (100; FILELOCK_TEST_SCALE squared, since it stands for
 *              tools that make processes slow to start as well as to run)
 * --long       five times the counts, and many rounds
 *
 * TMPDIR       where the lock files are; otherwise in memory, in /dev/shm, if there is one
 *
 * The exit status is 0 only if nothing was found, and all that was to happen has happened. A
 * failure leaves its folder, which is named.
 */
#include "storm.h"

#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAKE_UP_BOUND (1 * SECOND)

static const struct {
	struct scenario scenario;
	unsigned rounds; /* of --long */
} scenarios[] = {
	{ { "native", { 8, 0, 0 }, .sync = 6, .event = 2, .grants = 500000, .kills = 750,
	    .stops = 75 }, 40 },
	/* they wait in the kernel's queue, by helper threads */
	{ { "crowd", { 2, 0, 0 }, .sync = 44, .event = 20, .grants = 10000, .kills = 100,
	    .stops = 50 }, 40 },
	{ { "soft", { 0, 6, 0 }, .sync = 5, .event = 2, .grants = 100000, .kills = 1000,
	    .stops = 100 }, 20 },
	{ { "readwrite", { 0, 0, 6 }, .sync = 5, .event = 2, .grants = 200000, .kills = 500,
	    .stops = 100 }, 10 },
	{ { "softrw", { [FILELOCK_SOFT_READWRITE] = 4 }, .sync = 5, .event = 2, .grants = 6000,
	    .kills = 200, .stops = 50 }, 10 },
	{ { "wakeups", { 2, 1, 1 }, .sync = 4, .event = 2, .wakes = 20000, .kills = 300,
	    .stops = 100, .poll_ms = 60000, .baton = true }, 10 },
};
enum { SCENARIOS = sizeof(scenarios) / sizeof(*scenarios) };

static struct {
	uint64_t seed;
	unsigned long scale;
	bool is_long;
} options;

static void *share(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
	                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

static unsigned long scaled(unsigned long count)
{
	unsigned long n = count * options.scale / 100;

	return count && !n ? 1 : n;
}

static void make_places(void)
{
	for (int k = 0; k < KINDS; k++) {
		for (unsigned i = 0; i < arena->scenario.places[k]; i++) {
			struct place *place = &arena->places[arena->place_count++];

			place->kind = (enum filelock_kind)k;
			(void)snprintf(place->path, sizeof(place->path), "%.*s/%s%u%s",
			               (int)strlen(arena->folder), arena->folder,
			               kind_name(place->kind), i,
			               k == FILELOCK_READWRITE ? ".db" : ".lock");
		}
	}
}

static void make_slots(void)
{
	arena->slot_count = arena->scenario.sync + arena->scenario.event;
	for (unsigned i = 0; i < arena->slot_count; i++) {
		struct slot *slot = &arena->slots[i];

		slot->number = i;
		slot->event = i >= arena->scenario.sync;
	}
}

/* In memory if possible: making a file on a disk takes ten times as long as locking it. */
static const char *choose_parent(void)
{
	const char *wanted = getenv("TMPDIR");

	if (wanted && *wanted)
		return wanted;
	return access("/dev/shm", R_OK | W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

static void make_folder(void)
{
	char aside[PATH_MAX + 16];

	(void)snprintf(arena->folder, sizeof(arena->folder), "%s/filelock-storm.XXXXXX",
	               choose_parent());
	if (!mkdtemp(arena->folder)) {
		perror(arena->folder);
		exit(1);
	}
	(void)snprintf(aside, sizeof(aside), "%s/aside", arena->folder);
	(void)mkdir(aside, 0700);
}

static void make_arena(const struct scenario *scenario, uint64_t seed)
{
	arena = share(sizeof(*arena));
	arena->scenario = *scenario;
	arena->scenario.grants = scaled(scenario->grants);
	arena->scenario.wakes = scaled(scenario->wakes);
	arena->scenario.kills = scaled(scenario->kills);
	arena->scenario.stops = scaled(scenario->stops);
	arena->seed = seed;
	/* a sanitizer's or valgrind's processes are slow, but not as slow as the poll */
	arena->bound = options.scale < 100 ? 10 * WAKE_UP_BOUND : WAKE_UP_BOUND;
	make_folder();
	make_places();
	make_slots();
	arena->life_count = 1; /* the `who` of life 0 would be nobody */
	arena->life_capacity = (unsigned)arena->scenario.kills + arena->slot_count + 16;
	arena->lives = share(arena->life_capacity * sizeof(*arena->lives));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

static void free_arena(void)
{
	if (atomic_load(&arena->trouble_count) == 0)
		(void)nftw(arena->folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	(void)munmap(arena->lives, arena->life_capacity * sizeof(*arena->lives));
	(void)munmap(arena, sizeof(*arena));
}

static void run_round(const struct scenario *scenario, uint64_t seed, struct totals *totals)
{
	make_arena(scenario, seed);
	(void)fflush(NULL); /* or each process prints it again */
	arena->began = now();
	supervisor_run(10 * SECOND * (int64_t)(options.scale > 100 ? options.scale : 100));
	arena->took = now() - arena->began;
	afterwards_check();
	report_add(totals);
	report_troubles();
	free_arena();
}

/* How many troubles there were. */
static unsigned long run_scenario(unsigned number)
{
	const struct scenario *scenario = &scenarios[number].scenario;
	unsigned rounds = options.is_long ? scenarios[number].rounds : 1;
	static struct totals totals;

	totals = (struct totals){ 0 };
	for (unsigned i = 0; i < rounds && totals.troubles == 0; i++) {
		printf("storm --seed %llu --scale %lu %s\n",
		       (unsigned long long)options.seed + i, options.scale, scenario->name);
		run_round(scenario, options.seed + i, &totals);
	}
	report_print(&totals, scenario->name);
	return totals.troubles;
}

static bool is_built(const struct scenario *scenario)
{
#ifdef FILELOCK_SQLITE
	(void)scenario;
	return true;
#else
	return scenario->places[FILELOCK_READWRITE] == 0;
#endif
}

static _Noreturn void usage(void)
{
	(void)fputs("usage: storm [--seed N] [--scale PERCENT] [--long] "
	            "native|crowd|soft|readwrite|softrw|wakeups|all...\n",
	            stderr);
	exit(2);
}

static unsigned long default_scale(void)
{
	const char *text = getenv("FILELOCK_TEST_SCALE");
	unsigned long scale = text && *text ? strtoul(text, NULL, 10) : 100;

	return scale < 10 ? scale > 0 : scale < 100 ? scale * scale / 100 : scale;
}

static void parse_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "seed", required_argument, NULL, 's' }, { "scale", required_argument, NULL, 'c' },
		{ "long", no_argument, NULL, 'l' },       { NULL, 0, NULL, 0 },
	};
	int option;

	options.seed = (uint64_t)now() ^ (uint64_t)getpid() << 40;
	options.seed %= 1000000000;
	options.scale = default_scale();
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 's':
			options.seed = strtoull(optarg, NULL, 10);
			break;
		case 'c':
			options.scale = strtoul(optarg, NULL, 10);
			break;
		case 'l':
			options.is_long = true;
			options.scale = 500;
			break;
		default:
			usage();
		}
	}
	if (optind == argc || options.scale == 0)
		usage();
}

/* All scenarios of that name; how many there are, or -1: one was not built. */
static int run_named(const char *name, unsigned long *troubles)
{
	int count = 0;

	for (unsigned s = 0; s < SCENARIOS; s++) {
		const struct scenario *scenario = &scenarios[s].scenario;

		if (strcmp(name, "all") != 0 && strcmp(name, scenario->name) != 0)
			continue;
		if (!is_built(scenario))
			return -1;
		*troubles += run_scenario(s);
		count++;
	}
	return count;
}

int main(int argc, char **argv)
{
	unsigned long troubles = 0;

	parse_options(argc, argv);
	for (int i = optind; i < argc; i++) {
		int named = run_named(argv[i], &troubles);

		if (named < 0)
			return 77;
		if (named == 0)
			usage();
	}
	return troubles == 0 ? 0 : 1;
}
