/*
 * softrw_pulse.h - the holds of this process, and when their records were last renewed: for
 * whoever keeps a hold alive without having its handle.
 */
#ifndef FILELOCK_SOFTRW_PULSE_H
#define FILELOCK_SOFTRW_PULSE_H

#include "handle.h"
#include "kinds/softrw_record.h"

/* A member's record: its name is the token, its inode says whether it is ours yet. */
struct softrw_badge {
	struct softrw_token token;
	struct identity identity;
	bool is_locked;     /* flock(2) on it shows that we live */
	int64_t renewed_at; /* CLOCK_BOOTTIME, ns */
	enum filelock_loss loss; /* the first that was found */
};

/* Lives in a kind's state. */
struct softrw_pulse {
	struct list link;
	int64_t number; /* another one for each hold of this process; 0: not listed */
	struct softrw_badge badge;
	const char *root; /* of the lock, which a normal exit leaves; borrowed; NULL: it does not */
};

void softrw_pulse_add(struct softrw_pulse *pulse, const struct softrw_badge *badge,
                      const char *root);
/* Idempotent. */
void softrw_pulse_remove(struct softrw_pulse *pulse);
/* Another handle holds it now, which has a root of its own. */
void softrw_pulse_move(struct softrw_pulse *from, struct softrw_pulse *to, const char *root);
/* Around a release: an exit waits for it. root: of a hold that goes on, since the release failed. */
void softrw_pulse_begin_leaving(struct softrw_pulse *pulse);
void softrw_pulse_end_leaving(struct softrw_pulse *pulse, const char *root);
/* At exit(3): the next hold that is to be left, each but once. False: there is none. ret_root: to be
   freed; NULL: out of memory. */
bool softrw_pulse_take_at_exit(char **ret_root, struct softrw_token *ret_token);
/* False: that hold is over. */
bool softrw_pulse_read(int64_t number, struct softrw_badge *ret);
void softrw_pulse_renew(int64_t number, int64_t at);
void softrw_pulse_lose(int64_t number, enum filelock_loss loss);

/* Around a fork: the child has no hold. */
void softrw_pulse_before_fork(void);
void softrw_pulse_after_fork(bool in_child);

#endif
