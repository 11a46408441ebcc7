#include "base/path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/sys.h"

/* Drops empty and "." components, which name nothing. */
static void squeeze(char *path)
{
	char *to = path;

	for (const char *from = path; *from;) {
		if (from[0] == '/' && from[1] == '/')
			from++;
		else if (from[0] == '/' && from[1] == '.' && (from[2] == '/'))
			from += 2;
		else
			*to++ = *from++;
	}
	*to = '\0';
}

/* Whether the last name can be a file's. */
static bool ends_in_directory(const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	return !*name || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

int path_absolute(const char *path, char **ret_path)
{
	char here[PATH_MAX];
	char *absolute;

	if (!*path)
		return -EINVAL;
	if (ends_in_directory(path))
		return -EISDIR;
	if (path[0] == '/') {
		absolute = sys_strdup(path);
	} else {
		if (!sys.getcwd(here, sizeof(here)))
			return -errno;
		absolute = sys_format("%s/%s", strcmp(here, "/") ? here : "", path);
	}
	if (!absolute)
		return -ENOMEM;
	if (strlen(absolute) >= PATH_MAX) {
		free(absolute);
		return -ENAMETOOLONG;
	}
	squeeze(absolute);
	*ret_path = absolute;
	return 0;
}

/* Resolves the longest part of `directory` that exists and appends the rest as it stands. */
static int resolve_existing(char *directory, char resolved[PATH_MAX])
{
	char *end = directory + strlen(directory);
	size_t length;

	for (;;) {
		char *slash;
		char saved = *end;

		*end = '\0';
		if (sys.realpath(end == directory ? "/" : directory, resolved)) {
			*end = saved;
			break;
		}
		if (errno != ENOENT || end == directory)
			return -errno;
		slash = strrchr(directory, '/');
		*end = saved;
		end = slash;
	}
	length = strcmp(resolved, "/") ? strlen(resolved) : 0;
	if (length + strlen(end) >= PATH_MAX)
		return -ENAMETOOLONG;
	strcpy(resolved + length, end);
	return 0;
}

int path_canonical(const char *path, char **ret_path)
{
	char resolved[PATH_MAX];
	char directory[PATH_MAX];
	const char *name = strrchr(path, '/');
	char *canonical;
	int r;

	memcpy(directory, path, (size_t)(name - path));
	directory[name - path] = '\0';
	r = resolve_existing(directory, resolved);
	if (r < 0)
		return r;
	canonical = sys_format("%s%s", resolved, name); /* the root is "" by now */
	if (!canonical)
		return -ENOMEM;
	*ret_path = canonical;
	return 0;
}

int path_check(const char *path, dev_t dev, ino_t ino)
{
	struct stat st;
	int r = sys_lstat(path, &st);

	if (r == -ENOENT || r == -ENOTDIR)
		return PATH_NAMES_ANOTHER;
	if (r < 0)
		return r;
	return st.st_dev == dev && st.st_ino == ino ? PATH_NAMES_OURS : PATH_NAMES_ANOTHER;
}

void path_parent(const char *path, char ret_parent[PATH_MAX])
{
	size_t length = (size_t)(strrchr(path, '/') - path);

	if (length == 0)
		length = 1; /* the root itself */
	memcpy(ret_parent, path, length);
	ret_parent[length] = '\0';
}

int path_check_parent(const char *path)
{
	char parent[PATH_MAX];
	int fd;

	path_parent(path, parent);
	fd = sys_open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
	if (fd < 0)
		return fd;
	(void)sys_close(fd);
	return 0;
}

int path_make_parents(const char *path)
{
	char directory[PATH_MAX + 1];
	size_t length = (size_t)(strrchr(path, '/') - path) + 1;
	int first = 0;
	int r = 0;

	memcpy(directory, path, length);
	directory[length] = '\0';
	for (char *slash = strchr(directory + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		r = sys_mkdir(directory, 0777);
		*slash = '/';
		/* one that may not be made can exist all the same: the next level tells */
		if (r < 0 && first == 0)
			first = r;
	}
	return r < 0 ? first : 0;
}
