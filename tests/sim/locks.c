/*
 * locks.c - flock(2), leases and record locks of the simulated kernel.
 *
 * Record locks, of processes and of open file descriptions, are kept for four ranges only: those of
 * SQLite (lockingv3.html), which are the PENDING byte, the RESERVED byte and the SHARED range, and
 * the bytes at which waiters are registered, all as one. A lock must cover each of them wholly or
 * not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#include "kernel.h"

/*
 * flock(2) has a queue that is a tree (locks_insert_block in fs/locks.c of Linux): a request that is
 * refused waits behind the lock that it conflicts with, or behind a request that it conflicts with
 * and that waits there. When a lock or a request goes, all right behind it look again. Who is
 * granted the lock has behind it what was behind its request; who is refused once more lets
 * those look again.
 */
static int as_lock(const struct description *d)
{
	return (int)(d - kernel.descriptions) + 1;
}

static int as_request(const struct task *task)
{
	return -(int)(task - kernel.tasks) - 1;
}

static void look_again(int behind)
{
	for (int i = 0; i < SIM_TASKS; i++)
		if (kernel.tasks[i].wanted && kernel.tasks[i].behind == behind)
			kernel.tasks[i].behind = 0;
}

static const struct description *find_flock(const struct description *d, int type)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		const struct description *other = &kernel.descriptions[i];

		if (other->type == ON_FILE && other != d && other->node == d->node &&
		    other->flock && (other->flock == LOCK_EX || type == LOCK_EX))
			return other;
	}
	return NULL;
}

/* A request that waits right there, and that one of this type conflicts with. */
static const struct task *find_request(int behind, int type)
{
	for (int i = 0; i < SIM_TASKS; i++) {
		const struct task *task = &kernel.tasks[i];

		if (task->wanted && task->behind == behind &&
		    (task->wanted_type == LOCK_EX || type == LOCK_EX))
			return task;
	}
	return NULL;
}

static void enter_queue(struct task *task, const struct description *holder)
{
	const struct task *request;
	int behind = as_lock(holder);

	while ((request = find_request(behind, task->wanted_type)))
		behind = as_request(request);
	task->behind = behind;
	look_again(as_request(task));
}

void lock_leave_queue(struct task *task)
{
	task->wanted = NULL;
	task->behind = 0;
	look_again(as_request(task));
}

void lock_drop_flock(struct description *d)
{
	d->flock = 0;
	look_again(as_lock(d));
}

static void grant(struct description *d, int type, struct task *task)
{
	for (int i = 0; i < SIM_TASKS; i++)
		if (kernel.tasks[i].wanted && kernel.tasks[i].behind == as_request(task))
			kernel.tasks[i].behind = as_lock(d);
	d->flock = type;
	task->wanted = NULL;
	kernel_process()->looked = false;
}

/* Returns when it is granted, or never. */
static int wait_for_flock(struct description *d, int type)
{
	const struct description *holder;
	struct task *task = task_get();
	bool waited = false;

	while ((holder = find_flock(d, type))) {
		task->wanted = d;
		task->wanted_type = type;
		waited = true;
		enter_queue(task, holder);
		task_sleep(INT64_MAX);
		task->left = false;
		if (!sim_hooks.sleep) /* nobody is there to unlock it */
			return -EDEADLK;
		if (!task->interrupted)
			continue;
		task->interrupted = false;
		lock_leave_queue(task);
		return -EINTR;
	}
	grant(d, type, task);
	if (waited)
		kernel_gap("flock, granted");
	return 0;
}

