/*
 * oracle.h - what must hold in every execution of every scenario.
 */
#ifndef FILELOCK_TESTS_SIM_ORACLE_H
#define FILELOCK_TESTS_SIM_ORACLE_H

#include "schedule.h"

void oracle_begin(const struct scenario *scenario);
/* Between two calls. Fails the execution. */
void oracle_check(void);
/* Before a call of the current process. */
void oracle_call(const char *call);
void oracle_died(unsigned process);
/* Whether somebody waits for a lock that nobody else holds. */
bool oracle_is_wanted(void);
/* When all is over: what is wrong, if anything. */
void oracle_end(char *ret_failure, size_t size);

/* Ends the execution, from inside it. */
void execution_fail(const char *what);

#endif
