#include "processes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define HEAPS ((uintptr_t)0x200000000000)
#define HEAP_DISTANCE ((uintptr_t)0x100000000)
enum { STACK = 256 * 1024, HEAP = 4 * 1024 * 1024 };

#define DECLARE(n)                                \
	extern const struct library sim_library_##n; \
	extern char __start_sim_data_##n[];       \
	extern char __stop_sim_data_##n[];
DECLARE(0)
DECLARE(1)
DECLARE(2)
#undef DECLARE

#define COPY(n) { &sim_library_##n, __start_sim_data_##n, __stop_sim_data_##n }
static const struct {
	const struct library *library;
	char *begin, *end; /* its variables */
} copies[LIBRARIES] = { COPY(0), COPY(1), COPY(2) };

static struct {
	ucontext_t context;
	char *stack, *heap;
	char *saved_data, *saved_heap; /* as they were when it was prepared */
	size_t heap_used;
	process_main main;
	bool done;
} processes[SIM_PROCESSES];

static ucontext_t outside;
static bool inside;

/* At that address, if it is free: the library mixes those of handles into its polls, and an
   execution is to be the same in the next program. */
static void *allocate_at(uintptr_t address, size_t size)
{
	void *p = mmap((void *)address, size, PROT_READ | PROT_WRITE,
	               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return p;
}

static void *allocate(size_t size)
{
	return allocate_at(0, size);
}

/* memcpy(3) of variables and what lies between them, where sanitizers have their red zones. */
__attribute__((no_sanitize("address"))) static void copy_raw(void *to, const void *from,
                                                             size_t size)
{
	volatile char *target = to;
	const volatile char *source = from;
	size_t words = size / sizeof(uint64_t);

	for (size_t i = 0; i < words; i++)
		((volatile uint64_t *)target)[i] = ((const volatile uint64_t *)source)[i];
	for (size_t i = words * sizeof(uint64_t); i < size; i++)
		target[i] = source[i];
}

static size_t data_size(unsigned i)
{
	return (size_t)(copies[i].end - copies[i].begin);
}

/* A copy that has opened and closed a lock of each kind: what it remembers for good, such as its
   own start token, it knows then, so that all executions make the same calls. */
static void warm_up(const struct library *lib)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	static const enum filelock_kind kinds[] = { FILELOCK_NATIVE, FILELOCK_SOFT,
		                                    FILELOCK_READWRITE };

	for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
		struct filelock *lock;

		if (lib->open(SIM_FOLDER "/warm.db", kinds[i], &options, &lock) < 0)
			continue;
		if (lib->acquire(lock, FILELOCK_EXCLUSIVE, FILELOCK_NO_WAIT) == 0)
			(void)lib->release(lock);
		lib->close(lock);
		(void)sim_calls.unlink(SIM_FOLDER "/warm.db");
	}
}

static void prepare_copy(unsigned i)
{
	const struct library *lib = copies[i].library;

	processes[i].heap = allocate_at(HEAPS + i * HEAP_DISTANCE, HEAP);
	lib->prepare(i, processes[i].heap, HEAP);
	sim_reset();
	sim_start(i);
	sim_switch(i);
	warm_up(lib);
	processes[i].heap_used = lib->heap_used();
	processes[i].saved_data = allocate(data_size(i));
	processes[i].saved_heap = allocate(processes[i].heap_used);
	copy_raw(processes[i].saved_data, copies[i].begin, data_size(i));
	memcpy(processes[i].saved_heap, processes[i].heap, processes[i].heap_used);
}

void processes_prepare(void)
{
	for (unsigned i = 0; i < LIBRARIES; i++)
		prepare_copy(i);
	for (unsigned i = 0; i < SIM_PROCESSES; i++)
		processes[i].stack = allocate(STACK);
}

static void restore_copy(unsigned i)
{
	copy_raw(copies[i].begin, processes[i].saved_data, data_size(i));
	memcpy(processes[i].heap, processes[i].saved_heap, processes[i].heap_used);
}

static void run(int process)
{
	unsigned i = (unsigned)process;

	processes[i].main(i < LIBRARIES ? copies[i].library : NULL, i);
	processes[i].done = true;
	processes_ended(i);
}

void processes_begin(const process_main *mains, unsigned count)
{
	sim_reset();
	for (unsigned i = 0; i < count; i++) {
		if (i < LIBRARIES)
			restore_copy(i);
		sim_start(i);
		processes[i].main = mains[i];
		processes[i].done = false;
		(void)getcontext(&processes[i].context);
		processes[i].context.uc_stack.ss_sp = processes[i].stack;
		processes[i].context.uc_stack.ss_size = STACK;
		makecontext(&processes[i].context, (void (*)(void))run, 1, (int)i);
	}
}

void processes_enter(unsigned process)
{
	unsigned from = sim_current();
	int saved = errno;
	bool first = !inside;

	if (!first && from == process)
		return;
	inside = true;
	sim_switch(process);
	(void)swapcontext(first ? &outside : &processes[from].context,
	                  &processes[process].context);
	if (!first)
		sim_switch(from);
	errno = saved;
}

void processes_leave(void)
{
	inside = false;
	(void)setcontext(&outside);
}

bool processes_is_done(unsigned process)
{
	return processes[process].done;
}
