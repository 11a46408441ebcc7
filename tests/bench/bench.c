#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filelock/filelock.h>

bool bench_quick;

static char **arguments;
static char *folder;
static pid_t folder_owner;
static cpu_set_t allowed;

void series_add(struct series *series, double value)
{
	if (series->count == series->size) {
		series->size = series->size ? series->size * 2 : 1024;
		series->values = must_have(
		        realloc(series->values, series->size * sizeof(double)), "realloc");
	}
	series->values[series->count++] = value;
}

double series_mean(const struct series *series)
{
	double sum = 0;

	for (size_t i = 0; i < series->count; i++)
		sum += series->values[i];
	return series->count ? sum / (double)series->count : 0;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double series_percentile(struct series *series, double p)
{
	double exact = p / 100 * (double)series->count;
	size_t rank = (size_t)exact;

	if (!series->count)
		bench_fail("a percentile of no samples");
	if ((double)rank < exact)
		rank++;
	if (rank < 1)
		rank = 1;
	qsort(series->values, series->count, sizeof(double), compare_doubles);
	return series->values[rank - 1];
}

double series_median(struct series *series)
{
	return series_percentile(series, 50);
}

double series_max(struct series *series)
{
	return series_percentile(series, 100);
}

void series_free(struct series *series)
{
	free(series->values);
	*series = (struct series){ 0 };
}

int64_t bench_now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void bench_sleep(int64_t ns)
{
	struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

int64_t bench_random(int64_t low, int64_t high)
{
	static unsigned short state[3] = { 0x330e, 0x2342, 0x1729 };

	return low + (int64_t)(erand48(state) * (double)(high - low + 1));
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_folder(void)
{
	if (folder && getpid() == folder_owner)
		(void)nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
	free(folder);
	folder = NULL;
}

static void make_folder(void)
{
	const char *parent = getenv("TMPDIR");

	if (!parent || !*parent)
		parent = "/tmp";
	if (asprintf(&folder, "%s/filelock-bench-XXXXXX", parent) < 0)
		bench_fail("out of memory");
	must_have(mkdtemp(folder), "mkdtemp");
	folder_owner = getpid();
	if (atexit(remove_folder) != 0)
		bench_fail("atexit failed");
}

void bench_begin(int argc, char **argv)
{
	(void)argc;
	arguments = argv;
	for (char **argument = argv; *argument; argument++)
		if (strcmp(*argument, "--quick") == 0)
			bench_quick = true;
	(void)must(sched_getaffinity(0, sizeof(allowed), &allowed), "sched_getaffinity");
	make_folder();
}

const char *bench_argument(const char *name)
{
	for (char **argument = arguments; *argument; argument++)
		if (strcmp(*argument, name) == 0)
			return argument[1];
	return NULL;
}

char *bench_path(const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		bench_fail("out of memory");
	return path;
}

/* Line by line, so that a program that is cut short has told what it knew. */
static void end_line(void)
{
	(void)putchar('\n');
	(void)fflush(stdout);
}

static void print_row(const char *what, double ours, double peer, const char *unit,
                      const char *sign, double bound)
{
	printf("row\t%s\t%.6g\t%.6g\t%s\t%.6g\t", what, ours, peer, unit, ours / peer);
	if (bound > 0)
		printf("%s%.6g", sign, bound);
	else
		printf("-");
	end_line();
}

void bench_row(const char *what, double ours, double peer, const char *unit, double bound)
{
	print_row(what, ours, peer, unit, "", bound);
}

void bench_row_least(const char *what, double ours, double peer, const char *unit, double bound)
{
	print_row(what, ours, peer, unit, ">", bound);
}

void bench_row_limit(const char *what, double ours, const char *unit, double limit)
{
	printf("row\t%s\t%.6g\t-\t%s\t-\t%.6g", what, ours, unit, limit);
	end_line();
}

void bench_note(const char *format, ...)
{
	va_list values;

	printf("note\t");
	va_start(values, format);
	(void)vprintf(format, values);
	va_end(values);
	end_line();
}

void bench_skip(const char *what, const char *format, ...)
{
	va_list values;

	printf("skip\t%s\t", what);
	va_start(values, format);
	(void)vprintf(format, values);
	va_end(values);
	end_line();
}

_Noreturn void bench_fail(const char *format, ...)
{
	va_list values;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(values, format);
	(void)vfprintf(stderr, format, values);
	va_end(values);
	(void)fputc('\n', stderr);
	exit(1);
}

int must(int result, const char *what)
{
	if (result < 0)
		bench_fail("%s: %s", what, strerror(errno));
	return result;
}

int must_lock(int result, const char *what)
{
	if (result < 0)
		bench_fail("%s: %s", what, filelock_strerror(result));
	return result;
}

void *must_have(void *pointer, const char *what)
{
	if (!pointer)
		bench_fail("%s: %s", what, strerror(errno));
	return pointer;
}

unsigned bench_cpus(int *ret_cpus, unsigned size)
{
	unsigned n = 0;

	for (int cpu = 0; cpu < CPU_SETSIZE && n < size; cpu++)
		if (CPU_ISSET(cpu, &allowed))
			ret_cpus[n++] = cpu;
	return n;
}

void bench_place(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	if (cpu >= 0)
		CPU_SET(cpu, &one);
	(void)must(sched_setaffinity(0, sizeof(one), cpu >= 0 ? &one : &allowed),
	           "sched_setaffinity");
}

void *bench_shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
	                    -1, 0);

	if (memory == MAP_FAILED)
		bench_fail("mmap: %s", strerror(errno));
	return memory;
}

int bench_open_lock_file(const char *path)
{
	return must(open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
	                 0666),
	            path);
}

int bench_fork(void)
{
	pid_t parent = getpid();
	pid_t pid;

	(void)fflush(NULL);
	pid = must(fork(), "fork");
	if (pid == 0) {
		(void)must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

void bench_reap(int pid, int signal)
{
	int status;

	(void)must(waitpid(pid, &status, 0), "waitpid");
	if (signal && WIFSIGNALED(status) && WTERMSIG(status) == signal)
		return;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bench_fail("a child process failed (status %#x)", (unsigned)status);
}
