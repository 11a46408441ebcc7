/* Everything that can fail in a synchronous call does, at each point, once and for good. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "allocator.h"
#include "softly.h"
#include "sweep.h"
#include "base/sys.h"

#define NATIVE KIND(FILELOCK_NATIVE)
#define SOFT KIND(FILELOCK_SOFT)
#define READWRITE KIND(FILELOCK_READWRITE)
#define LEASE KIND(FILELOCK_LEASE)
#define MARKERS (SOFT | LEASE)
#define PATIENCE_MS 100 /* of a clock that only passes in ppoll(2) */

static enum filelock_kind kind; /* asking test_kind() is an assertion */

/* --- what is played --- */

static int acquire(struct stage *stage)
{
	return filelock_acquire(stage->lock, stage->mode, PATIENCE_MS);
}

/* Longer than a torn marker has to be seen. */
static int acquire_patiently(struct stage *stage)
{
	return filelock_acquire(stage->lock, stage->mode, 60 * PATIENCE_MS);
}

static int release(struct stage *stage)
{
	return filelock_release(stage->lock);
}

static int close_it(struct stage *stage)
{
	filelock_close(stage->lock);
	stage->lock = NULL;
	return 0;
}

static int verify(struct stage *stage)
{
	return filelock_verify(stage->lock);
}

static int ask(struct stage *stage)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	return filelock_holder(stage->lock, &owner);
}

static int break_it(struct stage *stage)
{
	return filelock_break(stage->lock);
}

static int open_it(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.singleton = true;
	options.any_extension = kind == FILELOCK_READWRITE;
	return filelock_open("lock", kind, &options, &stage->lock);
}

/* --- what is so before --- */

static void somebody_holds(struct stage *stage)
{
	stage->other = sweep_hold(FILELOCK_EXCLUSIVE);
}

static void it_holds(struct stage *stage)
{
	ck_assert_int_eq(filelock_acquire(stage->lock, stage->mode, 0), 0);
}

/* The holder goes when the waiter is about to sleep. */
static bool go_away(void *arg)
{
	struct stage *stage = arg;

	fault_pause(true);
	filelock_close(stage->other);
	stage->other = NULL;
	fault_pause(false);
	return false;
}

static void open_with(struct stage *stage, const struct filelock_options *options)
{
	filelock_close(stage->lock);
	stage->lock = sweep_open(options);
}

static void somebody_goes(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.should_cancel = go_away;
	options.arg = stage;
	open_with(stage, &options);
	stage->other = sweep_hold(FILELOCK_EXCLUSIVE);
}

static bool interrupt(void *arg)
{
	struct stage *stage = arg;

	filelock_interrupt(stage->lock);
	return false;
}

static void somebody_interrupts(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.should_cancel = interrupt;
	options.arg = stage;
	open_with(stage, &options);
	stage->other = sweep_hold(FILELOCK_EXCLUSIVE);
}

static int stay(void *arg)
{
	(void)arg;
	return pause();
}

static pid_t process; /* whose marker nobody has open; 0: none */
static unsigned looks; /* at whether the wait is still wanted */

static bool end_process(void *arg)
{
	(void)arg;
	if (!process || ++looks < 3) /* it is watched by then */
		return false;
	memory_pause(true);
	ck_assert_int_eq(kill(process, SIGKILL), 0);
	ck_assert_int_eq(test_reap(process), 128 + SIGKILL);
	process = 0;
	memory_pause(false);
	return false;
}

static void process_has_gone(struct stage *stage)
{
	looks = 3;
	(void)end_process(stage);
}

static void process_goes(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.should_cancel = end_process;
	options.poll_interval_ms = 5;
	looks = 0;
	open_with(stage, &options);
	process = test_fork(stay, NULL);
	put_record(sweep_path(), process, NULL);
}

static int writer = -1; /* has its marker open for writing, as Python has, without a flock */

static bool close_writer(void *arg)
{
	(void)arg;
	if (writer < 0)
		return false;
	memory_pause(true);
	ck_assert_int_eq(unlink(sweep_path()), 0);
	ck_assert_int_eq(close(writer), 0);
	writer = -1;
	memory_pause(false);
	return false;
}

static void writer_has_gone(struct stage *stage)
{
	(void)close_writer(stage);
}

static void writer_goes(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.should_cancel = close_writer;
	open_with(stage, &options);
	put_record(sweep_path(), getpid(), NULL);
	writer = open(sweep_path(), O_WRONLY | O_CLOEXEC);
	ck_assert_int_ge(writer, 0);
}

