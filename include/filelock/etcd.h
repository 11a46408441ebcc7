/*
 * etcd.h - locks across machines: a handle on a lock that an etcd cluster keeps.
 *
 * A session (struct filelock_etcd) belongs to a context of event.h. It talks to etcd's JSON gateway,
 * keeps a lease, and reconnects. Handles on it are acquired by evfilelock_acquire and released by
 * evfilelock_release, as all others:
 *
 *	static const char *const endpoints[] = { "http://10.0.0.1:2379", "http://10.0.0.2:2379" };
 *	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
 *	options.endpoints = endpoints;
 *	options.endpoint_count = 2;
 *	r = filelock_etcd_open(ev, &options, &session);
 *	...
 *	r = filelock_open_etcd(session, "jobs/nightly", NULL, &lock);
 *	r = evfilelock_acquire(ev, lock, FILELOCK_EXCLUSIVE, NULL, on_lock, NULL);
 *
 * Promise. Whoever holds a lock here knows that it is lost before anybody else can hold it, as long as
 * it asks: filelock_is_held and filelock_verify read the clock, and evfilelock_on_lost tells. The
 * clocks of the machines need not agree; they need to run at the same rate, to a tenth. Between asking
 * and acting a process can be stopped for any time, so a resource that must not be written by a former
 * holder checks filelock_token: it refuses a number below the highest that it has seen.
 * filelock_loss says FILELOCK_LOSS_LATE if the lease was not renewed, FILELOCK_LOSS_MISSING if somebody
 * deleted the key.
 *
 * Order. Waiters are served in the order in which they came, across machines. A shared lock waits for
 * the exclusive ones ahead of it, an exclusive one for all ahead of it. A waiter whose session is lost
 * goes to the end of the queue.
 *
 * Deadlines are kept while etcd is away. One attempt is made at the deadline; the answer comes at most a
 * second later. A timeout of zero takes the lock only if nobody holds it or waits for it.
 *
 * Threads. The thread of the loop makes all calls on a session and its handles.
 *
 * Handles. Synchronous calls that would wait (filelock_acquire) give -ENOTSUP. filelock_release sends
 * the release and returns; the session repeats it until etcd has answered. A release that hands the
 * lock over inside the process (event.h) does not ask etcd. Each exclusive hold has a token of its own.
 *
 * Fork. A session does not work in a forked child: calls on its handles give FILELOCK_EFORKED. Nothing
 * that the child does touches the parent's session.
 */
#ifndef FILELOCK_ETCD_H
#define FILELOCK_ETCD_H

#include <filelock/event.h>

#ifdef __cplusplus
extern "C" {
#endif

struct filelock_etcd;

/* result: for on_ready 0. For on_lost FILELOCK_ELOST: the lease is gone, and with it all holds; the
   session goes on with a new lease, and on_ready comes again. Or -EACCES, -EPERM, -EPROTO: etcd refuses
   the session, and filelock_etcd_last_error says why; so do all requests until it is tried again, by
   the next request. */
typedef void (*filelock_etcd_cb)(struct filelock_etcd *session, int result, void *arg);

/* Zero is the default of every member. Strings are copied. */
struct filelock_etcd_options {
	size_t size; /* sizeof(struct filelock_etcd_options), by FILELOCK_ETCD_OPTIONS_INIT */

	/* "http://host:port" or "https://host:port", "[…]" around an IPv6 address. One endpoint at a
	   time is used; the others serve when it fails. 1 to 1,000 of them. */
	const char *const *endpoints;
	size_t endpoint_count;

	/* How long the lock of a process that died, or was cut off, stays taken: 2,000 … 3,600,000 ms, in
	   whole seconds, rounded up. 0: 10,000. */
	unsigned ttl_ms;

	/* TLS, for endpoints with https. ca_file NULL: the system's authorities. A certificate for the
	   client should have no common name (CN): where etcd has users, its gateway refuses those that
	   have. */
	const char *ca_file, *cert_file, *key_file;

	/* In UTF-8. NULL: etcd asks for none. */
	const char *user, *password;

	filelock_etcd_cb on_ready, on_lost; /* may be NULL; from the loop */
	void *arg; /* for these two; borrowed until filelock_etcd_close */
};
#define FILELOCK_ETCD_OPTIONS_INIT                                                             \
	{ sizeof(struct filelock_etcd_options), NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, \
	  NULL, NULL }

/*
 * Opens a session; the answer of etcd is not waited for. ev is borrowed until filelock_etcd_close. An
 * open session keeps the loop running. options are copied, and are not NULL. The session is the
 * caller's.
 *
 * Errors: -EINVAL (an option; filelock_last_error(NULL) says which), -ENOMEM, FILELOCK_EFORKED.
 */
FILELOCK_API int filelock_etcd_open(struct evfilelock *ev,
                                    const struct filelock_etcd_options *options,
                                    struct filelock_etcd **ret_session);

/*
 * Ends a session. Its holds are over, and requests fail with -ECANCELED. The lease is given back in the
 * background: keep the loop running until it ends by itself, or for two seconds, and the base until
 * then. No callback of the session comes any more. Handles may be closed before or after. NULL is
 * allowed. In a forked child this sends nothing.
 */
FILELOCK_API void filelock_etcd_close(struct filelock_etcd *session);

/* Why the session is not ready, as a sentence; empty: nothing is wrong. Valid until the next call, or
   the next turn of the loop. */
FILELOCK_API const char *filelock_etcd_last_error(const struct filelock_etcd *session);

/* How long the holds of this session are safe yet without a further word of etcd, in ms; 0: nothing is
   held safely, or the session is the parent's. */
FILELOCK_API int64_t filelock_etcd_time_left(const struct filelock_etcd *session);

/*
 * Opens a handle on the lock of this name, for evfilelock_acquire. It is the caller's: close it with
 * filelock_close. Nothing is sent yet.
 *
 * name     1 to 512 bytes; parts between slashes are not empty. The keys in etcd begin with "NAME//".
 *          filelock_path gives "etcd:NAME".
 * options  NULL, or those of filelock_open; none that is about files, or about times of another kind,
 *          may be set.
 *
 * Errors: -EINVAL (filelock_last_error(NULL) says why), -ENOMEM, -ECANCELED (the session is closed),
 * FILELOCK_EFORKED.
 */
FILELOCK_API int filelock_open_etcd(struct filelock_etcd *session, const char *name,
                                    const struct filelock_options *options,
                                    struct filelock **ret_lock);

#ifdef __cplusplus
}
#endif

#endif
