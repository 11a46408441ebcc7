/*
 * run.h - one run of the command: a loop in which it waits for the locks, and then for what it runs.
 */
#ifndef RUN_H
#define RUN_H

#include <signal.h>
#include <sys/types.h>

#include <event2/event.h>
#include <filelock/event.h>

#include "lock.h"

struct run {
	const struct options *options;
	struct lock *locks;
	size_t n;

	struct event_base *base;
	struct evfilelock *ev;
	struct filelock_etcd *session; /* of -k etcd; NULL */
	struct event *on_signal;
	struct event *on_second;  /* the message about a wait */
	struct event *on_record;  /* the answer of the thread of --fcntl */
	struct event *on_timeout; /* of --fcntl */
	int signals;              /* signalfd(2); -1 */
	int record_pipe[2];       /* -1 */
	int record_fd;            /* for the thread, which may outlive the locks */
	short record_type;
	sigset_t old_mask;

	bool waiting; /* for the locks */
	bool held;
	bool signalled; /* the holder */
	bool told_of_loss;
	pid_t child;    /* 0: not running */
	int status;     /* to exit with */
};

/* Ends the loop; the command exits with that status. */
void run_end(struct run *run, int status);

/* The limit of -n and -w; NULL: none. */
const struct timeval *run_limit(const struct options *options, struct timeval *buffer);

/* wait.c: makes base and ev, once. False: out of something, and errno says of what. */
bool run_make_loop(struct run *run);
/* Takes all the locks, or says why not. True: held; else run->status. */
bool wait_for_locks(struct run *run);
/* The answer to that; also record.c calls it. */
void wait_answer(struct run *run, const struct lock *lock, int result);

/* record.c, --fcntl: begins to take the lock. Returns 0 (wait_answer follows, or came) or an error. */
int record_begin(struct run *run);
/* -u */
int unlock(const struct run *run);

/* spawn.c: runs the command and waits for it, or becomes it; sets run->status. */
void spawn_command(struct run *run);
/* The child has ended, perhaps. */
void spawn_reap(struct run *run);

/* holder.c */
int holder_print(const struct options *options, const struct lock *lock);
int holder_break(const struct lock *lock);
/* claims.c: the exit status. */
int claims_print(const struct options *options, const struct lock *lock);
int claims_break(const struct lock *lock, const char *name);
void holder_name(const struct run *run); /* the message about a wait */
bool holder_signal(struct run *run);     /* --timeout-signal */

#endif
