/*
 * kinds.h - the kinds of lock by their names, for the -k option of the examples.
 */
#ifndef KINDS_H
#define KINDS_H

#include <stdbool.h>
#include <string.h>

#include <filelock/filelock.h>

static const struct {
	const char *name;
	enum filelock_kind kind;
	const char *suffix; /* of the lock file beside a file */
	bool shared;        /* can be held so */
} kinds[] = {
	{ "native", FILELOCK_NATIVE, ".lock", true },
	{ "soft", FILELOCK_SOFT, ".lock", false },
	{ "lease", FILELOCK_LEASE, ".lock", false },
	{ "strict", FILELOCK_STRICT, ".lock", false },
	{ "soft-readwrite", FILELOCK_SOFT_READWRITE, ".lock", true },
	{ "readwrite", FILELOCK_READWRITE, ".db", true },
};

/* The kind of that name, or -1. */
static inline int kind_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (strcmp(kinds[i].name, name) == 0)
			return (int)kinds[i].kind;
	return -1;
}

/* All names: "native, soft". Static. */
static inline const char *kind_names(void)
{
	static char names[256];

	*names = '\0';
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		if (i > 0)
			strncat(names, ", ", sizeof(names) - strlen(names) - 1);
		strncat(names, kinds[i].name, sizeof(names) - strlen(names) - 1);
	}
	return names;
}

/* "counter.txt" is locked by "counter.txt.lock", or what its kind of lock wants. */
static inline const char *kind_suffix(enum filelock_kind kind)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (kinds[i].kind == kind)
			return kinds[i].suffix;
	return "";
}

/* How readers hold it: together, where that is possible. */
static inline enum filelock_mode kind_reader_mode(enum filelock_kind kind)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (kinds[i].kind == kind && kinds[i].shared)
			return FILELOCK_SHARED;
	return FILELOCK_EXCLUSIVE;
}

#endif
