/* Mounting: in a mount namespace of the process's own, as root or in a user namespace. */
#include "fuse.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fuse_server.h"

static char reason[256];

static int refuse(const char *what)
{
	(void)snprintf(reason, sizeof(reason), "%s: %s", what, strerror(errno));
	return -1;
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return refuse(path);
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? refuse(path) : 0;
}

static int map_ids(unsigned user, unsigned group)
{
	char map[64];

	if (put("/proc/self/setgroups", "deny") < 0)
		return -1;
	(void)snprintf(map, sizeof(map), "%u %u 1\n", user, user);
	if (put("/proc/self/uid_map", map) < 0)
		return -1;
	(void)snprintf(map, sizeof(map), "%u %u 1\n", group, group);
	return put("/proc/self/gid_map", map);
}

static int leave_the_mounts_of_others(void)
{
	unsigned user = geteuid(), group = getegid();

	if (unshare(CLONE_NEWNS) < 0) {
		if (errno != EPERM || unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
			return refuse("no mount namespace");
		if (map_ids(user, group) < 0)
			return -1;
	}
	if (mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) < 0)
		return refuse("no private mounts");
	return 0;
}

static int attach(struct fuse *fuse)
{
	char options[128];

	fuse->device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (fuse->device < 0)
		return refuse("/dev/fuse");
	(void)snprintf(options, sizeof(options),
	               "fd=%d,rootmode=40000,user_id=%u,group_id=%u,max_read=%u,"
	               "default_permissions,allow_other",
	               fuse->device, geteuid(), getegid(), FUSE_SERVER_DATA);
	if (mount("passthrough", fuse->path, "fuse", MS_NOSUID | MS_NODEV, options) == 0)
		return 0;
	(void)refuse("mount");
	close(fuse->device);
	return -1;
}

static int start_server(struct fuse *fuse)
{
	pid_t parent = getpid();
	pid_t server = fork(); /* not into the memory that both share */

	if (server == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			fuse_serve(fuse);
		_exit(1);
	}
	if (server < 0)
		(void)refuse("fork");
	fuse->server = server;
	close(fuse->device);
	return fuse->server < 0 ? -1 : 0;
}

static int begin(struct fuse *fuse)
{
	struct stat st;

	if (leave_the_mounts_of_others() < 0 || attach(fuse) < 0)
		return -1;
	/* its first request is INIT: what cannot talk with this kernel is found out here */
	if (start_server(fuse) == 0 && stat(fuse->path, &st) == 0)
		return 0;
	if (fuse->server > 0)
		(void)refuse("the server");
	(void)umount2(fuse->path, MNT_DETACH);
	return -1;
}

struct fuse *fuse_mount(const char *backing, const char *path, enum fuse_flock flock,
                        const char **ret_reason)
{
	struct fuse *fuse = mmap(NULL, sizeof(*fuse), PROT_READ | PROT_WRITE,
	                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	*ret_reason = reason;
	if (fuse == MAP_FAILED) {
		(void)refuse("mmap");
		return NULL;
	}
	fuse->flock = flock;
	(void)snprintf(fuse->backing, sizeof(fuse->backing), "%s", backing);
	(void)snprintf(fuse->path, sizeof(fuse->path), "%s", path);
	if (begin(fuse) == 0)
		return fuse;
	(void)munmap(fuse, sizeof(*fuse));
	return NULL;
}

void fuse_stop(struct fuse *fuse)
{
	if (!fuse)
		return;
	/* first the server: what it kept waiting ends, and the mount is no longer in use */
	(void)kill(fuse->server, SIGKILL);
	(void)waitpid(fuse->server, NULL, 0);
	(void)umount2(fuse->path, MNT_DETACH);
	(void)munmap(fuse, sizeof(*fuse));
}
