#include "kill.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "softly.h"

#define PATIENCE_MS 30000 /* less than the interval of the polls */
#define LIFE_MS 300000
#define MOST_STALLED 150

enum stop { STOPPED, ENDED, FORBIDDEN };

static unsigned long *points; /* shared */
static struct victim *victim; /* shared */
static struct peer holder, other;

/* A lease, and a silent holder, last longer than everybody's patience. */
static struct filelock_options options_of(unsigned poll_ms)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;

	options.poll_interval_ms = poll_ms;
	if (test_kind() == FILELOCK_LEASE || test_kind() == FILELOCK_SOFT_READWRITE)
		options.duration_ms = LIFE_MS;
	return options;
}

struct filelock *kill_open(const struct victim *stopped)
{
	struct filelock_options options = options_of(stopped->deaf ? 5 : 60000);

	return test_open(stopped->path, &options);
}

bool kill_is_possible(const struct victim *stopped, bool shares)
{
	switch (test_kind()) {
	case FILELOCK_SOFT:
	case FILELOCK_LEASE:
		return !shares;
	case FILELOCK_STRICT:
		return !shares && !stopped->inherits;
	default:
		return !stopped->inherits;
	}
}

/* --- the tracer --- */

static pid_t start_victim(struct victim *started)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(FORBIDDEN);
	(void)raise(SIGSTOP);
	_exit(started->run(started) == 0 ? 0 : 1);
}

/* A call that sleeps: ppoll(2), or a wait of libevent's epoll(7) that has a time. */
static bool sleeps(const struct __ptrace_syscall_info *info)
{
	switch (info->entry.nr) {
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
	case SYS_epoll_pwait:
#ifdef SYS_epoll_pwait2
	case SYS_epoll_pwait2:
#endif
		return (int)info->entry.args[3] != 0;
	case SYS_ppoll:
		return true;
	default:
		return false;
	}
}

/* Lets it go on to the entry of its next call. */
static enum stop next_call(pid_t pid, struct __ptrace_syscall_info *info)
{
	int status;

	do {
		ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status)) {
			ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
			              "the victim failed: status %#x", (unsigned)status);
			return ENDED;
		}
		info->op = PTRACE_SYSCALL_INFO_NONE;
		(void)ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(*info), info);
	} while (info->op != PTRACE_SYSCALL_INFO_ENTRY);
	return STOPPED;
}

/* Lets whoever holds the lock go, when the victim is about to sleep. */
static void let_holder_go(bool *held)
{
	if (*held)
		ck_assert_int_eq(peer_release(&holder), 0);
	*held = false;
}

/* Stops it before its nth call. */
static enum stop stop_before(pid_t pid, unsigned nth, bool *held)
{
	struct __ptrace_syscall_info info = { 0 };
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		return FORBIDDEN;
	if (ptrace(PTRACE_SETOPTIONS, pid, NULL,
	           (void *)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD)) < 0)
		return FORBIDDEN;
	for (unsigned i = 1; next_call(pid, &info) == STOPPED; i++) {
		if (i == nth)
			return STOPPED;
		if (sleeps(&info))
			let_holder_go(held);
	}
	return ENDED;
}

/* --- the scene --- */

static bool note_asking(void *arg)
{
	struct victim *asking = arg;

	asking->asked = true;
	return false;
}


/* Nothing of the folder's is half made, ever. */
static void check_marker(const char *path)
{
	struct marker marker;

	if ((test_kind() == FILELOCK_SOFT || test_kind() == FILELOCK_LEASE) &&
	    read_marker(path, &marker))
		ck_assert_msg(soft_record_has_owner(&marker), "a marker of type %d",
		              (int)marker.type);
}

