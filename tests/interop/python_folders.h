/*
 * python_folders.h - the releases of Python's filelock that FILELOCK_TEST_PYTHONPATHS names.
 */
#ifndef FILELOCK_TESTS_PYTHON_FOLDERS_H
#define FILELOCK_TESTS_PYTHON_FOLDERS_H

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The nth folder of FILELOCK_TEST_PYTHONPATHS, from 1; false: there are fewer. */
static bool find_folder(int nth, char *folder, size_t size)
{
	const char *list = getenv("FILELOCK_TEST_PYTHONPATHS");

	for (; list && *list; list += strcspn(list, ":"), list += *list == ':') {
		size_t length = strcspn(list, ":");

		if (length == 0 || --nth > 0)
			continue;
		(void)snprintf(folder, size, "%.*s", (int)length, list);
		return true;
	}
	return false;
}

/* Debian's, and those. */
static int python_peers(void)
{
	char folder[PATH_MAX];
	int peers = 1;

	while (find_folder(peers, folder, sizeof(folder)))
		peers++;
	return peers;
}

#endif