int lock_flock(struct description *d, int operation)
{
	int type = operation & ~LOCK_NB;

	if (d->type != ON_FILE || (!d->reads && !d->writes))
		return -EBADF;
	if (type == d->flock)
		return 0;
	if (type == LOCK_UN) {
		lock_drop_flock(d);
		return 0;
	}
	/* flock(2): the old lock goes first, and is lost if the new one is refused */
	if (d->flock) {
		lock_drop_flock(d);
		kernel_gap("flock, converting");
	}
	if ((operation & LOCK_NB) && find_flock(d, type))
		return -EWOULDBLOCK;
	return wait_for_flock(d, type);
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
#define WAITERS (INT64_C(1) << 61)
static const off_t units[RECORD_UNITS][2] = { /* first byte, and one past the last */
	{ FIRST, FIRST + 1 }, { FIRST + 1, FIRST + 2 }, { FIRST + 2, FIRST + 512 },
	{ WAITERS, WAITERS + 0x10000 }
};

static bool touches(const struct flock *lock, int unit)
{
	return lock->l_start < units[unit][1] &&
	       (lock->l_len == 0 || lock->l_start + lock->l_len > units[unit][0]);
}

static bool covers(const struct flock *lock, int unit)
{
	if (units[unit][0] >= WAITERS) /* any byte of many: as if all were one */
		return touches(lock, unit);
	return lock->l_start <= units[unit][0] &&
	       (lock->l_len == 0 || lock->l_start + lock->l_len >= units[unit][1]);
}

/* Held types are stored as the F_… + 1, so that zero is none. */
static bool conflicts(unsigned char held, const struct flock *lock)
{
	return held && (held - 1 == F_WRLCK || lock->l_type == F_WRLCK);
}

/* Who holds what the lock conflicts with: a process, or -1 for a description, with its type. `own`:
   the description that asks for itself; NULL: the current process asks. */
static bool find_conflict(int node, const struct description *own, const struct flock *lock,
                          int unit, struct flock *ret)
{
	for (unsigned i = 0; i < SIM_PROCESSES; i++) {
		unsigned char held = kernel.nodes[node].records[i][unit];

		if ((!own && i == kernel.current) || !conflicts(held, lock))
			continue;
		ret->l_type = (short)(held - 1);
		ret->l_pid = SIM_PID(i);
		return true;
	}
	for (int i = 0; i < DESCRIPTIONS; i++) {
		const struct description *d = &kernel.descriptions[i];

		if (d->type != ON_FILE || d == own || d->node != node ||
		    !conflicts(d->records[unit], lock))
			continue;
		ret->l_type = (short)(d->records[unit] - 1);
		ret->l_pid = -1;
		return true;
	}
	return false;
}

static int set_records(int node, struct description *own, const struct flock *lock)
{
	unsigned char *records = own ? own->records : kernel.nodes[node].records[kernel.current];
	struct flock found;

	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (lock->l_type != F_UNLCK && covers(lock, unit) &&
		    find_conflict(node, own, lock, unit, &found))
			return -EAGAIN;
	if (lock->l_type != F_UNLCK && !own) /* a description's is no hold, only a sign */
		kernel_process()->looked = false;
	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (covers(lock, unit))
			records[unit] =
			        lock->l_type == F_UNLCK ? 0 : (unsigned char)(lock->l_type + 1);
	return 0;
}

static int get_records(int node, const struct description *own, struct flock *lock)
{
	for (int unit = 0; unit < RECORD_UNITS; unit++) {
		struct flock found;

		if (!covers(lock, unit) || !find_conflict(node, own, lock, unit, &found))
			continue;
		lock->l_type = found.l_type;
		lock->l_pid = found.l_pid;
		return 0;
	}
	lock->l_type = F_UNLCK;
	return 0;
}

int lock_records(struct description *d, int command, struct flock *lock)
{
	bool of_description = command == F_OFD_SETLK || command == F_OFD_GETLK;
	struct description *own = of_description ? d : NULL;

	if (d->type != ON_FILE || lock->l_whence != SEEK_SET)
		return -EINVAL;
	if (of_description && lock->l_pid != 0)
		return -EINVAL;
	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (touches(lock, unit) && !covers(lock, unit))
			return -EOPNOTSUPP;
	if (command == F_GETLK || command == F_OFD_GETLK)
		return get_records(d->node, own, lock);
	if ((lock->l_type == F_WRLCK && !d->writes) || (lock->l_type == F_RDLCK && !d->reads))
		return -EBADF;
	return set_records(d->node, own, lock);
}

bool lock_has_any(const struct description *d)
{
	static const unsigned char none[RECORD_UNITS];

	return d->flock || d->lease || memcmp(d->records, none, sizeof(none)) != 0;
}

void lock_drop_records(int node, unsigned process)
{
	memset(kernel.nodes[node].records[process], 0, RECORD_UNITS);
}
