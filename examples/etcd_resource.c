/*
 * etcd_resource.c - a lock across machines, and a resource that refuses its former holders.
 *
 *	cc etcd_resource.c -o etcd_resource $(pkg-config --cflags --libs filelock_etcd libevent_core)
 *	./etcd_resource [-t TOKEN] ENDPOINT NAME FILE TEXT
 *	./etcd_resource http://127.0.0.1:2379 jobs/log log.txt hello
 *
 * Takes the lock NAME in etcd, and appends "TOKEN TEXT" to FILE. The resource is the file: under a lock
 * of its own (flock) it refuses a token below the last one in it. A program that was stopped between
 * taking the lock and writing, for longer than its lease lasts, is refused so; -t TOKEN plays one.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <event2/event.h>

#include <filelock/etcd.h>

struct job {
	struct event_base *base;
	struct evfilelock *ev;
	struct filelock_etcd *session;
	const char *path, *text;
	uint64_t late; /* 0: the lock's own token is shown */
	int result;
};

/* --- the resource --- */

static uint64_t last_token(FILE *file)
{
	uint64_t token = 0;
	char line[1024];

	while (fgets(line, sizeof(line), file))
		token = strtoull(line, NULL, 10);
	return token;
}

static int resource_append(const char *path, uint64_t token, const char *text)
{
	struct filelock *own;
	FILE *file = fopen(path, "a+e");
	int r = file ? filelock_open_fd(fileno(file), NULL, &own) : -errno;

	if (r < 0)
		goto done;
	r = filelock_acquire(own, FILELOCK_EXCLUSIVE, FILELOCK_WAIT_FOREVER);
	rewind(file);
	if (r == 0 && token < last_token(file))
		r = -ESTALE; /* a later holder was here */
	if (r == 0 && (fprintf(file, "%" PRIu64 " %s\n", token, text) < 0 || fflush(file) != 0))
		r = -EIO;
	filelock_close(own);
done:
	if (file && fclose(file) != 0 && r == 0)
		r = -EIO;
	return r;
}

/* --- the client --- */

static void finish(struct job *job, struct filelock *lock, int result)
{
	job->result = result;
	filelock_close(lock);
	filelock_etcd_close(job->session); /* the loop ends when the lease is given back */
}

static void on_released(struct filelock *lock, int result, void *arg)
{
	struct job *job = arg;

	finish(job, lock, job->result < 0 ? job->result : result);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct job *job = arg;
	uint64_t token = job->late;

	if (result < 0) {
		fprintf(stderr, "%s\n", filelock_last_error(lock));
		finish(job, lock, result);
		return;
	}
	if (!token)
		job->result = filelock_token(lock, &token);
	if (job->result == 0)
		job->result = resource_append(job->path, token, job->text);
	result = evfilelock_release(job->ev, lock, on_released, job);
	if (result < 0)
		finish(job, lock, result);
}

static int start(struct job *job, const char *endpoint, const char *name)
{
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	const struct timeval patience = { 30, 0 };
	struct filelock *lock;
	int r;

	options.endpoints = &endpoint;
	options.endpoint_count = 1;
	r = filelock_etcd_open(job->ev, &options, &job->session);
	if (r < 0) {
		fprintf(stderr, "%s\n", filelock_last_error(NULL));
		return r;
	}
	r = filelock_open_etcd(job->session, name, NULL, &lock);
	if (r < 0) {
		fprintf(stderr, "%s\n", filelock_last_error(NULL));
		filelock_etcd_close(job->session);
		return r;
	}
	r = evfilelock_acquire(job->ev, lock, FILELOCK_EXCLUSIVE, &patience, on_lock, job);
	if (r < 0)
		finish(job, lock, r);
	return r;
}

int main(int argc, char **argv)
{
	struct job job = { .base = event_base_new() };
	int option;

	while ((option = getopt(argc, argv, "t:")) == 't')
		job.late = strtoull(optarg, NULL, 10);
	if (option >= 0 || argc - optind != 4) {
		fprintf(stderr, "usage: %s [-t TOKEN] ENDPOINT NAME FILE TEXT\n", argv[0]);
		return 2;
	}
	job.path = argv[optind + 2];
	job.text = argv[optind + 3];
	job.ev = job.base ? evfilelock_new(job.base, NULL) : NULL;
	if (!job.ev) {
		perror("etcd_resource");
		return 1;
	}
	if (start(&job, argv[optind], argv[optind + 1]) < 0)
		job.result = -1;
	(void)event_base_dispatch(job.base);
	evfilelock_free(job.ev);
	event_base_free(job.base);
	if (job.result < 0)
		fprintf(stderr, "%s: %s\n", job.path, filelock_strerror(job.result));
	return job.result < 0;
}
