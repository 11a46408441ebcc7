/*
 * strict_scan.h - the claims on a strict lock, all of them, read and understood, or a reason why not.
 */
#ifndef FILELOCK_STRICT_SCAN_H
#define FILELOCK_STRICT_SCAN_H

#include "kinds/strict_record.h"

struct strict_scan {
	/* given */
	bool sweeps;         /* private files that were left over are removed */
	const char *token;   /* of our claims, or "" */
	const char *skipped; /* a claim that is taken for gone if it cannot be read; NULL: none */
	/* NULL: nobody wants them. */
	void (*take)(const char *name, const struct strict_name *parsed,
	             const struct marker *owner, void *arg);
	void *arg;

	/* found */
	unsigned claims;
	bool any_held;
	bool has_intent, has_held;      /* ours are among them */
	char least_name[STRICT_NAME];   /* of all */
	char least_token[FOLDER_TOKEN]; /* of all */
	char blocking[STRICT_NAME];     /* the claim that goes last of whoever holds; "": nobody */

	/* why not */
	char culprit[NAME_MAX + 1];
	const char *reason;
	int pending; /* the error of reading it, which may pass */
};

/* 0; -EAGAIN: the culprit cannot be read just now; FILELOCK_EPROTOCOL, with the culprit and the
   reason; or an error of this system, out of something. */
int strict_scan_claims(int folder, struct strict_scan *scan);

/* Sweeps a private file of that public name: 0, 1 or an error. */
int strict_scan_sweep(int folder, const char *private_name, const char *public_name);

#endif
