/*
 * files.c - opening, reading, writing, naming and unnaming in the simulated kernel.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "kernel.h"

#define SECOND INT64_C(1000000000)
#define DEVICE 2049

/* --- by path --- */

/* Without a last "/.". */
static const char *plain(const char *path, char buffer[SIM_PATH])
{
	size_t length = strlen(path);

	if (length < 3 || length >= SIM_PATH || strcmp(path + length - 2, "/.") != 0)
		return path;
	memcpy(buffer, path, length - 2);
	buffer[length - 2] = '\0';
	return buffer;
}

int file_resolve(const char *path)
{
	char buffer[SIM_PATH];
	const struct description *d;
	const struct entry *entry;
	int parent;

	if (path_to_fd(path) >= 0) {
		d = descriptor_get(path_to_fd(path));
		return d && d->node >= 0 ? d->node : -ENOENT;
	}
	path = plain(path, buffer);
	entry = entry_find(path);
	if (entry)
		return entry->node;
	parent = entry_parent(path);
	return parent < 0 ? parent : -ENOENT;
}

static int make_node(const char *path, mode_t mode, bool directory)
{
	int parent = entry_parent(path);
	int node = parent < 0 ? parent : node_new(mode, directory);
	int r;

	if (node < 0)
		return node;
	r = entry_add(path, node);
	if (r < 0) {
		kernel.nodes[node].used = false;
		return r;
	}
	notify_directory(path, IN_CREATE);
	return node;
}

int file_make(const char *path, mode_t mode, bool directory)
{
	int node = entry_find(path) ? -EEXIST : make_node(path, mode, directory);

	return node < 0 ? node : 0;
}

static int make_nameless(const char *directory, mode_t mode)
{
	int parent = file_resolve(directory);
	int node;

	if (parent < 0)
		return parent;
	if (!kernel.nodes[parent].directory)
		return -ENOTDIR;
	node = node_new(mode, false);
	if (node >= 0)
		kernel.nodes[node].linkable = true;
	return node;
}

/* --- open --- */

static int open_text(const char *path)
{
	char text[TEXT];
	int length = proc_text(path, text);
	int description;

	if (length < 0)
		return length;
	description = description_new(ON_TEXT);
	if (description < 0)
		return description;
	memcpy(kernel.descriptions[description].text, text, (size_t)length + 1);
	return descriptor_new(description);
}

/* Whether the node may be opened so. */
static int check_open(int i, int flags)
{
	const struct node *node = &kernel.nodes[i];
	bool writes = (flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH);

	if ((flags & O_CREAT) && (flags & O_EXCL))
		return -EEXIST;
	if (node->directory)
		return writes || (flags & O_CREAT) ? -EISDIR : 0;
	if (flags & O_DIRECTORY)
		return -ENOTDIR;
	return writes && lock_breaks_lease(i) ? -EWOULDBLOCK : 0;
}

static int open_node(int node, int flags, const char *path)
{
	int access = flags & O_ACCMODE;
	int i = description_new(ON_FILE);
	struct description *d;
	int fd;

	if (i < 0)
		return i;
	d = &kernel.descriptions[i];
	d->reads = access != O_WRONLY && !(flags & O_PATH);
	d->writes = access != O_RDONLY && !(flags & O_PATH);
	if (strlen(path) < SIM_PATH)
		strcpy(d->path, path);
	fd = descriptor_new(i);
	if (fd < 0) {
		memset(d, 0, sizeof(*d));
		return fd;
	}
	d->node = node;
	kernel.nodes[node].descriptions++;
	if ((flags & O_TRUNC) && d->writes)
		(void)file_truncate(d, 0);
	return fd;
}

/* A node to open, perhaps made now. */
static int find_node(const char *path, int flags, mode_t mode)
{
	int node = file_resolve(path);
	int r;

	if (node == -ENOENT && (flags & O_CREAT))
		return make_node(path, mode, false);
	if (node < 0)
		return node;
	r = check_open(node, flags);
	return r < 0 ? r : node;
}

int file_open(const char *path, int flags, mode_t mode)
{
	bool nameless = (flags & O_TMPFILE) == O_TMPFILE;
	char buffer[SIM_PATH];
	int node, fd;

	if (strncmp(path, "/proc/", 6) == 0 && path_to_fd(path) < 0)
		return open_text(path);
	if (kernel.sealed && (path_to_fd(path) >= 0 || (flags & (O_ACCMODE | O_CREAT)) == O_RDONLY))
		return -EACCES;
	path = plain(path, buffer);
	node = nameless ? make_nameless(path, mode) : find_node(path, flags, mode);
	if (node < 0)
		return node;
	fd = open_node(node, flags, nameless || path_to_fd(path) >= 0 ? "" : path);
	if (fd < 0)
		node_put(node);
	return fd;
}

/* --- content --- */

ssize_t file_read(struct description *d, char *buffer, size_t size, size_t at)
{
	const char *bytes = d->text;
	size_t length;

	if (d->type == ON_FILE && (!d->reads || kernel.nodes[d->node].directory))
		return d->reads ? -EISDIR : -EBADF;
	if (d->type == ON_FILE) {
		bytes = kernel.nodes[d->node].bytes;
		length = kernel.nodes[d->node].size;
	} else {
		length = strlen(d->text);
	}
	if (at >= length)
		return 0;
	length = length - at < size ? length - at : size;
	memcpy(buffer, bytes + at, length);
	return (ssize_t)length;
}

