/* The counts of a context. */
#include <locale.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE
#define US INT64_C(1000)

static struct evfilelock_stats stats_of(const struct loop *loop)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	ck_assert_int_eq(evfilelock_get_stats(loop->ev, &stats), 0);
	return stats;
}

/* Turns the loop until one attempt more was made. */
static void await_attempt(const struct loop *loop)
{
	uint64_t before = stats_of(loop).attempts;

	while (stats_of(loop).attempts == before)
		ck_assert_int_eq(event_base_loop(loop->base, EVLOOP_ONCE), 0);
}

START_TEST(test_new_context_has_counted_nothing)
{
	struct evfilelock_stats nothing = EVFILELOCK_STATS_INIT;
	struct loop loop = loop_new();
	struct evfilelock_stats stats = stats_of(&loop);

	ck_assert_mem_eq(&stats, &nothing, sizeof(stats));
	loop_free(&loop);
}
END_TEST

START_TEST(test_older_programs_get_what_they_know)
{
	struct evfilelock_stats stats;
	struct loop loop = loop_new();

	memset(&stats, 0x55, sizeof(stats));
	stats.size = offsetof(struct evfilelock_stats, granted);
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), 0);
	ck_assert_uint_eq(stats.size, offsetof(struct evfilelock_stats, granted));
	ck_assert_uint_eq(stats.requested, 0);
	ck_assert_uint_eq(stats.granted, UINT64_C(0x5555555555555555));
	loop_free(&loop);
}
END_TEST

START_TEST(test_newer_programs_get_zero_for_the_rest)
{
	struct {
		struct evfilelock_stats known;
		uint64_t newer;
	} stats = { EVFILELOCK_STATS_INIT, 7 };
	struct loop loop = loop_new();

	stats.known.size = sizeof(stats);
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats.known), 0);
	ck_assert_uint_eq(stats.known.size, sizeof(stats));
	ck_assert_uint_eq(stats.newer, 0);
	loop_free(&loop);
}
END_TEST

START_TEST(test_stats_without_a_size_are_refused)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	struct loop loop = loop_new();

	ck_assert_int_eq(evfilelock_get_stats(NULL, &stats), -EINVAL);
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, NULL), -EINVAL);
	stats.size = 0;
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), -EINVAL);
	stats.size = SIZE_MAX;
	ck_assert_int_eq(evfilelock_get_stats(loop.ev, &stats), -EINVAL);
	loop_free(&loop);
}
END_TEST

static int stats_in_child(void *arg)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;

	return evfilelock_get_stats(((struct loop *)arg)->ev, &stats) == FILELOCK_EFORKED ? 0 : 1;
}

