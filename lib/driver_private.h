/*
 * driver_private.h - what async/ needs of lib/ beyond driver.h. Not installed.
 *
 * The symbols stand in a node that carries the exact version: both libraries come from one build.
 */
#ifndef FILELOCK_DRIVER_PRIVATE_H
#define FILELOCK_DRIVER_PRIVATE_H

#include <filelock/driver.h>

#include "base/list.h"

struct kind;

/* --- kinds of another library --- */

/*
 * Makes a handle of a kind (kind.h). path: what filelock_path gives; taken over. options: checked here,
 * but for what the kind has no use for. state: what the handle's own begins as, before the kind's
 * `open`. Returns 0 or an error, which is the thread's last.
 */
FILELOCK_API int filelock_open_kind(const struct kind *kind, char *path,
                                    const struct filelock_options *options, const void *state,
                                    struct filelock **ret_lock);
FILELOCK_API void *filelock_state(const struct filelock *lock);

/* The step of a pending attempt: it goes on by itself, and `woken` is called. */
#define FILELOCK_STEP_PENDING 3
/* How long the last attempt may stay pending after the deadline. */
#define FILELOCK_PENDING_GRACE INT64_C(1000000000)

/* Whether attempts at the lock are pending, as a rule. */
FILELOCK_API bool filelock_pends(const struct filelock *lock);
/* By the kind: an attempt that was pending has an answer. */
FILELOCK_API void filelock_rouse(struct filelock *lock);
/* By the kind, in a try: the deadline has come. */
FILELOCK_API bool filelock_makes_last_attempt(const struct filelock *lock);
/* By the kind: what verify says of the hold has changed. */
FILELOCK_API void filelock_hold_changed(struct filelock *lock);
/* Notes a failure of the handle, with a detail if there is one, and returns its code. */
FILELOCK_API int filelock_fail(struct filelock *lock, int code, const char *what,
                               const char *detail);
/* The same for a call that returns no handle: filelock_last_error(NULL). */
FILELOCK_API int filelock_fail_open(int code, const char *path, const char *detail);

/* --- acquisitions and holds --- */

/* filelock_begin for a thread that sleeps meanwhile, and so could wait for itself. It has no driver
   until filelock_set_driver, after the first step. */
FILELOCK_API int filelock_begin_blocking(struct filelock *lock, enum filelock_mode mode,
                                         int64_t deadline);
FILELOCK_API void filelock_set_driver(struct filelock *lock,
                                      const struct filelock_driver *driver);

/* Whether an attempt of the acquisition found the lock held. */
FILELOCK_API bool filelock_is_contended(const struct filelock *lock);

/* The eventfd that filelock_interrupt writes to, -1: none. Whether it was called since the last
   question. */
FILELOCK_API void filelock_set_wake_fd(struct filelock *lock, int fd);
FILELOCK_API bool filelock_take_interrupt(struct filelock *lock);

FILELOCK_API const struct filelock_options *filelock_options(const struct filelock *lock);

/* Notes a refusal for filelock_last_error, and returns its code. */
FILELOCK_API int filelock_refuse(struct filelock *lock, int code, const char *what);
/* The same for a call without a handle, and filelock_last_error(NULL): "cannot make a context: ...". */
FILELOCK_API int filelock_refuse_call(int code, const char *what, const char *of, const char *detail);
/* filelock_last_error(NULL) gives the last failure of this handle from now on. */
FILELOCK_API void filelock_note_open_failure(const struct filelock *lock);

/* filelock_holder that notes no failure; ret_owner is FILELOCK_OWNER_INIT. */
FILELOCK_API int filelock_look_for_holder(const struct filelock *lock,
                                          struct filelock_owner *ret_owner);

/* Makes the next step attempt at once. */
FILELOCK_API void filelock_hasten(struct filelock *lock);

/*
 * Moves a hold of one level to another handle of the same lock whose acquisition is under way. The
 * next step of that handle says held; giving up, or closing the handle, releases the lock. No
 * system call is made, so nobody else sees that the owner changed. Returns false, with nothing
 * done, if the two differ in the mode or in an option of the file or of its release, or if there is
 * no such hold.
 */
FILELOCK_API bool filelock_hand_over(struct filelock *from, struct filelock *to);

