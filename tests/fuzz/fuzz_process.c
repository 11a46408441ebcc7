/*
 * fuzz_process.c - any bytes as /proc/PID/stat, and as a command's name within one.
 */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "base/proc.h"

/* A line of the kernel's form gives the same result, whatever the command is called. */
static void check_round_trip(const struct proc_process *process, const char *name)
{
	size_t size = strlen(name) + 256;
	char *text = malloc(size);
	struct proc_process again = { 0 };

	CHECK(text);
	(void)snprintf(text, size,
	               "77 (%s) %c 1 2 3 0 -1 4194560 5 0 0 0 6 7 0 0 20 0 %llu 0 %llu 9 10\n",
	               name, process->state, (unsigned long long)process->threads,
	               (unsigned long long)process->start);
	CHECK(proc_parse_process(text, &again));
	CHECK(again.state == process->state);
	CHECK(again.threads == process->threads);
	CHECK(again.start == process->start);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct proc_process none = { .state = '?', .threads = 1, .start = 2 };
	struct proc_process process = none;
	char *text = calloc(1, size + 1);

	CHECK(text);
	if (size > 0)
		memcpy(text, data, size);
	if (proc_parse_process(text, &process)) {
		CHECK(process.state != '\0');
		check_round_trip(&process, "cat");
	} else {
		CHECK(process.state == none.state && process.threads == none.threads &&
		      process.start == none.start);
	}
	if (process.state == ')') /* no state, and would end the name */
		process.state = '?';
	check_round_trip(&process, text);
	free(text);
	return 0;
}
