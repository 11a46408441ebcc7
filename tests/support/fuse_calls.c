/*
 * The server makes the same call on the folder behind for each request. A descriptor of the
 * caller's is one here (its number is the file handle), so that flock(2) forwarded to it belongs
 * to the caller's open file description.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "fuse_server.h"

static const void *body(const struct job *job)
{
	return &job->request.in + 1;
}

/* The name that follows a body of this size; and the name after that one. */
static const char *name_after(const struct job *job, size_t size)
{
	return (const char *)body(job) + size;
}

static const char *next_name(const char *name)
{
	return name + strlen(name) + 1;
}

static int own_fd(const struct job *job)
{
	return fuse_node_fd(job->request.in.nodeid);
}

static int result(int r)
{
	return r < 0 ? -errno : 0;
}

/* The file that an O_PATH descriptor is of, by name. */
struct link {
	char path[32];
};

static struct link link_to(int fd)
{
	struct link link;

	(void)snprintf(link.path, sizeof(link.path), "/proc/self/fd/%d", fd);
	return link;
}

static int add_entry(int fd, struct job *job)
{
	if (fd < 0)
		return -errno;
	job->size = sizeof(struct fuse_entry_out);
	return fuse_node_add(fd, (void *)job->data);
}

static int find_entry(struct job *job, const char *name)
{
	return add_entry(openat(own_fd(job), name, O_PATH | O_NOFOLLOW | O_CLOEXEC), job);
}

/* A new file belongs to the caller. Without root there is only one user. */
static int adopt(struct job *job, const char *name)
{
	(void)!fchownat(own_fd(job), name, job->request.in.uid, job->request.in.gid,
	                AT_SYMLINK_NOFOLLOW);
	return find_entry(job, name);
}

static int do_lookup(struct job *job)
{
	return find_entry(job, name_after(job, 0));
}

static int do_forget(struct job *job)
{
	const struct fuse_forget_in *in = body(job);

	fuse_node_forget(job->request.in.nodeid, in->nlookup);
	return 0;
}

static int do_batch_forget(struct job *job)
{
	const struct fuse_batch_forget_in *in = body(job);
	const struct fuse_forget_one *one = (const void *)(in + 1);

	for (uint32_t i = 0; i < in->count; i++)
		fuse_node_forget(one[i].nodeid, one[i].nlookup);
	return 0;
}

static int do_getattr(struct job *job)
{
	struct fuse_attr_out *out = (void *)job->data;

	*out = (struct fuse_attr_out){ 0 };
	job->size = sizeof(*out);
	return fuse_node_attr(own_fd(job), &out->attr);
}

static struct timespec new_time(uint32_t valid, uint32_t at, uint32_t now, struct timespec time)
{
	if (valid & now)
		time.tv_nsec = UTIME_NOW;
	else if (!(valid & at))
		time.tv_nsec = UTIME_OMIT;
	return time;
}

static int set_times(const struct fuse_setattr_in *in, const char *path)
{
	struct timespec times[2] = {
		new_time(in->valid, FATTR_ATIME, FATTR_ATIME_NOW,
		         (struct timespec){ (time_t)in->atime, in->atimensec }),
		new_time(in->valid, FATTR_MTIME, FATTR_MTIME_NOW,
		         (struct timespec){ (time_t)in->mtime, in->mtimensec }),
	};

	return utimensat(AT_FDCWD, path, times, 0);
}

static int do_setattr(struct job *job)
{
	const struct fuse_setattr_in *in = body(job);
	struct link link = link_to(own_fd(job));
	uid_t user = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
	gid_t group = in->valid & FATTR_GID ? in->gid : (gid_t)-1;
	int r = 0;

	if (in->valid & FATTR_MODE)
		r = chmod(link.path, in->mode);
	if (r == 0 && in->valid & (FATTR_UID | FATTR_GID))
		r = chown(link.path, user, group);
	if (r == 0 && in->valid & FATTR_SIZE)
		r = truncate(link.path, (off_t)in->size);
	if (r == 0 && in->valid & (FATTR_ATIME | FATTR_MTIME))
		r = set_times(in, link.path);
	return r < 0 ? -errno : do_getattr(job);
}

static int do_readlink(struct job *job)
{
	ssize_t n = readlinkat(own_fd(job), "", job->data, sizeof(job->data));

	job->size = n < 0 ? 0 : (size_t)n;
	return n < 0 ? -errno : 0;
}

