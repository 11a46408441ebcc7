/*
 * watch.c - deletions of keys, by one stream for all locks of a session.
 *
 * One request carries the watches of all locks. Another lock needs another request, which begins
 * where each watch stood. Locks that come together are added together: the stream begins anew once,
 * from a timer.
 */
#include "watch.h"

#include <errno.h>
#include <stdlib.h>

#include <event2/buffer.h>

#include "codec.h"

#define LONGEST_PAUSE 1000 /* ms */

static void begin_in(struct watch *watch, unsigned ms)
{
	struct timeval after = { ms / 1000, ms % 1000 * 1000 };

	if (event_add(watch->timer, &after) < 0)
		event_active(watch->timer, EV_TIMEOUT, 1);
}

static void begin_again(struct watch *watch)
{
	unsigned ms = 50u << (watch->failures < 5 ? watch->failures : 5);

	watch->failures++;
	http_free(watch->http);
	watch->http = NULL;
	begin_in(watch, ms < LONGEST_PAUSE ? ms : LONGEST_PAUSE);
	watch->events->trouble(watch->arg);
}

static void on_done(void *arg, const struct http_answer *answer)
{
	struct watch *watch = arg;

	(void)answer; /* why it ended the calls will find out, too */
	if (!rpc_is_inherited(watch->access))
		begin_again(watch);
}

static struct watched *find(const struct watch *watch, uint64_t id)
{
	list_for_each(link, &watch->watched) {
		struct watched *watched = list_entry(link, struct watched, link);

		if (watched->id == id)
			return watched;
	}
	return NULL;
}

static void take_events(struct watch *watch, struct watched *watched, const json_t *events)
{
	const json_t *event;
	struct codec_deletion deletion;
	size_t i;

	json_array_foreach(events, i, event) {
		if (!codec_read_deletion(event, &deletion))
			continue;
		if (deletion.revision >= watched->from)
			watched->from = deletion.revision + 1;
		watch->events->deleted(watch->arg, watched, deletion.key, deletion.revision);
	}
}

/* The server will not go on with a watch: what it would have told of is history, or more. */
static void take_cancel(struct watch *watch, int64_t compacted)
{
	list_for_each(link, &watch->watched) {
		struct watched *watched = list_entry(link, struct watched, link);

		if (watched->from < compacted)
			watched->from = compacted;
	}
	begin_again(watch);
}

static void on_line(void *arg, const char *line, size_t size)
{
	struct watch *watch = arg;
	struct codec_watched news;
	struct watched *watched;
	json_t *json = json_loadb(line, size, 0, NULL);

	if (!json || codec_read_watch(json, &news) < 0) {
		json_decref(json);
		begin_again(watch);
		return;
	}
	watched = find(watch, news.id);
	if (news.canceled) {
		take_cancel(watch, news.compacted);
	} else {
		watch->failures = 0;
		if (watched && news.events)
			take_events(watch, watched, news.events);
	}
	json_decref(json);
}

static int send_all(struct watch *watch)
{
	const struct rpc_access *access = watch->access;
	struct http_post post = { .path = "/v3/watch", .token = access->token, .done = on_done,
		                  .line = on_line, .arg = watch };
	struct evbuffer *body = evbuffer_new();
	int r = body ? 0 : -ENOMEM;

	list_for_each(link, &watch->watched) {
		const struct watched *watched = list_entry(link, struct watched, link);
		char *text = codec_watch(watched->folder, watched->id, watched->from);

		if (r == 0 && (!text || evbuffer_add_printf(body, "%s\n", text) < 0))
			r = -ENOMEM;
		free(text);
	}
	if (r == 0 && evbuffer_add(body, "", 1) < 0)
		r = -ENOMEM;
	post.body = r == 0 ? (const char *)evbuffer_pullup(body, -1) : NULL;
	if (r == 0)
		r = http_new(&watch->access->ground, &access->endpoints[watch->calls->endpoint],
		             &watch->http);
	if (r == 0)
		r = http_send(watch->http, &post);
	if (body)
		evbuffer_free(body);
	return r;
}

static void on_timer(evutil_socket_t fd, short events, void *arg)
{
	struct watch *watch = arg;

	(void)fd;
	(void)events;
	if (rpc_is_inherited(watch->access))
		return;
	http_free(watch->http);
	watch->http = NULL;
	if (!list_is_empty(&watch->watched) && send_all(watch) < 0)
		begin_again(watch);
}

int watch_open(struct watch *watch, struct rpc_access *access, const struct rpc *calls,
               const struct watch_events *events, void *arg)
{
	list_init(&watch->watched);
	watch->access = access;
	watch->calls = calls;
	watch->events = events;
	watch->arg = arg;
	watch->timer = evtimer_new(access->ground.base, on_timer, watch);
	return watch->timer ? 0 : -ENOMEM;
}

void watch_close(struct watch *watch)
{
	http_free(watch->http);
	watch->http = NULL;
	if (watch->timer)
		event_free(watch->timer);
	watch->timer = NULL;
}

void watch_add(struct watch *watch, struct watched *watched, int64_t from)
{
	if (list_is_linked(&watched->link))
		return;
	/* a number of its own: what is on its way for the last watch is none of its business */
	watched->id = ++watch->last_id;
	watched->from = from;
	list_add_last(&watch->watched, &watched->link);
	begin_in(watch, 0);
}

void watch_remove(struct watched *watched)
{
	list_remove(&watched->link);
}

void watch_restart(struct watch *watch)
{
	if (!list_is_empty(&watch->watched))
		begin_in(watch, 0);
}
