/*
 * event.h - waiting for file locks in a libevent loop.
 *
 * A context (struct evfilelock) belongs to one event_base of the caller. A program makes requests
 * on it, and gets the answers by callback. No call here waits for a lock. All waits of a context
 * share one timer of the base and, once a request has to wait, one inotify descriptor, which
 * wakes the loop the moment a lock comes free. Requests for one lock in one context form a queue:
 * first come, first served; shared requests at its head are served together.
 *
 * Rules that a callback may rely on:
 *  1. If evfilelock_acquire returns an error, the callback is never called.
 *  2. Otherwise the callback is called exactly once: with 0, -ETIMEDOUT, -ECANCELED or the error.
 *  3. Callbacks come from the loop, on its thread, and never from inside evfilelock_acquire or
 *     evfilelock_cancel. The one exception is evfilelock_free: it completes every pending
 *     request with -ECANCELED before it returns. Inside those callbacks evfilelock_acquire
 *     returns -ECANCELED, and a second evfilelock_free does nothing.
 *  4. The request is over when its callback begins. Cancelling it from inside does nothing.
 *  5. A callback may release the lock, close the handle, start or cancel any request, free the
 *     context, and break the loop. After event_base_loopbreak no callback comes until the loop
 *     runs again.
 *  6. A request that a callback begins completes no earlier than the loop's next turn. One turn
 *     runs at most 256 completions, or 1 ms of them, so that the caller's other events go on.
 *  7. A lock that is won while its request is cancelled or its context freed is released.
 *  8. Closing a handle cancels its pending request. The handle lives until that callback returns.
 *  9. The base belongs to the caller. The library never owns or frees it. A context that waits
 *     for nothing has no event that keeps event_base_dispatch from returning.
 *
 * Sets. evfilelock_acquire_all takes several locks, all or none. The nine rules hold for a set as
 * for a request.
 *
 * Diagnosis. evfilelock_get_stats, evfilelock_set_trace and the option slow_wait_ms show what a
 * context does.
 *
 * Threads. The thread that runs the loop makes all calls on a context and its requests, and closes
 * handles whose request is pending. Any thread may release a lock that a callback was granted, and
 * any thread may call evfilelock_get_stats while the context lives. The loop may move to another
 * thread: that thread calls evfilelock_acquire, evfilelock_release or evfilelock_set_trace before
 * the one that ran the loop until then releases anything more.
 *
 * Fork. In a forked child a context that waited for nothing and held nothing goes on working, as
 * after daemon(3); call event_reinit(3) first. Any other context is dead there: no callback of a
 * request from before the fork runs, and every call but evfilelock_free gives FILELOCK_EFORKED.
 * Idle descriptors replace its own, so event_reinit(3) works. Neither evfilelock_free nor
 * event_base_free there disturbs the parent.
 *
 * Warm locks. A native lock that is asked for again within 10 ms of its release keeps its file open
 * ("Warm locks" in filelock.h), for the next request of any handle of it in the context. The file is
 * closed after a second without a request, when the process runs out of descriptors, with the context,
 * and after a turn of the context when nothing else keeps the loop running: for the sake of such a file
 * a loop runs on for a second at most. A context with workers keeps no file open.
 *
 * Workers. With options.workers a context has threads of its own that make the attempts, for file
 * systems whose system calls take long (network file systems, FUSE, a disk under load), and for strict
 * and soft read/write locks with thousands of members, since an attempt reads the record of each. The
 * loop then makes no call on a lock file. Callbacks still come from the loop, and the program does not
 * need evthread_use_pthreads(3). The rules above hold, with these additions:
 *  - A deadline is kept while a call does not return. The request then ends with -ETIMEDOUT, at
 *    most a second late, without a last attempt. Cancelling, closing and freeing wait for no
 *    worker. A lock that a worker wins afterwards is released.
 *  - A path whose calls do not return costs one worker for all its attempts, and one for each
 *    release and each closing of its file that is under way. When no worker is left, all other
 *    paths wait as well.
 *  - filelock_release and filelock_close make their system calls on the calling thread. Release by
 *    evfilelock_release, and close after its callback.
 *  - The callback of a set that fails, also by its deadline or a cancel, comes after workers have
 *    released the locks that the set had taken, in any order, or when the context is freed.
 *  - The loop attempts and releases locks on a descriptor of the caller's (filelock_open_fd).
 *  - max_fds does not limit the number of descriptors. A request that gets none fails with EMFILE
 *    or ENFILE. The log of slow waits does not name the holder.
 *  - A worker whose call never returns stays until the process ends. Workers block all signals.
 *    fork(2) waits at most two seconds for a worker in open(2) or inside SQLite, and whoever
 *    opens or closes a lock file meanwhile for about a tenth of one. A child has no workers; the
 *    memory that they used stays allocated there.
 */
