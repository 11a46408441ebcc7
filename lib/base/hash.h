/*
 * hash.h - an intrusive hash table of chains: the nodes live in what they index.
 */
#ifndef FILELOCK_HASH_H
#define FILELOCK_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_node {
	struct hash_node *next;
	size_t hash;
};

struct hash {
	struct hash_node **buckets;
	size_t size; /* a power of two, or 0 before the first insertion */
	size_t count;
};

#define hash_entry(node, type, member) ((type *)((char *)(node) - offsetof(type, member)))

static inline size_t hash_bytes(const void *bytes, size_t size, size_t seed)
{
	/* FNV-1a, 64 bits */
	const unsigned char *p = bytes;
	uint64_t h = UINT64_C(14695981039346656037) ^ seed;

	for (size_t i = 0; i < size; i++)
		h = (h ^ p[i]) * UINT64_C(1099511628211);
	return (size_t)(h ^ (h >> 32));
}

static inline struct hash_node *hash_first(const struct hash *table, size_t hash)
{
	struct hash_node *node =
	        table->size ? table->buckets[hash & (table->size - 1)] : NULL;

	while (node && node->hash != hash)
		node = node->next;
	return node;
}

static inline struct hash_node *hash_next(const struct hash_node *node)
{
	size_t hash = node->hash;

	for (node = node->next; node && node->hash != hash;)
		node = node->next;
	return (struct hash_node *)node;
}

/* Makes room for one more node, with the caller's allocator. 0, or -1 out of memory. */
static inline int hash_reserve(struct hash *table, void *(*allocate)(size_t, size_t),
                               void (*release)(void *))
{
	size_t size = table->size ? table->size * 2 : 16;
	struct hash_node **buckets;

	if (table->count < table->size)
		return 0;
	buckets = allocate(size, sizeof(struct hash_node *));
	if (!buckets)
		return table->size ? 0 : -1; /* longer chains, no failure */
	for (size_t i = 0; i < table->size; i++) {
		struct hash_node *node = table->buckets[i];

		while (node) {
			struct hash_node *next = node->next;

			node->next = buckets[node->hash & (size - 1)];
			buckets[node->hash & (size - 1)] = node;
			node = next;
		}
	}
	release(table->buckets);
	table->buckets = buckets;
	table->size = size;
	return 0;
}

/* After hash_reserve. */
static inline void hash_insert(struct hash *table, struct hash_node *node, size_t hash)
{
	struct hash_node **bucket = &table->buckets[hash & (table->size - 1)];

	node->hash = hash;
	node->next = *bucket;
	*bucket = node;
	table->count++;
}

static inline void hash_remove(struct hash *table, struct hash_node *node)
{
	struct hash_node **link = &table->buckets[node->hash & (table->size - 1)];

	while (*link != node)
		link = &(*link)->next;
	*link = node->next;
	table->count--;
}

#endif
