#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/sys.h"

enum { SERVED = 1 << 20 }; /* a descriptor that no process has */

void fuzz_fail(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
	abort();
}

unsigned input_byte(struct input *input)
{
	if (input->left == 0)
		return 0;
	input->left--;
	return *input->at++;
}

uint64_t input_number(struct input *input, unsigned bytes)
{
	uint64_t number = 0;

	while (bytes-- > 0)
		number = number << 8 | input_byte(input);
	return number;
}

const uint8_t *input_piece(struct input *input, size_t most, size_t *ret_size)
{
	size_t size = input_number(input, most > 255 ? 2 : 1);
	const uint8_t *piece = input->at;

	if (size > most)
		size = most;
	if (size > input->left)
		size = input->left;
	input->at += size;
	input->left -= size;
	*ret_size = size;
	return size ? piece : NULL;
}

char *input_string(struct input *input, size_t most)
{
	size_t size;
	const uint8_t *piece = input_piece(input, most, &size);
	char *text = calloc(1, size + 1);
	size_t length = 0;

	CHECK(text);
	for (size_t i = 0; i < size; i++)
		if (piece[i])
			text[length++] = (char)piece[i];
	return text;
}

static char folder[64];
static pid_t folder_owner;

static void remove_folder(void)
{
	if (getpid() == folder_owner)
		(void)rmdir(folder);
}

const char *fuzz_folder(void)
{
	if (folder[0])
		return folder;
	strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	strcat(folder, "/filelock-fuzz-XXXXXX");
	CHECK(mkdtemp(folder));
	folder_owner = getpid();
	(void)atexit(remove_folder);
	return folder;
}

const char *fuzz_path(const char *name)
{
	static char paths[4][128];
	static unsigned turn;
	char *path = paths[turn++ % 4];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", fuzz_folder(), name);
	return path;
}

void fuzz_write(const char *path, const void *bytes, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK(write(fd, bytes, size) == (ssize_t)size);
	close(fd);
}

unsigned fuzz_descriptors(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 300; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static struct {
	const char *path;
	const char *bytes;
	size_t size, piece, at;
	struct sys_table real;
} served;

static int serve_open(const char *path, int flags, mode_t mode)
{
	if (strcmp(path, served.path) != 0)
		return served.real.open(path, flags, mode);
	served.at = 0;
	return SERVED;
}

static ssize_t serve_read(int fd, void *buffer, size_t size)
{
	size_t left = served.size - served.at;

	if (fd != SERVED)
		return served.real.read(fd, buffer, size);
	if (served.piece && size > served.piece)
		size = served.piece;
	if (size > left)
		size = left;
	if (size > 0)
		memcpy(buffer, served.bytes + served.at, size);
	served.at += size;
	return (ssize_t)size;
}

static int serve_close(int fd)
{
	return fd == SERVED ? 0 : served.real.close(fd);
}

void fuzz_serve(const char *path, const void *bytes, size_t size, size_t piece)
{
	if (served.path) {
		sys.open = served.real.open;
		sys.read = served.real.read;
		sys.close = served.real.close;
	}
	served.path = path;
	if (!path)
		return;
	served.bytes = bytes;
	served.size = size;
	served.piece = piece;
	served.real = sys;
	sys.open = serve_open;
	sys.read = serve_read;
	sys.close = serve_close;
}
