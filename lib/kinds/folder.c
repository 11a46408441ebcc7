#include "kinds/folder.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"
#include "fork.h"

#define SECOND INT64_C(1000000000)
#define FILE_FLAGS (SAFE_FLAGS | O_CREAT | O_EXCL)

/* As getdents64(2) gives it: struct dirent is another one in some libraries of C. */
struct entry {
	uint64_t inode;
	int64_t offset;
	unsigned short length;
	unsigned char type;
	char name[];
};

int folder_random(char ret_token[FOLDER_TOKEN])
{
	unsigned char bytes[FOLDER_TOKEN / 2];
	int r = sys_random(bytes, sizeof(bytes));

	if (r == 0)
		sys_hex(bytes, sizeof(bytes), ret_token);
	return r;
}

bool folder_is_token(const char *text)
{
	return strspn(text, "0123456789abcdef") == FOLDER_TOKEN - 1 && !text[FOLDER_TOKEN - 1];
}

int folder_make(int parent, const char *name, mode_t mode)
{
	return sys_mkdir_at(parent, name, mode);
}

static int check_folder(int fd, enum folder_owner owner)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return r;
	return owner == FOLDER_OURS && st.st_uid != geteuid() ? -EACCES : 0;
}

int folder_open(int parent, const char *name, enum folder_owner owner)
{
	int fd = sys_open_at(parent, name, O_RDONLY | O_DIRECTORY | SAFE_FLAGS, 0);
	int r;

	if (fd < 0)
		return fd;
	r = check_folder(fd, owner);
	if (r == 0)
		return fd;
	(void)sys_close(fd);
	return r;
}

int folder_open_into(int *ret_fd, int parent, const char *name, enum folder_owner owner)
{
	int fd;

	fork_hold_off();
	fd = folder_open(parent, name, owner);
	if (fd >= 0)
		*ret_fd = fd;
	fork_allow();
	return fd < 0 ? fd : 0;
}

void folder_close(int *fd)
{
	if (*fd < 0)
		return;
	fork_hold_off();
	(void)sys_close(*fd);
	*fd = -1;
	fork_allow();
}

static bool is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int take_entries(const char *buffer, size_t size,
                        int (*take)(const char *name, void *arg), void *arg)
{
	int r = 0;

	for (size_t at = 0; r == 0 && at < size;) {
		const struct entry *entry = (const void *)(buffer + at);

		if (!is_dot(entry->name))
			r = take(entry->name, arg);
		at += entry->length;
	}
	return r;
}

int folder_list(int folder, int (*take)(const char *name, void *arg), void *arg)
{
	_Alignas(struct entry) char buffer[4096];
	/* a description of its own: another thread may list the folder by the same descriptor */
	int fd = sys_open_at(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return fd;
	do {
		n = sys.getdents(fd, buffer, sizeof(buffer));
		if (n < 0 && errno != EINTR)
			r = -errno;
		else if (n > 0)
			r = take_entries(buffer, (size_t)n, take, arg);
	} while (n != 0 && r == 0);
	(void)sys_close(fd);
	return r;
}

static ssize_t read_regular(int fd, char *buffer, size_t size, struct stat *ret_st)
{
	int r = sys_fstat(fd, ret_st);

	if (r < 0)
		return r;
	return S_ISREG(ret_st->st_mode) ? sys_read_known(fd, buffer, size, ret_st->st_size)
	                                : FILELOCK_ENOTREGULAR;
}

ssize_t folder_read(int folder, const char *name, char *buffer, size_t size,
                    struct stat *ret_st)
{
	struct stat st;
	ssize_t n;
	int fd = sys_open_at(folder, name, O_RDONLY | SAFE_FLAGS, 0);

	if (fd < 0)
		return fd == -ELOOP || fd == -ENXIO ? FILELOCK_ENOTREGULAR : fd;
	n = read_regular(fd, buffer, size, &st);
	(void)sys_close(fd);
	if (n >= 0 && ret_st)
		*ret_st = st;
	return n;
}

int folder_check(int folder, const char *name, struct identity identity)
{
	struct stat st;
	int r = sys_stat_at(folder, name, &st);

	if (r == -ENOENT || r == -ENOTDIR)
		return PATH_NAMES_ANOTHER;
	if (r < 0)
		return r;
	return st.st_dev == identity.dev && st.st_ino == identity.ino ? PATH_NAMES_OURS
	                                                              : PATH_NAMES_ANOTHER;
}

int folder_link(int folder, const char *from, const char *to, struct identity identity)
{
	int error = sys_link_at(folder, from, to);
	int names;

	if (error == 0)
		return 0;
	/* link(2), of NFS: the answer may be lost, and the link asked for again */
	names = folder_check(folder, to, identity);
	if (names < 0)
		return names;
	return names == PATH_NAMES_OURS ? 0 : error;
}

static int fill(int fd, const struct folder_record *record, struct identity *ret_identity)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r == 0)
		r = sys_write_start(fd, record->bytes, record->size);
	if (r == 0 && record->exact && sys.fchmod(fd, record->mode) < 0)
		r = -errno;
	if (r == 0 && record->sync)
		r = sys_sync(fd);
	if (r == 0)
		*ret_identity = (struct identity){ st.st_dev, st.st_ino };
	return r;
}

static int make_private(int folder, const struct folder_record *record,
                        struct identity *ret_identity)
{
	int fd = sys_open_at(folder, record->private_name, O_WRONLY | FILE_FLAGS, record->mode);
	int r;

	if (fd < 0)
		return fd;
	r = fill(fd, record, ret_identity);
	(void)sys_close(fd);
	if (r < 0)
		(void)sys_unlink_at(folder, record->private_name);
	return r;
}

int folder_publish(int folder, const struct folder_record *record,
                   struct identity *ret_identity)
{
	int r = make_private(folder, record, ret_identity);

	if (r < 0)
		return r;
	r = folder_link(folder, record->private_name, record->name, *ret_identity);
	if (r < 0 || !record->stays)
		(void)sys_unlink_at(folder, record->private_name);
	return r;
}

int folder_replace(int folder, const struct folder_record *record)
{
	struct identity identity;
	int r = make_private(folder, record, &identity);

	if (r < 0)
		return r;
	r = sys_rename_at(folder, record->private_name, record->name);
	if (r < 0)
		(void)sys_unlink_at(folder, record->private_name);
	return r;
}

static int64_t time_of(const struct timespec *t)
{
	return (int64_t)t->tv_sec * SECOND + t->tv_nsec;
}

int folder_now(int folder, const char *private_name, int64_t *ret_now)
{
	int fd = sys_open_at(folder, private_name, O_WRONLY | FILE_FLAGS, 0600);
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	r = sys_write_start(fd, "\n", 1);
	if (r == 0)
		r = sys_fstat(fd, &st);
	(void)sys_close(fd);
	(void)sys_unlink_at(folder, private_name);
	if (r == 0)
		*ret_now = time_of(&st.st_mtim);
	return r;
}

int folder_sweep(int folder, const char *private_name, const char *probe, int64_t age)
{
	struct stat st;
	int64_t now = 0;
	int r = sys_stat_at(folder, private_name, &st);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && !S_ISREG(st.st_mode))
		r = FILELOCK_ENOTREGULAR;
	if (r < 0)
		return r;
	if (st.st_nlink == 1 && (folder_now(folder, probe, &now) < 0 ||
	                         now - time_of(&st.st_mtim) < age))
		return 0;
	r = sys_unlink_at(folder, private_name);
	return r < 0 ? r : 1;
}

bool folder_is_without_links(int error)
{
	return sys_is_unsupported(error) || error == -EXDEV;
}
