/*
 * facts: what holds in the folder TMPDIR, a line each: "fact<TAB>value". What the system says is
 * found out by the bare calls, what comes of it by the library.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"
#include "base/sys.h"

#define ROUNDS 100

static char folder[PATH_MAX];

static void say(const char *fact, const char *value)
{
	printf("%s\t%s\n", fact, value);
	fflush(stdout); /* before a fork */
}

static void say_result(const char *fact, int r)
{
	say(fact, r == 0 ? "yes" : r == -ENOSYS || r == -ENOTSUP || r == -EPERM ? "no" : strerror(-r));
}

static int result(int r)
{
	return r < 0 ? -errno : 0;
}

static const char *in_folder(const char *name)
{
	static char paths[4][PATH_MAX + 16];
	static unsigned next;
	char *path = paths[next++ % 4];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static int make(const char *name)
{
	int fd = open(in_folder(name), O_RDWR | O_CREAT | O_CLOEXEC, 0644);

	if (fd < 0) {
		perror(in_folder(name));
		exit(1);
	}
	return fd;
}

/* --- what the file system does -------------------------------------------------------------- */

static void look_at_flock(void)
{
	int a = make("f"), b = make("f");
	int r = result(flock(a, LOCK_EX | LOCK_NB));

	if (r == 0 && flock(b, LOCK_SH | LOCK_NB) == 0)
		say("`flock(2)`", "excludes nobody");
	else
		say_result("`flock(2)`", r);
	close(a);
	close(b);
}

/* fcntl(2): a process does not exclude itself. */
static int try_record_lock(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	int fd = make("f");

	return fcntl(fd, F_SETLK, &lock) < 0 ? errno : 0;
}

static int status_of(int (*run)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(run());
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
		exit(1);
	return WEXITSTATUS(status);
}

static void look_at_record_locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1 };
	int fd = make("f");
	int r = result(fcntl(fd, F_SETLK, &lock));
	int other = status_of(try_record_lock);

	if (r == 0 && other == 0)
		say("record locks, `fcntl(2)`", "exclude nobody");
	else
		say_result("record locks, `fcntl(2)`", r);
	close(fd);
}

static void look_at_names(void)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
	int r = result(fd);
	char path[32];

	if (r == 0) {
		(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		r = result(linkat(AT_FDCWD, path, AT_FDCWD, in_folder("named"),
		                  AT_SYMLINK_FOLLOW));
		close(fd);
	}
	say_result("`O_TMPFILE`, then `linkat(2)`", r);
	close(make("f"));
	say_result("hard links", result(link(in_folder("f"), in_folder("l"))));
}

static bool saw_event(int watch, uint32_t wanted)
{
	_Alignas(struct inotify_event) char bytes[4096];
	ssize_t n = read(watch, bytes, sizeof(bytes));
	bool found = false;

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *event = (const void *)(bytes + at);

		found = found || (event->mask & wanted);
		at += (ssize_t)(sizeof(*event) + event->len);
	}
	return found;
}

static void look_at_events(void)
{
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	bool closed, changed, deleted;

	close(make("f"));
	if (inotify_add_watch(watch, in_folder("f"), IN_CLOSE_WRITE | IN_ATTRIB) < 0 ||
	    inotify_add_watch(watch, folder, IN_DELETE) < 0) {
		say_result("inotify: closed, times set, deleted", -errno);
		return;
	}
	close(make("f"));
	closed = saw_event(watch, IN_CLOSE_WRITE);
	(void)utimensat(AT_FDCWD, in_folder("f"), NULL, 0);
	changed = saw_event(watch, IN_ATTRIB);
	(void)unlink(in_folder("f"));
	deleted = saw_event(watch, IN_DELETE);
	say("inotify: closed, times set, deleted",
	    closed && changed && deleted ? "yes" : "not all");
	close(watch);
}

static int read_lease(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int r = result(fcntl(fd, F_SETLEASE, F_RDLCK));

	close(fd);
	return r;
}

