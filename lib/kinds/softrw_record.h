/*
 * softrw_record.h - the records of Python's SoftReadWriteLock (4.0 and later), read and written.
 *
 * A snapshot says who holds the lock at one generation; it is never changed. A holder's record is
 * what others look at to see whether that holder still moves: each heartbeat gives it another
 * nonce. To Python a nonce is a random number. Ours is a random half, and a digest of that and the
 * token: so a record of this library is known among Python's.
 */
#ifndef FILELOCK_SOFTRW_RECORD_H
#define FILELOCK_SOFTRW_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	SOFTRW_RECORD_SIZE = 1 << 20, /* a longer one is malformed */
	SOFTRW_HOLDER_SIZE = 512,     /* of ours, with the longest host */
	SOFTRW_EPOCH_SIZE = 33,       /* a token and a newline */
	SOFTRW_HEX_SIZE = 33,         /* of a token, with its final zero */
	SOFTRW_NAME_SIZE = 21         /* of a generation */
};

/* 128 bits, written as 32 lower-case hex digits: of a participant, a nonce or an epoch. */
struct softrw_token {
	unsigned char bytes[16];
};

struct softrw_snapshot {
	uint64_t generation; /* 0: of a log that has none yet */
	bool has_writer;
	struct softrw_token writer;
	size_t readers, room;
	struct softrw_token *reader; /* ascending; owned */
};

struct softrw_holder {
	pid_t pid;      /* 0: the record has none */
	double lease;   /* seconds; 0: none that is well-formed */
	bool is_ours;   /* of this library, for the token that was asked about */
	char host[256]; /* empty: none */
};

bool softrw_token_parse(const char *text, size_t length, struct softrw_token *ret);
void softrw_token_format(const struct softrw_token *token, char ret[SOFTRW_HEX_SIZE]);
bool softrw_token_equal(const struct softrw_token *a, const struct softrw_token *b);

/* The name of a generation's file: 20 digits. */
bool softrw_name_parse(const char *name, uint64_t *ret_generation);
void softrw_name_format(uint64_t generation, char ret[SOFTRW_NAME_SIZE]);

/* 0, -EBADMSG (malformed) or -ENOMEM. *ret is to be cleared, whatever the result. */
int softrw_snapshot_parse(const char *bytes, size_t size, struct softrw_snapshot *ret);
/* 0, -EUSERS (more readers than a record has room for) or -ENOMEM. Owned by the caller. */
int softrw_snapshot_format(const struct softrw_snapshot *snapshot, char **ret_bytes,
                           size_t *ret_size);
void softrw_snapshot_clear(struct softrw_snapshot *snapshot);
/* 0 or -ENOMEM. *ret is to be cleared, whatever the result, and has room for one more reader. */
int softrw_snapshot_copy(const struct softrw_snapshot *snapshot, struct softrw_snapshot *ret);

bool softrw_snapshot_names(const struct softrw_snapshot *snapshot,
                           const struct softrw_token *token);
/* 0, also if it is there already, or -ENOMEM. */
int softrw_snapshot_add_reader(struct softrw_snapshot *snapshot, const struct softrw_token *token);
/* As writer and as reader. */
void softrw_snapshot_remove(struct softrw_snapshot *snapshot, const struct softrw_token *token);

/* The nonce of a record of ours. */
void softrw_nonce(const struct softrw_token *token, const unsigned char random[8],
                  struct softrw_token *ret);
/* lease_ms: how long the record may stay unchanged. Returns the length, or 0: too long. */
size_t softrw_holder_format(char ret[SOFTRW_HOLDER_SIZE], const struct softrw_token *token,
                            pid_t pid, const char *host, unsigned lease_ms,
                            const struct softrw_token *nonce);
/* Takes any bytes. */
void softrw_holder_parse(const char *bytes, size_t size, const struct softrw_token *token,
                         struct softrw_holder *ret);

#endif