/* Which file or folder of a lock stays. */
static bool may_stay(const char *name)
{
	switch (test_kind()) {
	case FILELOCK_SOFT:
		return false;
	case FILELOCK_LEASE: /* a dead marker that was moved aside to be removed */
		return strncmp(name, "lock.break.", strlen("lock.break.")) == 0;
	case FILELOCK_STRICT:
		return strcmp(name, "lock") == 0 || strcmp(name, "lock.filelock") == 0;
	case FILELOCK_SOFT_READWRITE:
		return strcmp(name, "lock.rw") == 0;
	default:
		return strcmp(name, "lock") == 0;
	}
}

static void check_folder(void)
{
	DIR *folder = opendir(test_folder());
	struct dirent *entry;

	ck_assert_ptr_nonnull(folder);
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.' || entry->d_name[1] == 'f')
			ck_assert_msg(may_stay(entry->d_name), "left behind: %s",
			              entry->d_name);
	closedir(folder);
}

static void break_dead(const struct filelock_claim *claim, void *arg)
{
	if (claim->dead)
		ck_assert_int_eq(filelock_break_claim(arg, claim->name), 0);
}

/* What only a person may end, after a kill. */
static void clean_up_after(const char *path)
{
	struct filelock *person;

	if (test_kind() != FILELOCK_STRICT)
		return;
	person = test_open(path, NULL);
	ck_assert_int_eq(filelock_claims(person, break_dead, person), 0);
	filelock_close(person);
}

static void set_scene(bool *held)
{
	static pid_t dead;

	if (!dead)
		dead = dead_pid();
	victim->inside = victim->asked = false;
	test_remove_lock(victim->path);
	if (victim->inherits)
		put_record(victim->path, dead, NULL);
	*held = victim->waits;
	if (victim->waits)
		ck_assert_int_eq(peer_acquire(&holder, FILELOCK_EXCLUSIVE, 0), 0);
}

/* The other process asks: it gets the lock, or waits. */
static bool other_asks(void)
{
	peer_order_acquire(&other, FILELOCK_EXCLUSIVE, PATIENCE_MS);
	while (!victim->asked)
		if (peer_answers_within(&other, 1)) {
			ck_assert_int_eq(peer_answer(&other), 0);
			return true;
		}
	return false;
}

static void end_victim(pid_t pid, enum fate fate)
{
	int status;

	if (fate == KILLED) {
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		return;
	}
	ck_assert_int_eq(ptrace(PTRACE_DETACH, pid, NULL, NULL), 0);
}

static void check_point(pid_t pid, unsigned nth, enum fate fate, bool *held)
{
	bool got;

	check_marker(victim->path);
	got = other_asks();
	ck_assert_msg(!(got && (victim->inside || *held)), "two hold, before call %u", nth);
	if (got && fate == CONTINUED)
		ck_assert_int_eq(peer_release(&other), 0);
	end_victim(pid, fate);
	let_holder_go(held);
	if (fate == KILLED && !got)
		clean_up_after(victim->path);
	if (!got) {
		int r = peer_answer(&other);

		ck_assert_msg(r == 0, "call %u: nobody woke the other: %s", nth,
		              filelock_strerror(r));
	}
	if (!got || fate == KILLED)
		ck_assert_int_eq(peer_release(&other), 0);
	if (fate == CONTINUED)
		ck_assert_int_eq(test_reap(pid), 0);
	check_folder();
}

static bool try_point(unsigned nth, enum fate fate)
{
	enum stop stop;
	bool held;
	pid_t pid;

	set_scene(&held);
	pid = start_victim(victim);
	stop = stop_before(pid, nth, &held);
	if (stop == FORBIDDEN)
		test_skip("ptrace(2) is not permitted here");
	if (stop != STOPPED) {
		let_holder_go(&held);
		return false;
	}
	check_point(pid, nth, fate, &held);
	++*points;
	return true;
}

static void start_peers(void)
{
	struct filelock_options options = options_of(60000);

	peer_start(&holder);
	ck_assert_int_eq(peer_open(&holder, victim->path, &options), 0);
	options.should_cancel = note_asking;
	options.arg = victim;
	peer_start(&other);
	ck_assert_int_eq(peer_open(&other, victim->path, &options), 0);
}