/* Whether somebody has a file open for writing: F_SETLEASE says EAGAIN then, and only then. */
static void look_at_leases(void)
{
	int fd = make("f");
	int busy = read_lease(in_folder("f"));
	int idle;

	close(fd);
	idle = read_lease(in_folder("f"));
	if (idle == 0)
		say("a lease tells who writes", busy == -EAGAIN ? "yes" : "no");
	else
		say_result("a lease tells who writes", idle);
}

/* --- what comes of it ----------------------------------------------------------------------- */

static struct filelock *open_lock(const char *name, enum filelock_kind kind)
{
	struct filelock *lock;
	int r = filelock_open(in_folder(name), kind, NULL, &lock);

	if (r < 0) {
		fprintf(stderr, "%s\n", filelock_last_error(NULL));
		exit(1);
	}
	return lock;
}

static int (*real_linkat)(int from_fd, const char *from, int to_fd, const char *to, int flags);
static int linked = -1; /* by these flags */

static int note_linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
	int r = real_linkat(from_fd, from, to_fd, to, flags);

	if (r == 0)
		linked = flags;
	return r;
}

static void look_at_markers(void)
{
	struct filelock *lock = open_lock("marker", FILELOCK_SOFT);
	int r;

	real_linkat = sys.linkat;
	sys.linkat = note_linkat;
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);
	sys.linkat = real_linkat;
	if (r < 0)
		say("soft: a marker is made by", filelock_last_error(lock));
	else
		say("soft: a marker is made by", linked < 0 ? "`O_EXCL`"
		                                 : linked   ? "`linkat(2)`"
		                                            : "`link(2)`");
	filelock_close(lock);
}

static int hold_and_die(void)
{
	struct filelock *lock = open_lock("dead", FILELOCK_SOFT);

	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT) == 0)
		(void)raise(SIGKILL);
	return 1;
}

/* Whether a dead holder's marker is taken over. */
static bool look_at_the_dead(void)
{
	struct filelock *lock = open_lock("dead", FILELOCK_SOFT);
	pid_t pid = fork();
	bool taken;

	if (pid == 0)
		_exit(hold_and_die());
	(void)waitpid(pid, NULL, 0);
	taken = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT) == 0;
	say("soft: a dead marker is taken over", taken ? "yes" : "no");
	filelock_close(lock);
	(void)unlink(in_folder("dead"));
	return taken;
}

/* Whether a native lock is one. */
static bool look_at_the_holder(void)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock = open_lock("native", FILELOCK_NATIVE);
	int r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT);

	bool native = filelock_kind(lock) == FILELOCK_NATIVE;

	say("native: the lock is", r < 0 ? "refused" : native ? "`flock(2)`" : "a marker");
	if (r == 0)
		r = filelock_holder(lock, &owner);
	say("native: the holder is", r == 0 && owner.pid == getpid() ? "named" : "unknown");
	filelock_close(lock);
	return native;
}

static void look_at_the_type(void)
{
	struct statfs fs;

	if (statfs(folder, &fs) < 0)
		exit(1);
	say("taken for local, by `statfs(2)`", sys_is_local(&fs) ? "yes" : "no");
}

/* --- from a release, or a death, to the waiter ------------------------------------------------ */

struct pair {
	const char *name;
	enum filelock_kind kind;
	enum filelock_mode mode;
	int from_holder[2], to_holder[2], from_waiter[2], to_waiter[2];
	int64_t *released; /* shared */
	bool said;         /* in the waiter: that it waits */
};

static void put(int fd, int64_t value)
{
	if (write(fd, &value, sizeof(value)) != sizeof(value))
		_exit(1);
}

static int64_t get(int fd)
{
	int64_t value;

	if (read(fd, &value, sizeof(value)) != sizeof(value))
		_exit(1);
	return value;
}

static bool say_that_it_waits(void *arg)
{
	struct pair *pair = arg;

	if (!pair->said)
		put(pair->from_waiter[1], 0);
	pair->said = true;
	return false;
}

