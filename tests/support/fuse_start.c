/* A file system for a test. */
#include "fuse.h"

#include <stdio.h>
#include <sys/stat.h>

#include "support.h"

struct fuse *fuse_start(enum fuse_flock flock)
{
	static unsigned count;
	char backing[512], path[512];
	const char *why;
	struct fuse *fuse;

	(void)snprintf(backing, sizeof(backing), "%s/behind%u", test_folder(), count);
	(void)snprintf(path, sizeof(path), "%s/fuse%u", test_folder(), count++);
	ck_assert_int_eq(mkdir(backing, 0755), 0);
	ck_assert_int_eq(mkdir(path, 0755), 0);
	fuse = fuse_mount(backing, path, flock, &why);
	if (!fuse)
		test_skip(why);
	return fuse;
}

const char *fuse_path(const struct fuse *fuse, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", strrchr(fuse->path, '/') + 1, name);
	return test_path(path);
}
