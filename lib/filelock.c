/*
 * filelock.c - handles: opening, options, closing, and questions about them.
 *
 * A handle is freed with its last reference. All opens together count as one reference; each driver
 * that has yet to call its user back about the handle has another.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cancel.h"
#include "base/path.h"
#include "base/sys.h"
#include "heartbeat.h"
#include "hold.h"
#include "process.h"
#include "registry.h"

#define LONGEST_POLL_MS 3600000u
#define LARGEST_OPTIONS 4096 /* of any version: more is a size that was never set */

FILELOCK_API const char *filelock_version(void)
{
	return FILELOCK_VERSION;
}

#ifdef __LP64__ /* a member in padding could not be told from rubbish by `size` */
_Static_assert(sizeof(struct filelock_options) == 72, "padding in the options");
#endif

/* The caller's options, from a header older or newer than ours: what it does not know is zero,
   what we do not know must be. */
static int read_options(const struct filelock_options *from, struct filelock_options *ret)
{
	size_t size = from ? from->size : 0;
	size_t known = size < sizeof(*ret) ? size : sizeof(*ret);

	*ret = (struct filelock_options)FILELOCK_OPTIONS_INIT;
	if (!from)
		return 0;
	if (size < sizeof(size_t) || size > LARGEST_OPTIONS)
		return -EINVAL;
	for (size_t i = known; i < size; i++)
		if (((const unsigned char *)from)[i] != 0)
			return -EINVAL;
	memcpy(ret, from, known);
	ret->size = sizeof(*ret);
	return 0;
}

/* Whether a bool is neither true nor false, so that to read it may do anything. */
static bool has_wrong_flag(const struct filelock_options *options)
{
	const unsigned char *bytes = (const unsigned char *)options;
	size_t end = offsetof(struct filelock_options, duration_ms);

	for (size_t i = offsetof(struct filelock_options, singleton); i < end; i++)
		if (bytes[i] > 1)
			return true;
	return false;
}

/* NULL, or the name of the option that is out of its range, or not of this kind. */
static const char *wrong_option(const struct filelock_options *options, const struct kind *kind,
                                bool has_path)
{
	if (options->file_mode > 07777)
		return "file_mode";
	if (options->poll_interval_ms > LONGEST_POLL_MS)
		return "poll_interval_ms";
	if (has_wrong_flag(options))
		return "a flag that is neither true nor false";
	for (size_t i = 0; i < sizeof(options->reserved); i++)
		if (options->reserved[i])
			return "reserved";
	if (options->singleton && !has_path)
		return "singleton";
	if (options->unlink_on_release && !has_path)
		return "unlink_on_release";
	if (options->duration_ms && !kind->expires)
		return "duration_ms";
	if (options->heartbeat_ms && !kind->expires)
		return "heartbeat_ms";
	return NULL;
}

/* NULL, or the name of an option in which two handles differ. */
static const char *differing_option(const struct filelock_options *a,
                                    const struct filelock_options *b)
{
#define DIFFERS(member)         \
	if (a->member != b->member) \
		return #member;
	DIFFERS(file_mode)
	DIFFERS(poll_interval_ms)
	DIFFERS(unlink_on_release)
	DIFFERS(should_cancel)
	DIFFERS(on_wait)
	DIFFERS(on_wait_ms)
	DIFFERS(arg)
	DIFFERS(lifetime_ms)
	DIFFERS(two_line_marker)
	DIFFERS(no_fallback)
	DIFFERS(keep_on_exit)
	DIFFERS(any_extension)
	DIFFERS(exact_mode)
	DIFFERS(no_parents)
	DIFFERS(keep_open)
	DIFFERS(heartbeat_thread)
	DIFFERS(duration_ms)
	DIFFERS(heartbeat_ms)
#undef DIFFERS
	return NULL;
}

static void destroy(struct filelock *lock, bool registered)
{
	if (registered) {
		/* of a driver that was not to be told; what a fork left under way has none */
		if (!lock->inherited)
			(void)filelock_give_up(lock, -ECANCELED);
		lock->kind->abandon(lock);
		registry_remove(lock);
	}
	if (lock->depth > 0)
		registry_remove_held(lock);
	heartbeat_free(lock);
	if (lock->kind->close)
		lock->kind->close(lock);
	failure_clear(&lock->failure);
	if (lock->state != lock->room)
		free(lock->state);
	free(lock->path);
	free(lock);
}

/* Takes over path. A failure is the thread's, as of open_failure. */
static int make_handle(const struct kind *kind, char *path, int borrowed,
                       const struct filelock_options *options, const void *state,
                       struct filelock **ret_lock)
{
	struct filelock *lock = sys.calloc(1, sizeof(*lock) + kind->state_size);
	int r;

