/*
 * list.h - an intrusive doubly linked list: the links live in what they chain.
 *
 * A list is a ring through its head, so that adding and removing have no special case. A link is
 * in one list at most. All zero is a link in no list, and no list: list_init makes one.
 */
#ifndef FILELOCK_LIST_H
#define FILELOCK_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *previous, *next;
};

#define LIST_INIT(head) { &(head), &(head) }

#define list_entry(link, type, member) ((type *)((char *)(link) - offsetof(type, member)))

/* Each link, first to last. list_for_each_safe lets its body remove, and free, the one that it
   is at; list_for_each lets it remove none. */
#define list_for_each(link, head) \
	for (struct list *link = (head)->next; link != (head); link = link->next)
#define list_for_each_safe(link, after, head)                                            \
	for (struct list *link = (head)->next, *after = link->next; link != (head);      \
	     link = after, after = link->next)

static inline void list_init(struct list *head)
{
	head->previous = head->next = head;
}

static inline bool list_is_empty(const struct list *head)
{
	return head->next == head;
}

/* Whether a link is in a list. */
static inline bool list_is_linked(const struct list *link)
{
	return link->next != NULL;
}

static inline void list_insert_before(struct list *position, struct list *link)
{
	link->previous = position->previous;
	link->next = position;
	position->previous->next = link;
	position->previous = link;
}

static inline void list_add_first(struct list *head, struct list *link)
{
	list_insert_before(head->next, link);
}

static inline void list_add_last(struct list *head, struct list *link)
{
	list_insert_before(head, link);
}

/* Idempotent. */
static inline void list_remove(struct list *link)
{
	if (!list_is_linked(link))
		return;
	link->previous->next = link->next;
	link->next->previous = link->previous;
	link->previous = link->next = NULL;
}

/* NULL: empty. */
static inline struct list *list_first(const struct list *head)
{
	return list_is_empty(head) ? NULL : head->next;
}

static inline struct list *list_last(const struct list *head)
{
	return list_is_empty(head) ? NULL : head->previous;
}

/* The one after; NULL: it is the last. */
static inline struct list *list_next(const struct list *head, const struct list *link)
{
	return link->next == head ? NULL : link->next;
}

static inline struct list *list_take_first(struct list *head)
{
	struct list *link = list_first(head);

	if (link)
		list_remove(link);
	return link;
}

/* Moves all of `from` to the end of `to`. */
static inline void list_splice_last(struct list *to, struct list *from)
{
	if (list_is_empty(from))
		return;
	from->next->previous = to->previous;
	from->previous->next = to;
	to->previous->next = from->next;
	to->previous = from->previous;
	list_init(from);
}

#endif
