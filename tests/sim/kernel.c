/*
 * kernel.c - nodes, names, descriptions, descriptors and processes of the simulated kernel.
 *
 * All state is in one struct of arrays, so that a reset is a memset, and a hash is a walk over
 * what is in use. Numbers (of nodes, descriptions, descriptors) are the lowest free ones: those of
 * things that are gone come again at once, which is the worst case for who remembers them.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kernel kernel;
struct sim_hooks sim_hooks;

struct process *kernel_process(void)
{
	return &kernel.processes[kernel.current];
}

void kernel_gap(const char *where)
{
	if (sim_hooks.before)
		(void)sim_hooks.before(where, true);
}

/* --- nodes and names --- */

int node_new(mode_t mode, bool directory)
{
	for (int i = 0; i < SIM_NODES; i++) {
		struct node *node = &kernel.nodes[i];

		if (node->used)
			continue;
		*node = (struct node){ .used = true,
			               .directory = directory,
			               .mode = mode & ~(mode_t)022,
			               .modified = kernel.now,
			               .changed = kernel.now };
		return i;
	}
	return -ENOSPC;
}

void node_put(int i)
{
	struct node *node = &kernel.nodes[i];

	if (node->links > 0 || node->descriptions > 0)
		return;
	notify_gone(i);
	memset(node, 0, sizeof(*node));
}

struct entry *entry_find(const char *path)
{
	for (int i = 0; i < ENTRIES; i++)
		if (kernel.entries[i].path[0] && strcmp(kernel.entries[i].path, path) == 0)
			return &kernel.entries[i];
	return NULL;
}

int entry_add(const char *path, int node)
{
	if (strlen(path) >= SIM_PATH || strlen(path_name(path)) >= NAME)
		return -ENAMETOOLONG;
	for (int i = 0; i < ENTRIES; i++) {
		struct entry *entry = &kernel.entries[i];

		if (entry->path[0])
			continue;
		strcpy(entry->path, path);
		entry->node = node;
		kernel.nodes[node].links++;
		return 0;
	}
	return -ENOSPC;
}

const char *path_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

int entry_parent(const char *path)
{
	char parent[SIM_PATH] = "/";
	size_t length = (size_t)(path_name(path) - path);
	const struct entry *entry;

	if (length == 0 || length > SIM_PATH)
		return length ? -ENAMETOOLONG : -ENOENT;
	if (length > 1) {
		memcpy(parent, path, length - 1);
		parent[length - 1] = '\0';
	}
	entry = entry_find(parent);
	if (!entry)
		return -ENOENT;
	return kernel.nodes[entry->node].directory ? entry->node : -ENOTDIR;
}

/* --- descriptions and descriptors --- */

int description_new(enum description_type type)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *d = &kernel.descriptions[i];

		if (d->type != DESCRIPTION_FREE)
			continue;
		memset(d, 0, sizeof(*d));
		d->type = type;
		d->node = -1;
		return i;
	}
	return -ENFILE;
}

int descriptor_new(int description)
{
	struct process *process = kernel_process();

	for (int i = 0; i < SIM_DESCRIPTORS; i++) {
		if (process->descriptions[i] >= 0)
			continue;
		process->descriptions[i] = description;
		kernel.descriptions[description].references++;
		return i + SIM_FIRST_FD;
	}
	return -EMFILE;
}

static int *slot_of(int fd)
{
	int i = fd - SIM_FIRST_FD;

	return i >= 0 && i < SIM_DESCRIPTORS ? &kernel_process()->descriptions[i] : NULL;
}

struct description *descriptor_get(int fd)
{
	const int *slot = slot_of(fd);

	return slot && *slot >= 0 ? &kernel.descriptions[*slot] : NULL;
}

void description_end(struct description *d)
{
	int node = d->node;

	poll_forget(d);
	lock_drop_flock(d);
	memset(d, 0, sizeof(*d));
	if (node < 0)
		return;
	kernel.nodes[node].descriptions--;
	node_put(node);
}