static void take_victim(const struct victim *template)
{
	victim = test_shared(sizeof(*victim));
	*victim = *template;
	(void)snprintf(victim->path, sizeof(victim->path), "%s", test_path("lock"));
}

/* Fewer of them where all is slow, and of a kind with folders, which makes several times the calls of another. */
static unsigned stride(void)
{
	bool has_folders = test_kind() == FILELOCK_STRICT || test_kind() == FILELOCK_SOFT_READWRITE;
	unsigned scale = test_rounds(has_folders ? 33 : 100);

	return scale >= 100 ? 1 : 100 / scale;
}

void kill_sweep(const struct victim *template, enum fate fate)
{
	unsigned nth = 1;

	take_victim(template);
	start_peers();
	while (try_point(nth, fate))
		nth += stride();
	peer_stop(&holder);
	peer_stop(&other);
}

/* --- three seconds --- */

struct stalled {
	struct victim *victim;
	struct filelock *contender;
	pid_t pid;
};

static enum stop begin_stall(struct stalled *stalled, const struct victim *template, unsigned nth)
{
	char name[32];
	bool held = false;
	enum stop stop;

	stalled->victim = test_shared(sizeof(*stalled->victim));
	*stalled->victim = *template;
	(void)snprintf(name, sizeof(name), "stalled-%u", nth);
	(void)snprintf(stalled->victim->path, sizeof(stalled->victim->path), "%s",
	               test_path(name));
	if (template->inherits)
		put_record(stalled->victim->path, dead_pid(), NULL);
	stalled->pid = start_victim(stalled->victim);
	stop = stop_before(stalled->pid, nth, &held);
	if (stop == FORBIDDEN)
		test_skip("ptrace(2) is not permitted here");
	if (stop == STOPPED)
		stalled->contender = kill_open(stalled->victim);
	return stop;
}

/* Some get the lock of a victim that has not come so far; nobody, that of one that is inside. */
static void contend(struct stalled *stalled)
{
	if (filelock_is_held(stalled->contender))
		return;
	if (filelock_acquire(stalled->contender, FILELOCK_EXCLUSIVE, 0) == 0)
		ck_assert(!stalled->victim->inside);
}

static void end_stall(struct stalled *stalled)
{
	if (filelock_is_held(stalled->contender))
		ck_assert_int_eq(filelock_release(stalled->contender), 0);
	ck_assert_int_eq(ptrace(PTRACE_DETACH, stalled->pid, NULL, NULL), 0);
	ck_assert_int_eq(test_reap(stalled->pid), 0);
	ck_assert_int_eq(filelock_acquire(stalled->contender, FILELOCK_EXCLUSIVE, PATIENCE_MS), 0);
	filelock_close(stalled->contender);
}

void kill_stall(const struct victim *template)
{
	static struct stalled stalled[MOST_STALLED];
	enum stop stop = STOPPED;
	unsigned count = 0;
	int64_t end;

	for (; count < MOST_STALLED && stop == STOPPED; count += stop == STOPPED)
		stop = begin_stall(&stalled[count], template, 1 + count * stride());
	if (stop == FORBIDDEN)
		return;
	ck_assert_uint_gt(count, 0);
	ck_assert_int_eq(stop, ENDED);
	end = test_now() + 3 * SECONDS;
	for (bool last = false; !last;) {
		last = test_now() >= end;
		for (unsigned i = 0; i < count; i++)
			contend(&stalled[i]);
		(void)usleep(200000);
	}
	for (unsigned i = 0; i < count; i++)
		end_stall(&stalled[i]);
	*points += count;
}

void kill_begin(void)
{
	points = mmap(NULL, sizeof(*points), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	              -1, 0);
	if (points == MAP_FAILED)
		abort();
}

void kill_end(const char *name)
{
	printf("%s: %lu points tried\n", name, *points);
}