	if (!lock) {
		(void)open_failure(-ENOMEM, path, "cannot open", NULL);
		free(path);
		return -ENOMEM;
	}
	lock->kind = lock->asked = kind;
	lock->state = lock->room;
	if (state)
		memcpy(lock->state, state, kind->state_size);
	lock->path = path;
	lock->hash = hash_bytes(path, strlen(path), (size_t)kind->id);
	lock->borrowed = borrowed;
	lock->options = *options;
	atomic_init(&lock->references, 1);
	atomic_init(&lock->wake_fd, -1);
	r = process_check();
	if (r == 0)
		r = kind->open(lock);
	if (r == 0)
		r = registry_add(lock);
	if (r < 0) {
		(void)open_failure(r, path, "cannot open", lock->failure.detail);
		destroy(lock, false);
		return r;
	}
	*ret_lock = lock;
	return 0;
}

/* Replaces a new handle by the one that this process has already, if there is one. */
static int share_handle(struct filelock *lock, struct filelock **ret_lock)
{
	struct filelock *shared = registry_open_singleton(lock);
	const char *differs;

	if (shared == lock) {
		*ret_lock = lock;
		return 0;
	}
	differs = differing_option(&shared->options, &lock->options);
	if (differs) {
		(void)open_failure(-EINVAL, lock->path, "cannot share the singleton of",
		                   differs);
		filelock_close(shared);
		shared = NULL;
	}
	destroy(lock, true);
	if (!shared)
		return -EINVAL;
	*ret_lock = shared;
	return 0;
}

static int make_path(const char *path, bool canonical, char **ret_path)
{
	char *absolute;
	int r = path ? path_absolute(path, &absolute) : -EINVAL;

	if (r < 0)
		return r;
	if (!canonical) {
		*ret_path = absolute;
		return 0;
	}
	r = path_canonical(absolute, ret_path);
	free(absolute);
	return r;
}

static int check_options(const struct filelock_options *from, const struct kind *kind,
                         bool has_path, const char *path, struct filelock_options *ret)
{
	const char *wrong = "size: begin the options with FILELOCK_OPTIONS_INIT";
	int r = read_options(from, ret);

	if (r == 0)
		wrong = wrong_option(ret, kind, has_path);
	return wrong ? open_failure(-EINVAL, path, "cannot open", wrong) : 0;
}

FILELOCK_API int filelock_open(const char *path, enum filelock_kind kind,
                               const struct filelock_options *options,
                               struct filelock **ret_lock)
{
	const struct kind *table = kind_find(kind);
	struct filelock_options checked;
	struct filelock *lock;
	char *absolute;
	int r;

	if (!ret_lock || !table)
		return open_failure(-EINVAL, path, "cannot open",
		                    table ? "ret_lock is NULL" : "no such kind");
	if (!path || !*path)
		return open_failure(-EINVAL, path, "cannot open", "path is empty");
	r = check_options(options, table, true, path, &checked);
	if (r < 0)
		return r;
	r = make_path(path, checked.singleton, &absolute);
	if (r < 0)
		return open_failure(r, path, "cannot open", NULL);
	r = make_handle(table, absolute, -1, &checked, NULL, &lock);
	if (r < 0)
		return r;
	if (checked.singleton)
		return share_handle(lock, ret_lock);
	*ret_lock = lock;
	return 0;
}

FILELOCK_API int filelock_open_fd(int fd, const struct filelock_options *options,
                                  struct filelock **ret_lock)
{
	struct filelock_options checked;
	char *name;
	int r;

	if (!ret_lock)
		return open_failure(-EINVAL, "a descriptor", "cannot open", "ret_lock is NULL");
	if (fd < 0)
		return open_failure(-EBADF, "a descriptor", "cannot open", NULL);
	r = check_options(options, &kind_native, false, "a descriptor", &checked);
	if (r < 0)
		return r;
	name = sys_format("fd %d", fd);
	if (!name)
		return open_failure(-ENOMEM, "a descriptor", "cannot open", NULL);
	return make_handle(&kind_native, name, fd, &checked, NULL, ret_lock);
}

FILELOCK_API int filelock_fail_open(int code, const char *path, const char *detail)
{
	return open_failure(code, path, "cannot open", detail);
}

FILELOCK_API int filelock_open_kind(const struct kind *kind, char *path,
                                    const struct filelock_options *options, const void *state,
                                    struct filelock **ret_lock)
{
	struct filelock_options checked;
	int r = check_options(options, kind, false, path, &checked);

