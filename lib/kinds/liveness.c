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
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kinds/holder.h"
#include "base/magic.h"
#include "base/proc.h"
#include "fork.h"
#include "base/sha256.h"
#include "base/sys.h"

enum {
	HOST_NAME_SIZE = 256,
	SUFFIX_SIZE = 32,
	ESCAPED_SIZE = 3 * HOST_NAME_SIZE + SUFFIX_SIZE
};
#define INITIAL_PID_NAMESPACE 0xeffffffcUL /* of every kernel: PROC_PID_INIT_INO of linux/proc_ns.h */

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

/* The start token of the process that has this pid now. */
static bool read_token(pid_t pid, char ret[TOKEN_SIZE])
{
	struct proc_process process;

	return holder_knows_pids() && holder_read_process(pid, &process) &&
	       make_token(&process, ret);
}

/* "pid:[4026531836]": the PID namespace, by the number of its file. */
static void read_pid_namespace(char ret_suffix[SUFFIX_SIZE])
{
	char link[48];
	ssize_t n = sys.readlink("/proc/thread-self/ns/pid", link, sizeof(link) - 1);
	unsigned long number = 0;

	link[n > 0 ? n : 0] = '\0';
	ret_suffix[0] = '\0';
	if (sscanf(link, "pid:[%lu]", &number) == 1 && number != INITIAL_PID_NAMESPACE)
		(void)snprintf(ret_suffix, SUFFIX_SIZE, "?pidns-%lx", number);
}

/* The names of this process: they take several reads of /proc, so they are remembered. */
struct own {
	pid_t pid;
	unsigned generation;
	bool has_token;
	char token[TOKEN_SIZE];
	char suffix[SUFFIX_SIZE]; /* of the host, by the PID namespace; perhaps empty */
};

static const struct own *read_own(void)
{
	static _Thread_local struct own own;

	if (own.pid == getpid() && own.generation == filelock_generation() && own.has_token)
		return &own;
	own.has_token = read_token(getpid(), own.token);
	read_pid_namespace(own.suffix);
	own.pid = getpid();
	own.generation = filelock_generation();
	return &own;
}

static const char *own_token(void)
{
	const struct own *own = read_own();

	return own->has_token ? own->token : NULL;
}

static int read_host_name(char ret[HOST_NAME_SIZE])
{
	if (sys.gethostname(ret, HOST_NAME_SIZE) < 0)
		return -errno;
	ret[HOST_NAME_SIZE - 1] = '\0'; /* gethostname(2) may leave it out */
	return 0;
}

/* Writes unprintable bytes, and '?', as '?' and two hexadecimal digits. */
static void escape(const char *name, char ret[ESCAPED_SIZE])
{
	for (; *name; name++) {
		unsigned char c = (unsigned char)*name;

		if (c > ' ' && c < 0x7f && c != '?')
			*ret++ = *name;
		else
			ret += sprintf(ret, "?%02x", c);
	}
	*ret = '\0';
}