static int do_symlink(struct job *job)
{
	const char *name = name_after(job, 0);

	if (symlinkat(next_name(name), own_fd(job), name) < 0)
		return -errno;
	return adopt(job, name);
}

static int do_mknod(struct job *job)
{
	const struct fuse_mknod_in *in = body(job);
	const char *name = name_after(job, sizeof(*in));

	if (mknodat(own_fd(job), name, in->mode, in->rdev) < 0)
		return -errno;
	return adopt(job, name);
}

static int do_mkdir(struct job *job)
{
	const struct fuse_mkdir_in *in = body(job);
	const char *name = name_after(job, sizeof(*in));

	if (mkdirat(own_fd(job), name, in->mode) < 0)
		return -errno;
	return adopt(job, name);
}

static int do_unlink(struct job *job)
{
	return result(unlinkat(own_fd(job), name_after(job, 0), 0));
}

static int do_rmdir(struct job *job)
{
	return result(unlinkat(own_fd(job), name_after(job, 0), AT_REMOVEDIR));
}

static int move(struct job *job, uint64_t directory, const char *name, unsigned flags)
{
	/* not every C library has renameat2(2) */
	return result((int)syscall(SYS_renameat2, own_fd(job), name, fuse_node_fd(directory),
	                           next_name(name), flags));
}

static int do_rename(struct job *job)
{
	const struct fuse_rename_in *in = body(job);

	return move(job, in->newdir, name_after(job, sizeof(*in)), 0);
}

static int do_rename2(struct job *job)
{
	const struct fuse_rename2_in *in = body(job);

	return move(job, in->newdir, name_after(job, sizeof(*in)), in->flags);
}

static int do_link(struct job *job)
{
	const struct fuse_link_in *in = body(job);
	const char *name = name_after(job, sizeof(*in));
	struct link link = link_to(fuse_node_fd(in->oldnodeid));

	if (linkat(AT_FDCWD, link.path, own_fd(job), name, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return find_entry(job, name);
}

static int opened(int fd, struct fuse_open_out *ret)
{
	*ret = (struct fuse_open_out){ .fh = (uint64_t)fd };
	return fd < 0 ? -errno : 0;
}

/* The kernel has dealt with these flags, or they would change what a descriptor here does. */
static int flags_behind(uint32_t flags)
{
	return (int)flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW | O_DIRECT | O_APPEND);
}

static int do_open(struct job *job)
{
	const struct fuse_open_in *in = body(job);
	struct link link = link_to(own_fd(job));

	job->size = sizeof(struct fuse_open_out);
	return opened(open(link.path, flags_behind(in->flags) | O_CLOEXEC), (void *)job->data);
}

/* An open file that is new: its node and its handle. */
static int new_file(struct job *job, int fd)
{
	struct link link = link_to(fd);
	int r;

	if (fd < 0)
		return -errno;
	(void)!fchown(fd, job->request.in.uid, job->request.in.gid);
	r = add_entry(open(link.path, O_PATH | O_CLOEXEC), job);
	if (r < 0) {
		close(fd);
		return r;
	}
	job->size += sizeof(struct fuse_open_out);
	return opened(fd, (void *)(job->data + sizeof(struct fuse_entry_out)));
}

static int do_create(struct job *job)
{
	const struct fuse_create_in *in = body(job);
	const char *name = name_after(job, sizeof(*in));
	/* it was not there a moment ago; who made it meanwhile owns it */
	int flags = flags_behind(in->flags) | O_CREAT | O_NOFOLLOW | O_CLOEXEC;

	return new_file(job, openat(own_fd(job), name, flags | (int)(in->flags & O_EXCL),
	                            in->mode));
}

static int do_tmpfile(struct job *job)
{
	const struct fuse_create_in *in = body(job);
	int flags = flags_behind(in->flags) | O_TMPFILE | O_CLOEXEC;

	return new_file(job, openat(own_fd(job), ".", flags, in->mode));
}

static int do_read(struct job *job)
{
	const struct fuse_read_in *in = body(job);
	size_t size = in->size < sizeof(job->data) ? in->size : sizeof(job->data);
	ssize_t n = pread((int)in->fh, job->data, size, (off_t)in->offset);

	job->size = n < 0 ? 0 : (size_t)n;
	return n < 0 ? -errno : 0;
}

static int do_write(struct job *job)
{
	const struct fuse_write_in *in = body(job);
	ssize_t n = pwrite((int)in->fh, in + 1, in->size, (off_t)in->offset);

	*(struct fuse_write_out *)(void *)job->data = (struct fuse_write_out){ .size = (uint32_t)n };
	job->size = sizeof(struct fuse_write_out);
	return n < 0 ? -errno : 0;
}

static int do_statfs(struct job *job)
{
	struct fuse_statfs_out *out = (void *)job->data;
	struct statvfs st;

	if (fstatvfs(own_fd(job), &st) < 0)
		return -errno;
	*out = (struct fuse_statfs_out){ .st = {
		.blocks = st.f_blocks, .bfree = st.f_bfree, .bavail = st.f_bavail,
		.files = st.f_files, .ffree = st.f_ffree, .bsize = (uint32_t)st.f_bsize,
		.namelen = (uint32_t)st.f_namemax, .frsize = (uint32_t)st.f_frsize,
	} };
	job->size = sizeof(*out);
	return 0;
}

static int do_flush(struct job *job)
{
	(void)job;
	return 0;
}

static int do_release(struct job *job)
{
	const struct fuse_release_in *in = body(job);

	return result(close((int)in->fh));
}

static int do_fsync(struct job *job)
{
	const struct fuse_fsync_in *in = body(job);

	return result(fsync((int)in->fh));
}

/* Directories: the handle is a DIR. */
static int do_opendir(struct job *job)
{
	struct fuse_open_out *out = (void *)job->data;
	int fd = openat(own_fd(job), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fd < 0 ? NULL : fdopendir(fd);

	if (!folder)
		return -errno;
	*out = (struct fuse_open_out){ .fh = (uint64_t)(uintptr_t)folder };
	job->size = sizeof(*out);
	return 0;
}

static size_t put_entry(char *to, size_t room, DIR *folder, const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);
	size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + length);
	struct fuse_dirent *out = (void *)to;

	if (size > room)
		return 0;
	memset(to, 0, size);
	out->ino = entry->d_ino;
	out->off = (uint64_t)telldir(folder);
	out->namelen = (uint32_t)length;
	out->type = entry->d_type;
	memcpy(to + FUSE_NAME_OFFSET, entry->d_name, length);
	return size;
}

