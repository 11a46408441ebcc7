/*
 * folders.c - names in open directories of the simulated kernel.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "calls.h"

/* As the kernel gives it. */
struct record {
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[NAME];
};

static const struct description *get_folder(int fd)
{
	const struct description *d = descriptor_get(fd);
	bool is_folder = d && d->type == ON_FILE && kernel.nodes[d->node].directory;

	return is_folder ? d : NULL;
}

static int join(const char *folder, const char *name, char ret_path[SIM_PATH])
{
	size_t length = strlen(folder), size = strlen(name);

	if (length + 1 + size >= SIM_PATH)
		return -ENAMETOOLONG;
	memcpy(ret_path, folder, length);
	ret_path[length] = '/';
	memcpy(ret_path + length + 1, name, size + 1);
	return 0;
}

int file_join(int folder, const char *name, char ret_path[SIM_PATH])
{
	const struct description *d;

	if (name[0] == '/' || folder == AT_FDCWD) {
		if (strlen(name) >= SIM_PATH)
			return -ENAMETOOLONG;
		strcpy(ret_path, name);
		return 0;
	}
	d = get_folder(folder);
	if (!d)
		return descriptor_get(folder) ? -ENOTDIR : -EBADF;
	if (strcmp(name, ".") != 0)
		return join(d->path, name, ret_path);
	strcpy(ret_path, d->path);
	return 0;
}

/* The name, if the entry lies in that directory. */
static const char *name_in(const char *folder, const struct entry *entry)
{
	size_t length = strlen(folder);

	if (strncmp(entry->path, folder, length) != 0 || entry->path[length] != '/' ||
	    strchr(entry->path + length + 1, '/'))
		return NULL;
	return entry->path + length + 1;
}

static size_t put_record(const struct entry *entry, const char *name, size_t offset, char *buffer)
{
	struct record record = { .inode = (uint64_t)entry->node + 1,
		                 .offset = (int64_t)offset,
		                 .type = kernel.nodes[entry->node].directory ? DT_DIR : DT_REG };
	size_t length = offsetof(struct record, name) + strlen(name) + 1;

	length = (length + 7) / 8 * 8;
	record.length = (unsigned short)length;
	strcpy(record.name, name);
	memcpy(buffer, &record, length);
	return length;
}

/* Names keep their places, so one that was there when the list began, and stays, is in it. */
ssize_t file_list(struct description *d, char *buffer, size_t size)
{
	size_t length = 0;

	for (unsigned count = 0; d->offset < ENTRIES && count < PIECE; d->offset++) {
		const struct entry *entry = &kernel.entries[d->offset];
		const char *name = name_in(d->path, entry);

		if (!name)
			continue;
		if (size - length < sizeof(struct record))
			break;
		length += put_record(entry, name, d->offset + 1, buffer + length);
		count++;
	}
	return (ssize_t)length;
}

/* --- system calls --- */

int call_openat(int folder, const char *name, int flags, mode_t mode)
{
	char path[SIM_PATH];
	int r;

	/* a directory opens itself once more whatever others do */
	if (call_refused("openat", strcmp(name, ".") != 0))
		return -1;
	r = file_join(folder, name, path);
	if (r == 0)
		r = file_open(path, flags, mode);
	return (int)call_done(r, "openat(%d, %s, 0%o)", folder, name, (unsigned)flags);
}

int call_fstatat(int folder, const char *name, struct stat *ret, int flags)
{
	char path[SIM_PATH];
	int r;

	(void)flags;
	if (call_refused("fstatat", true))
		return -1;
	r = file_join(folder, name, path);
	if (r == 0)
		r = file_resolve(path);
	if (r >= 0) {
		file_stat(r, ret);
		sim_learn(ret, sizeof(*ret));
		r = 0;
	}
	return (int)call_done(r, "fstatat(%d, %s)", folder, name);
}

int call_mkdirat(int folder, const char *name, mode_t mode)
{
	char path[SIM_PATH];
	int r;

	if (call_refused("mkdirat", true))
		return -1;
	r = file_join(folder, name, path);
	if (r == 0)
		r = file_make(path, mode, true);
	return (int)call_done(r, "mkdirat(%d, %s)", folder, name);
}

int call_unlinkat(int folder, const char *name, int flags)
{
	char path[SIM_PATH];
	int r;

	if (call_refused("unlinkat", true))
		return -1;
	r = file_join(folder, name, path);
	if (r == 0)
		r = flags & AT_REMOVEDIR ? -EINVAL : file_unlink(path);
	return (int)call_done(r, "unlinkat(%d, %s)", folder, name);
}

ssize_t call_getdents(int folder, void *buffer, size_t size)
{
	struct description *d;
	ssize_t n;

	if (call_refused("getdents", true))
		return -1;
	d = descriptor_get(folder);
	n = get_folder(folder) ? file_list(d, buffer, size) : -ENOTDIR;
	if (n > 0)
		sim_learn(buffer, (size_t)n);
	return call_done(n, "getdents(%d)", folder);
}
