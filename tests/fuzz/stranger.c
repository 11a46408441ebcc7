#include "stranger.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"

enum { MOST_KEPT = 16 };
#define PENDING 0x40000000 /* lockingv3.html, "Locking Implementation" */
#define SHARED (PENDING + 2)

/* Descriptors of databases: closing one would drop this process's locks, fcntl(2). */
static int kept[MOST_KEPT];
static unsigned kept_count;

static int lock_range(int fd, int type, off_t start, off_t length)
{
	struct flock range = { .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start,
		               .l_len = length };

	return fcntl(fd, F_OFD_SETLK, &range);
}

static void read_database(struct stranger *s, const char *path)
{
	if (kept_count == MOST_KEPT)
		return;
	s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	CHECK(s->fd >= 0);
	kept[kept_count++] = s->fd;
	s->mode = FILELOCK_SHARED;
	if (lock_range(s->fd, F_RDLCK, PENDING, 1) < 0)
		return;
	s->holds = lock_range(s->fd, F_RDLCK, SHARED, 510) == 0;
	CHECK(lock_range(s->fd, F_UNLCK, PENDING, 1) == 0);
}

static void mark(struct stranger *s, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	CHECK(write(fd, "1\nelsewhere\n", 12) == 12);
	close(fd);
	s->mode = FILELOCK_EXCLUSIVE;
	s->holds = true;
}

void stranger_take(struct stranger *s, enum filelock_kind kind, const char *path,
                   enum filelock_mode mode)
{
	if (kind == FILELOCK_READWRITE) {
		read_database(s, path);
	} else if (kind == FILELOCK_SOFT) {
		mark(s, path);
	} else {
		s->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		CHECK(s->fd >= 0);
		s->mode = mode;
		s->holds = flock(s->fd, (mode == FILELOCK_SHARED ? LOCK_SH : LOCK_EX) |
		                                LOCK_NB) == 0;
		if (!s->holds)
			close(s->fd);
	}
}

void stranger_leave(struct stranger *s, enum filelock_kind kind, const char *path, bool removed)
{
	if (!s->holds)
		return;
	s->holds = false;
	if (kind == FILELOCK_READWRITE) {
		CHECK(lock_range(s->fd, F_UNLCK, 0, 0) == 0);
		(void)utimensat(AT_FDCWD, path, NULL, 0);
	} else if (kind == FILELOCK_SOFT) {
		CHECK(removed || unlink(path) == 0);
	} else {
		CHECK(flock(s->fd, LOCK_UN) == 0);
		close(s->fd);
	}
}

void stranger_end(void)
{
	while (kept_count > 0)
		close(kept[--kept_count]);
}
