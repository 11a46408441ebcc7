/*
 * readwrite_probe.c - whether record locks exclude anybody on a file system.
 *
 * Some FUSE servers take the record locks of all processes as locks of their own process, so
 * everybody gets them. Each file system that is not this machine's own is therefore tried once:
 * two open file descriptions of one private file must exclude each other.
 */
#include "kinds/readwrite_probe.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include <filelock/filelock.h>

#include "base/sys.h"
#include "kinds/soft_publish.h"

enum { DEVICES = 16 };

static _Atomic uint64_t devices[DEVICES]; /* found good: their numbers, plus one; a ring */
static atomic_uint next_device;

static bool is_known(dev_t device)
{
	for (size_t i = 0; i < DEVICES; i++)
		if (atomic_load(&devices[i]) == (uint64_t)device + 1)
			return true;
	return false;
}

static void note(dev_t device)
{
	atomic_store(&devices[atomic_fetch_add(&next_device, 1) % DEVICES], (uint64_t)device + 1);
}

/* 0 if the second lock is refused because of the first; other refusals prove nothing. */
static int lock_twice(int first, int second)
{
	int r = sys_lock_record(first);

	if (r < 0)
		return 0;
	r = sys_lock_record(second);
	return r == 0 ? FILELOCK_ENOEXCLUSION : 0;
}

static int try_records(const char *path)
{
	char link[SYS_FD_LINK];
	char *name = NULL;
	int first = soft_publish_make_probe(path, &name);
	int second = -1, r = 0;

	/* a folder that may not be written: nothing can be found out */
	if (first < 0)
		goto done;
	sys_fd_link(link, first);
	second = sys_open(name ? name : link, O_RDWR | O_CLOEXEC, 0);
	if (second >= 0)
		r = lock_twice(first, second);
	if (name)
		(void)sys_unlink(name);
done:
	if (second >= 0)
		(void)sys_close(second);
	if (first >= 0)
		(void)sys_close(first);
	free(name);
	return first == -EMFILE || first == -ENFILE || first == -ENOMEM ? first : r;
}

int readwrite_probe(const char *path, dev_t device)
{
	struct statfs fs;
	int r = 0;

	if (is_known(device))
		return 0;
	if (sys.statfs(path, &fs) < 0 || !sys_is_local(&fs))
		r = try_records(path);
	if (r == 0)
		note(device);
	return r;
}
