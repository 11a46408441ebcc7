/*
 * path.h - paths of lock files.
 */
#ifndef FILELOCK_PATH_H
#define FILELOCK_PATH_H

/* The absolute form of a path, by text alone: nothing is resolved. Owned by the caller. */
int path_absolute(const char *path, char **ret_path);

/*
 * The same with the parent resolved (realpath(3)) as far as it exists, and the last name not
 * followed: one text for one lock file, whoever names it. path is absolute.
 */
int path_canonical(const char *path, char **ret_path);

/* Makes the missing parent directories of path, mode 0777 through the umask. */
int path_make_parents(const char *path);

#endif
