/*
 * contend: what one machine does to a lock that another one wants too.
 *
 *   contend hold KIND PATH MODE       waits for the lock, for ever, and holds it until SIGTERM. It says
 *                                     "held"; at each SIGUSR1 "asked" and what verify says; once "loss NUMBER"
 *                                     and "lost ERROR"; and at the end
 *                                     "verify ERROR" and "released ERROR". Leases and soft read/write locks are renewed.
 *   contend storm KIND PATH FOLDER COUNT PROCESSES
 *                                     so many processes take it so many times and count in the folder;
 *                                     says "count N overlaps N torn N errors N"
 *   contend counted FOLDER            says the count there
 *
 * An exclusive holder adds 1 to a counter, read and written past all caches, and makes a file that
 * must not be there yet: the server decides that. A shared holder finds the counter at rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "kinds.h"

#define BLOCK 4096
#define DURATION_MS 6000
#define LONG_DURATION_MS 600000 /* of holds that must not end however slow the machines are */
#define HEARTBEAT_MS 500

struct tallies {
	_Atomic unsigned count, overlaps, torn, errors;
};

static char counter[PATH_MAX], inside[PATH_MAX];

__attribute__((noreturn)) static void fail(const char *what, int error)
{
	printf("%s: %s\n", what, filelock_strerror(error));
	exit(1);
}

static void say(const char *what, int r)
{
	printf("%s %s\n", what, r == 0 ? "ok" : filelock_strerror(r));
	fflush(stdout);
}

static bool ends_by_itself(enum filelock_kind kind)
{
	return kind == FILELOCK_LEASE || kind == FILELOCK_SOFT_READWRITE;
}

/* Nobody renews in a storm, nor is killed there. */
static struct filelock *open_lock(const char *name, const char *path, bool renewed)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	int kind = kind_by_name(name), r;
	struct filelock *lock;

	if (kind < 0)
		fail(name, -EINVAL);
	if (ends_by_itself((enum filelock_kind)kind)) {
		options.duration_ms = renewed ? DURATION_MS : LONG_DURATION_MS;
		options.heartbeat_ms = HEARTBEAT_MS;
	}
	r = filelock_open(path, (enum filelock_kind)kind, &options, &lock);
	if (r < 0)
		fail(filelock_last_error(NULL), r);
	return lock;
}

/* Whether that went well. */
static bool renew(struct filelock *lock)
{
	int r = filelock_renew(lock);

	if (r == 0)
		return true;
	printf("loss %d\n", (int)filelock_loss(lock));
	say("lost", r);
	return false;
}

/* Until SIGTERM; renewing, if the kind wants that. */
static void keep(struct filelock *lock, const sigset_t *signals)
{
	const struct timespec pause = { .tv_nsec = HEARTBEAT_MS * 1000000L };
	bool renews = ends_by_itself(filelock_kind(lock));
	int signal;

	while ((signal = sigtimedwait(signals, NULL, &pause)) != SIGTERM) {
		if (signal == SIGUSR1)
			say("asked", filelock_verify(lock));
		else if (renews)
			renews = renew(lock);
	}
}

