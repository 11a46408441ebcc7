/*
 * look.c - the simulated kernel seen from outside.
 */
#include <string.h>

#include "kernel.h"

bool sim_exists(const char *path)
{
	return entry_find(path) != NULL;
}

unsigned sim_count_in(const char *folder, const char *prefix)
{
	size_t length = strlen(folder);
	unsigned count = 0;

	for (int i = 0; i < ENTRIES; i++) {
		const char *path = kernel.entries[i].path;

		count += strncmp(path, folder, length) == 0 && path[length] == '/' &&
		         strncmp(path + length + 1, prefix, strlen(prefix)) == 0;
	}
	return count;
}

static bool has_records(const struct node *node, unsigned process)
{
	for (int unit = 0; unit < RECORD_UNITS; unit++)
		if (node->records[process][unit])
			return true;
	return false;
}

/* The next description, from *i on, that the process has on the file that the path names. */
static const struct description *next_on(const char *path, unsigned process, int *i)
{
	const struct entry *entry = entry_find(path);

	for (; entry && *i < SIM_DESCRIPTORS; (*i)++) {
		int at = kernel.processes[process].descriptions[*i];

		if (at >= 0 && kernel.descriptions[at].node == entry->node) {
			(*i)++;
			return &kernel.descriptions[at];
		}
	}
	return NULL;
}

bool sim_holds(const char *path, unsigned process)
{
	const struct entry *entry = entry_find(path);
	const struct description *d;

	for (int i = 0; (d = next_on(path, process, &i));)
		if (d->flock)
			return true;
	return entry && has_records(&kernel.nodes[entry->node], process);
}

bool sim_writes(const char *path, unsigned process)
{
	const struct description *d;

	for (int i = 0; (d = next_on(path, process, &i));)
		if (d->writes)
			return true;
	return false;
}

bool sim_has_looked(unsigned process)
{
	return kernel.processes[process].looked;
}

void sim_look_away(void)
{
	kernel_process()->looked = false;
}

unsigned sim_open_count(unsigned process)
{
	unsigned count = 0;

	for (int i = 0; i < SIM_DESCRIPTORS; i++)
		count += kernel.processes[process].descriptions[i] >= 0;
	return count;
}

unsigned sim_wait_count(unsigned process)
{
	unsigned count = 0;

	for (unsigned t = 0; t < SIM_TASKS; t++)
		count += kernel.tasks[t].used && kernel.tasks[t].process == process &&
		         kernel.tasks[t].wanted;
	return count;
}

unsigned sim_watch_count(unsigned process)
{
	unsigned count = 0;

	for (int i = 0; i < SIM_DESCRIPTORS; i++) {
		int at = kernel.processes[process].descriptions[i];
		const struct description *d = at >= 0 ? &kernel.descriptions[at] : NULL;

		for (int w = 0; d && d->type == ON_INOTIFY && w < WATCHES; w++)
			count += d->inotify.watches[w].wd != 0;
	}
	return count;
}

unsigned sim_file_count(void)
{
	unsigned count = 0;

	for (int i = 0; i < SIM_NODES; i++)
		count += kernel.nodes[i].used && !kernel.nodes[i].directory;
	return count;
}

static unsigned count_records(const struct description *d)
{
	unsigned count = 0;

	for (int unit = 0; unit < RECORD_UNITS; unit++)
		count += d->records[unit] != 0;
	return count;
}

unsigned sim_lock_count(void)
{
	unsigned count = 0;

	for (int i = 0; i < DESCRIPTIONS; i++)
		count += (kernel.descriptions[i].flock != 0) + kernel.descriptions[i].lease +
		         count_records(&kernel.descriptions[i]);
	for (int i = 0; i < SIM_NODES; i++)
		for (int p = 0; p < SIM_PROCESSES; p++)
			for (int unit = 0; unit < RECORD_UNITS; unit++)
				count += kernel.nodes[i].records[p][unit] != 0;
	return count;
}