/* Says that an acquisition without a step yet follows the release of another handle in one
   queue. It takes over what that handle knows about other waiters. */
FILELOCK_API void filelock_follow(struct filelock *lock, const struct filelock *predecessor);

/* Calls at the end of a hold, on the thread that releases. */
struct filelock_listener {
	/* The last level is about to be released: whether another request wants the hold. */
	bool (*wants)(struct filelock *lock, void *arg);
	/* The path still names the file: true if filelock_hand_over has moved the hold away. */
	bool (*take)(struct filelock *lock, void *arg);
	/* The hold is over, or the handle goes without an unlock: in a forked child, or because
	   unlocking failed. */
	void (*ended)(struct filelock *lock, void *arg);
	/* The last level is being released: whether the descriptor is to stay open, for filelock_lend.
	   NULL: it is not. */
	bool (*keeps)(struct filelock *lock, void *arg);
};

/* Sets the listener of the present hold, borrowed until the hold has ended. NULL: none. */
FILELOCK_API void filelock_set_listener(struct filelock *lock, const struct filelock_listener *listener,
                                    void *arg);

/* Whether an acquisition keeps neither descriptor nor watch between its attempts, and only
   polls. It gives back at once what it has. */
FILELOCK_API void filelock_set_poll_only(struct filelock *lock, bool poll_only);
FILELOCK_API bool filelock_is_poll_only(const struct filelock *lock);

/* Ends a hold that filelock_hand_over has moved away for good: the listener, which stays with the
   handle, gets its `ended`. */
FILELOCK_API void filelock_end_hold(struct filelock *lock);

/* Whether the present hold was asked for within 10 ms of the handle's last one. */
FILELOCK_API bool filelock_comes_again(const struct filelock *lock);
/* Whether an unlocked handle keeps its descriptor open; and moves that to another one of the same
   lock that has none and holds nothing. False: it was not moved. */
FILELOCK_API bool filelock_is_warm(const struct filelock *lock);
FILELOCK_API bool filelock_lend(struct filelock *from, struct filelock *to);

/* The mode of the present hold. */
FILELOCK_API enum filelock_mode filelock_mode(const struct filelock *lock);

/* Makes another handle of the same lock and options, for attempts on another thread;
   filelock_hand_over moves its hold. Close it by filelock_close. It is no singleton. Returns 0 or
   -ENOMEM. */
FILELOCK_API int filelock_clone(const struct filelock *lock, struct filelock **ret_lock);

/* The argument of the acquisition that is under way for this driver; NULL: none is. */
FILELOCK_API void *filelock_driver_arg(const struct filelock *lock,
                                       const struct filelock_driver *driver);

/* Whether the handle is on a descriptor of the caller: filelock_open_fd. */
FILELOCK_API bool filelock_is_borrowed(const struct filelock *lock);

/* Whether the handle ends others' holds by their age: the option lifetime_ms. */
FILELOCK_API bool filelock_has_lifetime(const struct filelock *lock);

/* A total order of locks, 0 for handles that name the same lock; and a hash that agrees. */
FILELOCK_API int filelock_compare(const struct filelock *a, const struct filelock *b);
FILELOCK_API size_t filelock_hash(const struct filelock *lock);

/* True in a forked child, for what was made before the fork. */
FILELOCK_API bool filelock_is_inherited(const struct filelock *lock);

/* Whether the acquisition that has just ended with held had waited, and a poll found the lock free
   without an event. */
FILELOCK_API bool filelock_missed_wakeup(const struct filelock *lock);

/* Whether somebody listens to the log; and writes to it: filelock_set_log. */
FILELOCK_API bool filelock_logs(enum filelock_log_level level);
FILELOCK_API void filelock_log(enum filelock_log_level level, const char *format, ...)
#if defined(__GNUC__)
        __attribute__((format(printf, 2, 3)))
#endif
        ;

/* --- a hold that is kept alive --- */

/* What is noted at the grant, for the handle that keeps the hold alive. */
struct filelock_kept {
	const struct kind *kind;
	uint64_t dev, ino;
	int64_t since;
};

/* How long after the grant the hold must first be kept alive, in ns, and what to note. FILELOCK_NEVER:
   it needs nothing, and *ret_kept may be as it was. */
