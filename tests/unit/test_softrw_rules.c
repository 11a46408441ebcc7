/*
 * Who may hold a soft read/write lock, and who is next. The last test plays every order in which
 * three participants can look and commit, up to a number of steps, on a log that is an array: no two
 * holders exclude each other, and a writer that waits keeps new readers out.
 */
#include <errno.h>
#include <string.h>

#include "kinds/softrw_rules.h"
#include "support.h"

static struct softrw_token token_of(unsigned char number)
{
	return (struct softrw_token){ { number } };
}

static const struct softrw_token self = { { 1 } }, other = { { 2 } };

static enum softrw_move move_of(struct softrw_snapshot *next, enum filelock_mode mode, bool entered,
                                bool evicted)
{
	enum softrw_move move;

	ck_assert_int_eq(softrw_advance(next, &self, mode, entered, evicted, &move), 0);
	return move;
}

START_TEST(test_reader_enters_a_free_lock_and_holds)
{
	struct softrw_snapshot next = { .generation = 1 };

	ck_assert_int_eq(move_of(&next, FILELOCK_SHARED, false, false), SOFTRW_GRANT);
	ck_assert(softrw_snapshot_names(&next, &self));
	softrw_snapshot_clear(&next);
}
END_TEST

START_TEST(test_reader_waits_behind_a_writer_that_waits)
{
	struct softrw_snapshot next = { .has_writer = true, .writer = other };

	ck_assert_int_eq(softrw_snapshot_add_reader(&next, &(struct softrw_token){ { 3 } }), 0);
	ck_assert_int_eq(move_of(&next, FILELOCK_SHARED, false, false), SOFTRW_WAIT);
	ck_assert_uint_eq(next.readers, 1);
	softrw_snapshot_clear(&next);
}
END_TEST

START_TEST(test_writer_enters_beside_readers_and_waits)
{
	struct softrw_snapshot next = { 0 };

	ck_assert_int_eq(softrw_snapshot_add_reader(&next, &other), 0);
	ck_assert_int_eq(move_of(&next, FILELOCK_EXCLUSIVE, false, false), SOFTRW_ENTER);
	ck_assert(next.has_writer && softrw_token_equal(&next.writer, &self));
	ck_assert_int_eq(move_of(&next, FILELOCK_EXCLUSIVE, true, false), SOFTRW_WAIT);
	softrw_snapshot_remove(&next, &other);
	ck_assert_int_eq(move_of(&next, FILELOCK_EXCLUSIVE, true, false), SOFTRW_GRANT);
	softrw_snapshot_clear(&next);
}
END_TEST

START_TEST(test_death_is_committed_by_whoever_waits)
{
	struct softrw_snapshot next = { .has_writer = true, .writer = other };

	ck_assert_int_eq(move_of(&next, FILELOCK_EXCLUSIVE, false, true), SOFTRW_EVICT);
	ck_assert(!softrw_snapshot_names(&next, &self));
	next.has_writer = false;
	ck_assert_int_eq(move_of(&next, FILELOCK_EXCLUSIVE, false, true), SOFTRW_GRANT);
}
END_TEST

/* It was thrown out while it waited: it comes in again as anybody. */
START_TEST(test_waiter_that_is_named_no_more_waits_again)
{
	struct softrw_snapshot next = { .has_writer = true, .writer = other };

	ck_assert_int_eq(move_of(&next, FILELOCK_EXCLUSIVE, false, false), SOFTRW_WAIT);
	ck_assert(softrw_token_equal(&next.writer, &other));
}
END_TEST

START_TEST(test_successor_is_a_copy_of_its_own)
{
	struct softrw_snapshot latest = { .generation = 8, .has_writer = true, .writer = other };
	struct softrw_snapshot next;

	ck_assert_int_eq(softrw_snapshot_add_reader(&latest, &self), 0);
	ck_assert_int_eq(softrw_successor(&latest, &next), 0);
	softrw_snapshot_remove(&next, &self);
	ck_assert_uint_eq(next.generation, 9);
	ck_assert(softrw_token_equal(&next.writer, &other));
	ck_assert_uint_eq(next.readers, 0);
	ck_assert_uint_eq(latest.readers, 1);
	softrw_snapshot_clear(&next);
	softrw_snapshot_clear(&latest);
}
END_TEST

/* --- every order --- */

