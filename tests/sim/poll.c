/*
 * poll.c - which descriptors are ready, in the simulated kernel, and waiting for that.
 */
#include <errno.h>

#include "kernel.h"

static bool has_ended(unsigned process)
{
	return sim_life(process) == SIM_ZOMBIE || sim_life(process) == SIM_GONE;
}

bool description_is_ready(const struct description *d)
{
	switch (d->type) {
	case ON_INOTIFY:
		return d->inotify.count > 0;
	case ON_COUNTER:
		return d->counter > 0;
	case ON_TIMER:
		return d->timer && d->timer <= kernel.now;
	case ON_PROCESS:
		return has_ended(d->process);
	case ON_EPOLL:
		return poll_collect(d, NULL, MEMBERS) > 0;
	default:
		return true;
	}
}

/* --- epoll --- */

static struct member *find_member(struct description *epoll, const struct description *d)
{
	int wanted = d ? (int)(d - kernel.descriptions) + 1 : 0;

	for (int i = 0; i < MEMBERS; i++)
		if (epoll->members[i].description == wanted)
			return &epoll->members[i];
	return NULL;
}

int poll_add(struct description *epoll, int fd, const struct epoll_event *event)
{
	const struct description *d = descriptor_get(fd);
	struct member *member;

	if (!d)
		return -EBADF;
	if (d->type == ON_FILE || d->type == ON_TEXT)
		return -EPERM;
	if (find_member(epoll, d))
		return -EEXIST;
	member = find_member(epoll, NULL);
	if (!member)
		return -ENOSPC;
	*member = (struct member){ (int)(d - kernel.descriptions) + 1, *event };
	return 0;
}

int poll_remove(struct description *epoll, int fd)
{
	const struct description *d = descriptor_get(fd);
	struct member *member = d ? find_member(epoll, d) : NULL;

	if (!member)
		return d ? -ENOENT : -EBADF;
	*member = (struct member){ 0 };
	return 0;
}

int poll_collect(const struct description *epoll, struct epoll_event *ret, int size)
{
	int n = 0;

	for (int i = 0; i < MEMBERS && n < size; i++) {
		const struct member *member = &epoll->members[i];

		if (!member->description ||
		    !description_is_ready(&kernel.descriptions[member->description - 1]))
			continue;
		if (ret)
			ret[n] = member->event;
		n++;
	}
	return n;
}

void poll_forget(const struct description *d)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *epoll = &kernel.descriptions[i];
		struct member *member = epoll->type == ON_EPOLL ? find_member(epoll, d) : NULL;

		if (member)
			*member = (struct member){ 0 };
	}
}

/* --- sleeping --- */

int poll_wait(struct pollfd *fds, nfds_t n, int64_t until)
{
	struct task *task = task_get();
	int ready;

	task->fds = fds;
	task->fd_count = n;
	task_sleep(until);
	ready = task_count_ready(task);
	task->fds = NULL;
	task->fd_count = 0;
	return ready || until < INT64_MAX ? ready : -EINTR;
}