#ifndef FILELOCK_EVENT_H
#define FILELOCK_EVENT_H

#include <stdio.h>
#include <sys/time.h>

#include <filelock/filelock.h>

#ifdef __cplusplus
extern "C" {
#endif

struct event_base;
struct evfilelock;

/* lock: the handle of the request, borrowed. result: 0 if the lock is held, else the error. */
typedef void (*evfilelock_cb)(struct filelock *lock, int result, void *arg);

/*
 * Options of a context. Begin with EVFILELOCK_OPTIONS_INIT. A member that the header of the
 * program's compilation lacked has its default.
 */
struct evfilelock_options {
	size_t size; /* sizeof(struct evfilelock_options), by EVFILELOCK_OPTIONS_INIT */

	/* Number of threads that make the attempts: see "Workers". At most 256. 0: none. */
	unsigned workers;

	/*
	 * How many descriptors of lock files waiting requests may keep. The first request of each
	 * queue keeps one, so that an event wakes it. A request beyond that number polls, in turn
	 * with the others, until another one finishes: at poll_interval_ms or, by default, so that
	 * all of them together make about 1,000 attempts a second (ten times as many where the
	 * file system belongs to other machines too). Between its polls a writer of a read/write
	 * lock keeps no new readers out. 0: three quarters of RLIMIT_NOFILE when the context is
	 * made.
	 *
	 * The process may run out of descriptors all the same (EMFILE, ENFILE). A request that
	 * keeps one then gives it to the one that needs it. The error is reported only if no
	 * request keeps one. The system limits the number of watches
	 * (fs.inotify.max_user_watches); requests beyond it poll as well.
	 *
	 * Only requests that wait are counted: not holds, nor files that stay open between holds (option
	 * keep_open). Whoever keeps many of those calls filelock_drop.
	 */
	unsigned max_fds;

	/*
	 * Hand-over inside the process. A lock that this context granted may be released on the
	 * loop's thread while the next request in its queue waits for the same mode. That request
	 * then gets the hold, after a look whether the path still names the file, and no other
	 * process comes in between. One hold from the system serves at most handover_max requests
	 * in a row (0: 256; 1: every request takes the lock from the system), and is handed over
	 * only within handover_us microseconds of its beginning (0: 2000), so that other processes
	 * get their turn.
	 *
	 * Locks with the option lifetime_ms are never handed over, nor are holds between handles
	 * whose options of the file or of its release differ. The look at a native lock sees
	 * whether the file was renamed or removed; only the next hold from the system sees that
	 * its folder was. From the release until its callback the next request's handle has the
	 * hold: filelock_acquire of a third handle, on the loop's thread, then fails (-ETIMEDOUT,
	 * or -EDEADLK for an endless wait).
	 */
	unsigned handover_max;
	unsigned handover_us;

	/*
	 * A wait that lasts longer than this many milliseconds is logged once, as a warning
	 * (filelock_set_log): its path, its time, how many requests wait behind it, and who holds
	 * the lock. One queue logs only its first request, and at most one in that time. The
	 * search for the holder reads /proc/locks (filelock_holder), so it is made at most ten
	 * times a second. Without workers the loop makes it, also on a file system that may not
	 * answer: where that may be, use workers. 0: never.
	 */
	unsigned slow_wait_ms;

	/* Priority of the context's events, as in event_priority_set(3). -1: the base's default. */
	int priority;
};
#define EVFILELOCK_OPTIONS_INIT { sizeof(struct evfilelock_options), 0, 0, 0, 0, 0, -1 }

/*
 * Makes a context.
 *
 * base     borrowed; it must outlive the context. Call evfilelock_free before event_base_free; an
 *          assertion of debug builds finds the wrong order if the context waits for something.
 * options  copied; NULL for the defaults.
 *
 * Returns the context, owned by the caller, or NULL with errno: EINVAL (no base, or an option is out
 * of its range), ENOMEM; with workers also EMFILE and EAGAIN (no more threads).
 * filelock_last_error(NULL) says why.
 */
FILELOCK_API struct evfilelock *evfilelock_new(struct event_base *base,
                                               const struct evfilelock_options *options);

/*
 * Asks for the lock.
 *
 * lock     borrowed until the callback. Until then no call but filelock_close may use it. A handle
 *          that already holds the lock in this mode gets one level more.
 * timeout  from now, copied. NULL: wait for ever. Zero: one attempt. The deadline is kept on
 *          CLOCK_MONOTONIC, to the resolution of the base's timers. One attempt is made at the
 *          deadline, also by a loop that was blocked for seconds.
 * cb       not NULL.
 *
 * Returns 0, or an error: -EINVAL, -ENOMEM, -EALREADY (this handle has a request pending), -EDEADLK
 * (it holds the lock in the other mode), FILELOCK_ELOST (it holds a lock in etcd that is lost),
 * -ECANCELED (the context is being freed), FILELOCK_EFORKED (context or handle is the parent's). The
 * callback reports the errors of filelock_acquire.
 */
FILELOCK_API int evfilelock_acquire(struct evfilelock *ev, struct filelock *lock,
                                    enum filelock_mode mode, const struct timeval *timeout,
                                    evfilelock_cb cb, void *arg);

/*
 * Cancels the pending request of this handle in this context, or the pending set that the handle
 * belongs to. The callback comes with -ECANCELED, from the loop. The time of this call grows with
 * the number of pending sets only.
 *
 * Returns 0; -ENOENT (nothing is pending here, or it was cancelled before), -EINVAL (NULL),
 * FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_cancel(struct evfilelock *ev, struct filelock *lock);

/*
 * set     a copy in the caller's order, valid until the callback returns.
 * result  0: all locks are held. Otherwise the error, and none is held, unless unlocking one
 *         failed; that is logged, and filelock_is_held tells.
 * failed  the lock at which the set ended: the one that failed, that was waited for when the set
 *         was cancelled, or whose handle was closed. NULL if result is 0.
 */
typedef void (*evfilelock_all_cb)(struct filelock *const *set, size_t n, int result,
                                  struct filelock *failed, void *arg);

/*
 * Asks for all locks of a set, or none. The locks are taken one after the other, in the order of
 * their kinds and paths, whatever their order in the set. Locks that were taken are held while the
 * rest is waited for. If the set fails they are released, last first.
 *
 * Programs that take several locks at once by this call alone never wait for each other in a
 * circle, in one process or many, on two conditions: they open the locks by the same paths (a path
 * through a symbolic link, or a descriptor, has no place in the common order), and no set has one
 * file under two names.
 *
 * set      copied. Each handle is borrowed as `lock` of evfilelock_acquire; none may hold its
 *          lock. Closing a handle of the set cancels the set; if its lock was taken already, at the
 *          latest when the last lock is.
 * n        at least 1. A set costs one pending request, one turn of the loop for each lock, and
 *          16 bytes for each lock.
 * timeout  for all locks together, as in evfilelock_acquire. At the deadline one attempt is made
 *          at each lock that is missing, until one is found held.
 *
 * evfilelock_cancel with any handle of the set cancels the set.
 *
 * Returns 0, or an error of evfilelock_acquire; -EDEADLK if two handles name the same lock, or one
 * holds its lock. filelock_last_error of each handle says which lock was refused. The callback reports
 * whatever fails when a lock's turn comes, also -EALREADY and -ENOMEM.
 */
FILELOCK_API int evfilelock_acquire_all(struct evfilelock *ev, struct filelock *const *set,
                                        size_t n, enum filelock_mode mode,
                                        const struct timeval *timeout, evfilelock_all_cb cb,
                                        void *arg);

/* Completes what is pending (rule 3), and frees the context, before its base is freed. NULL is allowed.
   Handles keep the locks that they were granted; nobody renews the times of their files, refreshes
   their leases or watches over them any more. In a forked child no callback comes. */
FILELOCK_API void evfilelock_free(struct evfilelock *ev);

#define EVFILELOCK_WAIT_BUCKETS 32

/* Counts of a context. */
struct evfilelock_stats {
	size_t size; /* sizeof(struct evfilelock_stats), by EVFILELOCK_STATS_INIT */

	/* Now. */
	uint64_t waiting;       /* requests without an answer */
	uint64_t held;          /* granted holds that have not ended; a nested one counts once */
	uint64_t queues;        /* locks that requests wait for */
	uint64_t longest_queue; /* requests for one lock */

	/* Since evfilelock_new. */
	uint64_t longest_queue_ever;
	uint64_t requested;      /* calls of evfilelock_acquire that returned 0 */
	uint64_t granted;        /* answers with 0 */
	uint64_t timed_out;      /* answers with -ETIMEDOUT */
	uint64_t cancelled;      /* answers with -ECANCELED */
	uint64_t failed;         /* answers with any other error */
	uint64_t handed_over;    /* grants by hand-over: options.handover_max */
	uint64_t attempts;       /* at the lock itself; one that raced and is repeated counts once */
	uint64_t wakes_by_event; /* of a queue, by an event on its lock */
	uint64_t wakes_by_poll;  /* of a queue, by its timer: a back-off or a poll */

	/* Grants after a wait that the timer found without an event. A few happen when both are due
	   at the same moment. Many mean that events do not come: releases on other machines or
	   through other mounts, or watches and descriptors that run out. Such grants are late by
	   up to poll_interval_ms. */
	uint64_t missed_wakeups;

	uint64_t slow; /* waits longer than options.slow_wait_ms */

	/* How long granted requests had waited, from evfilelock_acquire to the attempt that
	   succeeded, in whole microseconds us. waits[0] counts us == 0; waits[i] counts
	   2^(i-1) <= us < 2^i; the last bucket counts everything longer. */
	uint64_t waits[EVFILELOCK_WAIT_BUCKETS];
};
#define EVFILELOCK_STATS_INIT                                                                  \
	{ sizeof(struct evfilelock_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 } }

/*
 * Copies the counts. Any thread may call this, as often as it likes: the loop waits for nobody here,
 * and the time does not grow with the number of requests. While the loop runs on another thread each
 * count is right for some moment of the call, and the answers are never more than the requests. The
 * call must return before evfilelock_free begins. In a forked child the loop's thread calls first.
 *
 * Returns 0; -EINVAL (ev is NULL, or size was never set), FILELOCK_EFORKED (the context is the
 * parent's).
 */
FILELOCK_API int evfilelock_get_stats(struct evfilelock *ev, struct evfilelock_stats *ret_stats);

/*
 * Writes counts as text that Prometheus reads, for an HTTP answer (open_memstream(3)) or a file. The
 * waits become a histogram in seconds, without a sum.
 *
 * stats   of evfilelock_get_stats; any thread may write them.
 * labels  of every line, as `service="db"`; NULL: none. Written as they are, so escape them before.
 * file    the caller's; it is neither flushed nor closed.
 *
 * Returns 0; -EINVAL (no stats, no file, or stats of another version of the header); -EIO, the file
 * has an error.
 */
FILELOCK_API int evfilelock_stats_write(const struct evfilelock_stats *stats, const char *labels,
                                        FILE *file);

enum evfilelock_trace_what {
	EVFILELOCK_TRACE_REQUESTED = 0, /* evfilelock_acquire returned 0 */
	EVFILELOCK_TRACE_WOKEN,         /* an event woke the first request of a queue */
	EVFILELOCK_TRACE_POLLED,        /* its timer woke the first request of a queue */
	EVFILELOCK_TRACE_ATTEMPTED,     /* result: 0 held, > 0 held by another, < 0 an error */
	EVFILELOCK_TRACE_GRANTED,       /* result of these four: that of the callback */
	EVFILELOCK_TRACE_TIMED_OUT,
	EVFILELOCK_TRACE_CANCELLED,
	EVFILELOCK_TRACE_FAILED,
	EVFILELOCK_TRACE_RELEASED /* a release or close ended the hold of a granted request */
};

/* One step of a request; valid during the call. */
struct evfilelock_trace_event {
	size_t size;
	enum evfilelock_trace_what what;
	int result;
	const char *path;    /* as filelock_path */
	uint64_t request;    /* number in its context, from 1 */
	int64_t time;        /* CLOCK_MONOTONIC, ns */
	size_t queue_length; /* requests that wait for this lock, this one included if it waits */
	enum filelock_mode mode;
	bool nested; /* the handle held the lock already: no release of its own follows */
};

typedef void (*evfilelock_trace_cb)(const struct evfilelock_trace_event *event, void *arg);

/*
 * Calls cb for everything that happens to the requests of the context from now on. NULL: no more.
 * cb sees an answer just before the request's callback. cb runs on the loop's thread, inside calls
 * of the library such as evfilelock_acquire and filelock_release, so it must not call the library.
 * The loop reports a release on another thread, with the time of the release, unless it comes
 * after evfilelock_free. A context has one cb; arg is borrowed until another one is set or the context
 * is freed.
 *
 * Returns 0; -EINVAL (ev is NULL), FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_set_trace(struct evfilelock *ev, evfilelock_trace_cb cb, void *arg);

/* A file in Chrome's trace-event format, for Perfetto or chrome://tracing. */
struct evfilelock_trace;

/*
 * Makes or empties the file at path, for
 *
 *	evfilelock_set_trace(ev, evfilelock_trace_write, trace);
 *
 * Each path is a thread in the file. Attempts and wake-ups are instants there. Waits and holds are
 * async events of the categories "waiting" and "held", under the number of the request. A byte of a
 * path that is not UTF-8 becomes the lone surrogate U+DC00 + byte, as in Python's surrogateescape.
 * One trace serves one context, on the thread of its loop. Writes block, 64 KiB at a time. After one
 * that fails nothing more is written, and the locks work on. A forked child writes nothing.
 *
 * Returns 0; -EINVAL, -ENOMEM, or an error of open(2). The trace is the caller's: free it with
 * evfilelock_trace_close.
 */
FILELOCK_API int evfilelock_trace_open(const char *path, struct evfilelock_trace **ret_trace);

/* An evfilelock_trace_cb, with the trace as its arg. */
FILELOCK_API void evfilelock_trace_write(const struct evfilelock_trace_event *event, void *trace);

/* Writes what is buffered, for a look at a trace that goes on: viewers need no end of the file. On the
   thread of its context's loop. Returns 0, or the first error since the trace was opened; -EINVAL for
   NULL. A forked child writes nothing. */
FILELOCK_API int evfilelock_trace_flush(struct evfilelock_trace *trace);

/* Completes the file and frees the trace, also after an error. No context may use it any more: call
   evfilelock_set_trace or evfilelock_free before. NULL is allowed. Returns 0, or the first error since
   the trace was opened. A forked child writes nothing. */
FILELOCK_API int evfilelock_trace_close(struct evfilelock_trace *trace);

/*
 * Releases one level of a hold, however it was acquired, and reports the result by callback, from
 * the loop. Until then no call but filelock_close may use the handle. A worker makes the system
 * calls; without workers this call makes them.
 *
 * result of cb: 0; FILELOCK_ELOST, released, but lost before (filelock_release); another error, and the
 * lock is still held; -ECANCELED: the context was freed, and the release goes on without it.
 *
 * Returns 0, and cb is called exactly once. An error, and cb is never called: -EINVAL, -EPERM (not
 * held), -ENOMEM, -ECANCELED (the context is being freed), FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_release(struct evfilelock *ev, struct filelock *lock,
                                    evfilelock_cb cb, void *arg);

/* result: 0, and owner is valid during the call; or an error of filelock_holder, and owner is
   NULL. */
typedef void (*evfilelock_holder_cb)(struct filelock *lock, int result,
                                     const struct filelock_owner *owner, void *arg);

/*
 * Finds the holder of the lock, as filelock_holder does, without blocking the loop: on a worker, or
 * else on a thread that the context starts at the first question. The handle may be used meanwhile.
 * result -ECANCELED: the context was freed.
 *
 * Returns 0, and cb is called exactly once, from the loop. An error, and cb is never called:
 * -EINVAL, -ENOMEM, -EMFILE, -EAGAIN (no thread), -ENOTSUP (a lock in etcd), -ECANCELED (the context
 * is being freed), FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_holder(struct evfilelock *ev, struct filelock *lock,
                                   evfilelock_holder_cb cb, void *arg);

/*
 * Calls cb with FILELOCK_ELOST, once and from the loop, when the handle's hold is lost: somebody
 * removed, renamed or replaced its file or renamed its folder, so that others may hold the lock, too.
 * cb is never called after the release, nor after evfilelock_free. Events report a loss within
 * milliseconds. Where none comes (a folder further up was renamed; network file systems; no more
 * watches) the context finds it by a look once a second.
 * Any call may have acquired the hold. While it lasts, the loop has something to wait for, and renews
 * the times of the held file, as it does for holds that it granted (filelock.h). cb NULL: no more.
 *
 * Returns 0, or an error: -EINVAL, -EPERM (not held), -EALREADY (the hold has a cb already),
 * -ENOTSUP (filelock_open_fd), -ENOMEM, -ECANCELED (the context is being freed), FILELOCK_EFORKED.
 */
FILELOCK_API int evfilelock_on_lost(struct evfilelock *ev, struct filelock *lock, evfilelock_cb cb,
                                    void *arg);

#ifdef __cplusplus
}
#endif

#endif