static void modified(struct description *d)
{
	struct node *node = &kernel.nodes[d->node];

	node->modified = node->changed = kernel.now;
	notify(d->node, d->path, IN_MODIFY);
}

ssize_t file_write(struct description *d, const char *bytes, size_t size, size_t at)
{
	struct node *node = &kernel.nodes[d->node];

	if (!d->writes)
		return -EBADF;
	if (at >= SIM_CONTENT)
		return -ENOSPC;
	if (size > SIM_CONTENT - at)
		size = SIM_CONTENT - at;
	kernel_process()->looked = false;
	memcpy(node->bytes + at, bytes, size);
	if (node->size < at + size)
		node->size = at + size;
	modified(d);
	return (ssize_t)size;
}

int file_truncate(struct description *d, off_t size)
{
	struct node *node = &kernel.nodes[d->node];

	if (!d->writes || size < 0)
		return -EINVAL;
	if (size > SIM_CONTENT)
		return -EFBIG;
	if ((size_t)size < node->size)
		memset(node->bytes + size, 0, node->size - (size_t)size);
	node->size = (size_t)size;
	modified(d);
	return 0;
}

int file_touch(int i, const char *path)
{
	struct node *node = &kernel.nodes[i];

	node->modified = node->changed = kernel.now;
	notify(i, path, IN_ATTRIB);
	return 0;
}

void file_stat(int i, struct stat *ret)
{
	const struct node *node = &kernel.nodes[i];
	struct timespec modified_at = { node->modified / SECOND, node->modified % SECOND };
	struct timespec changed_at = { node->changed / SECOND, node->changed % SECOND };

	*ret = (struct stat){ .st_dev = DEVICE,
		              .st_ino = (ino_t)i + 1,
		              .st_nlink = node->links,
		              .st_mode = node->mode | (node->directory ? S_IFDIR : S_IFREG),
		              .st_size = (off_t)node->size,
		              .st_blksize = 4096,
		              .st_atim = modified_at,
		              .st_mtim = modified_at,
		              .st_ctim = changed_at };
}

/* --- names --- */

int file_link(const char *from, const char *to, int flags)
{
	int node = file_resolve(from);
	int parent, r;

	if (node >= 0 && path_to_fd(from) >= 0 && !(flags & AT_SYMLINK_FOLLOW))
		return -EXDEV; /* another file system's link */
	if (node < 0)
		return node;
	parent = entry_parent(to);
	if (parent < 0)
		return parent;
	if (entry_find(to))
		return -EEXIST;
	if (kernel.nodes[node].links == 0 && !kernel.nodes[node].linkable)
		return -ENOENT;
	r = entry_add(to, node);
	if (r < 0)
		return r;
	kernel.nodes[node].changed = kernel.now;
	kernel_process()->looked = true;
	notify(node, NULL, IN_ATTRIB);
	notify_directory(to, IN_CREATE);
	return 0;
}

static void drop_name(struct entry *entry)
{
	struct node *node = &kernel.nodes[entry->node];

	memset(entry->path, 0, sizeof(entry->path));
	node->links--;
	node->linkable = false;
	node->changed = kernel.now;
	notify(entry->node, NULL, IN_ATTRIB);
}

int file_unlink(const char *path)
{
	struct entry *entry = entry_find(path);
	int parent = entry_parent(path);

	if (!entry)
		return parent < 0 ? parent : -ENOENT;
	if (kernel.nodes[entry->node].directory)
		return -EISDIR;
	drop_name(entry);
	notify_directory(path, IN_DELETE);
	node_put(entry->node);
	return 0;
}

/* Descriptions made through a name that is another one now: closing them tells by the new one. */
static void follow_name(int node, const char *from, const char *to)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *d = &kernel.descriptions[i];

		if (d->type == ON_FILE && d->node == node && strcmp(d->path, from) == 0)
			strcpy(d->path, to);
	}
}

int file_rename(const char *from, const char *to)
{
	struct entry *source = entry_find(from);
	struct entry *target = entry_find(to);
	int parent = entry_parent(to);

	if (!source)
		return -ENOENT;
	if (parent < 0)
		return parent;
	if (strlen(to) >= SIM_PATH || strlen(path_name(to)) >= NAME)
		return -ENAMETOOLONG;
	if (kernel.nodes[source->node].directory)
		return -EOPNOTSUPP;
	if (target && kernel.nodes[target->node].directory)
		return -EISDIR;
	if (target && target->node == source->node)
		return 0;
	if (target)
		drop_name(target);
	follow_name(source->node, from, to);
	memset(source->path, 0, sizeof(source->path));
	strcpy(source->path, to);
	notify_directory(from, IN_MOVED_FROM);
	notify_directory(to, IN_MOVED_TO);
	notify(source->node, NULL, IN_MOVE_SELF);
	if (target)
		node_put(target->node);
	return 0;
}
