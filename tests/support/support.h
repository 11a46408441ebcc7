/*
 * support.h - what the tests share: a main, a folder a test, a second process that obeys, faults
 * at the door to the system, and verifiers of mutual exclusion.
 *
 * Check runs each test in a process of its own, so what a test does to the table of system calls
 * or to descriptors needs no undoing.
 */
#ifndef FILELOCK_TESTS_SUPPORT_H
#define FILELOCK_TESTS_SUPPORT_H

#include <check.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>

#include <filelock/filelock.h>

#define MILLISECONDS INT64_C(1000000)
#define SECONDS INT64_C(1000000000)

/* Runs the suite, removes the tests' folders; returns main's status. */
int support_main(Suite *suite);

/* $FILELOCK_TEST_ONLY, if set, names the one test of the program that is to run. */
void support_add_test(TCase *tcase, const TTest *test, int start, int end);
#undef tcase_add_test
#undef tcase_add_loop_test
#define tcase_add_test(tcase, test) support_add_test((tcase), (test), 0, 1)
#define tcase_add_loop_test(tcase, test, start, end)                           \
	support_add_test((tcase), (test), (start), (end))

/* A suite of one case: SUITE("name", test_a, test_b). */
Suite *support_suite(const char *name, const TTest *const *tests, size_t count);
#define SUITE(name, ...)                                                       \
	support_suite((name), (const TTest *const[]){ __VA_ARGS__ },           \
	              sizeof((const TTest *const[]){ __VA_ARGS__ }) /          \
	                      sizeof(const TTest *))

/* Says that the test cannot be tried here, and why; then return from it. */
void test_skip(const char *reason);
/* Whether a test as root may become another user who can reach its folder; else it is skipped. */
bool test_may_change_user(void);

/* The test's own folder, made at the first call; and a path in it, good for 16 more calls. */
const char *test_folder(void);
const char *test_path(const char *name);
/* Writes a file with this content, or reads up to size - 1 bytes of one. */
void test_write_file(const char *path, const char *content);
void test_read_file(const char *path, char *content, size_t size);

/* count, scaled by the percentage FILELOCK_TEST_SCALE; at least 1. */
unsigned test_rounds(unsigned count);

/* How long anything may take before a test gives up: generous, for valgrind on a busy machine. */
#define TEST_PATIENCE (50 * SECONDS)
int64_t test_now(void); /* CLOCK_MONOTONIC, whatever the library's clock says */
void test_nap(void);    /* a millisecond, between two looks at a condition */

