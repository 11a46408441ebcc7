/*
 * mailbox.c - holds that other threads have ended, left for the loop.
 *
 * Other threads touch neither queue nor request. They post to the mailbox, and the loop is notified.
 * The mailbox lives until its last reference goes, so that a hold may end after its context.
 */
#include "mailbox.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

struct mailbox {
	pthread_mutex_t mutex;
	struct list mail;
	void (*notify)(void *arg); /* NULL: the loop looks by itself */
	void *arg;
	bool closed;
	atomic_uint references;
	atomic_uintptr_t thread; /* that runs the loop */
	atomic_bool pending;     /* `mail` is not empty */
	atomic_uint ended;       /* holds, among it */
};

static uintptr_t this_thread(void)
{
	static atomic_uintptr_t last;
	static _Thread_local uintptr_t number; /* an address would be another thread's, later */

	if (number == 0)
		number = atomic_fetch_add(&last, 1) + 1;
	return number;
}

struct mailbox *mailbox_new(void)
{
	struct mailbox *mailbox = calloc(1, sizeof(*mailbox));

	if (!mailbox)
		return NULL;
	(void)pthread_mutex_init(&mailbox->mutex, NULL); /* never fails, on Linux */
	list_init(&mailbox->mail);
	atomic_init(&mailbox->references, 1);
	return mailbox;
}

void mailbox_ref(struct mailbox *mailbox)
{
	atomic_fetch_add_explicit(&mailbox->references, 1, memory_order_relaxed);
}

void mailbox_unref(struct mailbox *mailbox)
{
	if (atomic_fetch_sub_explicit(&mailbox->references, 1, memory_order_acq_rel) > 1)
		return;
	(void)pthread_mutex_destroy(&mailbox->mutex);
	free(mailbox);
}

void mailbox_enter(struct mailbox *mailbox)
{
	atomic_store_explicit(&mailbox->thread, this_thread(), memory_order_relaxed);
}

bool mailbox_is_loop_thread(const struct mailbox *mailbox)
{
	return atomic_load_explicit(&mailbox->thread, memory_order_relaxed) == this_thread();
}

void mailbox_set_notify(struct mailbox *mailbox, void (*notify)(void *arg), void *arg)
{
	(void)pthread_mutex_lock(&mailbox->mutex);
	mailbox->notify = notify;
	mailbox->arg = arg;
	(void)pthread_mutex_unlock(&mailbox->mutex);
}

bool mailbox_post(struct mailbox *mailbox, struct mail *mail)
{
	bool open;

	(void)pthread_mutex_lock(&mailbox->mutex);
	open = !mailbox->closed;
	if (open) {
		list_add_last(&mailbox->mail, &mail->link);
		atomic_store_explicit(&mailbox->pending, true, memory_order_relaxed);
		if (mail->ends_hold)
			atomic_fetch_add_explicit(&mailbox->ended, 1, memory_order_relaxed);
		if (mailbox->notify)
			mailbox->notify(mailbox->arg);
	}
	(void)pthread_mutex_unlock(&mailbox->mutex);
	return open;
}

static void empty(struct mailbox *mailbox, struct list *to)
{
	list_init(to);
	list_splice_last(to, &mailbox->mail);
	atomic_store_explicit(&mailbox->pending, false, memory_order_relaxed);
	atomic_store_explicit(&mailbox->ended, 0, memory_order_relaxed);
}

unsigned mailbox_ended(const struct mailbox *mailbox)
{
	return atomic_load_explicit(&mailbox->ended, memory_order_relaxed);
}

static void take_all(struct list *mail, bool gone)
{
	struct list *link;

	while ((link = list_take_first(mail))) {
		struct mail *first = list_entry(link, struct mail, link);

		first->take(first, gone);
	}
}

void mailbox_take(struct mailbox *mailbox)
{
	struct list mail;

	if (!atomic_load_explicit(&mailbox->pending, memory_order_relaxed))
		return;
	(void)pthread_mutex_lock(&mailbox->mutex);
	empty(mailbox, &mail);
	(void)pthread_mutex_unlock(&mailbox->mutex);
	take_all(&mail, false);
}

void mailbox_close(struct mailbox *mailbox, bool in_child)
{
	struct list mail;

	if (!in_child)
		(void)pthread_mutex_lock(&mailbox->mutex);
	mailbox->closed = true;
	empty(mailbox, &mail);
	if (!in_child)
		(void)pthread_mutex_unlock(&mailbox->mutex);
	take_all(&mail, true);
	mailbox_unref(mailbox);
}
