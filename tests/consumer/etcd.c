/* A program outside the tree: a session with an etcd that is not there, and a handle on it. */
#include <stdio.h>
#include <string.h>

#include <event2/event.h>
#include <filelock/etcd.h>

static int run(struct evfilelock *ev)
{
	static const char *const endpoints[] = { "http://127.0.0.1:1" };
	struct filelock_etcd_options options = FILELOCK_ETCD_OPTIONS_INIT;
	struct filelock_etcd *session;
	struct filelock *lock;
	int r;

	options.endpoints = endpoints;
	options.endpoint_count = 1;
	r = filelock_etcd_open(ev, &options, &session);
	if (r < 0)
		return r;
	r = filelock_open_etcd(session, "consumer", NULL, &lock);
	if (r == 0) {
		r = strcmp(filelock_path(lock), "etcd:consumer");
		filelock_close(lock);
	}
	filelock_etcd_close(session);
	return r;
}

int main(void)
{
	struct event_base *base = event_base_new();
	struct evfilelock *ev = evfilelock_new(base, NULL);
	int r = run(ev);

	evfilelock_free(ev);
	event_base_dispatch(base);
	event_base_free(base);
	printf("etcd %s\n", r == 0 ? filelock_version() : filelock_strerror(r));
	return r != 0;
}
