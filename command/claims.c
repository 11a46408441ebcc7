/*
 * claims.c - the claims on a strict or soft read/write lock: printed, or one removed by force.
 */
#include <errno.h>
#include <stdio.h>
#include <sysexits.h>

#include "run.h"

struct printing {
	unsigned count;
	bool modes; /* there are two */
};

/* A strict lock's names say what they are. */
static const char *describe(const struct printing *printing, const struct filelock_claim *claim)
{
	if (!printing->modes)
		return "";
	if (!claim->held)
		return ", waits for the readers";
	return claim->owner.mode == FILELOCK_SHARED ? ", reads" : ", writes";
}

static void print(const struct filelock_claim *claim, void *arg)
{
	struct printing *printing = arg;
	const struct filelock_owner *owner = &claim->owner;

	printing->count++;
	printf("%s pid %ld%s%s%s%s\n", claim->name, (long)owner->pid, *owner->host ? " on " : "",
	       owner->host, describe(printing, claim), claim->dead ? ", which has ended" : "");
}

static int fail(const struct lock *lock, int error)
{
	fprintf(stderr, "filelock: %s\n", filelock_last_error(lock->handle));
	return error == -ENOENT ? EX_UNAVAILABLE : lock_status(lock, error);
}

int claims_print(const struct options *options, const struct lock *lock)
{
	struct printing printing = { 0, options->kind == FILELOCK_SOFT_READWRITE };
	int r = filelock_claims(lock->handle, print, &printing);

	if (r < 0)
		return fail(lock, r);
	return printing.count > 0 ? 0 : options->conflict;
}

int claims_break(const struct lock *lock, const char *name)
{
	int r = filelock_break_claim(lock->handle, name);

	return r < 0 ? fail(lock, r) : 0;
}