/* Of a process that there cannot be. */
static void marker_is_torn(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = 10 * PATIENCE_MS;
	open_with(stage, &options);
	put_bytes(sweep_path(), "2147483647\nho", 13);
}

static void marker_is_dead(struct stage *stage)
{
	static pid_t dead;

	(void)stage;
	if (!dead)
		dead = dead_pid();
	put_record(sweep_path(), dead, NULL);
}

static int (*real_open)(const char *path, int flags, mode_t mode);
static int (*real_linkat)(int from_fd, const char *from, int to_fd, const char *to, int flags);
static int (*real_flock)(int fd, int operation);
static int (*real_ppoll)(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                         const sigset_t *mask);
static bool without_tmpfile, without_links, without_flock, without_ppoll;

static int restricted_open(const char *path, int flags, mode_t mode)
{
	if (!without_tmpfile || (flags & O_TMPFILE) != O_TMPFILE)
		return real_open(path, flags, mode);
	errno = EOPNOTSUPP;
	return -1;
}

static int restricted_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	if (!without_links)
		return real_linkat(from_fd, from, to_fd, to, flags);
	errno = EPERM;
	return -1;
}

static int restricted_flock(int fd, int operation)
{
	if (!without_flock)
		return real_flock(fd, operation);
	errno = ENOSYS;
	return -1;
}

static int restricted_ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                            const sigset_t *mask)
{
	if (!without_ppoll)
		return real_ppoll(fds, n, timeout, mask);
	errno = ENOMEM;
	return -1;
}

static void no_tmpfile(struct stage *stage)
{
	(void)stage;
	without_tmpfile = true;
}

static void no_links(struct stage *stage)
{
	(void)stage;
	without_links = true;
}

static void no_flock(struct stage *stage)
{
	(void)stage;
	without_flock = true;
}

static void no_ppoll(struct stage *stage)
{
	somebody_goes(stage);
	without_ppoll = true;
}

static void unrestricted(struct stage *stage)
{
	(void)stage;
	without_tmpfile = without_links = without_flock = without_ppoll = false;
}

static void removes_its_file(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.unlink_on_release = true;
	open_with(stage, &options);
	it_holds(stage);
}

static void keeps_open(struct stage *stage)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.keep_open = true;
	open_with(stage, &options);
	it_holds(stage);
}

static void keeps_an_open_file(struct stage *stage)
{
	keeps_open(stage);
	ck_assert_int_eq(filelock_release(stage->lock), 0);
}

static int registered = -1; /* a description that is registered as a waiter's */

