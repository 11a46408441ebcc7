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
	char *heap;
	char *saved_data, *saved_heap; /* as they were when it was prepared */
	size_t heap_used;
	process_main main;
} processes[SIM_PROCESSES];

static struct {
	ucontext_t context;
	char *stack;
	void *(*run)(void *arg);
	void *arg;
	bool done;
} tasks[SIM_TASKS];

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
	for (unsigned i = 0; i < SIM_TASKS; i++)
		tasks[i].stack = allocate(STACK);
}

static void restore_copy(unsigned i)
{
	copy_raw(copies[i].begin, processes[i].saved_data, data_size(i));
	memcpy(processes[i].heap, processes[i].saved_heap, processes[i].heap_used);
}

static void run_process(int process)
{
	unsigned i = (unsigned)process;

	processes[i].main(i < LIBRARIES ? copies[i].library : NULL, i);
	tasks[i].done = true;
	processes_ended(i);
}

void processes_end_thread(void)
{
	unsigned i = sim_task();

	tasks[i].done = true;
	sim_end_thread(i);
	processes_ended(i);
	abort();
}

static void run_thread(int task)
{
	(void)tasks[task].run(tasks[task].arg);
	processes_end_thread();
}

static void prepare_task(unsigned i, void (*run)(int task))
{
	tasks[i].done = false;
	(void)getcontext(&tasks[i].context);
	tasks[i].context.uc_stack.ss_sp = tasks[i].stack;
	tasks[i].context.uc_stack.ss_size = STACK;
	makecontext(&tasks[i].context, (void (*)(void))run, 1, (int)i);
}

int processes_start_thread(void *(*run)(void *arg), void *arg, unsigned *ret_task)
{
	int task = sim_start_thread();

	if (task < 0)
		return -1;
	*ret_task = (unsigned)task;
	tasks[task].run = run;
	tasks[task].arg = arg;
	prepare_task((unsigned)task, run_thread);
	return 0;
}

void processes_begin(const process_main *mains, unsigned count)
{
	sim_reset();
	for (unsigned i = 0; i < count; i++) {
		if (i < LIBRARIES)
			restore_copy(i);
		sim_start(i);
		processes[i].main = mains[i];
		prepare_task(i, run_process);
	}
}

void processes_enter(unsigned task)
{
	unsigned from = sim_task();
	int saved = errno;
	bool first = !inside;

	if (!first && from == task)
		return;
	inside = true;
	sim_switch(task);
	(void)swapcontext(first ? &outside : &tasks[from].context, &tasks[task].context);
	if (!first)
		sim_switch(from);
	errno = saved;
}

void processes_leave(void)
{
	inside = false;
	(void)setcontext(&outside);
}

bool processes_is_done(unsigned task)
{
	return tasks[task].done;
}
