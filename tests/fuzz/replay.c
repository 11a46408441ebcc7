/* replay.c - runs a target over the files of the folders that are its arguments. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static void replay(const char *path)
{
	FILE *file = fopen(path, "rb");
	long size;
	uint8_t *data;

	CHECK(file);
	CHECK(fseek(file, 0, SEEK_END) == 0);
	size = ftell(file);
	CHECK(size >= 0);
	rewind(file);
	/* of exactly that size, so that a sanitizer sees a read beyond it */
	data = malloc(size ? (size_t)size : 1);
	CHECK(data);
	CHECK(fread(data, 1, (size_t)size, file) == (size_t)size);
	(void)fclose(file);
	(void)LLVMFuzzerTestOneInput(data, (size_t)size);
	free(data);
}

static int replay_folder(const char *path)
{
	DIR *folder = opendir(path);
	const struct dirent *entry;
	char file[4096];
	int count = 0;

	if (!folder)
		return 0;
	while ((entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		(void)fprintf(stderr, "%s\n", entry->d_name); /* the last line tells */
		replay(file);
		count++;
	}
	(void)closedir(folder);
	return count;
}

int main(int argc, char **argv)
{
	int count = 0;

	for (int i = 1; i < argc; i++)
		count += replay_folder(argv[i]);
	(void)fprintf(stderr, "%d inputs\n", count);
	return count == 0;
}
