/*
 * afterwards.c - checks when all processes are gone: nothing incomplete lies in the folder, every
 * lock is free, and enough has happened to prove something.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kinds/soft_record.h"
#include "storm.h"

/* of one kind: some readers among them meet; among fewer, chance may have it that none do */
#define ENOUGH_GRANTS 5000

static const struct place *place_named(const char *name)
{
	for (unsigned i = 0; i < arena->place_count; i++)
		if (strcmp(strrchr(arena->places[i].path, '/') + 1, name) == 0)
			return &arena->places[i];
	return NULL;
}

/* A killed holder's marker stays, but whole. */
static void check_marker(const struct place *place)
{
	static struct marker marker;
	char bytes[2 * MARKER_SIZE];
	FILE *file = fopen(place->path, "re");
	size_t size;

	if (!file)
		return;
	size = fread(bytes, 1, sizeof(bytes), file);
	(void)fclose(file);
	soft_record_parse(bytes, size, &marker);
	if (marker.type != MARKER_RECORD)
		trouble_note(TROUBLE_LEFT_BEHIND, "%s: a marker of %zu bytes that is no record",
		             place->path, size);
}

/* The folder of a log, beside the path that it is called after. */
static bool is_log(const char *name)
{
	char path[NAME_MAX + 1];
	size_t length = strlen(name);
	const struct place *place;

	if (length < 4 || strcmp(name + length - 3, ".rw") != 0)
		return false;
	(void)snprintf(path, sizeof(path), "%.*s", (int)length - 3, name);
	place = place_named(path);
	return place && place->kind == FILELOCK_SOFT_READWRITE;
}

static void check_file(const char *name)
{
	const struct place *place = place_named(name);
	struct stat st;

	if (is_log(name))
		return;
	if (!place) {
		trouble_note(TROUBLE_LEFT_BEHIND, "%s/%s was left behind", arena->folder, name);
		return;
	}
	if (place->kind == FILELOCK_SOFT)
		check_marker(place);
	else if (stat(place->path, &st) == 0 && st.st_size != 0)
		trouble_note(TROUBLE_LEFT_BEHIND, "%s has %ld bytes", place->path,
		             (long)st.st_size);
}

static void check_folder(void)
{
	DIR *folder = opendir(arena->folder);
	struct dirent *entry;

	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.' && strcmp(entry->d_name, "aside") != 0)
			check_file(entry->d_name);
	if (folder)
		(void)closedir(folder);
}

static void take(const struct place *place)
{
	struct filelock *lock = NULL;
	int r = filelock_open(place->path, place->kind, NULL, &lock);

	if (r == 0)
		r = filelock_acquire(lock, FILELOCK_EXCLUSIVE, 5000);
	if (r == 0)
		r = filelock_release(lock);
	if (r < 0)
		trouble_note(TROUBLE_RESULT, "nobody gets %s afterwards: %s", place->path,
		             filelock_last_error(lock));
	else if (place->kind == FILELOCK_SOFT && access(place->path, F_OK) == 0)
		trouble_note(TROUBLE_LEFT_BEHIND, "%s is still there after a release",
		             place->path);
	filelock_close(lock);
}

/* One that was killed before it wrote its record is swept later, by its silence. */
static bool is_empty(const char *folder, const char *name)
{
	char path[PATH_MAX + NAME_MAX + 32];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", folder, name);
	return stat(path, &st) == 0 && st.st_size == 0;
}

/* The records of all others that were killed are swept by whoever comes. */
static void check_holders(const struct place *place)
{
	char path[PATH_MAX + 16];
	struct dirent *entry;
	DIR *folder;

	if (place->kind != FILELOCK_SOFT_READWRITE)
		return;
	(void)snprintf(path, sizeof(path), "%s.rw/holders", place->path);
	folder = opendir(path);
	while (folder && (entry = readdir(folder)))
		if (entry->d_name[0] != '.' && !is_empty(path, entry->d_name))
			trouble_note(TROUBLE_LEFT_BEHIND, "%s/%s was left behind", path,
			             entry->d_name);
	if (folder)
		(void)closedir(folder);
}

/* In a process of its own, so that ours has nothing open when the next round forks. */
static void take_all(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		for (unsigned i = 0; i < arena->place_count; i++)
			take(&arena->places[i]);
		for (unsigned i = 0; i < arena->place_count; i++)
			check_holders(&arena->places[i]);
		exit(0);
	}
	(void)waitpid(pid, NULL, 0);
}

static unsigned long tally(enum tally which)
{
	unsigned long sum = 0;

	for (unsigned i = 0; i < arena->slot_count; i++)
		sum += arena->slots[i].tallies[which];
	return sum;
}

static void check_readers(enum filelock_kind kind)
{
	if (kind == FILELOCK_SOFT || tally(TALLY_NATIVE + kind) < ENOUGH_GRANTS)
		return;
	if (tally(TALLY_TOGETHER + kind) == 0)
		trouble_note(TROUBLE_COUNTS, "no two %s readers were ever inside together",
		             kind_name(kind));
}

static void check_wakes(void)
{
	int64_t bound = LOST_BOUND + atomic_load(&arena->worst_stall);

	for (unsigned i = 0; i < arena->slot_count; i++)
		if (arena->slots[i].longest > bound)
			trouble_note(TROUBLE_LOST, "slot %u: granted %.3f s after the release", i,
			             (double)arena->slots[i].longest / 1e9);
}

void afterwards_check(void)
{
	check_folder();
	take_all();
	check_wakes();
	if (atomic_load(&arena->trouble_count) > 0)
		return;
	for (int k = 0; k < KINDS; k++)
		check_readers((enum filelock_kind)k);
}
