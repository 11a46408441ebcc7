/*
 * fuzz_database.c - any bytes as the database of a read/write lock, with or without a journal
 * beside it.
 *
 * The call gives the lock or the exact error. No byte changes, no file comes or goes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filelock/filelock.h>

#include "fuzz.h"

static const char *const beside[] = { "x.db-journal", "x.db-wal", "x.db-shm" };

struct file {
	const char *name;
	const uint8_t *bytes;
	size_t size;
	bool is_there;
};

static void check_unchanged(const struct file *file)
{
	int fd = open(fuzz_path(file->name), O_RDONLY | O_CLOEXEC);
	uint8_t *bytes = malloc(file->size + 1);

	CHECK(bytes);
	CHECK((fd >= 0) == file->is_there);
	if (fd >= 0) {
		CHECK(read(fd, bytes, file->size + 1) == (ssize_t)file->size);
		CHECK(file->size == 0 || memcmp(bytes, file->bytes, file->size) == 0);
		close(fd);
	}
	free(bytes);
}

/* The result for a database of these bytes: filelock.h, "Read/write locks". */
static int expected(const struct file *database, const struct file *journal)
{
	const uint8_t *bytes = database->bytes;

	if (database->size == 0) /* SQLite ignores a journal of nothing */
		return 0;
	if (journal->is_there)
		return FILELOCK_EJOURNAL;
	if (database->size < 20 || memcmp(bytes, "SQLite format 3", 16) != 0)
		return -EBADMSG;
	if (bytes[18] == 2 || bytes[19] == 2)
		return FILELOCK_EWAL;
	return bytes[18] == 1 && bytes[19] == 1 ? 0 : -EBADMSG;
}

static void check_lock(enum filelock_mode mode, int result)
{
	struct filelock *lock;
	int r;

	CHECK(filelock_open(fuzz_path("x.db"), FILELOCK_READWRITE, NULL, &lock) == 0);
	for (int round = 0; round < 2; round++) { /* the second meets what was examined */
		r = filelock_acquire(lock, mode, FILELOCK_NO_WAIT);
		CHECK(r == result);
		CHECK(filelock_is_held(lock) == (r == 0));
		if (r == 0)
			CHECK(filelock_verify(lock) == 0 && filelock_release(lock) == 0);
		else
			CHECK(strlen(filelock_last_error(lock)) > 0);
	}
	filelock_close(lock);
}

static unsigned count_files(void)
{
	DIR *folder = opendir(fuzz_folder());
	unsigned count = 0;

	CHECK(folder);
	while (readdir(folder))
		count++;
	closedir(folder);
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	unsigned which = input_byte(&input);
	struct file files[4] = { { "x.db", NULL, 0, true } };
	unsigned count;
	int result;

	for (int i = 1; i < 4; i++) {
		files[i].name = beside[i - 1];
		files[i].is_there = which >> i & 1;
		if (files[i].is_there)
			files[i].bytes = input_piece(&input, 255, &files[i].size);
	}
	files[0].bytes = input.at;
	files[0].size = input.left;
	for (int i = 0; i < 4; i++)
		if (files[i].is_there)
			fuzz_write(fuzz_path(files[i].name), files[i].bytes, files[i].size);
	count = count_files();
	result = expected(&files[0], &files[1]);
	check_lock(which & 1 ? FILELOCK_SHARED : FILELOCK_EXCLUSIVE, result);
	CHECK(count_files() == count);
	for (int i = 0; i < 4; i++) {
		check_unchanged(&files[i]);
		if (files[i].is_there)
			CHECK(unlink(fuzz_path(files[i].name)) == 0);
	}
	return 0;
}
