/*
 * locks.c - flock(2), leases and record locks of the simulated kernel.
 *
 * Record locks are kept for three ranges only, those of SQLite (lockingv3.html): the PENDING byte,
 * the RESERVED byte, the SHARED range. A lock must cover each of them wholly or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "kernel.h"

static bool conflicts(const struct description *d, int type)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		const struct description *other = &kernel.descriptions[i];

		if (other->type == ON_FILE && other != d && other->node == d->node &&
		    other->flock && (other->flock == LOCK_EX || type == LOCK_EX))
			return true;
	}
	return false;
}

int lock_flock(struct description *d, int operation)
{
	int type = operation & ~LOCK_NB;

	if (d->type != ON_FILE || (!d->reads && !d->writes))
		return -EBADF;
	if (type == d->flock)
		return 0;
	if (type == LOCK_UN) {
		d->flock = 0;
		return 0;
	}
	/* flock(2): the old lock goes first, and is lost if the new one is refused */
	if (d->flock) {
		d->flock = 0;
		kernel_gap("flock, converting");
	}
	if (conflicts(d, type))
		return -EWOULDBLOCK; /* also without LOCK_NB: nobody here waits in flock(2) */
	d->flock = type;
	kernel_process()->looked = false;
	return 0;
}

/* --- leases --- */

int lock_lease(struct description *d, int type)
{
	if (d->type != ON_FILE || (!d->reads && !d->writes))
		return -EBADF;
	if (type == F_UNLCK) {
		d->lease = d->lease_breaking = false;
		return 0;
	}
	if (type != F_RDLCK || kernel.apart)
		return kernel.apart ? -EACCES : -EINVAL;
	for (int i = 0; i < DESCRIPTIONS; i++) {
		const struct description *other = &kernel.descriptions[i];

		if (other->type == ON_FILE && other->node == d->node &&
		    (other->writes || (other != d && other->lease_breaking)))
			return -EAGAIN;
	}
	d->lease = true;
	return 0;
}

bool lock_breaks_lease(int node)
{
	bool found = false;

	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *d = &kernel.descriptions[i];

		if (d->type != ON_FILE || d->node != node || !d->lease)
			continue;
		d->lease_breaking = true;
		found = true;
	}
	return found;
}

/* --- record locks --- */

#define FIRST 0x40000000
static const off_t units[RECORD_UNITS][2] = { /* first byte, and one past the last */
	{ FIRST, FIRST + 1 }, { FIRST + 1, FIRST + 2 }, { FIRST + 2, FIRST + 512 }
};

static bool covers(const struct flock *lock, int unit)
{
	return lock->l_start <= units[unit][0] &&
	       (lock->l_len == 0 || lock->l_start + lock->l_len >= units[unit][1]);
}

static bool touches(const struct flock *lock, int unit)
{
	return lock->l_start < units[unit][1] &&
	       (lock->l_len == 0 || lock->l_start + lock->l_len > units[unit][0]);
}

/* Held types are stored as the F_… + 1, so that zero is none. */
static int find_conflict(const struct node *node, const struct flock *lock, int unit)
{
	for (unsigned i = 0; i < SIM_PROCESSES; i++) {
		int held = node->records[i][unit] - 1;

		if (i != kernel.current && held >= 0 &&
		    (held == F_WRLCK || lock->l_type == F_WRLCK))
			return (int)i;
	}
	return -1;
}

static int set_records(struct node *node, const struct flock *lock)
{
	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (lock->l_type != F_UNLCK && covers(lock, unit) &&
		    find_conflict(node, lock, unit) >= 0)
			return -EAGAIN;
	if (lock->l_type != F_UNLCK)
		kernel_process()->looked = false;
	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (covers(lock, unit))
			node->records[kernel.current][unit] =
			        lock->l_type == F_UNLCK ? 0 : (unsigned char)(lock->l_type + 1);
	return 0;
}

static int get_records(const struct node *node, struct flock *lock)
{
	for (int unit = 0; unit < RECORD_UNITS; unit++) {
		int holder = covers(lock, unit) ? find_conflict(node, lock, unit) : -1;

		if (holder < 0)
			continue;
		lock->l_type = (short)(node->records[holder][unit] - 1);
		lock->l_pid = SIM_PID(holder);
		return 0;
	}
	lock->l_type = F_UNLCK;
	return 0;
}

int lock_records(struct description *d, int command, struct flock *lock)
{
	struct node *node;

	if (d->type != ON_FILE || lock->l_whence != SEEK_SET)
		return -EINVAL;
	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (touches(lock, unit) && !covers(lock, unit))
			return -EOPNOTSUPP;
	if ((lock->l_type == F_WRLCK && !d->writes) || (lock->l_type == F_RDLCK && !d->reads))
		return -EBADF;
	node = &kernel.nodes[d->node];
	return command == F_GETLK ? get_records(node, lock) : set_records(node, lock);
}

void lock_drop_records(int node, unsigned process)
{
	memset(kernel.nodes[node].records[process], 0, RECORD_UNITS);
}
