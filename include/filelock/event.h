/*
 * event.h - waiting for file locks in a libevent loop.
 *
 * A context (struct evfilelock) lives on the caller's event_base; requests are made on it, and
 * answered by callback. Nothing here blocks: a wait costs one timer of the base for the whole
 * context and, once somebody waits, one inotify descriptor, which wakes it the moment a lock
 * comes free. Requests for one lock in one context form a queue, served first come first
 * served, shared requests at its head together.
 *
 * What a callback may rely on:
 *  1. If evfilelock_acquire returns an error, the callback is never called.
 *  2. Otherwise it is called exactly once: with 0, -ETIMEDOUT, -ECANCELED or the error.
 *  3. Always on the loop's thread, from the loop, never from inside evfilelock_acquire or
 *     evfilelock_cancel. The one exception is evfilelock_free: it completes every pending
 *     request with -ECANCELED before it returns; inside those callbacks evfilelock_acquire
 *     returns -ECANCELED, and a second evfilelock_free does nothing.
 *  4. The request is finished before its callback begins: cancelling it from inside does nothing.
 *  5. Inside a callback you may release the lock, close the handle, start or cancel any request,
 *     free the context, or break the loop: no further callback comes after
 *     event_base_loopbreak, until the loop runs again.
 *  6. A request begun inside a callback completes no earlier than the loop's next turn, and one
 *     turn runs at most 256 completions, or 1 ms of them: the caller's other events go on.
 *  7. A lock won while losing a race with cancel or free is released, never leaked.
 *  8. Closing a handle cancels its pending request; the handle lives until that callback
 *     returns.
 *  9. The base is the caller's: never owned, never freed. A context that waits for nothing adds
 *     nothing that keeps event_base_dispatch from returning.
 *
 * Sets. evfilelock_acquire_all takes several locks, all or none. The nine rules hold for a set as
 * for a request.
 *
 * Seen. evfilelock_get_stats, evfilelock_set_trace and the option slow_wait_ms show what a context
 * does.
 *
 * Threads. A context, its requests, and closing a handle whose request is pending belong to the
 * thread that runs the loop. A lock granted by a callback may be released from any thread. The loop
 * may go on in another thread: that one calls evfilelock_acquire, evfilelock_release or
 * evfilelock_get_stats before the one that ran it until then releases anything more.
 *
 * Fork. In a child a context is dead: no callback of a request begun before the fork ever runs
 * there, each call but evfilelock_free gives FILELOCK_EFORKED. Its
 * descriptors are replaced by idle ones, so event_reinit(3) works, and neither it nor
 * event_base_free disturbs the parent.
 *
 * Workers. With options.workers a context has threads of its own, on which its requests are
 * attempted, for file systems that make system calls wait (a network's, FUSE, a disk under load):
 * the loop then makes none on a lock file. Callbacks come from the loop as ever, and
 * evthread_use_pthreads(3) is not needed. The rules above hold, with these additions:
 *  - A deadline is kept while a call does not return: the request then ends with -ETIMEDOUT at most
 *    a second late, without a last attempt. Cancelling, closing and freeing never wait for a
 *    worker (but for sets: below); what it wins afterwards is released.
 *  - A path whose calls do not return costs one worker for its attempts, however often it is asked
 *    for, and one for each release, and each closing of its file, that is under way. When
 *    no worker is left, all other paths wait as well.
 *  - filelock_release and filelock_close make their system calls where they are called, so release
 *    by evfilelock_release, and close after it. A set that fails, by its deadline or cancel too, is
 *    told once workers have released what it had taken, in any order, or the context is freed.
 *  - Locks on a descriptor of the caller's (filelock_open_fd) are attempted and released by the
 *    loop.
 *  - max_fds does not limit the number of descriptors, and the want of one (EMFILE, ENFILE) is the
 *    request's error. A slow wait's holder is not looked for.
 *  - A worker that never comes back stays until the process ends. Workers have all signals
 *    blocked. fork(2) waits for an open(2) of theirs, or one inside SQLite, two seconds at most;
 *    a child has no workers, and what they had in hand stays allocated there.
 */
#ifndef FILELOCK_EVENT_H
#define FILELOCK_EVENT_H

#include <sys/time.h>

#include <filelock/filelock.h>

