/* vitals.c - what a process has: to be the same at its end as when it was warm. */
#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storm.h"

#define GROWTH 65536 /* bytes: what malloc keeps for itself between two looks at it */
#define PATIENCE (10 * SECOND)

static unsigned count_watches(const char *descriptor)
{
	char path[64], line[512];
	unsigned count = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%.16s", descriptor);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		count += strncmp(line, "inotify wd:", 11) == 0;
	if (file)
		(void)fclose(file);
	return count;
}

static bool is_poll(const char *descriptor)
{
	char path[64], target[64];
	ssize_t length;

	(void)snprintf(path, sizeof(path), "/proc/self/fd/%.16s", descriptor);
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return false;
	target[length] = '\0';
	return strcmp(target, "anon_inode:[eventpoll]") == 0;
}

unsigned vitals_threads(void)
{
	DIR *folder = opendir("/proc/self/task");
	const struct dirent *entry;
	unsigned count = 0;

	while (folder && (entry = readdir(folder)))
		count += entry->d_name[0] != '.';
	if (folder)
		(void)closedir(folder);
	return count;
}

static void await_threads(unsigned most)
{
	int64_t end = now() + PATIENCE;

#ifdef __SANITIZE_THREAD__
	most++; /* a second one of the sanitizer itself may begin later */
#endif
	while (vitals_threads() > most) {
		if (now() > end) {
			trouble_note(TROUBLE_LEAK, "pid %d: %u threads, %u at its beginning",
			             (int)getpid(), vitals_threads(), most);
			return;
		}
		nap(MILLISECOND);
	}
}

static struct vitals take(void)
{
	struct vitals vitals = { .memory = mallinfo2().uordblks };
	DIR *folder = opendir("/proc/self/fd");
	struct dirent *entry;

	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.' || atoi(entry->d_name) == dirfd(folder))
			continue;
		if (is_poll(entry->d_name))
			vitals.polls++;
		else
			vitals.descriptors++;
		vitals.watches += count_watches(entry->d_name);
	}
	if (folder)
		(void)closedir(folder);
	return vitals;
}

struct vitals vitals_take(unsigned threads)
{
	await_threads(threads);
	return take();
}

/* What the descriptors are, in one line. */
static void describe(char *text, size_t size)
{
	size_t used = 0;

	for (int fd = 0; fd < 256; fd++) {
		char link[32], target[128];
		ssize_t length;

		(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		length = readlink(link, target, sizeof(target));
		if (length <= 0 || used + (size_t)length + 2 > size)
			continue;
		(void)snprintf(text + used, size - used, " %.*s", (int)length, target);
		used += (size_t)length + 1;
	}
}

void vitals_compare(struct vitals before, struct vitals after)
{
	char open[300] = "";

	/* waits of a thread make an epoll instance when one first needs a pidfd, and keep it */
	if (after.descriptors != before.descriptors || after.watches != before.watches ||
	    after.polls > 1) {
		describe(open, sizeof(open));
		trouble_note(TROUBLE_LEAK, "pid %d: %u descriptors and %u watches, %u and %u before:%s",
		             (int)getpid(), after.descriptors, after.watches, before.descriptors,
		             before.watches, open);
	}
	if (after.memory > before.memory + GROWTH)
		trouble_note(TROUBLE_LEAK, "pid %d: %zu bytes allocated, %zu before",
		             (int)getpid(), after.memory, before.memory);
}