	if (r < 0) {
		free(path);
		return r;
	}
	return make_handle(kind, path, -1, &checked, state, ret_lock);
}

int filelock_clone_as(const struct filelock *lock, const struct kind *kind,
                      struct filelock **ret_lock)
{
	struct filelock_options options = lock->options;
	char *path;
	struct filelock *clone;
	int r;

	if (lock->kind->pends) /* its state is the loop's */
		return -ENOTSUP;
	path = sys_strdup(lock->path);
	if (!path)
		return -ENOMEM;
	options.singleton = options.heartbeat_thread = false;
	r = make_handle(lock->asked, path, lock->borrowed, &options, NULL, &clone);
	if (r < 0)
		return r;
	/* what the one has found out the other need not, nor say it once more */
	if (kind != lock->asked)
		r = registry_change_kind(clone, kind);
	if (r < 0)
		filelock_close(clone);
	else
		*ret_lock = clone;
	return r;
}

FILELOCK_API int filelock_clone(const struct filelock *lock, struct filelock **ret_lock)
{
	return filelock_clone_as(lock, lock->kind, ret_lock);
}

FILELOCK_API bool filelock_is_borrowed(const struct filelock *lock)
{
	return lock->borrowed >= 0;
}

FILELOCK_API const struct filelock_options *filelock_options(const struct filelock *lock)
{
	return &lock->options;
}

FILELOCK_API void filelock_interrupt(struct filelock *lock)
{
	static const uint64_t one = 1;
	int saved = errno;
	int fd;

	if (lock->inherited)
		return;
	atomic_store(&lock->interrupted, true);
	fd = atomic_load(&lock->wake_fd);
	/* fails only if the counter is full, and then the sleeper is awake */
	if (fd >= 0 && sys.write(fd, &one, sizeof(one)) < 0) {
	}
	errno = saved;
}

FILELOCK_API void filelock_set_wake_fd(struct filelock *lock, int fd)
{
	atomic_store(&lock->wake_fd, fd);
}

FILELOCK_API bool filelock_take_interrupt(struct filelock *lock)
{
	return atomic_exchange(&lock->interrupted, false);
}

FILELOCK_API void filelock_ref(struct filelock *lock)
{
	atomic_fetch_add_explicit(&lock->references, 1, memory_order_relaxed);
}

FILELOCK_API void filelock_unref(struct filelock *lock)
{
	if (atomic_fetch_sub_explicit(&lock->references, 1, memory_order_acq_rel) == 1)
		destroy(lock, true);
}

static void close_last(struct filelock *lock)
{
	const struct acquisition *a = &lock->acquisition;
	int r = 0;

	lock->closed = true;
	if (!lock->inherited) {
		if (lock->depth > 0)
			r = hold_release(lock);
		if (r < 0)
			log_write(FILELOCK_LOG_ERROR, "closing %s, which cannot be unlocked: %s",
			          lock->path, filelock_strerror(r));
		if (acquisition_is_pending(a) && a->driver && a->driver->closing)
			a->driver->closing(lock, a->arg);
	}
	if (lock->listener)
		filelock_end_hold(lock); /* as it is */
	filelock_unref(lock);
}

FILELOCK_API void filelock_close(struct filelock *lock)
{
	int saved = errno;
	int cancel = cancel_off();

	if (lock && registry_close(lock))
		close_last(lock);
	cancel_restore(cancel);
	errno = saved;
}

FILELOCK_API int filelock_drop(struct filelock *lock)
{
	static const char *const what = "cannot drop the descriptor of";
	int cancel;

	if (lock->inherited)
		return handle_fail(lock, FILELOCK_EFORKED, what);
	if (lock->depth > 0 || acquisition_is_pending(&lock->acquisition))
		return handle_refuse(lock, -EBUSY, what);
	cancel = cancel_off();
	if (lock->kind->drop)
		lock->kind->drop(lock);
	cancel_restore(cancel);
	return 0;
}

FILELOCK_API void filelock_closep(struct filelock **lock)
{
	filelock_close(*lock);
	*lock = NULL;
}

FILELOCK_API bool filelock_is_held(const struct filelock *lock)
{
	return filelock_depth(lock) > 0 && !(lock->kind->is_over && lock->kind->is_over(lock));
}

FILELOCK_API unsigned filelock_depth(const struct filelock *lock)
{
	return lock->inherited ? 0 : lock->depth;
}

/* What failed last is a note beside the handle: a question that fails leaves the handle the same. */
static int note(const struct filelock *lock, int code, const char *what)
{
	return handle_fail((struct filelock *)lock, code, what);
}