START_TEST(test_stats_of_the_parents_context_are_refused)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(test_in_child(stats_in_child, &loop), 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_each_answer_is_counted_by_its_result)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked overdue = { .lock = open_patient("a") };
	struct asked cancelled = { .lock = open_patient("a") };
	struct asked failed = { .lock = open_patient("d") };
	struct asked granted = { .lock = open_patient("b") };
	struct evfilelock_stats stats;

	ck_assert_int_eq(mkdir(test_path("d"), 0700), 0);
	loop_ask(&loop, &overdue, EXCLUSIVE, 0);
	loop_ask(&loop, &cancelled, EXCLUSIVE, -1);
	loop_ask(&loop, &failed, EXCLUSIVE, -1);
	loop_ask(&loop, &granted, EXCLUSIVE, -1);
	stats = stats_of(&loop);
	ck_assert_uint_eq(stats.requested, 4);
	ck_assert_uint_eq(stats.waiting, 4);
	ask_cancel(&cancelled);
	ck_assert_uint_eq(stats_of(&loop).cancelled, 0);
	loop_drain(&loop);
	stats = stats_of(&loop);
	ck_assert_uint_eq(stats.waiting, 0);
	ck_assert_uint_eq(stats.granted, 1);
	ck_assert_uint_eq(stats.timed_out, 1);
	ck_assert_uint_eq(stats.cancelled, 1);
	ck_assert_uint_eq(stats.failed, 1);
	ck_assert_uint_eq(stats.requested, 4);
	filelock_close(holder);
	filelock_close(overdue.lock);
	filelock_close(cancelled.lock);
	filelock_close(failed.lock);
	filelock_close(granted.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_refused_request_is_not_counted)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };

	ck_assert_int_eq(loop_try_ask(&loop, &asked, (enum filelock_mode)7, -1), -EINVAL);
	ck_assert_uint_eq(stats_of(&loop).requested, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_hold_is_counted_until_its_last_level_is_released)
{
	struct loop loop = loop_new();
	struct asked asked = { .lock = open_patient("a") };

	ck_assert_int_eq(loop_acquire(&loop, asked.lock, EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(stats_of(&loop).held, 1);
	ck_assert_uint_eq(stats_of(&loop).queues, 0);
	ck_assert_int_eq(loop_acquire(&loop, asked.lock, EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(stats_of(&loop).held, 1);
	ck_assert_uint_eq(stats_of(&loop).granted, 2);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert_uint_eq(stats_of(&loop).held, 1);
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert_uint_eq(stats_of(&loop).held, 0);
	ck_assert_int_eq(loop_acquire(&loop, asked.lock, EXCLUSIVE, -1), 0);
	filelock_close(asked.lock);
	ck_assert_uint_eq(stats_of(&loop).held, 0);
	loop_free(&loop);
}
END_TEST

static void *release_here(void *arg)
{
	ck_assert_int_eq(filelock_release(arg), 0);
	return NULL;
}

START_TEST(test_release_on_another_thread_is_counted)
{
	struct loop loop = loop_new();
	struct filelock *lock = open_patient("a");
	pthread_t thread;

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, release_here, lock), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_uint_eq(stats_of(&loop).held, 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_lengths_of_the_queues_are_told)
{
	struct loop loop = loop_new();
	struct filelock *holders[2] = { hold("a", EXCLUSIVE), hold("b", EXCLUSIVE) };
	struct asked asked[5] = { 0 };
	struct evfilelock_stats stats;

	for (unsigned i = 0; i < 5; i++) {
		asked[i].lock = open_patient(i < 3 ? "a" : "b");
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_for(&loop, 2);
	stats = stats_of(&loop);
	ck_assert_uint_eq(stats.queues, 2);
	ck_assert_uint_eq(stats.longest_queue, 3);
	ask_cancel(&asked[1]);
	ck_assert_uint_eq(stats_of(&loop).longest_queue, 2);
	for (unsigned i = 0; i < 5; i++)
		ask_cancel(&asked[i]);
	loop_drain(&loop);
	stats = stats_of(&loop);
	ck_assert_uint_eq(stats.queues, 0);
	ck_assert_uint_eq(stats.longest_queue, 0);
	ck_assert_uint_eq(stats.longest_queue_ever, 3);
	for (unsigned i = 0; i < 5; i++)
		filelock_close(asked[i].lock);
	filelock_close(holders[0]);
	filelock_close(holders[1]);
	loop_free(&loop);
}
END_TEST

static void release_own(struct asked *asked)
{
	ck_assert_int_eq(filelock_release(asked->lock), 0);
}

START_TEST(test_hand_over_is_counted_and_is_no_attempt)
{
	struct loop loop = loop_with_handover(100, 60000000);
	struct asked asked[3] = { 0 };
	struct evfilelock_stats stats;

	for (unsigned i = 0; i < 3; i++) {
		asked[i] = (struct asked){ .lock = open_patient("a"), .then = release_own };
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	loop_drain(&loop);
	stats = stats_of(&loop);
	ck_assert_uint_eq(stats.granted, 3);
	ck_assert_uint_eq(stats.handed_over, 2);
	ck_assert_uint_eq(stats.attempts, 1);
	ck_assert_uint_eq(stats.held, 0);
	ck_assert_uint_eq(stats.missed_wakeups, 0);
	for (unsigned i = 0; i < 3; i++)
		filelock_close(asked[i].lock);
	loop_free(&loop);
}
END_TEST

/* The library's clock stands, so that no poll is ever due. */
START_TEST(test_grant_by_an_event_is_no_rescue)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };
	struct evfilelock_stats stats;
	uint64_t attempts;

	clock_stop();
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	await_attempt(&loop);
	attempts = stats_of(&loop).attempts;
	ck_assert_uint_gt(attempts, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	stats = stats_of(&loop);
	ck_assert_uint_gt(stats.wakes_by_event, 0);
	ck_assert_uint_eq(stats.wakes_by_poll, 0);
	ck_assert_uint_gt(stats.attempts, attempts);
	ck_assert_uint_eq(stats.missed_wakeups, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_grant_that_a_poll_found_is_a_rescue)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { 0 };
	struct evfilelock_stats stats;
	struct loop loop;

	options.poll_interval_ms = 2;
	asked.lock = test_open(test_path("a"), &options);
	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	loop = loop_new();
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	await_attempt(&loop);
	ck_assert_uint_eq(stats_of(&loop).missed_wakeups, 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	stats = stats_of(&loop);
	ck_assert_uint_eq(stats.missed_wakeups, 1);
	ck_assert_uint_gt(stats.wakes_by_poll, 0);
	ck_assert_uint_eq(stats.wakes_by_event, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_grant_without_a_wait_is_no_rescue)
{
	struct filelock *lock = open_patient("a");
	struct loop loop;

	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	loop = loop_new();
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(stats_of(&loop).attempts, 1);
	ck_assert_uint_eq(stats_of(&loop).missed_wakeups, 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

static void close_holder(void *arg)
{
	filelock_close(arg);
}

/* The attempt that follows at once upon a new watch finds it. */
START_TEST(test_grant_that_the_watch_was_too_late_for_is_no_rescue)
{
	struct loop loop = loop_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct filelock *lock = open_patient("a");

	fault_before(FAULT_inotify_add_watch, 1, close_holder, holder);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_uint_eq(fault_hits(FAULT_inotify_add_watch), 1);
	ck_assert_uint_eq(stats_of(&loop).attempts, 2);
	ck_assert_uint_eq(stats_of(&loop).missed_wakeups, 0);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

/* A request that is granted after so long. */
static void wait_for(struct loop *loop, int64_t time)
{
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };

	loop_ask(loop, &asked, EXCLUSIVE, -1);
	await_attempt(loop);
	clock_advance(time);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(loop, &asked), 0);
	filelock_close(asked.lock);
}

START_TEST(test_waits_are_counted_by_powers_of_two)
{
	static const struct {
		int64_t wait;
		unsigned bucket;
	} waits[] = {
		{ 0, 0 },          { 999, 0 },          { US, 1 },          { 2 * US - 1, 1 },
		{ 2 * US, 2 },     { 3 * US, 2 },       { 4 * US, 3 },      { 1023 * US, 10 },
		{ 1024 * US, 11 }, { 1000000 * US, 20 }, { 1800 * SECONDS, 31 }, { 1000000 * SECONDS, 31 },
	};
	uint64_t expected[EVFILELOCK_WAIT_BUCKETS] = { 0 };
	struct loop loop = loop_new();
	struct evfilelock_stats stats;

	clock_stop();
	for (size_t i = 0; i < sizeof(waits) / sizeof(*waits); i++) {
		wait_for(&loop, waits[i].wait);
		expected[waits[i].bucket]++;
		stats = stats_of(&loop);
		ck_assert_mem_eq(stats.waits, expected, sizeof(expected));
	}
	loop_free(&loop);
}
END_TEST

/* The text of the counts, without the lines that explain it. */
static char *exposed(const struct evfilelock_stats *stats, const char *labels)
{
	char *text = NULL;
	size_t length = 0;
	FILE *file = open_memstream(&text, &length);

	ck_assert_ptr_nonnull(file);
	ck_assert_int_eq(evfilelock_stats_write(stats, labels, file), 0);
	ck_assert_int_eq(fclose(file), 0);
	return text;
}

static void expect_line(const char *text, const char *line)
{
	const char *found = strstr(text, line);

	ck_assert_msg(found && (found == text || found[-1] == '\n'), "no line %s in\n%s", line, text);
}

START_TEST(test_every_count_is_written_for_prometheus)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	uint64_t *members = (uint64_t *)((char *)&stats + offsetof(struct evfilelock_stats, waiting));
	size_t n = (offsetof(struct evfilelock_stats, waits) -
	            offsetof(struct evfilelock_stats, waiting)) / sizeof(uint64_t);
	char *text, value[32];

	for (size_t i = 0; i < n; i++)
		members[i] = 1000 + i;
	text = exposed(&stats, NULL);
	for (size_t i = 0; i < n; i++) {
		snprintf(value, sizeof(value), " %zu\n", 1000 + i);
		if (&members[i] != &stats.longest_queue_ever) /* the series itself has its maximum */
			ck_assert_msg(strstr(text, value) != NULL, "%s is not in\n%s", value, text);
	}
	expect_line(text, "# TYPE filelock_answers_total counter\n");
	expect_line(text, "filelock_answers_total{result=\"timed_out\"} ");
	free(text);
}
END_TEST

START_TEST(test_waits_are_written_as_a_histogram)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	char *text;

	stats.waits[0] = 1;
	stats.waits[3] = 2;
	stats.waits[EVFILELOCK_WAIT_BUCKETS - 1] = 4;
	text = exposed(&stats, "service=\"db\"");
	expect_line(text, "filelock_wait_seconds_bucket{le=\"0.000001\",service=\"db\"} 1\n");
	expect_line(text, "filelock_wait_seconds_bucket{le=\"0.000004\",service=\"db\"} 1\n");
	expect_line(text, "filelock_wait_seconds_bucket{le=\"0.000008\",service=\"db\"} 3\n");
	expect_line(text, "filelock_wait_seconds_bucket{le=\"1073.741824\",service=\"db\"} 3\n");
	expect_line(text, "filelock_wait_seconds_bucket{le=\"+Inf\",service=\"db\"} 7\n");
	expect_line(text, "filelock_wait_seconds_count{service=\"db\"} 7\n");
	expect_line(text, "filelock_held{service=\"db\"} 0\n");
	free(text);
}
END_TEST

/* A locale of glibc's format whose numbers have a comma: few machines have one. */
static void write_locale(const char *path)
{
	const struct {
		uint32_t magic, count, places[6]; /* the point, separator, grouping; both as wide; charset */
		char texts[4];
		uint32_t wide[2];
		char charset[8];
	} file = { 0x20031115 ^ LC_NUMERIC, 6, { 32, 34, 34, 36, 40, 44 }, ",", { ',', 0 }, "UTF-8" };
	FILE *out = fopen(path, "w");

	ck_assert_ptr_nonnull(out);
	ck_assert_int_eq(fwrite(&file, sizeof(file), 1, out), 1);
	ck_assert_int_eq(fclose(out), 0);
}

static locale_t comma_locale(void)
{
	const char *folder = test_path("");
	locale_t locale;

	ck_assert_int_eq(mkdir(test_path("comma"), 0755), 0);
	write_locale(test_path("comma/LC_NUMERIC"));
	ck_assert_int_eq(setenv("LOCPATH", folder, 1), 0);
	locale = newlocale(LC_NUMERIC_MASK, "comma", (locale_t)0);
	ck_assert(locale != (locale_t)0);
	return locale;
}

static int compare_with_a_comma(void *arg)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	char *plain = exposed(&stats, NULL), *text, half[8];
	locale_t locale = comma_locale();
	locale_t before = uselocale(locale);

	(void)arg;
	snprintf(half, sizeof(half), "%.1f", 0.5);
#ifdef __GLIBC__
	ck_assert_str_eq(half, "0,5");
#endif
	text = exposed(&stats, NULL);
	(void)uselocale(before);
	freelocale(locale);
	ck_assert(strcmp(text, plain) == 0); /* too long for a message */
	free(text);
	free(plain);
	return 0;
}

/* In a child that goes without a look for leaks: glibc's newlocale(3) loses what it makes of LOCPATH. */
START_TEST(test_locale_with_a_decimal_comma_changes_no_count)
{
	if (!test_is_in_valgrind())
		ck_assert_int_eq(test_in_child(compare_with_a_comma, NULL), 0);
}
END_TEST

START_TEST(test_counts_that_cannot_be_written_are_an_error)
{
	struct evfilelock_stats stats = EVFILELOCK_STATS_INIT;
	FILE *full = fopen("/dev/full", "w");

	ck_assert_ptr_nonnull(full);
	setbuf(full, NULL);
	ck_assert_int_eq(evfilelock_stats_write(&stats, NULL, full), -EIO);
	ck_assert_int_eq(evfilelock_stats_write(&stats, NULL, NULL), -EINVAL);
	ck_assert_int_eq(evfilelock_stats_write(NULL, NULL, full), -EINVAL);
	stats.size = 8;
	ck_assert_int_eq(evfilelock_stats_write(&stats, NULL, full), -EINVAL);
	fclose(full);
}
END_TEST

int main(void)
{
	return support_main(SUITE(
	        "async stats", test_new_context_has_counted_nothing,
	        test_older_programs_get_what_they_know, test_newer_programs_get_zero_for_the_rest,
	        test_stats_without_a_size_are_refused, test_stats_of_the_parents_context_are_refused,
	        test_each_answer_is_counted_by_its_result, test_refused_request_is_not_counted,
	        test_hold_is_counted_until_its_last_level_is_released,
	        test_release_on_another_thread_is_counted, test_lengths_of_the_queues_are_told,
	        test_hand_over_is_counted_and_is_no_attempt, test_grant_by_an_event_is_no_rescue,
	        test_grant_that_a_poll_found_is_a_rescue, test_grant_without_a_wait_is_no_rescue,
	        test_grant_that_the_watch_was_too_late_for_is_no_rescue,
	        test_waits_are_counted_by_powers_of_two,
	        test_every_count_is_written_for_prometheus, test_waits_are_written_as_a_histogram,
	        test_locale_with_a_decimal_comma_changes_no_count,
	        test_counts_that_cannot_be_written_are_an_error));
}
