/*
 * fuse_server.h - between the server's loop and what it does for each request.
 */
#ifndef FILELOCK_TESTS_FUSE_SERVER_H
#define FILELOCK_TESTS_FUSE_SERVER_H

#include <linux/fuse.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fuse.h"

#define FUSE_SERVER_DATA 32768u /* bytes of a file in one request or answer */

/* One request and its answer. */
struct job {
	struct fuse *fuse;
	struct job *next;
	_Atomic bool interrupted; /* the caller has a signal */
	bool silent;              /* the request has no answer */

	/* The body follows the header; it ends with a zero byte more than came. */
	union {
		struct fuse_in_header in;
		char bytes[FUSE_SERVER_DATA + 4096];
	} request;

	/* Filled in: size, and what `out` follows. */
	size_t size;
	struct fuse_out_header out;
	_Alignas(8) char data[FUSE_SERVER_DATA];
};
_Static_assert(offsetof(struct job, data) ==
               offsetof(struct job, out) + sizeof(struct fuse_out_header),
               "header and data are written as one");

/* The server: never returns while the mount is there. */
void fuse_serve(struct fuse *fuse);

/* Answers the request: 0, or a negative errno. */
int fuse_do(struct job *job);

/*
 * Nodes: an inode that the kernel knows is an O_PATH descriptor here, found by device and number,
 * so that two links are one node.
 */
int fuse_node_root(const char *backing);
int fuse_node_fd(uint64_t id);
/* Takes fd, which it closes if the node is known already; counts one more reference. */
int fuse_node_add(int fd, struct fuse_entry_out *ret);
void fuse_node_forget(uint64_t id, uint64_t count);
int fuse_node_attr(int fd, struct fuse_attr *ret);

#endif
