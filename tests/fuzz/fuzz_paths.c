/*
 * fuzz_paths.c - any bytes as a path, in any working folder.
 *
 * A handle's path is absolute, and has the names of what was given, without those that name
 * nothing; opening it again gives the same. A singleton's is found again by either.
 */
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "driver_private.h"
#include "fuzz.h"
#include "base/sys.h"

static const char *here; /* the working folder that getcwd(3) tells */

static char *play_getcwd(char *buffer, size_t size)
{
	if (strlen(here) < size)
		return strcpy(buffer, here);
	errno = ERANGE;
	return NULL;
}

/* The next name of a path that is not empty nor "."; NULL: none. */
static const char *next_name(const char **path, size_t *ret_length)
{
	for (;;) {
		const char *name = *path + strspn(*path, "/");
		size_t length = strcspn(name, "/");

		*path = name + length;
		*ret_length = length;
		if (length == 0)
			return NULL;
		if (length != 1 || *name != '.')
			return name;
	}
}

/* Whether the absolute path has the names of the others, one after the other. */
static bool has_names_of(const char *path, const char *first, const char *second)
{
	size_t length, wanted;
	const char *name, *other;

	while ((name = next_name(&path, &length))) {
		other = next_name(&first, &wanted);
		if (!other)
			other = next_name(&second, &wanted);
		if (!other || wanted != length || memcmp(name, other, length) != 0)
			return false;
	}
	return !next_name(&first, &wanted) && !next_name(&second, &wanted);
}

static void check_absolute(const char *path)
{
	const char *name = strrchr(path, '/');

	CHECK(path[0] == '/');
	CHECK(strlen(path) < PATH_MAX);
	CHECK(!strstr(path, "//") && !strstr(path, "/./"));
	CHECK(name[1] && strcmp(name, "/.") != 0 && strcmp(name, "/..") != 0);
}

static void check_error(int r)
{
	switch (r) {
	case -EINVAL:
	case -EISDIR:
	case -ENAMETOOLONG:
	case -ERANGE:  /* our getcwd(3) */
	case -ENOTDIR: /* the rest: of realpath(3) */
	case -EACCES:
	case -ELOOP:
		CHECK(strlen(filelock_last_error(NULL)) > 0);
		break;
	default:
		CHECK(r == 0);
	}
}

static void check_text(const char *path)
{
	struct filelock *lock, *again;
	int r = filelock_open(path, FILELOCK_NATIVE, NULL, &lock);

	check_error(r);
	CHECK(r != -ELOOP && r != -EACCES && r != -ENOTDIR);
	if (r < 0)
		return;
	check_absolute(filelock_path(lock));
	CHECK(has_names_of(filelock_path(lock), path[0] == '/' ? "" : here, path));
	CHECK(filelock_open(filelock_path(lock), FILELOCK_NATIVE, NULL, &again) == 0);
	CHECK(strcmp(filelock_path(again), filelock_path(lock)) == 0);
	CHECK(filelock_compare(lock, again) == 0 && filelock_hash(lock) == filelock_hash(again));
	filelock_close(again);
	filelock_close(lock);
}

static void check_singleton(const char *path)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *lock, *again;
	int r;

	options.singleton = true;
	r = filelock_open(path, FILELOCK_SOFT, &options, &lock);
	check_error(r);
	if (r < 0)
		return;
	check_absolute(filelock_path(lock));
	CHECK(filelock_open(filelock_path(lock), FILELOCK_SOFT, &options, &again) == 0);
	CHECK(again == lock);
	CHECK(filelock_open(path, FILELOCK_SOFT, &options, &again) == 0);
	CHECK(again == lock);
	for (int i = 0; i < 3; i++)
		filelock_close(lock);
}

static void check_extension(const char *path)
{
	struct filelock *lock;
	size_t length = strlen(path);
	int r = filelock_open(path, FILELOCK_READWRITE, NULL, &lock);

	if (r == -ENOSYS)
		return;
	check_error(r);
	if (r < 0)
		return;
	CHECK(length > 3 && strcmp(path + length - 3, ".db") == 0);
	filelock_close(lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const folders[] = { "/", "/tmp", "/tmp/a b", "/tmp/.", "//tmp" };
	struct sys_table real = sys;
	struct input input = { data, size };
	unsigned which = input_byte(&input);
	char *folder = input_string(&input, which & 0x80 ? 2 * PATH_MAX : 0);
	char *path = input_string(&input, 2 * PATH_MAX);

	if (which & 0x40) { /* a long one costs the fuzzer few bytes */
		size_t length = which % 2 ? PATH_MAX - 5 : PATH_MAX / 2;

		free(folder);
		folder = malloc(length + 1);
		CHECK(folder);
		memset(folder, 'x', length);
		folder[length] = '\0';
	}
	here = which & 0xc0 ? folder : folders[which % 5];
	if (here[0] == '/' || here[0] == 'x')
		sys.getcwd = play_getcwd;
	if (here[0] == 'x')
		folder[0] = '/';
	if (sys.getcwd == play_getcwd) {
		check_text(path);
		check_singleton(path);
		check_extension(path);
	}
	sys = real;
	free(folder);
	free(path);
	return 0;
}
