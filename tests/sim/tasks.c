/*
 * tasks.c - threads of the simulated kernel, and their sleep.
 */
#include <errno.h>
#include <poll.h>

#include "kernel.h"

struct task *task_get(void)
{
	return &kernel.tasks[kernel.task];
}

void task_start(unsigned task, unsigned process)
{
	kernel.tasks[task] = (struct task){ .used = true, .process = process };
}

int sim_start_thread(void)
{
	for (unsigned t = SIM_PROCESSES; t < SIM_TASKS && !kernel.threadless; t++) {
		if (kernel.tasks[t].used)
			continue;
		task_start(t, kernel.current);
		return (int)t;
	}
	return -1;
}

void sim_end_thread(unsigned task)
{
	lock_leave_queue(&kernel.tasks[task]);
	kernel.tasks[task] = (struct task){ 0 };
}

bool sim_has_task(unsigned task)
{
	return kernel.tasks[task].used;
}

unsigned sim_process_of(unsigned task)
{
	return kernel.tasks[task].process;
}

void sim_switch(unsigned task)
{
	kernel.task = task;
	kernel.current = kernel.tasks[task].process;
}

unsigned sim_task(void)
{
	return kernel.task;
}

void task_kill_all(unsigned process)
{
	for (unsigned t = 0; t < SIM_TASKS; t++) {
		if (!kernel.tasks[t].used || kernel.tasks[t].process != process)
			continue;
		lock_leave_queue(&kernel.tasks[t]);
		kernel.tasks[t] = (struct task){ .used = t < SIM_PROCESSES, .process = process };
	}
}

static const struct description *get(const struct task *task, int fd)
{
	const struct process *process = &kernel.processes[task->process];
	int i = fd - SIM_FIRST_FD;

	if (i < 0 || i >= SIM_DESCRIPTORS || process->descriptions[i] < 0)
		return NULL;
	return &kernel.descriptions[process->descriptions[i]];
}

int task_count_ready(const struct task *task)
{
	int ready = 0;

	for (nfds_t i = 0; i < task->fd_count; i++) {
		struct pollfd *p = &task->fds[i];
		const struct description *d = get(task, p->fd);

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

bool sim_is_stopped(unsigned process)
{
	return kernel.processes[process].stopped_until > kernel.now;
}

bool sim_can_stop(unsigned process)
{
	for (unsigned t = 0; t < SIM_TASKS; t++) {
		const struct task *task = &kernel.tasks[t];

		if (task->used && task->process == process && task->wanted && !task->behind)
			return false;
	}
	return sim_life(process) == SIM_ALIVE && !sim_is_stopped(process);
}

void sim_stop(unsigned process, int64_t until)
{
	kernel.processes[process].stopped_until = until;
	for (unsigned t = 0; t < SIM_TASKS; t++) {
		struct task *task = &kernel.tasks[t];

		if (!task->used || task->process != process || !task->wanted)
			continue;
		lock_leave_queue(task);
		task->left = true;
	}
}

int64_t sim_wakes_at(unsigned task)
{
	const struct task *t = &kernel.tasks[task];

	return sim_is_stopped(t->process) ? kernel.processes[t->process].stopped_until : t->until;
}

bool sim_can_run(unsigned task)
{
	const struct task *t = &kernel.tasks[task];

	if (sim_is_stopped(t->process))
		return false;
	if (!t->asleep || t->left || t->until <= kernel.now)
		return true;
	if (t->address)
		return false;
	return t->wanted ? t->behind == 0 : task_count_ready(t) > 0;
}

void sim_wait_at(const void *address, int64_t until)
{
	task_get()->address = address;
	task_sleep(until);
	task_get()->address = NULL;
	sim_learn("", 1);
}

void sim_wake_at(const void *address)
{
	for (unsigned t = 0; t < SIM_TASKS; t++) {
		struct task *task = &kernel.tasks[t];

		if (!task->used || task->address != address)
			continue;
		task->address = NULL;
		task->until = kernel.now;
	}
}

void sim_interrupt(unsigned task)
{
	struct task *t = &kernel.tasks[task];

	if (!t->wanted && !t->left)
		return;
	t->interrupted = true;
	t->behind = 0;
}

void task_sleep(int64_t until)
{
	struct task *task = task_get();

	task->until = until;
	task->asleep = true;
	while (!sim_can_run(kernel.task)) {
		if (sim_hooks.sleep)
			sim_hooks.sleep();
		else if (until < INT64_MAX)
			sim_advance(until);
		else
			break; /* for ever, and nobody is there to wake us */
	}
	task->asleep = false;
}
