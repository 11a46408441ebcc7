/* The trace hook, and the file that is made of what it tells. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "loop.h"

#define EXCLUSIVE FILELOCK_EXCLUSIVE

enum { MOST_TOLD = 256 };

/* The calls of the hook, as letters, and the last event of each sort. */
static struct {
	char row[MOST_TOLD];
	unsigned count;
	struct evfilelock_trace_event last[EVFILELOCK_TRACE_RELEASED + 1];
	int64_t time;
} told;

static void note(const struct evfilelock_trace_event *event, void *arg)
{
	static const char letters[] = "qepagtcfr";

	ck_assert_ptr_eq(arg, &told);
	ck_assert_uint_eq(event->size, sizeof(*event));
	ck_assert_uint_lt(told.count, MOST_TOLD - 1);
	told.row[told.count++] = letters[event->what];
	told.last[event->what] = *event;
	told.last[event->what].path = strrchr(event->path, '/') + 1;
	ck_assert_int_gt(event->time, 0);
}

static struct evfilelock_trace *open_trace(const char *path)
{
	struct evfilelock_trace *trace;

	ck_assert_int_eq(evfilelock_trace_open(path, &trace), 0);
	return trace;
}

static struct loop trace_new(void)
{
	struct loop loop = loop_new();

	memset(&told, 0, sizeof(told));
	ck_assert_int_eq(evfilelock_set_trace(loop.ev, note, &told), 0);
	return loop;
}

#define LAST(what) (&told.last[EVFILELOCK_TRACE_##what])

