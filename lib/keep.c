/*
 * keep.c - keeping a hold alive from a loop: when, and by what.
 *
 * The handle is its user's, who may give it to another thread. What keeps its hold alive is therefore
 * another handle of the same lock, the keeper. It is made when it is first needed, since most
 * holds end before that, and it gets what was noted at the grant.
 */
#include "driver_private.h"

#include "handle.h"
#include "registry.h"
#include "base/sys.h"

FILELOCK_API int64_t filelock_keep_after(const struct filelock *lock, struct filelock_kept *ret_kept)
{
	if (!lock->kind->held)
		return FILELOCK_NEVER;
	*ret_kept = (struct filelock_kept){ .kind = lock->kind,
		                            .dev = lock->held.identity.dev,
		                            .ino = lock->held.identity.ino,
		                            .since = lock->kept_at };
	return lock->kind->held_after(lock);
}

FILELOCK_API int filelock_keeper_new(const struct filelock *lock, const struct filelock_kept *kept,
                                     struct filelock **ret_keeper)
{
	struct filelock *keeper;
	int r = filelock_clone_as(lock, kept->kind, &keeper);

	if (r < 0)
		return r;
	filelock_keeper_set(keeper, kept);
	*ret_keeper = keeper;
	return 0;
}

FILELOCK_API void filelock_keeper_set(struct filelock *keeper, const struct filelock_kept *kept)
{
	keeper->held.identity = (struct identity){ (dev_t)kept->dev, (ino_t)kept->ino };
	keeper->kept_at = kept->since;
}

FILELOCK_API int64_t filelock_keep(struct filelock *keeper, int64_t now)
{
	return keeper->kind->held(keeper, now);
}
