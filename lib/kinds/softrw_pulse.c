#include "kinds/softrw_pulse.h"

#include <pthread.h>
#include <unistd.h>

#include "base/sys.h"

/* Held for a few instructions. */
static struct {
	pthread_mutex_t mutex;
	pthread_cond_t idle;
	struct list holds;
	int64_t last;
	unsigned leaving; /* releases under way */
	pid_t pid;        /* of the process whose holds are listed */
} pulses = { .mutex = PTHREAD_MUTEX_INITIALIZER,
	     .idle = PTHREAD_COND_INITIALIZER,
	     .holds = LIST_INIT(pulses.holds) };

static void enter(void)
{
	(void)pthread_mutex_lock(&pulses.mutex);
}

static void leave(void)
{
	(void)pthread_mutex_unlock(&pulses.mutex);
}

void softrw_pulse_add(struct softrw_pulse *pulse, const struct softrw_badge *badge,
                      const char *root)
{
	enter();
	pulses.pid = getpid();
	pulse->root = root;
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
	pulse->root = NULL;
	leave();
}

void softrw_pulse_move(struct softrw_pulse *from, struct softrw_pulse *to, const char *root)
{
	enter();
	to->root = from->root ? root : NULL;
	from->root = NULL;
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

void softrw_pulse_begin_leaving(struct softrw_pulse *pulse)
{
	enter();
	pulse->root = NULL;
	pulses.leaving++;
	leave();
}

void softrw_pulse_end_leaving(struct softrw_pulse *pulse, const char *root)
{
	enter();
	pulse->root = root;
	if (--pulses.leaving == 0)
		(void)pthread_cond_broadcast(&pulses.idle);
	leave();
}

static struct softrw_pulse *find_to_leave(void)
{
	list_for_each(link, &pulses.holds) {
		struct softrw_pulse *pulse = list_entry(link, struct softrw_pulse, link);

		if (pulse->root)
			return pulse;
	}
	return NULL;
}

bool softrw_pulse_take_at_exit(char **ret_root, struct softrw_token *ret_token)
{
	struct softrw_pulse *pulse = NULL;

	enter();
	/* a process made by clone(2) or vfork(2) has our list, and none of our holds */
	if (pulses.pid == getpid()) {
		while (pulses.leaving > 0)
			(void)pthread_cond_wait(&pulses.idle, &pulses.mutex);
		pulse = find_to_leave();
	}
	if (pulse) {
		*ret_root = sys_strdup(pulse->root);
		*ret_token = pulse->badge.token;
		pulse->root = NULL;
	}
	leave();
	return pulse != NULL;
}

void softrw_pulse_before_fork(void)
{
	enter();
}

void softrw_pulse_after_fork(bool in_child)
{
	if (in_child) {
		list_init(&pulses.holds);
		pulses.leaving = 0;
	}
	leave();
}