/* Looks at a condition until it holds. */
#define await(condition)                                                       \
	do {                                                                   \
		int64_t await_end_ = test_now() + TEST_PATIENCE;               \
		while (!(condition)) {                                         \
			ck_assert_msg(test_now() < await_end_, "never: %s",    \
			              #condition);                             \
			test_nap();                                            \
		}                                                              \
	} while (0)

/* The kind of lock that test_open and peers open: FILELOCK_NATIVE, or what the environment's
   FILELOCK_TEST_KIND names ("soft", "lease", "strict", "soft-readwrite",
   "readwrite"). */
enum filelock_kind test_kind(void);
bool test_kind_is_exclusive(void); /* it has no shared mode */

/* For what only native locks have: says so, and true if the test is of another kind. */
bool test_is_not_native(void);
/* The same where valgrind looks on, which takes for lost what only a thread knew that is gone, as the
   others are in a forked child, and opens files of its own. */
bool test_is_in_valgrind(void);
/* Whether it is of a kind whose lock is a marker or a claim: soft, lease, strict. */
bool test_is_of_markers(void);
/* Says so, and true, where the lock is in a folder beside its path, for what looks at the path. */
bool test_is_beside_its_path(void);
/* Says so, and true, for what takes a lock shared. */
bool test_is_without_shared(void);
/* For what needs a holder's name: whether the locks of this kind in the test's folder are in
   /proc/locks. They are not where the file system keeps them to itself. */
bool test_locks_are_listed(void);
/* How many threads the kernel keeps waiting for a flock on the file, as far as a list can be trusted
   that changes while it is read: to be asked until it says what it should. */
unsigned test_blocked_on(const char *path);
int test_try_open(const char *path, const struct filelock_options *options,
                  struct filelock **ret_lock);

/* Open descriptors of this process; and inotify watches on them. Threads that wait in flock(2) give theirs back
   a moment later, so that who counts has none from then on, unless the test has set test_has_helpers. */
extern bool test_has_helpers;
unsigned test_descriptors(void);
unsigned test_watches(void);


/* Opens, or fails the test. */
struct filelock *test_open(const char *path, const struct filelock_options *options);

/* Whether that thread, of this process or another, sleeps in futex(2), or in ppoll(2); and whether
   this can be known here, else the test is skipped. */
bool test_waits_for_a_mutex(pid_t tid);
bool test_waits_for_an_event(pid_t tid);
bool test_knows_waits(void);

/* Removes what a lock of any kind has at its path and beside it. */
void test_remove_lock(const char *path);

/* Zeroed memory that is shared with children forked later. */
void *test_shared(size_t size);

/*
 * A peer: a second process, forked from the test, that does one order after another and
 * answers each with a number. It dies with the test.
 */
struct peer {
	pid_t pid;
	int orders, answers;
	struct order *order; /* shared with it */
	bool answered;       /* an answer was read ahead */
	int answer;
};

void peer_start(struct peer *peer);
/* Runs run(arg) in the peer. arg must point to memory older than the peer, or shared. */
int peer_call(struct peer *peer, int (*run)(void *arg), void *arg);
/* The same in two halves: peer_answer waits for the answer. */
void peer_order(struct peer *peer, int (*run)(void *arg), void *arg);
int peer_answer(struct peer *peer);
/* Said by an order under way, in the peer: peer_await_notice waits for it in the test. */
void peer_notify(void);
void peer_await_notice(struct peer *peer);
/* Whether an answer comes within so many milliseconds. */
bool peer_answers_within(struct peer *peer, int timeout_ms);

/* The peer's own handle: one at a time, its waits give notice when they begin. */
int peer_open(struct peer *peer, const char *path, const struct filelock_options *options);
int peer_acquire(struct peer *peer, enum filelock_mode mode, int timeout_ms);
void peer_order_acquire(struct peer *peer, enum filelock_mode mode, int timeout_ms);
int peer_release(struct peer *peer);
int peer_close(struct peer *peer);
/* In an order: the handle that peer_open opened. */
struct filelock *peer_lock(void);
/* Open and acquire: the peer holds the lock on path when it returns. */
void peer_start_holding(struct peer *peer, const char *path, enum filelock_mode mode);

void peer_stop(struct peer *peer);             /* exits by itself, with status 0 */
void peer_kill(struct peer *peer, int signal); /* and is reaped */

/* A child of fork(2) in which `run` runs; its exit status is the result (0…255). */
int test_in_child(int (*run)(void *arg), void *arg);
pid_t test_fork(int (*run)(void *arg), void *arg);
char test_process_state(pid_t pid); /* as proc_pid_stat(5) has it: 'T' is stopped */
int test_reap(pid_t pid); /* exit status, or 128 + the signal */

/* A program with pipes to its standard input and output; it dies with the test. */
struct program {
	pid_t pid;
	int in;
	int out;
};

/* Starts file (looked for in PATH) with arguments that end with NULL, the name first. */
void program_start(struct program *program, const char *const *arguments);
void program_say(struct program *program, const char *line); /* adds the newline */
/* Reads a line, without its end; false: there is none. */
bool program_read(struct program *program, char *line, size_t size);
/* Reads a line and compares it. */
void program_expect(struct program *program, const char *line);
/* Closes its input, reads the rest of its output, and returns its exit status, or 128 + the
   signal. */
int program_end(struct program *program);
/* Runs it to its end. */
int program_run(const char *const *arguments);

/*
 * Faults: every entry of the table `sys` is wrapped, counted and, when its turn has come, made
 * to fail, or preceded by an action of the test's: "before the second flock(2) remove the file".
 */
#define FAULT_CALLS(X)                                                                         \
	X(open) X(close) X(read) X(write) X(flock) X(fstat) X(lstat) X(statfs) X(unlink)       \
	X(name_to_handle_at)                                                                   \
	X(mkdir) X(mknod) X(utimensat) X(readlink) X(realpath) X(getcwd) X(kill)               \
	X(gethostname)                                                          \
	X(dup3) X(inotify_init1) X(inotify_add_watch) X(inotify_rm_watch) X(eventfd) X(ppoll)  \
	X(pread) X(pwrite) X(ftruncate) X(fsync) X(futimens) X(linkat) X(fcntl_setsig)         \
	X(fcntl_dupfd) X(fcntl_getfl) X(fcntl_ofd_setlk) X(fcntl_ofd_getlk) X(fchmod) X(chmod) \
	X(fcntl_setlk) X(fcntl_setlease) X(getrandom) X(timerfd_create) X(timerfd_settime)                    \
	X(nanosleep) X(openat) X(fstatat) X(mkdirat) X(unlinkat) X(renameat) X(getdents)       \
	X(pidfd_open) X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(pthread_create) X(dlopen)  \
	X(calloc)

enum fault_call {
#define FAULT_CALL(name) FAULT_##name,
	FAULT_CALLS(FAULT_CALL)
#undef FAULT_CALL
	FAULT_COUNT
};

enum fault_span { FAULT_ONCE, FAULT_FOR_GOOD };

/* Makes the nth call from now (1: the next) fail with errno error. One fault a call. */
void fault_set(enum fault_call call, unsigned nth, enum fault_span span, int error);
/* Calls action(arg) just before the nth call from now; the call then goes through. */
void fault_before(enum fault_call call, unsigned nth, void (*action)(void *arg), void *arg);
/* Calls since the last fault_set or fault_clear for it; counting starts with fault_watch. */
void fault_watch(void);
unsigned fault_calls(enum fault_call call);
unsigned fault_hits(enum fault_call call); /* how many failed, or met their action */
void fault_clear(void);                    /* no fault is set; counts are zero */
const char *fault_name(enum fault_call call);
/* Instead of an errno, for pwrite: it writes half, or nothing, and does not fail. */
#define FAULT_SHORT (-1)
#define FAULT_ZERO (-2)
/* Told of each call that is made to fail, and what that was about: a descriptor (else -1) or a
   path (else NULL). */
typedef void fault_witness(enum fault_call call, int fd, const char *path);
void fault_set_witness(fault_witness *function);
/* Calls meanwhile are neither counted nor made to fail. fault_clear ends it. */
void fault_pause(bool pause);

/* From now on the library's clock stands at `now` and moves only by hand. */
void clock_fake(int64_t now);
void clock_advance(int64_t by);
/* The machine has slept for so long. For the first time before other threads begin, with 0. */
void clock_sleep(int64_t by);
/* The date that the library sees is off by so many nanoseconds. */
void date_shift(int64_t by);

/* A witness of exclusion, in test_shared memory. Who: 1 … 255. */
struct witness {
	_Atomic unsigned inside;   /* the exclusive holder */
	_Atomic unsigned readers;
	_Atomic unsigned overlaps;
	_Atomic unsigned entries;
	_Atomic unsigned most_readers;
	_Atomic bool victims[256]; /* marked before they are killed: may leave `inside` set */
};

void witness_enter(struct witness *witness, unsigned who);
void witness_leave(struct witness *witness, unsigned who);
void witness_enter_shared(struct witness *witness);
void witness_leave_shared(struct witness *witness);

/* Holds as time intervals, stamped inside the lock, looked at afterwards. */
struct interval {
	int64_t begin, end;
	unsigned who;
	enum filelock_mode mode;
};
struct interval_log {
	size_t capacity;
	_Atomic size_t count;
	struct interval entries[];
};

struct interval_log *interval_log_new(size_t capacity); /* shared */
void interval_log_add(struct interval_log *log, struct interval interval);
/* How many intervals overlap an earlier one that excludes them; a tie is an overlap. */
size_t interval_log_overlaps(const struct interval_log *log);

#endif
