/*
 * The server's loop: one thread reads requests and does what is quick; a request that is delayed or
 * may block (a lock that is waited for) gets a thread of its own, so that none delays another.
 *
 * While the mount is stuck nothing is read. The caller of a request not read yet can be killed,
 * as on a dead NFS mount; one that was read keeps its caller until it is answered.
 */
#include "fuse_server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct job *jobs; /* with a thread of their own */

static void nap(unsigned ms)
{
	nanosleep(&(struct timespec){ ms / 1000, (long)(ms % 1000) * 1000000 }, NULL);
}

static void answer(struct job *job, int result)
{
	job->out.error = result;
	job->out.unique = job->request.in.unique;
	job->out.len = (uint32_t)(sizeof(job->out) + (result < 0 ? 0 : job->size));
	/* counted before: whoever saw the answer sees it no longer under way */
	job->fuse->under_way--;
	/* ENOENT: the caller was killed meanwhile */
	if (!job->silent && write(job->fuse->device, &job->out, job->out.len) < 0 &&
	    errno != ENOENT && errno != ENODEV)
		perror("fuse: answer");
}

static void do_job(struct job *job)
{
	unsigned opcode = job->request.in.opcode;
	int refused = opcode < FUSE_OPCODES ? job->fuse->refused[opcode] : 0;
	int lost = opcode < FUSE_OPCODES ? job->fuse->lost[opcode] : 0;
	int r = refused ? -refused : fuse_do(job);

	answer(job, r == 0 && lost ? -lost : r);
}

static void unlist(struct job *job)
{
	pthread_mutex_lock(&mutex);
	for (struct job **at = &jobs; *at; at = &(*at)->next) {
		if (*at == job) {
			*at = job->next;
			break;
		}
	}
	pthread_mutex_unlock(&mutex);
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* In short naps, since the delay may be changed, and the mount get stuck, meanwhile. */
static void delay(struct fuse *fuse)
{
	unsigned ticks = fuse->ticks;
	int64_t begin = now_ms();
	int64_t left;

	while ((left = begin + fuse->delay_ms - now_ms()) > 0 || fuse->stuck ||
	       fuse->ticks - ticks < fuse->ticks_each)
		nap(left > 0 && left < 5 ? (unsigned)left : 5);
}

static void *run_job(void *arg)
{
	struct job *job = arg;

	delay(job->fuse);
	do_job(job);
	unlist(job);
	free(job);
	return NULL;
}

static void start_thread(struct job *job)
{
	pthread_attr_t attributes;
	pthread_t thread;

	pthread_mutex_lock(&mutex);
	job->next = jobs;
	jobs = job;
	pthread_mutex_unlock(&mutex);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	while (pthread_create(&thread, &attributes, run_job, job) != 0)
		nap(1);
	pthread_attr_destroy(&attributes);
}

/* Only a wait for a lock heeds it, like a disk's own calls. */
static void interrupt(const struct job *job)
{
	const struct fuse_interrupt_in *in = (const void *)(&job->request.in + 1);

	pthread_mutex_lock(&mutex);
	for (struct job *other = jobs; other; other = other->next) {
		if (other->request.in.unique == in->unique)
			other->interrupted = true;
	}
	pthread_mutex_unlock(&mutex);
}

/* Messages of the kernel that need no answer. */
static bool is_told(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET || opcode == FUSE_INTERRUPT;
}

static bool may_take_long(const struct job *job)
{
	uint32_t opcode = job->request.in.opcode;

	if (is_told(opcode) || opcode == FUSE_INIT)
		return false;
	return opcode == FUSE_SETLKW || job->fuse->delay_ms > 0 || job->fuse->ticks_each > 0;
}

/* The next request; NULL: the mount is gone. */
static struct job *next_job(struct fuse *fuse)
{
	struct pollfd device = { fuse->device, POLLIN, 0 };
	struct job *job = malloc(sizeof(*job));
	ssize_t n = -1;

	if (!job)
		return NULL;
	do {
		if (poll(&device, 1, -1) < 0)
			continue;
		while (fuse->stuck)
			nap(1);
		n = read(fuse->device, job->request.bytes, sizeof(job->request.bytes) - 1);
	} while (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN));
	if (n < (ssize_t)sizeof(job->request.in)) {
		free(job);
		return NULL;
	}
	job->request.bytes[n] = '\0';
	job->fuse = fuse;
	job->interrupted = false;
	job->silent = is_told(job->request.in.opcode);
	job->size = 0;
	return job;
}

/* As many descriptors as can be: of files that any number of processes have open. */
static void raise_limit(void)
{
	struct rlimit limit = { 1 << 20, 1 << 20 };

	if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

void fuse_serve(struct fuse *fuse)
{
	struct job *job;

	raise_limit();
	umask(0); /* the kernel has seen to the caller's */
	if (fuse_node_root(fuse->backing) < 0) {
		perror(fuse->backing);
		return;
	}
	while ((job = next_job(fuse))) {
		fuse->under_way++;
		if (job->request.in.opcode < FUSE_OPCODES)
			fuse->asked[job->request.in.opcode]++;
		if (may_take_long(job)) {
			start_thread(job);
			continue;
		}
		if (job->request.in.opcode == FUSE_INTERRUPT)
			interrupt(job);
		do_job(job);
		free(job);
	}
}
