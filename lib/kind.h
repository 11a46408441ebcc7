/*
 * kind.h - a kind of lock: one table of functions, and a state of its own in the handle.
 *
 * Nothing outside a kind's file knows how it locks. A new kind is a new file and one row in
 * kinds.c.
 */
#ifndef FILELOCK_KIND_H
#define FILELOCK_KIND_H

#include <filelock/driver.h>

/* A file, as the kernel tells files apart; all zero: none. */
struct identity {
	dev_t dev;
	ino_t ino;
};

/* Result of an attempt, for kinds and their helpers; an error is below zero. */
enum attempt {
	ATTEMPT_HELD = 0,
	ATTEMPT_BUSY,       /* somebody holds it */
	ATTEMPT_RACED,      /* the file changed under us: try again at once */
	ATTEMPT_PENDING,    /* not known yet: the kind goes on by itself, and wakes the handle */
	ATTEMPT_ABSENT,     /* nothing stands at the path; only between a kind and its helpers */
	ATTEMPT_UNSUPPORTED /* this kind does not work here: the handle's failure says why */
};

struct kind {
	enum filelock_kind id;
	const char *name;
	size_t state_size; /* of kind_state(lock), zeroed at open */

	bool nests_in_thread; /* an exclusive hold nests only in the thread that took it */
	bool exclusive_only;
	unsigned least_poll_ms; /* the default poll interval is not shorter; 0: the usual one */
	bool expires; /* duration_ms and heartbeat_ms mean something */
	/* Attempts are pending, as a rule: filelock_rouse says that there is an answer, to be had by
	   the next try. The kind needs no poll, no watch and no fairness, and a thread cannot sleep
	   for it. */
	bool pends;
	/* The kind that serves instead where an attempt was ATTEMPT_UNSUPPORTED. May be NULL. */
	const struct kind *fallback;

	/* Checks the options and sets the state up; touches no file. */
	int (*open)(struct filelock *lock);
	/* The unlocked handle goes: frees what an abandoned one still has. May be NULL. */
	void (*close)(struct filelock *lock);
	/*
	 * One attempt that does not block: enum attempt. Unless it is held, busy or pending, nothing
	 * is kept.
	 *
	 * After one that is pending the next comes when the kind has called handle_wake (or, from
	 * another thread, inotify_give_notice), when the poll is due, and at the deadline. Abandoned, a
	 * pending one must come to nothing.
	 */
	int (*try)(struct filelock *lock, enum filelock_mode mode);
	/*
	 * In a crowd, after a busy try: waits in a queue of the system's from now on, where its turn
	 * comes sooner than by events, and tries are pending until then. An error: it cannot, and
	 * watches. May be NULL.
	 */
	int (*block)(struct filelock *lock, enum filelock_mode mode,
	             struct filelock_watcher *watcher);
	/* After a busy try: the longest wait, in ns, before the next one, watch or no watch; 0: the
	   poll interval. May be NULL. */
	int64_t (*retry_delay)(const struct filelock *lock);
	/* Called after a busy try: watches for the release; after a pending one, if it has been so
	   for a while: for what the kind would not learn otherwise. 1: newly; 0: it did already; an
	   error: only poll. */
	int (*watch)(struct filelock *lock, struct filelock_watcher *watcher);
	/* Takes the subscriptions back, if any; the lock may be held. */
	void (*unwatch)(struct filelock *lock);
	/* Drops what an unfinished acquisition keeps between attempts. */
	void (*abandon)(struct filelock *lock);
	/* Closes what an unlocked handle keeps for its next acquisition: filelock_drop. NULL: it
	   keeps nothing. */
	void (*drop)(struct filelock *lock);
	/* Whether it keeps that; and moves it to another handle: filelock_lend. NULL: it never does. */
	bool (*is_warm)(const struct filelock *lock);
	bool (*lend)(struct filelock *from, struct filelock *to);
	/* Unlocks. An error: still held. */
	int (*release)(struct filelock *lock);
	/*
	 * Keeps a hold alive (a heartbeat), and returns when to be called next, FILELOCK_NEVER, or an
	 * error: FILELOCK_ELOST, or any that ends it. On any thread, by a handle that does not hold: a
	 * clone that has the hold's held.identity and, as kept_at, what the holder's handle had at
	 * the grant; later calls get the same clone. Who has no loop calls verify, which does the
	 * same. NULL: a hold needs nothing.
	 */
	int64_t (*held)(struct filelock *keeper, int64_t now);
	/* The first call comes so many ns after the grant; FILELOCK_NEVER: none. No system call. */
	int64_t (*held_after)(const struct filelock *lock);
	/* 0, or FILELOCK_ELOST: what we hold is not what the path names. */
	int (*verify)(const struct filelock *lock);
	/* Why the hold is lost, or the last one was. NULL: what stands at the path says it. */
	enum filelock_loss (*loss)(const struct filelock *lock);
	/* Whether the hold is over by the clock, or by what the kind has heard. May be NULL: it is over
	   with its release. */
	bool (*is_over)(const struct filelock *lock);
	int (*holder)(const struct filelock *lock, struct filelock_owner *ret_owner);
	/* Who has another kind of lock on the file, which ours does not exclude; pid 0: not known. May
	   be NULL. */
	int (*bystander)(const struct filelock *lock, struct filelock_owner *ret_owner);
	/* The descriptor that holds the lock, or -ENOTSUP. */
	int (*fd)(const struct filelock *lock);
	/* filelock_token. May be NULL. */
	int (*token)(const struct filelock *lock, uint64_t *ret_token);
	/* What of the lock's files the identity of a hold is of; NULL: its path. The handle's own. */
	const char *(*place)(const struct filelock *lock);
	/* Which file the last try met, to find another handle of this thread on it. */
	struct identity (*identity)(const struct filelock *lock);
	/* An order of handles of the same path, 0: the same lock. May be NULL: they are. */
	int (*compare)(const struct filelock *a, const struct filelock *b);
	/* Moves the hold to another handle of the same lock, which keeps nothing:
	   filelock_hand_over. */
	void (*hand_over)(struct filelock *from, struct filelock *to);
	/* Whether the hold is as good as one taken now, found out more cheaply than by verify.
	   May be NULL: verify. */
	bool (*is_intact)(struct filelock *lock);
	/* Learns what another handle of the same lock knows about its file system. May be NULL. */
	void (*learn)(struct filelock *lock, const struct filelock *other);
	/* Tells of each claim on the lock, and removes one by its name. May be NULL. */
	int (*claims)(struct filelock *lock,
	              void (*take)(const struct filelock_claim *claim, void *arg), void *arg);
	int (*break_claim)(struct filelock *lock, const char *name);
	/* Takes the lock from whoever holds it, by force; NULL: impossible. */
	int (*break_lock)(struct filelock *lock);
	/* In a forked child: closes the descriptors, without unlocking, and forgets them. */
	void (*forget)(struct filelock *lock);
};

extern const struct kind kind_native;
extern const struct kind kind_soft;
extern const struct kind kind_readwrite;
extern const struct kind kind_lease;
extern const struct kind kind_strict;
extern const struct kind kind_soft_readwrite;

/* NULL: no such kind. */
const struct kind *kind_find(enum filelock_kind id);

#endif
