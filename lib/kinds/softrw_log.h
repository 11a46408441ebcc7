/*
 * softrw_log.h - the generation log of a soft read/write lock: the snapshots in the folder gen/.
 *
 * Whoever links gen/<N+1> decides who holds the lock then; the others read again. So no change is
 * ever half done. gen/epoch tells a log from one that was removed and begun anew; gen/HEAD is a copy of
 * the newest snapshot, which may lag and never leads.
 */
#ifndef FILELOCK_SOFTRW_LOG_H
#define FILELOCK_SOFTRW_LOG_H

#include "kinds/folder.h"
#include "kinds/softrw_record.h"

/* A file as stat(2) shows it: who reads it again need not while this stays. */
struct softrw_mark {
	struct identity identity; /* zero: there is none */
	struct timespec changed;
	off_t size;
};

/* The name of a file that is written and not yet published: ".commit-" and a token. */
enum { SOFTRW_PRIVATE_SIZE = 8 + FOLDER_TOKEN };

struct softrw_log {
	int folder; /* gen/, borrowed */
	bool is_local; /* this kernel alone changes the folder, so a name is what stat(2) says */
	bool has_epoch;
	size_t epoch_size;
	char epoch[SOFTRW_EPOCH_SIZE + 1]; /* its bytes, whatever they are; one more: it is too long */
	struct softrw_mark mark;           /* of the file that they were read from */
	struct softrw_snapshot latest; /* by the last look */
	uint64_t head; /* that HEAD named at the last commit */
	bool was_published; /* by the last commit, whatever its result: others may have gone on from it */
	char left[SOFTRW_PRIVATE_SIZE]; /* what that commit was written as; empty: it is gone */
	unsigned absences; /* commits in a row that found their own file, or the folder, gone */
	char wrong[SOFTRW_NAME_SIZE]; /* the name that -EBADMSG is about; empty: the whole log */
};

/* Reads the newest snapshot into log->latest. Makes the epoch if there is none. -EBADMSG: a record is
   malformed, or none of those that are named can be read. */
int softrw_log_look(struct softrw_log *log);

/* Commits a successor of log->latest. 0, and log->latest has taken it over, and it is to be told;
   ATTEMPT_RACED: look again; or an error. */
int softrw_log_commit(struct softrw_log *log, struct softrw_snapshot *successor);

/* Whether others wait for a commit. HEAD, which they watch, stays behind for a while where none do. */
enum softrw_news { SOFTRW_NEWS, SOFTRW_NO_NEWS };

/* After a commit: moves HEAD to it, and removes what is left over. */
void softrw_log_tell(struct softrw_log *log, enum softrw_news news);

/* Forgets what it has read; the folder is another one from now on. */
void softrw_log_reset(struct softrw_log *log, int folder);

bool softrw_log_is_private(const char *name, struct softrw_token *ret);

#endif
