/*
 * poll.c - sleeping in the simulated kernel.
 */
#include <errno.h>
#include <poll.h>

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

static const struct description *get(const struct process *process, int fd)
{
	int i = fd - SIM_FIRST_FD;

	if (i < 0 || i >= SIM_DESCRIPTORS || process->descriptions[i] < 0)
		return NULL;
	return &kernel.descriptions[process->descriptions[i]];
}

/* How many of the descriptors that the process waits for are ready. */
static int count_ready(const struct process *process)
{
	int ready = 0;

	for (nfds_t i = 0; i < process->fd_count; i++) {
		struct pollfd *p = &process->fds[i];
		const struct description *d = get(process, p->fd);

		p->revents = 0;
		if (p->fd < 0)
			continue;
		if (!d)
			p->revents = POLLNVAL;
		else if ((p->events & POLLIN) && description_is_ready(d))
			p->revents = POLLIN;
		ready += p->revents != 0;
	}
	return ready;
}

int64_t sim_wakes_at(unsigned process)
{
	return kernel.processes[process].until;
}

bool sim_can_run(unsigned process)
{
	const struct process *p = &kernel.processes[process];

	return !p->asleep || p->until <= kernel.now || count_ready(p) > 0;
}

int poll_wait(struct pollfd *fds, nfds_t n, int64_t until)
{
	struct process *process = kernel_process();
	int ready;

	process->fds = fds;
	process->fd_count = n;
	process->until = until;
	process->asleep = true;
	while (!sim_can_run(kernel.current)) {
		if (sim_hooks.sleep)
			sim_hooks.sleep();
		else if (until < INT64_MAX)
			sim_advance(until);
		else
			break; /* for ever, and nobody is there to wake us */
	}
	ready = count_ready(process);
	process->asleep = false;
	process->fds = NULL;
	process->fd_count = 0;
	return ready || until < INT64_MAX ? ready : -EINTR;
}