START_TEST(test_request_is_traced_from_asking_to_release)
{
	struct loop loop = trace_new();
	struct asked asked = { .lock = open_patient("a") };
	int64_t before = test_now();

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	ck_assert_str_eq(told.row, "q");
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_str_eq(told.row, "qag");
	ck_assert_int_eq(filelock_release(asked.lock), 0);
	ck_assert_str_eq(told.row, "qagr");
	ck_assert_uint_eq(LAST(REQUESTED)->request, 1);
	ck_assert_uint_eq(LAST(RELEASED)->request, 1);
	ck_assert_str_eq(LAST(REQUESTED)->path, strrchr(filelock_path(asked.lock), '/') + 1);
	ck_assert_uint_eq(LAST(REQUESTED)->queue_length, 1);
	ck_assert_uint_eq(LAST(GRANTED)->queue_length, 0);
	ck_assert_int_eq(LAST(GRANTED)->mode, EXCLUSIVE);
	ck_assert(!LAST(GRANTED)->nested);
	ck_assert_int_le(before, LAST(REQUESTED)->time);
	ck_assert_int_le(LAST(REQUESTED)->time, LAST(GRANTED)->time);
	ck_assert_int_le(LAST(GRANTED)->time, LAST(RELEASED)->time);
	ck_assert_int_le(LAST(RELEASED)->time, test_now());
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_each_answer_is_traced_by_its_result)
{
	struct loop loop = trace_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked overdue = { .lock = open_patient("a") };
	struct asked cancelled = { .lock = open_patient("a") };
	struct asked failed = { .lock = open_patient("d") };

	ck_assert_int_eq(mkdir(test_path("d"), 0700), 0);
	loop_ask(&loop, &overdue, EXCLUSIVE, 0);
	loop_ask(&loop, &cancelled, EXCLUSIVE, -1);
	loop_ask(&loop, &failed, EXCLUSIVE, -1);
	ask_cancel(&cancelled);
	loop_drain(&loop);
	ck_assert_uint_eq(LAST(TIMED_OUT)->request, 1);
	ck_assert_uint_eq(LAST(CANCELLED)->request, 2);
	ck_assert_uint_eq(LAST(FAILED)->request, 3);
	ck_assert_int_eq(LAST(FAILED)->result, -EISDIR);
	ck_assert_ptr_null(strpbrk(told.row, "gr"));
	filelock_close(holder);
	filelock_close(overdue.lock);
	filelock_close(cancelled.lock);
	filelock_close(failed.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_wait_that_an_event_ends_is_traced)
{
	struct loop loop = trace_new();
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { .lock = open_patient("a") };

	clock_stop(); /* no poll is due */
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	while (!strchr(told.row, 'a'))
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	ck_assert_int_gt(LAST(ATTEMPTED)->result, 0);
	ck_assert_ptr_null(strpbrk(told.row, "ep"));
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_str_eq(strchr(told.row, 'e'), "eag");
	ck_assert_int_eq(LAST(ATTEMPTED)->result, 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_wait_that_a_poll_ends_is_traced)
{
	struct filelock_options options = FILELOCK_OPTIONS_INIT;
	struct filelock *holder = hold("a", EXCLUSIVE);
	struct asked asked = { 0 };
	struct loop loop;

	options.poll_interval_ms = 100;
	asked.lock = test_open(test_path("a"), &options);
	fault_set(FAULT_inotify_init1, 1, FAULT_FOR_GOOD, EMFILE);
	loop = trace_new();
	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	while (!strchr(told.row, 'a'))
		ck_assert_int_eq(event_base_loop(loop.base, EVLOOP_ONCE), 0);
	filelock_close(holder);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_ptr_null(strchr(told.row, 'e'));
	ck_assert_str_eq(told.row + told.count - 3, "pag");
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nested_grant_is_traced_as_such)
{
	struct loop loop = trace_new();
	struct filelock *lock = open_patient("a");

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert(LAST(GRANTED)->nested);
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_ptr_null(strchr(told.row, 'r'));
	ck_assert_int_eq(filelock_release(lock), 0);
	ck_assert_uint_eq(LAST(RELEASED)->request, 1);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

static void *release_here(void *arg)
{
	ck_assert_int_eq(filelock_release(arg), 0);
	return NULL;
}

START_TEST(test_release_on_another_thread_is_traced_by_the_loop)
{
	struct loop loop = trace_new();
	struct filelock *lock = open_patient("a");
	pthread_t thread;
	int64_t granted, released;

	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	granted = LAST(GRANTED)->time;
	ck_assert_int_eq(pthread_create(&thread, NULL, release_here, lock), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	released = test_now();
	ck_assert_ptr_null(strchr(told.row, 'r'));
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	ck_assert_ptr_nonnull(strchr(told.row, 'r'));
	ck_assert_int_le(granted, LAST(RELEASED)->time);
	ck_assert_int_le(LAST(RELEASED)->time, released);
	filelock_close(lock);
	loop_free(&loop);
}
END_TEST

START_TEST(test_nothing_is_traced_after_null_was_set)
{
	struct loop loop = trace_new();
	struct filelock *lock = open_patient("a");

	ck_assert_int_eq(evfilelock_set_trace(loop.ev, NULL, NULL), 0);
	ck_assert_int_eq(loop_acquire(&loop, lock, EXCLUSIVE, -1), 0);
	filelock_close(lock);
	ck_assert_str_eq(told.row, "");
	ck_assert_int_eq(evfilelock_set_trace(NULL, note, NULL), -EINVAL);
	loop_free(&loop);
}
END_TEST

static int close_in_child(void *arg)
{
	struct asked *asked = arg;
	unsigned before = told.count;

	filelock_close(asked->lock);
	evfilelock_free(((struct loop *)asked->arg)->ev);
	return told.count == before ? 0 : 1;
}

START_TEST(test_forked_child_traces_nothing)
{
	struct loop loop = trace_new();
	struct asked asked = { .lock = open_patient("a"), .arg = &loop };

	loop_ask(&loop, &asked, EXCLUSIVE, -1);
	ck_assert_int_eq(loop_answer(&loop, &asked), 0);
	ck_assert_int_eq(test_in_child(close_in_child, &asked), 0);
	filelock_close(asked.lock);
	loop_free(&loop);
}
END_TEST

/* A small reader of JSON: enough to say whether a text is some, and to find its strings. */
struct reader {
	const char *at;
	char string[2048]; /* the last one, decoded */
};

static void blanks(struct reader *r)
{
	r->at += strspn(r->at, " \t\r\n");
}

/* U+0000 to U+00FF, and what stands for a byte that is no UTF-8: the only escapes here. */
static char read_escape(struct reader *r)
{
	unsigned code;
	char name = *r->at++;

	if (name != 'u') {
		ck_assert_ptr_nonnull(strchr("\"\\", name));
		return name;
	}
	ck_assert_int_eq(sscanf(r->at, "%4x", &code), 1);
	ck_assert(code < 0x80 || (code >= 0xdc80 && code <= 0xdcff));
	r->at += 4;
	return (char)code;
}

static void read_string(struct reader *r)
{
	size_t size = 0;

	ck_assert_int_eq(*r->at++, '"');
	while (*r->at != '"') {
		/* Check's assertions write to a pipe each */
		if ((unsigned char)*r->at < 0x20 || size >= sizeof(r->string) - 1)
			ck_abort_msg("no string");
		if (*r->at == '\\') {
			r->at++;
			r->string[size++] = read_escape(r);
		} else {
			r->string[size++] = *r->at++;
		}
	}
	r->at++;
	r->string[size] = '\0';
}

static void read_number(struct reader *r)
{
	char *end;

	(void)strtod(r->at, &end);
	ck_assert_ptr_ne(end, r->at);
	r->at = end;
}

/* The members that a test may look at. */
struct record {
	char phase;
	char name[1024], category[16], id[32], own_name[1024];
	long pid, tid;
	double time;
};

static void copy(char *to, size_t size, const char *from)
{
	ck_assert_uint_lt(strlen(from), size);
	memcpy(to, from, strlen(from) + 1);
}

static void keep(struct record *record, const char *key, const char *string, const char *number)
{
	if (strcmp(key, "ph") == 0)
		record->phase = string[0];
	else if (strcmp(key, "name") == 0)
		copy(record->name, sizeof(record->name), string);
	else if (strcmp(key, "cat") == 0)
		copy(record->category, sizeof(record->category), string);
	else if (strcmp(key, "id") == 0)
		copy(record->id, sizeof(record->id), string);
	else if (strcmp(key, "args.name") == 0)
		copy(record->own_name, sizeof(record->own_name), string);
	else if (strcmp(key, "pid") == 0)
		record->pid = strtol(number, NULL, 10);
	else if (strcmp(key, "tid") == 0)
		record->tid = strtol(number, NULL, 10);
	else if (strcmp(key, "ts") == 0)
		record->time = strtod(number, NULL);
}

static void read_object(struct reader *r, struct record *record, bool inner)
{
	char key[64];

	ck_assert_int_eq(*r->at++, '{');
	for (;;) {
		const char *value;

		blanks(r);
		read_string(r);
		(void)snprintf(key, sizeof(key), "%s%.32s", inner ? "args." : "", r->string);
		ck_assert_int_eq(*r->at++, ':');
		value = r->at;
		r->string[0] = '\0';
		if (*value == '{') {
			ck_assert(!inner);
			read_object(r, record, true);
		} else if (*value == '"') {
			read_string(r);
		} else {
			read_number(r);
		}
		if (*value != '{')
			keep(record, key, r->string, value);
		if (*r->at == '}')
			break;
		ck_assert_int_eq(*r->at++, ',');
	}
	r->at++;
}

enum { MOST_RECORDS = 20000 };

static struct record *records;
static unsigned record_count;

/* Reads the whole file, which must be JSON, an array of flat objects with at most `args` inside. */
static void read_trace(const char *path)
{
	static char text[8 << 20];
	struct reader r = { .at = text };

	records = calloc(MOST_RECORDS, sizeof(*records));
	record_count = 0;
	test_read_file(path, text, sizeof(text));
	ck_assert_int_eq(*r.at++, '[');
	for (;;) {
		blanks(&r);
		ck_assert_uint_lt(record_count, MOST_RECORDS);
		read_object(&r, &records[record_count++], false);
		blanks(&r);
		if (*r.at == ']')
			break;
		ck_assert_int_eq(*r.at++, ',');
	}
	r.at++;
	blanks(&r);
	ck_assert_int_eq(*r.at, '\0');
}

static unsigned count_records(char phase, const char *name)
{
	unsigned count = 0;

	for (unsigned i = 0; i < record_count; i++)
		count += records[i].phase == phase &&
		         strncmp(records[i].name, name, strlen(name)) == 0;
	return count;
}

/* Whether each beginning has its end, by category and number, later and under the same names. */
static void check_pairs(void)
{
	for (unsigned i = 0; i < record_count; i++) {
		unsigned ends = 0;

		if (records[i].phase != 'b')
			continue;
		for (unsigned j = i + 1; j < record_count; j++) {
			const struct record *end = &records[j];

			if (end->phase != 'e' || strcmp(end->id, records[i].id) != 0 ||
			    strcmp(end->category, records[i].category) != 0)
				continue;
			ends++;
			ck_assert_str_eq(end->name, records[i].name);
			ck_assert_int_eq(end->tid, records[i].tid);
			ck_assert(end->time >= records[i].time);
		}
		ck_assert_uint_eq(ends, 1);
	}
	ck_assert_uint_eq(count_records('b', ""), count_records('e', ""));
}

static struct evfilelock_trace *trace_to(struct loop *loop, const char *name)
{
	struct evfilelock_trace *trace = open_trace(test_path(name));

	ck_assert_ptr_nonnull(trace);
	*loop = loop_new();
	ck_assert_int_eq(evfilelock_set_trace(loop->ev, evfilelock_trace_write, trace), 0);
	return trace;
}

START_TEST(test_file_of_a_run_is_json_in_which_all_that_begins_ends)
{
	struct loop loop;
	struct evfilelock_trace *trace = trace_to(&loop, "trace");
	struct asked asked[3] = { 0 };
	struct asked overdue = { .lock = open_patient("b") };
	struct filelock *holder = hold("b", EXCLUSIVE);

	loop_ask(&loop, &overdue, EXCLUSIVE, 0);
	for (unsigned i = 0; i < 3; i++) {
		asked[i].lock = open_patient("a");
		loop_ask(&loop, &asked[i], EXCLUSIVE, -1);
	}
	for (unsigned i = 0; i < 3; i++) {
		loop_until(&loop, &asked[i].calls, 1);
		ck_assert_int_eq(loop_acquire(&loop, asked[i].lock, EXCLUSIVE, -1), 0);
		ck_assert_int_eq(filelock_release_all(asked[i].lock), 0);
		filelock_close(asked[i].lock);
	}
	loop_drain(&loop);
	filelock_close(overdue.lock);
	filelock_close(holder);
	loop_free(&loop);
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	check_pairs();
	ck_assert_uint_eq(count_records('b', "waiting "), 7); /* three nest */
	ck_assert_uint_eq(count_records('b', "held "), 3);
	ck_assert_uint_gt(count_records('i', "attempt"), 0);
}
END_TEST

START_TEST(test_each_path_is_one_thread_of_the_file)
{
	struct loop loop;
	struct evfilelock_trace *trace = trace_to(&loop, "trace");
	struct filelock *a = open_patient("a");
	struct filelock *b = open_patient("b");
	long tid[2] = { 0 };

	for (unsigned i = 0; i < 4; i++) {
		ck_assert_int_eq(loop_acquire(&loop, i % 2 ? a : b, EXCLUSIVE, -1), 0);
		ck_assert_int_eq(filelock_release(i % 2 ? a : b), 0);
	}
	loop_free(&loop);
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	ck_assert_uint_eq(count_records('M', "thread_name"), 2);
	for (unsigned i = 0; i < record_count; i++) {
		const struct record *record = &records[i];

		ck_assert_int_eq(record->pid, getpid());
		if (strcmp(record->name, "thread_name") == 0)
			tid[strcmp(record->own_name, filelock_path(a)) == 0] = record->tid;
		if (record->phase == 'b')
			ck_assert_int_eq(record->tid,
			                 tid[strstr(record->name, filelock_path(a)) != NULL]);
		ck_assert_int_ne(record->tid, getpid());
	}
	ck_assert_int_ne(tid[0], tid[1]);
	filelock_close(a);
	filelock_close(b);
}
END_TEST

/* Tells of a path that need not exist. */
static void trace_path(struct evfilelock_trace *trace, const char *path)
{
	struct evfilelock_trace_event event = { .size = sizeof(event),
		                                .what = EVFILELOCK_TRACE_ATTEMPTED,
		                                .path = path,
		                                .request = 1,
		                                .time = 1234567 };

	evfilelock_trace_write(&event, trace);
}

START_TEST(test_paths_whose_hashes_are_equal_are_threads_of_their_own)
{
	static const char *const paths[] = { "/VVqpE9VAMpB", "/Yx4j2nmefEA" };
	struct evfilelock_trace *trace = open_trace(test_path("trace"));
	long tid[2];

	for (unsigned i = 0; i < 4; i++)
		trace_path(trace, paths[i % 2]);
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	ck_assert_uint_eq(record_count, 7); /* the process's, and of each its name and two */
	for (unsigned i = 0; i < 2; i++) {
		ck_assert_str_eq(records[1 + 2 * i].own_name, paths[i]);
		tid[i] = records[1 + 2 * i].tid;
		ck_assert_int_eq(records[2 + 2 * i].tid, tid[i]);
		ck_assert_int_eq(records[5 + i].tid, tid[i]);
	}
	ck_assert_int_ne(tid[0], tid[1]);
}
END_TEST

/* Phases and names of the records that each sort of event makes, in their order. */
START_TEST(test_each_sort_of_event_has_its_record)
{
	static const struct {
		enum evfilelock_trace_what what;
		bool nested;
		const char *phases, *names[2];
	} sorts[] = {
		{ EVFILELOCK_TRACE_REQUESTED, false, "b", { "waiting /l" } },
		{ EVFILELOCK_TRACE_WOKEN, false, "i", { "woken" } },
		{ EVFILELOCK_TRACE_POLLED, false, "i", { "polled" } },
		{ EVFILELOCK_TRACE_ATTEMPTED, false, "i", { "attempt" } },
		{ EVFILELOCK_TRACE_GRANTED, false, "eb", { "waiting /l", "held /l" } },
		{ EVFILELOCK_TRACE_GRANTED, true, "e", { "waiting /l" } },
		{ EVFILELOCK_TRACE_TIMED_OUT, false, "e", { "waiting /l" } },
		{ EVFILELOCK_TRACE_CANCELLED, false, "e", { "waiting /l" } },
		{ EVFILELOCK_TRACE_FAILED, false, "e", { "waiting /l" } },
		{ EVFILELOCK_TRACE_RELEASED, false, "e", { "held /l" } },
		/* of a library newer than this one */
		{ (enum evfilelock_trace_what)(EVFILELOCK_TRACE_RELEASED + 1), false, "", { "" } },
	};

	for (unsigned i = 0; i < sizeof(sorts) / sizeof(*sorts); i++) {
		struct evfilelock_trace *trace = open_trace(test_path("trace"));
		struct evfilelock_trace_event event = { .size = sizeof(event),
			                                .what = sorts[i].what,
			                                .path = "/l",
			                                .request = 1,
			                                .nested = sorts[i].nested };
		size_t n = strlen(sorts[i].phases);

		evfilelock_trace_write(&event, trace);
		ck_assert_int_eq(evfilelock_trace_close(trace), 0);
		read_trace(test_path("trace"));
		ck_assert_uint_eq(record_count, 2 + n);
		for (size_t k = 0; k < n; k++) {
			ck_assert_int_eq(records[2 + k].phase, sorts[i].phases[k]);
			ck_assert_str_eq(records[2 + k].name, sorts[i].names[k]);
		}
		free(records);
	}
}
END_TEST

START_TEST(test_mode_of_a_request_is_in_its_record)
{
	struct evfilelock_trace_event event = { .size = sizeof(event),
		                                .what = EVFILELOCK_TRACE_REQUESTED,
		                                .path = "/l" };
	char text[4096];

	for (unsigned i = 0; i < 2; i++) {
		struct evfilelock_trace *trace = open_trace(test_path("trace"));

		event.mode = i ? FILELOCK_SHARED : EXCLUSIVE;
		evfilelock_trace_write(&event, trace);
		ck_assert_int_eq(evfilelock_trace_close(trace), 0);
		test_read_file(test_path("trace"), text, sizeof(text));
		ck_assert_int_eq(strstr(text, "\"mode\":\"shared\"") != NULL, i);
		ck_assert_int_eq(strstr(text, "\"mode\":\"exclusive\"") != NULL, !i);
	}
}
END_TEST

START_TEST(test_any_byte_of_a_path_can_be_read_back)
{
	static const char *const paths[] = {
		"\x01\x02\t\n\r\x1f\x7f", "\"quotes\" and \\back\\slashes\\",
		"grüße \u65e5\u672c \U0001f512", /* UTF-8 stays unchanged */
		"\x80\xbf\xc0\x80\xc1\xbf\xff\xfe", "cut \xe6\x97", "\xf0\x9f\x94",
		"\xed\xa0\x80 surrogate", "\xe0\x80\x80 overlong \xf0\x80\x80\x80",
		"\xf4\x90\x80\x80 beyond \xf5\x80\x80\x80", "\xc3(", "\xf4\x8f\xbf\xbf",
	};
	struct evfilelock_trace *trace = open_trace(test_path("trace"));
	char every[256];
	unsigned n = 0;

	for (unsigned i = 1; i < 256; i++)
		every[i - 1] = (char)i;
	every[255] = '\0';
	for (unsigned i = 0; i < sizeof(paths) / sizeof(*paths); i++)
		trace_path(trace, paths[i]);
	trace_path(trace, every);
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	for (unsigned i = 0; i < record_count; i++) {
		if (strcmp(records[i].name, "thread_name") != 0)
			continue;
		ck_assert_str_eq(records[i].own_name,
		                 n < sizeof(paths) / sizeof(*paths) ? paths[n] : every);
		n++;
	}
	ck_assert_uint_eq(n, sizeof(paths) / sizeof(*paths) + 1);
}
END_TEST

START_TEST(test_bytes_that_are_no_utf8_are_escaped_and_others_are_not)
{
	static const struct {
		const char *path, *text;
	} cases[] = {
		{ "\xc2\x80 \xdf\xbf", "\xc2\x80 \xdf\xbf" },
		{ "\xe0\xa0\x80 \xed\x9f\xbf", "\xe0\xa0\x80 \xed\x9f\xbf" },
		{ "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf" },
		{ "\xff", "\\udcff" },
		{ "\x80", "\\udc80" },
		{ "\xc1\xbf", "\\udcc1\\udcbf" },             /* overlong */
		{ "\xe0\x9f\xbf", "\\udce0\\udc9f\\udcbf" }, /* overlong */
		{ "\xed\xa0\x80", "\\udced\\udca0\\udc80" }, /* a surrogate */
		{ "\xf0\x8f\xbf\xbf", "\\udcf0\\udc8f\\udcbf\\udcbf" },
		{ "\xf4\x90\x80\x80", "\\udcf4\\udc90\\udc80\\udc80" }, /* too large */
		{ "\xe6\x97", "\\udce6\\udc97" },             /* cut */
		{ "\xc3(", "\\udcc3(" },
	};
	struct evfilelock_trace *trace = open_trace(test_path("trace"));
	char text[16384], quoted[64];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++)
		trace_path(trace, cases[i].path);
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	test_read_file(test_path("trace"), text, sizeof(text));
	for (unsigned i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		(void)snprintf(quoted, sizeof(quoted), "{\"name\":\"%s\"}", cases[i].text);
		ck_assert_msg(strstr(text, quoted) != NULL, "%s", quoted);
	}
}
END_TEST

START_TEST(test_file_larger_than_the_buffer_is_whole)
{
	struct evfilelock_trace *trace = open_trace(test_path("trace"));
	char path[300];

	for (unsigned i = 0; i < 1000; i++) {
		(void)snprintf(path, sizeof(path), "%0*u", (int)(i % 290) + 1, i);
		trace_path(trace, path);
	}
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	ck_assert_uint_eq(count_records('i', "attempt"), 1000);
}
END_TEST

static bool file_has(const char *path, const char *words)
{
	char text[4096] = "";
	FILE *file = fopen(path, "r");
	size_t n;

	ck_assert_ptr_nonnull(file);
	n = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[n] = '\0';
	return strstr(text, words) != NULL;
}

START_TEST(test_trace_that_goes_on_is_in_its_file_after_a_flush)
{
	struct evfilelock_trace *trace = open_trace(test_path("trace"));

	trace_path(trace, "first");
	ck_assert_int_eq(evfilelock_trace_flush(trace), 0);
	ck_assert(file_has(test_path("trace"), "first"));
	trace_path(trace, "second");
	ck_assert(!file_has(test_path("trace"), "second"));
	ck_assert_int_eq(evfilelock_trace_flush(trace), 0);
	ck_assert(file_has(test_path("trace"), "second"));
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	ck_assert_int_eq(evfilelock_trace_flush(NULL), -EINVAL);
}
END_TEST

static int write_and_close(void *arg)
{
	trace_path(arg, "from the child");
	return evfilelock_trace_close(arg) == 0 ? 0 : 1;
}

START_TEST(test_forked_child_writes_nothing_into_the_file)
{
	struct evfilelock_trace *trace = open_trace(test_path("trace"));

	trace_path(trace, "a");
	ck_assert_int_eq(test_in_child(write_and_close, trace), 0);
	ck_assert_int_eq(evfilelock_trace_close(trace), 0);
	read_trace(test_path("trace"));
	ck_assert_uint_eq(record_count, 3);
}
END_TEST

int main(void)
{
	return support_main(SUITE("async trace", test_request_is_traced_from_asking_to_release,
	                     test_each_answer_is_traced_by_its_result,
	                     test_wait_that_an_event_ends_is_traced,
	                     test_wait_that_a_poll_ends_is_traced,
	                     test_nested_grant_is_traced_as_such,
	                     test_release_on_another_thread_is_traced_by_the_loop,
	                     test_nothing_is_traced_after_null_was_set,
	                     test_forked_child_traces_nothing,
	                     test_file_of_a_run_is_json_in_which_all_that_begins_ends,
	                     test_each_path_is_one_thread_of_the_file,
	                     test_paths_whose_hashes_are_equal_are_threads_of_their_own,
	                     test_each_sort_of_event_has_its_record,
	                     test_mode_of_a_request_is_in_its_record,
	                     test_any_byte_of_a_path_can_be_read_back,
	                     test_bytes_that_are_no_utf8_are_escaped_and_others_are_not,
	                     test_trace_that_goes_on_is_in_its_file_after_a_flush,
	                     test_file_larger_than_the_buffer_is_whole,
	                     test_forked_child_writes_nothing_into_the_file));
}