static void keeps_open_and_somebody_waits(struct stage *stage)
{
	keeps_open(stage);
	registered = open(sweep_path(), O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(sys_register_waiter(registered), 0);
}

static void keeps_no_more(struct stage *stage)
{
	(void)filelock_drop(stage->lock);
	if (registered >= 0)
		ck_assert_int_eq(close(registered), 0);
	registered = -1;
}

static const struct scenario scenarios[] = {
	{ "open", OPENING, 0, EVERY_KIND, .play = open_it },
	{ "acquire a free lock", ACQUIRING, 0, EVERY_KIND, .shared = true, .play = acquire },
	{ "acquire a free lock, first in the process", ACQUIRING, 0, EVERY_KIND, .shared = true,
	  .cold = true, .play = acquire },
	{ "acquire a free lock whose file is there", ACQUIRING, 0, NATIVE | READWRITE, .shared = true,
	  .stays = true, .play = acquire },
	{ "acquire in a folder that is missing", MAKING, 0, EVERY_KIND, .shared = true,
	  .deep = true, .play = acquire },
	{ "acquire without O_TMPFILE", ACQUIRING, 0, NATIVE | MARKERS, .set = no_tmpfile,
	  .play = acquire, .strike = unrestricted },
	{ "acquire without links", ACQUIRING, 0, MARKERS, .set = no_links, .play = acquire,
	  .strike = unrestricted },
	{ "fall back to a marker", ACQUIRING, 0, NATIVE, .falls_back = true,
	  .set = no_flock, .play = acquire, .strike = unrestricted },
	{ "take a dead marker over", TAKING, 0, MARKERS, .set = marker_is_dead, .play = acquire },
	{ "take a torn marker over", TAKING, 0, SOFT, .set = marker_is_torn,
	  .play = acquire_patiently },
	{ "wait for a process, then take its marker over", TAKING, 0, SOFT, .set = process_goes,
	  .play = acquire, .strike = process_has_gone },
	{ "wait for a process, first in the process", TAKING, 0, SOFT, .cold = true,
	  .only = (const enum fault_call[]){ FAULT_epoll_create1, FAULT_COUNT },
	  .set = process_goes, .play = acquire, .strike = process_has_gone },
	{ "wait for a holder without flock", TAKING, 0, SOFT, .set = writer_goes, .play = acquire,
	  .strike = writer_has_gone },
	{ "wait, then be granted", WAITING, 0, EVERY_KIND, .shared = true, .set = somebody_goes,
	  .play = acquire },
	{ "wait without ppoll", WAITING, 0, EVERY_KIND, .shared = true,
	  .only = (const enum fault_call[]){ FAULT_nanosleep, FAULT_COUNT }, .set = no_ppoll,
	  .play = acquire, .strike = unrestricted },
	{ "be interrupted", WAITING, -ECANCELED, EVERY_KIND, .set = somebody_interrupts,
	  .play = acquire },
	{ "wait, then be granted, first in the process", WAITING, 0, EVERY_KIND, .shared = true,
	  .cold = true, .set = somebody_goes, .play = acquire },
	{ "wait in vain", WAITING, -ETIMEDOUT, EVERY_KIND, .shared = true,
	  .set = somebody_holds, .play = acquire },
	{ "release", RELEASING, 0, EVERY_KIND, .shared = true, .set = it_holds, .play = release },
	{ "release, and keep the file open", RELEASING, 0, NATIVE, .shared = true,
	  .set = keeps_open, .play = release, .strike = keeps_no_more },
	{ "release an open file that somebody waits for", RELEASING, 0, NATIVE, .shared = true,
	  .set = keeps_open_and_somebody_waits, .play = release, .strike = keeps_no_more },
	{ "acquire by a file that was kept open", ACQUIRING, 0, NATIVE, .shared = true,
	  .set = keeps_an_open_file, .play = acquire },
	{ "release and remove", REMOVING, 0, NATIVE, .shared = true,
	  .set = removes_its_file, .play = release },
	{ "close what is held", CLOSING, 0, EVERY_KIND, .shared = true, .set = it_holds,
	  .play = close_it },
	{ "verify", VERIFYING, 0, EVERY_KIND, .shared = true, .set = it_holds, .play = verify },
	{ "ask for the holder", ASKING, 0, EVERY_KIND, .set = somebody_holds, .play = ask },
	{ "break", BREAKING, 0, MARKERS | KIND(FILELOCK_SOFT_READWRITE), .set = somebody_holds, .play = break_it },
};
#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

/* Those of this kind. */
static struct {
	const struct scenario *scenario;
	enum filelock_mode mode;
} runs[2 * SCENARIOS];
static int runs_count;

static void choose_runs(void)
{
	for (size_t i = 0; i < SCENARIOS; i++) {
		if (!(scenarios[i].kinds & KIND(kind)))
			continue;
		runs[runs_count].scenario = &scenarios[i];
		runs[runs_count++].mode = FILELOCK_EXCLUSIVE;
		if (!scenarios[i].shared || test_kind_is_exclusive())
			continue;
		runs[runs_count].scenario = &scenarios[i];
		runs[runs_count++].mode = FILELOCK_SHARED;
	}
}

/* shows: errors eintr whole-marker failed-unlock marker-left-by-close no-memory */
START_TEST(test_each_fault_has_the_result_of_its_rule_and_leaves_nothing)
{
	real_open = sys.open;
	real_linkat = sys.linkat;
	real_flock = sys.flock;
	sys.open = restricted_open;
	sys.linkat = restricted_linkat;
	sys.flock = restricted_flock;
	sweep_stop_clock();
	real_ppoll = sys.ppoll;
	sys.ppoll = restricted_ppoll;
	ck_assert_int_eq(chdir(test_folder()), 0);
	sweep(runs[_i].scenario, runs[_i].mode);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sweep");
	TCase *tcase = tcase_create("sweep");
	int status;

	kind = sweep_begin(SYNCHRONOUS);
	choose_runs();
	tcase_set_timeout(tcase, 600);
	tcase_add_loop_test(tcase, test_each_fault_has_the_result_of_its_rule_and_leaves_nothing, 0,
	                    runs_count);
	suite_add_tcase(suite, tcase);
	status = support_main(suite);
	return sweep_end("synchronous faults", status);
}
