#include "kinds/softrw_rules.h"

int softrw_successor(const struct softrw_snapshot *latest, struct softrw_snapshot *ret)
{
	int r = softrw_snapshot_copy(latest, ret);

	ret->generation++;
	return r;
}

static int enter(struct softrw_snapshot *next, const struct softrw_token *self,
                 enum filelock_mode mode)
{
	if (mode == FILELOCK_SHARED)
		return softrw_snapshot_add_reader(next, self);
	next->has_writer = true;
	next->writer = *self;
	return 0;
}

int softrw_advance(struct softrw_snapshot *next, const struct softrw_token *self,
                   enum filelock_mode mode, bool entered, bool evicted, enum softrw_move *ret_move)
{
	int r = 0;

	*ret_move = evicted ? SOFTRW_EVICT : SOFTRW_WAIT;
	if (!entered && next->has_writer)
		return 0;
	if (!entered)
		r = enter(next, self, mode);
	if (softrw_is_granted(next, self, mode))
		*ret_move = SOFTRW_GRANT;
	else if (!entered)
		*ret_move = SOFTRW_ENTER;
	return r;
}

bool softrw_is_granted(const struct softrw_snapshot *snapshot, const struct softrw_token *self,
                       enum filelock_mode mode)
{
	if (mode == FILELOCK_SHARED)
		return softrw_snapshot_names(snapshot, self);
	return snapshot->has_writer && softrw_token_equal(&snapshot->writer, self) &&
	       snapshot->readers == 0;
}
