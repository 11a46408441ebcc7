/*
 * A process stops, for three seconds or for ever, just before any of the calls that it makes to the
 * system: while it makes a marker, in each of the ways to make one, takes a dead one over, waits,
 * releases or exits. Whatever the others do meanwhile, there is one holder at most, and the lock
 * can be had afterwards.
 */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

#include "kinds/soft_publish.h"
#include "softly.h"
#include "base/sys.h"

enum deed { MAKE, TAKE_OVER, RELEASE, WAIT, EXIT, DEEDS };
enum ending { CONTINUED, KILLED, ENDINGS };

struct plan {
	enum deed deed;
	enum publish_way way;
	enum ending ending;
	/* where it stops */
	enum fault_call call;
	unsigned nth;
};

/* Results of the peer besides its answer. */
static struct told {
	_Atomic bool asleep; /* it waits, and nothing is left to do */
	_Atomic bool made[FAULT_COUNT]; /* which calls the deed makes */
} *told;

static char path[4096];

static int open_no_tmpfile(const char *name, int flags, mode_t mode)
{
	if ((flags & O_TMPFILE) != O_TMPFILE)
		return open(name, flags, mode);
	errno = EOPNOTSUPP;
	return -1;
}

static int link_nothing(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	(void)from_fd;
	(void)from;
	(void)to_fd;
	(void)to;
	(void)flags;
	errno = EPERM;
	return -1;
}

static int sleep_noted(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask)
{
	told->asleep = true;
	return ppoll(fds, n, timeout, mask);
}

static void stop_here(void *arg)
{
	(void)arg;
	raise(SIGSTOP);
}

/* In the peer: what the plan says. The system is made a poorer one before its calls are counted. */
static int do_deed(void *arg)
{
	const struct plan *plan = arg;
	bool first = plan->deed == RELEASE || plan->deed == EXIT;
	int r;

	sys.ppoll = sleep_noted;
	if (plan->way != PUBLISH_TMPFILE)
		sys.open = open_no_tmpfile;
	if (plan->way == PUBLISH_IN_PLACE)
		sys.linkat = link_nothing;
	if (first && filelock_acquire(peer_lock(), FILELOCK_EXCLUSIVE, 0) < 0)
		return 1;
	clock_fake(test_now()); /* it stands: no attempt comes late but by a lost wake-up */
	fault_before(plan->call, plan->nth, stop_here, NULL);
	if (plan->deed == EXIT)
		exit(0);
	if (plan->deed == RELEASE)
		r = filelock_release(peer_lock());
	else
		r = filelock_acquire(peer_lock(), FILELOCK_EXCLUSIVE,
		                     plan->deed == WAIT ? FILELOCK_WAIT_FOREVER : 0);
	for (int call = 0; call < FAULT_COUNT; call++)
		told->made[call] = fault_calls((enum fault_call)call) > 0;
	return r;
}

static bool has_stopped(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOHANG) == 0 && info.si_pid == pid;
}

static bool has_ended(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == pid;
}

/* Whether it stops before it answers, exits or, if that is to be seen, sleeps. */
static bool stops(struct peer *peer, const struct plan *plan)
{
	for (;;) {
		if (has_stopped(peer->pid))
			return true;
		if (plan->deed == EXIT ? has_ended(peer->pid) : peer_answers_within(peer, 1))
			return false;
	}
}

/* Three seconds long somebody else wants the lock; 0 if it got it. */
static int contend_for_three_seconds(struct filelock *lock)
{
	static int64_t now = 1000 * SECONDS;
	int r = -ETIMEDOUT;

	for (int i = 0; i < 4 && r < 0; i++, now += 1 * SECONDS) {
		clock_fake(now);
		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0);
		ck_assert(r == 0 || r == -ETIMEDOUT);
	}
	return r;
}

static bool is_marked_by(pid_t pid)
{
	struct marker marker;

	return read_marker(path, &marker) && marker.type == MARKER_RECORD && marker.pid == pid;
}

static unsigned files(void)
{
	DIR *folder = opendir(test_folder());
	unsigned count = 0;

	while (readdir(folder))
		count++;
	closedir(folder);
	return count - 2; /* . and .. */
}

/* Checked when the stopped one goes on; ours: whether we got the lock meanwhile. */
static void go_on(struct peer *peer, struct plan *plan, struct filelock *lock, bool ours)
{
	int theirs;

	ck_assert_int_eq(kill(peer->pid, SIGCONT), 0);
	if (plan->deed == EXIT) {
		ck_assert_int_eq(test_reap(peer->pid), 0);
		ck_assert(ours == is_marked_by(getpid()));
		return;
	}
	if (plan->deed == WAIT && ours) {
		ck_assert(!peer_answers_within(peer, 2));
		ck_assert(is_marked_by(getpid()));
		ck_assert_int_eq(filelock_release(lock), 0);
		ours = false;
	}
	theirs = peer_answer(peer);
	if (plan->deed == RELEASE) {
		ck_assert_int_eq(theirs, 0);
		ck_assert(!ours || is_marked_by(getpid()));
		return;
	}
	ck_assert_msg(!ours || theirs != 0, "both hold");
	ck_assert_msg(ours || theirs == 0, "nobody holds");
	ck_assert(is_marked_by(ours ? getpid() : peer->pid));
}

