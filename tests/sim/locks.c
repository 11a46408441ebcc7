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
	bool waited;

	while ((holder = find_flock(d, type))) {
		task->wanted = d;
		task->wanted_type = type;
		enter_queue(task, holder);
		task_sleep(INT64_MAX);
		if (!sim_hooks.sleep) /* nobody is there to unlock it */
			return -EDEADLK;
		if (!task->interrupted)
			continue;
		task->interrupted = false;
		lock_leave_queue(task);
		return -EINTR;
	}
	waited = task->wanted;
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
