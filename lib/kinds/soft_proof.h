/*
 * soft_proof.h - whether a marker that we made is the file that its name names, for all to see.
 *
 * A descriptor is no proof of it: on many FUSE file systems a linked name is another inode to the
 * kernel than the descriptor is, so that neither our flock(2) nor our having it open shows there.
 */
#ifndef FILELOCK_SOFT_PROOF_H
#define FILELOCK_SOFT_PROOF_H

#include "handle.h"

enum soft_proof {
	PROOF_SHOWN = 0, /* others meet our flock at the name */
	PROOF_HIDDEN,    /* they meet the file, not the flock */
	PROOF_ELSEWHERE  /* the name is gone, or another file's */
};

/* Looks at the name as others do: an enum soft_proof, or an error. Without a flock on fd it is
   shown that the name is the descriptor's file. */
int soft_proof_look(const char *path, int fd, bool flocked);

/* Removes the name of our marker if it can be proven to be ours: what is written to fd shows
   there. Otherwise fd gets the record of nobody. Either way nobody is kept out any more. */
void soft_proof_withdraw(const char *path, int fd);

/* Gives a marker of ours that cannot be removed the record of an impossible process, so that the
   next attempt takes it over. */
int soft_proof_disown(int fd);

#endif
