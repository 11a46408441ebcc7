/*
 * driver.h - the acquisition as a state machine, for event loops to drive.
 *
 * filelock_acquire and the libevent library drive the very functions below; another loop needs
 * no more. The machine never sleeps, reads no clock and knows no loop:
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
 * Times are nanoseconds on CLOCK_MONOTONIC. A step that comes early, with nothing stirred,
 * makes no attempt and says the same `until` again, so a driver may step whenever it likes.
 *
 * The functions have a symbol version of their own, that of the library: they may change
 * with it. They follow the thread rules of filelock.h. A watcher's descriptors and its dispatch
 * belong to one thread at a time; acquisitions may be stepped on others meanwhile, each on one at a
 * time. What is told of it (`stirred`) then comes from the dispatching thread.
 */
#ifndef FILELOCK_DRIVER_H
#define FILELOCK_DRIVER_H

#include <filelock/filelock.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An inotify instance and its watches, for any number of acquisitions of one loop. */
struct filelock_watcher;

/* What a driver tells the machine, the same for all its acquisitions. */
struct filelock_driver {
	struct filelock_watcher *watcher; /* borrowed; NULL: only poll */

	/* What this acquisition waits for stirred: step it soon. Called from within
	   filelock_watcher_dispatch: must only take note. May be NULL. */
	void (*woken)(struct filelock *lock, void *arg);

	/* filelock_close was called during the acquisition: give it up (from the loop). The
	   handle lives until the driver's reference (filelock_ref) is gone. May be NULL. */
	void (*closing)(struct filelock *lock, void *arg);

	/* An attempt found no descriptor to be had (EMFILE, ENFILE). True: another acquisition
	   has given one back (filelock_set_poll_only), and this one goes on; false: it fails.
	   Called from within filelock_step. May be NULL. */
	bool (*out_of_fds)(struct filelock *lock, void *arg);
};

#define FILELOCK_NEVER INT64_MAX

enum filelock_step {
	FILELOCK_STEP_HELD = 0,
	FILELOCK_STEP_WAIT = 1, /* an attempt found it held by somebody */
	FILELOCK_STEP_EARLY = 2 /* no attempt was due, or none came to an end */
};

/* The time, by the library's own clock; and the time timeout_ns from now, below zero: never. */
FILELOCK_API int64_t filelock_now(void);
FILELOCK_API int64_t filelock_deadline(int64_t now, int64_t timeout_ns);

/*
 * Begins an acquisition; makes no attempt yet. A deadline that is not after the first step's
 * time allows one attempt. driver is borrowed until the acquisition is over; NULL: only
 * poll. A handle that holds the lock in this mode nests: its first step says held.
 * Errors: -EALREADY, -ECANCELED (closed), -EDEADLK, -EINVAL, FILELOCK_EFORKED.
 */
FILELOCK_API int filelock_begin(struct filelock *lock, enum filelock_mode mode,
                                int64_t deadline, const struct filelock_driver *driver,
                                void *arg);

/*
 * Makes at most one attempt, which does not block. Returns FILELOCK_STEP_HELD; one of the
 * other steps, and *ret_until, when to step again if nothing stirs (not after `now`: at once);
 * or the error. After held or an error the acquisition is over.
 */
FILELOCK_API int filelock_step(struct filelock *lock, int64_t now, int64_t *ret_until);

/* Ends an acquisition that has not ended by itself, dropping all it has; notes `error` for
   filelock_last_error and returns it. */
FILELOCK_API int filelock_give_up(struct filelock *lock, int error);

/* Keeps a handle alive beyond filelock_close; unref frees a closed one. From any thread. */
FILELOCK_API void filelock_ref(struct filelock *lock);
FILELOCK_API void filelock_unref(struct filelock *lock);

/* A watcher holds no descriptor until the first watch. filelock_watcher_free(NULL) is fine; no
   acquisition may be using it. */
FILELOCK_API int filelock_watcher_new(struct filelock_watcher **ret_watcher);
FILELOCK_API void filelock_watcher_free(struct filelock_watcher *watcher);

/* The descriptor to wait on for reading, or -1 as long as there is none. Ask after each step: it
   may become another one, while the one before stays open. */
FILELOCK_API int filelock_watcher_fd(struct filelock_watcher *watcher);

/* Gives back to the system what no acquisition watches any more. That takes longer than the lock
   itself, so call it when the users have been told. */
FILELOCK_API void filelock_watcher_tidy(struct filelock_watcher *watcher);

/* Reads what has happened and tells the acquisitions concerned. Never blocks. */
FILELOCK_API void filelock_watcher_dispatch(struct filelock_watcher *watcher);

#ifdef __cplusplus
}
#endif

#endif
