/*
 * trace.c - a file of trace events in Chrome's JSON array format.
 *
 * The buffer is our own: a forked child that exits would write stdio's once more. Closing reports
 * the first error. An event without memory is left out, and nothing more is written after a write
 * that failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <filelock/event.h>

#include "base/hash.h"
#include "driver_private.h"

#define BUFFER_SIZE 65536
#define MOST_AT_ONCE 512 /* bytes that are put without a path */

/* A lock: a thread of the trace. */
struct track {
	struct hash_node node;
	long tid;
	char path[];
};

struct evfilelock_trace {
	int fd;
	int error;   /* the first one, or 0 */
	bool broken; /* it could not be written: nothing more is */
	pid_t pid; /* that opened it */
	struct hash tracks;
	size_t used;
	char buffer[BUFFER_SIZE];
};

static void fail(struct evfilelock_trace *trace, int error)
{
	if (trace->error == 0)
		trace->error = error;
}

static void flush(struct evfilelock_trace *trace)
{
	const char *from = trace->buffer;
	ssize_t n;

	while (trace->used > 0 && !trace->broken && trace->pid == getpid()) {
		n = write(trace->fd, from, trace->used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail(trace, -errno);
			trace->broken = true;
			break;
		}
		from += n;
		trace->used -= (size_t)n;
	}
	trace->used = 0;
}

static void put(struct evfilelock_trace *trace, const char *bytes, size_t size)
{
	if (size > BUFFER_SIZE - trace->used)
		flush(trace);
	memcpy(trace->buffer + trace->used, bytes, size);
	trace->used += size;
}

__attribute__((format(printf, 2, 3)))
static void print(struct evfilelock_trace *trace, const char *format, ...)
{
	char text[MOST_AT_ONCE];
	va_list arguments;
	int size;

	va_start(arguments, format);
	size = vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	put(trace, text, (size_t)size);
}