FILELOCK_API int64_t filelock_keep_after(const struct filelock *lock,
                                         struct filelock_kept *ret_kept);
/* A clone of a handle that may be used elsewhere, and may hold no more, to keep that hold alive. 0, or
   -ENOMEM. */
FILELOCK_API int filelock_keeper_new(const struct filelock *lock, const struct filelock_kept *kept,
                                     struct filelock **ret_keeper);
/* Makes a clone the hold's keeper. */
FILELOCK_API void filelock_keeper_set(struct filelock *keeper, const struct filelock_kept *kept);
/* On any thread. When to call next, FILELOCK_NEVER, or an error: FILELOCK_ELOST. */
FILELOCK_API int64_t filelock_keep(struct filelock *keeper, int64_t now);

/* --- a hold that is watched: whether its path names its file yet --- */

struct filelock_lost;

/* Of a hold that nobody watches (else -EALREADY). proxy: a clone of the handle, borrowed; what
   happens to the file wakes it. NULL where attempts are pending: the kind calls `changed`. ended:
   called once when the hold ends first, on the thread that releases it. 0, -ENOTSUP (a descriptor
   of the caller's has no path), -ENOMEM. */
FILELOCK_API int filelock_lost_new(struct filelock *lock, struct filelock *proxy,
                                   void (*ended)(void *arg), void (*changed)(void *arg),
                                   void *arg, struct filelock_lost **ret_lost);
/* The arg of whoever watches the hold; NULL: nobody. */
FILELOCK_API void *filelock_lost_arg(const struct filelock *lock);
/* The end of the hold is of no interest any more. False: it has ended, and `ended` was called, or is
   to be called yet. */
FILELOCK_API bool filelock_lost_detach(struct filelock_lost *lost);
/* On any thread. Subscribes to what may befall the file, where it is not subscribed. Events do not tell
   all: look from time to time. */
FILELOCK_API void filelock_lost_watch(struct filelock_lost *lost, struct filelock_watcher *watcher);
/* On any thread. 0, FILELOCK_ELOST, or an error: it cannot be told. */
FILELOCK_API int filelock_lost_check(const struct filelock_lost *lost);
/* Detached. */
FILELOCK_API void filelock_lost_free(struct filelock_lost *lost);
FILELOCK_API void filelock_lost_forget(struct filelock_lost *lost);

/* --- watchers --- */

/* How many waiters watch through it: none, and its descriptor has nothing to tell. */
FILELOCK_API size_t filelock_watcher_load(struct filelock_watcher *watcher);

/* True in a forked child, for a watcher made before the fork: its descriptor is an idle one. */
FILELOCK_API bool filelock_watcher_is_inherited(const struct filelock_watcher *watcher);

/* --- fork --- */

/* Another number in each forked child: what carries another one was made by the parent. */
FILELOCK_API unsigned filelock_generation(void);

/* A descriptor that is no lock's. A forked child closes it, or puts an idle one in the
   place of one that may be registered with an event loop. */
struct filelock_guarded_fd {
	struct list link;
	int fd; /* -1: none, and in no list */
	bool keep_number;
};
FILELOCK_API void filelock_guard_fd(struct filelock_guarded_fd *entry, int fd, bool keep_number);
/* A timerfd, an eventfd, not blocking, with its number kept. 0, or a negative error. */
FILELOCK_API int filelock_guard_timerfd(struct filelock_guarded_fd *entry);
FILELOCK_API int filelock_guard_eventfd(struct filelock_guarded_fd *entry);
/* Lets a timerfd wake after so many nanoseconds, at once if there are none. */
FILELOCK_API int filelock_set_timerfd(const struct filelock_guarded_fd *entry, int64_t delay);
/* Of no interest any more; whoever owns the descriptor closes it. Idempotent. */
FILELOCK_API void filelock_unguard_kept_fd(struct filelock_guarded_fd *entry);
/* Closes it. Idempotent. */
FILELOCK_API void filelock_unguard_fd(struct filelock_guarded_fd *entry);

/* The table that the library makes its system calls by (base/sys.h), so that tests can make
   those of async/ fail, too. On 32 bit a struct timespec or stat is another one there than here: none may
   go through. */
struct sys_table;
FILELOCK_API const struct sys_table *filelock_sys(void);

#endif
