/*
 * holder.c - who holds the lock: printed, named while we wait, signalled, or robbed of it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "etcd.h"

/* A program with a record lock on the file holds nothing that we could wait for, but ought to be known. */
static void print_nobody(const struct lock *lock)
{
	char other[512];

	if (filelock_describe_holder(lock->handle, other, sizeof(other)) == 0)
		printf("nobody; %s\n", other);
	else
		puts("nobody");
}

int holder_print(const struct options *options, const struct lock *lock)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	char since[64] = "";
	struct tm tm;
	int r = filelock_holder(lock->handle, &owner);

	if (r == FILELOCK_ENOHOLDER || r == -ENOENT) {
		print_nobody(lock);
		return options->conflict;
	}
	if (r < 0) {
		fprintf(stderr, "filelock: %s: %s\n", lock->path, filelock_strerror(r));
		return r == FILELOCK_EUNKNOWNHOLDER ? EX_UNAVAILABLE : lock_status(lock, r);
	}
	if (owner.start_time && localtime_r(&(time_t){ owner.start_time }, &tm))
		strftime(since, sizeof(since), ", running since %F %T", &tm);
	printf("pid %ld%s%s, %s%s\n", (long)owner.pid, *owner.host ? " on " : "", owner.host,
	       owner.mode == FILELOCK_SHARED ? "shared" : "exclusive", since);
	return 0;
}

int holder_break(const struct lock *lock)
{
	int r = filelock_break(lock->handle);

	if (r == 0)
		return 0;
	if (r == -ENOTSUP)
		fprintf(stderr, "filelock: %s: a lock of this kind cannot be broken: end its holder\n",
		        lock->path);
	else
		fprintf(stderr, "filelock: %s\n", filelock_last_error(lock->handle));
	return r == FILELOCK_ENOHOLDER ? EX_UNAVAILABLE :
	       r == -ENOTSUP           ? EX_USAGE :
	                                 lock_status(lock, r);
}

static void say_that_we_wait(const struct lock *lock, const char *holder)
{
	fprintf(stderr, "filelock: waiting for %s%s%s\n", holder, *holder ? ", which holds " : "",
	        lock->path);
}

/* The first of the locks that another process is known to hold. */
void holder_name(const struct run *run)
{
	for (size_t i = 0; i < run->n; i++) {
		struct filelock_owner owner = FILELOCK_OWNER_INIT;
		struct filelock *handle = lock_ask(run->options, &run->locks[i]);
		char holder[512] = "";
		bool found = handle && filelock_holder(handle, &owner) == 0 && !owner.ours &&
		             filelock_describe_holder(handle, holder, sizeof(holder)) == 0;

		filelock_close(handle);
		if (found) {
			say_that_we_wait(&run->locks[i], holder);
			return;
		}
	}
	say_that_we_wait(&run->locks[0], "");
	if (run->session && *etcd_trouble(run->session))
		fprintf(stderr, "filelock: %s\n", etcd_trouble(run->session));
}

/* The process that the kernel names; 0: none. */
static pid_t other_holder(const struct filelock *handle)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;

	return handle && filelock_holder(handle, &owner) == 0 && !owner.ours ? owner.pid : 0;
}

/* A pid may be given to another process at any time, a pidfd not: so the holder is asked for again
   once its pidfd is there. */
static bool signal_holder_of(const struct filelock *handle, int number)
{
	pid_t pid = other_holder(handle);
	int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	bool sent;

	if (fd < 0)
		return false;
	sent = other_holder(handle) == pid &&
	       syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) == 0;
	close(fd);
	if (sent)
		fprintf(stderr, "filelock: sent signal %d to pid %ld\n", number, (long)pid);
	return sent;
}

bool holder_signal(struct run *run)
{
	bool sent = false;

	for (size_t i = 0; i < run->n; i++) {
		struct filelock *handle = lock_ask(run->options, &run->locks[i]);

		sent |= signal_holder_of(handle, run->options->timeout_signal);
		filelock_close(handle);
	}
	if (!sent)
		fputs("filelock: the holder is not known, or takes no signal\n", stderr);
	return sent;
}
