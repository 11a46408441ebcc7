/* A program outside the tree: waits in a libevent loop for a lock that a timer releases. */
#include <stdio.h>

#include <event2/event.h>
#include <filelock/driver.h>
#include <filelock/event.h>

struct program {
	struct filelock *holder, *waiter;
	int result;
};

static void release(evutil_socket_t fd, short what, void *arg)
{
	struct program *program = arg;

	(void)fd, (void)what;
	filelock_release(program->holder);
}

static void acquired(struct filelock *lock, int result, void *arg)
{
	struct program *program = arg;

	program->result = result;
	if (result == 0)
		filelock_release(lock);
}

static int run(struct program *program, struct event_base *base, struct evfilelock *ev)
{
	const struct timeval soon = { 0, 20000 };
	int r;

	if (event_base_once(base, -1, EV_TIMEOUT, release, program, &soon) != 0)
		return -1;
	r = evfilelock_acquire(ev, program->waiter, FILELOCK_EXCLUSIVE, NULL, acquired, program);
	if (r < 0)
		return r;
	return event_base_dispatch(base) < 0 ? -1 : program->result;
}

int main(int argc, char **argv)
{
	struct program program = { NULL, NULL, 1 };
	const char *path = argc > 1 ? argv[1] : "consumer.lock";
	struct event_base *base = event_base_new();
	struct evfilelock *ev = evfilelock_new(base, NULL);
	int r = filelock_open(path, FILELOCK_NATIVE, NULL, &program.holder);

	if (r == 0)
		r = filelock_open(path, FILELOCK_NATIVE, NULL, &program.waiter);
	if (r == 0)
		r = filelock_acquire(program.holder, FILELOCK_EXCLUSIVE, 0);
	if (r == 0)
		r = run(&program, base, ev);
	evfilelock_free(ev);
	filelock_close(program.waiter);
	filelock_close(program.holder);
	event_base_free(base);
	if (r == 0)
		printf("event %s at %lld\n", filelock_version(), (long long)filelock_now());
	else
		fprintf(stderr, "event: %d\n", r);
	return r != 0;
}
