/*
 * describe.c - the holder of a lock, in a sentence.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cancel.h"
#include "base/sys.h"
#include "driver_private.h"
#include "handle.h"

#define WHAT "cannot describe the holder of"

static bool is_on_this_host(const struct filelock_owner *owner)
{
	char host[sizeof(owner->host)] = "";

	return sys.gethostname(host, sizeof(host) - 1) == 0 && strcmp(owner->host, host) == 0;
}

/* " (nightly.sh)", or nothing. */
static void format_name(const struct filelock_owner *owner, char *ret, size_t size)
{
	char path[64], name[64];
	ssize_t length;

	*ret = '\0';
	if (owner->pid <= 0 || !is_on_this_host(owner))
		return;
	(void)snprintf(path, sizeof(path), "/proc/%ld/comm", (long)owner->pid);
	length = sys_read_file(path, name, sizeof(name));
	if (length <= 1)
		return;
	name[strcspn(name, "\n")] = '\0';
	(void)snprintf(ret, size, " (%s)", name);
}

/* ", running since 2026-11-29 22:41:37", or nothing. */
static void format_start(const struct filelock_owner *owner, char *ret, size_t size)
{
	time_t start = (time_t)owner->start_time;
	struct tm tm;

	*ret = '\0';
	if (start > 0 && localtime_r(&start, &tm))
		(void)strftime(ret, size, ", running since %Y-%m-%d %H:%M:%S", &tm);
}

static void describe(const struct filelock_owner *owner, char *buffer, size_t size)
{
	char pid[32] = "an unknown process", name[72], start[64];

	format_name(owner, name, sizeof(name));
	format_start(owner, start, sizeof(start));
	if (owner->pid > 0)
		(void)snprintf(pid, sizeof(pid), "pid %ld", (long)owner->pid);
	(void)snprintf(buffer, size, "%s%s on %s%s%s%s", pid, name,
	               owner->host[0] ? owner->host : "an unknown host", start,
	               owner->mode == FILELOCK_SHARED ? ", one of its shared holders" : "",
	               owner->ours ? ", this process" : "");
}

/* Who locks the file in another way, after what is said of the holder, if there is one. */
static int describe_bystander(const struct filelock *lock, char *buffer, size_t size)
{
	struct filelock_owner other = FILELOCK_OWNER_INIT;
	size_t length = strlen(buffer);

	if (!lock->kind->bystander || lock->kind->bystander(lock, &other) < 0)
		return FILELOCK_ENOHOLDER;
	if (length > 0 && length + 2 < size)
		length += (size_t)snprintf(buffer + length, size - length, "; ");
	describe(&other, buffer + length, size - length);
	length = strlen(buffer);
	(void)snprintf(buffer + length, size - length,
	               ", by a record lock (fcntl(2)), which does not exclude this one");
	return 0;
}

FILELOCK_API int filelock_describe_holder(const struct filelock *lock, char *buffer, size_t size)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	int cancel, r;

	if (!buffer || size == 0)
		return filelock_fail((struct filelock *)lock, -EINVAL, WHAT,
		                     "buffer is NULL, or its size 0");
	r = filelock_holder(lock, &owner);
	/* in a PID namespace nobody can be ruled out, and yet others may be known */
	if (r < 0 && r != FILELOCK_ENOHOLDER && r != FILELOCK_EUNKNOWNHOLDER)
		return r;
	cancel = cancel_off();
	*buffer = '\0';
	if (r == 0)
		describe(&owner, buffer, size);
	if (r == FILELOCK_EUNKNOWNHOLDER)
		(void)snprintf(buffer, size, "an unknown holder, if any");
	if (describe_bystander(lock, buffer, size) == 0)
		r = 0;
	if (r < 0)
		*buffer = '\0';
	cancel_restore(cancel);
	return r;
}
