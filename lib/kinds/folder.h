/*
 * folder.h - folders of records: the common ground of the kinds that keep their state in several
 * files.
 *
 * A folder is held by its descriptor, so that nobody can put another one in its place. A record
 * appears complete, under a private name that is then linked or renamed. A name is ours if it names
 * our inode, whatever the system call said. ESTALE is contention, for the caller to treat so.
 */
#ifndef FILELOCK_FOLDER_H
#define FILELOCK_FOLDER_H

#include <sys/stat.h>

#include "handle.h"

enum { FOLDER_TOKEN = 33 /* 32 hexadecimal digits, and the end */ };

/* Who may own a folder. */
enum folder_owner {
	FOLDER_ANYBODYS,
	FOLDER_OURS /* this user's alone */
};

/* 32 random lower-case hexadecimal digits; 0 or an error. */
int folder_random(char ret_token[FOLDER_TOKEN]);
/* Whether the text is such a token: that many lower-case digits, and its end. */
bool folder_is_token(const char *text);

/* Makes the folder, unless something stands there, through the umask. parent: a descriptor, or
   AT_FDCWD. */
int folder_make(int parent, const char *name, mode_t mode);
/* A descriptor to read the folder by. -ENOTDIR, -ELOOP: no folder; -EACCES: another user's. */
int folder_open(int parent, const char *name, enum folder_owner owner);

/* The same into a member of a handle's state, also for a fork beside us. */
int folder_open_into(int *ret_fd, int parent, const char *name, enum folder_owner owner);
/* Closes such a member, if it is open. */
void folder_close(int *fd);

/* Calls `take` with each name but "." and ".."; a result that is not 0 ends the list. That result,
   0, or an error. */
int folder_list(int folder, int (*take)(const char *name, void *arg), void *arg);

/* Reads up to size bytes from the start of a regular file, neither following a link nor waiting.
   Their number, FILELOCK_ENOTREGULAR, or an error of open(2). ret_st may be NULL. */
ssize_t folder_read(int folder, const char *name, char *buffer, size_t size,
                    struct stat *ret_st);

/* A file to publish. */
struct folder_record {
	const char *private_name; /* new, in the same folder */
	const char *name;
	const char *bytes;
	size_t size;
	mode_t mode;
	bool exact; /* the mode goes past the umask */
	bool sync;  /* to the disk, before it is linked */
	bool stays; /* the private name, for a while: its removal is the caller's */
};
/* Writes the file under its private name, links it where nothing stands, and removes the private
   name. 0, and *ret_identity is ours at the name; -EEXIST: another one stands there; or an error.
   An error that comes back leaves the private name removed, as far as that can be done. */
int folder_publish(int folder, const struct folder_record *record,
                   struct identity *ret_identity);
/* The same, but renames it over whatever stands there. */
int folder_replace(int folder, const struct folder_record *record);
/* Links the name once more: 0 also if an answer was lost and the link is there. */
int folder_link(int folder, const char *from, const char *to, struct identity identity);

/* Whether the name is this file's: an enum path_names, or an error. */
int folder_check(int folder, const char *name, struct identity identity);

/* The file system's own time, in ns since the epoch, by a file that is made and removed. */
int folder_now(int folder, const char *private_name, int64_t *ret_now);
/* Removes a private file that was left over: one that has a second name at once, any other when it
   is older than `age` ns by the file system's clock. 1: removed. */
int folder_sweep(int folder, const char *private_name, const char *probe, int64_t age);

/* What else an -EIO of those who link may mean. */
#define FOLDER_MAY_LACK_LINKS "its file system may have no hard links, which this kind needs"

/* Whether the error of link(2) means that the file system has none. */
bool folder_is_without_links(int error);

#endif