static int do_readdir(struct job *job)
{
	const struct fuse_read_in *in = body(job);
	size_t room = in->size < sizeof(job->data) ? in->size : sizeof(job->data);
	DIR *folder = (DIR *)(uintptr_t)in->fh; /* the kernel lets in one reader at a time */
	const struct dirent *entry;
	size_t size;

	seekdir(folder, (long)in->offset);
	while ((entry = readdir(folder))) {
		size = put_entry(job->data + job->size, room - job->size, folder, entry);
		if (size == 0)
			break;
		job->size += size;
	}
	return 0;
}

static int do_releasedir(struct job *job)
{
	const struct fuse_release_in *in = body(job);

	return result(closedir((DIR *)(uintptr_t)in->fh));
}

static int flock_operation(uint32_t type)
{
	if (type == F_UNLCK)
		return LOCK_UN;
	return type == F_RDLCK ? LOCK_SH : LOCK_EX;
}

static int set_record(const struct fuse_lk_in *in)
{
	struct flock range = { .l_type = (short)in->lk.type, .l_whence = SEEK_SET,
		               .l_start = (off_t)in->lk.start };

	if (in->lk.end < INT64_MAX)
		range.l_len = (off_t)(in->lk.end - in->lk.start) + 1;
	return result(fcntl((int)in->fh, F_SETLK, &range));
}

/* A process conflicts with no lock of its own. */
static int do_getlk(struct job *job)
{
	struct fuse_lk_out *out = (void *)job->data;

	*out = (struct fuse_lk_out){ .lk.type = F_UNLCK };
	job->size = sizeof(*out);
	return 0;
}