static void wait_again_and_again(struct pair *pair)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	options.should_cancel = say_that_it_waits;
	options.arg = pair;
	if (filelock_open(in_folder(pair->name), pair->kind, &options, &lock) < 0)
		_exit(1);
	for (;;) {
		(void)get(pair->to_waiter[0]);
		pair->said = false;
		if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER) < 0)
			_exit(1);
		put(pair->from_waiter[1], test_now());
		(void)filelock_release(lock);
		put(pair->from_waiter[1], 0); /* free again */
	}
}

/* Holds the lock until the test asks for its release, or kills it. */
static void hold(struct pair *pair)
{
	struct filelock *lock = open_lock(pair->name, pair->kind);

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 1000) < 0)
		_exit(1);
	put(pair->from_holder[1], 0);
	(void)get(pair->to_holder[0]);
	*pair->released = test_now();
	(void)filelock_release(lock);
	filelock_close(lock);
	_exit(0);
}

static void await_sleep(pid_t pid)
{
	char path[64], text[512], state = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	while (state != 'S') {
		test_nap();
		file = fopen(path, "re");
		if (!file || fscanf(file, "%*d (%511[^)]) %c", text, &state) != 2)
			exit(1);
		fclose(file);
	}
}

/* Nanoseconds from the end of a hold to the waiter's having the lock. */
static int64_t hand_over(struct pair *pair, pid_t waiter, bool kills)
{
	pid_t holder = fork();
	int64_t had;

	if (holder == 0)
		hold(pair);
	(void)get(pair->from_holder[0]);
	put(pair->to_waiter[1], 0);
	(void)get(pair->from_waiter[0]);
	await_sleep(waiter);
	if (kills) {
		*pair->released = test_now();
		(void)kill(holder, SIGKILL);
	} else {
		put(pair->to_holder[1], 0);
	}
	had = get(pair->from_waiter[0]);
	(void)get(pair->from_waiter[0]);
	(void)waitpid(holder, NULL, 0);
	return had - *pair->released;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void measure(const char *fact, const char *name, enum filelock_kind kind, bool kills)
{
	static int64_t times[ROUNDS];
	struct pair pair = { .name = name, .kind = kind };
	char text[64];
	pid_t waiter;

	pair.released = mmap(NULL, sizeof(int64_t), PROT_READ | PROT_WRITE,
	                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (pair.released == MAP_FAILED || pipe(pair.from_holder) < 0 || pipe(pair.to_holder) < 0 ||
	    pipe(pair.from_waiter) < 0 || pipe(pair.to_waiter) < 0)
		exit(1);
	waiter = fork();
	if (waiter == 0)
		wait_again_and_again(&pair);
	for (unsigned i = 0; i < ROUNDS; i++)
		times[i] = hand_over(&pair, waiter, kills);
	(void)kill(waiter, SIGKILL);
	(void)waitpid(waiter, NULL, 0);
	qsort(times, ROUNDS, sizeof(times[0]), by_size);
	(void)snprintf(text, sizeof(text), "%.0f", (double)times[ROUNDS / 2] / 1000);
	say(fact, text);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	(void)remove(path);
	return 0;
}

int main(void)
{
	const char *parent = getenv("TMPDIR");
	static const char death[] = "native: killed → granted, µs";
	bool native, taken;

	(void)snprintf(folder, sizeof(folder), "%s/facts.XXXXXX", parent ? parent : "/tmp");
	if (!mkdtemp(folder)) {
		perror(folder);
		return 1;
	}
	look_at_the_type();
	look_at_flock();
	look_at_record_locks();
	look_at_events();
	look_at_names();
	look_at_leases();
	native = look_at_the_holder();
	look_at_markers();
	taken = look_at_the_dead();
	measure("native: released → granted, µs", "n", FILELOCK_NATIVE, false);
	if (taken || native)
		measure(death, "nk", FILELOCK_NATIVE, true);
	else
		say(death, "never");
	measure("soft: released → granted, µs", "s", FILELOCK_SOFT, false);
#ifdef FILELOCK_SQLITE
	measure("read/write: released → granted, µs", "r.db", FILELOCK_READWRITE, false);
#endif
	(void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	return 0;
}
