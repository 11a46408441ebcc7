#include "kinds/softrw_pulse.h"

#include <pthread.h>

/* Held for a few instructions. */
static struct {
	pthread_mutex_t mutex;
	struct list holds;
	int64_t last;
} pulses = { .mutex = PTHREAD_MUTEX_INITIALIZER, .holds = LIST_INIT(pulses.holds) };

static void enter(void)
{
	(void)pthread_mutex_lock(&pulses.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&pulses.mutex);
}

void softrw_pulse_add(struct softrw_pulse *pulse, const struct softrw_badge *badge)
{
	enter();
	pulse->number = ++pulses.last;
	pulse->badge = *badge;
	pulse->badge.loss = FILELOCK_LOSS_NONE;
	list_add_last(&pulses.holds, &pulse->link);
	leave();
}

void softrw_pulse_remove(struct softrw_pulse *pulse)
{
	enter();
	list_remove(&pulse->link);
	pulse->number = 0;
	leave();
}

void softrw_pulse_move(struct softrw_pulse *from, struct softrw_pulse *to)
{
	enter();
	to->number = from->number;
	to->badge = from->badge;
	list_remove(&from->link);
	from->number = 0;
	if (to->number > 0)
		list_add_last(&pulses.holds, &to->link);
	leave();
}

static struct softrw_pulse *find(int64_t number)
{
	list_for_each(link, &pulses.holds) {
		struct softrw_pulse *pulse = list_entry(link, struct softrw_pulse, link);

		if (pulse->number == number)
			return pulse;
	}
	return NULL;
}

bool softrw_pulse_read(int64_t number, struct softrw_badge *ret)
{
	struct softrw_pulse *pulse;

	enter();
	pulse = find(number);
	if (pulse)
		*ret = pulse->badge;
	leave();
	return pulse != NULL;
}

void softrw_pulse_renew(int64_t number, int64_t at)
{
	struct softrw_pulse *pulse;

	enter();
	pulse = find(number);
	if (pulse && pulse->badge.renewed_at < at)
		pulse->badge.renewed_at = at;
	leave();
}

void softrw_pulse_lose(int64_t number, enum filelock_loss loss)
{
	struct softrw_pulse *pulse;

	enter();
	pulse = find(number);
	if (pulse && pulse->badge.loss == FILELOCK_LOSS_NONE)
		pulse->badge.loss = loss;
	leave();
}

void softrw_pulse_before_fork(void)
{
	enter();
}

void softrw_pulse_after_fork(bool in_child)
{
	if (in_child)
		list_init(&pulses.holds);
	leave();
}
