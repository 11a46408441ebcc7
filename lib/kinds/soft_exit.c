/*
 * soft_exit.c - markers to remove at exit(3).
 *
 * Other threads may release, acquire and close while the handler runs. A listed marker is open, so
 * no other file has its inode's number. A release takes the marker off the list before it removes
 * it. The handler waits for removals that are under way, so that none is cut short.
 */
#include "kinds/soft_exit.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t idle;
	struct leftover *first;
	unsigned removals; /* under way */
	pid_t pid;         /* of the process whose markers are listed */
} list = { .mutex = PTHREAD_MUTEX_INITIALIZER, .idle = PTHREAD_COND_INITIALIZER };

static void lock_list(void)
{
	(void)pthread_mutex_lock(&list.mutex);
}

static void unlock_list(void)
{
	(void)pthread_mutex_unlock(&list.mutex);
}

static void remove_at_exit(void)
{
	lock_list();
	/* a process made by clone(2) or vfork(2) has our list, and none of our locks */
	if (list.pid != getpid()) {
		unlock_list();
		return;
	}
	while (list.removals > 0)
		(void)pthread_cond_wait(&list.idle, &list.mutex);
	for (const struct leftover *l = list.first; l; l = l->next)
		if (path_check(l->path, l->identity.dev, l->identity.ino) == 0)
			(void)sys_unlink(l->path);
	unlock_list();
}

/* As early as possible: exit handlers run in the reverse order, and the program's may still work
   under its locks. atexit(3) refuses none of the first 32. */
__attribute__((constructor)) static void install(void)
{
	(void)atexit(remove_at_exit);
}

static void put_on(struct leftover *leftover, const char *path, struct identity identity)
{
	*leftover = (struct leftover){ .path = path, .identity = identity };
	leftover->next = list.first;
	if (leftover->next)
		leftover->next->previous = leftover;
	list.first = leftover;
}

void soft_exit_add(struct leftover *leftover, const char *path, struct identity identity)
{
	lock_list();
	list.pid = getpid();
	put_on(leftover, path, identity);
	unlock_list();
}

static void take_off(struct leftover *leftover)
{
	if (!leftover->path)
		return;
	leftover->path = NULL;
	if (leftover->previous)
		leftover->previous->next = leftover->next;
	else
		list.first = leftover->next;
	if (leftover->next)
		leftover->next->previous = leftover->previous;
}

void soft_exit_remove(struct leftover *leftover)
{
	if (!leftover->path)
		return;
	lock_list();
	take_off(leftover);
	unlock_list();
}

void soft_exit_move(struct leftover *from, struct leftover *to, const char *path)
{
	lock_list();
	if (from->path) {
		take_off(from);
		put_on(to, path, from->identity);
	}
	unlock_list();
}

void soft_exit_begin_removal(struct leftover *leftover)
{
	lock_list();
	take_off(leftover);
	list.removals++;
	unlock_list();
}

void soft_exit_end_removal(void)
{
	lock_list();
	if (--list.removals == 0)
		(void)pthread_cond_broadcast(&list.idle);
	unlock_list();
}

void soft_exit_before_fork(void)
{
	lock_list();
}

void soft_exit_after_fork(bool in_child)
{
	if (in_child) {
		list.first = NULL;
		list.removals = 0;
	}
	unlock_list();
}
