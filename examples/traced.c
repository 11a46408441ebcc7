/*
 * traced.c - a run as a picture: who waited for which lock, and who held it when.
 *
 *	cc traced.c -o traced $(pkg-config --cflags --libs filelock_event libevent_core)
 *	./traced [TRACE FILE]
 *
 * Open the file in https://ui.perfetto.dev or in chrome://tracing.
 */
#include <errno.h>
#include <stdio.h>

#include <event2/event.h>
#include <filelock/event.h>

enum { WORKERS = 6 };

struct worker {
	struct filelock *lock;
	struct event *done; /* with its work under the lock */
};

static const char *const paths[] = { "north.lock", "south.lock" };

static void on_done(evutil_socket_t fd, short what, void *arg)
{
	struct worker *worker = arg;

	(void)fd, (void)what;
	filelock_release(worker->lock);
}

static void on_lock(struct filelock *lock, int result, void *arg)
{
	const struct timeval work = { 0, 20000 };
	struct worker *worker = arg;

	if (result < 0)
		fprintf(stderr, "%s: %s\n", filelock_path(lock), filelock_strerror(result));
	else
		event_add(worker->done, &work);
}

/* Two queues; the last one in each gives up before its turn comes. */
static int start(struct worker *worker, int i, struct event_base *base, struct evfilelock *ev)
{
	const struct timeval patience = { i < WORKERS - 2 ? 30 : 0, 10000 };

	if (filelock_open(paths[i % 2], FILELOCK_NATIVE, NULL, &worker->lock) < 0)
		return -1;
	worker->done = event_new(base, -1, 0, on_done, worker);
	if (!worker->done ||
	    evfilelock_acquire(ev, worker->lock, FILELOCK_EXCLUSIVE, &patience, on_lock, worker) < 0)
		return -1;
	return 0;
}

int main(int argc, char **argv)
{
	const char *path = argc > 1 ? argv[1] : "trace.json";
	struct evfilelock_trace *trace = NULL;
	struct event_base *base = event_base_new();
	struct evfilelock *ev = base ? evfilelock_new(base, NULL) : NULL;
	struct worker workers[WORKERS] = { { NULL, NULL } };
	int r = ev ? evfilelock_trace_open(path, &trace) : -ENOMEM;

	if (r == 0)
		evfilelock_set_trace(ev, evfilelock_trace_write, trace);
	for (int i = 0; r == 0 && i < WORKERS; i++)
		r = start(&workers[i], i, base, ev);
	if (r == 0)
		event_base_dispatch(base);
	else
		fprintf(stderr, "%s: %s\n", path, filelock_strerror(r));
	for (int i = 0; i < WORKERS; i++) {
		if (workers[i].done)
			event_free(workers[i].done);
		filelock_close(workers[i].lock);
	}
	evfilelock_free(ev);
	if (evfilelock_trace_close(trace) < 0)
		r = -1;
	if (base)
		event_base_free(base);
	if (r == 0)
		printf("%s: open it in https://ui.perfetto.dev or chrome://tracing\n", path);
	return r < 0;
}