/* Check's own assertions write to a pipe each. */
#define must(condition)                  \
	if (!(condition))                \
	ck_abort_msg("%s", #condition)

enum { PLAYERS = 3, STEPS = 11, GENERATIONS = STEPS + 1 };

enum stage { OUTSIDE, LOOKED, WAITING, WAITING_LOOKED, INSIDE, LEAVING, GONE };

struct player {
	enum filelock_mode mode;
	enum stage stage;
	unsigned seen; /* the generation that it decides by */
};

/* The whole world, small enough to be copied at each fork of the way. Members are bits. */
struct world {
	struct player player[PLAYERS];
	unsigned newest;
	unsigned char writer[GENERATIONS]; /* 0: none */
	unsigned char readers[GENERATIONS];
};

static unsigned long worlds;

static void load(const struct world *world, unsigned generation, struct softrw_snapshot *ret)
{
	*ret = (struct softrw_snapshot){ .generation = generation,
		                         .has_writer = world->writer[generation] != 0,
		                         .writer = token_of(world->writer[generation]) };
	for (unsigned char i = 0; i < PLAYERS; i++)
		if (world->readers[generation] & 1u << i) {
			struct softrw_token token = token_of(i + 1);

			must(softrw_snapshot_add_reader(ret, &token) == 0);
		}
}

/* As link(2) decides: only the first successor of a generation lands. */
static bool commit(struct world *world, const struct softrw_snapshot *next)
{
	unsigned generation = (unsigned)next->generation;

	if (generation != world->newest + 1)
		return false;
	world->newest = generation;
	world->writer[generation] = next->has_writer ? next->writer.bytes[0] : 0;
	world->readers[generation] = 0;
	for (size_t i = 0; i < next->readers; i++)
		world->readers[generation] |= (unsigned char)(1u << (next->reader[i].bytes[0] - 1));
	return true;
}

static void decide(struct world *world, unsigned who)
{
	struct player *player = &world->player[who];
	struct softrw_token token = token_of((unsigned char)(who + 1));
	struct softrw_snapshot latest, next;
	enum softrw_move move;

	load(world, player->seen, &latest);
	must(softrw_successor(&latest, &next) == 0);
	must(softrw_advance(&next, &token, player->mode, softrw_snapshot_names(&latest, &token),
	                    false, &move) == 0);
	player->stage = WAITING;
	if (move != SOFTRW_WAIT && commit(world, &next) && move == SOFTRW_GRANT)
		player->stage = INSIDE;
	softrw_snapshot_clear(&latest);
	softrw_snapshot_clear(&next);
}

static void leave(struct world *world, unsigned who)
{
	struct player *player = &world->player[who];
	struct softrw_token token = token_of((unsigned char)(who + 1));
	struct softrw_snapshot latest, next;

	load(world, player->seen, &latest);
	must(softrw_successor(&latest, &next) == 0);
	softrw_snapshot_remove(&next, &token);
	player->stage = commit(world, &next) ? GONE : INSIDE; /* to look and leave again */
	softrw_snapshot_clear(&latest);
	softrw_snapshot_clear(&next);
}

static void step(struct world *world, unsigned who)
{
	struct player *player = &world->player[who];

	switch (player->stage) {
	case OUTSIDE:
	case WAITING:
		player->seen = world->newest;
		player->stage = player->stage == OUTSIDE ? LOOKED : WAITING_LOOKED;
		break;
	case LOOKED:
	case WAITING_LOOKED:
		decide(world, who);
		break;
	case INSIDE:
		player->seen = world->newest;
		player->stage = LEAVING;
		break;
	case LEAVING:
		leave(world, who);
		break;
	default:
		break;
	}
}

static void check(const struct world *world)
{
	unsigned inside = 0, writers = 0;

	for (unsigned i = 0; i < PLAYERS; i++)
		if (world->player[i].stage == INSIDE || world->player[i].stage == LEAVING) {
			inside++;
			writers += world->player[i].mode == FILELOCK_EXCLUSIVE;
		}
	must(writers == 0 || inside == 1);
}

static void play(const struct world *world, unsigned steps)
{
	worlds++;
	check(world);
	if (steps == 0)
		return;
	for (unsigned who = 0; who < PLAYERS; who++) {
		struct world next = *world;

		if (world->player[who].stage == GONE)
			continue;
		step(&next, who);
		play(&next, steps - 1);
	}
}

/* shows: rw-one-successor */
START_TEST(test_no_order_of_steps_lets_in_who_excludes_another)
{
	/* who reads: two writers and a reader, one writer and two readers, three writers */
	static const unsigned char readers[] = { 4, 6, 0 };

	for (size_t i = 0; i < sizeof(readers); i++) {
		struct world world = { 0 };

		for (unsigned who = 0; who < PLAYERS; who++)
			world.player[who].mode = readers[i] & 1u << who ? FILELOCK_SHARED
			                                                : FILELOCK_EXCLUSIVE;
		worlds = 0;
		play(&world, STEPS);
		ck_assert_uint_gt(worlds, 10000);
	}
}
END_TEST

int main(void)
{
	return support_main(SUITE("softrw_rules", test_reader_enters_a_free_lock_and_holds,
	                          test_reader_waits_behind_a_writer_that_waits,
	                          test_writer_enters_beside_readers_and_waits,
	                          test_death_is_committed_by_whoever_waits,
	                          test_waiter_that_is_named_no_more_waits_again,
	                          test_successor_is_a_copy_of_its_own,
	                          test_no_order_of_steps_lets_in_who_excludes_another));
}
