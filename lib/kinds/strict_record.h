/*
 * strict_record.h - what the claims of a strict lock are called, and what stands in them.
 */
#ifndef FILELOCK_STRICT_RECORD_H
#define FILELOCK_STRICT_RECORD_H

#include <limits.h>

#include "kinds/folder.h"
#include "kinds/soft_record.h"

/* What stands at the path of a strict lock, for ever. */
#define STRICT_SENTINEL "1\nfilelock-strict-v1\0\n0\n"
enum {
	STRICT_SENTINEL_SIZE = sizeof(STRICT_SENTINEL) - 1,
	STRICT_NAME = 64 /* "intent-v1-<32 hex>.claim" */
};

struct strict_name {
	bool held; /* else an intent */
	char token[FOLDER_TOKEN];
};

/* False: no claim is called so. */
bool strict_record_parse_name(const char *name, struct strict_name *ret);
void strict_record_format_name(char ret[STRICT_NAME], bool held, const char *token);

/* The public name in ".<public name>.private-v1-<32 hex>.tmp", cut to what a claim's needs; false: it
   is no private name. */
bool strict_record_parse_private(const char *name, char ret_public[NAME_MAX + 1]);
/* A private name for a public one; owned by the caller. 0 or an error. */
int strict_record_make_private(const char *name, char **ret_private);

/* The owner by a claim's content, with pid, host and token. False: malformed. */
bool strict_record_parse(const char *bytes, size_t size, const char *token, struct marker *ret);
/* The length; 0: too long. */
size_t strict_record_format(char ret[MARKER_SIZE], const char *token, const struct marker *owner);

#endif