/* A host longer than a record may have ends in a digest of what is cut off. */
static void shorten(char *host)
{
	const size_t keep = HOST_SIZE - 9;
	uint8_t digest[32];
	size_t length = strlen(host);

	if (length <= HOST_SIZE)
		return;
	sha256(host + keep, length - keep, digest);
	(void)sprintf(host + keep, "-%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
}

/* The host of our records: that of Python's filelock 4.1. */
static int own_host(char ret[ESCAPED_SIZE])
{
	char name[HOST_NAME_SIZE];
	int r = read_host_name(name);

	if (r < 0)
		return r;
	escape(name, ret);
	strcat(ret, read_own()->suffix);
	shorten(ret);
	if (!*ret)
		strcpy(ret, "?");
	return 0;
}

int liveness_host(char ret_host[HOST_SIZE + 1])
{
	char host[ESCAPED_SIZE];
	int r = own_host(host);

	if (r == 0)
		strcpy(ret_host, host); /* shortened */
	return r;
}

static bool is_own_host(const char *host)
{
	char own[ESCAPED_SIZE];

	return own_host(own) == 0 && strcmp(host, own) == 0;
}

/* As releases before 4.1 called this host: raw, or escaped, and then cut in one way or another. A
   PID namespace is in none of them. */
static bool is_older_host(const char *host)
{
	char name[HOST_NAME_SIZE], escaped[ESCAPED_SIZE];

	if (read_host_name(name) < 0)
		return false;
	escape(name, escaped);
	if (strcmp(host, name) == 0 || strcmp(host, escaped) == 0)
		return true;
	if (strlen(escaped) <= HOST_SIZE)
		return false;
	if (strlen(host) == HOST_SIZE && strncmp(host, escaped, HOST_SIZE) == 0)
		return true;
	shorten(escaped);
	return strcmp(host, escaped) == 0;
}

bool liveness_is_here(const struct marker *record)
{
	return is_own_host(record->host) || is_older_host(record->host);
}

/* A token carries the boot id of its kernel in all but its lowest 64 bits. */
static bool is_of_this_boot(const char *token)
{
	unsigned char boot_id[16];

	return *token && read_boot_id(boot_id) && soft_record_is_token_of(token, boot_id);
}

/* A process whose main thread has ended is a zombie too, and alive. */
static bool has_ended(const struct proc_process *process)
{
	return (process->state == 'Z' || process->state == 'X') && process->threads <= 1;
}

bool liveness_is_gone(pid_t pid)
{
	struct proc_process process;

	if (sys.kill(pid, 0) < 0)
		return errno == ESRCH;
	return holder_knows_pids() && holder_read_process(pid, &process) && has_ended(&process);
}

/* Whether the process that has this pid now is not the one that is recorded. */
static bool is_another(const struct marker *record)
{
	char token[TOKEN_SIZE];

	return record->token[0] && read_token(record->pid, token) &&
	       strcmp(record->token, token) != 0;
}

/* Whether this is the process that is recorded, as far as the record tells. */
static bool is_recorded(const struct proc_process *process, void *arg)
{
	const struct marker *record = arg;
	char token[TOKEN_SIZE];

	return !has_ended(process) &&
	       (!record->token[0] ||
	        (make_token(process, token) && strcmp(record->token, token) == 0));
}

static bool names_a_namespace(const struct marker *record)
{
	return strstr(record->host, "?pidns-") != NULL;
}

/*
 * Whether it may be of a living process in a container: releases of Python's before 4.1 name the host
 * there as we do outside. They also close their marker before they remove it, so that in a namespace, where
 * such a process does not show, only a marker that nobody has had open for a while is nobody's. Outside they
 * break ours in any case (filelock.h).
 */
static bool may_be_inside(const struct marker *record, enum proof proof)
{
	struct marker copy = *record;

	if (proof >= PROOF_CLOSED)
		return proof < PROOF_LEFT && *read_own()->suffix && !names_a_namespace(record);
	return holder_any_inside(record->pid, is_recorded, &copy);
}

/* A record of our own pid that we did not write, since we would have it open: a container's first
   process has always the same pid. */
static bool is_of_our_pid(const struct marker *record, enum proof proof)
{
	return proof >= PROOF_CLOSED && record->pid == getpid() && !record->token[0];
}

bool liveness_is_over(const struct marker *record, enum proof proof)
{
	/* in a PID namespace such a name may be of any other one */
	enum proof needed = *read_own()->suffix ? PROOF_CLOSED : PROOF_UNLOCKED;
	bool here = is_own_host(record->host) ||
	            (proof >= needed && is_older_host(record->host));

	if (here)
		return (liveness_is_gone(record->pid) || is_another(record) ||
		        is_of_our_pid(record, proof)) &&
		       !may_be_inside(record, proof);
	/* hosts are renamed, and containers made anew: it was of this kernel, and whoever holds has
	   the marker open */
	return proof >= PROOF_CLOSED && is_of_this_boot(record->token) && !may_be_inside(record, proof);
}

bool liveness_is_ours(const struct marker *record)
{
	const char *token = own_token();

	return record->pid == getpid() && liveness_is_here(record) &&
	       (!record->token[0] || !token || strcmp(record->token, token) == 0);
}

void liveness_describe(const struct marker *record, struct filelock_owner *ret_owner)
{
	char token[TOKEN_SIZE];

	ret_owner->pid = record->pid;
	ret_owner->ours = liveness_is_ours(record);
	(void)snprintf(ret_owner->host, sizeof(ret_owner->host), "%.255s", record->host);
	if (strlen(record->token) < sizeof(ret_owner->start_token))
		strcpy(ret_owner->start_token, record->token);
	(void)snprintf(ret_owner->contract, sizeof(ret_owner->contract), "%s", record->mode);
	ret_owner->duration = record->duration;
	/* of that process, and not of one that has its pid by now */
	if (liveness_is_here(record) && read_token(record->pid, token) &&
	    strcmp(record->token, token) == 0)
		ret_owner->start_time = holder_start_time(record->pid);
}

static int format_record(char ret[MARKER_SIZE], pid_t pid, const char *token)
{
	char host[ESCAPED_SIZE]; /* shortened it fits, with the token */
	int r = own_host(host);

	return r < 0 ? r : (int)soft_record_format(ret, pid, host, token);
}

int liveness_write_record(char ret[MARKER_SIZE], bool two_lines)
{
	return format_record(ret, getpid(), two_lines ? NULL : own_token());
}

int liveness_read_own(struct marker *ret)
{
	const char *token = own_token();
	char host[ESCAPED_SIZE];
	int r = own_host(host);

	if (r < 0)
		return r;
	*ret = (struct marker){ .type = MARKER_RECORD, .pid = getpid() };
	strcpy(ret->host, host);
	strcpy(ret->token, token ? token : "");
	return 0;
}

int liveness_write_nobody(char ret[MARKER_SIZE])
{
	return format_record(ret, INT32_MAX, NULL); /* above any pid_max, proc_sys_kernel(5) */
}
