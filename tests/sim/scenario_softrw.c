/*
 * scenario_softrw.c - readers and writers by the generation log: each step of a record, a look and a
 * commit interleaved with each of others. No record is silent for long enough here to count as that of
 * a dead member: a flock tells.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "actors.h"

#define SOFTRW .kind = FILELOCK_SOFT_READWRITE
#define ROOT LOCK_PATH ".rw"

ACTOR(writer, SOFTRW)
ACTOR(reader, SOFTRW, .mode = FILELOCK_SHARED)
ACTOR(writer_twice, SOFTRW, .twice = true)
ACTOR(closing, SOFTRW, .close_holding = true)
ACTOR(exiting, SOFTRW, .exits = true)
ACTOR(slow_reader, SOFTRW, .mode = FILELOCK_SHARED, .holds_ms = 10000)
ACTOR(hurried, SOFTRW, .timeout_ms = 100)

/* Three generations with nobody in. */
static void used(void)
{
	static const char epoch[] = "0123456789abcdef0123456789abcdef\n";
	char path[SIM_PATH], text[64];

	(void)sim_calls.mkdirat(AT_FDCWD, ROOT, 0700);
	(void)sim_calls.mkdirat(AT_FDCWD, ROOT "/holders", 0700);
	(void)sim_calls.mkdirat(AT_FDCWD, ROOT "/gen", 0700);
	make_file(ROOT "/gen/epoch", epoch);
	for (int i = 1; i <= 3; i++) {
		(void)snprintf(path, sizeof(path), ROOT "/gen/%020d", i);
		(void)snprintf(text, sizeof(text), "filelock-rw/1\ngeneration=%d\n", i);
		make_file(path, text);
	}
	(void)snprintf(path, sizeof(path), "%s%s", epoch, text);
	make_file(ROOT "/gen/HEAD", path);
}

static void read_newest(char *ret, size_t size)
{
	char path[SIM_PATH];
	ssize_t n = 0;
	int fd = -1;

	for (int i = 64; i > 0 && fd < 0; i--) {
		(void)snprintf(path, sizeof(path), ROOT "/gen/%020d", i);
		fd = sim_calls.open(path, O_RDONLY, 0);
	}
	if (fd >= 0)
		n = sim_calls.pread(fd, ret, size - 1, 0);
	ret[n > 0 ? n : 0] = '\0';
}

/* Nobody is named any more, and no record or unpublished commit is left. */
static void nobody(void)
{
	char newest[SIM_CONTENT];

	if (anybody_died())
		return;
	read_newest(newest, sizeof(newest));
	CLAIM(strstr(newest, "generation="), 0);
	CLAIM(!strstr(newest, "reader=") && !strstr(newest, "writer="), 0);
	CLAIM_EQUAL(sim_count_in(ROOT "/holders", ""), 0);
	CLAIM_EQUAL(sim_count_in(ROOT "/gen", ".commit-"), 0);
}

/* Whoever was overtaken several times comes again after 2 ms. */
#define LOG .in_folder = true, .files_stay = true, .after = nobody
#define SOON .sleeps_ms = 20, .late_us = 20000
#define FEW(n) .preempt_few = true, .preemptions = (n)

static const struct scenario scenarios[] = {
	{ .name = "two_writers", .mains = { writer, writer }, .before = used, LOG, SOON, FEW(1) },
	{ .name = "two_readers", .mains = { reader, reader }, .before = used, LOG, SOON, FEW(1) },
	{ .name = "a_reader_and_a_writer", .mains = { reader, writer }, .before = used, LOG, SOON,
	  FEW(2) },
	{ .name = "a_new_log", .mains = { reader, writer }, LOG, SOON, FEW(1) },
	{ .name = "two_twice", .mains = { writer_twice, writer_twice }, .before = used, LOG, SOON,
	  FEW(1) },
	{ .name = "three_writers", .mains = { writer, writer, writer }, .before = used, LOG, SOON,
	  FEW(1) },
	{ .name = "readers_and_a_writer", .mains = { reader, writer, reader }, .before = used, LOG,
	  SOON, FEW(1) },
	/* one after the other they would sleep for twice as long */
	{ .name = "readers_overlap", .mains = { slow_reader, slow_reader }, .before = used, LOG,
	  .sleeps_ms = 10020, .late_us = 20000, FEW(1) },
	{ .name = "closed_while_held", .mains = { closing, reader }, .before = used, LOG, SOON,
	  FEW(1) },
	{ .name = "left_by_exit", .mains = { exiting, writer }, .before = used, LOG, SOON, FEW(0) },
	{ .name = "a_crash", .mains = { writer, reader }, .before = used, LOG, .crashes = 1, SOON,
	  FEW(0) },
	{ .name = "hurried_while_others_stall", .mains = { hurried, writer }, .before = used, LOG,
	  .stalls = 1, .sleeps_ms = 200, .late_us = 20000, FEW(0) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
