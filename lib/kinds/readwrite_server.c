/*
 * readwrite_server.c - whether a server of NFS still has the lock of a hold.
 *
 * A server of NFSv4 that has not heard of this machine for its lease's time gives the locks to whoever
 * asks. The kernel here keeps them in its list, and so nothing tells SQLite. Asked for the same lock again,
 * the server says whether another one has it.
 *
 * That takes a descriptor of the file. SQLite does not lend its own, and the close of another one would
 * drop all locks of this process on the file. So SQLite's is found among the descriptors of the process:
 * nothing else may have the file open (filelock.h), and SQLite closes none of them while there is a hold.
 */
#include "kinds/readwrite_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/sys.h"
#include "kinds/folder.h"
#include "kinds/readwrite_bytes.h"

enum answer { GO_ON, OURS, ANOTHERS };

struct question {
	struct identity database;
	enum filelock_mode mode;
};

/* What SQLite has at this level, all of it. */
static struct flock bytes_of(enum filelock_mode mode)
{
	uint64_t first = mode == FILELOCK_SHARED ? SHARED_FIRST : PENDING_BYTE;

	return (struct flock){ .l_type = mode == FILELOCK_SHARED ? F_RDLCK : F_WRLCK,
		               .l_whence = SEEK_SET,
		               .l_start = (off_t)first,
		               .l_len = (off_t)(SHARED_LAST - first + 1) };
}

static enum answer take_again(int fd, enum filelock_mode mode)
{
	struct flock range = bytes_of(mode);
	int r;

	do {
		r = sys.fcntl_setlk(fd, &range);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return OURS;
	return errno == EAGAIN || errno == EACCES ? ANOTHERS : GO_ON;
}

static int ask_by(const char *name, void *arg)
{
	const struct question *question = arg;
	int fd = (int)strtol(name, NULL, 10);
	struct stat st;

	if (sys_fstat(fd, &st) < 0 ||
	    !identity_equal(question->database, (struct identity){ st.st_dev, st.st_ino }))
		return GO_ON;
	return take_again(fd, question->mode);
}

bool readwrite_server_forgot(struct identity database, enum filelock_mode mode)
{
	struct question question = { database, mode };
	int folder = sys_open("/proc/thread-self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	int answer;

	if (folder < 0)
		return false;
	answer = folder_list(folder, ask_by, &question);
	(void)sys_close(folder);
	return answer == ANOTHERS;
}