static int hold(char **arguments)
{
	bool shared = strcmp(arguments[2], "shared") == 0;
	struct filelock *lock;
	sigset_t signals;
	int r;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	lock = open_lock(arguments[0], arguments[1], true);
	say("waits", 0);
	r = filelock_acquire(lock, shared ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	if (r < 0)
		fail(filelock_last_error(lock), r);
	say("held", 0);
	keep(lock, &signals);
	say("verify", filelock_verify(lock));
	r = filelock_release(lock);
	say("released", r);
	filelock_close(lock);
	return 0;
}

static void places(const char *folder)
{
	(void)snprintf(counter, sizeof(counter), "%s/counter", folder);
	(void)snprintf(inside, sizeof(inside), "%s/inside", folder);
}

/* Past the client's cache, whose freshness is not the lock's matter. */
static int open_counter(void)
{
	int fd = open(counter, O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0666);

	if (fd < 0)
		fail(counter, -errno);
	return fd;
}

static uint64_t read_counter(int fd, void *block)
{
	ssize_t size = pread(fd, block, BLOCK, 0);
	uint64_t value = 0;

	if (size < 0)
		fail(counter, -errno);
	if (size == BLOCK)
		memcpy(&value, block, sizeof(value));
	return value;
}

static void write_counter(int fd, void *block, uint64_t value)
{
	memcpy(block, &value, sizeof(value));
	if (pwrite(fd, block, BLOCK, 0) != BLOCK)
		fail(counter, -errno);
}

static void *new_block(void)
{
	void *block = aligned_alloc(BLOCK, BLOCK);

	if (!block)
		fail("a block", -ENOMEM);
	memset(block, 0, BLOCK);
	return block;
}

static void work_alone(struct tallies *tallies, int fd, void *block)
{
	int mark = open(inside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

	if (mark < 0 && errno != EEXIST)
		fail(inside, -errno);
	if (mark < 0)
		atomic_fetch_add(&tallies->overlaps, 1);
	else
		close(mark);
	write_counter(fd, block, read_counter(fd, block) + 1);
	if (mark >= 0 && unlink(inside) < 0)
		atomic_fetch_add(&tallies->overlaps, 1);
	atomic_fetch_add(&tallies->count, 1);
}

static void work_together(struct tallies *tallies, int fd, void *block)
{
	uint64_t before = read_counter(fd, block);

	if (read_counter(fd, block) != before)
		atomic_fetch_add(&tallies->torn, 1);
}

static void cycle(struct filelock *lock, struct tallies *tallies, bool together, int fd, void *block)
{
	int r = filelock_acquire(lock, together ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE,
	                         FILELOCK_WAIT_FOREVER);

	if (r == 0) {
		(together ? work_together : work_alone)(tallies, fd, block);
		r = filelock_release(lock);
	}
	if (r == 0)
		return;
	atomic_fetch_add(&tallies->errors, 1);
	say(filelock_last_error(lock), r);
}

/* Every fourth acquisition is shared, where the kind has that. */
__attribute__((noreturn)) static void contend(char **arguments, struct tallies *tallies)
{
	struct filelock *lock = open_lock(arguments[0], arguments[1], false);
	bool reads = kind_reader_mode(filelock_kind(lock)) == FILELOCK_SHARED;
	int fd = open_counter(), count = atoi(arguments[3]);
	void *block = new_block();

	for (int i = 0; i < count; i++)
		cycle(lock, tallies, reads && i % 4 == 3, fd, block);
	filelock_close(lock);
	free(block);
	close(fd);
	exit(0);
}

static int storm(char **arguments)
{
	struct tallies *tallies = mmap(NULL, sizeof(*tallies), PROT_READ | PROT_WRITE,
	                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int processes = atoi(arguments[4]), status, failed = 0;

	if (tallies == MAP_FAILED)
		fail("mmap", -errno);
	places(arguments[2]);
	for (int i = 0; i < processes; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork", -errno);
		if (pid == 0)
			contend(arguments, tallies);
	}
	while (wait(&status) > 0)
		failed += status != 0;
	printf("count %u overlaps %u torn %u errors %u\n", atomic_load(&tallies->count),
	       atomic_load(&tallies->overlaps), atomic_load(&tallies->torn),
	       atomic_load(&tallies->errors) + (unsigned)failed);
	return 0;
}

static int counted(char **arguments)
{
	void *block = new_block();
	int fd;

	places(arguments[0]);
	fd = open_counter();
	printf("%llu\n", (unsigned long long)read_counter(fd, block));
	free(block);
	close(fd);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "hold") == 0)
		return hold(argv + 2);
	if (argc == 7 && strcmp(argv[1], "storm") == 0)
		return storm(argv + 2);
	if (argc == 3 && strcmp(argv[1], "counted") == 0)
		return counted(argv + 2);
	fprintf(stderr, "usage: contend hold KIND PATH MODE | storm KIND PATH FOLDER COUNT PROCESSES | "
	                "counted FOLDER\n");
	return 2;
}
