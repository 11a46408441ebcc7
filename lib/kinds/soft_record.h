/*
 * soft_record.h - what stands in a marker file: Python's record, read and written.
 *
 * "<pid>\n<host>\n" and, where it is known, "<start token>\n". The start token tells processes of
 * one pid apart, also across boots: (boot_id << 64) | starttime, 192 bits as one decimal number.
 * Tokens are compared as canonical text, so exactly.
 */
#ifndef FILELOCK_SOFT_RECORD_H
#define FILELOCK_SOFT_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	MARKER_SIZE = 1024, /* a longer one is foreign */
	TOKEN_SIZE = 59,    /* 58 digits hold 192 bits */
	HOST_SIZE = 253     /* at most, in what Python's releases and we write */
};

enum marker_type {
	MARKER_RECORD,
	MARKER_EXCLUSIVE, /* protocol 2, of Python's MarkerSoftFileLock: never aged */
	MARKER_LEASE,     /* protocol 2, of SoftFileLease */
	MARKER_NEWER,     /* a protocol, or a mode of protocol 2, that we do not know */
	MARKER_STRICT,    /* the strict sentinel */
	MARKER_EMPTY,     /* of a release that writes nothing, or not yet written */
	MARKER_TORN,      /* the beginning of a record: its writing was cut short */
	MARKER_FOREIGN    /* not of this family: somebody's lock all the same */
};

struct marker {
	enum marker_type type;
	pid_t pid;       /* of whatever names one; of a torn record, its first line */
	double duration; /* of a lease, seconds */
	char mode[32];   /* of protocol 2, as it stands there */
	char claim[40];  /* protocol 2's token; empty: none, or a longer one */
	char host[MARKER_SIZE];
	char token[MARKER_SIZE]; /* without leading zeros; empty: none */
};

/* Takes any bytes; of more than MARKER_SIZE the rest need not be there. */
void soft_record_parse(const char *bytes, size_t size, struct marker *ret);

/* token NULL: two lines. The length, or 0: it is too long. */
size_t soft_record_format(char ret[MARKER_SIZE], pid_t pid, const char *host, const char *token);

/* Seconds as Python writes a float; false: it is no such text, or not above zero and finite. */
bool soft_record_parse_duration(const char *text, size_t length, double *ret);
/* A lease of pid, host, claim and token, for so many milliseconds. */
size_t soft_record_format_lease(char ret[MARKER_SIZE], const struct marker *marker,
                                unsigned duration_ms);

/* Whether the bytes are UTF-8. */
bool soft_record_is_utf8(const char *bytes, size_t size);

/* Whether the record names its owner, by pid and host. */
static inline bool soft_record_has_owner(const struct marker *marker)
{
	return marker->type == MARKER_RECORD || marker->type == MARKER_EXCLUSIVE ||
	       marker->type == MARKER_LEASE;
}

/* The token's digits. boot_id is big-endian. */
void soft_record_token(const unsigned char boot_id[16], uint64_t start, char ret[TOKEN_SIZE]);

/* Whether the token is of a process of that boot. */
bool soft_record_is_token_of(const char *token, const unsigned char boot_id[16]);

/* /proc/sys/kernel/random/boot_id: 32 hexadecimal digits, with hyphens between them. */
bool soft_record_parse_boot_id(const char *text, unsigned char ret[16]);

#endif
