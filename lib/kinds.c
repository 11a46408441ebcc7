#include "kind.h"

static const struct kind *const kinds[] = {
	&kind_native,
	&kind_soft,
	&kind_readwrite,
	&kind_lease,
	&kind_strict,
	&kind_soft_readwrite,
};

const struct kind *kind_find(enum filelock_kind id)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i]->id == id)
			return kinds[i];
	return NULL;
}
