/*
 * kernel.h - the inside of the simulated kernel. Functions return 0 or more, or a negative errno;
 * file_calls.c and event_calls.c make system calls of them.
 *
 *   *_calls.c -> files.c, folders.c, poll.c, proc.c -> locks.c, notify.c -> tasks.c -> kernel.c
 */
#ifndef FILELOCK_TESTS_SIM_KERNEL_H
#define FILELOCK_TESTS_SIM_KERNEL_H

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/inotify.h>

#include "sim.h"

enum {
	ENTRIES = 48,
	DESCRIPTIONS = 48,
	WATCHES = 8, /* of one instance */
	EVENTS = 16,
	MEMBERS = 4, /* of one epoll instance */
	NAME = 112,
	TEXT = 512,
	PIECE = 2, /* of a list of names, that one call gives */
	RECORD_UNITS = 4 /* PENDING, RESERVED, the SHARED range, the waiters' byte: see locks.c */
};

/* An inode; its number is its place + 1. */
struct node {
	bool used;
	bool directory;
	bool linkable; /* O_TMPFILE: may get a name */
	unsigned links, descriptions;
	mode_t mode;
	int64_t modified, changed;
	unsigned char records[SIM_PROCESSES][RECORD_UNITS]; /* F_UNLCK + 1 … */
	size_t size;
	char bytes[SIM_CONTENT];
};

/* A name, by its whole path. */
struct entry {
	char path[SIM_PATH]; /* empty: free */
	int node;
};

struct watch_ {
	int wd; /* 0: free */
	int node;
	uint32_t mask;
};

struct event {
	int wd;
	uint32_t mask;
	char name[NAME];
};

struct instance {
	int last_wd;
	unsigned count; /* of the queue */
	struct watch_ watches[WATCHES];
	struct event queue[EVENTS];
};

enum description_type {
	DESCRIPTION_FREE,
	ON_FILE,
	ON_TEXT, /* of /proc */
	ON_INOTIFY,
	ON_COUNTER, /* eventfd */
	ON_TIMER,
	ON_PROCESS, /* pidfd */
	ON_EPOLL
};

/* One member of an epoll instance. */
struct member {
	int description; /* + 1; 0: none */
	struct epoll_event event;
};

/* An open file description. */
struct description {
	enum description_type type;
	unsigned references; /* 0, and not free: it is being closed */
	unsigned closer;     /* the process that closes it */
	int node;
	bool reads, writes;  /* neither: O_PATH */
	int flock;           /* 0, LOCK_SH or LOCK_EX */
	bool lease, lease_breaking;
	unsigned char records[RECORD_UNITS]; /* of the description itself: F_UNLCK + 1 … */
	size_t offset;
	char path[SIM_PATH]; /* that it was opened by; empty: none */
	union {
		struct instance inotify;
		uint64_t counter;
		int64_t timer; /* 0: not armed */
		unsigned process;
		struct member members[MEMBERS];
		char text[TEXT];
	};
};

struct process {
	enum sim_life life;
	int descriptions[SIM_DESCRIPTORS]; /* -1: not open */
	uint64_t history;
	bool looked; /* see sim_has_looked */
	int64_t stopped_until; /* see sim_stop */
};

/* A thread. Asleep, it waits for the time, and for descriptors or a flock if it has any. */
struct task {
	bool used;
	unsigned process;
	bool asleep;
	int64_t until;
	struct pollfd *fds;
	nfds_t fd_count;
	struct description *wanted; /* in flock(2), as this type */
	int wanted_type;
	bool interrupted; /* there */
	bool left; /* the queue there, when its process was stopped: it is to enter it again */
	const void *address; /* see sim_wait_at */
	int behind; /* what it waits behind there: see locks.c; 0: it is to look again */
};

struct kernel {
	int64_t now;
	bool apart;  /* see sim_set_apart */
	bool sealed; /* see sim_set_sealed */
	bool threadless; /* see sim_set_threadless */
	unsigned current; /* process */
	unsigned task;
	struct node nodes[SIM_NODES];
	struct entry entries[ENTRIES];
	struct description descriptions[DESCRIPTIONS];
	struct process processes[SIM_PROCESSES];
	struct task tasks[SIM_TASKS];
};
extern struct kernel kernel;

