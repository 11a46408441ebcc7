/*
 * path.h - paths of lock files. The path of a handle is absolute, its directory shorter than
 * PATH_MAX.
 */
#ifndef FILELOCK_PATH_H
#define FILELOCK_PATH_H

#include <limits.h>
#include <sys/types.h>

/* The absolute form of a path, by text alone: nothing is resolved. Owned by the caller. */
int path_absolute(const char *path, char **ret_path);

/*
 * Resolves the parent (realpath(3)) as far as it exists, and does not follow the last name: one
 * lock file has one such text, whoever names it. path is absolute. Owned by the caller.
 */
int path_canonical(const char *path, char **ret_path);

enum path_names { PATH_NAMES_OURS = 0, PATH_NAMES_ANOTHER };
/* Whether the path names this file: an enum path_names, or an error of lstat(2). */
int path_check(const char *path, dev_t dev, ino_t ino);

/* The directory of a handle's path, as text. */
void path_parent(const char *path, char ret_parent[PATH_MAX]);
/* Returns 0 if the directory of path exists, else the error of opening it. */
int path_check_parent(const char *path);

/* Makes the missing parent directories of path, mode 0777 through the umask. */
int path_make_parents(const char *path);

#endif
