/*
 * seen.h - a set of hashes of states.
 */
#ifndef FILELOCK_TESTS_SIM_SEEN_H
#define FILELOCK_TESTS_SIM_SEEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Forgets all. */
void seen_clear(void);
/* True: it was there already. A full set takes no more. */
bool seen_add(uint64_t hash);
size_t seen_count(void);

#endif