/* How many bytes there make one character of UTF-8 (RFC 3629); 0: none. */
static size_t character_size(const unsigned char *s)
{
	size_t size = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;

	if (s[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < size; i++)
		if ((s[i] & 0xc0) != 0x80) /* the end of the string, too */
			return 0;
	/* overlong; surrogates; beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
	    (s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return size;
}

/* The inside of a JSON string. */
static void put_escaped(struct evfilelock_trace *trace, const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	size_t size;

	for (; *s; s += size) {
		size = character_size(s);
		if (size == 0) {
			size = 1;
			print(trace, "\\udc%02x", *s);
		} else if (*s < 0x20 || *s == 0x7f) {
			print(trace, "\\u%04x", *s);
		} else if (*s == '"' || *s == '\\') {
			print(trace, "\\%c", *s);
		} else {
			put(trace, (const char *)s, size);
		}
	}
}

static struct track *find_track(const struct evfilelock_trace *trace, const char *path,
                                size_t hash)
{
	struct hash_node *node = hash_first(&trace->tracks, hash);

	for (; node; node = hash_next(node)) {
		struct track *track = hash_entry(node, struct track, node);

		if (strcmp(track->path, path) == 0)
			return track;
	}
	return NULL;
}

/* The track of a path, which is announced when it is new; NULL out of memory. */
static const struct track *track_of(struct evfilelock_trace *trace, const char *path)
{
	size_t size = strlen(path) + 1;
	size_t hash = hash_bytes(path, size, 0);
	struct track *track = find_track(trace, path, hash);

	if (track)
		return track;
	if (hash_reserve(&trace->tracks, calloc, free) == 0)
		track = malloc(sizeof(*track) + size);
	if (!track) {
		fail(trace, -ENOMEM);
		return NULL;
	}
	memcpy(track->path, path, size);
	hash_insert(&trace->tracks, &track->node, hash);
	/* another number than that of the process, which viewers take for the main thread */
	track->tid = (long)trace->pid + (long)trace->tracks.count;
	print(trace, ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%ld,\"tid\":%ld,"
	      "\"args\":{\"name\":\"", (long)trace->pid, track->tid);
	put_escaped(trace, path);
	print(trace, "\"}}");
	return track;
}

/* Writes the members of every event; leaves the object open. */
static void begin(struct evfilelock_trace *trace, const struct track *track, char phase,
                  int64_t time)
{
	print(trace, ",\n{\"ph\":\"%c\",\"pid\":%ld,\"tid\":%ld,\"ts\":%" PRId64 ".%03d", phase,
	      (long)trace->pid, track->tid, time / 1000, (int)(time % 1000));
}

static void put_instant(struct evfilelock_trace *trace, const struct track *track,
                        const char *name, const struct evfilelock_trace_event *event)
{
	begin(trace, track, 'i', event->time);
	print(trace, ",\"s\":\"t\",\"name\":\"%s\",\"args\":{\"request\":%" PRIu64
	      ",\"queue\":%zu}}", name, event->request, event->queue_length);
}

/* phase: 'b', 'e'. state: "waiting", "held". */
static void put_async(struct evfilelock_trace *trace, const struct track *track, char phase,
                      const char *state, const struct evfilelock_trace_event *event)
{
	begin(trace, track, phase, event->time);
	print(trace, ",\"cat\":\"%s\",\"id\":\"0x%" PRIx64 "\",\"name\":\"%s ", state,
	      event->request, state);
	/* viewers gather async events by name, not by thread */
	put_escaped(trace, track->path);
	print(trace, "\",\"args\":{");
	if (phase == 'b')
		print(trace, "\"mode\":\"%s\",\"queue\":%zu}}",
		      event->mode == FILELOCK_SHARED ? "shared" : "exclusive",
		      event->queue_length);
	else
		print(trace, "\"result\":%d}}", event->result);
}

/* Never as standard output or error of a program that has none: it would hold what is printed. */
static int open_above_standard(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	int moved;

	if (fd < 0 || fd > STDERR_FILENO)
		return fd;
	moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	(void)close(fd);
	return moved;
}

FILELOCK_API int evfilelock_trace_open(const char *path, struct evfilelock_trace **ret_trace)
{
	struct evfilelock_trace *trace;
	int r;

	if (!path || !ret_trace)
		return filelock_fail_open(-EINVAL, path, path ? "ret_trace is NULL" : "path is NULL");
	trace = calloc(1, sizeof(*trace));
	if (!trace)
		return filelock_fail_open(-ENOMEM, path, NULL);
	trace->pid = getpid();
	trace->fd = open_above_standard(path);
	if (trace->fd < 0) {
		r = -errno;
		free(trace);
		return filelock_fail_open(r, path, NULL);
	}
	print(trace, "[\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%ld,"
	      "\"args\":{\"name\":\"file locks\"}}", (long)trace->pid);
	*ret_trace = trace;
	return 0;
}

FILELOCK_API void evfilelock_trace_write(const struct evfilelock_trace_event *event, void *arg)
{
	struct evfilelock_trace *trace = arg;
	const struct track *track = track_of(trace, event->path);

	if (!track)
		return;
	switch (event->what) {
	case EVFILELOCK_TRACE_REQUESTED:
		put_async(trace, track, 'b', "waiting", event);
		break;
	case EVFILELOCK_TRACE_WOKEN:
		put_instant(trace, track, "woken", event);
		break;
	case EVFILELOCK_TRACE_POLLED:
		put_instant(trace, track, "polled", event);
		break;
	case EVFILELOCK_TRACE_ATTEMPTED:
		put_instant(trace, track, "attempt", event);
		break;
	case EVFILELOCK_TRACE_GRANTED:
		put_async(trace, track, 'e', "waiting", event);
		if (!event->nested)
			put_async(trace, track, 'b', "held", event);
		break;
	case EVFILELOCK_TRACE_TIMED_OUT:
	case EVFILELOCK_TRACE_CANCELLED:
	case EVFILELOCK_TRACE_FAILED:
		put_async(trace, track, 'e', "waiting", event);
		break;
	case EVFILELOCK_TRACE_RELEASED:
		put_async(trace, track, 'e', "held", event);
		break;
	}
}

static int note(int error)
{
	return error < 0 ? filelock_refuse_call(error, "cannot write", "a trace", NULL) : 0;
}

FILELOCK_API int evfilelock_trace_flush(struct evfilelock_trace *trace)
{
	if (!trace)
		return filelock_refuse_call(-EINVAL, "cannot write", "a trace", "trace is NULL");
	flush(trace);
	return note(trace->error);
}

FILELOCK_API int evfilelock_trace_close(struct evfilelock_trace *trace)
{
	struct hash_node *node;
	int r;

	if (!trace)
		return 0;
	print(trace, "\n]\n");
	flush(trace);
	if (close(trace->fd) < 0)
		fail(trace, -errno);
	for (size_t i = 0; i < trace->tracks.size; i++)
		while ((node = trace->tracks.buckets[i])) {
			trace->tracks.buckets[i] = node->next;
			free(hash_entry(node, struct track, node));
		}
	free(trace->tracks.buckets);
	r = note(trace->error);
	free(trace);
	return r;
}
