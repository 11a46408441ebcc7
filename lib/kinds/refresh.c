/*
 * refresh.c - the times of a held file.
 *
 * Programs that go by age take a marker of some minutes for one left behind, and cleaners of temporary
 * folders remove what nobody has touched for days. A holder therefore renews the times of its file:
 * by its path, so that any thread can, after a look that the path still names it.
 */
#include "kinds/refresh.h"

#include <fcntl.h>

#include "base/sys.h"

#define SECOND INT64_C(1000000000)

/* Anybody may have set the file's times, and the clock: those of the future are renewed as well. */
bool refresh_is_due(const struct timespec *modified, int64_t every)
{
	int64_t now = sys.date() / SECOND;
	int64_t margin = every / SECOND / 2; /* timers and clocks are not exact */

	return modified->tv_sec > now || modified->tv_sec <= now - margin;
}

void refresh_times(const struct filelock *lock)
{
	(void)sys.utimensat(AT_FDCWD, lock->path, NULL, AT_SYMLINK_NOFOLLOW);
}

int64_t refresh_after(const struct filelock *lock)
{
	/* a lifetime counts from the beginning of the hold */
	return lock->borrowed >= 0 || lock->options.lifetime_ms ? FILELOCK_NEVER : REFRESH_FIRST;
}

int64_t refresh_held(const struct filelock *keeper, int64_t now, int64_t every)
{
	struct stat st;

	if (sys_lstat(keeper->path, &st) == 0 &&
	    identity_equal(keeper->held.identity, (struct identity){ st.st_dev, st.st_ino }) &&
	    refresh_is_due(&st.st_mtim, every))
		refresh_times(keeper);
	return now + every;
}
