/*
 * A release that raises no event: LOCK_UN on a descriptor that stays open, as by many languages'
 * own flock. How long it takes until a waiter has the lock, in a libevent loop and synchronous,
 * against one that is blocked in flock(2); from its second wait on, when it can know.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "bench.h"
#include "waiter.h"

static struct contender {
	const char *what;
	waiter_body body;
	struct waiter waiter;
	struct series us;
} contenders[] = {
	{ .body = waiter_by_flock },
	{ .what = "a release by LOCK_UN alone to the callback / flock(2)",
	  .body = waiter_by_request },
	{ .what = "a release by LOCK_UN alone, synchronous / flock(2)",
	  .body = waiter_by_acquire },
};
#define MOST 3 /* times as long as flock(2) */

enum { FLOCK, FIRST_OF_OURS, CONTENDERS = sizeof(contenders) / sizeof(*contenders) };

/* When the waiter had it after the release, in microseconds. */
static double one_round(struct contender *contender, int fd)
{
	int64_t released;

	(void)must(flock(fd, LOCK_EX), "flock");
	waiter_go(&contender->waiter);
	bench_sleep(bench_random(WAITER_PAUSE_NS, 3 * WAITER_PAUSE_NS));
	released = bench_now();
	(void)must(flock(fd, LOCK_UN), "flock");
	return (double)(waiter_finish(&contender->waiter) - released) / 1e3;
}

int main(int argc, char **argv)
{
	struct waiter_setup setup = { .kind = FILELOCK_NATIVE, .mode = FILELOCK_EXCLUSIVE };
	char *path;
	int fd;

	bench_begin(argc, argv);
	setup.path = path = bench_path("silent.lock");
	fd = bench_open_lock_file(path);
	for (unsigned i = 0; i < CONTENDERS; i++) {
		waiter_start(&contenders[i].waiter, contenders[i].body, &setup);
		(void)one_round(&contenders[i], fd);
	}
	for (unsigned round = 0; round < bench_rounds(300, 3); round++)
		for (unsigned i = 0; i < CONTENDERS; i++)
			series_add(&contenders[i].us, one_round(&contenders[i], fd));
	for (unsigned i = FIRST_OF_OURS; i < CONTENDERS; i++) {
		bench_row(contenders[i].what, series_median(&contenders[i].us),
		          series_median(&contenders[FLOCK].us), "us", MOST);
		bench_note("%s: 99th percentile %.1f us", contenders[i].what,
		           series_percentile(&contenders[i].us, 99));
	}
	for (unsigned i = 0; i < CONTENDERS; i++) {
		waiter_stop(&contenders[i].waiter);
		series_free(&contenders[i].us);
	}
	close(fd);
	free(path);
	return 0;
}
