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

#include "support.h"

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

/* Runs each test beside each of them. */
static inline int python_main(const char *name, const char *kind, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	(void)setenv("FILELOCK_TEST_KIND", kind, 1);
	for (size_t i = 0; i < count; i++)
		tcase_add_loop_test(tcase, tests[i], 0, python_peers());
	suite_add_tcase(suite, tcase);
	return support_main(suite);
}
#define PYTHON_MAIN(name, kind, ...)                                                           \
	python_main((name), (kind), (const TTest *const[]){ __VA_ARGS__ },                     \
	            sizeof((const TTest *const[]){ __VA_ARGS__ }) / sizeof(const TTest *))

#endif
