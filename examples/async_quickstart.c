/*
 * async_quickstart.c - wait for a lock in a libevent loop, which goes on with its other work.
 *
 *	cc async_quickstart.c -o async_quickstart \
 *	        $(pkg-config --cflags --libs filelock_event libevent_core)
 *	./async_quickstart [LOCK FILE]
 *
 * To see it wait, let somebody else hold the lock meanwhile: flock quickstart.lock sleep 3
 */
#include <stdio.h>

#include <event2/event.h>
#include <filelock/event.h>

struct app {
	struct event_base *base;
	struct evfilelock *ev;
	struct filelock *lock;
	struct event *tick;
	int result;
};

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	(void)fd, (void)what, (void)arg;
	puts("the loop goes on while we wait");
	fflush(stdout);
}

/* Called exactly once, from the loop: 0, -ETIMEDOUT, -ECANCELED or an error. */
static void on_lock(struct filelock *lock, int result, void *arg)
{
	struct app *app = arg;

	event_del(app->tick);
	if (result == 0) {
		printf("%s is ours\n", filelock_path(lock));
		result = filelock_release(lock);
	}
	if (result < 0)
		fprintf(stderr, "%s: %s\n", filelock_path(lock), filelock_strerror(result));
	app->result = result;
}

static int start(struct app *app, const char *path)
{
	const struct timeval half_second = { 0, 500000 }, ten_seconds = { 10, 0 };
	int r = filelock_open(path, FILELOCK_NATIVE, NULL, &app->lock);

	if (r < 0) {
		fprintf(stderr, "%s\n", filelock_last_error(NULL));
		return r;
	}
	app->base = event_base_new();
	app->ev = app->base ? evfilelock_new(app->base, NULL) : NULL;
	app->tick = app->base ? event_new(app->base, -1, EV_PERSIST, on_tick, NULL) : NULL;
	if (app->ev && app->tick && event_add(app->tick, &half_second) == 0 &&
	    evfilelock_acquire(app->ev, app->lock, FILELOCK_EXCLUSIVE, &ten_seconds, on_lock,
	                       app) == 0)
		return 0;
	fprintf(stderr, "cannot start\n");
	return -1;
}

int main(int argc, char **argv)
{
	struct app app = { .result = -1 };

	if (start(&app, argc > 1 ? argv[1] : "quickstart.lock") == 0)
		event_base_dispatch(app.base); /* until nothing is left to do */
	evfilelock_free(app.ev);               /* first: what is pending is called back */
	filelock_close(app.lock);
	if (app.tick)
		event_free(app.tick);
	if (app.base)
		event_base_free(app.base);
	return app.result < 0;
}
