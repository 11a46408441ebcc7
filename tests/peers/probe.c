/*
 * probe KIND PATH COMMAND...: whether a program and our locks on PATH exclude each other. COMMAND
 * obeys lines on its standard input: "take" is answered by "held" or "busy WORDS", "unlock" and
 * "close", the two ways of letting go, by "done" or "cannot". Prints six fields between tabs: both
 * ways, we it, it us or no; what it says; milliseconds from the order to unlock, or to close, to
 * our having the lock; whether we name it as the holder; and, of soft locks, the age from
 * which it takes away our living marker.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filelock/filelock.h>

#define ROUNDS 15
#define MINUTE 60

static const char *path;
static enum filelock_kind kind;
static FILE *to, *from;
static pid_t other;

static _Noreturn void give_up(const char *why)
{
	fprintf(stderr, "probe: %s\n", why);
	exit(1);
}

static int64_t now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void start(char **command)
{
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
		give_up(strerror(errno));
	other = fork();
	if (other == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0)
			(void)execvp(command[0], command);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	to = fdopen(in[1], "we");
	from = fdopen(out[0], "re");
	if (other < 0 || !to || !from)
		give_up(strerror(errno));
}

/* The answer is good until the next order. */
static const char *ask(const char *order)
{
	static char answer[512];

	if (fprintf(to, "%s\n", order) < 0 || fflush(to) != 0 ||
	    !fgets(answer, sizeof(answer), from))
		give_up("the program has ended");
	answer[strcspn(answer, "\n")] = '\0';
	return answer;
}

static bool takes(void)
{
	return strcmp(ask("take"), "held") == 0;
}

static void insist(const char *order, const char *answer)
{
	if (strcmp(ask(order), answer) != 0)
		give_up(order);
}

static struct filelock *open_ours(const struct filelock_options *options)
{
	struct filelock *lock;
	int r = filelock_open(path, kind, options, &lock);

	if (r < 0)
		give_up(filelock_strerror(r));
	return lock;
}

/* --- exclusion ------------------------------------------------------------------------------ */

static bool names_it(void)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock = open_ours(NULL);
	int r = filelock_holder(lock, &owner);

	filelock_close(lock);
	return r == 0 && owner.pid > 0;
}

/* A marker must stand longer than what we allow to a torn one. */
static bool keeps_us_out(bool *ret_named)
{
	struct filelock *lock = open_ours(NULL);
	int r;

	insist("take", "held");
	*ret_named = names_it();
	r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, kind == FILELOCK_SOFT ? 3000 : 0);
	if (r < 0 && r != -ETIMEDOUT)
		give_up(filelock_last_error(lock));
	filelock_close(lock);
	insist("close", "done");
	return r < 0;
}

static bool is_kept_out(char words[512])
{
	struct filelock *lock = open_ours(NULL);
	const char *answer;
	bool busy;

	words[0] = '\0';
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		give_up(filelock_last_error(lock));
	answer = ask("take");
	busy = strncmp(answer, "busy", 4) == 0;
	if (busy)
		(void)snprintf(words, 512, "%s", answer + 4 + (answer[4] == ' '));
	else
		insist("close", "done");
	filelock_close(lock);
	return busy;
}

/* --- wake-ups ------------------------------------------------------------------------------- */

static _Atomic bool is_waiting;
static _Atomic int64_t had;

static void on_wait(const struct filelock_waiting *waiting, void *arg)
{
	(void)waiting;
	(void)arg;
	is_waiting = true;
}

static void *wait_for_it(void *arg)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock;

	(void)arg;
	options.on_wait = on_wait;
	lock = open_ours(&options);
	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 10000) < 0)
		give_up(filelock_last_error(lock)); /* it has let go, and we do not get it */
	had = now();
	filelock_close(lock);
	return NULL;
}

static void nap(long us)
{
	(void)nanosleep(&(struct timespec){ 0, us * 1000 }, NULL);
}

static int64_t wake_once(const char *order)
{
	pthread_t thread;
	int64_t told;

	insist("take", "held");
	is_waiting = false;
	if (pthread_create(&thread, NULL, wait_for_it, NULL) != 0)
		give_up("no thread");
	while (!is_waiting)
		nap(1000);
	nap(5000 + random() % 50000); /* at any moment between two polls */
	told = now();
	insist(order, "done");
	(void)pthread_join(thread, NULL);
	if (strcmp(order, "close") != 0)
		insist("close", "done");
	return had - told;
}

static int by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void print_wake(const char *order)
{
	int64_t times[ROUNDS];

	for (int i = 0; i < ROUNDS; i++)
		times[i] = wake_once(order);
	qsort(times, ROUNDS, sizeof(times[0]), by_size);
	printf("%.2f", (double)times[ROUNDS / 2] / 1000);
}

static bool can_unlock(void)
{
	bool can;

	insist("take", "held");
	can = strcmp(ask("unlock"), "done") == 0;
	insist("close", "done");
	return can;
}

/* --- markers by age ------------------------------------------------------------------------- */

/* Whether it takes away our living marker when that was last touched so long ago. */
static bool removes(int seconds)
{
	struct timespec then;
	struct filelock *lock = open_ours(NULL);
	bool taken;

	if (filelock_acquire(lock, FILELOCK_EXCLUSIVE, 0) < 0)
		give_up(filelock_last_error(lock));
	(void)clock_gettime(CLOCK_REALTIME, &then);
	then.tv_sec -= seconds;
	if (utimensat(AT_FDCWD, path, (struct timespec[]){ then, then }, 0) < 0)
		give_up("utimensat");
	taken = takes();
	if (taken)
		insist("close", "done");
	(void)filelock_release(lock);
	filelock_close(lock);
	return taken;
}

static void print_age(void)
{
	static const struct {
		int seconds;
		const char *words;
	} ages[] = { { 6 * MINUTE, "6 minutes" },
		     { 61 * MINUTE, "an hour" },
		     { 4 * 60 * MINUTE, "4 hours" },
		     { 3 * 24 * 60 * MINUTE, "3 days" },
		     { 400 * 24 * 60 * MINUTE, "400 days" } };

	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++) {
		if (removes(ages[i].seconds)) {
			printf("%s", ages[i].words);
			return;
		}
	}
	printf("never");
}

/* -------------------------------------------------------------------------------------------- */

static const char *both(bool us, bool it)
{
	if (us && it)
		return "yes";
	if (us)
		return "it us only";
	return it ? "we it only" : "no";
}

int main(int count, char **argv)
{
	bool named, us, it;
	char words[512];

	if (count < 4)
		give_up("usage: probe native|soft|readwrite PATH COMMAND...");
	kind = strcmp(argv[1], "soft") == 0        ? FILELOCK_SOFT
	       : strcmp(argv[1], "readwrite") == 0 ? FILELOCK_READWRITE
	                                           : FILELOCK_NATIVE;
	path = argv[2];
	(void)signal(SIGPIPE, SIG_IGN);
	start(argv + 3);
	us = keeps_us_out(&named);
	it = is_kept_out(words);
	printf("%s\t%s\t", both(us, it), words);
	if (us && can_unlock())
		print_wake("unlock");
	printf("\t");
	if (us)
		print_wake("close");
	printf("\t%s\t", named ? "yes" : "no");
	if (kind == FILELOCK_SOFT)
		print_age();
	printf("\n");
	(void)kill(other, SIGKILL);
	(void)waitpid(other, NULL, 0);
	return 0;
}
