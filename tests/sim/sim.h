/*
 * sim.h - a kernel in memory, behind the library's table of system calls.
 *
 * Assign sim_calls to `sys` (lib/base/sys.h), and the library runs on virtual files, descriptors,
 * locks, events and time: nothing of it reaches the machine. sim_reset() begins anew, in
 * microseconds. One thread of one process calls at a time, the one that sim_switch named; the
 * kernel takes no locks.
 *
 *     sys = sim_calls;
 *     sim_reset();
 *     filelock_open(SIM_FOLDER "/lock", …);
 *
 * The model behaves as Linux does:
 *   - regular files and directories, hard links, O_TMPFILE, files without a name; the number of a
 *     file that is gone is given to the next one made; calls on names in an open directory, whose
 *     list comes in pieces, so that it may lack what was made meanwhile;
 *   - open file descriptions, shared by dup3; flock(2) on them, blocked as well, with the kernel's
 *     queue; leases; record locks of processes, which any close of the file drops, and of open file
 *     descriptions (F_OFD_SETLK, F_OFD_GETLK), which the last close of their own drops;
 *   - closing raises its event before it drops the flock, and record locks go before both; a
 *     change of mode by flock(2) lets go before it takes;
 *   - inotify(7): watches of inodes, masks, names in directories, equal events merged, a bounded
 *     queue, IN_DELETE_SELF and IN_IGNORED with the last close;
 *   - eventfd, timerfd, pidfd, poll, epoll (but waiting in it); /proc/PID/stat, boot_id,
 *     /proc/thread-self/fd/N;
 *   - virtual time: it stands still but for sim_advance, or a sleep with nobody to sleep for it.
 * Not modelled: users and permissions, symbolic links, signals, short writes, other
 * file systems, directories that are renamed or removed. A path is absolute; "." and ".." are not understood, but for a last "/.".
 *
 * When a table of the kernel is full, a call says what Linux would (EMFILE, ENOSPC, …).
 */
#ifndef FILELOCK_TESTS_SIM_H
#define FILELOCK_TESTS_SIM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/sys.h"

#define SIM_FOLDER "/sim"        /* exists after a reset, empty */
#define SIM_HOST "simulated"
#define SIM_PID(process) (1000 + (pid_t)(process))
enum {
	SIM_PROCESSES = 4,
	SIM_TASKS = 12, /* threads: the first of process i is i */
	SIM_FIRST_FD = 3,
	SIM_DESCRIPTORS = 24, /* of one process, numbered from SIM_FIRST_FD */
	SIM_NODES = 40,
	SIM_PATH = 144,
	SIM_CONTENT = 1536, /* of one file */
};

/* The calls of lib/base/sys.h; calloc is the machine's own. */
extern const struct sys_table sim_calls;

/* More calls: what SQLite makes, and what others do to lock files. -1 and errno. */
int sim_fcntl(int fd, int command, ...);
int sim_stat(const char *path, struct stat *ret);
int sim_access(const char *path, int mode);
int sim_rename(const char *from, const char *to);

/* Everything is gone, all processes but 0 too, which calls from now on; the hooks stay. */
void sim_reset(void);

/* --- processes: 0 … SIM_PROCESSES - 1 --- */

enum sim_life { SIM_UNBORN, SIM_ALIVE, SIM_DYING, SIM_ZOMBIE, SIM_GONE };

/* With its first thread. */
void sim_start(unsigned process);
/* One more thread of the current process; -1: there can be none. */
int sim_start_thread(void);
void sim_end_thread(unsigned task);
bool sim_has_task(unsigned task);
/* Sleeps until somebody wakes those at the address, or that time has come. */
void sim_wait_at(const void *address, int64_t until);
void sim_wake_at(const void *address);
/* As a signal that interrupts flock(2). */
void sim_interrupt(unsigned task);
unsigned sim_process_of(unsigned task);
/* Until the next reset, each process knows its own pid only, as in PID namespaces of their own, and
   leases are refused, as for another user's files. */
void sim_set_apart(void);
/* Nor can any thread be made but the first of each process, as under RLIMIT_NPROC. */
void sim_set_threadless(void);
/* Nor can anybody open a file once more, by its descriptor or to read, as after a setuid(2). */
void sim_set_sealed(void);
/* The calls to come are this thread's. */
void sim_switch(unsigned task);
unsigned sim_current(void); /* process */
unsigned sim_task(void);
enum sim_life sim_life(unsigned process);
/*
 * The process is killed, wherever it is: from now on it only dies, in steps, between which others
 * may run: it closes its descriptors, each in up to two steps, becomes a zombie, is reaped.
 */
void sim_kill(unsigned process);
/* As by SIGSTOP, or a freezer: none of its threads runs before that time. Those in flock(2) leave the
   queue, and come back at its end. */
void sim_stop(unsigned process, int64_t until);
bool sim_is_stopped(unsigned process);
/* Not while the kernel has let a thread look again for its flock: it takes that, and stops then. */
bool sim_can_stop(unsigned process);
/* One such step; false: it is gone. */
bool sim_die(unsigned process);

/* --- time --- */

#define SIM_BEGIN INT64_C(1000000000000) /* CLOCK_MONOTONIC after a reset */
int64_t sim_now(void);
void sim_advance(int64_t to);
/* When a thread that sleeps in a call wakes at the latest; INT64_MAX: never. */
int64_t sim_wakes_at(unsigned task);
/* Whether it can go on: it is not asleep, or what it waits for is there. */
bool sim_can_run(unsigned task);

/* --- looking, from outside: never a call of anybody --- */

bool sim_exists(const char *path);
/* How many names that begin so are in the folder. */
unsigned sim_count_in(const char *folder, const char *prefix);
/* Whether the process has a flock or a record lock on the file that the path names. */
bool sim_holds(const char *path, unsigned process);
/* Whether it has that file open for writing. */
bool sim_writes(const char *path, unsigned process);
/* Whether the last file that it found at a path, since it last took a lock or wrote, was one that it
   has open or has named. */
bool sim_has_looked(unsigned process);
/* And since this, of the current process. */
void sim_look_away(void);
unsigned sim_open_count(unsigned process);  /* its descriptors */
unsigned sim_wait_count(unsigned process);  /* its threads that wait in flock(2) */
unsigned sim_watch_count(unsigned process); /* its inotify watches */
unsigned sim_file_count(void);              /* files but directories, nameless ones too */
unsigned sim_lock_count(void);              /* flocks, record locks and leases */
/* The kernel's state, and what the process has been told so far, since it began. */
uint64_t sim_state_hash(void);
uint64_t sim_history(unsigned process);
/* Something else that a process came to know, for its history. */
void sim_learn(const void *bytes, size_t size);

/* --- hooks: all may be NULL --- */

struct sim_hooks {
	/*
	 * Before a call, and in the middle of one that is not atomic. `noticed`: others can see its
	 * effect, or it can see theirs; the rest need no scheduling. May run other processes, if
	 * it switches back. Returns 0, or an errno for the call to fail with; in the middle
	 * of a call that is ignored.
	 */
	int (*before)(const char *call, bool noticed);
	/* The current thread has nothing to do before sim_can_run says so. Without this hook, time
	   advances. */
	void (*sleep)(void);
	/* A line about each call that is over. */
	void (*trace)(unsigned process, const char *line);
};
extern struct sim_hooks sim_hooks;

#endif
