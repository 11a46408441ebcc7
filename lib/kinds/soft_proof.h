/*
 * soft_proof.h - whether others see a marker of ours, with its flock, at its name.
 *
 * A descriptor does not prove it: on many FUSE file systems the kernel takes a linked name for
 * another inode than the descriptor's, so that neither our flock(2) nor our open descriptor shows
 * there.
 */
#ifndef FILELOCK_SOFT_PROOF_H
#define FILELOCK_SOFT_PROOF_H

#include "handle.h"

enum soft_proof {
	PROOF_SHOWN = 0, /* others meet our flock at the name */
	PROOF_HIDDEN,    /* they meet the file, not the flock */
	PROOF_ELSEWHERE  /* the name is gone, or another file's */
};

/* Looks at the name as others do. Returns an enum soft_proof, or an error. Without a flock on fd,
   PROOF_SHOWN says that the name is the descriptor's file. */
int soft_proof_look(const char *path, int fd, bool flocked);

/* Whether fd has the record of this process. */
bool soft_proof_is_ours(int fd);

/* Removes the name of our marker if the name is proved ours: bytes written to fd show there.
   Otherwise fd gets the record of an impossible process. Nobody is kept out any more then. */
void soft_proof_withdraw(const char *path, int fd);

/* Gives a marker of ours that cannot be removed the record of an impossible process, so that the
   next attempt takes it over. */
int soft_proof_disown(int fd);

#endif