#ifdef __cplusplus
extern "C" {
#endif

struct event_base;
struct evfilelock;

/* lock: the handle of the request, borrowed. result: 0 held; else the error. */
typedef void (*evfilelock_cb)(struct filelock *lock, int result, void *arg);

/*
 * Options of a context. Begin with EVFILELOCK_OPTIONS_INIT. Options that a program was compiled
 * without have their defaults.
 */
struct evfilelock_options {
	size_t size; /* sizeof(struct evfilelock_options), by EVFILELOCK_OPTIONS_INIT */

	/* Threads of the context's own on which requests are attempted: see "Workers". At most
	   256. 0: none. */
	unsigned workers;

	/*
	 * How many descriptors of lock files waiting requests may keep: the first of each queue
	 * keeps one, so that an event wakes it. Beyond that number a request polls, in turn with
	 * the others that do, at poll_interval_ms or, by default, at about 1,000 attempts a second
	 * for all of them (ten times that where the file system is not of this machine), until
	 * another finishes. Between its polls a writer of a read/write lock keeps no new readers
	 * out. 0: three quarters of RLIMIT_NOFILE, as it is when the context is made. When the
	 * process runs out of descriptors nevertheless (EMFILE, ENFILE), a request that keeps one
	 * gives it back to the one that needs it; only if there is no such request is the want an
	 * error. The number of watches is the system's (fs.inotify.max_user_watches); past it,
	 * requests poll as well.
	 */
	unsigned max_fds;

	/*
	 * Hand-over inside the process. When a lock that this context granted is released on the
	 * loop's thread while the next request in its queue waits for the same mode of it, that one
	 * gets the hold, after a look whether the path still names the file: no other process comes
	 * in between. So that others get their turn as well, one hold taken from the system serves
	 * at most handover_max requests in a row (0: 256; 1: every request takes the lock from the
	 * system), and is handed over only within handover_us microseconds of being taken (0: 2000).
	 * Locks with the option lifetime_ms, and requests whose handles differ in an option of the
	 * file or of its release, are never handed over. A native lock's file itself is asked
	 * whether it was renamed or removed; that its folder was, only the next hold taken from the
	 * system finds. From the release until its callback the next request's handle has the hold:
	 * filelock_acquire of a third handle, on the loop's thread, then fails (-ETIMEDOUT or, for
	 * ever, -EDEADLK).
	 */
	unsigned handover_max;
	unsigned handover_us;

	/*
	 * Logs, as a warning (filelock_set_log), a wait that lasts longer than so many milliseconds,
	 * once: the path, how long, how many more wait behind, and who holds the lock. Of the
	 * requests in one queue only the first is told, and not more than one in that time. Asking
	 * for the holder reads /proc/locks (filelock_holder), so that is done ten times a second at
	 * most. 0: never.
	 */
	unsigned slow_wait_ms;

	/* Priority of the context's events, as event_priority_set(3). -1: the base's default. */
	int priority;
};
#define EVFILELOCK_OPTIONS_INIT { sizeof(struct evfilelock_options), 0, 0, 0, 0, 0, -1 }

/*
 * A context on base, which is borrowed and must outlive it. options NULL: all defaults.
 * evfilelock_free must come before event_base_free.
 * NULL: errno says why: EINVAL (an option is out of its range), ENOMEM; with workers EMFILE, EAGAIN
 * (no more threads).
 */
FILELOCK_API struct evfilelock *evfilelock_new(struct event_base *base,
                                               const struct evfilelock_options *options);

/*
 * Asks for the lock.
 *
 * lock     borrowed until the callback; must not be used meanwhile but for filelock_close.
 *          If the handle holds the lock already, in this mode, the request nests.
 * timeout  from now, copied; NULL: wait for ever; zero: one attempt. The deadline is kept on
 *          CLOCK_MONOTONIC, to the resolution of the base's timers, and one attempt is made at
 *          it, also by a loop that was blocked for seconds.
 * cb       must not be NULL.
 *
 * Returns 0, or an error: -EINVAL, -ENOMEM, -EALREADY (this handle has a request pending), -EDEADLK
 * (it holds the lock in the other mode), -ECANCELED (the context is being freed), FILELOCK_EFORKED
 * (context or handle is the parent's).
 */
FILELOCK_API int evfilelock_acquire(struct evfilelock *ev, struct filelock *lock,
                                    enum filelock_mode mode, const struct timeval *timeout,
                                    evfilelock_cb cb, void *arg);

/*
 * Cancels the pending request of this handle in this context: its callback comes with -ECANCELED,
 * from the loop. A handle of a pending set cancels the set. The time it takes grows with the number
 * of sets only.
 * 0; -ENOENT (nothing is pending, or it was cancelled before), -EINVAL, FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_cancel(struct evfilelock *ev, struct filelock *lock);

/*
 * set     our copy, in the order in which it was given; valid until the callback returns.
 * result  0: all are held; else the error, and none is (unless unlocking failed, which is logged:
 *         filelock_is_held tells).
 * failed  at which lock it ended: the one that could not be had, that was waited for when the set
 *         was cancelled, or whose handle was closed. NULL if result is 0.
 */
typedef void (*evfilelock_all_cb)(struct filelock *const *set, size_t n, int result,
                                  struct filelock *failed, void *arg);

/*
 * Asks for all locks of a set, or none: they are taken one after the other, in the order of their
 * kinds and paths, whatever their order in the set. Those who take several locks at once by this
 * call alone never wait for each other in a circle, in one process or many, as long as they
 * open them by the same paths (a path through a symbolic link, or a descriptor, has no place in
 * the order that others share) and no set has one file under two names. What was taken is held
 * while the rest is waited for, and given back, last first, if that fails.
 *
 * set      copied; the handles as `lock` of evfilelock_acquire, but: none may hold its lock. A
 *          handle that is closed cancels the set; one whose lock had been taken already, at the
 *          latest when the last lock is.
 * n        at least 1. A set costs one request at a time, a loop's turn for each lock, and 16 bytes
 *          a lock.
 * timeout  for all together; as of evfilelock_acquire. At its end one attempt is made at each
 *          lock that is still missing, until one is found held.
 *
 * Cancelled by evfilelock_cancel, with any handle of the set.
 *
 * Returns 0, or an error as of evfilelock_acquire; -EDEADLK if two handles name the same lock, or one
 * holds its lock. The callback tells what goes wrong with a lock when its turn comes: -EALREADY,
 * -ENOMEM and all else.
 */
FILELOCK_API int evfilelock_acquire_all(struct evfilelock *ev, struct filelock *const *set,
                                        size_t n, enum filelock_mode mode,
                                        const struct timeval *timeout, evfilelock_all_cb cb,
                                        void *arg);

/* Frees the context, after completing what is pending (rule 3); NULL is fine. Locks that were
   granted stay held by their handles. */
FILELOCK_API void evfilelock_free(struct evfilelock *ev);

#define EVFILELOCK_WAIT_BUCKETS 32

/* What a context does and has done. */
struct evfilelock_stats {
	size_t size; /* sizeof(struct evfilelock_stats), by EVFILELOCK_STATS_INIT */

	/* Now. */
	uint64_t waiting;       /* requests that are not answered */
	uint64_t held;          /* holds that were granted and have not ended; nested: one */
	uint64_t queues;        /* locks that requests wait for */
	uint64_t longest_queue; /* requests for one lock */

	/* Since evfilelock_new. */
	uint64_t longest_queue_ever;
	uint64_t requested;      /* calls of evfilelock_acquire that returned 0 */
	uint64_t granted;        /* answered with 0 */
	uint64_t timed_out;      /* with -ETIMEDOUT */
	uint64_t cancelled;      /* with -ECANCELED */
	uint64_t failed;         /* with any other error */
	uint64_t handed_over;    /* grants of a hold as it was: options.handover_max */
	uint64_t attempts;       /* at the lock itself; raced ones that are made again are one */
	uint64_t wakes_by_event; /* of a queue: its lock stirred */
	uint64_t wakes_by_poll;  /* of a queue: its timer ran out, of a back-off or a poll */

	/* Grants, after a wait, that the timer found without an event. A few come when both are
	   due at the same moment. Many mean that events do not come: releases on other machines or
	   through other mounts, watches or descriptors run out. What is waited for then comes
	   late, by up to poll_interval_ms. */
	uint64_t missed_wakeups;

	uint64_t slow; /* waits longer than options.slow_wait_ms */

	/* How long those that were granted had waited, from evfilelock_acquire to the attempt that
	   succeeded, in whole microseconds us: waits[0] counts us == 0; waits[i] counts
	   2^(i-1) <= us < 2^i; the last one all that is longer. */
	uint64_t waits[EVFILELOCK_WAIT_BUCKETS];
};
#define EVFILELOCK_STATS_INIT                                                                  \
	{ sizeof(struct evfilelock_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* Copies them. It looks at each queue; counting itself is a few additions a request. 0; -EINVAL (ev
   is NULL, or the size was never set), FILELOCK_EFORKED (the context is the parent's). */
FILELOCK_API int evfilelock_get_stats(struct evfilelock *ev, struct evfilelock_stats *ret_stats);

enum evfilelock_trace_what {
	EVFILELOCK_TRACE_REQUESTED = 0, /* evfilelock_acquire returned 0 */
	EVFILELOCK_TRACE_WOKEN,         /* the first request of a queue, by an event */
	EVFILELOCK_TRACE_POLLED,        /* the same, by its timer */
	EVFILELOCK_TRACE_ATTEMPTED,     /* result: 0 held, > 0 held by another, < 0 an error */
	EVFILELOCK_TRACE_GRANTED,
	EVFILELOCK_TRACE_TIMED_OUT,
	EVFILELOCK_TRACE_CANCELLED,
	EVFILELOCK_TRACE_FAILED,  /* result: the error */
	EVFILELOCK_TRACE_RELEASED /* the hold of a granted request ended: by release or close */
};

/* What has happened to a request; valid during the call. */
struct evfilelock_trace_event {
	size_t size;
	enum evfilelock_trace_what what;
	int result;
	const char *path;    /* as filelock_path */
	uint64_t request;    /* its number in its context, from 1 */
	int64_t time;        /* CLOCK_MONOTONIC, ns */
	size_t queue_length; /* requests that wait for this lock, with this one if it does */
	enum filelock_mode mode;
	bool nested; /* granted to a handle that held the lock: it has no release of its own */
};

typedef void (*evfilelock_trace_cb)(const struct evfilelock_trace_event *event, void *arg);

/*
 * Tells cb of everything that happens to the requests of a context from now on; NULL: of nothing.
 * An answer is told just before its callback. cb is called on the loop's thread from inside the
 * library's calls, also from evfilelock_acquire and filelock_release, so it must not call into
 * the library. A release on another thread is told by the loop, with the time when it was; one
 * that comes after evfilelock_free is not.
 * 0; -EINVAL (ev is NULL), FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_set_trace(struct evfilelock *ev, evfilelock_trace_cb cb, void *arg);

/* A file of trace events of Chrome, for Perfetto or chrome://tracing. */
struct evfilelock_trace;

/*
 * Makes or empties the file at path, for
 *
 *	evfilelock_set_trace(ev, evfilelock_trace_write, trace);
 *
 * Each path of a lock is a thread in it: attempts and wakes are instants there; what waits and what
 * holds are async events, "waiting" and "held" by category, under the number of the request. A
 * byte of a path that is no UTF-8 becomes the lone surrogate U+DC00 + byte, as Python's
 * surrogateescape has it. One trace serves one context. Writes block, 64 KiB at a time.
 * 0; -EINVAL, -ENOMEM, or an error of open(2).
 */
FILELOCK_API int evfilelock_trace_open(const char *path, struct evfilelock_trace **ret_trace);

/* An evfilelock_trace_cb. */
FILELOCK_API void evfilelock_trace_write(const struct evfilelock_trace_event *event, void *trace);

/* Completes the file, and frees the trace, which no context may use any more; NULL is fine. 0, or
   the first error that there was since it was opened. In a forked child nothing is written. */
FILELOCK_API int evfilelock_trace_close(struct evfilelock_trace *trace);

/*
 * Releases one level of a hold, however it was acquired, and says so by callback, from the loop.
 * The handle must not be used until then, but for filelock_close. With workers the system calls are
 * made on one of them; without, in this call. result: 0; the error, and the lock is still held;
 * -ECANCELED: the context was freed, and the release goes on without it.
 *
 * Returns 0: cb will be called exactly once. Otherwise it will not: -EINVAL, -EPERM (not held),
 * -ENOMEM, -ECANCELED (the context is being freed), FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_release(struct evfilelock *ev, struct filelock *lock,
                                    evfilelock_cb cb, void *arg);

#ifdef __cplusplus
}
#endif

#endif
