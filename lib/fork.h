/*
 * fork.h - the gate that keeps forks waiting, and what a child gives up whose owner is no handle.
 */
#ifndef FILELOCK_FORK_H
#define FILELOCK_FORK_H

#include <stdatomic.h>

#include "driver_private.h"

/* Another one in each forked child: filelock_generation, for those who ask at each entry. */
extern atomic_uint fork_generation;

/* How often this process has forked: a descriptor made before a fork may be open elsewhere. */
unsigned fork_count(void);

/*
 * Around opening a descriptor that a handle's kind is to close in a forked child (`forget`)
 * until it stands in the handle's state, around closing one, and around calls of SQLite: no fork
 * comes in between, but after two seconds. Not nested, not in `forget` itself; nothing may be
 * called there that could fork.
 */
void fork_hold_off(void);
void fork_allow(void);

/* 0, or why this process has no handlers for forks. */
int fork_check(void);

/* For process.c, which has the handlers: how their installation went; and in the order of a
   fork. */
void fork_note_handlers(int error);
void fork_close_gate(void);
void fork_lock_fds(void);
void fork_begin_child(void);
void fork_unlock_fds(bool in_child);
void fork_open_gate(bool in_child);

#endif