static int do_flock(struct job *job)
{
	const struct fuse_lk_in *in = body(job);
	int operation = flock_operation(in->lk.type) | LOCK_NB;
	bool waits = job->request.in.opcode == FUSE_SETLKW;

	if (!(in->lk_flags & FUSE_LK_FLOCK))
		return job->fuse->flock == FUSE_RECORDS_FORWARDED ? set_record(in) : -ENOSYS;
	while (flock((int)in->fh, operation) < 0) {
		if (errno != EWOULDBLOCK || !waits)
			return -errno;
		if (job->interrupted)
			return -EINTR;
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return 0;
}

static int do_init(struct job *job)
{
	const struct fuse_init_in *in = body(job);
	struct fuse_init_out *out = (void *)job->data;
	uint32_t flags = FUSE_BIG_WRITES | FUSE_ASYNC_READ | FUSE_PARALLEL_DIROPS;

	if (in->major != FUSE_KERNEL_VERSION)
		return -EPROTO;
	if (job->fuse->flock == FUSE_FLOCK_FORWARDED)
		flags |= FUSE_FLOCK_LOCKS;
	if (job->fuse->flock == FUSE_RECORDS_FORWARDED)
		flags |= FUSE_POSIX_LOCKS;
	*out = (struct fuse_init_out){
		.major = FUSE_KERNEL_VERSION,
		.minor = FUSE_KERNEL_MINOR_VERSION,
		.max_readahead = in->max_readahead,
		.flags = flags & in->flags,
		.max_background = 64,
		.congestion_threshold = 48,
		.max_write = FUSE_SERVER_DATA,
		.time_gran = 1,
	};
	job->size = sizeof(*out);
	return 0;
}

/* Not there: extended attributes, ioctl, poll, lseek, fallocate, …: the kernel does without. */
static int (*const calls[FUSE_OPCODES])(struct job *job) = {
	[FUSE_INIT] = do_init,
	[FUSE_LOOKUP] = do_lookup,
	[FUSE_FORGET] = do_forget,
	[FUSE_BATCH_FORGET] = do_batch_forget,
	[FUSE_INTERRUPT] = do_flush,
	[FUSE_GETATTR] = do_getattr,
	[FUSE_SETATTR] = do_setattr,
	[FUSE_READLINK] = do_readlink,
	[FUSE_SYMLINK] = do_symlink,
	[FUSE_MKNOD] = do_mknod,
	[FUSE_MKDIR] = do_mkdir,
	[FUSE_UNLINK] = do_unlink,
	[FUSE_RMDIR] = do_rmdir,
	[FUSE_RENAME] = do_rename,
	[FUSE_RENAME2] = do_rename2,
	[FUSE_LINK] = do_link,
	[FUSE_OPEN] = do_open,
	[FUSE_CREATE] = do_create,
	[FUSE_TMPFILE] = do_tmpfile,
	[FUSE_READ] = do_read,
	[FUSE_WRITE] = do_write,
	[FUSE_STATFS] = do_statfs,
	[FUSE_FLUSH] = do_flush,
	[FUSE_RELEASE] = do_release,
	[FUSE_FSYNC] = do_fsync,
	[FUSE_OPENDIR] = do_opendir,
	[FUSE_READDIR] = do_readdir,
	[FUSE_RELEASEDIR] = do_releasedir,
	[FUSE_FSYNCDIR] = do_flush,
	[FUSE_GETLK] = do_getlk,
	[FUSE_SETLK] = do_flock,
	[FUSE_SETLKW] = do_flock,
};

/* The attributes in an answer; NULL: it has none. */
static struct fuse_attr *answered_attr(struct job *job)
{
	switch (job->request.in.opcode) {
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		return &((struct fuse_attr_out *)(void *)job->data)->attr;
	case FUSE_LOOKUP:
	case FUSE_MKNOD:
	case FUSE_LINK:
	case FUSE_CREATE:
	case FUSE_TMPFILE:
		return &((struct fuse_entry_out *)(void *)job->data)->attr;
	default:
		return NULL;
	}
}

static void renumber(struct job *job)
{
	static _Atomic uint64_t looks = 1000;
	struct fuse_attr *attr = answered_attr(job);
	unsigned numbers = job->fuse->numbers;

	if (!attr || numbers == FUSE_NUMBERS_REAL || !S_ISREG(attr->mode))
		return;
	attr->nlink = 1;
	attr->ino = numbers == FUSE_NUMBERS_CHANGING ? ++looks : 1000;
	if (numbers == FUSE_NUMBERS_AND_TIMES_SAME)
		attr->ctime = attr->mtime = attr->ctimensec = attr->mtimensec = 1000;
}

int fuse_do(struct job *job)
{
	uint32_t opcode = job->request.in.opcode;
	int r;

	if (opcode >= FUSE_OPCODES || !calls[opcode])
		return -ENOSYS;
	r = calls[opcode](job);
	if (r == 0)
		renumber(job);
	return r;
}
