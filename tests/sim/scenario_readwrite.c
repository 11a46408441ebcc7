/*
 * scenario_readwrite.c - SQLite's locks, with SQLite itself in each process: each record lock,
 * each look at the file, each wake-up interleaved with each of others.
 */
#include "actors.h"

#define READWRITE .kind = FILELOCK_READWRITE

ACTOR(writer, READWRITE)
ACTOR(writer_twice, READWRITE, .twice = true)
ACTOR(reader, READWRITE, .mode = FILELOCK_SHARED)
ACTOR(reader_twice, READWRITE, .mode = FILELOCK_SHARED, .twice = true)
ACTOR(writer_that_stays, READWRITE, .stays_open = true)
ACTOR(reader_that_stays, READWRITE, .mode = FILELOCK_SHARED, .stays_open = true)
ACTOR(writer_twice_that_stays, READWRITE, .twice = true, .stays_open = true)
ACTOR(closing, READWRITE, .close_holding = true)
ACTOR(hurried_writer, READWRITE, .timeout_ms = 100)
ACTOR(hurried_reader, READWRITE, .timeout_ms = 100, .mode = FILELOCK_SHARED)

static void empty_database(void)
{
	make_lock_file("");
}

#define FEW(n) .preempt_few = true, .preemptions = (n)

static const struct scenario scenarios[] = {
	{ .name = "two_writers", .mains = { writer, writer }, .sleeps_ms = 50 },
	{ .name = "two_writers_twice", .mains = { writer_twice, writer_twice },
	  .sleeps_ms = 50, .before = empty_database, FEW(3) },
	{ .name = "reader_and_writer", PROMPT, .mains = { reader, writer },
	  .before = empty_database },
	{ .name = "reader_and_writer_twice", PROMPT, .mains = { reader_twice, writer_twice },
	  .sleeps_ms = 50, .before = empty_database, FEW(3) },
	{ .name = "two_readers_and_a_writer", PROMPT, .mains = { reader, reader, writer },
	  .before = empty_database, FEW(3) },
	{ .name = "two_writers_and_a_reader", .mains = { writer, writer, reader },
	  .sleeps_ms = 50, .before = empty_database, FEW(2) },
	/* their connections rest: no close tells of a release, only the file's times do */
	{ .name = "writer_that_stays", PROMPT, .mains = { writer_that_stays, reader },
	  .before = empty_database, .stay = 1 },
	{ .name = "reader_that_stays", PROMPT, .mains = { reader_that_stays, writer },
	  .before = empty_database, .stay = 1 },
	/* and the second release sets them for those only that are registered at the folder */
	{ .name = "writer_twice_that_stays", .mains = { writer_twice_that_stays, reader },
	  PROMPT, .sleeps_ms = 1, .before = empty_database, .stay = 2, FEW(3) },
	{ .name = "writers_twice_that_stay",
	  .mains = { writer_twice_that_stays, writer_twice_that_stays }, .sleeps_ms = 50,
	  .before = empty_database, .stay = 2, FEW(3) },
	{ .name = "closed_while_held", .mains = { closing, writer }, .sleeps_ms = 50,
	  .before = empty_database },
	{ .name = "a_crash_of_writers", .mains = { writer, writer }, .sleeps_ms = 50,
	  .before = empty_database, .crashes = 1, FEW(3) },
	{ .name = "a_crash", .mains = { reader, writer }, .sleeps_ms = 50,
	  .before = empty_database, .crashes = 1, FEW(3) },
	{ .name = "a_crash_of_three", .mains = { reader, writer, reader },
	  .sleeps_ms = 50, .before = empty_database, .crashes = 1, FEW(1) },
	{ .name = "removed_by_another", .mains = { writer, writer, remove_file },
	  .sleeps_ms = 50, .strangers = 1 << 2, .before = empty_database,
	  .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "renamed_by_another", PROMPT, .mains = { reader, writer, rename_file },
	  .before = empty_database, .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "replaced_by_another", PROMPT, .mains = { writer, reader, replace_file },
	  .before = empty_database, .meddled = true, .files_stay = true, FEW(3) },
	{ .name = "hurried_writer", PROMPT, .mains = { hurried_writer, reader },
	  .before = empty_database, .stalls = 1, FEW(3) },
	{ .name = "hurried_reader", PROMPT, .mains = { hurried_reader, writer },
	  .before = empty_database, .stalls = 1, FEW(3) },
};

int main(int argc, char **argv)
{
	return schedule_main(argc, argv, scenarios, sizeof(scenarios) / sizeof(*scenarios));
}
