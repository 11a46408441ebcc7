/*
 * claims.c - the claims on a strict lock: printed, or one removed by force.
 */
#include <errno.h>
#include <stdio.h>
#include <sysexits.h>

#include "run.h"

static void print(const struct filelock_claim *claim, void *arg)
{
	unsigned *count = arg;
	const struct filelock_owner *owner = &claim->owner;

	++*count;
	printf("%s pid %ld%s%s%s\n", claim->name, (long)owner->pid, *owner->host ? " on " : "",
	       owner->host, claim->dead ? ", which has ended" : "");
}

static int fail(const struct lock *lock, int error)
{
	fprintf(stderr, "filelock: %s\n", filelock_last_error(lock->handle));
	return error == -ENOENT ? EX_UNAVAILABLE : lock_status(lock, error);
}

int claims_print(const struct options *options, const struct lock *lock)
{
	unsigned count = 0;
	int r = filelock_claims(lock->handle, print, &count);

	if (r < 0)
		return fail(lock, r);
	return count > 0 ? 0 : options->conflict;
}

int claims_break(const struct lock *lock, const char *name)
{
	int r = filelock_break_claim(lock->handle, name);

	return r < 0 ? fail(lock, r) : 0;
}