static int note_refusal(const struct filelock *lock, int code, const char *what)
{
	return handle_refuse((struct filelock *)lock, code, what);
}

FILELOCK_API int filelock_refuse(struct filelock *lock, int code, const char *what)
{
	return handle_refuse(lock, code, what);
}

FILELOCK_API int filelock_fd(const struct filelock *lock)
{
	static const char *const what = "cannot lend the descriptor of";
	int fd;

	if (lock->inherited)
		return note(lock, FILELOCK_EFORKED, what);
	if (lock->depth == 0)
		return note_refusal(lock, -EPERM, what);
	fd = lock->kind->fd(lock);
	return fd < 0 ? note_refusal(lock, fd, what) : fd;
}

FILELOCK_API const char *filelock_path(const struct filelock *lock)
{
	return lock->path;
}

FILELOCK_API enum filelock_kind filelock_kind(const struct filelock *lock)
{
	return lock->kind->id;
}

FILELOCK_API int filelock_look_for_holder(const struct filelock *lock,
                                          struct filelock_owner *ret_owner)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	size_t known;
	int r;

	if (lock->inherited)
		return FILELOCK_EFORKED;
	r = lock->kind->holder(lock, &owner);
	if (r < 0)
		return r;
	owner.size = ret_owner->size;
	known = owner.size < sizeof(owner) ? owner.size : sizeof(owner);
	memcpy(ret_owner, &owner, known);
	memset((char *)ret_owner + known, 0, owner.size - known); /* of a newer header */
	return 0;
}

FILELOCK_API int filelock_holder(const struct filelock *lock, struct filelock_owner *ret_owner)
{
	static const char *const what = "cannot tell the holder of";
	int cancel, r;

	if (!ret_owner || ret_owner->size < sizeof(size_t) ||
	    ret_owner->size > LARGEST_OPTIONS)
		return filelock_fail((struct filelock *)lock, -EINVAL, what,
		                     "ret_owner: begin it with FILELOCK_OWNER_INIT");
	cancel = cancel_off();
	r = filelock_look_for_holder(lock, ret_owner);
	cancel_restore(cancel);
	return r < 0 ? note(lock, r, what) : 0;
}

FILELOCK_API int filelock_claims(struct filelock *lock,
                                 void (*take)(const struct filelock_claim *claim, void *arg),
                                 void *arg)
{
	int cancel, r;

	if (lock->inherited)
		return handle_fail(lock, FILELOCK_EFORKED, "cannot list the claims of");
	if (!take)
		return filelock_fail(lock, -EINVAL, "cannot list the claims of", "take is NULL");
	if (!lock->kind->claims)
		return handle_refuse(lock, -ENOTSUP, "cannot list the claims of");
	cancel = cancel_off();
	r = lock->kind->claims(lock, take, arg);
	cancel_restore(cancel);
	return r;
}

FILELOCK_API int filelock_break_claim(struct filelock *lock, const char *name)
{
	int cancel, r;

	if (lock->inherited)
		return handle_fail(lock, FILELOCK_EFORKED, "cannot break a claim of");
	if (!name)
		return filelock_fail(lock, -EINVAL, "cannot break a claim of", "name is NULL");
	if (!lock->kind->break_claim)
		return handle_refuse(lock, -ENOTSUP, "cannot break a claim of");
	cancel = cancel_off();
	r = lock->kind->break_claim(lock, name);
	cancel_restore(cancel);
	return r;
}

FILELOCK_API int filelock_break(struct filelock *lock)
{
	int cancel, r;

	if (lock->inherited)
		return handle_fail(lock, FILELOCK_EFORKED, "cannot break");
	if (lock->depth > 0)
		return handle_refuse(lock, -EBUSY, "cannot break");
	if (!lock->kind->break_lock)
		return handle_refuse(lock, -ENOTSUP, "cannot break");
	cancel = cancel_off();
	r = lock->kind->break_lock(lock);
	cancel_restore(cancel);
	return r;
}

FILELOCK_API const char *filelock_last_error(const struct filelock *lock)
{
	/* the sentence is a cache: making it changes nothing that the caller can see */
	struct failure *failure = lock ? &((struct filelock *)lock)->failure : NULL;

	return failure ? failure_sentence(failure, lock->path) : open_failure_sentence();
}

FILELOCK_API int filelock_refuse_call(int code, const char *what, const char *of, const char *detail)
{
	return open_failure(code, of, what, detail);
}

FILELOCK_API void filelock_note_open_failure(const struct filelock *lock)
{
	open_failure_copy(filelock_last_error(lock));
}
