/*
 * codec.h - what goes to etcd's JSON gateway and comes back: texts, no connections. Pure.
 *
 * 64-bit numbers are strings there, keys and values are in base64, and members that are zero, false
 * or empty are left out.
 */
#ifndef FILELOCK_ETCD_CODEC_H
#define FILELOCK_ETCD_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#define CODEC_LONGEST_KEY 1024 /* with its NUL; ours are shorter, and others' are cut */

/* A key of ours: an attempt. */
struct codec_key {
	const char *folder; /* "NAME//": all keys of the lock begin so */
	const char *key;
	bool shared;
	int64_t lease;
	int64_t revision; /* that made it; 0: not known */
};

/* Whether a lock may have this name: 1 to 512 bytes, without an empty part between slashes. */
bool codec_is_name(const char *name);
/* "NAME//", and "NAME//w/<lease>-<number>" or "NAME//r/…"; NULL: out of memory. */
char *codec_folder(const char *name);
char *codec_key(const char *folder, bool shared, int64_t lease, uint64_t number);

/* Whether it is UTF-8: no other text goes into a request. */
bool codec_is_text(const char *text);

/* Requests: to be freed with free(3); NULL: out of memory. */
char *codec_login(const char *user, const char *password);
char *codec_grant(int64_t ttl);
/* For the keepalive and for the revocation. */
char *codec_lease(int64_t lease);
/* Joins the queue, and asks for the last one ahead. */
char *codec_enqueue(const struct codec_key *me);
/* Joins only an empty queue. */
char *codec_try(const struct codec_key *me);
/* Asks for the last one ahead, if we are there yet. */
char *codec_recheck(const struct codec_key *me);
/* Asks only whether we are there yet. It reads something, too: a transaction of comparisons alone is
   answered by one server, without the others. */
char *codec_confirm(const struct codec_key *me);
/* Asks only what the term is. folder: of any lock, which may be read; NULL: of none, and one server
   answers. */
char *codec_agree(const char *folder);
char *codec_release(const struct codec_key *me);
/* Watches the keys of a lock for deletions from a revision on. */
char *codec_watch(const char *folder, uint64_t id, int64_t from);

/* Answers. Each returns 0, or -EBADMSG. What is in `ret` belongs to the document, but for keys. */
struct codec_txn {
	bool succeeded;
	int64_t revision; /* of the store */
	int64_t term;     /* of the leader that served it; 0: not said */
	bool found;       /* a key was in the range; the first one: */
	char key[CODEC_LONGEST_KEY];
	int64_t created;
};
int codec_read_txn(const json_t *document, struct codec_txn *ret);
int codec_read_grant(const json_t *document, int64_t *ret_lease, int64_t *ret_ttl);
/* The TTL: 0 where the lease is dead. The term is that which the server knew before. */
int codec_read_keepalive(const json_t *document, int64_t *ret_ttl, int64_t *ret_term);
int codec_read_token(const json_t *document, const char **ret_token);
/* Of an answer that is no success: gRPC's code, -1: none, and the words. */
void codec_read_error(const json_t *document, int *ret_code, const char **ret_message);

struct codec_watched {
	uint64_t id;
	bool created, canceled;
	int64_t compacted; /* the oldest revision that is left; 0: no such trouble */
	const json_t *events; /* NULL: none */
};
int codec_read_watch(const json_t *document, struct codec_watched *ret);
struct codec_deletion {
	char key[CODEC_LONGEST_KEY];
	int64_t revision;
};
/* False: the event is no deletion. */
bool codec_read_deletion(const json_t *event, struct codec_deletion *ret);

#endif
