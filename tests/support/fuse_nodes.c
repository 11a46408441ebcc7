#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuse_server.h"

#define BUCKETS 1024

struct node {
	struct node *next;
	int fd; /* keeps the number of the inode from being given to another */
	dev_t device;
	ino_t number;
	uint64_t generation; /* an address may come again, for another inode */
	uint64_t references;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct node *buckets[BUCKETS];
static struct node root;

static struct node *find(uint64_t id)
{
	return id == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)id;
}

int fuse_node_root(const char *backing)
{
	root.fd = open(backing, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return root.fd < 0 ? -errno : 0;
}

int fuse_node_fd(uint64_t id)
{
	return find(id)->fd;
}

static struct fuse_attr attr_of(const struct stat *st)
{
	return (struct fuse_attr){
		.ino = st->st_ino,
		.size = (uint64_t)st->st_size,
		.blocks = (uint64_t)st->st_blocks,
		.atime = (uint64_t)st->st_atim.tv_sec,
		.atimensec = (uint32_t)st->st_atim.tv_nsec,
		.mtime = (uint64_t)st->st_mtim.tv_sec,
		.mtimensec = (uint32_t)st->st_mtim.tv_nsec,
		.ctime = (uint64_t)st->st_ctim.tv_sec,
		.ctimensec = (uint32_t)st->st_ctim.tv_nsec,
		.mode = st->st_mode,
		.nlink = (uint32_t)st->st_nlink,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = (uint32_t)st->st_rdev,
		.blksize = (uint32_t)st->st_blksize,
	};
}

int fuse_node_attr(int fd, struct fuse_attr *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret = attr_of(&st);
	return 0;
}

/* With the mutex. */
static struct node *find_inode(const struct stat *st)
{
	struct node *node = buckets[st->st_ino % BUCKETS];

	while (node && (node->number != st->st_ino || node->device != st->st_dev))
		node = node->next;
	return node;
}

/* With the mutex. */
static struct node *make_node(int fd, const struct stat *st)
{
	static uint64_t generation;
	struct node **bucket = &buckets[st->st_ino % BUCKETS];
	struct node *node = malloc(sizeof(*node));

	if (node) {
		*node = (struct node){ *bucket, fd, st->st_dev, st->st_ino, ++generation, 0 };
		*bucket = node;
	}
	return node;
}

int fuse_node_add(int fd, struct fuse_entry_out *ret)
{
	struct node *node;
	struct stat st;

	if (fstat(fd, &st) < 0) {
		close(fd);
		return -EIO;
	}
	pthread_mutex_lock(&mutex);
	node = find_inode(&st);
	if (!node)
		node = make_node(fd, &st);
	if (node) {
		node->references++;
		*ret = (struct fuse_entry_out){
			.nodeid = (uint64_t)(uintptr_t)node,
			.generation = node->generation,
			.attr = attr_of(&st),
		};
	}
	if (!node || node->fd != fd)
		close(fd);
	pthread_mutex_unlock(&mutex);
	return node ? 0 : -ENOMEM;
}

void fuse_node_forget(uint64_t id, uint64_t count)
{
	struct node *node = find(id);
	struct node **at;

	if (node == &root)
		return;
	pthread_mutex_lock(&mutex);
	node->references -= count;
	if (node->references == 0) {
		at = &buckets[node->number % BUCKETS];
		while (*at != node)
			at = &(*at)->next;
		*at = node->next;
		close(node->fd);
		free(node);
	}
	pthread_mutex_unlock(&mutex);
}
