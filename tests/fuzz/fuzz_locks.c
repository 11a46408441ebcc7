/*
 * fuzz_locks.c - any bytes as /proc/locks, mountinfo and the like: line by line through the
 * reader, in reads of any length; through each parser; and through filelock_holder, for which
 * the input names our file and process by '@' and '%'.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "fuzz.h"
#include "base/proc.h"

#define LOCKS "/proc/locks"
enum { LONGEST = sizeof(((struct proc_lines *)NULL)->buffer) - 1 };

static void check_lock(const char *line)
{
	struct proc_lock lock, again;
	char text[256];

	if (!proc_parse_lock(line, &lock))
		return;
	CHECK(lock.pid >= 0);
	(void)snprintf(text, sizeof(text), "1: FLOCK  ADVISORY  %s %ld %02x:%02x:%llu 0 EOF",
	               lock.mode == FILELOCK_SHARED ? "READ " : "WRITE", (long)lock.pid,
	               lock.device.major, lock.device.minor, (unsigned long long)lock.inode);
	CHECK(proc_parse_lock(text, &again));
	CHECK(again.pid == lock.pid && again.mode == lock.mode && again.inode == lock.inode &&
	      again.device.major == lock.device.major &&
	      again.device.minor == lock.device.minor);
}

static void check_record(const char *line)
{
	struct proc_record record, again;
	char text[256];

	if (!proc_parse_record(line, &record))
		return;
	(void)snprintf(text, sizeof(text), "7: POSIX  ADVISORY  %s %ld %02x:%02x:%llu %llu %llu",
	               record.lock.mode == FILELOCK_SHARED ? "READ " : "WRITE",
	               (long)record.lock.pid, record.lock.device.major,
	               record.lock.device.minor, (unsigned long long)record.lock.inode,
	               (unsigned long long)record.first, (unsigned long long)record.last);
	CHECK(proc_parse_record(text, &again));
	CHECK(again.lock.pid == record.lock.pid && again.first == record.first &&
	      again.last == record.last && again.lock.inode == record.lock.inode);
}

static void check_line(const char *line)
{
	struct proc_device device = { 3, 4 };
	uint64_t number = 5;
	int64_t seconds = 6;

	check_lock(line);
	check_record(line);
	if (!proc_parse_mount(line, &number, &device))
		CHECK(number == 5 && device.major == 3 && device.minor == 4);
	if (!proc_parse_fdinfo(line, "mnt_id", &number))
		CHECK(number == 5 || device.major != 3 || device.minor != 4);
	if (proc_parse_boot_time(line, &seconds))
		CHECK(seconds >= 0);
	else
		CHECK(seconds == 6);
}

/* The line that the reader should find next, cut to what it holds. */
static size_t next_line(const char *bytes, size_t size, size_t *at)
{
	const char *end = memchr(bytes + *at, '\n', size - *at);
	size_t length = end ? (size_t)(end - (bytes + *at)) : size - *at;

	*at += length + (end != NULL);
	return length < LONGEST ? length : LONGEST;
}

static void check_lines(const char *bytes, size_t size)
{
	struct proc_lines lines;
	const char *line;
	size_t at = 0;

	CHECK(proc_lines_open(&lines, LOCKS) == 0);
	while (at < size) {
		const char *expected = bytes + at;
		size_t length = next_line(bytes, size, &at);
		size_t shown = strnlen(expected, length);

		CHECK(proc_lines_next(&lines, &line) == 1);
		CHECK(strlen(line) == shown && memcmp(line, expected, shown) == 0);
		check_line(line);
	}
	CHECK(proc_lines_next(&lines, &line) == 0);
	proc_lines_close(&lines);
}

static void check_holder(enum filelock_kind kind, const char *name)
{
	struct filelock_owner owner = FILELOCK_OWNER_INIT;
	struct filelock *lock;
	int r;

	if (filelock_open(fuzz_path(name), kind, NULL, &lock) < 0)
		return;
	r = filelock_holder(lock, &owner);
	CHECK(r == 0 || r == FILELOCK_ENOHOLDER || r == FILELOCK_EUNKNOWNHOLDER);
	CHECK(r != 0 || owner.pid > 0);
	CHECK(memchr(owner.host, '\0', sizeof(owner.host)));
	filelock_close(lock);
}

/* The input with each '@' as the file's name in /proc/locks, and each '%' as our pid. */
static char *spell_out(const struct input *input, const char *path, size_t *ret_size)
{
	char name[64], pid[16];
	struct stat st;
	char *bytes;
	size_t size = 0;

	CHECK(stat(path, &st) == 0);
	(void)snprintf(name, sizeof(name), "%02x:%02x:%llu", major(st.st_dev), minor(st.st_dev),
	               (unsigned long long)st.st_ino);
	(void)snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	bytes = malloc(input->left * sizeof(name) + 1);
	CHECK(bytes);
	for (size_t i = 0; i < input->left; i++) {
		char c = (char)input->at[i];
		const char *word = c == '@' ? name : pid;

		if (c == '@' || c == '%') {
			memcpy(bytes + size, word, strlen(word));
			size += strlen(word);
		} else {
			bytes[size++] = c;
		}
	}
	*ret_size = size;
	return bytes;
}

/* The other files are read where a holder is found, or looked for. */
static void check_other_files(const char *bytes, size_t size, size_t piece)
{
	struct filelock *lock;

	fuzz_serve("/proc/thread-self/mountinfo", bytes, size, piece);
	check_holder(FILELOCK_NATIVE, "a.db");
	fuzz_serve("/proc/stat", bytes, size, piece);
	CHECK(filelock_open(fuzz_path("a.db"), FILELOCK_NATIVE, NULL, &lock) == 0);
	CHECK(filelock_acquire(lock, FILELOCK_SHARED, FILELOCK_NO_WAIT) == 0);
	check_holder(FILELOCK_NATIVE, "a.db");
	filelock_close(lock);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input input = { data, size };
	size_t piece = input_byte(&input);
	char *bytes;

	fuzz_write(fuzz_path("a.db"), "", 0);
	bytes = spell_out(&input, fuzz_path("a.db"), &size);
	fuzz_serve(LOCKS, bytes, size, piece);
	check_lines(bytes, size);
	check_holder(FILELOCK_NATIVE, "a.db");
	check_holder(FILELOCK_READWRITE, "a.db");
	check_other_files(bytes, size, piece);
	fuzz_serve(NULL, NULL, 0, 0);
	CHECK(remove(fuzz_path("a.db")) == 0);
	free(bytes);
	return 0;
}
