/*
 * driver.h - the acquisition as a state machine, for other event loops.
 *
 * filelock_acquire and the libevent library use the functions below; another loop needs no more.
 * The machine never sleeps, reads no clock and knows no loop:
 *
 *	deadline = filelock_deadline(filelock_now(), timeout);
 *	r = filelock_begin(lock, mode, deadline, &driver, arg);
 *	while (r == 0) {
 *		r = filelock_step(lock, filelock_now(), &until);
 *		if (r <= 0)
 *			break;                  (held, or failed)
 *		sleep until `until`, or until filelock_watcher_fd() is readable, and then
 *		call filelock_watcher_dispatch();
 *		r = 0;
 *	}
 *	tell the user; filelock_watcher_tidy(driver.watcher);
 *
 * Times are nanoseconds on CLOCK_MONOTONIC. A driver may step at any time: a step that comes early
 * makes no attempt and gives the same `until` again.
 *
 * These functions have a symbol version of their own, which is the version of the library. They
 * may change with it.
 *
 * Threads. The rules of filelock.h hold. One thread at a time reads a watcher's descriptor and
 * dispatches it. Other threads may step acquisitions meanwhile, each acquisition on one thread at a
 * time; the dispatching thread then calls `woken`.
 */
#ifndef FILELOCK_DRIVER_H
#define FILELOCK_DRIVER_H

#include <filelock/filelock.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An inotify instance and its watches, for any number of acquisitions of one loop. */
struct filelock_watcher;

/* The callbacks and the watcher of a driver; the same for all its acquisitions. */
struct filelock_driver {
	struct filelock_watcher *watcher; /* borrowed; NULL: only poll */

	/* An event has woken this acquisition: step it soon. Called by filelock_watcher_dispatch,
	   so it may only take a note. May be NULL. */
	void (*woken)(struct filelock *lock, void *arg);

	/* filelock_close was called during the acquisition: give it up, from the loop. The handle
	   lives until the driver's reference (filelock_ref) is gone. May be NULL. */
	void (*closing)(struct filelock *lock, void *arg);

	/* An attempt got no descriptor (EMFILE, ENFILE). Return true if another acquisition has
	   given one back: this one then goes on. Return false to let it fail. Called by
	   filelock_step. May be NULL. */
	bool (*out_of_fds)(struct filelock *lock, void *arg);
};

#define FILELOCK_NEVER INT64_MAX

enum filelock_step {
	FILELOCK_STEP_HELD = 0,
	FILELOCK_STEP_WAIT = 1, /* an attempt found the lock held by another */
	FILELOCK_STEP_EARLY = 2 /* no attempt was due, or none was completed */
};

/* The time on the library's clock, ns. The time timeout_ns after now; with a timeout below zero
   FILELOCK_NEVER. Any thread may call them. */
FILELOCK_API int64_t filelock_now(void);
FILELOCK_API int64_t filelock_deadline(int64_t now, int64_t timeout_ns);

/*
 * Begins an acquisition without an attempt.
 *
 * deadline  one that is not after the first step's time allows one attempt.
 * driver    borrowed until the acquisition is over; NULL: only poll.
 *
 * arg       for the driver's callbacks.
 *
 * A handle that already holds the lock in this mode gets one level more at its first step.
 * Returns 0, -EALREADY (an acquisition is under way), -ECANCELED (the handle is closed), -EDEADLK (it
 * holds the lock in the other mode), FILELOCK_ELOST, -EINVAL or FILELOCK_EFORKED.
 */
FILELOCK_API int filelock_begin(struct filelock *lock, enum filelock_mode mode,
                                int64_t deadline, const struct filelock_driver *driver,
                                void *arg);

/*
 * Makes at most one attempt, which does not block. Returns FILELOCK_STEP_HELD; or another step,
 * with the time of the next one in *ret_until (not after `now`: at once), unless an event comes
 * before; or an error of filelock_acquire, -EINVAL if no acquisition is under way, FILELOCK_EFORKED in a
 * forked child. The acquisition is over after FILELOCK_STEP_HELD and after an error.
 */
FILELOCK_API int filelock_step(struct filelock *lock, int64_t now, int64_t *ret_until);

/* Ends an acquisition before its end, and drops all that it has. Notes `error` for
   filelock_last_error and returns it; without an acquisition only returns it. */
FILELOCK_API int filelock_give_up(struct filelock *lock, int error);

/* filelock_ref keeps a handle alive beyond filelock_close; filelock_unref frees a closed one. Any
   thread may call them. */
FILELOCK_API void filelock_ref(struct filelock *lock);
FILELOCK_API void filelock_unref(struct filelock *lock);

/* A watcher has no descriptor until its first watch. The caller owns it. No acquisition may use
   it when it is freed; filelock_watcher_free(NULL) is allowed. Returns 0 or -ENOMEM. In a forked child
   its descriptors are closed or idle: free it there, and make another one. */
FILELOCK_API int filelock_watcher_new(struct filelock_watcher **ret_watcher);
FILELOCK_API void filelock_watcher_free(struct filelock_watcher *watcher);

/* The descriptor to wait on for reading, owned by the watcher; -1: there is none yet. Ask after
   each step: another one may replace it, while the old one stays open. */
FILELOCK_API int filelock_watcher_fd(struct filelock_watcher *watcher);

/* Gives watches back to the system that no acquisition needs any more. That takes longer than
   the lock itself, so call it after the callbacks of the users. */
FILELOCK_API void filelock_watcher_tidy(struct filelock_watcher *watcher);

/* Reads the events and wakes the acquisitions concerned. Never blocks. */
FILELOCK_API void filelock_watcher_dispatch(struct filelock_watcher *watcher);

#ifdef __cplusplus
}
#endif

#endif
