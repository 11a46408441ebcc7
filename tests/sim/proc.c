/*
 * proc.c - what /proc says in the simulated kernel, as far as the library reads it.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernel.h"

int proc_find(long pid)
{
	long i = pid - SIM_PID(0);

	if (i < 0 || i >= SIM_PROCESSES || (kernel.apart && i != kernel.current))
		return -1;
	if (kernel.processes[i].life == SIM_UNBORN || kernel.processes[i].life == SIM_GONE)
		return -1;
	return (int)i;
}

static int process_text(const char *path, char ret[TEXT])
{
	char *end;
	long pid = strtol(path, &end, 10);
	int i = proc_find(pid);

	if (strcmp(end, "/stat") != 0 || i < 0)
		return -ENOENT;
	return snprintf(ret, TEXT,
	                "%ld (simulated) %c 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0\n",
	                pid, kernel.processes[i].life == SIM_ZOMBIE ? 'Z' : 'S', 100 + i);
}

int proc_text(const char *path, char ret[TEXT])
{
	if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		return snprintf(ret, TEXT, "01234567-89ab-cdef-0123-456789abcdef\n");
	if (strcmp(path, "/proc/stat") == 0)
		return snprintf(ret, TEXT, "cpu 0 0 0\nbtime 1600000000\n");
	if (strncmp(path, "/proc/", 6) != 0)
		return -ENOENT;
	return process_text(path + 6, ret);
}

ssize_t proc_link(const char *path, char *ret, size_t size)
{
	char text[SIM_PATH];
	int length = -1;

	if (strcmp(path, "/proc/self") == 0)
		length = snprintf(text, sizeof(text), "%d", (int)SIM_PID(kernel.current));
	else if (strcmp(path, "/proc/thread-self/ns/pid") == 0)
		length = snprintf(text, sizeof(text), "pid:[4026531836]");
	if (length < 0)
		return entry_find(path) ? -EINVAL : -ENOENT;
	if ((size_t)length > size)
		length = (int)size;
	memcpy(ret, text, (size_t)length);
	return length;
}
