/*
 * notify.c - inotify(7) of the simulated kernel.
 */
#include <errno.h>
#include <string.h>

#include "kernel.h"

#define ALWAYS (IN_IGNORED | IN_Q_OVERFLOW | IN_UNMOUNT)

/* The longest name is padded to what an event's name needs at most. */
enum { PADDED_NAME = (NAME + 15) / 16 * 16 };

static void push(struct instance *instance, int wd, uint32_t mask, const char *name)
{
	struct event event = { .wd = wd, .mask = mask };
	struct event *last = instance->count ? &instance->queue[instance->count - 1] : NULL;

	if (name)
		strcpy(event.name, name);
	if (last && last->wd == wd && last->mask == mask && strcmp(last->name, event.name) == 0)
		return;
	if (instance->count == EVENTS - 1)
		event = (struct event){ .wd = -1, .mask = IN_Q_OVERFLOW };
	if (last && (last->mask & IN_Q_OVERFLOW))
		return;
	instance->queue[instance->count++] = event;
}

static void tell(int node, const char *name, uint32_t mask)
{
	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *d = &kernel.descriptions[i];

		if (d->type != ON_INOTIFY)
			continue;
		for (int w = 0; w < WATCHES; w++) {
			const struct watch_ *watch = &d->inotify.watches[w];

			if (watch->wd && watch->node == node && (watch->mask & mask))
				push(&d->inotify, watch->wd, mask, name);
		}
	}
}

void notify_directory(const char *path, uint32_t mask)
{
	int parent = entry_parent(path);

	if (parent >= 0)
		tell(parent, path_name(path), mask);
}

void notify(int node, const char *path, uint32_t mask)
{
	if (path && path[0])
		notify_directory(path, mask);
	tell(node, NULL, mask);
}

static void remove_watch(struct instance *instance, struct watch_ *watch)
{
	push(instance, watch->wd, IN_IGNORED, NULL);
	*watch = (struct watch_){ 0 };
}

void notify_gone(int node)
{
	tell(node, NULL, IN_DELETE_SELF);
	for (int i = 0; i < DESCRIPTIONS; i++) {
		struct description *d = &kernel.descriptions[i];

		if (d->type != ON_INOTIFY)
			continue;
		for (int w = 0; w < WATCHES; w++)
			if (d->inotify.watches[w].wd && d->inotify.watches[w].node == node)
				remove_watch(&d->inotify, &d->inotify.watches[w]);
	}
}

int notify_add(struct instance *instance, int node, uint32_t mask)
{
	struct watch_ *free = NULL;
	uint32_t events = (mask & IN_ALL_EVENTS) | ALWAYS;

	for (int w = 0; w < WATCHES; w++) {
		struct watch_ *watch = &instance->watches[w];

		if (!watch->wd) {
			free = free ? free : watch;
		} else if (watch->node == node) {
			watch->mask = mask & IN_MASK_ADD ? watch->mask | events : events;
			return watch->wd;
		}
	}
	if (!free)
		return -ENOSPC;
	*free = (struct watch_){ ++instance->last_wd, node, events };
	return free->wd;
}

int notify_remove(struct instance *instance, int wd)
{
	for (int w = 0; w < WATCHES; w++) {
		if (wd <= 0 || instance->watches[w].wd != wd)
			continue;
		remove_watch(instance, &instance->watches[w]);
		return 0;
	}
	return -EINVAL;
}

static size_t put_event(const struct event *event, char *buffer)
{
	struct inotify_event head = { .wd = event->wd, .mask = event->mask };
	size_t length = strlen(event->name);

	if (length)
		head.len = (uint32_t)((length + 16) / 16 * 16);
	memcpy(buffer, &head, sizeof(head));
	memset(buffer + sizeof(head), 0, head.len);
	memcpy(buffer + sizeof(head), event->name, length);
	return sizeof(head) + head.len;
}

ssize_t notify_read(struct instance *instance, char *buffer, size_t size)
{
	size_t length = 0;
	unsigned taken = 0;

	if (instance->count == 0)
		return -EAGAIN;
	while (taken < instance->count &&
	       size - length >= sizeof(struct inotify_event) + PADDED_NAME)
		length += put_event(&instance->queue[taken++], buffer + length);
	if (taken == 0)
		return -EINVAL;
	instance->count -= taken;
	memmove(instance->queue, instance->queue + taken,
	        instance->count * sizeof(*instance->queue));
	memset(instance->queue + instance->count, 0, taken * sizeof(*instance->queue));
	return (ssize_t)length;
}