/* calls.c: a call asks whether it is refused, with errno set, and says what it came to. */
bool call_refused(const char *call, bool noticed);
ssize_t call_done(ssize_t r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* kernel.c */
struct process *kernel_process(void); /* the current one */
void kernel_gap(const char *where);   /* others may run in the middle of a call */

/* tasks.c */
struct task *task_get(void); /* the current one */
/* Until sim_can_run says so. */
void task_sleep(int64_t until);
void task_start(unsigned task, unsigned process);
/* The process is killed: no call of it goes on. */
void task_kill_all(unsigned process);
/* How many of the descriptors that it waits for are ready. */
int task_count_ready(const struct task *task);
int node_new(mode_t mode, bool directory);
void node_put(int node); /* frees it if nothing refers to it any more */
struct entry *entry_find(const char *path);
int entry_add(const char *path, int node);
/* The directory that path lies in, or -ENOENT, -ENOTDIR. */
int entry_parent(const char *path);
const char *path_name(const char *path);
int description_new(enum description_type type);
int descriptor_new(int description);
struct description *descriptor_get(int fd); /* NULL: not open */
int descriptor_close(int fd);
/* The second half of a close. */
void description_end(struct description *d);
/* "/proc/thread-self/fd/N": N, else -1. */
int path_to_fd(const char *path);

/* locks.c */
int lock_flock(struct description *d, int operation);
/* The description is closed, or a thread waits no more: who was behind it looks again. */
void lock_drop_flock(struct description *d);
void lock_leave_queue(struct task *task);
int lock_lease(struct description *d, int type);
/* Whether a lease of somebody forbids to open the node for writing; it is asked back. */
bool lock_breaks_lease(int node);
int lock_records(struct description *d, int command, struct flock *lock);
/* Whether a close of the description gives anything back that others may wait for. */
bool lock_has_any(const struct description *d);
void lock_drop_records(int node, unsigned process);

/* notify.c: path, if any, is the name by which the directory hears of it */
void notify(int node, const char *path, uint32_t mask);
void notify_directory(const char *path, uint32_t mask);
void notify_gone(int node);
int notify_add(struct instance *instance, int node, uint32_t mask);
int notify_remove(struct instance *instance, int wd);
ssize_t notify_read(struct instance *instance, char *buffer, size_t size);

/* files.c */
int file_open(const char *path, int flags, mode_t mode);
int file_resolve(const char *path); /* a node, or an error */
void file_stat(int node, struct stat *ret);
ssize_t file_read(struct description *d, char *buffer, size_t size, size_t at);
ssize_t file_write(struct description *d, const char *bytes, size_t size, size_t at);
int file_truncate(struct description *d, off_t size);
int file_touch(int node, const char *path);
int file_link(const char *from, const char *to, int flags);
int file_unlink(const char *path);
int file_rename(const char *from, const char *to);
int file_make(const char *path, mode_t mode, bool directory);
/* The path of a name in an open directory, or as it is. */
int file_join(int folder, const char *name, char ret_path[SIM_PATH]);
/* Names of a directory, at most PIECE at a time, as getdents64(2) gives them. */
ssize_t file_list(struct description *d, char *buffer, size_t size);

/* proc.c */
int proc_text(const char *path, char ret[TEXT]); /* the length */
ssize_t proc_link(const char *path, char *ret, size_t size);
int proc_find(long pid); /* the process with that pid, or -1 */

/* poll.c */
int poll_add(struct description *epoll, int fd, const struct epoll_event *event);
int poll_remove(struct description *epoll, int fd);
int poll_collect(const struct description *epoll, struct epoll_event *ret, int size);
/* The description is gone: no instance listens to it. */
void poll_forget(const struct description *d);
int poll_wait(struct pollfd *fds, nfds_t n, int64_t until);
bool description_is_ready(const struct description *d);

#endif