/* The first half of a close; the description, if the second half is to come. */
static struct description *begin_close(int *slot)
{
	struct description *d = &kernel.descriptions[*slot];
	bool opened = d->reads || d->writes;

	*slot = -1;
	if (d->node >= 0 && opened) /* filp_flush comes before fput */
		lock_drop_records(d->node, kernel.current);
	if (--d->references > 0)
		return NULL;
	d->closer = kernel.current;
	if (d->type == ON_FILE && opened)
		notify(d->node, d->path, d->writes ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
	return d;
}

int descriptor_close(int fd)
{
	int *slot = slot_of(fd);
	struct description *d;

	if (!slot || *slot < 0)
		return -EBADF;
	d = begin_close(slot);
	if (!d)
		return 0;
	/* __fput tells inotify before it removes the locks */
	if (lock_has_any(d))
		kernel_gap("close, 2nd half");
	description_end(d);
	return 0;
}

int path_to_fd(const char *path)
{
	static const char prefix[] = "/proc/thread-self/fd/";
	size_t length = sizeof(prefix) - 1;

	return strncmp(path, prefix, length) == 0 ? atoi(path + length) : -1;
}

/* --- processes --- */

void sim_reset(void)
{
	int root, folder;

	memset(&kernel, 0, sizeof(kernel));
	kernel.now = SIM_BEGIN;
	root = node_new(0777, true);
	(void)entry_add("/", root);
	folder = node_new(0777, true);
	(void)entry_add(SIM_FOLDER, folder);
	sim_start(0);
}

void sim_start(unsigned process)
{
	struct process *p = &kernel.processes[process];

	/* not zero, which zeros would leave unchanged */
	*p = (struct process){ .life = SIM_ALIVE, .history = UINT64_C(0xcbf29ce484222325) };
	for (int i = 0; i < SIM_DESCRIPTORS; i++)
		p->descriptions[i] = -1;
	task_start(process, process);
}

void sim_set_apart(void)
{
	kernel.apart = true;
}

void sim_set_threadless(void)
{
	kernel.threadless = true;
}

void sim_set_sealed(void)
{
	kernel.sealed = true;
}

unsigned sim_current(void)
{
	return kernel.current;
}

enum sim_life sim_life(unsigned process)
{
	return kernel.processes[process].life;
}

void sim_kill(unsigned process)
{
	struct process *p = &kernel.processes[process];

	if (p->life == SIM_ALIVE)
		p->life = SIM_DYING;
	p->history = 0; /* nobody is there to know */
	task_kill_all(process);
}

static struct description *find_closing(unsigned process)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *d = &kernel.descriptions[i];

		if (d->type != DESCRIPTION_FREE && d->references == 0 && d->closer == process)
			return d;
	}
	return NULL;
}

/* A step of exit_files; false: all are closed. */
static bool close_one(unsigned process)
{
	struct description *d = find_closing(process);
	int *slots = kernel.processes[process].descriptions;
	unsigned caller = kernel.current;

	if (d) {
		description_end(d);
		return true;
	}
	for (int i = 0; i < SIM_DESCRIPTORS; i++) {
		if (slots[i] < 0)
			continue;
		kernel.current = process;
		d = begin_close(&slots[i]);
		kernel.current = caller;
		if (d && !lock_has_any(d))
			description_end(d);
		return true;
	}
	return false;
}

bool sim_die(unsigned process)
{
	struct process *p = &kernel.processes[process];

	switch (p->life) {
	case SIM_DYING:
		if (!close_one(process))
			p->life = SIM_ZOMBIE;
		return true;
	case SIM_ZOMBIE:
		p->life = SIM_GONE;
		return true;
	default:
		return false;
	}
}

int64_t sim_now(void)
{
	return kernel.now;
}

void sim_advance(int64_t to)
{
	if (to > kernel.now)
		kernel.now = to;
}
