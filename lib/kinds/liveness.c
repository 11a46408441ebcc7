/*
 * liveness.c - whether the owner of a marker lives.
 *
 * A record names the maker in words that have a meaning in the maker's namespaces only. A pid is
 * another process elsewhere, or none, and /proc shows start times by the clock of the reader's time
 * namespace. The kernel is therefore asked first whether anybody has the file open for writing, as
 * every holder has, Python's too: F_SETLEASE with F_RDLCK then gives EAGAIN (fcntl(2)). The lease
 * itself is given back at once.
 */
#include "kinds/liveness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kinds/holder.h"
#include "base/proc.h"
#include "fork.h"
#include "base/sys.h"

/* Whether a lease is the kernel's own here: a network client refuses one for other reasons. */
static bool has_plain_leases(const char *path)
{
	struct statfs fs;

	if (sys.statfs(path, &fs) < 0)
		return true;
	switch ((unsigned long)fs.f_type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case AFS_FS_MAGIC:
	case CEPH_SUPER_MAGIC:
	case V9FS_MAGIC:
		return false;
	default:
		return true;
	}
}

int liveness_is_written(int fd, const char *path)
{
	/* whoever opens the file for writing meanwhile makes the kernel send us a signal: SIGIO
	   by default, which kills */
	if (sys.fcntl_setsig(fd, SIGURG) < 0)
		return -ENOTSUP;
	if (sys.fcntl_setlease(fd, F_RDLCK) == 0) {
		(void)sys.fcntl_setlease(fd, F_UNLCK);
		return 0;
	}
	return errno == EAGAIN && has_plain_leases(path) ? 1 : -ENOTSUP;
}

static bool read_boot_id(unsigned char ret[16])
{
	char text[64];

	return sys_read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text)) > 0 &&
	       soft_record_parse_boot_id(text, ret);
}

static bool make_token(const struct proc_process *process, char ret[TOKEN_SIZE])
{
	unsigned char boot_id[16];

	if (!read_boot_id(boot_id))
		return false;
	soft_record_token(boot_id, process->start, ret);
	return true;
}

/* The token of this process: it takes three reads of /proc, so it is remembered. */
static const char *own_token(void)
{
	static _Thread_local struct {
		pid_t pid;
		unsigned generation;
		char token[TOKEN_SIZE];
	} own;
	struct proc_process process;

	if (own.pid == getpid() && own.generation == filelock_generation())
		return own.token;
	if (!holder_knows_pids() || !holder_read_process(getpid(), &process) ||
	    !make_token(&process, own.token))
		return NULL;
	own.pid = getpid();
	own.generation = filelock_generation();
	return own.token;
}

static int own_host(char ret[256])
{
	if (sys.gethostname(ret, 256) < 0)
		return -errno;
	ret[255] = '\0'; /* gethostname(2) may leave it out */
	return 0;
}

bool liveness_is_here(const struct marker *record)
{
	char host[256];

	return own_host(host) == 0 && strcmp(record->host, host) == 0;
}

/* Whether the process that has this pid now is dead, or not the one that is recorded. */
static bool has_gone(const struct marker *record)
{
	struct proc_process process;
	char token[TOKEN_SIZE];

	if (!holder_knows_pids() || !holder_read_process(record->pid, &process))
		return false;
	/* a process whose main thread has ended is a zombie too, and alive */
	if ((process.state == 'Z' || process.state == 'X') && process.threads <= 1)
		return true;
	return record->token[0] && make_token(&process, token) &&
	       strcmp(record->token, token) != 0;
}

bool liveness_is_over(const struct marker *record)
{
	if (!liveness_is_here(record))
		return false;
	if (sys.kill(record->pid, 0) < 0)
		return errno == ESRCH;
	return has_gone(record);
}

bool liveness_is_ours(const struct marker *record)
{
	const char *token = own_token();

	return record->pid == getpid() && liveness_is_here(record) &&
	       (!record->token[0] || !token || strcmp(record->token, token) == 0);
}

void liveness_describe(const struct marker *record, struct filelock_owner *ret_owner)
{
	struct proc_process process;
	char token[TOKEN_SIZE];

	ret_owner->pid = record->pid;
	ret_owner->ours = liveness_is_ours(record);
	(void)snprintf(ret_owner->host, sizeof(ret_owner->host), "%.255s", record->host);
	if (strlen(record->token) < sizeof(ret_owner->start_token))
		strcpy(ret_owner->start_token, record->token);
	/* of that process, and not of one that has its pid by now */
	if (liveness_is_here(record) && holder_knows_pids() &&
	    holder_read_process(record->pid, &process) && make_token(&process, token) &&
	    strcmp(record->token, token) == 0)
		ret_owner->start_time = holder_start_time(record->pid);
}

static int format_record(char ret[MARKER_SIZE], pid_t pid, const char *token)
{
	char host[256]; /* with the token it fits */
	int r = own_host(host);

	return r < 0 ? r : (int)soft_record_format(ret, pid, host, token);
}

int liveness_write_record(char ret[MARKER_SIZE], bool two_lines)
{
	return format_record(ret, getpid(), two_lines ? NULL : own_token());
}

int liveness_write_nobody(char ret[MARKER_SIZE])
{
	return format_record(ret, INT32_MAX, NULL); /* above any pid_max, proc_sys_kernel(5) */
}