uint64_t sim_history(unsigned process)
{
	return kernel.processes[process].history;
}

/* --- the hash of the state --- */

static void mix(uint64_t *hash, const void *bytes, size_t size)
{
	const unsigned char *p = bytes;
	uint64_t h = *hash, word;

	for (; size >= sizeof(word); p += sizeof(word), size -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		h ^= h >> 32;
	}
	for (; size > 0; p++, size--)
		h = (h ^ *p) * UINT64_C(0x100000001b3);
	*hash = h ^ h >> 31;
}

#define MIX(hash, member) mix((hash), &(member), sizeof(member))

static void mix_node(uint64_t *hash, const struct node *node)
{
	unsigned char flags[] = { node->directory, node->linkable, (unsigned char)node->links,
		                  (unsigned char)node->descriptions };

	MIX(hash, flags);
	MIX(hash, node->mode);
	MIX(hash, node->modified);
	MIX(hash, node->changed);
	MIX(hash, node->records);
	mix(hash, node->bytes, node->size);
}

static void mix_instance(uint64_t *hash, const struct instance *instance)
{
	MIX(hash, instance->last_wd);
	MIX(hash, instance->watches);
	mix(hash, instance->queue, instance->count * sizeof(*instance->queue));
}

static void mix_description(uint64_t *hash, const struct description *d)
{
	unsigned char flags[] = { (unsigned char)d->type, (unsigned char)d->references,
		                  (unsigned char)d->closer, d->reads,
		                  d->writes, (unsigned char)d->flock,
		                  d->lease, d->lease_breaking };

	MIX(hash, flags);
	MIX(hash, d->records);
	MIX(hash, d->node);
	MIX(hash, d->offset);
	mix(hash, d->path, strlen(d->path));
	if (d->type == ON_INOTIFY)
		mix_instance(hash, &d->inotify);
	else if (d->type == ON_EPOLL)
		for (int i = 0; i < MEMBERS; i++)
			MIX(hash, d->members[i].description);
	else if (d->type != ON_TEXT)
		MIX(hash, d->counter);
}

static void mix_task(uint64_t *hash, const struct task *task)
{
	int64_t until = task->asleep ? task->until : 0;
	int wanted = task->wanted ? (int)(task->wanted - kernel.descriptions) + 1 : 0;

	MIX(hash, task->process);
	MIX(hash, until);
	MIX(hash, wanted);
	MIX(hash, task->behind);
	MIX(hash, task->interrupted);
	MIX(hash, task->left);
	MIX(hash, task->address);
}

static void mix_process(uint64_t *hash, const struct process *process)
{
	MIX(hash, process->life);
	MIX(hash, process->looked);
	MIX(hash, process->stopped_until);
	MIX(hash, process->descriptions);
	MIX(hash, process->history);
}

uint64_t sim_state_hash(void)
{
	uint64_t hash = (uint64_t)kernel.now;

	for (int i = 0; i < SIM_NODES; i++) {
		hash += (uint64_t)i;
		if (kernel.nodes[i].used)
			mix_node(&hash, &kernel.nodes[i]);
	}
	for (int i = 0; i < ENTRIES; i++)
		if (kernel.entries[i].path[0])
			mix(&hash, &kernel.entries[i], sizeof(kernel.entries[i]));
	for (int i = 0; i < DESCRIPTIONS; i++) {
		hash += (uint64_t)i;
		if (kernel.descriptions[i].type != DESCRIPTION_FREE)
			mix_description(&hash, &kernel.descriptions[i]);
	}
	for (int i = 0; i < SIM_PROCESSES; i++)
		if (kernel.processes[i].life != SIM_UNBORN)
			mix_process(&hash, &kernel.processes[i]);
	for (int i = 0; i < SIM_TASKS; i++) {
		hash += (uint64_t)i;
		if (kernel.tasks[i].used)
			mix_task(&hash, &kernel.tasks[i]);
	}
	return hash;
}
