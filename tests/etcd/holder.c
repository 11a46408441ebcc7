/*
 * holder.c - a process that holds a lock in etcd.
 */
#include "holder.h"

#include <signal.h>
#include <sys/prctl.h>

#include "rpc.h"
#include "session.h"

struct self {
	struct holder *holder;
	struct loop loop;
	struct filelock_etcd *session;
	struct filelock *lock;
	struct event *tick;
};

static void end(struct self *self)
{
	filelock_close(self->lock);
	filelock_etcd_close(self->session);
	event_free(self->tick);
	evfilelock_free(self->loop.ev);
	(void)event_base_dispatch(self->loop.base);
	event_base_free(self->loop.base);
	_exit(0);
}

static void on_tick(evutil_socket_t fd, short events, void *arg)
{
	struct self *self = arg;
	int64_t asked = rpc_now();

	(void)fd;
	(void)events;
	if (filelock_is_held(self->lock))
		atomic_store(&self->holder->shared->believed, asked);
	if (atomic_load(&self->holder->shared->leaves))
		(void)event_base_loopbreak(self->loop.base);
}

/* The deadline is yet that of the lease that is lost. */
static void on_session_lost(struct filelock_etcd *session, int result, void *arg)
{
	struct self *self = arg;

	if (result != FILELOCK_ELOST)
		abort();
	if (!holder_is_told(self->holder))
		atomic_store(&self->holder->shared->deadline, session->deadline);
}

static void on_lost(struct filelock *lock, int result, void *arg)
{
	struct self *self = arg;

	(void)lock;
	if (result != FILELOCK_ELOST)
		abort();
	atomic_store(&self->holder->shared->told, rpc_now());
	atomic_store(&self->holder->shared->holds, false);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	static const struct timeval often = { 0, 3000 };
	struct self *self = arg;

	if (result < 0 || event_add(self->tick, &often) < 0)
		abort();
	if (evfilelock_on_lost(self->loop.ev, lock, on_lost, self) == 0)
		atomic_store(&self->holder->shared->holds, true);
	else if (!filelock_is_held(lock)) /* already */
		on_lost(lock, FILELOCK_ELOST, self);
	else
		abort();
}

static void hold_on(struct holder *holder, const struct filelock_etcd_options *options,
                    const char *name)
{
	struct self self = { .holder = holder };
	struct filelock_etcd_options own = *options;

	own.on_lost = on_session_lost;
	own.arg = &self;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	self.loop = loop_new();
	self.tick = event_new(self.loop.base, -1, EV_PERSIST, on_tick, &self);
	if (!self.tick || filelock_etcd_open(self.loop.ev, &own, &self.session) < 0 ||
	    filelock_open_etcd(self.session, name, NULL, &self.lock) < 0 ||
	    evfilelock_acquire(self.loop.ev, self.lock, FILELOCK_EXCLUSIVE, NULL, on_lock, &self) < 0)
		abort();
	(void)event_base_dispatch(self.loop.base);
	end(&self);
}

void holder_start(struct holder *holder, const struct filelock_etcd_options *options,
                  const char *name)
{
	*holder = (struct holder){ .shared = test_shared(sizeof(*holder->shared)) };
	holder->pid = fork();
	ck_assert_int_ge(holder->pid, 0);
	if (holder->pid == 0)
		hold_on(holder, options, name);
	await(atomic_load(&holder->shared->holds) || holder_is_told(holder));
}

void holder_leave(struct holder *holder)
{
	atomic_store(&holder->shared->leaves, true);
}

void holder_stop(struct holder *holder)
{
	holder_leave(holder);
	ck_assert_int_eq(test_reap(holder->pid), 0);
}

bool holder_is_told(const struct holder *holder)
{
	return atomic_load(&holder->shared->told) != 0;
}

void holder_check(const struct holder *holder, int64_t granted)
{
	await(holder_is_told(holder));
	ck_assert_int_gt(granted, atomic_load(&holder->shared->believed));
	ck_assert_int_ge(granted, atomic_load(&holder->shared->deadline));
}