/* It never goes on: another process gets the lock, and nothing is left of what it did. */
static void end_it(struct peer *peer, const struct plan *plan, struct filelock *lock)
{
	struct marker marker;
	bool empty;

	peer_kill(peer, SIGKILL);
	(void)filelock_release(lock);
	empty = read_marker(path, &marker) && marker.type == MARKER_EMPTY;
	/* where the name comes first, a crash can leave a marker that tells nothing */
	ck_assert(!empty || plan->way == PUBLISH_IN_PLACE);
	ck_assert_int_eq(try_once(path), empty ? -ETIMEDOUT : 0);
	if (plan->way == PUBLISH_TMPFILE)
		ck_assert_uint_eq(files(), 0);
}

static void put_the_scene(struct plan *plan, struct filelock *lock)
{
	told->asleep = false;
	(void)unlink(path);
	if (plan->deed == TAKE_OVER)
		put_record(path, dead_pid(), NULL);
	if (plan->deed == WAIT)
		ck_assert_int_eq(filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0), 0);
}

/* Whether the peer stopped: before it slept, if it waits, or when it was woken by our release. */
static bool let_it_stop(struct peer *peer, const struct plan *plan, struct filelock *lock)
{
	bool stopped = false;

	if (plan->deed != WAIT)
		return stops(peer, plan);
	await((stopped = has_stopped(peer->pid)) || told->asleep);
	ck_assert_int_eq(filelock_release(lock), 0);
	return stopped || stops(peer, plan);
}

/* False: there is no such call. */
static bool stall(struct plan *plan)
{
	struct filelock_options options = rarely();
	struct plan *shared = test_shared(sizeof(*shared));
	struct filelock *lock = test_open(path, NULL);
	struct peer peer;
	bool stopped, ours;

	put_the_scene(plan, lock);
	*shared = *plan;
	peer_start(&peer);
	ck_assert_int_eq(peer_open(&peer, path, &options), 0);
	peer_order(&peer, do_deed, shared);
	stopped = let_it_stop(&peer, plan, lock);
	ours = stopped && contend_for_three_seconds(lock) == 0;
	if (stopped && plan->ending == CONTINUED)
		go_on(&peer, plan, lock, ours);
	if (stopped && plan->ending == KILLED)
		end_it(&peer, plan, lock);
	else if (plan->deed != EXIT)
		peer_kill(&peer, SIGKILL);
	else if (!stopped)
		ck_assert_int_eq(test_reap(peer.pid), 0);
	filelock_close(lock);
	return stopped;
}

/* How often it stopped, before each call in turn. */
static unsigned stall_everywhere(struct plan *plan)
{
	unsigned stalls = 0;

	/* once without: that turn never comes. Who exits tells nothing */
	plan->nth = UINT_MAX;
	(void)stall(plan);
	for (int call = 0; call < FAULT_COUNT; call++) {
		if (!told->made[call] && plan->deed != EXIT)
			continue;
		plan->call = (enum fault_call)call;
		for (plan->nth = 1; stall(plan); plan->nth++)
			stalls++;
	}
	return stalls;
}

static void set_up(void)
{
	(void)snprintf(path, sizeof(path), "%s", test_path("lock"));
	told = test_shared(sizeof(*told));
}

/* At the least; so that the test notices when it no longer stops anything. */
static const unsigned calls[DEEDS] = { [MAKE] = 8, [TAKE_OVER] = 20, [RELEASE] = 4, [WAIT] = 20,
	                               [EXIT] = 2 };

static void check(enum deed deed, int i)
{
	struct plan plan = { .deed = deed, .ending = (enum ending)(i % ENDINGS),
		             .way = (enum publish_way)(i / ENDINGS) };

	set_up();
	ck_assert_uint_ge(stall_everywhere(&plan), calls[deed]);
}

/* shows: stopped-holder-holds */
START_TEST(test_stall_while_making_a_marker_makes_no_second_holder)
{
	check(MAKE, _i);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_stall_while_taking_over_makes_no_second_holder)
{
	check(TAKE_OVER, _i);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_stall_while_waiting_makes_no_second_holder)
{
	check(WAIT, _i);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_stall_while_releasing_removes_no_successors_marker)
{
	check(RELEASE, _i);
}
END_TEST

/* shows: stopped-holder-holds */
START_TEST(test_stall_while_exiting_removes_no_successors_marker)
{
	check(EXIT, _i);
}
END_TEST

int main(void)
{
	enum { WAYS = PUBLISH_IN_PLACE + 1 };
	TCase *loops = tcase_create("each way and ending");
	Suite *suite = suite_create("soft stalls");

	(void)setenv("FILELOCK_TEST_KIND", "soft", 1);
	tcase_add_loop_test(loops, test_stall_while_making_a_marker_makes_no_second_holder, 0,
	                    WAYS * ENDINGS);
	tcase_add_loop_test(loops, test_stall_while_taking_over_makes_no_second_holder, 0,
	                    ENDINGS);
	tcase_add_loop_test(loops, test_stall_while_waiting_makes_no_second_holder, 0,
	                    WAYS * ENDINGS);
	tcase_add_loop_test(loops, test_stall_while_releasing_removes_no_successors_marker, 0,
	                    ENDINGS);
	tcase_add_loop_test(loops, test_stall_while_exiting_removes_no_successors_marker, 0,
	                    ENDINGS);
	suite_add_tcase(suite, loops);
	return support_main(suite);
}
