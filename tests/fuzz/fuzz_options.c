/*
 * fuzz_options.c - any bytes as the options of a handle, and any size of an owner.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <filelock/filelock.h>

#include "fuzz.h"

enum { LARGEST = 6000, DESCRIPTOR = FILELOCK_SOFT_READWRITE + 1 };

/* Options of the size that they say, so that a sanitizer sees a read beyond them. */
static struct filelock_options *make_options(struct input *input, size_t *ret_size)
{
	size_t size = input_number(input, 2);
	size_t room = size < sizeof(size) ? sizeof(size) : size > LARGEST ? LARGEST : size;
	unsigned char *bytes = calloc(1, room);

	CHECK(bytes);
	memcpy(bytes, &size, sizeof(size));
	for (size_t i = sizeof(size); i < room && input->left > 0; i++)
		bytes[i] = (unsigned char)input_byte(input);
	*ret_size = room;
	return (struct filelock_options *)bytes;
}

static bool is_zero(const void *bytes, size_t begin, size_t end)
{
	for (size_t i = begin; i < end; i++)
		if (((const unsigned char *)bytes)[i] != 0)
			return false;
	return true;
}

/* Of options that were taken: what the header says of each member. */
static void check_taken(const struct filelock_options *options, size_t size, int kind)
{
	struct filelock_options all = FILELOCK_OPTIONS_INIT;
	const unsigned char *flags = (const unsigned char *)&all.singleton;
	size_t begin = offsetof(struct filelock_options, singleton);
	size_t end = offsetof(struct filelock_options, duration_ms);
	bool expires = kind == FILELOCK_LEASE || kind == FILELOCK_SOFT_READWRITE;

	CHECK(size >= sizeof(size_t));
	CHECK(is_zero(options, sizeof(all), size));
	memcpy(&all, options, size < sizeof(all) ? size : sizeof(all));
	CHECK(all.file_mode <= 07777);
	CHECK(all.poll_interval_ms <= 3600000);
	for (size_t i = 0; i < end - begin; i++)
		CHECK(flags[i] <= 1);
	CHECK(all.lifetime_ms == 0 || kind == FILELOCK_SOFT);
	CHECK(expires || (all.duration_ms == 0 && all.heartbeat_ms == 0));
	CHECK(all.duration_ms == 0 || all.heartbeat_ms < all.duration_ms);
	CHECK(!all.unlink_on_release || kind != FILELOCK_READWRITE);
}

static void check_open(struct input *input)
{
	int kind = (int)(input_byte(input) % (DESCRIPTOR + 1));
	size_t size;
	struct filelock_options *options = make_options(input, &size);
	struct filelock *const untouched = (struct filelock *)&size;
	struct filelock *lock = untouched;
	int r;

	if (kind == DESCRIPTOR)
		r = filelock_open_fd(0, options, &lock);
	else
		r = filelock_open("/nowhere/a.db", (enum filelock_kind)kind, options, &lock);
	if (r == 0) {
		check_taken(options, size, kind);
		CHECK(filelock_path(lock) && !filelock_is_held(lock));
		CHECK(strcmp(filelock_last_error(lock), "") == 0);
		filelock_close(lock);
	} else {
		CHECK(r == -EINVAL || r == FILELOCK_ENOLIFETIME || r == -ENOSYS ||
		      (r == -EBADF && kind == DESCRIPTOR));
		CHECK(lock == untouched);
		CHECK(strlen(filelock_last_error(NULL)) > 0);
	}
	free(options);
}

static void check_owner(struct input *input)
{
	size_t size = input_number(input, 2);
	size_t room = size < sizeof(size) ? sizeof(size) : size > LARGEST ? LARGEST : size;
	unsigned char *bytes = malloc(room);
	struct filelock *lock;
	int r;

	CHECK(bytes);
	memset(bytes, 0xa5, room);
	memcpy(bytes, &size, sizeof(size));
	CHECK(filelock_open(fuzz_path("marker"), FILELOCK_SOFT, NULL, &lock) == 0);
	fuzz_write(fuzz_path("marker"), "1\nhost\n", 7);
	r = filelock_holder(lock, (struct filelock_owner *)bytes);
	CHECK(memcmp(bytes, &size, sizeof(size)) == 0);
	if (r == 0)
		CHECK(is_zero(bytes, sizeof(struct filelock_owner), room));
	else
		CHECK(r == -EINVAL && (size < sizeof(size) || size > 4096));
	filelock_close(lock);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };

	check_open(&input);
	check_owner(&input);
	CHECK(remove(fuzz_path("marker")) == 0);
	return 0;
}
